package rotators_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotators"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// The key of a lost answer is found among thousands: on this server by the next attempt and two calls, at a target that
// cannot be asked by as many attempts as there are pages of keys.
func TestALostKeyIsFoundAmongMany(t *testing.T) {
	for name, tt := range map[string]struct {
		keys, pages int
		paging      bool
	}{
		"by its tag":   {keys: 3000},
		"page by page": {keys: 250, pages: 3, paging: true},
	} {
		t.Run(name, func(t *testing.T) {
			sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
				h := newHouse(t, db)
				if tt.paging {
					h.page()
				}
				p := h.lineage("lost", nil)
				h.settle(p.Name)
				h.crowd(tt.keys)
				lost := false
				h.wire.set(func(_ int, operation string) breakage {
					if operation != "CreateKey" || lost {
						return whole
					}
					lost = true
					return lostAnswer
				}, nil)
				id := h.rotate(p.Name)
				w := h.watch(p, id)
				r := h.driveUntil(id, func(r rotation.Rotation) bool { return r.NewKey != "" })
				calls := h.wire.set(nil, nil)
				after := calls[slices.Index(calls, "CreateKey")+1:]
				pages, creates := 0, 0
				for _, operation := range after {
					switch operation {
					case "ListKeys":
						pages++
					case "CreateKey":
						creates++
					}
				}
				if creates != 0 || pages != tt.pages {
					t.Errorf("recovery made %d keys more and read %d pages of keys, want %d", creates, pages, tt.pages)
				}
				if got := strings.Join(after, " "); !tt.paging && got != "ListResourceTags DescribeKey" {
					t.Errorf("recovery made the calls %s", got)
				}
				if r = h.drive(id); r.Status != rotation.StatusDone {
					t.Fatalf("the rotation is %s at %s: %s", r.Status, r.Step, r.Error)
				}
				w.orphans()
				for _, what := range w.broken {
					t.Error(what)
				}
			})
		})
	}
}

// What the server says about tags is only where to look: a key whose tags, read through the door, are not this
// rotation's is neither adopted nor removed.
func TestKeysThatTheServerNamesAreLookedAt(t *testing.T) {
	h := newHouse(t, sqldbtest.SQLite(t))
	b := h.bystander()
	asked := 0
	h.rotator = rotators.NewKey(rotators.KeyOptions{Tagged: func(ctx context.Context, target rotation.Target, key, value string) ([]string, error) {
		asked++
		arns, err := h.tagged(ctx, target, key, value)
		return append(arns, b.key), err
	}})
	p := h.lineage("deceived", nil)
	h.settle(p.Name)
	lost := false
	h.wire.set(func(_ int, operation string) breakage {
		if operation != "CreateKey" || lost {
			return whole
		}
		lost = true
		return lostRequest
	}, nil)
	r := h.drive(h.rotate(p.Name))
	if r.Status != rotation.StatusDone || r.NewKey == b.key {
		t.Errorf("the rotation is %s at %s with %s: %s", r.Status, r.Step, r.NewKey, r.Error)
	}
	if asked != 2 { // in the recovery and in the sweep
		t.Errorf("the server was asked %d times", asked)
	}
	b.check(t)
}
