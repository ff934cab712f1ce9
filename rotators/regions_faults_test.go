package rotators_test

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// twoRegions is a lineage whose primary key is not where the policy is, with a replica in a third Region without an alias.
func twoRegions(h *house, name string) rotation.Policy {
	return h.spread(name, west, []string{region, east}, []string{region, west}, nil)
}

// expectIn checks the names of the lineage in every Region; keys are given by their ARNs at home.
func (w *watch) expectIn(names map[string]string) {
	w.expect(names)
	for side, want := range names {
		for _, in := range w.regions {
			key := want
			if key != "" {
				key = abroadARN(key, in)
			}
			if got := w.h.namesIn(in, w.policy.Alias+side); got != key {
				w.break_("in %s alias/x%s names %q, not %q", in, side, got, key)
			}
		}
	}
}

var every = flag.Bool("every", false, "in several Regions too, break every call in every way")

// inSeveralRegions tries faults on a lineage of several Regions, which makes many calls: each that changes something is
// broken in one way, in turn, and of those that read every third. With -every it is all of them, as for one Region.
func (u *undertaking) inSeveralRegions(t *testing.T) {
	u.lineage, u.regions = twoRegions, []string{west}
	if *every {
		u.onEach(t, 11)
		return
	}
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := newHouse(t, db)
		b := h.bystander()
		calls, _, broken := u.run(h, "unbroken", 0, whole)
		ways := slices.Sorted(maps.Keys(breakages))
		if db.IsPostgres() {
			slices.Reverse(ways)
		}
		changing, runs := 0, 1
		for n := 1; n <= len(calls) && len(broken) == 0; n++ {
			how := []breakage{lostRequest, crashAfter}[n%2]
			if !reads(calls[n-1]) {
				how, changing = ways[changing%len(ways)], changing+1
			} else if n%3 != 0 {
				continue
			}
			if db.IsPostgres() && n%4 != 0 {
				continue
			}
			_, _, broken = u.run(h, fmt.Sprintf("broken-%d", n), n, how)
			if runs++; len(broken) > 0 {
				t.Errorf("call %d, %s, %s:", n, calls[n-1], breakages[how])
			}
		}
		for _, what := range broken {
			t.Error(what)
		}
		b.check(t)
		t.Logf("%d calls, %d runs", len(calls), runs)
	})
}

// gone checks that a key is in no Region any more, or in every one.
func (w *watch) gone(key string, gone bool) {
	for _, in := range []string{region, west, east} {
		if (w.h.namesIn(in, abroadARN(key, in)) == "") != gone {
			w.break_("%s is gone from %s: %t", key, in, !gone)
		}
	}
}

func (w *watch) states(key string, want types.KeyState) {
	for _, in := range []string{region, west, east} {
		out, err := w.h.in(in).DescribeKey(w.h.t.Context(), &sdk.DescribeKeyInput{KeyId: aws.String(abroadARN(key, in))})
		if err != nil {
			w.break_("in %s: %v", in, err)
			continue
		}
		got := out.KeyMetadata.KeyState
		if got == types.KeyStatePendingReplicaDeletion {
			got = types.KeyStatePendingDeletion
		}
		if got != want {
			w.break_("in %s %s is %s, not %s", in, key, got, want)
		}
	}
}

func TestNoFaultBreaksARotationInSeveralRegions(t *testing.T) {
	(&undertaking{
		begin: (*house).rotate,
		settled: func(w *watch, end rotation.Rotation) {
			w.expectIn(map[string]string{"": end.NewKey, "/v2": end.NewKey, "/next": "", "/previous": "", "/v1": ""})
			w.gone(end.OldKey, true)
			w.gone(end.NewKey, false)
		},
	}).inSeveralRegions(t)
}

func rollBack(h *house, policy string) string {
	out, err := h.service.RollBack(h.t.Context(), h.call("RollBack"), &rotation.RollBackInput{Name: policy})
	check(h.t, err)
	return out.Rotation.RotationId
}

func TestNoFaultBreaksARollBackInSeveralRegions(t *testing.T) {
	for name, u := range map[string]*undertaking{
		"in the overlap": {prepare: func(h *house, policy string) { h.turn(policy, rotation.StepDeactivate) }},
		// Verifiers have forgotten it: who rolls back this far has worse troubles.
		"to a key pending deletion": {urgent: true, prepare: func(h *house, policy string) { h.turn(policy, rotation.StepDestroy) }},
	} {
		t.Run(name, func(t *testing.T) {
			u.begin = rollBack
			u.settled = func(w *watch, end rotation.Rotation) {
				w.expectIn(map[string]string{"": end.NewKey, "/v1": end.NewKey, "/v2": end.OldKey, "/next": "", "/previous": end.OldKey})
				w.states(end.NewKey, types.KeyStateEnabled)
			}
			u.inSeveralRegions(t)
		})
	}
}

func TestNoFaultBreaksACancelInSeveralRegions(t *testing.T) {
	for name, prepare := range map[string]func(h *house, policy string){
		"published": func(h *house, policy string) { h.turn(policy, rotation.StepPublish) },
		"half replicated": func(h *house, policy string) {
			h.rotate(policy)
			h.untilItDiesAfter("ReplicateKey")
		},
		"the answer of CreateKey was lost": func(h *house, policy string) {
			h.rotate(policy)
			h.untilItDiesAfter("CreateKey")
		},
	} {
		t.Run(name, func(t *testing.T) {
			(&undertaking{
				prepare: prepare, status: rotation.StatusCanceled,
				begin: func(h *house, policy string) string {
					out, err := h.service.CancelRotation(h.t.Context(), h.call("CancelRotation"), &rotation.CancelRotationInput{Name: policy})
					check(h.t, err)
					return out.Rotation.RotationId
				},
				settled: func(w *watch, end rotation.Rotation) {
					w.expectIn(map[string]string{"": end.OldKey, "/next": "", "/previous": ""})
					w.gone(end.OldKey, false)
				},
			}).inSeveralRegions(t)
		})
	}
}

// untilItDiesAfter lets an engine work until it dies when a call of an operation has been applied.
func (h *house) untilItDiesAfter(operation string) {
	h.t.Helper()
	h.wire.set(func(_ int, o string) breakage {
		if o == operation {
			return crashAfter
		}
		return whole
	}, nil)
	defer h.wire.set(nil, nil)
	for e := h.start(); e.ctx.Err() == nil; {
		if worked, err := e.RunOnce(e.ctx); err == nil && !worked {
			h.t.Fatalf("%s is never called", operation)
		}
	}
}

func TestNoFaultBreaksACompromiseInSeveralRegions(t *testing.T) {
	(&undertaking{
		urgent: true,
		begin: func(h *house, policy string) string {
			out, err := h.service.MarkCompromised(h.t.Context(), h.call("MarkCompromised"), &rotation.MarkCompromisedInput{Name: policy, Reason: "found on a laptop"})
			check(h.t, err)
			return out.Rotation.RotationId
		},
		settled: func(w *watch, end rotation.Rotation) {
			w.expectIn(map[string]string{"": end.NewKey, "/v1": end.OldKey, "/v2": end.NewKey, "/previous": end.OldKey, "/next": ""})
			w.states(end.OldKey, types.KeyStateDisabled)
			w.states(end.NewKey, types.KeyStateEnabled)
		},
	}).inSeveralRegions(t)
}
