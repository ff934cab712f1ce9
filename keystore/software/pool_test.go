package software

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/keystore"
)

// countingPool makes numbered materials instead of keys.
func countingPool() (*pool, *atomic.Int64) {
	p := newPool()
	made := new(atomic.Int64)
	p.generate = func(keystore.Spec) ([]byte, error) { return []byte{byte(made.Add(1))}, nil }
	return p, made
}

func TestPoolMakesNothingUntilAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, made := countingPool()
		synctest.Wait()
		if n := made.Load(); n != 0 {
			t.Errorf("%d keys made before any was asked for", n)
		}
		p.close()
	})
}

func TestPoolFillsTheSizesThatWereAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, made := countingPool()
		seen := map[byte]bool{}
		take := func(spec keystore.Spec) {
			t.Helper()
			m, err := p.take(t.Context(), spec)
			if err != nil || len(m) != 1 || seen[m[0]] {
				t.Fatalf("take: %v, %v: a key given out twice, or none", m, err)
			}
			seen[m[0]] = true
		}
		full := func(specs int) {
			t.Helper()
			synctest.Wait()
			ready := 0
			for _, keys := range p.ready {
				ready += len(keys)
			}
			if len(p.ready) != specs || ready != specs*poolSize {
				t.Errorf("%d keys of %d sizes ready, want %d sizes", ready, len(p.ready), specs)
			}
			if n := made.Load(); int(n) != ready+len(seen) {
				t.Errorf("%d made, %d ready, %d given out", n, ready, len(seen))
			}
		}
		take(keystore.RSA2048)
		full(1)
		for range 10 {
			take(keystore.RSA2048)
		}
		full(1)
		take(keystore.RSA4096)
		full(2)
		p.close()
	})
}

func TestPoolRespectsTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool()
		release := make(chan struct{})
		p.generate = func(keystore.Spec) ([]byte, error) { <-release; return []byte{1}, nil }
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 3 { // one makes, the others wait their turn
			wg.Go(func() {
				if m, err := p.take(ctx, keystore.RSA2048); !errors.Is(err, context.Canceled) || m != nil {
					t.Errorf("%v, %v", m, err)
				}
			})
		}
		synctest.Wait()
		cancel()
		wg.Wait()
		close(release)
		synctest.Wait()
		if n := len(p.ready[keystore.RSA2048]); n != poolSize {
			t.Errorf("%d ready, want the abandoned key and the refill: %d", n, poolSize)
		}
		p.close()
	})
}

func TestPoolReportsErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := countingPool()
		works, broken := p.generate, errors.New("no entropy")
		var fail atomic.Bool
		fail.Store(true)
		p.generate = func(s keystore.Spec) ([]byte, error) {
			if fail.Load() {
				return nil, broken
			}
			return works(s)
		}
		if _, err := p.take(t.Context(), keystore.RSA2048); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
		fail.Store(false)
		if _, err := p.take(t.Context(), keystore.RSA2048); err != nil {
			t.Errorf("after it works again: %v", err)
		}
		p.close()
	})
}

// A key that takes for ever does not hold the program back.
func TestPoolClosesWhileAKeyIsBeingMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool()
		release, late := make(chan struct{}), []byte("private key")
		p.generate = func(keystore.Spec) ([]byte, error) { <-release; return late, nil }
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.take(ctx, keystore.RSA2048); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		synctest.Wait()
		start := time.Now()
		p.close()
		if d := time.Since(start); d != closeWait {
			t.Errorf("closed after %v", d)
		}
		close(release)
		synctest.Wait() // and no goroutine is left, or the bubble would say so
		if !bytes.Equal(late, make([]byte, len(late))) {
			t.Errorf("left in memory: %q", late)
		}
	})
}

func TestPoolIsWipedOnClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool()
		p.generate = func(keystore.Spec) ([]byte, error) { return []byte("private key"), nil }
		if _, err := p.take(t.Context(), keystore.RSA2048); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		ready := p.ready[keystore.RSA2048]
		if len(ready) != poolSize {
			t.Fatalf("%d ready", len(ready))
		}
		p.close()
		p.close()
		for _, material := range ready {
			if !bytes.Equal(material, make([]byte, len(material))) {
				t.Errorf("left in memory: %q", material)
			}
		}
		late := []byte("made while closing")
		p.put(keystore.RSA2048, late)
		if !bytes.Equal(late, make([]byte, len(late))) {
			t.Errorf("left in memory: %q", late)
		}
		if _, err := p.take(t.Context(), keystore.RSA2048); !errors.Is(err, errClosed) {
			t.Errorf("take after close: %v", err)
		}
	})
}
