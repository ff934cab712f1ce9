package rotation

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// life runs the machine alone, without a table: rows of one policy, outcomes drawn, a
// clock that jumps. It checks at every step what must hold of the rows alone.
type life struct {
	t      *rapid.T
	policy Policy
	now    time.Time
	rows   []Row
	ids    int

	turns int // switches
	log   []string
}

func (l *life) draw() draw {
	l.ids++
	return draw{id: fmt.Sprint("row-", l.ids), token: fmt.Sprint("token-", l.ids), jitter: rapid.Float64Range(0, 0.999).Draw(l.t, "jitter")}
}

func (l *life) steps(r *Row) []StepDef { return KeySteps(r, &l.policy) }

// due returns the index of the row whose wake comes first; -1: none.
func (l *life) due() int {
	first := -1
	for i := range l.rows {
		if l.rows[i].wake() == nil {
			continue
		}
		if first < 0 || l.rows[i].Wake().Before(l.rows[first].Wake()) {
			first = i
		}
	}
	return first
}

func (l *life) store(c *Change) {
	for _, r := range append([]Row{c.Row}, c.Others...) {
		if r.ID == "" {
			continue
		}
		for i := range l.rows {
			if l.rows[i].ID == r.ID {
				if r.Gen != l.rows[i].Gen {
					l.t.Fatalf("row %s is stored with gen %d, it has %d", r.ID, r.Gen, l.rows[i].Gen)
				}
				r.Gen++
				l.rows[i] = r
			}
		}
	}
	for _, r := range c.Insert {
		r.Gen = 1
		l.rows = append(l.rows, r)
	}
	for _, e := range c.Events {
		l.log = append(l.log, fmt.Sprintf("%s %s %s %s %s %s", e.At.Format(time.DateTime), e.Rotation, e.Kind, e.Step, e.What, e.Error))
	}
}

// step does what an engine would with row i.
func (l *life) step(i int) {
	row := l.rows[i]
	job := &Job{Row: row, Policy: &l.policy, Now: l.now, held: l.held(&row)}
	a := next(&row, &l.policy, l.steps(&row), l.now)
	d := l.draw()
	if a.verb != verbDo {
		c := rest(job, a, d, l.now)
		if c == nil {
			l.t.Fatalf("row is due at %s, now %s, but there is nothing to do: %+v %+v", row.Wake(), l.now, a, row)
		}
		l.store(c)
		return
	}
	var failed *Row
	if row.Status == StatusScheduled && (row.Kind == KindRotate || row.Kind == KindCompromise) {
		for j := range l.rows {
			if l.rows[j].takeable() {
				failed = &l.rows[j]
			}
		}
	}
	l.mayDo(&row, a)
	l.store(claim(row, a, failed, d, l.now, time.Minute))
	if rapid.IntRange(0, 19).Draw(l.t, "crash") == 0 {
		return
	}
	job.Row = l.rows[i]
	out, err := l.outcome(job, a)
	l.now = l.now.Add(time.Duration(rapid.IntRange(0, 50).Draw(l.t, "took")) * time.Second)
	before := l.rows[i].Switched
	l.store(after(job, a, l.steps(&job.Row), out, err, d, l.now))
	if l.rows[i].Switched && !before {
		l.turns++
		if !a.step.Pivot {
			l.t.Fatalf("step %s has switched", a.step.Name)
		}
	}
}

func (l *life) held(row *Row) *Row {
	for i := range l.rows {
		if row.Data.Holds != "" && l.rows[i].ID == row.Data.Holds {
			held := l.rows[i]
			return &held
		}
	}
	return nil
}

// mayDo checks that the step may be done now.
func (l *life) mayDo(row *Row, a action) {
	fail := func(format string, args ...any) {
		l.t.Fatalf("%s: %s of %+v\npolicy %+v", fmt.Sprintf(format, args...), a.step.Name, *row, l.policy)
	}
	done := row.Data.DoneAt
	switch {
	case l.policy.Paused && row.Kind == KindRotate:
		fail("the policy is paused")
	case row.Switched && a.step.Pivot:
		fail("it has switched")
	case a.step.Pivot && done[StepTest].IsZero():
		fail("nothing was tested")
	case a.step.Name == StepDeactivate && !row.Switched, a.step.Name == StepRevoke && row.Kind == KindCompromise && !row.Switched:
		fail("it has not switched")
	case a.step.Harms && !row.Switched:
		fail("it has not switched")
	}
	if row.Kind != KindRotate || a.closed {
		return
	}
	if a.step.Pivot && l.policy.Mode == ModeStaged && l.now.Before(done[StepPublish].Add(l.policy.Lead.std())) {
		fail("the lead is %s, published at %s, now %s", l.policy.Lead, done[StepPublish], l.now)
	}
	if a.step.Name == StepSuspend && l.now.Before(done[StepDeactivate].Add(l.policy.overlap(row.Data.Usage).std())) {
		fail("the overlap is %s, deactivated at %s, now %s", l.policy.overlap(row.Data.Usage), done[StepDeactivate], l.now)
	}
	if row.Trigger == TriggerSchedule && a.step.Windowed && !row.Switched && !row.WindowEnd.IsZero() &&
		(l.now.Before(row.Start) || !l.now.Before(row.WindowEnd)) {
		fail("the window is %s to %s, now %s", row.Start, row.WindowEnd, l.now)
	}
}

func (l *life) outcome(job *Job, a action) (Outcome, error) {
	switch rapid.IntRange(0, 9).Draw(l.t, "outcome") {
	case 0:
		return Outcome{}, errors.New("passing trouble")
	case 1:
		if a.closed {
			return Outcome{}, ErrNotDone
		}
		if rapid.IntRange(0, 3).Draw(l.t, "permanent") == 0 {
			return Outcome{}, Permanent(errors.New("lasting trouble"), "mend it")
		}
		return Outcome{Wait: time.Hour}, nil
	case 2:
		if a.step.Name == StepWatch {
			return Outcome{Person: "somebody wants it", Back: StepSuspend}, nil
		}
	}
	out := Outcome{}
	switch a.step.Name {
	case StepInspect:
		out.Data = Data{OldKey: "old", Usage: "SIGN_VERIFY"}
	case StepCreate:
		out.Data.NewKey = "new of " + job.Row.Token
	}
	return out, nil
}

// command gives one at random.
func (l *life) command() {
	s := &standing{arn: "policy", policy: &l.policy, active: "old", previous: "older", d: l.draw(), now: l.now, steps: l.steps}
	for _, r := range l.rows {
		if r.Status.Open() {
			s.open = append(s.open, r)
		}
	}
	name := rapid.SampledFrom([]string{"rotate", "cancel", "resume", "roll back", "compromise", "pause", "accept"}).Draw(l.t, "command")
	var c *Change
	var err error
	switch name {
	case "rotate":
		c, _, err = s.rotateNow()
	case "cancel":
		c, _, err = s.cancel("")
	case "resume", "accept":
		if c, _, err = s.resume("", name == "accept"); err == nil {
			l.policy.Paused = false
		}
	case "roll back":
		c, _, err = s.rollBack(&Generation{Number: 1, Key: "older", State: StateDeactivated}, false)
	case "compromise":
		c, _, err = s.markCompromised(&Generation{Number: 2, Key: "old", State: StateActive})
	case "pause":
		l.policy.Paused = true
	}
	l.log = append(l.log, fmt.Sprintf("%s -- %s: %v", l.now.Format(time.DateTime), name, err))
	if err == nil && c != nil {
		l.store(c)
	}
}

// check: every row that is not over has something that will move it, and says so.
func (l *life) check() {
	heads := 0
	for i := range l.rows {
		r := &l.rows[i]
		if r.Head {
			heads++
		}
		switch {
		case r.Status == StatusFailed && r.Error == "":
			l.t.Fatalf("it failed and does not say why: %+v", *r)
		case r.Status == StatusFailed, !r.Status.Open():
			if r.wake() != nil {
				l.t.Fatalf("it is %s and wakes: %+v", r.Status, *r)
			}
			if r.Head {
				l.t.Fatalf("it is %s and the head: %+v", r.Status, *r)
			}
		case r.Status == StatusHeld:
		case r.Status == StatusScheduled && r.Start.IsZero() && l.policy.Schedule == "":
		case r.wake() == nil && !(r.Parked && l.policy.Paused):
			l.t.Fatalf("nothing wakes %+v", *r)
		}
		if r.Switched && r.Head {
			l.t.Fatalf("it has switched and is the head: %+v", *r)
		}
	}
	if heads != 1 {
		l.t.Fatalf("%d heads: %+v", heads, l.rows)
	}
}

func (l *life) drawPolicy() {
	hours := func(name string, from, to int) Duration {
		return Duration(rapid.IntRange(from, to).Draw(l.t, name)) * Duration(time.Hour)
	}
	p := Policy{
		Name: "p", Account: "111122223333", Region: "eu-central-1", Alias: "alias/p",
		Schedule: rapid.SampledFrom([]string{"", "rate(5 days)", "rate(12 hours)", "cron(0 3 * * ? *)", "cron(30 2 ? * SUN#1 *)"}).Draw(l.t, "schedule"),
		Overlap:  hours("overlap", 1, 400), Suspend: hours("suspend", 1, 48), MaxAttempts: rapid.IntRange(1, 5).Draw(l.t, "attempts"),
	}
	if p.Schedule != "" && rapid.Bool().Draw(l.t, "windowed") {
		p.Window = hours("window", 1, 10)
	}
	if rapid.IntRange(0, 4).Draw(l.t, "mode") == 0 {
		p.Mode = ModeInstant
	} else {
		p.Lead = hours("lead", 1, 60)
	}
	if rapid.Bool().Draw(l.t, "destroy") {
		p.Destroy = &DestroyRule{}
	}
	if rapid.Bool().Draw(l.t, "freeze") {
		p.Freeze = []Period{{From: Date{2027, time.January, 10}, To: Date{2027, time.January, 20}}}
	}
	if err := p.Validate(); err != nil {
		l.t.Fatal(err)
	}
	l.policy = p.WithDefaults()
}

// TestMachine runs drawn lives: any outcome, crash, command and jump of the clock.
func TestMachine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := &life{t: t, now: time.Date(2027, 1, 4, 0, 0, 0, 0, time.UTC)}
		defer func() {
			if t.Failed() {
				for _, line := range l.log {
					t.Log(line)
				}
			}
		}()
		l.drawPolicy()
		l.rows = []Row{newRow("first", "policy", l.policy.nextTurn(l.now), l.now, l.now)}
		l.rows[0].Gen = 1
		for range rapid.IntRange(1, 150).Draw(t, "length") {
			if rapid.IntRange(0, 9).Draw(t, "what") == 0 {
				l.command()
			} else if i := l.due(); i >= 0 {
				if wake := l.rows[i].Wake(); wake.After(l.now) {
					l.now = wake.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "late")) * time.Minute)
				}
				l.step(i)
			}
			switch rapid.IntRange(0, 39).Draw(t, "clock") {
			case 0:
				l.now = l.now.Add(time.Duration(rapid.IntRange(1, 2000).Draw(t, "forward")) * time.Hour)
			case 1:
				l.now = l.now.Add(-time.Duration(rapid.IntRange(1, 100).Draw(t, "back")) * time.Hour)
			}
			l.check()
		}
	})
}

// TestTurnsComeInOrder: whatever the clock says when a rotation switches, the next turn
// of the calendar is a later one.
func TestTurnsComeInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := &life{t: t}
		l.drawPolicy()
		if l.policy.Schedule == "" {
			l.policy.Schedule = "rate(3 days)"
		}
		start := time.Date(2027, 1, 4, 0, 0, 0, 0, time.UTC)
		turn := l.policy.nextTurn(start)
		for range 20 {
			now := turn.start.Add(time.Duration(rapid.IntRange(-3000, 9000).Draw(t, "now")) * time.Minute)
			row := newRow("x", "policy", turn, start, start)
			row.Status, row.BegunAt, row.Step, row.Begun, row.Data.NewKey = StatusRunning, turn.due, StepSwitch, true, "new"
			row.Data.DoneAt = map[Step]time.Time{StepTest: turn.start}
			job := &Job{Row: row, Policy: &l.policy, Now: now}
			steps := KeySteps(&row, &l.policy)
			a := action{verb: verbDo, step: steps[stepIndex(steps, StepSwitch)]}
			c := after(job, a, steps, Outcome{}, nil, draw{id: "y"}, now)
			if len(c.Insert) != 1 {
				t.Fatalf("%d rotations follow", len(c.Insert))
			}
			follow := c.Insert[0]
			if !follow.Start.After(turn.start) {
				t.Fatalf("after the turn at %s, switched at %s, comes that of %s", turn.start, now, follow.Start)
			}
			if follow.Start.Before(now) {
				t.Fatalf("the next turn, %s, has passed at %s", follow.Start, now)
			}
			if follow.Due.After(follow.Start) {
				t.Fatalf("due %s after start %s", follow.Due, follow.Start)
			}
			turn = turn2(follow)
		}
	})
}

func turn2(r Row) turn { return turn{due: r.Due, start: r.Start, end: r.WindowEnd} }

func TestBackoff(t *testing.T) {
	for attempts, want := range []time.Duration{1: 5 * time.Second, 2: 10 * time.Second, 3: 20 * time.Second, 12: maxBackoff, 60: maxBackoff} {
		if want == 0 {
			continue
		}
		if got := backoff(5*time.Second, attempts, 0); got != want {
			t.Errorf("after %d attempts %s, want %s", attempts, got, want)
		}
		if got := backoff(5*time.Second, attempts, 0.999); got < want/2 || got > want*51/100 {
			t.Errorf("after %d attempts with jitter %s, want half of %s", attempts, got, want)
		}
	}
}
