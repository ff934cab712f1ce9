package rotation

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyturn/keyturn/arn"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/sqldb"
)

// RotatorMaterial names the rotator of the materials of this server's symmetric keys. A key that turns by
// EnableKeyRotation or RotateKeyOnDemand has a policy "kms/<key id>" with that rotator. Its lineage is named by the
// key's ARN, and its generations, which are materials, by MaterialARN. Package kms keeps the policy, through the
// methods below that end in Key; people do not put, pause or delete it.
const RotatorMaterial = "material"

const (
	materialPrefix  = "kms/" // of the names of such policies
	materialService = "kms"  // in column service
)

// MaterialARN names a material of a key as a generation. It is the ARN of nothing that AWS knows, so that no key
// and no alias is ever taken for it.
func MaterialARN(keyARN, materialID string) string { return keyARN + "#" + materialID }

// CutMaterial undoes MaterialARN.
func CutMaterial(name string) (keyARN, materialID string, ok bool) { return strings.Cut(name, "#") }

// kept reports whether package kms keeps the policy.
func (p *Policy) kept() bool { return p.Rotator == RotatorMaterial }

// kmsHints says how what a command asks for is done to a policy that kms keeps.
var kmsHints = map[string]string{
	"DeletePolicy":    "DisableKeyRotation ends its schedule.",
	"PausePolicy":     "DisableKeyRotation ends its schedule, and a disabled key does not turn.",
	"RotateNow":       "RotateKeyOnDemand turns it at once.",
	"RollBack":        "Old materials decrypt for ever; RotateKeyOnDemand makes another.",
	"MarkCompromised": "RotateKeyOnDemand gives the key another material, and ReEncrypt moves ciphertexts to it.",
}

// guards refuses what is not to be done to a policy that kms keeps.
func (p *Policy) guards(operation string) error {
	if hint := kmsHints[operation]; hint != "" && p.kept() {
		return refuse("The policy belongs to the key %s, as AWS KMS rotates keys. %s", p.AliasARN(), hint)
	}
	return nil
}

// materialPolicy is the policy of a key that has none yet, without a schedule.
func materialPolicy(keyARN string) (*stored, error) {
	a, err := arn.Parse(keyARN)
	if err != nil {
		return nil, fmt.Errorf("reading the ARN %s of a key: %w", keyARN, err)
	}
	_, id := a.Cut()
	p := Policy{
		Name: materialPrefix + id, Rotator: RotatorMaterial, Account: a.Account, Region: a.Region, Alias: a.Resource,
		// Nothing is published ahead; and nothing but a person ends a rotation that fails: AWS has no such state.
		Mode: ModeInstant, MaxAttempts: 1000, MaxKeysPerDay: 1_000_000,
	}.WithDefaults()
	return &stored{arn: policyARN(a.Account, a.Region, p.Name), policy: &p}, nil
}

// findKeyPolicy reads a key's policy; nil when it has none.
func findKeyPolicy(q queryer, keyARN string) (*stored, error) {
	st, err := materialPolicy(keyARN)
	if err != nil {
		return nil, err
	}
	found, err := findPolicy(q, st.arn)
	if missing := (*awsapi.Error)(nil); errors.As(err, &missing) {
		return nil, nil
	}
	return found, err
}

// keyStanding reads where the policy of a key stands. A key that has none gets one, whose lineage begins
// with the material that is current.
func (s *Service) keyStanding(tx *sqldb.Tx, keyARN, materialID, caller string) (*stored, *standing, error) {
	st, err := findKeyPolicy(tx, keyARN)
	if err != nil {
		return nil, nil, err
	}
	d := s.engine.draw()
	if st == nil {
		if st, err = materialPolicy(keyARN); err != nil {
			return nil, nil, err
		}
		now := s.engine.now()
		if err := insertPolicy(tx, st, st.policy.Account, st.policy.Region, materialService, now); err != nil {
			return nil, nil, err
		}
		err = store(tx, st.policy, &Change{
			Insert: []Row{newRow(drawID(), st.arn, turn{}, now, now)},
			Generations: []GenerationChange{{
				Key: MaterialARN(keyARN, materialID), State: StateActive, Current: true, Spec: specSymmetric, Usage: usageEncrypt, at: now,
			}},
		})
		if err != nil {
			return nil, nil, err
		}
	}
	at, err := s.standing(tx, st, caller, d, "")
	if err == nil && at.head() == nil {
		err = fmt.Errorf("the policy of %s has no next rotation", keyARN)
	}
	return st, at, err
}

const specSymmetric = "SYMMETRIC_DEFAULT"

// ScheduleKey lets a key turn at first, and every so many days from then on. materialID is its current material.
// It belongs into the transaction that changes the key, like all that follows; caller is who asked for that.
func (s *Service) ScheduleKey(tx *sqldb.Tx, keyARN, materialID string, days int, first time.Time, caller string) error {
	st, at, err := s.keyStanding(tx, keyARN, materialID, caller)
	if err != nil {
		return err
	}
	st.policy.Schedule, st.policy.Paused = fmt.Sprintf("rate(%d days)", days), false // the key is enabled, or it would not be asked
	c := at.reschedule(turn{due: first, start: first}, first.Add(-time.Duration(days)*day))
	c.Events[0].Note = fmt.Sprintf("automatic rotation every %d days", days)
	return putKept(tx, st, at.now, c)
}

// UnscheduleKey ends the schedule of a key. A rotation that has begun goes on.
func (s *Service) UnscheduleKey(tx *sqldb.Tx, keyARN, caller string) error {
	st, err := findKeyPolicy(tx, keyARN)
	if err != nil || st == nil {
		return err
	}
	at, err := s.standing(tx, st, caller, s.engine.draw(), "no automatic rotation")
	if err != nil {
		return err
	}
	st.policy.Schedule = ""
	return putKept(tx, st, at.now, at.reschedule(turn{}, at.now))
}

// putKept stores the changed document of a policy that kms keeps, with what it means for its rows.
func putKept(tx *sqldb.Tx, st *stored, now time.Time, c *Change) error {
	if err := storePolicy(tx, st, now); err != nil {
		return err
	}
	return store(tx, st.policy, c)
}

// reschedule gives the next rotation that nobody has asked for another turn, computed from base.
func (s *standing) reschedule(t turn, base time.Time) *Change {
	c := s.requested(nil, "", WhatPut)
	head := s.head()
	if head == nil {
		return c
	}
	row := *head
	switch {
	case row.Status == StatusScheduled && row.Trigger == TriggerSchedule:
		row.Due, row.Start, row.WindowEnd, row.Wanted = t.due, t.start, t.end, t.start
		e := row.event(WhatScheduled, "", s.now, s.d.node)
		e.Next = t.start
		c.Events = append(c.Events, e)
	case !row.Data.Apart:
		return c // under way; what follows it is computed from when it ends
	}
	row.Base = base
	c.Row = row
	return c
}

// PauseKey keeps a key from turning while it cannot be used, or lets it turn again: at once, if its time has
// come meanwhile. why is for the history.
func (s *Service) PauseKey(tx *sqldb.Tx, keyARN string, paused bool, why, caller string) error {
	st, err := findKeyPolicy(tx, keyARN)
	if err != nil || st == nil || st.policy.Paused == paused {
		return err
	}
	at, err := s.standing(tx, st, caller, s.engine.draw(), why)
	if err != nil {
		return err
	}
	st.policy.Paused = paused
	c := at.requested(nil, "", WhatPaused)
	if !paused {
		c.Events[0].What = WhatResumed
		for _, row := range at.open {
			if row.Parked {
				row.Parked = false
				c.Others = append(c.Others, row)
			}
		}
	}
	return putKept(tx, st, at.now, c)
}

// imminent is how long before its turn a key no longer turns on demand (AWS: RotateKeyOnDemand, ConflictException).
const imminent = 20 * time.Minute

// TurnKey lets a key turn at once, whether or not it has a schedule, which stays as it is. While a rotation of
// the key is under way, or about to begin, it is refused with ConflictException.
func (s *Service) TurnKey(tx *sqldb.Tx, keyARN, materialID, caller string) error {
	st, at, err := s.keyStanding(tx, keyARN, materialID, caller)
	if err != nil {
		return err
	}
	row := *at.head()
	switch {
	case row.Status != StatusScheduled || row.Trigger != TriggerSchedule:
		return awsapi.Errorf("ConflictException", "A rotation of %s is in progress.", keyARN)
	case !row.Start.IsZero() && row.Start.Before(at.now.Add(imminent)):
		return awsapi.Errorf("ConflictException", "An automatic rotation of %s is scheduled to begin within the next 20 minutes.", keyARN)
	}
	c := at.requested(&row, KindRotate, WhatRequested)
	c.Events[0].Note = "on demand"
	row.asked(at.now)
	row.Data.Apart = true
	c.Row = row
	st.policy.Paused = false
	return putKept(tx, st, at.now, c)
}

// MoveKey hands the schedule of a key to another, which has the same materials: a Multi-Region key has got another primary
// key. It is refused with KMSInvalidStateException while a rotation is under way.
func (s *Service) MoveKey(tx *sqldb.Tx, from, to, materialID, caller string) error {
	st, err := findKeyPolicy(tx, from)
	if err != nil || st == nil {
		return err
	}
	at, err := s.standing(tx, st, caller, s.engine.draw(), "its schedule goes on as that of "+to)
	if err != nil {
		return err
	}
	var next time.Time
	for i := range at.open {
		row := &at.open[i]
		if !row.Head || row.Status != StatusScheduled || row.Data.Apart {
			return awsapi.Errorf("KMSInvalidStateException", "A rotation of %s is in progress.", from)
		}
		next = row.Start
	}
	schedule := st.policy.Schedule
	if schedule == "" {
		return nil
	}
	st.policy.Schedule = ""
	if err := putKept(tx, st, at.now, at.reschedule(turn{}, at.now)); err != nil {
		return err
	}
	st, at, err = s.keyStanding(tx, to, materialID, caller)
	if err != nil {
		return err
	}
	st.policy.Schedule = schedule
	c, err := st.policy.calendar()
	if err != nil {
		return err
	}
	at.reason = "its schedule was that of " + from
	return putKept(tx, st, at.now, at.reschedule(turn{due: next, start: next}, next.Add(-c.Schedule.period())))
}

// ForgetKey ends the policy of a key that is destroyed. Its history stays.
func (s *Service) ForgetKey(tx *sqldb.Tx, keyARN string) error {
	st, err := findKeyPolicy(tx, keyARN)
	if err != nil || st == nil {
		return err
	}
	at, err := s.standing(tx, st, "", s.engine.draw(), "the key is deleted")
	if err != nil {
		return err
	}
	c := at.requested(nil, "", WhatDeleted)
	for _, row := range at.open {
		// A step that is under way finds that the key is gone.
		row.Status, row.Head, row.Due, row.EndedAt = StatusCanceled, false, time.Time{}, at.now
		row.Owner, row.LeaseUntil = "", time.Time{}
		c.Others = append(c.Others, row)
	}
	if err := store(tx, st.policy, c); err != nil {
		return err
	}
	if _, err := tx.Exec(`DELETE FROM rotation_policies WHERE arn = $1`, st.arn); err != nil {
		return fmt.Errorf("deleting policy: %w", err)
	}
	return nil
}

// NextOfKey returns when a key turns next by its schedule, and since when a rotation on demand has been under way.
// Either is zero when there is none.
func (s *Service) NextOfKey(ctx context.Context, keyARN string) (next, onDemand time.Time, err error) {
	st, err := materialPolicy(keyARN)
	if err != nil {
		return next, onDemand, err
	}
	var doc string
	row, err := scanRow(s.c.DB.QueryRow(ctx, `SELECT `+rowColumns+`, p.doc FROM rotations r JOIN rotation_policies p ON p.arn = r.policy
		WHERE r.policy = $1 AND r.head = 1`, st.arn), &doc)
	if errors.Is(err, sql.ErrNoRows) {
		return next, onDemand, nil
	}
	if err != nil {
		return next, onDemand, fmt.Errorf("reading the next rotation of %s: %w", keyARN, err)
	}
	if !row.Data.Apart {
		return row.Start, onDemand, nil
	}
	p, err := parsePolicy(doc, false)
	if err != nil {
		return next, onDemand, err
	}
	return p.followingTurn(row.Base, s.engine.now()).start, row.Start, nil
}
