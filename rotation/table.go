package rotation

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/keyturn/keyturn/sqldb"
)

// Table is what the engine keeps its rows in. It is safe for concurrent use by any
// number of engines, in one process or in many.
//
// Store is atomic and durable when it returns nil. When it returns an error other
// than sqldb.ErrConflict the change may have been stored nevertheless; storing it
// again then gives sqldb.ErrConflict, because the rows' Gen has moved on. The
// reads see committed data.
type Table interface {
	// Due returns up to limit rows that wait for an engine, the earliest first, whether
	// their time has come or not. It is one query over one index.
	Due(ctx context.Context, limit int) ([]Entry, error)
	// Related reads what a step of row needs to know.
	Related(ctx context.Context, row *Row, p *Policy) (Related, error)
	// Beginning reads what matters only when row is about to begin.
	Beginning(ctx context.Context, row *Row, since time.Time, limit int) (Beginning, error)
	// Store stores c whole, or nothing: sqldb.ErrConflict when the Gen of one of its rows has moved on.
	Store(ctx context.Context, p *Policy, c *Change) error
	// Release ends the lease that row shows, if it is still the one in the table: its holder
	// has stopped, but what it did could not be stored. It changes nothing else.
	Release(ctx context.Context, row *Row) error
	// TurnedBy returns the ARN of the policy that turns an alias at a target; "" when none does.
	TurnedBy(ctx context.Context, target, aliasARN string) (policy string, err error)
}

// Entry is a row with its policy.
type Entry struct {
	Row    Row
	Policy *Policy
}

// Related is what is known of the generations that a row is about.
type Related struct {
	Active, Old, New *Generation
	Next             int      // the number of the lineage's next generation
	Follows          []string // other Regions in which the alias turns with the lineage
	Held             *Row
}

// Beginning is what stands before a rotation that is to begin.
type Beginning struct {
	Failed *Row        // the rotation whose pending key it takes over
	Begun  []time.Time // when rotations of the policy that make keys began, newest first, at most limit
	Busy   bool        // what a canceled rotation made is still being removed
}

// NewTable returns the table in db.
func NewTable(db *sqldb.DB) *SQLTable { return &SQLTable{db} }

// SQLTable is the Table in a database.
type SQLTable struct{ db *sqldb.DB }

const rowColumns = `r.id, r.policy, r.gen, r.kind, r.status, r.head, r.step, r.begun, r.attempt, r.error, r.hint,
	r.switched, r.parked, r.due, r.start_at, r.window_end, r.wanted, r.base, r.why, r.token,
	r.created_at, r.begun_at, r.switched_at, r.ended_at, r.owner, r.lease_until, r.data`

// Due implements Table.
func (t *SQLTable) Due(ctx context.Context, limit int) ([]Entry, error) {
	rows, err := t.db.Query(ctx, dueQuery, limit)
	if err != nil {
		return nil, fmt.Errorf("reading due rotations: %w", err)
	}
	defer rows.Close()
	var entries []Entry
	for rows.Next() {
		var e Entry
		var doc string
		var paused bool
		if e.Row, err = scanRow(rows, &doc, flag{&paused}); err == nil {
			e.Policy, err = parsePolicy(doc, paused)
		}
		if err != nil {
			return nil, fmt.Errorf("reading due rotations: %w", err)
		}
		entries = append(entries, e)
	}
	return entries, rows.Err()
}

const dueQuery = `SELECT ` + rowColumns + `, p.doc, p.paused
	FROM rotations r JOIN rotation_policies p ON p.arn = r.policy
	WHERE r.wake IS NOT NULL ORDER BY r.wake LIMIT $1`

// Related implements Table.
func (t *SQLTable) Related(ctx context.Context, row *Row, p *Policy) (Related, error) {
	var r Related
	gens, err := t.generations(ctx, relatedWhere,
		p.Target, p.AliasARN(), row.Data.OldKey, row.Data.NewKey)
	if err != nil {
		return r, err
	}
	for i := range gens {
		g := &gens[i]
		if g.Active {
			r.Active = g
		}
		if g.Key == row.Data.OldKey {
			r.Old = g
		}
		if g.Key == row.Data.NewKey {
			r.New = g
		}
	}
	err = t.db.QueryRow(ctx, `SELECT numbers + 1 FROM lineages WHERE target = $1 AND alias_arn = $2`, p.Target, p.AliasARN()).Scan(&r.Next)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return r, fmt.Errorf("reading lineage: %w", err)
	}
	if r.Follows, err = t.follows(ctx, p); err != nil {
		return r, err
	}
	if row.Data.Holds != "" {
		held, err := t.row(ctx, row.Data.Holds)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return r, err
		}
		if err == nil {
			r.Held = &held
		}
	}
	return r, nil
}

func (t *SQLTable) row(ctx context.Context, id string) (Row, error) {
	return scanRow(t.db.QueryRow(ctx, `SELECT `+rowColumns+` FROM rotations r WHERE r.id = $1`, id))
}

// Beginning implements Table.
func (t *SQLTable) Beginning(ctx context.Context, row *Row, since time.Time, limit int) (Beginning, error) {
	var b Beginning
	open, err := t.rows(ctx, openQuery, row.Policy)
	if err != nil {
		return b, fmt.Errorf("reading open rotations: %w", err)
	}
	for _, r := range open {
		switch {
		case r.ID == row.ID:
		case r.takeable():
			b.Failed = &r
		case r.Kind == KindCancel && r.Status == StatusRunning && r.Attempt < patience:
			b.Busy = true
		}
	}
	rows, err := t.db.Query(ctx, begunQuery, row.Policy, micros(since), limit)
	if err != nil {
		return b, fmt.Errorf("counting rotations: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var at time.Time
		if err := rows.Scan(instant{&at}); err != nil {
			return b, err
		}
		b.Begun = append(b.Begun, at)
	}
	return b, rows.Err()
}

const (
	relatedWhere = `WHERE g.target = $1 AND g.alias_arn = $2 AND g.key_arn IN (l.active_key, $3, $4)`
	openQuery    = `SELECT ` + rowColumns + ` FROM rotations r
		WHERE r.policy = $1 AND r.stage > 0 ORDER BY r.created_at`
	begunQuery = `SELECT begun_at FROM rotations
		WHERE policy = $1 AND begun_at > $2 AND kind IN ('rotate', 'compromise', 'cancel') ORDER BY begun_at DESC LIMIT $3`
)

// patience is how many failed attempts to remove a pending key the next rotation waits for.
const patience = 5

// takeable reports whether r failed with a pending key that the next rotation takes over.
func (r *Row) takeable() bool {
	return r.Status == StatusFailed && !r.Switched && (r.Kind == KindRotate || r.Kind == KindCompromise)
}

// Release implements Table.
func (t *SQLTable) Release(ctx context.Context, row *Row) error {
	return t.db.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(`UPDATE rotations SET owner = '', lease_until = 0, wake = CASE WHEN wake IS NULL THEN NULL ELSE due END
			WHERE id = $1 AND owner = $2 AND lease_until = $3 AND gen > $4`, row.ID, row.Owner, micros(row.LeaseUntil), row.Gen)
		tx.Touch(topicRows)
		return err
	})
}

// topicRows is touched when there may be work that no engine has planned for.
const topicRows = "keyturn:rotations"

// Store implements Table.
func (t *SQLTable) Store(ctx context.Context, p *Policy, c *Change) error {
	return t.db.Write(ctx, func(tx *sqldb.Tx) error { return store(tx, p, c) })
}

// store stores c in tx.
func store(tx *sqldb.Tx, p *Policy, c *Change) error {
	if c.Parked {
		// Whoever resumes changes this row too, so one of the two sees the other.
		n, err := tx.Exec(`UPDATE rotation_policies SET paused = 1 WHERE arn = $1 AND paused = 1`, c.Row.Policy)
		if err != nil {
			return err
		}
		if n == 0 {
			return sqldb.ErrConflict
		}
	}
	if c.Row.ID != "" {
		if err := updateRow(tx, &c.Row); err != nil {
			return err
		}
	}
	for i := range c.Others {
		if err := updateRow(tx, &c.Others[i]); err != nil {
			return err
		}
	}
	for i := range c.Insert {
		if err := insertRow(tx, &c.Insert[i]); err != nil {
			return err
		}
		tx.Touch(topicRows)
	}
	for i := range c.Generations {
		if err := storeGeneration(tx, p, &c.Generations[i]); err != nil {
			return err
		}
	}
	if c.Follows != nil {
		if err := storeFollows(tx, p, c.Follows); err != nil {
			return err
		}
	}
	return storeEvents(tx, p, c.Events)
}

func updateRow(tx *sqldb.Tx, r *Row) error {
	data, err := json.Marshal(r.Data, json.Deterministic(true))
	if err != nil {
		return err
	}
	n, err := tx.Exec(`UPDATE rotations SET gen = gen + 1, kind = $3, status = $4, stage = $5, head = $6, step = $7,
			begun = $8, attempt = $9, error = $10, hint = $11, switched = $12, parked = $13, due = $14, wake = $15,
			start_at = $16, window_end = $17, wanted = $18, base = $19, why = $20, token = $21, begun_at = $22,
			switched_at = $23, ended_at = $24, owner = $25, lease_until = $26, data = $27
		WHERE id = $1 AND gen = $2`,
		r.ID, r.Gen, string(r.Kind), string(r.Status), r.stage(), bit(r.Head), string(r.Step), bit(r.Begun), r.Attempt,
		plain(r.Error), plain(r.Hint), bit(r.Switched), bit(r.Parked), micros(r.Due), r.wake(), micros(r.Start), micros(r.WindowEnd),
		micros(r.Wanted), micros(r.Base), string(r.Trigger), r.Token, micros(r.BegunAt), micros(r.SwitchedAt),
		micros(r.EndedAt), r.Owner, micros(r.LeaseUntil), string(data))
	if err != nil {
		return fmt.Errorf("storing rotation: %w", err)
	}
	if n == 0 {
		return sqldb.ErrConflict
	}
	return nil
}

func insertRow(tx *sqldb.Tx, r *Row) error {
	data, err := json.Marshal(r.Data, json.Deterministic(true))
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO rotations (id, policy, gen, kind, status, stage, head, step, begun, attempt, error, hint,
			switched, parked, due, wake, start_at, window_end, wanted, base, why, token, created_at, begun_at,
			switched_at, ended_at, owner, lease_until, data)
		VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
			$23, $24, $25, $26, $27, $28)`,
		r.ID, r.Policy, string(r.Kind), string(r.Status), r.stage(), bit(r.Head), string(r.Step), bit(r.Begun), r.Attempt,
		plain(r.Error), plain(r.Hint), bit(r.Switched), bit(r.Parked), micros(r.Due), r.wake(), micros(r.Start), micros(r.WindowEnd),
		micros(r.Wanted), micros(r.Base), string(r.Trigger), r.Token, micros(r.CreatedAt), micros(r.BegunAt),
		micros(r.SwitchedAt), micros(r.EndedAt), r.Owner, micros(r.LeaseUntil), string(data))
	if err != nil {
		return fmt.Errorf("storing rotation: %w", err)
	}
	return nil
}

// stage is the column that tells open rows from those that are over.
func (r *Row) stage() int64 {
	switch {
	case !r.Status.Open():
		return 0
	case r.Status == StatusScheduled:
		return 1
	}
	return 2
}

func (r *Row) wake() any {
	if wake := r.Wake(); !wake.IsZero() && (r.Status == StatusScheduled || r.Status == StatusRunning) {
		return micros(wake)
	}
	return nil
}

type scanner interface{ Scan(dest ...any) error }

func scanRow(s scanner, more ...any) (r Row, err error) {
	var data string
	dest := []any{
		&r.ID, &r.Policy, &r.Gen, &r.Kind, &r.Status,
		flag{&r.Head},
		&r.Step,
		flag{&r.Begun},
		&r.Attempt, &r.Error, &r.Hint,
		flag{&r.Switched},
		flag{&r.Parked},
		instant{&r.Due},
		instant{&r.Start},
		instant{&r.WindowEnd},
		instant{&r.Wanted},
		instant{&r.Base},
		&r.Trigger, &r.Token,
		instant{&r.CreatedAt},
		instant{&r.BegunAt},
		instant{&r.SwitchedAt},
		instant{&r.EndedAt},
		&r.Owner,
		instant{&r.LeaseUntil},
		&data,
	}
	if err := s.Scan(append(dest, more...)...); err != nil {
		return Row{}, err
	}
	if err := json.Unmarshal([]byte(data), &r.Data); err != nil {
		return Row{}, fmt.Errorf("reading data of rotation %s: %w", r.ID, err)
	}
	return r, nil
}

func (t *SQLTable) rows(ctx context.Context, query string, args ...any) ([]Row, error) {
	rows, err := t.db.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return scanRows(rows)
}

func scanRows(rows *sql.Rows) (all []Row, err error) {
	defer rows.Close()
	for rows.Next() {
		r, err := scanRow(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// instant scans UTC microseconds; 0 is the zero time.
type instant struct{ to *time.Time }

// Scan implements sql.Scanner.
func (i instant) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("scanning time: %T", v)
	}
	*i.to = time.Time{}
	if n != 0 {
		*i.to = time.UnixMicro(n).UTC()
	}
	return nil
}

// flag scans 0 or 1.
type flag struct{ to *bool }

// Scan implements sql.Scanner.
func (f flag) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("scanning boolean: %T", v)
	}
	*f.to = n != 0
	return nil
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func parsePolicy(doc string, paused bool) (*Policy, error) {
	p := new(Policy)
	if err := json.Unmarshal([]byte(doc), p); err != nil {
		return nil, fmt.Errorf("reading policy: %w", err)
	}
	*p = p.WithDefaults()
	p.Paused = paused
	return p, nil
}
