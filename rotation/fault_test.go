package rotation_test

import (
	"flag"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// scenario is a stretch of a lineage's life, into every call of which a fault is put.
type scenario struct {
	name   string
	policy func(*rotation.Policy)
	live   func(*house)
	// end is what must have come of it once the faults are over.
	end func(*house)
}

// command asks for something as a person would: again, until it is taken.
func (h *house) command(do func() (*rotation.RotationOutput, error)) {
	h.t.Helper()
	var err error
	for range 20 {
		if _, err = do(); err == nil {
			return
		}
		h.runFor(10 * time.Minute)
	}
	h.t.Fatalf("a command is never taken: %v %s", err, h.story())
}

var scenarios = []scenario{
	{
		name: "rotate",
		live: func(h *house) { h.run(epoch.Add(125 * day)) },
		end: func(h *house) {
			if h.active() < 4 {
				h.t.Errorf("v%d is active after four turns: %s", h.active(), h.story())
			}
			if h.state(2) != rotation.StateDestroyed {
				h.t.Errorf("v2 is %s: %s", h.state(2), h.story())
			}
		},
	},
	{
		name:   "instant",
		policy: func(p *rotation.Policy) { p.Mode, p.Lead = rotation.ModeInstant, 0 },
		live:   func(h *house) { h.run(epoch.Add(40 * day)) },
		end: func(h *house) {
			if h.active() != 2 {
				h.t.Errorf("v%d is active after one turn: %s", h.active(), h.story())
			}
		},
	},
	{
		name: "cancel",
		live: func(h *house) {
			h.runFor(day)
			h.command(h.rotateNow)
			h.runFor(12 * time.Hour)
			if _, err := h.cancel(); err == nil {
				h.runFor(day)
			}
			h.run(epoch.Add(65 * day))
		},
		end: func(h *house) {
			if h.active() < 2 {
				h.t.Errorf("v%d is active: %s", h.active(), h.story())
			}
		},
	},
	{
		name: "roll back",
		live: func(h *house) {
			h.runFor(day)
			h.command(h.rotateNow)
			h.runFor(10 * day)
			h.command(h.rotateNow)
			h.runFor(41 * day) // v1 deactivated, v2 too, and another one is prepared
			h.command(h.rollBack)
			h.runFor(15 * day)
		},
		end: func(h *house) {
			if got := h.world.Alias().ARN; len(h.broken) == 0 && h.active() == 0 {
				h.t.Errorf("the alias names %s: %s", got, h.story())
			}
		},
	},
	{
		name: "compromise",
		live: func(h *house) {
			h.runFor(day)
			h.command(func() (*rotation.RotationOutput, error) { return h.compromised(0) })
			h.runFor(45 * day)
			h.command(h.rotateNow)
			h.runFor(12 * time.Hour) // published, not yet switched
			h.command(func() (*rotation.RotationOutput, error) { return h.compromised(0) })
			h.runFor(2 * day)
		},
		end: func(h *house) {
			revoked := 0
			for _, g := range h.generations() {
				if g.State == rotation.StateCompromised {
					revoked++
				}
			}
			if revoked != 2 || h.world.Keys()[0].State == rotationtest.Enabled {
				h.t.Errorf("%d generations are compromised: %s", revoked, h.story())
			}
		},
	},
}

var every = flag.Bool("every", false, "put faults before or into every call, not only some, as make soak does")

// TestFaults breaks every call of every scenario, the engine's writes included, each in
// both ways, with and without the end of the process, once and so often that the
// rotation fails; and checks after every step what must always hold.
func TestFaults(t *testing.T) {
	testFaults(t, func(t *testing.T) *sqldb.DB { return sqldbtest.SQLite(t) }, 1)
}

// TestFaultsPostgres does so for every thirteenth call.
func TestFaultsPostgres(t *testing.T) {
	testFaults(t, func(t *testing.T) *sqldb.DB { return sqldbtest.Open(t, sqldbtest.Postgres(t)) }, 13)
}

func testFaults(t *testing.T, open func(*testing.T) *sqldb.DB, stride int) {
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			db := open(t)
			guard := openGuard(t, db)
			live := func(t *testing.T, prepare func(h *house)) *house {
				p := monthly()
				if s.policy != nil {
					s.policy(&p)
				}
				h := newHouse(t, db, guard, p)
				prepare(h)
				s.live(h)
				h.runFor(2 * time.Hour)
				h.verify()
				return h
			}
			fine := live(t, func(*house) {})
			s.end(fine)
			calls := fine.faults.Calls()
			runs := 0
			seen := map[string]int{}
			for i := range calls {
				if seen[calls[i]]++; i%stride != 0 || seen[calls[i]] > 1 && calls[i] != "table.Store" && !*every {
					continue
				}
				if calls[i] == "table.Store" && seen[calls[i]] > 12 && !*every {
					continue
				}
				for _, mode := range []rotationtest.Mode{rotationtest.Lost, rotationtest.Applied} {
					if mode == rotationtest.Applied && reads(calls[i]) {
						continue // the same as losing it
					}
					for _, times := range []int{1, 5} {
						for _, crash := range []bool{false, true} {
							if crash && times > 1 && !*every {
								continue // an engine that has crashed knows nothing of it
							}
							h := live(t, func(h *house) {
								h.faults.At, h.faults.Times, h.faults.Mode = i, times, mode
								if crash {
									h.faults.Crash = func() { h.crash() }
								}
							})
							runs++
							if times == 1 {
								s.end(h)
							}
							if t.Failed() {
								t.Fatalf("call %d (%s), mode %d, %d times, crash %t\ncalls: %v", i, calls[i], mode, times, crash, around(calls, i))
							}
							if crash && h.crashes == 0 {
								t.Fatalf("call %d (%s) did not crash", i, calls[i])
							}
						}
					}
				}
			}
			t.Logf("%d calls, %d runs: %v", len(calls), runs, names(calls))
		})
	}
}

// reads reports whether a call of the world changes nothing.
func reads(call string) bool {
	_, operation, _ := strings.Cut(call, ".")
	return strings.HasPrefix(operation, "List") || strings.HasPrefix(operation, "Describe") || strings.HasPrefix(operation, "Lookup")
}

func around(calls []string, i int) []string { return calls[max(0, i-3):min(len(calls), i+3)] }

// names lists which calls there were.
func names(calls []string) []string {
	all := slices.Clone(calls)
	slices.Sort(all)
	return slices.Compact(all)
}
