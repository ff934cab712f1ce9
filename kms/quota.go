package kms

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/policy"
)

// Quotas bound what accounts may keep, as AWS's resource quotas. 0 means AWS's
// default.
type Quotas struct {
	Keys              int `yaml:"keys"`              // of an account in a Region: 100,000
	AliasesPerKey     int `yaml:"aliasesPerKey"`     // 50
	GrantsPerKey      int `yaml:"grantsPerKey"`      // 50,000
	TagsPerKey        int `yaml:"tagsPerKey"`        // 50
	PolicyBytes       int `yaml:"policyBytes"`       // of a key policy: 32,768, and no more than that
	OnDemandRotations int `yaml:"onDemandRotations"` // of a key in its life: 25
}

// Check says what is wrong with the settings.
func (q Quotas) Check() error {
	for name, n := range map[string]int{
		"keys": q.Keys, "aliasesPerKey": q.AliasesPerKey, "grantsPerKey": q.GrantsPerKey, "tagsPerKey": q.TagsPerKey,
		"policyBytes": q.PolicyBytes, "onDemandRotations": q.OnDemandRotations,
	} {
		if n < 0 {
			return fmt.Errorf("quotas.%s %d is less than 0", name, n)
		}
	}
	if q.PolicyBytes > policy.MaxResourceBytes {
		return fmt.Errorf("quotas.policyBytes %d: at most %d", q.PolicyBytes, policy.MaxResourceBytes)
	}
	return nil
}

func (q Quotas) withDefaults() Quotas {
	for _, d := range []struct {
		n        *int
		standard int
	}{
		{&q.Keys, 100_000},
		{&q.AliasesPerKey, 50},
		{&q.GrantsPerKey, 50_000},
		{&q.TagsPerKey, 50},
		{&q.PolicyBytes, policy.MaxResourceBytes},
		{&q.OnDemandRotations, 25},
	} {
		if *d.n == 0 {
			*d.n = d.standard
		}
	}
	return q
}

// A tally keeps the large quotas without counting all rows for each new one: a
// count gives leave for an eighth of what is still free, for ten seconds at most.
// So nodes that work at the same time can pass a quota by an eighth of what was
// free when they counted, and on a node alone it is kept to the row.
type tally struct {
	mu     sync.Mutex
	scopes map[string]*leave // what is counted → leave to make more
}

type leave struct {
	more  int       // that may be made; 0: count again
	until time.Time // after that count again
	full  bool      // the quota was reached
}

const (
	leaveFor  = 10 * time.Second
	fullFor   = time.Second
	maxScopes = 4096
)

var errFull = errors.New("the quota is reached")

// admit lets one more of what scope names be made, or answers errFull. count
// counts what there is, up to the limit.
func (t *tally) admit(scope string, limit int, now time.Time, count func(limit int) (int, error)) error {
	if ok, err := t.remembered(scope, now); ok {
		return err
	}
	n, err := count(limit)
	if err != nil {
		return err
	}
	l := &leave{more: max((limit-n)/8, 1) - 1, until: now.Add(leaveFor)}
	if n >= limit {
		l, err = &leave{full: true, until: now.Add(fullFor)}, errFull
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.scopes == nil || len(t.scopes) >= maxScopes {
		t.scopes = map[string]*leave{}
	}
	t.scopes[scope] = l
	return err
}

func (t *tally) remembered(scope string, now time.Time) (ok bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.scopes[scope]
	switch {
	case l == nil || !now.Before(l.until) || l.until.Sub(now) > leaveFor:
		return false, nil
	case l.full:
		return true, errFull
	case l.more == 0:
		return false, nil
	}
	l.more--
	return true, nil
}

// forget makes the next one be counted, because there is less than there was.
func (t *tally) forget(scope string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.scopes, scope)
}

// admitKey lets an account make one more key in a Region. Keys that wait for
// their deletion count, AWS managed ones do not.
func (s *Service) admitKey(ctx context.Context, account, region string) error {
	err := s.tally.admit("keys/"+account+"/"+region, s.quotas.Keys, s.now(), func(limit int) (n int, err error) {
		err = s.db.QueryRow(ctx, `SELECT COUNT(*) FROM (SELECT 1 FROM kms_keys WHERE account = $1 AND region = $2 AND manager = 'CUSTOMER' LIMIT $3) AS k`,
			account, region, limit).Scan(&n)
		return n, err
	})
	if errors.Is(err, errFull) {
		return awsapi.Errorf("LimitExceededException", "Account %s has %d KMS keys in %s, which is its quota", account, s.quotas.Keys, region)
	}
	if err != nil {
		return fmt.Errorf("counting keys: %w", err)
	}
	return nil
}

// admitGrant lets a key have one more grant.
func (s *Service) admitGrant(ctx context.Context, keyARN string) error {
	err := s.tally.admit(grantsTopic(keyARN), s.quotas.GrantsPerKey, s.now(), func(limit int) (n int, err error) {
		err = s.db.QueryRow(ctx, `SELECT COUNT(*) FROM (SELECT 1 FROM kms_grants WHERE key_arn = $1 LIMIT $2) AS g`, keyARN, limit).Scan(&n)
		return n, err
	})
	if errors.Is(err, errFull) {
		return awsapi.Errorf("LimitExceededException", "%s already has %d grants", keyARN, s.quotas.GrantsPerKey)
	}
	if err != nil {
		return fmt.Errorf("counting grants: %w", err)
	}
	return nil
}
