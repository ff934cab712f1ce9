package audit_test

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keyturn/keyturn/audit"
)

// BenchmarkAppend measures appending by so many goroutines at once; cpu-ns/op is
// what a record costs the process, whatever the disk takes.
func BenchmarkAppend(b *testing.B) {
	for name, mode := range map[string]audit.SyncMode{"every": audit.Every, "interval": audit.Interval} {
		for _, appenders := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("%s/appenders=%d", name, appenders), func(b *testing.B) {
				l := open(b, b.TempDir(), nil, audit.Options{Sync: mode})
				record := sample()
				var next atomic.Int64
				var all sync.WaitGroup
				b.ReportAllocs()
				b.ResetTimer()
				before := cpuTime()
				for range appenders {
					all.Go(func() {
						for next.Add(1) <= int64(b.N) {
							if err := l.Append(b.Context(), record); err != nil {
								b.Error(err)
							}
						}
					})
				}
				all.Wait()
				b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
				b.StopTimer()
				if err := l.Close(); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	dir := b.TempDir()
	l := open(b, dir, nil, audit.Options{Sync: audit.Interval})
	const records = 10000
	fill(b, l, records)
	runtime.GC()
	b.ReportAllocs()
	for b.Loop() {
		verify(b, dir, audit.VerifyOptions{})
	}
	b.ReportMetric(float64(b.N)*records/b.Elapsed().Seconds(), "records/s")
}

// cpuTime is what the process has used so far, in user and system mode.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkEncode(b *testing.B) {
	record := sample()
	var buffer []byte
	b.ReportAllocs()
	for b.Loop() {
		buffer = audit.Encode(buffer[:0], record, record.EventTime)
	}
}
