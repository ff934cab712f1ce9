package awsapi

import (
	"unicode/utf16"
	"unicode/utf8"
)

// number consumes a JSON number and returns its text.
func (d *Decoder) number() []byte {
	start := d.pos
	if d.pos < len(d.data) && d.data[d.pos] == '-' {
		d.pos++
	}
	switch {
	case d.pos < len(d.data) && d.data[d.pos] == '0':
		d.pos++
	case !d.digits():
		d.malformed()
		return nil
	}
	if d.pos < len(d.data) && d.data[d.pos] == '.' {
		d.pos++
		if !d.digits() {
			d.malformed()
			return nil
		}
	}
	if d.pos < len(d.data) && d.data[d.pos]|0x20 == 'e' {
		d.pos++
		if d.pos < len(d.data) && (d.data[d.pos] == '+' || d.data[d.pos] == '-') {
			d.pos++
		}
		if !d.digits() {
			d.malformed()
			return nil
		}
	}
	return d.data[start:d.pos]
}

func (d *Decoder) digits() bool {
	start := d.pos
	for d.pos < len(d.data) && '0' <= d.data[d.pos] && d.data[d.pos] <= '9' {
		d.pos++
	}
	return d.pos > start
}

// stringBytes consumes a string, whose opening quote is next, and returns its
// content: a part of the body, or of scratch when something was escaped.
func (d *Decoder) stringBytes() []byte {
	d.pos++
	start := d.pos
	for i := start; i < len(d.data); {
		c := d.data[i]
		switch {
		case plain[c] != 0:
			for i++; i < len(d.data) && plain[d.data[i]] != 0; i++ {
			}
		case c == '"':
			d.pos = i + 1
			return d.data[start:i:i]
		case c == '\\':
			return d.unescape(start, i)
		case c < ' ':
			d.malformed()
			return nil
		default:
			r, n := utf8.DecodeRune(d.data[i:])
			if r == utf8.RuneError && n == 1 {
				d.malformed()
				return nil
			}
			i += n
		}
	}
	d.malformed()
	return nil
}

// unescape continues stringBytes from the first backslash at i.
func (d *Decoder) unescape(start, i int) []byte {
	out := append(d.scratch[:0], d.data[start:i]...)
	defer func() { d.scratch = out }()
	for i < len(d.data) {
		c := d.data[i]
		switch {
		case plain[c] != 0:
			out = append(out, c)
			i++
		case c == '"':
			d.pos = i + 1
			return out
		case c == '\\':
			r, n := escape(d.data[i:])
			if n == 0 {
				d.malformed()
				return nil
			}
			out = utf8.AppendRune(out, r)
			i += n
		case c < ' ':
			d.malformed()
			return nil
		default:
			r, n := utf8.DecodeRune(d.data[i:])
			if r == utf8.RuneError && n == 1 {
				d.malformed()
				return nil
			}
			out = append(out, d.data[i:i+n]...)
			i += n
		}
	}
	d.malformed()
	return nil
}

// escape reads the escape sequence at the beginning of s: the character, and
// how many bytes it took; 0 when it is none. Half a surrogate pair is none.
func escape(s []byte) (rune, int) {
	if len(s) < 2 {
		return 0, 0
	}
	switch s[1] {
	case '"', '\\', '/':
		return rune(s[1]), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	}
	r := hexEscape(s)
	switch {
	case r < 0:
		return 0, 0
	case !utf16.IsSurrogate(r):
		return r, 6
	}
	pair := utf16.DecodeRune(r, hexEscape(s[6:]))
	if pair == utf8.RuneError {
		return 0, 0
	}
	return pair, 12
}

// hexEscape reads \uXXXX; -1 when s does not begin with it.
func hexEscape(s []byte) rune {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return -1
	}
	var r rune
	for _, c := range s[2:6] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return -1
		}
	}
	return r
}
