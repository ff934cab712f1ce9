package keystore_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/keyturn/keyturn/keystore"
)

// The forms in which other programs write private keys.
type (
	privateKeyInfo struct {
		Version    int
		Algorithm  algorithm
		Key        []byte
		Attributes asn1.RawValue  `asn1:"optional,tag:0"`
		Public     asn1.BitString `asn1:"optional,tag:1"`
	}
	algorithm struct {
		Algorithm  asn1.ObjectIdentifier
		Parameters asn1.RawValue `asn1:"optional"`
	}
	ecPrivateKey struct {
		Version    int
		Number     []byte
		Parameters asn1.RawValue  `asn1:"optional"` // [0] EXPLICIT
		Public     asn1.BitString `asn1:"optional,explicit,tag:1"`
	}
)

var (
	oidEC        = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidP256      = asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	oidP384      = asn1.ObjectIdentifier{1, 3, 132, 0, 34}
	oidSecp256k1 = asn1.ObjectIdentifier{1, 3, 132, 0, 10}
	oidEd        = asn1.ObjectIdentifier{1, 3, 101, 112}
	oidRSA       = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
)

func der(t testing.TB, v any) []byte {
	t.Helper()
	b, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func oid(t testing.TB, id asn1.ObjectIdentifier) asn1.RawValue {
	return asn1.RawValue{FullBytes: der(t, id)}
}

func bits(b []byte) asn1.BitString { return asn1.BitString{Bytes: b, BitLength: 8 * len(b)} }

func explicit(b []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: b}
}

// attributes is an empty set of attributes, [0] IMPLICIT SET OF.
var attributes = asn1.RawValue{FullBytes: []byte{0xa0, 0}}

func sameMaterial(t *testing.T, what string, spec keystore.Spec, material, want []byte) {
	t.Helper()
	got, err := keystore.ImportMaterial(spec, material)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s comes out in another form", what)
	}
}

func refusedMaterial(t *testing.T, what string, spec keystore.Spec, material []byte, says string) {
	t.Helper()
	got, err := keystore.ImportMaterial(spec, material)
	if !errors.Is(err, keystore.ErrInvalidMaterial) || got != nil || !strings.Contains(err.Error(), says) {
		t.Errorf("%s: %v, want one that says %q", what, err, says)
	}
}

func TestImportOfEllipticCurveKeys(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	want, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	number, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	compressed := elliptic.MarshalCompressed(elliptic.P256(), key.X, key.Y)
	hybrid := bytes.Clone(point)
	hybrid[0] = 6 | point[len(point)-1]&1

	info := func(curve asn1.ObjectIdentifier, inner ecPrivateKey) privateKeyInfo {
		return privateKeyInfo{Algorithm: algorithm{oidEC, oid(t, curve)}, Key: der(t, inner)}
	}
	inner := ecPrivateKey{Version: 1, Number: number}
	with := func(change func(*ecPrivateKey)) []byte {
		i := inner
		change(&i)
		return der(t, info(oidP256, i))
	}
	good := map[string][]byte{
		"of x509":          want,
		"without a point":  with(func(*ecPrivateKey) {}),
		"compressed":       with(func(i *ecPrivateKey) { i.Public = bits(compressed) }),
		"hybrid":           with(func(i *ecPrivateKey) { i.Public = bits(hybrid) }),
		"curve said twice": with(func(i *ecPrivateKey) { i.Parameters = explicit(der(t, oidP256)) }),
		"zero in front":    with(func(i *ecPrivateKey) { i.Number = append([]byte{0}, number...) }),
	}
	attributed := info(oidP256, inner)
	attributed.Attributes = attributes
	good["with attributes"] = der(t, attributed)
	for what, material := range good {
		sameMaterial(t, what, keystore.P256, material, want)
	}

	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	otherPoint, err := other.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	negated := bytes.Clone(compressed)
	negated[0] ^= 1
	order := elliptic.P256().Params().N
	for what, c := range map[string]struct {
		material []byte
		says     string
	}{
		"another point":         {with(func(i *ecPrivateKey) { i.Public = bits(otherPoint) }), "not the private key's"},
		"the negated point":     {with(func(i *ecPrivateKey) { i.Public = bits(negated) }), "not the private key's"},
		"a point cut short":     {with(func(i *ecPrivateKey) { i.Public = bits(point[:33]) }), "not the private key's"},
		"an empty point":        {with(func(i *ecPrivateKey) { i.Public = bits([]byte{}); i.Public.BitLength = 0 }), ""},
		"another curve inside":  {with(func(i *ecPrivateKey) { i.Parameters = explicit(der(t, oidP384)) }), "named curve"},
		"explicit parameters":   {with(func(i *ecPrivateKey) { i.Parameters = explicit(der(t, struct{ Version int }{1})) }), "named curve"},
		"another curve outside": {der(t, info(oidP384, inner)), "named curve"},
		"explicit outside":      {der(t, privateKeyInfo{Algorithm: algorithm{oidEC, asn1.RawValue{FullBytes: der(t, struct{ Version int }{1})}}, Key: der(t, inner)}), "named curve"},
		"no curve":              {der(t, privateKeyInfo{Algorithm: algorithm{Algorithm: oidEC}, Key: der(t, inner)}), "named curve"},
		"zero":                  {with(func(i *ecPrivateKey) { i.Number = make([]byte, 32) }), "not one of the curve"},
		"the order":             {with(func(i *ecPrivateKey) { i.Number = order.Bytes() }), "not one of the curve"},
		"too long":              {with(func(i *ecPrivateKey) { i.Number = append([]byte{1}, number...) }), "not one of the curve"},
		"version 2":             {with(func(i *ecPrivateKey) { i.Version = 2 }), "RFC 5915"},
		"trailing bytes":        {append(bytes.Clone(want), 0), "PKCS #8"},
		"trailing bytes inside": {der(t, privateKeyInfo{Algorithm: algorithm{oidEC, oid(t, oidP256)}, Key: append(der(t, inner), 0)}), "RFC 5915"},
		"SEC 1 alone":           {der(t, inner), "PKCS #8"},
		"PKCS #8 version 2":     {der(t, privateKeyInfo{Version: 2, Algorithm: algorithm{oidEC, oid(t, oidP256)}, Key: der(t, inner)}), "PKCS #8"},
	} {
		refusedMaterial(t, what, keystore.P256, c.material, c.says)
	}
	refusedMaterial(t, "P-256 as P-384", keystore.P384, want, "named curve")
	refusedMaterial(t, "P-256 as secp256k1", keystore.Secp256k1, want, "named curve")
	refusedMaterial(t, "P-256 as Ed25519", keystore.Ed25519, want, "Ed25519")
	refusedMaterial(t, "P-256 as RSA", keystore.RSA2048, want, "RSA")
}

func TestImportOfSecp256k1Keys(t *testing.T) {
	want, err := keystore.GenerateMaterial(keystore.Secp256k1)
	if err != nil {
		t.Fatal(err)
	}
	key, err := keystore.NewKey(keystore.Secp256k1, want)
	if err != nil {
		t.Fatal(err)
	}
	var info privateKeyInfo
	var inner ecPrivateKey
	if _, err := asn1.Unmarshal(want, &info); err != nil {
		t.Fatal(err)
	}
	if _, err := asn1.Unmarshal(info.Key, &inner); err != nil {
		t.Fatal(err)
	}
	inner.Parameters = asn1.RawValue{} // what the parser took for them
	point := slices.Clone(key.Public().SPKI())
	point = point[len(point)-65:]
	with := func(change func(*ecPrivateKey)) []byte {
		i := inner
		change(&i)
		return der(t, privateKeyInfo{Algorithm: algorithm{oidEC, oid(t, oidSecp256k1)}, Key: der(t, i)})
	}
	compressed := append([]byte{2 | point[64]&1}, point[1:33]...)
	sameMaterial(t, "as it is", keystore.Secp256k1, want, want)
	sameMaterial(t, "without a point", keystore.Secp256k1, with(func(i *ecPrivateKey) { i.Public = asn1.BitString{} }), want)
	sameMaterial(t, "compressed", keystore.Secp256k1, with(func(i *ecPrivateKey) { i.Public = bits(compressed) }), want)
	compressed[0] ^= 1
	refusedMaterial(t, "the negated point", keystore.Secp256k1, with(func(i *ecPrivateKey) { i.Public = bits(compressed) }), "not the private key's")
	refusedMaterial(t, "zero", keystore.Secp256k1, with(func(i *ecPrivateKey) { i.Number = make([]byte, 32) }), "not one of the curve")
	refusedMaterial(t, "too large", keystore.Secp256k1, with(func(i *ecPrivateKey) { i.Number = bytes.Repeat([]byte{0xff}, 32) }), "not one of the curve")
	refusedMaterial(t, "secp256k1 as P-256", keystore.P256, want, "named curve")
}

func TestImportOfEd25519Keys(t *testing.T) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	want, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	info := privateKeyInfo{Version: 1, Algorithm: algorithm{Algorithm: oidEd}, Key: der(t, key.Seed()), Public: bits(public)}
	sameMaterial(t, "version 0", keystore.Ed25519, want, want)
	sameMaterial(t, "version 1, with its public key", keystore.Ed25519, der(t, info), want)
	info.Attributes = attributes
	sameMaterial(t, "with attributes too", keystore.Ed25519, der(t, info), want)
	wrong := bytes.Clone(public)
	wrong[0] ^= 1
	info.Public = bits(wrong)
	refusedMaterial(t, "another public key", keystore.Ed25519, der(t, info), "not the private key's")
	info.Public = bits(public[:31])
	refusedMaterial(t, "a public key cut short", keystore.Ed25519, der(t, info), "not the private key's")
	info.Public, info.Key = asn1.BitString{}, der(t, []byte(key))
	refusedMaterial(t, "seed and public key in one", keystore.Ed25519, der(t, info), "RFC 8410")
	info.Key = key.Seed()
	refusedMaterial(t, "the bare seed", keystore.Ed25519, der(t, info), "RFC 8410")
	refusedMaterial(t, "Ed25519 as P-256", keystore.P256, want, "named curve")
}

// rsaFrom makes a key of two numbers, prime or not, in PKCS #8.
func rsaFrom(t *testing.T, p, q *big.Int, e int64, change func(*rsaPrivateKey)) []byte {
	t.Helper()
	one := big.NewInt(1)
	p1, q1 := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
	phi := new(big.Int).Mul(p1, q1)
	d := new(big.Int).ModInverse(big.NewInt(e), phi)
	if d == nil {
		t.Fatal("the exponent has no inverse")
	}
	k := rsaPrivateKey{
		N: new(big.Int).Mul(p, q), E: e, D: d, P: p, Q: q,
		Dp: new(big.Int).Mod(d, p1), Dq: new(big.Int).Mod(d, q1), Qinv: new(big.Int).ModInverse(q, p),
	}
	if k.Qinv == nil { // of one prime twice
		k.Qinv = one
	}
	if change != nil {
		change(&k)
	}
	return der(t, privateKeyInfo{Algorithm: algorithm{oidRSA, asn1.NullRawValue}, Key: der(t, k)})
}

type rsaPrivateKey struct {
	Version       int
	N             *big.Int
	E             int64
	D, P, Q       *big.Int
	Dp, Dq, Qinv  *big.Int
	AdditionalOne []additionalPrime `asn1:"optional,omitempty"`
}

type additionalPrime struct{ Prime, Exp, Coeff *big.Int }

// odd returns an odd number of bits that is no prime but passes for one: it has no
// divisor with avoid, and one less has an inverse of e.
func odd(t *testing.T, bits int, e int64, avoid *big.Int) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(bits-2)))
	if err != nil {
		t.Fatal(err)
	}
	n.SetBit(n, bits-1, 1).SetBit(n, bits-2, 1).SetBit(n, 0, 1)
	one := big.NewInt(1)
	coprime := func(a, b *big.Int) bool { return new(big.Int).GCD(nil, nil, a, b).Cmp(one) == 0 }
	for !coprime(new(big.Int).Sub(n, one), big.NewInt(e)) || !coprime(n, avoid) || n.ProbablyPrime(0) {
		n.Add(n, big.NewInt(2))
	}
	return n
}

func TestImportOfRSAKeys(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	want, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p, q := key.Primes[0], key.Primes[1]
	sameMaterial(t, "as it is", keystore.RSA2048, want, want)
	// The private exponent may be written modulo φ(n) or λ(n): another form of the same key.
	other, err := keystore.ImportMaterial(keystore.RSA2048, rsaFrom(t, p, q, 65537, nil))
	if err != nil {
		t.Fatal(err)
	}
	swapped, err := keystore.ImportMaterial(keystore.RSA2048, rsaFrom(t, q, p, 65537, nil))
	if err != nil {
		t.Fatal(err)
	}
	var identities [][]byte
	for _, material := range [][]byte{want, other, swapped} {
		identity, err := keystore.Identity(keystore.RSA2048, material)
		if err != nil {
			t.Fatal(err)
		}
		identities = append(identities, identity)
	}
	if !bytes.Equal(identities[0], identities[1]) || !bytes.Equal(identities[0], identities[2]) {
		t.Error("the same key in another form is taken for another key")
	}
	bigE := rsaFrom(t, p, q, 1<<31-1, nil)
	if _, err := keystore.ImportMaterial(keystore.RSA2048, bigE); err != nil {
		t.Errorf("a large public exponent: %v", err)
	}

	plus := func(n *big.Int, d int64) *big.Int { return new(big.Int).Add(n, big.NewInt(d)) }
	one := big.NewInt(1)
	a := odd(t, 1024, 65537, one)
	near := plus(a, 2)
	for new(big.Int).GCD(nil, nil, plus(near, -1), big.NewInt(65537)).Cmp(one) != 0 {
		near = plus(near, 2)
	}
	two := func(bits, otherBits int, e int64) []byte {
		n := odd(t, bits, e, one)
		return rsaFrom(t, n, odd(t, otherBits, e, n), e, nil)
	}
	for what, c := range map[string]struct {
		material []byte
		says     string
	}{
		"1024 bits":             {two(512, 512, 65537), "bits, not 2048"},
		"3072 bits":             {two(1536, 1536, 65537), "bits, not 2048"},
		"exponent 3":            {two(1024, 1024, 3), "public exponent"},
		"even exponent":         {rsaFrom(t, p, q, 65537, func(k *rsaPrivateKey) { k.E = 65538 }), "belong together"},
		"not primes":            {two(1024, 1024, 65537), "not prime"},
		"primes side by side":   {rsaFrom(t, a, near, 65537, nil), "belong together"},
		"primes of other sizes": {two(1100, 948, 65537), "same length"},
		"one prime twice":       {rsaFrom(t, p, p, 65537, nil), "belong together"},
		"another modulus":       {rsaFrom(t, p, q, 65537, func(k *rsaPrivateKey) { k.N = plus(k.N, 2) }), "belong together"},
		"another prime":         {rsaFrom(t, p, q, 65537, func(k *rsaPrivateKey) { k.P = plus(k.P, 2) }), "belong together"},
		"another exponent":      {rsaFrom(t, p, q, 65537, func(k *rsaPrivateKey) { k.D = plus(k.D, 2) }), "belong together"},
		"another CRT exponent":  {rsaFrom(t, p, q, 65537, func(k *rsaPrivateKey) { k.Dp = plus(k.Dp, 2) }), "belong together"},
		"another coefficient":   {rsaFrom(t, p, q, 65537, func(k *rsaPrivateKey) { k.Qinv = plus(k.Qinv, 1) }), "belong together"},
		"negative":              {rsaFrom(t, p, q, 65537, func(k *rsaPrivateKey) { k.D = new(big.Int).Neg(k.D) }), "belong together"},
		"no numbers":            {der(t, privateKeyInfo{Algorithm: algorithm{oidRSA, asn1.NullRawValue}, Key: der(t, struct{ A int }{0})}), "belong together"},
		"trailing bytes inside": {der(t, privateKeyInfo{Algorithm: algorithm{oidRSA, asn1.NullRawValue}, Key: append(x509.MarshalPKCS1PrivateKey(key), 0)}), "RFC 8017"},
		"PKCS #1 alone":         {x509.MarshalPKCS1PrivateKey(key), "PKCS #8"},
		"RSA-PSS's own type":    {der(t, privateKeyInfo{Algorithm: algorithm{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}}, Key: x509.MarshalPKCS1PrivateKey(key)}), "not an RSA key"},
	} {
		refusedMaterial(t, what, keystore.RSA2048, c.material, c.says)
	}
	refusedMaterial(t, "2048 bits as 4096", keystore.RSA4096, want, "2048 bits, not 4096")
	multi, err := rsa.GenerateMultiPrimeKey(rand.Reader, 3, 2048)
	if err != nil {
		t.Fatal(err)
	}
	refusedMaterial(t, "three primes", keystore.RSA2048,
		der(t, privateKeyInfo{Algorithm: algorithm{oidRSA, asn1.NullRawValue}, Key: x509.MarshalPKCS1PrivateKey(multi)}), "more than two primes")
}

func TestImportOfSecretKeys(t *testing.T) {
	for spec, sizes := range map[keystore.Spec][2]int{
		keystore.SymmetricDefault: {32, 32},
		keystore.HMAC224:          {28, 128},
		keystore.HMAC256:          {32, 128},
		keystore.HMAC384:          {48, 128},
		keystore.HMAC512:          {64, 128},
	} {
		for n := range 140 {
			material := bytes.Repeat([]byte{7}, n)
			if n >= sizes[0] && n <= sizes[1] {
				sameMaterial(t, string(spec), spec, material, material)
			} else {
				refusedMaterial(t, string(spec), spec, material, "bytes")
			}
		}
	}
	for _, spec := range []keystore.Spec{keystore.MLDSA44, keystore.MLDSA65, keystore.MLDSA87, keystore.MLKEM512, keystore.MLKEM768, keystore.MLKEM1024, "SM2"} {
		if _, err := keystore.ImportMaterial(spec, make([]byte, 32)); !errors.Is(err, keystore.ErrUnsupported) || spec.Importable() {
			t.Errorf("%s: %v", spec, err)
		}
	}
}

// Every way in which a wrapped key can be wrong is one error, with one text.
func TestUnwrap(t *testing.T) {
	wrapping := newKey(t, keystore.RSA2048)
	public := wrapping.Public()
	material := bytes.Repeat([]byte{0x5a}, 37)
	aes := bytes.Repeat([]byte{3}, 32)
	encrypt := func(alg string, b []byte) []byte {
		t.Helper()
		out, err := public.Encrypt(alg, b)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	wrap := func(key []byte) []byte {
		t.Helper()
		w, err := subtle.NewKWP(key)
		if err != nil {
			t.Fatal(err)
		}
		out, err := w.Wrap(material)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	wrapped := map[string][]byte{
		keystore.OAEPSHA1:            encrypt(keystore.OAEPSHA1, material),
		keystore.OAEPSHA256:          encrypt(keystore.OAEPSHA256, material),
		keystore.RSAAESKeyWrapSHA1:   append(encrypt(keystore.OAEPSHA1, aes), wrap(aes)...),
		keystore.RSAAESKeyWrapSHA256: append(encrypt(keystore.OAEPSHA256, aes), wrap(aes)...),
	}
	for alg, w := range wrapped {
		got, err := keystore.Unwrap(t.Context(), wrapping, alg, w)
		if err != nil || !bytes.Equal(got, material) {
			t.Errorf("%s: %v", alg, err)
		}
		bad := [][]byte{nil, w[:len(w)-1], append(bytes.Clone(w), 0), make([]byte, len(w)), w[:len(w)/2]}
		for i := 0; i < len(w); i += 1 + len(w)/8 {
			bad = append(bad, flip(w, i))
		}
		bad = append(bad, flip(w, len(w)-1))
		for other, o := range wrapped {
			if other != alg {
				bad = append(bad, o)
			}
		}
		if strings.HasPrefix(alg, "RSA_AES") {
			oaep := map[string]string{keystore.RSAAESKeyWrapSHA1: keystore.OAEPSHA1, keystore.RSAAESKeyWrapSHA256: keystore.OAEPSHA256}[alg]
			bad = append(bad,
				append(encrypt(oaep, bytes.Repeat([]byte{4}, 32)), wrap(aes)...), // the attacker's own AES key
				append(encrypt(oaep, make([]byte, 24)), wrap(aes)...),
				append(encrypt(oaep, make([]byte, 31)), wrap(aes)...),
				encrypt(oaep, aes))
		}
		for i, b := range bad {
			got, err := keystore.Unwrap(t.Context(), wrapping, alg, b)
			if !errors.Is(err, keystore.ErrInvalidCiphertext) || err.Error() != keystore.ErrInvalidCiphertext.Error() || got != nil {
				t.Errorf("%s, %d: %v", alg, i, err)
			}
		}
	}
	for _, alg := range []string{"RSAES_PKCS1_V1_5", "SM2PKE", ""} {
		if _, err := keystore.Unwrap(t.Context(), wrapping, alg, wrapped[keystore.OAEPSHA1]); !errors.Is(err, keystore.ErrUnsupported) {
			t.Errorf("%s: %v", alg, err)
		}
	}
}

func flip(b []byte, i int) []byte {
	c := bytes.Clone(b)
	c[i] ^= 1
	return c
}
