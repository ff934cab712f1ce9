package sqldb_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/keyturn/keyturn/sqldb"
	"golang.org/x/sys/unix"
)

// Some tests need another process: this program again, with a task in its
// environment.
const taskVariable = "SQLDB_TEST_TASK"

var tasks = map[string]func(url string) error{
	"open":     openTask,
	"write":    writeTask,
	"diskfull": diskFullTask,
}

func TestMain(m *testing.M) {
	name, url, ok := strings.Cut(os.Getenv(taskVariable), " ")
	if !ok {
		os.Exit(m.Run())
	}
	if err := tasks[name](url); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func task(name, url string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), taskVariable+"="+name+" "+url)
	return cmd
}

// openTask opens the database and prints how many tables of ours it has.
func openTask(url string) error {
	db, err := sqldb.Open(context.Background(), url)
	if err != nil {
		return err
	}
	defer db.Close()
	var versions int
	err = db.QueryRow(context.Background(),
		`SELECT count(*) - count(DISTINCT version_id) FROM goose_db_version`).Scan(&versions)
	fmt.Println(versions)
	return err
}

// writeTask inserts rows from several goroutines until it is killed, and prints the
// number of each after Write has returned.
func writeTask(url string) error {
	ctx := context.Background()
	db, err := sqldb.Open(ctx, url)
	if err != nil {
		return err
	}
	err = db.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(`CREATE TABLE IF NOT EXISTS items (id TEXT NOT NULL PRIMARY KEY, n BIGINT NOT NULL, data BYTEA)`)
		return err
	})
	if err != nil {
		return err
	}
	for worker := range 8 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d-%d", os.Getpid(), worker, i)
				err := db.Write(ctx, func(tx *sqldb.Tx) error {
					_, err := tx.Exec(`INSERT INTO items (id, n) VALUES ($1, $2)`, id, i)
					return err
				})
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				os.Stdout.WriteString(id + "\n")
			}
		}()
	}
	select {}
}

// diskFullTask writes into a file that may not grow, then into one that may again.
func diskFullTask(url string) error {
	// Without this the kernel would kill us where a disk would say that it is full.
	signal.Ignore(syscall.SIGXFSZ)
	ctx := context.Background()
	db, err := sqldb.Open(ctx, url)
	if err != nil {
		return err
	}
	defer db.Close()
	put := func(size int) error {
		return db.Write(ctx, func(tx *sqldb.Tx) error {
			_, err := tx.Exec(`INSERT INTO items (id, n, data) VALUES ($1, $2, $3)`, strconv.Itoa(size), size, make([]byte, size))
			return err
		})
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		return err
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1 << 20, Max: old.Max}); err != nil {
		return err
	}
	full := put(2 << 20)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		return err
	}
	if full == nil {
		return fmt.Errorf("writing to a full disk succeeded")
	}
	fmt.Println(full)
	return put(3 << 20)
}

func TestSecondProcessIsRefused(t *testing.T) {
	url := "sqlite:" + t.TempDir() + "/keyturn.db"
	db, err := sqldb.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	out, err := task("open", url).CombinedOutput()
	if err == nil || !strings.Contains(string(out), fmt.Sprintf("in use by process %d;", os.Getpid())) {
		t.Errorf("second process: %v, %s; want a refusal with our number", err, out)
	}
	if _, err := sqldb.Open(t.Context(), url); err == nil {
		t.Error("the same process could open the file twice")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := task("open", url).CombinedOutput(); err != nil {
		t.Errorf("after Close: %v, %s", err, out)
	}
}

// TestKilledProcessLosesNothing kills a process that writes without pause, again
// and again: what Write had acknowledged must be there, whole.
func TestKilledProcessLosesNothing(t *testing.T) {
	path := t.TempDir() + "/keyturn.db"
	acknowledged := make(map[string]bool)
	for round := range 5 {
		cmd := task("write", "sqlite:"+path)
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
			if n == 100+37*round {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait()
	}
	db, err := sqldb.Open(t.Context(), "sqlite:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(t.Context(), `SELECT id FROM items`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	stored := 0
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		delete(acknowledged, id)
		stored++
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if len(acknowledged) > 0 {
		t.Errorf("%d acknowledged rows are lost, of %d stored", len(acknowledged), stored)
	}
	if stored < 500 {
		t.Errorf("only %d rows were written", stored)
	}
	var state string
	if err := db.QueryRow(t.Context(), `PRAGMA integrity_check`).Scan(&state); err != nil || state != "ok" {
		t.Errorf("integrity: %s, %v", state, err)
	}
}

func TestFullDisk(t *testing.T) {
	url := "sqlite:" + t.TempDir() + "/keyturn.db"
	db, err := sqldb.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	makeTable(t, db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := task("diskfull", url).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "disk") {
		t.Fatalf("%v\n%s", err, out)
	}
	if db, err = sqldb.Open(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if n := count(t, db); n != 1 {
		t.Errorf("%d rows, want the one written when there was room again", n)
	}
}
