// Package keystoretest is the contract that every key store keeps: one suite,
// run by each backend's own tests. It holds a backend to the comments of
// keystore.Backend and keystore.Key, for every spec, usage, algorithm and
// message type in the spec table, and for what an attacker would try: altered
// and moved handles, altered ciphertexts and signatures, other associated data,
// algorithms and lengths that do not belong to the key.
package keystoretest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/keyturn/keyturn/keystore"
)

// Harness is what the suite needs to know of a backend.
type Harness struct {
	// Open opens the backend, on the same storage each time. Whatever an earlier
	// call returned has been forgotten, as after a restart.
	Open func(t *testing.T) keystore.Backend

	// Specs are those the backend can hold; nil means every one.
	Specs []keystore.Spec
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	specs := h.Specs
	if specs == nil {
		specs = keystore.Specs()
	}
	s := &suite{backend: h.Open(t), held: make(map[keystore.Spec]*held)}
	for _, spec := range specs {
		s.held[spec] = s.make(t, spec, "key-of-"+string(spec))
	}
	for _, spec := range specs {
		t.Run(string(spec), func(t *testing.T) { s.testSpec(t, s.held[spec]) })
	}
	t.Run("unknown spec", func(t *testing.T) {
		_, err := s.backend.Generate(t.Context(), keystore.Ref{Account: "111122223333", KeyID: "k", MaterialID: "m"}, "NO_SUCH_SPEC")
		wantErr(t, err, keystore.ErrUnsupported)
		_, _, err = s.backend.GeneratePair(t.Context(), "NO_SUCH_SPEC")
		wantErr(t, err, keystore.ErrUnsupported)
	})
	t.Run("restart", func(t *testing.T) { s.testRestart(t, h.Open(t)) })
	t.Run("identity after a restart", func(t *testing.T) { s.testIdentities(t, h.Open(t)) })
}

// long reports whether making a key of the spec takes seconds and using it
// milliseconds. Nothing but the length differs from RSA_2048, so what is tested
// many times there is tested a few times here.
func long(spec keystore.Spec) bool { return spec == keystore.RSA3072 || spec == keystore.RSA4096 }

// held is one key of the suite.
type held struct {
	spec   keystore.Spec
	ref    keystore.Ref
	handle []byte
	key    keystore.Key
}

type suite struct {
	backend  keystore.Backend
	held     map[keystore.Spec]*held
	imported []imported
}

func (s *suite) make(t *testing.T, spec keystore.Spec, id string) *held {
	t.Helper()
	ref := keystore.Ref{Account: "111122223333", KeyID: id, MaterialID: "material-1"}
	handle, err := s.backend.Generate(t.Context(), ref, spec)
	if err != nil {
		t.Fatalf("Generate(%s): %v", spec, err)
	}
	key, err := s.backend.Open(t.Context(), ref, spec, handle)
	if err != nil {
		t.Fatalf("Open(%s): %v", spec, err)
	}
	return &held{spec: spec, ref: ref, handle: handle, key: key}
}

func (s *suite) testSpec(t *testing.T, k *held) {
	t.Run("public key", func(t *testing.T) { testPublic(t, k) })
	for _, alg := range k.spec.SigningAlgorithms() {
		for _, mt := range keystore.MessageTypes(alg) {
			t.Run(fmt.Sprintf("sign %s %s", alg, mt), func(t *testing.T) { testSign(t, k, alg, mt) })
		}
	}
	for _, alg := range k.spec.EncryptionAlgorithms() {
		t.Run("encrypt "+alg, func(t *testing.T) { testEncrypt(t, k, alg) })
	}
	for _, alg := range k.spec.MACAlgorithms() {
		t.Run("MAC "+alg, func(t *testing.T) { testMAC(t, k, alg) })
	}
	for _, alg := range k.spec.EncapsulationAlgorithms() {
		t.Run("encapsulate "+alg, func(t *testing.T) { testEncapsulate(t, k, alg) })
	}
	for _, alg := range k.spec.KeyAgreementAlgorithms() {
		t.Run("derive "+alg, func(t *testing.T) { s.testDerive(t, k, alg) })
	}
	t.Run("a pair that leaves", func(t *testing.T) { s.testPair(t, k) })
	t.Run("import", func(t *testing.T) { s.testImport(t, k) })
	t.Run("everything else is refused", func(t *testing.T) { testRefusals(t, k) })
	t.Run("moved and altered handles", func(t *testing.T) { s.testHandles(t, k) })
	t.Run("concurrent use", func(t *testing.T) { testConcurrent(t, k) })
	t.Run("another key", func(t *testing.T) { s.testOtherKey(t, k) })
}

func testPublic(t *testing.T, k *held) {
	public := k.key.Public()
	if k.spec.Kind() != keystore.KindAsymmetric {
		if public != nil {
			t.Fatal("a symmetric key has a public half")
		}
		return
	}
	if public == nil {
		t.Fatal("no public half")
	}
	parsed, err := keystore.ParsePublicKey(public.SPKI())
	if err != nil {
		t.Fatal(err)
	}
	if public.Spec() != k.spec || parsed.Spec() != k.spec || !bytes.Equal(parsed.SPKI(), public.SPKI()) {
		t.Errorf("public key of %s parses as %s", k.spec, parsed.Spec())
	}
}

// testHandles plays whoever can write to the database.
func (s *suite) testHandles(t *testing.T, k *held) {
	open := func(ref keystore.Ref, spec keystore.Spec, handle []byte) error {
		key, err := s.backend.Open(t.Context(), ref, spec, handle)
		if err == nil {
			key.Close()
		}
		return err
	}
	if err := open(k.ref, k.spec, k.handle); err != nil {
		t.Fatalf("in its own row: %v", err)
	}
	for name, change := range map[string]func(*keystore.Ref){
		"account":  func(r *keystore.Ref) { r.Account = "444455556666" },
		"key":      func(r *keystore.Ref) { r.KeyID = "key-of-another" },
		"material": func(r *keystore.Ref) { r.MaterialID = "material-2" },
		// The same bytes, cut elsewhere.
		"boundary": func(r *keystore.Ref) { r.KeyID, r.MaterialID = r.KeyID+"m", r.MaterialID[1:] },
		"swapped":  func(r *keystore.Ref) { r.KeyID, r.MaterialID = r.MaterialID, r.KeyID },
	} {
		ref := k.ref
		change(&ref)
		if err := open(ref, k.spec, k.handle); !errors.Is(err, keystore.ErrInvalidHandle) {
			t.Errorf("moved to another %s: %v", name, err)
		}
	}
	for spec, other := range s.held {
		if spec == k.spec {
			continue
		}
		if err := open(k.ref, spec, k.handle); !errors.Is(err, keystore.ErrInvalidHandle) {
			t.Errorf("opened as %s: %v", spec, err)
		}
		if err := open(k.ref, k.spec, other.handle); !errors.Is(err, keystore.ErrInvalidHandle) {
			t.Errorf("with the handle of %s: %v", spec, err)
		}
	}
	step := 1 + len(k.handle)/64
	for i := 0; i < len(k.handle); i += step {
		altered := bytes.Clone(k.handle)
		altered[i] ^= 1
		if err := open(k.ref, k.spec, altered); !errors.Is(err, keystore.ErrInvalidHandle) {
			t.Errorf("byte %d altered: %v", i, err)
		}
		if err := open(k.ref, k.spec, k.handle[:i]); !errors.Is(err, keystore.ErrInvalidHandle) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
}

// algorithms is every algorithm of every spec, by usage.
func algorithms() map[string][]string {
	all := map[string][]string{}
	for _, spec := range keystore.Specs() {
		for _, usage := range spec.Usages() {
			for _, alg := range spec.Algorithms(usage) {
				if !slices.Contains(all[usage], alg) {
					all[usage] = append(all[usage], alg)
				}
			}
		}
	}
	return all
}

func testRefusals(t *testing.T, k *held) {
	ctx := t.Context()
	message := bytes.Repeat([]byte{7}, 64)
	for usage, algs := range algorithms() {
		for _, alg := range append(algs, "", "NO_SUCH_ALGORITHM") {
			if slices.Contains(k.spec.Algorithms(usage), alg) {
				continue
			}
			var errs []error
			try := func(_ []byte, err error) { errs = append(errs, err) }
			switch usage {
			case keystore.SignVerify:
				for _, mt := range []keystore.MessageType{"", keystore.Raw, keystore.Digest, keystore.ExternalMu} {
					try(k.key.Sign(ctx, alg, mt, message))
				}
				if p := k.key.Public(); p != nil {
					errs = append(errs, p.Verify(alg, keystore.Raw, message, message))
				}
			case keystore.EncryptDecrypt:
				try(k.key.Encrypt(ctx, alg, message, nil))
				try(k.key.Decrypt(ctx, alg, message, nil))
				if p := k.key.Public(); p != nil {
					try(p.Encrypt(alg, message))
				}
			case keystore.GenerateVerifyMAC:
				try(k.key.MAC(ctx, alg, message))
			case keystore.KeyAgreement:
				try(k.key.Derive(ctx, alg, k.key.Public()))
			case keystore.EncapsulateDecapsulate:
				try(k.key.Decapsulate(ctx, alg, message))
				if p := k.key.Public(); p != nil {
					_, _, err := p.Encapsulate(alg)
					errs = append(errs, err)
				}
			}
			for i, err := range errs {
				if !errors.Is(err, keystore.ErrUnsupported) {
					t.Errorf("%s with %q, call %d: %v", usage, alg, i, err)
				}
			}
		}
	}
}

func testConcurrent(t *testing.T, k *held) {
	goroutines, rounds := 8, 4
	if long(k.spec) {
		goroutines, rounds = 4, 1
	}
	var wg sync.WaitGroup
	for i := range goroutines {
		wg.Go(func() {
			for j := range rounds {
				if err := roundTrip(t.Context(), k.key, k.key, k.spec, fmt.Appendf(nil, "message %d of goroutine %d", j, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// testRestart opens every handle in a backend that has forgotten everything.
func (s *suite) testRestart(t *testing.T, backend keystore.Backend) {
	for spec, k := range s.held {
		again, err := backend.Open(t.Context(), k.ref, spec, k.handle)
		if err != nil {
			t.Errorf("%s: %v", spec, err)
			continue
		}
		if err := roundTrip(t.Context(), k.key, again, spec, []byte("before and after")); err != nil {
			t.Errorf("%s made before, used after: %v", spec, err)
		}
		if err := roundTrip(t.Context(), again, k.key, spec, []byte("after and before")); err != nil {
			t.Errorf("%s made after, used before: %v", spec, err)
		}
		public := again.Public()
		again.Close()
		if public != nil && !bytes.Equal(public.SPKI(), k.key.Public().SPKI()) {
			t.Errorf("%s: another public key after the restart", spec)
		}
		for range 2 { // destroying twice is no error
			if err := backend.Destroy(t.Context(), k.ref, k.handle); err != nil {
				t.Errorf("%s: Destroy: %v", spec, err)
			}
		}
	}
}

// roundTrip uses every algorithm of the spec once: what from makes, to must
// accept.
func roundTrip(ctx context.Context, from, to keystore.Key, spec keystore.Spec, message []byte) error {
	for _, alg := range spec.SigningAlgorithms() {
		mt := keystore.MessageTypes(alg)[0]
		m := messageFor(spec, alg, mt, message)
		sig, err := from.Sign(ctx, alg, mt, m)
		if err == nil {
			err = to.Public().Verify(alg, mt, m, sig)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", alg, err)
		}
	}
	for _, alg := range spec.EncryptionAlgorithms() {
		ciphertext, err := from.Encrypt(ctx, alg, message, nil)
		if err != nil {
			return fmt.Errorf("%s: %w", alg, err)
		}
		if plaintext, err := to.Decrypt(ctx, alg, ciphertext, nil); err != nil || !bytes.Equal(plaintext, message) {
			return fmt.Errorf("%s: decrypted to something else: %w", alg, err)
		}
	}
	for _, alg := range spec.MACAlgorithms() {
		a, errA := from.MAC(ctx, alg, message)
		b, errB := to.MAC(ctx, alg, message)
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			return fmt.Errorf("%s: different MACs: %w", alg, errors.Join(errA, errB))
		}
	}
	for _, alg := range spec.EncapsulationAlgorithms() {
		shared, ciphertext, err := from.Public().Encapsulate(alg)
		if err != nil {
			return fmt.Errorf("%s: %w", alg, err)
		}
		if got, err := to.Decapsulate(ctx, alg, ciphertext); err != nil || !bytes.Equal(got, shared) {
			return fmt.Errorf("%s: another shared secret: %w", alg, err)
		}
	}
	for _, alg := range spec.KeyAgreementAlgorithms() {
		a, errA := from.Derive(ctx, alg, to.Public())
		b, errB := to.Derive(ctx, alg, from.Public())
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			return fmt.Errorf("%s: different secrets: %w", alg, errors.Join(errA, errB))
		}
	}
	return nil
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got error %v, want %v", err, want)
	}
}
