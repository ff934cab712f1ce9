package access

import (
	"encoding/xml"
	"fmt"
	"io"
	"log/slog"

	"github.com/go-json-experiment/json/jsontext"
)

const redacted = "[redacted]"

// A Secret is a secret access key. However it is printed, logged or marshalled it says [redacted]: the text stands behind a
// pointer, so that even a struct that hides a Secret in an unexported field, where fmt cannot call its methods, prints an
// address. The zero Secret holds nothing.
type Secret struct{ text *string }

// NewSecret wraps a secret access key.
func NewSecret(text string) Secret { return Secret{&text} }

// Reveal returns the secret itself. Its callers compute signatures; none stores, logs or returns it.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// String, GoString, Format, LogValue, MarshalText and MarshalJSON all say [redacted].
func (s Secret) String() string               { return redacted }
func (s Secret) GoString() string             { return redacted }
func (s Secret) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (s Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// An IssuedSecret is a Secret in the answer that makes it, the one time that it leaves the server. It is redacted
// like any other, encoding/json and log handlers included, except to the JSON encoder of the wire.
type IssuedSecret struct{ Secret }

// MarshalJSONTo writes the secret itself. Only go-json-experiment calls it, which only the wire uses.
func (s IssuedSecret) MarshalJSONTo(e *jsontext.Encoder) error {
	return e.WriteToken(jsontext.String(s.Reveal()))
}

// MarshalXML writes the secret itself, for the answers of STS. Nothing but the wire writes XML.
func (s IssuedSecret) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	return e.EncodeElement(s.Reveal(), start)
}

// UnmarshalJSON reads the secret in a client of the native API.
func (s *IssuedSecret) UnmarshalJSON(b []byte) error {
	text, err := jsontext.AppendUnquote(nil, b)
	if err != nil {
		return fmt.Errorf("reading secret: not a JSON string")
	}
	s.Secret = NewSecret(string(text))
	return nil
}
