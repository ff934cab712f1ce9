package kms

import (
	"runtime"
	"sync"
	"weak"

	"github.com/keyturn/keyturn/policy"
)

// compiledPolicies shares the compiled form of equal key policies: most keys of
// an account have the default one. It keeps nothing alive itself; a policy that
// no snapshot and no request uses is forgotten.
type compiledPolicies struct {
	mu  sync.Mutex
	all map[string]weak.Pointer[policy.Policy] // document → its compiled form
}

func (c *compiledPolicies) parse(document string) (*policy.Policy, error) {
	c.mu.Lock()
	p := c.all[document].Value()
	c.mu.Unlock()
	if p != nil {
		return p, nil
	}
	p, err := policy.Parse([]byte(document), policy.Resource)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = make(map[string]weak.Pointer[policy.Policy])
	}
	c.all[document] = weak.Make(p)
	runtime.AddCleanup(p, c.forget, document)
	return p, nil
}

// forget runs after a compiled form was collected. Another one of the same
// document may have taken its place.
func (c *compiledPolicies) forget(document string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all[document].Value() == nil {
		delete(c.all, document)
	}
}
