package kms_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
)

func TestDefaultKeyPolicyIsTheAccounts(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.signingKey()
		out := must[*sdk.GetKeyPolicyOutput](t)(n.GetKeyPolicy(ctx, &sdk.GetKeyPolicyInput{KeyId: k.KeyId, PolicyName: aws.String("default")}))
		if *out.PolicyName != "default" {
			t.Errorf("policy name %s", *out.PolicyName)
		}
		// What was given by default can be put as it is.
		if _, err := n.PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{KeyId: k.KeyId, Policy: out.Policy}); err != nil {
			t.Error(err)
		}
		signs := n.as(account, "signer", allow("kms:Sign"))
		reads := n.as(account, "reader", allow("kms:DescribeKey"))
		in := &sdk.SignInput{KeyId: k.KeyId, Message: []byte("m"), SigningAlgorithm: "ECDSA_SHA_256"}
		if _, err := signs.Sign(ctx, in); err != nil {
			t.Error(err)
		}
		_, err := reads.Sign(ctx, in)
		wantError(t, err, "AccessDeniedException",
			"User: arn:aws:iam::"+account+":user/reader is not authorized to perform: kms:Sign on resource: "+*k.Arn+
				" because no identity-based policy allows the kms:Sign action")
		names := must[*sdk.ListKeyPoliciesOutput](t)(n.ListKeyPolicies(ctx, &sdk.ListKeyPoliciesInput{KeyId: k.KeyId}))
		if len(names.PolicyNames) != 1 || names.PolicyNames[0] != "default" || names.Truncated {
			t.Errorf("policies %v", names.PolicyNames)
		}
	})
}

// A policy that is put decides from the next request on.
func TestPutKeyPolicyDecidesAtOnce(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.signingKey()
		bob := n.as(account, "bob", "")
		in := &sdk.SignInput{KeyId: k.KeyId, Message: []byte("m"), SigningAlgorithm: "ECDSA_SHA_256"}
		_, err := bob.Sign(ctx, in)
		wantError(t, err, "AccessDeniedException", "*")
		put := func(statement string) {
			t.Helper()
			policy := `{"Version":"2012-10-17","Statement":[
				{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + account + `:root"},"Action":"kms:*","Resource":"*"}` + statement + `]}`
			if _, err := n.PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{KeyId: k.KeyId, Policy: &policy}); err != nil {
				t.Fatal(err)
			}
		}
		put(`,{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + account + `:user/bob"},"Action":"kms:Sign","Resource":"*"}`)
		if _, err := bob.Sign(ctx, in); err != nil {
			t.Errorf("allowed by the key policy: %v", err)
		}
		put(`,{"Effect":"Deny","Principal":"*","Action":"kms:Sign","Resource":"*"}`)
		_, err = bob.Sign(ctx, in)
		wantError(t, err, "AccessDeniedException", "*")
		_, err = n.Sign(ctx, in)
		wantError(t, err, "AccessDeniedException", "*") // root too
		put(``)
		if _, err := n.Sign(ctx, in); err != nil {
			t.Error(err)
		}
	})
}

func TestPutKeyPolicyRefusals(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.signingKey()
		root := keyPolicy("arn:aws:iam::"+account+":root", "kms:*")
		for _, c := range []struct{ name, policy, code, message string }{
			{"default", `{"Version":"2012-10-17"`, "MalformedPolicyDocumentException", "*"},
			{
				"default", `{"Version":"2012-10-17","Statement":[{"Sid":"OnlyFromHome","Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIP":"home"}}}]}`,
				"MalformedPolicyDocumentException", `statement "OnlyFromHome"…`,
			},
			{"default", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"}]}`, "MalformedPolicyDocumentException", "*"},
			{
				"default", keyPolicy("arn:aws:iam::"+account+":root", "kms:Get*"), "MalformedPolicyDocumentException",
				"The new key policy will not allow you to update the key policy in the future.",
			},
			{"other", root, "NotFoundException", "No such policy exists"},
		} {
			_, err := n.PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{KeyId: k.KeyId, Policy: &c.policy, PolicyName: &c.name})
			wantError(t, err, c.code, c.message)
		}
		_, err := n.GetKeyPolicy(ctx, &sdk.GetKeyPolicyInput{KeyId: k.KeyId, PolicyName: aws.String("other")})
		wantError(t, err, "NotFoundException", "No such policy exists")

		// The lockout check can be waived, and then it is locked.
		if _, err := n.PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{
			KeyId: k.KeyId, Policy: aws.String(keyPolicy("arn:aws:iam::"+account+":root", "kms:Get*")), BypassPolicyLockoutSafetyCheck: true,
		}); err != nil {
			t.Fatal(err)
		}
		_, err = n.PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{KeyId: k.KeyId, Policy: &root})
		wantError(t, err, "AccessDeniedException", "*")
		_, err = n.GetKeyPolicy(ctx, &sdk.GetKeyPolicyInput{KeyId: k.KeyId})
		if err != nil {
			t.Error(err)
		}
	})
}

// The policy that CreateKey is given must let its maker change it: himself, or
// through the account.
func TestLockoutCheckOfCreateKey(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		maker := n.as(account, "maker", allow("kms:CreateKey"))
		self, root, other := "arn:aws:iam::"+account+":user/maker", "arn:aws:iam::"+account+":root", "arn:aws:iam::"+account+":user/other"
		n.as(account, "other", "")
		create := func(policy string, bypass bool) error {
			_, err := maker.CreateKey(ctx, &sdk.CreateKeyInput{Policy: &policy, BypassPolicyLockoutSafetyCheck: bypass})
			return err
		}
		for _, principal := range []string{self, root, "*"} {
			if err := create(keyPolicy(principal, "kms:*"), false); err != nil {
				t.Errorf("%s: %v", principal, err)
			}
		}
		wantError(t, create(keyPolicy(other, "kms:*"), false), "MalformedPolicyDocumentException", "*")
		wantError(t, create(keyPolicy(self, "kms:Sign"), false), "MalformedPolicyDocumentException", "*")
		if err := create(keyPolicy(other, "kms:*"), true); err != nil {
			t.Errorf("waived: %v", err)
		}
	})
}

// What is put comes back as AWS prints it, and what came back can be put.
func TestGetKeyPolicyPrintsAsAWS(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		n.as(account, "bob", "")
		n.as(account, "alice", "")
		put := `{"Statement":{"Resource":["*"],"Action":["kms:*"],"Effect":"Allow","Sid":"All of it",
			"Principal":{"AWS":["444455556666","arn:aws:iam::111122223333:user/bob","111122223333","arn:aws:iam::111122223333:user/alice","arn:aws:iam::111122223333:root"]}}}`
		const want = `{
  "Version" : "2008-10-17",
  "Statement" : [ {
    "Sid" : "All of it",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : [ "arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:user/alice", "arn:aws:iam::111122223333:user/bob", "arn:aws:iam::444455556666:root" ]
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}`
		for range 2 {
			if _, err := n.PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{KeyId: k.KeyId, Policy: &put}); err != nil {
				t.Fatal(err)
			}
			got := must[*sdk.GetKeyPolicyOutput](t)(n.GetKeyPolicy(ctx, &sdk.GetKeyPolicyInput{KeyId: k.KeyId}))
			if *got.Policy != want {
				t.Fatalf("got %s", *got.Policy)
			}
			put = *got.Policy
		}
	})
}

// A policy names who exists: AWS refuses the others.
func TestPolicyPrincipalsExist(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		bob := n.user("bob")
		for _, principal := range []string{
			"arn:aws:iam::" + account + ":user/nobody", "arn:aws:iam::" + account + ":user/Bob", "arn:aws:iam::" + otherAccount + ":user/bob",
			"arn:aws:iam::" + account + ":role/nobody", "arn:aws:sts::" + account + ":assumed-role/nobody/s", "AIDACKCEVSQ6C2EXAMPLE",
		} {
			document := keyPolicyOf(statement("kms:*", rootARN(account)), statement("kms:Encrypt", principal))
			_, err := n.PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{KeyId: k.KeyId, Policy: &document})
			wantError(t, err, "MalformedPolicyDocumentException", "Policy contains a statement with one or more invalid principals.")
			_, err = n.CreateKey(ctx, &sdk.CreateKeyInput{Policy: &document})
			wantError(t, err, "MalformedPolicyDocumentException", "Policy contains a statement with one or more invalid principals.")
		}
		for _, principal := range []string{bob.arn, bob.id, "*", otherAccount, rootARN("999988887777")} {
			document := keyPolicyOf(statement("kms:*", rootARN(account)), statement("kms:Encrypt", principal))
			if _, err := n.PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{KeyId: k.KeyId, Policy: &document}); err != nil {
				t.Errorf("%s: %v", principal, err)
			}
		}
	})
}

// A user who is deleted and made again under the same name is somebody else: the
// policy shows whom it named, and gives the namesake nothing.
func TestPolicyKeepsWhomItNames(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		bob := n.user("bob")
		document := keyPolicyOf(statement("kms:*", rootARN(account)), statement("kms:Encrypt", bob.arn))
		if _, err := n.PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{KeyId: k.KeyId, Policy: &document}); err != nil {
			t.Fatal(err)
		}
		get := func() string {
			return *must[*sdk.GetKeyPolicyOutput](t)(n.GetKeyPolicy(ctx, &sdk.GetKeyPolicyInput{KeyId: k.KeyId})).Policy
		}
		encrypt := func(c *sdk.Client) error {
			_, err := c.Encrypt(ctx, &sdk.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("m")})
			return err
		}
		if err := encrypt(bob.Client); err != nil {
			t.Fatal(err)
		}
		if got := get(); !strings.Contains(got, bob.arn) || strings.Contains(got, bob.id) {
			t.Errorf("the policy shows %s", got)
		}
		bob.delete()
		namesake := n.user("bob")
		wantError(t, encrypt(namesake.Client), "AccessDeniedException", "*")
		got := get()
		if strings.Contains(got, bob.arn) || !strings.Contains(got, bob.id) {
			t.Errorf("after the deletion the policy shows %s", got)
		}
		_, err := n.PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{KeyId: k.KeyId, Policy: &got})
		wantError(t, err, "MalformedPolicyDocumentException", "Policy contains a statement with one or more invalid principals.")
	})
}

// What CreateKey is told must not be stored under another size than was checked.
func TestPolicyOfTheGreatestSize(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		head := strings.TrimSuffix(keyPolicyOf(statement("kms:*", rootARN(account))), `]}`)
		fill := func(bytes int) string {
			text := head + `,{"Sid":"` + strings.Repeat("x", 100) + `","Effect":"Deny","Principal":"*","Action":"kms:Sign","Resource":"*"}]}`
			return strings.Replace(text, "x", strings.Repeat("x", bytes-len(text)+1), 1)
		}
		largest, larger := fill(32768), fill(32769)
		k, err := n.CreateKey(ctx, &sdk.CreateKeyInput{Policy: &largest})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Encrypt(ctx, &sdk.EncryptInput{KeyId: k.KeyMetadata.KeyId, Plaintext: []byte("m")}); err != nil {
			t.Error(err)
		}
		if _, err := n.GetKeyPolicy(ctx, &sdk.GetKeyPolicyInput{KeyId: k.KeyMetadata.KeyId}); err != nil {
			t.Error(err)
		}
		_, err = n.CreateKey(ctx, &sdk.CreateKeyInput{Policy: &larger})
		wantError(t, err, "LimitExceededException", "*")
	})
}

// The lockout check asks as the caller asks now: where he is allowed under a
// condition, it must hold.
func TestLockoutCheckHeedsConditions(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		maker := n.as(account, "maker", allow("kms:*"))
		for condition, may := range map[string]bool{
			`{"StringEquals":{"kms:CallerAccount":"` + account + `"}}`:      true,
			`{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/mak*"}}`:   true,
			`{"StringEquals":{"kms:KeySpec":"SYMMETRIC_DEFAULT"}}`:          true,
			`{"StringEquals":{"kms:KeySpec":"RSA_2048"}}`:                   false,
			`{"Bool":{"aws:ViaAWSService":"true"}}`:                         false,
			`{"StringEquals":{"kms:CallerAccount":"` + otherAccount + `"}}`: false,
		} {
			document := keyPolicyOf(`{"Effect":"Allow","Principal":{"AWS":"` + userARN("maker") + `"},"Action":"kms:*","Resource":"*","Condition":` + condition + `}`)
			_, err := maker.CreateKey(ctx, &sdk.CreateKeyInput{Policy: &document})
			if may && err != nil {
				t.Errorf("%s: %v", condition, err)
			}
			if !may {
				wantError(t, err, "MalformedPolicyDocumentException", "The new key policy will not allow you to update the key policy in the future.")
			}
			_, err = maker.PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{KeyId: k.KeyId, Policy: &document})
			if (err == nil) != may {
				t.Errorf("PutKeyPolicy %s: %v", condition, err)
			}
			k = n.symmetricKey()
		}
	})
}
