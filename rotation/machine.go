package rotation

import "time"

// verb is what an engine does with a row next.
type verb string

const (
	verbDo     verb = "do"     // begin the step, do it, store what came of it
	verbWait   verb = "wait"   // nothing before until
	verbMove   verb = "move"   // the window was missed: wait for turn
	verbFinish verb = "finish" // all steps are done
	verbPark   verb = "park"   // paused: nothing until a person resumes
	verbPerson verb = "person" // only a person can say how to go on
)

// action is the one thing to do with a row.
type action struct {
	verb    verb
	step    StepDef // do: the step; wait, move: the one that is waited for
	until   time.Time
	turn    turn
	skipped []StepDef // steps between the row's and this one, left out
	closed  bool      // do: see Job.Closed
	why     string
}

// next decides the one thing to do with row, which is scheduled or running. It is
// pure. Where it says that a step is to be done, all of this is true: every step
// before it is done or left out; its delay has passed by the row's own times; if it
// is windowed and nobody asked for the rotation by hand, the window is open and no
// freeze is on, or the step may have been done already and is only looked at.
func next(row *Row, p *Policy, steps []StepDef, now time.Time) action {
	if row.Status != StatusScheduled && row.Status != StatusRunning {
		return action{verb: verbPerson, why: "the rotation is " + string(row.Status)}
	}
	if p.Paused && row.Kind.pauses() {
		return action{verb: verbPark, why: "the policy is paused"}
	}
	first := stepIndex(steps, row.Step)
	if row.Step == "" {
		first = 0
	}
	if first < 0 || len(steps) == 0 {
		return action{verb: verbPerson, why: "the rotator no longer knows the step " + string(row.Step)}
	}
	var a action
	for i := first; i < len(steps); i++ {
		a.step = steps[i]
		begun := i == first && row.Begun
		if why := a.step.omitted(row, p); why != "" && !begun {
			a.step.Skip = why
			a.skipped = append(a.skipped, a.step)
			continue
		}
		ready, never := a.step.ready(row)
		switch {
		case begun:
		case never:
			a.verb, a.why = verbFinish, "nothing ends the overlap"
			return a
		case now.Before(ready):
			return a.wait(ready, "the "+string(a.step.After)+" must be "+a.step.Delay.String()+" old")
		}
		if now.Before(row.Due) {
			return a.wait(row.Due, "it is not due yet")
		}
		// What was begun may have been done, so it is looked at even if it may not be done now: because
		// the policy or the clock says otherwise than when it began, or because the attempts are
		// used up, and before the rotation is called failed it must be known that nothing was switched.
		if begun && (never || now.Before(ready) || a.step.Pivot && row.Attempt >= p.MaxAttempts) {
			a.verb, a.closed = verbDo, true
			return a
		}
		return a.inWindow(row, p, begun, now)
	}
	a.step, a.verb = StepDef{}, verbFinish
	return a
}

func (a action) wait(until time.Time, why string) action {
	a.verb, a.until, a.why = verbWait, until, why
	return a
}

// inWindow does the step of a when its window allows.
func (a action) inWindow(row *Row, p *Policy, begun bool, now time.Time) action {
	a.verb = verbDo
	if row.Trigger != TriggerSchedule || row.Switched {
		return a
	}
	if !a.step.Windowed && row.Status != StatusScheduled {
		return a
	}
	thaw := p.thaw(now)
	missed := a.step.Windowed && !row.WindowEnd.IsZero() && !now.Before(row.WindowEnd)
	early := a.step.Windowed && now.Before(row.Start)
	switch {
	case begun && (missed || early || !thaw.Equal(now)):
		a.closed = true
		return a
	case thaw.IsZero():
		a.verb, a.why = verbPerson, "the freeze never ends"
	case thaw.After(now):
		return a.wait(thaw, "a freeze is on")
	case early:
		return a.wait(row.Start, "its window has not opened")
	case missed:
		a.turn = p.lateTurn(now)
		if a.turn.start.IsZero() {
			a.verb, a.why = verbPerson, "its window was missed and the schedule has no further one"
			return a
		}
		a.verb, a.why = verbMove, "its window was missed"
	}
	return a
}

func stepIndex(steps []StepDef, name Step) int {
	for i := range steps {
		if steps[i].Name == name {
			return i
		}
	}
	return -1
}

// omitted says why the step is left out, or nothing.
func (d *StepDef) omitted(row *Row, p *Policy) string {
	switch {
	case d.Skip != "":
		return d.Skip
	case d.Harms && row.Data.Made == MadeAdopted && p.Adopt != AdoptFull:
		return "the old key was adopted, and the policy says to keep those"
	}
	return ""
}

// ready returns when the step's delay has passed; never when it does not pass.
func (d *StepDef) ready(row *Row) (at time.Time, never bool) {
	if d.Delay == 0 || d.After == "" {
		return time.Time{}, false
	}
	if d.Delay == Forever {
		return time.Time{}, true
	}
	since := row.Data.DoneAt[d.After]
	if since.IsZero() {
		return time.Time{}, false
	}
	return since.Add(d.Delay.std()), false
}

// pivotOf returns the step that switches; empty when the kind has none.
func pivotOf(steps []StepDef) Step {
	for i := range steps {
		if steps[i].Pivot {
			return steps[i].Name
		}
	}
	return ""
}
