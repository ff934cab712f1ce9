package kms

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"

	"github.com/keyturn/keyturn/awsapi"
)

// A marker says where the next page of a list begins: after the item named
// last, in the order of the list. It names a value and not a position, so
// rows that come and go between two pages are neither repeated nor make
// others be skipped. It is bound to the operation and to the scope that was
// listed (account, Region, key), and is no secret: a forged one shows nothing
// that the same caller could not list anyway.
//
//	base64url( version 1 | first 8 bytes of SHA-256(version, operation, scope, last) | last )
const (
	markerVersion  = 1
	markerCheckLen = 8
)

var markerEncoding = base64.RawURLEncoding.Strict()

func formatMarker(operation, scope, last string) string {
	b := make([]byte, 0, 1+markerCheckLen+len(last))
	b = append(b, markerVersion)
	b = append(b, markerCheck(operation, scope, last)...)
	b = append(b, last...)
	return markerEncoding.EncodeToString(b)
}

// parseMarker returns the last item of the page before, "" for an absent
// marker. Anything that formatMarker did not make for this operation and
// scope is InvalidMarkerException.
func parseMarker(operation, scope, marker string) (last string, err error) {
	if marker == "" {
		return "", nil
	}
	b, err := markerEncoding.DecodeString(marker)
	if err != nil || len(b) < 1+markerCheckLen || b[0] != markerVersion {
		return "", awsapi.Errorf("InvalidMarkerException", "Could not deserialize marker")
	}
	check, last := b[1:1+markerCheckLen], string(b[1+markerCheckLen:])
	if subtle.ConstantTimeCompare(check, markerCheck(operation, scope, last)) != 1 {
		return "", awsapi.Errorf("InvalidMarkerException", "Could not deserialize marker")
	}
	return last, nil
}

func markerCheck(operation, scope, last string) []byte {
	h := sha256.New()
	h.Write([]byte{markerVersion})
	for _, s := range []string{operation, scope, last} {
		h.Write([]byte(s))
		h.Write([]byte{0})
	}
	return h.Sum(nil)[:markerCheckLen]
}

// pageLimit applies the operation's own rule for Limit; the model knows only
// the widest (1–1000).
func pageLimit(limit *int32, fallback, most int) (int, error) {
	if limit == nil {
		return fallback, nil
	}
	if n := int(*limit); n <= most {
		return max(n, 1), nil
	}
	return 0, awsapi.Errorf("ValidationException",
		"1 validation error detected: Value '%d' at 'limit' failed to satisfy constraint: "+
			"Member must have value less than or equal to %d", *limit, most)
}
