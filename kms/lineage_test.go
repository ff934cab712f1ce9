package kms_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/kms"
	"github.com/keyturn/keyturn/sqldb"
)

// lineages is what rotation knows, held in memory. Changes are announced as
// rotation announces them.
type lineages struct {
	t           *testing.T
	db          *sqldb.DB
	mu          sync.Mutex
	behind      map[string][]string // alias ARN → key ARNs, newest first
	deactivated map[string]bool     // key ARN → may no longer originate
}

func (l *lineages) Lineage(_ context.Context, aliasARN string) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.behind[aliasARN], nil
}

func (l *lineages) Deactivated(_ context.Context, keyARN string) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.deactivated[keyARN], nil
}

func (l *lineages) change(topic string, change func()) {
	l.t.Helper()
	err := l.db.Write(ctx, func(tx *sqldb.Tx) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		change()
		tx.Touch(topic)
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lineages) set(aliasARN string, keys ...*types.KeyMetadata) {
	l.t.Helper()
	var arns []string
	for _, k := range keys {
		arns = append(arns, *k.Arn)
	}
	l.change(aliasARN, func() { l.behind[aliasARN] = arns })
}

func (l *lineages) deactivate(k *types.KeyMetadata, yes bool) {
	l.t.Helper()
	l.change(*k.Arn, func() { l.deactivated[*k.Arn] = yes })
}

func withLineages(t *testing.T, n *node) *lineages {
	l := &lineages{t: t, db: n.db, behind: map[string][]string{}, deactivated: map[string]bool{}}
	n.service.SetLineages(l)
	return l
}

var _ kms.Lineages = (*lineages)(nil)

// What was signed through the alias verifies through the alias, as long as the
// lineage names the generation, and the answer says which it was.
func TestVerifyThroughALineage(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		l := withLineages(t, n)
		name := "alias/x"
		v1, v2, v3 := n.signingKey(), n.signingKey(), n.signingKey()
		n.alias(name, v1)
		signature1 := must[[]byte](t)(n.sign(name, "m"))
		n.moveAlias(name, v2)
		signature2 := must[[]byte](t)(n.sign(name, "m"))

		// A bare alias behaves as AWS's.
		_, err := n.verify(name, "m", signature1)
		wantError(t, err, "KMSInvalidSignatureException", "")

		l.set(aliasARN(account, name), v2, v1)
		for _, form := range []string{name, aliasARN(account, name)} {
			if matched, err := n.verify(form, "m", signature1); err != nil || matched != *v1.Arn {
				t.Errorf("%s: %s %v", form, matched, err)
			}
			if matched, err := n.verify(form, "m", signature2); err != nil || matched != *v2.Arn {
				t.Errorf("%s: %s %v", form, matched, err)
			}
		}
		_, err = n.verify(name, "other", signature1)
		wantError(t, err, "KMSInvalidSignatureException", "")
		// By key id only that key is asked.
		_, err = n.verify(*v2.KeyId, "m", signature1)
		wantError(t, err, "KMSInvalidSignatureException", "")

		// The newest is asked first, with what stands behind the alias in front.
		n.moveAlias(name, v3)
		l.set(aliasARN(account, name), v3, v2, v1)
		if matched, err := n.verify(name, "m", signature1); err != nil || matched != *v1.Arn {
			t.Errorf("%s %v", matched, err)
		}

		// A generation must be enabled, …
		n.disable(v1)
		_, err = n.verify(name, "m", signature1)
		wantError(t, err, "KMSInvalidSignatureException", "")
		n.enable(v1)
		// … and be allowed to the caller by itself.
		deny := `{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Principal":{"AWS":"` + account + `"},"Action":"kms:*","Resource":"*"},
			{"Effect":"Deny","Principal":{"AWS":"` + account + `"},"Action":"kms:Verify","Resource":"*"}]}`
		if _, err := n.PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{KeyId: v1.KeyId, Policy: &deny}); err != nil {
			t.Fatal(err)
		}
		_, err = n.verify(name, "m", signature1)
		wantError(t, err, "KMSInvalidSignatureException", "")
		if _, err = n.verify(name, "m", signature2); err != nil {
			t.Error(err)
		}
		// The overlap ends.
		l.set(aliasARN(account, name), v3)
		_, err = n.verify(name, "m", signature2)
		wantError(t, err, "KMSInvalidSignatureException", "")
	})
}

// The current generation may be out of order, or of another spec after a
// migration: the older ones still verify.
func TestVerifyPastTheCurrentGeneration(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		l := withLineages(t, n)
		name := "alias/x"
		v1, v2 := n.signingKey(), n.create(types.KeySpecMlDsa65, types.KeyUsageTypeSignVerify)
		n.alias(name, v1)
		signature := must[[]byte](t)(n.sign(name, "m"))
		n.moveAlias(name, v2)
		_, err := n.verify(name, "m", signature)
		wantError(t, err, "InvalidKeyUsageException", "Algorithm ECDSA_SHA_256 is incompatible with key spec ML_DSA_65.")
		l.set(aliasARN(account, name), v2, v1)
		if matched, err := n.verify(name, "m", signature); err != nil || matched != *v1.Arn {
			t.Errorf("%s %v", matched, err)
		}
		_, err = n.verify(name, "other", signature)
		wantError(t, err, "KMSInvalidSignatureException", "")
		n.disable(v2)
		if matched, err := n.verify(name, "m", signature); err != nil || matched != *v1.Arn {
			t.Errorf("current disabled: %s %v", matched, err)
		}
		n.disable(v1)
		_, err = n.verify(name, "m", signature)
		wantError(t, err, "DisabledException", *v2.Arn+" is disabled.")
	})
}

func TestVerifyMacThroughALineage(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		l := withLineages(t, n)
		name := "alias/x"
		v1, v2 := n.create(types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac), n.create(types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac)
		n.alias(name, v1)
		mac := must[*sdk.GenerateMacOutput](t)(n.GenerateMac(ctx, &sdk.GenerateMacInput{KeyId: &name, Message: []byte("m"), MacAlgorithm: "HMAC_SHA_256"})).Mac
		n.moveAlias(name, v2)
		in := &sdk.VerifyMacInput{KeyId: &name, Message: []byte("m"), Mac: mac, MacAlgorithm: "HMAC_SHA_256"}
		_, err := n.VerifyMac(ctx, in)
		wantError(t, err, "KMSInvalidMacException", "")
		l.set(aliasARN(account, name), v2, v1)
		if out := must[*sdk.VerifyMacOutput](t)(n.VerifyMac(ctx, in)); *out.KeyId != *v1.Arn || !out.MacValid {
			t.Errorf("%+v", out)
		}
		mac[0] ^= 1
		_, err = n.VerifyMac(ctx, in)
		wantError(t, err, "KMSInvalidMacException", "")
	})
}

func TestDecryptThroughALineage(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		l := withLineages(t, n)
		for _, c := range []struct {
			name      string
			spec      types.KeySpec
			algorithm types.EncryptionAlgorithmSpec
			without   string // the error while the alias is no lineage
		}{
			{"alias/symmetric", types.KeySpecSymmetricDefault, types.EncryptionAlgorithmSpecSymmetricDefault, "IncorrectKeyException"},
			{"alias/rsa", types.KeySpecRsa2048, types.EncryptionAlgorithmSpecRsaesOaepSha256, "InvalidCiphertextException"},
		} {
			v1, v2 := n.create(c.spec, types.KeyUsageTypeEncryptDecrypt), n.create(c.spec, types.KeyUsageTypeEncryptDecrypt)
			n.alias(c.name, v1)
			blob := must[*sdk.EncryptOutput](t)(n.Encrypt(ctx, &sdk.EncryptInput{KeyId: &c.name, Plaintext: []byte("p"), EncryptionAlgorithm: c.algorithm})).CiphertextBlob
			n.moveAlias(c.name, v2)
			in := &sdk.DecryptInput{KeyId: &c.name, CiphertextBlob: blob, EncryptionAlgorithm: c.algorithm}
			_, err := n.Decrypt(ctx, in)
			wantError(t, err, c.without, "*")
			l.set(aliasARN(account, c.name), v2, v1)
			if out := must[*sdk.DecryptOutput](t)(n.Decrypt(ctx, in)); *out.KeyId != *v1.Arn || string(out.Plaintext) != "p" {
				t.Errorf("%s: %+v", c.name, out)
			}
			re := must[*sdk.ReEncryptOutput](t)(n.ReEncrypt(ctx, &sdk.ReEncryptInput{
				SourceKeyId: &c.name, CiphertextBlob: blob, SourceEncryptionAlgorithm: c.algorithm,
				DestinationKeyId: &c.name, DestinationEncryptionAlgorithm: c.algorithm,
			}))
			if *re.SourceKeyId != *v1.Arn || *re.KeyId != *v2.Arn {
				t.Errorf("%s: from %s to %s", c.name, *re.SourceKeyId, *re.KeyId)
			}
			n.disable(v1)
			if _, err := n.Decrypt(ctx, in); err == nil {
				t.Errorf("%s: decrypted with a disabled generation", c.name)
			}
		}
	})
}

// A deactivated generation verifies and decrypts; by its own id, too, it makes
// nothing new.
func TestDeactivatedGenerations(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		l := withLineages(t, n)
		originates := map[string]bool{
			"Sign": true, "Encrypt": true, "GenerateMac": true, "Encapsulate": true, "ReEncrypt": true,
			"GenerateDataKey": true, "GenerateDataKeyWithoutPlaintext": true, "GenerateDataKeyPair": true, "GenerateDataKeyPairWithoutPlaintext": true,
		}
		for op, a := range everyOperation {
			if !originates[op] && !strings.Contains("Verify GetPublicKey Decrypt VerifyMac DeriveSharedSecret Decapsulate", op) {
				continue
			}
			k := n.create(a.spec, a.usage)
			var made []byte
			if a.before != nil {
				made = a.before(n, k)
			}
			if err := a.run(n, k, made); err != nil {
				t.Errorf("%s: %v", op, err)
			}
			l.deactivate(k, true)
			err := a.run(n, k, made)
			if !originates[op] {
				if err != nil {
					t.Errorf("%s of a deactivated generation: %v", op, err)
				}
				continue
			}
			if want := "KMSInvalidStateException: " + *k.Arn + " is a deactivated generation"; !strings.HasPrefix(apiError(err), want) {
				t.Errorf("%s of a deactivated generation: %s", op, apiError(err))
			}
			l.deactivate(k, false) // rolled back
			if err := a.run(n, k, made); err != nil {
				t.Errorf("%s after rolling back: %v", op, err)
			}
		}
	})
}
