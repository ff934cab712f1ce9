package kms_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// kinds are all pairs of spec and usage that AWS documents, with the number of
// algorithms that the metadata lists.
var kinds = []struct {
	spec       types.KeySpec
	usage      types.KeyUsageType
	algorithms int
}{
	{types.KeySpecSymmetricDefault, types.KeyUsageTypeEncryptDecrypt, 1},
	{types.KeySpecRsa2048, types.KeyUsageTypeEncryptDecrypt, 2},
	{types.KeySpecRsa2048, types.KeyUsageTypeSignVerify, 6},
	{types.KeySpecRsa3072, types.KeyUsageTypeEncryptDecrypt, 2},
	{types.KeySpecRsa4096, types.KeyUsageTypeSignVerify, 6},
	{types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify, 1},
	{types.KeySpecEccNistP256, types.KeyUsageTypeKeyAgreement, 1},
	{types.KeySpecEccNistP384, types.KeyUsageTypeSignVerify, 1},
	{types.KeySpecEccNistP384, types.KeyUsageTypeKeyAgreement, 1},
	{types.KeySpecEccNistP521, types.KeyUsageTypeSignVerify, 1},
	{types.KeySpecEccNistP521, types.KeyUsageTypeKeyAgreement, 1},
	{types.KeySpecEccSecgP256k1, types.KeyUsageTypeSignVerify, 1},
	{types.KeySpecEccNistEdwards25519, types.KeyUsageTypeSignVerify, 2},
	{types.KeySpecMlDsa44, types.KeyUsageTypeSignVerify, 1},
	{types.KeySpecMlDsa65, types.KeyUsageTypeSignVerify, 1},
	{types.KeySpecMlDsa87, types.KeyUsageTypeSignVerify, 1},
	{types.KeySpecMlKem512, types.KeyUsageTypeEncapsulateDecapsulate, 1},
	{types.KeySpecMlKem768, types.KeyUsageTypeEncapsulateDecapsulate, 1},
	{types.KeySpecMlKem1024, types.KeyUsageTypeEncapsulateDecapsulate, 1},
	{types.KeySpecHmac224, types.KeyUsageTypeGenerateVerifyMac, 1},
	{types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac, 1},
	{types.KeySpecHmac384, types.KeyUsageTypeGenerateVerifyMac, 1},
	{types.KeySpecHmac512, types.KeyUsageTypeGenerateVerifyMac, 1},
}

func TestCreateKeyOfEverySpec(t *testing.T) {
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	materialID := regexp.MustCompile(`^[0-9a-f]{64}$`)
	each(t, func(t *testing.T, n *node) {
		for _, k := range kinds {
			before := time.Now()
			out, err := n.CreateKey(ctx, &sdk.CreateKeyInput{
				KeySpec: k.spec, KeyUsage: k.usage, Description: aws.String("a key"),
			})
			if err != nil {
				t.Fatalf("%s %s: %v", k.spec, k.usage, err)
			}
			m := out.KeyMetadata
			if !uuid.MatchString(*m.KeyId) || *m.Arn != keyARN(account, *m.KeyId) || *m.AWSAccountId != account {
				t.Errorf("%s: names %s %s %s", k.spec, *m.KeyId, *m.Arn, *m.AWSAccountId)
			}
			if m.KeySpec != k.spec || string(m.CustomerMasterKeySpec) != string(k.spec) || m.KeyUsage != k.usage {
				t.Errorf("%s: kind %s %s %s", k.spec, m.KeySpec, m.CustomerMasterKeySpec, m.KeyUsage)
			}
			if !m.Enabled || m.KeyState != types.KeyStateEnabled || m.Origin != types.OriginTypeAwsKms ||
				m.KeyManager != types.KeyManagerTypeCustomer || *m.MultiRegion || *m.Description != "a key" || m.DeletionDate != nil {
				t.Errorf("%s: %+v", k.spec, m)
			}
			if m.CreationDate.Before(before.Add(-time.Second)) || m.CreationDate.After(time.Now().Add(time.Second)) {
				t.Errorf("%s: created %v", k.spec, m.CreationDate)
			}
			counts := []int{
				len(m.EncryptionAlgorithms), len(m.SigningAlgorithms), len(m.MacAlgorithms),
				len(m.KeyAgreementAlgorithms), len(m.EncapsulationAlgorithms),
			}
			slices.Sort(counts)
			if !slices.Equal(counts, []int{0, 0, 0, 0, k.algorithms}) {
				t.Errorf("%s %s: algorithms %v", k.spec, k.usage, counts)
			}
			if symmetric := k.spec == types.KeySpecSymmetricDefault; symmetric != (m.CurrentKeyMaterialId != nil) ||
				symmetric && !materialID.MatchString(*m.CurrentKeyMaterialId) {
				t.Errorf("%s: material id %v", k.spec, m.CurrentKeyMaterialId)
			}
			described := must[*sdk.DescribeKeyOutput](t)(n.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: m.KeyId})).KeyMetadata
			if fmt.Sprintf("%+v", deref(described)) != fmt.Sprintf("%+v", deref(m)) {
				t.Errorf("%s: described %+v\ncreated %+v", k.spec, deref(described), deref(m))
			}
		}
	})
}

// deref prints pointers as what they point at.
func deref(m *types.KeyMetadata) []any {
	return []any{
		*m.KeyId, *m.Arn, m.CreationDate, m.KeySpec, m.KeyUsage, m.KeyState, m.Origin, m.EncryptionAlgorithms,
		m.SigningAlgorithms, m.MacAlgorithms, m.KeyAgreementAlgorithms, m.EncapsulationAlgorithms,
		aws.ToString(m.CurrentKeyMaterialId), aws.ToString(m.Description), m.CustomerMasterKeySpec, *m.MultiRegion,
	}
}

func TestCreateKeyRefusals(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		for _, c := range []struct {
			in            *sdk.CreateKeyInput
			code, message string
		}{
			{
				&sdk.CreateKeyInput{KeySpec: types.KeySpecRsa2048}, "ValidationException",
				"You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.",
			},
			{
				&sdk.CreateKeyInput{KeySpec: types.KeySpecHmac256}, "ValidationException",
				"You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.",
			},
			{
				&sdk.CreateKeyInput{KeySpec: types.KeySpecEccSecgP256k1, KeyUsage: types.KeyUsageTypeKeyAgreement}, "ValidationException",
				"KeyUsage KEY_AGREEMENT is not compatible with KeySpec ECC_SECG_P256K1",
			},
			{
				&sdk.CreateKeyInput{KeyUsage: types.KeyUsageTypeSignVerify}, "ValidationException",
				"KeyUsage SIGN_VERIFY is not compatible with KeySpec SYMMETRIC_DEFAULT",
			},
			{
				&sdk.CreateKeyInput{KeySpec: "RSA_1024"}, "ValidationException",
				"1 validation error detected: Value 'RSA_1024' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: […",
			},
			{
				&sdk.CreateKeyInput{KeySpec: types.KeySpecSm2, KeyUsage: types.KeyUsageTypeSignVerify}, "UnsupportedOperationException",
				"KeySpec SM2 is not supported in this Region",
			},
			{
				&sdk.CreateKeyInput{KeySpec: types.KeySpecRsa2048, CustomerMasterKeySpec: types.CustomerMasterKeySpecRsa4096}, "ValidationException",
				"You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated.",
			},
			{&sdk.CreateKeyInput{Policy: aws.String("{")}, "MalformedPolicyDocumentException", "*"},
			{
				&sdk.CreateKeyInput{Policy: aws.String(keyPolicy("arn:aws:iam::"+otherAccount+":root", "kms:*"))}, "MalformedPolicyDocumentException",
				"The new key policy will not allow you to update the key policy in the future.",
			},
			{&sdk.CreateKeyInput{Policy: aws.String(keyPolicy("*", "kms:*", strings.Repeat("x", 33<<10)))}, "LimitExceededException", "*"},
			{&sdk.CreateKeyInput{Tags: tags("a", "1", "a", "2")}, "TagException", "Duplicate tag keys"},
			{&sdk.CreateKeyInput{Tags: tags("AWS:x", "1")}, "TagException", "Tags beginning with aws: are reserved"},
			{&sdk.CreateKeyInput{Tags: manyTags(51)}, "LimitExceededException", "A key has at most 50 tags"},
		} {
			_, err := n.CreateKey(ctx, c.in)
			wantError(t, err, c.code, c.message)
		}
		if out := must[*sdk.ListKeysOutput](t)(n.ListKeys(ctx, &sdk.ListKeysInput{})); len(out.Keys) != 0 {
			t.Errorf("refused keys exist: %v", out.Keys)
		}
	})
}

func TestCreateKeyAcceptsTheDeprecatedSpec(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		out, err := n.CreateKey(ctx, &sdk.CreateKeyInput{
			CustomerMasterKeySpec: types.CustomerMasterKeySpecEccNistP384, KeyUsage: types.KeyUsageTypeSignVerify,
		})
		if err != nil || out.KeyMetadata.KeySpec != types.KeySpecEccNistP384 {
			t.Fatalf("%v %v", out, err)
		}
		out, err = n.CreateKey(ctx, &sdk.CreateKeyInput{})
		if err != nil || out.KeyMetadata.KeySpec != types.KeySpecSymmetricDefault {
			t.Fatalf("%v %v", out, err)
		}
	})
}

func TestCreateKeyNeedsPermission(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		nobody := n.as(account, "nobody", allow("kms:ListKeys"))
		_, err := nobody.CreateKey(ctx, &sdk.CreateKeyInput{})
		wantError(t, err, "AccessDeniedException", "User: arn:aws:iam::"+account+":user/nobody is not authorized to perform: kms:CreateKey…")
		// Tags need a permission of their own.
		creator := n.as(account, "creator", allow("kms:CreateKey"))
		_, err = creator.CreateKey(ctx, &sdk.CreateKeyInput{Tags: tags("a", "1")})
		wantError(t, err, "AccessDeniedException", "*")
		if _, err = creator.CreateKey(ctx, &sdk.CreateKeyInput{}); err != nil {
			t.Error(err)
		}
	})
}

func TestKeysAreFoundByEveryName(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.signingKey()
		n.alias("alias/app/signing", k)
		for _, name := range []string{*k.KeyId, *k.Arn, "alias/app/signing", aliasARN(account, "alias/app/signing")} {
			out, err := n.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: &name})
			if err != nil || *out.KeyMetadata.Arn != *k.Arn {
				t.Errorf("DescribeKey %s: %v", name, err)
			}
			signature, err := n.sign(name, "m")
			if err != nil {
				t.Errorf("Sign %s: %v", name, err)
			}
			if matched, err := n.verify(name, "m", signature); err != nil || matched != *k.Arn {
				t.Errorf("Verify %s: %s %v", name, matched, err)
			}
		}
	})
}

func TestNamesThatAreNotFound(t *testing.T) {
	const id = "1234abcd-12ab-34cd-56ef-1234567890ab"
	each(t, func(t *testing.T, n *node) {
		k := n.signingKey()
		n.alias("alias/x", k)
		// Some operations take an alias, some do not.
		describe := func(name string) error {
			_, err := n.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: &name})
			return err
		}
		sign := func(name string) error { _, err := n.sign(name, "m"); return err }
		disable := func(name string) error {
			_, err := n.DisableKey(ctx, &sdk.DisableKeyInput{KeyId: &name})
			return err
		}
		for _, c := range []struct{ name, code, message string }{
			{id, "NotFoundException", "Key '" + keyARN(account, id) + "' does not exist"},
			{keyARN(account, id), "NotFoundException", "Key '" + keyARN(account, id) + "' does not exist"},
			{"mrk-d3b95762d3b95762d3b95762d3b95762", "NotFoundException", "Key '" + keyARN(account, "mrk-d3b95762d3b95762d3b95762d3b95762") + "' does not exist"},
			{"fake-key-id", "NotFoundException", "Invalid keyId 'fake-key-id'"},
			{"134f2428cec14b25a1ae9048164dba47", "NotFoundException", "Invalid keyId '134f2428cec14b25a1ae9048164dba47'"},
			{"mrk-fake-key-id", "NotFoundException", "Invalid keyId 'mrk-fake-key-id'"},
			{strings.ToUpper(*k.KeyId), "NotFoundException", "Invalid keyId…"},
			{strings.Replace(*k.Arn, region, "ap-southeast-1", 1), "NotFoundException", "Invalid arn ap-southeast-1"},
			{"arn:aws:kms:" + region, "InvalidArnException", "Invalid arn…"},
			{"arn:aws:s3:::bucket", "InvalidArnException", "Invalid arn…"},
			{"arn:aws:kms:" + region + ":" + account + ":nothing/x", "InvalidArnException", "Invalid arn…"},
			{"arn:aws-cn:kms:" + region + ":" + account + ":key/" + id, "InvalidArnException", "Invalid arn…"},
		} {
			for _, op := range []func(string) error{describe, sign, disable} {
				wantError(t, op(c.name), c.code, c.message)
			}
		}
		for _, op := range []func(string) error{describe, sign} {
			wantError(t, op("alias/none"), "NotFoundException", "Alias "+aliasARN(account, "alias/none")+" is not found.")
			wantError(t, op(aliasARN(account, "alias/none")), "NotFoundException", "Alias "+aliasARN(account, "alias/none")+" is not found.")
		}
		wantError(t, disable("alias/x"), "NotFoundException", "Invalid keyId 'alias/x'")
		wantError(t, disable(aliasARN(account, "alias/x")), "InvalidArnException", "*")
	})
}

// Whether a key exists in another account must not show.
func TestAnotherAccountsKeys(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.signingKey()
		n.alias("alias/x", k)
		other := n.as(otherAccount, "", "")
		sign := func(name string) error {
			_, err := other.Sign(ctx, &sdk.SignInput{KeyId: &name, Message: []byte("m"), SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
			return err
		}
		missing := "1234abcd-12ab-34cd-56ef-1234567890ab"
		exists, none := sign(*k.Arn), sign(keyARN(account, missing))
		wantError(t, exists, "AccessDeniedException", "*")
		wantError(t, none, "AccessDeniedException", "*")
		if a, b := strings.ReplaceAll(exists.Error(), *k.KeyId, ""), strings.ReplaceAll(none.Error(), missing, ""); cutRequestID(a) != cutRequestID(b) {
			t.Errorf("a key that exists is answered with\n%s\none that does not with\n%s", a, b)
		}
		wantError(t, sign(aliasARN(account, "alias/none")), "AccessDeniedException", "*")
		// A bare id is looked for in the caller's own account.
		wantError(t, sign(*k.KeyId), "NotFoundException", "Key '"+keyARN(otherAccount, *k.KeyId)+"' does not exist")
		wantError(t, sign("alias/x"), "NotFoundException", "*")

		both := `{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + account + `:root"},"Action":"kms:*","Resource":"*"},
			{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + otherAccount + `:root"},"Action":"kms:*","Resource":"*"}]}`
		if _, err := n.PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{KeyId: k.KeyId, Policy: &both}); err != nil {
			t.Fatal(err)
		}
		if err := sign(*k.Arn); err != nil {
			t.Errorf("allowed by both sides: %v", err)
		}
		if err := sign(aliasARN(account, "alias/x")); err != nil {
			t.Errorf("by alias ARN: %v", err)
		}
		// Management of another account's key is never allowed.
		_, err := other.DisableKey(ctx, &sdk.DisableKeyInput{KeyId: k.Arn})
		wantError(t, err, "AccessDeniedException", "*")
		_, err = other.TagResource(ctx, &sdk.TagResourceInput{KeyId: k.Arn, Tags: tags("a", "b")})
		wantError(t, err, "AccessDeniedException", "*")
	})
}

func cutRequestID(s string) string {
	return regexp.MustCompile(`RequestID: [^,]*`).ReplaceAllString(s, "")
}

func TestRegionsAreApart(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.signingKey()
		elsewhere := n.asIn("us-west-2", account, "", "")
		_, err := elsewhere.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: k.KeyId})
		wantError(t, err, "NotFoundException", "*")
		if out := must[*sdk.ListKeysOutput](t)(elsewhere.ListKeys(ctx, &sdk.ListKeysInput{})); len(out.Keys) != 0 {
			t.Errorf("another Region lists %v", out.Keys)
		}
	})
}

func TestUpdateKeyDescription(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.signingKey()
		for _, text := range []string{"new", ""} {
			if _, err := n.UpdateKeyDescription(ctx, &sdk.UpdateKeyDescriptionInput{KeyId: k.KeyId, Description: &text}); err != nil {
				t.Fatal(err)
			}
			out := must[*sdk.DescribeKeyOutput](t)(n.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: k.KeyId}))
			if aws.ToString(out.KeyMetadata.Description) != text {
				t.Errorf("description is %q, want %q", aws.ToString(out.KeyMetadata.Description), text)
			}
		}
	})
}

// keyPolicy is a key policy of one statement.
func keyPolicy(principal, action string, sid ...string) string {
	return `{"Version":"2012-10-17","Statement":[{"Sid":"` + strings.Join(sid, "") + `","Effect":"Allow","Principal":{"AWS":"` +
		principal + `"},"Action":"` + action + `","Resource":"*"}]}`
}

func tags(pairs ...string) []types.Tag {
	var all []types.Tag
	for i := 0; i < len(pairs); i += 2 {
		all = append(all, types.Tag{TagKey: &pairs[i], TagValue: &pairs[i+1]})
	}
	return all
}

func manyTags(n int) []types.Tag {
	var all []types.Tag
	for i := range n {
		all = append(all, types.Tag{TagKey: ptr(fmt.Sprintf("key-%03d", i)), TagValue: ptr("v")})
	}
	return all
}
