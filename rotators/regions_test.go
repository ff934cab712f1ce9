package rotators_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotators"
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
				signOld := func(in, key string) error {
					_, err := h.in(in).Sign(t.Context(), &sdk.SignInput{KeyId: aws.String(keyOf(key)), Message: []byte("m"), SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
					return err
				}
				id := h.rotate(p.Name)
				h.driveUntil(id, func(r rotation.Rotation) bool { return r.Switched })
				for _, in := range []string{region, west, east} { // and from now on the server has them in memory
					check(t, signOld(in, h.names(p.Alias+"/previous")))
				}
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
					err = signOld(in, r.OldKey)
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

// bothNames checks what the alias names at home and in the west, by the key's ARN at home.
func (h *house) bothNames(t *testing.T, p rotation.Policy, key string) {
	t.Helper()
	for _, in := range []string{region, west} {
		if got := h.namesIn(in, p.Alias); got != abroadARN(key, in) {
			t.Errorf("in %s the alias names %s, want %s", in, got, abroadARN(key, in))
		}
	}
}

// atTheSwitch is how a switch is disturbed: a call is answered with an error code, or a hand does something when the alias
// has moved at home.
type atTheSwitch struct {
	code string // for the alias in the west
	most int    // times; 0: always
	back int    // the same code for as many moves back at home
	hand func(p rotation.Policy, r rotation.Rotation) error
}

func (d atTheSwitch) disturb(h *house, p rotation.Policy, id string) {
	switching := func() bool { return h.rotation(id).Step == rotation.StepSwitch }
	refused, moves, moved := 0, 0, false
	h.wire.answers = func(operation, in string) string {
		switch {
		case operation != "UpdateAlias" || !switching():
		case in == west && d.code != "" && (d.most == 0 || refused < d.most):
			refused++
			return d.code
		case in == region:
			if moves++; moves > 1 && moves <= 1+d.back {
				return d.code
			}
		}
		return ""
	}
	h.wire.set(nil, func(_ int, operation string) {
		if operation == "UpdateAlias" && !moved && switching() && d.hand != nil {
			moved = true
			check(h.t, d.hand(p, h.rotation(id)))
		}
	})
}

// The alias moves in all Regions or in none. What stands in the way is told, and nothing of another hand is overwritten.
func TestAllRegionsSwitchOrNone(t *testing.T) {
	h := newHouse(t, sqldbtest.SQLite(t))
	ctx := t.Context()
	made, err := h.in(west).CreateKey(ctx, &sdk.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify})
	check(t, err)
	stranger := *made.KeyMetadata.Arn
	moveTo := func(p rotation.Policy, key string) error {
		_, err := h.in(west).UpdateAlias(ctx, &sdk.UpdateAliasInput{AliasName: &p.Alias, TargetKeyId: &key})
		return err
	}
	for name, tt := range map[string]struct {
		atTheSwitch
		says string // "": it is done after all
		west string // what the alias names there when it has failed; "": the old key
		mend func(p rotation.Policy, r rotation.Rotation) error
	}{
		"denied": {atTheSwitch: atTheSwitch{code: "AccessDeniedException"}, says: "in us-west-2"},
		"denied-and-so-is-the-way-back": {
			atTheSwitch: atTheSwitch{code: "AccessDeniedException", back: 5}, says: "in us-west-2",
		},
		"failing-until-the-attempts-are-used-up": {atTheSwitch: atTheSwitch{code: "ThrottlingException", most: 20}},
		"moved-by-another-hand": {
			atTheSwitch: atTheSwitch{hand: func(p rotation.Policy, _ rotation.Rotation) error { return moveTo(p, stranger) }},
			says:        "in us-west-2 names " + stranger, west: stranger,
			mend: func(p rotation.Policy, r rotation.Rotation) error { return moveTo(p, abroadARN(r.OldKey, west)) },
		},
		"removed-by-another-hand": {
			atTheSwitch: atTheSwitch{hand: func(p rotation.Policy, _ rotation.Rotation) error {
				_, err := h.in(west).DeleteAlias(ctx, &sdk.DeleteAliasInput{AliasName: &p.Alias})
				return err
			}},
			says: "in us-west-2 does not exist", west: "none",
			mend: func(p rotation.Policy, r rotation.Rotation) error {
				_, err := h.in(west).CreateAlias(ctx, &sdk.CreateAliasInput{AliasName: &p.Alias, TargetKeyId: aws.String(keyOf(r.OldKey))})
				return err
			},
		},
		"new-key-to-be-deleted": {
			atTheSwitch: atTheSwitch{hand: func(_ rotation.Policy, r rotation.Rotation) error {
				_, err := h.in(west).ScheduleKeyDeletion(ctx, &sdk.ScheduleKeyDeletionInput{KeyId: aws.String(keyOf(r.NewKey))})
				return err
			}},
			says: "pending deletion",
			mend: func(_ rotation.Policy, r rotation.Rotation) error {
				_, err := h.in(west).CancelKeyDeletion(ctx, &sdk.CancelKeyDeletionInput{KeyId: aws.String(keyOf(r.NewKey))})
				check(t, err)
				_, err = h.in(west).EnableKey(ctx, &sdk.EnableKeyInput{KeyId: aws.String(keyOf(r.NewKey))})
				return err
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := h.spread(name, region, []string{west}, []string{region, west}, func(p *rotation.Policy) { p.MaxAttempts = 3 })
			h.settle(p.Name)
			id := h.rotate(p.Name)
			tt.disturb(h, p, id)
			r := h.driveUntil(id, func(r rotation.Rotation) bool { return r.Switched })
			if tt.says == "" {
				if !r.Switched {
					t.Errorf("the rotation is %s at %s: %s", r.Status, r.Step, r.Error)
				}
				h.bothNames(t, p, r.NewKey)
				return
			}
			if r.Status != rotation.StatusFailed || !strings.Contains(r.Error, tt.says) || r.Hint == "" {
				t.Fatalf("the rotation is %s at %s: %s (%s)", r.Status, r.Step, r.Error, r.Hint)
			}
			want := tt.west
			switch want {
			case "":
				want = abroadARN(r.OldKey, west)
			case "none":
				want = ""
			}
			if got, home := h.namesIn(west, p.Alias), h.names(p.Alias); got != want || home != r.OldKey {
				t.Errorf("failed, the alias names %s at home and %q in the west", home, got)
			}
			h.wire.answers = nil
			h.wire.set(nil, nil)
			if tt.mend != nil {
				check(t, tt.mend(p, r))
			}
			_, err := h.service.ResumePolicy(ctx, h.call("ResumePolicy"), &rotation.ResumePolicyInput{Name: p.Name})
			check(t, err)
			if r = h.driveUntil(id, func(r rotation.Rotation) bool { return r.Switched }); !r.Switched {
				t.Fatalf("mended, the rotation is %s at %s: %s", r.Status, r.Step, r.Error)
			}
			h.bothNames(t, p, r.NewKey)
		})
		h.wire.answers = nil
		h.wire.set(nil, nil)
		h.forget()
	}
}

// While aliases go back, that of the policy's Region names the new key as long as any other does.
func TestTheHomeAliasGoesBackLast(t *testing.T) {
	h := newHouse(t, sqldbtest.SQLite(t))
	p := h.spread("home-last", region, []string{west, east}, []string{region, west, east}, nil)
	h.settle(p.Name)
	id := h.rotate(p.Name)
	w := h.watch(p, id)
	w.regions = []string{west, east}
	moves := 0
	h.wire.answers = func(operation, in string) string {
		if operation == "UpdateAlias" && in == west && h.rotation(id).Step == rotation.StepSwitch {
			return "AccessDeniedException"
		}
		return ""
	}
	h.wire.set(nil, func(_ int, operation string) {
		if operation == "UpdateAlias" {
			moves++
			w.look()
		}
	})
	r := h.drive(id)
	if r.Status != rotation.StatusFailed || moves != 4 || len(w.broken) > 0 {
		t.Errorf("the rotation is %s after %d moves: %s; %v", r.Status, moves, r.Error, w.broken)
	}
}

// keyOf is the id in a key's ARN.
func keyOf(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

// What another hand has done in another Region before the switch is found there, and nothing has moved anywhere.
func TestDriftInAnotherRegion(t *testing.T) {
	h := newHouse(t, sqldbtest.SQLite(t))
	ctx := t.Context()
	for name, tt := range map[string]struct {
		hand func(p rotation.Policy, r rotation.Rotation) error
		says string
	}{
		"key-policy": {func(_ rotation.Policy, r rotation.Rotation) error {
			_, err := h.in(west).PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{KeyId: aws.String(keyOf(r.OldKey)), Policy: aws.String(`{"Version":"2012-10-17","Statement":[
				{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + account + `:root"},"Action":"kms:*","Resource":"*","Sid":"new"}]}`)})
			return err
		}, "in us-west-2: the key policies"},
		"another-replica": {func(_ rotation.Policy, r rotation.Rotation) error {
			_, err := h.admin.ReplicateKey(ctx, &sdk.ReplicateKeyInput{KeyId: aws.String(keyOf(r.OldKey)), ReplicaRegion: aws.String(east)})
			return err
		}, "has a replica in us-east-1, and its successor has none"},
		"present-key-disabled": {func(_ rotation.Policy, r rotation.Rotation) error {
			_, err := h.in(west).DisableKey(ctx, &sdk.DisableKeyInput{KeyId: aws.String(keyOf(r.OldKey))})
			return err
		}, "in us-west-2 the present key is Disabled"},
		"new-key-disabled": {func(_ rotation.Policy, r rotation.Rotation) error {
			_, err := h.in(west).DisableKey(ctx, &sdk.DisableKeyInput{KeyId: aws.String(keyOf(r.NewKey))})
			return err
		}, "in us-west-2: the new key"},
	} {
		t.Run(name, func(t *testing.T) {
			p := h.spread(name, region, []string{west}, []string{region, west}, nil)
			h.settle(p.Name)
			r := h.turn(p.Name, rotation.StepTest)
			check(t, tt.hand(p, r))
			r = h.drive(r.RotationId)
			if r.Status != rotation.StatusFailed || !strings.Contains(r.Error, tt.says) {
				t.Errorf("the rotation is %s at %s: %s", r.Status, r.Step, r.Error)
			}
			h.bothNames(t, p, r.OldKey)
		})
		h.forget()
	}
}

// A Region joins a lineage when its alias names the key: with the next rotation. A policy of its own keeps it out, and
// keeps the lineage from turning, for the two would turn each other's keys.
func TestRegionsJoinALineage(t *testing.T) {
	h := newHouse(t, sqldbtest.SQLite(t))
	ctx := t.Context()
	p := h.spread("joined", region, nil, []string{region}, nil)
	h.settle(p.Name)
	first := h.turn(p.Name, rotation.StepDeactivate)
	_, err := h.admin.ReplicateKey(ctx, &sdk.ReplicateKeyInput{KeyId: aws.String(keyOf(first.NewKey)), ReplicaRegion: aws.String(west)})
	check(t, err)
	_, err = h.in(west).TagResource(ctx, &sdk.TagResourceInput{KeyId: aws.String(keyOf(first.NewKey)), Tags: []types.Tag{
		{TagKey: aws.String("keyturn:lineage"), TagValue: aws.String("arn:aws:kms:" + region + ":" + account + ":" + p.Alias)},
	}})
	check(t, err)
	_, err = h.in(west).CreateAlias(ctx, &sdk.CreateAliasInput{AliasName: &p.Alias, TargetKeyId: aws.String(keyOf(first.NewKey))})
	check(t, err)

	there := h.call("PutPolicy")
	there.Region = west
	second := fullLife("there", p.Alias)
	put := func() error {
		_, err := h.service.PutPolicy(ctx, there, &rotation.PutPolicyInput{Policy: second})
		return err
	}
	check(t, put())
	if r := h.drive(h.rotate(p.Name)); r.Status != rotation.StatusFailed || !strings.Contains(r.Error, "policy/there turns it") {
		t.Fatalf("with a policy of its own in the west: %s at %s, %s", r.Status, r.Step, r.Error)
	}
	_, err = h.service.DeletePolicy(ctx, there, &rotation.DeletePolicyInput{Name: "there", Force: true})
	check(t, err)
	_, err = h.service.ResumePolicy(ctx, h.call("ResumePolicy"), &rotation.ResumePolicyInput{Name: p.Name})
	check(t, err)
	out, err := h.service.ListRotations(ctx, h.call("ListRotations"), &rotation.ListRotationsInput{Name: p.Name, Open: true})
	check(t, err)
	r := h.drive(out.Rotations[0].RotationId)
	for _, open := range out.Rotations {
		if open.Kind == rotation.KindRotate && open.RotationId != first.RotationId && open.Status == rotation.StatusRunning {
			r = h.driveUntil(open.RotationId, func(r rotation.Rotation) bool { return !r.DoneAt[rotation.StepDeactivate].IsZero() })
		}
	}
	h.bothNames(t, p, r.NewKey)
	if err := put(); err == nil || !strings.Contains(err.Error(), "The alias turns with") {
		t.Errorf("a policy for an alias that follows another: %v", err)
	}
}

// A Region whose key is disabled keeps a disabled key behind its alias. What is each Region's own is carried over all the
// same, also when the step is done again.
func TestADisabledRegionStaysSo(t *testing.T) {
	h := newHouse(t, sqldbtest.SQLite(t))
	p := h.spread("dark", region, []string{west}, []string{region, west}, func(p *rotation.Policy) { p.CopyGrants = true })
	h.settle(p.Name)
	disabled := func(want string) {
		t.Helper()
		for _, in := range []string{region, west} {
			m, err := h.in(in).DescribeKey(t.Context(), &sdk.DescribeKeyInput{KeyId: &p.Alias})
			check(t, err)
			if state := string(m.KeyMetadata.KeyState); in == west && state != want || in == region && state != "Enabled" {
				t.Errorf("in %s the key behind the alias is %s", in, state)
			}
		}
	}
	old := keyOf(h.names(p.Alias))
	_, err := h.in(west).CreateGrant(t.Context(), &sdk.CreateGrantInput{
		KeyId: &old, GranteePrincipal: aws.String("arn:aws:iam::" + account + ":root"), Operations: []types.GrantOperation{types.GrantOperationVerify},
	})
	check(t, err)
	_, err = h.in(west).DisableKey(t.Context(), &sdk.DisableKeyInput{KeyId: &old})
	check(t, err)
	id := h.rotate(p.Name)
	h.untilItDiesAfter("DisableKey")
	r := h.driveUntil(id, func(r rotation.Rotation) bool { return !r.DoneAt[rotation.StepDeactivate].IsZero() })
	if !r.Switched {
		t.Fatalf("the rotation is %s at %s: %s", r.Status, r.Step, r.Error)
	}
	grants, err := h.in(west).ListGrants(t.Context(), &sdk.ListGrantsInput{KeyId: aws.String(keyOf(r.NewKey))})
	check(t, err)
	if len(grants.Grants) != 1 {
		t.Errorf("the new key in the west has %d grants", len(grants.Grants))
	}
	h.bothNames(t, p, r.NewKey)
	disabled("Disabled")
	back := h.drive(rollBack(h, p.Name))
	if back.Status != rotation.StatusDone {
		t.Errorf("the roll back is %s at %s: %s", back.Status, back.Step, back.Error)
	}
	h.bothNames(t, p, r.OldKey)
	disabled("Disabled")
}

// Somebody who still wants the key in one Region gets it back in all.
func TestAKeyThatIsWantedInAnotherRegion(t *testing.T) {
	h := newHouse(t, sqldbtest.SQLite(t))
	wanted := 0
	h.rotator = rotators.NewKey(rotators.KeyOptions{Wanted: func(_ context.Context, at rotation.Target, key string, _ time.Time) (rotators.Demand, error) {
		if at.Region != west || !strings.Contains(key, ":"+west+":") {
			return rotators.Demand{}, nil
		}
		return rotators.Demand{Calls: wanted, Last: h.clock.Now(), By: "arn:aws:iam::111122223333:user/batch"}, nil
	}})
	p := h.spread("wanted", region, []string{west, east}, []string{region, west}, nil)
	h.settle(p.Name)
	id := h.rotate(p.Name)
	r := h.driveUntil(id, func(r rotation.Rotation) bool { return !r.DoneAt[rotation.StepSuspend].IsZero() })
	w := h.watch(p, id)
	w.states(r.OldKey, types.KeyStateDisabled)
	wanted = 3
	first := true
	h.wire.set(nil, func(_ int, operation string) {
		if operation == "EnableKey" && first {
			// Should we die now, it is back where it is wanted.
			m, err := h.in(west).DescribeKey(t.Context(), &sdk.DescribeKeyInput{KeyId: aws.String(keyOf(r.OldKey))})
			if first = false; err != nil || m.KeyMetadata.KeyState != types.KeyStateEnabled {
				t.Errorf("another Region than that which wants the key got it first: %v", err)
			}
		}
	})
	if r = h.drive(id); r.Status != rotation.StatusFailed || !strings.Contains(r.Error, "in us-west-2 was wanted 3 times") {
		t.Fatalf("the rotation is %s: %s", r.Status, r.Error)
	}
	w.states(r.OldKey, types.KeyStateEnabled)
	if len(w.broken) > 0 {
		t.Error(w.broken)
	}
}

// A roll back makes replicas again that are gone already, as long as the primary key is there.
func TestRollBackWhenTheReplicasAreGone(t *testing.T) {
	h := newHouse(t, sqldbtest.SQLite(t))
	p := h.spread("half-gone", west, []string{region, east}, []string{region, west}, nil)
	h.settle(p.Name)
	r := h.turn(p.Name, rotation.StepDestroy)
	h.clock.to(h.clock.Now().Add(8 * 24 * time.Hour))
	_, err := h.kms.RunOnce(t.Context())
	check(t, err)
	if h.names(r.OldKey) != "" || h.namesIn(west, abroadARN(r.OldKey, west)) == "" {
		t.Fatal("the replicas are not gone, or the primary key is")
	}
	back := h.drive(rollBack(h, p.Name))
	if back.Status != rotation.StatusDone {
		t.Fatalf("the roll back is %s at %s: %s", back.Status, back.Step, back.Error)
	}
	h.bothNames(t, p, r.OldKey)
	w := h.watch(p, back.RotationId)
	w.states(r.OldKey, types.KeyStateEnabled)
	if len(w.broken) > 0 {
		t.Error(w.broken)
	}
}

// In an AWS account deny statements deactivate the old key, in every Region; a roll back takes them out again. Each
// Region's policy names the key of that Region.
func TestADenyStatementInEveryRegion(t *testing.T) {
	away(t, func(t *testing.T, h *house) {
		p := h.spread("abroad", west, []string{region, east}, []string{region, west}, abroad)
		old := keyOf(h.names(p.Alias))
		for _, in := range []string{region, west, east} {
			text := strings.ReplaceAll(`{"Version":"2012-10-17","Statement":[
				{"Sid":"owner","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::`+account+`:root"},"Action":"kms:*","Resource":"*"},
				{"Sid":"`+in+`","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::`+account+`:root"},"Action":"kms:DescribeKey",
					"Resource":["arn:aws:kms:`+in+`:`+account+`:key/OLD","arn:aws:kms:us-west-2:`+account+`:key/OLD"]}]}`, "OLD", old)
			_, err := h.in(in).PutKeyPolicy(t.Context(), &sdk.PutKeyPolicyInput{KeyId: &old, Policy: &text})
			check(t, err)
		}
		policies := func(key string, says func(in, policy string) bool) {
			t.Helper()
			for _, in := range []string{region, west, east} {
				out, err := h.in(in).GetKeyPolicy(t.Context(), &sdk.GetKeyPolicyInput{KeyId: aws.String(keyOf(key))})
				check(t, err)
				if !says(in, *out.Policy) {
					t.Errorf("in %s the policy of %s is %s", in, key, *out.Policy)
				}
			}
		}
		r := h.turn(p.Name, rotation.StepDeactivate)
		policies(r.NewKey, func(in, policy string) bool {
			return strings.Contains(policy, in) && !strings.Contains(policy, old) && (in == west || strings.Contains(policy, ":us-west-2:"+account+":key/"+keyOf(r.NewKey)))
		})
		policies(r.OldKey, func(_, policy string) bool { return strings.Contains(policy, "keyturnDeactivated") })
		if back := h.drive(rollBack(h, p.Name)); back.Status != rotation.StatusDone {
			t.Fatalf("the roll back is %s at %s: %s", back.Status, back.Step, back.Error)
		}
		policies(r.OldKey, func(_, policy string) bool { return !strings.Contains(policy, "keyturnDeactivated") })
		policies(r.NewKey, func(_, policy string) bool { return strings.Contains(policy, "keyturnDeactivated") })
	})
}

func TestThePlanSaysAllRegions(t *testing.T) {
	h := newHouse(t, sqldbtest.SQLite(t))
	p := h.spread("planned", west, []string{region, east}, []string{region, west}, nil)
	h.settle(p.Name)
	h.wire.set(nil, nil)
	out, err := h.service.PlanRotation(t.Context(), h.call("PlanRotation"), &rotation.PlanRotationInput{Name: p.Name})
	check(t, err)
	for _, call := range h.wire.set(nil, nil) {
		if !reads(call) {
			t.Errorf("planning calls %s", call)
		}
	}
	text := fmt.Sprintf("%+v", out.Plan)
	for _, want := range []string{
		"Multi-Region, in us-west-2)", "ReplicateKey (the new key, to eu-central-1", "ReplicateKey (the new key, to us-east-1",
		"the alias moves in eu-central-1 and then in us-west-2, or in none of them", "and the same in us-east-1, us-west-2",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the plan does not say %q: %s", want, text)
		}
	}
	info, err := h.service.Generations(t.Context(), account, region, p.Alias)
	check(t, err)
	if got := strings.Join(info.Generations[0].Regions, " "); got != "us-west-2 eu-central-1 us-east-1" {
		t.Errorf("the generation is in %s", got)
	}
}
