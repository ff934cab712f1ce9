package rotators_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

const (
	west = "us-west-2"
	east = "us-east-1"
)

// in is the account's root user in another Region, over the wire that never breaks.
func (h *house) in(region_ string) *sdk.Client {
	if region_ == region {
		return h.admin
	}
	if h.all == nil {
		h.all = map[string]*sdk.Client{}
	}
	if h.all[region_] == nil {
		o := h.admin.Options()
		o.Region = region_
		h.all[region_] = sdk.New(o)
	}
	return h.all[region_]
}

func abroadARN(arn, region_ string) string {
	return strings.Replace(arn, ":"+region+":", ":"+region_+":", 1)
}

// spread makes a Multi-Region key with its primary key in one Region and replicas in others, an alias of the same name in
// each Region of named, and a policy for that of the house's Region.
func (h *house) spread(name, primary string, replicas, named []string, change func(*rotation.Policy)) rotation.Policy {
	h.t.Helper()
	ctx := h.t.Context()
	out, err := h.in(primary).CreateKey(ctx, &sdk.CreateKeyInput{
		KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify, MultiRegion: aws.Bool(true), Description: aws.String("in " + primary),
		Tags: []types.Tag{{TagKey: aws.String("region"), TagValue: &primary}},
	})
	check(h.t, err)
	for _, r := range replicas {
		_, err := h.in(primary).ReplicateKey(ctx, &sdk.ReplicateKeyInput{
			KeyId: out.KeyMetadata.KeyId, ReplicaRegion: &r, Description: aws.String("in " + r), Tags: []types.Tag{{TagKey: aws.String("region"), TagValue: &r}},
		})
		check(h.t, err)
	}
	p := fullLife(name, "alias/"+name)
	if change != nil {
		change(&p)
	}
	for _, r := range named {
		_, err := h.in(r).CreateAlias(ctx, &sdk.CreateAliasInput{AliasName: &p.Alias, TargetKeyId: out.KeyMetadata.KeyId})
		check(h.t, err)
	}
	h.put(p)
	return p
}

// namesIn answers which key an alias names in a Region, by its ARN there; "" when there is none.
func (h *house) namesIn(region, name string) string {
	h.t.Helper()
	out, err := h.in(region).DescribeKey(h.t.Context(), &sdk.DescribeKeyInput{KeyId: &name})
	var missing *types.NotFoundException
	if errors.As(err, &missing) {
		return ""
	}
	check(h.t, err)
	return *out.KeyMetadata.Arn
}

func TestAMultiRegionKeyTurnsInAllItsRegions(t *testing.T) {
	for name, primary := range map[string]string{"primary": region, "replica": west} {
		t.Run(name, func(t *testing.T) {
			sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
				h := newHouse(t, db)
				replicas := slices.DeleteFunc([]string{region, west, east}, func(r string) bool { return r == primary })
				p := h.spread("signing", primary, replicas, []string{region, west}, nil)
				h.settle(p.Name)
				id := h.rotate(p.Name)
				r := h.driveUntil(id, func(r rotation.Rotation) bool { return !r.DoneAt[rotation.StepDeactivate].IsZero() })
				if r.Status != rotation.StatusRunning {
					t.Fatalf("the rotation is %s at %s: %s", r.Status, r.Step, r.Error)
				}
				t.Logf("%d calls: %v", len(h.wire.calls), h.wire.calls)
				for _, in := range []string{region, west, east} {
					c, key := h.in(in), abroadARN(r.NewKey, in)
					m, err := c.DescribeKey(t.Context(), &sdk.DescribeKeyInput{KeyId: &key})
					check(t, err)
					tags, err := c.ListResourceTags(t.Context(), &sdk.ListResourceTagsInput{KeyId: &key})
					check(t, err)
					if *m.KeyMetadata.Description != "in "+in || len(tags.Tags) != 4 || *m.KeyMetadata.MultiRegionConfiguration.PrimaryKey.Region != primary {
						t.Errorf("in %s: %s, %v, %+v", in, *m.KeyMetadata.Description, tags.Tags, m.KeyMetadata.MultiRegionConfiguration)
					}
					want := map[string]string{"": key, "/v2": key, "/previous": abroadARN(r.OldKey, in), "/v1": abroadARN(r.OldKey, in), "/next": ""}
					for side, key := range want {
						if in == east {
							key = ""
						}
						if got := h.namesIn(in, p.Alias+side); got != key {
							t.Errorf("in %s alias/x%s names %q, not %q", in, side, got, key)
						}
					}
					// What is deactivated is so everywhere, by id too.
					_, err = c.Sign(t.Context(), &sdk.SignInput{KeyId: aws.String(abroadARN(r.OldKey, in)), Message: []byte("m"), SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
					if err == nil || !strings.Contains(err.Error(), "deactivated generation") {
						t.Errorf("in %s the old key signs: %v", in, err)
					}
				}
				r = h.drive(id)
				if r.Status != rotation.StatusDone {
					t.Fatalf("the rotation is %s at %s: %s", r.Status, r.Step, r.Error)
				}
				for _, in := range []string{region, west, east} {
					if got := h.namesIn(in, abroadARN(r.OldKey, in)); got != "" {
						t.Errorf("the old key is still there in %s", in)
					}
				}
			})
		})
	}
}

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
		calls, broken := u.run(h, "unbroken", 0, whole)
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
			_, broken = u.run(h, fmt.Sprintf("broken-%d", n), n, how)
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
	(&undertaking{
		prepare: func(h *house, policy string) { h.turn(policy, rotation.StepPublish) }, status: rotation.StatusCanceled,
		begin: func(h *house, policy string) string {
			out, err := h.service.CancelRotation(h.t.Context(), h.call("CancelRotation"), &rotation.CancelRotationInput{Name: policy})
			check(h.t, err)
			return out.Rotation.RotationId
		},
		settled: func(w *watch, end rotation.Rotation) {
			w.expectIn(map[string]string{"": end.OldKey, "/next": "", "/previous": ""})
			w.states(end.NewKey, types.KeyStatePendingDeletion)
		},
	}).inSeveralRegions(t)
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
