package awsapi

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
)

const redacted = "[redacted]"

// Sensitive is a blob that the API model marks sensitive: plaintext, or the
// message of a signature. However it is printed (every verb of package fmt,
// slog, encoding/json), what appears is "[redacted]"; only Reveal, and the
// encoder of the answer that the caller is entitled to, show the bytes.
//
// Package fmt calls no methods on what it finds in unexported fields: a struct
// that keeps a Sensitive in one must not be printed, or print itself.
type Sensitive []byte

// Reveal returns the bytes themselves, not a copy.
func (s Sensitive) Reveal() []byte { return s }

// String implements fmt.Stringer.
func (Sensitive) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (Sensitive) GoString() string { return redacted }

// Format implements fmt.Formatter for every verb, so that %x and %s cannot
// reach the bytes.
func (Sensitive) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue implements slog.LogValuer.
func (Sensitive) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, for encoders that look for it.
func (Sensitive) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON implements json.Marshaler: a struct with a Sensitive member can
// be logged as JSON. The wire does not use it.
func (Sensitive) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// UnmarshalJSON reads a base64 string.
func (s *Sensitive) UnmarshalJSON(b []byte) error {
	var blob []byte
	if err := json.Unmarshal(b, &blob); err != nil {
		// The text of the error could quote the input.
		return errNotBase64
	}
	*s = blob
	return nil
}

// UnmarshalText keeps decoders that prefer text from storing base64 as if it
// were the bytes.
func (s *Sensitive) UnmarshalText(b []byte) error {
	blob, err := base64.StdEncoding.AppendDecode(nil, b)
	if err != nil {
		return errNotBase64
	}
	*s = blob
	return nil
}

// SensitiveString is what Sensitive is, for strings: passwords and secret
// access keys.
type SensitiveString string

// Reveal returns the string itself.
func (s SensitiveString) Reveal() string { return string(s) }

// String implements fmt.Stringer.
func (SensitiveString) String() string { return redacted }

// GoString implements fmt.GoStringer.
func (SensitiveString) GoString() string { return redacted }

// Format implements fmt.Formatter for every verb.
func (SensitiveString) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue implements slog.LogValuer.
func (SensitiveString) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler.
func (SensitiveString) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON implements json.Marshaler. The wire does not use it.
func (SensitiveString) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// UnmarshalJSON reads a string.
func (s *SensitiveString) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return errNotString
	}
	*s = SensitiveString(text)
	return nil
}

// UnmarshalText takes the text as it is.
func (s *SensitiveString) UnmarshalText(b []byte) error {
	*s = SensitiveString(b)
	return nil
}
