package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/go-json-experiment/json"
)

// pages is what a page of a list costs at the beginning of the list and at its
// end, in milliseconds: the median of 100 calls each.
type pages struct {
	Keys    int     `json:"keys"`
	List    string  `json:"list"`
	FirstMS float64 `json:"first_ms"`
	LastMS  float64 `json:"last_ms"`
	Ratio   float64 `json:"ratio"`
}

// measurePages makes keys and as many aliases, walks both lists to their ends
// and times the first page and the last whole one.
func measurePages(ctx context.Context, o options, dir string) error {
	k, err := startKeyturn(ctx, o.keyturn, filepath.Join(dir, "pages"))
	if err != nil {
		return err
	}
	defer k.stop()
	const aliases = 50 // on one key, as many as AWS allows
	for done := 0; done < o.keys; {
		n := min(o.keys-done, 5000)
		create, err := signRequests(ctx, k.addr, k.aws, "TrentService.CreateKey", []byte(`{"KeySpec":"HMAC_256","KeyUsage":"GENERATE_VERIFY_MAC"}`))
		if err != nil {
			return err
		}
		if err := create.times(ctx, o.connections, n); err != nil {
			return fmt.Errorf("making keys: %w", err)
		}
		done += n
		fmt.Fprintf(os.Stderr, "\rpages: %d of %d keys made", done, o.keys)
	}
	fmt.Fprintln(os.Stderr)
	if err := k.makeAliases(ctx, o, aliases); err != nil {
		return fmt.Errorf("making aliases: %w", err)
	}
	limit := aws.Int32(100)
	keys := func(marker *string) (next *string, err error) {
		out, err := k.sdk.ListKeys(ctx, &kms.ListKeysInput{Limit: limit, Marker: marker})
		if err != nil {
			return nil, err
		}
		return out.NextMarker, nil
	}
	names := func(marker *string) (next *string, err error) {
		out, err := k.sdk.ListAliases(ctx, &kms.ListAliasesInput{Limit: limit, Marker: marker})
		if err != nil {
			return nil, err
		}
		return out.NextMarker, nil
	}
	for _, l := range []struct {
		name string
		page func(marker *string) (*string, error)
	}{{"ListKeys", keys}, {"ListAliases", names}} {
		p := pages{Keys: o.keys, List: l.name}
		var last *string
		for next, err := l.page(nil); next != nil; next, err = l.page(next) {
			if err != nil {
				return err
			}
			last = next
		}
		if p.FirstMS, err = median(func() error { _, err := l.page(nil); return err }); err != nil {
			return err
		}
		if p.LastMS, err = median(func() error { _, err := l.page(last); return err }); err != nil {
			return err
		}
		p.Ratio = p.LastMS / p.FirstMS
		if o.json {
			if err := printLine(p); err != nil {
				return err
			}
			continue
		}
		fmt.Printf("\n%s among %d: first page %.2f ms, last page %.2f ms, ratio %.2f\n", p.List, p.Keys, p.FirstMS, p.LastMS, p.Ratio)
	}
	return nil
}

// makeAliases gives as many aliases as there are keys, each key up to most.
func (k *keyturn) makeAliases(ctx context.Context, o options, most int) error {
	var all []types.KeyListEntry
	list := kms.NewListKeysPaginator(k.sdk, &kms.ListKeysInput{Limit: aws.Int32(1000)})
	for list.HasMorePages() && len(all)*most < o.keys {
		page, err := list.NextPage(ctx)
		if err != nil {
			return err
		}
		all = append(all, page.Keys...)
	}
	for made := 0; made < o.keys; {
		key := *all[made/most].KeyId
		n := min(most, o.keys-made)
		l := &load{addr: k.addr}
		for i := range n {
			body, err := json.Marshal(map[string]string{"AliasName": fmt.Sprintf("alias/page-%07d", made+i), "TargetKeyId": key})
			if err != nil {
				return err
			}
			one, err := signAt(ctx, k.addr, k.aws, "TrentService.CreateAlias", body, time.Now())
			if err != nil {
				return err
			}
			l.requests = append(l.requests, one)
		}
		if err := l.times(ctx, 1, n); err != nil {
			return err
		}
		made += n
	}
	return nil
}

func median(do func() error) (ms float64, err error) {
	took := make([]time.Duration, 100)
	for i := range took {
		began := time.Now()
		if err := do(); err != nil {
			return 0, err
		}
		took[i] = time.Since(began)
	}
	slices.Sort(took)
	return float64(took[len(took)/2]) / float64(time.Millisecond), nil
}
