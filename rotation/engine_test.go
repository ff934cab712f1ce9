package rotation_test

import (
	"testing"
	"time"

	"github.com/keyturn/keyturn/rotation"
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
