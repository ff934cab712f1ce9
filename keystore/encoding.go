package keystore

import (
	"encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Object identifiers of the key types: RFC 3279, RFC 5480, SEC 2, RFC 8410, and
// for the post-quantum keys RFC 9881 (ML-DSA) and RFC 9935 (ML-KEM), which use
// NIST's.
var (
	oidRSA         = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidECPublicKey = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidSecp256k1   = asn1.ObjectIdentifier{1, 3, 132, 0, 10}
	oidEd25519     = asn1.ObjectIdentifier{1, 3, 101, 112}

	oidsECC = map[Spec]asn1.ObjectIdentifier{
		P256: {1, 2, 840, 10045, 3, 1, 7},
		P384: {1, 3, 132, 0, 34},
		P521: {1, 3, 132, 0, 35},
	}
	oidsMLDSA = map[Spec]asn1.ObjectIdentifier{
		MLDSA44: {2, 16, 840, 1, 101, 3, 4, 3, 17},
		MLDSA65: {2, 16, 840, 1, 101, 3, 4, 3, 18},
		MLDSA87: {2, 16, 840, 1, 101, 3, 4, 3, 19},
	}
	oidsMLKEM = map[Spec]asn1.ObjectIdentifier{
		MLKEM512:  {2, 16, 840, 1, 101, 3, 4, 4, 1},
		MLKEM768:  {2, 16, 840, 1, 101, 3, 4, 4, 2},
		MLKEM1024: {2, 16, 840, 1, 101, 3, 4, 4, 3},
	}
)

// keyInfo is a parsed SubjectPublicKeyInfo or PKCS #8 PrivateKeyInfo.
type keyInfo struct {
	algorithm  asn1.ObjectIdentifier
	curve      asn1.ObjectIdentifier // where the parameters are one OID
	parameters bool                  // whether there are any
	key        []byte                // aliases the input
}

// readAlgorithm reads an AlgorithmIdentifier.
func (k *keyInfo) readAlgorithm(s *cryptobyte.String) bool {
	var algorithm cryptobyte.String
	if !s.ReadASN1(&algorithm, cbasn1.SEQUENCE) || !algorithm.ReadASN1ObjectIdentifier(&k.algorithm) {
		return false
	}
	k.parameters = !algorithm.Empty()
	if algorithm.PeekASN1Tag(cbasn1.OBJECT_IDENTIFIER) {
		return algorithm.ReadASN1ObjectIdentifier(&k.curve) && algorithm.Empty()
	}
	return true
}

func addAlgorithm(b *cryptobyte.Builder, algorithm, curve asn1.ObjectIdentifier) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(algorithm)
		if curve != nil {
			b.AddASN1ObjectIdentifier(curve)
		}
	})
}

func parseSPKI(der []byte) (keyInfo, bool) {
	var info keyInfo
	var outer cryptobyte.String
	input := cryptobyte.String(der)
	ok := input.ReadASN1(&outer, cbasn1.SEQUENCE) && input.Empty() &&
		info.readAlgorithm(&outer) &&
		outer.ReadASN1BitStringAsBytes(&info.key) && outer.Empty()
	return info, ok
}

func marshalSPKI(algorithm, curve asn1.ObjectIdentifier, key []byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		addAlgorithm(b, algorithm, curve)
		b.AddASN1BitString(key)
	})
	return b.BytesOrPanic()
}

// parsePKCS8 parses version 0 of a PrivateKeyInfo (RFC 5958) without
// attributes: what marshalPKCS8 writes.
func parsePKCS8(der []byte) (keyInfo, bool) {
	var info keyInfo
	var outer, key cryptobyte.String
	var version int
	input := cryptobyte.String(der)
	ok := input.ReadASN1(&outer, cbasn1.SEQUENCE) && input.Empty() &&
		outer.ReadASN1Integer(&version) && version == 0 &&
		info.readAlgorithm(&outer) &&
		outer.ReadASN1(&key, cbasn1.OCTET_STRING) && outer.Empty()
	info.key = key
	return info, ok
}

func marshalPKCS8(algorithm, curve asn1.ObjectIdentifier, key func(*cryptobyte.Builder)) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		addAlgorithm(b, algorithm, curve)
		b.AddASN1(cbasn1.OCTET_STRING, key)
	})
	return b.BytesOrPanic()
}

// seedTag marks the seed form of ML-DSA and ML-KEM private keys:
// [0] IMPLICIT OCTET STRING (RFC 9881 section 6, RFC 9935 section 6).
var seedTag = cbasn1.Tag(0).ContextSpecific()

func marshalSeed(algorithm asn1.ObjectIdentifier, seed []byte) []byte {
	return marshalPKCS8(algorithm, nil, func(b *cryptobyte.Builder) {
		b.AddASN1(seedTag, func(b *cryptobyte.Builder) { b.AddBytes(seed) })
	})
}

// parseSeed returns the seed of size bytes in the PKCS #8 form of marshalSeed.
func parseSeed(der []byte, algorithm asn1.ObjectIdentifier, size int) ([]byte, bool) {
	info, ok := parsePKCS8(der)
	if !ok || !info.algorithm.Equal(algorithm) || info.parameters {
		return nil, false
	}
	var seed cryptobyte.String
	key := cryptobyte.String(info.key)
	if !key.ReadASN1(&seed, seedTag) || !key.Empty() || len(seed) != size {
		return nil, false
	}
	return seed, true
}
