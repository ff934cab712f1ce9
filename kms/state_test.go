package kms_test

import (
	"fmt"
	"slices"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/kms"
)

// attempt is one operation on a key, with everything right but, maybe, the
// key's state.
type attempt struct {
	spec  types.KeySpec
	usage types.KeyUsageType
	multi bool // of a Multi-Region key
	// run is given what before made while the key was enabled.
	before func(n *node, k *types.KeyMetadata) []byte
	run    func(n *node, k *types.KeyMetadata, made []byte) error
}

var (
	signing   = attempt{spec: types.KeySpecEccNistP256, usage: types.KeyUsageTypeSignVerify}
	symmetric = attempt{spec: types.KeySpecSymmetricDefault, usage: types.KeyUsageTypeEncryptDecrypt}
	hmac      = attempt{spec: types.KeySpecHmac256, usage: types.KeyUsageTypeGenerateVerifyMac}
	agreement = attempt{spec: types.KeySpecEccNistP256, usage: types.KeyUsageTypeKeyAgreement}
	multi     = attempt{spec: types.KeySpecHmac256, usage: types.KeyUsageTypeGenerateVerifyMac, multi: true}
	kem       = attempt{spec: types.KeySpecMlKem768, usage: types.KeyUsageTypeEncapsulateDecapsulate}
)

func (a attempt) doing(run func(n *node, k *types.KeyMetadata) error) attempt {
	a.run = func(n *node, k *types.KeyMetadata, _ []byte) error { return run(n, k) }
	return a
}

func (a attempt) with(before func(n *node, k *types.KeyMetadata) []byte, run func(n *node, k *types.KeyMetadata, made []byte) error) attempt {
	a.before, a.run = before, run
	return a
}

// everyOperation on a key that exists, by name.
var everyOperation = map[string]attempt{
	"CreateGrant": signing.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.CreateGrant(ctx, &sdk.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: ptr(rootARN(account)), Operations: ops("Sign")})
		return err
	}),
	"ListGrants": signing.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.ListGrants(ctx, &sdk.ListGrantsInput{KeyId: k.KeyId})
		return err
	}),
	"RetireGrant": signing.with(makeGrant, func(n *node, k *types.KeyMetadata, id []byte) error {
		_, err := n.RetireGrant(ctx, &sdk.RetireGrantInput{KeyId: k.KeyId, GrantId: ptr(string(id))})
		return err
	}),
	"RevokeGrant": signing.with(makeGrant, func(n *node, k *types.KeyMetadata, id []byte) error {
		_, err := n.RevokeGrant(ctx, &sdk.RevokeGrantInput{KeyId: k.KeyId, GrantId: ptr(string(id))})
		return err
	}),
	"DescribeKey": signing.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: k.KeyId})
		return err
	}),
	"GetKeyPolicy": signing.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.GetKeyPolicy(ctx, &sdk.GetKeyPolicyInput{KeyId: k.KeyId})
		return err
	}),
	"PutKeyPolicy": signing.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{KeyId: k.KeyId, Policy: ptr(keyPolicy("*", "kms:*"))})
		return err
	}),
	"ListKeyPolicies": signing.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.ListKeyPolicies(ctx, &sdk.ListKeyPoliciesInput{KeyId: k.KeyId})
		return err
	}),
	"ListResourceTags": signing.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.ListResourceTags(ctx, &sdk.ListResourceTagsInput{KeyId: k.KeyId})
		return err
	}),
	"ListAliases": signing.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.ListAliases(ctx, &sdk.ListAliasesInput{KeyId: k.KeyId})
		return err
	}),
	"GetKeyRotationStatus": symmetric.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.GetKeyRotationStatus(ctx, &sdk.GetKeyRotationStatusInput{KeyId: k.KeyId})
		return err
	}),
	"EnableKeyRotation": symmetric.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.EnableKeyRotation(ctx, &sdk.EnableKeyRotationInput{KeyId: k.KeyId})
		return err
	}),
	"DisableKeyRotation": symmetric.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.DisableKeyRotation(ctx, &sdk.DisableKeyRotationInput{KeyId: k.KeyId})
		return err
	}),
	"RotateKeyOnDemand": symmetric.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.RotateKeyOnDemand(ctx, &sdk.RotateKeyOnDemandInput{KeyId: k.KeyId})
		return err
	}),
	"ListKeyRotations": symmetric.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.ListKeyRotations(ctx, &sdk.ListKeyRotationsInput{KeyId: k.KeyId})
		return err
	}),
	"GetKeyLastUsage": signing.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.GetKeyLastUsage(ctx, &sdk.GetKeyLastUsageInput{KeyId: k.KeyId})
		return err
	}),
	"EnableKey": signing.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.EnableKey(ctx, &sdk.EnableKeyInput{KeyId: k.KeyId})
		return err
	}),
	"DisableKey": signing.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.DisableKey(ctx, &sdk.DisableKeyInput{KeyId: k.KeyId})
		return err
	}),
	"ScheduleKeyDeletion": signing.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.ScheduleKeyDeletion(ctx, &sdk.ScheduleKeyDeletionInput{KeyId: k.KeyId})
		return err
	}),
	"CancelKeyDeletion": signing.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.CancelKeyDeletion(ctx, &sdk.CancelKeyDeletionInput{KeyId: k.KeyId})
		return err
	}),
	"UpdateKeyDescription": signing.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.UpdateKeyDescription(ctx, &sdk.UpdateKeyDescriptionInput{KeyId: k.KeyId, Description: ptr("x")})
		return err
	}),
	"TagResource": signing.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.TagResource(ctx, &sdk.TagResourceInput{KeyId: k.KeyId, Tags: tags("a", "1")})
		return err
	}),
	"UntagResource": signing.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.UntagResource(ctx, &sdk.UntagResourceInput{KeyId: k.KeyId, TagKeys: []string{"a"}})
		return err
	}),
	"CreateAlias": signing.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.CreateAlias(ctx, &sdk.CreateAliasInput{AliasName: ptr("alias/new-" + *k.KeyId), TargetKeyId: k.KeyId})
		return err
	}),
	"UpdateAlias": signing.with(
		func(n *node, k *types.KeyMetadata) []byte {
			n.alias("alias/moved-"+*k.KeyId, n.signingKey())
			return nil
		},
		func(n *node, k *types.KeyMetadata, _ []byte) error {
			_, err := n.UpdateAlias(ctx, &sdk.UpdateAliasInput{AliasName: ptr("alias/moved-" + *k.KeyId), TargetKeyId: k.KeyId})
			return err
		}),
	"DeleteAlias": signing.with(
		func(n *node, k *types.KeyMetadata) []byte { n.alias("alias/gone-"+*k.KeyId, k); return nil },
		func(n *node, k *types.KeyMetadata, _ []byte) error {
			_, err := n.DeleteAlias(ctx, &sdk.DeleteAliasInput{AliasName: ptr("alias/gone-" + *k.KeyId)})
			return err
		}),

	"ReplicateKey": multi.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.ReplicateKey(ctx, &sdk.ReplicateKeyInput{KeyId: k.KeyId, ReplicaRegion: ptr("us-east-1")})
		return err
	}),
	"UpdatePrimaryRegion": multi.with(
		func(n *node, k *types.KeyMetadata) []byte { n.replicate(k, "us-east-1"); return nil },
		func(n *node, k *types.KeyMetadata, _ []byte) error {
			_, err := n.UpdatePrimaryRegion(ctx, &sdk.UpdatePrimaryRegionInput{KeyId: k.KeyId, PrimaryRegion: ptr("us-east-1")})
			return err
		}),

	"Sign": signing.doing(func(n *node, k *types.KeyMetadata) error { _, err := n.sign(*k.KeyId, "m"); return err }),
	"Verify": signing.with(
		func(n *node, k *types.KeyMetadata) []byte { return must[[]byte](n.t)(n.sign(*k.KeyId, "m")) },
		func(n *node, k *types.KeyMetadata, signature []byte) error {
			_, err := n.verify(*k.KeyId, "m", signature)
			return err
		}),
	"GetPublicKey": signing.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.GetPublicKey(ctx, &sdk.GetPublicKeyInput{KeyId: k.KeyId})
		return err
	}),
	"Encrypt": symmetric.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.Encrypt(ctx, &sdk.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("p")})
		return err
	}),
	"Decrypt": symmetric.with(encryptSomething,
		func(n *node, _ *types.KeyMetadata, blob []byte) error {
			_, err := n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: blob})
			return err
		}),
	"ReEncrypt": symmetric.with(encryptSomething,
		func(n *node, k *types.KeyMetadata, blob []byte) error {
			_, err := n.ReEncrypt(ctx, &sdk.ReEncryptInput{CiphertextBlob: blob, DestinationKeyId: k.KeyId})
			return err
		}),
	"GenerateDataKey": symmetric.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.GenerateDataKey(ctx, &sdk.GenerateDataKeyInput{KeyId: k.KeyId, KeySpec: types.DataKeySpecAes256})
		return err
	}),
	"GenerateDataKeyWithoutPlaintext": symmetric.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.GenerateDataKeyWithoutPlaintext(ctx, &sdk.GenerateDataKeyWithoutPlaintextInput{KeyId: k.KeyId, KeySpec: types.DataKeySpecAes256})
		return err
	}),
	"GenerateDataKeyPair": symmetric.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.GenerateDataKeyPair(ctx, &sdk.GenerateDataKeyPairInput{KeyId: k.KeyId, KeyPairSpec: types.DataKeyPairSpecEccNistP256})
		return err
	}),
	"GenerateDataKeyPairWithoutPlaintext": symmetric.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.GenerateDataKeyPairWithoutPlaintext(ctx, &sdk.GenerateDataKeyPairWithoutPlaintextInput{KeyId: k.KeyId, KeyPairSpec: types.DataKeyPairSpecEccNistP256})
		return err
	}),
	"GenerateMac": hmac.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.GenerateMac(ctx, &sdk.GenerateMacInput{KeyId: k.KeyId, Message: []byte("m"), MacAlgorithm: types.MacAlgorithmSpecHmacSha256})
		return err
	}),
	"VerifyMac": hmac.with(
		func(n *node, k *types.KeyMetadata) []byte {
			return must[*sdk.GenerateMacOutput](n.t)(n.GenerateMac(ctx, &sdk.GenerateMacInput{
				KeyId: k.KeyId, Message: []byte("m"), MacAlgorithm: types.MacAlgorithmSpecHmacSha256,
			})).Mac
		},
		func(n *node, k *types.KeyMetadata, mac []byte) error {
			_, err := n.VerifyMac(ctx, &sdk.VerifyMacInput{KeyId: k.KeyId, Message: []byte("m"), Mac: mac, MacAlgorithm: types.MacAlgorithmSpecHmacSha256})
			return err
		}),
	"DeriveSharedSecret": agreement.with(
		func(n *node, k *types.KeyMetadata) []byte {
			return must[*sdk.GetPublicKeyOutput](n.t)(n.GetPublicKey(ctx, &sdk.GetPublicKeyInput{KeyId: k.KeyId})).PublicKey
		},
		func(n *node, k *types.KeyMetadata, peer []byte) error {
			_, err := n.DeriveSharedSecret(ctx, &sdk.DeriveSharedSecretInput{
				KeyId: k.KeyId, PublicKey: peer, KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh,
			})
			return err
		}),
	"Encapsulate": kem.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.Encapsulate(ctx, &sdk.EncapsulateInput{KeyId: k.KeyId, EncapsulationAlgorithm: types.EncapsulationAlgorithmSpecMlKem})
		return err
	}),
	"Decapsulate": kem.with(
		func(n *node, k *types.KeyMetadata) []byte {
			return must[*sdk.EncapsulateOutput](n.t)(n.Encapsulate(ctx, &sdk.EncapsulateInput{
				KeyId: k.KeyId, EncapsulationAlgorithm: types.EncapsulationAlgorithmSpecMlKem,
			})).SharedSecretCiphertextBlob
		},
		func(n *node, k *types.KeyMetadata, ciphertext []byte) error {
			_, err := n.Decapsulate(ctx, &sdk.DecapsulateInput{
				KeyId: k.KeyId, SharedSecretCiphertextBlob: ciphertext, EncapsulationAlgorithm: types.EncapsulationAlgorithmSpecMlKem,
			})
			return err
		}),
}

func makeGrant(n *node, k *types.KeyMetadata) []byte {
	id, _ := n.grant(k, rootARN(account), "Sign")
	return []byte(id)
}

func encryptSomething(n *node, k *types.KeyMetadata) []byte {
	return must[*sdk.EncryptOutput](n.t)(n.Encrypt(ctx, &sdk.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("p")})).CiphertextBlob
}

// stateTable is AWS's table of key states: operation → answer when Disabled,
// answer when PendingDeletion; "" is success. When Enabled all succeed but
// CancelKeyDeletion.
var stateTable = map[string][2]string{
	"DescribeKey":          {"", ""},
	"GetKeyPolicy":         {"", ""},
	"PutKeyPolicy":         {"", ""},
	"ListKeyPolicies":      {"", ""},
	"ListResourceTags":     {"", ""},
	"ListAliases":          {"", ""},
	"GetKeyRotationStatus": {"", ""},
	"ListKeyRotations":     {"", ""},
	"GetKeyLastUsage":      {"", ""},
	"DeleteAlias":          {"", ""},
	"ListGrants":           {"", ""},
	"RetireGrant":          {"", ""},
	"RevokeGrant":          {"", ""},

	"CreateGrant": {disabled, pending},

	"EnableKey":            {"", pending},
	"DisableKey":           {"", pending},
	"ScheduleKeyDeletion":  {"", pending},
	"UpdateKeyDescription": {"", pending},
	"TagResource":          {"", pending},
	"UntagResource":        {"", pending},
	"CreateAlias":          {"", pending},
	"UpdateAlias":          {"", pending},

	"CancelKeyDeletion": {notPending, ""},

	"EnableKeyRotation":   {disabled, pending},
	"DisableKeyRotation":  {disabled, pending},
	"RotateKeyOnDemand":   {disabled, pending},
	"ReplicateKey":        {disabled, pending},
	"UpdatePrimaryRegion": {disabled, "KMSInvalidStateException: %s is pending replica deletion."},

	"Sign":               {disabled, pending},
	"Verify":             {disabled, pending},
	"GetPublicKey":       {disabled, pending},
	"Encrypt":            {disabled, pending},
	"Decrypt":            {disabled, pending},
	"ReEncrypt":          {disabled, pending},
	"GenerateMac":        {disabled, pending},
	"VerifyMac":          {disabled, pending},
	"DeriveSharedSecret": {disabled, pending},
	"Encapsulate":        {disabled, pending},
	"Decapsulate":        {disabled, pending},

	"GenerateDataKey":                     {disabled, pending},
	"GenerateDataKeyWithoutPlaintext":     {disabled, pending},
	"GenerateDataKeyPair":                 {disabled, pending},
	"GenerateDataKeyPairWithoutPlaintext": {disabled, pending},
}

const (
	disabled   = "DisabledException: %s is disabled."
	pending    = "KMSInvalidStateException: %s is pending deletion."
	notPending = "KMSInvalidStateException: %s is not pending deletion."
)

func TestEveryOperationInEveryState(t *testing.T) {
	rules := kms.StateRules()
	for _, op := range rules {
		_, ok := everyOperation[op]
		if _, imports := importOperations[op]; !ok && !imports {
			t.Errorf("%s has a rule and no test", op)
		}
	}
	each(t, func(t *testing.T, n *node) {
		for op, a := range everyOperation {
			want, ok := stateTable[op]
			if !ok || !slices.Contains(rules, op) {
				t.Errorf("%s has no rule", op)
			}
			enabled := ""
			if op == "CancelKeyDeletion" {
				enabled = notPending
			}
			for i, state := range []types.KeyState{types.KeyStateEnabled, types.KeyStateDisabled, types.KeyStatePendingDeletion} {
				k := n.createWith(&sdk.CreateKeyInput{KeySpec: a.spec, KeyUsage: a.usage, MultiRegion: &a.multi})
				var made []byte
				if a.before != nil {
					made = a.before(n, k)
				}
				switch state {
				case types.KeyStateDisabled:
					n.disable(k)
				case types.KeyStatePendingDeletion:
					n.scheduleDeletion(k, 7)
				}
				got := a.run(n, k, made)
				answer := []string{enabled, want[0], want[1]}[i]
				if answer == "" {
					if got != nil {
						t.Errorf("%s of a key %s: %v", op, state, got)
					}
					continue
				}
				if s := apiError(got); s != fmt.Sprintf(answer, *k.Arn) {
					t.Errorf("%s of a key %s: %s, want %s", op, state, s, fmt.Sprintf(answer, *k.Arn))
				}
			}
		}
	})
}

func TestStateTransitions(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.signingKey()
		state := func() string {
			m := must[*sdk.DescribeKeyOutput](t)(n.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: k.KeyId})).KeyMetadata
			if m.Enabled != (m.KeyState == types.KeyStateEnabled) {
				t.Errorf("Enabled is %v in state %s", m.Enabled, m.KeyState)
			}
			if (m.DeletionDate != nil) != (m.KeyState == types.KeyStatePendingDeletion) {
				t.Errorf("DeletionDate is %v in state %s", m.DeletionDate, m.KeyState)
			}
			return string(m.KeyState)
		}
		for _, step := range []struct {
			do   func()
			want string
		}{
			{func() { n.enable(k) }, "Enabled"},
			{func() { n.disable(k) }, "Disabled"},
			{func() { n.disable(k) }, "Disabled"},
			{func() { n.enable(k) }, "Enabled"},
			{func() { n.scheduleDeletion(k, 30) }, "PendingDeletion"},
			{func() {
				out := must[*sdk.CancelKeyDeletionOutput](t)(n.CancelKeyDeletion(ctx, &sdk.CancelKeyDeletionInput{KeyId: k.KeyId}))
				if *out.KeyId != *k.Arn {
					t.Errorf("CancelKeyDeletion answers %s", *out.KeyId)
				}
			}, "Disabled"},
			{func() { n.scheduleDeletion(k, 7) }, "PendingDeletion"},
		} {
			step.do()
			if got := state(); got != step.want {
				t.Fatalf("state is %s, want %s", got, step.want)
			}
		}
	})
}
