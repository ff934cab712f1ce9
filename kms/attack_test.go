package kms_test

import (
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/keyturn/keyturn/sqldb"
)

// An attacker who can write to the database moves the material of a key that he
// may use into the row of one that he may not, or the other way round. It does
// not open there, warm or cold.
func TestMaterialMovedToAnotherRow(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		victim, attacker := n.signingKey(), n.signingKey()
		if _, err := n.sign(*victim.KeyId, "m"); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{
			"the handle": `UPDATE kms_materials SET handle = (SELECT handle FROM kms_materials WHERE key_arn = $1) WHERE key_arn = $2`,
		} {
			err := n.db.Write(ctx, func(tx *sqldb.Tx) error {
				tx.Touch(*victim.Arn)
				_, err := tx.Exec(text, *attacker.Arn, *victim.Arn)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			_, err = n.sign(*victim.KeyId, "m")
			wantError(t, err, "KMSInternalException", "*")
			if strings.Contains(err.Error(), "handle") || strings.Contains(err.Error(), "material") {
				t.Errorf("%s: the answer tells what is wrong inside: %v", name, err)
			}
		}
		// The material id belongs to it.
		err := n.db.Write(ctx, func(tx *sqldb.Tx) error {
			tx.Touch(*attacker.Arn)
			if _, err := tx.Exec(`UPDATE kms_materials SET material_id = $2 WHERE key_arn = $1`, *attacker.Arn, strings.Repeat("ab", 32)); err != nil {
				return err
			}
			_, err := tx.Exec(`UPDATE kms_keys SET material_id = $2 WHERE arn = $1`, *attacker.Arn, strings.Repeat("ab", 32))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = n.sign(*attacker.KeyId, "m")
		wantError(t, err, "KMSInternalException", "*")
	})
}

// A stored policy that does not parse allows nothing, to nobody.
func TestDamagedPolicyAllowsNothing(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.signingKey()
		if _, err := n.sign(*k.KeyId, "m"); err != nil {
			t.Fatal(err)
		}
		err := n.db.Write(ctx, func(tx *sqldb.Tx) error {
			tx.Touch(*k.Arn)
			_, err := tx.Exec(`UPDATE kms_keys SET policy = '{' WHERE arn = $1`, *k.Arn)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = n.sign(*k.KeyId, "m")
		wantError(t, err, "KMSInternalException", "*")
		_, err = n.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: k.KeyId})
		wantError(t, err, "KMSInternalException", "*")
	})
}

// The server's own log shows neither plaintext nor message, whatever goes wrong.
func TestLogsShowNoPlaintext(t *testing.T) {
	const secret = "attack at dawn"
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		err := n.db.Write(ctx, func(tx *sqldb.Tx) error {
			_, err := tx.Exec(`UPDATE kms_materials SET handle = $2 WHERE key_arn = $1`, *k.Arn, []byte(secret))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = n.Encrypt(ctx, &sdk.EncryptInput{KeyId: k.KeyId, Plaintext: []byte(secret)})
		wantError(t, err, "KMSInternalException", "*")
		if strings.Contains(n.logs.String(), secret) || strings.Contains(err.Error(), secret) {
			t.Errorf("the log or the answer shows it:\n%s\n%v", n.logs, err)
		}
		if !strings.Contains(n.logs.String(), *k.Arn) {
			t.Errorf("the log does not say which key is damaged:\n%s", n.logs)
		}
	})
}

// A ciphertext names its key; nobody reads through the answers which keys exist
// in another account.
func TestCiphertextOfAMissingKey(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		blob := encryptSomething(n, k)
		elsewhere := n.asIn("us-west-2", account, "", "")
		_, err := elsewhere.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: blob})
		wantError(t, err, "AccessDeniedException", "*")
		_, err = elsewhere.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: blob, KeyId: k.KeyId})
		wantError(t, err, "AccessDeniedException", "*")
	})
}
