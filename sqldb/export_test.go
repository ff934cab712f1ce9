package sqldb

// Rewrite is for tests of the placeholders.
func Rewrite(query string) string { return rewritePlaceholders(query) }
