package keystore_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	_ "crypto/sha1"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/c2sp/wycheproof"

	"github.com/keyturn/keyturn/keystore"
)

// Project Wycheproof's vectors, for everything that takes outside input. Where
// AWS is stricter than a vector (salt lengths, message lengths), the strictness
// is what is tested.

// hexBytes is a hex string of a vector file.
type hexBytes []byte

func (h *hexBytes) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	if len(s)%2 == 1 { // big integers
		s = "0" + s
	}
	decoded, err := hex.DecodeString(s)
	*h = decoded
	return err
}

type vectorFile struct {
	Groups []vectorGroup `json:"testGroups"`
}

type vectorGroup struct {
	SHA     string          `json:"sha"`
	MGFSHA  string          `json:"mgfSha"`
	SaltLen int             `json:"sLen"`
	KeySize int             `json:"keySize"`
	TagSize int             `json:"tagSize"`
	IVSize  int             `json:"ivSize"`
	DER     hexBytes        `json:"publicKeyDer"`
	KeyDER  hexBytes        `json:"keyDer"`
	PKCS8   hexBytes        `json:"privateKeyPkcs8"`
	Encoded json.RawMessage `json:"publicKey"` // hex of ML-DSA keys, an object of others
	Vectors []vector        `json:"tests"`
}

type vector struct {
	ID      int      `json:"tcId"`
	Comment string   `json:"comment"`
	Result  string   `json:"result"`
	Flags   []string `json:"flags"`
	Msg     hexBytes `json:"msg"`
	Sig     hexBytes `json:"sig"`
	CT      hexBytes `json:"ct"`
	Label   hexBytes `json:"label"`
	Key     hexBytes `json:"key"`
	Tag     hexBytes `json:"tag"`
	IV      hexBytes `json:"iv"`
	AAD     hexBytes `json:"aad"`
	Ctx     hexBytes `json:"ctx"`
	Public  hexBytes `json:"public"`
	Private hexBytes `json:"private"`
	Shared  hexBytes `json:"shared"`
	Seed    hexBytes `json:"seed"`
	EK      hexBytes `json:"ek"`
	C       hexBytes `json:"c"`
	K       hexBytes `json:"K"`
}

func load(t *testing.T, name string) []vectorGroup {
	t.Helper()
	content, err := fs.ReadFile(wycheproof.TestVectors, name+"_test.json")
	if err != nil {
		t.Fatal(err)
	}
	var file vectorFile
	if err := json.Unmarshal(content, &file); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return file.Groups
}

// each runs check on every vector of the files and fails when there are fewer
// than the files are known to hold at least.
func each(t *testing.T, names string, least int, check func(t *testing.T, name string, g *vectorGroup, v *vector) (counted bool)) {
	t.Helper()
	n := 0
	for _, name := range strings.Fields(names) {
		for _, g := range load(t, name) {
			for _, v := range g.Vectors {
				if check(t, name, &g, &v) {
					n++
				}
			}
		}
	}
	if n < least {
		t.Errorf("%d vectors, want at least %d", n, least)
	}
}

// expect compares what happened with what a vector says. "acceptable" vectors
// may go either way.
func expect(t *testing.T, name string, v *vector, ok bool) {
	t.Helper()
	if v.Result == "valid" && !ok || v.Result == "invalid" && ok {
		t.Errorf("%s %d (%s) is %s: accepted %v", name, v.ID, v.Comment, v.Result, ok)
	}
}

func digest(t *testing.T, sha string, msg []byte) []byte {
	t.Helper()
	h := map[string]crypto.Hash{"SHA-256": crypto.SHA256, "SHA-384": crypto.SHA384, "SHA-512": crypto.SHA512}[sha]
	if h == 0 {
		t.Fatalf("hash %s", sha)
	}
	d := h.New()
	d.Write(msg)
	return d.Sum(nil)
}

// verifies checks a signature on the digest, and on the message where the API
// takes one of its length; both must agree.
func verifies(t *testing.T, p *keystore.PublicKey, alg, sha string, v *vector) bool {
	t.Helper()
	err := p.Verify(alg, keystore.Digest, digest(t, sha, v.Msg), v.Sig)
	if err != nil && !errors.Is(err, keystore.ErrInvalidSignature) {
		t.Fatalf("%d: %v", v.ID, err)
	}
	if len(v.Msg) >= 1 && len(v.Msg) <= keystore.MaxMessage {
		if raw := p.Verify(alg, keystore.Raw, v.Msg, v.Sig); (raw == nil) != (err == nil) {
			t.Errorf("%d: digest %v, message %v", v.ID, err, raw)
		}
	}
	return err == nil
}

func parsePublic(t *testing.T, der []byte) *keystore.PublicKey {
	t.Helper()
	p, err := keystore.ParsePublicKey(der)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(p.SPKI(), der) {
		t.Errorf("the key is written back as %x, not %x", p.SPKI(), der)
	}
	return p
}

func TestWycheproofECDSA(t *testing.T) {
	for names, c := range map[string]struct {
		spec keystore.Spec
		alg  string
	}{
		"ecdsa_secp256r1_sha256": {keystore.P256, keystore.ECDSASHA256},
		"ecdsa_secp384r1_sha384": {keystore.P384, keystore.ECDSASHA384},
		"ecdsa_secp521r1_sha512": {keystore.P521, keystore.ECDSASHA512},
		"ecdsa_secp256k1_sha256": {keystore.Secp256k1, keystore.ECDSASHA256},
	} {
		each(t, names, 400, func(t *testing.T, name string, g *vectorGroup, v *vector) bool {
			p := parsePublic(t, g.DER)
			if p.Spec() != c.spec {
				t.Fatalf("%s: spec %s", name, p.Spec())
			}
			expect(t, name, v, verifies(t, p, c.alg, g.SHA, v))
			return true
		})
	}
}

func TestWycheproofEd25519(t *testing.T) {
	each(t, "ed25519", 140, func(t *testing.T, name string, g *vectorGroup, v *vector) bool {
		p := parsePublic(t, g.DER)
		ok := keystore.VerifyAnyLength(p, keystore.Ed25519Pure, v.Msg, v.Sig)
		expect(t, name, v, ok)
		if len(v.Msg) > 0 {
			if err := p.Verify(keystore.Ed25519Pure, keystore.Raw, v.Msg, v.Sig); (err == nil) != ok {
				t.Errorf("%d: %v", v.ID, err)
			}
		}
		return true
	})
}

func TestWycheproofRSAPKCS1(t *testing.T) {
	files := `rsa_signature_2048_sha256 rsa_signature_2048_sha384 rsa_signature_2048_sha512
		rsa_signature_3072_sha256 rsa_signature_3072_sha384 rsa_signature_3072_sha512
		rsa_signature_4096_sha256 rsa_signature_4096_sha384 rsa_signature_4096_sha512`
	each(t, files, 2000, func(t *testing.T, name string, g *vectorGroup, v *vector) bool {
		alg := "RSASSA_PKCS1_V1_5_" + strings.ReplaceAll(g.SHA, "-", "_")
		expect(t, name, v, verifies(t, parsePublic(t, g.DER), alg, g.SHA, v))
		return true
	})
}

// PKCS #1 v1.5 signatures are deterministic: ours must be the vectors'.
func TestWycheproofRSAPKCS1Sign(t *testing.T) {
	keys := map[string]keystore.Key{}
	each(t, "rsa_pkcs1_2048_sig_gen rsa_pkcs1_3072_sig_gen rsa_pkcs1_4096_sig_gen", 40, func(t *testing.T, name string, g *vectorGroup, v *vector) bool {
		switch g.SHA {
		case "SHA-256", "SHA-384", "SHA-512":
		default:
			return false
		}
		key := keys[string(g.PKCS8)]
		if key == nil {
			var err error
			if key, err = keystore.NewKey(parsePublic(t, g.KeyDER).Spec(), g.PKCS8); err != nil {
				t.Fatal(err)
			}
			keys[string(g.PKCS8)] = key
		}
		alg := "RSASSA_PKCS1_V1_5_" + strings.ReplaceAll(g.SHA, "-", "_")
		sig, err := key.Sign(t.Context(), alg, keystore.Digest, digest(t, g.SHA, v.Msg))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(sig, v.Sig) {
			t.Errorf("%s %d: another signature", name, v.ID)
		}
		return true
	})
}

// AWS's PSS has MGF1 with the same hash and a salt as long as it; what is valid
// with other parameters is not valid here.
func TestWycheproofRSAPSS(t *testing.T) {
	size := map[string]int{"SHA-256": 32, "SHA-384": 48, "SHA-512": 64}
	files := `rsa_pss_2048_sha256_mgf1_32 rsa_pss_2048_sha384_mgf1_48 rsa_pss_3072_sha256_mgf1_32
		rsa_pss_4096_sha256_mgf1_32 rsa_pss_4096_sha384_mgf1_48 rsa_pss_4096_sha512_mgf1_64
		rsa_pss_2048_sha256_mgf1_0 rsa_pss_2048_sha256_mgf1sha1_20 rsa_pss_4096_sha512_mgf1_32 rsa_pss_misc`
	strict := 0
	each(t, files, 900, func(t *testing.T, name string, g *vectorGroup, v *vector) bool {
		if size[g.SHA] == 0 {
			return false
		}
		ok := verifies(t, parsePublic(t, g.DER), "RSASSA_PSS_"+strings.ReplaceAll(g.SHA, "-", "_"), g.SHA, v)
		if g.SHA == g.MGFSHA && g.SaltLen == size[g.SHA] {
			expect(t, name, v, ok)
			return true
		}
		if v.Result == "valid" {
			strict++
		}
		if v.Result != "invalid" && ok {
			t.Errorf("%s %d: accepted with salt %d and MGF1 %s", name, v.ID, g.SaltLen, g.MGFSHA)
		}
		return true
	})
	if strict < 100 {
		t.Errorf("only %d vectors with other parameters", strict)
	}
}

func TestWycheproofRSAOAEP(t *testing.T) {
	keys := map[string]keystore.Key{}
	algs := map[string]string{"SHA-1": keystore.OAEPSHA1, "SHA-256": keystore.OAEPSHA256}
	files := `rsa_oaep_2048_sha1_mgf1sha1 rsa_oaep_2048_sha256_mgf1sha256 rsa_oaep_3072_sha256_mgf1sha256
		rsa_oaep_4096_sha256_mgf1sha256 rsa_oaep_2048_sha256_mgf1sha1 rsa_oaep_misc`
	each(t, files, 150, func(t *testing.T, name string, g *vectorGroup, v *vector) bool {
		alg, spec := algs[g.SHA], keystore.Spec("RSA_"+itoa(g.KeySize))
		if alg == "" || !spec.Known() {
			return false
		}
		key := keys[string(g.PKCS8)]
		if key == nil {
			var err error
			if key, err = keystore.NewKey(spec, g.PKCS8); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			keys[string(g.PKCS8)] = key
		}
		plaintext, err := key.Decrypt(t.Context(), alg, v.CT, nil)
		if err != nil && !errors.Is(err, keystore.ErrInvalidCiphertext) {
			t.Fatal(err)
		}
		if g.MGFSHA != g.SHA || len(v.Label) > 0 { // AWS has neither
			if err == nil {
				t.Errorf("%s %d: decrypted with MGF1 %s, label %x", name, v.ID, g.MGFSHA, v.Label)
			}
			return true
		}
		expect(t, name, v, err == nil)
		if err == nil && !bytes.Equal(plaintext, v.Msg) {
			t.Errorf("%s %d: another plaintext", name, v.ID)
		}
		return true
	})
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func TestWycheproofHMAC(t *testing.T) {
	for name, c := range map[string]struct {
		spec keystore.Spec
		alg  string
		bits int
	}{
		"hmac_sha224": {keystore.HMAC224, keystore.HMACSHA224, 224},
		"hmac_sha256": {keystore.HMAC256, keystore.HMACSHA256, 256},
		"hmac_sha384": {keystore.HMAC384, keystore.HMACSHA384, 384},
		"hmac_sha512": {keystore.HMAC512, keystore.HMACSHA512, 512},
	} {
		each(t, name, 60, func(t *testing.T, name string, g *vectorGroup, v *vector) bool {
			if g.KeySize < c.bits {
				if _, err := keystore.NewKey(c.spec, v.Key); err == nil {
					t.Errorf("%s takes a key of %d bits", c.spec, g.KeySize)
				}
				return false
			}
			if len(v.Msg) == 0 {
				return false
			}
			key, err := keystore.NewKey(c.spec, v.Key)
			if err != nil {
				t.Fatal(err)
			}
			mac, err := key.MAC(t.Context(), c.alg, v.Msg)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, name, v, bytes.Equal(mac[:g.TagSize/8], v.Tag))
			return true
		})
	}
}

// A SYMMETRIC_DEFAULT ciphertext is AES-GCM under a derived key; this is the
// AES-GCM part of it.
func TestWycheproofAESGCM(t *testing.T) {
	each(t, "aes_gcm", 60, func(t *testing.T, name string, g *vectorGroup, v *vector) bool {
		if g.KeySize != 256 || g.IVSize != 96 || g.TagSize != 128 {
			return false
		}
		sealed := append(append(bytes.Clone(v.IV), v.CT...), v.Tag...)
		plaintext, err := keystore.OpenGCM(v.Key, sealed, v.AAD)
		expect(t, name, v, err == nil)
		if err == nil && !bytes.Equal(plaintext, v.Msg) {
			t.Errorf("%s %d: another plaintext", name, v.ID)
		}
		return true
	})
}

func TestWycheproofECDH(t *testing.T) {
	for name, c := range map[string]struct {
		spec  keystore.Spec
		curve elliptic.Curve
	}{
		"ecdh_secp256r1": {keystore.P256, elliptic.P256()},
		"ecdh_secp384r1": {keystore.P384, elliptic.P384()},
		"ecdh_secp521r1": {keystore.P521, elliptic.P521()},
	} {
		each(t, name, 400, func(t *testing.T, name string, _ *vectorGroup, v *vector) bool {
			key := ecdhKey(t, c.spec, c.curve, v.Private)
			peer, err := keystore.ParsePublicKey(v.Public)
			if err != nil {
				if !errors.Is(err, keystore.ErrInvalidPublicKey) {
					t.Errorf("%s %d: %v", name, v.ID, err)
				}
				expect(t, name, v, false)
				return true
			}
			shared, err := key.Derive(t.Context(), keystore.ECDH, peer)
			expect(t, name, v, err == nil)
			if err == nil && !bytes.Equal(shared, v.Shared) {
				t.Errorf("%s %d: another secret", name, v.ID)
			}
			return true
		})
	}
}

func ecdhKey(t *testing.T, spec keystore.Spec, curve elliptic.Curve, scalar []byte) keystore.Key {
	t.Helper()
	size := (curve.Params().BitSize + 7) / 8
	scalar = bytes.TrimLeft(scalar, "\x00")
	padded := append(make([]byte, size-len(scalar)), scalar...)
	private, err := ecdsa.ParseRawPrivateKey(curve, padded)
	if err != nil {
		t.Fatal(err)
	}
	material, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := keystore.NewKey(spec, material)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// AWS has no key agreement on secp256k1, but its keys arrive the same way.
func TestWycheproofSecp256k1PublicKeys(t *testing.T) {
	each(t, "ecdh_secp256k1", 700, func(t *testing.T, name string, _ *vectorGroup, v *vector) bool {
		p, err := keystore.ParsePublicKey(v.Public)
		if err == nil && p.Spec() != keystore.Secp256k1 {
			return true // vectors with a key of another curve, which is a good key
		}
		expect(t, name, v, err == nil)
		return true
	})
}

func TestWycheproofMLDSAVerify(t *testing.T) {
	for name, spec := range map[string]keystore.Spec{
		"mldsa_44_verify": keystore.MLDSA44, "mldsa_65_verify": keystore.MLDSA65, "mldsa_87_verify": keystore.MLDSA87,
	} {
		valid := 0
		each(t, name, 70, func(t *testing.T, name string, g *vectorGroup, v *vector) bool {
			if len(g.DER) == 0 { // public keys of the wrong length have none
				expect(t, name, v, false)
				return true
			}
			p, err := keystore.ParsePublicKey(g.DER)
			if err != nil {
				expect(t, name, v, false)
				return true
			}
			if p.Spec() != spec {
				t.Fatalf("%s: spec %s", name, p.Spec())
			}
			var encoded hexBytes
			if err := json.Unmarshal(g.Encoded, &encoded); err != nil {
				t.Fatal(err)
			}
			if len(v.Ctx) <= 255 {
				err := p.Verify(keystore.MLDSA, keystore.ExternalMu, keystore.Mu(encoded, v.Msg, v.Ctx), v.Sig)
				expect(t, name+" (mu)", v, err == nil)
				if err == nil {
					valid++
				}
			}
			if len(v.Ctx) == 0 {
				expect(t, name, v, keystore.VerifyAnyLength(p, keystore.MLDSA, v.Msg, v.Sig))
			}
			return true
		})
		if valid < 40 {
			t.Errorf("%s: only %d valid", name, valid)
		}
	}
}

func TestWycheproofMLDSASign(t *testing.T) {
	for name, spec := range map[string]keystore.Spec{
		"mldsa_44_sign_seed": keystore.MLDSA44, "mldsa_65_sign_seed": keystore.MLDSA65, "mldsa_87_sign_seed": keystore.MLDSA87,
	} {
		keys := map[string]keystore.Key{}
		each(t, name, 50, func(t *testing.T, name string, g *vectorGroup, v *vector) bool {
			var encoded hexBytes
			if v.Result != "valid" || json.Unmarshal(g.Encoded, &encoded) != nil {
				return false
			}
			key := keys[string(g.PKCS8)]
			if key == nil {
				var err error
				if key, err = keystore.NewKey(spec, g.PKCS8); err != nil {
					t.Fatal(err)
				}
				keys[string(g.PKCS8)] = key
			}
			if !bytes.HasSuffix(key.Public().SPKI(), encoded) {
				t.Fatalf("%s %d: another public key", name, v.ID)
			}
			mu := keystore.Mu(encoded, v.Msg, v.Ctx)
			if err := key.Public().Verify(keystore.MLDSA, keystore.ExternalMu, mu, v.Sig); err != nil {
				t.Errorf("%s %d: the vector's signature: %v", name, v.ID, err)
			}
			sig, err := key.Sign(t.Context(), keystore.MLDSA, keystore.ExternalMu, mu)
			if err == nil {
				err = key.Public().Verify(keystore.MLDSA, keystore.ExternalMu, mu, sig)
			}
			if err != nil {
				t.Errorf("%s %d: our signature: %v", name, v.ID, err)
			}
			// What is signed as a mu is valid for the message, by the library.
			if len(v.Ctx) == 0 && !keystore.VerifyAnyLength(key.Public(), keystore.MLDSA, v.Msg, sig) {
				t.Errorf("%s %d: our signature of mu is not one of the message", name, v.ID)
			}
			return true
		})
	}
}

var mlkems = map[string]keystore.Spec{"512": keystore.MLKEM512, "768": keystore.MLKEM768, "1024": keystore.MLKEM1024}

func TestWycheproofMLKEMDecapsulate(t *testing.T) {
	for size, spec := range mlkems {
		each(t, "mlkem_"+size, 100, func(t *testing.T, name string, _ *vectorGroup, v *vector) bool {
			key, err := keystore.NewKey(spec, keystore.SeedMaterial(spec, v.Seed))
			if err != nil {
				expect(t, name, v, false)
				return true
			}
			if len(v.EK) > 0 && !bytes.HasSuffix(key.Public().SPKI(), v.EK) {
				t.Errorf("%s %d: another public key", name, v.ID)
			}
			shared, err := key.Decapsulate(t.Context(), keystore.MLKEM, v.C)
			if err != nil && !errors.Is(err, keystore.ErrInvalidCiphertext) {
				t.Fatal(err)
			}
			expect(t, name, v, err == nil)
			if err == nil && !bytes.Equal(shared, v.K) {
				t.Errorf("%s %d: another secret", name, v.ID)
			}
			return true
		})
	}
}

func TestWycheproofMLKEMPublicKeys(t *testing.T) {
	for size, spec := range mlkems {
		each(t, "mlkem_"+size+"_encaps", 200, func(t *testing.T, name string, _ *vectorGroup, v *vector) bool {
			p, err := keystore.ParsePublicKey(keystore.EncapsulationSPKI(spec, v.EK))
			expect(t, name, v, err == nil)
			if err == nil && !bytes.HasSuffix(p.SPKI(), v.EK) {
				t.Errorf("%s %d: the key is written back differently", name, v.ID)
			}
			return true
		})
		each(t, "mlkem_"+size+"_keygen_seed", 50, func(t *testing.T, name string, _ *vectorGroup, v *vector) bool {
			key, err := keystore.NewKey(spec, keystore.SeedMaterial(spec, v.Seed))
			if err != nil || !bytes.HasSuffix(key.Public().SPKI(), v.EK) {
				t.Errorf("%s %d: another public key: %v", name, v.ID, err)
			}
			return true
		})
	}
}
