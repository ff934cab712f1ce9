package jwks

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// Key is a public key as a JWK. Members that its type does not have are empty.
// Make one with ParseKey.
type Key struct {
	Type string `json:"kty"`
	ID   string `json:"kid"` // RFC 7638 thumbprint
	// Use is "sig" or "enc", as the KeyUsage says (key_ops, which RFC 7517 does not want beside it,
	// would say less).
	Use string `json:"use,omitzero"`
	// Alg is there when the key is known to be for one JOSE algorithm only, which for RSA it never is.
	Alg   string `json:"alg,omitzero"`
	Curve string `json:"crv,omitzero"` // EC, OKP
	X     string `json:"x,omitzero"`   // EC, OKP
	Y     string `json:"y,omitzero"`   // EC
	N     string `json:"n,omitzero"`   // RSA
	E     string `json:"e,omitzero"`   // RSA
	Pub   string `json:"pub,omitzero"` // AKP
}

// Set is a JWK set (RFC 7517 section 5).
type Set struct {
	Keys []*Key `json:"keys"`
}

// ErrNoForm reports a public key for which the form that was asked for does not exist.
var ErrNoForm = errors.New("such a key has no registered form")

var (
	oidECPublicKey = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidSecp256k1   = asn1.ObjectIdentifier{1, 3, 132, 0, 10}
	// The last arc of NIST's sigAlgs (RFC 9881) → algorithm and length of the public key (FIPS 204 table 2).
	oidSigAlgs = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3}
	mldsa      = map[int]struct {
		alg  string
		size int
	}{17: {"ML-DSA-44", 1312}, 18: {"ML-DSA-65", 1952}, 19: {"ML-DSA-87", 2592}}
	oidKEMs = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 4}
)

// ParseKey makes a JWK of a DER SubjectPublicKeyInfo: RSA and the NIST curves (RFC 7518), secp256k1
// (RFC 8812), Ed25519 (RFC 8037) and ML-DSA (RFC 9964). usage is AWS's KeyUsage and may be empty.
// ML-KEM keys, which have no registered JWK form, are ErrNoForm.
func ParseKey(spki []byte, usage string) (*Key, error) {
	k, err := parseKey(spki)
	if err != nil {
		return nil, fmt.Errorf("making a JWK of a public key: %w", err)
	}
	switch usage {
	case "SIGN_VERIFY":
		k.Use = "sig"
	case "ENCRYPT_DECRYPT", "KEY_AGREEMENT":
		k.Use = "enc"
	}
	if k.Use != "sig" && k.Type != "AKP" {
		k.Alg = "" // it is a signature algorithm, and the key may be for something else
	}
	k.ID = k.thumbprint()
	return k, nil
}

func parseKey(spki []byte) (*Key, error) {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if rest, err := asn1.Unmarshal(spki, &info); err != nil || len(rest) != 0 {
		return nil, errors.New("it is not a DER SubjectPublicKeyInfo")
	}
	oid, raw := info.Algorithm.Algorithm, info.Key.RightAlign()
	switch {
	case hasPrefix(oid, oidSigAlgs):
		form, known := mldsa[oid[len(oid)-1]]
		if !known {
			return nil, fmt.Errorf("algorithm %v: %w", oid, ErrNoForm)
		}
		if len(raw) != form.size {
			return nil, fmt.Errorf("an %s key of %d bytes, expected %d", form.alg, len(raw), form.size)
		}
		return &Key{Type: "AKP", Alg: form.alg, Pub: encode(raw)}, nil
	case hasPrefix(oid, oidKEMs):
		return nil, fmt.Errorf("ML-KEM: %w", ErrNoForm)
	case oid.Equal(oidECPublicKey):
		var curve asn1.ObjectIdentifier
		if _, err := asn1.Unmarshal(info.Algorithm.Parameters.FullBytes, &curve); err == nil && curve.Equal(oidSecp256k1) {
			return parseSecp256k1(raw)
		}
	}
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, err
	}
	switch public := public.(type) {
	case *rsa.PublicKey:
		return &Key{Type: "RSA", N: encode(public.N.Bytes()), E: encode(big.NewInt(int64(public.E)).Bytes())}, nil
	case *ecdsa.PublicKey:
		return parseEC(public)
	case ed25519.PublicKey:
		return &Key{Type: "OKP", Curve: "Ed25519", X: encode(public), Alg: "EdDSA"}, nil
	}
	return nil, fmt.Errorf("algorithm %v: %w", oid, ErrNoForm)
}

// hasPrefix reports whether oid is a child of parent.
func hasPrefix(oid, parent asn1.ObjectIdentifier) bool {
	return len(oid) == len(parent)+1 && oid[:len(parent)].Equal(parent)
}

func parseEC(public *ecdsa.PublicKey) (*Key, error) {
	name := public.Curve.Params().Name
	alg, known := map[string]string{"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}[name]
	if !known {
		return nil, fmt.Errorf("curve %s: %w", name, ErrNoForm)
	}
	point, err := public.Bytes()
	if err != nil {
		return nil, err
	}
	return ecKey(name, alg, point), nil
}

func parseSecp256k1(raw []byte) (*Key, error) {
	public, err := secp256k1.ParsePubKey(raw)
	if err != nil {
		return nil, fmt.Errorf("reading a secp256k1 point: %w", err)
	}
	return ecKey("secp256k1", "ES256K", public.SerializeUncompressed()), nil
}

// ecKey takes an uncompressed point: 4, x, y, of which both are as long as the field
// (RFC 7518 section 6.2.1.2: leading zeros stay).
func ecKey(curve, alg string, point []byte) *Key {
	size := len(point) / 2
	return &Key{Type: "EC", Curve: curve, Alg: alg, X: encode(point[1 : 1+size]), Y: encode(point[1+size:])}
}

// thumbprint is RFC 7638's with SHA-256, over the required members of the key's
// type in lexicographic order; for AKP those are alg, kty and pub (RFC 9964). No
// value needs escaping in JSON.
func (k *Key) thumbprint() string {
	var members string
	switch k.Type {
	case "RSA":
		members = `{"e":"` + k.E + `","kty":"RSA","n":"` + k.N + `"}`
	case "EC":
		members = `{"crv":"` + k.Curve + `","kty":"EC","x":"` + k.X + `","y":"` + k.Y + `"}`
	case "OKP":
		members = `{"crv":"` + k.Curve + `","kty":"OKP","x":"` + k.X + `"}`
	case "AKP":
		members = `{"alg":"` + k.Alg + `","kty":"AKP","pub":"` + k.Pub + `"}`
	}
	sum := sha256.Sum256([]byte(members))
	return encode(sum[:])
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
