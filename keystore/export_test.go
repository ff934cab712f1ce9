package keystore

import (
	"crypto/sha3"
	"encoding/binary"
	"math/big"
)

// SeedMaterial is the material of an ML-DSA or ML-KEM key with a known seed.
func SeedMaterial(spec Spec, seed []byte) []byte {
	oid, _ := seedOID(spec)
	return marshalSeed(oid, seed)
}

// EncapsulationSPKI puts the encoding of an ML-KEM public key, right or wrong,
// into a SubjectPublicKeyInfo.
func EncapsulationSPKI(spec Spec, encoded []byte) []byte {
	return marshalSPKI(oidsMLKEM[spec], nil, encoded)
}

// OpenGCM opens nonce | ciphertext | tag with the cipher of SYMMETRIC_DEFAULT
// messages, under a given message key.
func OpenGCM(key, sealed, aad []byte) ([]byte, error) {
	gcm, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	return gcm.Open(nil, nil, sealed, aad)
}

// VerifyAnyLength verifies Ed25519 or ML-DSA on messages of any length, which the
// API limits.
func VerifyAnyLength(p *PublicKey, alg string, message, sig []byte) bool {
	if message == nil {
		message = []byte{}
	}
	return p.half.verify(alg, &Message{raw: message}, sig)
}

// Mu computes μ as the signer's side does (FIPS 204 algorithm 2).
func Mu(publicKey, message, context []byte) []byte {
	tr := sha3.SumSHAKE256(publicKey, 64)
	input := append(tr, 0, byte(len(context)))
	return sha3.SumSHAKE256(append(append(input, context...), message...), 64)
}

// Secret returns a function that reads the private number or secret bytes of a
// key, as they are in memory at the time of the call.
func Secret(key Key) func() []byte {
	words := func(n *big.Int) func() []byte {
		bits := n.Bits() // shares the memory
		return func() []byte {
			var b []byte
			for _, w := range bits {
				b = binary.BigEndian.AppendUint64(b, uint64(w))
			}
			return b
		}
	}
	switch k := key.(type) {
	case *symmetricKey:
		return func() []byte { return k.secret }
	case *hmacKey:
		return func() []byte { return k.secret }
	case *ed25519Key:
		return func() []byte { return k.key }
	case *secp256k1Key:
		return func() []byte { return k.key.Serialize() }
	case *eccKey:
		return words(k.key.D) // what Close has to wipe
	case *rsaKey:
		return words(k.key.Primes[0])
	}
	return nil
}

// ZAccepted reports whether a packed polynomial of z with all coefficients v
// passes the bound of FIPS 204 algorithm 8.
func ZAccepted(spec Spec, v uint32) bool {
	s := mldsaSets[spec]
	packed := make([]byte, 32*s.zBits)
	for i := range mldsaN {
		for bit := range s.zBits {
			at := i*s.zBits + bit
			packed[at/8] |= byte(v>>bit&1) << (at % 8)
		}
	}
	return s.unpackZ(new(polynomial), packed)
}

// HintsAccepted reports whether packed is an encoding of h.
func HintsAccepted(spec Spec, packed []byte) bool {
	_, ok := mldsaSets[spec].unpackHints(packed)
	return ok
}

// UseHint is FIPS 204 algorithm 40.
func UseHint(spec Spec, r uint32, hint bool) uint32 {
	s := mldsaSets[spec]
	return s.useHint(r, hint, (mldsaQ-1)/(2*s.gamma2))
}
