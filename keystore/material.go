package keystore

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// errMaterial says nothing about the bytes on purpose.
var errMaterial = errors.New("not key material of this spec")

// GenerateMaterial makes new key material of spec: PKCS #8 DER for asymmetric
// keys (ML-DSA and ML-KEM in the seed form), random bytes for symmetric and
// HMAC keys. An RSA key takes from tens of milliseconds to seconds. The caller
// wipes the material.
func GenerateMaterial(spec Spec) ([]byte, error) {
	size := specs[spec].size
	switch spec {
	case RSA2048, RSA3072, RSA4096:
		key, err := rsa.GenerateKey(rand.Reader, size)
		if err != nil {
			return nil, fmt.Errorf("generating an %s key: %w", spec, err)
		}
		defer wipeRSA(key)
		return x509.MarshalPKCS8PrivateKey(key)
	case P256, P384, P521:
		key, err := ecdsa.GenerateKey(curveOf(spec), rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("generating an %s key: %w", spec, err)
		}
		return x509.MarshalPKCS8PrivateKey(key)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("generating an %s key: %w", spec, err)
		}
		defer clear(key)
		return x509.MarshalPKCS8PrivateKey(key)
	case Secp256k1:
		return generateSecp256k1()
	}
	if size == 0 {
		return nil, fmt.Errorf("key spec %q: %w", spec, ErrUnsupported)
	}
	material := make([]byte, size)
	if _, err := rand.Read(material); err != nil {
		return nil, fmt.Errorf("generating an %s key: %w", spec, err)
	}
	if oid, ok := seedOID(spec); ok {
		defer clear(material)
		return marshalSeed(oid, material), nil
	}
	return material, nil
}

func curveOf(spec Spec) elliptic.Curve {
	switch spec {
	case P256:
		return elliptic.P256()
	case P384:
		return elliptic.P384()
	default:
		return elliptic.P521()
	}
}

// NewKey parses material of spec, in the form of [GenerateMaterial], into a key
// that works in this process' memory. The key keeps no reference to material:
// the caller wipes it.
func NewKey(spec Spec, material []byte) (Key, error) {
	var key Key
	var err error
	switch spec {
	case RSA2048, RSA3072, RSA4096, P256, P384, P521, Ed25519:
		key, err = newStandardKey(spec, material)
	case Secp256k1:
		key, err = newSecp256k1Key(material)
	case MLDSA44, MLDSA65, MLDSA87:
		key, err = newMLDSAKey(spec, material)
	case MLKEM512, MLKEM768, MLKEM1024:
		key, err = newMLKEMKey(spec, material)
	case HMAC224, HMAC256, HMAC384, HMAC512:
		key, err = newHMACKey(spec, material)
	case SymmetricDefault:
		key, err = newSymmetricKey(material)
	default:
		return nil, fmt.Errorf("key spec %q: %w", spec, ErrUnsupported)
	}
	if err != nil {
		return nil, fmt.Errorf("parsing %s key material: %w", spec, err)
	}
	return key, nil
}

// newStandardKey makes a key of a type whose PKCS #8 form the standard library
// reads.
func newStandardKey(spec Spec, material []byte) (Key, error) {
	if der := cryptobyte.String(material); !der.SkipASN1(cbasn1.SEQUENCE) || !der.Empty() {
		return nil, errMaterial // which the parser below would take
	}
	parsed, err := x509.ParsePKCS8PrivateKey(material)
	if err != nil {
		return nil, errMaterial
	}
	signer, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, errMaterial
	}
	public, err := newStandardPublic(signer.Public())
	if err != nil || public.spec != spec {
		return nil, errMaterial
	}
	b := base{spec: spec, public: public}
	switch k := parsed.(type) {
	case *rsa.PrivateKey:
		return &rsaKey{base: b, key: k}, nil
	case *ecdsa.PrivateKey:
		return &eccKey{base: b, key: k}, nil
	case ed25519.PrivateKey:
		return &ed25519Key{base: b, key: k}, nil
	}
	return nil, errMaterial
}

// parseStandardPublic parses a key type that the standard library reads.
func parseStandardPublic(der []byte) (*PublicKey, error) {
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidPublicKey, err)
	}
	return newStandardPublic(key)
}

func newStandardPublic(key crypto.PublicKey) (*PublicKey, error) {
	p := &PublicKey{}
	switch k := key.(type) {
	case *rsa.PublicKey:
		// A copy, so that the public key does not keep the private one alive.
		p.spec, p.half = Spec(fmt.Sprintf("RSA_%d", k.N.BitLen())), &rsaPublic{key: &rsa.PublicKey{N: k.N, E: k.E}}
	case *ecdsa.PublicKey:
		alone := *k
		p.spec, p.half = eccSpec(k.Curve), &eccPublic{key: &alone}
	case ed25519.PublicKey:
		p.spec, p.half = Ed25519, &ed25519Public{key: k}
	}
	if !p.spec.Known() {
		return nil, fmt.Errorf("%w: no key spec has this size or curve", ErrInvalidPublicKey)
	}
	var err error
	if p.spki, err = x509.MarshalPKIXPublicKey(key); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidPublicKey, err)
	}
	return p, nil
}

// base is what all keys in memory share: it refuses every operation that the
// key type does not define itself.
type base struct {
	spec   Spec
	public *PublicKey
}

func (b *base) refuse(usage, alg string) error {
	return fmt.Errorf("%s (%s) with key spec %s: %w", usage, alg, b.spec, ErrUnsupported)
}

func (b *base) Public() *PublicKey { return b.public }

func (b *base) Sign(_ context.Context, alg string, _ MessageType, _ []byte) ([]byte, error) {
	return nil, b.refuse(SignVerify, alg)
}

func (b *base) Encrypt(_ context.Context, alg string, _, _ []byte) ([]byte, error) {
	return nil, b.refuse(EncryptDecrypt, alg)
}

func (b *base) Decrypt(_ context.Context, alg string, _, _ []byte) ([]byte, error) {
	return nil, b.refuse(EncryptDecrypt, alg)
}

func (b *base) MAC(_ context.Context, alg string, _ []byte) ([]byte, error) {
	return nil, b.refuse(GenerateVerifyMAC, alg)
}

func (b *base) Derive(_ context.Context, alg string, _ *PublicKey) ([]byte, error) {
	return nil, b.refuse(KeyAgreement, alg)
}

func (b *base) Decapsulate(_ context.Context, alg string, _ []byte) ([]byte, error) {
	return nil, b.refuse(EncapsulateDecapsulate, alg)
}
