package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

func TestTurnsOnSchedule(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		p := monthly()
		p.Adopt = rotation.AdoptFull
		h := newHouse(t, db, openGuard(t, db), p)
		h.runFor(time.Hour)
		if h.active() != 1 || h.state(1) != rotation.StateActive {
			t.Fatalf("the present key was not adopted: %s", h.story())
		}
		h.run(epoch.Add(30*day - time.Minute))
		if h.active() != 1 || h.state(2) != rotation.StatePreActivation {
			t.Fatalf("a minute before the switch: %s", h.story())
		}
		h.run(epoch.Add(30*day + time.Minute))
		if h.active() != 2 || h.state(1) != rotation.StateDeactivated {
			t.Fatalf("after the switch: %s", h.story())
		}
		h.run(epoch.Add(71 * day))
		if h.active() != 3 || h.state(1) != rotation.StateSuspended {
			t.Fatalf("after the first overlap: %s", h.story())
		}
		h.run(epoch.Add(125 * day))
		if h.active() != 5 || h.state(1) != rotation.StateDestroyed || h.state(2) != rotation.StateDestroyed || h.state(3) != rotation.StateDeactivated {
			t.Fatalf("after the third switch: %s", h.story())
		}
		h.verify()
	})
}

// TestEnginesRace lets several engines work at once, on SQLite in one process, on
// PostgreSQL as nodes with connections of their own.
func TestEnginesRace(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		db := sqldbtest.SQLite(t)
		testEnginesRace(t, db, db, db)
	})
	t.Run("postgres", func(t *testing.T) {
		url := sqldbtest.Postgres(t)
		testEnginesRace(t, sqldbtest.Open(t, url), sqldbtest.Open(t, url), sqldbtest.Open(t, url))
	})
}

func testEnginesRace(t *testing.T, nodes ...*sqldb.DB) {
	p := monthly()
	p.Adopt = rotation.AdoptFull
	h := newHouse(t, nodes[0], openGuard(t, nodes[0]), p)
	var engines []*rotation.Engine
	for i, db := range nodes {
		for worker := range 2 {
			engines = append(engines, rotation.New(rotation.Config{
				Table: rotation.NewTable(db), Rotators: map[string]rotation.Rotator{"key": h.world}, Targets: noTarget,
				Now: h.clock.Now, Node: fmt.Sprintf("node-%d-%d", i, worker), Lease: time.Minute,
			}))
		}
	}
	end := epoch.Add(100 * day)
	for range 1000 {
		var busy atomic.Bool
		var all sync.WaitGroup
		for _, e := range engines {
			all.Go(func() {
				worked, err := e.RunOnce(t.Context())
				if err != nil && !errors.Is(err, sqldb.ErrConflict) {
					t.Error(err)
				}
				if worked || err != nil {
					busy.Store(true)
				}
			})
		}
		all.Wait()
		h.check(false)
		if t.Failed() || len(h.broken) > 0 {
			break
		}
		if busy.Load() {
			continue
		}
		if wake := h.wake(); wake.IsZero() || wake.After(end) {
			break
		} else if wake.After(h.clock.Now()) {
			h.clock.Set(wake)
		}
	}
	h.verify()
	if h.active() != 4 || len(h.world.Keys()) != 5 && len(h.world.Keys()) != 4 {
		t.Errorf("v%d is active, %d keys: %s", h.active(), len(h.world.Keys()), h.story())
	}
	for _, call := range []string{"create.CreateKey", "switch.UpdateAlias"} {
		n := 0
		for _, c := range h.faults.Calls() {
			if c == call {
				n++
			}
		}
		if n < 3 || n > 4 {
			t.Errorf("%s was called %d times for 3 turns", call, n)
		}
	}
}

// TestLease: nobody does a step that is under way elsewhere before its lease has run out, and
// who lost the lease can no longer store anything.
func TestLease(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := newHouse(t, db, openGuard(t, db), monthly())
		h.runFor(time.Hour)
		h.must(h.rotateNow())
		other := h.newEngine("node-2")
		reached := false
		h.faults.Before = func(_ int, name string) {
			if name != "create.CreateKey" || reached {
				return
			}
			reached = true
			for range 3 {
				if worked, err := other.RunOnce(t.Context()); worked || err != nil {
					t.Errorf("the other engine did something inside the lease: %v", err)
				}
			}
			h.clock.Advance(61 * time.Second)
			if worked, err := other.RunOnce(t.Context()); !worked || err != nil {
				t.Errorf("the other engine did nothing after the lease: %t %v", worked, err)
			}
		}
		var err error
		for err == nil && !reached {
			_, err = h.engine.RunOnce(t.Context())
		}
		if !reached || !errors.Is(err, sqldb.ErrConflict) {
			t.Errorf("who lost the lease could store: %v", err)
		}
		if !strings.Contains(h.story(), "recovered") {
			t.Errorf("the history does not tell: %s", h.story())
		}
	})
}

// TestCommandsNeedNotWaitForTheLease: when a step has ended, but a command has changed its
// row meanwhile, the row is free at once.
func TestCommandsNeedNotWaitForTheLease(t *testing.T) {
	db := sqldbtest.SQLite(t)
	h := newHouse(t, db, openGuard(t, db), monthly())
	h.runFor(time.Hour)
	h.must(h.rotateNow())
	done := false
	h.faults.Before = func(_ int, name string) {
		if name == "publish.UpdateAlias" && !done {
			done = true
			h.must(h.cancel())
		}
	}
	began := h.clock.Now()
	for h.wake().Compare(began) <= 0 {
		h.once()
	}
	if !done || h.clock.Now() != began {
		t.Fatalf("%t %s", done, h.clock.Now())
	}
	if h.state(2) != rotation.StateDestroyed {
		t.Errorf("the pending key is %s: %s", h.state(2), h.story())
	}
	h.verify()
}

// TestRunTurnsYears runs the whole engine, workers and timers, in virtual time over a real
// SQLite file: three years of a lineage.
func TestRunTurnsYears(t *testing.T) {
	dir := sqldbtest.Dir(t)
	synctest.Test(t, func(t *testing.T) {
		db, err := sqldb.Open(t.Context(), "sqlite:"+filepath.Join(dir, "years.db"))
		if err != nil {
			t.Fatal(err)
		}
		p := monthly()
		p.Name, p.Alias, p.Account, p.Region, p.Adopt = "payments", "alias/payments", account, region, rotation.AdoptFull
		world := rotationtest.NewWorld(p, time.Now)
		service, err := rotation.NewService(rotation.ServiceConfig{
			DB: db, Guard: openGuard(t, db), Rotators: map[string]rotation.Rotator{"key": world}, Targets: noTarget,
			Poll: 24 * time.Hour, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		h := &house{t: t, db: db, clock: rotationtest.NewClock(time.Now()), world: world, service: service, policy: p}
		h.put(p)
		ctx, cancel := context.WithCancel(t.Context())
		var ran sync.WaitGroup
		ran.Go(func() {
			if err := service.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(3 * 365 * 24 * time.Hour)
		synctest.Wait()
		for _, b := range rotationtest.Check(t.Context(), db, world, true) {
			t.Error(b)
		}
		out, err := service.ListGenerations(t.Context(), h.call("ListGenerations"), &rotation.ListGenerationsInput{Name: "payments"})
		if err != nil {
			t.Fatal(err)
		}
		destroyed := 0
		for _, g := range out.Generations {
			if g.State == rotation.StateDestroyed {
				destroyed++
			}
		}
		if n := len(out.Generations); n < 36 || n > 38 || destroyed < 33 {
			t.Errorf("%d generations in three years, %d destroyed: %s", n, destroyed, h.story())
		}
		cancel()
		ran.Wait()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestRunIsWoken: a command takes effect at once, not when the next turn is due.
func TestRunIsWoken(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		p := monthly()
		p.Mode, p.Lead = rotation.ModeInstant, 0
		h := newHouse(t, db, openGuard(t, db), p)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		changed := make(chan struct{}, 1)
		db.OnChange(func(sqldb.Shard) {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
		var ran sync.WaitGroup
		ran.Go(func() { _ = h.service.Run(ctx) })
		h.must(h.rotateNow())
		for h.active() != 2 && ctx.Err() == nil {
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
		if h.active() != 2 {
			t.Errorf("v%d is active: %s", h.active(), h.story())
		}
		cancel()
		ran.Wait()
	})
}
