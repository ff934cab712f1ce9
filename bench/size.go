package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// size is what many keys cost: memory when idle, and the start.
type size struct {
	Keys          int     `json:"keys"`
	RSSFirst1000  float64 `json:"rss_1000_keys_mb"`
	RSS           float64 `json:"rss_mb"`
	BytesPerKey   float64 `json:"bytes_per_further_key"`
	StartMS       float64 `json:"start_ms"`
	CreatesPerSec float64 `json:"creates_per_s"`
}

// measureSize makes keys over the wire, as many as asked for, and looks at the
// server's memory after the first thousand and, started anew, after all.
func measureSize(ctx context.Context, o options, dir string) error {
	data := filepath.Join(dir, "size")
	k, err := startKeyturn(ctx, o.keyturn, data)
	if err != nil {
		return err
	}
	defer func() { k.stop() }()
	create, err := signRequests(ctx, k.addr, k.aws, "TrentService.CreateKey", []byte(`{"KeySpec":"HMAC_256","KeyUsage":"GENERATE_VERIFY_MAC"}`))
	if err != nil {
		return err
	}
	s := size{Keys: o.keys}
	if err := create.times(ctx, o.connections, 1000); err != nil {
		return fmt.Errorf("making 1,000 keys: %w", err)
	}
	first, err := settledMemory(ctx, k.pid)
	if err != nil {
		return err
	}
	began := time.Now()
	for done := 1000; done < o.keys; {
		n := min(o.keys-done, 5000)
		// Signed anew for each batch: a signature is good for five minutes.
		if create, err = signRequests(ctx, k.addr, k.aws, "TrentService.CreateKey", []byte(`{"KeySpec":"HMAC_256","KeyUsage":"GENERATE_VERIFY_MAC"}`)); err != nil {
			return err
		}
		if err := create.times(ctx, o.connections, n); err != nil {
			return fmt.Errorf("making keys: %w", err)
		}
		done += n
		fmt.Fprintf(os.Stderr, "\rsize: %d of %d keys made", done, o.keys)
	}
	fmt.Fprintln(os.Stderr)
	s.CreatesPerSec = float64(o.keys-1000) / time.Since(began).Seconds()

	k.stop()
	if k, err = startKeyturn(ctx, o.keyturn, data); err != nil {
		return err
	}
	s.StartMS = float64(k.took) / float64(time.Millisecond)
	all, err := settledMemory(ctx, k.pid)
	if err != nil {
		return err
	}
	s.RSSFirst1000, s.RSS = float64(first)/1e6, float64(all)/1e6
	s.BytesPerKey = float64(all-first) / float64(max(o.keys-1000, 1))
	if o.json {
		return printLine(s)
	}
	fmt.Printf("\nkeys %d: %.1f MB resident with 1,000, %.1f MB with all (%.0f bytes a further key), first answer %.0f ms after start, %.0f CreateKey/s\n",
		s.Keys, s.RSSFirst1000, s.RSS, s.BytesPerKey, s.StartMS, s.CreatesPerSec)
	return nil
}

// settledMemory waits until the resident memory of an idle process has stopped
// falling, for at most 20 s.
func settledMemory(ctx context.Context, pid int) (int64, error) {
	last, err := resident(pid)
	for range 10 {
		if err != nil {
			return 0, err
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(2 * time.Second):
		}
		var now int64
		if now, err = resident(pid); err == nil && now >= last-last/100 {
			return now, nil
		}
		last = now
	}
	return last, err
}
