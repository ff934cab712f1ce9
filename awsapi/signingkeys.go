package awsapi

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"hash"
	"strings"
	"sync"

	"github.com/keyturn/keyturn/access"
)

// maxSigningKeys bounds the cache. A caller uses one key a day for each
// region and service.
const maxSigningKeys = 4096

// signingKeys remembers derived keys, which saves four of a verification's
// five HMACs. Only keys whose signature was right are kept, so that strangers
// cannot fill it; and a key is only given out to who presents the secret it
// was derived from, so that a revoked and reissued id does not revive it.
type signingKeys struct {
	mu   sync.RWMutex
	keys map[scope]*signingKey // guarded by mu
}

// A signingKey computes the signatures of one scope.
type signingKey struct {
	scope  scope // its strings are its own
	secret access.Secret
	key    [sha256.Size]byte
	macs   sync.Pool // of hash.Hash keyed with key, to be reset before use
}

func (k *signingKey) sum(text []byte) (sum [sha256.Size]byte) {
	m, ok := k.macs.Get().(hash.Hash)
	if ok {
		m.Reset()
	} else {
		m = hmac.New(sha256.New, k.key[:])
	}
	m.Write(text)
	m.Sum(sum[:0])
	k.macs.Put(m)
	return sum
}

// find returns the key of a scope; nil when it is not known.
func (c *signingKeys) find(s *scope, secret access.Secret) *signingKey {
	c.mu.RLock()
	k := c.keys[*s]
	c.mu.RUnlock()
	if k == nil || subtle.ConstantTimeCompare([]byte(k.secret.Reveal()), []byte(secret.Reveal())) != 1 {
		return nil
	}
	return k
}

func (c *signingKeys) keep(k *signingKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys == nil || len(c.keys) >= maxSigningKeys {
		// Yesterday's keys are most of them; today's are derived again in a few µs.
		c.keys = make(map[scope]*signingKey)
	}
	c.keys[k.scope] = k
}

// derive makes the signing key of a scope.
func derive(secret access.Secret, s *scope) *signingKey {
	step := func(key []byte, text string) []byte {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	key := step([]byte("AWS4"+secret.Reveal()), s.day)
	for _, text := range []string{s.region, s.service, terminator} {
		key = step(key, text)
	}
	k := &signingKey{secret: secret}
	copy(k.key[:], key)
	// The strings of s are parts of a request's header, which must not live on.
	k.scope = scope{strings.Clone(s.accessKeyID), strings.Clone(s.day), strings.Clone(s.region), strings.Clone(s.service)}
	return k
}
