package keystore_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/keyturn/keyturn/keystore"
)

// Whatever parses is written back in one form, which parses again to the same.
func FuzzParsePublicKey(f *testing.F) {
	for _, spec := range keystore.Specs() {
		if spec.Kind() == keystore.KindAsymmetric && spec != keystore.RSA3072 && spec != keystore.RSA4096 {
			f.Add(newKey(f, spec).Public().SPKI())
		}
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		p, err := keystore.ParsePublicKey(der)
		if err != nil {
			if !errors.Is(err, keystore.ErrInvalidPublicKey) || p != nil {
				t.Fatalf("%v, %v", p, err)
			}
			return
		}
		if !p.Spec().Known() {
			t.Fatalf("spec %q", p.Spec())
		}
		again, err := keystore.ParsePublicKey(p.SPKI())
		if err != nil || again.Spec() != p.Spec() || !bytes.Equal(again.SPKI(), p.SPKI()) {
			t.Fatalf("%x is written back as %x: %v", der, p.SPKI(), err)
		}
		for _, alg := range p.Spec().SigningAlgorithms() {
			mt := keystore.MessageTypes(alg)[0]
			if err := p.Verify(alg, mt, make([]byte, 64), der); err == nil {
				t.Fatalf("%s: %x verifies", alg, der)
			}
		}
	})
}

// Nothing decrypts but what was encrypted, with the associated data it had.
func FuzzDecrypt(f *testing.F) {
	key := newKey(f, keystore.SymmetricDefault)
	aad := []byte("header")
	good, err := key.Encrypt(f.Context(), keystore.Symmetric, []byte("plaintext"), aad)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, aad)
	f.Add(good[:43], aad)
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, ciphertext, associated []byte) {
		plaintext, err := key.Decrypt(t.Context(), keystore.Symmetric, ciphertext, associated)
		if bytes.Equal(ciphertext, good) && bytes.Equal(associated, aad) {
			if err != nil || string(plaintext) != "plaintext" {
				t.Fatalf("%q, %v", plaintext, err)
			}
			return
		}
		if !errors.Is(err, keystore.ErrInvalidCiphertext) || plaintext != nil {
			t.Fatalf("%x decrypts to %q: %v", ciphertext, plaintext, err)
		}
	})
}

// What is imported has one form, which is a key and stays as it is.
func FuzzImportMaterial(f *testing.F) {
	specs := keystore.Specs()
	for i, spec := range specs {
		if spec == keystore.RSA3072 || spec == keystore.RSA4096 {
			continue
		}
		material, err := keystore.GenerateMaterial(spec)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), material)
	}
	f.Fuzz(func(t *testing.T, which uint8, material []byte) {
		spec := specs[int(which)%len(specs)]
		got, err := keystore.ImportMaterial(spec, material)
		if err != nil {
			if got != nil || errors.Is(err, keystore.ErrUnsupported) == spec.Importable() || errors.Is(err, keystore.ErrInvalidMaterial) != spec.Importable() {
				t.Fatalf("%s: %v, %v", spec, got, err)
			}
			return
		}
		key, err := keystore.NewKey(spec, got)
		if err != nil {
			t.Fatalf("%s: %x is no key: %v", spec, material, err)
		}
		key.Close()
		if again, err := keystore.ImportMaterial(spec, got); err != nil || !bytes.Equal(again, got) {
			t.Fatalf("%s: %x is written back differently: %v", spec, material, err)
		}
	})
}

// ML-DSA signatures of an external mu are parsed by our own code.
func FuzzVerifyMu(f *testing.F) {
	specs := []keystore.Spec{keystore.MLDSA44, keystore.MLDSA65, keystore.MLDSA87}
	mu := bytes.Repeat([]byte{3}, 64)
	var keys []keystore.Key
	for i, spec := range specs {
		key, err := keystore.NewKey(spec, keystore.SeedMaterial(spec, make([]byte, 32)))
		if err != nil {
			f.Fatal(err)
		}
		sig, err := key.Sign(f.Context(), keystore.MLDSA, keystore.ExternalMu, mu)
		if err != nil {
			f.Fatal(err)
		}
		keys = append(keys, key)
		f.Add(uint8(i), sig)
	}
	f.Fuzz(func(t *testing.T, which uint8, sig []byte) {
		public := keys[int(which)%len(keys)].Public()
		if public.Verify(keystore.MLDSA, keystore.ExternalMu, mu, sig) != nil {
			return
		}
		// A forgery is out of reach; what verifies is the seed. One bit of it
		// changed must not verify, wherever it is.
		for i := 0; i < len(sig); i += 97 {
			sig[i] ^= 0x10
			if public.Verify(keystore.MLDSA, keystore.ExternalMu, mu, sig) == nil {
				t.Fatalf("verifies with byte %d changed", i)
			}
			sig[i] ^= 0x10
		}
	})
}
