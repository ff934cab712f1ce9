package keystore

import (
	"fmt"
)

// PublicKey is the public half of an asymmetric key of any spec. It is
// immutable and safe for concurrent use.
type PublicKey struct {
	spec Spec
	spki []byte
	half publicHalf
}

// publicHalf is the algorithm-specific part of a public key. A half that lacks
// an operation is never asked for it: the spec table is checked first.
type publicHalf interface {
	verify(alg string, m *Message, sig []byte) bool
	encrypt(alg string, plaintext []byte) ([]byte, error)
	encapsulate() (shared, ciphertext []byte)
}

// noHalf refuses all that a half does not define itself.
type noHalf struct{}

func (noHalf) verify(string, *Message, []byte) bool     { return false }
func (noHalf) encrypt(string, []byte) ([]byte, error)   { return nil, ErrUnsupported }
func (noHalf) encapsulate() (shared, ciphertext []byte) { return nil, nil }

// ParsePublicKey parses a DER SubjectPublicKeyInfo (RFC 5280) of any spec in
// the table, as GetPublicKey returns it and DeriveSharedSecret takes it.
// Elliptic-curve points must be uncompressed, on the curve and not at infinity;
// RSA moduli must have exactly 2048, 3072 or 4096 bits; ML-KEM keys must pass
// FIPS 203's modulus check. Anything else, trailing bytes included, is
// ErrInvalidPublicKey.
func ParsePublicKey(spkiDER []byte) (*PublicKey, error) {
	info, ok := parseSPKI(spkiDER)
	if !ok {
		return nil, fmt.Errorf("%w: not a DER SubjectPublicKeyInfo", ErrInvalidPublicKey)
	}
	switch {
	case info.algorithm.Equal(oidECPublicKey) && info.curve.Equal(oidSecp256k1):
		return parseSecp256k1Public(info.key)
	case info.algorithm.Equal(oidECPublicKey), info.algorithm.Equal(oidRSA), info.algorithm.Equal(oidEd25519):
		return parseStandardPublic(spkiDER)
	}
	if info.parameters {
		return nil, fmt.Errorf("%w: algorithm parameters where there must be none", ErrInvalidPublicKey)
	}
	for spec, oid := range oidsMLDSA {
		if info.algorithm.Equal(oid) {
			return newMLDSAPublic(spec, info.key)
		}
	}
	for spec, oid := range oidsMLKEM {
		if info.algorithm.Equal(oid) {
			return newMLKEMPublic(spec, info.key)
		}
	}
	return nil, fmt.Errorf("%w: unknown algorithm %s", ErrInvalidPublicKey, info.algorithm)
}

// Spec returns the spec of the key.
func (p *PublicKey) Spec() Spec { return p.spec }

// SPKI returns the DER SubjectPublicKeyInfo. The slice is shared: do not change
// it.
func (p *PublicKey) SPKI() []byte { return p.spki }

// Verify checks a signature as AWS KMS Verify does. ErrInvalidSignature: it is
// not one of message by this key; other errors are those of
// [Spec.CheckMessage].
func (p *PublicKey) Verify(alg string, mt MessageType, message, signature []byte) error {
	m, err := p.spec.CheckMessage(alg, mt, message)
	if err != nil {
		return err
	}
	if !p.half.verify(alg, &m, signature) {
		return ErrInvalidSignature
	}
	return nil
}

// Encrypt encrypts up to [Spec.MaxPlaintext] bytes to an RSA key.
func (p *PublicKey) Encrypt(alg string, plaintext []byte) ([]byte, error) {
	if err := p.spec.checkPlaintext(alg, plaintext); err != nil {
		return nil, err
	}
	return p.half.encrypt(alg, plaintext)
}

// Encapsulate makes a 32-byte shared secret and the ML-KEM ciphertext that
// carries it to the holder of the private half.
func (p *PublicKey) Encapsulate(alg string) (shared, ciphertext []byte, err error) {
	if err := p.spec.Check(EncapsulateDecapsulate, alg); err != nil {
		return nil, nil, err
	}
	shared, ciphertext = p.half.encapsulate()
	return shared, ciphertext, nil
}
