package kms_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/kms"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// turn rotates the key on demand and returns the id of its new material.
func (n *node) turn(k *types.KeyMetadata) string {
	n.t.Helper()
	if _, err := n.RotateKeyOnDemand(ctx, &sdk.RotateKeyOnDemandInput{KeyId: k.KeyId}); err != nil {
		n.t.Fatal(err)
	}
	n.settle()
	return n.material(k)
}

// material is the id of the key's current material.
func (n *node) material(k *types.KeyMetadata) string {
	n.t.Helper()
	return *must[*sdk.DescribeKeyOutput](n.t)(n.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: k.KeyId})).KeyMetadata.CurrentKeyMaterialId
}

// opens decrypts a blob that encryptSomething made and returns the id of the
// material that did it.
func (n *node) opens(blob []byte) string {
	n.t.Helper()
	out, err := n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: blob})
	if err != nil {
		n.t.Fatal(err)
	}
	if string(out.Plaintext) != "p" {
		n.t.Fatalf("decrypted to %q", out.Plaintext)
	}
	return *out.KeyMaterialId
}

// write changes the database behind the service's back, as far as the
// service hears of it.
func (n *node) write(keyARN, text string, args ...any) {
	n.t.Helper()
	err := n.db.Write(ctx, func(tx *sqldb.Tx) error {
		tx.Touch(keyARN)
		_, err := tx.Exec(text, args...)
		return err
	})
	if err != nil {
		n.t.Fatal(err)
	}
}

// New ciphertexts are made with the current material, and what any earlier one
// made opens for ever. The key turns by itself, a hundred times.
func TestOldCiphertextsOpenForEver(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		n := newNode(t, db, options{config: func(c *kms.Config) { c.MinRotationDays = 1 }})
		k := n.symmetricKey()
		n.enableRotation(k, 1)
		materials, blobs := []string{*k.CurrentKeyMaterialId}, [][]byte{encryptSomething(n, k)}
		for range 100 {
			n.clock.move(25 * time.Hour)
			n.settle()
			materials = append(materials, n.material(k))
			blobs = append(blobs, encryptSomething(n, k))
		}
		if unique := slices.Compact(slices.Sorted(slices.Values(materials))); len(unique) != 101 {
			t.Fatalf("%d materials", len(unique))
		}
		for range 2 { // more of them than a snapshot keeps open
			for i, blob := range blobs {
				if got := n.opens(blob); got != materials[i] {
					t.Fatalf("ciphertext %d was opened with %s, not %s", i, got, materials[i])
				}
			}
		}
		for i, blob := range blobs {
			out := must[*sdk.ReEncryptOutput](t)(n.ReEncrypt(ctx, &sdk.ReEncryptInput{CiphertextBlob: blob, DestinationKeyId: k.KeyId}))
			if *out.SourceKeyMaterialId != materials[i] || *out.DestinationKeyMaterialId != materials[100] {
				t.Fatalf("ciphertext %d was encrypted anew from %s to %s", i, *out.SourceKeyMaterialId, *out.DestinationKeyMaterialId)
			}
			if got := n.opens(out.CiphertextBlob); got != materials[100] {
				t.Fatalf("the new ciphertext was opened with %s", got)
			}
		}
		var listed []string
		for pages := sdk.NewListKeyRotationsPaginator(n, &sdk.ListKeyRotationsInput{
			KeyId: k.KeyId, Limit: ptr[int32](30), IncludeKeyMaterial: types.IncludeKeyMaterialAllKeyMaterial,
		}); pages.HasMorePages(); {
			page := must[*sdk.ListKeyRotationsOutput](t)(pages.NextPage(ctx))
			if len(page.Rotations) > 30 {
				t.Errorf("a page of %d", len(page.Rotations))
			}
			for _, r := range page.Rotations {
				listed = append(listed, *r.KeyMaterialId)
			}
		}
		if !slices.Equal(listed, materials) {
			t.Errorf("listed are %d materials, in another order or others than the %d that encrypted", len(listed), len(materials))
		}
	})
}

// Whoever writes the name of another material on a ciphertext, or moves
// materials between the rows of the database, gets no plaintext.
func TestCiphertextsAreBoundToTheirMaterial(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k, other := n.symmetricKey(), n.symmetricKey()
		first := encryptSomething(n, k)
		current := n.turn(k)
		second, foreign := encryptSomething(n, k), encryptSomething(n, other)

		header := func(blob, from []byte) []byte { // blob under the material id of from
			b := bytes.Clone(blob)
			copy(b[kms.BlobHeaderLen-32:kms.BlobHeaderLen], from[kms.BlobHeaderLen-32:])
			return b
		}
		for name, blob := range map[string][]byte{
			"an older material":      header(second, first),
			"the current material":   header(first, second),
			"another key's material": header(first, foreign),
			"no material":            header(first, make([]byte, kms.BlobHeaderLen)),
		} {
			_, err := n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: blob})
			if code := errorCode(err); code != "InvalidCiphertextException" {
				t.Errorf("a ciphertext that names %s: %v", name, err)
			}
		}

		// The handle of one material in the row of another, of the same key and of another.
		n.opens(first)
		n.write(*k.Arn, `UPDATE kms_materials SET handle = (SELECT o.handle FROM kms_materials o WHERE o.key_arn = $1 AND o.material_id = $2)
			WHERE key_arn = $1 AND material_id = $3`, *k.Arn, *k.CurrentKeyMaterialId, current)
		_, err := n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: second})
		wantError(t, err, "KMSInternalException", "*")
		n.write(*other.Arn, `UPDATE kms_materials SET handle = (SELECT o.handle FROM kms_materials o WHERE o.key_arn = $1)
			WHERE key_arn = $2 AND material_id = $3`, *other.Arn, *k.Arn, *k.CurrentKeyMaterialId)
		_, err = n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: first})
		wantError(t, err, "KMSInternalException", "*")
	})
}

// Material that is not there is not used, warm or cold.
func TestMaterialThatIsNotThere(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		for name, c := range map[string]struct {
			change string
			code   string
		}{
			"deleted":  {`DELETE FROM kms_materials`, "InvalidCiphertextException"},
			"taken":    {`UPDATE kms_materials SET handle = NULL`, "KMSInvalidStateException"},
			"expired":  {fmt.Sprintf(`UPDATE kms_materials SET valid_to = %d`, n.clock.now().UnixMicro()), "KMSInvalidStateException"},
			"pending":  {`UPDATE kms_materials SET state = 'PENDING_ROTATION'`, "InvalidCiphertextException"},
			"awaiting": {`UPDATE kms_materials SET state = 'PENDING_MULTI_REGION_IMPORT_AND_ROTATION'`, "InvalidCiphertextException"},
		} {
			k := n.symmetricKey()
			old, oldMaterial := encryptSomething(n, k), *k.CurrentKeyMaterialId
			current := n.turn(k)
			blob := encryptSomething(n, k)
			n.opens(old)
			n.write(*k.Arn, c.change+` WHERE key_arn = $1 AND material_id = $2`, *k.Arn, oldMaterial)
			_, err := n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: old})
			if code := errorCode(err); code != c.code {
				t.Errorf("%s, older: %v", name, err)
			}
			n.opens(blob)

			if name == "pending" || name == "awaiting" {
				continue // which the current one never is
			}
			n.write(*k.Arn, c.change+` WHERE key_arn = $1 AND material_id = $2`, *k.Arn, current)
			_, err = n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: blob})
			wantError(t, err, "KMSInvalidStateException", *k.Arn+" is pending import.")
			_, err = n.Encrypt(ctx, &sdk.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("p")})
			wantError(t, err, "KMSInvalidStateException", *k.Arn+" is pending import.")
		}
	})
}

// The time of a material ends while it is open.
func TestMaterialExpiresWhileItIsOpen(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		old := encryptSomething(n, k)
		n.turn(k)
		blob := encryptSomething(n, k)
		n.write(*k.Arn, `UPDATE kms_materials SET valid_to = $2 WHERE key_arn = $1`, *k.Arn, n.clock.now().UnixMicro()+3600e6)
		n.opens(old)
		n.opens(blob)
		n.clock.move(2 * 3600e9)
		for _, b := range [][]byte{old, blob} {
			_, err := n.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: b})
			wantError(t, err, "KMSInvalidStateException", *k.Arn+" is pending import.")
		}
	})
}

// All keys of a Multi-Region key turn in one transaction, or none does.
func TestMultiRegionKeysTurnAsOne(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.multiRegion(types.KeySpecSymmetricDefault, types.KeyUsageTypeEncryptDecrypt)
		first := n.turn(k)
		replica := *n.replicate(k, west).Arn
		elsewhere := n.in(west)
		material := func() (string, string) {
			out := must[*sdk.DescribeKeyOutput](t)(elsewhere.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: k.KeyId}))
			return n.material(k), *out.KeyMetadata.CurrentKeyMaterialId
		}

		old := encryptSomething(n, k)
		turned := n.turn(k)
		if here, there := material(); here != there || here == first {
			t.Fatalf("the primary has %s, the replica %s", here, there)
		}
		for _, blob := range [][]byte{old, encryptSomething(n, k)} {
			if _, err := elsewhere.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: blob}); err != nil {
				t.Error(err)
			}
		}
		next := must[string](t)(n.service.PrepareMaterial(ctx, *k.Arn, "token"))
		n.write(replica, `DELETE FROM kms_materials WHERE key_arn = $1 AND material_id = $2`, replica, next)
		if err := n.service.TurnMaterial(ctx, *k.Arn, next, false); err == nil {
			t.Error("turned, although the replica does not have the material")
		}
		if here, there := material(); here != turned || there != turned {
			t.Errorf("the primary has %s, the replica %s, before both had %s", here, there, turned)
		}
	})
}

// The keys of a Multi-Region key share its rotation, which the primary key has:
// whichever that is.
func TestMultiRegionKeysShareTheirRotation(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.multiRegion(types.KeySpecSymmetricDefault, types.KeyUsageTypeEncryptDecrypt)
		n.enableRotation(k, 100)
		replica := n.replicate(k, west)
		elsewhere := n.in(west)
		status := func(c *sdk.Client, days float64) {
			t.Helper()
			s := must[*sdk.GetKeyRotationStatusOutput](t)(c.GetKeyRotationStatus(ctx, &sdk.GetKeyRotationStatusInput{KeyId: k.KeyId}))
			if !s.KeyRotationEnabled || *s.RotationPeriodInDays != 100 || n.days(s.NextRotationDate) != days {
				t.Errorf("%+v", s)
			}
		}
		status(n.Client, 100)
		status(elsewhere, 100)
		refused := func(c *sdk.Client, arn string) {
			t.Helper()
			_, err := c.RotateKeyOnDemand(ctx, &sdk.RotateKeyOnDemandInput{KeyId: k.KeyId})
			wantError(t, err, "UnsupportedOperationException", arn+" is a Multi-Region replica key, which is not valid for RotateKeyOnDemand.")
			_, err = c.DisableKeyRotation(ctx, &sdk.DisableKeyRotationInput{KeyId: k.KeyId})
			wantError(t, err, "UnsupportedOperationException", arn+" is a Multi-Region replica key, which is not valid for DisableKeyRotation.")
		}
		refused(elsewhere, *replica.Arn)

		// It moves with the primary key, and is due when it was.
		n.clock.move(30 * day)
		movePrimary := func(c *sdk.Client, to string) error {
			_, err := c.UpdatePrimaryRegion(ctx, &sdk.UpdatePrimaryRegionInput{KeyId: k.KeyId, PrimaryRegion: &to})
			return err
		}
		if _, err := n.RotateKeyOnDemand(ctx, &sdk.RotateKeyOnDemandInput{KeyId: k.KeyId}); err != nil {
			t.Fatal(err)
		}
		wantError(t, movePrimary(n.Client, west), "KMSInvalidStateException", "A rotation of "+*k.Arn+" is in progress.")
		n.settle()
		if err := movePrimary(n.Client, west); err != nil {
			t.Fatal(err)
		}
		status(n.Client, 70)
		status(elsewhere, 70)
		refused(n.Client, *k.Arn)
		before := n.material(k)
		n.disable(k) // the replica is
		n.clock.move(71 * day)
		n.settle()
		status(elsewhere, 100)
		if now := n.material(k); now == before || now != *describe(t, elsewhere, k.KeyId).CurrentKeyMaterialId {
			t.Error("it did not turn, or not everywhere")
		}

		// And back.
		n.enable(k)
		if err := movePrimary(elsewhere, region); err != nil {
			t.Fatal(err)
		}
		n.turn(k)
		n.clock.move(101 * day)
		n.settle()
		status(n.Client, 100)
		if got := len(n.rotations(k, "")); got != 4 {
			t.Errorf("%d rotations", got)
		}
		var heads int
		if err := n.db.QueryRow(ctx, `SELECT COUNT(*) FROM rotations WHERE wake IS NOT NULL`).Scan(&heads); err != nil || heads != 1 {
			t.Errorf("%d rotations are scheduled: %v", heads, err)
		}
	})
}
