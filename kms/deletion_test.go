package kms_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/keystore"
	"github.com/keyturn/keyturn/kms"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

const day = 24 * time.Hour

func (n *node) runOnce() bool {
	n.t.Helper()
	return must[bool](n.t)(n.service.RunOnce(ctx))
}

// rows counts what the database holds of a key.
func (n *node) rows(k *types.KeyMetadata) (all int64) {
	n.t.Helper()
	err := n.db.QueryRow(ctx, `SELECT (SELECT COUNT(*) FROM kms_keys WHERE arn = $1) + (SELECT COUNT(*) FROM kms_materials WHERE key_arn = $1)
		+ (SELECT COUNT(*) FROM kms_tags WHERE key_arn = $1) + (SELECT COUNT(*) FROM kms_aliases WHERE key_arn = $1)
		+ (SELECT COUNT(*) FROM kms_key_usage WHERE key_arn = $1)`, *k.Arn).Scan(&all)
	if err != nil {
		n.t.Fatal(err)
	}
	return all
}

func TestKeysAreDeletedWhenTheirDateComes(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k, other := n.signingKey(), n.signingKey()
		n.alias("alias/x", k)
		n.alias("alias/other", other)
		if _, err := n.TagResource(ctx, &sdk.TagResourceInput{KeyId: k.KeyId, Tags: tags("a", "1")}); err != nil {
			t.Fatal(err)
		}
		if _, err := n.sign("alias/x", "m"); err != nil {
			t.Fatal(err)
		}
		n.runOnce() // the use is written down
		out := must[*sdk.ScheduleKeyDeletionOutput](t)(n.ScheduleKeyDeletion(ctx, &sdk.ScheduleKeyDeletionInput{KeyId: k.Arn, PendingWindowInDays: aws.Int32(7)}))
		if *out.KeyId != *k.Arn || out.KeyState != types.KeyStatePendingDeletion || *out.PendingWindowInDays != 7 ||
			out.DeletionDate.Sub(n.clock.now().Add(7*day)).Abs() > time.Minute {
			t.Errorf("%+v", out)
		}
		n.clock.move(7*day - time.Minute)
		if n.runOnce() || n.rows(k) != 5 {
			t.Errorf("deleted too early: %d rows are left", n.rows(k))
		}
		if _, err := n.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: aws.String("alias/x")}); err != nil {
			t.Error(err)
		}
		n.clock.move(2 * time.Minute)
		if !n.runOnce() || n.rows(k) != 0 {
			t.Errorf("%d rows are left", n.rows(k))
		}
		for _, name := range []string{*k.KeyId, *k.Arn} {
			_, err := n.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: &name})
			wantError(t, err, "NotFoundException", "Key '"+*k.Arn+"' does not exist")
			_, err = n.sign(name, "m")
			wantError(t, err, "NotFoundException", "Key '"+*k.Arn+"' does not exist")
		}
		_, err := n.sign("alias/x", "m")
		wantError(t, err, "NotFoundException", "*")
		if _, err := n.sign("alias/other", "m"); err != nil {
			t.Errorf("another key: %v", err)
		}
		if n.runOnce() {
			t.Error("there is still something to do")
		}
	})
}

func TestDeletionWindow(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.signingKey()
		for _, days := range []int32{1, 6, 31, 365} {
			_, err := n.ScheduleKeyDeletion(ctx, &sdk.ScheduleKeyDeletionInput{KeyId: k.KeyId, PendingWindowInDays: &days})
			wantError(t, err, "ValidationException", "*")
		}
		out := must[*sdk.ScheduleKeyDeletionOutput](t)(n.ScheduleKeyDeletion(ctx, &sdk.ScheduleKeyDeletionInput{KeyId: k.KeyId}))
		if *out.PendingWindowInDays != 30 || out.DeletionDate.Sub(n.clock.now().Add(30*day)).Abs() > time.Minute {
			t.Errorf("%+v", out)
		}
		if _, err := n.CancelKeyDeletion(ctx, &sdk.CancelKeyDeletionInput{KeyId: k.KeyId}); err != nil {
			t.Fatal(err)
		}
		n.clock.move(31 * day)
		if n.runOnce() || n.rows(k) == 0 {
			t.Error("a cancelled deletion happened")
		}
		n.enable(k)
		if _, err := n.sign(*k.KeyId, "m"); err != nil {
			t.Error(err)
		}
	})
}

// A clock that jumps ahead and is set right again destroys nothing: a key must
// have been overdue for the grace period.
func TestClockJumpsDestroyNothing(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		n := newNode(t, db, options{config: func(c *kms.Config) { c.DeletionGrace = time.Hour }})
		k := n.signingKey()
		n.scheduleDeletion(k, 7)
		for range 3 {
			n.clock.move(365 * day)
			n.runOnce()
			n.clock.move(-365 * day)
			n.runOnce()
		}
		// Seen overdue by a clock that is a year ahead: that date counts for nothing.
		n.clock.move(365 * day)
		n.runOnce()
		n.clock.move(-350 * day)
		n.runOnce()
		n.runOnce()
		if n.rows(k) == 0 {
			t.Fatal("a clock that was wrong destroyed the key")
		}
		if _, err := n.CancelKeyDeletion(ctx, &sdk.CancelKeyDeletionInput{KeyId: k.KeyId}); err != nil {
			t.Fatal(err)
		}
		n.scheduleDeletion(k, 7)
		n.clock.move(7*day + time.Minute)
		for range 2 {
			if n.runOnce(); n.rows(k) == 0 {
				t.Fatal("destroyed without grace")
			}
			n.clock.move(50 * time.Minute)
		}
		if n.runOnce(); n.rows(k) != 0 {
			t.Errorf("%d rows are left after the grace period", n.rows(k))
		}
	})
}

// reluctant destroys nothing until it is told.
type reluctant struct {
	keystore.Backend
	refuse    atomic.Bool
	destroyed atomic.Int64
}

func (r *reluctant) Destroy(ctx context.Context, ref keystore.Ref, handle []byte) error {
	if r.refuse.Load() {
		return errors.New("the token is away")
	}
	r.destroyed.Add(1)
	return r.Backend.Destroy(ctx, ref, handle)
}

// Past the point of no return nobody sees the key, and every turn goes on until
// the key store has destroyed the material; a restart is no special case.
func TestDeletionGoesOnAfterAFailure(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		var store reluctant
		n := newNode(t, db, options{backend: func(b keystore.Backend) keystore.Backend { store.Backend = b; return &store }})
		k := n.signingKey()
		n.alias("alias/x", k)
		n.scheduleDeletion(k, 7)
		store.refuse.Store(true)
		n.clock.move(8 * day)
		for range 2 {
			if _, err := n.service.RunOnce(ctx); err == nil {
				t.Error("a key store that fails goes unreported")
			}
		}
		_, err := n.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: k.KeyId})
		wantError(t, err, "NotFoundException", "*")
		_, err = n.CancelKeyDeletion(ctx, &sdk.CancelKeyDeletionInput{KeyId: k.KeyId})
		wantError(t, err, "NotFoundException", "*")
		if out := must[*sdk.ListKeysOutput](t)(n.ListKeys(ctx, &sdk.ListKeysInput{})); len(out.Keys) != 0 {
			t.Errorf("listed: %v", out.Keys)
		}
		store.refuse.Store(false)
		n.runOnce()
		if n.rows(k) != 0 || store.destroyed.Load() != 1 {
			t.Errorf("%d rows are left, destroyed %d times", n.rows(k), store.destroyed.Load())
		}
	})
}

// A cancellation and a deletion that is due compete; one wins, and a cancelled
// key is whole.
func TestCancelRacesDeletion(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		for range 10 {
			k := n.signingKey()
			n.scheduleDeletion(k, 7)
			n.clock.move(8 * day)
			done := make(chan error)
			go func() {
				_, err := n.CancelKeyDeletion(ctx, &sdk.CancelKeyDeletionInput{KeyId: k.KeyId})
				done <- err
			}()
			n.runOnce()
			if err := <-done; err != nil {
				wantError(t, err, "NotFoundException", "*")
				n.runOnce()
				if n.rows(k) != 0 {
					t.Errorf("%d rows are left", n.rows(k))
				}
				continue
			}
			n.enable(k)
			if _, err := n.sign(*k.KeyId, "m"); err != nil {
				t.Errorf("cancelled in time, and not whole: %v", err)
			}
		}
	})
}
