package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/sqldb"
)

// creates is how many keys a second are made, beside what the database alone
// commits: rows of the same size, one transaction each, from as many callers.
type creates struct {
	CreatesPerSec float64 `json:"creates_per_s"`
	CommitsPerSec float64 `json:"commits_per_s"`
	Ratio         float64 `json:"ratio"`
}

// measureCreates makes P-256 keys over the wire, and then commits bare
// transactions through sqldb, which groups them as it does for the server.
func measureCreates(ctx context.Context, o options, dir string) error {
	const n = 5000
	k, err := startKeyturn(ctx, o.keyturn, filepath.Join(dir, "creates"))
	if err != nil {
		return err
	}
	create, err := signRequests(ctx, k.addr, k.aws, "TrentService.CreateKey", []byte(`{"KeySpec":"ECC_NIST_P256","KeyUsage":"SIGN_VERIFY"}`))
	if err == nil {
		err = create.times(ctx, o.connections, n/10) // warm
	}
	var c creates
	if err == nil {
		began := time.Now()
		err = create.times(ctx, o.connections, n)
		c.CreatesPerSec = n / time.Since(began).Seconds()
	}
	k.stop()
	if err != nil {
		return fmt.Errorf("making keys: %w", err)
	}
	if c.CommitsPerSec, err = commits(ctx, filepath.Join(dir, "commits.db"), o.connections, n); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	c.Ratio = c.CreatesPerSec / c.CommitsPerSec
	if o.json {
		return printLine(c)
	}
	fmt.Printf("\nCreateKey (ECC_NIST_P256) %.0f/s, the database alone commits %.0f/s, ratio %.2f\n", c.CreatesPerSec, c.CommitsPerSec, c.Ratio)
	return nil
}

// commits writes what a new key writes, a row of a key and one of its material,
// n times from as many callers as there are connections.
func commits(ctx context.Context, name string, callers, n int) (perSecond float64, err error) {
	db, err := sqldb.Open(ctx, "sqlite:"+name)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	policy, handle := make([]byte, 300), make([]byte, 250)
	rand.Read(handle)
	for i := range policy {
		policy[i] = 'x'
	}
	var left atomic.Int64
	left.Store(int64(n))
	errs := make(chan error, callers)
	began := time.Now()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				id := rand.Text()
				if err := db.Write(ctx, func(tx *sqldb.Tx) error {
					if _, err := tx.Exec(`INSERT INTO kms_keys (arn, account, region, key_id, spec, key_usage, origin, state, description, policy, material_id, created_at, gen)
						VALUES ($1, 'a', 'r', $1, 's', 'u', 'o', 'Enabled', '', $2, 'm', 0, 1)`, id, string(policy)); err != nil {
						return err
					}
					_, err := tx.Exec(`INSERT INTO kms_materials (key_arn, material_id, handle, created_at) VALUES ($1, 'm', $2, 0)`, id, handle)
					return err
				}); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	select {
	case err := <-errs:
		return 0, err
	default:
		return float64(n) / took.Seconds(), nil
	}
}
