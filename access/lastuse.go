package access

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/keyturn/keyturn/sqldb"
)

// lastUseStep is how exactly the last use of an access key is known, and how often it is written. Nothing is written for
// a request: a busy key costs one row a step.
const lastUseStep = time.Minute

// lastUse is when and for what an access key last signed, until it is flushed.
type lastUse struct {
	mu              sync.Mutex // guards all below
	at              time.Time
	service, region string
	dirty           bool
}

func (g *Guard) lastUseOf(accessKeyID string) *lastUse {
	u, _ := g.used.LoadOrStore(accessKeyID, &lastUse{})
	return u.(*lastUse)
}

// mark notes that the call's signature was proved with the access key.
func (u *lastUse) mark(c *Call) {
	if u == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if c.Time.Sub(u.at) >= lastUseStep {
		u.at, u.service, u.region, u.dirty = c.Time, c.Service, c.Region, true
	}
}

// take returns what is to be written, once.
func (u *lastUse) take() (at time.Time, service, region string, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	ok, u.dirty = u.dirty, false
	return u.at, u.service, u.region, ok
}

// Run writes the last use of access keys now and then, until ctx is done, and once more then. A crash loses a minute of it.
func (g *Guard) Run(ctx context.Context) error {
	tick := time.NewTicker(lastUseStep)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			// An error leaves the marks to be lost, not the server to stop: nothing is decided by them.
			_ = g.FlushLastUsed(ctx)
		case <-ctx.Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			return g.FlushLastUsed(ctx)
		}
	}
}

// FlushLastUsed writes the last use of the access keys that were used since the last flush.
func (g *Guard) FlushLastUsed(ctx context.Context) error {
	type use struct {
		id, service, region string
		at                  int64
	}
	var all []use
	g.used.Range(func(id, u any) bool {
		if at, service, region, ok := u.(*lastUse).take(); ok {
			all = append(all, use{id.(string), service, region, at.UnixMicro()})
		}
		return true
	})
	if len(all) == 0 {
		return nil
	}
	err := g.db.Write(ctx, func(tx *sqldb.Tx) error {
		for _, u := range all {
			_, err := tx.Exec(`UPDATE access_keys SET last_used_at = $1, last_used_service = $2, last_used_region = $3
				WHERE id = $4 AND last_used_at < $1`, u.at, u.service, u.region, u.id)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("writing last use of access keys: %w", err)
	}
	return nil
}
