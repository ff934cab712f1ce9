package awsapi

import (
	"errors"
	"math"
	"strconv"
	"time"
)

// A Timestamp is a moment on the wire: a JSON number of seconds since 1970
// UTC with a fraction of at most milliseconds, which is what KMS sends.
type Timestamp struct{ time.Time }

// NewTimestamp returns t for an optional member; nil when t is zero.
func NewTimestamp(t time.Time) *Timestamp {
	if t.IsZero() {
		return nil
	}
	return &Timestamp{t}
}

// MarshalJSON implements json.Marshaler.
func (t Timestamp) MarshalJSON() ([]byte, error) { return AppendTimestamp(nil, t), nil }

// UnmarshalJSON implements json.Unmarshaler.
func (t *Timestamp) UnmarshalJSON(b []byte) error {
	v, ok := parseTimestamp(b)
	if !ok {
		return errNotTimestamp
	}
	*t = v
	return nil
}

// AppendTimestamp appends t as epoch seconds, rounded down to milliseconds.
func AppendTimestamp(b []byte, t Timestamp) []byte {
	ms := t.UnixMilli()
	if ms < 0 {
		b = append(b, '-')
		ms = -ms
	}
	b = strconv.AppendInt(b, ms/1000, 10)
	frac := int(ms % 1000)
	if frac == 0 {
		return b
	}
	b = append(b, '.', byte('0'+frac/100))
	if frac %= 100; frac != 0 {
		b = append(b, byte('0'+frac/10))
		if frac %= 10; frac != 0 {
			b = append(b, byte('0'+frac))
		}
	}
	return b
}

// maxEpoch is the last second of the year 9999: later dates have no agreed
// form in ISO 8601, and a client that sends one has sent milliseconds.
const maxEpoch = 253402300799

func parseTimestamp(number []byte) (Timestamp, bool) {
	f, err := strconv.ParseFloat(string(number), 64)
	if err != nil || math.IsNaN(f) || math.Abs(f) > maxEpoch {
		return Timestamp{}, false
	}
	sec, frac := math.Modf(f)
	// A float64 of today's epoch resolves a quarter of a microsecond.
	return Timestamp{time.Unix(int64(sec), int64(math.Round(frac*1e6))*1e3).UTC()}, true
}

var (
	errNotTimestamp = errors.New("a timestamp is a number of seconds since 1970")
	errNotBase64    = errors.New("a blob is a base64 string")
	errNotString    = errors.New("a string was expected")
)
