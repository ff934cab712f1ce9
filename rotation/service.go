package rotation

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/sqldb"
)

// ServiceConfig is what a Service stands on. DB, Guard, Rotators and Targets are
// required; the rest is as in Config.
type ServiceConfig struct {
	DB       *sqldb.DB
	Guard    *access.Guard
	Rotators map[string]Rotator
	Targets  Targets
	// MayTarget says whether policies of an account may name a target other than this server. Nil: none may.
	MayTarget func(account, target string) bool
	// Kin answers the ARNs of the aliases of the same name, in other Regions of this server, that name the same
	// Multi-Region key as an alias. Nil: there are none.
	Kin     func(ctx context.Context, aliasARN string) ([]string, error)
	Now     func() time.Time
	Node    string
	Rand    func() float64
	Lease   time.Duration
	Workers int
	Poll    time.Duration
	Logger  *slog.Logger
}

// Service is Keyturn's own API: policies, rotations, lineages and history. Every
// operation is checked and recorded by the guard as "keyturn:" and its name, on the
// policy's ARN. Commands only change rows; the engine, here or on another node, does
// the work. It also answers kms.Lineages and the source of JWKS.
type Service struct {
	c      ServiceConfig
	table  *SQLTable
	engine *Engine
}

// NewService makes the service and an engine for it, which works only while Run does.
func NewService(c ServiceConfig) (*Service, error) {
	if c.DB == nil || c.Guard == nil || c.Targets == nil || len(c.Rotators) == 0 {
		return nil, errors.New("opening rotation: database, guard, rotators and targets are required")
	}
	table := NewTable(c.DB)
	engine := New(Config{
		Table: table, Rotators: c.Rotators, Targets: c.Targets, Now: c.Now, Node: c.Node, Rand: c.Rand, Lease: c.Lease,
		Workers: c.Workers, Poll: c.Poll, Logger: c.Logger,
	})
	rows := sqldb.ShardOf(topicRows)
	c.DB.OnChange(func(shard sqldb.Shard) {
		if shard == rows {
			engine.Poke()
		}
	})
	return &Service{c: c, table: table, engine: engine}, nil
}

// Engine returns the service's engine.
func (s *Service) Engine() *Engine { return s.engine }

// Run turns what is due until ctx ends.
func (s *Service) Run(ctx context.Context) error { return s.engine.Run(ctx) }

// Lineage returns the ARNs of the keys that may verify or decrypt what was made
// through the alias, newest first; none when it is no lineage of this server.
func (s *Service) Lineage(ctx context.Context, aliasARN string) ([]string, error) {
	return s.table.Lineage(ctx, aliasARN, s.engine.now())
}

// Deactivated reports whether the key may no longer sign, encrypt, MAC or
// encapsulate because it is a generation that was deactivated.
func (s *Service) Deactivated(ctx context.Context, keyARN string) (bool, error) {
	return s.table.Deactivated(ctx, keyARN)
}

// LineageInfo is a lineage as those need it who show its public keys.
type LineageInfo struct {
	Target string
	Alias  string  // ARN
	Policy *Policy // nil when it was deleted
	// Generations that are or may soon be of use, newest first: pending, active and deactivated ones
	// inside their overlap. Their number does not grow with the history.
	Generations []Generation
	// Switches is the earliest time at which a pending generation becomes active; zero: not known.
	Switches time.Time
}

// ErrNoLineage says that an alias is no lineage.
var ErrNoLineage = errors.New("the alias is not a lineage")

// Generations returns what is known of the lineage of alias ("alias/…") in the
// account and Region, on whatever target, or ErrNoLineage. It checks no permission:
// what it says is published. A row that its policy's lead holds back tells when the
// pending generation can become active.
func (s *Service) Generations(ctx context.Context, account, region, alias string) (*LineageInfo, error) {
	if !strings.HasPrefix(alias, "alias/") {
		return nil, ErrNoLineage // the materials of a key are nobody's business
	}
	p := Policy{Account: account, Region: region, Alias: alias}
	info := &LineageInfo{Alias: p.AliasARN()}
	var doc sql.NullString
	var paused sql.NullInt64
	err := s.c.DB.QueryRow(ctx, `SELECT l.target, p.doc, p.paused FROM lineages l
		LEFT JOIN rotation_policies p ON p.target = l.target AND p.alias_arn = l.alias_arn
		WHERE l.alias_arn = $1 ORDER BY CASE WHEN l.target = 'local' THEN 0 ELSE 1 END, l.target LIMIT 1`,
		info.Alias).Scan(&info.Target, &doc, &paused)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, ErrNoLineage
	case err != nil:
		return nil, fmt.Errorf("reading lineage: %w", err)
	}
	if doc.Valid {
		if info.Policy, err = parsePolicy(doc.String, paused.Int64 != 0); err != nil {
			return nil, err
		}
	}
	info.Generations, err = s.table.generations(ctx, `WHERE g.target = $1 AND g.alias_arn = $2 AND g.usable_until > $3
		ORDER BY g.number DESC`, info.Target, info.Alias, micros(s.engine.now()))
	if err != nil {
		return nil, err
	}
	for _, g := range info.Generations {
		if g.State == StatePreActivation && !g.PublishedAt.IsZero() && info.Policy != nil {
			info.Switches = g.PublishedAt.Add(info.Policy.Lead.std())
		}
	}
	return info, nil
}

// stored is a policy with its row.
type stored struct {
	arn                  string
	policy               *Policy
	gen                  int64
	createdAt, updatedAt time.Time
}

func policyARN(account, region, name string) string {
	return "arn:aws:keyturn:" + region + ":" + account + ":policy/" + name
}

// check decides and records whether the call may do its operation to the policy.
func (s *Service) check(ctx context.Context, call *access.Call, name string) (arn string, err error) {
	arn = policyARN(call.Account, call.Region, name)
	return arn, s.c.Guard.Check(ctx, call, "keyturn:"+call.Operation,
		access.Resource{ARN: arn, Account: call.Account, Type: "AWS::Keyturn::Policy"})
}

type queryer interface {
	QueryRow(query string, args ...any) *sql.Row
}

// reader lets what runs in a transaction run outside one too.
type reader struct {
	ctx context.Context
	db  *sqldb.DB
}

// QueryRow reads committed data.
func (r reader) QueryRow(query string, args ...any) *sql.Row {
	return r.db.QueryRow(r.ctx, query, args...)
}

// findPolicy reads the policy of the ARN, or answers NotFoundException.
func findPolicy(q queryer, arn string) (*stored, error) {
	st := &stored{arn: arn}
	var doc string
	var paused bool
	err := q.QueryRow(`SELECT doc, paused, gen, created_at, updated_at FROM rotation_policies WHERE arn = $1`, arn).
		Scan(&doc, flag{&paused}, &st.gen, instant{&st.createdAt}, instant{&st.updatedAt})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, awsapi.Errorf("NotFoundException", "Rotation policy %s does not exist.", arn)
	case err != nil:
		return nil, fmt.Errorf("reading policy: %w", err)
	}
	st.policy, err = parsePolicy(doc, paused)
	return st, err
}

// insertPolicy stores a new policy, and its lineage unless there is one already. service names who
// keeps it; empty: people do.
func insertPolicy(tx *sqldb.Tx, st *stored, account, region, service string, now time.Time) error {
	p := st.policy
	doc, err := st.document()
	if err != nil {
		return err
	}
	if _, err := tx.Exec(`INSERT INTO rotation_policies (arn, account, region, name, target, alias_arn, doc, paused, gen, created_at, updated_at, service)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1, $9, $9, $10)`,
		st.arn, account, region, p.Name, p.Target, p.AliasARN(), doc, bit(p.Paused), micros(now), service); err != nil {
		return fmt.Errorf("storing policy: %w", err)
	}
	if _, err := tx.Exec(`INSERT INTO lineages (target, alias_arn, active_key, previous_key, numbers, events)
		VALUES ($1, $2, '', '', 0, 0) ON CONFLICT (target, alias_arn) DO NOTHING`, p.Target, p.AliasARN()); err != nil {
		return fmt.Errorf("storing lineage: %w", err)
	}
	st.gen = 1
	return nil
}

// storePolicy writes the document of st, compare-and-swap on its gen.
func storePolicy(tx *sqldb.Tx, st *stored, now time.Time) error {
	doc, err := st.document()
	if err != nil {
		return err
	}
	n, err := tx.Exec(`UPDATE rotation_policies SET doc = $3, paused = $4, gen = gen + 1, updated_at = $5
		WHERE arn = $1 AND gen = $2`, st.arn, st.gen, doc, bit(st.policy.Paused), micros(now))
	if err == nil && n == 0 {
		err = sqldb.ErrConflict
	}
	if err != nil {
		return fmt.Errorf("storing policy: %w", err)
	}
	tx.Touch(topicRows)
	return nil
}

// document is the policy as it is stored: whether it is paused has a column of its own.
func (st *stored) document() (string, error) {
	p := *st.policy
	p.Paused = false
	doc, err := json.Marshal(p, json.Deterministic(true))
	return string(doc), err
}

// standing reads where the policy stands.
func (s *Service) standing(tx *sqldb.Tx, st *stored, caller string, d draw, reason string) (*standing, error) {
	at := &standing{arn: st.arn, policy: st.policy, d: d, now: s.engine.now(), caller: caller, reason: reason}
	at.steps = func(r *Row) []StepDef {
		if rotator := s.c.Rotators[st.policy.Rotator]; rotator != nil {
			return rotator.Steps(r, st.policy)
		}
		return nil
	}
	rows, err := tx.Query(`SELECT `+rowColumns+` FROM rotations r WHERE r.policy = $1 AND r.stage > 0 ORDER BY r.created_at, r.id`, st.arn)
	if err != nil {
		return nil, err
	}
	if at.open, err = scanRows(rows); err != nil {
		return nil, fmt.Errorf("reading open rotations: %w", err)
	}
	err = tx.QueryRow(`SELECT active_key, previous_key FROM lineages WHERE target = $1 AND alias_arn = $2`,
		st.policy.Target, st.policy.AliasARN()).Scan(&at.active, &at.previous)
	if err != nil {
		return nil, fmt.Errorf("reading lineage: %w", err)
	}
	return at, nil
}

// command checks the call, and stores in one transaction what decide wants for the policy
// as it stands then. decide may run more than once. A nil change stores nothing.
func (s *Service) command(ctx context.Context, call *access.Call, name, reason string,
	decide func(tx *sqldb.Tx, st *stored, at *standing) (*Change, error),
) (*stored, error) {
	arn, err := s.check(ctx, call, name)
	if err != nil {
		return nil, err
	}
	d := s.engine.draw()
	var st *stored
	for range 5 { // a row's gen can move on between reading and writing only where several connections write
		err = s.c.DB.Write(ctx, func(tx *sqldb.Tx) error {
			var err error
			if st, err = findPolicy(tx, arn); err != nil {
				return err
			}
			if err := st.policy.guards(call.Operation); err != nil {
				return err
			}
			at, err := s.standing(tx, st, call.Caller.ARN, d, reason)
			if err != nil {
				return err
			}
			c, err := decide(tx, st, at)
			if err != nil || c == nil {
				return err
			}
			tx.Touch(topicRows)
			return store(tx, st.policy, c)
		})
		if !errors.Is(err, sqldb.ErrConflict) {
			return st, err
		}
	}
	return st, err
}

// generation reads one of the policy's lineage, by key.
func generation(q queryer, p *Policy, key string) (*Generation, error) {
	g, err := scanGeneration(q.QueryRow(`SELECT `+generationColumns+`, 0 FROM generations g
		WHERE g.target = $1 AND g.alias_arn = $2 AND g.key_arn = $3`, p.Target, p.AliasARN(), key))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading generation: %w", err)
	}
	return &g, nil
}
