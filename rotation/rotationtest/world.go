package rotationtest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/keyturn/keyturn/rotation"
)

// KeyState is the state of a key in the World.
type KeyState string

// Key states.
const (
	Enabled  KeyState = "Enabled"
	Disabled KeyState = "Disabled"
	Pending  KeyState = "PendingDeletion"
	Gone     KeyState = "gone"
)

// Key is a key of the World.
type Key struct {
	ARN         string
	Token       string // tag; empty: made by another hand
	State       KeyState
	Tested      bool
	PublishedAt time.Time // when alias/x/next named it first
	LeftAt      time.Time // when the alias last stopped naming it; zero: it never did, or it names it now
	Used        bool      // the alias has named it
	Revoked     bool
	Deactivated bool
	DeletionAt  time.Time
}

// World is a strict model of a place where keys live behind one alias. It keeps the
// rules that must hold at each call by itself: what breaks one is a violation, kept
// and refused. It is also the rotation.Rotator that turns them. It is safe for
// concurrent use.
type World struct {
	Faults *Faults
	Now    func() time.Time
	Policy rotation.Policy // for its lead, overlap and adoption, as the rules are to be

	mu         sync.Mutex
	keys       []*Key
	alias      string // key that it names
	next       string
	previous   string
	emergency  bool // a compromise is under way: no lead
	wanted     map[string]bool
	violations []string
}

// NewWorld returns a world in which the policy's alias names one key of another hand.
func NewWorld(p rotation.Policy, now func() time.Time) *World {
	w := &World{Faults: &Faults{}, Now: now, Policy: p.WithDefaults(), wanted: map[string]bool{}}
	w.keys = []*Key{{ARN: w.arn(1), State: Enabled, Tested: true, Used: true}}
	w.alias = w.keys[0].ARN
	return w
}

func (w *World) arn(n int) string {
	return fmt.Sprintf("arn:aws:kms:%s:%s:key/%08d-0000-0000-0000-%s", w.Policy.Region, w.Policy.Account, n, w.Policy.Account)
}

// Alias returns the key that the alias names.
func (w *World) Alias() Key {
	w.mu.Lock()
	defer w.mu.Unlock()
	return *w.find(w.alias)
}

// Keys returns all keys there ever were, oldest first.
func (w *World) Keys() []Key {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]Key, len(w.keys))
	for i, k := range w.keys {
		all[i] = *k
	}
	return all
}

// Violations returns the rules that were broken.
func (w *World) Violations() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.violations)
}

// MoveAlias is another hand: it makes a key, and lets the alias name it.
func (w *World) MoveAlias() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := &Key{ARN: w.arn(len(w.keys) + 1), State: Enabled, Tested: true}
	w.keys = append(w.keys, k)
	w.point(k)
	return k.ARN
}

// PointAlias is another hand: it lets the alias name a key.
func (w *World) PointAlias(arn string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.point(w.find(arn))
}

// Want lets callers ask for the key, which a watch must notice; or no longer.
func (w *World) Want(arn string, wanted bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wanted[arn] = wanted
}

func (w *World) find(arn string) *Key {
	for _, k := range w.keys {
		if k.ARN == arn {
			return k
		}
	}
	return &Key{ARN: arn, State: Gone}
}

func (w *World) violate(format string, args ...any) error {
	v := fmt.Sprintf(format, args...)
	w.violations = append(w.violations, v)
	return rotation.Permanent(fmt.Errorf("the world refuses: %s", v), "")
}

func (w *World) point(k *Key) {
	if w.alias == k.ARN {
		return
	}
	w.find(w.alias).LeftAt = w.Now()
	w.alias = k.ARN
	k.Used, k.LeftAt = true, time.Time{}
}

// call makes one call to the world, which may go wrong.
func (w *World) call(ctx context.Context, name string, apply func() error) error {
	return w.Faults.Call(ctx, name, func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		return apply()
	})
}

// create makes a key.
func (w *World) create(token string) *Key {
	k := &Key{ARN: w.arn(len(w.keys) + 1), Token: token, State: Enabled}
	w.keys = append(w.keys, k)
	return k
}

// update moves the alias from one key to another, by the rules.
func (w *World) update(from, to string) error {
	k := w.find(to)
	lead := w.Policy.Lead
	switch {
	case w.alias != from:
		return rotation.Drift("point the alias back", "the alias names %s, not %s", w.alias, from)
	case k.State != Enabled:
		return w.violate("the alias is moved to %s, which is %s", to, k.State)
	case !k.Tested:
		return w.violate("the alias is moved to %s, which was not tested", to)
	case k.Used || w.emergency || w.Policy.Mode == rotation.ModeInstant:
	case k.PublishedAt.IsZero():
		return w.violate("the alias is moved to %s, which was not published", to)
	case w.Now().Before(k.PublishedAt.Add(time.Duration(lead))):
		return w.violate("the alias is moved to %s, published for %s only", to, w.Now().Sub(k.PublishedAt))
	}
	w.point(k)
	return nil
}

// harm disables or deletes a key, by the rules.
func (w *World) harm(arn, what string) (*Key, error) {
	k := w.find(arn)
	overlap := w.Policy.Overlap
	if overlap == 0 {
		overlap = rotation.Duration(30 * 24 * time.Hour)
	}
	switch {
	case w.alias == arn:
		return k, w.violate("%s %s, which the alias names", what, arn)
	case k.Revoked:
	case k.Token == "" && w.Policy.Adopt != rotation.AdoptFull:
		return k, w.violate("%s %s, which another hand made", what, arn)
	case k.Used && overlap == rotation.Forever:
		return k, w.violate("%s %s, whose overlap does not end", what, arn)
	case k.Used && w.Now().Before(k.LeftAt.Add(time.Duration(overlap))):
		return k, w.violate("%s %s, whose overlap ends in %s", what, arn, k.LeftAt.Add(time.Duration(overlap)).Sub(w.Now()))
	}
	return k, nil
}
