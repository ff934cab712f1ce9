package rotation

import (
	"errors"
	"maps"
	"time"
)

// Change is what one transaction stores about the rows of one policy.
type Change struct {
	Row         Row // as it shall be; stored only if the row's Gen is still this Row.Gen, which then grows by one
	Others      []Row
	Insert      []Row
	Generations []GenerationChange
	Follows     []string // nil: unchanged
	Events      []Event
	Parked      bool // stored only if the policy is still paused
}

// Event is one line of the history: append-only, stored with what it tells of.
type Event struct {
	At       time.Time
	Policy   string // ARN
	Rotation string `json:",omitzero"`
	Kind     Kind   `json:",omitzero"`
	Step     Step   `json:",omitzero"`
	What     What
	Note     string    `json:",omitzero"`
	Error    string    `json:",omitzero"`
	Next     time.Time `json:",omitzero"` // when it goes on; zero: at once, never, or when a person acts
	Node     string    `json:",omitzero"`
	Caller   string    `json:",omitzero"` // ARN of who asked, for commands
}

// What says what an event tells of.
type What string

// Whats.
const (
	WhatScheduled  What = "scheduled"
	WhatBegun      What = "begun"
	WhatTookOver   What = "took-over"   // the pending key of a failed rotation
	WhatRecovered  What = "recovered"   // a step was under way when its node fell silent; it is done again
	WhatDone       What = "done"        // a step
	WhatSkipped    What = "skipped"     // a step
	WhatMoved      What = "moved"       // to a later window
	WhatWaits      What = "waits"       // a step is not done yet
	WhatRetry      What = "retry"       // a step failed and is tried again
	WhatFailed     What = "failed"      // a person must act
	WhatFinished   What = "finished"    // a rotation
	WhatCanceled   What = "canceled"    // a rotation
	WhatPaused     What = "paused"      // a policy
	WhatResumed    What = "resumed"     // a policy or a rotation
	WhatRequested  What = "requested"   // a person asked for what Kind says
	WhatPut        What = "put"         // a policy
	WhatDeleted    What = "deleted"     // a policy
	WhatRolledBack What = "rolled-back" // a rotation, by another
	WhatCapped     What = "capped"      // too many rotations began in a day
)

// draw is the chance in a change: drawn beforehand so that the machine stays pure.
type draw struct {
	id     string  // of a row that the change may insert
	token  string  // of a rotation that begins
	jitter float64 // in [0, 1)
	node   string
}

// newRow returns the next rotation of a policy, at t.
func newRow(id, policy string, t turn, base, now time.Time) Row {
	return Row{
		ID: id, Policy: policy, Kind: KindRotate, Status: StatusScheduled, Head: true,
		Due: t.due, Start: t.start, WindowEnd: t.end, Wanted: t.start, Base: base,
		Trigger: TriggerSchedule, CreatedAt: now,
	}
}

// event begins an event about row.
func (r *Row) event(what What, step Step, now time.Time, node string) Event {
	return Event{At: now, Policy: r.Policy, Rotation: r.ID, Kind: r.Kind, Step: step, What: what, Node: node}
}

// claim returns the change that takes the lease on row to do a, and records the
// step as begun. failed is the rotation whose pending key a beginning one takes over.
func claim(row Row, a action, failed *Row, d draw, now time.Time, lease time.Duration) *Change {
	c := &Change{}
	if row.Begun && row.Owner != "" { // whoever ends a step says so, and leaves no owner
		c.Events = append(c.Events, row.event(WhatRecovered, row.Step, now, d.node))
	}
	if row.Status == StatusScheduled {
		row.Status, row.BegunAt, row.Token = StatusRunning, now, d.token
		e := row.event(WhatBegun, "", now, d.node)
		e.Note = string(row.Trigger)
		c.Events = append(c.Events, e)
		if failed != nil {
			c.takeOver(&row, *failed, now, d.node)
		}
	}
	c.skip(&row, a.skipped, now, d.node)
	row.Step, row.Begun = a.step.Name, true
	row.Owner, row.LeaseUntil = d.node, now.Add(lease)
	c.Row = row
	return c
}

// takeOver lets row go on with what the failed rotation has made. The token goes
// along, so that even a key whose making was never recorded is found.
func (c *Change) takeOver(row *Row, failed Row, now time.Time, node string) {
	row.Token = failed.Token
	asked := row.Data
	row.Data = failed.Data
	row.Data.DoneAt, row.Data.Accept, row.Data.Apart = nil, asked.Accept, asked.Apart
	if asked.Reason != "" {
		row.Data.Reason = asked.Reason
	}
	if failed.Kind == KindCompromise {
		row.Kind, row.Trigger = KindCompromise, TriggerManual
	}
	failed.Status, failed.EndedAt, failed.Due = StatusSuperseded, now, time.Time{}
	c.Others = append(c.Others, failed)
	e := row.event(WhatTookOver, "", now, node)
	e.Note = "from " + failed.ID
	c.Events = append(c.Events, e)
}

func (c *Change) skip(row *Row, skipped []StepDef, now time.Time, node string) {
	for _, s := range skipped {
		e := row.event(WhatSkipped, s.Name, now, node)
		e.Note = s.Skip
		c.Events = append(c.Events, e)
	}
}

// rest returns the change for an action that does no step; nil when there is
// nothing to store.
func rest(job *Job, a action, d draw, now time.Time) *Change {
	row, p, c := job.Row, job.Policy, &Change{}
	was := row
	row.Owner, row.LeaseUntil = "", time.Time{}
	switch a.verb {
	case verbWait:
		row.Due = a.until
	case verbMove:
		row.Start, row.WindowEnd, row.Due = a.turn.start, a.turn.end, a.turn.start
		if row.Status == StatusScheduled {
			row.Due = a.turn.due
		}
		e := row.event(WhatMoved, a.step.Name, now, d.node)
		e.Note, e.Next = a.why, row.Due
		c.Events = append(c.Events, e)
	case verbFinish:
		c.skip(&row, a.skipped, now, d.node)
		c.finish(&row, now, d.node)
	case verbPark:
		row.Parked, c.Parked = true, true
	case verbPerson:
		if row.Status != StatusScheduled && row.Status != StatusRunning {
			return nil
		}
		c.fail(&row, p, a.why, "", d, now)
		c.release(&row, job.held, now, d.node)
	}
	if len(c.Events) == 0 && row.Due.Equal(was.Due) && row.Parked == was.Parked && was.LeaseUntil.IsZero() {
		return nil
	}
	c.Row = row
	return c
}

// finish ends a row whose steps are all done.
func (c *Change) finish(row *Row, now time.Time, node string) {
	what := WhatFinished
	row.Status = StatusDone
	if row.Kind == KindCancel {
		row.Status, what = StatusCanceled, WhatCanceled
	}
	row.EndedAt, row.Due, row.Error, row.Hint = now, time.Time{}, "", ""
	c.Events = append(c.Events, row.event(what, "", now, node))
}

// after says what to store when the step of a was done, or not. It is pure. job
// is as the rotator got it; its Now is when the step began, now when it ended.
func after(job *Job, a action, steps []StepDef, out Outcome, err error, d draw, now time.Time) *Change {
	row := job.Row
	row.Owner, row.LeaseUntil = "", time.Time{}
	row.Data = row.Data.merge(out.Data)
	c := &Change{Generations: out.Generations, Follows: out.Follows}
	if row.Kind == KindRollBack && a.step.Name == StepRestore && job.New != nil && !row.Data.AtOnce &&
		job.New.left(now.Add(job.Policy.Lead.std())) {
		row.Data.Hidden = true // when it was asked for it was not, but no engine has come to it in time
	}
	switch {
	case err != nil:
		c.Generations, c.Follows = nil, nil
		row.Data = job.Row.Data
		c.undone(&row, job, a, err, d, now)
	case out.Person != "":
		if stepIndex(steps, out.Back) >= 0 {
			row.Step = out.Back
		}
		row.Begun = false
		c.fail(&row, job.Policy, out.Person, out.Hint, d, now)
	case out.Wait > 0:
		row.Due, row.Attempt, row.Error, row.Hint = now.Add(out.Wait), 0, "", ""
		if out.Note != "" {
			e := row.event(WhatWaits, row.Step, now, d.node)
			e.Note, e.Next = out.Note, row.Due
			c.Events = append(c.Events, e)
		}
	default:
		c.done(&row, job, a, steps, out, d, now)
	}
	c.release(&row, job.held, now, d.node)
	at := row.Data.forward(now)
	for i := range c.Generations {
		c.Generations[i].at = at
		if c.Generations[i].State == StateDeactivated {
			c.Generations[i].overlapEnds = overlapEnds(job.Policy, row.Data.Usage, at)
		}
	}
	c.Row = row
	return c
}

// forward returns now, or the latest time recorded so far when the clock was set back
// since: a wait that counts from here must not be made shorter by that.
func (d *Data) forward(now time.Time) time.Time {
	for _, t := range d.DoneAt {
		now = latest(now, t)
	}
	return now
}

func overlapEnds(p *Policy, usage string, now time.Time) time.Time {
	overlap := p.overlap(usage)
	if overlap == Forever {
		return time.Time{}
	}
	return now.Add(overlap.std())
}

// undone records that a step failed, and when it is tried again.
func (c *Change) undone(row *Row, job *Job, a action, err error, d draw, now time.Time) {
	p := job.Policy
	if a.closed && errors.Is(err, ErrNotDone) {
		if a.step.Pivot && row.Attempt >= p.MaxAttempts {
			row.Begun = false
			c.fail(row, p, row.Error, hintRetry, d, now)
			return
		}
		row.Begun, row.Due = false, now // it waits for its window
		return
	}
	if e := asStepError(err); e != nil {
		row.Begun = false
		c.fail(row, p, err.Error(), e.Hint, d, now)
		return
	}
	row.Attempt++
	row.Error, row.Hint = err.Error(), ""
	if row.Attempt >= p.MaxAttempts && row.givesUp() && !a.step.Pivot {
		c.fail(row, p, err.Error(), hintRetry, d, now)
		return
	}
	row.Due = now.Add(backoff(p.Backoff.std(), row.Attempt, d.jitter))
	e := row.event(WhatRetry, row.Step, now, d.node)
	e.Error, e.Next = row.Error, row.Due
	c.Events = append(c.Events, e)
}

const hintRetry = "Mend the cause, then resume the rotation, or cancel it."

// givesUp reports whether the row fails after too many attempts. What adopts or
// retires a generation, removes a pending key or replaces a compromised one never
// does: it tries on, ever more slowly, and the status tells of it.
func (r *Row) givesUp() bool {
	if r.Switched {
		return false
	}
	return r.Kind == KindRotate || r.Kind == KindRollBack
}

const maxBackoff = 30 * time.Minute

// backoff returns how long to wait after so many failed attempts: doubling, at most
// 30 minutes, of which a random part of up to a half is left out.
func backoff(first time.Duration, attempts int, jitter float64) time.Duration {
	wait := first
	for i := 1; i < attempts && wait < maxBackoff; i++ {
		wait *= 2
	}
	wait = min(wait, maxBackoff)
	return wait - time.Duration(float64(wait/2)*jitter)
}

// fail stops the row until a person acts. A head makes room for the next rotation,
// so that the policy does not fall silent.
func (c *Change) fail(row *Row, p *Policy, why, hint string, d draw, now time.Time) {
	row.Status, row.Due, row.Error, row.Hint = StatusFailed, time.Time{}, why, hint
	e := row.event(WhatFailed, row.Step, now, d.node)
	e.Error, e.Note = why, hint
	c.Events = append(c.Events, e)
	if row.Head {
		row.Head = false
		c.follow(row, p, latest(now, row.Start, row.BegunAt), d, now)
	}
}

// follow inserts the rotation that comes after row.
func (c *Change) follow(row *Row, p *Policy, base time.Time, d draw, now time.Time) {
	if row.Data.Apart {
		base = row.Base
	}
	t := p.followingTurn(base, now)
	follower := newRow(d.id, row.Policy, t, base, now)
	c.Insert = append(c.Insert, follower)
	e := follower.event(WhatScheduled, "", now, d.node)
	e.Next = t.start
	c.Events = append(c.Events, e)
}

// done records that a step is done, and what follows from it.
func (c *Change) done(row *Row, job *Job, a action, steps []StepDef, out Outcome, d draw, now time.Time) {
	row.Begun, row.Attempt, row.Error, row.Hint = false, 0, "", ""
	row.Data.DoneAt = maps.Clone(row.Data.DoneAt)
	if row.Data.DoneAt == nil {
		row.Data.DoneAt = map[Step]time.Time{}
	}
	row.Data.DoneAt[a.step.Name] = row.Data.forward(now)
	row.setMade(job, out)
	done := row.event(WhatDone, a.step.Name, now, d.node)
	done.Note = out.Note
	c.Events = append(c.Events, done)
	if a.step.Pivot {
		c.switched(row, job.Policy, d, now)
	}
	i := stepIndex(steps, a.step.Name) + 1
	if i == len(steps) {
		c.finish(row, now, d.node)
		return
	}
	row.Step, row.Due = steps[i].Name, now
	// Looking ahead saves looking at the row again only to find that it must wait.
	switch ahead := next(row, job.Policy, steps, now); ahead.verb {
	case verbWait:
		row.Due = ahead.until
		c.Events[0].Next = ahead.until
	case verbFinish:
		c.skip(row, ahead.skipped, now, d.node)
		c.finish(row, now, d.node)
	}
}

// release settles the row that a roll back holds: pointless once the alias is back,
// to be gone on with when the roll back failed.
func (c *Change) release(row, held *Row, now time.Time, node string) {
	if row.Kind != KindRollBack || held == nil || held.Status != StatusHeld {
		return
	}
	free := *held
	switch {
	case row.Switched:
		free.Status, free.EndedAt = StatusRolledBack, now
		c.Events = append(c.Events, free.event(WhatRolledBack, "", now, node))
	case row.Status == StatusFailed || row.Status == StatusCanceled:
		free.Status, free.Due = StatusRunning, now
		c.Events = append(c.Events, free.event(WhatResumed, free.Step, now, node))
	default:
		return
	}
	c.Others = append(c.Others, free)
}

// setMade notes where the old key came from, when a step has named it.
func (r *Row) setMade(job *Job, out Outcome) {
	if out.Data.OldKey == "" {
		return
	}
	for _, g := range out.Generations {
		if g.Key == r.Data.OldKey && g.Made != "" {
			r.Data.Made = g.Made
		}
	}
	// What is recorded already counts more than what was found again.
	for _, g := range []*Generation{job.Active, job.Old} {
		if g != nil && g.Key == r.Data.OldKey {
			r.Data.Made = g.Made
		}
	}
}

// switched records that the alias names the new generation. The next rotation is
// stored in the same transaction.
func (c *Change) switched(row *Row, p *Policy, d draw, now time.Time) {
	row.Switched, row.SwitchedAt, row.Head = true, now, false
	base := latest(now, row.BegunAt)
	if row.Trigger == TriggerSchedule && !p.kept() {
		base = row.Start // a late one does not move those that come
	}
	c.follow(row, p, base, d, now)
	c.Generations = append(c.Generations, GenerationChange{Key: row.Data.NewKey, State: StateActive, Current: true})
	if row.Kind == KindCompromise {
		c.Generations = append(c.Generations, GenerationChange{Key: row.Data.OldKey, State: StateCompromised})
	}
}

// merge takes from found what is not empty.
func (d Data) merge(found Data) Data {
	keep := func(member *string, value string) {
		if value != "" {
			*member = value
		}
	}
	keep(&d.OldKey, found.OldKey)
	keep(&d.NewKey, found.NewKey)
	keep(&d.Spec, found.Spec)
	keep(&d.Usage, found.Usage)
	if len(found.Notes) > 0 {
		notes := maps.Clone(d.Notes)
		if notes == nil {
			notes = map[string]string{}
		}
		maps.Copy(notes, found.Notes)
		d.Notes = notes
	}
	return d
}

func latest(t time.Time, others ...time.Time) time.Time {
	for _, o := range others {
		if o.After(t) {
			t = o
		}
	}
	return t
}
