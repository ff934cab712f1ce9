package rotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Rotator knows one kind of thing that turns. It must be safe for concurrent
// use and keep no state of its own between calls.
type Rotator interface {
	// Steps returns the steps of row's kind, in order. It is pure. Names and order depend on the
	// kind alone; the rest may follow p and what row has recorded.
	Steps(row *Row, p *Policy) []StepDef

	// Do does job.Row.Step once. It must be idempotent under job.Row.Token: any earlier attempt may
	// have been applied, whole or in part, whatever it reported. It must make no call after ctx has
	// ended: from then on another engine may do the step. An error that Permanent or Drift made ends
	// the attempts; any other is tried again later.
	Do(ctx context.Context, job *Job) (Outcome, error)

	// Plan tells what a rotation would do, without changing anything: for each step the calls, and
	// every check that can be made beforehand.
	Plan(ctx context.Context, job *Job) (*Plan, error)
}

// Job is one step to do. The rotator may read it all and owns nothing in it.
type Job struct {
	Row    Row // a copy
	Policy *Policy
	Target Target
	Now    time.Time

	// Closed means that an earlier attempt of the step may have been applied, but that it must not be done
	// now: the window has closed, a freeze has begun, or the attempts are used up. The rotator only looks. When the step has been done it says so as
	// ever; when not, it changes nothing and returns ErrNotDone.
	Closed bool

	Active *Generation // that the lineage says the alias names; nil: the lineage is new
	Old    *Generation // of Row.Data.OldKey; nil when that is empty or not yet recorded
	New    *Generation // of Row.Data.NewKey; likewise
	Next   int         // the number that the lineage gives to its next new generation

	// Follows are the other Regions in which the alias turns with the lineage, as the last inspection found.
	Follows []string
	// TurnedBy answers which policy turns another alias at the target, or "".
	TurnedBy func(ctx context.Context, aliasARN string) (policy string, err error)

	held *Row // Row.Data.Holds
}

// Target is a place that speaks the AWS APIs.
type Target struct {
	Name    string
	Account string
	Region  string
	Config  aws.Config // rotators make their clients from it; for other Regions from a copy that names those
	Local   bool       // this server: it enforces generation states itself
}

// TargetLocal is the name of this server as a target.
const TargetLocal = "local"

// Targets finds the target of a policy. It is called for every step, so it should
// keep what is dear to make. An error is tried again like that of a step.
type Targets func(ctx context.Context, p *Policy) (Target, error)

// Outcome is what a step found and did. Everything in it is stored in one
// transaction with the fact that the step is done.
type Outcome struct {
	// Of Data only these are taken, and only when not empty: OldKey, NewKey, Spec, Usage, and Notes key by key.
	Data        Data
	Generations []GenerationChange
	// Follows, when not nil, are the other Regions in which aliases of the same name turn with the lineage.
	Follows []string

	// Wait means that the step is not done yet and is to be done again after that long. It is no failure.
	Wait time.Duration
	// Person, with a nil error, means that the step is not done and only a person can say how to go on:
	// the row is failed, with Person as the reason and Hint, and goes on at Back (default: the same step)
	// when it is resumed.
	Person, Hint string
	Back         Step

	Note string // for the history: what was done, in one sentence, no secrets
}

// Plan is what a rotation would do.
type Plan struct {
	Policy   string
	Old      string        `json:",omitzero"` // the present key: ARN, and spec and usage in words
	New      string        `json:",omitzero"` // what its successor would be
	Steps    []PlannedStep // in order
	Checks   []Check       // permissions, quotas, policy validity, who depends on it
	Warnings []string      `json:",omitzero"` // a migration of spec, grants to review, …
}

// PlannedStep is one step of a plan. The engine fills in Step, At and Skip, the
// rotator Calls.
type PlannedStep struct {
	Step  Step
	At    time.Time `json:",omitzero"` // when at the earliest; zero: not known
	Calls []string  `json:",omitzero"` // as "CreateKey (RSA_2048, SIGN_VERIFY)"
	Skip  string    `json:",omitzero"` // why it would be left out
}

// Check is one thing that was looked at beforehand.
type Check struct {
	Name   string
	OK     bool
	Detail string `json:",omitzero"`
	Hint   string `json:",omitzero"` // what to do when it is not OK
}

// StepError is an error that further attempts cannot mend, of a step that was not
// applied: only then may its rotation be canceled. Drift means that
// another hand changed something under the rotation; nothing was overwritten.
type StepError struct {
	Err   error
	Hint  string // what a person can do
	Drift bool
}

func (e *StepError) Error() string { return e.Err.Error() }
func (e *StepError) Unwrap() error { return e.Err }

// ErrNotDone answers a Job that is Closed: the step has not been done.
var ErrNotDone = errors.New("the step has not been done")

// Permanent marks err as one that trying again cannot mend. It also says that
// the step has not been applied.
func Permanent(err error, hint string) error { return &StepError{Err: err, Hint: hint} }

// Drift reports that another hand changed something; hint says what to do about it.
func Drift(hint, format string, args ...any) error {
	return &StepError{Err: fmt.Errorf(format, args...), Hint: hint, Drift: true}
}

// asStepError finds the StepError in err, or nil.
func asStepError(err error) *StepError {
	var e *StepError
	if errors.As(err, &e) {
		return e
	}
	return nil
}
