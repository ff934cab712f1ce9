package kms

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/sqldb"
)

// lastUse is one successful cryptographic operation.
type lastUse struct {
	at        int64 // µs
	operation string
	eventID   string
	requestID string
}

// keyUse holds the last use of a key since it was last written down. Noting a
// use is one store; only the first after a flush takes the lock of the log.
type keyUse struct {
	arn     string
	log     *usageLog
	last    atomic.Pointer[lastUse]
	refused atomic.Pointer[refusal] // since the last flush
	queued  atomic.Bool             // in the log
}

// usageLog lists the keys that were used since the last flush. It holds them
// whether or not their snapshots are still kept, so dropping a snapshot loses
// no use. A crash loses the uses since the last flush, tickInterval at most:
// GetKeyLastUsage may then answer a use that is older than the last one by
// that much, never one that did not happen.
type usageLog struct {
	mu   sync.Mutex // guards keys
	keys []*keyUse
}

func (l *usageLog) add(keys ...*keyUse) {
	l.mu.Lock()
	l.keys = append(l.keys, keys...)
	l.mu.Unlock()
}

func (l *usageLog) take() []*keyUse {
	l.mu.Lock()
	defer l.mu.Unlock()
	keys := l.keys
	l.keys = nil
	return keys
}

// used notes that the key was used with success.
func (s *Service) used(k *keySnapshot, operation string, call *access.Call) {
	k.use.last.Store(&lastUse{at: micros(call.Time), operation: operation, requestID: call.ID})
	k.use.queue()
}

// queue puts the key on the list for the next flush, unless it is there.
func (u *keyUse) queue() {
	if !u.queued.Load() && !u.queued.Swap(true) {
		u.log.add(u)
	}
}

// usageBatch is how many keys one transaction of a flush writes.
const usageBatch = 500

// flushUsage writes down the last uses. What cannot be written stays for the
// next time. Rows are written in one order, so that two flushes, of this node or
// of two, do not wait for each other until the database finds them deadlocked.
func (s *Service) flushUsage(ctx context.Context) error {
	keys := s.usage.take()
	slices.SortFunc(keys, func(a, b *keyUse) int { return strings.Compare(a.arn, b.arn) })
	for len(keys) > 0 {
		batch := keys[:min(usageBatch, len(keys))]
		uses := make([]*lastUse, len(batch))
		refusals := make([]*refusal, len(batch))
		for i, k := range batch {
			// First out of the queue, then read: a use in between is queued
			// again rather than lost.
			k.queued.Store(false)
			uses[i], refusals[i] = k.last.Load(), k.refused.Swap(nil)
		}
		err := s.db.Write(ctx, func(tx *sqldb.Tx) error {
			for i, k := range batch {
				if err := writeUse(tx, k.arn, uses[i]); err != nil {
					return err
				}
				if err := writeRefusals(tx, k.arn, refusals[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			for i, k := range keys {
				k.queued.Store(true)
				if i < len(batch) {
					k.refused.CompareAndSwap(nil, refusals[i])
				}
			}
			s.usage.add(keys...)
			return fmt.Errorf("writing last uses: %w", err)
		}
		keys = keys[len(batch):]
	}
	return nil
}

// writeUse keeps the later one of two uses, and nothing of a key that is gone.
func writeUse(tx *sqldb.Tx, keyARN string, u *lastUse) error {
	if u == nil {
		return nil
	}
	_, err := tx.Exec(`INSERT INTO kms_key_usage (key_arn, used_at, operation, event_id, request_id)
		SELECT arn, CAST($2 AS BIGINT), CAST($3 AS TEXT), CAST($4 AS TEXT), CAST($5 AS TEXT)
		FROM kms_keys WHERE arn = $1 AND state <> 'Destroyed'
		ON CONFLICT (key_arn) DO UPDATE SET used_at = excluded.used_at, operation = excluded.operation,
			event_id = excluded.event_id, request_id = excluded.request_id
		WHERE kms_key_usage.used_at < excluded.used_at`,
		keyARN, u.at, u.operation, u.eventID, u.requestID)
	return err
}

// GetKeyLastUsage answers with the last successful cryptographic operation that
// is known: written down by any node, or noted by this one. Tracking began with
// the key.
func (s *Service) GetKeyLastUsage(ctx context.Context, call *access.Call, in *GetKeyLastUsageRequest) (*GetKeyLastUsageResponse, error) {
	n, err := parseKeyName(call, in.KeyId)
	if err != nil {
		return nil, err
	}
	k, err := s.findKey(ctx, call, &request{operation: "GetKeyLastUsage", keyID: in.KeyId}, n)
	if err != nil {
		return nil, err
	}
	var u lastUse
	err = s.db.QueryRow(ctx, `SELECT used_at, operation, event_id, request_id FROM kms_key_usage WHERE key_arn = $1`, k.arn).
		Scan(&u.at, &u.operation, &u.eventID, &u.requestID)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("reading the last use of %s: %w", k.arn, err)
	}
	if noted := s.notedUse(n); noted != nil && noted.at >= u.at {
		u = *noted
	}
	out := &GetKeyLastUsageResponse{
		KeyId: k.id, KeyLastUsage: &KeyLastUsageData{},
		KeyCreationDate: timestamp(k.created), TrackingStartDate: timestamp(k.created),
	}
	if u.operation != "" {
		out.KeyLastUsage = &KeyLastUsageData{
			Operation: u.operation, Timestamp: timestamp(u.at), CloudTrailEventId: u.eventID, KmsRequestId: u.requestID,
		}
	}
	return out, nil
}

// notedUse is the use in memory, of a key that has a snapshot or waits for the
// flush.
func (s *Service) notedUse(n resourceName) *lastUse {
	if k := s.snapshots.keys.peek(n); k != nil {
		if u := k.use.last.Load(); u != nil {
			return u
		}
	}
	keyARN := n.arn()
	s.usage.mu.Lock()
	defer s.usage.mu.Unlock()
	for _, k := range s.usage.keys {
		if k.arn == keyARN {
			return k.last.Load()
		}
	}
	return nil
}
