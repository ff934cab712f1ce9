package awsapi

import (
	"encoding/base64"
	"slices"
	"strconv"
	"unicode/utf8"
)

// The append functions write the JSON of generated types into a buffer that
// the handler owns, reuses and wipes. They never fail: what is not UTF-8
// becomes U+FFFD, as with encoding/json.

const hexDigits = "0123456789abcdef"

// plain holds 1 for each byte that stands for itself inside a JSON string.
var plain = func() (t [256]uint8) {
	for c := 0x20; c < utf8.RuneSelf; c++ {
		t[c] = 1
	}
	t['"'], t['\\'], t[0x7f] = 0, 0, 1
	return t
}()

// AppendString appends s as a JSON string.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] != 0 {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || n != 1 {
				i += n
				continue
			}
			b = append(b, s[start:i]...)
			b = append(b, "\ufffd"...)
			i++
			start = i
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// AppendBlob appends blob as a base64 string.
func AppendBlob(b, blob []byte) []byte {
	b = append(b, '"')
	b = base64.StdEncoding.AppendEncode(b, blob)
	return append(b, '"')
}

// AppendStrings appends list as a JSON array.
func AppendStrings(b []byte, list []string) []byte {
	b = append(b, '[')
	for _, s := range list {
		b = append(AppendString(b, s), ',')
	}
	return CloseArray(b)
}

// AppendMap appends m as a JSON object, its keys sorted, so that equal maps
// read equally in the audit log.
func AppendMap(b []byte, m map[string]string) []byte {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	b = append(b, '{')
	for _, k := range keys {
		b = append(AppendString(b, k), ':')
		b = append(AppendString(b, m[k]), ',')
	}
	return CloseObject(b)
}

// CloseObject ends an object whose members were each followed by a comma.
func CloseObject(b []byte) []byte { return closeWith(b, '}') }

// CloseArray ends an array whose elements were each followed by a comma.
func CloseArray(b []byte) []byte { return closeWith(b, ']') }

func closeWith(b []byte, c byte) []byte {
	if last := len(b) - 1; b[last] == ',' {
		b[last] = c
		return b
	}
	return append(b, c)
}

// AppendBool appends true or false.
func AppendBool(b []byte, v bool) []byte { return strconv.AppendBool(b, v) }

// AppendInt appends v in decimal.
func AppendInt(b []byte, v int64) []byte { return strconv.AppendInt(b, v, 10) }
