// Package jwks publishes the public keys of a lineage: as a JWK set (RFC 7517),
// as PEM and as OpenSSH authorized_keys lines.
//
// A set holds the key that signs now, the one that will sign next and those that
// signed before and may still be needed to verify; it is computed at each
// request, so a key leaves at its deadline, not when something happens to run. A
// compromised key is never in it.
//
// Its promise to verifiers that honour Cache-Control: whenever they fetch, they
// have every key before anything is signed with it, and no key longer than
// its deadline. So a set is never fresh for longer than half the publication
// lead or than the overlap, nor beyond the moment at which one of its keys must leave.
//
// It trusts its Source for the states and times of generations, and the KMS for
// public keys. Everything here is public and served without authentication.
// When anything of a set cannot be had, no set is served: half a set
// would be an outage that looks like an answer.
package jwks

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// Source returns what is known of the alias ("alias/…") in the account and
// Region, or ErrNotFound when it is no lineage. It is called for every request,
// so it should be cheap, and must not be older than a second or two. The Lineage
// belongs to the caller afterwards. A Source must be safe for concurrent use.
type Source func(ctx context.Context, account, region, alias string) (*Lineage, error)

// ErrNotFound is a Source's answer when the alias is no lineage, or one without public keys.
var ErrNotFound = errors.New("the alias is not a lineage")

// Lineage is an alias and its generations.
type Lineage struct {
	// Lead is for how long at least every future key is published before it is used. Zero (the
	// bare swap) makes a set that must not be cached.
	Lead time.Duration
	// Overlap is for how long at least a key is still shown when it is no longer used. Zero: not at
	// all, which must not be cached either.
	Overlap time.Duration
	// Keys reads the public keys that are not known. Nil when all are.
	Keys PublicKeys
	// Generations in any order. Those that are not shown may be left out.
	Generations []Generation
}

// PublicKeys is the one call that is made; *kms.Client has it.
type PublicKeys interface {
	GetPublicKey(context.Context, *kms.GetPublicKeyInput, ...func(*kms.Options)) (*kms.GetPublicKeyOutput, error)
}

// Generation is one key of a lineage.
type Generation struct {
	Number int    // v1, v2, …: newer keys have greater numbers
	Key    string // key ARN
	State  State
	Usage  string // AWS's KeyUsage; when empty, the KMS is asked or the set leaves "use" out
	SPKI   []byte // SubjectPublicKeyInfo in DER; nil: asked of the KMS once and kept

	// NotBefore is the earliest instant at which it may be used (Next, and Hidden while it waits to
	// be published); zero: not known.
	NotBefore time.Time
	// Leaves is the instant at which it must no longer be shown, the end of its overlap; zero: none.
	Leaves time.Time
}

// State says how a generation stands in the set.
type State int

// States.
const (
	Hidden   State = iota // not shown: compromised, suspended, destroyed or not published yet
	Next                  // published, not used yet
	Current               // the alias names it
	Previous              // it was used, and is shown until it leaves
)

// shown returns the generations that belong into a set at the instant now: the current one first
// (for verifiers so simple that they look at one key only), then the next, then the previous ones,
// newest first.
func (l *Lineage) shown(now time.Time) []Generation {
	rank := map[State]int{Current: 0, Next: 1, Previous: 2}
	var list []Generation
	for _, g := range l.Generations {
		if g.State == Hidden || !g.Leaves.IsZero() && !now.Before(g.Leaves) {
			continue
		}
		list = append(list, g)
	}
	slices.SortStableFunc(list, func(a, b Generation) int {
		if a.State != b.State {
			return rank[a.State] - rank[b.State]
		}
		return b.Number - a.Number
	})
	return list
}

// longestMaxAge bounds how long a set may be cached however long the lead is: after so long a
// key that turned out to be compromised has left every cache, and a lead that was made shorter
// is still longer than what was promised before.
const longestMaxAge = time.Hour

// maxAge returns for how long a set computed at the instant now may be cached, in whole seconds.
//
// A set fetched just before a key is published lacks it and must be gone when the key is first
// used, a lead later: half the lead leaves the other half to slow clocks and slow clients.
// One fetched just before the current key is replaced must be gone when that one's overlap ends.
func (l *Lineage) maxAge(now time.Time) time.Duration {
	age := min(l.Lead/2, l.Overlap, longestMaxAge)
	for _, g := range l.Generations {
		switch {
		case g.State != Hidden && now.Before(g.Leaves):
			age = min(age, g.Leaves.Sub(now))
		case g.State == Hidden && now.Before(g.NotBefore):
			age = min(age, g.NotBefore.Sub(now)/2)
		}
	}
	return max(age, 0).Truncate(time.Second)
}
