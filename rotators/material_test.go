package rotators_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotators"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// materials lets what the rotator of materials asks for go wrong like the calls on the wire.
type materials struct {
	wire   *wire
	next   rotators.Materials
	proved map[string]bool // material id
}

func (m *materials) Current(ctx context.Context, key string) (id string, err error) {
	return id, m.wire.call(ctx, "GetCurrent", func() error { id, err = m.next.Current(ctx, key); return err })
}

func (m *materials) Prepare(ctx context.Context, key, token string) (id string, err error) {
	return id, m.wire.call(ctx, "Prepare", func() error { id, err = m.next.Prepare(ctx, key, token); return err })
}

func (m *materials) Prove(ctx context.Context, key, id string) error {
	return m.wire.call(ctx, "Prove", func() error {
		err := m.next.Prove(ctx, key, id)
		if err == nil {
			m.proved[id] = true
		}
		return err
	})
}

func (m *materials) Turn(ctx context.Context, key, id string, onDemand bool) error {
	return m.wire.call(ctx, "Turn", func() error { return m.next.Turn(ctx, key, id, onDemand) })
}

func (m *materials) Discard(ctx context.Context, key, token string) error {
	return m.wire.call(ctx, "Discard", func() error { return m.next.Discard(ctx, key, token) })
}

// call carries a call that is no HTTP request.
func (w *wire) call(ctx context.Context, operation string, apply func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	w.mu.Lock()
	w.calls = append(w.calls, operation)
	n, broken, after, die := len(w.calls), w.broken, w.after, w.die
	w.mu.Unlock()
	how := whole
	if broken != nil {
		how = broken(n, operation)
	}
	var err error
	if how != lostRequest && how != crashBefore && how != throttled {
		err = apply()
	}
	if after != nil {
		after(n, operation)
	}
	switch how {
	case crashBefore, crashAfter:
		die()
		return errCrash
	case whole:
		return err
	}
	return errLost
}

// A turning is a key whose material turns, and those who use it meanwhile.
type turning struct {
	h      *house
	key    string // ARN
	policy string // name
	first  string // material that it was made with

	blobs  map[string][]byte // material id → a ciphertext that it made
	begun  int               // rotations so far
	broken []string
}

func (h *house) turning() *turning {
	t := &turning{h: h, key: h.key(types.KeySpecSymmetricDefault, types.KeyUsageTypeEncryptDecrypt), blobs: map[string][]byte{}}
	t.policy = "kms/" + t.key[strings.LastIndex(t.key, "/")+1:]
	t.first = *h.describe(t.key).CurrentKeyMaterialId
	t.look()
	return t
}

func (t *turning) break_(format string, args ...any) {
	t.broken = append(t.broken, fmt.Sprintf(format, args...))
}

// look checks everything once: the key encrypts, with a material that was proved; whatever any material made decrypts;
// at most one is pending, and none is there that no rotation made; and the policy never falls silent.
func (t *turning) look() {
	ctx := context.Background() // the engine may be dead; its users are not
	out, err := t.h.admin.Encrypt(ctx, &sdk.EncryptInput{KeyId: &t.key, Plaintext: []byte("p")})
	if err != nil {
		t.break_("1: encrypting: %v", err)
		return
	}
	opened, err := t.h.admin.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: out.CiphertextBlob})
	if err != nil {
		t.break_("1: decrypting: %v", err)
		return
	}
	current := *opened.KeyMaterialId
	t.blobs[current] = out.CiphertextBlob
	if current != t.first && !t.h.materials.proved[current] {
		t.break_("6: %s encrypts and was not proved", current)
	}
	for id, blob := range t.blobs {
		if opened, err := t.h.admin.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: blob}); err != nil || *opened.KeyMaterialId != id {
			t.break_("3: what %s made does not decrypt: %v", id, err)
		}
	}
	var all, pending, heads, asleep int
	check(t.h.t, t.h.db.QueryRow(ctx, `SELECT COUNT(*), COALESCE(SUM(CASE WHEN state = 'PENDING_ROTATION' THEN 1 ELSE 0 END), 0)
		FROM kms_materials WHERE key_arn = $1`, t.key).Scan(&all, &pending))
	if all > 1+t.begun || pending > 1 {
		t.break_("4: %d materials, %d of them pending, after %d rotations", all, pending, t.begun)
	}
	if t.begun == 0 {
		return
	}
	check(t.h.t, t.h.db.QueryRow(ctx, `SELECT COUNT(*), COALESCE(SUM(CASE WHEN wake IS NULL THEN 1 ELSE 0 END), 0)
		FROM rotations WHERE policy LIKE $1 AND head = 1`, "%policy/"+t.policy).Scan(&heads, &asleep))
	if heads != 1 || asleep != 0 {
		t.break_("7: %d rotations are next, %d of them asleep", heads, asleep)
	}
}

// enable lets the key turn every 90 days.
func (t *turning) enable() {
	_, err := t.h.admin.EnableKeyRotation(t.h.t.Context(), &sdk.EnableKeyRotationInput{KeyId: &t.key, RotationPeriodInDays: aws.Int32(90)})
	check(t.h.t, err)
}

// onDemand begins a rotation, and answers its id.
func (t *turning) onDemand() string {
	_, err := t.h.admin.RotateKeyOnDemand(t.h.t.Context(), &sdk.RotateKeyOnDemandInput{KeyId: &t.key})
	check(t.h.t, err)
	t.begun++
	return t.open()[0].RotationId
}

// due moves the clock to the next rotation, and answers its id.
func (t *turning) due() string {
	next := t.open()[0]
	t.h.clock.to(next.Due)
	t.begun++
	return next.RotationId
}

func (t *turning) open() []rotation.Rotation {
	t.h.t.Helper()
	out, err := t.h.service.ListRotations(t.h.t.Context(), t.h.call("ListRotations"), &rotation.ListRotationsInput{Name: t.policy, Open: true})
	check(t.h.t, err)
	return out.Rotations
}

// run breaks call number n of a rotation in one way, and looks at the whole state after each call from there on.
func (t *turning) run(begin func() string, n int, how breakage, want rotation.Status) (calls []string) {
	id := begin()
	t.look()
	t.h.wire.set(func(i int, _ string) breakage {
		if i == n {
			return how
		}
		return whole
	}, func(i int, _ string) {
		if i >= n {
			t.look()
		}
	})
	end := t.h.drive(id)
	calls = t.h.wire.set(nil, nil)
	t.look()
	if end.Status != want {
		t.break_("it ended %s at %s, want %s: %s", end.Status, end.Step, want, end.Error)
	}
	return calls
}

// settled checks where a rotation has led: the lineage tells what the key's materials are.
func (t *turning) settled(materials int) {
	ctx := t.h.t.Context()
	current := *t.h.describe(t.key).CurrentKeyMaterialId
	all, err := t.h.admin.ListKeyRotations(ctx, &sdk.ListKeyRotationsInput{KeyId: &t.key, IncludeKeyMaterial: types.IncludeKeyMaterialAllKeyMaterial})
	check(t.h.t, err)
	if len(all.Rotations) != materials || *all.Rotations[materials-1].KeyMaterialId != current {
		t.break_("%d materials, want %d", len(all.Rotations), materials)
	}
	out, err := t.h.service.ListGenerations(ctx, t.h.call("ListGenerations"), &rotation.ListGenerationsInput{Name: t.policy})
	check(t.h.t, err)
	var of []rotation.Generation // that are not removed
	for _, g := range out.Generations {
		if g.State != rotation.StateDestroyed {
			of = append(of, g)
		}
	}
	if len(of) != materials {
		t.break_("%d generations, want %d", len(of), materials)
		return
	}
	for i, g := range of {
		id, want := *all.Rotations[materials-1-i].KeyMaterialId, rotation.StateDeactivated
		if i == 0 {
			want = rotation.StateActive
		}
		if g.Key != rotation.MaterialARN(t.key, id) || g.State != want || g.Active != (i == 0) || !g.OverlapEnds.IsZero() {
			t.break_("generation v%d is %s %s, want %s %s", g.Number, g.State, g.Key, want, id)
		}
	}
}

// materialFaults tries a rotation with each of its calls broken in each way that differs.
func materialFaults(t *testing.T, db *sqldb.DB, step int, begin func(*turning) string) {
	h := newHouse(t, db)
	calls := []string{""}
	for n := 0; n <= len(calls); n += step {
		for how, name := range breakages {
			if n == 0 && how != lostRequest || how == throttled || how == serviceError { // which are as lost requests and lost answers here
				continue
			}
			k := h.turning()
			k.enable()
			made := k.run(func() string { return begin(k) }, n, how, rotation.StatusDone)
			k.settled(2)
			if n == 0 {
				calls = made
			}
			if len(k.broken) > 0 {
				t.Fatalf("call %d of %v, %s:\n%s", n, calls, name, strings.Join(k.broken, "\n"))
			}
			h.forget()
		}
	}
	if len(calls) < 4 {
		t.Errorf("only %v", calls)
	}
}

func TestNoFaultBreaksARotationOfMaterial(t *testing.T) {
	for name, begin := range map[string]func(*turning) string{"automatic": (*turning).due, "on demand": (*turning).onDemand} {
		t.Run(name, func(t *testing.T) {
			t.Run("sqlite", func(t *testing.T) { materialFaults(t, sqldbtest.SQLite(t), 1, begin) })
			t.Run("postgres", func(t *testing.T) { materialFaults(t, sqldbtest.Open(t, sqldbtest.Postgres(t)), 2, begin) })
		})
	}
}

// A rotation of material that cannot go on is canceled: its material is removed, the schedule stays, and the next one makes
// another.
func TestNoFaultBreaksTheCancelOfMaterial(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := newHouse(t, db)
		for n, how := range []breakage{whole, lostRequest, lostAnswer, crashBefore, crashAfter} {
			k := h.turning()
			k.enable()
			h.wire.set(func(_ int, operation string) breakage {
				if operation == "Prove" {
					return lostRequest
				}
				return whole
			}, nil)
			h.driveUntil(k.onDemand(), func(r rotation.Rotation) bool { return r.Attempt > 2 })
			h.wire.set(nil, nil)
			k.run(func() string {
				out, err := h.service.CancelRotation(t.Context(), h.call("CancelRotation"), &rotation.CancelRotationInput{Name: k.policy})
				check(t, err)
				return out.Rotation.RotationId
			}, min(n, 1), how, rotation.StatusCanceled)
			k.settled(1)
			next, err := h.admin.GetKeyRotationStatus(t.Context(), &sdk.GetKeyRotationStatusInput{KeyId: &k.key})
			check(t, err)
			if d := next.NextRotationDate.Sub(h.clock.Now()); d > 90*24*time.Hour || d < 89*24*time.Hour {
				k.break_("the next one is in %s", d)
			}
			k.run(k.onDemand, 0, whole, rotation.StatusDone)
			k.settled(2)
			if len(k.broken) > 0 {
				t.Fatalf("%d:\n%s", n, strings.Join(k.broken, "\n"))
			}
			h.forget()
		}
	})
}

// A key that is disabled between two steps waits where it is, with its old material, and goes on when it is enabled.
func TestAKeyIsDisabledWhileItTurns(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := newHouse(t, db)
		for _, step := range []string{"Prepare", "Prove", "Turn"} {
			k := h.turning()
			k.enable()
			id := k.due()
			disabled := false
			h.wire.set(func(_ int, operation string) breakage {
				if operation == step && !disabled {
					disabled = true
					_, err := h.admin.DisableKey(context.Background(), &sdk.DisableKeyInput{KeyId: &k.key})
					check(t, err)
				}
				return whole
			}, nil)
			e := h.start()
			for range 20 {
				_, err := e.RunOnce(e.ctx)
				check(t, err)
				h.clock.set(h.clock.Now().Add(time.Hour))
			}
			e.die()
			if r := h.rotation(id); r.Status != rotation.StatusRunning || r.Switched || r.Error != "" {
				t.Errorf("%s: the rotation is %s: %s", step, r.Status, r.Error)
			}
			if current := *h.describe(k.key).CurrentKeyMaterialId; current != k.first {
				t.Errorf("%s: it turned while it was disabled", step)
			}
			_, err := h.admin.EnableKey(t.Context(), &sdk.EnableKeyInput{KeyId: &k.key})
			check(t, err)
			if r := h.drive(id); r.Status != rotation.StatusDone {
				t.Errorf("%s: the rotation ended %s: %s", step, r.Status, r.Error)
			}
			k.look()
			k.settled(2)
			if !disabled || len(k.broken) > 0 {
				t.Errorf("%s:\n%s", step, strings.Join(k.broken, "\n"))
			}
			h.forget()
		}
	})
}

// A key is destroyed while it turns: its rotation ends with it.
func TestAKeyIsDestroyedWhileItTurns(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := newHouse(t, db)
		k := h.turning()
		k.enable()
		id := h.driveUntil(k.due(), func(r rotation.Rotation) bool { return !r.DoneAt[rotation.StepCreate].IsZero() }).RotationId
		_, err := h.admin.ScheduleKeyDeletion(t.Context(), &sdk.ScheduleKeyDeletionInput{KeyId: &k.key, PendingWindowInDays: aws.Int32(7)})
		check(t, err)
		h.clock.set(h.clock.Now().Add(8 * 24 * time.Hour))
		for range 3 {
			_, err = h.kms.RunOnce(t.Context())
			check(t, err)
		}
		if worked, err := h.start().RunOnce(t.Context()); worked || err != nil {
			t.Errorf("there is still something to do: %v", err)
		}
		if r := h.rotation(id); r.Status != rotation.StatusCanceled {
			t.Errorf("the rotation is %s", r.Status)
		}
		var materials int
		check(t, db.QueryRow(t.Context(), `SELECT COUNT(*) FROM kms_materials`).Scan(&materials))
		if materials != 0 {
			t.Errorf("%d materials are left", materials)
		}
	})
}

// The policy of a key is kms': people look at it, resume and cancel its rotations, and do nothing else to it.
func TestPeopleDoNotSteerTheRotationOfMaterial(t *testing.T) {
	h := newHouse(t, sqldbtest.SQLite(t))
	ctx := t.Context()
	k := h.turning()
	k.enable()
	name := k.policy
	for operation, do := range map[string]func() error{
		"PutPolicy": func() error {
			in := &rotation.PutPolicyInput{Policy: rotation.Policy{Name: name, Alias: "alias/x"}}
			return in.Validate()
		},
		"PutPolicy of the rotator": func() error {
			in := &rotation.PutPolicyInput{Policy: rotation.Policy{Name: "x", Alias: "alias/x", Rotator: rotation.RotatorMaterial}}
			return in.Validate()
		},
		"DeletePolicy": func() error {
			_, err := h.service.DeletePolicy(ctx, h.call("DeletePolicy"), &rotation.DeletePolicyInput{Name: name, Force: true})
			return err
		},
		"PausePolicy": func() error {
			_, err := h.service.PausePolicy(ctx, h.call("PausePolicy"), &rotation.PausePolicyInput{Name: name})
			return err
		},
		"RotateNow": func() error {
			_, err := h.service.RotateNow(ctx, h.call("RotateNow"), &rotation.RotateNowInput{Name: name})
			return err
		},
		"RollBack": func() error {
			_, err := h.service.RollBack(ctx, h.call("RollBack"), &rotation.RollBackInput{Name: name})
			return err
		},
		"MarkCompromised": func() error {
			_, err := h.service.MarkCompromised(ctx, h.call("MarkCompromised"), &rotation.MarkCompromisedInput{Name: name})
			return err
		},
		"CancelRotation of the next one": func() error {
			_, err := h.service.CancelRotation(ctx, h.call("CancelRotation"), &rotation.CancelRotationInput{Name: name})
			return err
		},
		"ResumePolicy of a disabled key": func() error {
			_, err := h.admin.DisableKey(ctx, &sdk.DisableKeyInput{KeyId: &k.key})
			check(t, err)
			_, err = h.service.ResumePolicy(ctx, h.call("ResumePolicy"), &rotation.ResumePolicyInput{Name: name})
			return err
		},
	} {
		err := do()
		var refused *awsapi.Error
		switch {
		case err == nil:
			t.Errorf("%s is allowed", operation)
		case !strings.HasPrefix(operation, "PutPolicy") && (!errors.As(err, &refused) || refused.Code != "InvalidStateException"):
			t.Errorf("%s: %v", operation, err)
		case !strings.Contains(err.Error(), "EnableKey") && !strings.Contains(err.Error(), "DisableKeyRotation") && !strings.Contains(err.Error(), "RotateKeyOnDemand"):
			t.Errorf("%s gives no hint: %v", operation, err)
		}
	}
	list := func(keys bool) []rotation.PolicySummary {
		out, err := h.service.ListPolicies(ctx, h.call("ListPolicies"), &rotation.ListPoliciesInput{Keys: keys})
		check(t, err)
		return out.Policies
	}
	if own, keys := list(false), list(true); len(own) != 0 || len(keys) != 1 || keys[0].Name != name || keys[0].Schedule != "rate(90 days)" {
		t.Errorf("%+v and %+v", own, keys)
	}
	if _, err := h.service.Generations(ctx, account, region, "key/"+strings.TrimPrefix(name, "kms/")); !errors.Is(err, rotation.ErrNoLineage) {
		t.Errorf("the materials of a key are shown to everybody: %v", err)
	}
	plan, err := h.service.PlanRotation(ctx, h.call("PlanRotation"), &rotation.PlanRotationInput{Name: name})
	check(t, err)
	if len(plan.Plan.Steps) != 3 || len(plan.Plan.Warnings) != 0 || plan.Plan.Checks[0].OK {
		t.Errorf("%+v", plan.Plan)
	}
}
