package rotation_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// switches returns when the alias was moved, from the history of rotations.
func (h *house) switches() []time.Time {
	var all []time.Time
	for _, r := range slices.Backward(h.rotations()) {
		if r.Switched {
			all = append(all, r.SwitchedAt)
		}
	}
	return all
}

func windowed() rotation.Policy {
	p := monthly()
	p.Schedule, p.Window, p.Timezone = "cron(0 2 1 * ? *)", rotation.Duration(4*time.Hour), "Europe/Berlin"
	return p
}

func berlin(t *testing.T, text string) time.Time {
	t.Helper()
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at, err := time.ParseInLocation(time.DateTime, text, zone)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestSwitchesInTheWindow(t *testing.T) {
	db := sqldbtest.SQLite(t)
	h := newHouse(t, db, openGuard(t, db), windowed())
	h.run(berlin(t, "2027-04-15 00:00:00"))
	h.verify()
	want := []string{"2027-02-01 02:00:00", "2027-03-01 02:00:00", "2027-04-01 02:00:00"}
	for i, at := range h.switches() {
		if i >= len(want) || !at.Equal(berlin(t, want[i])) {
			t.Errorf("switch %d at %s", i, at)
		}
	}
	if n := len(h.switches()); n != len(want) {
		t.Errorf("%d switches: %s", n, h.story())
	}
}

// TestDowntime: however many windows pass while nothing runs, one rotation makes up for
// them; in the next window when the policy names one, at once when not.
func TestDowntime(t *testing.T) {
	db := sqldbtest.SQLite(t)
	guard := openGuard(t, db)
	t.Run("window", func(t *testing.T) {
		h := newHouse(t, db, guard, windowed())
		h.runFor(time.Hour)
		h.clock.Set(berlin(t, "2027-06-10 12:00:00"))
		h.run(berlin(t, "2027-07-15 00:00:00"))
		h.verify()
		if got := h.switches(); len(got) != 1 || !got[0].Equal(berlin(t, "2027-07-01 02:00:00")) {
			t.Errorf("switched at %v: %s", got, h.story())
		}
	})
	t.Run("no window", func(t *testing.T) {
		h := newHouse(t, db, guard, monthly())
		h.runFor(time.Hour)
		back := epoch.Add(200 * day)
		h.clock.Set(back)
		h.run(back.Add(28 * day))
		h.verify()
		if got := h.switches(); len(got) != 1 || got[0].Before(back.Add(day)) || got[0].After(back.Add(2*day)) {
			t.Errorf("switched at %v: %s", got, h.story())
		}
		h.run(back.Add(33 * day))
		if got := h.switches(); len(got) != 2 {
			t.Errorf("switched at %v: %s", got, h.story())
		}
	})
}

// TestMissedSwitch: a switch that was under way when the process ended and the window
// closed is not made outside the window; but if it was made inside, that is found and
// recorded, not left in doubt until the next window.
func TestMissedSwitch(t *testing.T) {
	db := sqldbtest.SQLite(t)
	guard := openGuard(t, db)
	for _, mode := range []rotationtest.Mode{rotationtest.Lost, rotationtest.Applied} {
		h := newHouse(t, db, guard, windowed())
		h.run(berlin(t, "2027-02-01 01:59:00"))
		h.faults.Times, h.faults.Mode = 1, mode
		h.faults.Match = func(name string) bool { return name == "switch.UpdateAlias" }
		h.faults.Crash = func() { h.crash() }
		h.clock.Set(berlin(t, "2027-02-01 05:59:30"))
		for h.crashes == 0 {
			h.once()
		}
		h.run(berlin(t, "2027-02-20 00:00:00"))
		want := "2027-03-01 02:00:00"
		if mode == rotationtest.Applied {
			if want = "2027-02-01 06:00:30"; h.active() != 2 {
				t.Errorf("the switch was not found: %s", h.story())
			}
		} else if len(h.switches()) != 0 || h.active() != 1 {
			t.Errorf("switched outside the window: %s", h.story())
		}
		h.run(berlin(t, "2027-03-05 00:00:00"))
		h.verify()
		if got := h.switches(); len(got) == 0 || !got[0].Equal(berlin(t, want)) {
			t.Errorf("switched at %v, want %s: %s", got, want, h.story())
		}
	}
}

func TestFreeze(t *testing.T) {
	db := sqldbtest.SQLite(t)
	p := windowed()
	from, _ := rotation.ParseDate("2027-01-20")
	to, _ := rotation.ParseDate("2027-02-10")
	p.Freeze = []rotation.Period{{From: from, To: to, Reason: "audit"}}
	h := newHouse(t, db, openGuard(t, db), p)
	made := len(h.world.Keys())
	h.run(berlin(t, "2027-02-10 23:59:00"))
	if len(h.world.Keys()) != made {
		t.Errorf("a key was made in a freeze: %s", h.story())
	}
	h.run(berlin(t, "2027-03-02 00:00:00"))
	h.verify()
	if got := h.switches(); len(got) != 1 || !got[0].Equal(berlin(t, "2027-03-01 02:00:00")) {
		t.Errorf("switched at %v: %s", got, h.story())
	}
}

// TestClockJumps sets the clock back and forward at every step: nothing is turned twice,
// no lead or overlap is cut short by the clock's own measure, and the calendar goes on.
func TestClockJumps(t *testing.T) {
	db := sqldbtest.SQLite(t)
	guard := openGuard(t, db)
	for _, jump := range []time.Duration{-40 * day, -2 * time.Hour, 3 * time.Hour} {
		for at := range 11 {
			h := newHouse(t, db, guard, monthly())
			h.run(epoch.Add(29*day - time.Second))
			h.clock.Set(epoch.Add(29 * day))
			for i := range at {
				if !h.once() && i < at-1 {
					if wake := h.wake(); wake.After(h.clock.Now()) {
						h.clock.Set(wake)
					}
				}
			}
			before := h.clock.Now()
			turned := len(h.switches())
			h.clock.Advance(jump)
			h.run(before.Add(-time.Minute))
			if jump < 0 && len(h.switches()) != turned {
				t.Errorf("jump %s after %d steps: turned again before the clock was there: %s", jump, at, h.story())
			}
			h.run(epoch.Add(58 * day))
			h.verify()
			if got := h.switches(); len(got) != 1 {
				t.Errorf("jump %s after %d steps: switched at %v: %s", jump, at, got, h.story())
			}
			h.run(epoch.Add(62 * day))
			h.verify()
			if got := h.switches(); len(got) != 2 {
				t.Errorf("jump %s after %d steps: switched at %v: %s", jump, at, got, h.story())
			}
			if t.Failed() {
				return
			}
		}
	}
}

func TestRetriesThenFailsThenTakesOver(t *testing.T) {
	db := sqldbtest.SQLite(t)
	h := newHouse(t, db, openGuard(t, db), monthly())
	h.run(epoch.Add(30*day - time.Minute))
	h.faults.Times, h.faults.Mode = 1000, rotationtest.Lost
	h.faults.Match = func(name string) bool { return strings.HasPrefix(name, "test.") }
	h.runFor(2 * time.Hour)
	rows := h.rotations()
	var failed *rotation.Rotation
	for i := range rows {
		if rows[i].Status == rotation.StatusFailed {
			failed = &rows[i]
		}
	}
	if failed == nil || failed.Step != rotation.StepTest || failed.Attempt != 3 || failed.Error == "" || failed.Hint == "" {
		t.Fatalf("%+v: %s", failed, h.story())
	}
	if h.active() != 1 || h.state(2) != rotation.StatePreActivation {
		t.Fatalf("the old generation is not current: %s", h.story())
	}
	h.faults.Match = nil
	h.faults.Times = 0
	h.run(epoch.Add(62 * day))
	h.verify()
	if h.active() != 2 || len(h.world.Keys()) != 2 {
		t.Errorf("the pending key was not taken over: %s", h.story())
	}
}

func TestMaxKeysPerDay(t *testing.T) {
	db := sqldbtest.SQLite(t)
	p := monthly()
	p.Mode, p.Lead, p.MaxKeysPerDay = rotation.ModeInstant, 0, 3
	h := newHouse(t, db, openGuard(t, db), p)
	for range 6 {
		h.runFor(time.Minute)
		h.must(h.rotateNow())
	}
	h.runFor(time.Hour)
	if n := len(h.world.Keys()); n != 4 {
		t.Errorf("%d keys were made in an hour: %s", n-1, h.story())
	}
	h.runFor(day)
	h.verify()
	if n := len(h.world.Keys()); n != 5 {
		t.Errorf("%d keys were made in the end: %s", n-1, h.story())
	}
}
