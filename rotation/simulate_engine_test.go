package rotation_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// fortunate is a rotator to whom every step succeeds at once. Only watching takes its time.
type fortunate struct{ keys int }

func (*fortunate) Steps(row *rotation.Row, p *rotation.Policy) []rotation.StepDef {
	return rotation.KeySteps(row, p)
}

func (f *fortunate) Do(_ context.Context, job *rotation.Job) (rotation.Outcome, error) {
	switch job.Row.Step {
	case rotation.StepInspect:
		if job.Active == nil {
			f.keys++
			key := fmt.Sprintf("v%d", f.keys)
			return rotation.Outcome{
				Data:        rotation.Data{OldKey: key, Usage: "SIGN_VERIFY"},
				Generations: []rotation.GenerationChange{{Key: key, Made: rotation.MadeAdopted, State: rotation.StateActive, Current: true, Usage: "SIGN_VERIFY"}},
			}, nil
		}
		return rotation.Outcome{Data: rotation.Data{OldKey: job.Active.Key, Usage: "SIGN_VERIFY"}}, nil
	case rotation.StepCreate:
		f.keys++
		key := fmt.Sprintf("v%d", f.keys)
		return rotation.Outcome{Data: rotation.Data{NewKey: key}, Generations: []rotation.GenerationChange{{Key: key, Usage: "SIGN_VERIFY"}}}, nil
	case rotation.StepWatch:
		until := job.Row.Data.DoneAt[rotation.StepSuspend].Add(time.Duration(job.Policy.Suspend))
		return rotation.Outcome{Wait: max(0, until.Sub(job.Now))}, nil
	}
	return rotation.Outcome{}, nil
}

func (*fortunate) Plan(context.Context, *rotation.Job) (*rotation.Plan, error) {
	return &rotation.Plan{}, nil
}

type openSealer struct{}

func (openSealer) Seal(plaintext, _ []byte) ([]byte, error)  { return plaintext, nil }
func (openSealer) Open(ciphertext, _ []byte) ([]byte, error) { return ciphertext, nil }

// The real service and engine, on a real database and with a clock that jumps from one due time to the
// next, do each step of up to half a year at the moment at which Simulate says that they will.
func TestTheEngineDoesWhatSimulateSays(t *testing.T) {
	const account, region = "111122223333", "eu-central-1"
	from := at(t, "UTC", "2026-10-10 10:00")
	for i, p := range append(fleet(t, 6),
		&rotation.Policy{Name: "late", Alias: "alias/late", Schedule: "rate(6 hours)", Lead: 10 * hours, Overlap: 3 * days},
		&rotation.Policy{Name: "many", Alias: "alias/many", Schedule: "rate(1 hour)", Lead: hours / 4, Overlap: 5 * hours, MaxKeysPerDay: 3},
		&rotation.Policy{Name: "frozen", Alias: "alias/frozen", Schedule: "rate(1 day)", Lead: 30 * hours, Overlap: 5 * days, Freeze: []rotation.Period{period(t, "2026-10-14", "2026-10-18"), period(t, "12-24", "12-26")}},
		&rotation.Policy{Name: "full", Alias: "alias/full", Schedule: "rate(3 days)", Lead: hours, Overlap: 2 * days, Suspend: hours, Adopt: rotation.AdoptFull, Destroy: &rotation.DestroyRule{}},
	) {
		p.Account, p.Region = account, region
		to := from.AddDate(0, 6, 0)
		if i >= 6 {
			to = from.AddDate(0, 0, 25)
		}
		t.Run(fmt.Sprintf("%d %s", i, p.Schedule), func(t *testing.T) {
			db := sqldbtest.SQLite(t)
			log, err := audit.Open(t.Context(), sqldbtest.Dir(t), nil, "test", audit.Options{Sync: audit.Interval, Interval: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			guard, err := access.Open(t.Context(), access.Config{DB: db, Log: log, Sealer: openSealer{}})
			if err != nil {
				t.Fatal(err)
			}
			now := from
			service, err := rotation.NewService(rotation.ServiceConfig{
				DB: db, Guard: guard, Rotators: map[string]rotation.Rotator{"key": &fortunate{}}, Now: func() time.Time { return now },
				Targets: func(context.Context, *rotation.Policy) (rotation.Target, error) {
					return rotation.Target{Name: rotation.TargetLocal, Local: true}, nil
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			call := &access.Call{
				ID: "test", Service: "keyturn", EventSource: "keyturn", Operation: "PutPolicy", Region: region, Account: account, Time: from,
				Caller: &access.Caller{Account: account, ARN: access.RootARN(account), UserID: account, Type: access.Root},
			}
			if _, err := service.PutPolicy(t.Context(), call, &rotation.PutPolicyInput{Policy: *p}); err != nil {
				t.Fatal(err)
			}
			for next := now; !next.IsZero() && !next.After(to); {
				now = next
				if next, err = service.Settle(t.Context()); err != nil {
					t.Fatal(err)
				}
			}

			turns := map[string]int{}
			var did []string
			for _, e := range history(t, service, call, p.Name) {
				if e.Kind != rotation.KindRotate {
					continue
				}
				if e.What == rotation.WhatBegun {
					turns[e.Rotation] = len(turns) + 1
				}
				if e.What == rotation.WhatDone {
					did = append(did, fmt.Sprintf("%s %d %s", e.At.UTC().Format(stamp), turns[e.Rotation], e.Step))
				}
			}
			var said []string
			calendar, err := rotation.Simulate([]*rotation.Policy{p}, from, to, 1_000_000)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range calendar {
				if e.Step != "" {
					said = append(said, fmt.Sprintf("%s %d %s", e.At.UTC().Format(stamp), e.Rotation, e.Step))
				}
			}
			// Of several rows due at one moment either may come first.
			slices.SortStableFunc(did, strings.Compare)
			slices.SortStableFunc(said, strings.Compare)
			for i := range max(len(did), len(said)) {
				if i >= len(did) || i >= len(said) || did[i] != said[i] {
					t.Fatalf("%+v\nthe engine did, and Simulate said, from entry %d:\n%s\n%s", *p, i,
						strings.Join(did[max(0, min(i, len(did))-2):min(len(did), i+5)], "\n"), strings.Join(said[max(0, min(i, len(said))-2):min(len(said), i+5)], "\n"))
				}
			}
			if len(did) < 5 {
				t.Errorf("only %d steps were done", len(did))
			}
		})
	}
}

// history reads the whole history of a policy, the oldest event first.
func history(t testing.TB, service *rotation.Service, call *access.Call, name string) []rotation.Event {
	t.Helper()
	var all []rotation.Event
	in := &rotation.ListHistoryInput{Name: name}
	for {
		out, err := service.ListHistory(t.Context(), call, in)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, out.Events...)
		if out.NextToken == "" {
			slices.Reverse(all)
			return all
		}
		in.NextToken = out.NextToken
	}
}
