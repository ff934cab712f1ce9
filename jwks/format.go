package jwks

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"golang.org/x/crypto/ssh"
)

// format is one way to write the public keys of a lineage, all of them, in the given order.
type format struct {
	contentType string
	write       func(shown []Generation, alias string) ([]byte, error)
}

// ?format= → format
var formats = map[string]format{
	"":     {"application/jwk-set+json", writeSet},
	"jwks": {"application/jwk-set+json", writeSet},
	"pem":  {"application/x-pem-file", writePEM},
	"ssh":  {"text/plain; charset=utf-8", writeSSH},
}

var (
	errFormat       = errors.New("no such format")
	errNoKeyHasForm = errors.New("no key of the lineage exists in this format")
)

// writeSet leaves out keys that have no JWK form; none having one is an error.
func writeSet(shown []Generation, _ string) ([]byte, error) {
	var set Set
	for _, g := range shown {
		key, err := ParseKey(g.SPKI, g.Usage)
		switch {
		case errors.Is(err, ErrNoForm):
		case err != nil:
			return nil, fmt.Errorf("reading the public key of %s: %w", g.Key, err)
		default:
			set.Keys = append(set.Keys, key)
		}
	}
	if len(set.Keys) == 0 {
		return nil, errNoKeyHasForm
	}
	return json.Marshal(set)
}

func writePEM(shown []Generation, _ string) ([]byte, error) {
	var b bytes.Buffer
	for _, g := range shown {
		if err := pem.Encode(&b, &pem.Block{Type: "PUBLIC KEY", Bytes: g.SPKI}); err != nil {
			return nil, fmt.Errorf("writing PEM: %w", err)
		}
	}
	return b.Bytes(), nil
}

// writeSSH writes authorized_keys lines. A key that SSH does not know becomes a comment, so that
// nobody wonders where it is; none being known is an error.
func writeSSH(shown []Generation, alias string) ([]byte, error) {
	var b bytes.Buffer
	written := 0
	for _, g := range shown {
		id := fmt.Sprintf("%s/v%d", alias, g.Number)
		public, err := sshKey(g.SPKI)
		if err != nil {
			fmt.Fprintf(&b, "# %s is of a type that SSH does not know\n", id)
			continue
		}
		b.Write(bytes.TrimSuffix(ssh.MarshalAuthorizedKey(public), []byte("\n")))
		b.WriteString(" " + id + "\n")
		written++
	}
	if written == 0 {
		return nil, errNoKeyHasForm
	}
	return b.Bytes(), nil
}

func sshKey(spki []byte) (ssh.PublicKey, error) {
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, err
	}
	return ssh.NewPublicKey(public)
}
