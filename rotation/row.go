package rotation

import "time"

// Row is one rotation. The next rotation of each policy is itself a row, so one
// index over Wake finds all the work there is.
//
//	scheduled ─begin→ running ─────────all steps done────────→ done
//	    │               │  ↑                                     (switched on the way)
//	    │          limit│  │resume
//	    │               ↓  │
//	    │             failed ─next rotation begins→ superseded
//	    │               │
//	    └─cancel→ running as KindCancel ───────────────────────→ canceled
//
// A roll back is a row of its own. While it runs, the row that retires the
// generation it goes back to is held; it ends as rolled-back.
type Row struct {
	ID     string
	Policy string // ARN of the policy
	Gen    int64  // counts the writes to the row; fences every write
	Kind   Kind
	Status Status

	// Head marks the row that moves the alias next: scheduled, or begun and not yet
	// switched. Every policy has exactly one, or a database constraint is broken.
	Head bool

	Step     Step   // the next step, or the one under way; empty: the first one
	Begun    bool   // Step was begun, and may have been done
	Attempt  int    // failed attempts of Step so far
	Error    string // of the last attempt, or why it waits for a person
	Hint     string // what a person can do
	Switched bool   // the alias names the new generation

	Parked     bool      // the policy was paused when it became due
	Due        time.Time // when Step may be done next; zero: at no time, a person must act
	Start      time.Time // the window in which the rotation begins and switches
	WindowEnd  time.Time // zero: no window holds it back
	Wanted     time.Time // the first Start it had; later than that it is overdue
	Base       time.Time // the instant that Start was computed from
	Trigger    Trigger
	Token      string // drawn when the rotation begins: tags what it makes
	CreatedAt  time.Time
	BegunAt    time.Time
	SwitchedAt time.Time
	EndedAt    time.Time

	Owner      string    // node that holds the lease
	LeaseUntil time.Time // the step under way may have effects until then

	Data Data
}

// Wake returns when an engine must look at the row: zero for never.
func (r *Row) Wake() time.Time {
	if r.Parked {
		return time.Time{}
	}
	if r.LeaseUntil.After(r.Due) {
		return r.LeaseUntil
	}
	return r.Due
}

// Data is what the steps of a rotation have found and made. Times are kept by
// step, as absolute instants.
type Data struct {
	OldKey string `json:"oldKey,omitzero"` // ARN of the generation that the alias named when the rotation began; revoke: the compromised one
	NewKey string `json:"newKey,omitzero"` // ARN of the pending key; roll back: of the generation to go back to
	Spec   string `json:"spec,omitzero"`   // of OldKey
	Usage  string `json:"usage,omitzero"`  // of OldKey
	Made   Made   `json:"made,omitzero"`   // where OldKey came from

	DoneAt map[Step]time.Time `json:"doneAt,omitzero"` // step → when it was done; what waits count from
	Accept bool               `json:"accept,omitzero"` // a person accepts what stands behind the alias, though another hand put it there
	Holds  string             `json:"holds,omitzero"`  // roll back: the row that retires NewKey
	Cut    Step               `json:"cut,omitzero"`    // roll back: the step of Holds that was under way, and may have been applied
	Apart  bool               `json:"apart,omitzero"`  // asked for beside the schedule, which goes on as if it had not been
	Hidden bool               `json:"hidden,omitzero"` // roll back: NewKey has left the key set, or is about to, so verifiers must learn it anew
	AtOnce bool               `json:"atOnce,omitzero"` // roll back: whoever asked for it does not wait for verifiers
	Reason string             `json:"reason,omitzero"` // what the person who asked for it said

	Notes map[string]string `json:"notes,omitzero"` // the rotator's own; no secrets
}

// Kind is what a row does.
type Kind string

// Kinds. Which steps each has is up to the rotator.
const (
	KindRotate     Kind = "rotate"     // a new generation takes over
	KindCompromise Kind = "compromise" // the same at once, and the old one is revoked
	KindRevoke     Kind = "revoke"     // a generation that is not active is compromised
	KindRollBack   Kind = "roll-back"  // the previous generation takes over again
	KindCancel     Kind = "cancel"     // what a rotation made before its switch is removed
	KindAdopt      Kind = "adopt"      // the key behind the alias becomes the first generation
)

// moves reports whether rows of the kind move the alias.
func (k Kind) moves() bool {
	return k == KindRotate || k == KindCompromise || k == KindRollBack
}

// pauses reports whether a pause of the policy stops rows of the kind. What a person
// asks for in an emergency goes on.
func (k Kind) pauses() bool { return k == KindRotate || k == KindAdopt }

// Status is where a row stands.
type Status string

// Statuses.
const (
	StatusScheduled  Status = "scheduled"   // not begun
	StatusRunning    Status = "running"     // begun; between two steps it waits until Due
	StatusHeld       Status = "held"        // a roll back is under way that would make it pointless
	StatusFailed     Status = "failed"      // waits for a person; see Error and Hint
	StatusDone       Status = "done"        // all steps done
	StatusCanceled   Status = "canceled"    // and everything it had made is removed
	StatusRolledBack Status = "rolled-back" // the generation it made was left again
	StatusSuperseded Status = "superseded"  // another row took over what it had made
)

// Open reports whether something can still happen to a row of the status.
func (s Status) Open() bool {
	return s == StatusScheduled || s == StatusRunning || s == StatusHeld || s == StatusFailed
}

// Trigger is why a rotation began.
type Trigger string

// Triggers.
const (
	TriggerSchedule Trigger = "schedule"
	TriggerManual   Trigger = "manual" // a person asked: windows and freezes do not hold it back
	TriggerPolicy   Trigger = "policy" // the policy was put
)
