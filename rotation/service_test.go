package rotation_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

func code(err error) string {
	var e *awsapi.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return fmt.Sprint(err)
}

func TestDrift(t *testing.T) {
	db := sqldbtest.SQLite(t)
	guard := openGuard(t, db)
	for _, at := range []string{"before it begins", "while it is published"} {
		for _, mend := range []string{"point back", "accept", "cancel"} {
			t.Run(at+", "+mend, func(t *testing.T) {
				h := newHouse(t, db, guard, monthly())
				old := h.world.Alias().ARN
				h.runFor(day)
				if at == "while it is published" {
					h.must(h.rotateNow())
					h.runFor(time.Hour)
				}
				other := h.world.MoveAlias()
				if at == "before it begins" {
					h.must(h.rotateNow())
				}
				h.engineOnly(2 * day)
				if h.world.Alias().ARN != other {
					t.Fatalf("the alias was moved over another hand: %s", h.story())
				}
				if !slices.ContainsFunc(h.rotations(), func(r rotation.Rotation) bool {
					return r.Status == rotation.StatusFailed && r.Hint != "" && r.Error != ""
				}) {
					t.Fatalf("nobody is told: %s", h.story())
				}
				switch mend {
				case "point back":
					h.world.PointAlias(old)
					if err := h.resume(false); err != nil {
						t.Fatal(err)
					}
					h.runFor(3 * day)
					if h.active() != 2 {
						t.Errorf("it did not go on: %s", h.story())
					}
				case "accept":
					if err := h.resume(true); err != nil {
						t.Fatal(err)
					}
					h.engineOnly(3 * day)
					gens := h.generations()
					if !gens[0].Active || gens[0].Made == rotation.MadeAdopted {
						// The accepted key may have got its number after the pending one.
						if !slices.ContainsFunc(gens, func(g rotation.Generation) bool { return g.Active && g.Made == rotation.MadeByKeyturn }) {
							t.Errorf("it did not go on: %+v %s", gens, h.story())
						}
					}
					if h.world.Alias().Token == "" {
						t.Errorf("the alias names no key of ours: %s", h.story())
					}
				case "cancel":
					h.world.PointAlias(old)
					h.must(h.cancel())
					h.runFor(day)
					for _, k := range h.world.Keys() {
						if k.Token != "" && k.State != rotationtest.Pending {
							t.Errorf("%+v is left", k)
						}
					}
				}
				if v := h.world.Violations(); len(v) > 0 {
					t.Error(v)
				}
			})
		}
	}
}

// engineOnly lets time pass without checking the invariants, which another hand has broken.
func (h *house) engineOnly(d time.Duration) {
	h.t.Helper()
	h.runFor(d)
	h.broken = slices.DeleteFunc(h.broken, func(b string) bool {
		return strings.Contains(b, ": 5: ") || strings.Contains(b, "3: ") || strings.Contains(b, "4: ") || strings.Contains(b, ": 1: ")
	})
	until := h.clock.Now()
	for range 1000 {
		worked, err := h.engine.RunOnce(h.ctx)
		if err != nil {
			h.t.Fatal(err)
		}
		if !worked {
			wake := h.wake()
			if wake.IsZero() || wake.After(until) {
				return
			}
		}
	}
}

func TestAdoptedKeysAreKept(t *testing.T) {
	db := sqldbtest.SQLite(t)
	h := newHouse(t, db, openGuard(t, db), monthly())
	h.run(epoch.Add(110 * day))
	h.verify()
	if k := h.world.Keys()[0]; k.State != rotationtest.Enabled || h.state(1) != rotation.StateDeactivated {
		t.Errorf("the adopted key is %+v, its generation %s", k, h.state(1))
	}
	if h.state(2) != rotation.StateSuspended && h.state(2) != rotation.StateDestroyed {
		t.Errorf("the made key is %s: %s", h.state(2), h.story())
	}
}

func TestEncryptionKeysAreKept(t *testing.T) {
	db := sqldbtest.SQLite(t)
	guard := openGuard(t, db)
	p := monthly()
	p.Usage, p.Overlap, p.Adopt = "ENCRYPT_DECRYPT", 0, rotation.AdoptFull
	h := newHouse(t, db, guard, p)
	h.world.Policy.Overlap = rotation.Forever
	h.run(epoch.Add(400 * day))
	for _, k := range h.world.Keys() {
		if k.State != rotationtest.Enabled {
			t.Errorf("%s is %s", k.ARN, k.State)
		}
	}
	keys, err := h.service.Lineage(t.Context(), h.policy.AliasARN())
	if err != nil || len(keys) != len(h.world.Keys()) {
		t.Errorf("%d of %d keys can decrypt: %v", len(keys), len(h.world.Keys()), err)
	}
	// An overlap that is given ends, but nothing is destroyed unless re-encryption is stated.
	p.Overlap = rotation.Duration(40 * day)
	h = newHouse(t, db, guard, p)
	h.run(epoch.Add(400 * day))
	h.verify()
	if s := h.state(2); s != rotation.StateSuspended {
		t.Errorf("v2 is %s: %s", s, h.story())
	}
	p.Destroy.Reencrypted = true
	h = newHouse(t, db, guard, p)
	h.run(epoch.Add(400 * day))
	h.verify()
	if s := h.state(2); s != rotation.StateDestroyed {
		t.Errorf("v2 is %s: %s", s, h.story())
	}
}

func TestWatchGivesWantedKeysBack(t *testing.T) {
	db := sqldbtest.SQLite(t)
	p := monthly()
	p.Adopt = rotation.AdoptFull
	h := newHouse(t, db, openGuard(t, db), p)
	h.run(epoch.Add(70*day + time.Hour))
	if h.state(1) != rotation.StateSuspended {
		t.Fatalf("v1 is %s: %s", h.state(1), h.story())
	}
	v1 := h.world.Keys()[0].ARN
	h.world.Want(v1, true)
	h.runFor(2 * day)
	if h.state(1) != rotation.StateDeactivated || h.world.Keys()[0].State != rotationtest.Enabled {
		t.Fatalf("v1 is %s although somebody wants it: %s", h.state(1), h.story())
	}
	h.world.Want(v1, false)
	if err := h.resume(false); err != nil {
		t.Fatal(err)
	}
	h.runFor(12 * day)
	h.verify()
	if h.state(1) != rotation.StateDestroyed {
		t.Errorf("v1 is %s: %s", h.state(1), h.story())
	}
}

func TestPause(t *testing.T) {
	db := sqldbtest.SQLite(t)
	h := newHouse(t, db, openGuard(t, db), monthly())
	h.runFor(time.Hour)
	pause := func() {
		t.Helper()
		if _, err := h.service.PausePolicy(t.Context(), h.call("PausePolicy"), &rotation.PausePolicyInput{Name: "payments", Reason: "audit"}); err != nil {
			t.Fatal(err)
		}
	}
	pause()
	h.run(epoch.Add(100 * day))
	if h.active() != 1 || len(h.world.Keys()) != 1 {
		t.Fatalf("it turned although it is paused: %s", h.story())
	}
	if _, err := h.rotateNow(); code(err) != "InvalidStateException" {
		t.Errorf("rotating a paused policy: %v", err)
	}
	// A document without "paused" does not resume.
	p := h.policy
	p.Description = "changed"
	h.put(p)
	h.runFor(time.Hour)
	if len(h.world.Keys()) != 1 {
		t.Fatal("putting the policy has resumed it")
	}
	if err := h.resume(false); err != nil {
		t.Fatal(err)
	}
	h.runFor(2 * day)
	h.verify()
	if h.active() != 2 {
		t.Errorf("v%d is active: %s", h.active(), h.story())
	}
}

func TestRollBackUntilDestroyed(t *testing.T) {
	db := sqldbtest.SQLite(t)
	guard := openGuard(t, db)
	for _, after := range []time.Duration{time.Hour, 20 * day, 41 * day, 43 * day} {
		p := monthly()
		p.Adopt = rotation.AdoptFull
		h := newHouse(t, db, guard, p)
		h.run(epoch.Add(30*day + after))
		for h.active() > 2 { // later turns have happened meanwhile: go back as far as to v1
			h.must(h.rollBack())
			h.runFor(time.Minute)
			break
		}
		before := h.active()
		r := h.must(h.rollBack())
		if again := h.must(h.rollBack()); again.RotationId != r.RotationId {
			t.Errorf("asking twice makes two roll backs")
		}
		h.runFor(time.Minute)
		if h.active() == before {
			t.Errorf("after %s: v%d is still active: %s", after, before, h.story())
		}
		if s := h.state(before); s != rotation.StateDeactivated {
			t.Errorf("after %s: the newer one, v%d, is %s: %s", after, before, s, h.story())
		}
		h.runFor(25 * day)
		h.verify()
		if t.Failed() {
			return
		}
	}
	p := monthly()
	p.Adopt, p.Schedule = rotation.AdoptFull, ""
	h := newHouse(t, db, guard, p)
	h.runFor(time.Hour)
	if _, err := h.rollBack(); code(err) != "InvalidStateException" {
		t.Errorf("rolling back without a previous generation: %v", err)
	}
	h.must(h.rotateNow())
	h.runFor(60 * day)
	if h.state(1) != rotation.StateDestroyed {
		t.Fatalf("v1 is %s: %s", h.state(1), h.story())
	}
	if _, err := h.rollBack(); code(err) != "InvalidStateException" || !strings.Contains(err.Error(), "destroyed") {
		t.Errorf("rolling back to a destroyed generation: %v", err)
	}
}

func TestCompromised(t *testing.T) {
	db := sqldbtest.SQLite(t)
	h := newHouse(t, db, openGuard(t, db), monthly())
	h.run(epoch.Add(29*day + time.Hour)) // v2 is published
	h.must(h.compromised(0))
	h.runFor(time.Second)
	if h.active() != 2 || len(h.world.Keys()) != 2 {
		t.Fatalf("the published key did not take over at once: %s", h.story())
	}
	if h.state(1) != rotation.StateCompromised || h.world.Keys()[0].State != rotationtest.Disabled {
		t.Errorf("v1 is %s: %s", h.state(1), h.story())
	}
	keys, _ := h.service.Lineage(t.Context(), h.policy.AliasARN())
	if slices.Contains(keys, h.world.Keys()[0].ARN) {
		t.Errorf("the lineage %v trusts a compromised key", keys)
	}
	if off, _ := h.service.Deactivated(t.Context(), h.world.Keys()[0].ARN); !off {
		t.Error("a compromised key may sign")
	}
	if _, err := h.rollBack(); code(err) != "InvalidStateException" {
		t.Errorf("rolling back to a compromised generation: %v", err)
	}
	if _, err := h.compromised(1); code(err) != "InvalidStateException" {
		t.Errorf("marking it twice: %v", err)
	}
	if _, err := h.compromised(7); code(err) != "NotFoundException" {
		t.Errorf("marking one that does not exist: %v", err)
	}
	// An old generation is revoked without a turn.
	h.run(epoch.Add(61 * day))
	active := h.active()
	h.must(h.compromised(active - 1))
	h.runFor(time.Second)
	h.verify()
	if h.active() != active || h.state(active-1) != rotation.StateCompromised {
		t.Errorf("v%d is active, v%d %s: %s", h.active(), active-1, h.state(active-1), h.story())
	}
}

func TestPutPolicy(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := newHouse(t, db, openGuard(t, db), monthly())
		put := func(change func(*rotation.Policy), dry bool) (*rotation.PutPolicyOutput, error) {
			p := h.policy
			change(&p)
			return h.service.PutPolicy(t.Context(), h.call("PutPolicy"), &rotation.PutPolicyInput{Policy: p, DryRun: dry})
		}
		out, err := put(func(p *rotation.Policy) { p.Lead = rotation.Duration(2 * day) }, true)
		if err != nil || len(out.Changes) != 1 || out.Changes[0] != (rotation.Difference{Member: "lead", From: "24h", To: "2d"}) {
			t.Errorf("dry run: %+v %v", out, err)
		}
		out, err = put(func(*rotation.Policy) {}, false)
		if err != nil || len(out.Changes) != 0 || out.Created {
			t.Errorf("the dry run has changed something: %+v %v", out, err)
		}
		out, err = put(func(p *rotation.Policy) { p.Schedule = "rate(10 days)" }, false)
		if err != nil || !out.Next.Equal(epoch.Add(10*day)) {
			t.Errorf("a shorter rate: %+v %v", out, err)
		}
		h.run(epoch.Add(9*day + time.Hour))
		if h.state(2) != rotation.StatePreActivation {
			t.Errorf("the new schedule is not followed: %s", h.story())
		}
		// The lead of a rotation under way follows the document.
		if _, err = put(func(p *rotation.Policy) { p.Schedule, p.Lead = "rate(10 days)", rotation.Duration(3*day) }, false); err != nil {
			t.Fatal(err)
		}
		h.world.Policy.Lead = rotation.Duration(3 * day)
		h.run(epoch.Add(11 * day))
		if h.active() != 1 {
			t.Errorf("the longer lead is not respected: %s", h.story())
		}
		h.run(epoch.Add(13 * day))
		h.verify()
		if h.active() != 2 {
			t.Errorf("it did not go on: %s", h.story())
		}
		if _, err = put(func(p *rotation.Policy) { p.Alias = "alias/other" }, false); code(err) != "ValidationException" {
			t.Errorf("another alias: %v", err)
		}
		if _, err = put(func(p *rotation.Policy) { p.Name = "second" }, false); code(err) != "AlreadyExistsException" {
			t.Errorf("a second policy for the alias: %v", err)
		}
		if _, err = put(func(p *rotation.Policy) { p.Name, p.Alias, p.Account = "b", "alias/b", "999988887777" }, false); code(err) != "ValidationException" {
			t.Errorf("another account: %v", err)
		}
	})
}

// TestOverlapFollowsThePolicy: a longer overlap counts for what is deactivated already.
func TestOverlapFollowsThePolicy(t *testing.T) {
	db := sqldbtest.SQLite(t)
	p := monthly()
	p.Adopt = rotation.AdoptFull
	h := newHouse(t, db, openGuard(t, db), p)
	h.run(epoch.Add(31 * day))
	p = h.policy
	p.Overlap = rotation.Duration(60 * day)
	h.put(p)
	h.world.Policy.Overlap = p.Overlap
	h.run(epoch.Add(89 * day))
	h.verify() // the lineage names v1 all the time
	if h.state(1) != rotation.StateDeactivated {
		t.Errorf("v1 is %s: %s", h.state(1), h.story())
	}
	h.run(epoch.Add(91 * day))
	h.verify()
	if h.state(1) != rotation.StateSuspended {
		t.Errorf("v1 is %s: %s", h.state(1), h.story())
	}
}

func TestDeletePolicy(t *testing.T) {
	db := sqldbtest.SQLite(t)
	h := newHouse(t, db, openGuard(t, db), monthly())
	remove := func(force bool) error {
		_, err := h.service.DeletePolicy(t.Context(), h.call("DeletePolicy"), &rotation.DeletePolicyInput{Name: "payments", Force: force})
		return err
	}
	h.run(epoch.Add(59*day + time.Hour)) // v3 is being prepared, v1 is kept, v2 active
	if err := remove(true); code(err) != "InvalidStateException" {
		t.Errorf("while a rotation is prepared: %v", err)
	}
	h.run(epoch.Add(61 * day)) // v2 retires
	if err := remove(false); code(err) != "InvalidStateException" {
		t.Errorf("while a key retires: %v", err)
	}
	if err := remove(true); err != nil {
		t.Fatal(err)
	}
	if err := remove(true); code(err) != "NotFoundException" {
		t.Errorf("twice: %v", err)
	}
	if wake := h.wake(); !wake.IsZero() {
		t.Errorf("something is left to do at %s", wake)
	}
	if off, _ := h.service.Deactivated(t.Context(), h.world.Keys()[1].ARN); !off {
		t.Error("an old generation may sign again because its policy is gone")
	}
	// The lineage outlives its policy.
	h.put(h.policy)
	h.runFor(time.Hour)
	h.verify()
	if h.active() != 3 || len(h.generations()) != 3 {
		t.Errorf("%+v", h.generations())
	}
}

// TestNobodyTurnsWhatIsNotHis: permission to put policies is not permission to turn any alias.
func TestNobodyTurnsWhatIsNotHis(t *testing.T) {
	db := sqldbtest.SQLite(t)
	h := newHouse(t, db, openGuard(t, db), monthly())
	doc, err := policy.Parse([]byte(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"keyturn:*","Resource":"arn:aws:keyturn:*:*:policy/*"},
		{"Effect":"Allow","Action":"keyturn:TurnAlias","Resource":"arn:aws:kms:*:*:alias/mine"}]}`), policy.Identity)
	if err != nil {
		t.Fatal(err)
	}
	bob := func(operation string) *access.Call {
		c := h.call(operation)
		c.Caller = &access.Caller{
			Account: account, ARN: "arn:aws:iam::" + account + ":user/bob", UserID: "AIDABOB", Type: access.IAMUser,
			Policies: []policy.Attached{{Name: "bob", Policy: doc}},
		}
		return c
	}
	var denied *access.Denied
	p := h.policy
	p.Name, p.Alias = "his", "alias/mine"
	if _, err := h.service.PutPolicy(t.Context(), bob("PutPolicy"), &rotation.PutPolicyInput{Policy: p}); err != nil {
		t.Errorf("his own alias: %v", err)
	}
	// An alias in another Region that would turn along is not his either.
	h.kin = []string{"arn:aws:kms:us-west-2:" + account + ":alias/theirs"}
	if _, err := h.service.PutPolicy(t.Context(), bob("PutPolicy"), &rotation.PutPolicyInput{Policy: p}); !errors.As(err, &denied) {
		t.Errorf("with an alias in another Region: %v", err)
	}
	h.kin = nil
	p.Name, p.Alias = "not-his", "alias/root-of-trust"
	if _, err := h.service.PutPolicy(t.Context(), bob("PutPolicy"), &rotation.PutPolicyInput{Policy: p}); !errors.As(err, &denied) {
		t.Errorf("another's alias: %v", err)
	}
	if _, err := h.service.PlanRotation(t.Context(), bob("PlanRotation"), &rotation.PlanRotationInput{Policy: &p}); !errors.As(err, &denied) {
		t.Errorf("a plan for another's alias: %v", err)
	}
	nobody := h.call("RotateNow")
	nobody.Caller = &access.Caller{Account: account, ARN: "arn:aws:iam::" + account + ":user/eve", UserID: "AIDAEVE", Type: access.IAMUser}
	if _, err := h.service.RotateNow(t.Context(), nobody, &rotation.RotateNowInput{Name: "payments"}); !errors.As(err, &denied) {
		t.Errorf("a caller without permissions: %v", err)
	}
	// A rotation of another account looks like one that does not exist.
	id := h.rotations()[0].RotationId
	other := h.call("DescribeRotation")
	other.Account, other.Caller = "444455556666", &access.Caller{Account: "444455556666", ARN: access.RootARN("444455556666"), Type: access.Root}
	if _, err := h.service.DescribeRotation(t.Context(), other, &rotation.DescribeRotationInput{RotationId: id}); code(err) != "NotFoundException" {
		t.Errorf("another account's rotation: %v", err)
	}
}
