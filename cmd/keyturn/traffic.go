package main

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	stdcrypto "crypto"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/go-jose/go-jose/v4"
)

// traffic is what a rotation must not disturb: a signer that signs through an
// alias, and a verifier that knows the keys only from a JWKS that it keeps for
// as long as Cache-Control says, as real verifiers do.
type traffic struct {
	sdk   *kms.Client
	alias string
	jwks  string        // URL
	later time.Duration // a signature is verified at once, and again after this long

	made, verified, failed, retried atomic.Int64
	keys                            sync.Map // key ARN → true, of every key that signed
	firstFailure                    atomic.Pointer[string]
}

// signature is a message and what the server answered for it.
type signature struct {
	message, value []byte
	key            string
	at             time.Time
	id             int64
}

// run signs and verifies until ctx ends, and then verifies what is left.
func (t *traffic) run(ctx context.Context) {
	signed := make(chan signature, 1024)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(signed)
		t.sign(ctx, signed)
	})
	wg.Go(func() { t.verify(signed) })
	wg.Wait()
}

// sign makes a signature every 20 ms. A server that is away is no failure: a
// signer waits and signs again.
func (t *traffic) sign(ctx context.Context, signed chan<- signature) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n := int64(1); ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		message := fmt.Appendf(nil, "payment order %d", n)
		out, err := t.sdk.Sign(ctx, &kms.SignInput{
			KeyId: &t.alias, Message: message, SigningAlgorithm: types.SigningAlgorithmSpecRsassaPkcs1V15Sha256,
		})
		if err != nil {
			if ctx.Err() == nil {
				t.retried.Add(1)
			}
			continue
		}
		t.made.Add(1)
		t.keys.Store(*out.KeyId, true)
		signed <- signature{message, out.Signature, *out.KeyId, time.Now(), n}
	}
}

// verify checks each signature as it comes, and again when it is old.
func (t *traffic) verify(signed <-chan signature) {
	cache := &jwksCache{url: t.jwks}
	var old []signature
	check := func(s signature, age string) bool {
		if cache.verifies(s) {
			return true
		}
		t.failed.Add(1)
		why := fmt.Sprintf("signature %d by %s, %s: no key of the JWKS fits", s.id, s.key, age)
		t.firstFailure.CompareAndSwap(nil, &why)
		return false
	}
	for s := range signed {
		if check(s, "verified at once") {
			old = append(old, s)
		}
		for len(old) > 0 && time.Since(old[0].at) > t.later {
			if check(old[0], "verified again "+t.later.String()+" later") {
				t.verified.Add(1)
			}
			old = old[1:]
		}
	}
	for _, s := range old {
		if check(s, "verified at the end") {
			t.verified.Add(1)
		}
	}
}

// jwksCache holds a key set for as long as the server allowed.
type jwksCache struct {
	url     string
	set     jose.JSONWebKeySet
	expires time.Time
}

var maxAge = regexp.MustCompile(`max-age=([0-9]+)`)

// refresh fetches the set again once it is out of date. While the server is
// away the old set serves on, as in most libraries.
func (c *jwksCache) refresh() {
	if time.Now().Before(c.expires) {
		return
	}
	resp, err := http.Get(c.url)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	var set jose.JSONWebKeySet
	if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(body, &set) != nil {
		return
	}
	seconds := 0
	if m := maxAge.FindStringSubmatch(resp.Header.Get("Cache-Control")); m != nil {
		seconds, _ = strconv.Atoi(m[1])
	}
	c.set, c.expires = set, time.Now().Add(time.Duration(seconds)*time.Second)
}

func (c *jwksCache) verifies(s signature) bool {
	c.refresh()
	digest := sha256.Sum256(s.message)
	for _, k := range c.set.Keys {
		if key, ok := k.Key.(*rsa.PublicKey); ok && rsa.VerifyPKCS1v15(key, stdcrypto.SHA256, digest[:], s.value) == nil {
			return true
		}
	}
	return false
}
