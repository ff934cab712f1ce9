package rotation

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
)

// Rotation is a row as callers see it. Its token is not shown: who knows it could
// make keys that look like Keyturn's.
type Rotation struct {
	RotationId  string
	Policy      string // ARN
	Kind        Kind
	Status      Status
	Step        Step   `json:",omitzero"` // the next one, or the one under way
	Begun       bool   // Step is under way
	Attempt     int    // failed attempts of Step so far
	Error       string `json:",omitzero"`
	Hint        string `json:",omitzero"` // what a person can do
	Switched    bool
	Overdue     bool // it should have switched by now
	Trigger     Trigger
	Due         time.Time `json:",omitzero"` // of Step
	WindowStart time.Time `json:",omitzero"`
	WindowEnd   time.Time `json:",omitzero"`
	OldKey      string    `json:",omitzero"`
	NewKey      string    `json:",omitzero"`
	Reason      string    `json:",omitzero"`
	CreatedAt   time.Time
	BegunAt     time.Time          `json:",omitzero"`
	SwitchedAt  time.Time          `json:",omitzero"`
	EndedAt     time.Time          `json:",omitzero"`
	DoneAt      map[Step]time.Time `json:",omitzero"` // step → when it was done
	Node        string             `json:",omitzero"` // that holds the step under way
}

func view(r *Row, p *Policy, now time.Time) Rotation {
	v := Rotation{
		RotationId: r.ID, Policy: r.Policy, Kind: r.Kind, Status: r.Status, Step: r.Step, Begun: r.Begun, Attempt: r.Attempt,
		Error: r.Error, Hint: r.Hint, Switched: r.Switched, Overdue: r.overdue(p, now), Trigger: r.Trigger, Due: r.Due,
		WindowStart: r.Start, WindowEnd: r.WindowEnd, OldKey: r.Data.OldKey, NewKey: r.Data.NewKey, Reason: r.Data.Reason,
		CreatedAt: r.CreatedAt, BegunAt: r.BegunAt, SwitchedAt: r.SwitchedAt, EndedAt: r.EndedAt, DoneAt: r.Data.DoneAt,
	}
	if r.LeaseUntil.After(now) {
		v.Node = r.Owner
	}
	return v
}

func views(rows []Row, p *Policy, now time.Time) []Rotation {
	all := make([]Rotation, len(rows))
	for i := range rows {
		all[i] = view(&rows[i], p, now)
	}
	return all
}

// overdue reports whether a rotation should have switched by now: an hour, or a lead
// where that is needed, after its window first opened.
func (r *Row) overdue(p *Policy, now time.Time) bool {
	if r.Switched || r.Wanted.IsZero() || !r.Kind.moves() || !r.Status.Open() {
		return false
	}
	allowed := time.Hour
	if r.Kind == KindRotate && p != nil && !r.Due.Before(r.Start) {
		allowed += p.Lead.std()
	}
	return now.After(r.Wanted.Add(allowed))
}

// GetPolicyOutput is a policy and where it stands.
type GetPolicyOutput struct {
	PolicyArn   string
	Policy      Policy
	CreatedAt   time.Time
	UpdatedAt   time.Time
	Next        *Rotation    `json:",omitzero"` // scheduled, or under way before its switch
	Open        []Rotation   // everything that is not over, oldest first, Next included
	Generations []Generation // that are of use, newest first
}

// GetPolicy answers a policy's document and where it stands.
func (s *Service) GetPolicy(ctx context.Context, call *access.Call, in *NameInput) (*GetPolicyOutput, error) {
	st, err := s.policy(ctx, call, in.Name)
	if err != nil {
		return nil, err
	}
	out := &GetPolicyOutput{PolicyArn: st.arn, Policy: *st.policy, CreatedAt: st.createdAt, UpdatedAt: st.updatedAt}
	rows, err := s.table.rows(ctx, `SELECT `+rowColumns+` FROM rotations r
		WHERE r.policy = $1 AND r.stage > 0 ORDER BY r.created_at, r.id`, st.arn)
	if err != nil {
		return nil, fmt.Errorf("reading rotations: %w", err)
	}
	now := s.engine.now()
	out.Open = views(rows, st.policy, now)
	for i := range rows {
		if rows[i].Head {
			out.Next = &out.Open[i]
		}
	}
	out.Generations, err = s.table.generations(ctx, `WHERE g.target = $1 AND g.alias_arn = $2 AND g.usable_until > $3
		ORDER BY g.number DESC`, st.policy.Target, st.policy.AliasARN(), micros(now))
	out.Generations = orEmpty(out.Generations)
	return out, err
}

// policy checks the call and finds the policy it names.
func (s *Service) policy(ctx context.Context, call *access.Call, name string) (*stored, error) {
	arn, err := s.check(ctx, call, name)
	if err != nil {
		return nil, err
	}
	return findPolicy(reader{ctx, s.c.DB}, arn)
}

// Page is which part of a list is asked for.
type Page struct {
	MaxResults int    `json:",omitzero"` // 1–1000; default 100
	NextToken  string `json:",omitzero"` // of the answer before
}

func (p Page) limit() (int, error) {
	if p.MaxResults == 0 {
		return 100, nil
	}
	if p.MaxResults < 1 || p.MaxResults > 1000 {
		return 0, awsapi.Errorf("ValidationException", "MaxResults: expected 1 to 1000, not %d", p.MaxResults)
	}
	return p.MaxResults, nil
}

// A token names where the next page begins. It permits nothing, so it need not be sealed.
func (p Page) after() (string, error) {
	b, err := base64.RawURLEncoding.DecodeString(p.NextToken)
	if err != nil {
		return "", awsapi.Errorf("InvalidMarkerException", "NextToken is not one that this operation answered.")
	}
	return string(b), nil
}

func token(after string) string { return base64.RawURLEncoding.EncodeToString([]byte(after)) }

// ListPoliciesInput asks for policies of the account and Region.
type ListPoliciesInput struct {
	Keys bool `json:",omitzero"` // those of the keys that EnableKeyRotation turns, instead of those that people put
	Page `json:",inline"`
}

// ListPoliciesOutput is a page of policies, by name.
type ListPoliciesOutput struct {
	Policies  []PolicySummary
	NextToken string `json:",omitzero"`
}

// PolicySummary is a policy in a list.
type PolicySummary struct {
	Name      string
	PolicyArn string
	Target    string
	Alias     string
	Schedule  string `json:",omitzero"`
	Mode      Mode
	Paused    bool
	Next      *Rotation `json:",omitzero"` // scheduled, or under way before its switch
}

// Among 100,000 keys that turn, those that people put are found at once.
const policiesQuery = `SELECT ` + rowColumns + `, p.arn, p.doc, p.paused
	FROM rotation_policies p JOIN rotations r ON r.policy = p.arn AND r.head = 1
	WHERE p.account = $1 AND p.region = $2 AND p.service = $3 AND p.name > $4 ORDER BY p.name LIMIT $5`

// ListPolicies answers the policies of the account and Region.
func (s *Service) ListPolicies(ctx context.Context, call *access.Call, in *ListPoliciesInput) (*ListPoliciesOutput, error) {
	if _, err := s.check(ctx, call, "*"); err != nil {
		return nil, err
	}
	limit, err := in.limit()
	if err != nil {
		return nil, err
	}
	after, err := in.after()
	if err != nil {
		return nil, err
	}
	service := ""
	if in.Keys {
		service = materialService
	}
	rows, err := s.c.DB.Query(ctx, policiesQuery, call.Account, call.Region, service, after, limit+1)
	if err != nil {
		return nil, fmt.Errorf("reading policies: %w", err)
	}
	defer rows.Close()
	out, now := &ListPoliciesOutput{Policies: []PolicySummary{}}, s.engine.now()
	for rows.Next() {
		if len(out.Policies) == limit {
			out.NextToken = token(out.Policies[limit-1].Name)
			break
		}
		var arn, doc string
		var paused bool
		row, err := scanRow(rows, &arn, &doc, flag{&paused})
		if err != nil {
			return nil, fmt.Errorf("reading policies: %w", err)
		}
		p, err := parsePolicy(doc, paused)
		if err != nil {
			return nil, err
		}
		next := view(&row, p, now)
		out.Policies = append(out.Policies, PolicySummary{
			Name: p.Name, PolicyArn: arn, Target: p.Target, Alias: p.Alias, Schedule: p.Schedule, Mode: p.Mode, Paused: paused, Next: &next,
		})
	}
	return out, rows.Err()
}

// ListRotationsInput asks for the rotations of a policy.
type ListRotationsInput struct {
	Name string
	Open bool // only those that are not over
	Page `json:",inline"`
}

// ListRotationsOutput is a page of rotations, the newest first.
type ListRotationsOutput struct {
	Rotations []Rotation
	NextToken string `json:",omitzero"`
}

// ListRotations answers the rotations of a policy.
func (s *Service) ListRotations(ctx context.Context, call *access.Call, in *ListRotationsInput) (*ListRotationsOutput, error) {
	st, err := s.policy(ctx, call, in.Name)
	if err != nil {
		return nil, err
	}
	limit, err := in.limit()
	if err != nil {
		return nil, err
	}
	before := int64(1<<63 - 1)
	id := "~"
	if after, err := in.after(); err != nil {
		return nil, err
	} else if after != "" {
		if _, err := fmt.Sscanf(after, "%d %s", &before, &id); err != nil {
			return nil, awsapi.Errorf("InvalidMarkerException", "NextToken is not one that this operation answered.")
		}
	}
	stage := 0
	if in.Open {
		stage = 1
	}
	rows, err := s.table.rows(ctx, `SELECT `+rowColumns+` FROM rotations r
		WHERE r.policy = $1 AND (r.created_at < $2 OR r.created_at = $2 AND r.id < $3) AND r.stage >= $4
		ORDER BY r.created_at DESC, r.id DESC LIMIT $5`, st.arn, before, id, stage, limit+1)
	if err != nil {
		return nil, fmt.Errorf("reading rotations: %w", err)
	}
	out := &ListRotationsOutput{}
	if len(rows) > limit {
		rows = rows[:limit]
		last := &rows[limit-1]
		out.NextToken = token(fmt.Sprintf("%d %s", micros(last.CreatedAt), last.ID))
	}
	out.Rotations = views(rows, st.policy, s.engine.now())
	return out, nil
}

// DescribeRotationInput names a rotation.
type DescribeRotationInput struct {
	RotationId string
}

// DescribeRotationOutput is a rotation with its history.
type DescribeRotationOutput struct {
	Rotation Rotation
	Events   []Event // oldest first, at most 1000
}

// DescribeRotation answers one rotation. Who may not read its policy learns no more
// of it than of one that does not exist.
func (s *Service) DescribeRotation(ctx context.Context, call *access.Call, in *DescribeRotationInput) (*DescribeRotationOutput, error) {
	row, err := s.table.row(ctx, in.RotationId)
	missing := errors.Is(err, sql.ErrNoRows)
	if err != nil && !missing {
		return nil, fmt.Errorf("reading rotation: %w", err)
	}
	prefix := policyARN(call.Account, call.Region, "")
	name := "*"
	if !missing && len(row.Policy) > len(prefix) && row.Policy[:len(prefix)] == prefix {
		name = row.Policy[len(prefix):]
	} else {
		missing = true
	}
	if _, err := s.check(ctx, call, name); err != nil {
		return nil, err
	}
	if missing {
		return nil, awsapi.Errorf("NotFoundException", "Rotation %s does not exist.", clip(in.RotationId))
	}
	out := &DescribeRotationOutput{Rotation: view(&row, nil, s.engine.now())}
	out.Events, err = s.events(ctx, `WHERE e.rotation = $1 ORDER BY e.seq LIMIT 1000`, nil, row.ID)
	return out, err
}

// ListGenerationsInput asks for the generations of a policy's lineage.
type ListGenerationsInput struct {
	Name string
	Page `json:",inline"`
}

// ListGenerationsOutput is a page of generations, the newest first.
type ListGenerationsOutput struct {
	Alias       string // ARN
	Generations []Generation
	NextToken   string `json:",omitzero"`
}

// ListGenerations answers every key that has stood behind the policy's alias.
func (s *Service) ListGenerations(ctx context.Context, call *access.Call, in *ListGenerationsInput) (*ListGenerationsOutput, error) {
	st, err := s.policy(ctx, call, in.Name)
	if err != nil {
		return nil, err
	}
	limit, below, err := in.below()
	if err != nil {
		return nil, err
	}
	out := &ListGenerationsOutput{Alias: st.policy.AliasARN()}
	out.Generations, err = s.table.generations(ctx, `WHERE g.target = $1 AND g.alias_arn = $2 AND g.number < $3
		ORDER BY g.number DESC LIMIT $4`, st.policy.Target, out.Alias, below, limit+1)
	if len(out.Generations) > limit {
		out.Generations = out.Generations[:limit]
		out.NextToken = token(fmt.Sprint(out.Generations[limit-1].Number))
	}
	out.Generations = orEmpty(out.Generations)
	return out, err
}

// below reads a page of a list whose items count down.
func (p Page) below() (limit int, below int64, err error) {
	if limit, err = p.limit(); err != nil {
		return 0, 0, err
	}
	after, err := p.after()
	if err != nil || after == "" {
		return limit, 1<<63 - 1, err
	}
	if _, err := fmt.Sscan(after, &below); err != nil {
		return 0, 0, awsapi.Errorf("InvalidMarkerException", "NextToken is not one that this operation answered.")
	}
	return limit, below, nil
}

// ListHistoryInput asks for the history of a policy's lineage.
type ListHistoryInput struct {
	Name string
	Page `json:",inline"`
}

// ListHistoryOutput is a page of history, the newest first.
type ListHistoryOutput struct {
	Events    []Event
	NextToken string `json:",omitzero"`
}

// ListHistory answers what has happened to the policy's lineage.
func (s *Service) ListHistory(ctx context.Context, call *access.Call, in *ListHistoryInput) (*ListHistoryOutput, error) {
	st, err := s.policy(ctx, call, in.Name)
	if err != nil {
		return nil, err
	}
	limit, below, err := in.below()
	if err != nil {
		return nil, err
	}
	out := &ListHistoryOutput{}
	var seqs []int64
	out.Events, err = s.events(ctx, `WHERE e.target = $1 AND e.alias_arn = $2 AND e.seq < $3 ORDER BY e.seq DESC LIMIT $4`,
		&seqs, st.policy.Target, st.policy.AliasARN(), below, limit+1)
	if len(out.Events) > limit {
		out.Events = out.Events[:limit]
		out.NextToken = token(fmt.Sprint(seqs[limit-1]))
	}
	return out, err
}

func (s *Service) events(ctx context.Context, where string, seqs *[]int64, args ...any) ([]Event, error) {
	rows, err := s.c.DB.Query(ctx, `SELECT e.seq, e.at, e.policy, e.rotation, e.kind, e.step, e.what, e.note, e.error, e.next_at, e.node, e.caller
		FROM rotation_events e `+where, args...)
	if err != nil {
		return nil, fmt.Errorf("reading history: %w", err)
	}
	defer rows.Close()
	all := []Event{}
	for rows.Next() {
		var e Event
		var seq int64
		if err := rows.Scan(&seq, instant{&e.At}, &e.Policy, &e.Rotation, &e.Kind, &e.Step, &e.What, &e.Note, &e.Error,
			instant{&e.Next}, &e.Node, &e.Caller); err != nil {
			return nil, fmt.Errorf("reading history: %w", err)
		}
		if seqs != nil {
			*seqs = append(*seqs, seq)
		}
		all = append(all, e)
	}
	return all, rows.Err()
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
