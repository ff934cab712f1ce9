package jwks

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"golang.org/x/sync/singleflight"
)

// keyCache remembers public keys that the KMS was asked for. A key ARN has one
// public key for ever, so what is known stays true; failures are remembered
// for a moment, so that anonymous requests cannot wear an account's quota out.
type keyCache struct {
	flight singleflight.Group

	mu    sync.Mutex
	known map[string]cachedKey // key ARN → what the KMS said
}

type cachedKey struct {
	spki  []byte
	usage string
	err   error
	until time.Time // of an error
}

const (
	keysKept    = 10_000 // an RSA key is half a kilobyte
	errorsKept  = 5 * time.Second
	askedForAll = 10 * time.Second
)

// fill completes g with its public key.
func (c *keyCache) fill(ctx context.Context, keys PublicKeys, g *Generation, now time.Time) error {
	if g.SPKI != nil {
		return nil
	}
	if keys == nil {
		return fmt.Errorf("public key of %s: it is not known and there is nobody to ask", g.Key)
	}
	key, found := c.find(g.Key, now)
	if !found {
		// One request asks, for all that wait. It goes on when its client goes away.
		result, _, _ := c.flight.Do(g.Key, func() (any, error) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askedForAll)
			defer cancel()
			if key, found := c.find(g.Key, now); found {
				return key, nil // another flight landed since
			}
			key := ask(ctx, keys, g.Key)
			if key.err != nil {
				key.until = now.Add(errorsKept)
			}
			c.keep(g.Key, key)
			return key, nil
		})
		key = result.(cachedKey)
	}
	if key.err != nil {
		return key.err
	}
	g.SPKI = key.spki
	if g.Usage == "" {
		g.Usage = key.usage
	}
	return nil
}

func (c *keyCache) find(arn string, now time.Time) (cachedKey, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key, found := c.known[arn]
	return key, found && (key.err == nil || now.Before(key.until))
}

func (c *keyCache) keep(arn string, key cachedKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		c.known = map[string]cachedKey{}
	}
	for other := range c.known {
		if len(c.known) < keysKept {
			break
		}
		delete(c.known, other) // any: it can be had again
	}
	c.known[arn] = key
}

func ask(ctx context.Context, keys PublicKeys, arn string) cachedKey {
	out, err := keys.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: &arn})
	var unsupported *types.UnsupportedOperationException
	switch {
	case errors.As(err, &unsupported):
		// A symmetric or HMAC key. Whether it exists is nobody's business here.
		return cachedKey{err: fmt.Errorf("public key of %s: %w", arn, ErrNotFound)}
	case err != nil:
		return cachedKey{err: fmt.Errorf("asking for the public key of %s: %w", arn, err)}
	case aws.ToString(out.KeyId) != arn || len(out.PublicKey) == 0:
		return cachedKey{err: fmt.Errorf("asking for the public key of %s: the answer is that of %q", arn, aws.ToString(out.KeyId))}
	}
	return cachedKey{spki: out.PublicKey, usage: string(out.KeyUsage)}
}
