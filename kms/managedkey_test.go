package kms_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/kms"
)

const managedAlias = "alias/aws/secretsmanager"

func (n *node) managed() *types.KeyMetadata {
	n.t.Helper()
	keyARN := must[string](n.t)(n.service.ManagedKey(ctx, account, region, "secretsmanager"))
	m := must[*sdk.DescribeKeyOutput](n.t)(n.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: ptr(managedAlias)})).KeyMetadata
	if *m.Arn != keyARN {
		n.t.Fatalf("the alias names %s, not %s", *m.Arn, keyARN)
	}
	return m
}

func TestManagedKey(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.managed()
		if k.KeyManager != types.KeyManagerTypeAws || k.KeyState != types.KeyStateEnabled || k.KeySpec != types.KeySpecSymmetricDefault ||
			k.Origin != types.OriginTypeAwsKms || *k.MultiRegion || *k.Description == "" {
			t.Errorf("%+v", k)
		}
		if again := n.managed(); *again.Arn != *k.Arn {
			t.Errorf("made twice: %s and %s", *k.Arn, *again.Arn)
		}
		status := must[*sdk.GetKeyRotationStatusOutput](t)(n.GetKeyRotationStatus(ctx, &sdk.GetKeyRotationStatusInput{KeyId: k.KeyId}))
		if !status.KeyRotationEnabled || *status.RotationPeriodInDays != 365 || status.NextRotationDate == nil ||
			status.NextRotationDate.Sub(n.clock.now()).Round(24*time.Hour) != 365*24*time.Hour {
			t.Errorf("rotation: %+v", status)
		}
		blob := must[*kms.EncryptResponse](t)(n.service.Encrypt(ctx, n.call("Encrypt", "secretsmanager.amazonaws.com"), &kms.EncryptRequest{KeyId: *k.KeyId, Plaintext: []byte("p")})).CiphertextBlob
		n.clock.move(366 * 24 * time.Hour)
		n.settle()
		if got := *n.describe(k).CurrentKeyMaterialId; got == *k.CurrentKeyMaterialId {
			t.Error("it has not turned after a year")
		}
		out, err := n.service.Decrypt(ctx, n.call("Decrypt", "secretsmanager.amazonaws.com"), &kms.DecryptRequest{CiphertextBlob: blob})
		if err != nil || string(out.Plaintext) != "p" || out.KeyMaterialId != *k.CurrentKeyMaterialId {
			t.Errorf("%v", err)
		}
		if _, err := n.service.ManagedKey(ctx, account, region, "s3"); err == nil {
			t.Error("a service that is not here has a key")
		}
		// Each account and Region has its own.
		other := must[string](t)(n.service.ManagedKey(ctx, otherAccount, region, "secretsmanager"))
		west := must[string](t)(n.service.ManagedKey(ctx, account, "us-west-2", "secretsmanager"))
		if other == *k.Arn || west == *k.Arn || !strings.Contains(other, otherAccount) || !strings.Contains(west, "us-west-2") {
			t.Errorf("%s, %s", other, west)
		}
	})
}

// Whoever describes the alias first has the key made, in his own account.
func TestManagedKeyIsMadeWhenItIsDescribed(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		for _, name := range []string{managedAlias, aliasARN(account, managedAlias)} {
			m := must[*sdk.DescribeKeyOutput](t)(n.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: &name})).KeyMetadata
			if m.KeyManager != types.KeyManagerTypeAws {
				t.Errorf("%+v", m)
			}
		}
		_, err := n.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: ptr("alias/aws/unknown")})
		wantError(t, err, "NotFoundException", "*")
		_, err = n.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: ptr(aliasARN(otherAccount, managedAlias))})
		wantError(t, err, "AccessDeniedException", "*")
		keys := must[*sdk.ListKeysOutput](t)(n.as(otherAccount, "", "").ListKeys(ctx, &sdk.ListKeysInput{}))
		if len(keys.Keys) != 0 {
			t.Error("a stranger has a key made")
		}
	})
}

func TestManagedKeyIsMadeOnce(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		arns := make([]string, 8)
		var all sync.WaitGroup
		for i := range arns {
			all.Go(func() { arns[i] = must[string](t)(n.service.ManagedKey(ctx, account, region, "secretsmanager")) })
		}
		all.Wait()
		for _, a := range arns {
			if a != arns[0] {
				t.Errorf("%s and %s", a, arns[0])
			}
		}
		if out := must[*sdk.ListKeysOutput](t)(n.ListKeys(ctx, &sdk.ListKeysInput{})); len(out.Keys) != 1 {
			t.Errorf("%d keys were made", len(out.Keys))
		}
	})
}

// call is one that a service makes on behalf of the account's root user.
func (n *node) call(operation string, via ...string) *access.Call {
	n.t.Helper()
	credential, err := n.guard.Credential(ctx, "AKIA"+account, "")
	if err != nil {
		n.t.Fatal(err)
	}
	return &access.Call{
		ID: "id", Service: "kms", EventSource: "kms.amazonaws.com", Operation: operation, Region: region, Account: account,
		Caller: credential.Caller, Time: time.Now(), ReadOnly: true, Via: via,
	}
}

// The key is used through its service and no other way, and nobody can change
// anything about it; not even the root user, whom other keys' policies let in.
func TestManagedKeysAreProtected(t *testing.T) {
	const service = "secretsmanager.amazonaws.com"
	each(t, func(t *testing.T, n *node) {
		k, mine := n.managed(), n.symmetricKey()
		n.alias("alias/mine", mine)
		for name, via := range map[string][]string{
			"nobody": nil, "another service": {"s3.amazonaws.com"}, "its service, through another": {service, "s3.amazonaws.com"},
			"a look-alike": {"secretsmanager.example.com"}, "itself": {service}, "another, through it": {"lambda.amazonaws.com", service},
		} {
			_, err := n.service.GenerateDataKey(ctx, n.call("GenerateDataKey", via...), &kms.GenerateDataKeyRequest{KeyId: managedAlias, KeySpec: "AES_256"})
			if ok := len(via) > 0 && via[len(via)-1] == service; ok != (err == nil) {
				t.Errorf("through %s: %v", name, err)
			}
		}
		// Another account's caller, through the service.
		stranger := n.call("GenerateDataKey", service)
		n.as(otherAccount, "", "")
		credential, err := n.guard.Credential(ctx, "AKIA"+otherAccount, "")
		if err != nil {
			t.Fatal(err)
		}
		stranger.Caller, stranger.Account = credential.Caller, otherAccount
		if _, err := n.service.GenerateDataKey(ctx, stranger, &kms.GenerateDataKeyRequest{KeyId: *k.Arn, KeySpec: "AES_256"}); err == nil {
			t.Error("another account uses it")
		}

		denied := map[string]func() error{
			"Encrypt": func() error {
				_, err := n.Encrypt(ctx, &sdk.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("p")})
				return err
			},
			"PutKeyPolicy": func() error {
				_, err := n.PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{KeyId: k.KeyId, Policy: ptr(keyPolicy("*", "kms:*")), BypassPolicyLockoutSafetyCheck: true})
				return err
			},
			"DisableKey": func() error { _, err := n.DisableKey(ctx, &sdk.DisableKeyInput{KeyId: k.KeyId}); return err },
			"EnableKey":  func() error { _, err := n.EnableKey(ctx, &sdk.EnableKeyInput{KeyId: k.KeyId}); return err },
			"ScheduleKeyDeletion": func() error {
				_, err := n.ScheduleKeyDeletion(ctx, &sdk.ScheduleKeyDeletionInput{KeyId: k.KeyId})
				return err
			},
			"TagResource": func() error {
				_, err := n.TagResource(ctx, &sdk.TagResourceInput{KeyId: k.KeyId, Tags: tags("a", "1")})
				return err
			},
			"UntagResource": func() error {
				_, err := n.UntagResource(ctx, &sdk.UntagResourceInput{KeyId: k.KeyId, TagKeys: []string{"a"}})
				return err
			},
			"UpdateKeyDescription": func() error {
				_, err := n.UpdateKeyDescription(ctx, &sdk.UpdateKeyDescriptionInput{KeyId: k.KeyId, Description: ptr("x")})
				return err
			},
			"CreateGrant": func() error {
				_, err := n.CreateGrant(ctx, &sdk.CreateGrantInput{
					KeyId: k.KeyId, GranteePrincipal: ptr("arn:aws:iam::" + account + ":root"), Operations: []types.GrantOperation{types.GrantOperationDecrypt},
				})
				return err
			},
			"CreateAlias": func() error {
				_, err := n.CreateAlias(ctx, &sdk.CreateAliasInput{AliasName: ptr("alias/other"), TargetKeyId: k.KeyId})
				return err
			},
			"UpdateAlias": func() error {
				_, err := n.UpdateAlias(ctx, &sdk.UpdateAliasInput{AliasName: ptr("alias/mine"), TargetKeyId: k.KeyId})
				return err
			},
			"EnableKeyRotation": func() error {
				_, err := n.EnableKeyRotation(ctx, &sdk.EnableKeyRotationInput{KeyId: k.KeyId})
				return err
			},
			"DisableKeyRotation": func() error {
				_, err := n.DisableKeyRotation(ctx, &sdk.DisableKeyRotationInput{KeyId: k.KeyId})
				return err
			},
			"RotateKeyOnDemand": func() error {
				_, err := n.RotateKeyOnDemand(ctx, &sdk.RotateKeyOnDemandInput{KeyId: k.KeyId})
				return err
			},
		}
		for op, call := range denied {
			if code := errorCode(call()); code != "AccessDeniedException" {
				t.Errorf("%s: %q", op, code)
			}
		}
		// Nor through the service.
		if _, err := n.service.ScheduleKeyDeletion(ctx, n.call("ScheduleKeyDeletion", service), &kms.ScheduleKeyDeletionRequest{KeyId: *k.KeyId}); err == nil {
			t.Error("deleted through the service")
		}
		for op, call := range map[string]func() error{
			"CreateAlias": func() error {
				_, err := n.CreateAlias(ctx, &sdk.CreateAliasInput{AliasName: ptr("alias/aws/mine"), TargetKeyId: mine.KeyId})
				return err
			},
			"UpdateAlias": func() error {
				_, err := n.UpdateAlias(ctx, &sdk.UpdateAliasInput{AliasName: ptr(managedAlias), TargetKeyId: mine.KeyId})
				return err
			},
			"DeleteAlias": func() error {
				_, err := n.DeleteAlias(ctx, &sdk.DeleteAliasInput{AliasName: ptr(managedAlias)})
				return err
			},
		} {
			if code := errorCode(call()); code != "NotAuthorizedException" {
				t.Errorf("%s of a name of AWS: %q", op, code)
			}
		}
		// To look at it is allowed to whom IAM lets.
		document := must[*sdk.GetKeyPolicyOutput](t)(n.GetKeyPolicy(ctx, &sdk.GetKeyPolicyInput{KeyId: k.KeyId}))
		if !json.Valid([]byte(*document.Policy)) || !strings.Contains(*document.Policy, "secretsmanager."+region+".amazonaws.com") || !strings.Contains(*document.Policy, account) {
			t.Errorf("the policy is %s", *document.Policy)
		}
		_, err = n.as(account, "nobody", "").DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: k.KeyId})
		wantError(t, err, "AccessDeniedException", "*")
		if _, err := n.as(account, "reader", allow("kms:DescribeKey")).DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: k.KeyId}); err != nil {
			t.Error(err)
		}
		n.wantState(k, types.KeyStateEnabled)
	})
}
