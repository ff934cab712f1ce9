package keystore

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"fmt"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// maxHMACKey is the longest HMAC key that AWS takes, in bytes.
const maxHMACKey = 128

// Importable reports whether keys of the spec may hold material that was made
// elsewhere. AWS takes no ML-DSA keys; for ML-KEM, of which it documents
// nothing, the same holds here.
func (s Spec) Importable() bool {
	_, post := seedOID(s)
	return s.Known() && !post
}

// ImportMaterial checks material that was made elsewhere, in any form that AWS
// takes, and returns it in the form of [GenerateMaterial], whatever form it came
// in: symmetric keys are 32 bytes, HMAC keys from the digest's length to 1024
// bits, private keys are PKCS #8 DER (RFC 5208 and 5958).
//
// A private key that is not of spec, whose parts contradict each other or that
// is known to be weak is ErrInvalidMaterial: RSA with more than two primes, with
// an exponent below 65537, with primes or a private exponent too close or too
// small (FIPS 186-5 section A.1.1); elliptic-curve keys with explicit parameters
// or a public point that is not the private key's. The error says what it is, and
// shows none of it. The caller wipes both.
func ImportMaterial(spec Spec, material []byte) ([]byte, error) {
	switch spec {
	case SymmetricDefault:
		if n := specs[spec].size; len(material) != n {
			return nil, fmt.Errorf("%w: a %s key has %d bytes, not %d", ErrInvalidMaterial, spec, n, len(material))
		}
		return bytes.Clone(material), nil
	case HMAC224, HMAC256, HMAC384, HMAC512:
		if n := specs[spec].size; len(material) < n || len(material) > maxHMACKey {
			return nil, fmt.Errorf("%w: an %s key has %d to %d bytes, not %d", ErrInvalidMaterial, spec, n, maxHMACKey, len(material))
		}
		return bytes.Clone(material), nil
	}
	if !spec.Importable() {
		return nil, fmt.Errorf("importing material of key spec %q: %w", spec, ErrUnsupported)
	}
	info, public, ok := parsePrivateKeyInfo(material)
	if !ok {
		return nil, fmt.Errorf("%w: not a DER PrivateKeyInfo (PKCS #8)", ErrInvalidMaterial)
	}
	switch spec {
	case RSA2048, RSA3072, RSA4096:
		return importRSA(spec, info)
	case Ed25519:
		return importEd25519(info, public)
	case Secp256k1:
		return importSecp256k1(info)
	}
	return importECC(spec, info)
}

// parsePrivateKeyInfo parses a PrivateKeyInfo with what parsePKCS8, which reads
// only our own, refuses: attributes, and the public key of version 1.
func parsePrivateKeyInfo(der []byte) (info keyInfo, public []byte, ok bool) {
	var outer, key, bits cryptobyte.String
	var version int
	var hasPublic bool
	input := cryptobyte.String(der)
	ok = input.ReadASN1(&outer, cbasn1.SEQUENCE) && input.Empty() &&
		outer.ReadASN1Integer(&version) && (version == 0 || version == 1) &&
		info.readAlgorithm(&outer) &&
		outer.ReadASN1(&key, cbasn1.OCTET_STRING) &&
		outer.SkipOptionalASN1(cbasn1.Tag(0).ContextSpecific().Constructed()) &&
		outer.ReadOptionalASN1(&bits, &hasPublic, cbasn1.Tag(1).ContextSpecific()) && outer.Empty()
	if hasPublic {
		ok = ok && len(bits) > 1 && bits[0] == 0 // IMPLICIT BIT STRING, without unused bits
		public = bits[min(1, len(bits)):]
	}
	info.key = key
	return info, public, ok
}

func importRSA(spec Spec, info keyInfo) ([]byte, error) {
	if !info.algorithm.Equal(oidRSA) || info.curve != nil {
		return nil, fmt.Errorf("%w: not an RSA key", ErrInvalidMaterial)
	}
	if der := cryptobyte.String(info.key); !der.SkipASN1(cbasn1.SEQUENCE) || !der.Empty() {
		return nil, fmt.Errorf("%w: not an RSA private key (RFC 8017)", ErrInvalidMaterial)
	}
	// Checks that the primes make the modulus, that the exponents, the
	// Chinese-remainder ones too, belong together, and that neither the difference
	// of the primes nor the private exponent is too small.
	key, err := x509.ParsePKCS1PrivateKey(info.key)
	if err != nil {
		return nil, fmt.Errorf("%w: not an RSA private key (RFC 8017), or its numbers do not belong together", ErrInvalidMaterial)
	}
	defer wipeRSA(key)
	if err := checkRSA(key, specs[spec].size); err != nil {
		return nil, err
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

func checkRSA(key *rsa.PrivateKey, bits int) error {
	refuse := func(why string) error { return fmt.Errorf("%w: %s", ErrInvalidMaterial, why) }
	switch {
	case key.N.BitLen() != bits:
		return refuse(fmt.Sprintf("the modulus has %d bits, not %d", key.N.BitLen(), bits))
	case len(key.Primes) != 2:
		return refuse("the key has more than two primes")
	case key.E < 65537 || key.E%2 == 0:
		return refuse("the public exponent is even or smaller than 65537")
	}
	p, q := key.Primes[0], key.Primes[1]
	switch {
	case p.BitLen() != bits/2 || q.BitLen() != bits/2:
		return refuse("the primes are not of the same length")
	case !p.ProbablyPrime(1) || !q.ProbablyPrime(1):
		return refuse("its primes are not prime")
	}
	return nil
}

func importECC(spec Spec, info keyInfo) ([]byte, error) {
	curve := curveOf(spec)
	scalar, public, err := parseECPrivateKey(info, oidsECC[spec], specs[spec].size)
	if err != nil {
		return nil, err
	}
	defer clear(scalar)
	key, err := ecdsa.ParseRawPrivateKey(curve, scalar)
	if err != nil {
		return nil, fmt.Errorf("%w: the private number is not one of the curve", ErrInvalidMaterial)
	}
	defer wipeInt(key.D) //nolint:staticcheck // there is no other way to wipe it
	point, err := key.PublicKey.Bytes()
	if err != nil || !samePoint(public, point) {
		return nil, errPoint
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

func importSecp256k1(info keyInfo) ([]byte, error) {
	scalar, public, err := parseECPrivateKey(info, oidSecp256k1, secp256k1.PrivKeyBytesLen)
	if err != nil {
		return nil, err
	}
	defer clear(scalar)
	var d secp256k1.ModNScalar
	defer d.Zero()
	if overflow := d.SetByteSlice(scalar); overflow || d.IsZero() {
		return nil, fmt.Errorf("%w: the private number is not one of the curve", ErrInvalidMaterial)
	}
	key := secp256k1.NewPrivateKey(&d)
	defer key.Zero()
	if !samePoint(public, key.PubKey().SerializeUncompressed()) {
		return nil, errPoint
	}
	return marshalSecp256k1(key), nil
}

func importEd25519(info keyInfo, public []byte) ([]byte, error) {
	var seed cryptobyte.String
	der := cryptobyte.String(info.key)
	if !info.algorithm.Equal(oidEd25519) || info.parameters ||
		!der.ReadASN1(&seed, cbasn1.OCTET_STRING) || !der.Empty() || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("%w: not an Ed25519 private key (RFC 8410)", ErrInvalidMaterial)
	}
	key := ed25519.NewKeyFromSeed(seed)
	defer clear(key)
	if public != nil && !bytes.Equal(public, key[ed25519.SeedSize:]) {
		return nil, errPoint
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

var errPoint = fmt.Errorf("%w: the public key in it is not the private key's", ErrInvalidMaterial)

// parseECPrivateKey reads the ECPrivateKey (RFC 5915) in info: the private
// number, a copy of size bytes, and the public point, nil where there is none.
func parseECPrivateKey(info keyInfo, curve asn1.ObjectIdentifier, size int) (scalar, public []byte, err error) {
	if !info.algorithm.Equal(oidECPublicKey) || !info.curve.Equal(curve) {
		return nil, nil, fmt.Errorf("%w: not a key of the named curve %s", ErrInvalidMaterial, curve)
	}
	var inner, number, parameters, point cryptobyte.String
	var version int
	var hasParameters, hasPoint bool
	der := cryptobyte.String(info.key)
	ok := der.ReadASN1(&inner, cbasn1.SEQUENCE) && der.Empty() &&
		inner.ReadASN1Integer(&version) && version == 1 &&
		inner.ReadASN1(&number, cbasn1.OCTET_STRING) &&
		inner.ReadOptionalASN1(&parameters, &hasParameters, parametersTag) &&
		inner.ReadOptionalASN1(&point, &hasPoint, publicTag) && inner.Empty()
	if ok && hasParameters {
		var again asn1.ObjectIdentifier
		ok = parameters.ReadASN1ObjectIdentifier(&again) && parameters.Empty() && again.Equal(curve)
	}
	if ok && hasPoint {
		ok = point.ReadASN1BitStringAsBytes(&public) && point.Empty() && len(public) > 0
	}
	if !ok {
		return nil, nil, fmt.Errorf("%w: not an elliptic-curve private key (RFC 5915) of the named curve %s", ErrInvalidMaterial, curve)
	}
	// Some write the number with a zero in front, some without the zeros it has.
	digits := bytes.TrimLeft(number, "\x00")
	if len(digits) > size {
		return nil, nil, fmt.Errorf("%w: the private number is not one of the curve", ErrInvalidMaterial)
	}
	scalar = make([]byte, size)
	copy(scalar[size-len(digits):], digits)
	return scalar, public, nil
}

// samePoint reports whether given, a point in any form of SEC 1 section 2.3.3 or
// nil where none was given, is the point that uncompressed writes out.
func samePoint(given, uncompressed []byte) bool {
	if given == nil {
		return true
	}
	size := len(uncompressed) / 2
	odd := uncompressed[len(uncompressed)-1] & 1
	switch given[0] {
	case 4:
		return bytes.Equal(given, uncompressed)
	case 2 | odd: // compressed
		return bytes.Equal(given[1:], uncompressed[1:1+size])
	case 6 | odd: // hybrid
		return bytes.Equal(given[1:], uncompressed[1:])
	}
	return false
}

// Identity returns what tells one material of spec from another: the public half
// of a private key, which is the same however the private one was written, and
// the bytes of all others. material has the form of [GenerateMaterial]. The
// caller wipes the result.
func Identity(spec Spec, material []byte) ([]byte, error) {
	if spec.Kind() != KindAsymmetric {
		return bytes.Clone(material), nil
	}
	key, err := NewKey(spec, material)
	if err != nil {
		return nil, err
	}
	defer key.Close()
	return bytes.Clone(key.Public().SPKI()), nil
}
