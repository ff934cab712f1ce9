package policy

import (
	"bytes"
	"errors"
	"io"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// A decoder reads JSON, holding to RFC 8259 and valid UTF-8. Duplicate names are its callers' business: see once.
type decoder struct{ d *jsontext.Decoder }

func newDecoder(b []byte) *decoder {
	return &decoder{jsontext.NewDecoder(bytes.NewReader(b), jsontext.AllowDuplicateNames(true))}
}

func (d *decoder) peek() jsontext.Kind { return d.d.PeekKind() }

// object reads an object, calling member with the decoder at each value. member must consume it or fail.
func (d *decoder) object(member func(name string) error) error {
	if kind := d.peek(); kind != '{' {
		return d.unexpected("an object", kind)
	}
	if _, err := d.d.ReadToken(); err != nil {
		return err
	}
	for d.peek() != '}' {
		name, err := d.d.ReadToken()
		if err != nil {
			return err
		}
		if err := member(name.String()); err != nil {
			return err
		}
	}
	_, err := d.d.ReadToken()
	return err
}

func (d *decoder) string(name string) (string, error) {
	if kind := d.peek(); kind != '"' {
		return "", d.unexpected(name+" to be a string", kind)
	}
	token, err := d.d.ReadToken()
	if err != nil {
		return "", err
	}
	return token.String(), nil
}

// strings reads a string or a list of at least one, giving each to add.
func (d *decoder) strings(name string, add func(text string) (problem string)) error {
	return d.list(name, func() error {
		text, err := d.string(name)
		if err != nil {
			return err
		}
		if problem := add(text); problem != "" {
			return refuse("%s %s %s", name, strconv.Quote(text), problem)
		}
		return nil
	})
}

// scalars does the same for strings, numbers and booleans, as the values of conditions may be. A number is taken as it is
// written.
func (d *decoder) scalars(add func(text string) (problem string)) error {
	return d.list("its value", func() error {
		switch kind := d.peek(); kind {
		case '"', '0', 't', 'f':
		default:
			return d.unexpected("a string, a number or a boolean", kind)
		}
		token, err := d.d.ReadToken()
		if err != nil {
			return err
		}
		text := token.String()
		if problem := add(text); problem != "" {
			return refuse("value %s %s", strconv.Quote(text), problem)
		}
		return nil
	})
}

// list reads one value, or a list of at least one.
func (d *decoder) list(name string, one func() error) error {
	if d.peek() != '[' {
		return one()
	}
	if _, err := d.d.ReadToken(); err != nil {
		return err
	}
	if d.peek() == ']' {
		return refuse("%s is an empty list", name)
	}
	for d.peek() != ']' {
		if err := one(); err != nil {
			return err
		}
	}
	_, err := d.d.ReadToken()
	return err
}

// values reads an object or a list of values, each left as it is for another decoder.
func (d *decoder) values() ([]jsontext.Value, error) {
	if d.peek() != '[' {
		v, err := d.d.ReadValue()
		return []jsontext.Value{v.Clone()}, err
	}
	if _, err := d.d.ReadToken(); err != nil {
		return nil, err
	}
	var all []jsontext.Value
	for d.peek() != ']' {
		v, err := d.d.ReadValue()
		if err != nil {
			return nil, err
		}
		all = append(all, v.Clone())
	}
	_, err := d.d.ReadToken()
	return all, err
}

func (d *decoder) end() error {
	if _, err := d.d.ReadToken(); !errors.Is(err, io.EOF) {
		return refuse("there is more text behind the document")
	}
	return nil
}

// unexpected words a wrong type; for text that is no JSON at all it gives the decoder's own complaint.
func (d *decoder) unexpected(want string, got jsontext.Kind) error {
	if got == 0 || got == '}' || got == ']' {
		if _, err := d.d.ReadToken(); err != nil {
			return err
		}
	}
	return refuse("expected %s, found %s", want, kindName(got))
}

func kindName(k jsontext.Kind) string {
	switch k {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '0':
		return "a number"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "the end"
}
