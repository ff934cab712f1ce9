package rotators_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/keystore/keystoretest"
	"github.com/keyturn/keyturn/keystore/software"
	"github.com/keyturn/keyturn/kms"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotators"
	"github.com/keyturn/keyturn/server"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

const (
	account = "111122223333"
	region  = "eu-central-1"
	alias   = "alias/signing"
)

// A house is a whole server in the test: the real database, key store, policy checks, audit log and KMS. The rotator
// reaches it through wire, which tests can break; admin is the account's root user over a wire that never breaks.
type house struct {
	t     testing.TB
	db    *sqldb.DB
	clock *clock
	kms   *kms.Service
	guard *access.Guard
	wire  *wire
	admin *sdk.Client
	all   map[string]*sdk.Client // Region → admin there
	local bool                   // the target enforces generation states itself; false plays an AWS account

	table   *rotation.SQLTable
	storing func(*rotation.Change) // each change of an engine, before it is stored
	rotator rotation.Rotator
	service *rotation.Service

	materials *materials
	imported  *imported
}

func newHouse(t testing.TB, db *sqldb.DB) *house {
	t.Helper()
	ctx := t.Context()
	h := &house{t: t, db: db, clock: &clock{now: time.Now().UTC().Truncate(time.Second)}, local: true}
	store, err := software.Open(ctx, db, software.RootKeyFile(filepath.Join(t.TempDir(), "root.key")))
	check(t, err)
	t.Cleanup(store.Close)
	log, err := audit.Open(ctx, sqldbtest.Dir(t), nil, "test", audit.Options{Sync: audit.Interval, Interval: time.Hour})
	check(t, err)
	t.Cleanup(func() { _ = log.Close() })
	h.guard, err = access.Open(ctx, access.Config{DB: db, Log: log, Sealer: store.Sealer("access")})
	check(t, err)
	check(t, h.guard.AddEphemeral(access.EphemeralCredential{AccessKeyID: "AKIAROOT", Secret: access.NewSecret("secret"), Account: account}))
	h.table = rotation.NewTable(db)
	h.imported = &imported{Backend: keystoretest.KnownRSA(store)}
	quiet := slog.New(slog.DiscardHandler)
	h.kms, err = kms.New(ctx, kms.Config{
		DB: db, Guard: h.guard, Backend: h.imported, Sealer: store.Sealer("kms"), Now: h.clock.Now, Logger: quiet, DeletionGrace: -1, Lineages: lineages{h},
	})
	check(t, err)
	handler := awsapi.NewHandler(awsapi.Config{Guard: h.guard, Services: []awsapi.Service{h.kms.API()}, Logger: quiet})
	h.wire = &wire{next: awsapi.InProcess(handler)}
	h.admin = sdk.NewFromConfig(h.config(awsapi.InProcess(handler)))
	h.rotator = rotators.NewKey(rotators.KeyOptions{Tagged: h.tagged})
	h.materials = &materials{wire: h.wire, next: server.Materials(h.kms), proved: map[string]bool{}}
	h.service, err = rotation.NewService(rotation.ServiceConfig{
		DB: db, Guard: h.guard, Rotators: h.rotators(), Now: h.clock.Now,
		Targets:   func(context.Context, *rotation.Policy) (rotation.Target, error) { return h.target(), nil },
		MayTarget: func(string, string) bool { return true },
	})
	check(t, err)
	h.kms.SetRotations(h.service)
	return h
}

func (h *house) rotators() map[string]rotation.Rotator {
	return map[string]rotation.Rotator{"key": h.rotator, rotation.RotatorMaterial: rotators.NewMaterial(h.materials)}
}

// tagged lets the rotator ask this very server for keys by their tag.
func (h *house) tagged(ctx context.Context, target rotation.Target, key, value string) ([]string, error) {
	return h.kms.KeysTagged(ctx, target.Account, target.Region, key, value)
}

// page lets the rotator find its keys as it must at a target that cannot be asked: by the tags of all of them.
func (h *house) page() { h.rotator = rotators.NewKey(rotators.KeyOptions{}) }

// call is a call of the native API by the account's root user.
func (h *house) call(operation string) *access.Call {
	h.t.Helper()
	c, err := h.guard.Credential(h.t.Context(), "AKIAROOT", "")
	check(h.t, err)
	return &access.Call{
		ID: "call", Service: "keyturn", EventSource: "keyturn", Operation: operation, Region: region, Account: account,
		Caller: c.Caller, Time: time.Now(),
	}
}

// put stores a policy and lets it adopt the key behind its alias.
func (h *house) put(p rotation.Policy) {
	h.t.Helper()
	_, err := h.service.PutPolicy(h.t.Context(), h.call("PutPolicy"), &rotation.PutPolicyInput{Policy: p})
	check(h.t, err)
}

// rotate lets the next rotation of a policy begin now, and answers its id.
func (h *house) rotate(policy string) string {
	h.t.Helper()
	out, err := h.service.RotateNow(h.t.Context(), h.call("RotateNow"), &rotation.RotateNowInput{Name: policy})
	check(h.t, err)
	return out.Rotation.RotationId
}

// An engine is one life of the process: its context ends when it dies.
type engine struct {
	*rotation.Engine
	ctx context.Context
	die context.CancelFunc
}

// lease is short, because virtual time passes it by and real time must not.
const lease = time.Minute

// start begins a life. The wire kills it when it is told to.
func (h *house) start() *engine {
	ctx, cancel := context.WithCancel(h.t.Context())
	e := &engine{ctx: ctx, die: cancel, Engine: rotation.New(rotation.Config{
		Table: stores{h.table, h}, Rotators: h.rotators(), Now: h.clock.Now, Lease: lease,
		Targets: func(context.Context, *rotation.Policy) (rotation.Target, error) { return h.target(), nil },
		Rand:    func() float64 { return 0 },
	})}
	h.wire.mu.Lock()
	h.wire.die = cancel
	h.wire.mu.Unlock()
	return e
}

// stores are the rotation tables, with commits that take as long as the house wants.
type stores struct {
	*rotation.SQLTable
	h *house
}

func (s stores) Store(ctx context.Context, p *rotation.Policy, c *rotation.Change) error {
	defer s.h.wire.touch()
	if s.h.storing != nil {
		s.h.storing(c)
	}
	return s.SQLTable.Store(ctx, p, c)
}

// drive works until the rotation is over or waits for a person, moving the clock to whatever comes next, and starting
// the engine again whenever it has died. It answers how the rotation ended.
func (h *house) drive(id string) rotation.Rotation {
	h.t.Helper()
	return h.driveUntil(id, nil)
}

// driveUntil looks, after each step, whether that is enough; nil: it never is.
func (h *house) driveUntil(id string, enough func(rotation.Rotation) bool) rotation.Rotation {
	h.t.Helper()
	e := h.start()
	defer func() { e.die() }()
	for range 500 {
		worked, err := e.RunOnce(e.ctx)
		if e.ctx.Err() != nil {
			e = h.start()
			continue
		}
		check(h.t, err)
		if worked && enough == nil {
			continue
		}
		r := h.rotation(id)
		if !r.Status.Open() || r.Status == rotation.StatusFailed || enough != nil && enough(r) {
			return r
		}
		if worked {
			continue
		}
		due, err := h.table.Due(h.t.Context(), 1)
		check(h.t, err)
		if len(due) == 0 {
			h.t.Fatalf("nothing is due and rotation %s is %s at %s", id, r.Status, r.Step)
		}
		h.clock.to(due[0].Row.Wake())
		_, err = h.kms.RunOnce(h.t.Context())
		check(h.t, err)
		h.wire.touch()
	}
	r := h.rotation(id)
	h.t.Fatalf("rotation %s never ends: it is %s at %s: %s", id, r.Status, r.Step, r.Error)
	return rotation.Rotation{}
}

func (h *house) rotation(id string) rotation.Rotation {
	h.t.Helper()
	out, err := h.service.DescribeRotation(h.t.Context(), h.call("DescribeRotation"), &rotation.DescribeRotationInput{RotationId: id})
	check(h.t, err)
	return out.Rotation
}

// lineages answers the KMS from the rotation tables, at the house's clock.
type lineages struct{ h *house }

func (l lineages) Lineage(ctx context.Context, arn string) ([]string, error) {
	return l.h.table.Lineage(ctx, arn, l.h.clock.Now())
}

func (l lineages) Deactivated(ctx context.Context, arn string) (bool, error) {
	return l.h.table.Deactivated(ctx, arn)
}

func (h *house) config(transport http.RoundTripper) aws.Config {
	return aws.Config{
		Region: region, BaseEndpoint: aws.String("http://keyturn.test"),
		Credentials: credentials.NewStaticCredentialsProvider("AKIAROOT", "secret", ""),
		HTTPClient:  &http.Client{Transport: transport},
		Retryer:     func() aws.Retryer { return aws.NopRetryer{} },
	}
}

func (h *house) target() rotation.Target {
	return rotation.Target{Name: "here", Account: account, Region: region, Config: h.config(h.wire), Local: h.local}
}

// key makes a key as any user would.
func (h *house) key(spec types.KeySpec, usage types.KeyUsageType) string {
	h.t.Helper()
	out, err := h.admin.CreateKey(h.t.Context(), &sdk.CreateKeyInput{KeySpec: spec, KeyUsage: usage, Description: aws.String("the user's own words")})
	check(h.t, err)
	return *out.KeyMetadata.Arn
}

func (h *house) alias(name, key string) {
	h.t.Helper()
	_, err := h.admin.CreateAlias(h.t.Context(), &sdk.CreateAliasInput{AliasName: &name, TargetKeyId: &key})
	check(h.t, err)
}

// names answers which key an alias names; "" when there is none.
func (h *house) names(name string) string {
	h.t.Helper()
	out, err := h.admin.DescribeKey(h.t.Context(), &sdk.DescribeKeyInput{KeyId: &name})
	var missing *types.NotFoundException
	if errors.As(err, &missing) {
		return ""
	}
	check(h.t, err)
	return *out.KeyMetadata.Arn
}

func (h *house) describe(key string) *types.KeyMetadata {
	h.t.Helper()
	out, err := h.admin.DescribeKey(h.t.Context(), &sdk.DescribeKeyInput{KeyId: &key})
	check(h.t, err)
	return out.KeyMetadata
}

func (h *house) tags(key string) map[string]string {
	h.t.Helper()
	out, err := h.admin.ListResourceTags(h.t.Context(), &sdk.ListResourceTagsInput{KeyId: &key})
	check(h.t, err)
	tags := map[string]string{}
	for _, tag := range out.Tags {
		tags[*tag.TagKey] = *tag.TagValue
	}
	return tags
}

func (h *house) policyOf(key string) string {
	h.t.Helper()
	out, err := h.admin.GetKeyPolicy(h.t.Context(), &sdk.GetKeyPolicyInput{KeyId: &key})
	check(h.t, err)
	return *out.Policy
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A clock stands still until a test moves it.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) to(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.After(c.now) {
		c.now = t
	}
}

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

// A wire carries the rotator's calls. It counts them and can break any of them in each way a network can.
type wire struct {
	next http.RoundTripper

	mu      sync.Mutex
	calls   []string // operations, in order, as they arrived
	since   []bool   // whether anything can have changed between the call before and this one
	touched bool     // whether anything can have changed since the last call
	broken  func(n int, operation string) breakage
	die     context.CancelFunc                           // ends the engine's life
	answers func(operation, region string) (code string) // the error code that the service answers, having done nothing
	after   func(n int, operation string)                // each call, when it has been applied or lost
}

type breakage int

const (
	whole        breakage = iota
	lostRequest           // the call is not applied
	lostAnswer            // the call is applied, and nobody hears of it
	crashBefore           // the process dies before the call
	crashAfter            // the process dies when the call has been applied
	throttled             // the service refuses it for now
	serviceError          // the service applies it and answers 500
)

var (
	errLost  = errors.New("connection reset by peer")
	errCrash = errors.New("the process has died")
)

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	w.mu.Lock()
	w.calls = append(w.calls, operation)
	w.since = append(w.since, w.touched)
	w.touched = !reads(operation)
	n, broken, after, die := len(w.calls), w.broken, w.after, w.die
	w.mu.Unlock()
	if w.answers != nil {
		if code := w.answers(operation, strings.Split(r.Header.Get("Authorization"), "/")[2]); code != "" {
			return reply(r, http.StatusBadRequest, `{"__type":"`+code+`","message":"no"}`), nil
		}
	}
	how := whole
	if broken != nil {
		how = broken(n, operation)
	}
	var answer *http.Response
	var err error
	if how != lostRequest && how != crashBefore && how != throttled {
		answer, err = w.next.RoundTrip(r)
	}
	if after != nil {
		after(n, operation)
	}
	switch how {
	case lostRequest, lostAnswer:
		return nil, errLost
	case crashBefore, crashAfter:
		die()
		return nil, errCrash
	case throttled:
		return reply(r, http.StatusBadRequest, `{"__type":"ThrottlingException","message":"Rate exceeded"}`), nil
	case serviceError:
		return reply(r, http.StatusInternalServerError, `{"__type":"KMSInternalException","message":"try again"}`), nil
	}
	return answer, err
}

func reply(r *http.Request, status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/x-amz-json-1.1"}},
		Body:   io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// isPermanent reports whether the engine would stop trying.
func isPermanent(err error) bool {
	var e *rotation.StepError
	return errors.As(err, &e)
}

// isDrift reports whether the error tells of another hand.
func isDrift(err error) bool {
	var e *rotation.StepError
	return errors.As(err, &e) && e.Drift
}
