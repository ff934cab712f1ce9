package kms_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/kms"
)

func TestEncryptAndDecrypt(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		for _, size := range []int{1, 64, 4096} {
			plaintext := bytes.Repeat([]byte{'p'}, size)
			for _, context := range []map[string]string{nil, {"a": "1"}, {"b": "", "a": "1", "": "c"}} {
				sealed := must[*sdk.EncryptOutput](t)(n.Encrypt(ctx, &sdk.EncryptInput{KeyId: k.KeyId, Plaintext: plaintext, EncryptionContext: context}))
				if *sealed.KeyId != *k.Arn || sealed.EncryptionAlgorithm != types.EncryptionAlgorithmSpecSymmetricDefault {
					t.Errorf("answer names %s %s", *sealed.KeyId, sealed.EncryptionAlgorithm)
				}
				if bytes.Contains(sealed.CiphertextBlob, plaintext) && size > 1 {
					t.Fatal("the ciphertext holds the plaintext")
				}
				for _, name := range []*string{nil, k.KeyId, k.Arn} {
					opened, err := n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: context, KeyId: name})
					if err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(opened.Plaintext, plaintext) || *opened.KeyId != *k.Arn || *opened.KeyMaterialId != *k.CurrentKeyMaterialId {
						t.Errorf("decrypted %d bytes of key %s material %v", len(opened.Plaintext), *opened.KeyId, opened.KeyMaterialId)
					}
				}
			}
		}
	})
}

// The same encryption context in any order opens; every other one does not.
func TestEncryptionContextIsBound(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		context := map[string]string{"a": "1", "b": "2"}
		blob := must[*sdk.EncryptOutput](t)(n.Encrypt(ctx, &sdk.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("p"), EncryptionContext: context})).CiphertextBlob
		for _, other := range []map[string]string{
			nil, {}, {"a": "1"}, {"a": "1", "b": "3"}, {"A": "1", "b": "2"}, {"a": "1b2"}, {"a": "2", "b": "1"}, {"a": "1", "b": "2", "c": ""},
		} {
			_, err := n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: blob, EncryptionContext: other})
			wantError(t, err, "InvalidCiphertextException", "")
		}
		if _, err := n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: blob, EncryptionContext: map[string]string{"b": "2", "a": "1"}}); err != nil {
			t.Error(err)
		}
		rsaKey := n.create(types.KeySpecRsa2048, types.KeyUsageTypeEncryptDecrypt)
		_, err := n.Encrypt(ctx, &sdk.EncryptInput{KeyId: rsaKey.KeyId, Plaintext: []byte("p"), EncryptionContext: context, EncryptionAlgorithm: types.EncryptionAlgorithmSpecRsaesOaepSha256})
		wantError(t, err, "ValidationException", "*")
	})
}

func TestCiphertextsAreBoundToTheirKey(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		a, b := n.symmetricKey(), n.symmetricKey()
		blob := encryptSomething(n, a)
		_, err := n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: blob, KeyId: b.KeyId})
		wantError(t, err, "IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.")
		signing := n.signingKey()
		_, err = n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: blob, KeyId: signing.KeyId})
		wantError(t, err, "IncorrectKeyException", "*")

		// An attacker who puts the other key's name on the ciphertext.
		moved := bytes.Clone(blob)
		copy(moved, encryptSomething(n, b)[:kms.BlobHeaderLen])
		_, err = n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: moved})
		wantError(t, err, "InvalidCiphertextException", "")
		for i := range blob {
			altered := bytes.Clone(blob)
			altered[i] ^= 0x40
			_, err := n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: altered})
			switch code := errorCode(err); code {
			case "InvalidCiphertextException", "AccessDeniedException":
			default:
				t.Fatalf("byte %d altered: %q", i, code)
			}
		}
		for _, short := range []int{1, kms.BlobHeaderLen - 1, kms.BlobHeaderLen, len(blob) - 1} {
			_, err := n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: blob[:short]})
			wantError(t, err, "InvalidCiphertextException", "")
		}
		_, err = n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: []byte("nothing of ours"), KeyId: a.KeyId})
		wantError(t, err, "InvalidCiphertextException", "")
		// Permission comes before what the bytes look like.
		nobody := n.as(account, "nobody", "")
		_, err = nobody.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: []byte("nothing of ours"), KeyId: a.KeyId})
		wantError(t, err, "AccessDeniedException", "*")
		_, err = nobody.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: blob})
		wantError(t, err, "AccessDeniedException", "*")
		_, err = nobody.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: blob, KeyId: b.KeyId})
		wantError(t, err, "AccessDeniedException", "*")
	})
}

// A ciphertext of another account is opened where both sides allow it; its key
// may then be named by its bare id, as AWS has it.
func TestDecryptAcrossAccounts(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		blob := encryptSomething(n, k)
		other := n.as(otherAccount, "", "")
		_, err := other.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: blob})
		wantError(t, err, "AccessDeniedException", "*")
		policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["` + account + `","` + otherAccount + `"]},"Action":"kms:*","Resource":"*"}]}`
		if _, err := n.PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{KeyId: k.KeyId, Policy: &policy}); err != nil {
			t.Fatal(err)
		}
		for _, name := range []*string{nil, k.KeyId, k.Arn} {
			if out, err := other.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: blob, KeyId: name}); err != nil || string(out.Plaintext) != "p" {
				t.Errorf("named %s: %v", aws.ToString(name), err)
			}
		}
	})
}

func TestRSAEncryption(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.create(types.KeySpecRsa2048, types.KeyUsageTypeEncryptDecrypt)
		for algorithm, most := range map[types.EncryptionAlgorithmSpec]int{
			types.EncryptionAlgorithmSpecRsaesOaepSha1: 214, types.EncryptionAlgorithmSpecRsaesOaepSha256: 190,
		} {
			sealed := must[*sdk.EncryptOutput](t)(n.Encrypt(ctx, &sdk.EncryptInput{KeyId: k.KeyId, Plaintext: make([]byte, most), EncryptionAlgorithm: algorithm}))
			if len(sealed.CiphertextBlob) != 256 {
				t.Errorf("%d bytes of ciphertext", len(sealed.CiphertextBlob))
			}
			opened, err := n.Decrypt(ctx, &sdk.DecryptInput{KeyId: k.KeyId, CiphertextBlob: sealed.CiphertextBlob, EncryptionAlgorithm: algorithm})
			if err != nil || !bytes.Equal(opened.Plaintext, make([]byte, most)) || opened.KeyMaterialId != nil {
				t.Errorf("%s: %v", algorithm, err)
			}
			for _, dryRun := range []bool{false, true} {
				_, err = n.Encrypt(ctx, &sdk.EncryptInput{KeyId: k.KeyId, Plaintext: make([]byte, most+1), EncryptionAlgorithm: algorithm, DryRun: &dryRun})
				wantError(t, err, "ValidationException", fmt.Sprintf("Algorithm %s and key spec RSA_2048 cannot encrypt data larger than %d bytes.", algorithm, most))
			}
			altered := bytes.Clone(sealed.CiphertextBlob)
			altered[100] ^= 1
			_, err = n.Decrypt(ctx, &sdk.DecryptInput{KeyId: k.KeyId, CiphertextBlob: altered, EncryptionAlgorithm: algorithm})
			wantError(t, err, "InvalidCiphertextException", "")
			_, err = n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, EncryptionAlgorithm: algorithm})
			wantError(t, err, "ValidationException", "*") // the key must be named
		}
		_, err := n.Encrypt(ctx, &sdk.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("p")})
		wantError(t, err, "InvalidKeyUsageException", "Algorithm SYMMETRIC_DEFAULT is incompatible with key spec RSA_2048.")
		signing := n.create(types.KeySpecRsa2048, types.KeyUsageTypeSignVerify)
		_, err = n.Encrypt(ctx, &sdk.EncryptInput{KeyId: signing.KeyId, Plaintext: []byte("p"), EncryptionAlgorithm: types.EncryptionAlgorithmSpecRsaesOaepSha1})
		wantError(t, err, "InvalidKeyUsageException", *signing.Arn+" key usage is SIGN_VERIFY which is not valid for Encrypt.")
	})
}

func TestEncryptLimits(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		_, err := n.Encrypt(ctx, &sdk.EncryptInput{KeyId: k.KeyId, Plaintext: make([]byte, 4097)})
		wantError(t, err, "ValidationException", "1 validation error detected: Value at 'plaintext' failed to satisfy constraint: Member must have length less than or equal to 4096")
		_, err = n.Decrypt(ctx, &sdk.DecryptInput{KeyId: k.KeyId})
		wantError(t, err, "ValidationException", "*")
		_, err = n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: []byte("x"), Recipient: &types.RecipientInfo{
			AttestationDocument: []byte("x"), KeyEncryptionAlgorithm: types.KeyEncryptionMechanismRsaesOaepSha256,
		}})
		wantError(t, err, "UnsupportedOperationException", "*")
	})
}

func TestReEncrypt(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		a, b := n.symmetricKey(), n.symmetricKey()
		rsaKey := n.create(types.KeySpecRsa2048, types.KeyUsageTypeEncryptDecrypt)
		from := map[string]string{"from": "a"}
		to := map[string]string{"to": "b"}
		blob := must[*sdk.EncryptOutput](t)(n.Encrypt(ctx, &sdk.EncryptInput{KeyId: a.KeyId, Plaintext: []byte("p"), EncryptionContext: from})).CiphertextBlob
		out := must[*sdk.ReEncryptOutput](t)(n.ReEncrypt(ctx, &sdk.ReEncryptInput{
			CiphertextBlob: blob, SourceEncryptionContext: from, DestinationKeyId: b.KeyId, DestinationEncryptionContext: to,
		}))
		if *out.SourceKeyId != *a.Arn || *out.KeyId != *b.Arn || *out.SourceKeyMaterialId != *a.CurrentKeyMaterialId ||
			*out.DestinationKeyMaterialId != *b.CurrentKeyMaterialId {
			t.Errorf("%+v", out)
		}
		opened := must[*sdk.DecryptOutput](t)(n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: out.CiphertextBlob, EncryptionContext: to, KeyId: b.KeyId}))
		if string(opened.Plaintext) != "p" {
			t.Errorf("got %q", opened.Plaintext)
		}
		// To RSA and back.
		oaep := types.EncryptionAlgorithmSpecRsaesOaepSha256
		out = must[*sdk.ReEncryptOutput](t)(n.ReEncrypt(ctx, &sdk.ReEncryptInput{
			CiphertextBlob: out.CiphertextBlob, SourceEncryptionContext: to, DestinationKeyId: rsaKey.KeyId, DestinationEncryptionAlgorithm: oaep,
		}))
		out = must[*sdk.ReEncryptOutput](t)(n.ReEncrypt(ctx, &sdk.ReEncryptInput{
			CiphertextBlob: out.CiphertextBlob, SourceKeyId: rsaKey.KeyId, SourceEncryptionAlgorithm: oaep, DestinationKeyId: a.KeyId,
		}))
		opened = must[*sdk.DecryptOutput](t)(n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: out.CiphertextBlob}))
		if string(opened.Plaintext) != "p" {
			t.Errorf("got %q", opened.Plaintext)
		}
		_, err := n.ReEncrypt(ctx, &sdk.ReEncryptInput{CiphertextBlob: blob, DestinationKeyId: b.KeyId})
		wantError(t, err, "InvalidCiphertextException", "")
		_, err = n.ReEncrypt(ctx, &sdk.ReEncryptInput{CiphertextBlob: blob, SourceEncryptionContext: from, SourceKeyId: b.KeyId, DestinationKeyId: b.KeyId})
		wantError(t, err, "IncorrectKeyException", "*")

		// Both halves need their permission.
		in := &sdk.ReEncryptInput{CiphertextBlob: blob, SourceEncryptionContext: from, DestinationKeyId: b.KeyId}
		for user, c := range map[string]struct {
			policy string
			ok     bool
		}{
			"from": {allow("kms:ReEncryptFrom"), false}, "to": {allow("kms:ReEncryptTo"), false},
			"both": {allow("kms:ReEncrypt*"), true}, "crypt": {allow("kms:Encrypt", "kms:Decrypt"), false},
		} {
			_, err := n.as(account, user, c.policy).ReEncrypt(ctx, in)
			if (err == nil) != c.ok || err != nil && errorCode(err) != "AccessDeniedException" {
				t.Errorf("with %s: %v", c.policy, err)
			}
		}
	})
}

func FuzzParseBlob(f *testing.F) {
	header, err := kms.AppendBlobHeader("000000000001", "1234abcd-12ab-34cd-56ef-1234567890ab", strings.Repeat("0f", 32))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(header, "body"...))
	f.Add(header)
	f.Add([]byte{1})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, blob []byte) {
		account, keyID, materialID, body, ok := kms.ParseBlob(blob)
		if !ok {
			return
		}
		again, err := kms.AppendBlobHeader(account, keyID, materialID)
		if err != nil || !bytes.Equal(append(again, body...), blob) {
			t.Errorf("%x came back as %x: %v", blob, again, err)
		}
	})
}

// No two encryption contexts have the same encoding.
func FuzzEncryptionContext(f *testing.F) {
	f.Add("a", "b", "c", "d")
	f.Add("", "", "a", "")
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string) {
		one, two := map[string]string{k1: v1}, map[string]string{k2: v2}
		if same := k1 == k2 && v1 == v2; bytes.Equal(kms.AssociatedData(nil, one), kms.AssociatedData(nil, two)) != same {
			t.Errorf("%q and %q", one, two)
		}
		both := map[string]string{k1: v1, k2: v2}
		if k1 != k2 && bytes.Equal(kms.AssociatedData(nil, both), kms.AssociatedData(nil, one)) {
			t.Errorf("%q and %q", both, one)
		}
	})
}
