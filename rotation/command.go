package rotation

import (
	"time"

	"github.com/keyturn/keyturn/awsapi"
)

// standing is where a policy stands when a person asks for something: what a
// command decides from. The commands are pure; they return what to store, or an
// *awsapi.Error that says why not. Each is a change of rows; the ordinary
// engine does the rest.
type standing struct {
	arn      string
	policy   *Policy
	open     []Row  // rows that are not over, oldest first
	active   string // key ARN that the lineage says the alias names; empty: not adopted yet
	previous string // key ARN that it named before
	d        draw
	now      time.Time
	caller   string // ARN
	reason   string
	steps    func(*Row) []StepDef
}

func (s *standing) head() *Row {
	for i := range s.open {
		if s.open[i].Head {
			return &s.open[i]
		}
	}
	return nil
}

func (s *standing) find(id string) *Row {
	for i := range s.open {
		if s.open[i].ID == id {
			return &s.open[i]
		}
	}
	return nil
}

// requested begins a change with the line of history that says who asked for what.
func (s *standing) requested(row *Row, kind Kind, what What) *Change {
	e := Event{At: s.now, Policy: s.arn, Kind: kind, What: what, Note: s.reason, Caller: s.caller, Node: s.d.node}
	if row != nil {
		e.Rotation, e.Step = row.ID, row.Step
	}
	return &Change{Events: []Event{e}}
}

func refuse(format string, args ...any) error {
	return awsapi.Errorf("InvalidStateException", format, args...)
}

// inDoubt reports whether the switch of a row that is not Switched may have happened.
func (s *standing) inDoubt(row *Row) bool {
	return row.Begun && !row.Switched && row.Step != "" && row.Step == pivotOf(s.steps(row))
}

// asked makes row due at once, whatever its window.
func (r *Row) asked(now time.Time) {
	r.Trigger, r.Due, r.Start, r.WindowEnd, r.Parked = TriggerManual, now, now, time.Time{}, false
	r.Attempt = 0
}

// rotateNow lets the next rotation begin now. One that is under way only stops waiting
// for its window: asking twice does not turn twice.
func (s *standing) rotateNow() (*Change, Row, error) {
	head := s.head()
	switch {
	case head == nil:
		return nil, Row{}, refuse("The policy has no next rotation.")
	case s.policy.Paused:
		return nil, Row{}, refuse("The policy is paused. Resume it first.")
	case head.Kind == KindRollBack:
		return nil, Row{}, refuse("A roll back (%s) is under way.", head.ID)
	}
	c := s.requested(head, head.Kind, WhatRequested)
	row := *head
	if row.Trigger != TriggerManual {
		row.asked(s.now)
		if s.reason != "" {
			row.Data.Reason = s.reason
		}
	}
	c.Row = row
	return c, row, nil
}

// cancel stops a rotation before its switch and has what it made removed. Of a
// rotation that is only scheduled it skips the turn; of one that failed while it retired
// the old generation it gives up the retirement. Without an id it means the one that is
// under way, else the one that failed, else the next.
func (s *standing) cancel(id string) (*Change, Row, error) {
	row, err := s.cancelable(id)
	if err != nil {
		return nil, Row{}, err
	}
	c := s.requested(row, KindCancel, WhatRequested)
	canceled := *row
	switch {
	case row.Switched && row.Status != StatusFailed:
		return nil, Row{}, refuse("Rotation %s has switched. Roll back to undo it, or pause the policy to stop it.", row.ID)
	case s.inDoubt(row):
		return nil, Row{}, refuse("The switch of rotation %s is under way. When it is done, roll back to undo it.", row.ID)
	case row.Kind == KindCancel:
		return nil, Row{}, refuse("Rotation %s is being canceled.", row.ID)
	case s.policy.kept() && row.Status == StatusScheduled && !row.Data.Apart:
		return nil, Row{}, s.policy.guards("DeletePolicy")
	case row.Switched, row.Status == StatusScheduled, !row.Kind.moves(), row.Kind == KindRollBack:
		canceled.Status, canceled.EndedAt, canceled.Due, canceled.Head = StatusCanceled, s.now, time.Time{}, false
		c.Events = append(c.Events, canceled.event(WhatCanceled, row.Step, s.now, s.d.node))
		c.release(&canceled, s.find(row.Data.Holds), s.now, s.d.node)
	default:
		s.undo(&canceled)
	}
	if row.Head {
		c.follow(&canceled, s.policy, latest(s.now, row.Start, row.BegunAt), s.d, s.now)
	}
	c.Row = canceled
	return c, canceled, nil
}

func (s *standing) cancelable(id string) (*Row, error) {
	if id != "" {
		row := s.find(id)
		if row == nil {
			return nil, refuse("Rotation %s is over, or none of this policy.", id)
		}
		return row, nil
	}
	head := s.head()
	if head != nil && head.Status == StatusRunning {
		return head, nil
	}
	for i := range s.open {
		if s.open[i].takeable() {
			return &s.open[i], nil
		}
	}
	if head == nil {
		return nil, refuse("Nothing is under way.")
	}
	return head, nil
}

// undo turns a rotation that has begun into the removal of what it made. A step
// that is under way ends first: its lease still holds.
func (s *standing) undo(row *Row) {
	row.Kind, row.Status, row.Head = KindCancel, StatusRunning, false
	row.Step, row.Begun, row.Attempt, row.Error, row.Hint, row.Parked = "", false, 0, "", "", false
	row.Due = s.now
}

// resume lifts a pause, lets failed rotations go on where they failed, and retries at
// once what waits for its next attempt. accept means that what stands behind the alias
// is right although another hand put it there: the rotation begins anew from it.
func (s *standing) resume(id string, accept bool) (*Change, []Row, error) {
	var rows []Row
	c := s.requested(nil, "", WhatResumed)
	tookHead := false
	for i := len(s.open) - 1; i >= 0; i-- { // the newest takes the head
		row := s.open[i]
		switch {
		case id != "" && row.ID != id, c.changes(row.ID):
			continue
		case row.Status == StatusFailed:
			if row.Kind.moves() && !row.Switched {
				head := s.head()
				if tookHead || head != nil && head.Status != StatusScheduled {
					if id != "" {
						return nil, nil, refuse("Rotation %s is under way.", head.ID)
					}
					continue
				}
				if head != nil {
					over := *head
					over.Status, over.Head, over.Due, over.EndedAt = StatusSuperseded, false, time.Time{}, s.now
					c.Others = append(c.Others, over)
				}
				tookHead, row.Head = true, true
				if cut := s.hold(c, row.Data.Holds); cut != "" {
					row.Data.Cut = cut
				}
			}
			row.Status, row.Error, row.Hint = StatusRunning, "", ""
			if accept && !row.Switched {
				row.Step, row.Begun, row.Data.Accept = "", false, true
			}
		case row.Status == StatusRunning && row.Attempt > 0 && !row.Parked:
		default:
			continue
		}
		row.Attempt, row.Due = 0, s.now
		rows = append(rows, row)
	}
	for _, row := range s.open { // what only waited for the end of the pause
		if row.Parked && id == "" && !c.changes(row.ID) {
			row.Parked = false
			rows = append(rows, row)
		}
	}
	if id != "" && len(rows) == 0 {
		return nil, nil, refuse("Rotation %s does not wait for anybody.", id)
	}
	if len(rows) == 0 && !s.policy.Paused {
		return nil, nil, refuse("The policy is not paused and none of its rotations has failed.")
	}
	for i := range rows {
		c.Others = append(c.Others, rows[i])
		e := rows[i].event(WhatResumed, rows[i].Step, s.now, s.d.node)
		e.Caller = s.caller
		c.Events = append(c.Events, e)
	}
	return c, rows, nil
}

// changes reports whether c changes another row of that id already.
func (c *Change) changes(id string) bool {
	for i := range c.Others {
		if c.Others[i].ID == id {
			return true
		}
	}
	return false
}

// hold stops the row that retires a generation while a roll back to it is under way,
// and sets it back, so that it retires the generation anew if the roll back fails. It
// returns the step that was under way, if any.
func (s *standing) hold(c *Change, id string) (cut Step) {
	row := s.find(id)
	if row == nil || row.Status == StatusHeld || !row.Switched {
		return ""
	}
	if row.Begun {
		cut = row.Step
	}
	held := *row
	held.Status, held.Begun, held.Attempt, held.Error, held.Hint, held.Parked = StatusHeld, false, 0, "", "", false
	steps := s.steps(&held)
	if i := stepIndex(steps, pivotOf(steps)); i >= 0 && i+1 < len(steps) {
		held.Step = steps[i+1].Name
	}
	c.Others = append(c.Others, held)
	return cut
}

// rollBack lets the previous generation take over again. prev is that generation.
func (s *standing) rollBack(prev *Generation, now bool) (*Change, Row, error) {
	switch {
	case prev == nil || s.previous == "":
		return nil, Row{}, refuse("The lineage has no previous generation.")
	case prev.State == StateDestroyed || prev.State == StateCompromised:
		return nil, Row{}, refuse("The previous generation, v%d, is %s.", prev.Number, prev.State)
	}
	row := Row{
		ID: s.d.id, Policy: s.arn, Kind: KindRollBack, Status: StatusScheduled, Head: true, Trigger: TriggerManual,
		Due: s.now, Start: s.now, Base: s.now, CreatedAt: s.now,
		Data: Data{OldKey: s.active, NewKey: prev.Key, Spec: prev.Spec, Usage: prev.Usage, Reason: s.reason, AtOnce: now, Hidden: !now && prev.left(s.now.Add(s.policy.Lead.std()))},
	}
	c := s.requested(&row, KindRollBack, WhatRequested)
	if head := s.head(); head != nil {
		over := *head
		switch {
		case head.Kind == KindRollBack && now && head.Data.Hidden:
			over.Data.Hidden, over.Data.AtOnce, over.Due = false, true, s.now
			c.Row = over
			return c, over, nil
		case head.Kind == KindRollBack:
			return nil, *head, nil // asked for already
		case head.Kind == KindCompromise:
			return nil, Row{}, refuse("The active generation is being replaced because it is compromised (%s). Cancel that first.", head.ID)
		case s.inDoubt(head):
			return nil, Row{}, refuse("The switch of rotation %s is under way. Try again when it is done.", head.ID)
		case head.Status == StatusScheduled:
			over.Status, over.Head, over.Due, over.EndedAt = StatusSuperseded, false, time.Time{}, s.now
		default:
			s.undo(&over)
			c.Events = append(c.Events, over.event(WhatCanceled, head.Step, s.now, s.d.node))
		}
		c.Others = append(c.Others, over)
	}
	if retiring := s.retiring(prev.Key); retiring != nil {
		row.Data.Holds = retiring.ID
		row.Data.Cut = s.hold(c, retiring.ID)
	}
	c.Insert = append(c.Insert, row)
	return c, row, nil
}

// retiring returns the open row that retires the generation.
func (s *standing) retiring(key string) *Row {
	for i := range s.open {
		if r := &s.open[i]; r.Switched && r.Data.OldKey == key && r.Kind.moves() {
			return r
		}
	}
	return nil
}

// markCompromised takes a generation out of use for good. The active one is replaced
// at once, by the pending key if there is one, else by a new one, tested in either case.
func (s *standing) markCompromised(g *Generation) (*Change, Row, error) {
	head := s.head()
	switch {
	case g.State == StateDestroyed || g.State == StateCompromised:
		return nil, Row{}, refuse("Generation v%d is %s already.", g.Number, g.State)
	case head != nil && head.Kind == KindRollBack:
		return nil, Row{}, refuse("A roll back (%s) is under way. Try again when it is done.", head.ID)
	case g.State == StatePreActivation:
		return nil, Row{}, refuse("Generation v%d is not in use yet. Cancel its rotation.", g.Number)
	case g.Key != s.active:
		return s.revoke(g)
	case head == nil:
		return nil, Row{}, refuse("The policy has no next rotation.")
	case head.Kind == KindCompromise:
		return nil, *head, nil // asked for already
	}
	row := *head
	c := s.requested(head, KindCompromise, WhatRequested)
	row.asked(s.now)
	row.Kind, row.Data.Reason = KindCompromise, s.reason
	if row.Wanted.IsZero() {
		row.Wanted = s.now
	}
	c.Row = row
	return c, row, nil
}

// revoke handles a compromised generation that the alias does not name.
func (s *standing) revoke(g *Generation) (*Change, Row, error) {
	row := Row{
		ID: s.d.id, Policy: s.arn, Kind: KindRevoke, Status: StatusScheduled, Trigger: TriggerManual,
		Due: s.now, Start: s.now, Base: s.now, CreatedAt: s.now,
		Data: Data{OldKey: g.Key, Spec: g.Spec, Usage: g.Usage, Made: g.Made, Reason: s.reason},
	}
	c := s.requested(&row, KindRevoke, WhatRequested)
	if retiring := s.retiring(g.Key); retiring != nil {
		row.Data.Holds = retiring.ID
		over := *retiring
		over.Status, over.Due, over.EndedAt = StatusSuperseded, time.Time{}, s.now
		c.Others = append(c.Others, over)
	}
	c.Insert = append(c.Insert, row)
	// From now on nobody is told to trust it, even before it is disabled.
	c.Generations = append(c.Generations, GenerationChange{Key: g.Key, State: StateCompromised, at: s.now})
	return c, row, nil
}

// changed says what a changed policy document means for the open rows. A rotation that
// has begun keeps its window; whatever waits is looked at again.
func (s *standing) changed(old *Policy) *Change {
	c := &Change{}
	for i := range s.open {
		row := s.open[i]
		switch {
		case row.Status == StatusScheduled && row.Kind == KindRotate && row.Trigger == TriggerSchedule:
			if old.sameTurns(s.policy) {
				continue
			}
			t := s.policy.nextTurn(row.Base)
			if !t.end.IsZero() && !s.now.Before(t.end) {
				// A shorter rate may make it overdue at once; a date that has passed comes again.
				if t = s.policy.nextTurn(s.now); s.policy.isRate() {
					t = s.policy.lateTurn(s.now)
				}
			}
			row.Due, row.Start, row.WindowEnd, row.Wanted = t.due, t.start, t.end, t.start
			e := row.event(WhatScheduled, "", s.now, s.d.node)
			e.Next = t.start
			c.Events = append(c.Events, e)
		case row.Status == StatusRunning && row.Attempt == 0 && row.Due.After(s.now):
			row.Due = s.now
		default:
			continue
		}
		c.Others = append(c.Others, row)
	}
	return c
}

// sameTurns reports whether both policies turn at the same times.
func (p *Policy) sameTurns(q *Policy) bool {
	if len(p.Freeze) != len(q.Freeze) {
		return false
	}
	for i := range p.Freeze {
		if p.Freeze[i].From != q.Freeze[i].From || p.Freeze[i].To != q.Freeze[i].To {
			return false
		}
	}
	return p.Schedule == q.Schedule && p.Window == q.Window && p.Timezone == q.Timezone && p.Spread == q.Spread &&
		p.Mode == q.Mode && p.Lead == q.Lead
}

func (p *Policy) isRate() bool {
	c, err := p.calendar()
	return err == nil && c != nil && c.Schedule.IsRate()
}

// abandon ends every open row of a policy that is deleted. Unless force is given, it
// refuses while something would be left undone.
func (s *standing) abandon(force bool) (*Change, error) {
	c := s.requested(nil, "", WhatDeleted)
	for i := range s.open {
		row := s.open[i]
		if row.LeaseUntil.After(s.now) {
			return nil, refuse("A step of rotation %s is under way. Try again when it is done.", row.ID)
		}
		if row.Status != StatusScheduled && (!force || row.Kind.moves() && !row.Switched) {
			return nil, refuse("Rotation %s is %s at step %s. Cancel it, let it end, or, once it has switched, delete with Force: the old key then stays as it is.",
				row.ID, row.Status, row.Step)
		}
		row.Status, row.Head, row.Due, row.EndedAt = StatusCanceled, false, time.Time{}, s.now
		c.Others = append(c.Others, row)
	}
	return c, nil
}
