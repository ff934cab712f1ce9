package kms_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/mlkem"
	"crypto/rsa"
	"crypto/x509"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/keystore"
)

func TestGenerateDataKey(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		n.alias("alias/data", k)
		context := map[string]string{"purpose": "test", "tenant": "a"}
		for _, c := range []struct {
			spec  types.DataKeySpec
			bytes *int32
			size  int
		}{
			{spec: types.DataKeySpecAes128, size: 16},
			{spec: types.DataKeySpecAes256, size: 32},
			{bytes: ptr(int32(1)), size: 1},
			{bytes: ptr(int32(1024)), size: 1024},
		} {
			made := must[*sdk.GenerateDataKeyOutput](t)(n.GenerateDataKey(ctx, &sdk.GenerateDataKeyInput{
				KeyId: ptr("alias/data"), KeySpec: c.spec, NumberOfBytes: c.bytes, EncryptionContext: context,
			}))
			if len(made.Plaintext) != c.size || *made.KeyId != *k.Arn || *made.KeyMaterialId != *k.CurrentKeyMaterialId || made.CiphertextForRecipient != nil {
				t.Errorf("%d bytes of %s, material %s", len(made.Plaintext), *made.KeyId, *made.KeyMaterialId)
			}
			if c.size > 8 && bytes.Contains(made.CiphertextBlob, made.Plaintext) {
				t.Error("the ciphertext holds the plaintext")
			}
			n.opensAs(made.CiphertextBlob, context, made.Plaintext)
			_, err := n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: made.CiphertextBlob})
			wantError(t, err, "InvalidCiphertextException", "")
			again := must[*sdk.GenerateDataKeyOutput](t)(n.GenerateDataKey(ctx, &sdk.GenerateDataKeyInput{KeyId: k.KeyId, KeySpec: c.spec, NumberOfBytes: c.bytes}))
			if c.size > 8 && bytes.Equal(again.Plaintext, made.Plaintext) {
				t.Error("two data keys are the same")
			}

			without := must[*sdk.GenerateDataKeyWithoutPlaintextOutput](t)(n.GenerateDataKeyWithoutPlaintext(ctx, &sdk.GenerateDataKeyWithoutPlaintextInput{
				KeyId: k.KeyId, KeySpec: c.spec, NumberOfBytes: c.bytes, EncryptionContext: context,
			}))
			opened := must[*sdk.DecryptOutput](t)(n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: without.CiphertextBlob, EncryptionContext: context}))
			if len(opened.Plaintext) != c.size || c.size > 8 && bytes.Equal(opened.Plaintext, make([]byte, c.size)) ||
				*without.KeyId != *k.Arn || *without.KeyMaterialId != *k.CurrentKeyMaterialId {
				t.Errorf("%d bytes of %s", len(opened.Plaintext), *without.KeyId)
			}
		}
	})
}

// opensAs fails the test unless blob decrypts to plaintext.
func (n *node) opensAs(blob []byte, context map[string]string, plaintext []byte) {
	n.t.Helper()
	opened := must[*sdk.DecryptOutput](n.t)(n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: blob, EncryptionContext: context}))
	if !bytes.Equal(opened.Plaintext, plaintext) {
		n.t.Error("it decrypts to something else")
	}
}

// Pairs of every spec work outside the server, with other code than made them.
func TestGenerateDataKeyPair(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		context := map[string]string{"purpose": "test"}
		for _, spec := range types.DataKeyPairSpec("").Values() {
			switch spec {
			case types.DataKeyPairSpecSm2, types.DataKeyPairSpecRsa3072, types.DataKeyPairSpecRsa4096:
				continue // SM2 below; the long ones take seconds and differ in nothing
			}
			made, err := n.GenerateDataKeyPair(ctx, &sdk.GenerateDataKeyPairInput{KeyId: k.KeyId, KeyPairSpec: spec, EncryptionContext: context})
			if err != nil {
				t.Fatalf("%s: %v", spec, err)
			}
			if *made.KeyId != *k.Arn || made.KeyPairSpec != spec || *made.KeyMaterialId != *k.CurrentKeyMaterialId {
				t.Errorf("%s: %s %s", spec, *made.KeyId, made.KeyPairSpec)
			}
			checkPair(t, spec, made.PrivateKeyPlaintext, made.PublicKey)
			n.opensAs(made.PrivateKeyCiphertextBlob, context, made.PrivateKeyPlaintext)

			without := must[*sdk.GenerateDataKeyPairWithoutPlaintextOutput](t)(n.GenerateDataKeyPairWithoutPlaintext(ctx, &sdk.GenerateDataKeyPairWithoutPlaintextInput{
				KeyId: k.KeyId, KeyPairSpec: spec, EncryptionContext: context,
			}))
			opened := must[*sdk.DecryptOutput](t)(n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: without.PrivateKeyCiphertextBlob, EncryptionContext: context}))
			checkPair(t, spec, opened.Plaintext, without.PublicKey)
			if bytes.Equal(without.PublicKey, made.PublicKey) || *without.KeyId != *k.Arn || without.KeyPairSpec != spec || *without.KeyMaterialId != *k.CurrentKeyMaterialId {
				t.Errorf("%s: two pairs are the same, or of another key", spec)
			}
		}
	})
}

// checkPair fails the test unless the halves are a pair of spec.
func checkPair(t *testing.T, spec types.DataKeyPairSpec, private, public []byte) {
	t.Helper()
	parsed, err := keystore.ParsePublicKey(public)
	if err != nil || string(parsed.Spec()) != string(spec) {
		t.Fatalf("%s: the public half: %v", spec, err)
	}
	switch spec {
	case types.DataKeyPairSpecEccSecgP256k1, types.DataKeyPairSpecMlKem512, types.DataKeyPairSpecMlKem768, types.DataKeyPairSpecMlKem1024:
		key, err := keystore.NewKey(keystore.Spec(spec), private) // crypto/x509 does not read these
		if err != nil || !bytes.Equal(key.Public().SPKI(), public) {
			t.Errorf("%s: not a pair: %v", spec, err)
		}
		if n := len(private); spec != types.DataKeyPairSpecEccSecgP256k1 && n > mlkem.SeedSize+32 {
			t.Errorf("%s: a private key of %d bytes is not in the seed form", spec, n)
		}
		return
	}
	key, err := x509.ParsePKCS8PrivateKey(private)
	if err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	var half any
	switch k := key.(type) {
	case *rsa.PrivateKey:
		half = &k.PublicKey
	case *ecdsa.PrivateKey:
		half = &k.PublicKey
	case ed25519.PrivateKey:
		half = k.Public()
	}
	if spki, err := x509.MarshalPKIXPublicKey(half); err != nil || !bytes.Equal(spki, public) {
		t.Errorf("%s: not a pair: %v", spec, err)
	}
}

// dataKeyOperations calls each of the four with one key and context.
var dataKeyOperations = map[string]func(ctx context.Context, c *sdk.Client, keyID *string, dryRun bool) error{
	"GenerateDataKey": func(ctx context.Context, c *sdk.Client, keyID *string, dryRun bool) error {
		_, err := c.GenerateDataKey(ctx, &sdk.GenerateDataKeyInput{KeyId: keyID, KeySpec: types.DataKeySpecAes256, DryRun: &dryRun})
		return err
	},
	"GenerateDataKeyWithoutPlaintext": func(ctx context.Context, c *sdk.Client, keyID *string, dryRun bool) error {
		_, err := c.GenerateDataKeyWithoutPlaintext(ctx, &sdk.GenerateDataKeyWithoutPlaintextInput{KeyId: keyID, KeySpec: types.DataKeySpecAes256, DryRun: &dryRun})
		return err
	},
	"GenerateDataKeyPair": func(ctx context.Context, c *sdk.Client, keyID *string, dryRun bool) error {
		_, err := c.GenerateDataKeyPair(ctx, &sdk.GenerateDataKeyPairInput{KeyId: keyID, KeyPairSpec: types.DataKeyPairSpecEccNistP256, DryRun: &dryRun})
		return err
	},
	"GenerateDataKeyPairWithoutPlaintext": func(ctx context.Context, c *sdk.Client, keyID *string, dryRun bool) error {
		_, err := c.GenerateDataKeyPairWithoutPlaintext(ctx, &sdk.GenerateDataKeyPairWithoutPlaintextInput{KeyId: keyID, KeyPairSpec: types.DataKeyPairSpecEccNistP256, DryRun: &dryRun})
		return err
	},
}

func TestDataKeyRefusals(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k, rsaKey, signing := n.symmetricKey(), n.create(types.KeySpecRsa2048, types.KeyUsageTypeEncryptDecrypt), n.signingKey()
		for op, call := range dataKeyOperations {
			wantError(t, call(ctx, n.Client, k.KeyId, true), "DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
			wantError(t, call(ctx, n.Client, rsaKey.KeyId, false), "InvalidKeyUsageException", "Algorithm SYMMETRIC_DEFAULT is incompatible with key spec RSA_2048.")
			wantError(t, call(ctx, n.Client, signing.KeyId, false), "InvalidKeyUsageException", *signing.Arn+" key usage is SIGN_VERIFY which is not valid for "+op+".")
			wantError(t, call(ctx, n.Client, ptr("alias/none"), false), "NotFoundException", "*")
			// Who may do one of the four may do that one.
			only := n.as(account, "only"+op, allow("kms:"+op))
			for other, call := range dataKeyOperations {
				if err := call(ctx, only, k.KeyId, false); (err == nil) != (other == op) {
					t.Errorf("%s with permission for %s: %v", other, op, err)
				}
			}
		}
		if used, _ := n.lastUse(rsaKey); used != "" {
			t.Errorf("a refused data key counts as a use: %s", used)
		}

		const neither = "Please specify either number of bytes or key spec."
		for _, c := range []struct {
			spec    types.DataKeySpec
			bytes   *int32
			message string
		}{
			{"", nil, neither},
			{types.DataKeySpecAes256, ptr(int32(32)), neither},
			{"", ptr(int32(0)), "1 validation error detected: Value '0' at 'numberOfBytes' failed to satisfy constraint: Member must have value greater than or equal to 1"},
			{"", ptr(int32(1025)), "1 validation error detected: Value '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have value less than or equal to 1024"},
			{"AES_192", nil, "1 validation error detected: Value 'AES_192' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [AES_256, AES_128]"},
		} {
			_, err := n.GenerateDataKey(ctx, &sdk.GenerateDataKeyInput{KeyId: k.KeyId, KeySpec: c.spec, NumberOfBytes: c.bytes})
			wantError(t, err, "ValidationException", c.message)
			_, err = n.GenerateDataKeyWithoutPlaintext(ctx, &sdk.GenerateDataKeyWithoutPlaintextInput{KeyId: k.KeyId, KeySpec: c.spec, NumberOfBytes: c.bytes})
			wantError(t, err, "ValidationException", c.message)
		}
		_, err := n.GenerateDataKeyPair(ctx, &sdk.GenerateDataKeyPairInput{KeyId: k.KeyId, KeyPairSpec: types.DataKeyPairSpecSm2})
		wantError(t, err, "UnsupportedOperationException", "KeyPairSpec SM2 is not supported in this Region")
		recipient := &types.RecipientInfo{AttestationDocument: []byte("document"), KeyEncryptionAlgorithm: types.KeyEncryptionMechanismRsaesOaepSha256}
		_, err = n.GenerateDataKey(ctx, &sdk.GenerateDataKeyInput{KeyId: k.KeyId, KeySpec: types.DataKeySpecAes256, Recipient: recipient})
		wantError(t, err, "UnsupportedOperationException", "Recipient…")
		_, err = n.GenerateDataKeyPair(ctx, &sdk.GenerateDataKeyPairInput{KeyId: k.KeyId, KeyPairSpec: types.DataKeyPairSpecEccNistP256, Recipient: recipient})
		wantError(t, err, "UnsupportedOperationException", "Recipient…")
		_, err = n.GenerateDataKey(ctx, &sdk.GenerateDataKeyInput{KeyId: k.KeyId, KeySpec: types.DataKeySpecAes256, GrantTokens: []string{"forged"}})
		wantError(t, err, "InvalidGrantTokenException", "*")
	})
}
