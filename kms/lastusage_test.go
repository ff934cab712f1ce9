package kms_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/keystore/software"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

func (n *node) lastUse(k *types.KeyMetadata) (string, *sdk.GetKeyLastUsageOutput) {
	n.t.Helper()
	out := must[*sdk.GetKeyLastUsageOutput](n.t)(n.GetKeyLastUsage(ctx, &sdk.GetKeyLastUsageInput{KeyId: k.KeyId}))
	if !out.KeyCreationDate.Equal(*k.CreationDate) || !out.TrackingStartDate.Equal(*k.CreationDate) || *out.KeyId != *k.KeyId {
		n.t.Errorf("%+v", out)
	}
	if out.KeyLastUsage == nil {
		return "", out
	}
	return string(out.KeyLastUsage.Operation), out
}

// Every operation that AWS tracks is noted, and GetPublicKey is not.
func TestGetKeyLastUsage(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		for op, a := range everyOperation {
			switch op {
			case "Sign", "Verify", "Encrypt", "Decrypt", "ReEncrypt", "GenerateMac", "VerifyMac",
				"DeriveSharedSecret", "Encapsulate", "Decapsulate",
				"GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext":
			default:
				continue
			}
			k := n.create(a.spec, a.usage)
			if used, _ := n.lastUse(k); used != "" {
				t.Errorf("a new key was used: %s", used)
			}
			var made []byte
			if a.before != nil {
				made = a.before(n, k)
			}
			if err := a.run(n, k, made); err != nil {
				t.Fatal(err)
			}
			check := func(when string) {
				used, out := n.lastUse(k)
				if used != op || time.Since(*out.KeyLastUsage.Timestamp).Abs() > time.Minute || aws.ToString(out.KeyLastUsage.KmsRequestId) == "" {
					t.Errorf("%s: %s is known as %q, %+v", when, op, used, out.KeyLastUsage)
				}
			}
			check("before it is written")
			n.runOnce()
			check("written")
			n.clock.move(time.Hour)
			n.runOnce() // the snapshot is dropped
			check("read back")
		}
		k := n.signingKey()
		if _, err := n.GetPublicKey(ctx, &sdk.GetPublicKeyInput{KeyId: k.KeyId}); err != nil {
			t.Fatal(err)
		}
		_, _ = n.verify(*k.KeyId, "m", []byte("wrong"))
		if used, _ := n.lastUse(k); used != "" {
			t.Errorf("used by %s", used)
		}
		_, err := n.GetKeyLastUsage(ctx, &sdk.GetKeyLastUsageInput{KeyId: aws.String("alias/x")})
		wantError(t, err, "NotFoundException", "*")
	})
}

// Run writes down what is left when it ends; nothing is lost by an orderly stop.
func TestLastUseSurvivesAStop(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		root := software.RootKeyFile(filepath.Join(t.TempDir(), "root.key"))
		n := newNode(t, db, options{root: root})
		running, stop := context.WithCancel(ctx)
		done := make(chan error)
		go func() { done <- n.service.Run(running) }()
		k := n.signingKey()
		if _, err := n.sign(*k.KeyId, "m"); err != nil {
			t.Fatal(err)
		}
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		again := newNode(t, db, options{root: root})
		if used, _ := again.lastUse(k); used != "Sign" {
			t.Errorf("known after a restart: %q", used)
		}
	})
}

// Two flushes that hold the rows of the same keys must not wait for each other: a
// flush that waits for its first key holds no other.
func TestLastUsesAreWrittenInOneOrder(t *testing.T) {
	url := sqldbtest.Postgres(t)
	n := newNode(t, sqldbtest.Open(t, url), options{})
	a, b := n.signingKey(), n.signingKey()
	if *a.Arn > *b.Arn {
		a, b = b, a
	}
	use := func() {
		for _, k := range []*types.KeyMetadata{b, a} { // the wrong way round
			n.sign(*k.KeyId, "m")
		}
	}
	use()
	n.runOnce()
	other, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	tx, err := other.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, `UPDATE kms_key_usage SET used_at = used_at WHERE key_arn = $1`, *a.Arn); err != nil {
		t.Fatal(err)
	}
	n.clock.move(time.Second)
	use()
	flushed := make(chan error, 1)
	go func() { _, err := n.service.RunOnce(ctx); flushed <- err }()
	for waiting := 0; waiting == 0; {
		if err := other.QueryRowContext(ctx, `SELECT count(*) FROM pg_locks WHERE NOT granted`).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tx.ExecContext(ctx, `SELECT 1 FROM kms_key_usage WHERE key_arn = $1 FOR UPDATE NOWAIT`, *b.Arn); err != nil {
		t.Errorf("the flush that waits for %s holds %s: %v", *a.Arn, *b.Arn, err)
	}
	if err := tx.Commit(); err != nil {
		t.Log(err)
	}
	if err := <-flushed; err != nil {
		t.Error(err)
	}
}
