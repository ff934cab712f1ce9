package rotation

import "time"

// State is the state of a generation, as NIST SP 800-57 part 1 names them.
type State string

// States.
const (
	StatePreActivation State = "pre-activation" // made, perhaps published; never used
	StateActive        State = "active"         // signs or encrypts
	StateDeactivated   State = "deactivated"    // verifies or decrypts only
	StateSuspended     State = "suspended"      // disabled, perhaps pending deletion; can come back
	StateCompromised   State = "compromised"    // disabled, and nothing made with it is trusted
	StateDestroyed     State = "destroyed"      // gone; only its public half is kept
)

// Made says where a generation's key came from.
type Made string

// Origins of a generation.
const (
	MadeByKeyturn Made = "made"
	MadeAdopted   Made = "adopted"
)

// Generation is one key of a lineage. Times are zero until they come.
type Generation struct {
	Target string // of the lineage
	Alias  string // ARN of the lineage's alias
	Number int    // v1, v2, …; unique in the lineage, never used again
	Key    string // key ARN; of a Multi-Region key that in the Region of the lineage
	State  State
	Made   Made
	Active bool // the alias names it
	Spec   string
	Usage  string
	Public []byte // SubjectPublicKeyInfo in DER; nil for symmetric and HMAC keys; kept for ever
	Note   string // what is worth knowing about it, for people

	Regions []string `json:",omitzero"` // of a Multi-Region key: all Regions that it was seen in, that of the primary key first

	CreatedAt     time.Time // when Keyturn first recorded it
	PublishedAt   time.Time
	ActivatedAt   time.Time
	DeactivatedAt time.Time
	OverlapEnds   time.Time // until then it may be needed to verify or decrypt; zero: not deactivated, or for ever
	SuspendedAt   time.Time
	DeletionAt    time.Time // of a scheduled deletion
	CompromisedAt time.Time
	DestroyedAt   time.Time
}

// GenerationChange is what a step learned about a generation. It is stored in
// the same transaction as the step; the times that go with a new State and with
// Published are the machine's. Doing it twice changes nothing.
type GenerationChange struct {
	Key       string // key ARN: which generation; a new one gets the lineage's next number
	State     State  // empty: unchanged
	Made      Made   // of a new one; default made
	Published bool   // it is published from now on
	Current   bool   // the alias names it now

	Spec, Usage string    // empty: unchanged
	Public      []byte    // nil: unchanged
	Note        string    // empty: unchanged
	Regions     []string  // nil: unchanged
	DeletionAt  time.Time // zero: unchanged

	at          time.Time // set by the machine
	overlapEnds time.Time
}
