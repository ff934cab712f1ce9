package rotators_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

var breakages = map[breakage]string{
	lostRequest: "lost request", lostAnswer: "lost answer", crashBefore: "crash before", crashAfter: "crash after",
	throttled: "throttled", serviceError: "500 after it was applied",
}

// An undertaking is what faults are tried on: something a person or a schedule begins.
type undertaking struct {
	change  func(*rotation.Policy)
	prepare func(h *house, policy string)        // brings a new lineage to where it begins
	begin   func(h *house, policy string) string // begins it, and answers its row
	settled func(w *watch, end rotation.Rotation)
	status  rotation.Status // that it ends with; default done
	urgent  bool            // the publication lead and the overlap do not hold: somebody cried fire

	lineage func(h *house, name string) rotation.Policy // nil: of one Region
	regions []string                                    // the other Regions of the lineage
	last    string                                      // the last call that is broken; "": of all
}

// run breaks call number n of an undertaking in one way, lets it recover, and looks at the whole state after each call
// from there on. n = 0 breaks nothing. It answers the calls that were made, before which of them anything can have
// changed, and what did not hold.
func (u *undertaking) run(h *house, name string, n int, how breakage) (calls []string, fresh []bool, broken []string) {
	var p rotation.Policy
	if u.lineage != nil {
		p = u.lineage(h, name)
	} else {
		p = h.lineage(name, u.change)
	}
	h.settle(p.Name)
	if u.prepare != nil {
		u.prepare(h, p.Name)
	}
	id := u.begin(h, p.Name)
	w := h.watch(p, id)
	w.urgent, w.regions = u.urgent, u.regions
	w.look()
	h.wire.set(func(i int, _ string) breakage {
		if i == n {
			return how
		}
		return whole
	}, func(i int, operation string) {
		// What has not changed has been looked at. In many Regions there is too much to look at, and a call that
		// reads changes nothing of it.
		if i >= n && (!reads(operation) || len(u.regions) == 0 && (i <= n+1 || h.wire.changed(i))) {
			w.look()
		}
	})
	end := h.drive(id)
	calls, fresh = h.wire.calls, h.wire.since
	h.wire.set(nil, nil)
	w.look()
	if want := cmp.Or(u.status, rotation.StatusDone); end.Status != want {
		w.break_("it ended %s at %s, want %s: %s", end.Status, end.Step, want, end.Error)
	}
	w.orphans()
	u.settled(w, end)
	h.forget()
	return calls, fresh, w.broken
}

// orphans is the second half of invariant 4: recovery leaves no living key that no row knows.
func (w *watch) orphans() {
	rows, err := w.h.db.Query(w.h.t.Context(), `SELECT k.arn FROM kms_keys k JOIN kms_tags t ON t.key_arn = k.arn
		WHERE t.tag_key = 'keyturn:lineage' AND t.tag_value = $1 AND k.state NOT IN ('Destroyed', 'PendingDeletion', 'PendingReplicaDeletion')
		AND NOT EXISTS (SELECT 1 FROM generations g WHERE g.state <> 'destroyed'
			AND (g.key_arn = k.arn OR g.kin = k.account || ':key/' || k.key_id))`, w.arn)
	check(w.h.t, err)
	defer rows.Close()
	for rows.Next() {
		var orphan string
		check(w.h.t, rows.Scan(&orphan))
		w.break_("4: %s is an orphan", orphan)
	}
	check(w.h.t, rows.Err())
}

// expect checks the names of the lineage; "" means that there is none.
func (w *watch) expect(names map[string]string) {
	for side, want := range names {
		if got := w.h.names(w.policy.Alias + side); got != want {
			w.break_("alias/x%s names %q, not %q", side, got, want)
		}
	}
}

// set lets the wire break calls from now on, and answers which were made before.
func (w *wire) set(broken func(int, string) breakage, after func(int, string)) (calls []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls = w.calls
	w.broken, w.after, w.calls, w.since, w.touched = broken, after, nil, nil, true
	return calls
}

// touch notes that something other than a call may have changed what there is to see.
func (w *wire) touch() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.touched = true
}

// changed reports whether anything can have changed between call n-1 and call n.
func (w *wire) changed(n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.since[n-1]
}

// lineage makes a key, an alias and a policy of their own for one run.
func (h *house) lineage(name string, change func(*rotation.Policy)) rotation.Policy {
	h.t.Helper()
	p := fullLife(name, "alias/"+name)
	if change != nil {
		change(&p)
	}
	h.alias(p.Alias, h.key(types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify))
	h.put(p)
	return p
}

// forget removes what a finished run would do later: virtual time moves on by a week with each.
func (h *house) forget() {
	h.t.Helper()
	check(h.t, h.db.Write(h.t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.Exec(`DELETE FROM rotations`)
		return err
	}))
}

// bystander is a key that no rotation may touch.
type bystander struct {
	h                   *house
	key, before, policy string
}

func (h *house) bystander() *bystander {
	b := &bystander{h: h, key: h.key(types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify)}
	h.alias("alias/bystander", b.key)
	b.before, b.policy = b.look(), h.policyOf(b.key)
	return b
}

func (b *bystander) look() string {
	m := b.h.describe(b.key)
	return fmt.Sprint(m.KeyState, aws.ToString(m.Description), aws.ToTime(m.DeletionDate), b.h.tags(b.key), b.h.names("alias/bystander"))
}

func (b *bystander) check(t *testing.T) {
	t.Helper()
	if now := b.look(); now != b.before || b.h.policyOf(b.key) != b.policy {
		t.Errorf("a key that is none of Keyturn's was touched: %s, before %s", now, b.before)
	}
}

// everyFault tries an undertaking with each of its calls broken in each way that differs: a call that only reads
// is not applied, so losing its answer is losing the call; and to crash after one of two reads between which nothing
// changes is to crash after the other. step is how many calls lie between two that are broken; with
// 0 only those are that differ from the one before.
func (u *undertaking) everyFault(t *testing.T, h *house, step int) {
	b := h.bystander()
	calls, fresh, broken := u.run(h, "unbroken", 0, whole)
	runs := 1
	if u.last != "" {
		calls = calls[:slices.Index(calls, u.last)+1]
	}
	for n := 1; n <= len(calls) && len(broken) == 0; n += max(step, 1) {
		if step == 0 && n > 1 && calls[n-1] == calls[n-2] {
			continue
		}
		for how, name := range breakages {
			if reads(calls[n-1]) && how != lostRequest && (how != crashAfter || !fresh[n-1]) {
				continue
			}
			_, _, broken = u.run(h, fmt.Sprintf("%s-%d", strings.ReplaceAll(name, " ", "-"), n), n, how)
			runs++
			if len(broken) > 0 {
				t.Errorf("call %d, %s, %s:", n, calls[n-1], name)
				break
			}
		}
	}
	for _, what := range broken {
		t.Error(what)
	}
	b.check(t)
	t.Logf("%d calls, %d runs", len(calls), runs)
}

func reads(operation string) bool {
	return strings.HasPrefix(operation, "Describe") || strings.HasPrefix(operation, "Get") || strings.HasPrefix(operation, "List") ||
		operation == "Sign" || operation == "Verify"
}

// settle lets a new policy adopt the key behind its alias.
func (h *house) settle(policy string) {
	h.t.Helper()
	e := h.start()
	defer e.die()
	for range 20 {
		worked, err := e.RunOnce(e.ctx)
		check(h.t, err)
		if !worked {
			return
		}
	}
	h.t.Fatalf("policy %s does not settle", policy)
}

// onEach tries every fault on SQLite, and every so manieth on PostgreSQL.
func (u *undertaking) onEach(t *testing.T, every int) {
	t.Run("sqlite", func(t *testing.T) { u.everyFault(t, newHouse(t, sqldbtest.SQLite(t)), 1) })
	t.Run("postgres", func(t *testing.T) { u.everyFault(t, newHouse(t, sqldbtest.Open(t, sqldbtest.Postgres(t))), every) })
}

// paging tries faults where keys are found page by page, with more keys than there are on one.
func (u *undertaking) paging(t *testing.T) {
	t.Run("paging", func(t *testing.T) {
		h := newHouse(t, sqldbtest.SQLite(t))
		h.page()
		h.crowd(100)
		u.everyFault(t, h, 0)
	})
}

// crowd makes n keys of other rotations. Nobody can use them.
func (h *house) crowd(n int) {
	h.t.Helper()
	key := h.key(types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac)
	check(h.t, h.db.Write(h.t.Context(), func(tx *sqldb.Tx) error {
		if _, err := tx.Exec(`INSERT INTO kms_keys (arn, account, region, key_id, spec, key_usage, origin, state, description, policy, material_id, created_at, gen)
			WITH RECURSIVE n(i) AS (SELECT CAST(100000000001 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < $2)
			SELECT substr(arn, 1, length(arn) - 12) || i, account, region, substr(key_id, 1, 24) || i, spec, key_usage, origin, state, description, policy,
			material_id, created_at, gen FROM kms_keys, n WHERE arn = $1`, key, 100000000000+n); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO kms_tags SELECT arn, 'keyturn:rotation', 'another-' || arn FROM kms_keys WHERE description = $1 AND arn <> $2`,
			aws.ToString(h.describe(key).Description), key)
		return err
	}))
}

func TestNoFaultBreaksARotation(t *testing.T) {
	u := &undertaking{begin: (*house).rotate, settled: func(w *watch, end rotation.Rotation) {
		// The old key is deleted, and its names with it.
		w.expect(map[string]string{"": end.NewKey, "/v2": end.NewKey, "/next": "", "/previous": "", "/v1": ""})
	}}
	u.onEach(t, 9)
}

func TestNoFaultBreaksARollBack(t *testing.T) {
	u := &undertaking{
		prepare: func(h *house, policy string) { h.turn(policy, rotation.StepDeactivate) },
		begin: func(h *house, policy string) string {
			out, err := h.service.RollBack(h.t.Context(), h.call("RollBack"), &rotation.RollBackInput{Name: policy})
			check(h.t, err)
			return out.Rotation.RotationId
		},
		settled: func(w *watch, end rotation.Rotation) {
			w.expect(map[string]string{"": end.NewKey, "/v1": end.NewKey, "/v2": end.OldKey, "/next": "", "/previous": end.OldKey})
		},
	}
	u.onEach(t, 7)
}

// A roll back reaches a generation that is disabled and waits for its deletion. It is long out of every JWK set, so verifiers
// who keep one reject it until they ask again: who rolls back this far has worse troubles.
func TestNoFaultBreaksARollBackToAKeyPendingDeletion(t *testing.T) {
	u := &undertaking{
		urgent:  true,
		prepare: func(h *house, policy string) { h.turn(policy, rotation.StepDestroy) },
		begin: func(h *house, policy string) string {
			out, err := h.service.RollBack(h.t.Context(), h.call("RollBack"), &rotation.RollBackInput{Name: policy})
			check(h.t, err)
			return out.Rotation.RotationId
		},
		settled: func(w *watch, end rotation.Rotation) {
			w.expect(map[string]string{"": end.NewKey, "/v1": end.NewKey, "/v2": end.OldKey, "/next": "", "/previous": end.OldKey})
		},
	}
	u.onEach(t, 7)
}

func TestNoFaultBreaksACancel(t *testing.T) {
	for name, prepare := range map[string]func(h *house, policy string){
		"published": func(h *house, policy string) { h.turn(policy, rotation.StepPublish) },
		"the answer of CreateKey was lost": func(h *house, policy string) {
			h.wire.set(func(_ int, operation string) breakage {
				if operation == "CreateKey" {
					return crashAfter
				}
				return whole
			}, nil)
			id := h.rotate(policy)
			e := h.start()
			for e.ctx.Err() == nil {
				if worked, err := e.RunOnce(e.ctx); err == nil && !worked {
					h.t.Fatalf("rotation %s never makes a key", id)
				}
			}
			h.wire.set(nil, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			u := &undertaking{
				prepare: prepare, status: rotation.StatusCanceled,
				begin: func(h *house, policy string) string {
					out, err := h.service.CancelRotation(h.t.Context(), h.call("CancelRotation"), &rotation.CancelRotationInput{Name: policy})
					check(h.t, err)
					return out.Rotation.RotationId
				},
				settled: func(w *watch, end rotation.Rotation) {
					w.expect(map[string]string{"": end.OldKey, "/next": "", "/previous": ""})
					if end.NewKey != "" && w.h.describe(end.NewKey).KeyState != types.KeyStatePendingDeletion {
						w.break_("the pending key is left over")
					}
				},
			}
			u.onEach(t, 5)
			if name != "published" {
				u.paging(t)
			}
		})
	}
}

func TestNoFaultBreaksACompromise(t *testing.T) {
	u := &undertaking{
		urgent: true,
		begin: func(h *house, policy string) string {
			out, err := h.service.MarkCompromised(h.t.Context(), h.call("MarkCompromised"), &rotation.MarkCompromisedInput{Name: policy, Reason: "found on a laptop"})
			check(h.t, err)
			return out.Rotation.RotationId
		},
		settled: func(w *watch, end rotation.Rotation) {
			w.expect(map[string]string{"": end.NewKey, "/v1": end.OldKey, "/v2": end.NewKey, "/previous": end.OldKey, "/next": ""})
			if state := w.h.describe(end.OldKey).KeyState; state != types.KeyStateDisabled {
				w.break_("the compromised key is %s", state)
			}
		},
	}
	u.onEach(t, 7)
}

// turn rotates a policy until a step is done.
func (h *house) turn(policy string, step rotation.Step) rotation.Rotation {
	h.t.Helper()
	r := h.driveUntil(h.rotate(policy), func(r rotation.Rotation) bool { return !r.DoneAt[step].IsZero() })
	if r.DoneAt[step].IsZero() {
		h.t.Fatalf("the rotation is %s at %s: %s", r.Status, r.Step, r.Error)
	}
	return r
}
