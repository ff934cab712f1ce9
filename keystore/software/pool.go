package software

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/keyturn/keyturn/keystore"
)

const (
	// poolSize is how many RSA keys of each size are made ahead.
	poolSize = 4
	// The nice values of the threads that make keys. Signing comes first: a key
	// takes 60 ms to seconds of CPU, a signature microseconds. Somebody waits
	// for a key made on demand, so that it gets a share even of a busy machine;
	// nobody waits for the pool.
	refillNice = 19
	demandNice = 10
	// closeWait is how long close waits for a key that is being made. Making one
	// cannot be interrupted, and at refillNice it may take long on a busy machine.
	closeWait = time.Second
)

var errClosed = errors.New("key store is closed")

// pool makes RSA keys ahead. They are in memory only and wiped on close: what
// is stored is sealed, and sealing names a row that does not exist yet. Nothing
// is made before the first key of a size is asked for.
type pool struct {
	generate func(keystore.Spec) ([]byte, error)
	onDemand chan struct{}  // one token: keys made while somebody waits are made one at a time
	wake     chan struct{}  // tells refill that there is room
	stop     chan struct{}  // closed by close
	running  sync.WaitGroup // refill and every generation on demand

	mu     sync.Mutex                 // guards what follows
	ready  map[keystore.Spec][][]byte // spec → material; a spec is there once it was asked for
	closed bool
}

func newPool() *pool {
	return &pool{
		generate: keystore.GenerateMaterial,
		onDemand: make(chan struct{}, 1),
		wake:     make(chan struct{}, 1),
		stop:     make(chan struct{}),
		ready:    make(map[keystore.Spec][][]byte),
	}
}

// take returns material of an RSA spec, which the caller owns and wipes: one
// made ahead, or else one made now. When ctx ends first, what was being made
// goes to the pool.
func (p *pool) take(ctx context.Context, spec keystore.Spec) ([]byte, error) {
	if material, err := p.pop(spec, true); material != nil || err != nil {
		return material, err
	}
	select {
	case p.onDemand <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-p.stop:
		return nil, errClosed
	}
	// refill may have been faster than those who waited before us.
	if material, err := p.pop(spec, false); material != nil || err != nil {
		<-p.onDemand
		return material, err
	}
	return p.makeNow(ctx, spec)
}

// pop returns material made ahead, nil when there is none. begin starts to make
// some ahead.
func (p *pool) pop(spec keystore.Spec, begin bool) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed
	}
	made, asked := p.ready[spec]
	if begin && len(p.ready) == 0 {
		p.running.Go(p.refill)
	}
	if !asked {
		p.ready[spec] = nil
	}
	select {
	case p.wake <- struct{}{}:
	default:
	}
	if len(made) == 0 {
		return nil, nil
	}
	last := len(made) - 1
	material := made[last]
	made[last] = nil
	p.ready[spec] = made[:last]
	return material, nil
}

// makeNow makes one key. It holds the token of onDemand and returns it when the
// key is there, even if the caller has gone.
func (p *pool) makeNow(ctx context.Context, spec keystore.Spec) ([]byte, error) {
	type result struct {
		material []byte
		err      error
	}
	done := make(chan result)
	abandoned := make(chan struct{})
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		<-p.onDemand
		return nil, errClosed
	}
	p.running.Add(1) // under mu: close waits for us, or we have seen it
	p.mu.Unlock()
	go func() {
		defer p.running.Done()
		defer func() { <-p.onDemand }()
		lowerPriority(demandNice)
		material, err := p.generate(spec)
		select {
		case done <- result{material, err}:
		case <-abandoned:
			p.put(spec, material)
		}
	}()
	select {
	case r := <-done:
		return r.material, r.err
	case <-ctx.Done():
		close(abandoned)
		return nil, ctx.Err()
	}
}

// put adds material to the pool, or wipes it when there is no room or nobody to
// take it any more.
func (p *pool) put(spec keystore.Spec, material []byte) {
	if material == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.ready[spec]) >= poolSize {
		clear(material)
		return
	}
	p.ready[spec] = append(p.ready[spec], material)
}

// refill makes keys, one at a time, until close. Its thread ends with it.
func (p *pool) refill() {
	lowerPriority(refillNice)
	for {
		spec, ok := p.shortest()
		if !ok {
			select {
			case <-p.wake:
				continue
			case <-p.stop:
				return
			}
		}
		select {
		case <-p.stop:
			return
		default:
		}
		material, err := p.generate(spec)
		if err != nil {
			// The next take says so to somebody who can act; wait for it here.
			select {
			case <-p.wake:
				continue
			case <-p.stop:
				return
			}
		}
		p.put(spec, material)
	}
}

// shortest returns the spec with the fewest keys ready, if any has room.
func (p *pool) shortest() (spec keystore.Spec, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	least := poolSize
	for s, made := range p.ready {
		if len(made) < least || len(made) == least && ok && s < spec {
			spec, least, ok = s, len(made), true
		}
	}
	return spec, ok
}

// close stops refill and wipes what is ready. A key that is still being made
// after closeWait is wiped when it is there. Closing again only waits again.
func (p *pool) close() {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.stop)
		for spec, made := range p.ready {
			for _, material := range made {
				clear(material)
			}
			delete(p.ready, spec)
		}
	}
	p.mu.Unlock()
	over := make(chan struct{})
	go func() {
		p.running.Wait()
		close(over)
	}()
	timeout := time.NewTimer(closeWait)
	defer timeout.Stop()
	select {
	case <-over:
	case <-timeout.C:
	}
}

// lowerPriority gives the calling goroutine a thread of its own with the nice
// value, where the system has such a thing. The goroutine must not unlock it:
// the thread ends with the goroutine, so that no other goroutine inherits it.
func lowerPriority(nice int) {
	runtime.LockOSThread()
	niceThread(nice)
}
