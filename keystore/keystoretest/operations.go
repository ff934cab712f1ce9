package keystoretest

import (
	"bytes"
	"errors"
	"testing"

	"github.com/keyturn/keyturn/keystore"
)

// messageFor makes a message of the type that alg takes, from seed.
func messageFor(spec keystore.Spec, alg string, mt keystore.MessageType, seed []byte) []byte {
	switch mt {
	case keystore.Raw:
		return seed
	case keystore.ExternalMu:
		return stretch(seed, 64)
	}
	for _, n := range []int{32, 48, 64} {
		if m := stretch(seed, n); checks(spec, alg, mt, m) == nil {
			return m
		}
	}
	return nil
}

func checks(spec keystore.Spec, alg string, mt keystore.MessageType, m []byte) error {
	_, err := spec.CheckMessage(alg, mt, m)
	return err
}

func stretch(seed []byte, n int) []byte {
	return bytes.Repeat(seed, n/len(seed)+1)[:n]
}

func flip(b []byte, i int) []byte {
	c := bytes.Clone(b)
	c[i] ^= 1
	return c
}

func testSign(t *testing.T, k *held, alg string, mt keystore.MessageType) {
	ctx := t.Context()
	message := messageFor(k.spec, alg, mt, []byte("the quick brown fox"))
	kept := bytes.Clone(message)
	sig, err := k.key.Sign(ctx, alg, mt, message)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(message, kept) {
		t.Fatal("Sign changed the message")
	}
	public, err := keystore.ParsePublicKey(k.key.Public().SPKI())
	if err != nil {
		t.Fatal(err)
	}
	if err := public.Verify(alg, mt, message, sig); err != nil {
		t.Fatal(err)
	}

	step := 1 + len(sig)/32
	for i := 0; i < len(sig); i += step {
		wantErr(t, public.Verify(alg, mt, message, flip(sig, i)), keystore.ErrInvalidSignature)
		wantErr(t, public.Verify(alg, mt, message, sig[:i]), keystore.ErrInvalidSignature)
	}
	wantErr(t, public.Verify(alg, mt, message, append(bytes.Clone(sig), 0)), keystore.ErrInvalidSignature)
	wantErr(t, public.Verify(alg, mt, flip(message, 0), sig), keystore.ErrInvalidSignature)
	wantErr(t, public.Verify(alg, mt, flip(message, len(message)-1), sig), keystore.ErrInvalidSignature)

	testOtherAlgorithms(t, k, public, alg, mt, message, sig)
	testMessageLimits(t, k, alg, mt, len(message))
}

// testOtherAlgorithms: a signature is valid for its algorithm and type only.
func testOtherAlgorithms(t *testing.T, k *held, public *keystore.PublicKey, alg string, mt keystore.MessageType, message, sig []byte) {
	for _, other := range k.spec.SigningAlgorithms() {
		for _, otherType := range keystore.MessageTypes(other) {
			if other == alg && otherType == mt || checks(k.spec, other, otherType, message) != nil {
				continue
			}
			if err := public.Verify(other, otherType, message, sig); !errors.Is(err, keystore.ErrInvalidSignature) {
				t.Errorf("verified as %s %s: %v", other, otherType, err)
			}
		}
	}
	for _, other := range []keystore.MessageType{keystore.Raw, keystore.Digest, keystore.ExternalMu, "raw", "NO_SUCH_TYPE"} {
		taken := false
		for _, ok := range keystore.MessageTypes(alg) {
			taken = taken || other == ok
		}
		if taken {
			continue
		}
		_, err := k.key.Sign(t.Context(), alg, other, message)
		wantErr(t, err, keystore.ErrMessageType)
		wantErr(t, public.Verify(alg, other, message, sig), keystore.ErrMessageType)
	}
}

func testMessageLimits(t *testing.T, k *held, alg string, mt keystore.MessageType, exact int) {
	lengths := map[int]bool{0: false, 1: false, exact - 1: false, exact: true, exact + 1: false, keystore.MaxMessage: false}
	if mt == keystore.Raw {
		lengths = map[int]bool{0: false, 1: true, keystore.MaxMessage: true, keystore.MaxMessage + 1: false}
	}
	for n, ok := range lengths {
		m := bytes.Repeat([]byte{1}, n)
		sig, err := k.key.Sign(t.Context(), alg, mt, m)
		if !ok {
			wantErr(t, err, keystore.ErrMessageLength)
			wantErr(t, k.key.Public().Verify(alg, mt, m, []byte("x")), keystore.ErrMessageLength)
			continue
		}
		if err == nil {
			err = k.key.Public().Verify(alg, mt, m, sig)
		}
		if err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func testEncrypt(t *testing.T, k *held, alg string) {
	ctx := t.Context()
	// What RSA takes no associated data for, it must not ignore either.
	aad := []byte("purpose=test")
	if k.spec.Kind() == keystore.KindAsymmetric {
		_, err := k.key.Encrypt(ctx, alg, []byte("x"), aad)
		wantErr(t, err, keystore.ErrUnsupported)
		aad = nil
	}
	limit := k.spec.MaxPlaintext(alg)
	for _, n := range []int{0, limit + 1} {
		_, err := k.key.Encrypt(ctx, alg, make([]byte, n), aad)
		wantErr(t, err, keystore.ErrMessageLength)
	}
	for _, n := range []int{1, 64, limit} {
		plaintext := bytes.Repeat([]byte{0xa5}, n)
		ciphertext, err := k.key.Encrypt(ctx, alg, plaintext, aad)
		if err != nil {
			t.Fatal(err)
		}
		again, err := k.key.Encrypt(ctx, alg, plaintext, aad)
		if err != nil || bytes.Equal(ciphertext, again) {
			t.Errorf("%d bytes: encrypting twice gives the same ciphertext (%v)", n, err)
		}
		got, err := k.key.Decrypt(ctx, alg, ciphertext, aad)
		if err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("%d bytes do not come back: %v", n, err)
		}
		if n == 64 {
			testBadCiphertexts(t, k, alg, ciphertext, aad)
		}
	}
}

func testBadCiphertexts(t *testing.T, k *held, alg string, ciphertext, aad []byte) {
	refused := func(what string, c, a []byte) {
		t.Helper()
		kept := bytes.Clone(c)
		plaintext, err := k.key.Decrypt(t.Context(), alg, c, a)
		if !errors.Is(err, keystore.ErrInvalidCiphertext) || plaintext != nil {
			t.Errorf("%s: %v", what, err)
		}
		// One text for all, too: what went wrong is nobody's business.
		if err != nil && err.Error() != keystore.ErrInvalidCiphertext.Error() {
			t.Errorf("%s: the error tells more: %v", what, err)
		}
		if !bytes.Equal(c, kept) {
			t.Errorf("%s: Decrypt changed its argument", what)
		}
	}
	step := 1 + len(ciphertext)/128
	if long(k.spec) {
		step *= 16
	}
	for i := 0; i < len(ciphertext); i += step {
		refused("altered", flip(ciphertext, i), aad)
		refused("cut", ciphertext[:i], aad)
	}
	refused("longer", append(bytes.Clone(ciphertext), 0), aad)
	refused("empty", nil, aad)
	if aad != nil {
		refused("other associated data", ciphertext, flip(aad, 0))
		refused("no associated data", ciphertext, nil)
	}
	for _, other := range k.spec.EncryptionAlgorithms() {
		if other != alg {
			_, err := k.key.Decrypt(t.Context(), other, ciphertext, aad)
			wantErr(t, err, keystore.ErrInvalidCiphertext)
		}
	}
}

func testMAC(t *testing.T, k *held, alg string) {
	ctx := t.Context()
	size := map[string]int{keystore.HMACSHA224: 28, keystore.HMACSHA256: 32, keystore.HMACSHA384: 48, keystore.HMACSHA512: 64}[alg]
	message := []byte("the quick brown fox")
	mac, err := k.key.MAC(ctx, alg, message)
	if err != nil || len(mac) != size {
		t.Fatalf("MAC has %d bytes, want %d: %v", len(mac), size, err)
	}
	if again, err := k.key.MAC(ctx, alg, message); err != nil || !bytes.Equal(mac, again) {
		t.Errorf("the same message has another MAC: %v", err)
	}
	if other, err := k.key.MAC(ctx, alg, flip(message, 3)); err != nil || bytes.Equal(mac, other) {
		t.Errorf("another message has the same MAC: %v", err)
	}
	for n, ok := range map[int]bool{0: false, 1: true, keystore.MaxMessage: true, keystore.MaxMessage + 1: false} {
		_, err := k.key.MAC(ctx, alg, make([]byte, n))
		if !ok {
			wantErr(t, err, keystore.ErrMessageLength)
		} else if err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func testEncapsulate(t *testing.T, k *held, alg string) {
	ctx := t.Context()
	public, err := keystore.ParsePublicKey(k.key.Public().SPKI())
	if err != nil {
		t.Fatal(err)
	}
	shared, ciphertext, err := public.Encapsulate(alg)
	if err != nil || len(shared) != 32 {
		t.Fatalf("a shared secret of %d bytes: %v", len(shared), err)
	}
	got, err := k.key.Decapsulate(ctx, alg, ciphertext)
	if err != nil || !bytes.Equal(got, shared) {
		t.Errorf("another shared secret: %v", err)
	}
	// FIPS 203's implicit rejection: an altered ciphertext gives a secret that
	// has nothing to do with the first, and the same one every time.
	one, err1 := k.key.Decapsulate(ctx, alg, flip(ciphertext, 9))
	two, err2 := k.key.Decapsulate(ctx, alg, flip(ciphertext, 9))
	if err1 != nil || err2 != nil || bytes.Equal(one, shared) || !bytes.Equal(one, two) {
		t.Errorf("altered ciphertext: %v %v", err1, err2)
	}
	for _, wrong := range [][]byte{nil, ciphertext[:len(ciphertext)-1], append(bytes.Clone(ciphertext), 0)} {
		_, err := k.key.Decapsulate(ctx, alg, wrong)
		wantErr(t, err, keystore.ErrInvalidCiphertext)
	}
}

func (s *suite) testDerive(t *testing.T, k *held, alg string) {
	size := map[keystore.Spec]int{keystore.P256: 32, keystore.P384: 48, keystore.P521: 66}[k.spec]
	secret, err := k.key.Derive(t.Context(), alg, k.key.Public())
	if err != nil || len(secret) != size {
		t.Errorf("a secret of %d bytes, want %d: %v", len(secret), size, err)
	}
	_, err = k.key.Derive(t.Context(), alg, nil)
	wantErr(t, err, keystore.ErrInvalidPublicKey)
	for spec, other := range s.held {
		if spec != k.spec && other.key.Public() != nil {
			_, err := k.key.Derive(t.Context(), alg, other.key.Public())
			wantErr(t, err, keystore.ErrInvalidPublicKey)
		}
	}
}

// testPair: a key pair that leaves the store is whole, and another every time.
func (s *suite) testPair(t *testing.T, k *held) {
	if k.spec == keystore.RSA3072 || k.spec == keystore.RSA4096 {
		return // as in testOtherKey
	}
	private, public, err := s.backend.GeneratePair(t.Context(), k.spec)
	if k.spec.Kind() != keystore.KindAsymmetric {
		wantErr(t, err, keystore.ErrUnsupported)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	key, err := keystore.NewKey(k.spec, private)
	if err != nil {
		t.Fatal(err)
	}
	defer key.Close()
	if public.Spec() != k.spec || !bytes.Equal(public.SPKI(), key.Public().SPKI()) || bytes.Equal(public.SPKI(), k.key.Public().SPKI()) {
		t.Errorf("a pair of spec %s whose halves do not belong together, or that was there before", public.Spec())
	}
	if err := roundTrip(t.Context(), key, key, k.spec, []byte("message")); err != nil {
		t.Error(err)
	}
}

// testOtherKey: what one key made is worthless with another of its spec.
func (s *suite) testOtherKey(t *testing.T, k *held) {
	if long(k.spec) {
		return
	}
	ctx := t.Context()
	other := s.make(t, k.spec, "another-"+string(k.spec))
	defer other.key.Close()
	message := []byte("message")
	for _, alg := range k.spec.SigningAlgorithms() {
		mt := keystore.MessageTypes(alg)[0]
		m := messageFor(k.spec, alg, mt, message)
		sig, err := k.key.Sign(ctx, alg, mt, m)
		if err != nil {
			t.Fatal(err)
		}
		wantErr(t, other.key.Public().Verify(alg, mt, m, sig), keystore.ErrInvalidSignature)
	}
	for _, alg := range k.spec.EncryptionAlgorithms() {
		ciphertext, err := k.key.Encrypt(ctx, alg, message, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = other.key.Decrypt(ctx, alg, ciphertext, nil)
		wantErr(t, err, keystore.ErrInvalidCiphertext)
	}
	for _, alg := range k.spec.MACAlgorithms() {
		a, errA := k.key.MAC(ctx, alg, message)
		b, errB := other.key.MAC(ctx, alg, message)
		if errA != nil || errB != nil || bytes.Equal(a, b) {
			t.Errorf("two keys, one MAC: %v %v", errA, errB)
		}
	}
	for _, alg := range k.spec.EncapsulationAlgorithms() {
		shared, ciphertext, err := k.key.Public().Encapsulate(alg)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := other.key.Decapsulate(ctx, alg, ciphertext); err != nil || bytes.Equal(got, shared) {
			t.Errorf("another key knows the secret: %v", err)
		}
	}
	for _, alg := range k.spec.KeyAgreementAlgorithms() {
		a, errA := k.key.Derive(ctx, alg, k.key.Public())
		b, errB := other.key.Derive(ctx, alg, k.key.Public())
		if errA != nil || errB != nil || bytes.Equal(a, b) {
			t.Errorf("another key derives the same secret: %v %v", errA, errB)
		}
	}
}
