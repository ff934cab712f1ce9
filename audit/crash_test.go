package audit_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
	"golang.org/x/sys/unix"
)

// Some tests need another process: this program again, with a task and a directory
// in its environment.
const taskVariable = "AUDIT_TEST_TASK"

var tasks = map[string]func(dir string) error{"append": appendTask, "diskfull": diskFullTask, "open": openTask}

func TestMain(m *testing.M) {
	name, dir, ok := strings.Cut(os.Getenv(taskVariable), " ")
	if !ok {
		os.Exit(m.Run())
	}
	if err := tasks[name](dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func task(name, dir string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), taskVariable+"="+name+" "+dir)
	return cmd
}

func openTask(dir string) error {
	l, err := audit.Open(context.Background(), dir, nil, "node-1", audit.Options{})
	if err != nil {
		return err
	}
	return l.Close()
}

// appendTask appends until it is killed and prints the id of each record after
// Append has returned.
func appendTask(dir string) error {
	l, err := audit.Open(context.Background(), dir, nil, "node-1", audit.Options{MaxSize: 50_000})
	if err != nil {
		return err
	}
	for worker := range 16 {
		go func() {
			for i := 0; ; i++ {
				r := sample()
				r.EventID = fmt.Sprintf("%d-%d-%d", os.Getpid(), worker, i)
				if err := l.Append(context.Background(), r); err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				os.Stdout.WriteString(r.EventID + "\n")
			}
		}()
	}
	select {}
}

// TestKilledProcessLosesNothing kills a process that appends without pause, again
// and again.
func TestKilledProcessLosesNothing(t *testing.T) {
	dir := t.TempDir()
	acknowledged := make(map[string]bool)
	for round := range 6 {
		cmd := task("append", dir)
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		in := bufio.NewScanner(stdout)
		for n := 0; in.Scan(); n++ {
			acknowledged[in.Text()] = true
			if n == 150+41*round {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait()
	}
	fill(t, open(t, dir, nil, audit.Options{}), 1)
	report := verify(t, dir, audit.VerifyOptions{})
	if report.Records < len(acknowledged) || report.Files < 3 {
		t.Errorf("%d records in %d files, %d acknowledged", report.Records, report.Files, len(acknowledged))
	}
	for _, path := range files(t, dir) {
		for line := range strings.Lines(read(t, path)) {
			var r struct{ EventID string }
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			delete(acknowledged, r.EventID)
		}
	}
	if len(acknowledged) > 0 {
		t.Errorf("%d acknowledged records are lost", len(acknowledged))
	}
}

// TestTornEnd leaves at the end of the log what crashes leave there.
func TestTornEnd(t *testing.T) {
	for name, test := range map[string]struct {
		tear    func(text []byte) []byte
		records int // of 5, that are whole
	}{
		"half a line":          {func(b []byte) []byte { return b[:len(b)-100] }, 4},
		"no line end":          {func(b []byte) []byte { return b[:len(b)-1] }, 4},
		"one byte":             {func(b []byte) []byte { return append(b, '{') }, 5},
		"zeros":                {func(b []byte) []byte { return append(b, make([]byte, 4096)...) }, 5},
		"zeros over a line":    {func(b []byte) []byte { clear(b[len(b)-500:]); return b }, 4},
		"garbage lines":        {func(b []byte) []byte { return append(b, "x\ny\n\n{}\nz"...) }, 5},
		"more than any line":   {func(b []byte) []byte { return append(b, bytes.Repeat([]byte("x"), 5<<20)...) }, 5},
		"nothing whole at all": {func(b []byte) []byte { return b[:100] }, 0},
		"nothing at all":       {func([]byte) []byte { return nil }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			fill(t, open(t, dir, nil, audit.Options{}), 5)
			path := files(t, dir)[0]
			torn := test.tear([]byte(read(t, path)))
			if err := os.WriteFile(path, torn, 0o600); err != nil {
				t.Fatal(err)
			}
			if name != "nothing at all" {
				if _, err := audit.Verify(dir, audit.VerifyOptions{}); err == nil {
					t.Error("Verify did not see it")
				}
			}
			l := open(t, dir, nil, audit.Options{})
			findings := l.Findings()
			fill(t, l, 2)
			report := verify(t, dir, audit.VerifyOptions{})
			if name == "nothing at all" {
				if len(findings) != 0 || report.Records != 2 {
					t.Errorf("findings %q, report %+v", findings, report)
				}
				return
			}
			// The finding is a record itself.
			if len(findings) != 1 || report.Records != test.records+3 {
				t.Errorf("findings %q, report %+v", findings, report)
			}
			if len(report.Torn) != 1 || !strings.Contains(findings[0], report.Torn[0]) {
				t.Fatalf("set aside: %q, findings %q", report.Torn, findings)
			}
			aside := read(t, filepath.Join(dir, report.Torn[0]))
			if !bytes.HasSuffix(torn, []byte(aside)) || aside == "" {
				t.Error("what was set aside is not what stood there")
			}
			if !strings.Contains(read(t, path), `"eventName":"AuditLogRecovered"`) {
				t.Error("the log does not tell")
			}
			again := open(t, dir, nil, audit.Options{})
			if len(again.Findings()) != 0 {
				t.Errorf("the next start finds %q again", again.Findings())
			}
			fill(t, again, 1)
		})
	}
}

// TestDamageInTheMiddleIsKept opens a log with an altered record: evidence must
// stay where it is.
func TestDamageInTheMiddleIsKept(t *testing.T) {
	dir, paths, texts := written(t)
	last := paths[len(paths)-1]
	texts[0][0] = strings.Replace(texts[0][0], "signer", "nobody", 1)
	store(t, paths[0], texts[0]...)
	before := read(t, paths[0])
	fill(t, open(t, dir, nil, audit.Options{}), 3)
	if read(t, paths[0]) != before || !strings.Contains(read(t, last), `"seq":23,`) {
		t.Error("the damaged log was changed, or does not go on")
	}
	_, err := audit.Verify(dir, audit.VerifyOptions{})
	var damage *audit.Damage
	if !errors.As(err, &damage) || damage.Seq != 1 {
		t.Errorf("Verify: %v", err)
	}
}

// TestCutOffTailGoesOnBehindTheHole removes the newest file before the log is
// opened again: the numbers of its records must not be given to others.
func TestCutOffTailGoesOnBehindTheHole(t *testing.T) {
	for name, cut := range map[string]func(paths []string) int{ // returns how many files stay
		"newest file": func(p []string) int { return len(p) - 1 },
		"everything":  func([]string) int { return 0 },
	} {
		t.Run(name, func(t *testing.T) {
			db := sqldbtest.SQLite(t)
			dir := t.TempDir()
			fill(t, open(t, dir, db, small), 20)
			paths := files(t, dir)
			kept := paths[:cut(paths)]
			hole := uint64(1)
			for _, path := range kept {
				hole += uint64(strings.Count(read(t, path), "\n"))
			}
			for _, path := range paths[len(kept):] {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			l := open(t, dir, db, small)
			if len(l.Findings()) != 1 || !strings.Contains(l.Findings()[0], "record 20 was anchored") {
				t.Errorf("findings %q", l.Findings())
			}
			fill(t, l, 2)
			names := files(t, dir)
			damaged(t, dir, anchors(t, db), hole, names[len(kept)], 0)
			o := anchors(t, db)
			o.From = 21
			for _, path := range kept {
				os.Remove(path)
			}
			if report := verify(t, dir, o); report.FirstSeq != 21 || report.LastSeq != 23 {
				t.Errorf("behind the hole: %+v", report)
			}
		})
	}
}

func TestTwoLogsOfOneName(t *testing.T) {
	db := sqldbtest.SQLite(t)
	one := open(t, t.TempDir(), db, audit.Options{})
	two := open(t, t.TempDir(), db, audit.Options{})
	fill(t, one, 3)
	if err := two.Append(t.Context(), sample()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := two.Append(t.Context(), sample()); err != nil {
			t.Fatal(err)
		}
	}
	if err := two.Close(); err == nil || !strings.Contains(err.Error(), "node-1") {
		t.Errorf("the second log of the name: %v", err)
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, nil, audit.Options{})
	out, err := task("open", dir).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "another process is writing it") {
		t.Errorf("second process: %v, %s", err, out)
	}
	fill(t, l, 1)
	if out, err := task("open", dir).CombinedOutput(); err != nil {
		t.Errorf("after Close: %v, %s", err, out)
	}
}

// diskFullTask appends until the file may not grow any more, and then checks that
// the log stays closed, even with room again.
func diskFullTask(dir string) error {
	signal.Ignore(syscall.SIGXFSZ)
	ctx := context.Background()
	l, err := audit.Open(ctx, dir, nil, "node-1", audit.Options{})
	if err != nil {
		return err
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 10_000, Max: old.Max}); err != nil {
		return err
	}
	n := 0
	for ; n < 1000; n++ {
		if err = l.Append(ctx, sample()); err != nil {
			break
		}
	}
	if err == nil {
		return errors.New("appending to a full disk succeeded")
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		return err
	}
	if again := l.Append(ctx, sample()); again == nil || again.Error() != err.Error() {
		return fmt.Errorf("Append after %w: %w", err, again)
	}
	if l.Healthy() == nil || l.Close() == nil {
		return errors.New("the log calls itself healthy")
	}
	fmt.Println(n)
	return nil
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	out, err := task("diskfull", dir).Output()
	if err != nil {
		t.Fatalf("%v, %s", err, stderrOf(err))
	}
	var acknowledged int
	if _, err := fmt.Sscan(string(out), &acknowledged); err != nil || acknowledged < 3 {
		t.Fatalf("%s, %v", out, err)
	}
	l := open(t, dir, nil, audit.Options{})
	if len(l.Findings()) != 1 {
		t.Errorf("findings %q, want the torn line", l.Findings())
	}
	fill(t, l, 1)
	if report := verify(t, dir, audit.VerifyOptions{}); report.Records != acknowledged+2 {
		t.Errorf("%d records, %d acknowledged before", report.Records, acknowledged)
	}
}

// flaky is a file that fails on purpose.
type flaky struct {
	audit.File
	write, sync   error
	hold          chan bool // if not nil, Write waits for it
	writes, syncs atomic.Int64
}

func (f *flaky) Write(b []byte) (int, error) {
	f.writes.Add(1)
	if f.hold != nil {
		<-f.hold
	}
	if f.write != nil {
		n, _ := f.File.Write(b[:len(b)/2])
		return n, f.write
	}
	return f.File.Write(b)
}

func (f *flaky) Sync() error {
	f.syncs.Add(1)
	if f.sync != nil {
		return f.sync
	}
	return f.File.Sync()
}

func openFlaky(t *testing.T, dir string, o audit.Options) (*audit.Log, *flaky) {
	t.Helper()
	l := open(t, dir, nil, o)
	f := new(flaky)
	if err := audit.Wrap(l, func(file audit.File) audit.File { f.File = file; return f }); err != nil {
		t.Fatal(err)
	}
	return l, f
}

// TestFailureIsFinal: after a failed write or sync nothing may be appended, even
// when the disk works again.
func TestFailureIsFinal(t *testing.T) {
	broken := errors.New("broken disk")
	for name, set := range map[string]func(*flaky, error){
		"write": func(f *flaky, err error) { f.write = err },
		"sync":  func(f *flaky, err error) { f.sync = err },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			l, f := openFlaky(t, dir, audit.Options{})
			if err := l.Append(t.Context(), sample()); err != nil || l.Healthy() != nil {
				t.Fatal(err, l.Healthy())
			}
			set(f, broken)
			for range 2 {
				if err := l.Append(t.Context(), sample()); !errors.Is(err, broken) {
					t.Errorf("Append: %v", err)
				}
				set(f, nil)
			}
			if err := l.Healthy(); !errors.Is(err, broken) {
				t.Errorf("Healthy: %v", err)
			}
			syncs := f.syncs.Load()
			if err := l.Close(); !errors.Is(err, broken) {
				t.Errorf("Close: %v", err)
			}
			if f.syncs.Load() != syncs {
				t.Error("a sync was tried again, and its success would mean nothing")
			}
			fill(t, open(t, dir, nil, audit.Options{}), 1)
			verify(t, dir, audit.VerifyOptions{})
		})
	}
}

// TestNothingFollowsATornLine: appends that were waiting while a write failed must
// not be written behind what it left.
func TestNothingFollowsATornLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f := openFlaky(t, t.TempDir(), audit.Options{})
		f.write, f.hold = errors.New("broken disk"), make(chan bool)
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				if err := l.Append(t.Context(), sample()); !errors.Is(err, f.write) {
					t.Errorf("Append: %v", err)
				}
			})
			synctest.Wait()
		}
		close(f.hold)
		all.Wait()
		if n := f.writes.Load(); n != 1 {
			t.Errorf("%d writes, the first of which failed", n)
		}
		if err := l.Close(); !errors.Is(err, f.write) {
			t.Errorf("Close: %v", err)
		}
	})
}

// TestEverySyncsBeforeAppendReturns and shares the sync between those who wait.
func TestEverySyncsBeforeAppendReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f := openFlaky(t, t.TempDir(), audit.Options{})
		for n := range int64(3) {
			if err := l.Append(t.Context(), sample()); err != nil {
				t.Fatal(err)
			}
			if f.syncs.Load() != n+1 {
				t.Fatalf("%d syncs after %d appends", f.syncs.Load(), n+1)
			}
		}
		var all sync.WaitGroup
		for range 64 {
			all.Go(func() {
				for range 10 {
					if err := l.Append(t.Context(), sample()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if n := f.syncs.Load() - 3; n > 200 || n != f.writes.Load()-3 {
			t.Errorf("%d syncs and %d writes for 640 concurrent appends", n, f.writes.Load()-3)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// With an interval, what changes something is on the disk before its Append
// returns all the same; a use, a look, a refusal, and how a change ended that
// is on the disk as decided, are not waited for.
func TestIntervalSyncsChangesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f := openFlaky(t, t.TempDir(), audit.Options{Sync: audit.Interval, Interval: time.Hour})
		for _, c := range []struct {
			name     string
			readOnly bool
			decided  bool
			code     string
			syncs    int64 // afterwards
		}{
			{"a use", true, false, "", 0},
			{"a refused use", true, false, "AccessDenied", 0},
			{"a refused change", false, false, "AccessDenied", 0},
			{"a change", false, false, "", 1},
			{"how it ended", false, true, "", 1},
			{"another use", true, false, "", 1},
			{"another change", false, false, "", 2},
		} {
			r := sample()
			r.ReadOnly, r.Decided, r.ErrorCode = c.readOnly, c.decided, c.code
			if err := l.Append(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if n := f.syncs.Load(); n != c.syncs {
				t.Errorf("%d syncs after %s, want %d", n, c.name, c.syncs)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestIntervalSyncsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, f := openFlaky(t, t.TempDir(), audit.Options{Sync: audit.Interval, Interval: 3 * time.Second})
		synced := make(map[time.Duration]int64)
		start := time.Now()
		for range 100 {
			if err := l.Append(t.Context(), sample()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			synced[time.Since(start)] = f.syncs.Load()
		}
		if f.writes.Load() != 100 {
			t.Errorf("%d writes", f.writes.Load())
		}
		for after, want := range map[time.Duration]int64{2900 * time.Millisecond: 0, 3100 * time.Millisecond: 1, 9500 * time.Millisecond: 3} {
			if synced[after] != want {
				t.Errorf("%d syncs after %v, want %d", synced[after], after, want)
			}
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := f.syncs.Load(); n != 4 {
			t.Errorf("%d syncs after an idle hour, want 4", n)
		}
		f.sync = errors.New("broken disk")
		if err := l.Append(t.Context(), sample()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Second)
		synctest.Wait()
		if err := l.Append(t.Context(), sample()); !errors.Is(err, f.sync) {
			t.Errorf("Append after a sync failed behind its back: %v", err)
		}
		if err := l.Close(); !errors.Is(err, f.sync) {
			t.Errorf("Close: %v", err)
		}
	})
}

func TestConcurrentAppends(t *testing.T) {
	db := sqldbtest.SQLite(t)
	dir := t.TempDir()
	l := open(t, dir, db, audit.Options{MaxSize: 30_000})
	var all sync.WaitGroup
	for worker := range 16 {
		all.Go(func() {
			for i := range 50 {
				r := sample()
				r.EventID = fmt.Sprintf("%d-%d", worker, i)
				if err := l.Append(t.Context(), r); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	report := verify(t, dir, anchors(t, db))
	if report.Records != 800 || report.Files < 10 || report.Anchors != report.Files {
		t.Errorf("report %+v", report)
	}
	seen := make(map[string]bool)
	for _, path := range files(t, dir) {
		for line := range strings.Lines(read(t, path)) {
			var r struct{ EventID string }
			if err := json.Unmarshal([]byte(line), &r); err != nil || seen[r.EventID] {
				t.Fatalf("%v, %q twice", err, r.EventID)
			}
			seen[r.EventID] = true
		}
		if info, err := os.Stat(path); err != nil || info.Size() > 60_000 {
			t.Errorf("%s has %d bytes, %v", path, info.Size(), err)
		}
	}
}

// TestVerifyBesideTheWriter verifies a log again and again while it is written.
func TestVerifyBesideTheWriter(t *testing.T) {
	db := sqldbtest.SQLite(t)
	dir := t.TempDir()
	l := open(t, dir, db, audit.Options{MaxSize: 100_000, Sync: audit.Interval})
	stop := make(chan bool)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 3000 { // on a disk that syncs at once, verifying would never catch up
				select {
				case <-stop:
					return
				default:
				}
				if err := l.Append(t.Context(), sample()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 30 {
		verify(t, dir, anchors(t, db))
	}
	close(stop)
	all.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestAnchorsComeByThemselves lets an hour pass: the newest anchor is never older
// than its interval, and idle hours and interim anchors leave nothing behind.
func TestAnchorsComeByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := sqldbtest.SQLite(t)
		l := open(t, t.TempDir(), db, audit.Options{})
		for range 60 {
			if err := l.Append(t.Context(), sample()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		all := anchors(t, db).Anchors
		if len(all) != 1 || all[0].Seq < 59 {
			t.Errorf("anchors %+v, want one of record 59 or 60", all)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := l.Append(t.Context(), sample()); !errors.Is(err, audit.ErrClosed) {
			t.Errorf("Append after Close: %v", err)
		}
	})
}

func TestEndedContext(t *testing.T) {
	l := open(t, t.TempDir(), nil, audit.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Append(ctx, sample()); !errors.Is(err, context.Canceled) {
		t.Errorf("Append: %v", err)
	}
	fill(t, l, 1)
}

// stderrOf is what the child that ended with err wrote to standard error.
func stderrOf(err error) []byte {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.Stderr
	}
	return nil
}
