//go:build unix

package main_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/go-jose/go-jose/v4"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// The waits of the lineages: months, shortened so that every step of several
// rotations is under way at some kill.
const (
	killSchedule = "rate(2 seconds)"
	killLead     = 500 * time.Millisecond
	killOverlap  = 1 * time.Second
	killSuspend  = 500 * time.Millisecond
	killLease    = 3 * time.Second // PostgreSQL: how long a step of a killed process is left to it
	killRounds   = 20              // on both databases together, unless KEYTURN_KILL_ROUNDS says otherwise
	killPatience = 20 * time.Second
)

// The real process is killed with SIGKILL at random points while keys of several kinds
// turn and callers sign, verify, MAC and encrypt through their aliases. After every
// restart the whole state is read over the wire and held against the invariants of
// docs/rotation.md.
func TestKillNine(t *testing.T) {
	rounds := killRounds
	if text := os.Getenv("KEYTURN_KILL_ROUNDS"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil || rounds < 1 {
			t.Fatalf("KEYTURN_KILL_ROUNDS=%q is not a number of rounds", text)
		}
	}
	t.Run("sqlite", func(t *testing.T) { testKillNine(t, (rounds+1)/2) })
	t.Run("postgres", func(t *testing.T) {
		config := filepath.Join(t.TempDir(), "keyturn.yaml")
		if err := os.WriteFile(config, []byte("rotation: {lease: "+killLease.String()+"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		testKillNine(t, max(rounds/2, 1), "--config", config, "--database", sqldbtest.Postgres(t))
	})
}

func testKillNine(t *testing.T, rounds int, args ...string) {
	binary(t)
	began := time.Now()
	w := &killWorld{t: t, p: startServer(t, args...)}
	w.prepare(rounds > killRounds)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var callers sync.WaitGroup
	for _, l := range w.lineages {
		if !l.idle {
			callers.Go(func() { l.use(ctx) })
		}
	}
	kills := 0
	kill := func(least, most time.Duration) {
		time.Sleep(least + rand.N(most-least)) // the random point of the kill
		w.p.kill()
		kills++
	}
	for range rounds {
		kill(50*time.Millisecond, 700*time.Millisecond)
		if rand.N(4) == 0 { // and once more while it opens or recovers
			w.p.launch()
			kill(0, 400*time.Millisecond)
		}
		w.p.start()
		w.check()
		if t.Failed() {
			break
		}
	}
	w.settle()
	w.check()
	w.each(w.rollBack)
	stop()
	callers.Wait()
	w.check()
	w.report(rounds, kills, began)
	if code := w.p.stop(); code != 0 {
		t.Errorf("after SIGTERM the server ended with %d:\n%s", code, tail(w.p.log.String()))
	}
	verify := []string{"audit", "verify", "--data", w.p.data}
	if i := slices.Index(args, "--database"); i >= 0 {
		verify = append(verify, args[i:i+2]...)
	}
	if stdout, stderr, code := w.p.run(verify...); code != 0 || !strings.Contains(stdout, "intact") {
		t.Errorf("audit verify: exit code %d\n%s%s", code, stdout, stderr)
	}
	if t.Failed() {
		t.Logf("the server's log:\n%s", tail(w.p.log.String()))
	}
}

// killWorld is the server, its lineages, and what was learned of them so far.
type killWorld struct {
	t        *testing.T
	p        *process
	lineages []*lineage
	known    sync.Map // key ARN → true: it is a generation, and stays one
}

// prepare makes a key, an alias and a policy of each kind. RSA keys, which take longer to
// make than a process of a short test has to live, are for long ones.
func (w *killWorld) prepare(long bool) {
	ctx := context.Background()
	// The idle ones only turn: the more steps are under way, the more of them a kill meets.
	specs := []types.KeySpec{types.KeySpecEccNistP256, types.KeySpecHmac256, types.KeySpecSymmetricDefault}
	if long {
		specs = append(specs, types.KeySpecRsa2048)
	}
	idle := []types.KeySpec{types.KeySpecEccNistP384, types.KeySpecHmac512, types.KeySpecEccNistEdwards25519, types.KeySpecEccSecgP256k1}
	for i, spec := range append(specs, idle...) {
		l := &lineage{
			t: w.t, name: "kill-" + strings.ToLower(strings.ReplaceAll(string(spec), "_", "-")), spec: spec,
			idle: i >= len(specs), firstUse: map[string]time.Time{},
		}
		l.alias = "alias/" + l.name
		l.sdk = kms.NewFromConfig(w.p.config(stampingClient{}), func(o *kms.Options) {
			o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts, o.MaxBackoff = 1000, 50*time.Millisecond
				o.RateLimiter = noRateLimit{}
			})
		})
		if spec == types.KeySpecEccNistP256 {
			l.jwks = &keySets{url: w.p.endpoint() + "/jwks/" + l.name}
		}
		usage := types.KeyUsageTypeSignVerify
		switch spec {
		case types.KeySpecHmac256, types.KeySpecHmac512:
			usage = types.KeyUsageTypeGenerateVerifyMac
		case types.KeySpecSymmetricDefault:
			usage = types.KeyUsageTypeEncryptDecrypt
		}
		key, err := l.sdk.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: spec, KeyUsage: usage, Description: aws.String("killed often")})
		if err == nil {
			_, err = l.sdk.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: &l.alias, TargetKeyId: key.KeyMetadata.KeyId})
		}
		if err == nil {
			err = w.p.native(ctx, "PutPolicy", &rotation.PutPolicyInput{Policy: rotation.Policy{
				Name: l.name, Alias: l.alias, Schedule: killSchedule, Adopt: rotation.AdoptFull, MaxKeysPerDay: 1_000_000,
				Lead: rotation.Duration(killLead), Overlap: rotation.Duration(killOverlap), Suspend: rotation.Duration(killSuspend),
			}}, nil)
		}
		if err != nil {
			w.t.Fatal(err)
		}
		w.lineages = append(w.lineages, l)
	}
}

// state is all that can be seen of a lineage over the wire.
type state struct {
	names       map[string]string // alias → key ARN
	current     *types.KeyMetadata
	generations []rotation.Generation // newest first
	open        []rotation.Rotation
	all         []rotation.Rotation
}

func (s *state) generation(key string) *rotation.Generation {
	for i := range s.generations {
		if s.generations[i].Key == key {
			return &s.generations[i]
		}
	}
	return nil
}

func (s *state) active() string {
	for _, g := range s.generations {
		if g.Active {
			return g.Key
		}
	}
	return ""
}

// head is the rotation that moves the alias next. It reports every one there is.
func (s *state) heads() (all []rotation.Rotation) {
	for _, r := range s.open {
		moves := r.Kind == rotation.KindRotate || r.Kind == rotation.KindCompromise || r.Kind == rotation.KindRollBack
		if moves && !r.Switched && r.Status != rotation.StatusHeld {
			all = append(all, r)
		}
	}
	return all
}

func (w *killWorld) read(l *lineage) (*state, error) {
	ctx := context.Background()
	s := &state{names: map[string]string{}}
	meta, err := w.p.kms().DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &l.alias})
	if err != nil {
		return nil, err
	}
	s.current = meta.KeyMetadata
	// Generations before rotations: no key is read without the rotation that made it.
	for in := (rotation.ListGenerationsInput{Name: l.name, Page: rotation.Page{MaxResults: 1000}}); ; {
		var out rotation.ListGenerationsOutput
		if err := w.p.native(ctx, "ListGenerations", &in, &out); err != nil {
			return nil, err
		}
		s.generations = append(s.generations, out.Generations...)
		if in.NextToken = out.NextToken; in.NextToken == "" {
			break
		}
	}
	for _, g := range s.generations {
		w.known.Store(g.Key, true)
	}
	var policy rotation.GetPolicyOutput
	if err := w.p.native(ctx, "GetPolicy", &rotation.NameInput{Name: l.name}, &policy); err != nil {
		return nil, err
	}
	s.open = policy.Open
	return s, nil
}

// rotations reads every rotation there has been.
func (w *killWorld) rotations(l *lineage) (all []rotation.Rotation, err error) {
	for in := (rotation.ListRotationsInput{Name: l.name, Page: rotation.Page{MaxResults: 1000}}); ; {
		var out rotation.ListRotationsOutput
		if err := w.p.native(context.Background(), "ListRotations", &in, &out); err != nil {
			return nil, err
		}
		all = append(all, out.Rotations...)
		if in.NextToken = out.NextToken; in.NextToken == "" {
			return all, nil
		}
	}
}

// eventually reads the lineage's state until condition finds nothing wrong: the
// engine works meanwhile, so what is read in several calls may not fit together.
func (w *killWorld) eventually(l *lineage, condition func(*state) string) {
	w.t.Helper()
	for deadline := time.Now().Add(killPatience); ; time.Sleep(20 * time.Millisecond) {
		s, err := w.read(l)
		if err != nil {
			w.t.Errorf("%s: %v", l.alias, err)
			return
		}
		wrong := condition(s)
		if wrong == "" {
			return
		}
		if time.Now().After(deadline) {
			w.t.Errorf("%s: after %s: %s\nopen: %+v", l.alias, killPatience, wrong, s.open)
			return
		}
	}
}

// check holds the whole state against the invariants. Those that the engine may be
// in the middle of are given time to become true; those that must hold at every
// instant are not.
func (w *killWorld) check() {
	w.t.Helper()
	w.each(func(l *lineage) {
		w.checkCurrent(l)
		s, err := w.read(l)
		if err == nil {
			s.all, err = w.rotations(l)
		}
		if err != nil {
			w.t.Errorf("%s: %v", l.alias, err)
			return
		}
		w.checkRotations(l, s)
		w.checkUse(l, s)
	})
	w.checkKeys()
	w.checkNames()
}

// each does something with every lineage at once, so that it does not take long.
func (w *killWorld) each(do func(*lineage)) {
	var wg sync.WaitGroup
	for _, l := range w.lineages {
		wg.Go(func() { do(l) })
	}
	wg.Wait()
}

// checkCurrent: the alias names an enabled key that does its job (invariant 1), and
// it is the one that the lineage knows as active, as soon as no switch is under way.
func (w *killWorld) checkCurrent(l *lineage) {
	w.t.Helper()
	if made, err := l.make(context.Background()); err != nil {
		w.t.Errorf("%s: the key behind the alias does not work: %v", l.alias, err)
	} else if ok, err := l.holds(context.Background(), made); err != nil || !ok {
		w.t.Errorf("%s: what was just made does not verify: %v", l.alias, err)
	}
	w.eventually(l, func(s *state) string {
		if !s.current.Enabled {
			w.t.Errorf("%s names a key that is %s", l.alias, s.current.KeyState)
		}
		if active := s.active(); active != *s.current.Arn {
			return fmt.Sprintf("the alias names %s, the active generation is %s", *s.current.Arn, active)
		}
		return ""
	})
}

// checkRotations: one head for each policy that will be woken (7), none failed (5),
// everything that switched had been tested (6), and no more keys than rotations (4).
func (w *killWorld) checkRotations(l *lineage, s *state) {
	w.t.Helper()
	if heads := s.heads(); len(heads) != 1 || heads[0].Due.IsZero() {
		w.t.Errorf("%s has %d rotations that move the alias next, all of which must be due some time: %+v", l.alias, len(heads), heads)
	}
	begun := 0
	for _, r := range s.all {
		if r.Status == rotation.StatusFailed {
			w.t.Errorf("%s: rotation %s failed at %s: %s", l.alias, r.RotationId, r.Step, r.Error)
		}
		// One that was canceled by the roll back had begun as well.
		if !r.BegunAt.IsZero() && (r.Kind == rotation.KindRotate || r.Kind == rotation.KindCancel) {
			begun++
		}
		if tested := r.DoneAt[rotation.StepTest]; r.Switched && (tested.IsZero() || tested.After(r.SwitchedAt)) {
			w.t.Errorf("%s: rotation %s switched at %s without a test before, but at %s", l.alias, r.RotationId, r.SwitchedAt, tested)
		}
	}
	made := 0
	for _, g := range s.generations {
		if g.Made == rotation.MadeByKeyturn {
			made++
		}
	}
	l.turned = 0
	for _, r := range s.all {
		if r.Switched && r.Kind == rotation.KindRotate {
			l.turned++
		}
	}
	if made > begun {
		w.t.Errorf("%s: %d keys were made by %d rotations", l.alias, made, begun)
	}
	l.begun = begun
}

// checkUse: no key was used before it had been published for the lead (2).
func (w *killWorld) checkUse(l *lineage, s *state) {
	w.t.Helper()
	l.mu.Lock()
	used := maps.Clone(l.firstUse)
	l.mu.Unlock()
	for key, at := range used {
		g := s.generation(key)
		switch {
		case g == nil:
			// Read before the rotation switched to it: the next check sees it.
			if at.Before(time.Now().Add(-killPatience)) {
				w.t.Errorf("%s: %s was used and is no generation", l.alias, key)
			}
		case g.Made == rotation.MadeByKeyturn && (g.PublishedAt.IsZero() || at.Before(g.PublishedAt.Add(killLead))):
			w.t.Errorf("%s: v%d was used at %s and published at %s", l.alias, g.Number, at, g.PublishedAt)
		}
	}
}

// checkKeys: there are no orphans (4). A key that Keyturn tagged and no lineage knows
// is the pending one of a rotation under way, which comes to know it, or is gone.
func (w *killWorld) checkKeys() {
	w.t.Helper()
	ctx, sdk := context.Background(), w.p.kms()
	for deadline := time.Now().Add(killPatience); ; time.Sleep(20 * time.Millisecond) {
		var keys []string
		for pages := kms.NewListKeysPaginator(sdk, &kms.ListKeysInput{Limit: aws.Int32(1000)}); pages.HasMorePages(); {
			page, err := pages.NextPage(ctx)
			if err != nil {
				w.t.Fatal(err)
			}
			for _, k := range page.Keys {
				if _, ok := w.known.Load(*k.KeyArn); !ok {
					keys = append(keys, *k.KeyArn)
				}
			}
		}
		if len(keys) == 0 {
			return
		}
		// Afterwards, so that a lineage had the time of one more step to know each of them.
		w.each(func(l *lineage) {
			if _, err := w.read(l); err != nil {
				w.t.Errorf("%s: %v", l.alias, err)
			}
		})
		unknown := map[string][]string{} // lineage → keys
		for _, k := range keys {
			if _, ok := w.known.Load(k); ok {
				continue
			}
			meta, err := sdk.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &k})
			if err != nil {
				w.t.Fatal(err)
			}
			if meta.KeyMetadata.KeyState == types.KeyStatePendingDeletion {
				continue // surplus of a lost answer, found and removed
			}
			of := w.owner(sdk, k)
			unknown[of] = append(unknown[of], k)
		}
		for of, keys := range unknown {
			if len(keys) > 1 {
				w.t.Errorf("%d keys were made for %s that it does not know: %v", len(keys), of, keys)
			}
		}
		if len(unknown) == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.t.Errorf("orphans: %v", unknown)
			return
		}
	}
}

// owner is the lineage that a key was made for, by its tag.
func (w *killWorld) owner(sdk *kms.Client, key string) string {
	w.t.Helper()
	tags, err := sdk.ListResourceTags(context.Background(), &kms.ListResourceTagsInput{KeyId: &key})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, tag := range tags.Tags {
		if *tag.TagKey == "keyturn:lineage" {
			return *tag.TagValue
		}
	}
	w.t.Errorf("%s has no tag of a lineage, and we did not make it", key)
	return ""
}

// checkNames: every name of a generation names a generation of its lineage.
func (w *killWorld) checkNames() {
	w.t.Helper()
	names := map[string]string{}
	for pages := kms.NewListAliasesPaginator(w.p.kms(), &kms.ListAliasesInput{}); pages.HasMorePages(); {
		page, err := pages.NextPage(context.Background())
		if err != nil {
			w.t.Fatal(err)
		}
		for _, a := range page.Aliases {
			if a.TargetKeyId != nil {
				names[*a.AliasName] = *a.TargetKeyId
			}
		}
	}
	w.each(func(l *lineage) {
		s, err := w.read(l)
		if err != nil {
			w.t.Errorf("%s: %v", l.alias, err)
			return
		}
		ids := map[string]bool{}
		for _, g := range s.generations {
			ids[g.Key[strings.LastIndex(g.Key, "/")+1:]] = true
		}
		for name, id := range names {
			side, ok := strings.CutPrefix(name, l.alias+"/")
			if !ok {
				continue
			}
			if _, err := strconv.Atoi(strings.TrimPrefix(side, "v")); err != nil && side != "next" && side != "previous" {
				w.t.Errorf("%s: nobody asked for this name", name)
			}
			if !ids[id] {
				w.t.Errorf("%s names %s, which is no generation of the lineage", name, id)
			}
		}
	})
}

// settle waits until every lineage has turned once more after the last kill, and
// what was left behind has been retired.
func (w *killWorld) settle() {
	w.t.Helper()
	w.each(func(l *lineage) {
		newest := 0
		w.eventually(l, func(s *state) string {
			if newest == 0 {
				newest = s.generations[0].Number
			}
			for _, g := range s.generations {
				if g.Active && g.Number > newest {
					return ""
				}
			}
			return fmt.Sprintf("no generation after v%d has become active", newest)
		})
	})
}

// rollBack: one command makes the previous generation current again (8), and the one
// it replaces can no longer be used by anybody, but still verifies.
func (w *killWorld) rollBack(l *lineage) {
	w.t.Helper()
	ctx := context.Background()
	var out rotation.RotationOutput
	w.eventually(l, func(*state) string { // while a switch is under way, the answer is to try again
		if err := w.p.native(ctx, "RollBack", &rotation.RollBackInput{Name: l.name, Reason: "the end of the test"}, &out); err != nil {
			return "rolling back: " + err.Error()
		}
		return ""
	})
	if err := w.p.native(ctx, "PausePolicy", &rotation.PausePolicyInput{Name: l.name}, nil); err != nil {
		w.t.Errorf("%s: pausing: %v", l.alias, err)
	}
	w.eventually(l, func(s *state) string {
		all, err := w.rotations(l)
		if err != nil {
			return err.Error()
		}
		for _, r := range all {
			if r.RotationId == out.Rotation.RotationId && r.Status == rotation.StatusDone {
				if *s.current.Arn != out.Rotation.NewKey || s.active() != out.Rotation.NewKey {
					return fmt.Sprintf("rolled back to %s, but the alias names %s", out.Rotation.NewKey, *s.current.Arn)
				}
				return ""
			}
		}
		return "the roll back is not done"
	})
	w.checkCurrent(l)
	if _, err := l.makeWith(ctx, out.Rotation.OldKey); err == nil {
		w.t.Errorf("%s: the key that was left, %s, is still used by its id", l.alias, out.Rotation.OldKey)
	}
}

func (w *killWorld) report(rounds, kills int, began time.Time) {
	begun, turned, recovered := 0, 0, 0
	var made, verified, lapsed int64
	for _, l := range w.lineages {
		begun, turned = begun+l.begun, turned+l.turned
		made, verified, lapsed = made+l.made, verified+l.verified, lapsed+l.lapsed
		if !l.idle && (l.made == 0 || l.verified == 0) {
			w.t.Errorf("%s was not used: %d made, %d verified", l.alias, l.made, l.verified)
		}
		in := rotation.ListHistoryInput{Name: l.name, Page: rotation.Page{MaxResults: 1000}}
		for {
			var out rotation.ListHistoryOutput
			if err := w.p.native(context.Background(), "ListHistory", &in, &out); err != nil {
				w.t.Fatal(err)
			}
			for _, e := range out.Events {
				if e.What == rotation.WhatRecovered {
					recovered++
				}
			}
			if in.NextToken = out.NextToken; in.NextToken == "" {
				break
			}
		}
	}
	if turned == 0 {
		w.t.Error("nothing turned")
	}
	w.t.Logf("%d rounds, %d kills, %d rotations begun, %d switched, %d steps recovered; %d signatures, MACs and ciphertexts made, "+
		"%d times verified, %d times too late to ask; last start %s; %.1f s",
		rounds, kills, begun, turned, recovered, made, verified, lapsed, w.p.startup.Round(time.Millisecond), time.Since(began).Seconds())
}

// lineage is one alias with its callers.
type lineage struct {
	t     *testing.T
	name  string
	alias string
	spec  types.KeySpec
	sdk   *kms.Client
	jwks  *keySets // nil: not verified outside the server
	idle  bool     // nobody uses it but the checks

	begun, turned          int   // as of the last check
	made, verified, lapsed int64 // by use; read when it has ended

	mu       sync.Mutex           // guards firstUse
	firstUse map[string]time.Time // key ARN → the earliest end of a call that used it
}

// work is something made through the alias.
type work struct {
	message, value []byte
	key            string
	from, to       time.Time // the call that made it, as the server saw it, was between these
}

// use makes something every few milliseconds and has it verified at once and again
// shortly before the overlap could end, until ctx ends.
func (l *lineage) use(ctx context.Context) {
	if l.jwks != nil {
		var fetching sync.WaitGroup
		defer fetching.Wait()
		fetching.Go(func() { l.jwks.follow(ctx) })
	}
	var later []work
	tick := time.NewTicker(15 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		made, err := l.make(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			l.t.Errorf("%s: using the alias: %v", l.alias, err)
			return
		}
		l.made++
		l.verify(ctx, made)
		later = append(later, made)
		for len(later) > 0 && time.Since(later[0].from) > killOverlap*7/10 {
			l.verify(ctx, later[0])
			later = later[1:]
		}
	}
}

// verify demands a good answer if it came inside the overlap: the key that made it
// was active after w.from, so its overlap ends later than w.from + overlap.
func (l *lineage) verify(ctx context.Context, w work) {
	ok, err := l.holds(ctx, w)
	if ctx.Err() != nil {
		return
	}
	age := time.Since(w.from)
	switch {
	case err == nil && ok:
		l.verified++
	case age > killOverlap:
		l.lapsed++ // the server was away for so long
	default:
		l.t.Errorf("%s: made by %s, not verified by the alias %s later: %v", l.alias, w.key, age, err)
	}
	if l.jwks == nil {
		return
	}
	// Whoever cached the set for up to the lead before, or fetched it inside the overlap, must know the key.
	for _, set := range l.jwks.between(w.to.Add(-killLead), w.from.Add(killOverlap)) {
		if !set.verifies(w) {
			l.t.Errorf("%s: made by %s at %s, not verified by the key set of %s: %s", l.alias, w.key, w.from, set.from, set.ids())
		}
	}
}

// make uses the alias once, whatever it takes.
func (l *lineage) make(ctx context.Context) (work, error) {
	w, err := l.makeWith(ctx, l.alias)
	if err != nil {
		return w, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if first, ok := l.firstUse[w.key]; !ok || w.to.Before(first) {
		l.firstUse[w.key] = w.to
	}
	return w, nil
}

func (l *lineage) makeWith(ctx context.Context, key string) (w work, err error) {
	sent := &w.from
	ctx = context.WithValue(ctx, stampKey{}, sent)
	w.message = fmt.Appendf(nil, "message %d", rand.Uint64())
	switch l.spec {
	case types.KeySpecHmac256, types.KeySpecHmac512:
		out, e := l.sdk.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: &key, Message: w.message, MacAlgorithm: l.macAlgorithm()})
		if err = e; err == nil {
			w.value, w.key = out.Mac, *out.KeyId
		}
	case types.KeySpecSymmetricDefault:
		out, e := l.sdk.Encrypt(ctx, &kms.EncryptInput{KeyId: &key, Plaintext: w.message})
		if err = e; err == nil {
			w.value, w.key = out.CiphertextBlob, *out.KeyId
		}
	default:
		out, e := l.sdk.Sign(ctx, &kms.SignInput{KeyId: &key, Message: w.message, SigningAlgorithm: l.algorithm()})
		if err = e; err == nil {
			w.value, w.key = out.Signature, *out.KeyId
		}
	}
	w.to = time.Now()
	return w, err
}

// holds asks the server, by the alias, whether w was made by the lineage.
func (l *lineage) holds(ctx context.Context, w work) (bool, error) {
	switch l.spec {
	case types.KeySpecHmac256, types.KeySpecHmac512:
		out, err := l.sdk.VerifyMac(ctx, &kms.VerifyMacInput{KeyId: &l.alias, Message: w.message, Mac: w.value, MacAlgorithm: l.macAlgorithm()})
		return err == nil && out.MacValid && *out.KeyId == w.key, err
	case types.KeySpecSymmetricDefault:
		out, err := l.sdk.Decrypt(ctx, &kms.DecryptInput{KeyId: &l.alias, CiphertextBlob: w.value})
		return err == nil && bytes.Equal(out.Plaintext, w.message) && *out.KeyId == w.key, err
	}
	out, err := l.sdk.Verify(ctx, &kms.VerifyInput{KeyId: &l.alias, Message: w.message, Signature: w.value, SigningAlgorithm: l.algorithm()})
	return err == nil && out.SignatureValid && *out.KeyId == w.key, err
}

func (l *lineage) algorithm() types.SigningAlgorithmSpec {
	switch l.spec {
	case types.KeySpecRsa2048:
		return types.SigningAlgorithmSpecRsassaPssSha256
	case types.KeySpecEccNistP384:
		return types.SigningAlgorithmSpecEcdsaSha384
	case types.KeySpecEccNistEdwards25519:
		return types.SigningAlgorithmSpecEd25519Sha512
	}
	return types.SigningAlgorithmSpecEcdsaSha256
}

func (l *lineage) macAlgorithm() types.MacAlgorithmSpec {
	if l.spec == types.KeySpecHmac512 {
		return types.MacAlgorithmSpecHmacSha512
	}
	return types.MacAlgorithmSpecHmacSha256
}

// keySets are what a verifier outside the server has fetched of the JWKS.
type keySets struct {
	url string

	mu   sync.Mutex // guards sets
	sets []keySet   // the latest ones
}

// keySet is what was fetched between two instants.
type keySet struct {
	from, to time.Time
	keys     []jose.JSONWebKey
}

// follow fetches the set again and again, as many verifiers would at different times.
func (k *keySets) follow(ctx context.Context) {
	tick := time.NewTicker(60 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		set := keySet{from: time.Now()}
		resp, err := probe.Get(k.url)
		if err != nil {
			continue // the server is away
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		var parsed jose.JSONWebKeySet
		if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(body, &parsed) != nil {
			continue
		}
		set.to, set.keys = time.Now(), parsed.Keys
		k.mu.Lock()
		k.sets = append(k.sets[max(0, len(k.sets)-100):], set)
		k.mu.Unlock()
	}
}

// between returns the sets that were fetched wholly between two instants.
func (k *keySets) between(from, to time.Time) (all []keySet) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, set := range k.sets {
		if set.from.After(from) && set.to.Before(to) {
			all = append(all, set)
		}
	}
	return all
}

func (s *keySet) verifies(w work) bool {
	digest := sha256.Sum256(w.message)
	return slices.ContainsFunc(s.keys, func(k jose.JSONWebKey) bool {
		public, ok := k.Key.(*ecdsa.PublicKey)
		return ok && ecdsa.VerifyASN1(public, digest[:], w.value)
	})
}

func (s *keySet) ids() (all []string) {
	for _, k := range s.keys {
		all = append(all, k.KeyID)
	}
	return all
}

// stampingClient notes when the last attempt of a call was sent, so that retries do
// not blur when it took place.
type stampingClient struct{}

type stampKey struct{}

func (stampingClient) Do(r *http.Request) (*http.Response, error) {
	if sent, ok := r.Context().Value(stampKey{}).(*time.Time); ok {
		*sent = time.Now()
	}
	return probe.Do(r)
}

// noRateLimit lets a caller try as often as it likes: the server is away often.
type noRateLimit struct{}

func (noRateLimit) GetToken(context.Context, uint) (func() error, error) {
	return func() error { return nil }, nil
}
func (noRateLimit) AddTokens(uint) error { return nil }
