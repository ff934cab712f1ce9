package awsapi

import (
	"crypto/sha256"
	"crypto/subtle"
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
	keys map[scope]signingKey // guarded by mu
}

type signingKey struct {
	secret access.Secret
	key    [sha256.Size]byte
}

func (c *signingKeys) find(s *scope, secret access.Secret) (key [sha256.Size]byte, ok bool) {
	c.mu.RLock()
	k, ok := c.keys[*s]
	c.mu.RUnlock()
	if !ok || subtle.ConstantTimeCompare([]byte(k.secret.Reveal()), []byte(secret.Reveal())) != 1 {
		return key, false
	}
	return k.key, true
}

func (c *signingKeys) keep(s *scope, secret access.Secret, key [sha256.Size]byte) {
	// The scope's strings are parts of a request's header, which must not live on.
	own := scope{strings.Clone(s.accessKeyID), strings.Clone(s.day), strings.Clone(s.region), strings.Clone(s.service)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys == nil || len(c.keys) >= maxSigningKeys {
		// Yesterday's keys are most of them; today's are derived again in 2 µs.
		c.keys = make(map[scope]signingKey)
	}
	c.keys[own] = signingKey{secret, key}
}
