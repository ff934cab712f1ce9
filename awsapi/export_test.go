package awsapi

import (
	"net/http"
	"time"

	"github.com/keyturn/keyturn/access"
)

// DecodeJSON decodes body as the handler does.
func DecodeJSON(body []byte, in interface{ DecodeJSON(*Decoder) }) error {
	d := new(Decoder)
	if err := d.decode(body, in); err != nil {
		return err
	}
	return nil
}

// A DecodeBench decodes with one Decoder again and again, as the handler does.
type DecodeBench struct{ d Decoder }

func (b *DecodeBench) Decode(body []byte, in interface{ DecodeJSON(*Decoder) }) error {
	if err := b.d.decode(body, in); err != nil {
		return err
	}
	return nil
}

// A Verifier checks signatures as the handler does, with its cache of keys.
type Verifier struct {
	keys    signingKeys
	scratch []byte
	s       signature
}

// Verify returns nil when secret signed the request.
func (v *Verifier) Verify(r *http.Request, body []byte, secret access.Secret, now time.Time) error {
	s := &v.s
	if e := s.parse(r); e != nil {
		return e
	}
	if e := s.inTime(now); e != nil {
		return e
	}
	if e := s.covers(r); e != nil {
		return e
	}
	hash := bodyHash(body)
	if e := s.payload(r, &hash); e != nil {
		return e
	}
	ok := false
	if v.scratch, ok = s.matches(secret, &v.keys, r, &hash, v.scratch); !ok {
		return errNoMatch
	}
	return nil
}

// Forget empties the cache of signing keys.
func (v *Verifier) Forget() { v.keys.keys = nil }

// PooledBytes returns what the buffers of a past exchange still hold.
func PooledBytes() []byte {
	x := exchanges.Get().(*exchange)
	defer exchanges.Put(x)
	var all []byte
	for _, b := range [][]byte{x.body, x.answer, x.audit, x.scratch, x.decoder.scratch} {
		all = append(all, b[:cap(b)]...)
	}
	return all
}

// ParseDate reads the date of a signature.
func ParseDate(s string) (time.Time, bool) { return parseDate(s) }
