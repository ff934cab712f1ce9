package rotators_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// A roll back may come while the suspension of the key it goes back to is under way:
// the key is disabled and the answer was lost. That is not another hand.
func TestRollBackDuringASuspension(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := newHouse(t, db)
		p := h.lineage("signing", nil)
		h.settle(p.Name)
		turned := h.turn(p.Name, rotation.StepDeactivate)
		h.wire.set(func(_ int, operation string) breakage {
			if operation == "DisableKey" {
				return crashAfter
			}
			return whole
		}, nil)
		e := h.start()
		for range 100 {
			if e.ctx.Err() != nil {
				break
			}
			worked, err := e.RunOnce(e.ctx)
			if e.ctx.Err() == nil {
				check(t, err)
			}
			if !worked {
				due, err := h.table.Due(t.Context(), 1)
				check(t, err)
				h.clock.to(due[0].Row.Wake())
			}
		}
		h.wire.set(nil, nil)
		if state := h.describe(turned.OldKey).KeyState; state != types.KeyStateDisabled {
			t.Fatalf("the old key is %s: the suspension was never under way", state)
		}
		out, err := h.service.RollBack(t.Context(), h.call("RollBack"), &rotation.RollBackInput{Name: p.Name})
		check(t, err)
		end := h.drive(out.Rotation.RotationId)
		if end.Status != rotation.StatusDone || h.names(p.Alias) != turned.OldKey || h.describe(turned.OldKey).KeyState != types.KeyStateEnabled {
			t.Errorf("the roll back is %s: %s; the alias names %s, the key it goes back to is %s (%s)",
				end.Status, end.Error, h.names(p.Alias), turned.OldKey, h.describe(turned.OldKey).KeyState)
		}
	})
}
