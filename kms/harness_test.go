package kms_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/keystore"
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
	account      = "111122223333"
	otherAccount = "444455556666"
	region       = "eu-central-1"
)

var ctx = context.Background()

// A node is one server over a database: key store, guard, kms and wire.
type node struct {
	t           testing.TB
	db          *sqldb.DB
	guard       *access.Guard
	service     *kms.Service
	rotation    *rotation.Service // turns when it is told to: settle
	handler     http.Handler
	clock       *clock
	logs        *bytes.Buffer
	auditDir    string
	log         *audit.Log
	*sdk.Client // of the root user of account
}

// options change a node before it starts.
type options struct {
	root    software.RootKey
	config  func(*kms.Config)
	backend func(keystore.Backend) keystore.Backend
}

func newNode(t testing.TB, db *sqldb.DB, o options) *node {
	t.Helper()
	n := &node{t: t, db: db, clock: newClock(), logs: new(bytes.Buffer), auditDir: sqldbtest.Dir(t)}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the node's log:\n%s", n.logs)
		}
	})
	if o.root == nil {
		o.root = rootKeyFile(t)
	}
	store, err := software.Open(ctx, db, o.root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	log, err := audit.Open(ctx, n.auditDir, nil, "test", audit.Options{Sync: audit.Interval})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	n.log = log
	n.guard, err = access.Open(ctx, access.Config{DB: db, Log: log, Sealer: store.Sealer("access")})
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(&lockedWriter{w: n.logs}, nil))
	c := kms.Config{DB: db, Guard: n.guard, Backend: keystoretest.KnownRSA(store), Sealer: store.Sealer("kms"), Now: n.clock.now, Logger: logger, DeletionGrace: -1}
	if o.backend != nil {
		c.Backend = o.backend(c.Backend)
	}
	if o.config != nil {
		o.config(&c)
	}
	n.service, err = kms.New(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	n.rotation, err = rotation.NewService(rotation.ServiceConfig{
		DB: db, Guard: n.guard, Now: n.clock.now, Rand: func() float64 { return 0 },
		Rotators: map[string]rotation.Rotator{rotation.RotatorMaterial: rotators.NewMaterial(server.Materials(n.service))},
		Targets: func(context.Context, *rotation.Policy) (rotation.Target, error) {
			return rotation.Target{Local: true}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	n.service.SetRotations(n.rotation)
	n.handler = awsapi.NewHandler(awsapi.Config{Guard: n.guard, Services: []awsapi.Service{n.service.API()}, Logger: logger})
	n.Client = n.as(account, "", "")
	return n
}

func rootKeyFile(t testing.TB) software.RootKey {
	return software.RootKeyFile(filepath.Join(t.TempDir(), "root.key"))
}

// each runs a test on a fresh node over each engine.
func each(t *testing.T, run func(t *testing.T, n *node)) {
	t.Helper()
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) { run(t, newNode(t, db, options{})) })
}

// as returns a client for a user of an account with an identity policy, or for
// the account's root user where user is empty.
func (n *node) as(account, user, policy string) *sdk.Client {
	return n.asIn(region, account, user, policy)
}

func (n *node) asIn(region, account, user, policy string) *sdk.Client {
	n.t.Helper()
	c := access.EphemeralCredential{
		AccessKeyID: "AKIA" + account + strings.ToUpper(user), Secret: access.NewSecret("secret-of-" + account + user), Account: account,
	}
	if user != "" {
		c.PrincipalARN = "arn:aws:iam::" + account + ":user/" + user
		c.Policy = []byte(policy)
		if policy == "" {
			c.Policy = nil
		}
	}
	if err := n.guard.AddEphemeral(c); err != nil {
		n.t.Fatal(err)
	}
	return n.client(region, c.AccessKeyID, c.Secret)
}

// client signs with an access key, and where it is a session's, with its token.
func (n *node) client(region, accessKeyID string, secret access.Secret, token ...string) *sdk.Client {
	return sdk.New(sdk.Options{
		Region:       region,
		BaseEndpoint: aws.String("http://keyturn.test"),
		HTTPClient:   &http.Client{Transport: awsapi.InProcess(n.handler)},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secret.Reveal(), SessionToken: strings.Join(token, "")}, nil
		}),
		RetryMaxAttempts: 1,
	})
}

// allow is an identity policy that allows actions on every resource.
func allow(actions ...string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["` + strings.Join(actions, `","`) + `"],"Resource":"*"}]}`
}

// settle does every rotation that is due.
func (n *node) settle() {
	n.t.Helper()
	if _, err := n.rotation.Settle(ctx); err != nil {
		n.t.Fatal(err)
	}
}

// clock is a clock that a test moves.
type clock struct {
	mu     sync.Mutex
	offset time.Duration
}

func newClock() *clock { return new(clock) }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

type lockedWriter struct {
	mu sync.Mutex
	w  *bytes.Buffer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// create makes a key.
func (n *node) create(spec types.KeySpec, usage types.KeyUsageType) *types.KeyMetadata {
	n.t.Helper()
	return n.createWith(&sdk.CreateKeyInput{KeySpec: spec, KeyUsage: usage})
}

func (n *node) createWith(in *sdk.CreateKeyInput) *types.KeyMetadata {
	n.t.Helper()
	out, err := n.CreateKey(ctx, in)
	if err != nil {
		n.t.Fatalf("CreateKey %s %s: %v", in.KeySpec, in.KeyUsage, err)
	}
	return out.KeyMetadata
}

func (n *node) signingKey() *types.KeyMetadata {
	n.t.Helper()
	return n.create(types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify)
}

func (n *node) symmetricKey() *types.KeyMetadata {
	n.t.Helper()
	return n.create(types.KeySpecSymmetricDefault, types.KeyUsageTypeEncryptDecrypt)
}

func (n *node) alias(name string, key *types.KeyMetadata) {
	n.t.Helper()
	_, err := n.CreateAlias(ctx, &sdk.CreateAliasInput{AliasName: &name, TargetKeyId: key.KeyId})
	if err != nil {
		n.t.Fatalf("CreateAlias %s: %v", name, err)
	}
}

func (n *node) moveAlias(name string, key *types.KeyMetadata) {
	n.t.Helper()
	_, err := n.UpdateAlias(ctx, &sdk.UpdateAliasInput{AliasName: &name, TargetKeyId: key.KeyId})
	if err != nil {
		n.t.Fatalf("UpdateAlias %s: %v", name, err)
	}
}

func (n *node) disable(key *types.KeyMetadata) {
	n.t.Helper()
	if _, err := n.DisableKey(ctx, &sdk.DisableKeyInput{KeyId: key.KeyId}); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) enable(key *types.KeyMetadata) {
	n.t.Helper()
	if _, err := n.EnableKey(ctx, &sdk.EnableKeyInput{KeyId: key.KeyId}); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) scheduleDeletion(key *types.KeyMetadata, days int32) {
	n.t.Helper()
	_, err := n.ScheduleKeyDeletion(ctx, &sdk.ScheduleKeyDeletionInput{KeyId: key.KeyId, PendingWindowInDays: &days})
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) sign(keyID string, message string) ([]byte, error) {
	out, err := n.Sign(ctx, &sdk.SignInput{
		KeyId: &keyID, Message: []byte(message), SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256,
	})
	if err != nil {
		return nil, err
	}
	return out.Signature, nil
}

func (n *node) verify(keyID string, message string, signature []byte) (matched string, err error) {
	out, err := n.Verify(ctx, &sdk.VerifyInput{
		KeyId: &keyID, Message: []byte(message), Signature: signature, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256,
	})
	if err != nil {
		return "", err
	}
	return *out.KeyId, nil
}

// must returns v, or fails the test.
func must[T any](t testing.TB) func(v T, err error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// wantError fails the test unless err is an API error with the code, whose
// message is, or for a message that ends in "…" begins with, message. "*" is
// any message.
func wantError(t testing.TB, err error, code, message string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) {
		t.Fatalf("got %v, want %s: %s", err, code, message)
	}
	start, begins := strings.CutSuffix(message, "…")
	ok := api.ErrorMessage() == message || begins && strings.HasPrefix(api.ErrorMessage(), start) || message == "*"
	if api.ErrorCode() != code || !ok {
		t.Fatalf("got %s: %s\nwant %s: %s", api.ErrorCode(), api.ErrorMessage(), code, message)
	}
}

func errorCode(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func ptr[T any](v T) *T { return &v }

func keyARN(account, id string) string { return "arn:aws:kms:" + region + ":" + account + ":key/" + id }

func aliasARN(account, name string) string {
	return "arn:aws:kms:" + region + ":" + account + ":" + name
}

// apiError is "Code: message", or what else err says.
func apiError(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode() + ": " + api.ErrorMessage()
	}
	if err != nil {
		return err.Error()
	}
	return "no error"
}
