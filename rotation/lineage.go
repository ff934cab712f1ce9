package rotation

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/keyturn/keyturn/sqldb"
)

const generationColumns = `g.target, g.alias_arn, g.number, g.key_arn, g.state, g.made, g.spec, g.key_usage, g.public_key, g.note,
	g.created_at, g.published_at, g.activated_at, g.deactivated_at, g.overlap_ends, g.suspended_at, g.deletion_at,
	g.compromised_at, g.destroyed_at, g.regions`

const generationsQuery = `SELECT ` + generationColumns + `, CASE WHEN g.key_arn = l.active_key THEN 1 ELSE 0 END
	FROM generations g JOIN lineages l ON l.target = g.target AND l.alias_arn = g.alias_arn `

// generations reads those that where selects; the last argument may be a limit.
func (t *SQLTable) generations(ctx context.Context, where string, args ...any) ([]Generation, error) {
	rows, err := t.db.Query(ctx, generationsQuery+where, args...)
	if err != nil {
		return nil, fmt.Errorf("reading generations: %w", err)
	}
	defer rows.Close()
	var all []Generation
	for rows.Next() {
		g, err := scanGeneration(rows)
		if err != nil {
			return nil, fmt.Errorf("reading generations: %w", err)
		}
		all = append(all, g)
	}
	return all, rows.Err()
}

func scanGeneration(s scanner) (g Generation, err error) {
	var regions string
	err = s.Scan(&g.Target, &g.Alias, &g.Number, &g.Key, &g.State, &g.Made, &g.Spec, &g.Usage, &g.Public, &g.Note,
		instant{&g.CreatedAt}, instant{&g.PublishedAt}, instant{&g.ActivatedAt}, instant{&g.DeactivatedAt},
		instant{&g.OverlapEnds}, instant{&g.SuspendedAt}, instant{&g.DeletionAt}, instant{&g.CompromisedAt},
		instant{&g.DestroyedAt}, &regions, flag{&g.Active})
	g.Regions = strings.Fields(regions)
	return g, err
}

// storeGeneration applies c to the generation it names; a new one gets the next number.
func storeGeneration(tx *sqldb.Tx, p *Policy, c *GenerationChange) error {
	alias := p.AliasARN()
	g, err := scanGeneration(tx.QueryRow(`SELECT `+generationColumns+`, 0 FROM generations g
		WHERE g.target = $1 AND g.alias_arn = $2 AND g.key_arn = $3`, p.Target, alias, c.Key))
	isNew := errors.Is(err, sql.ErrNoRows)
	if err != nil && !isNew {
		return fmt.Errorf("reading generation: %w", err)
	}
	if isNew {
		g = Generation{Target: p.Target, Alias: alias, Key: c.Key, State: StatePreActivation, Made: MadeByKeyturn, CreatedAt: c.at}
		if c.Made != "" {
			g.Made = c.Made
		}
		if err := tx.QueryRow(`UPDATE lineages SET numbers = numbers + 1 WHERE target = $1 AND alias_arn = $2 RETURNING numbers`,
			p.Target, alias).Scan(&g.Number); err != nil {
			return fmt.Errorf("numbering generation: %w", err)
		}
	}
	c.apply(&g)
	statement := `UPDATE generations SET state = $5, made = $6, spec = $7, key_usage = $8, public_key = $9, note = $10,
			created_at = $11, published_at = $12, activated_at = $13, deactivated_at = $14, overlap_ends = $15,
			suspended_at = $16, deletion_at = $17, compromised_at = $18, destroyed_at = $19, usable_until = $20,
			regions = $21, kin = $22
		WHERE target = $1 AND alias_arn = $2 AND number = $3 AND key_arn = $4`
	if isNew {
		statement = `INSERT INTO generations (target, alias_arn, number, key_arn, state, made, spec, key_usage, public_key, note,
			created_at, published_at, activated_at, deactivated_at, overlap_ends, suspended_at, deletion_at,
			compromised_at, destroyed_at, usable_until, regions, kin)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)`
	}
	if _, err := tx.Exec(statement, g.Target, g.Alias, g.Number, g.Key, string(g.State), string(g.Made), g.Spec, g.Usage, g.Public, g.Note,
		micros(g.CreatedAt), micros(g.PublishedAt), micros(g.ActivatedAt), micros(g.DeactivatedAt), micros(g.OverlapEnds),
		micros(g.SuspendedAt), micros(g.DeletionAt), micros(g.CompromisedAt), micros(g.DestroyedAt), g.usableUntil(),
		strings.Join(g.Regions, " "), kinOf(g.Key)); err != nil {
		return fmt.Errorf("storing generation: %w", err)
	}
	if c.Current {
		if _, err := tx.Exec(`UPDATE lineages SET previous_key = active_key, active_key = $3
			WHERE target = $1 AND alias_arn = $2 AND active_key <> $3`, p.Target, alias, c.Key); err != nil {
			return fmt.Errorf("storing lineage: %w", err)
		}
	}
	tx.Touch(c.Key)
	return touchLineage(tx, p.Target, alias)
}

// left reports whether g will have left the key set by now: verifiers that fetched
// it lately may not know the key.
func (g *Generation) left(now time.Time) bool {
	switch g.State {
	case StateActive:
		return false
	case StateDeactivated:
		return !g.OverlapEnds.IsZero() && !now.Before(g.OverlapEnds)
	}
	return true
}

// apply changes g as c says. The time of a state is that of its last beginning;
// doing it again changes nothing.
func (c *GenerationChange) apply(g *Generation) {
	if c.Published && g.PublishedAt.IsZero() {
		g.PublishedAt = c.at
	}
	if c.State != "" && c.State != g.State && g.State.leaves(c.State) {
		g.State = c.State
		switch c.State {
		case StateActive:
			g.ActivatedAt = c.at
			g.DeactivatedAt, g.OverlapEnds, g.SuspendedAt, g.DeletionAt = time.Time{}, time.Time{}, time.Time{}, time.Time{}
		case StateDeactivated:
			g.DeactivatedAt, g.OverlapEnds, g.SuspendedAt = c.at, c.overlapEnds, time.Time{}
		case StateSuspended:
			g.SuspendedAt = c.at
		case StateCompromised:
			g.CompromisedAt = c.at
		case StateDestroyed:
			g.DestroyedAt = c.at
		}
	}
	if c.Spec != "" {
		g.Spec = c.Spec
	}
	if c.Usage != "" {
		g.Usage = c.Usage
	}
	if c.Public != nil {
		g.Public = c.Public
	}
	if c.Note != "" {
		g.Note = c.Note
	}
	if c.Regions != nil {
		g.Regions = c.Regions
	}
	if !c.DeletionAt.IsZero() {
		g.DeletionAt = c.DeletionAt
	}
}

// retime lets the policy's overlap and deactivation, which have changed, count for the
// generations that are deactivated already.
func retime(tx *sqldb.Tx, p *Policy) error {
	rows, err := tx.Query(`SELECT `+generationColumns+`, 0 FROM generations g
		WHERE g.target = $1 AND g.alias_arn = $2 AND g.state = 'deactivated'`, p.Target, p.AliasARN())
	if err != nil {
		return fmt.Errorf("reading generations: %w", err)
	}
	var all []Generation
	for rows.Next() {
		g, err := scanGeneration(rows)
		if err != nil {
			rows.Close()
			return fmt.Errorf("reading generations: %w", err)
		}
		all = append(all, g)
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading generations: %w", err)
	}
	for i := range all {
		g := &all[i]
		g.OverlapEnds = overlapEnds(p, g.Usage, g.DeactivatedAt)
		if _, err := tx.Exec(`UPDATE generations SET overlap_ends = $4, usable_until = $5 WHERE target = $1 AND alias_arn = $2 AND number = $3`,
			g.Target, g.Alias, g.Number, micros(g.OverlapEnds), g.usableUntil()); err != nil {
			return fmt.Errorf("storing generation: %w", err)
		}
		tx.Touch(g.Key)
	}
	return touchLineage(tx, p.Target, p.AliasARN())
}

// leaves reports whether a generation may go from s to another state: what is
// destroyed stays so, and what is compromised can only be destroyed.
func (s State) leaves(to State) bool {
	return s != StateDestroyed && (s != StateCompromised || to == StateDestroyed)
}

// usableUntil is until when the generation may verify or decrypt by the lineage's name.
func (g *Generation) usableUntil() int64 {
	switch {
	case g.State == StateDeactivated && !g.OverlapEnds.IsZero():
		return micros(g.OverlapEnds)
	case g.State == StatePreActivation, g.State == StateActive, g.State == StateDeactivated:
		return math.MaxInt64
	}
	return 0
}

// storeEvents appends events to the history of the policy's lineage.
func storeEvents(tx *sqldb.Tx, p *Policy, events []Event) error {
	if len(events) == 0 {
		return nil
	}
	var seq int64
	if err := tx.QueryRow(`UPDATE lineages SET events = events + $3 WHERE target = $1 AND alias_arn = $2 RETURNING events`,
		p.Target, p.AliasARN(), len(events)).Scan(&seq); err != nil {
		return fmt.Errorf("numbering history: %w", err)
	}
	seq -= int64(len(events))
	for i := range events {
		e := &events[i]
		if _, err := tx.Exec(`INSERT INTO rotation_events (target, alias_arn, seq, at, policy, rotation, kind, step, what, note, error, next_at, node, caller)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
			p.Target, p.AliasARN(), seq+int64(i)+1, micros(e.At), e.Policy, e.Rotation, string(e.Kind), string(e.Step), string(e.What),
			plain(e.Note), plain(e.Error), micros(e.Next), e.Node, e.Caller); err != nil {
			return fmt.Errorf("storing history: %w", err)
		}
	}
	return nil
}

// plain makes text of other programs fit for a TEXT column: valid, without NUL, of bounded size.
func plain(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return s
}

const maxText = 2000

// Lineage returns the ARNs of the keys that may verify or decrypt what was made
// through the alias of this server, newest first; none when it is no lineage.
// Pending keys are among them, so that what the alias's new key has made can be
// verified even if the switch is not yet recorded. In a Region that follows another
// one's lineage they are the kin, in that Region, of its generations.
func (t *SQLTable) Lineage(ctx context.Context, aliasARN string, now time.Time) ([]string, error) {
	home, err := t.homeOf(ctx, aliasARN)
	if err != nil {
		return nil, err
	}
	rows, err := t.db.Query(ctx, lineageQuery, TargetLocal, home, micros(now))
	if err != nil {
		return nil, fmt.Errorf("reading lineage: %w", err)
	}
	defer rows.Close()
	var keys []string
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			return nil, err
		}
		if home != aliasARN {
			if kinOf(key) == "" {
				continue // of one Region, from before the lineage had several
			}
			key = inRegion(key, regionOf(aliasARN))
		}
		keys = append(keys, key)
	}
	return keys, rows.Err()
}

// Deactivated reports whether a key of this server is a generation that may no
// longer sign or encrypt; of a Multi-Region key this holds in every Region. A key that is active in one lineage may, whatever it is
// in others; so may one whose policy says deactivate: never, unless it is compromised.
func (t *SQLTable) Deactivated(ctx context.Context, keyARN string) (bool, error) {
	query, key := deactivatedQuery+`g.key_arn = $1`, keyARN
	if kin := kinOf(keyARN); kin != "" {
		query, key = deactivatedQuery+ofKin, kin
	}
	rows, err := t.db.Query(ctx, query, key, TargetLocal)
	if err != nil {
		return false, fmt.Errorf("reading state of generation: %w", err)
	}
	defer rows.Close()
	deactivated, active := false, false
	for rows.Next() {
		var state State
		var doc sql.NullString
		if err := rows.Scan(&state, &doc); err != nil {
			return false, err
		}
		switch state {
		case StateCompromised, StateDestroyed:
			return true, rows.Err()
		case StateActive, StatePreActivation:
			active = true
		default:
			if !doc.Valid {
				deactivated = true
				break
			}
			p, err := parsePolicy(doc.String, false)
			if err != nil {
				return false, err
			}
			deactivated = deactivated || p.Deactivate != DeactivateNever
		}
	}
	return deactivated && !active, rows.Err()
}

const lineageQuery = `SELECT key_arn FROM generations
		WHERE target = $1 AND alias_arn = $2 AND usable_until > $3 ORDER BY number DESC`

const deactivatedQuery = `SELECT g.state, p.doc FROM generations g
		LEFT JOIN rotation_policies p ON p.target = g.target AND p.alias_arn = g.alias_arn
		WHERE g.target = $2 AND `

// The index of kin holds Multi-Region keys only, and the planner must know that it may use it.
const ofKin = `g.kin = $1 AND g.kin <> ''`
