package rotation_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

const (
	account = "111122223333"
	region  = "eu-central-1"
	day     = 24 * time.Hour
)

var epoch = time.Date(2027, 1, 4, 0, 0, 0, 0, time.UTC)

// noSeal stands for the key store: no secret is stored in these tests.
type noSeal struct{}

func (noSeal) Seal(plaintext, _ []byte) ([]byte, error)  { return plaintext, nil }
func (noSeal) Open(ciphertext, _ []byte) ([]byte, error) { return ciphertext, nil }

func openGuard(t testing.TB, db *sqldb.DB) *access.Guard {
	t.Helper()
	log, err := audit.Open(t.Context(), sqldbtest.Dir(t), nil, "test", audit.Options{Sync: audit.Interval, Interval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	guard, err := access.Open(t.Context(), access.Config{DB: db, Log: log, Sealer: noSeal{}})
	if err != nil {
		t.Fatal(err)
	}
	return guard
}

// house is one policy in a world of its own, and what turns it.
type house struct {
	t       testing.TB
	db      *sqldb.DB
	clock   *rotationtest.Clock
	world   *rotationtest.World
	service *rotation.Service
	policy  rotation.Policy
	faults  *rotationtest.Faults // of the world and of the table, counted together

	engine  *rotation.Engine
	ctx     context.Context
	crash   context.CancelFunc
	crashes int
	broken  []string
	kin     []string // aliases in other Regions that would turn along
}

// newHouse empties the database and puts policy into it.
func newHouse(t testing.TB, db *sqldb.DB, guard *access.Guard, policy rotation.Policy) *house {
	t.Helper()
	empty(t, db)
	policy.Account, policy.Region = account, region
	if policy.Name == "" {
		policy.Name, policy.Alias = "payments", "alias/payments"
	}
	h := &house{t: t, db: db, clock: rotationtest.NewClock(epoch), policy: policy}
	h.world = rotationtest.NewWorld(policy, h.clock.Now)
	h.faults = h.world.Faults
	var err error
	h.service, err = rotation.NewService(rotation.ServiceConfig{
		DB: db, Guard: guard, Now: h.clock.Now, Targets: noTarget, Rotators: map[string]rotation.Rotator{"key": h.world},
		Kin: func(context.Context, string) ([]string, error) { return h.kin, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	h.start()
	h.put(policy)
	return h
}

func noTarget(context.Context, *rotation.Policy) (rotation.Target, error) {
	return rotation.Target{Name: rotation.TargetLocal, Local: true}, nil
}

func empty(t testing.TB, db *sqldb.DB) {
	t.Helper()
	err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
		for _, table := range []string{"rotation_events", "rotations", "generations", "lineage_regions", "lineages", "rotation_policies"} {
			if _, err := tx.Exec("DELETE FROM " + table); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// start makes an engine as a process that begins would: it knows nothing.
func (h *house) start() {
	h.ctx, h.crash = context.WithCancel(h.t.Context())
	h.engine = h.newEngine("node-1")
}

func (h *house) newEngine(node string) *rotation.Engine {
	return rotation.New(rotation.Config{
		Table:    &rotationtest.Table{Table: rotation.NewTable(h.db), Faults: h.faults},
		Rotators: map[string]rotation.Rotator{"key": h.world}, Targets: noTarget,
		Now: h.clock.Now, Node: node, Rand: func() float64 { return 0.5 }, Lease: time.Minute,
	})
}

// call is a request of the account's root user.
func (h *house) call(operation string) *access.Call {
	return &access.Call{
		ID: "test", Service: "keyturn", EventSource: "keyturn", Operation: operation, Region: region, Account: account,
		Caller: &access.Caller{Account: account, ARN: access.RootARN(account), UserID: account, Type: access.Root}, Time: h.clock.Now(),
	}
}

func (h *house) put(p rotation.Policy) {
	h.t.Helper()
	if _, err := h.service.PutPolicy(h.t.Context(), h.call("PutPolicy"), &rotation.PutPolicyInput{Policy: p}); err != nil {
		h.t.Fatalf("putting policy: %v", err)
	}
}

func (h *house) must(out *rotation.RotationOutput, err error) rotation.Rotation {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
	return out.Rotation
}

func (h *house) rotateNow() (*rotation.RotationOutput, error) {
	return h.service.RotateNow(h.t.Context(), h.call("RotateNow"), &rotation.RotateNowInput{Name: h.policy.Name})
}

func (h *house) cancel() (*rotation.RotationOutput, error) {
	return h.service.CancelRotation(h.t.Context(), h.call("CancelRotation"), &rotation.CancelRotationInput{Name: h.policy.Name})
}

func (h *house) rollBack() (*rotation.RotationOutput, error) {
	return h.service.RollBack(h.t.Context(), h.call("RollBack"), &rotation.RollBackInput{Name: h.policy.Name})
}

func (h *house) compromised(n int) (*rotation.RotationOutput, error) {
	return h.service.MarkCompromised(h.t.Context(), h.call("MarkCompromised"),
		&rotation.MarkCompromisedInput{Name: h.policy.Name, Generation: n, Reason: "the laptop was stolen"})
}

func (h *house) resume(accept bool) error {
	_, err := h.service.ResumePolicy(h.t.Context(), h.call("ResumePolicy"), &rotation.ResumePolicyInput{Name: h.policy.Name, Accept: accept})
	return err
}

// once lets the engine do one thing, and checks what must always hold.
func (h *house) once() (worked bool) {
	h.t.Helper()
	worked, err := h.engine.RunOnce(h.ctx)
	if h.ctx.Err() != nil {
		h.crashes++
		h.start()
		worked = true
	} else if err != nil && !errors.Is(err, rotationtest.ErrInjected) && !errors.Is(err, sqldb.ErrConflict) {
		h.t.Fatalf("engine: %v", err)
	}
	if worked || err != nil {
		h.check(false) // otherwise nothing has changed since it was looked at
	}
	return worked || err != nil
}

func (h *house) check(settled bool) {
	h.t.Helper()
	for _, b := range rotationtest.Check(h.t.Context(), h.db, h.world, settled) {
		h.broken = append(h.broken, fmt.Sprintf("%s: %s", h.clock.Now().Format(time.DateTime), b))
	}
}

// wake returns when the next row wants an engine.
func (h *house) wake() time.Time {
	h.t.Helper()
	due, err := rotation.NewTable(h.db).Due(h.t.Context(), 1)
	if err != nil {
		h.t.Fatal(err)
	}
	if len(due) == 0 {
		return time.Time{}
	}
	return due[0].Row.Wake()
}

// run lets time pass, from wake to wake, until the instant.
func (h *house) run(until time.Time) {
	h.t.Helper()
	for range 5_000 {
		for h.once() {
			if len(h.broken) > 0 {
				return
			}
		}
		wake := h.wake()
		if wake.IsZero() || wake.After(until) {
			if until.After(h.clock.Now()) {
				h.clock.Set(until)
			}
			return
		}
		if wake.After(h.clock.Now()) {
			h.clock.Set(wake)
		} else {
			h.clock.Advance(time.Millisecond)
		}
	}
	h.t.Fatalf("the engine does not come to rest: %s", h.story())
}

func (h *house) runFor(d time.Duration) { h.t.Helper(); h.run(h.clock.Now().Add(d)) }

func (h *house) generations() []rotation.Generation {
	h.t.Helper()
	out, err := h.service.ListGenerations(h.t.Context(), h.call("ListGenerations"), &rotation.ListGenerationsInput{Name: h.policy.Name})
	if err != nil {
		h.t.Fatal(err)
	}
	return out.Generations
}

// state returns the state of generation n.
func (h *house) state(n int) rotation.State {
	h.t.Helper()
	for _, g := range h.generations() {
		if g.Number == n {
			return g.State
		}
	}
	return ""
}

// active returns the number of the active generation.
func (h *house) active() int {
	h.t.Helper()
	for _, g := range h.generations() {
		if g.Active {
			return g.Number
		}
	}
	return 0
}

func (h *house) rotations() []rotation.Rotation {
	h.t.Helper()
	out, err := h.service.ListRotations(h.t.Context(), h.call("ListRotations"), &rotation.ListRotationsInput{Name: h.policy.Name})
	if err != nil {
		h.t.Fatal(err)
	}
	return out.Rotations
}

// story tells the history, oldest first.
func (h *house) story() string {
	out, err := h.service.ListHistory(h.t.Context(), h.call("ListHistory"), &rotation.ListHistoryInput{Name: h.policy.Name, Page: rotation.Page{MaxResults: 200}})
	if err != nil {
		return err.Error()
	}
	text := ""
	for _, e := range out.Events {
		text = fmt.Sprintf("\n%s %.8s %s %s %s %s %s", e.At.Format(time.DateTime), e.Rotation, e.Kind, e.Step, e.What, e.Note, e.Error) + text
	}
	return text
}

// verify fails the test when something that must hold did not.
func (h *house) verify() {
	h.t.Helper()
	h.check(true)
	if len(h.broken) > 0 {
		h.t.Errorf("broken: %s\nstory: %s\nlast calls: %v", h.broken[0], h.story(), tail(h.faults.Calls(), 12))
	}
}

func tail(s []string, n int) []string { return s[max(0, len(s)-n):] }

func monthly() rotation.Policy {
	return rotation.Policy{
		Schedule: "rate(30 days)", Lead: rotation.Duration(day), Overlap: rotation.Duration(40 * day), Suspend: rotation.Duration(2 * day),
		Destroy: &rotation.DestroyRule{PendingWindow: rotation.Duration(7 * day)}, Usage: "SIGN_VERIFY", MaxAttempts: 3,
	}
}
