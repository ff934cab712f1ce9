package rotators_test

import (
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

const hour = rotation.Duration(time.Hour)

// fullLife is a policy that takes a generation through every stage there is.
func fullLife(name, alias string) rotation.Policy {
	return rotation.Policy{
		Name: name, Alias: alias, Schedule: "rate(365 days)", Lead: hour, Overlap: 4 * hour, Suspend: 2 * hour,
		Adopt: rotation.AdoptFull, Destroy: &rotation.DestroyRule{PendingWindow: 7 * 24 * hour, Reencrypted: true},
	}
}

func TestAKeyTurnsThroughItsWholeLife(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := newHouse(t, db)
		old := h.key(types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify)
		h.alias(alias, old)
		h.put(fullLife("signing", alias))
		r := h.drive(h.rotate("signing"))
		if r.Status != rotation.StatusDone {
			t.Fatalf("the rotation is %s: %s", r.Status, r.Error)
		}
		t.Logf("%d calls: %v", len(h.wire.calls), h.wire.calls)
		if got := h.names(alias); got != r.NewKey || got == old {
			t.Errorf("the alias names %s, want the new key %s", got, r.NewKey)
		}
		if got := h.names(alias + "/next"); got != "" {
			t.Errorf("%s/next is still there: %s", alias, got)
		}
		if got := h.names(alias + "/v2"); got != r.NewKey {
			t.Errorf("%s/v2 names %q, want %s", alias, got, r.NewKey)
		}
		if slices.Contains(h.wire.calls, "ListKeys") {
			t.Error("an undisturbed rotation looks through all keys")
		}
		if got := h.names(old); got != "" {
			t.Error("the old key is not deleted")
		}
		tags := h.tags(r.NewKey)
		if tags["keyturn:lineage"] != "arn:aws:kms:"+region+":"+account+":"+alias || tags["keyturn:generation"] != "2" || tags["keyturn:rotation"] == "" {
			t.Errorf("the new key's tags are %v", tags)
		}
	})
}

// The lead counts from when verifiers can see the key, not from when its publication was begun to be stored: a commit
// may take long.
func TestTheLeadCountsFromWhenTheKeyIsSeen(t *testing.T) {
	for name, prepare := range map[string]func(h *house, p rotation.Policy) string{
		"rotation": func(h *house, p rotation.Policy) string { return h.rotate(p.Name) },
		"roll back past the overlap": func(h *house, p rotation.Policy) string {
			h.turn(p.Name, rotation.StepSuspend)
			out, err := h.service.RollBack(h.t.Context(), h.call("RollBack"), &rotation.RollBackInput{Name: p.Name})
			check(h.t, err)
			return out.Rotation.RotationId
		},
		"roll back that no engine comes to inside the overlap": func(h *house, p rotation.Policy) string {
			h.turn(p.Name, rotation.StepDeactivate)
			out, err := h.service.RollBack(h.t.Context(), h.call("RollBack"), &rotation.RollBackInput{Name: p.Name})
			check(h.t, err)
			h.clock.to(h.clock.Now().Add(5 * time.Hour))
			return out.Rotation.RotationId
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, sqldbtest.SQLite(t))
			p := h.lineage("slow", nil)
			h.settle(p.Name)
			id := prepare(h, p)
			w := h.watch(p, id)
			h.storing = func(c *rotation.Change) {
				for _, g := range c.Generations {
					if g.Published || c.Row.Kind == rotation.KindRollBack && g.State == rotation.StateActive && !g.Current {
						h.clock.to(h.clock.Now().Add(time.Duration(p.Lead) / 2))
					}
				}
				w.look()
			}
			h.wire.set(nil, func(int, string) { w.look() })
			r := h.driveUntil(id, func(r rotation.Rotation) bool { return r.Switched })
			if !r.Switched {
				t.Errorf("the rotation is %s at %s: %s", r.Status, r.Step, r.Error)
			}
			for _, what := range w.broken {
				t.Error(what)
			}
		})
	}
}
