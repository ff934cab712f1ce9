package sqldb

import (
	"strings"
	"sync"
	"sync/atomic"
)

// rewritten maps a query text with $N to the same with ?N. Texts are constants
// of the program, so it stays small; the bound is for those that are not.
var (
	rewritten      sync.Map // string → string
	rewrittenCount atomic.Int64
)

const maxTexts = 1024

// rewrite turns PostgreSQL's placeholders $1 … $N into SQLite's ?1 … ?N, except
// inside strings, quoted names and comments.
func rewrite(query string) string {
	if text, ok := rewritten.Load(query); ok {
		return text.(string)
	}
	text := rewritePlaceholders(query)
	if rewrittenCount.Load() < maxTexts {
		if _, loaded := rewritten.LoadOrStore(query, text); !loaded {
			rewrittenCount.Add(1)
		}
	}
	return text
}

func rewritePlaceholders(query string) string {
	if !strings.Contains(query, "$") {
		return query
	}
	b := []byte(query) // one byte is replaced by one byte
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '\'' || c == '"':
			// A doubled quote inside ends one string and begins the next, which
			// comes to the same.
			i = skip(query, i+1, string(c))
		case c == '-' && strings.HasPrefix(query[i:], "--"):
			i = skip(query, i+2, "\n")
		case c == '/' && strings.HasPrefix(query[i:], "/*"):
			i = skip(query, i+2, "*/")
		case c == '$' && i+1 < len(b) && b[i+1] >= '1' && b[i+1] <= '9' && (i == 0 || !isNameByte(b[i-1])):
			b[i] = '?'
		}
	}
	return string(b)
}

// skip returns the index of the last byte of the next end at or after the index
// from, or the length of query when there is none.
func skip(query string, from int, end string) int {
	n := strings.Index(query[from:], end)
	if n < 0 {
		return len(query)
	}
	return from + n + len(end) - 1
}

// isNameByte reports whether b may stand inside an identifier, where a following
// $1 is part of the name.
func isNameByte(b byte) bool {
	return b == '_' || b == '$' || b >= 0x80 ||
		'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9'
}
