package kms

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/sqldb"
)

// refusal is what a disabled key turned away. It is immutable.
type refusal struct {
	calls  int64
	at     int64 // µs, of the last
	caller string
}

// answers says whether the key's state lets it do operation. A caller who may
// use it and meets a disabled key is noted: somebody still wants it.
func (k *keySnapshot) answers(call *access.Call, operation string) error {
	err := checkState(operation, k.arn, k.state)
	if err == nil && k.material == nil {
		return errPendingImport(k.arn)
	}
	if err == nil || k.state != stateDisabled {
		return err
	}
	for {
		old := k.use.refused.Load()
		r := &refusal{calls: 1, at: micros(call.Time)}
		if old != nil {
			r.calls += old.calls
		}
		if call.Caller != nil {
			r.caller = call.Caller.ARN
		}
		if k.use.refused.CompareAndSwap(old, r) {
			break
		}
	}
	k.use.queue()
	return err
}

func writeRefusals(tx *sqldb.Tx, keyARN string, r *refusal) error {
	if r == nil {
		return nil
	}
	_, err := tx.Exec(`INSERT INTO kms_key_refusals (key_arn, calls, refused_at, caller)
		SELECT arn, CAST($2 AS BIGINT), CAST($3 AS BIGINT), CAST($4 AS TEXT) FROM kms_keys WHERE arn = $1 AND state = 'Disabled'
		ON CONFLICT (key_arn) DO UPDATE SET calls = kms_key_refusals.calls + excluded.calls,
			refused_at = excluded.refused_at, caller = excluded.caller`,
		keyARN, r.calls, r.at, r.caller)
	return err
}

// Refused tells how many calls a key has turned away because it is disabled,
// from callers who may use it, since it was disabled and not before since. by is
// the last caller's ARN. What other nodes noted counts once they have written it
// down (tickInterval); a crash loses as much.
func (s *Service) Refused(ctx context.Context, keyARN string, since time.Time) (calls int, last time.Time, by string, err error) {
	if err := s.flushUsage(ctx); err != nil {
		return 0, time.Time{}, "", err
	}
	var at int64
	err = s.db.QueryRow(ctx, `SELECT calls, refused_at, caller FROM kms_key_refusals WHERE key_arn = $1 AND refused_at >= $2`,
		keyARN, micros(since)).Scan(&calls, &at, &by)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, time.Time{}, "", nil
	}
	if err != nil {
		return 0, time.Time{}, "", fmt.Errorf("reading refusals of %s: %w", keyARN, err)
	}
	return calls, fromMicros(at), by, nil
}
