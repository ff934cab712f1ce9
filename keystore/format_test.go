package keystore_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/keystore"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newKey(t testing.TB, spec keystore.Spec) keystore.Key {
	t.Helper()
	material, err := keystore.GenerateMaterial(spec)
	if err != nil {
		t.Fatal(err)
	}
	key, err := keystore.NewKey(spec, material)
	if err != nil {
		t.Fatal(err)
	}
	clear(material) // the key has its own copy
	return key
}

// RFC 8032 section 7.3.
func TestEd25519phVector(t *testing.T) {
	seed := unhex(t, "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42")
	// RFC 8410 section 7: PKCS #8 of an Ed25519 seed.
	key, err := keystore.NewKey(keystore.Ed25519, append(unhex(t, "302e020100300506032b657004220420"), seed...))
	if err != nil {
		t.Fatal(err)
	}
	want := unhex(t, `98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41
		31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406`)
	prehash := sha512.Sum512([]byte("abc"))
	sig, err := key.Sign(t.Context(), keystore.Ed25519PH, keystore.Digest, prehash[:])
	if err != nil || !bytes.Equal(sig, want) {
		t.Errorf("%x, %v", sig, err)
	}
	// The same bytes signed as a message are another signature.
	pure, err := key.Sign(t.Context(), keystore.Ed25519Pure, keystore.Raw, prehash[:])
	if err != nil || bytes.Equal(pure, want) {
		t.Errorf("Ed25519 and Ed25519ph sign alike: %v", err)
	}
}

// The symmetric format, read by code that shares nothing with ours: HKDF-Expand
// of one block is HMAC over info and a 1 (RFC 5869 section 2.3).
func TestSymmetricFormat(t *testing.T) {
	material := bytes.Repeat([]byte{0x42}, 32)
	key, err := keystore.NewKey(keystore.SymmetricDefault, material)
	if err != nil {
		t.Fatal(err)
	}
	plaintext, aad := []byte("attack at dawn"), []byte("header")
	ciphertext, err := key.Encrypt(t.Context(), keystore.Symmetric, plaintext, aad)
	if err != nil {
		t.Fatal(err)
	}
	if want := 16 + 12 + len(plaintext) + 16; len(ciphertext) != want {
		t.Fatalf("%d bytes, want %d", len(ciphertext), want)
	}
	salt, nonce, sealed := ciphertext[:16], ciphertext[16:28], ciphertext[28:]
	h := hmac.New(sha256.New, material)
	h.Write([]byte("keyturn SYMMETRIC_DEFAULT v1\x00"))
	h.Write(salt)
	h.Write([]byte{1})
	block, err := aes.NewCipher(h.Sum(nil))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := gcm.Open(nil, nonce, sealed, aad); err != nil || !bytes.Equal(got, plaintext) {
		t.Errorf("%q, %v", got, err)
	}
}

// A ciphertext of the first release must open for ever.
func TestSymmetricCiphertextOfOld(t *testing.T) {
	key, err := keystore.NewKey(keystore.SymmetricDefault, bytes.Repeat([]byte{0x42}, 32))
	if err != nil {
		t.Fatal(err)
	}
	got, err := key.Decrypt(t.Context(), keystore.Symmetric, unhex(t, oldCiphertext), []byte("header"))
	if err != nil || string(got) != "attack at dawn" {
		t.Errorf("%q, %v", got, err)
	}
}

const oldCiphertext = "06e7b6601fb868d2d2d6149f17a0554c5543a7d609e02eabe026a4c9f4ed34475c2d0829f80b97c12770ac15bed96d8b95e33a3d6295f984b1d2"

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Object identifiers and parameters of the SubjectPublicKeyInfo, byte by byte:
// RFC 5480 and SEC 2, RFC 9881, RFC 9935.
func TestPublicKeyHeaders(t *testing.T) {
	for spec, header := range map[keystore.Spec]string{
		keystore.Secp256k1: "3056 3010 06072a8648ce3d0201 06052b8104000a 034200 04",
		keystore.Ed25519:   "302a 3005 06032b6570 032100",
		keystore.MLDSA44:   "30820532 300b 0609608648016503040311 0382052100",
		keystore.MLDSA65:   "308207b2 300b 0609608648016503040312 038207a100",
		keystore.MLDSA87:   "30820a32 300b 0609608648016503040313 03820a2100",
		keystore.MLKEM512:  "30820332 300b 0609608648016503040401 0382032100",
		keystore.MLKEM768:  "308204b2 300b 0609608648016503040402 038204a100",
		keystore.MLKEM1024: "30820632 300b 0609608648016503040403 0382062100",
	} {
		if spki := newKey(t, spec).Public().SPKI(); !bytes.HasPrefix(spki, unhex(t, header)) {
			t.Errorf("%s begins with %x", spec, spki[:32])
		}
	}
}

func TestPublicKeysThatAreRefused(t *testing.T) {
	good := newKey(t, keystore.Secp256k1).Public().SPKI()
	point := len(good) - 65
	change := func(f func(der []byte) []byte) []byte { return f(bytes.Clone(good)) }
	for name, der := range map[string][]byte{
		"empty":         {},
		"not DER":       []byte("-----BEGIN PUBLIC KEY-----"),
		"trailing byte": append(bytes.Clone(good), 0),
		"cut":           good[:len(good)-1],
		"off the curve": change(func(d []byte) []byte { d[len(d)-1] ^= 1; return d }),
		"hybrid point":  change(func(d []byte) []byte { d[point] = 6 | d[len(d)-1]&1; return d }),
		"point zero":    change(func(d []byte) []byte { clear(d[point+1:]); return d }),
		"other curve":   change(func(d []byte) []byte { d[21]++; return d }),
		// A good key of a size that no spec has.
		"RSA-1024": unhex(t, `30819f300d06092a864886f70d010101050003818d0030818902818100`+
			strings.Repeat("c3", 128)+`0203010001`),
		"ML-DSA with parameters": unhex(t, "30820534300d06096086480165030403110500"+"0382052100"+strings.Repeat("00", 1312)),
		"ML-DSA too short":       unhex(t, "30820531300b0609608648016503040311"+"0382052000"+strings.Repeat("00", 1311)),
		"ML-KEM above modulus":   unhex(t, "30820332300b0609608648016503040401"+"0382032100"+strings.Repeat("ff", 800)),
		"X25519":                 unhex(t, "302a300506032b656e032100"+strings.Repeat("09", 32)),
	} {
		if p, err := keystore.ParsePublicKey(der); !errors.Is(err, keystore.ErrInvalidPublicKey) {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
}

func TestMaterialThatIsRefused(t *testing.T) {
	rawSizes := map[keystore.Spec]int{
		keystore.SymmetricDefault: 32, keystore.HMAC224: 28, keystore.HMAC256: 32, keystore.HMAC384: 48, keystore.HMAC512: 64,
	}
	for _, spec := range keystore.Specs() {
		if spec == keystore.RSA3072 || spec == keystore.RSA4096 {
			continue // as RSA_2048
		}
		material, err := keystore.GenerateMaterial(spec)
		if err != nil {
			t.Fatal(err)
		}
		longer := append(bytes.Clone(material), 0)
		if spec.Kind() == keystore.KindHMAC {
			longer = make([]byte, 129) // the longest has 128
		}
		bad := map[string][]byte{"empty": nil, "cut": material[:len(material)-1], "longer": longer}
		for name, m := range bad {
			if _, err := keystore.NewKey(spec, m); err == nil {
				t.Errorf("%s takes %s material", spec, name)
			}
		}
		for _, other := range keystore.Specs() {
			if size := rawSizes[other]; other == spec || size == len(material) ||
				other.Kind() == keystore.KindHMAC && size <= len(material) && len(material) <= 128 {
				continue // any bytes of the right number are a symmetric key
			}
			if _, err := keystore.NewKey(other, material); err == nil {
				t.Errorf("material of %s is taken for %s", spec, other)
			}
		}
	}
	// The scalar zero and the group order are no secp256k1 keys.
	material, err := keystore.GenerateMaterial(keystore.Secp256k1)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(material, unhex(t, "0201010420")) + 5
	for _, scalar := range []string{strings.Repeat("00", 32), "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"} {
		copy(material[at:], unhex(t, scalar))
		if _, err := keystore.NewKey(keystore.Secp256k1, material); err == nil {
			t.Errorf("scalar %s is taken", scalar)
		}
	}
}

// Another implementation reads our keys and agrees with our signatures.
func TestOpenSSLAgrees(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal("this test needs openssl: apt-get install openssl")
	}
	dir := t.TempDir()
	for spec, alg := range map[keystore.Spec]string{keystore.P256: keystore.ECDSASHA256, keystore.Secp256k1: keystore.ECDSASHA256} {
		material, err := keystore.GenerateMaterial(spec)
		if err != nil {
			t.Fatal(err)
		}
		key, err := keystore.NewKey(spec, material)
		if err != nil {
			t.Fatal(err)
		}
		run := func(stdin []byte, args ...string) []byte {
			t.Helper()
			cmd := exec.Command(openssl, args...)
			cmd.Stdin = bytes.NewReader(stdin)
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s: openssl %v: %v", spec, args, err)
			}
			return out
		}
		public := run(material, "pkey", "-inform", "DER", "-pubout", "-outform", "DER")
		if !bytes.Equal(public, key.Public().SPKI()) {
			t.Errorf("%s: OpenSSL reads another public key", spec)
		}
		sig, err := key.Sign(t.Context(), alg, keystore.Raw, []byte("message"))
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir+"/pub.der", public)
		write(t, dir+"/sig", sig)
		run([]byte("message"), "dgst", "-sha256", "-keyform", "DER", "-verify", dir+"/pub.der", "-signature", dir+"/sig")
	}
}

func TestKeysOutliveTheirMaterialAndPublicKeysTheirKey(t *testing.T) {
	for _, spec := range []keystore.Spec{keystore.RSA2048, keystore.P256, keystore.Secp256k1, keystore.Ed25519, keystore.MLDSA44} {
		key := newKey(t, spec) // which wipes the material
		alg := spec.SigningAlgorithms()[0]
		sig, err := key.Sign(t.Context(), alg, keystore.Raw, []byte("message"))
		if err != nil {
			t.Fatal(err)
		}
		public := key.Public()
		key.Close()
		if err := public.Verify(alg, keystore.Raw, []byte("message"), sig); err != nil {
			t.Errorf("%s: after Close: %v", spec, err)
		}
	}
}

func TestCloseWipesSecrets(t *testing.T) {
	for _, spec := range []keystore.Spec{keystore.SymmetricDefault, keystore.HMAC256, keystore.P256, keystore.RSA2048, keystore.Ed25519, keystore.Secp256k1} {
		key := newKey(t, spec)
		secret := keystore.Secret(key)
		if bytes.Equal(secret(), make([]byte, len(secret()))) {
			t.Fatalf("%s: no secret to begin with", spec)
		}
		key.Close()
		if !bytes.Equal(secret(), make([]byte, len(secret()))) {
			t.Errorf("%s: the secret is still there", spec)
		}
	}
}
