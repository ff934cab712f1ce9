package sqldb_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// TestShardOf pins the hash: nodes of different versions must agree on it.
func TestShardOf(t *testing.T) {
	for topic, want := range map[string]sqldb.Shard{
		"": 0xc5, "a": 0xed, "arn:aws:kms:eu-central-1:111122223333:alias/signing": 0x71,
	} {
		if got := sqldb.ShardOf(topic); got != want {
			t.Errorf("ShardOf(%q) = %#x, want %#x", topic, uint8(got), uint8(want))
		}
	}
	// The keys of a Multi-Region key are one topic; those of two accounts, and all other keys, are not.
	mrk := func(region, account, id string) sqldb.Shard {
		return sqldb.ShardOf("arn:aws:kms:" + region + ":" + account + ":key/" + id)
	}
	const key = "mrk-0123456789abcdef0123456789abcdef"
	if mrk("eu-central-1", "111122223333", key) != mrk("us-west-2", "111122223333", key) || mrk("us-west-2", "111122223333", key) == mrk("us-west-2", "444455556666", key) ||
		mrk("eu-central-1", "111122223333", key[4:]) == mrk("us-west-2", "111122223333", key[4:]) {
		t.Error("the topics of Multi-Region keys are not those of their keys in all Regions")
	}
	seen := make(map[sqldb.Shard]int)
	for i := range 25600 {
		seen[sqldb.ShardOf(fmt.Sprintf("arn:aws:kms:eu-central-1:111122223333:key/%032d", i))]++
	}
	for shard, n := range seen {
		if n > 200 {
			t.Errorf("shard %d has %d of 25600 topics", shard, n)
		}
	}
	if len(seen) != 256 {
		t.Errorf("only %d shards are used", len(seen))
	}
}

// TestOnChangeComesBeforeWriteReturns has each of many writers look, right after
// Write, whether the change was announced.
func TestOnChangeComesBeforeWriteReturns(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		makeTable(t, db)
		var calls [256]atomic.Int64
		db.OnChange(func(n sqldb.Shard) { calls[n].Add(1) })
		var all sync.WaitGroup
		for worker := range 16 {
			all.Go(func() {
				topic := fmt.Sprint("topic", worker)
				for i := range 5 {
					before := calls[sqldb.ShardOf(topic)].Load()
					err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
						tx.Touch(topic)
						tx.Touch("shared")
						_, err := tx.Exec(`INSERT INTO items (id, n) VALUES ($1, 0)`, fmt.Sprint(worker, "-", i))
						return err
					})
					if err != nil {
						t.Error(err)
					}
					if calls[sqldb.ShardOf(topic)].Load() == before {
						t.Error("Write returned before OnChange was called")
					}
				}
			})
		}
		all.Wait()
		var before [256]int64
		for n := range calls {
			before[n] = calls[n].Load()
		}
		failed := db.Write(t.Context(), func(tx *sqldb.Tx) error { tx.Touch("undone"); return errors.New("no") })
		if n := sqldb.ShardOf("undone"); failed == nil || calls[n].Load() != before[n] {
			t.Error("a write that failed announced a change")
		}
	})
}

// TestCommittedWhenAnnounced reads inside OnChange: the new state must be there.
func TestCommittedWhenAnnounced(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		makeTable(t, db)
		var seen atomic.Int64
		db.OnChange(func(sqldb.Shard) {
			var n int64
			if err := db.QueryRow(context.Background(), `SELECT count(*) FROM items`).Scan(&n); err == nil {
				seen.Store(n)
			}
		})
		for i := range int64(3) {
			err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
				tx.Touch("x")
				_, err := tx.Exec(`INSERT INTO items (id, n) VALUES ($1, 0)`, fmt.Sprint(i))
				return err
			})
			if err != nil || seen.Load() != i+1 {
				t.Errorf("write %d: %v, the listener saw %d rows", i, err, seen.Load())
			}
		}
	})
}

// TestOtherNodeLearns opens one PostgreSQL database twice, as two nodes would, and
// holds Fresh to its word: what was committed a second before it said true must have
// been announced.
func TestOtherNodeLearns(t *testing.T) {
	url := sqldbtest.Postgres(t)
	one, two := sqldbtest.Open(t, url), sqldbtest.Open(t, url)
	var learned [256]atomic.Bool
	two.OnChange(func(n sqldb.Shard) { learned[n].Store(true) })
	var own atomic.Int64
	one.OnChange(func(sqldb.Shard) { own.Add(1) })
	for i := range 4 {
		topic := fmt.Sprint("topic", i)
		if err := one.Write(t.Context(), func(tx *sqldb.Tx) error { tx.Touch(topic); return nil }); err != nil {
			t.Fatal(err)
		}
		committed := time.Now()
		waitFor(t, func() bool {
			now := time.Now()
			fresh := two.Fresh()
			known := learned[sqldb.ShardOf(topic)].Load()
			if fresh && !known && now.Sub(committed) > time.Second {
				t.Errorf("fresh, and a change is unknown after %v", now.Sub(committed))
			}
			return known
		})
	}
	// A poll between a commit and the note that it was our own announces it again.
	if n := own.Load(); n < 4 || n > 16 {
		t.Errorf("the writing node heard %d times of its 4 changes", n)
	}
}

// TestNotFreshWhenPostgresStops freezes the server: connections stay open, nothing
// answers. Within a second the node must know that it knows nothing, and when the
// server is back it must take everything for changed.
func TestNotFreshWhenPostgresStops(t *testing.T) {
	server := sqldbtest.NewServer(t)
	db := sqldbtest.Open(t, server.NewDatabase(t))
	if !db.Fresh() {
		t.Error("not fresh after Open")
	}
	var heard [256]atomic.Bool
	db.OnChange(func(n sqldb.Shard) { heard[n].Store(true) })
	if err := server.Freeze(); err != nil {
		t.Fatal(err)
	}
	frozen := time.Now()
	waitFor(t, func() bool {
		now := time.Now()
		fresh := db.Fresh()
		if fresh && now.Sub(frozen) > time.Second {
			t.Errorf("fresh %v after the server had stopped", now.Sub(frozen))
		}
		return !fresh
	})
	// Longer than a poll may take, so that its connection is given up.
	waitFor(t, func() bool { return time.Since(frozen) > 2500*time.Millisecond })
	if err := server.Thaw(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, db.Fresh)
	for n := range heard {
		if !heard[n].Load() {
			t.Fatalf("shard %d was not announced after the connection had broken", n)
		}
	}
}

func TestSQLiteIsAlwaysFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := sqldbtest.SQLite(t)
		time.Sleep(time.Hour) // virtual
		if !db.Fresh() || db.IsPostgres() {
			t.Error("SQLite is not fresh, or takes itself for PostgreSQL")
		}
	})
}

// waitFor polls until ok, which depends on another process and the real clock.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("waited 30 seconds in vain")
		}
	}
}
