package kms

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/keystore"
	"github.com/keyturn/keyturn/sqldb"
)

// A keySnapshot is everything a cryptographic operation needs of a key, as it
// stood in the database at one moment. It is immutable but for the older
// materials that it opens when they are asked for; when the row changes, the
// next request makes another.
type keySnapshot struct {
	keyFacts
	state       string
	materialID  string    // of the current material
	deactivated bool      // a generation that verifies and decrypts only
	material    *material // nil unless the state is Enabled and the material is there
	usableTo    int64     // µs, when a material expires without which the key is pending import; 0: none does
	older       *olderMaterials
	use         *keyUse // shared with the snapshots before and after
}

// An aliasSnapshot is where an alias points, and, when it is the alias of a
// lineage, which other keys may still verify and decrypt for it.
type aliasSnapshot struct {
	target  resourceName
	lineage []resourceName // newest first, without target
}

// do runs fn with the key's current material.
func (k *keySnapshot) do(fn func(keystore.Key) ([]byte, error)) ([]byte, error) {
	return k.material.do(fn)
}

// snapshots keeps what was loaded, and knows when it no longer holds.
//
// Every ARN belongs to one of 256 shards, and every shard has a version that
// counts the changes announced for it. An entry remembers the version from
// before its load began, and is worth something only while the version is
// still the same. So an invalidation costs one addition, and no load that
// began before it can outlive it, however the two race.
type snapshots struct {
	versions [256]atomic.Uint64
	keys     *cache[resourceName, keySnapshot]
	aliases  *cache[resourceName, aliasSnapshot]
	grants   *cache[grantee, granted]
}

func newSnapshots(most int, idleAfter time.Duration) *snapshots {
	s := new(snapshots)
	s.keys = newCache[resourceName, keySnapshot](&s.versions, most, idleAfter)
	s.aliases = newCache[resourceName, aliasSnapshot](&s.versions, most, idleAfter)
	s.grants = newCache[grantee, granted](&s.versions, most, idleAfter)
	return s
}

func (s *snapshots) invalidate(n sqldb.Shard) { s.versions[n].Add(1) }

func (s *snapshots) invalidateAll() {
	for i := range s.versions {
		s.versions[i].Add(1)
	}
}

func (s *snapshots) dropIdle(now time.Time) {
	s.keys.dropIdle(now)
	s.aliases.dropIdle(now)
	s.grants.dropIdle(now)
}

// entry is one loaded value. Stale entries stay until they are replaced: the
// next load takes the opened material from them.
type entry[T any] struct {
	value   *T
	shard   sqldb.Shard
	version uint64
	used    atomic.Int64 // Unix seconds of the last use
}

// flight is a load that is under way. Requests join it only if they saw the
// same version: one that came after a change must not get what was read
// before it.
type flight[N name] struct {
	name    N
	version uint64
}

// A name is what a value is kept under, and knows the topic under which changes
// of it are announced.
type name interface {
	comparable
	topic() string
}

type landing[T any] struct {
	done  chan struct{} // closed when value and err are set
	value *T
	err   error
}

type cache[N name, T any] struct {
	versions  *[256]atomic.Uint64
	most      int
	idleAfter time.Duration

	mu      sync.RWMutex
	entries map[N]*entry[T]
	flights map[flight[N]]*landing[T]
}

func newCache[N name, T any](versions *[256]atomic.Uint64, most int, idleAfter time.Duration) *cache[N, T] {
	return &cache[N, T]{
		versions: versions, most: most, idleAfter: idleAfter,
		entries: make(map[N]*entry[T]),
		flights: make(map[flight[N]]*landing[T]),
	}
}

// loadTimeout bounds a load, which belongs to no single request.
const loadTimeout = 10 * time.Second

// get returns the value of n, loading it if need be. While fresh is false
// nothing is taken from memory and nothing kept. load is given the value that
// was last known, or nil.
func (c *cache[N, T]) get(ctx context.Context, n N, fresh bool, now time.Time, load func(ctx context.Context, last *T) (*T, error)) (*T, error) {
	c.mu.RLock()
	e := c.entries[n]
	c.mu.RUnlock()
	var last *T
	if e != nil {
		last = e.value
		if fresh && e.version == c.versions[e.shard].Load() {
			if unix := now.Unix(); e.used.Load() != unix {
				e.used.Store(unix)
			}
			return e.value, nil
		}
	}
	if !fresh {
		return load(ctx, last)
	}
	shard := sqldb.ShardOf(n.topic())
	f := flight[N]{name: n, version: c.versions[shard].Load()}

	c.mu.Lock()
	if e := c.entries[n]; e != nil && e.version == f.version {
		c.mu.Unlock()
		return e.value, nil // it landed meanwhile
	}
	l, joined := c.flights[f]
	if !joined {
		l = &landing[T]{done: make(chan struct{})}
		c.flights[f] = l
	}
	c.mu.Unlock()
	if joined {
		select {
		case <-l.done:
			return l.value, l.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	c.land(ctx, f, shard, l, now, func(ctx context.Context) (*T, error) { return load(ctx, last) })
	return l.value, l.err
}

// land performs a flight and wakes who joined it, also when load panics.
func (c *cache[N, T]) land(ctx context.Context, f flight[N], shard sqldb.Shard, l *landing[T], now time.Time, load func(context.Context) (*T, error)) {
	l.err = errors.New("loading panicked")
	defer func() {
		c.mu.Lock()
		delete(c.flights, f)
		switch {
		case l.err != nil:
			delete(c.entries, f.name)
		case f.version == c.versions[shard].Load():
			e := &entry[T]{value: l.value, shard: shard, version: f.version}
			e.used.Store(now.Unix())
			c.makeRoom()
			c.entries[f.name] = e
		}
		c.mu.Unlock()
		close(l.done)
	}()
	// The others who wait must not fail because the first one hangs up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
	defer cancel()
	l.value, l.err = load(ctx)
}

// makeRoom keeps the map bounded: of a few entries picked at random, the one
// that was not used for longest goes.
func (c *cache[N, T]) makeRoom() {
	for len(c.entries) >= c.most {
		var victim N
		oldest, seen := int64(0), 0
		for n, e := range c.entries {
			if used := e.used.Load(); seen == 0 || used < oldest {
				victim, oldest = n, used
			}
			if seen++; seen == 8 {
				break
			}
		}
		delete(c.entries, victim)
	}
}

func (c *cache[N, T]) dropIdle(now time.Time) {
	limit := now.Add(-c.idleAfter).Unix()
	c.mu.Lock()
	defer c.mu.Unlock()
	for n, e := range c.entries {
		if e.used.Load() < limit {
			delete(c.entries, n)
		}
	}
	if len(c.entries) == 0 {
		// A map keeps the room of the most it ever held.
		c.entries = make(map[N]*entry[T])
	}
}

// errGone: the row is not there.
var errGone = errors.New("does not exist")

// keySnapshot returns the key that n, not an alias, names; errGone if there is
// none.
func (s *Service) keySnapshot(ctx context.Context, call *access.Call, n resourceName) (*keySnapshot, error) {
	k, err := s.snapshots.keys.get(ctx, n, s.db.Fresh(), call.Time, func(ctx context.Context, last *keySnapshot) (*keySnapshot, error) {
		return s.loadKey(ctx, n.arn(), last)
	})
	if err == nil && k.usableTo != 0 && k.state == stateEnabled && expired(k.usableTo, micros(s.now())) {
		gone := *k
		gone.state, gone.material = statePendingImport, nil
		k = &gone
	}
	return k, err
}

func (s *Service) loadKey(ctx context.Context, keyARN string, last *keySnapshot) (*keySnapshot, error) {
	var row keyRow
	var handle []byte
	var validTo sql.NullInt64
	err := s.db.QueryRow(ctx, `SELECT `+keyColumns+`, handle, valid_to
		FROM kms_keys LEFT JOIN (SELECT key_arn AS material_of, material_id AS id, handle, valid_to FROM kms_materials) m
			ON material_of = arn AND id = material_id
		WHERE arn = $1 AND state <> 'Destroyed'`, keyARN).Scan(append(row.columns(), &handle, &validTo)...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errGone
	}
	if err != nil {
		return nil, fmt.Errorf("loading key %s: %w", keyARN, err)
	}
	if err := s.complete(ctx, &row); err != nil {
		return nil, err
	}
	k := &keySnapshot{keyFacts: row.keyFacts, state: row.state, materialID: row.materialID, usableTo: row.usableTo, older: new(olderMaterials)}
	if l := s.lineages.Load(); l != nil {
		if k.deactivated, err = (*l).Deactivated(ctx, row.arn); err != nil {
			return nil, fmt.Errorf("asking for the generation of %s: %w", row.arn, err)
		}
	}
	if last != nil {
		k.use = last.use
	} else {
		k.use = &keyUse{arn: row.arn, log: &s.usage}
	}
	if validTo.Valid && (k.usableTo == 0 || validTo.Int64 < k.usableTo) {
		k.usableTo = validTo.Int64
	}
	if k.state != stateEnabled || handle == nil {
		return k, nil
	}
	// A key that was already open stays open, if it is still the same bytes.
	// Opening checks that the handle belongs to this very row.
	sum := sha256.Sum256(handle)
	if last != nil && last.material != nil && last.material.id == row.materialID && last.material.handle == sum && last.material.validTo == validTo.Int64 {
		k.material = last.material
		return k, nil
	}
	key, err := s.backend.Open(ctx, row.ref(), row.spec, handle)
	if err != nil {
		return nil, fmt.Errorf("opening the material of %s: %w", row.arn, err)
	}
	k.material = newMaterial(key, row.materialID, sum, validTo.Int64)
	return k, nil
}

// aliasSnapshot returns the alias that n names; errGone if there is none.
func (s *Service) aliasSnapshot(ctx context.Context, call *access.Call, n resourceName) (*aliasSnapshot, error) {
	return s.snapshots.aliases.get(ctx, n, s.db.Fresh(), call.Time, func(ctx context.Context, _ *aliasSnapshot) (*aliasSnapshot, error) {
		return s.loadAlias(ctx, n.arn())
	})
}

func (s *Service) loadAlias(ctx context.Context, aliasARN string) (*aliasSnapshot, error) {
	row, err := s.readAlias(ctx, aliasARN)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errGone
	}
	if err != nil {
		return nil, err
	}
	a := &aliasSnapshot{target: resourceName{account: row.account, region: row.region, name: row.keyID()}}
	l := s.lineages.Load()
	if l == nil {
		return a, nil
	}
	arns, err := (*l).Lineage(ctx, aliasARN)
	if err != nil {
		return nil, fmt.Errorf("asking for the lineage of %s: %w", aliasARN, err)
	}
	for _, keyARN := range arns {
		// A lineage lives in the account and Region of its alias.
		n := resourceName{account: row.account, region: row.region, name: keyIDOf(keyARN)}
		if n.arn() == keyARN && n != a.target && !slices.Contains(a.lineage, n) {
			a.lineage = append(a.lineage, n)
		}
	}
	return a, nil
}

// peek returns what is kept of n, stale or not, or nil.
func (c *cache[N, T]) peek(n N) *T {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if e := c.entries[n]; e != nil {
		return e.value
	}
	return nil
}
