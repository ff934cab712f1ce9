package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/keyturn/keyturn/rotation"
	"github.com/spf13/cobra"
)

// The demo's waits: a lifetime of months, shortened to seconds.
const (
	demoAlias    = "alias/payments"
	demoSchedule = "rate(7 seconds)"
	demoLead     = 2 * time.Second
	demoOverlap  = 4 * time.Second
	demoSuspend  = 1 * time.Second
	demoTurns    = 2
	demoLimit    = 60 * time.Second // then something is wrong
)

// demoResult is what `demo --json` ends with.
type demoResult struct {
	Rotations           int     `json:"rotations"`
	SignaturesMade      int64   `json:"signatures_made"`
	SignaturesVerified  int64   `json:"signatures_verified"`
	VerificationsFailed int64   `json:"verifications_failed"`
	CrashesRecovered    int     `json:"crashes_recovered"`
	Orphans             int     `json:"orphans"`
	Seconds             float64 `json:"seconds"`
}

func (a *app) demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "See a signing key turn under load, with a crash in the middle",
		Long: `Starts a server in a temporary folder, makes an RSA_2048 signing key behind an alias, and turns it on a schedule whose
months are shortened to seconds. A signer signs through the alias all the while, and a verifier that knows the keys only
from a cached JWKS verifies each signature at once and again later. In the middle the server is killed (-9) and started
again. Nothing is canned: the counts are what happened.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), demoLimit)
			defer cancel()
			return a.runDemo(ctx)
		},
	}
}

// demo is one run.
type demo struct {
	dir, addr string
	say       io.Writer // progress
	began     time.Time
	server    *exec.Cmd
	exited    chan struct{} // closed when server has ended
	log       bytes.Buffer
	client    *client
	seen      int // events already told
	events    []rotation.Event
	crashes   int
	killAt    time.Time
	crashedAt time.Time
}

func (a *app) runDemo(ctx context.Context) error {
	d := &demo{say: a.out, began: time.Now()}
	if a.json {
		d.say = a.err
	}
	var err error
	if d.dir, err = os.MkdirTemp("", "keyturn-demo-"); err != nil {
		return failure(err, "is the temporary folder writable?")
	}
	defer os.RemoveAll(d.dir)
	defer d.kill()
	if err := d.prepare(ctx, a); err != nil {
		return err
	}
	load := &traffic{sdk: d.client.kms(), alias: demoAlias, jwks: d.jwks(), later: demoOverlap / 2}
	d.tell("a signer and a verifier with a JWKS cache are at work")
	loadCtx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); load.run(loadCtx) }()
	err = d.turn(ctx)
	stop()
	<-done
	if err != nil {
		d.kill()
		return failure(fmt.Errorf("the demo did not finish: %w", err), "the server's log:\n%s", d.lastLog())
	}
	result, err := d.result(ctx, load)
	if err != nil {
		return err
	}
	d.timeline(a)
	if err := a.print(result, func() error { return a.tellDemo(result) }); err != nil {
		return err
	}
	if why := load.firstFailure.Load(); why != nil {
		return failure(fmt.Errorf("%d verifications failed; the first: %s", result.VerificationsFailed, *why), "this must never happen: please report it")
	}
	if result.Orphans > 0 {
		return failure(fmt.Errorf("%d keys are left that no rotation knows", result.Orphans), "this must never happen: please report it")
	}
	return nil
}

func (d *demo) tell(format string, args ...any) {
	fmt.Fprintf(d.say, "%6.2fs  %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
}

// prepare starts the server and makes the key, its alias and the policy.
func (d *demo) prepare(ctx context.Context, a *app) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return failure(err, "is the loopback interface up?")
	}
	d.addr = l.Addr().String()
	if err := l.Close(); err != nil {
		return failure(err, "")
	}
	if err := d.start(ctx); err != nil {
		return err
	}
	here := *a
	here.clientEnvFile, here.endpoint, here.region, here.profile = d.envFile(), "", "", ""
	if d.client, err = here.connect(ctx); err != nil {
		return err
	}
	d.tell("a server answers on %s", d.client.endpoint)
	key, err := d.client.kms().CreateKey(ctx, &kms.CreateKeyInput{
		KeySpec: types.KeySpecRsa2048, KeyUsage: types.KeyUsageTypeSignVerify, Description: aws.String("signs payment orders"),
	})
	if err == nil {
		_, err = d.client.kms().CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String(demoAlias), TargetKeyId: key.KeyMetadata.KeyId})
	}
	if err != nil {
		return wrapSDK(d.client.endpoint, err)
	}
	d.tell("%s names an RSA_2048 key", demoAlias)
	policy := rotation.Policy{
		Name: "payments", Alias: demoAlias, Schedule: demoSchedule,
		Lead: rotation.Duration(demoLead), Overlap: rotation.Duration(demoOverlap), Suspend: rotation.Duration(demoSuspend),
		Adopt: rotation.AdoptFull, MaxKeysPerDay: 1000,
	}
	var put rotation.PutPolicyOutput
	if err := d.client.call(ctx, "PutPolicy", &rotation.PutPolicyInput{Policy: policy}, &put); err != nil {
		return err
	}
	d.tell("policy: %s, lead %s, overlap %s", demoSchedule, demoLead, demoOverlap)
	// The engine adopts the key at its next step; from then on there is a key set.
	for ctx.Err() == nil && !found(d.jwks()) {
		pause(ctx, 10*time.Millisecond)
	}
	return ctx.Err()
}

func (d *demo) jwks() string {
	return d.client.endpoint + "/jwks/" + strings.TrimPrefix(demoAlias, "alias/")
}

func found(url string) bool {
	resp, err := http.Get(url) //nolint:gosec // the demo's own server
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func (d *demo) envFile() string { return filepath.Join(d.dir, "keyturn.env") }

// start starts the server as a process of its own, so that it can be killed.
func (d *demo) start(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return failure(err, "")
	}
	d.server = exec.Command(self, "server", "--listen", d.addr, "--data", filepath.Join(d.dir, "data"), "--env-file", d.envFile())
	d.server.Env = append(os.Environ(), serverProcess+"=1")
	d.server.Stdout, d.server.Stderr = io.Discard, &d.log
	if err := d.server.Start(); err != nil {
		return failure(err, "")
	}
	d.exited = make(chan struct{})
	go func(server *exec.Cmd, exited chan struct{}) {
		defer close(exited)
		_ = server.Wait() // killed: there is nothing to learn from it
	}(d.server, d.exited)
	for {
		if d.answers() {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-d.exited:
			return failure(errors.New("the server did not start"), "its log:\n%s", d.lastLog())
		case <-ctx.Done():
			d.kill()
			return failure(errors.New("the server did not start in time"), "its log:\n%s", d.lastLog())
		}
	}
}

// answers reports whether the server serves and has said how to reach it.
func (d *demo) answers() bool {
	if _, err := os.Stat(d.envFile()); err != nil {
		return false
	}
	return found("http://" + d.addr + "/readyz")
}

// serverProcess tells a test binary that it is to be the command itself.
const serverProcess = "KEYTURN_DEMO_SERVER"

// kill is kill -9: nothing is flushed, nothing is said.
func (d *demo) kill() {
	if d.exited == nil {
		return
	}
	_ = d.server.Process.Kill()
	<-d.exited
}

// turn watches the rotations, and kills the server once between the publication
// of a key and its switch.
func (d *demo) turn(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := d.watch(ctx); err != nil {
			return err
		}
		if d.killAt.IsZero() && d.count(rotation.StepPublish) > 0 {
			// Anywhere between the publication and a moment after the switch.
			d.killAt = time.Now().Add(rand.N(demoLead + 500*time.Millisecond))
		}
		if d.crashes == 0 && !d.killAt.IsZero() && time.Now().After(d.killAt) {
			d.tell("kill -9: the server is gone in the middle of the rotation")
			d.kill()
			d.crashes++
			d.crashedAt = time.Now()
			if err := d.start(ctx); err != nil {
				return err
			}
			d.tell("started again, after %d ms", time.Since(d.crashedAt).Milliseconds())
		}
		if d.count(rotation.StepSuspend) >= demoTurns {
			return nil
		}
		pause(ctx, 50*time.Millisecond)
	}
	return fmt.Errorf("%d of %d rotations were done within %s: %w", d.count(rotation.StepSwitch), demoTurns, demoLimit, ctx.Err())
}

// watch tells what is new in the history.
func (d *demo) watch(ctx context.Context) error {
	var out rotation.ListHistoryOutput
	err := d.client.call(ctx, "ListHistory", &rotation.ListHistoryInput{Name: "payments", Page: rotation.Page{MaxResults: 1000}}, &out)
	if err != nil {
		return err
	}
	slices.Reverse(out.Events)
	d.events = out.Events
	for ; d.seen < len(d.events); d.seen++ {
		e := d.events[d.seen]
		switch {
		case e.What == rotation.WhatRecovered:
			d.tell("%-10s was under way when the server died; it is done again", e.Step)
		case e.What == rotation.WhatFailed:
			d.tell("%-10s failed: %s", e.Step, e.Error)
		case e.Note != "" && (e.What == rotation.WhatDone || e.What == rotation.WhatWaits):
			d.tell("%-10s %s", e.Step, gist(e.Note))
		}
	}
	return nil
}

// gist is brief with the first part of a list and how many more there are.
func gist(note string) string {
	first, _, more := strings.Cut(brief(note), "; ")
	if !more {
		return first
	}
	return fmt.Sprintf("%s; and %d more", first, strings.Count(note, "; "))
}

// count is how often a step was done by rotations.
func (d *demo) count(step rotation.Step) int {
	n := 0
	for _, e := range d.events {
		if e.What == rotation.WhatDone && e.Step == step && e.Kind == rotation.KindRotate {
			n++
		}
	}
	return n
}

// result counts what happened, orphans by looking at every key there is.
func (d *demo) result(ctx context.Context, load *traffic) (demoResult, error) {
	r := demoResult{
		Rotations: d.count(rotation.StepSwitch), SignaturesMade: load.made.Load(), SignaturesVerified: load.verified.Load(),
		VerificationsFailed: load.failed.Load(), CrashesRecovered: d.crashes,
	}
	// The next rotation may just be making its key, which is recorded a moment later: so it is stopped at its next
	// step, and a key counts as an orphan when it stays unknown.
	if err := d.client.call(ctx, "PausePolicy", &rotation.PausePolicyInput{Name: "payments", Reason: "the demo counts"}, nil); err != nil {
		return r, err
	}
	for deadline := time.Now().Add(5 * time.Second); ; pause(ctx, 50*time.Millisecond) {
		var err error
		if r.Orphans, err = d.orphans(ctx); err != nil {
			return r, err
		}
		if r.Orphans == 0 || time.Now().After(deadline) {
			break
		}
	}
	r.Seconds = time.Since(d.began).Round(10 * time.Millisecond).Seconds()
	return r, nil
}

// orphans counts the keys that no generation of the lineage knows.
func (d *demo) orphans(ctx context.Context) (n int, err error) {
	keys, err := listKeys(ctx, d.client)
	if err != nil {
		return 0, wrapSDK(d.client.endpoint, err)
	}
	var out rotation.ListGenerationsOutput
	if err := d.client.call(ctx, "ListGenerations", &rotation.ListGenerationsInput{Name: "payments"}, &out); err != nil {
		return 0, err
	}
	known := map[string]bool{}
	for _, g := range out.Generations {
		known[g.Key] = true
	}
	for _, k := range keys {
		if !known[k.ARN] {
			n++
		}
	}
	return n, nil
}

func (a *app) tellDemo(r demoResult) error {
	verdict := a.colour("nobody noticed", green)
	if r.VerificationsFailed > 0 || r.Orphans > 0 {
		verdict = a.colour("THAT WAS AN OUTAGE", red)
	}
	_, err := fmt.Fprintf(a.out, `
  rotations             %d
  signatures made       %d
  signatures verified   %d, each twice: at once and again %s later
  verifications failed  %d
  crashes recovered     %d
  orphaned keys         %d

%s, in %.1f seconds
`, r.Rotations, r.SignaturesMade, r.SignaturesVerified, demoOverlap/2, r.VerificationsFailed, r.CrashesRecovered, r.Orphans, verdict, r.Seconds)
	return err
}

// lastLog is the end of the server's log.
func (d *demo) lastLog() string {
	var lines []string
	for s := bufio.NewScanner(&d.log); s.Scan(); {
		lines = append(lines, s.Text())
	}
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
