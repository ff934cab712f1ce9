//go:build unix

package sqldbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// Server is a PostgreSQL server of this test process.
type Server struct {
	admin     string // URL of the database postgres
	port      int
	pid       int // the postmaster
	watched   io.WriteCloser
	watcher   *exec.Cmd
	databases atomic.Int64

	mu   sync.Mutex // guards free
	free []string   // URLs of databases with the schema and nothing in it
}

var sharedServer = sync.OnceValues(start)

// NewServer starts a server of the test's own, one that it may stop, and stops it
// at the end.
func NewServer(t testing.TB) *Server {
	t.Helper()
	s, err := start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	return s
}

// NewDatabase makes a fresh database on the server and returns its URL.
func (s *Server) NewDatabase(t testing.TB) (url string) {
	t.Helper()
	name := fmt.Sprintf("test%d", s.databases.Add(1))
	db, err := sql.Open("pgx", s.admin)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(context.Background(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	return s.url(name)
}

// Freeze stops every process of the server as SIGSTOP does: connections stay open
// and nothing answers. Thaw undoes it.
func (s *Server) Freeze() error { return s.signal(syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (s *Server) Thaw() error { return s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) error {
	// The backends are children of the postmaster, each in a group of its own.
	pids := []int{s.pid}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", s.pid, s.pid))
	if err != nil {
		return err
	}
	for _, field := range strings.Fields(string(children)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			return err
		}
		pids = append(pids, pid)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

func (s *Server) url(database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", s.port, database)
}

func (s *Server) stop() {
	_ = s.Thaw()
	s.watched.Close()
	_ = s.watcher.Wait()
}

// start makes a cluster and starts its server.
func start() (*Server, error) {
	postgres, err := find("postgres")
	if err != nil {
		return nil, err
	}
	initdb, err := find("initdb")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sqldbtest-")
	if err != nil {
		return nil, err
	}
	as, err := unprivileged(dir)
	if err != nil {
		return nil, err
	}
	kept := keptCluster(initdb)
	if kept != "" {
		_ = copyCluster(kept, filepath.Join(dir, "data")) // without it, one is made
	}
	// Another process may take the free port before the server does.
	for attempt := 1; ; attempt++ {
		s, err := launch(initdb, postgres, dir, as)
		if err == nil {
			keep(filepath.Join(dir, "fresh"), kept)
			return s, nil
		}
		if attempt == 5 {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
}

// watch makes the cluster in the directory $3 with $1, unless it is there, with a copy
// beside it, and runs the server $2 on port $4 until its standard input ends, which
// the kernel sees to when the test process dies. Then it removes the directory,
// unless told to keep it.
const watch = `trap '' PIPE
[ -d "$3/data" ] || {
	"$1" -D "$3/data" -U postgres -A trust -E UTF8 --locale=C --no-sync --no-instructions >"$3/log" 2>&1 </dev/null &&
	cp -Rp "$3/data" "$3/fresh"
}
"$2" -D "$3/data" -k '' -h 127.0.0.1 -p "$4" \
	-c fsync=off -c full_page_writes=off -c shared_buffers=32MB -c max_connections=300 \
	-c autovacuum=off -c log_min_messages=warning >>"$3/log" 2>&1 </dev/null &
echo $!
read word
kill -CONT $!; kill -QUIT $!; wait $!
[ "$word" = keep ] || rm -rf "$3"
exit 0`

func launch(initdb, postgres, dir string, as *syscall.SysProcAttr) (*Server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/bin/sh", "-c", watch, "sh", initdb, postgres, dir, strconv.Itoa(port))
	cmd.Dir = "/"
	cmd.SysProcAttr = as
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &Server{port: port, watched: stdin, watcher: cmd}
	s.admin = s.url("postgres")
	if _, err = fmt.Fscan(stdout, &s.pid); err == nil {
		err = s.wait()
	}
	if err != nil {
		_, _ = io.WriteString(stdin, "keep\n") // for the next attempt
		stdin.Close()
		_ = cmd.Wait()
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		return nil, fmt.Errorf("starting PostgreSQL: %w\n%s", err, log)
	}
	return s, nil
}

// wait returns when the server answers.
func (s *Server) wait() error {
	db, err := sql.Open("pgx", s.admin)
	if err != nil {
		return err
	}
	defer db.Close()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if err = db.PingContext(context.Background()); err == nil {
			return nil
		}
		if syscall.Kill(s.pid, 0) != nil || time.Now().After(deadline) {
			return err
		}
	}
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// find looks for a program in PATH and where Debian keeps PostgreSQL's, newest
// version first.
func find(program string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + program)
	best, newest := "", -1
	for _, path := range found {
		version, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		if err == nil && version > newest {
			best, newest = path, version
		}
	}
	if best == "" {
		return "", fmt.Errorf("this test needs %s of PostgreSQL, which is neither in PATH nor in "+
			"/usr/lib/postgresql: install it (Debian: apt-get install postgresql)", program)
	}
	return best, nil
}

// unprivileged says how to run the watcher: in a session of its own, out of reach of
// the Ctrl-C and the kill that end the test, and for root as another user, as whom
// PostgreSQL insists to run and to whom it gives dir.
func unprivileged(dir string) (*syscall.SysProcAttr, error) {
	if os.Geteuid() != 0 {
		return &syscall.SysProcAttr{Setsid: true}, nil
	}
	var uid, gid int
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		if uid, err = strconv.Atoi(u.Uid); err != nil {
			return nil, err
		}
		if gid, err = strconv.Atoi(u.Gid); err != nil {
			return nil, err
		}
		break
	}
	if uid == 0 {
		return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody")
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return nil, err
	}
	return &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}
