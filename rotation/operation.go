package rotation

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/sqldb"
)

// API returns the operations, in alphabetical order.
func (s *Service) API() []awsapi.Operation {
	return []awsapi.Operation{
		awsapi.Op("CancelRotation", s.CancelRotation),
		awsapi.Op("DeletePolicy", s.DeletePolicy),
		awsapi.Op("DescribeRotation", s.DescribeRotation).ReadOnly(),
		awsapi.Op("GetPolicy", s.GetPolicy).ReadOnly(),
		awsapi.Op("GetStatus", s.GetStatus).ReadOnly(),
		awsapi.Op("ListGenerations", s.ListGenerations).ReadOnly(),
		awsapi.Op("ListHistory", s.ListHistory).ReadOnly(),
		awsapi.Op("ListPolicies", s.ListPolicies).ReadOnly(),
		awsapi.Op("ListRotations", s.ListRotations).ReadOnly(),
		awsapi.Op("MarkCompromised", s.MarkCompromised),
		awsapi.Op("PausePolicy", s.PausePolicy),
		awsapi.Op("PlanRotation", s.PlanRotation).ReadOnly(),
		awsapi.Op("PutPolicy", s.PutPolicy),
		awsapi.Op("ResumePolicy", s.ResumePolicy),
		awsapi.Op("RollBack", s.RollBack),
		awsapi.Op("RotateNow", s.RotateNow),
	}
}

// PutPolicyInput creates a policy or replaces its document whole.
type PutPolicyInput struct {
	Policy Policy
	DryRun bool // answer only what would change
}

// Validate reports everything that is wrong with the document.
func (in *PutPolicyInput) Validate() error { return in.Policy.Validate() }

// mayTurn refuses a policy whose alias or target is not the caller's. The engine
// works with credentials of its own, so without this anybody who may put a
// policy could have other people's keys turned. Aliases in other Regions that would
// turn with it count like the policy's own; who lets one name the key later on has
// the permissions for that.
func (s *Service) mayTurn(ctx context.Context, call *access.Call, p *Policy) error {
	aliases := []string{p.AliasARN()}
	if p.Local() && p.Account == call.Account && s.c.Kin != nil {
		kin, err := s.c.Kin(ctx, p.AliasARN())
		if err != nil {
			return err
		}
		aliases = append(aliases, kin...)
	}
	for _, alias := range aliases {
		if err := s.c.Guard.Check(ctx, call, "keyturn:TurnAlias",
			access.Resource{ARN: alias, Account: call.Account, Type: "AWS::KMS::Alias"}); err != nil {
			return err
		}
	}
	switch {
	case p.Local() && p.Account != call.Account:
		return awsapi.Errorf("ValidationException", "account: %s belongs to another account than yours, %s.", p.Account, call.Account)
	case !p.Local() && (s.c.MayTarget == nil || !s.c.MayTarget(call.Account, p.Target)):
		return awsapi.Errorf("ValidationException", "target: %q is not configured for account %s.", p.Target, call.Account)
	}
	return nil
}

// PutPolicyOutput says what changed.
type PutPolicyOutput struct {
	PolicyArn string
	Created   bool
	Changes   []Difference
	Next      time.Time `json:",omitzero"` // when the next rotation takes place; of a DryRun: as far as it can be told
	Warnings  []string
}

// Difference is one member of a policy document that differs, in words.
type Difference struct {
	Member   string
	From, To string
}

// PutPolicy creates or replaces a policy. A new one adopts the key behind its alias
// as the lineage's first generation. Besides keyturn:PutPolicy on the policy the
// caller needs keyturn:TurnAlias on the alias, so that nobody turns with the server's
// hands what is not his to turn. The alias of a policy cannot be changed.
func (s *Service) PutPolicy(ctx context.Context, call *access.Call, in *PutPolicyInput) (*PutPolicyOutput, error) {
	p := in.Policy
	fill(&p.Account, call.Account)
	fill(&p.Region, call.Region)
	p = p.WithDefaults()
	arn, err := s.check(ctx, call, p.Name)
	if err != nil {
		return nil, err
	}
	if err := s.mayTurn(ctx, call, &p); err != nil {
		return nil, err
	}
	if s.c.Rotators[p.Rotator] == nil {
		return nil, awsapi.Errorf("ValidationException", "rotator: none is called %q.", p.Rotator)
	}
	out := &PutPolicyOutput{PolicyArn: arn, Warnings: p.warnings()}
	d, adopt := s.engine.draw(), drawID()
	for range 5 {
		err = s.c.DB.Write(ctx, func(tx *sqldb.Tx) error {
			st, err := findPolicy(tx, arn)
			var missing *awsapi.Error
			switch {
			case errors.As(err, &missing):
				out.Created = true
				return s.createPolicy(tx, call, &stored{arn: arn, policy: &p}, in.DryRun, d, adopt, out)
			case err != nil:
				return err
			}
			out.Created = false
			return s.replacePolicy(tx, call, st, p, in.DryRun, d, out)
		})
		if !errors.Is(err, sqldb.ErrConflict) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (s *Service) createPolicy(tx *sqldb.Tx, call *access.Call, st *stored, dry bool, d draw, adopt string, out *PutPolicyOutput) error {
	p, now := st.policy, s.engine.now()
	out.Changes = differences(&Policy{}, p)
	var other string
	err := tx.QueryRow(`SELECT arn FROM rotation_policies WHERE target = $1 AND alias_arn = $2`, p.Target, p.AliasARN()).Scan(&other)
	if err == nil {
		return awsapi.Errorf("AlreadyExistsException", "The alias is turned by another policy: %s.", other)
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("reading policies: %w", err)
	}
	err = tx.QueryRow(homeQuery, p.Target, p.AliasARN()).Scan(&other)
	if err == nil {
		return awsapi.Errorf("AlreadyExistsException", "The alias turns with %s, whose keys are Multi-Region keys.", other)
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("reading the Regions of lineages: %w", err)
	}
	t := p.nextTurn(now)
	out.Next = t.start
	if dry {
		return nil
	}
	if err := insertPolicy(tx, st, call.Account, call.Region, "", now); err != nil {
		return err
	}
	head := newRow(d.id, st.arn, t, now, now)
	scheduled := head.event(WhatScheduled, "", now, d.node)
	scheduled.Next = t.start
	tx.Touch(topicRows)
	return store(tx, p, &Change{
		Insert: []Row{head, {
			ID: adopt, Policy: st.arn, Kind: KindAdopt, Status: StatusScheduled, Trigger: TriggerPolicy,
			Due: now, Start: now, Base: now, CreatedAt: now,
		}},
		Events: []Event{{At: now, Policy: st.arn, What: WhatPut, Note: "created", Caller: call.Caller.ARN, Node: d.node}, scheduled},
	})
}

func (s *Service) replacePolicy(tx *sqldb.Tx, call *access.Call, st *stored, p Policy, dry bool, d draw, out *PutPolicyOutput) error {
	old := st.policy
	if old.Target != p.Target || old.AliasARN() != p.AliasARN() || old.Rotator != p.Rotator {
		return awsapi.Errorf("ValidationException", "alias, account, region, target and rotator of a policy cannot be changed (now %s on %s): delete it and put another.",
			old.AliasARN(), old.Target)
	}
	p.Paused = p.Paused || old.Paused
	out.Changes = differences(old, &p)
	st.policy = &p
	at, err := s.standing(tx, st, call.Caller.ARN, d, "")
	if err != nil {
		return err
	}
	c := at.changed(old)
	for i := range at.open {
		if at.open[i].Head {
			out.Next = at.open[i].Start
		}
	}
	for i := range c.Others {
		if c.Others[i].Head {
			out.Next = c.Others[i].Start
		}
	}
	if dry || len(out.Changes) == 0 {
		return nil
	}
	words := make([]string, len(out.Changes))
	for i, x := range out.Changes {
		words[i] = x.Member
	}
	put := Event{At: at.now, Policy: st.arn, What: WhatPut, Note: "changed " + strings.Join(words, ", "), Caller: at.caller, Node: d.node}
	c.Events = append([]Event{put}, c.Events...)
	if err := storePolicy(tx, st, at.now); err != nil {
		return err
	}
	if old.Deactivate != p.Deactivate || old.Overlap != p.Overlap {
		if err := retime(tx, &p); err != nil {
			return err
		}
	}
	return store(tx, &p, c)
}

// differences compares two documents member by member.
func differences(old, p *Policy) []Difference {
	all := []Difference{}
	a, b := reflect.ValueOf(*old), reflect.ValueOf(*p)
	for i := range a.NumField() {
		from, to := words(a.Field(i)), words(b.Field(i))
		if from != to {
			name, _, _ := strings.Cut(a.Type().Field(i).Tag.Get("json"), ",")
			all = append(all, Difference{Member: name, From: from, To: to})
		}
	}
	return all
}

func words(v reflect.Value) string {
	if v.IsZero() {
		return ""
	}
	switch x := v.Interface().(type) {
	case *DestroyRule:
		text := "pending window " + x.PendingWindow.String()
		if x.Reencrypted {
			text += ", re-encrypted"
		}
		return text
	default:
		return fmt.Sprint(x)
	}
}

// warnings says what is allowed but worth a second look.
func (p *Policy) warnings() []string {
	all := []string{}
	if p.kept() {
		return all
	}
	if p.Mode == ModeInstant {
		all = append(all, "Mode instant publishes nothing ahead: whoever cached the old public key rejects new signatures until he reads it again.")
	}
	if p.Schedule == "" {
		all = append(all, "Without a schedule the alias turns by hand only.")
	}
	if p.Mode == ModeStaged && p.Window != 0 && p.Lead >= p.Window {
		all = append(all, fmt.Sprintf("The lead (%s) does not fit into the window (%s): a rotation begins ahead of its window and switches inside it.", p.Lead, p.Window))
	}
	if p.Destroy != nil {
		all = append(all, "Old keys are destroyed in the end. Make sure that nothing needs them by then.")
	}
	if p.Adopt == AdoptFull {
		all = append(all, "The key that is behind the alias now will be disabled in the end, like the keys that Keyturn makes.")
	}
	if p.Deactivate == DeactivateNever {
		all = append(all, "Old generations go on signing and encrypting for those who name them by id.")
	}
	return all
}

// NameInput names a policy.
type NameInput struct {
	Name string
}

// Validate asks for the name.
func (in *NameInput) Validate() error {
	if in.Name == "" {
		return errors.New("Name: the name of a policy is required")
	}
	return nil
}

// DeletePolicyInput names the policy to delete.
type DeletePolicyInput struct {
	Name  string
	Force bool // give up what still retires an old key: it stays as it is
}

// DeletePolicyOutput is empty.
type DeletePolicyOutput struct{}

// DeletePolicy ends a policy. Its lineage, history and keys stay.
func (s *Service) DeletePolicy(ctx context.Context, call *access.Call, in *DeletePolicyInput) (*DeletePolicyOutput, error) {
	_, err := s.command(ctx, call, in.Name, "", func(tx *sqldb.Tx, st *stored, at *standing) (*Change, error) {
		c, err := at.abandon(in.Force)
		if err != nil {
			return nil, err
		}
		if _, err := tx.Exec(`DELETE FROM rotation_policies WHERE arn = $1 AND gen = $2`, st.arn, st.gen); err != nil {
			return nil, fmt.Errorf("deleting policy: %w", err)
		}
		return c, nil
	})
	if err != nil {
		return nil, err
	}
	return &DeletePolicyOutput{}, nil
}

// RotateNowInput asks for a rotation outside the schedule.
type RotateNowInput struct {
	Name   string
	Reason string // for the history
}

// RotationOutput is the rotation that a command made or changed.
type RotationOutput struct {
	Rotation Rotation
}

// RotateNow lets the next rotation begin at once, whatever its window. While one is
// under way it only lifts that one's window and answers it.
func (s *Service) RotateNow(ctx context.Context, call *access.Call, in *RotateNowInput) (*RotationOutput, error) {
	return s.rowCommand(ctx, call, in.Name, in.Reason, func(_ *sqldb.Tx, _ *stored, at *standing) (*Change, Row, error) {
		return at.rotateNow()
	})
}

func (s *Service) rowCommand(ctx context.Context, call *access.Call, name, reason string,
	decide func(tx *sqldb.Tx, st *stored, at *standing) (*Change, Row, error),
) (*RotationOutput, error) {
	var row Row
	st, err := s.command(ctx, call, name, reason, func(tx *sqldb.Tx, st *stored, at *standing) (c *Change, err error) {
		c, row, err = decide(tx, st, at)
		return c, err
	})
	if err != nil {
		return nil, err
	}
	return &RotationOutput{Rotation: view(&row, st.policy, s.engine.now())}, nil
}

// CancelRotationInput names what to cancel.
type CancelRotationInput struct {
	Name     string
	Rotation string `json:",omitzero"` // id; empty: the one under way, else the failed one, else the next
	Reason   string
}

// CancelRotation stops a rotation before its switch and has its pending key removed.
func (s *Service) CancelRotation(ctx context.Context, call *access.Call, in *CancelRotationInput) (*RotationOutput, error) {
	return s.rowCommand(ctx, call, in.Name, in.Reason, func(_ *sqldb.Tx, _ *stored, at *standing) (*Change, Row, error) {
		return at.cancel(in.Rotation)
	})
}

// RollBackInput names the policy to roll back.
type RollBackInput struct {
	Name string
	// Now switches at once even if the previous generation has left the key set, or is about to. Without it
	// a generation with less than the policy's lead left of its overlap is published for the lead first,
	// as verifiers may not know it any more.
	Now    bool
	Reason string
}

// RollBack lets the previous generation take over again; the present one is
// deactivated, not destroyed. A rotation that is being prepared is canceled.
func (s *Service) RollBack(ctx context.Context, call *access.Call, in *RollBackInput) (*RotationOutput, error) {
	return s.rowCommand(ctx, call, in.Name, in.Reason, func(tx *sqldb.Tx, st *stored, at *standing) (*Change, Row, error) {
		prev, err := generation(tx, st.policy, at.previous)
		if err != nil {
			return nil, Row{}, err
		}
		return at.rollBack(prev, in.Now)
	})
}

// MarkCompromisedInput names a generation that is no longer to be trusted.
type MarkCompromisedInput struct {
	Name       string
	Generation int // number; 0: the active one
	Reason     string
}

// MarkCompromised takes a generation out of use for good: the active one is replaced
// at once by a tested key, others are revoked. The history says what was done with it
// since when, as far as that is known.
func (s *Service) MarkCompromised(ctx context.Context, call *access.Call, in *MarkCompromisedInput) (*RotationOutput, error) {
	return s.rowCommand(ctx, call, in.Name, in.Reason, func(tx *sqldb.Tx, st *stored, at *standing) (*Change, Row, error) {
		key := at.active
		if in.Generation != 0 {
			err := tx.QueryRow(`SELECT key_arn FROM generations WHERE target = $1 AND alias_arn = $2 AND number = $3`,
				st.policy.Target, st.policy.AliasARN(), in.Generation).Scan(&key)
			if errors.Is(err, sql.ErrNoRows) {
				return nil, Row{}, awsapi.Errorf("NotFoundException", "The lineage has no generation v%d.", in.Generation)
			}
			if err != nil {
				return nil, Row{}, fmt.Errorf("reading generation: %w", err)
			}
		}
		g, err := generation(tx, st.policy, key)
		if err != nil {
			return nil, Row{}, err
		}
		if g == nil {
			return nil, Row{}, refuse("The key behind the alias is not adopted yet.")
		}
		return at.markCompromised(g)
	})
}

// PausePolicyInput names the policy to pause.
type PausePolicyInput struct {
	Name   string
	Reason string
}

// PausePolicyOutput is empty.
type PausePolicyOutput struct{}

// PausePolicy stops the policy's rotations at their next step, retirements too. What a
// person asks for in an emergency, and the removal of canceled keys, goes on.
func (s *Service) PausePolicy(ctx context.Context, call *access.Call, in *PausePolicyInput) (*PausePolicyOutput, error) {
	_, err := s.command(ctx, call, in.Name, in.Reason, func(tx *sqldb.Tx, st *stored, at *standing) (*Change, error) {
		if st.policy.Paused {
			return nil, nil
		}
		st.policy.Paused = true
		if err := storePolicy(tx, st, at.now); err != nil {
			return nil, err
		}
		return at.requested(nil, "", WhatPaused), nil
	})
	if err != nil {
		return nil, err
	}
	return &PausePolicyOutput{}, nil
}

// ResumePolicyInput names what is to go on.
type ResumePolicyInput struct {
	Name     string
	Rotation string `json:",omitzero"` // id of one that failed; empty: all of them, and the pause is lifted
	// Accept says that what stands behind the alias now is right, although another hand put it there.
	Accept bool
	Reason string
}

// ResumePolicyOutput lists the rotations that go on.
type ResumePolicyOutput struct {
	Rotations []Rotation
}

// ResumePolicy lifts a pause and lets failed rotations go on.
func (s *Service) ResumePolicy(ctx context.Context, call *access.Call, in *ResumePolicyInput) (*ResumePolicyOutput, error) {
	var rows []Row
	st, err := s.command(ctx, call, in.Name, in.Reason, func(tx *sqldb.Tx, st *stored, at *standing) (c *Change, err error) {
		if st.policy.kept() && st.policy.Paused {
			return nil, refuse("The key %s is not enabled. EnableKey lets it turn again.", st.policy.AliasARN())
		}
		if c, rows, err = at.resume(in.Rotation, in.Accept); err != nil {
			return nil, err
		}
		if in.Rotation == "" && st.policy.Paused {
			st.policy.Paused = false
			err = storePolicy(tx, st, at.now)
		}
		return c, err
	})
	if err != nil {
		return nil, err
	}
	return &ResumePolicyOutput{Rotations: views(rows, st.policy, s.engine.now())}, nil
}
