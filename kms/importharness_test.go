package kms_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"hash"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/keyturn/keyturn/keystore"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

const pendingImport = "KMSInvalidStateException: %s is pending import."

// oneWrapping makes all wrapping keys of one RSA key, so that tests with many
// keys do not wait for as many RSA keys. All else is the store's own.
type oneWrapping struct{ keystore.Backend }

var wrappingMaterial = sync.OnceValue(func() []byte {
	material, err := keystore.GenerateMaterial(keystore.RSA2048)
	if err != nil {
		panic(err)
	}
	return material
})

func (o oneWrapping) Generate(ctx context.Context, ref keystore.Ref, spec keystore.Spec) ([]byte, error) {
	if strings.HasPrefix(ref.MaterialID, "import token") && spec == keystore.RSA2048 {
		return o.Import(ctx, ref, spec, wrappingMaterial())
	}
	return o.Backend.Generate(ctx, ref, spec)
}

func eachImporting(t *testing.T, run func(t *testing.T, n *node)) {
	t.Helper()
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) { run(t, newNode(t, db, importing)) })
}

var importing = options{backend: func(b keystore.Backend) keystore.Backend { return oneWrapping{b} }}

// external makes a key without material.
func (n *node) external(spec types.KeySpec, usage types.KeyUsageType) *types.KeyMetadata {
	n.t.Helper()
	return n.createWith(&sdk.CreateKeyInput{KeySpec: spec, KeyUsage: usage, Origin: types.OriginTypeExternal})
}

func (n *node) parameters(c *sdk.Client, keyID *string, alg types.AlgorithmSpec) *sdk.GetParametersForImportOutput {
	n.t.Helper()
	return must[*sdk.GetParametersForImportOutput](n.t)(c.GetParametersForImport(ctx, &sdk.GetParametersForImportInput{
		KeyId: keyID, WrappingAlgorithm: alg, WrappingKeySpec: types.WrappingKeySpecRsa2048,
	}))
}

// wrap does what whoever owns the material does.
func wrap(t testing.TB, alg types.AlgorithmSpec, public, material []byte) []byte {
	t.Helper()
	parsed, err := x509.ParsePKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	encrypt := func(b []byte) []byte {
		h := map[bool]hash.Hash{true: sha256.New(), false: sha1.New()}[strings.HasSuffix(string(alg), "256")]
		out, err := rsa.EncryptOAEP(h, rand.Reader, parsed.(*rsa.PublicKey), b, nil)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if alg == types.AlgorithmSpecRsaesOaepSha1 || alg == types.AlgorithmSpecRsaesOaepSha256 {
		return encrypt(material)
	}
	key := make([]byte, 32)
	rand.Read(key)
	w, err := subtle.NewKWP(key)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := w.Wrap(material)
	if err != nil {
		t.Fatal(err)
	}
	return append(encrypt(key), wrapped...)
}

// imports wraps material and imports it, for ever unless change says otherwise.
func (n *node) imports(k *types.KeyMetadata, material []byte, change func(*sdk.ImportKeyMaterialInput)) (*sdk.ImportKeyMaterialOutput, error) {
	n.t.Helper()
	return n.importsBy(n.Client, k, material, change)
}

func (n *node) importsBy(c *sdk.Client, k *types.KeyMetadata, material []byte, change func(*sdk.ImportKeyMaterialInput)) (*sdk.ImportKeyMaterialOutput, error) {
	n.t.Helper()
	alg := types.AlgorithmSpecRsaesOaepSha256
	if len(material) > 190 {
		alg = types.AlgorithmSpecRsaAesKeyWrapSha256
	}
	p := n.parameters(c, k.KeyId, alg)
	in := &sdk.ImportKeyMaterialInput{
		KeyId: k.KeyId, ImportToken: p.ImportToken, EncryptedKeyMaterial: wrap(n.t, alg, p.PublicKey, material),
		ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire,
	}
	if change != nil {
		change(in)
	}
	return c.ImportKeyMaterial(ctx, in)
}

func (n *node) mustImport(k *types.KeyMetadata, material []byte, change func(*sdk.ImportKeyMaterialInput)) string {
	n.t.Helper()
	out := must[*sdk.ImportKeyMaterialOutput](n.t)(n.imports(k, material, change))
	if *out.KeyId != *k.Arn {
		n.t.Errorf("the answer names %s", *out.KeyId)
	}
	if out.KeyMaterialId == nil {
		return ""
	}
	return *out.KeyMaterialId
}

func asNew(in *sdk.ImportKeyMaterialInput) { in.ImportType = types.ImportTypeNewKeyMaterial }

// until lets the material expire.
func (n *node) until(d time.Duration) func(*sdk.ImportKeyMaterialInput) {
	return func(in *sdk.ImportKeyMaterialInput) {
		in.ExpirationModel, in.ValidTo = types.ExpirationModelTypeKeyMaterialExpires, ptr(n.clock.now().Add(d))
	}
}

func (n *node) deleteMaterial(k *types.KeyMetadata, id *string) *sdk.DeleteImportedKeyMaterialOutput {
	n.t.Helper()
	return must[*sdk.DeleteImportedKeyMaterialOutput](n.t)(n.DeleteImportedKeyMaterial(ctx, &sdk.DeleteImportedKeyMaterialInput{KeyId: k.KeyId, KeyMaterialId: id}))
}

func (n *node) describe(k *types.KeyMetadata) *types.KeyMetadata {
	n.t.Helper()
	return must[*sdk.DescribeKeyOutput](n.t)(n.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: k.KeyId})).KeyMetadata
}

func (n *node) wantState(k *types.KeyMetadata, want types.KeyState) {
	n.t.Helper()
	if got := n.describe(k); got.KeyState != want || got.Enabled != (want == types.KeyStateEnabled) {
		n.t.Errorf("the key is %s (enabled %v), want %s", got.KeyState, got.Enabled, want)
	}
}

// storedState is the state in the key's row. What has expired shows in it only
// after the housekeeping.
func (n *node) storedState(k *types.KeyMetadata) (state string) {
	n.t.Helper()
	if err := n.db.QueryRow(ctx, `SELECT state FROM kms_keys WHERE arn = $1`, *k.Arn).Scan(&state); err != nil {
		n.t.Fatal(err)
	}
	return state
}

func secret(size int) []byte {
	b := make([]byte, size)
	rand.Read(b)
	return b
}

// materialFor makes material of a spec as somebody outside would.
func materialFor(t testing.TB, spec types.KeySpec) []byte {
	t.Helper()
	if strings.HasPrefix(string(spec), "RSA_") {
		return wrappingMaterial() // RSA_2048, as good as another
	}
	material, err := keystore.GenerateMaterial(keystore.Spec(spec))
	if err != nil {
		t.Fatal(err)
	}
	return material
}

// worksAs fails the test unless the key is the one with the material.
func (n *node) worksAs(k *types.KeyMetadata, material []byte) {
	n.t.Helper()
	outside, err := keystore.NewKey(keystore.Spec(k.KeySpec), material)
	if err != nil {
		n.t.Fatal(err)
	}
	defer outside.Close()
	message := []byte("message")
	switch k.KeyUsage {
	case types.KeyUsageTypeGenerateVerifyMac:
		mac := must[*sdk.GenerateMacOutput](n.t)(n.GenerateMac(ctx, &sdk.GenerateMacInput{KeyId: k.KeyId, Message: message, MacAlgorithm: k.MacAlgorithms[0]})).Mac
		if want, err := outside.MAC(ctx, string(k.MacAlgorithms[0]), message); err != nil || !bytes.Equal(mac, want) {
			n.t.Errorf("%s: another MAC: %v", k.KeySpec, err)
		}
		return
	case types.KeyUsageTypeEncryptDecrypt:
		if k.KeySpec == types.KeySpecSymmetricDefault {
			n.opens(encryptSomething(n, k))
			return
		}
		blob, err := outside.Encrypt(ctx, string(k.EncryptionAlgorithms[0]), message, nil)
		if err != nil {
			n.t.Fatal(err)
		}
		out := must[*sdk.DecryptOutput](n.t)(n.Decrypt(ctx, &sdk.DecryptInput{KeyId: k.KeyId, CiphertextBlob: blob, EncryptionAlgorithm: k.EncryptionAlgorithms[0]}))
		if !bytes.Equal(out.Plaintext, message) {
			n.t.Errorf("%s: another plaintext", k.KeySpec)
		}
	}
	public := must[*sdk.GetPublicKeyOutput](n.t)(n.GetPublicKey(ctx, &sdk.GetPublicKeyInput{KeyId: k.KeyId})).PublicKey
	if !bytes.Equal(public, outside.Public().SPKI()) {
		n.t.Errorf("%s: another public key", k.KeySpec)
	}
}

// rotateTo makes a pending material the current one.
func (n *node) rotateTo(k *types.KeyMetadata, id string) {
	n.t.Helper()
	if got := n.turn(k); got != id {
		n.t.Fatalf("the key has turned to %s, not %s", got, id)
	}
}

// materialStates reads the materials of a key, by age.
func (n *node) materialStates(k *types.KeyMetadata) string {
	n.t.Helper()
	rows, err := n.db.Query(ctx, `SELECT state, import_state, handle IS NOT NULL FROM kms_materials WHERE key_arn = $1 ORDER BY seq`, *k.Arn)
	if err != nil {
		n.t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var state, imported string
		var handle bool
		if err := rows.Scan(&state, &imported, &handle); err != nil {
			n.t.Fatal(err)
		}
		if handle != (imported == "IMPORTED") {
			n.t.Errorf("a material is %s, and its handle is there: %v", imported, handle)
		}
		all = append(all, state+" "+imported)
	}
	if err := rows.Err(); err != nil {
		n.t.Fatal(err)
	}
	return strings.Join(all, ", ")
}

func (n *node) condemned() (count int) {
	n.t.Helper()
	if err := n.db.QueryRow(ctx, `SELECT COUNT(*) FROM kms_condemned`).Scan(&count); err != nil {
		n.t.Fatal(err)
	}
	return count
}

func flipped(b []byte, i int) []byte {
	c := bytes.Clone(b)
	c[i] ^= 1
	return c
}
