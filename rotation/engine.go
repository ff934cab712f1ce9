package rotation

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/keyturn/keyturn/sqldb"
)

// Config is what an Engine works with. Table, Rotators and Targets are required.
type Config struct {
	Table    Table
	Rotators map[string]Rotator // Policy.Rotator → rotator
	Targets  Targets
	Now      func() time.Time // default time.Now
	Node     string           // names this engine in leases and history; default: drawn
	Rand     func() float64   // in [0, 1), for the jitter of retries; default math/rand
	Lease    time.Duration    // of one step, whose context ends at nine tenths of it; default 1 min
	Workers  int              // steps at once; default 4
	Poll     time.Duration    // how long at most until Run looks again by itself; default 15 s
	Logger   *slog.Logger     // default: none
}

// Engine does the steps of rotations whose time has come. It keeps nothing in
// memory that matters; any number of engines may work on one table.
type Engine struct {
	c    Config
	poke chan struct{}

	mu   sync.Mutex          // guards busy
	busy map[string]struct{} // ids of rows that a worker of this engine holds
}

// New returns an engine. It does nothing before RunOnce or Run.
func New(c Config) *Engine {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Node == "" {
		c.Node = "node-" + drawID()[:8]
	}
	if c.Rand == nil {
		c.Rand = mathrand.Float64
	}
	if c.Lease <= 0 {
		c.Lease = time.Minute
	}
	if c.Workers <= 0 {
		c.Workers = 4
	}
	if c.Poll <= 0 {
		c.Poll = 15 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Engine{c: c, poke: make(chan struct{}, 1), busy: map[string]struct{}{}}
}

// Poke lets Run look for work now. It never blocks.
func (e *Engine) Poke() {
	select {
	case e.poke <- struct{}{}:
	default:
	}
}

// now is the engine's clock, as exact as the table is.
func (e *Engine) now() time.Time { return e.c.Now().UTC().Truncate(time.Microsecond) }

// drawID returns 128 random bits in the form of a UUID, which is also what the
// AWS APIs take as a ClientRequestToken. Tokens must not be guessed: who could, might
// plant a key of his own for a rotation to find.
func drawID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func (e *Engine) draw() draw {
	return draw{id: drawID(), token: drawID(), jitter: e.c.Rand(), node: e.c.Node}
}

// RunOnce does one step of one row whose time has come, and reports whether there was
// one. An error means that the table could not be read or written, or that the
// row was changed by somebody else meanwhile; a step that failed is no error, it
// is recorded. When nothing is due it makes one query.
func (e *Engine) RunOnce(ctx context.Context) (worked bool, err error) {
	due, _, err := e.look(ctx, 8)
	if err != nil {
		return false, err
	}
	for _, entry := range due {
		if worked, err = e.work(ctx, entry); worked || !errors.Is(err, sqldb.ErrConflict) {
			return worked, err
		}
	}
	return len(due) > 0, nil
}

// look returns rows whose time has come, and when the next one's comes; zero: not known.
func (e *Engine) look(ctx context.Context, limit int) (due []Entry, next time.Time, err error) {
	entries, err := e.c.Table.Due(ctx, limit)
	if err != nil {
		return nil, time.Time{}, err
	}
	now := e.now()
	for i := range entries {
		wake := entries[i].Row.Wake()
		if wake.After(now) {
			return entries[:i], wake, nil
		}
	}
	if len(entries) == limit {
		next = now
	}
	return entries, next, nil
}

// Run works until ctx ends, and returns when every step under way has ended. A table
// that cannot be reached is tried again, ever more slowly, and logged.
func (e *Engine) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	defer workers.Wait()
	free := make(chan struct{}, e.c.Workers)
	failures := 0
	for ctx.Err() == nil {
		due, next, err := e.look(ctx, 2*e.c.Workers)
		pause := e.c.Poll
		switch {
		case err != nil:
			failures++
			pause = backoff(100*time.Millisecond, failures, e.c.Rand())
			e.c.Logger.Warn("looking for due rotations", "error", err)
		case !next.IsZero():
			failures, pause = 0, min(pause, max(next.Sub(e.now()), 0))
		default:
			failures = 0
		}
		started := 0
		for _, entry := range due {
			if !e.hold(entry.Row.ID) {
				continue
			}
			select {
			case free <- struct{}{}:
			case <-ctx.Done():
				e.drop(entry.Row.ID)
				return nil
			}
			started++
			workers.Go(func() {
				defer func() { <-free; e.drop(entry.Row.ID); e.Poke() }()
				if _, err := e.work(ctx, entry); err != nil && ctx.Err() == nil && !errors.Is(err, sqldb.ErrConflict) {
					e.c.Logger.Warn("doing a step", "rotation", entry.Row.ID, "error", err)
					e.rest(ctx, time.Second)
				}
			})
		}
		if started == 0 || err != nil {
			// Rows that workers hold already come back at once; a worker that ends pokes.
			if pause == 0 && len(due) > 0 {
				pause = e.c.Poll
			}
			e.idle(ctx, pause)
		}
	}
	return nil
}

// idle waits until pause is over, Poke, or the end of ctx.
func (e *Engine) idle(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-e.poke:
	case <-ctx.Done():
	}
}

// rest keeps a row that could not be worked on from being tried again at once.
func (e *Engine) rest(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (e *Engine) hold(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, held := e.busy[id]; held {
		return false
	}
	e.busy[id] = struct{}{}
	return true
}

func (e *Engine) drop(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.busy, id)
}

// work does the one thing there is to do with entry.
func (e *Engine) work(ctx context.Context, entry Entry) (worked bool, err error) {
	p := entry.Policy
	rotator := e.c.Rotators[p.Rotator]
	job := &Job{Row: entry.Row, Policy: p, Now: e.now()}
	var steps []StepDef
	a := action{verb: verbPerson, why: "no rotator is called " + p.Rotator}
	if rotator != nil {
		steps = rotator.Steps(&job.Row, p)
		a = next(&job.Row, p, steps, job.Now)
	}
	d := e.draw()
	var failed *Row
	if a.verb == verbDo && job.Row.Status == StatusScheduled {
		if a, failed, err = e.beginning(ctx, job, a); err != nil {
			return false, err
		}
	}
	if a.verb != verbDo {
		c, err := e.restOf(ctx, job, a, d)
		if err == nil && c == nil {
			err = fmt.Errorf("rotation %s is due but there is nothing to do: %s", job.Row.ID, a.why)
		}
		if err != nil {
			return false, err
		}
		return true, e.c.Table.Store(ctx, p, c)
	}
	c := claim(job.Row, a, failed, d, job.Now, e.c.Lease)
	started := time.Now()
	if err := e.c.Table.Store(ctx, p, c); err != nil {
		return false, err
	}
	// At this point the step is recorded as begun and nobody else does it before the
	// lease has run out. If we crash now, it is done again then.
	job.Row = c.Row
	job.Row.Gen++
	job.Closed = a.closed
	steps = rotator.Steps(&job.Row, p)
	return true, e.step(ctx, rotator, job, a, steps, d, started)
}

func (e *Engine) restOf(ctx context.Context, job *Job, a action, d draw) (*Change, error) {
	if job.Row.Data.Holds != "" {
		if err := e.relate(ctx, job); err != nil {
			return nil, err
		}
	}
	return rest(job, a, d, job.Now), nil
}

func (e *Engine) relate(ctx context.Context, job *Job) error {
	r, err := e.c.Table.Related(ctx, &job.Row, job.Policy)
	job.Active, job.Old, job.New, job.Next, job.held, job.Follows = r.Active, r.Old, r.New, r.Next, r.Held, r.Follows
	job.TurnedBy = func(ctx context.Context, aliasARN string) (string, error) {
		return e.c.Table.TurnedBy(ctx, job.Policy.Target, aliasARN)
	}
	return err
}

// beginning looks at what only a row that begins must mind.
func (e *Engine) beginning(ctx context.Context, job *Job, a action) (action, *Row, error) {
	if job.Row.Data.Holds != "" {
		if err := e.relate(ctx, job); err != nil {
			return a, nil, err
		}
		// The row that this one stopped may have a step under way.
		if job.held != nil && job.held.LeaseUntil.After(job.Now) {
			soon := job.Now.Add(250 * time.Millisecond)
			return a.wait(soon, "the last step of the rotation it stops is ending"), nil, nil
		}
	}
	if job.Row.Kind != KindRotate && job.Row.Kind != KindCompromise {
		return a, nil, nil
	}
	limit := job.Policy.MaxKeysPerDay
	b, err := e.c.Table.Beginning(ctx, &job.Row, job.Now.Add(-day), limit)
	if err != nil {
		return a, nil, err
	}
	switch {
	case b.Busy:
		return a.wait(job.Now.Add(time.Second), "what a canceled rotation made is still being removed"), nil, nil
	case len(b.Begun) >= limit && job.Row.Kind == KindRotate:
		return a.wait(b.Begun[limit-1].Add(day), "the policy's maxKeysPerDay are used up"), nil, nil
	}
	return a, b.Failed, nil
}

// step does the step that job's row has begun, and stores what came of it.
func (e *Engine) step(ctx context.Context, rotator Rotator, job *Job, a action, steps []StepDef, d draw, started time.Time) error {
	out, err := e.do(ctx, rotator, job, started)
	if ctx.Err() != nil && err != nil {
		return ctx.Err() // the process ends: as good as a crash, and no failed attempt
	}
	// A store that fails, or whose answer is lost, leaves the lease: when it has run out
	// the step is done again, and finds itself done.
	c := after(job, a, steps, out, err, d, e.now())
	if err != nil && !errors.Is(err, ErrNotDone) {
		e.c.Logger.Warn("rotation step failed", "policy", job.Policy.Name, "rotation", job.Row.ID, "step", string(a.step.Name),
			"attempt", c.Row.Attempt, "error", err)
	}
	if err := e.c.Table.Store(ctx, job.Policy, c); err != nil {
		if errors.Is(err, sqldb.ErrConflict) {
			// A command has changed the row under us. Our step has ended, so it need not wait
			// for the end of the lease.
			return errors.Join(err, e.c.Table.Release(ctx, &job.Row))
		}
		return err
	}
	return nil
}

func (e *Engine) do(ctx context.Context, rotator Rotator, job *Job, started time.Time) (out Outcome, err error) {
	ctx, cancel := context.WithDeadline(ctx, started.Add(e.c.Lease*9/10))
	defer cancel()
	defer func() {
		if r := recover(); r != nil {
			e.c.Logger.Error("rotator panicked", "rotation", job.Row.ID, "step", string(job.Row.Step), "stack", string(debug.Stack()))
			err = fmt.Errorf("doing step %s: the rotator panicked", job.Row.Step)
		}
	}()
	if err := e.relate(ctx, job); err != nil {
		return Outcome{}, err
	}
	if job.Target, err = e.c.Targets(ctx, job.Policy); err != nil {
		return Outcome{}, fmt.Errorf("opening target %s: %w", job.Policy.Target, err)
	}
	return rotator.Do(ctx, job)
}
