package rotation

import (
	"context"
	"fmt"
	"time"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
)

// GetStatusInput asks how the account's rotations in the Region are doing.
type GetStatusInput struct{}

// GetStatusOutput counts, and lists what deserves a look.
type GetStatusOutput struct {
	Policies  int
	Paused    int // policies
	Scheduled int // rotations whose time has not come
	Due       int // rotations that could begin
	Running   int // begun and not over, retirements included
	Retrying  int // of those: the last attempt failed
	Failed    int // wait for a person
	Overdue   int // should have switched by now
	Held      int
	// Rotations that run, failed or are overdue, the longest wanted first, at most 500; then the 20 next ones.
	Rotations []Rotation
}

// GetStatus answers what is due, running, failed and overdue.
func (s *Service) GetStatus(ctx context.Context, call *access.Call, _ *GetStatusInput) (*GetStatusOutput, error) {
	if _, err := s.check(ctx, call, "*"); err != nil {
		return nil, err
	}
	out, now := &GetStatusOutput{}, s.engine.now()
	if err := s.c.DB.QueryRow(ctx, `SELECT COUNT(*), COALESCE(SUM(paused), 0) FROM rotation_policies
		WHERE account = $1 AND region = $2`, call.Account, call.Region).Scan(&out.Policies, &out.Paused); err != nil {
		return nil, fmt.Errorf("counting policies: %w", err)
	}
	if err := s.count(ctx, call, now, out); err != nil {
		return nil, err
	}
	attention, err := s.rowsOf(ctx, call, now, `(r.stage = 2 OR r.stage = 1 AND r.wanted > 0 AND r.wanted <= $3)
		ORDER BY r.wanted, r.id LIMIT 500`, micros(now))
	if err != nil {
		return nil, err
	}
	upcoming, err := s.rowsOf(ctx, call, now, `r.stage = 1 AND r.wanted > $3 ORDER BY r.wanted, r.id LIMIT 20`, micros(now))
	if err != nil {
		return nil, err
	}
	for _, r := range attention {
		if r.Overdue {
			out.Overdue++
		}
	}
	out.Rotations = append(attention, upcoming...)
	return out, nil
}

func (s *Service) count(ctx context.Context, call *access.Call, now time.Time, out *GetStatusOutput) error {
	rows, err := s.c.DB.Query(ctx, `SELECT r.status,
			CASE WHEN r.due > 0 AND r.due <= $3 THEN 1 ELSE 0 END, CASE WHEN r.attempt > 0 THEN 1 ELSE 0 END, COUNT(*)
		FROM rotation_policies p JOIN rotations r ON r.policy = p.arn AND r.stage > 0
		WHERE p.account = $1 AND p.region = $2 GROUP BY 1, 2, 3`, call.Account, call.Region, micros(now))
	if err != nil {
		return fmt.Errorf("counting rotations: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var status Status
		var due, retrying bool
		var n int
		if err := rows.Scan(&status, flag{&due}, flag{&retrying}, &n); err != nil {
			return fmt.Errorf("counting rotations: %w", err)
		}
		switch {
		case status == StatusScheduled && due:
			out.Due += n
		case status == StatusScheduled:
			out.Scheduled += n
		case status == StatusFailed:
			out.Failed += n
		case status == StatusHeld:
			out.Held += n
		default:
			out.Running += n
			if retrying {
				out.Retrying += n
			}
		}
	}
	return rows.Err()
}

func (s *Service) rowsOf(ctx context.Context, call *access.Call, now time.Time, where string, args ...any) ([]Rotation, error) {
	rows, err := s.c.DB.Query(ctx, `SELECT `+rowColumns+`, p.doc, p.paused
		FROM rotation_policies p JOIN rotations r ON r.policy = p.arn
		WHERE p.account = $1 AND p.region = $2 AND `+where, append([]any{call.Account, call.Region}, args...)...)
	if err != nil {
		return nil, fmt.Errorf("reading rotations: %w", err)
	}
	defer rows.Close()
	all := []Rotation{}
	for rows.Next() {
		var doc string
		var paused bool
		row, err := scanRow(rows, &doc, flag{&paused})
		if err != nil {
			return nil, fmt.Errorf("reading rotations: %w", err)
		}
		p, err := parsePolicy(doc, paused)
		if err != nil {
			return nil, err
		}
		all = append(all, view(&row, p, now))
	}
	return all, rows.Err()
}

// PlanRotationInput names a policy that exists, or gives one that does not yet.
type PlanRotationInput struct {
	Name   string  `json:",omitzero"`
	Policy *Policy `json:",omitzero"`
}

// Validate asks for one of the two.
func (in *PlanRotationInput) Validate() error {
	if (in.Name == "") == (in.Policy == nil) {
		return awsapi.Errorf("ValidationException", "Give either Name or Policy.")
	}
	if in.Policy != nil {
		return in.Policy.Validate()
	}
	return nil
}

// PlanRotationOutput is what the next rotation would do.
type PlanRotationOutput struct {
	Plan Plan
}

// PlanRotation tells what the next rotation would do and when, without doing any of
// it. A policy that is only given needs the permissions that putting it needs.
func (s *Service) PlanRotation(ctx context.Context, call *access.Call, in *PlanRotationInput) (*PlanRotationOutput, error) {
	name := in.Name
	if in.Policy != nil {
		name = in.Policy.Name
	}
	arn, err := s.check(ctx, call, name)
	if err != nil {
		return nil, err
	}
	now := s.engine.now()
	job := &Job{Now: now}
	if in.Policy != nil {
		p := *in.Policy
		fill(&p.Account, call.Account)
		fill(&p.Region, call.Region)
		p = p.WithDefaults()
		if err := s.mayTurn(ctx, call, &p); err != nil {
			return nil, err
		}
		job.Policy, job.Row = &p, newRow("", arn, p.nextTurn(now), now, now)
	} else {
		st, err := findPolicy(reader{ctx, s.c.DB}, arn)
		if err != nil {
			return nil, err
		}
		rows, err := s.table.rows(ctx, `SELECT `+rowColumns+` FROM rotations r WHERE r.policy = $1 AND r.head = 1`, arn)
		if err != nil {
			return nil, fmt.Errorf("reading rotation: %w", err)
		}
		job.Policy, job.Row = st.policy, newRow("", arn, st.policy.nextTurn(now), now, now)
		if len(rows) == 1 {
			job.Row = rows[0]
		}
	}
	plan, err := s.engine.Plan(ctx, job)
	if err != nil {
		return nil, err
	}
	return &PlanRotationOutput{Plan: *plan}, nil
}

// Plan asks the rotator what it would do for job, whose Row, Policy and Now are
// given, and adds when each step would happen at the earliest.
func (e *Engine) Plan(ctx context.Context, job *Job) (*Plan, error) {
	rotator := e.c.Rotators[job.Policy.Rotator]
	if rotator == nil {
		return nil, awsapi.Errorf("ValidationException", "rotator: none is called %q.", job.Policy.Rotator)
	}
	if err := e.relate(ctx, job); err != nil {
		return nil, err
	}
	var err error
	if job.Target, err = e.c.Targets(ctx, job.Policy); err != nil {
		return nil, awsapi.Errorf("ValidationException", "target: %s", err)
	}
	plan, err := rotator.Plan(ctx, job)
	if err != nil {
		return nil, awsapi.Errorf("PlanFailedException", "%s", err)
	}
	plan.Policy = job.Policy.Name
	plan.Warnings = append(job.Policy.warnings(), plan.Warnings...)
	calls := map[Step][]string{}
	for _, s := range plan.Steps {
		calls[s.Step] = s.Calls
	}
	plan.Steps = timeline(rotator, job)
	for i := range plan.Steps {
		plan.Steps[i].Calls = calls[plan.Steps[i].Step]
	}
	plan.Checks = orEmpty(plan.Checks)
	return plan, nil
}

// timeline says when each of the steps that are left would happen at the earliest, if
// each took no time, by running the machine itself.
func timeline(rotator Rotator, job *Job) []PlannedStep {
	row, now := job.Row, job.Now
	if row.Data.Usage == "" && job.Active != nil {
		row.Data.Usage, row.Data.Made = job.Active.Usage, job.Active.Made
	}
	policy := *job.Policy
	policy.Paused = false
	var all []PlannedStep
	for range 1000 {
		steps := rotator.Steps(&row, &policy)
		a := next(&row, &policy, steps, now)
		for _, s := range a.skipped {
			all = append(all, PlannedStep{Step: s.Name, Skip: s.Skip})
		}
		switch a.verb {
		case verbWait:
			now = a.until
			continue
		case verbMove:
			row.Start, row.WindowEnd, row.Due = a.turn.start, a.turn.end, a.turn.start
			continue
		case verbDo:
			all = append(all, PlannedStep{Step: a.step.Name, At: now})
			copied := &Job{Row: row, Policy: &policy, Now: now}
			copied.Row.Status, copied.Row.Begun, copied.Row.Step = StatusRunning, true, a.step.Name
			c := after(copied, a, steps, Outcome{}, nil, draw{}, now)
			for _, e := range c.Events {
				if e.What == WhatSkipped {
					all = append(all, PlannedStep{Step: e.Step, Skip: e.Note})
				}
			}
			if row = c.Row; row.Status == StatusRunning {
				continue
			}
		}
		left := max(stepIndex(steps, row.Step), 0)
		if len(all) > 0 {
			left = stepIndex(steps, all[len(all)-1].Step) + 1
		}
		for _, s := range steps[left:] {
			all = append(all, PlannedStep{Step: s.Name, Skip: "the overlap does not end"})
		}
		return all
	}
	return all
}
