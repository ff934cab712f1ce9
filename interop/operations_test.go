//go:build unix

package interop_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// clients are those that can do every operation of KMS, or as many as their
// version knows.
var clients = map[string]func(*testing.T, caller) client{
	"go":      newGoSDK,
	"boto3":   newBoto3,
	"cli":     newCLI,
	"node-v3": newNode("client-v3.mjs"),
	"node-v2": newNode("client-v2.mjs"),
}

// newer are the operations that came after 2022: a client that has no other
// left out is no older than what Debian 12 packages.
var newer = []string{"Decapsulate", "DeriveSharedSecret", "Encapsulate", "GetKeyLastUsage", "ListKeyRotations", "RotateKeyOnDemand"}

// Every client does every operation that it knows, and reads each answer and
// each error as it does those of AWS.
func TestOperations(t *testing.T) {
	for name, start := range clients {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &conversation{t: t, client: start(t, callers[name]), account: callers[name].account, done: map[string]bool{}}
			for _, operation := range operations() {
				if !slices.Contains(newer, operation) || c.client.knows(operation) {
					c.known = append(c.known, operation)
				}
			}
			c.run("keys", c.keys)
			c.run("aliases", c.aliases)
			c.run("policies", c.policies)
			c.run("tags", c.tags)
			c.run("pages", c.pages)
			c.run("signatures", c.signatures)
			c.run("encryption", c.encryption)
			c.run("data keys", c.dataKeys)
			c.run("macs", c.macs)
			c.run("agreement", c.agreement)
			c.run("encapsulation", c.encapsulation)
			c.run("Regions", c.regions)
			c.run("errors", c.errors)
			c.run("STS", c.sts)
			c.run("grants", c.grants)
			c.run("imports", c.imports)
			c.run("stores", c.stores)
			c.run("rotation", c.rotation)
			c.run("deletion", c.deletion)
			if c, ok := c.client.(*cli); ok {
				t.Run("words", c.words)
			}
			for _, operation := range operations() {
				switch known := slices.Contains(c.known, operation); {
				case !known:
					t.Logf("this version does not know %s", operation)
				case !c.done[operation]:
					t.Errorf("%s was not done", operation)
				}
			}
		})
	}
}

// conversation is what one client says to the server, alone in its account.
type conversation struct {
	t       *testing.T // of the group that is being run
	client  client
	account string
	known   []string // operations
	done    map[string]bool
	made    int // keys
}

// run runs a group of operations as a subtest.
func (c *conversation) run(name string, group func()) {
	whole := c.t
	defer func() { c.t = whole }()
	whole.Run(name, func(t *testing.T) {
		c.t = t
		group()
	})
}

func (c *conversation) knows(operation string) bool { return slices.Contains(c.known, operation) }

// do does an operation, which must succeed.
func (c *conversation) do(operation string, in members) members {
	c.t.Helper()
	return c.in(region, operation, in)
}

func (c *conversation) in(region, operation string, in members) members {
	c.t.Helper()
	out, refused := c.client.do(region, operation, in)
	if refused != nil {
		c.t.Fatalf("%s: %+v", operation, *refused)
	}
	c.done[operation] = true
	// Some clients tell how it went: nothing had to be said twice.
	for path, want := range map[string]float64{"ResponseMetadata.RetryAttempts": 0, "$metadata.attempts": 1} {
		if n, told := find(out, path).(float64); told && n != want {
			c.t.Errorf("%s: %s is %v", operation, path, n)
		}
	}
	return out
}

// unmodelled are the errors that AWS's models do not have, and for which no
// client has a class.
var unmodelled = []string{"ValidationException", "AccessDenied"}

// refused does an operation, which must be refused with code, and with the
// client's class for it.
func (c *conversation) refused(code, operation string, in members) string {
	c.t.Helper()
	out, refused := c.client.do(region, operation, in)
	switch {
	case refused == nil:
		c.t.Fatalf("%s: %v, want %s", operation, out, code)
	case refused.Code != code:
		c.t.Errorf("%s: %+v, want %s", operation, *refused, code)
	case strings.TrimSuffix(refused.Class, "Exception") != strings.TrimSuffix(code, "Exception") && !slices.Contains(unmodelled, code):
		c.t.Errorf("%s: a %s for %s", operation, refused.Class, code)
	}
	c.done[operation] = true
	return refused.Message
}

// key makes a key and returns its id.
func (c *conversation) key(in members) string {
	c.t.Helper()
	out := c.do("CreateKey", in)
	c.made++
	id := text(c.t, out, "KeyMetadata.KeyId")
	if arn := text(c.t, out, "KeyMetadata.Arn"); arn != c.arn("key/"+id) {
		c.t.Errorf("the ARN of a key is %s", arn)
	}
	return id
}

func (c *conversation) arn(resource string) string {
	return fmt.Sprintf("arn:aws:kms:%s:%s:%s", region, c.account, resource)
}

func (c *conversation) equal(what string, got, want any) {
	c.t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		c.t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// until waits for what the server does in its own time. AWS's API says nothing
// of when, and its SDKs have no waiters for KMS.
func (c *conversation) until(what string, done func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("not within a minute: %s", what)
		}
	}
}
