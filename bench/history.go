package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/server"
)

// history is what a turn costs when the lineage is young and when it is old.
type history struct {
	Turns    int     `json:"turns"`
	EarlyCPU float64 `json:"early_cpu_ms_per_turn"` // turns 10 to 110
	LateCPU  float64 `json:"late_cpu_ms_per_turn"`  // the last 100
	Ratio    float64 `json:"ratio"`
}

// measureHistory turns one P-256 lineage a thousand times in virtual time, in
// this process, and compares the CPU time of early and late turns.
func measureHistory(ctx context.Context, o options, dir string) error {
	const turns, window = 1000, 100
	var clock atomic.Int64
	clock.Store(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	s, err := server.Open(ctx, server.Config{
		Data: filepath.Join(dir, "history"), Now: func() time.Time { return time.Unix(0, clock.Load()).UTC() },
		DevCredentials: []server.DevCredential{{AccessKeyID: "bench", Secret: "bench"}},
	})
	if err != nil {
		return err
	}
	defer s.Close()
	cfg := s.InProcess(aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "bench", SecretAccessKey: "bench"}, nil
	}), "us-east-1")
	sdk := kms.NewFromConfig(cfg)
	key, err := sdk.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify})
	if err != nil {
		return err
	}
	if _, err := sdk.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/old"), TargetKeyId: key.KeyMetadata.KeyId}); err != nil {
		return err
	}
	k := &keyturn{addr: "keyturn.local", aws: cfg}
	policy := rotation.Policy{
		Name: "old", Alias: "alias/old", Schedule: "rate(2 days)", Lead: rotation.Duration(time.Hour),
		Overlap: rotation.Duration(24 * time.Hour), Suspend: rotation.Duration(time.Hour),
	}
	if err := k.native(ctx, cfg.HTTPClient, "PutPolicy", &rotation.PutPolicyInput{Policy: policy}, nil); err != nil {
		return err
	}
	marks := map[int]time.Duration{} // turn → CPU time used until then
	for turn := range turns {
		marks[turn] = processCPU()
		if err := advance(ctx, s, &clock, 48*time.Hour); err != nil {
			return err
		}
		if turn%100 == 99 {
			fmt.Fprintf(os.Stderr, "\rhistory: %d turns", turn+1)
		}
	}
	fmt.Fprintln(os.Stderr)
	perTurn := func(from, to int) float64 {
		return float64(marks[to]-marks[from]) / float64(to-from) / float64(time.Millisecond)
	}
	h := history{Turns: turns, EarlyCPU: perTurn(10, 10+window), LateCPU: perTurn(turns-1-window, turns-1)}
	h.Ratio = h.LateCPU / h.EarlyCPU
	generations, err := sdk.ListAliases(ctx, &kms.ListAliasesInput{})
	if err != nil {
		return err
	}
	if len(generations.Aliases) < 50 {
		return fmt.Errorf("only %d aliases after %d turns: the lineage did not turn", len(generations.Aliases), turns)
	}
	if o.json {
		return printLine(h)
	}
	fmt.Printf("\nturning one lineage %d times: %.2f ms of CPU a turn early, %.2f ms late, ratio %.2f\n", h.Turns, h.EarlyCPU, h.LateCPU, h.Ratio)
	return nil
}

// advance moves the clock by d and does what falls due meanwhile.
func advance(ctx context.Context, s *server.Server, clock *atomic.Int64, d time.Duration) error {
	end := clock.Load() + int64(d)
	for {
		next, err := s.Settle(ctx)
		if err != nil {
			return err
		}
		if next.IsZero() || next.UnixNano() > end {
			clock.Store(end)
			return nil
		}
		clock.Store(max(next.UnixNano(), clock.Load()))
	}
}

func processCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
