package sts_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	sdk "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/keystore/software"
	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
	"github.com/keyturn/keyturn/sts"
)

const (
	account = "111122223333"
	other   = "444455556666"
)

var ctx = context.Background()

// A node is STS over a database, with the real guard, log and wire.
type node struct {
	t       testing.TB
	guard   *access.Guard
	handler http.Handler
	dir     string // of the audit log
	log     *audit.Log
	logged  *bytes.Buffer
	admins  map[string]*access.Caller // account → its administrator

	mu     sync.Mutex
	offset time.Duration // of the node's clock
}

func (n *node) now() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return time.Now().Add(n.offset)
}

func (n *node) advance(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.offset += d
}

func newNode(t testing.TB, issuers ...sts.Issuer) *node {
	t.Helper()
	return newNodeOn(t, sqldbtest.SQLite(t), filepath.Join(t.TempDir(), "root.key"), issuers...)
}

func newNodeOn(t testing.TB, db *sqldb.DB, rootKey string, issuers ...sts.Issuer) *node {
	t.Helper()
	n := &node{t: t, dir: t.TempDir(), logged: new(bytes.Buffer), admins: map[string]*access.Caller{}}
	store, err := software.Open(ctx, db, software.RootKeyFile(rootKey))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	if n.log, err = audit.Open(ctx, n.dir, nil, "test", audit.Options{Sync: audit.Interval, Interval: time.Hour}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.log.Close() })
	if n.guard, err = access.Open(ctx, access.Config{DB: db, Log: n.log, Sealer: store.Sealer("access-keys"), Now: n.now}); err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(&locked{b: n.logged}, nil))
	service, err := sts.New(sts.Config{Guard: n.guard, Issuers: issuers, Now: n.now, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	// The wire keeps the machine's time, at which the SDK signs.
	n.handler = awsapi.NewHandler(awsapi.Config{Guard: n.guard, Services: []awsapi.Service{service.API()}, Logger: logger})
	return n
}

type locked struct {
	mu sync.Mutex
	b  *bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// do runs an administration method for an account's administrator.
func do[In, Out any](n *node, acct string, fn func(context.Context, *access.Call, *In) (*Out, error), in In) *Out {
	n.t.Helper()
	if n.admins[acct] == nil {
		id, _, _, err := n.guard.Bootstrap(ctx, acct)
		if err != nil {
			n.t.Fatal(err)
		}
		c, err := n.guard.Credential(ctx, id, "")
		if err != nil {
			n.t.Fatal(err)
		}
		n.admins[acct] = c.Caller
	}
	call := &access.Call{ID: "id", Service: "keyturn", Operation: "Test", Caller: n.admins[acct], Account: acct, Time: n.now(), SourceIP: "192.0.2.1"}
	out, err := fn(ctx, call, &in)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.guard.Finish(ctx, call, "", ""); err != nil {
		n.t.Fatal(err)
	}
	return out
}

func document(statements ...string) string {
	return `{"Version": "2012-10-17", "Statement": [` + strings.Join(statements, ", ") + `]}`
}

func allow(action string) string {
	return `{"Effect": "Allow", "Action": "` + action + `", "Resource": "*"}`
}

// trust is a statement of a trust policy; more is further elements.
func trust(principal, action string, more ...string) string {
	return `{"Effect": "Allow", "Principal": ` + principal + `, "Action": "` + action + `"` + strings.Join(append([]string{""}, more...), ", ") + `}`
}

// user makes a user with identity policy statements, and returns a client of it.
func (n *node) user(acct, name string, statements ...string) *sdk.Client {
	n.t.Helper()
	do(n, acct, n.guard.CreateUser, access.CreateUserInput{UserName: name})
	if len(statements) > 0 {
		do(n, acct, n.guard.PutUserPolicy, access.PutUserPolicyInput{UserName: name, PolicyName: "own", PolicyDocument: document(statements...)})
	}
	k := do(n, acct, n.guard.CreateAccessKey, access.CreateAccessKeyInput{UserName: name}).AccessKey
	return n.client(credentials.NewStaticCredentialsProvider(k.AccessKeyId, k.SecretAccessKey.Reveal(), ""))
}

// role makes a role and returns its ARN.
func (n *node) role(acct, name, trusts string, statements ...string) string {
	n.t.Helper()
	r := do(n, acct, n.guard.CreateRole, access.CreateRoleInput{RoleName: name, AssumeRolePolicyDocument: trusts, MaxSessionDuration: 7200})
	if len(statements) > 0 {
		do(n, acct, n.guard.PutRolePolicy, access.PutRolePolicyInput{RoleName: name, PolicyName: "own", PolicyDocument: document(statements...)})
	}
	return r.Role.Arn
}

func (n *node) client(provider aws.CredentialsProvider) *sdk.Client {
	return sdk.New(sdk.Options{
		Region: "eu-central-1", BaseEndpoint: aws.String("http://keyturn.test"), Credentials: provider, RetryMaxAttempts: 1,
		HTTPClient: &http.Client{Transport: awsapi.InProcess(n.handler)},
	})
}

// as is a client with the credentials of a session.
func (n *node) as(c *types.Credentials) *sdk.Client {
	return n.client(credentials.NewStaticCredentialsProvider(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken))
}

// caller is who the Guard takes the holder of the credentials for.
func (n *node) caller(c *types.Credentials) *access.Caller {
	n.t.Helper()
	found, err := n.guard.Credential(ctx, *c.AccessKeyId, *c.SessionToken)
	if err != nil {
		n.t.Fatal(err)
	}
	if found.Secret.Reveal() != *c.SecretAccessKey {
		n.t.Fatal("another secret than the one issued")
	}
	return found.Caller
}

// may asks whether the holder of the credentials may do an action to a key of the account, which trusts the account's policies.
func (n *node) may(c *types.Credentials, action string) bool {
	n.t.Helper()
	p, err := policy.Parse([]byte(document(`{"Effect": "Allow", "Principal": {"AWS": "`+account+`"}, "Action": "kms:*", "Resource": "*"}`)), policy.Resource)
	if err != nil {
		n.t.Fatal(err)
	}
	return n.allowed(n.caller(c), action, access.Resource{ARN: "arn:aws:kms:eu-central-1:" + account + ":key/x", Account: account, Type: "AWS::KMS::Key", Policy: p})
}

func (n *node) allowed(who *access.Caller, action string, r access.Resource) bool {
	n.t.Helper()
	call := &access.Call{ID: "id", Service: "kms", Operation: "Test", Caller: who, Account: who.Account, Time: n.now(), ReadOnly: true}
	err := n.guard.Check(ctx, call, action, r)
	if finish := n.guard.Finish(ctx, call, "", ""); finish != nil {
		n.t.Fatal(finish)
	}
	var refused *access.Denied
	if err != nil && !errors.As(err, &refused) {
		n.t.Fatal(err)
	}
	return err == nil
}

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

// wantError fails the test unless err is an answer of that code, with message in it.
func wantError(t testing.TB, err error, code, message string) {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), message) {
		t.Errorf("got %v\nwant %s: %s", err, code, message)
	}
}

// record is what the tests look at in an audit record.
type record struct {
	EventName, EventSource, ErrorCode, ErrorMessage, RequestID string
	ReadOnly                                                   bool
	UserIdentity                                               struct {
		Type, PrincipalID, ARN, UserName, IdentityProvider string
	}
	RequestParameters, ResponseElements json.RawMessage
	Resources                           []struct{ ARN, Type string }
}

// records of STS, and the whole text of the log.
func (n *node) records() (all []record, text string) {
	n.t.Helper()
	files, err := filepath.Glob(filepath.Join(n.dir, "*"))
	if err != nil {
		n.t.Fatal(err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			n.t.Fatal(err)
		}
		text += string(b)
	}
	for line := range strings.Lines(text) {
		var r record
		if json.Unmarshal([]byte(line), &r) == nil && r.EventSource == "sts.amazonaws.com" {
			all = append(all, r)
		}
	}
	return all, text
}
