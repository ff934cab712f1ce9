package kms_test

import (
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/policy"
)

// A conditionCase is a request that has a value for a condition key: a policy
// that wants right lets it pass, one that wants wrong does not.
type conditionCase struct {
	operator     string
	right, wrong string
	run          func(c *sdk.Client, f *conditionKeys) error
	absent       func(c *sdk.Client, f *conditionKeys) error // a request that has none; nil: not tried
}

// conditionKeys are the keys that the requests are about.
type conditionKeys struct {
	node                                        *node
	symmetric, signing, mac, agreement, primary *types.KeyMetadata
	stays                                       *types.KeyMetadata // the primary key of a Multi-Region key that nobody moves
	external                                    *types.KeyMetadata // waits for its material
	blob                                        []byte             // encrypted under symmetric without a context
	document                                    string             // a key policy
}

func newConditionKeys(n *node) *conditionKeys {
	f := &conditionKeys{
		node: n, symmetric: n.symmetricKey(), signing: n.signingKey(),
		mac:       n.create(types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac),
		agreement: n.create(types.KeySpecEccNistP256, types.KeyUsageTypeKeyAgreement),
		document:  keyPolicyOf(statement("kms:*", rootARN(account))),
	}
	out, err := n.CreateKey(ctx, &sdk.CreateKeyInput{MultiRegion: ptr(true), Tags: tags("Department", "IT")})
	if err != nil {
		n.t.Fatal(err)
	}
	f.primary = out.KeyMetadata
	f.stays = n.createWith(&sdk.CreateKeyInput{MultiRegion: ptr(true)})
	f.external = n.createWith(&sdk.CreateKeyInput{Origin: types.OriginTypeExternal})
	f.blob = encryptSomething(n, f.symmetric)
	n.alias("alias/finance", f.symmetric)
	n.as(account, "eve", "")
	return f
}

func describeBy(c *sdk.Client, id *string) error {
	_, err := c.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: id})
	return err
}

func encryptBare(c *sdk.Client, f *conditionKeys) error { return encrypts(c, f.symmetric) }

func createGrant(change func(*sdk.CreateGrantInput)) func(c *sdk.Client, f *conditionKeys) error {
	return func(c *sdk.Client, f *conditionKeys) error {
		in := &sdk.CreateGrantInput{KeyId: f.symmetric.KeyId, GranteePrincipal: ptr(userARN("eve")), Operations: ops("Encrypt"), DryRun: ptr(true)}
		change(in)
		_, err := c.CreateGrant(ctx, in)
		return err
	}
}

func toService(in *sdk.CreateGrantInput) {
	in.GranteePrincipal, in.GranteeServicePrincipal, in.RetiringServicePrincipal = nil, ptr("a.amazonaws.com"), ptr("b.amazonaws.com")
	in.Constraints = &types.GrantConstraints{SourceArn: ptr("arn:aws:s3:::bucket")}
}

// expireIn lets the material expire tomorrow.
func expireIn(in *sdk.ImportKeyMaterialInput) { in.ValidTo = ptr(time.Now().Add(24 * time.Hour)) }

func date(days int) string {
	return time.Now().Add(time.Duration(days) * 24 * time.Hour).UTC().Format(time.RFC3339)
}

func importMaterial(change func(*sdk.ImportKeyMaterialInput)) func(c *sdk.Client, f *conditionKeys) error {
	return func(c *sdk.Client, f *conditionKeys) error {
		in := &sdk.ImportKeyMaterialInput{KeyId: f.external.KeyId, ImportToken: []byte("t"), EncryptedKeyMaterial: []byte("m")}
		change(in)
		_, err := c.ImportKeyMaterial(ctx, in)
		return ignore(err, "InvalidImportTokenException")
	}
}

func parametersForImport(c *sdk.Client, f *conditionKeys) error {
	_, err := c.GetParametersForImport(ctx, &sdk.GetParametersForImportInput{
		KeyId: f.external.KeyId, WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa2048,
	})
	return err
}

// conditionCases: condition key → a request that has it. From "AWS KMS condition
// keys" in the KMS developer guide.
var conditionCases = map[string]conditionCase{
	"kms:BypassPolicyLockoutSafetyCheck": {operator: "Bool", right: "true", wrong: "false", run: func(c *sdk.Client, f *conditionKeys) error {
		_, err := c.PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{KeyId: f.symmetric.KeyId, Policy: &f.document, BypassPolicyLockoutSafetyCheck: true})
		return err
	}, absent: func(c *sdk.Client, f *conditionKeys) error {
		_, err := c.PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{KeyId: f.symmetric.KeyId, Policy: &f.document})
		return err
	}},
	"kms:CallerAccount":         {operator: "StringEquals", right: account, wrong: otherAccount, run: encryptBare},
	"kms:CustomerMasterKeySpec": {operator: "StringEquals", right: "SYMMETRIC_DEFAULT", wrong: "RSA_2048", run: encryptBare},
	"kms:CustomerMasterKeyUsage": {operator: "StringEquals", right: "SIGN_VERIFY", wrong: "ENCRYPT_DECRYPT", run: func(c *sdk.Client, f *conditionKeys) error {
		return describeBy(c, f.signing.KeyId)
	}},
	"kms:DataKeyPairSpec": {operator: "StringLike", right: "ECC_*", wrong: "RSA_*", run: func(c *sdk.Client, f *conditionKeys) error {
		_, err := c.GenerateDataKeyPair(ctx, &sdk.GenerateDataKeyPairInput{KeyId: f.symmetric.KeyId, KeyPairSpec: types.DataKeyPairSpecEccNistP256})
		return err
	}, absent: encryptBare},
	"kms:EncryptionAlgorithm": {operator: "StringEquals", right: "SYMMETRIC_DEFAULT", wrong: "RSAES_OAEP_SHA_256", run: func(c *sdk.Client, f *conditionKeys) error {
		_, err := c.GenerateDataKey(ctx, &sdk.GenerateDataKeyInput{KeyId: f.symmetric.KeyId, KeySpec: types.DataKeySpecAes256})
		return err
	}},
	"kms:EncryptionContext:tenant": {operator: "StringEquals", right: "a", wrong: "b", run: func(c *sdk.Client, f *conditionKeys) error {
		return encrypts(c, f.symmetric, "Tenant", "a", "other", "b")
	}, absent: encryptBare},
	"kms:EncryptionContextKeys": {operator: "ForAnyValue:StringEquals", right: "Tenant", wrong: "tenant", run: func(c *sdk.Client, f *conditionKeys) error {
		return encrypts(c, f.symmetric, "Tenant", "a", "other", "b")
	}, absent: encryptBare},
	"kms:ExpirationModel": {operator: "StringEquals", right: "KEY_MATERIAL_DOES_NOT_EXPIRE", wrong: "KEY_MATERIAL_EXPIRES", run: importMaterial(func(in *sdk.ImportKeyMaterialInput) {
		in.ExpirationModel = types.ExpirationModelTypeKeyMaterialDoesNotExpire
	}), absent: importMaterial(expireIn)},
	"kms:ValidTo": {operator: "DateLessThan", right: date(2), wrong: date(0), run: importMaterial(expireIn), absent: importMaterial(func(in *sdk.ImportKeyMaterialInput) {
		in.ExpirationModel = types.ExpirationModelTypeKeyMaterialDoesNotExpire
	})},
	"kms:WrappingAlgorithm":        {operator: "StringLike", right: "RSAES_OAEP_*", wrong: "RSA_AES_*", run: parametersForImport, absent: encryptBare},
	"kms:WrappingKeySpec":          {operator: "StringEquals", right: "RSA_2048", wrong: "RSA_4096", run: parametersForImport, absent: encryptBare},
	"kms:GrantConstraintSourceArn": {operator: "ArnEquals", right: "arn:aws:s3:::bucket", wrong: "arn:aws:s3:::other", run: createGrant(toService), absent: createGrant(func(*sdk.CreateGrantInput) {})},
	"kms:GrantConstraintType": {operator: "StringEquals", right: "EncryptionContextSubset", wrong: "EncryptionContextEquals", run: createGrant(func(in *sdk.CreateGrantInput) {
		in.Constraints = &types.GrantConstraints{EncryptionContextSubset: map[string]string{"a": "b"}}
	}), absent: createGrant(func(*sdk.CreateGrantInput) {})},
	"kms:GrantIsForAWSResource": {operator: "Bool", right: "false", wrong: "true", run: createGrant(func(*sdk.CreateGrantInput) {}), absent: encryptBare},
	"kms:GrantOperations": {operator: "ForAllValues:StringEquals", right: "Encrypt", wrong: "Decrypt", run: createGrant(func(in *sdk.CreateGrantInput) {
		in.Operations = ops("Encrypt")
	})},
	"kms:GranteePrincipal":         {operator: "StringEquals", right: userARN("eve"), wrong: userARN("bob"), run: createGrant(func(*sdk.CreateGrantInput) {}), absent: createGrant(toService)},
	"kms:GranteeServicePrincipal":  {operator: "StringEquals", right: "a.amazonaws.com", wrong: "b.amazonaws.com", run: createGrant(toService), absent: createGrant(func(*sdk.CreateGrantInput) {})},
	"kms:RetiringServicePrincipal": {operator: "StringEquals", right: "b.amazonaws.com", wrong: "a.amazonaws.com", run: createGrant(toService), absent: createGrant(func(*sdk.CreateGrantInput) {})},
	"kms:RetiringPrincipal": {operator: "StringEquals", right: userARN("eve"), wrong: userARN("bob"), run: createGrant(func(in *sdk.CreateGrantInput) {
		in.RetiringPrincipal = ptr(userARN("eve"))
	}), absent: createGrant(func(*sdk.CreateGrantInput) {})},
	"kms:KeyAgreementAlgorithm": {operator: "StringEquals", right: "ECDH", wrong: "other", run: func(c *sdk.Client, f *conditionKeys) error {
		public := must[*sdk.GetPublicKeyOutput](f.node.t)(f.node.GetPublicKey(ctx, &sdk.GetPublicKeyInput{KeyId: f.agreement.KeyId})).PublicKey
		_, err := c.DeriveSharedSecret(ctx, &sdk.DeriveSharedSecretInput{KeyId: f.agreement.KeyId, PublicKey: public, KeyAgreementAlgorithm: "ECDH"})
		return err
	}, absent: encryptBare},
	"kms:KeyOrigin": {operator: "StringEquals", right: "AWS_KMS", wrong: "EXTERNAL", run: encryptBare},
	"kms:KeySpec": {operator: "StringLike", right: "ECC_*", wrong: "RSA_*", run: func(c *sdk.Client, _ *conditionKeys) error {
		_, err := c.CreateKey(ctx, &sdk.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify})
		return err
	}},
	"kms:KeyUsage": {operator: "StringEquals", right: "GENERATE_VERIFY_MAC", wrong: "SIGN_VERIFY", run: func(c *sdk.Client, _ *conditionKeys) error {
		_, err := c.CreateKey(ctx, &sdk.CreateKeyInput{KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac})
		return err
	}},
	"kms:MacAlgorithm": {operator: "StringEquals", right: "HMAC_SHA_256", wrong: "HMAC_SHA_512", run: func(c *sdk.Client, f *conditionKeys) error {
		_, err := c.GenerateMac(ctx, &sdk.GenerateMacInput{KeyId: f.mac.KeyId, Message: []byte("m"), MacAlgorithm: types.MacAlgorithmSpecHmacSha256})
		return err
	}, absent: encryptBare},
	"kms:MessageType": {operator: "StringEquals", right: "RAW", wrong: "DIGEST", run: func(c *sdk.Client, f *conditionKeys) error {
		_, err := c.Sign(ctx, &sdk.SignInput{KeyId: f.signing.KeyId, Message: []byte("m"), SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
		return err
	}, absent: encryptBare},
	"kms:MultiRegion": {operator: "Bool", right: "true", wrong: "false", run: func(c *sdk.Client, _ *conditionKeys) error {
		_, err := c.CreateKey(ctx, &sdk.CreateKeyInput{MultiRegion: ptr(true)})
		return err
	}},
	"kms:MultiRegionKeyType": {operator: "StringEquals", right: "PRIMARY", wrong: "REPLICA", run: func(c *sdk.Client, f *conditionKeys) error {
		return describeBy(c, f.stays.KeyId)
	}, absent: encryptBare},
	"kms:PrimaryRegion": {operator: "StringEquals", right: "us-west-2", wrong: region, run: func(c *sdk.Client, f *conditionKeys) error {
		_, err := c.UpdatePrimaryRegion(ctx, &sdk.UpdatePrimaryRegionInput{KeyId: f.primary.KeyId, PrimaryRegion: ptr("us-west-2")})
		return ignore(err, "NotFoundException")
	}, absent: encryptBare},
	"kms:ReplicaRegion": {operator: "StringEquals", right: "us-west-2", wrong: region, run: func(c *sdk.Client, f *conditionKeys) error {
		_, err := c.ReplicateKey(ctx, &sdk.ReplicateKeyInput{KeyId: f.primary.KeyId, ReplicaRegion: ptr("us-west-2")})
		return ignore(err, "AccessDeniedException: "+"kms:CreateKey")
	}, absent: encryptBare},
	"kms:ReEncryptOnSameKey": {operator: "Bool", right: "true", wrong: "false", run: func(c *sdk.Client, f *conditionKeys) error {
		_, err := c.ReEncrypt(ctx, &sdk.ReEncryptInput{CiphertextBlob: f.blob, DestinationKeyId: f.symmetric.KeyId})
		return err
	}, absent: encryptBare},
	"kms:RequestAlias": {operator: "StringEquals", right: "alias/finance", wrong: "alias/*", run: func(c *sdk.Client, _ *conditionKeys) error {
		return describeBy(c, ptr(aliasARN(account, "alias/finance")))
	}, absent: encryptBare},
	"kms:ResourceAliases": {operator: "ForAnyValue:StringLike", right: "alias/fin*", wrong: "alias/other*", run: encryptBare, absent: func(c *sdk.Client, f *conditionKeys) error {
		return describeBy(c, f.mac.KeyId)
	}},
	"kms:RotationPeriodInDays": {operator: "NumericLessThanEquals", right: "365", wrong: "364", run: func(c *sdk.Client, f *conditionKeys) error {
		_, err := c.EnableKeyRotation(ctx, &sdk.EnableKeyRotationInput{KeyId: f.symmetric.KeyId})
		return ignore(err, "UnsupportedOperationException") // nobody turns keys here
	}, absent: encryptBare},
	"kms:ScheduleKeyDeletionPendingWindowInDays": {operator: "NumericGreaterThan", right: "29", wrong: "30", run: func(c *sdk.Client, f *conditionKeys) error {
		_, err := c.ScheduleKeyDeletion(ctx, &sdk.ScheduleKeyDeletionInput{KeyId: f.node.symmetricKey().KeyId})
		return err
	}, absent: encryptBare},
	"kms:SigningAlgorithm": {operator: "StringEquals", right: "ECDSA_SHA_256", wrong: "ECDSA_SHA_384", run: func(c *sdk.Client, f *conditionKeys) error {
		_, err := c.Sign(ctx, &sdk.SignInput{KeyId: f.signing.KeyId, Message: []byte("m"), SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
		return err
	}, absent: encryptBare},

	"aws:ResourceTag/department": {operator: "StringEquals", right: "IT", wrong: "it", run: func(c *sdk.Client, f *conditionKeys) error {
		return describeBy(c, f.primary.KeyId)
	}, absent: encryptBare},
	"aws:RequestTag/Cost": {operator: "StringEquals", right: "1", wrong: "2", run: func(c *sdk.Client, _ *conditionKeys) error {
		_, err := c.CreateKey(ctx, &sdk.CreateKeyInput{Tags: tags("Cost", "1", "other", "2")})
		return err
	}, absent: func(c *sdk.Client, f *conditionKeys) error {
		_, err := c.TagResource(ctx, &sdk.TagResourceInput{KeyId: f.symmetric.KeyId, Tags: tags("other", "1")})
		return err
	}},
	"aws:TagKeys": {operator: "ForAnyValue:StringEquals", right: "Cost", wrong: "Price", run: func(c *sdk.Client, f *conditionKeys) error {
		_, err := c.UntagResource(ctx, &sdk.UntagResourceInput{KeyId: f.symmetric.KeyId, TagKeys: []string{"Cost", "other"}})
		return err
	}, absent: encryptBare},
}

// ignore takes an answer for success that comes after the decision.
func ignore(err error, begins string) error {
	code, about, _ := strings.Cut(begins, ": ")
	if err != nil && errorCode(err) == code && strings.Contains(err.Error(), about) {
		return nil
	}
	return err
}

// Every condition key of KMS has a value for some operation, and a policy that
// reads it allows what it should and nothing else.
func TestConditionKeys(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		f := newConditionKeys(n)
		for key, c := range conditionCases {
			as := func(value string) *sdk.Client {
				return n.as(account, "bob", `{"Version":"2012-10-17","Statement":[
					{"Effect":"Allow","Action":"kms:*","Resource":"*","Condition":{"`+c.operator+`":{"`+key+`":"`+value+`"}}}]}`)
			}
			if err := c.run(as(c.right), f); err != nil && errorCode(err) != "DryRunOperationException" {
				t.Errorf("%s %s %s: %v", key, c.operator, c.right, err)
			}
			if err := c.run(as(c.wrong), f); errorCode(err) != "AccessDeniedException" {
				t.Errorf("%s %s %s: %v", key, c.operator, c.wrong, apiError(err))
			}
			if c.absent != nil {
				if err := c.absent(as(c.right), f); errorCode(err) != "AccessDeniedException" {
					t.Errorf("%s is not there, %s %s: %v", key, c.operator, c.right, apiError(err))
				}
			}
		}
	})
}

// The table above knows every key of KMS that policies may use, but for those
// that are about services and enclaves.
func TestConditionCasesAreComplete(t *testing.T) {
	for name := policy.KMSBypassPolicyLockoutSafetyCheck; name <= policy.KMSWrappingKeySpec; name++ {
		switch name {
		case policy.KMSViaService: // the Guard answers for it; see TestViaService in access
		case policy.KMSRecipientAttestation: // nothing here answers to enclaves
		default:
			found := false
			for key := range conditionCases {
				found = found || strings.HasPrefix(key, policy.Key{Name: name}.String())
			}
			if !found {
				t.Errorf("no request for %s", policy.Key{Name: name})
			}
		}
	}
}

// The sides of ReEncrypt are decided knowing each other, whichever key is the
// source.
func TestReEncryptOnSameKey(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k, other := n.symmetricKey(), n.symmetricKey()
		rsa := n.create(types.KeySpecRsa2048, types.KeyUsageTypeEncryptDecrypt)
		n.alias("alias/k", k)
		blob := encryptSomething(n, k)
		wrapped := must[*sdk.EncryptOutput](t)(n.Encrypt(ctx, &sdk.EncryptInput{KeyId: rsa.KeyId, Plaintext: []byte("p"), EncryptionAlgorithm: "RSAES_OAEP_SHA_256"})).CiphertextBlob
		oaep := types.EncryptionAlgorithmSpecRsaesOaepSha256
		for _, same := range []bool{true, false} {
			value := map[bool]string{true: "true", false: "false"}[same]
			bob := n.as(account, "bob", `{"Version":"2012-10-17","Statement":[
				{"Effect":"Allow","Action":"kms:ReEncrypt*","Resource":"*","Condition":{"Bool":{"kms:ReEncryptOnSameKey":"`+value+`"}}}]}`)
			for _, c := range []struct {
				in   sdk.ReEncryptInput
				same bool
			}{
				{sdk.ReEncryptInput{CiphertextBlob: blob, DestinationKeyId: k.KeyId}, true},
				{sdk.ReEncryptInput{CiphertextBlob: blob, SourceKeyId: ptr("alias/k"), DestinationKeyId: k.Arn}, true},
				{sdk.ReEncryptInput{CiphertextBlob: blob, SourceKeyId: k.KeyId, DestinationKeyId: ptr("alias/k")}, true},
				{sdk.ReEncryptInput{CiphertextBlob: blob, DestinationKeyId: other.KeyId}, false},
				{sdk.ReEncryptInput{CiphertextBlob: blob, SourceKeyId: ptr("alias/k"), DestinationKeyId: rsa.KeyId, DestinationEncryptionAlgorithm: oaep}, false},
				{sdk.ReEncryptInput{CiphertextBlob: wrapped, SourceKeyId: rsa.KeyId, SourceEncryptionAlgorithm: oaep, DestinationKeyId: rsa.Arn, DestinationEncryptionAlgorithm: oaep}, true},
				{sdk.ReEncryptInput{CiphertextBlob: wrapped, SourceKeyId: rsa.KeyId, SourceEncryptionAlgorithm: oaep, DestinationKeyId: k.KeyId}, false},
			} {
				_, err := bob.ReEncrypt(ctx, &c.in)
				if want := map[bool]string{true: "", false: "AccessDeniedException"}[c.same == same]; errorCode(err) != want {
					t.Errorf("%s wanted, %t: %v", value, c.same, apiError(err))
				}
			}
		}
	})
}

// An alias that moves takes the permissions that hang on it along, at once and
// whole: no request is allowed by the name of one key and done with another.
func TestAliasesMovePermissions(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		secret, public := n.symmetricKey(), n.symmetricKey()
		n.alias("alias/app", public)
		byRequest := n.as(account, "one", `{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Action":"kms:Encrypt","Resource":"*","Condition":{"StringEquals":{"kms:RequestAlias":"alias/app"}}}]}`)
		byResource := n.as(account, "two", `{"Version":"2012-10-17","Statement":[
			{"Effect":"Allow","Action":"kms:Encrypt","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/app"}}}]}`)
		encrypt := func(c *sdk.Client, id *string) string {
			out, err := c.Encrypt(ctx, &sdk.EncryptInput{KeyId: id, Plaintext: []byte("m")})
			if err != nil {
				return errorCode(err)
			}
			return *out.KeyId
		}
		names := ptr("alias/app")
		for i, k := range []*types.KeyMetadata{public, secret, public} {
			other := map[*types.KeyMetadata]*types.KeyMetadata{public: secret, secret: public}[k]
			if i > 0 {
				n.moveAlias("alias/app", k)
			}
			for _, c := range []struct {
				who  *sdk.Client
				id   *string
				want string
			}{
				{byRequest, names, *k.Arn},
				{byRequest, k.KeyId, "AccessDeniedException"},
				{byRequest, other.KeyId, "AccessDeniedException"},
				{byResource, names, *k.Arn},
				{byResource, k.Arn, *k.Arn},
				{byResource, other.Arn, "AccessDeniedException"},
			} {
				if got := encrypt(c.who, c.id); got != c.want {
					t.Errorf("by %s: %s, want %s", *c.id, got, c.want)
				}
			}
		}
		if _, err := n.DeleteAlias(ctx, &sdk.DeleteAliasInput{AliasName: names}); err != nil {
			t.Fatal(err)
		}
		if got := encrypt(byResource, public.KeyId); got != "AccessDeniedException" {
			t.Errorf("after DeleteAlias: %s", got)
		}
		// Nor does it help to make an alias of that name in another account.
		elsewhere := n.as(otherAccount, "", "")
		theirs := must[*sdk.CreateKeyOutput](t)(elsewhere.CreateKey(ctx, &sdk.CreateKeyInput{})).KeyMetadata
		if _, err := elsewhere.CreateAlias(ctx, &sdk.CreateAliasInput{AliasName: names, TargetKeyId: theirs.KeyId}); err != nil {
			t.Fatal(err)
		}
		if got := encrypt(byRequest, ptr(aliasARN(otherAccount, "alias/app"))); got != "AccessDeniedException" {
			t.Errorf("by another account's alias: %s", got)
		}
	})
}
