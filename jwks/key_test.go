package jwks_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"filippo.io/mldsa"
	mldsax509 "filippo.io/mldsa/x509"
	"github.com/go-jose/go-jose/v4"

	"github.com/keyturn/keyturn/jwks"
)

func unb64(t testing.TB, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func spkiOf(t testing.TB, public any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func parse(t testing.TB, spki []byte, usage string) *jwks.Key {
	t.Helper()
	k, err := jwks.ParseKey(spki, usage)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// tool finds a program that the tests hold our output against.
func tool(t testing.TB, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is needed: apt-get install %s", name, pkg)
	}
	return path
}

func run(t testing.TB, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return out
}

func TestThumbprintVectors(t *testing.T) {
	// RFC 7638 section 3.1.
	n := unb64(t, "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw")
	key := parse(t, spkiOf(t, &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: 65537}), "SIGN_VERIFY")
	if key.ID != "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" || key.E != "AQAB" {
		t.Errorf("RFC 7638: %+v", key)
	}
	// RFC 8037 appendices A.2 and A.3.
	key = parse(t, spkiOf(t, ed25519.PublicKey(unb64(t, "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"))), "SIGN_VERIFY")
	if key.ID != "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" || key.Type != "OKP" || key.Curve != "Ed25519" || key.X != "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" {
		t.Errorf("RFC 8037: %+v", key)
	}
	// RFC 9964: the key of the seed of 32 zeros.
	private, err := mldsa.NewPrivateKey(mldsa.MLDSA44(), make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	spki, err := mldsax509.MarshalPKIXPublicKey(private.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	key = parse(t, spki, "SIGN_VERIFY")
	if key.ID != "T4xl70S7MT6Zeq6r9V9fPJGVn76wfnXJ21-gyo0Gu6o" || key.Type != "AKP" || key.Alg != "ML-DSA-44" || !strings.HasPrefix(key.Pub, "unH59k4R") {
		t.Errorf("RFC 9964: %+v", key)
	}
}

// signer is a key pair that go-jose can sign with, and what its JWK must say.
type signer struct {
	private   crypto.Signer
	algorithm jose.SignatureAlgorithm
	kty, crv  string
	alg       string
}

func signers(t testing.TB) map[string]signer {
	t.Helper()
	ec := func(curve elliptic.Curve) crypto.Signer {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]signer{
		"RSA":     {rsaKey, jose.PS256, "RSA", "", ""},
		"P-256":   {ec(elliptic.P256()), jose.ES256, "EC", "P-256", "ES256"},
		"P-384":   {ec(elliptic.P384()), jose.ES384, "EC", "P-384", "ES384"},
		"P-521":   {ec(elliptic.P521()), jose.ES512, "EC", "P-521", "ES512"},
		"Ed25519": {ed, jose.EdDSA, "OKP", "Ed25519", "EdDSA"},
	}
}

func TestKeysVerifyWithAnotherLibrary(t *testing.T) {
	for name, s := range signers(t) {
		key := parse(t, spkiOf(t, s.private.Public()), "SIGN_VERIFY")
		if key.Type != s.kty || key.Curve != s.crv || key.Alg != s.alg || key.Use != "sig" {
			t.Errorf("%s: kty %q crv %q alg %q use %q", name, key.Type, key.Curve, key.Alg, key.Use)
		}
		text, err := json.Marshal(jwks.Set{Keys: []*jwks.Key{key}})
		if err != nil {
			t.Fatal(err)
		}
		var set jose.JSONWebKeySet
		if err := json.Unmarshal(text, &set); err != nil {
			t.Fatalf("%s: go-jose does not read %s: %v", name, text, err)
		}
		jwk := set.Key(key.ID)
		if len(jwk) != 1 || !jwk[0].Valid() || !jwk[0].IsPublic() {
			t.Fatalf("%s: go-jose finds %+v", name, jwk)
		}
		if thumbprint, err := jwk[0].Thumbprint(crypto.SHA256); err != nil || base64.RawURLEncoding.EncodeToString(thumbprint) != key.ID {
			t.Errorf("%s: go-jose's thumbprint is %x, %v", name, thumbprint, err)
		}
		sign, err := jose.NewSigner(jose.SigningKey{Algorithm: s.algorithm, Key: s.private}, nil)
		if err != nil {
			t.Fatal(err)
		}
		jws, err := sign.Sign([]byte("payload"))
		if err != nil {
			t.Fatal(err)
		}
		if payload, err := jws.Verify(jwk[0]); err != nil || string(payload) != "payload" {
			t.Errorf("%s: verifying with the published key: %q, %v", name, payload, err)
		}
	}
}

// An EC coordinate that begins with zeros keeps them (RFC 7518 section 6.2.1.2).
func TestCoordinatesKeepTheirLength(t *testing.T) {
	short := false
	for range 3000 {
		k, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		key := parse(t, spkiOf(t, k.PublicKey()), "KEY_AGREEMENT")
		x, y := unb64(t, key.X), unb64(t, key.Y)
		if len(x) != 32 || len(y) != 32 || !bytes.Equal(append(append([]byte{4}, x...), y...), k.PublicKey().Bytes()) {
			t.Fatalf("point %x is written as %x %x", k.PublicKey().Bytes(), x, y)
		}
		if key.Use != "enc" || key.Alg != "" {
			t.Fatalf("a key agreement key has use %q and alg %q", key.Use, key.Alg)
		}
		short = short || x[0] == 0 || y[0] == 0
		if short {
			return
		}
	}
	t.Error("no key of 3000 began with a zero")
}

func TestSecp256k1AgreesWithOpenSSL(t *testing.T) {
	openssl := tool(t, "openssl", "openssl")
	private := run(t, nil, openssl, "ecparam", "-name", "secp256k1", "-genkey", "-noout")
	spki := run(t, private, openssl, "ec", "-pubout", "-outform", "DER")
	_, spki, _ = bytes.Cut(spki, []byte("writing EC key\n"))
	key := parse(t, spki, "SIGN_VERIFY")
	if key.Type != "EC" || key.Curve != "secp256k1" || key.Alg != "ES256K" || key.Use != "sig" {
		t.Errorf("secp256k1: %+v", key)
	}
	text := run(t, private, openssl, "ec", "-text", "-noout")
	_, public, _ := strings.Cut(string(text), "pub:")
	public, _, _ = strings.Cut(public, "ASN1")
	want := regexp.MustCompile(`[^0-9a-f]`).ReplaceAllString(public, "")
	point := append(append([]byte{4}, unb64(t, key.X)...), unb64(t, key.Y)...)
	if got := new(big.Int).SetBytes(point).Text(16); got != strings.TrimPrefix(want, "0") {
		t.Errorf("the point is %s, openssl says %s", got, want)
	}
}

func rawSPKI(t testing.TB, oid asn1.ObjectIdentifier, params any, raw []byte) []byte {
	t.Helper()
	algorithm := pkix.AlgorithmIdentifier{Algorithm: oid}
	if params != nil {
		der, err := asn1.Marshal(params)
		if err != nil {
			t.Fatal(err)
		}
		algorithm.Parameters = asn1.RawValue{FullBytes: der}
	}
	der, err := asn1.Marshal(struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}{algorithm, asn1.BitString{Bytes: raw, BitLength: 8 * len(raw)}})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

var (
	oidMLKEM768  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 4, 2}
	oidMLDSA65   = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 18}
	oidEC        = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidSecp256k1 = asn1.ObjectIdentifier{1, 3, 132, 0, 10}
)

func TestParseKeyRefuses(t *testing.T) {
	offCurve := append([]byte{4}, bytes.Repeat([]byte{1}, 64)...)
	for name, spki := range map[string][]byte{
		"nothing":                 nil,
		"rubbish":                 []byte("rubbish"),
		"a byte too many":         append(spkiOf(t, ed25519.PublicKey(make([]byte, 32))), 0),
		"a point off the curve":   rawSPKI(t, oidEC, oidSecp256k1, offCurve),
		"a secp256k1 key of 3":    rawSPKI(t, oidEC, oidSecp256k1, []byte{1, 2, 3}),
		"an ML-DSA-65 key of 10":  rawSPKI(t, oidMLDSA65, nil, make([]byte, 10)),
		"an unknown algorithm":    rawSPKI(t, asn1.ObjectIdentifier{1, 2, 3, 4}, nil, make([]byte, 10)),
		"a P-256 point off curve": rawSPKI(t, oidEC, asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}, offCurve),
	} {
		if k, err := jwks.ParseKey(spki, "SIGN_VERIFY"); err == nil || k != nil {
			t.Errorf("%s was accepted: %+v", name, k)
		}
	}
	if _, err := jwks.ParseKey(rawSPKI(t, oidMLKEM768, nil, make([]byte, 1184)), "ENCAPSULATE_DECAPSULATE"); !errors.Is(err, jwks.ErrNoForm) {
		t.Errorf("ML-KEM: %v", err)
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add(spkiOf(f, ed25519.PublicKey(make([]byte, 32))))
	f.Add(rawSPKI(f, oidMLDSA65, nil, make([]byte, 1952)))
	for _, s := range signers(f) {
		f.Add(spkiOf(f, s.private.Public()))
	}
	f.Fuzz(func(t *testing.T, spki []byte) {
		key, err := jwks.ParseKey(spki, "SIGN_VERIFY")
		if err != nil {
			return
		}
		if len(unb64(t, key.ID)) != 32 || key.Type == "" {
			t.Fatalf("%x: %+v", spki, key)
		}
		text, err := json.Marshal(key)
		if err != nil || !json.Valid(text) {
			t.Fatalf("%x: %s, %v", spki, text, err)
		}
		if pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}) == nil {
			t.Fatal("no PEM")
		}
	})
}
