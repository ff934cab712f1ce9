package kms_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

func TestParametersThatAreRefused(t *testing.T) {
	eachImporting(t, func(t *testing.T, n *node) {
		k, ours := n.external(types.KeySpecSymmetricDefault, ""), n.symmetricKey()
		ask := func(c *sdk.Client, k *types.KeyMetadata, alg types.AlgorithmSpec, spec types.WrappingKeySpec) error {
			_, err := c.GetParametersForImport(ctx, &sdk.GetParametersForImportInput{KeyId: k.KeyId, WrappingAlgorithm: alg, WrappingKeySpec: spec})
			return err
		}
		const oaep, rsa2048 = types.AlgorithmSpecRsaesOaepSha256, types.WrappingKeySpecRsa2048
		wantError(t, ask(n.Client, k, types.AlgorithmSpecRsaesPkcs1V15, rsa2048), "UnsupportedOperationException", "WrappingAlgorithm RSAES_PKCS1_V1_5 is not supported.")
		wantError(t, ask(n.Client, k, types.AlgorithmSpecSm2pke, rsa2048), "UnsupportedOperationException", "WrappingAlgorithm SM2PKE is not supported.")
		wantError(t, ask(n.Client, k, oaep, types.WrappingKeySpecSm2), "UnsupportedOperationException", "WrappingKeySpec SM2 is not supported.")
		wantError(t, ask(n.Client, k, "RSA", rsa2048), "ValidationException", "1 validation error…")
		wantError(t, ask(n.Client, ours, oaep, rsa2048), "UnsupportedOperationException", *ours.Arn+" origin is AWS_KMS which is not valid for this operation.")
		wantError(t, ask(n.as(account, "nobody", ""), k, oaep, rsa2048), "AccessDeniedException", "*")
		wantError(t, ask(n.Client, &types.KeyMetadata{KeyId: ptr("alias/x")}, oaep, rsa2048), "NotFoundException", "*")
		n.scheduleDeletion(k, 7)
		wantError(t, ask(n.Client, k, oaep, rsa2048), "KMSInvalidStateException", *k.Arn+" is pending deletion.")
	})
}

// One real wrapping key of each size, from the store itself.
func TestWrappingKeysOfEverySize(t *testing.T) {
	n := newNode(t, sqldbtest.SQLite(t), options{})
	k := n.external(types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac)
	material := secret(32)
	for spec, bits := range map[types.WrappingKeySpec]int{types.WrappingKeySpecRsa2048: 2048, types.WrappingKeySpecRsa3072: 3072, types.WrappingKeySpecRsa4096: 4096} {
		p := must[*sdk.GetParametersForImportOutput](t)(n.GetParametersForImport(ctx, &sdk.GetParametersForImportInput{
			KeyId: k.KeyId, WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha1, WrappingKeySpec: spec,
		}))
		public, err := x509.ParsePKIXPublicKey(p.PublicKey)
		if err != nil || public.(*rsa.PublicKey).N.BitLen() != bits || len(p.ImportToken) > 6144 {
			t.Errorf("%s: a token of %d bytes, %v", spec, len(p.ImportToken), err)
		}
		_, err = n.ImportKeyMaterial(ctx, &sdk.ImportKeyMaterialInput{
			KeyId: k.KeyId, ImportToken: p.ImportToken, EncryptedKeyMaterial: wrap(t, types.AlgorithmSpecRsaesOaepSha1, p.PublicKey, material),
			ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire,
		})
		if err != nil {
			t.Errorf("%s: %v", spec, err)
		}
	}
	n.worksAs(n.describe(k), material)
}

// Whoever holds a token of one key can do nothing with another, nor with the token
// altered, nor later.
func TestTokensAreBoundAndExpire(t *testing.T) {
	eachImporting(t, func(t *testing.T, n *node) {
		k, other := n.external(types.KeySpecSymmetricDefault, ""), n.external(types.KeySpecSymmetricDefault, "")
		stranger := n.as(otherAccount, "", "")
		theirs := must[*sdk.CreateKeyOutput](t)(stranger.CreateKey(ctx, &sdk.CreateKeyInput{Origin: types.OriginTypeExternal})).KeyMetadata
		elsewhere := must[*sdk.CreateKeyOutput](t)(n.asIn("us-west-2", account, "", "").CreateKey(ctx, &sdk.CreateKeyInput{Origin: types.OriginTypeExternal})).KeyMetadata
		const alg = types.AlgorithmSpecRsaesOaepSha256
		material := secret(32)
		p := n.parameters(n.Client, k.KeyId, alg)
		wrapped := wrap(t, alg, p.PublicKey, material)
		in := func(key *types.KeyMetadata, token []byte) *sdk.ImportKeyMaterialInput {
			return &sdk.ImportKeyMaterialInput{
				KeyId: key.KeyId, ImportToken: token, EncryptedKeyMaterial: wrapped, ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire,
			}
		}
		for i := range len(p.ImportToken) {
			if i > 40 && i%97 != 0 {
				continue
			}
			_, err := n.ImportKeyMaterial(ctx, in(k, flipped(p.ImportToken, i)))
			wantError(t, err, "InvalidImportTokenException", "")
			if i > 0 {
				_, err := n.ImportKeyMaterial(ctx, in(k, p.ImportToken[:i]))
				wantError(t, err, "InvalidImportTokenException", "")
			}
		}
		_, err := n.ImportKeyMaterial(ctx, in(k, append(bytes.Clone(p.ImportToken), 0)))
		wantError(t, err, "InvalidImportTokenException", "")
		_, err = n.ImportKeyMaterial(ctx, in(other, p.ImportToken))
		wantError(t, err, "InvalidImportTokenException", "")
		_, err = stranger.ImportKeyMaterial(ctx, in(theirs, p.ImportToken))
		wantError(t, err, "InvalidImportTokenException", "")
		_, err = stranger.ImportKeyMaterial(ctx, in(k, p.ImportToken)) // a key of the same id, in the stranger's account
		wantError(t, err, "NotFoundException", "*")
		_, err = n.asIn("us-west-2", account, "", "").ImportKeyMaterial(ctx, in(elsewhere, p.ImportToken))
		wantError(t, err, "InvalidImportTokenException", "")
		// The sealed material of a key is no token, nor the other way about.
		var handle []byte
		if err := n.db.QueryRow(ctx, `SELECT handle FROM kms_materials WHERE key_arn = $1`, *n.create(types.KeySpecRsa2048, types.KeyUsageTypeSignVerify).Arn).Scan(&handle); err != nil {
			t.Fatal(err)
		}
		_, err = n.ImportKeyMaterial(ctx, in(k, append(bytes.Clone(p.ImportToken[:11]), handle...)))
		wantError(t, err, "InvalidImportTokenException", "")

		// Who asked again may use either, each with its own public key.
		again := n.parameters(n.Client, k.KeyId, alg)
		if _, err := n.ImportKeyMaterial(ctx, in(k, p.ImportToken)); err != nil {
			t.Errorf("a token is dead because there is another: %v", err)
		}
		if _, err := n.ImportKeyMaterial(ctx, in(k, p.ImportToken)); err != nil {
			t.Errorf("used again: %v", err)
		}
		n.clock.move(24*time.Hour - time.Minute)
		if _, err := n.ImportKeyMaterial(ctx, in(k, again.ImportToken)); err != nil {
			t.Errorf("a minute before its end: %v", err)
		}
		n.clock.move(time.Minute)
		_, err = n.ImportKeyMaterial(ctx, in(k, again.ImportToken))
		wantError(t, err, "ExpiredImportTokenException", "")
		_, err = n.ImportKeyMaterial(ctx, in(other, again.ImportToken)) // which tells nobody that it was good once
		wantError(t, err, "InvalidImportTokenException", "")
	})
}

// A token made by one node is good on every other, and after a restart.
func TestTokensAreGoodOnEveryNode(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		o := importing
		o.root = rootKeyFile(t)
		one := newNode(t, db, o)
		k := one.external(types.KeySpecHmac384, types.KeyUsageTypeGenerateVerifyMac)
		material := secret(48)
		const alg = types.AlgorithmSpecRsaesOaepSha1
		p := one.parameters(one.Client, k.KeyId, alg)
		two := newNode(t, db, o)
		in := &sdk.ImportKeyMaterialInput{
			KeyId: k.KeyId, ImportToken: p.ImportToken, EncryptedKeyMaterial: wrap(t, alg, p.PublicKey, material),
			ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire,
		}
		if _, err := two.ImportKeyMaterial(ctx, in); err != nil {
			t.Fatal(err)
		}
		if _, err := one.ImportKeyMaterial(ctx, in); err != nil {
			t.Errorf("the same material, by another node: %v", err)
		}
		two.worksAs(k, material)
	})
}
