package kms_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/c2sp/wycheproof"

	"github.com/keyturn/keyturn/keystore"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// Project Wycheproof's vectors through the wire: their secret and private keys are
// imported, and the server must do with them what the vectors say. Package keystore
// tries every vector on the bare cryptography; here a sample shows that nothing on
// the way changes it. KEYTURN_WYCHEPROOF=all takes them all (`make soak`).

type hexBytes []byte

func (h *hexBytes) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	decoded, err := hex.DecodeString(strings.Repeat("0", len(s)%2) + s) // numbers may have an odd number of digits
	*h = decoded
	return err
}

type vectorGroup struct {
	SHA     string   `json:"sha"`
	MGFSHA  string   `json:"mgfSha"`
	KeySize int      `json:"keySize"`
	TagSize int      `json:"tagSize"`
	PKCS8   hexBytes `json:"privateKeyPkcs8"`
	Private struct {
		E hexBytes `json:"publicExponent"`
	} `json:"privateKey"`
	Vectors []vector `json:"tests"`
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
	Public  hexBytes `json:"public"`
	Private hexBytes `json:"private"`
	Shared  hexBytes `json:"shared"`
}

// wire is a node with the keys that were imported into it.
type wire struct {
	*node
	keys map[string]*types.KeyMetadata // spec, usage and material → key
}

func newWire(t *testing.T) *wire {
	return &wire{node: newNode(t, sqldbtest.SQLite(t), importing), keys: map[string]*types.KeyMetadata{}}
}

// key imports material, once. A material that is refused gives no key.
func (w *wire) key(spec types.KeySpec, usage types.KeyUsageType, material []byte) (*types.KeyMetadata, error) {
	w.t.Helper()
	name := string(spec) + string(usage) + string(material)
	if k := w.keys[name]; k != nil {
		return k, nil
	}
	k := w.external(spec, usage)
	if _, err := w.imports(k, material, nil); err != nil {
		return nil, err
	}
	w.keys[name] = k
	return k, nil
}

// vectors runs check on the vectors of the files for which it is worth it: all, or
// of each group the first of every result and set of flags. It fails when fewer
// than least were.
func vectors(t *testing.T, names string, least int, check func(name string, g *vectorGroup, v *vector) (counted bool)) {
	t.Helper()
	all := os.Getenv("KEYTURN_WYCHEPROOF") == "all"
	n := 0
	for _, name := range strings.Fields(names) {
		content, err := fs.ReadFile(wycheproof.TestVectors, name+"_test.json")
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			Groups []vectorGroup `json:"testGroups"`
		}
		if err := json.Unmarshal(content, &file); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i := range file.Groups {
			g := &file.Groups[i]
			like := map[string]int{}
			for j := range g.Vectors {
				v := &g.Vectors[j]
				kind := fmt.Sprint(v.Result, v.Flags)
				if like[kind] >= 1 && !all {
					continue
				}
				if check(name, g, v) {
					like[kind]++
					n++
				}
			}
		}
	}
	if n < least {
		t.Errorf("%d vectors, want at least %d", n, least)
	}
	t.Logf("%d vectors", n)
}

func TestWycheproofHMACThroughTheWire(t *testing.T) {
	w := newWire(t)
	for name, spec := range map[string]types.KeySpec{
		"hmac_sha224": types.KeySpecHmac224, "hmac_sha256": types.KeySpecHmac256, "hmac_sha384": types.KeySpecHmac384, "hmac_sha512": types.KeySpecHmac512,
	} {
		bits := map[types.KeySpec]int{types.KeySpecHmac224: 224, types.KeySpecHmac256: 256, types.KeySpecHmac384: 384, types.KeySpecHmac512: 512}[spec]
		vectors(t, name, 5, func(name string, g *vectorGroup, v *vector) bool {
			k, err := w.key(spec, types.KeyUsageTypeGenerateVerifyMac, v.Key)
			if g.KeySize < bits {
				if code := errorCode(err); code != "IncorrectKeyMaterialException" {
					t.Errorf("%s %d: a key of %d bits: %v", name, v.ID, g.KeySize, err)
				}
				return true
			}
			if err != nil {
				t.Fatalf("%s %d: %v", name, v.ID, err)
			}
			if len(v.Msg) == 0 {
				return false
			}
			alg := k.MacAlgorithms[0]
			mac := must[*sdk.GenerateMacOutput](t)(w.GenerateMac(ctx, &sdk.GenerateMacInput{KeyId: k.KeyId, Message: v.Msg, MacAlgorithm: alg})).Mac
			if bytes.Equal(mac[:g.TagSize/8], v.Tag) != (v.Result == "valid") {
				t.Errorf("%s %d (%s) is %s; the MAC is %x", name, v.ID, v.Comment, v.Result, mac)
			}
			_, err = w.VerifyMac(ctx, &sdk.VerifyMacInput{KeyId: k.KeyId, Message: v.Msg, Mac: v.Tag, MacAlgorithm: alg})
			if (err == nil) != (v.Result == "valid" && g.TagSize == bits) { // AWS takes no truncated ones
				t.Errorf("%s %d (%s) is %s: %v", name, v.ID, v.Comment, v.Result, err)
			}
			return true
		})
	}
}

// PKCS #1 v1.5 signatures are deterministic: the server's must be the vectors'.
func TestWycheproofRSASignaturesThroughTheWire(t *testing.T) {
	w := newWire(t)
	refused := 0
	vectors(t, "rsa_pkcs1_2048_sig_gen rsa_pkcs1_3072_sig_gen rsa_pkcs1_4096_sig_gen", 8, func(name string, g *vectorGroup, v *vector) bool {
		alg := types.SigningAlgorithmSpec("RSASSA_PKCS1_V1_5_" + strings.ReplaceAll(g.SHA, "-", "_"))
		if !knownAlgorithm(alg) || len(v.Msg) == 0 {
			return false
		}
		k, err := w.key(types.KeySpec(fmt.Sprintf("RSA_%d", g.KeySize)), types.KeyUsageTypeSignVerify, g.PKCS8)
		if new(big.Int).SetBytes(g.Private.E).Cmp(big.NewInt(65537)) < 0 {
			if code := errorCode(err); code != "IncorrectKeyMaterialException" {
				t.Errorf("%s: a public exponent of %x: %v", name, g.Private.E, err)
			}
			refused++
			return false
		}
		if err != nil {
			t.Fatalf("%s %d: %v", name, v.ID, err)
		}
		out := must[*sdk.SignOutput](t)(w.Sign(ctx, &sdk.SignInput{KeyId: k.KeyId, Message: v.Msg, SigningAlgorithm: alg}))
		if !bytes.Equal(out.Signature, v.Sig) {
			t.Errorf("%s %d: another signature", name, v.ID)
		}
		if _, err := w.Verify(ctx, &sdk.VerifyInput{KeyId: k.KeyId, Message: v.Msg, Signature: v.Sig, SigningAlgorithm: alg}); err != nil {
			t.Errorf("%s %d: %v", name, v.ID, err)
		}
		return true
	})
	if refused == 0 {
		t.Error("no key with a small exponent was tried")
	}
}

func knownAlgorithm(alg types.SigningAlgorithmSpec) bool {
	for _, a := range alg.Values() {
		if a == alg {
			return true
		}
	}
	return false
}

func TestWycheproofRSADecryptionThroughTheWire(t *testing.T) {
	w := newWire(t)
	files := `rsa_oaep_2048_sha1_mgf1sha1 rsa_oaep_2048_sha256_mgf1sha256 rsa_oaep_3072_sha256_mgf1sha256
		rsa_oaep_4096_sha256_mgf1sha256 rsa_oaep_2048_sha256_mgf1sha1 rsa_oaep_misc`
	vectors(t, files, 40, func(name string, g *vectorGroup, v *vector) bool {
		alg, spec := types.EncryptionAlgorithmSpec("RSAES_OAEP_"+strings.ReplaceAll(g.SHA, "-", "_")), types.KeySpec(fmt.Sprintf("RSA_%d", g.KeySize))
		if alg != types.EncryptionAlgorithmSpecRsaesOaepSha1 && alg != types.EncryptionAlgorithmSpecRsaesOaepSha256 ||
			!keystore.Spec(spec).Known() || len(v.CT) == 0 {
			return false
		}
		k, err := w.key(spec, types.KeyUsageTypeEncryptDecrypt, g.PKCS8)
		if err != nil {
			t.Fatalf("%s %d: %v", name, v.ID, err)
		}
		out, err := w.Decrypt(ctx, &sdk.DecryptInput{KeyId: k.KeyId, CiphertextBlob: v.CT, EncryptionAlgorithm: alg})
		valid := v.Result == "valid" && g.MGFSHA == g.SHA && len(v.Label) == 0 // AWS has neither
		if (err == nil) != valid && v.Result != "acceptable" || err == nil && !bytes.Equal(out.Plaintext, v.Msg) {
			t.Errorf("%s %d (%s) is %s: %v", name, v.ID, v.Comment, v.Result, err)
		}
		if err != nil && apiError(err) != "InvalidCiphertextException: " {
			t.Errorf("%s %d (%s): %v", name, v.ID, v.Comment, err)
		}
		return true
	})
}

func TestWycheproofKeyAgreementThroughTheWire(t *testing.T) {
	w := newWire(t)
	for name, c := range map[string]struct {
		spec  types.KeySpec
		curve elliptic.Curve
	}{
		"ecdh_secp256r1": {types.KeySpecEccNistP256, elliptic.P256()},
		"ecdh_secp384r1": {types.KeySpecEccNistP384, elliptic.P384()},
		"ecdh_secp521r1": {types.KeySpecEccNistP521, elliptic.P521()},
	} {
		vectors(t, name, 20, func(name string, _ *vectorGroup, v *vector) bool {
			if len(v.Public) == 0 {
				return false
			}
			k, err := w.key(c.spec, types.KeyUsageTypeKeyAgreement, scalarMaterial(t, c.curve, v.Private))
			if err != nil {
				t.Fatalf("%s %d: %v", name, v.ID, err)
			}
			out, err := w.DeriveSharedSecret(ctx, &sdk.DeriveSharedSecretInput{
				KeyId: k.KeyId, PublicKey: v.Public, KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh,
			})
			if v.Result == "valid" && err != nil || v.Result == "invalid" && err == nil || err == nil && !bytes.Equal(out.SharedSecret, v.Shared) {
				t.Errorf("%s %d (%s) is %s: %v", name, v.ID, v.Comment, v.Result, err)
			}
			if err != nil && errorCode(err) != "ValidationException" {
				t.Errorf("%s %d (%s): %v", name, v.ID, v.Comment, err)
			}
			return true
		})
	}
}

// scalarMaterial is the private key with a number that a vector gives.
func scalarMaterial(t *testing.T, curve elliptic.Curve, number []byte) []byte {
	t.Helper()
	size := (curve.Params().BitSize + 7) / 8
	digits := bytes.TrimLeft(number, "\x00")
	key, err := ecdsa.ParseRawPrivateKey(curve, append(make([]byte, size-len(digits)), digits...))
	if err != nil {
		t.Fatal(err)
	}
	material, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return material
}

// Wycheproof gives no private keys for Ed25519; RFC 8032 section 7 does.
func TestEd25519ThroughTheWire(t *testing.T) {
	w := newWire(t)
	for _, c := range []struct {
		seed, message, signature string
		alg                      types.SigningAlgorithmSpec
		digest                   bool
	}{
		{
			"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", "72",
			"92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
			types.SigningAlgorithmSpecEd25519Sha512, false,
		},
		{
			"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7", "af82",
			"6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
			types.SigningAlgorithmSpecEd25519Sha512, false,
		},
		{ // Ed25519ph of "abc": its SHA-512 is what is given
			"833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
			"ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
			"98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae4131f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406",
			types.SigningAlgorithmSpecEd25519PhSha512, true,
		},
	} {
		var seed, message, signature hexBytes
		for from, to := range map[string]*hexBytes{c.seed: &seed, c.message: &message, c.signature: &signature} {
			if err := to.UnmarshalJSON([]byte(`"` + from + `"`)); err != nil {
				t.Fatal(err)
			}
		}
		material, err := x509.MarshalPKCS8PrivateKey(ed25519.NewKeyFromSeed(seed))
		if err != nil {
			t.Fatal(err)
		}
		k, err := w.key(types.KeySpecEccNistEdwards25519, types.KeyUsageTypeSignVerify, material)
		if err != nil {
			t.Fatal(err)
		}
		in := &sdk.SignInput{KeyId: k.KeyId, Message: message, SigningAlgorithm: c.alg}
		if c.digest {
			in.MessageType = types.MessageTypeDigest
		}
		out := must[*sdk.SignOutput](t)(w.Sign(ctx, in))
		if !bytes.Equal(out.Signature, signature) {
			t.Errorf("%s: %x", c.alg, out.Signature)
		}
		for i := range 2 {
			signature[63] ^= byte(i << 3)
			_, err := w.Verify(ctx, &sdk.VerifyInput{KeyId: k.KeyId, Message: message, MessageType: in.MessageType, Signature: signature, SigningAlgorithm: c.alg})
			var invalid *types.KMSInvalidSignatureException
			if i == 0 && err != nil || i == 1 && !errors.As(err, &invalid) {
				t.Errorf("%s: %v", c.alg, err)
			}
		}
	}
}
