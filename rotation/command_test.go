package rotation_test

import (
	"errors"
	"testing"
	"time"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

var commands = map[string]func(*house) error{
	"nothing":    func(*house) error { return nil },
	"rotate now": func(h *house) error { _, err := h.rotateNow(); return err },
	"cancel":     func(h *house) error { _, err := h.cancel(); return err },
	"roll back":  func(h *house) error { _, err := h.rollBack(); return err },
	"compromise": func(h *house) error { _, err := h.compromised(0); return err },
	"revoke v1":  func(h *house) error { _, err := h.compromised(1); return err },
	"pause, resume": func(h *house) error {
		_, err := h.service.PausePolicy(h.t.Context(), h.call("PausePolicy"), &rotation.PausePolicyInput{Name: h.policy.Name})
		if err != nil {
			return err
		}
		return h.resume(false)
	},
	"put": func(h *house) error {
		p := h.policy
		p.Schedule = "rate(20 days)"
		h.put(p)
		return nil
	},
}

// TestCommandsAtAnyInstant gives every command just before every call of two turns, the
// engine's writes included, while the step is under way, and lets another engine work at
// that instant; and again while the lease of a process that has ended there still holds.
func TestCommandsAtAnyInstant(t *testing.T) {
	live := func(t *testing.T, db *sqldb.DB, guard *access.Guard, prepare func(*house)) *house {
		p := monthly()
		p.Adopt = rotation.AdoptFull
		h := newHouse(t, db, guard, p)
		prepare(h)
		h.run(epoch.Add(64 * day))
		h.faults.Before = nil
		h.runFor(70 * day)
		h.verify()
		return h
	}
	db := sqldbtest.SQLite(t)
	counted := live(t, db, openGuard(t, db), func(*house) {})
	calls := counted.faults.Calls()
	n := min(len(calls), 50)
	for name, command := range commands {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := sqldbtest.SQLite(t)
			guard := openGuard(t, db)
			taken := 0
			for i := range n {
				for _, crash := range []bool{false, true} {
					// One of four by turns: at an even call with a crash, at the next one without, …
					if !*every && (i%2 == 1 || crash != (i%4 == 0)) {
						continue
					}
					h := live(t, db, guard, func(h *house) {
						if crash {
							h.faults.At, h.faults.Times, h.faults.Mode = i, 1, rotationtest.Applied
							h.faults.Crash = func() { h.crash() }
						}
						h.faults.Before = func(at int, _ string) {
							if at != i {
								return
							}
							if command(h) == nil {
								taken++
							}
							h.another(5)
						}
					})
					if h.active() < 3 && name != "roll back" && name != "put" {
						t.Errorf("v%d is active in the end: %s", h.active(), h.story())
					}
					if t.Failed() {
						t.Fatalf("call %d (%s), crash %t", i, calls[i], crash)
					}
				}
			}
			if taken == 0 {
				t.Error("the command was never taken")
			}
			t.Logf("taken %d times before %d calls", taken, n)
		})
	}
}

// another lets another engine work, which meets no faults.
func (h *house) another(steps int) {
	h.t.Helper()
	engine := rotation.New(rotation.Config{
		Table: rotation.NewTable(h.db), Rotators: map[string]rotation.Rotator{"key": h.world}, Targets: noTarget,
		Now: h.clock.Now, Node: "node-2", Rand: func() float64 { return 0.5 }, Lease: time.Minute,
	})
	for range steps {
		worked, err := engine.RunOnce(h.t.Context())
		if err != nil && !errors.Is(err, sqldb.ErrConflict) {
			h.t.Fatal(err)
		}
		if !worked {
			return
		}
	}
}
