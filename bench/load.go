package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// load is one kind of request, made beforehand: whole HTTP/1.1 requests as
// bytes, replayed in turn.
type load struct {
	addr     string
	requests [][]byte
}

// sample is what one connection saw.
type sample struct {
	latencies []time.Duration
	errors    int
	first     string
}

// run replays on n connections for d, or until ctx ends.
func (l *load) run(ctx context.Context, n int, d time.Duration) []sample {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	samples := make([]sample, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { samples[i] = l.connection(ctx, i) })
	}
	wg.Wait()
	return samples
}

// connection replays on one connection. A failed request is counted and ends
// the connection: nothing is tried again, so nothing is hidden.
func (l *load) connection(ctx context.Context, offset int) (s sample) {
	fail := func(err string) sample {
		s.errors++
		s.first = err
		return s
	}
	conn, err := net.Dial("tcp", l.addr)
	if err != nil {
		return fail(err.Error())
	}
	defer conn.Close()
	s.latencies = make([]time.Duration, 0, 1<<17)
	r := bufio.NewReaderSize(conn, 16<<10)
	for i := offset; ctx.Err() == nil; i++ {
		began := time.Now()
		if _, err := conn.Write(l.requests[i%len(l.requests)]); err != nil {
			return fail(err.Error())
		}
		if msg := readAnswer(r); msg != "" {
			return fail(msg)
		}
		s.latencies = append(s.latencies, time.Since(began))
	}
	return s
}

// readAnswer reads one answer and returns what is wrong with it. It knows no
// more HTTP than the servers here send: a status, a Content-Length or chunks.
func readAnswer(r *bufio.Reader) string {
	status, err := r.ReadSlice('\n')
	if err != nil {
		return err.Error()
	}
	ok := bytes.HasPrefix(status, []byte("HTTP/1.1 200"))
	problem := strings.TrimSpace(string(status))
	if ok {
		problem = ""
	}
	length, chunked := -1, false
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err.Error()
		}
		if len(line) <= 2 {
			break
		}
		if len(line) > 16 && bytes.EqualFold(line[:15], []byte("content-length:")) {
			length, _ = strconv.Atoi(string(bytes.TrimSpace(line[15:])))
		}
		if bytes.EqualFold(bytes.TrimSpace(line), []byte("transfer-encoding: chunked")) {
			chunked = true
		}
	}
	if chunked || length < 0 {
		return "the answer has no Content-Length"
	}
	if ok {
		_, err = r.Discard(length)
	} else {
		body := make([]byte, length)
		_, err = io.ReadFull(r, body)
		problem += " " + string(body)
	}
	if err != nil {
		return err.Error()
	}
	return problem
}

// times replays until n requests are answered, and fails at the first that is
// not answered with success.
func (l *load) times(ctx context.Context, connections, n int) error {
	var left atomic.Int64
	left.Store(int64(n))
	errs := make([]error, connections)
	var wg sync.WaitGroup
	for c := range connections {
		wg.Go(func() {
			conn, err := net.Dial("tcp", l.addr)
			if err != nil {
				errs[c] = err
				return
			}
			defer conn.Close()
			r := bufio.NewReaderSize(conn, 16<<10)
			for i := c; left.Add(-1) >= 0 && ctx.Err() == nil; i++ {
				if _, err := conn.Write(l.requests[i%len(l.requests)]); err != nil {
					errs[c] = err
					return
				}
				if msg := readAnswer(r); msg != "" {
					errs[c] = errors.New(msg)
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs, ctx.Err())...)
}

// measure runs the load and reads the server's CPU time around it.
func (l *load) measure(ctx context.Context, s *peer, o options) (result, error) {
	before, err := s.cpu()
	if err != nil {
		return result{}, err
	}
	began := time.Now()
	samples := l.run(ctx, o.connections, o.duration)
	took := time.Since(began)
	after, err := s.cpu()
	if err != nil {
		return result{}, err
	}
	r := summarise(samples, took)
	r.Server = s.name
	if n := r.RPS * took.Seconds(); n > 0 {
		r.CPU = (after - before).Seconds() / n * 1000
	}
	return r, ctx.Err()
}

func summarise(samples []sample, took time.Duration) result {
	var r result
	var all []time.Duration
	for _, s := range samples {
		all = append(all, s.latencies...)
		r.Errors += s.errors
		if r.FirstError == "" {
			r.FirstError = s.first
		}
	}
	if len(all) == 0 {
		return r
	}
	slices.Sort(all)
	ms := func(q float64) float64 {
		return float64(all[int(q*float64(len(all)-1))]) / float64(time.Millisecond)
	}
	r.RPS = float64(len(all)) / took.Seconds()
	r.P50, r.P99 = ms(0.50), ms(0.99)
	return r
}

// cpuTime reads the CPU time a process has used, from /proc (Linux).
func cpuTime(pid int) (time.Duration, error) {
	// schedstat counts nanoseconds but for one thread only; stat counts ticks
	// of 10 ms for all, which over seconds of load is exact enough.
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("reading CPU time: %w", err)
	}
	// The second field is the command in brackets and may hold spaces.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("reading CPU time: unexpected form of /proc/%d/stat", pid)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("reading CPU time: unexpected form of /proc/%d/stat", pid)
	}
	return time.Duration(user+system) * 10 * time.Millisecond, nil
}

// resident reads the memory of a process that is resident, in bytes.
func resident(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("reading memory: %w", err)
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("reading memory: no VmRSS of process %d", pid)
}
