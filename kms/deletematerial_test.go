package kms_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/keystore"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// Expiry happens: at its moment, before any housekeeping and on a warm node; and
// then the bytes go.
func TestMaterialExpires(t *testing.T) {
	eachImporting(t, func(t *testing.T, n *node) {
		k := n.external(types.KeySpecSymmetricDefault, "")
		first, second := secret(32), secret(32)
		n.mustImport(k, first, n.until(10*time.Hour))
		if m := n.describe(k); m.ExpirationModel != types.ExpirationModelTypeKeyMaterialExpires || m.ValidTo == nil || m.ValidTo.Sub(n.clock.now()).Round(time.Hour) != 10*time.Hour {
			t.Errorf("%s %v", m.ExpirationModel, m.ValidTo)
		}
		two := n.mustImport(k, second, func(in *sdk.ImportKeyMaterialInput) { asNew(in); n.until(5 * time.Hour)(in) })
		if m := n.describe(k); m.ValidTo.Sub(n.clock.now()).Round(time.Hour) != 10*time.Hour {
			t.Errorf("a pending material makes the key expire: %v", m.ValidTo)
		}
		n.rotateTo(k, two)
		blob := encryptSomething(n, k)
		if m := n.describe(k); m.ValidTo.Sub(n.clock.now()).Round(time.Hour) != 5*time.Hour {
			t.Errorf("the earliest of the two is %v", m.ValidTo)
		}
		n.clock.move(5*time.Hour - time.Minute)
		n.opens(blob)
		n.clock.move(2 * time.Minute)
		for range 2 { // the housekeeping comes in between
			_, err := n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: blob})
			wantError(t, err, "KMSInvalidStateException", *k.Arn+" is pending import.")
			n.wantState(k, types.KeyStatePendingImport)
			_, err = n.EnableKey(ctx, &sdk.EnableKeyInput{KeyId: k.KeyId})
			wantError(t, err, "KMSInvalidStateException", *k.Arn+" is pending import.")
			n.runOnce()
		}
		if got := n.materialStates(k); got != "NON_CURRENT IMPORTED, CURRENT PENDING_IMPORT" {
			t.Errorf("the materials are %s", got)
		}
		if n.condemned() != 0 {
			t.Error("the key store has not been told")
		}
		n.mustImport(k, second, n.until(365*24*time.Hour))
		n.wantState(k, types.KeyStateEnabled)
		n.opens(blob)
		// Importing again moves the date, in both directions, and takes it away.
		n.mustImport(k, first, nil)
		n.mustImport(k, second, n.until(time.Minute))
		n.mustImport(k, second, nil)
		if m := n.describe(k); m.ExpirationModel != types.ExpirationModelTypeKeyMaterialDoesNotExpire || m.ValidTo != nil {
			t.Errorf("%s %v", m.ExpirationModel, m.ValidTo)
		}
		n.clock.move(20 * time.Hour)
		n.runOnce()
		n.opens(blob)

		// Imported again after its moment and before the housekeeping.
		n.mustImport(k, first, n.until(time.Hour))
		n.clock.move(2 * time.Hour)
		n.mustImport(k, first, nil)
		n.wantState(k, types.KeyStateEnabled)
		n.opens(blob)
		n.runOnce()
		n.opens(blob)
	})
}

// A key that was disabled stays so when its material comes again; one that was
// pending import is enabled by it. Deletion can be called off in every state.
func TestStatesOfKeysWithImportedMaterial(t *testing.T) {
	eachImporting(t, func(t *testing.T, n *node) {
		k := n.external(types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac)
		material := secret(32)
		cancel := func() {
			t.Helper()
			must[*sdk.CancelKeyDeletionOutput](t)(n.CancelKeyDeletion(ctx, &sdk.CancelKeyDeletionInput{KeyId: k.KeyId}))
		}
		for _, step := range []struct {
			what string
			do   func()
			want types.KeyState
		}{
			{"made", func() {}, types.KeyStatePendingImport},
			{"to be deleted", func() { n.scheduleDeletion(k, 7) }, types.KeyStatePendingDeletion},
			{"not after all", cancel, types.KeyStatePendingImport},
			{"imported", func() { n.mustImport(k, material, nil) }, types.KeyStateEnabled},
			{"disabled", func() { n.disable(k) }, types.KeyStateDisabled},
			{"imported again", func() { n.mustImport(k, material, nil) }, types.KeyStateDisabled},
			{"enabled", func() { n.enable(k) }, types.KeyStateEnabled},
			{"to be deleted", func() { n.scheduleDeletion(k, 7) }, types.KeyStatePendingDeletion},
			{"not after all", cancel, types.KeyStateDisabled},
			{"material deleted", func() { n.deleteMaterial(k, nil) }, types.KeyStatePendingImport},
			{"imported", func() { n.mustImport(k, material, nil) }, types.KeyStateEnabled},
			{"to be deleted", func() { n.scheduleDeletion(k, 7) }, types.KeyStatePendingDeletion},
			{"material deleted", func() { n.deleteMaterial(k, nil) }, types.KeyStatePendingDeletion},
			{"not after all", cancel, types.KeyStatePendingImport},
			{"imported until", func() { n.mustImport(k, material, n.until(time.Hour)) }, types.KeyStateEnabled},
			{"disabled", func() { n.disable(k) }, types.KeyStateDisabled},
			{"expired", func() { n.clock.move(2 * time.Hour) }, types.KeyStatePendingImport},
			{"to be deleted", func() { n.scheduleDeletion(k, 7) }, types.KeyStatePendingDeletion},
			{"tidied up", func() { n.runOnce() }, types.KeyStatePendingDeletion},
			{"not after all", cancel, types.KeyStatePendingImport},
			{"imported until", func() { n.mustImport(k, material, n.until(time.Hour)) }, types.KeyStateEnabled},
			{"to be deleted", func() { n.scheduleDeletion(k, 7) }, types.KeyStatePendingDeletion},
			{"expired", func() { n.clock.move(2 * time.Hour) }, types.KeyStatePendingDeletion},
			{"not after all", cancel, types.KeyStatePendingImport},
		} {
			step.do()
			if got := n.describe(k).KeyState; got != step.want {
				t.Fatalf("%s: %s, want %s", step.what, got, step.want)
			}
			if got := n.storedState(k); got != string(step.want) && step.what != "expired" {
				t.Fatalf("%s: %s is stored, want %s", step.what, got, step.want)
			}
		}
		n.mustImport(k, material, n.until(time.Hour))
		n.scheduleDeletion(k, 7)
		n.clock.move(8 * 24 * time.Hour)
		n.runOnce()
		n.runOnce()
		if n.rows(k) != 0 || n.condemned() != 0 {
			t.Errorf("%d rows are left, %d handles", n.rows(k), n.condemned())
		}
	})
}

// whilePendingImport: operation → answer for a key that lacks its material. All
// others are refused.
var whilePendingImport = map[string]string{
	"DescribeKey": "", "GetKeyPolicy": "", "PutKeyPolicy": "", "ListKeyPolicies": "", "ListResourceTags": "", "ListAliases": "",
	"GetKeyLastUsage": "", "DeleteAlias": "", "ScheduleKeyDeletion": "", "UpdateKeyDescription": "", "TagResource": "", "UntagResource": "",
	"CreateAlias": "", "UpdateAlias": "", "ListGrants": "", "RetireGrant": "", "RevokeGrant": "",
	"GetKeyRotationStatus": "", "ListKeyRotations": "",
	"GetParametersForImport": "", "ImportKeyMaterial": "", "DeleteImportedKeyMaterial": "",
	"CancelKeyDeletion": notPending,
}

func TestEveryOperationWithoutMaterial(t *testing.T) {
	eachImporting(t, func(t *testing.T, n *node) {
		for op, a := range everyOperation {
			if !keystore.Spec(a.spec).Importable() || strings.HasSuffix(op, "KeyRotation") || op == "RotateKeyOnDemand" {
				continue // the rotation of such keys has rules of its own
			}
			k := n.createWith(&sdk.CreateKeyInput{KeySpec: a.spec, KeyUsage: a.usage, MultiRegion: &a.multi, Origin: types.OriginTypeExternal})
			n.mustImport(k, materialFor(t, a.spec), nil)
			var made []byte
			if a.before != nil {
				made = a.before(n, k)
			}
			n.deleteMaterial(k, nil)
			want, ok := whilePendingImport[op]
			if !ok {
				want = pendingImport
			}
			if want != "" {
				want = strings.ReplaceAll(want, "%s", *k.Arn)
			} else {
				want = "no error"
			}
			if got := apiError(a.run(n, k, made)); got != want {
				t.Errorf("%s of a key without its material: %s, want %s", op, got, want)
			}
		}
	})
}

// importOperations, for the table of states: on keys that were made for them.
var importOperations = map[string]attempt{
	"GetParametersForImport": symmetric.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.GetParametersForImport(ctx, &sdk.GetParametersForImportInput{
			KeyId: k.KeyId, WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa2048,
		})
		return err
	}),
	"ImportKeyMaterial": symmetric.doing(func(n *node, k *types.KeyMetadata) error {
		p, err := n.GetParametersForImport(ctx, &sdk.GetParametersForImportInput{
			KeyId: k.KeyId, WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa2048,
		})
		if err != nil {
			return err
		}
		_, err = n.ImportKeyMaterial(ctx, &sdk.ImportKeyMaterialInput{
			KeyId: k.KeyId, ImportToken: p.ImportToken, EncryptedKeyMaterial: wrap(n.t, types.AlgorithmSpecRsaesOaepSha256, p.PublicKey, importedSecret),
			ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire,
		})
		return err
	}),
	"DeleteImportedKeyMaterial": symmetric.doing(func(n *node, k *types.KeyMetadata) error {
		_, err := n.DeleteImportedKeyMaterial(ctx, &sdk.DeleteImportedKeyMaterialInput{KeyId: k.KeyId})
		return err
	}),
}

var importedSecret = bytes.Repeat([]byte{0x42}, 32)

func TestImportOperationsInEveryState(t *testing.T) {
	eachImporting(t, func(t *testing.T, n *node) {
		for op, a := range importOperations {
			for state, want := range map[types.KeyState]string{
				types.KeyStateEnabled: "", types.KeyStateDisabled: "", types.KeyStatePendingImport: "", types.KeyStatePendingDeletion: pending,
			} {
				if op == "DeleteImportedKeyMaterial" {
					want = ""
				}
				k := n.external(types.KeySpecSymmetricDefault, "")
				n.mustImport(k, importedSecret, nil)
				switch state {
				case types.KeyStateDisabled:
					n.disable(k)
				case types.KeyStatePendingImport:
					n.deleteMaterial(k, nil)
				case types.KeyStatePendingDeletion:
					n.scheduleDeletion(k, 7)
				}
				if want == "" {
					want = "no error"
				}
				if got := apiError(a.run(n, k, nil)); got != strings.ReplaceAll(want, "%s", *k.Arn) {
					t.Errorf("%s of a key %s: %s", op, state, got)
				}
			}
		}
	})
}

// What the key store keeps of material that is gone is destroyed, however often
// that takes; the caller does not wait for it.
func TestDeletedMaterialIsDestroyed(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		var store reluctant
		n := newNode(t, db, options{backend: func(b keystore.Backend) keystore.Backend { store.Backend = oneWrapping{b}; return &store }})
		k := n.external(types.KeySpecSymmetricDefault, "")
		material := secret(32)
		n.mustImport(k, material, nil)
		store.refuse.Store(true)
		n.deleteMaterial(k, nil)
		if n.condemned() != 1 || n.materialStates(k) != "CURRENT PENDING_IMPORT" {
			t.Errorf("%d handles wait, the materials are %s", n.condemned(), n.materialStates(k))
		}
		n.mustImport(k, material, nil)
		n.mustImport(k, material, nil) // in the place of the one before
		if _, err := n.service.RunOnce(ctx); err == nil {
			t.Error("a key store that fails goes unreported")
		}
		store.refuse.Store(false)
		n.runOnce()
		if n.condemned() != 0 || store.destroyed.Load() != 2 {
			t.Errorf("%d handles wait, %d were destroyed", n.condemned(), store.destroyed.Load())
		}
		n.opens(encryptSomething(n, k))
	})
}
