package rotation

import (
	"container/heap"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// CalendarEntry is one thing that would happen.
type CalendarEntry struct {
	At       time.Time
	Policy   string // name
	Alias    string
	Rotation int    `json:",omitzero"` // counts the rotations of the policy that begin in the simulation, from 1
	Step     Step   `json:",omitzero"` // done at At; empty: only the warning
	Note     string `json:",omitzero"` // which key: "v2"
	Warning  string `json:",omitzero"` // what a person should know about it beforehand
}

// Simulate returns what the policies would do between from and to, in the order
// of time: each step of each rotation, at most limit entries. It is pure: nothing is done and
// nothing is asked.
//
// The policies are put at from, and every step succeeds at once. What happens when is decided by
// the machine that runs the engine, next and after, so the calendar cannot differ from what
// the engine would do. Warnings come where a person would wonder: once for each policy about what
// follows from its numbers (an overlap longer than the interval, a bare swap, a pause), and
// each time when a freeze, a window or a limit moves something.
//
// It fails when a policy is not valid, or its rotator does not turn keys.
func Simulate(policies []*Policy, from, to time.Time, limit int) ([]CalendarEntry, error) {
	if limit < 1 {
		return nil, fmt.Errorf("simulating policies: the limit must be at least 1, not %d", limit)
	}
	s := &simulation{limit: limit, now: from}
	for _, p := range policies {
		if err := p.Validate(); err != nil {
			return nil, fmt.Errorf("simulating policy %s: %w", clip(p.Name), err)
		}
		full := p.WithDefaults()
		if full.Rotator != "key" {
			return nil, fmt.Errorf("simulating policy %s: its rotator %s is not simulated, only key is", full.Name, full.Rotator)
		}
		l := &ideal{
			policy: &full, usage: usageOf(&full), active: "v1", keys: 1, made: map[string]Made{"v1": MadeAdopted}, warned: map[string]bool{},
		}
		// As when the policy is put.
		s.schedule(l, newRow("", full.Name, full.nextTurn(from), from, from))
		s.foresee(l)
	}
	for len(s.due) > 0 && len(s.calendar) < s.limit {
		item := heap.Pop(&s.due).(*idealRow)
		if item.wake.After(to) {
			break
		}
		s.now = item.wake
		if err := s.work(item); err != nil {
			return nil, fmt.Errorf("simulating policy %s: %w", item.lineage.policy.Name, err)
		}
	}
	return s.calendar, nil
}

// simulation is the state of a Simulate: rows instead of a table, and a clock that jumps.
type simulation struct {
	now      time.Time
	due      dueRows
	made     int // rows ever
	calendar []CalendarEntry
	limit    int
}

// ideal is a lineage whose every step succeeds. Its keys are called v1, v2, …
type ideal struct {
	policy *Policy
	usage  string
	active string
	keys   int
	made   map[string]Made // key → where it came from; only those that are not destroyed
	begun  []time.Time     // newest first, at most maxKeysPerDay
	turns  int
	warned map[string]bool // warnings given, by text or topic
}

// idealRow is a row in the queue.
type idealRow struct {
	lineage *ideal
	row     Row
	wake    time.Time
	order   int    // of rows due at one time
	turn    int    // Rotation of its entries
	held    string // what has held it up since its last step
	stalled int    // how often it was looked at without a change
}

// work does what the engine does with a due row.
func (s *simulation) work(item *idealRow) error {
	l, now := item.lineage, s.now
	steps := KeySteps(&item.row, l.policy)
	a := next(&item.row, l.policy, steps, now)
	job := &Job{Row: item.row, Policy: l.policy, Now: now}
	d := draw{id: strconv.Itoa(s.made), token: "simulated", node: "simulation"}
	if limit := l.policy.MaxKeysPerDay; a.verb == verbDo && item.row.Status == StatusScheduled && len(l.begun) == limit {
		if free := l.begun[limit-1].Add(day); free.After(now) {
			a = a.wait(free, "the policy's maxKeysPerDay are used up")
			item.hold("the start of " + stampIn(l.policy, item.row.Start) + " finds " + strconv.Itoa(limit) + " rotations begun within a day (maxKeysPerDay)")
		}
	}
	if a.verb != verbDo {
		return s.rest(item, job, a, d)
	}
	c := claim(item.row, a, nil, d, now, time.Minute)
	if item.turn == 0 {
		l.turns++
		item.turn = l.turns
		l.begun = slices.Insert(l.begun, 0, now)
		l.begun = l.begun[:min(len(l.begun), l.policy.MaxKeysPerDay)]
	}
	job.Row = c.Row
	out := l.do(job)
	c = after(job, a, KeySteps(&job.Row, l.policy), out, nil, d, now)
	if out.Wait == 0 {
		s.record(item, a.step.Name, &c.Row.Data)
	}
	s.store(item, c)
	return nil
}

// rest stores that a row is not to be worked on now, and keeps why for its next step.
func (s *simulation) rest(item *idealRow, job *Job, a action, d draw) error {
	switch a.verb {
	case verbMove:
		item.hold("the window of " + stampIn(job.Policy, item.row.Start) + " was missed")
	case verbPark:
		s.warnOnce(item.lineage, warnPaused)
	case verbWait:
		if p, frozen := item.lineage.frozen(s.now); frozen && a.until.Equal(job.Policy.thaw(s.now)) {
			item.hold("the freeze " + p.String() + " holds it up from " + stampIn(job.Policy, s.now))
		}
	case verbPerson:
		s.warn(item.lineage, a.why)
	}
	c := rest(job, a, d, s.now)
	if c == nil {
		return fmt.Errorf("a rotation is due and there is nothing to do: %s", a.why)
	}
	if item.stalled++; item.stalled > 1000 {
		return fmt.Errorf("a rotation does not come forward: %s", a.why)
	}
	s.store(item, c)
	return nil
}

func (i *idealRow) hold(why string) {
	if i.held != "" {
		why = i.held + "; " + why
	}
	i.held = why
}

const warnPaused = "the policy is paused: nothing happens until it is resumed"

// store applies a change to the rows.
func (s *simulation) store(item *idealRow, c *Change) {
	switched := c.Row.Switched && !item.row.Switched
	item.row = c.Row
	if switched {
		item.lineage.active = c.Row.Data.NewKey
	}
	for _, row := range c.Insert {
		if switched {
			s.compare(item, &row)
		}
		s.schedule(item.lineage, row)
	}
	s.queue(item)
}

// queue puts a row where the clock will come to it. What was due before, is due now.
func (s *simulation) queue(item *idealRow) {
	wake := item.row.Wake()
	if item.row.Status.Open() && !wake.IsZero() {
		item.wake = latest(s.now, wake)
		heap.Push(&s.due, item)
	}
}

// schedule queues a new row, with a warning when a freeze has moved it.
func (s *simulation) schedule(l *ideal, row Row) {
	s.made++
	row.ID = strconv.Itoa(s.made)
	item := &idealRow{lineage: l, row: row, order: s.made}
	switch {
	case !row.Start.IsZero():
		if start, p := l.frozenStart(&row, s.now); !start.IsZero() {
			item.hold("the start of " + stampIn(l.policy, start) + " falls into the freeze " + p.String())
		}
	case l.policy.Schedule != "":
		s.warnOnce(l, "the schedule "+l.policy.Schedule+" has no further start outside the freezes: from now on it turns by hand only")
	}
	s.queue(item)
}

// frozen returns the freeze that t lies in.
func (l *ideal) frozen(t time.Time) (Period, bool) {
	c, err := l.policy.calendar()
	if err != nil || c == nil {
		return Period{}, false
	}
	return c.Frozen(t)
}

// frozenStart returns the start that row would have without freezes, if that lies in one.
func (l *ideal) frozenStart(row *Row, now time.Time) (time.Time, Period) {
	if len(l.policy.Freeze) == 0 {
		return time.Time{}, Period{}
	}
	free := *l.policy
	free.Freeze = nil
	start := free.followingTurn(row.Base, now).start
	if p, frozen := l.frozen(start); frozen && start.Before(row.Start) {
		return start, p
	}
	return time.Time{}, Period{}
}

// do is the rotator to whom everything succeeds.
func (l *ideal) do(job *Job) Outcome {
	data := &job.Row.Data
	switch job.Row.Step {
	case StepInspect:
		job.Active = &Generation{Key: l.active, Made: l.made[l.active]}
		return Outcome{Data: Data{OldKey: l.active, Usage: l.usage, Spec: job.Policy.Spec}}
	case StepCreate:
		l.keys++
		key := "v" + strconv.Itoa(l.keys)
		l.made[key] = MadeByKeyturn
		return Outcome{Data: Data{NewKey: key}}
	case StepWatch:
		if left := data.DoneAt[StepSuspend].Add(job.Policy.Suspend.std()).Sub(job.Now); left > 0 {
			return Outcome{Wait: left}
		}
	case StepConfirm:
		delete(l.made, data.OldKey)
	}
	return Outcome{}
}

// record enters a step that was done into the calendar.
func (s *simulation) record(item *idealRow, step Step, data *Data) {
	key := data.NewKey
	switch step {
	case StepInspect, StepDeactivate, StepSuspend, StepWatch, StepDestroy, StepConfirm:
		key = data.OldKey
	}
	s.enter(item.lineage, CalendarEntry{Rotation: item.turn, Step: step, Note: key, Warning: item.held})
	item.held, item.stalled = "", 0
}

// foresee warns of what follows from a policy's words alone.
func (s *simulation) foresee(l *ideal) {
	if l.policy.Paused {
		s.warnOnce(l, warnPaused)
	}
	for _, text := range l.policy.warnings() {
		s.warnOnce(l, text)
	}
}

// compare warns, at a switch, of what does not fit between it and the next rotation.
func (s *simulation) compare(item *idealRow, following *Row) {
	l, p := item.lineage, item.lineage.policy
	if following.Start.IsZero() || item.row.Start.IsZero() {
		return
	}
	interval := following.Start.Sub(item.row.Start)
	overlap := p.overlap(item.row.Data.Usage)
	if overlap != Forever && overlap.std() > interval && !l.warned["overlap"] {
		l.warned["overlap"] = true
		s.warn(l, fmt.Sprintf("the overlap (%s) is longer than the interval (%s): up to %d old generations are needed at once",
			overlap, about(interval), (overlap.std()+interval-1)/interval))
	}
	if p.Mode == ModeStaged && p.Lead.std() > interval && !l.warned["lead"] {
		l.warned["lead"] = true
		s.warn(l, fmt.Sprintf("the publication lead (%s) is longer than the interval (%s): rotations come late", p.Lead, about(interval)))
	}
}

// about writes an interval as policies do, in whole hours when it is long.
func about(d time.Duration) string {
	if d > 48*time.Hour {
		d = d.Round(time.Hour)
	}
	return Duration(d).String()
}

// warnOnce gives a warning about a policy for the first time only.
func (s *simulation) warnOnce(l *ideal, text string) {
	if !l.warned[text] {
		l.warned[text] = true
		s.warn(l, text)
	}
}

func (s *simulation) warn(l *ideal, text string) { s.enter(l, CalendarEntry{Warning: text}) }

func (s *simulation) enter(l *ideal, e CalendarEntry) {
	if len(s.calendar) < s.limit {
		e.At, e.Policy, e.Alias = s.now, l.policy.Name, l.policy.Alias
		s.calendar = append(s.calendar, e)
	}
}

// stampIn writes t as a clock in the policy's zone shows it.
func stampIn(p *Policy, t time.Time) string {
	if c, err := p.calendar(); err == nil && c != nil {
		t = t.In(c.location())
	}
	return t.Format("2006-01-02 15:04 MST")
}

// usageOf returns the usage of the keys a policy makes, as far as it says: it decides
// how long old ones are kept.
func usageOf(p *Policy) string {
	switch {
	case p.Usage != "":
		return p.Usage
	case p.Spec == "SYMMETRIC_DEFAULT":
		return usageEncrypt
	case strings.HasPrefix(p.Spec, "HMAC_"):
		return "GENERATE_VERIFY_MAC"
	case strings.HasPrefix(p.Spec, "ML_KEM_"):
		return "ENCAPSULATE_DECAPSULATE"
	}
	return "SIGN_VERIFY"
}

// dueRows is a heap by wake, then by order.
type dueRows []*idealRow

func (q dueRows) Len() int { return len(q) }
func (q dueRows) Less(i, j int) bool {
	if !q[i].wake.Equal(q[j].wake) {
		return q[i].wake.Before(q[j].wake)
	}
	return q[i].order < q[j].order
}
func (q dueRows) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *dueRows) Push(x any)   { *q = append(*q, x.(*idealRow)) }
func (q *dueRows) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	*q = (*q)[:last]
	return x
}
