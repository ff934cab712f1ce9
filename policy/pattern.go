package policy

import (
	"strings"
	"unicode/utf8"
)

// Wildcards inside compiled text. Documents are valid UTF-8, in which these bytes never stand, so that a star of the text
// itself (from "${*}", or from the value of a variable) is never taken for one.
const (
	anyRun  = '\xfe' // "*": any run of characters
	anyChar = '\xff' // "?": exactly one
)

var wildcards = strings.NewReplacer("*", string([]byte{anyRun}), "?", string([]byte{anyChar}))

// A pattern is text in which '*' stands for any run of characters and '?' for exactly one. Bytes are compared as they
// are, except that a folding pattern (an action) takes ASCII letters of either case as equal. Only ASCII: Unicode folding
// would let "Kms" written with a Kelvin sign pass for "kms".
type pattern struct {
	text  string // folding patterns are kept in lower case
	form  form
	fold  bool
	parts []part // where the text holds variables: then text is what resolve makes of these
}

type form uint8

const (
	exact  form = iota // no wildcard
	all                // "*"
	prefix             // literal, then one final "*", which text lacks
	glob
)

// compile makes a pattern of text as an author writes it, without variables.
func compile(text string, fold bool) pattern { return compiled(wildcards.Replace(text), fold) }

// compiled sorts a pattern into the cheapest form that matches it. Runs of stars are one star.
func compiled(text string, fold bool) pattern {
	if fold {
		text = lower(text)
	}
	const star = "\xfe"
	for strings.Contains(text, star+star) {
		text = strings.ReplaceAll(text, star+star, star)
	}
	wild := 0
	for wild < len(text) && text[wild] != anyRun && text[wild] != anyChar {
		wild++
	}
	switch {
	case wild == len(text):
		return pattern{text: text, form: exact, fold: fold}
	case text == star:
		return pattern{text: text, form: all, fold: fold}
	case wild == len(text)-1 && text[wild] == anyRun:
		return pattern{text: text[:wild], form: prefix, fold: fold}
	}
	return pattern{text: text, form: glob, fold: fold}
}

func (p *pattern) match(s string) bool {
	switch p.form {
	case all:
		return true
	case exact:
		return len(s) == len(p.text) && equal(p.text, s, p.fold)
	case prefix:
		return len(s) >= len(p.text) && equal(p.text, s[:len(p.text)], p.fold)
	}
	return p.glob(s)
}

// glob matches with a single fallback point, the latest star: a later star makes every earlier one's choices final,
// so the work is at most len(text) × len(s), never exponential.
func (p *pattern) glob(s string) bool {
	i, j := 0, 0        // in the pattern, in s
	star, mark := -1, 0 // behind the latest star, and where it has eaten up to
	for j < len(s) {
		switch {
		case i < len(p.text) && p.text[i] == anyRun:
			i++
			star, mark = i, j
		case i < len(p.text) && p.text[i] == anyChar:
			i++
			j += width(s[j:])
		case i < len(p.text) && p.text[i] == p.folded(s[j]):
			i++
			j++
		case star >= 0:
			mark += width(s[mark:])
			i, j = star, mark
		default:
			return false
		}
	}
	for i < len(p.text) && p.text[i] == anyRun {
		i++
	}
	return i == len(p.text)
}

// width is how many bytes the first character of s has.
func width(s string) int {
	if s[0] < utf8.RuneSelf {
		return 1
	}
	_, n := utf8.DecodeRuneInString(s)
	return n
}

func (p *pattern) folded(c byte) byte {
	if p.fold && c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// equal compares pattern text with as many bytes of s.
func equal(text, s string, fold bool) bool {
	if !fold {
		return text == s
	}
	for i := range len(text) {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if text[i] != c {
			return false
		}
	}
	return true
}

func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
