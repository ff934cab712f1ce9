package kms

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/keystore"
	"github.com/keyturn/keyturn/sqldb"
)

// The waiting period of a deletion, in days.
const (
	minPendingDays     = 7
	maxPendingDays     = 30
	defaultPendingDays = 30
)

// ScheduleKeyDeletion makes the key unusable now and has it destroyed when the
// waiting period is over.
func (s *Service) ScheduleKeyDeletion(ctx context.Context, call *access.Call, in *ScheduleKeyDeletionRequest) (*ScheduleKeyDeletionResponse, error) {
	days := int32(defaultPendingDays)
	if in.PendingWindowInDays != nil {
		days = *in.PendingWindowInDays
	}
	var at int64
	k, err := s.change(ctx, call, &request{operation: "ScheduleKeyDeletion", keyID: in.KeyId}, func(tx *sqldb.Tx, k *keyRow) error {
		if days < minPendingDays || days > maxPendingDays {
			return awsapi.Errorf("ValidationException", "PendingWindowInDays must be between %d and %d, inclusive; it is %d",
				minPendingDays, maxPendingDays, days)
		}
		if err := s.holdRotation(tx, call, k, "ScheduleKeyDeletion"); err != nil {
			return err
		}
		at = micros(s.now().Add(time.Duration(days) * 24 * time.Hour))
		_, err := tx.Exec(`UPDATE kms_keys SET state = $2, deletion_at = $3, deletion_days = $4, due_seen_at = NULL WHERE arn = $1`,
			k.arn, moves("ScheduleKeyDeletion", k.state), at, days)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &ScheduleKeyDeletionResponse{
		KeyId: k.arn, DeletionDate: timestamp(at), KeyState: statePendingDeletion, PendingWindowInDays: &days,
	}, nil
}

// CancelKeyDeletion leaves the key Disabled, whatever it was before.
func (s *Service) CancelKeyDeletion(ctx context.Context, call *access.Call, in *CancelKeyDeletionRequest) (*CancelKeyDeletionResponse, error) {
	k, err := s.change(ctx, call, &request{operation: "CancelKeyDeletion", keyID: in.KeyId}, func(tx *sqldb.Tx, k *keyRow) error {
		_, err := tx.Exec(`UPDATE kms_keys SET state = $2, deletion_at = NULL, deletion_days = NULL, due_seen_at = NULL WHERE arn = $1`,
			k.arn, moves("CancelKeyDeletion", k.state))
		return err
	})
	if err != nil {
		return nil, err
	}
	return &CancelKeyDeletionResponse{KeyId: k.arn}, nil
}

// dueKey is a key that waits for its deletion, or is past the point of return.
type dueKey struct {
	arn, account, id, state string
	deletionAt, gen         int64
	seen                    int64 // when it was first seen overdue; 0: not yet
}

// deletionBatch is how many keys one turn looks at.
const deletionBatch = 100

// deleteDue brings every key whose date has come one step nearer to its end:
//
//	PendingDeletion, overdue            → remembered as seen overdue (grace begins)
//	PendingDeletion, overdue for grace  → Destroyed; aliases and tags are gone
//	Destroyed                           → material destroyed, row removed
//
// The change to Destroyed is a compare-and-swap that competes with
// CancelKeyDeletion, and the point of no return: before it nothing is lost,
// after it every turn, on any node and after any crash, goes on to the end.
func (s *Service) deleteDue(ctx context.Context) (worked bool, err error) {
	now := micros(s.now())
	due, err := s.readDue(ctx, now)
	if err != nil {
		return false, err
	}
	var errs []error
	for _, k := range due {
		if k.state == statePendingDeletion {
			began, err := s.beginDestruction(ctx, k, now)
			if err != nil {
				errs = append(errs, fmt.Errorf("deleting key %s: %w", k.arn, err))
				continue
			}
			if !began {
				continue
			}
			worked = true
		}
		if err := s.destroy(ctx, k); err != nil {
			errs = append(errs, fmt.Errorf("destroying key %s: %w", k.arn, err))
			continue
		}
		worked = true
		s.logger.Info("key deleted", "key", k.arn)
	}
	return worked, errors.Join(errs...)
}

// readDue also forgets what a clock that was wrong has left behind: a key that
// is no longer overdue, or was seen so in the future.
func (s *Service) readDue(ctx context.Context, now int64) ([]dueKey, error) {
	rows, err := s.db.Query(ctx, `SELECT arn, account, key_id, state, deletion_at, gen, COALESCE(due_seen_at, 0) FROM kms_keys
		WHERE deletion_at IS NOT NULL AND (
			deletion_at <= $1 AND (state = 'Destroyed' OR due_seen_at IS NULL OR due_seen_at <= $2 OR due_seen_at > $1)
			OR deletion_at > $1 AND due_seen_at IS NOT NULL)
		ORDER BY deletion_at LIMIT $3`, now, now-s.grace.Microseconds(), deletionBatch)
	if err != nil {
		return nil, fmt.Errorf("reading keys to delete: %w", err)
	}
	defer rows.Close()
	var due []dueKey
	for rows.Next() {
		var k dueKey
		if err := rows.Scan(&k.arn, &k.account, &k.id, &k.state, &k.deletionAt, &k.gen, &k.seen); err != nil {
			return nil, fmt.Errorf("reading keys to delete: %w", err)
		}
		due = append(due, k)
	}
	return due, rows.Err()
}

// beginDestruction takes a key past the point of no return, if it is overdue
// for long enough; false if not, or if somebody else was faster.
func (s *Service) beginDestruction(ctx context.Context, k dueKey, now int64) (bool, error) {
	overdue := k.deletionAt <= now
	seen := k.seen
	switch {
	case !overdue || seen > now:
		seen = 0
	case seen == 0:
		seen = now
	}
	ready := overdue && seen != 0 && now-seen >= s.grace.Microseconds()
	if !ready && seen == k.seen {
		return false, nil
	}
	began := false
	err := s.db.Write(ctx, func(tx *sqldb.Tx) error {
		began = false
		if !ready {
			_, err := tx.Exec(`UPDATE kms_keys SET due_seen_at = NULLIF(CAST($2 AS BIGINT), 0) WHERE arn = $1 AND gen = $3 AND state = 'PendingDeletion'`,
				k.arn, seen, k.gen)
			return err
		}
		rows, err := tx.Exec(`UPDATE kms_keys SET state = $2, gen = gen + 1 WHERE arn = $1 AND gen = $3 AND state = 'PendingDeletion'`,
			k.arn, moves("destroy", k.state), k.gen)
		if err != nil || rows == 0 {
			return err
		}
		began = true
		if turner := s.rotations.Load(); turner != nil {
			if err := (*turner).ForgetKey(tx, k.arn); err != nil {
				return err
			}
		}
		return forget(tx, k.arn)
	})
	return began, err
}

// forget removes what hangs on a key, and announces that key and aliases are
// no more.
func forget(tx *sqldb.Tx, keyARN string) error {
	rows, err := tx.Query(`SELECT arn FROM kms_aliases WHERE key_arn = $1`, keyARN)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var aliasARN string
		if err := rows.Scan(&aliasARN); err != nil {
			return err
		}
		tx.Touch(aliasARN)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	rows.Close()
	for _, table := range []string{"kms_aliases", "kms_tags", "kms_key_usage", "kms_key_refusals"} {
		if _, err := tx.Exec(`DELETE FROM `+table+` WHERE key_arn = $1`, keyARN); err != nil {
			return err
		}
	}
	tx.Touch(keyARN)
	return nil
}

// destroy destroys the materials of a key in state Destroyed and removes its
// row. It may be done again, by anybody, until it succeeds.
func (s *Service) destroy(ctx context.Context, k dueKey) error {
	type material struct {
		ref    keystore.Ref
		handle []byte
	}
	rows, err := s.db.Query(ctx, `SELECT material_id, handle FROM kms_materials WHERE key_arn = $1`, k.arn)
	if err != nil {
		return err
	}
	defer rows.Close()
	var materials []material
	for rows.Next() {
		m := material{ref: keystore.Ref{Account: k.account, KeyID: k.id}}
		if err := rows.Scan(&m.ref.MaterialID, &m.handle); err != nil {
			return err
		}
		materials = append(materials, m)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	rows.Close()
	for _, m := range materials {
		if m.handle == nil {
			continue
		}
		if err := s.backend.Destroy(ctx, m.ref, m.handle); err != nil {
			return err
		}
	}
	return s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if _, err := tx.Exec(`DELETE FROM kms_materials WHERE key_arn = $1`, k.arn); err != nil {
			return err
		}
		if err := forget(tx, k.arn); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM kms_keys WHERE arn = $1 AND state = 'Destroyed'`, k.arn)
		return err
	})
}
