package rotators_test

import (
	"fmt"
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

// faultRun breaks call number n of one rotation in one way, lets it recover, and looks at the whole state after each call
// from there on. It reports whether there was a call number n.
type faultRun struct {
	h      *house
	policy rotation.Policy
	begin  func(policy string) string // begins what is broken, and answers its row
	n      int
	how    breakage
}

func (f *faultRun) run() (reached bool, broken []string) {
	h := f.h
	id := f.begin(f.policy.Name)
	w := h.watch(f.policy, id)
	w.look()
	h.wire.set(func(n int, _ string) breakage {
		if n == f.n {
			return f.how
		}
		return whole
	}, func(n int, _ string) {
		if n >= f.n {
			w.look()
		}
	})
	end := h.drive(id)
	reached = h.wire.count() >= f.n
	h.wire.set(nil, nil)
	w.look()
	if end.Status != rotation.StatusDone {
		w.break_("it ended %s at %s: %s", end.Status, end.Step, end.Error)
	}
	f.settled(w, end)
	return reached, w.broken
}

// settled is what must be true when a rotation has recovered: nothing is left over.
func (f *faultRun) settled(w *watch, end rotation.Rotation) {
	h := f.h
	ctx := h.t.Context()
	if got := h.names(f.policy.Alias); got != end.NewKey {
		w.break_("the alias names %s, not the new key %s", got, end.NewKey)
	}
	if got := h.names(f.policy.Alias + "/next"); got != "" {
		w.break_("alias/x/next is left over and names %s", got)
	}
	if gens := w.generations(ctx); len(gens) != 1 || gens[0].Key != end.NewKey || h.names(fmt.Sprintf("%s/v%d", f.policy.Alias, gens[0].Number)) != end.NewKey {
		w.break_("the lineage is %+v", gens)
	}
	rows, err := h.db.Query(ctx, `SELECT k.arn FROM kms_keys k JOIN kms_tags t ON t.key_arn = k.arn
		WHERE t.tag_key = 'keyturn:lineage' AND t.tag_value = $1 AND k.state NOT IN ('Destroyed', 'PendingDeletion')
		AND NOT EXISTS (SELECT 1 FROM generations g WHERE g.key_arn = k.arn)`, w.arn)
	check(h.t, err)
	defer rows.Close()
	for rows.Next() {
		var orphan string
		check(h.t, rows.Scan(&orphan))
		w.break_("4: %s is an orphan", orphan)
	}
}

func (w *wire) set(broken func(int, string) breakage, after func(int, string)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken, w.after, w.calls = broken, after, nil
}

func (w *wire) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.calls)
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

// everyFault runs begin with every call broken in every given way, until a run has no further call. step is which calls
// are broken: every one, or every so manieth.
func everyFault(t *testing.T, db *sqldb.DB, step int, ways []breakage, change func(*rotation.Policy), begin func(h *house, policy string) string) {
	h := newHouse(t, db)
	b := h.bystander()
	runs := 0
	for _, how := range ways {
		for n := 1; ; n += step {
			p := h.lineage(fmt.Sprintf("%s-%d", strings.ReplaceAll(breakages[how], " ", "-"), n), change)
			h.settle(p.Name)
			f := &faultRun{h: h, policy: p, n: n, how: how, begin: func(policy string) string { return begin(h, policy) }}
			reached, broken := f.run()
			runs++
			for _, what := range broken {
				t.Errorf("call %d, %s: %s", n, breakages[how], what)
			}
			if t.Failed() {
				return
			}
			h.forget()
			if !reached {
				break
			}
		}
	}
	b.check(t)
	t.Logf("%d runs", runs)
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

var everyWay = []breakage{lostRequest, lostAnswer, crashBefore, crashAfter, throttled, serviceError}

func rotateNow(h *house, policy string) string { return h.rotate(policy) }

func TestNoFaultBreaksARotation(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		everyFault(t, sqldbtest.SQLite(t), 1, everyWay, nil, rotateNow)
	})
	t.Run("postgres", func(t *testing.T) {
		everyFault(t, sqldbtest.Open(t, sqldbtest.Postgres(t)), 5, []breakage{lostAnswer, crashAfter}, nil, rotateNow)
	})
}
