package keystore_test

import (
	"testing"

	"github.com/keyturn/keyturn/keystore"
)

func BenchmarkSign(b *testing.B) {
	for spec, alg := range map[keystore.Spec]string{
		keystore.P256:      keystore.ECDSASHA256,
		keystore.P384:      keystore.ECDSASHA384,
		keystore.RSA2048:   keystore.PSSSHA256,
		keystore.Ed25519:   keystore.Ed25519Pure,
		keystore.Secp256k1: keystore.ECDSASHA256,
		keystore.MLDSA65:   keystore.MLDSA,
	} {
		b.Run(string(spec), func(b *testing.B) {
			key, message := newKey(b, spec), make([]byte, 64)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := key.Sign(b.Context(), alg, keystore.Raw, message); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What opening a cold key costs, after it has been unsealed.
func BenchmarkNewKey(b *testing.B) {
	for _, spec := range keystore.Specs() {
		b.Run(string(spec), func(b *testing.B) {
			material, err := keystore.GenerateMaterial(spec)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := keystore.NewKey(spec, material); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	for spec, alg := range map[keystore.Spec]string{keystore.P256: keystore.ECDSASHA256, keystore.MLDSA65: keystore.MLDSA} {
		for _, mt := range keystore.MessageTypes(alg) {
			b.Run(string(spec)+"/"+string(mt), func(b *testing.B) {
				key, message := newKey(b, spec), make([]byte, 64)
				if mt == keystore.Digest {
					message = message[:32]
				}
				sig, err := key.Sign(b.Context(), alg, mt, message)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				for b.Loop() {
					if err := key.Public().Verify(alg, mt, message, sig); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkMAC(b *testing.B) {
	key, message := newKey(b, keystore.HMAC256), make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := key.MAC(b.Context(), keystore.HMACSHA256, message); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncrypt(b *testing.B) {
	key, plaintext, aad := newKey(b, keystore.SymmetricDefault), make([]byte, 64), make([]byte, 32)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := key.Encrypt(b.Context(), keystore.Symmetric, plaintext, aad); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecrypt(b *testing.B) {
	key, plaintext, aad := newKey(b, keystore.SymmetricDefault), make([]byte, 64), make([]byte, 32)
	ciphertext, err := key.Encrypt(b.Context(), keystore.Symmetric, plaintext, aad)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := key.Decrypt(b.Context(), keystore.Symmetric, ciphertext, aad); err != nil {
			b.Fatal(err)
		}
	}
}
