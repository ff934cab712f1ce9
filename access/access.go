// Package access is the one door: it knows callers by their access keys, decides what they may do, and records both the
// decision and the outcome.
//
// It promises that nothing is decided without a trace: Check of a call that changes something returns only when its
// decision is durable in the audit log, Finish only when the outcome is, and when the log cannot be written both fail, so
// that the act does not happen or its answer is not released. It promises that a change of an access key or a policy is in
// force on this node when the write that made it returns, and on every other within a second; a node that cannot hear of
// changes asks the database for each request. A warm credential costs no database read.
//
// It trusts the audit log to be durable, the sealer to bind what it seals to the associated data, and awsapi to compare
// the signature before it sets Call.Caller. It does not trust the database with secrets: secret access keys are sealed, with
// their row's names as associated data, so that whoever can write the database still cannot put one user's secret in
// another's row. Sessions are sealed the same way and stored nowhere: see Session. What it cannot see through: whoever holds the root key or this process' memory holds every secret.
//
// Secrets leave it in two ways only, Secret.Reveal and the answers that make them, to CreateAccessKey and of STS.
package access

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/sqldb"
)

// A Sealer protects secrets at rest. Open must fail unless the associated data is what Seal was given. Both are called by
// many goroutines at once and keep none of their arguments.
type Sealer interface {
	Seal(plaintext, associated []byte) ([]byte, error)
	Open(ciphertext, associated []byte) ([]byte, error)
}

// Config is what a Guard stands on. All but Now are required.
type Config struct {
	DB     *sqldb.DB
	Log    *audit.Log
	Sealer Sealer
	Now    func() time.Time // nil: time.Now
}

// A Guard decides and records. It is safe for concurrent use.
type Guard struct {
	db     *sqldb.DB
	log    *audit.Log
	sealer Sealer
	now    func() time.Time

	epochs     [256]atomic.Uint64  // shard → number of changes heard of
	stored     bounded[*entry]     // access key id → credential that was read from the database
	principals bounded[*principal] // unique id → user or role that was read from the database
	sessions   bounded[*session]   // access key id → session whose token was opened
	missing    *missing
	loads      chan struct{} // holds a token for each credential or principal being read

	ephemeral sync.Map // access key id → *ephemeral
	used      sync.Map // access key id → *lastUse, of stored credentials
}

// Open makes a guard over an open database.
func Open(_ context.Context, c Config) (*Guard, error) {
	if c.DB == nil || c.Log == nil || c.Sealer == nil {
		return nil, errors.New("opening access: database, audit log and sealer are required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	g := &Guard{
		db: c.DB, log: c.Log, sealer: c.Sealer, now: c.Now,
		missing: newMissing(), loads: make(chan struct{}, maxLoads),
	}
	g.db.OnChange(func(s sqldb.Shard) { g.epochs[s].Add(1) })
	return g, nil
}

// Healthy returns the error that makes every Check and Finish fail, nil when there is none.
func (g *Guard) Healthy() error { return g.log.Healthy() }
