// Package kms is the AWS Key Management Service: keys, aliases, key policies,
// grants, tags and everything that is done with keys, as AWS does it.
//
// It promises what AWS documents for each operation: the same checks, error
// codes and wording. Every operation reads find, check, act, record: it finds
// the key, asks the Guard (which decides and writes the decision down), looks
// whether state and usage allow it, and only then acts. A key that is disabled
// or whose policy changed is unusable at once on this node, and within a
// second on every other node of the database.
//
// It trusts the Guard for who the caller is and what he may do, the key store
// for the cryptography, and the database to keep what it acknowledged. Who can
// write to the database can change policies and states; he cannot read key
// material, nor move it to another key, because it is sealed under the name of
// its row.
//
// It fails closed: when the database cannot be read, or a node cannot hear of
// changes, nothing is answered from memory; a stored policy that no longer
// parses allows nothing; material that does not open is not used.
package kms

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/keystore"
	"github.com/keyturn/keyturn/sqldb"
)

// Config is what a Service works with. DB, Guard, Backend and Sealer are required.
type Config struct {
	DB       *sqldb.DB
	Guard    *access.Guard
	Backend  keystore.Backend
	Sealer   access.Sealer    // for the tokens that callers are given
	Now      func() time.Time // nil: time.Now
	Logger   *slog.Logger     // nil: slog.Default
	Lineages Lineages         // nil: no alias is a lineage
	Regions  []string         // that keys may be replicated to; empty: any

	Quotas     Quotas
	RateLimits RateLimits

	// MaxSnapshots is how many keys, how many aliases and how many callers' grants
	// are kept ready at most; 0 means 8192. A key in use costs some kilobytes (an RSA key about
	// ten), an idle one nothing: what was not used for IdleAfter is dropped.
	MaxSnapshots int
	IdleAfter    time.Duration // 0: ten minutes

	// MinRotationDays is the shortest period that EnableKeyRotation takes; 0 means
	// AWS's 90 days.
	MinRotationDays int

	// DeletionGrace is how long after its date, at least, a key is destroyed:
	// it must have been seen overdue that long before, so that a clock that
	// jumps ahead and is corrected destroys nothing. 0 means one hour, a
	// negative value none. (AWS promises the deletion within a day.)
	DeletionGrace time.Duration
}

// Lineages knows the aliases that Keyturn turns. It is asked only when a
// snapshot is built, and whoever changes an answer must Touch the ARN that it
// is about in the same transaction. Safe for concurrent use.
type Lineages interface {
	// Lineage returns the ARNs of the keys that may still verify and decrypt
	// for the alias, newest first; empty when the alias is no lineage.
	Lineage(ctx context.Context, aliasARN string) ([]string, error)
	// Deactivated reports whether the key may no longer originate: no Sign,
	// Encrypt, GenerateDataKey, GenerateMac, Encapsulate, nor be the destination
	// of ReEncrypt.
	Deactivated(ctx context.Context, keyARN string) (bool, error)
}

// Service performs the operations. It is safe for concurrent use, and any
// number of Services, in as many processes, may share a PostgreSQL database.
type Service struct {
	db       *sqldb.DB
	guard    *access.Guard
	backend  keystore.Backend
	sealer   access.Sealer
	now      func() time.Time
	logger   *slog.Logger
	lineages atomic.Pointer[Lineages]
	regions  []string
	grace    time.Duration

	rotations       atomic.Pointer[Rotations]
	minRotationDays int

	snapshots *snapshots
	policies  compiledPolicies
	usage     usageLog
	quotas    Quotas
	tally     tally
	rates     *rates // nil: no limits
}

// New returns a Service on a database that is open. Nothing is read before the
// first request, so start time does not depend on the number of keys.
func New(_ context.Context, c Config) (*Service, error) {
	if c.DB == nil || c.Guard == nil || c.Backend == nil || c.Sealer == nil {
		return nil, errors.New("starting kms: DB, Guard, Backend and Sealer are required")
	}
	if err := errors.Join(c.Quotas.Check(), c.RateLimits.Check()); err != nil {
		return nil, fmt.Errorf("starting kms: %w", err)
	}
	s := &Service{
		db: c.DB, guard: c.Guard, backend: c.Backend, sealer: c.Sealer, now: c.Now, logger: c.Logger, regions: c.Regions,
		quotas: c.Quotas.withDefaults(), rates: newRates(c.RateLimits),
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.logger == nil {
		s.logger = slog.Default()
	}
	switch {
	case c.DeletionGrace == 0:
		s.grace = time.Hour
	case c.DeletionGrace > 0:
		s.grace = c.DeletionGrace
	}
	if c.MaxSnapshots <= 0 {
		c.MaxSnapshots = 8192
	}
	if c.IdleAfter <= 0 {
		c.IdleAfter = 10 * time.Minute
	}
	if s.minRotationDays = c.MinRotationDays; s.minRotationDays <= 0 {
		s.minRotationDays = minRotationDays
	}
	s.snapshots = newSnapshots(c.MaxSnapshots, c.IdleAfter)
	s.SetLineages(c.Lineages)
	c.DB.OnChange(s.snapshots.invalidate)
	return s, nil
}

// SetLineages replaces the lineages, for the one who makes them needs a Service
// first. What was answered from the old ones is forgotten. nil: none.
func (s *Service) SetLineages(l Lineages) {
	if l == nil {
		s.lineages.Store(nil)
	} else {
		s.lineages.Store(&l)
	}
	s.snapshots.invalidateAll()
}

// How often Run looks for deletions that are due, and writes down last uses.
// A crash loses at most the last uses since the flush before.
const (
	tickInterval  = 10 * time.Second
	flushAtTheEnd = 5 * time.Second
)

// Run does the work that no request does, until ctx ends: keys whose date of
// deletion has come are destroyed, imported material whose time is over is
// taken away, last uses are written down, idle snapshots are dropped. It returns
// nil after a last flush. Any number of nodes may run it. Errors are logged and
// tried again at the next tick.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(tickInterval)
	defer tick.Stop()
	for {
		if _, err := s.RunOnce(ctx); err != nil && ctx.Err() == nil {
			s.logger.Error("kms housekeeping", "error", err)
		}
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushAtTheEnd)
			defer cancel()
			if err := s.flushUsage(last); err != nil {
				return fmt.Errorf("writing last uses at the end: %w", err)
			}
			return nil
		case <-tick.C:
		}
	}
}

// RunOnce is one turn of Run. worked is whether a key or a material was
// destroyed, or came nearer to it.
func (s *Service) RunOnce(ctx context.Context) (worked bool, err error) {
	s.snapshots.dropIdle(s.now())
	errs := []error{s.flushUsage(ctx)}
	for _, do := range []func(context.Context) (bool, error){s.deleteDue, s.expireDue, s.destroyCondemned} {
		did, err := do(ctx)
		worked = worked || did
		errs = append(errs, err)
	}
	return worked, errors.Join(errs...)
}
