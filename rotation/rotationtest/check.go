package rotationtest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/sqldb"
)

// Check returns what of the eight invariants does not hold for the world and its
// one policy in db, at this instant. It may be called between any two calls.
// settled means that nothing is under way any more, when no orphan may be left.
func Check(ctx context.Context, db *sqldb.DB, w *World, settled bool) []string {
	broken := w.Violations()
	say := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }

	// 1, 6: the alias names an enabled, tested key.
	alias := w.Alias()
	if alias.State != Enabled || !alias.Tested {
		say("1: the alias names %s, which is %s and tested: %t", alias.ARN, alias.State, alias.Tested)
	}
	s, err := read(ctx, db, w)
	if err != nil {
		return append(broken, err.Error())
	}
	// 3: what was made can be verified until its overlap ends, by a key that the lineage names.
	lineage, err := rotation.NewTable(db).Lineage(ctx, w.Policy.AliasARN(), w.Now())
	if err != nil {
		say("%s", err)
	}
	for _, k := range w.Keys() {
		if !k.Used || k.Revoked || s.state[k.ARN] == rotation.StateCompromised || s.state[k.ARN] == "" {
			continue
		}
		over := !k.LeftAt.IsZero() && !w.Now().Before(k.LeftAt.Add(time.Duration(w.Policy.Overlap)))
		if !over && k.State != Enabled {
			say("3: %s is %s inside its overlap", k.ARN, k.State)
		}
		if !over && !slices.Contains(lineage, k.ARN) {
			say("3: the lineage %v does not name %s", lineage, k.ARN)
		}
	}
	// A key in use must be allowed to do its work.
	if off, err := rotation.NewTable(db).Deactivated(ctx, alias.ARN); err != nil || off {
		say("1: the alias names %s, which may not sign: %t %v", alias.ARN, off, err)
	}
	s.checkKeys(w, settled, say)
	s.checkRows(w, alias, settled, say)
	return broken
}

// snapshot is what the database says of a world.
type snapshot struct {
	state  map[string]rotation.State // key → state of its generation
	active string
	begun  int
	heads  int
	asleep []string // heads that nothing would wake
	doubt  bool     // the switch of a row is under way
	held   int      // rows that a roll back holds
	back   int      // roll backs under way
	rows   []string
	tokens map[string]string // token → status of the newest row that has it
	paused bool
	timed  bool // the policy has a schedule
}

func read(ctx context.Context, db *sqldb.DB, w *World) (*snapshot, error) {
	s := &snapshot{state: map[string]rotation.State{}, tokens: map[string]string{}}
	rows, err := db.Query(ctx, `SELECT key_arn, state FROM generations WHERE alias_arn = $1`, w.Policy.AliasARN())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var key string
		var state rotation.State
		if err := rows.Scan(&key, &state); err != nil {
			return nil, err
		}
		s.state[key] = state
	}
	rows.Close()
	if err := db.QueryRow(ctx, `SELECT active_key FROM lineages WHERE alias_arn = $1`, w.Policy.AliasARN()).Scan(&s.active); err != nil {
		return nil, err
	}
	s.timed = w.Policy.Schedule != ""
	rows, err = db.Query(ctx, `SELECT r.id, r.kind, r.status, r.step, r.begun, r.head, r.switched, r.begun_at, r.token, COALESCE(r.wake, 0), r.parked, p.paused
		FROM rotations r JOIN rotation_policies p ON p.arn = r.policy WHERE p.alias_arn = $1 ORDER BY r.created_at, r.id`, w.Policy.AliasARN())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id, kind, status, step, token string
		var begun, head, switched, begunAt, wake, parked, paused int64
		if err := rows.Scan(&id, &kind, &status, &step, &begun, &head, &switched, &begunAt, &token, &wake, &parked, &paused); err != nil {
			return nil, err
		}
		s.rows = append(s.rows, fmt.Sprintf("%s %s %s step %s begun %d head %d", id[:8], kind, status, step, begun, head))
		if status == "held" {
			s.held++
		}
		if kind == "roll-back" && switched == 0 && (status == "scheduled" || status == "running") {
			s.back++
		}
		if begunAt != 0 && (kind == "rotate" || kind == "compromise" || kind == "cancel") {
			s.begun++
			s.tokens[token] = status
		}
		s.heads += int(head)
		if head == 1 && wake == 0 && (s.timed || status != "scheduled") && paused == 0 {
			s.asleep = append(s.asleep, id)
		}
		s.paused = s.paused || paused == 1
		s.doubt = s.doubt || begun == 1 && switched == 0 && step == string(rotation.StepSwitch) && status == "running"
	}
	return s, rows.Err()
}

// checkKeys: 4, keys created ≤ rotations begun, and no orphan.
func (s *snapshot) checkKeys(w *World, settled bool, say func(string, ...any)) {
	made := 0
	for _, k := range w.Keys() {
		if k.Token == "" {
			continue
		}
		made++
		if !settled || k.State == Gone || k.State == Pending {
			continue
		}
		switch status := s.tokens[k.Token]; {
		case s.state[k.ARN] == "" && status != "failed":
			say("4: %s is an orphan: no generation, and its rotation is %q", k.ARN, status)
		case s.state[k.ARN] == rotation.StatePreActivation && (status == "canceled" || status == "done" || status == ""):
			say("4: %s is pending although its rotation is %q", k.ARN, status)
		}
	}
	if made > s.begun {
		say("4: %d keys were made for %d rotations", made, s.begun)
	}
}

// checkRows: 5 and 7.
func (s *snapshot) checkRows(w *World, alias Key, settled bool, say func(string, ...any)) {
	if s.heads != 1 {
		say("7: %d rows are to move the alias next: %v", s.heads, s.rows)
	}
	if len(s.asleep) > 0 {
		say("7: nothing wakes %v", s.asleep)
	}
	if s.held > s.back {
		say("7: %d rows are held by %d roll backs: %v", s.held, s.back, s.rows)
	}
	if s.active != "" && s.active != alias.ARN && !s.doubt {
		say("5: the alias names %s, the lineage says %s: %v", alias.ARN, s.active, s.rows)
	}
	if settled && s.doubt {
		say("5: it is not known whether the alias was switched: %v", s.rows)
	}
}
