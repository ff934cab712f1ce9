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
// waiting period is over. That of a primary key begins when the last of its
// replicas has been destroyed.
func (s *Service) ScheduleKeyDeletion(ctx context.Context, call *access.Call, in *ScheduleKeyDeletionRequest) (*ScheduleKeyDeletionResponse, error) {
	days := int32(defaultPendingDays)
	if in.PendingWindowInDays != nil {
		days = *in.PendingWindowInDays
	}
	if days < minPendingDays || days > maxPendingDays {
		return nil, awsapi.Errorf("ValidationException", "PendingWindowInDays must be between %d and %d, inclusive; it is %d",
			minPendingDays, maxPendingDays, days)
	}
	var out *ScheduleKeyDeletionResponse
	r := &request{operation: "ScheduleKeyDeletion", keyID: in.KeyId, pendingWindowInDays: days}
	_, err := s.change(ctx, call, r, func(tx *sqldb.Tx, k *keyRow) error {
		out = &ScheduleKeyDeletionResponse{KeyId: k.arn, PendingWindowInDays: &days}
		var replicas int64
		if k.isPrimary() {
			err := tx.QueryRow(`SELECT COUNT(*) FROM kms_keys WHERE account = $1 AND key_id = $2 AND arn <> $3 AND state <> 'Destroyed'`,
				k.account, k.id, k.arn).Scan(&replicas)
			if err != nil {
				return err
			}
		}
		if err := s.holdRotation(tx, call, k, "ScheduleKeyDeletion"); err != nil {
			return err
		}
		if replicas > 0 {
			out.KeyState = moves("wait for replicas", k.state)
			_, err := tx.Exec(`UPDATE kms_keys SET state = $2, deletion_days = $3 WHERE arn = $1`, k.arn, out.KeyState, days)
			return err
		}
		at := micros(s.now()) + pendingWindow(days)
		out.KeyState, out.DeletionDate = moves("ScheduleKeyDeletion", k.state), timestamp(at)
		_, err := tx.Exec(`UPDATE kms_keys SET state = $2, deletion_at = $3, deletion_days = $4, due_seen_at = NULL WHERE arn = $1`,
			k.arn, out.KeyState, at, days)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// pendingWindow is a waiting period in µs.
func pendingWindow(days int32) int64 { return (time.Duration(days) * 24 * time.Hour).Microseconds() }

// CancelKeyDeletion leaves the key Disabled, whatever it was before; a key that
// lacks imported material is pending import, for it could not be enabled.
func (s *Service) CancelKeyDeletion(ctx context.Context, call *access.Call, in *CancelKeyDeletionRequest) (*CancelKeyDeletionResponse, error) {
	k, err := s.change(ctx, call, &request{operation: "CancelKeyDeletion", keyID: in.KeyId}, func(tx *sqldb.Tx, k *keyRow) error {
		way := "CancelKeyDeletion"
		if !k.whole() {
			way = "CancelKeyDeletion, material missing"
		}
		_, err := tx.Exec(`UPDATE kms_keys SET state = $2, deletion_at = NULL, deletion_days = NULL, due_seen_at = NULL WHERE arn = $1`,
			k.arn, moves(way, k.state))
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
	began, err := s.beginWaiting(ctx)
	return worked || began, errors.Join(append(errs, err)...)
}

// beginWaiting begins the waiting period of primary keys whose last replica is
// gone. Nobody else looks for them, so that a crash between the end of a replica
// and this is no special case.
func (s *Service) beginWaiting(ctx context.Context) (worked bool, err error) {
	const waiting = `state = 'PendingReplicaDeletion' AND NOT EXISTS (SELECT 1 FROM kms_keys r
		WHERE r.account = kms_keys.account AND r.key_id = kms_keys.key_id AND r.arn <> kms_keys.arn AND r.state <> 'Destroyed')`
	var count int64
	if err := s.db.QueryRow(ctx, `SELECT COUNT(*) FROM kms_keys WHERE `+waiting).Scan(&count); err != nil {
		return false, fmt.Errorf("looking for primary keys without replicas: %w", err)
	}
	if count == 0 {
		return false, nil
	}
	err = s.db.Write(ctx, func(tx *sqldb.Tx) error {
		worked = false
		rows, err := tx.Query(`UPDATE kms_keys SET state = $1, deletion_at = CAST($2 AS BIGINT) + deletion_days * CAST($3 AS BIGINT),
				due_seen_at = NULL, gen = gen + 1 WHERE `+waiting+` RETURNING arn`,
			moves("last replica gone", statePendingReplicaDeletion), micros(s.now()), pendingWindow(1))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var keyARN string
			if err := rows.Scan(&keyARN); err != nil {
				return err
			}
			tx.Touch(keyARN)
			worked = true
		}
		return rows.Err()
	})
	if err != nil {
		return false, fmt.Errorf("beginning the waiting period of primary keys: %w", err)
	}
	return worked, nil
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
		if err := settlePending(tx, k.account, k.id); err != nil {
			return err
		}
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
	for _, table := range []string{"kms_aliases", "kms_tags", "kms_grants", "kms_key_usage", "kms_key_refusals"} {
		if _, err := tx.Exec(`DELETE FROM `+table+` WHERE key_arn = $1`, keyARN); err != nil {
			return err
		}
	}
	tx.Touch(keyARN)
	tx.Touch(grantsTopic(keyARN)) // a replica may come back under the same ARN
	return nil
}

// destroy destroys the materials of a key in state Destroyed and removes its
// row. It may be done again, by anybody, until it succeeds. What kin of the key
// still hold stays in the key store: the last of them takes it along. No kin can
// come into being behind that question, for only a primary key begets them, and
// it goes last.
func (s *Service) destroy(ctx context.Context, k dueKey) error {
	type material struct {
		ref    keystore.Ref
		handle []byte
	}
	rows, err := s.db.Query(ctx, `SELECT m.material_id, m.handle FROM kms_materials m WHERE m.key_arn = $1 AND m.handle IS NOT NULL
		AND NOT EXISTS (SELECT 1 FROM kms_keys r JOIN kms_materials o ON o.key_arn = r.arn
			WHERE r.account = $2 AND r.key_id = $3 AND r.arn <> m.key_arn AND r.state <> 'Destroyed'
			AND o.material_id = m.material_id AND o.handle = m.handle)`, k.arn, k.account, k.id)
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
