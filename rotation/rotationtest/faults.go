// Package rotationtest is for tests of the rotation engine and of rotators: a
// strict model of the world that keys live in, faults that can be injected into
// every call, and the check of what must always hold. It promises nothing to
// programs.
package rotationtest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/keyturn/keyturn/rotation"
)

// Mode is how a call goes wrong.
type Mode int

// Modes.
const (
	Fine    Mode = iota
	Lost         // it fails and is not applied
	Applied      // it fails although it is applied
)

// ErrInjected is what a call that goes wrong returns.
var ErrInjected = errors.New("injected fault")

// Faults decides which call goes wrong. The zero value lets all go well and
// counts them. It is safe for concurrent use.
type Faults struct {
	At    int                    // the call that goes wrong first, counted from 0
	Times int                    // how many of the same side, table or world, from there on; 0: none
	Mode  Mode                   // how
	Match func(name string) bool // instead of At: which calls go wrong, up to Times
	Crash func()                 // called when one goes wrong: ends the engine, as a crash would

	// Before, when set, is called before each call, with its number: what happens elsewhere at that instant.
	Before func(n int, name string)

	mu    sync.Mutex
	calls []string
	wrong int // how many went wrong
}

// side tells the writes of the table from the calls of the world.
func side(name string) bool { return strings.HasPrefix(name, "table.") }

// Calls returns the names of the calls so far.
func (f *Faults) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.calls...)
}

// Call makes the call name, which apply applies, or lets it go wrong.
func (f *Faults) Call(ctx context.Context, name string, apply func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.mu.Lock()
	n := len(f.calls)
	f.calls = append(f.calls, name)
	mode := Fine
	hit := n >= f.At && side(name) == side(f.calls[min(f.At, n)])
	if f.Match != nil {
		hit = f.Match(name)
	}
	if hit && f.wrong < f.Times {
		mode = f.Mode
		f.wrong++
	}
	before := f.Before
	f.mu.Unlock()
	if before != nil {
		before(n, name)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if mode == Fine {
		return apply()
	}
	if mode == Applied {
		if err := apply(); err != nil {
			return err
		}
	}
	if f.Crash != nil {
		f.Crash()
	}
	return ErrInjected
}

// Table is a rotation.Table whose writes can go wrong.
type Table struct {
	rotation.Table
	Faults *Faults
}

// Store implements rotation.Table.
func (t *Table) Store(ctx context.Context, p *rotation.Policy, c *rotation.Change) error {
	return t.Faults.Call(ctx, "table.Store", func() error { return t.Table.Store(ctx, p, c) })
}

// Release implements rotation.Table.
func (t *Table) Release(ctx context.Context, row *rotation.Row) error {
	return t.Faults.Call(ctx, "table.Release", func() error { return t.Table.Release(ctx, row) })
}

// Clock is a clock that is set by hand. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that stands at t.
func NewClock(t time.Time) *Clock { return &Clock{now: t} }

// Now returns the time it shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Set sets it, forward or back.
func (c *Clock) Set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

// Advance sets it forward by d, or back.
func (c *Clock) Advance(d time.Duration) { c.Set(c.Now().Add(d)) }
