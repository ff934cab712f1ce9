package rotation_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

func TestQueries(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := newHouse(t, db, openGuard(t, db), monthly())
		for i := range 5 {
			p := h.policy
			p.Name, p.Alias = fmt.Sprintf("p%d", i), fmt.Sprintf("alias/p%d", i)
			h.put(p)
		}
		var names []string
		in := &rotation.ListPoliciesInput{Page: rotation.Page{MaxResults: 4}}
		for {
			out, err := h.service.ListPolicies(t.Context(), h.call("ListPolicies"), in)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range out.Policies {
				names = append(names, p.Name)
			}
			if in.NextToken = out.NextToken; out.NextToken == "" {
				break
			}
		}
		if !slices.Equal(names, []string{"p0", "p1", "p2", "p3", "p4", "payments"}) {
			t.Errorf("listed %v", names)
		}
		for i := range 5 { // they share one world, so only one of them may turn
			if _, err := h.service.DeletePolicy(t.Context(), h.call("DeletePolicy"), &rotation.DeletePolicyInput{Name: fmt.Sprintf("p%d", i), Force: true}); err != nil {
				t.Fatal(err)
			}
		}
		h.run(epoch.Add(95 * day))
		h.verify()
		seen := map[string]bool{}
		rin := &rotation.ListRotationsInput{Name: "payments", Page: rotation.Page{MaxResults: 2}}
		for {
			out, err := h.service.ListRotations(t.Context(), h.call("ListRotations"), rin)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range out.Rotations {
				if seen[r.RotationId] {
					t.Fatalf("%s is listed twice", r.RotationId)
				}
				seen[r.RotationId] = true
			}
			if rin.NextToken = out.NextToken; out.NextToken == "" {
				break
			}
		}
		if len(seen) != 5 { // adoption, three turns, the next one
			t.Errorf("%d rotations", len(seen))
		}
		events := 0
		hin := &rotation.ListHistoryInput{Name: "payments", Page: rotation.Page{MaxResults: 7}}
		for {
			out, err := h.service.ListHistory(t.Context(), h.call("ListHistory"), hin)
			if err != nil {
				t.Fatal(err)
			}
			events += len(out.Events)
			if hin.NextToken = out.NextToken; out.NextToken == "" {
				break
			}
		}
		if events < 30 {
			t.Errorf("%d events", events)
		}
		status, err := h.service.GetStatus(t.Context(), h.call("GetStatus"), &rotation.GetStatusInput{})
		if err != nil || status.Policies != 1 || status.Scheduled != 1 || status.Running != 2 || status.Failed+status.Overdue != 0 {
			t.Errorf("%+v %v", status, err)
		}
		h.clock.Advance(200 * day) // nothing runs
		status, err = h.service.GetStatus(t.Context(), h.call("GetStatus"), &rotation.GetStatusInput{})
		if err != nil || status.Overdue != 1 || status.Due != 1 {
			t.Errorf("%+v %v", status, err)
		}
		described, err := h.service.DescribeRotation(t.Context(), h.call("DescribeRotation"), &rotation.DescribeRotationInput{RotationId: h.rotations()[1].RotationId})
		if err != nil || len(described.Events) < 5 || described.Rotation.DoneAt[rotation.StepSwitch].IsZero() {
			t.Errorf("%+v %v", described, err)
		}
		got, err := h.service.GetPolicy(t.Context(), h.call("GetPolicy"), &rotation.NameInput{Name: "payments"})
		if err != nil || got.Next == nil || len(got.Generations) == 0 || got.Policy.Schedule != "rate(30 days)" {
			t.Errorf("%+v %v", got, err)
		}
		info, err := h.service.Generations(t.Context(), account, region, "alias/payments")
		if err != nil || info.Policy == nil || len(info.Generations) == 0 || info.Target != "local" {
			t.Errorf("%+v %v", info, err)
		}
		if _, err := h.service.Generations(t.Context(), account, region, "alias/nothing"); !errors.Is(err, rotation.ErrNoLineage) {
			t.Errorf("no lineage: %v", err)
		}
	})
}

func TestPlan(t *testing.T) {
	db := sqldbtest.SQLite(t)
	h := newHouse(t, db, openGuard(t, db), monthly())
	h.runFor(time.Hour)
	out, err := h.service.PlanRotation(t.Context(), h.call("PlanRotation"), &rotation.PlanRotationInput{Name: "payments"})
	if err != nil {
		t.Fatal(err)
	}
	at := map[rotation.Step]rotation.PlannedStep{}
	for _, s := range out.Plan.Steps {
		at[s.Step] = s
	}
	if !at[rotation.StepCreate].At.Equal(epoch.Add(29*day)) || !at[rotation.StepSwitch].At.Equal(epoch.Add(30*day)) {
		t.Errorf("%+v", out.Plan.Steps)
	}
	if at[rotation.StepSuspend].Skip == "" || len(at[rotation.StepCreate].Calls) == 0 || len(out.Plan.Steps) != 10 {
		t.Errorf("%+v", out.Plan.Steps)
	}
	if h.active() != 1 || len(h.world.Keys()) != 1 {
		t.Error("planning has changed something")
	}
}
