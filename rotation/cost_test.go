package rotation_test

import (
	"context"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotation/rotationtest"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// tally is a table that counts.
type tally struct {
	rotation.Table
	reads, writes atomic.Int64
}

func (c *tally) Due(ctx context.Context, limit int) ([]rotation.Entry, error) {
	c.reads.Add(1)
	return c.Table.Due(ctx, limit)
}

func (c *tally) Related(ctx context.Context, row *rotation.Row, p *rotation.Policy) (rotation.Related, error) {
	c.reads.Add(1)
	return c.Table.Related(ctx, row, p)
}

func (c *tally) Beginning(ctx context.Context, row *rotation.Row, since time.Time, limit int) (rotation.Beginning, error) {
	c.reads.Add(1)
	return c.Table.Beginning(ctx, row, since, limit)
}

func (c *tally) Store(ctx context.Context, p *rotation.Policy, change *rotation.Change) error {
	c.writes.Add(1)
	return c.Table.Store(ctx, p, change)
}

// TestIdleTickCostsOneIndexedQuery: among 100,000 policies of which none is due.
func TestIdleTickCostsOneIndexedQuery(t *testing.T) {
	run := func(t *testing.T, db *sqldb.DB, policies int) {
		h := newHouse(t, db, openGuard(t, db), monthly())
		h.runFor(time.Hour)
		multiply(t, db, policies)
		table := &tally{Table: rotation.NewTable(db)}
		engine := rotation.New(rotation.Config{Table: table, Rotators: map[string]rotation.Rotator{"key": h.world}, Targets: noTarget, Now: h.clock.Now})
		began := time.Now()
		const ticks = 200
		for range ticks {
			if worked, err := engine.RunOnce(t.Context()); worked || err != nil {
				t.Fatal(worked, err)
			}
		}
		if table.reads.Load() != ticks || table.writes.Load() != 0 {
			t.Errorf("%d ticks made %d reads and %d writes", ticks, table.reads.Load(), table.writes.Load())
		}
		t.Logf("a tick takes %s", time.Since(began)/ticks)
		plan := explain(t, db, rotation.DueQuery, 8)
		t.Log(plan)
		if !strings.Contains(plan, "rotations_wake") || regexp.MustCompile(`TEMP B-TREE|Sort|SCAN p|Seq Scan on rotations`).MatchString(plan) {
			t.Errorf("the query does not rest on one index: %s", plan)
		}
	}
	t.Run("sqlite", func(t *testing.T) { run(t, sqldbtest.SQLite(t), 100_000) })
	// The planner of PostgreSQL needs only enough rows to choose as it would among more.
	t.Run("postgres", func(t *testing.T) { run(t, sqldbtest.Open(t, sqldbtest.Postgres(t)), 10_000) })
}

// multiply copies the one policy and its next rotation n times.
func multiply(t *testing.T, db *sqldb.DB, n int) {
	t.Helper()
	numbers := `WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < $1) `
	err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
		for _, insert := range []string{
			`INSERT INTO rotation_policies ` + numbers + `SELECT arn || i, account, region, name || i, target, alias_arn || i, doc, paused, gen, created_at, updated_at, service
				FROM rotation_policies, n`,
			`INSERT INTO rotations ` + numbers + `SELECT id || i, policy || i, gen, kind, status, stage, head, step, begun, attempt, error, hint, switched, parked,
				due + i, wake + i, start_at, window_end, wanted, base, why, token, created_at, begun_at, switched_at, ended_at, owner, lease_until, data
				FROM rotations, n WHERE head = 1`,
		} {
			if _, err := tx.Exec(insert, n); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if db.IsPostgres() {
		if err := db.Write(t.Context(), func(tx *sqldb.Tx) error { _, err := tx.Exec(`ANALYZE`); return err }); err != nil {
			t.Fatal(err)
		}
	}
}

func explain(t *testing.T, db *sqldb.DB, query string, args ...any) string {
	t.Helper()
	prefix := "EXPLAIN QUERY PLAN "
	if db.IsPostgres() {
		prefix = "EXPLAIN "
	}
	rows, err := db.Query(t.Context(), prefix+query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	text := ""
	for rows.Next() {
		var line string
		var id, parent, unused int
		if db.IsPostgres() {
			err = rows.Scan(&line)
		} else {
			err = rows.Scan(&id, &parent, &unused, &line)
		}
		if err != nil {
			t.Fatal(err)
		}
		text += line + "\n"
	}
	return text
}

// cpuTime is what this process has used so far: unlike the time, it does not depend on the neighbours.
func cpuTime(t *testing.T) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// TestCostDoesNotDependOnHistory: a late turn makes the calls that an early one made, and
// each of its reads is a search in an index. With -every the late one is the 1,000th.
func TestCostDoesNotDependOnHistory(t *testing.T) {
	db := sqldbtest.SQLite(t)
	p := monthly()
	p.Mode, p.Lead, p.Schedule, p.Adopt = rotation.ModeInstant, 0, "", rotation.AdoptFull
	p.Overlap, p.Suspend, p.MaxKeysPerDay = rotation.Duration(time.Hour), rotation.Duration(time.Hour), 1_000_000
	h := newHouse(t, db, openGuard(t, db), p)
	table := &tally{Table: rotation.NewTable(db)}
	h.world.Faults = &rotationtest.Faults{}
	h.engine = rotation.New(rotation.Config{
		Table: table, Rotators: map[string]rotation.Rotator{"key": h.world}, Targets: noTarget, Now: h.clock.Now, Node: "node-1",
	})
	cost := func(turns int) (reads, writes int64, took time.Duration) {
		r, w, began := table.reads.Load(), table.writes.Load(), cpuTime(t)
		for range turns {
			h.must(h.rotateNow())
			for until := h.clock.Now().Add(3 * time.Hour); ; {
				worked, err := h.engine.RunOnce(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if worked {
					continue
				}
				wake := h.wake()
				if wake.IsZero() || wake.After(until) {
					h.clock.Set(until)
					break
				}
				h.clock.Set(wake)
			}
		}
		return table.reads.Load() - r, table.writes.Load() - w, (cpuTime(t) - began) / time.Duration(turns)
	}
	cost(70) // until as many keys wait for their deletion as ever will
	earlyReads, earlyWrites, early := cost(50)
	turns := 250
	if *every {
		turns = 1_000
	}
	cost(turns - 170)
	lateReads, lateWrites, late := cost(50)
	if earlyReads != lateReads || earlyWrites != lateWrites {
		t.Errorf("50 turns made %d reads and %d writes first, %d and %d in the end", earlyReads, earlyWrites, lateReads, lateWrites)
	}
	t.Logf("a turn takes %s of CPU first, %s in the end; %d reads, %d writes", early, late, earlyReads/50, earlyWrites/50)
	if n := len(h.world.Keys()); n != turns+1 {
		t.Errorf("%d keys", n)
	}
	for name, query := range rotation.EngineQueries {
		args := make([]any, strings.Count(query, "$"))
		for i := range args {
			args[i] = 1
		}
		plan := explain(t, db, query, args...)
		if strings.Contains(plan, "SCAN") && !strings.Contains(plan, "USING INDEX rotations_wake") || strings.Contains(plan, "TEMP B-TREE") && name != "lineage" {
			t.Errorf("%s does not rest on an index:\n%s", name, plan)
		}
	}
}
