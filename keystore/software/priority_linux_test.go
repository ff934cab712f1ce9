package software

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/keyturn/keyturn/keystore"
)

// The threads that make keys are nicer than the rest, and nobody inherits that.
func TestKeysAreMadeAtLowPriority(t *testing.T) {
	nice := func() int {
		raw, err := unix.Getpriority(unix.PRIO_PROCESS, unix.Gettid()) // the kernel's 20 − nice
		if err != nil {
			t.Error(err)
		}
		return 20 - raw
	}
	p := newPool()
	made := make(chan int, 2*poolSize)
	p.generate = func(keystore.Spec) ([]byte, error) { made <- nice(); return []byte{1}, nil }
	if _, err := p.take(t.Context(), keystore.RSA2048); err != nil {
		t.Fatal(err)
	}
	counts := map[int]int{}
	counts[<-made]++ // on demand or the first of the refill
	for range poolSize {
		counts[<-made]++
	}
	p.close()
	if counts[demandNice]+counts[refillNice] != poolSize+1 || counts[refillNice] == 0 {
		t.Errorf("nice value → keys made: %v", counts)
	}
	done := make(chan int)
	for range 50 {
		go func() { done <- nice() }()
		if n := <-done; n == demandNice || n == refillNice {
			t.Fatalf("an ordinary goroutine runs at nice %d", n)
		}
	}
}
