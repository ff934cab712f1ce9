package access_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

const (
	account = "111122223333"
	other   = "444455556666"
	keyARN  = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	typeKey = "AWS::KMS::Key"
)

// A house is a guard with what it stands on.
type house struct {
	*access.Guard
	t      testing.TB
	db     *sqldb.DB
	log    *audit.Log
	dir    string // of the audit log
	sealer sealer
	now    time.Time // of every call
}

func open(t testing.TB, db *sqldb.DB) *house {
	t.Helper()
	return openWith(t, db, newSealer(t), audit.Options{})
}

func openWith(t testing.TB, db *sqldb.DB, s sealer, o audit.Options) *house {
	t.Helper()
	h := &house{t: t, db: db, dir: t.TempDir(), sealer: s, now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	var err error
	if h.log, err = audit.Open(t.Context(), h.dir, nil, "node", o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.log.Close() })
	h.Guard, err = access.Open(t.Context(), access.Config{DB: db, Log: h.log, Sealer: s, Now: func() time.Time { return h.now }})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

var auditOptions = audit.Options{}

// sealer is AES-GCM under a key of its own.
type sealer struct{ cipher.AEAD }

func newSealer(t testing.TB) sealer {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	return sealer{aead}
}

func (s sealer) Seal(plaintext, associated []byte) ([]byte, error) {
	return s.AEAD.Seal(nil, nil, plaintext, associated), nil
}

func (s sealer) Open(ciphertext, associated []byte) ([]byte, error) {
	return s.AEAD.Open(nil, nil, ciphertext, associated)
}

// call is a request as awsapi would make it of a proved signature; it changes something.
func (h *house) call(caller *access.Caller, operation string) *access.Call {
	c := &access.Call{
		ID: rand.Text(), Service: "kms", EventSource: "kms.amazonaws.com", Operation: operation, Region: "us-east-1",
		Caller: caller, Time: h.now, SourceIP: "192.0.2.1", UserAgent: "aws-cli/2.31", TLS: true,
	}
	if caller != nil {
		c.Account, c.AccessKeyID = caller.Account, caller.AccessKeyID
	}
	return c
}

// Allows asks about a call of the caller's.
func (h *house) Allows(caller *access.Caller, action string, r access.Resource) bool {
	return h.Guard.Allows(h.call(caller, strings.TrimPrefix(action, "kms:")), action, r)
}

func (h *house) readOnly(caller *access.Caller, operation string) *access.Call {
	c := h.call(caller, operation)
	c.ReadOnly = true
	return c
}

// do runs one administration method as awsapi would: validate, call, finish.
func do[In, Out any](h *house, caller *access.Caller, operation string, fn func(context.Context, *access.Call, *In) (*Out, error), in In) (*Out, error) {
	h.t.Helper()
	call := h.call(caller, operation)
	var out *Out
	var err error
	if v, ok := any(&in).(interface{ Validate() error }); ok {
		err = v.Validate()
	}
	if err == nil {
		out, err = fn(h.t.Context(), call, &in)
	}
	code, message := "", ""
	if err != nil {
		code, message = codeOf(err), err.Error()
	}
	if err := h.Finish(h.t.Context(), call, code, message); err != nil {
		h.t.Fatal(err)
	}
	return out, err
}

// must is do for what must succeed.
func must[In, Out any](h *house, caller *access.Caller, operation string, fn func(context.Context, *access.Call, *In) (*Out, error), in In) *Out {
	h.t.Helper()
	out, err := do(h, caller, operation, fn, in)
	if err != nil {
		h.t.Fatalf("%s: %v", operation, err)
	}
	return out
}

func codeOf(err error) string {
	if e, ok := errors.AsType[*access.Error](err); ok {
		return e.Code
	}
	if _, ok := errors.AsType[*access.Denied](err); ok {
		return "AccessDeniedException"
	}
	return "InternalFailure"
}

// admin bootstraps an account and signs in.
func (h *house) admin(account string) *access.Caller {
	h.t.Helper()
	id, secret, created, err := h.Bootstrap(h.t.Context(), account)
	if err != nil || !created {
		h.t.Fatalf("Bootstrap: created %t, %v", created, err)
	}
	return h.signIn(id, secret)
}

// signIn finds a credential and compares the secret, as the signature check would.
func (h *house) signIn(id string, secret access.Secret) *access.Caller {
	h.t.Helper()
	c, err := h.Credential(h.t.Context(), id, "")
	if err != nil {
		h.t.Fatalf("Credential: %v", err)
	}
	if c.Secret.Reveal() != secret.Reveal() {
		h.t.Fatal("another secret than the one issued")
	}
	return c.Caller
}

// user makes a user with one policy, "" for none, and an access key.
func (h *house) user(admin *access.Caller, name, statements string) (id string, secret access.Secret) {
	h.t.Helper()
	must(h, admin, "CreateUser", h.CreateUser, access.CreateUserInput{UserName: name})
	if statements != "" {
		h.allow(admin, name, statements)
	}
	k := must(h, admin, "CreateAccessKey", h.CreateAccessKey, access.CreateAccessKeyInput{UserName: name}).AccessKey
	return k.AccessKeyId, k.SecretAccessKey.Secret
}

func (h *house) allow(admin *access.Caller, name, statements string) {
	h.t.Helper()
	must(h, admin, "PutUserPolicy", h.PutUserPolicy, access.PutUserPolicyInput{
		UserName: name, PolicyName: "own", PolicyDocument: `{"Version": "2012-10-17", "Statement": [` + statements + `]}`,
	})
}

func keyPolicy(t testing.TB, statements string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse([]byte(`{"Version": "2012-10-17", "Statement": [`+statements+`]}`), policy.Resource)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func key(t testing.TB, statements string) access.Resource {
	t.Helper()
	return access.Resource{ARN: keyARN, Account: account, Type: typeKey, Policy: keyPolicy(t, statements)}
}

const accountDecides = `{"Sid": "Enable IAM policies", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": "kms:*", "Resource": "*"}`

// record is what the tests look at in an audit record.
type record struct {
	UserIdentity struct {
		Type, PrincipalID, ARN, AccountID, AccessKeyID, UserName, InvokedBy string
	} `json:"userIdentity"`
	EventSource, EventName, AWSRegion, SourceIPAddress, UserAgent string
	EventTime                                                     time.Time
	ErrorCode, ErrorMessage, RequestID, EventID, EventType        string
	RecipientAccountID                                            string
	ReadOnly, ManagementEvent                                     bool
	RequestParameters, ResponseElements                           json.RawMessage
	Resources                                                     []struct{ ARN, AccountID, Type string }
	AdditionalEventData                                           struct {
		Phase     string
		Decisions []struct {
			Action, Resource, Cause string
			Allowed                 bool
			Reasons                 []struct {
				Effect, Policy, Sid, Grant string
				Statement                  int
			}
		}
	}
}

// raw reads the audit files.
func (h *house) raw() []byte {
	h.t.Helper()
	var all []byte
	err := filepath.WalkDir(h.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all = append(all, b...)
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}

// records reads the audit log, which must be whole.
func (h *house) records() []record {
	h.t.Helper()
	if _, err := audit.Verify(h.dir, audit.VerifyOptions{}); err != nil {
		h.t.Fatal(err)
	}
	var all []record
	for line := range bytes.Lines(h.raw()) {
		if !bytes.HasPrefix(line, []byte(`{"eventVersion"`)) {
			continue
		}
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			h.t.Fatalf("%v in %s", err, line)
		}
		all = append(all, r)
	}
	return all
}

// recordsOf are those of one request.
func (h *house) recordsOf(call *access.Call) []record {
	h.t.Helper()
	var own []record
	for _, r := range h.records() {
		if r.RequestID == call.ID {
			own = append(own, r)
		}
	}
	return own
}

// root is an ephemeral root user.
func (h *house) root(account string) *access.Caller {
	h.t.Helper()
	return h.ephemeral(access.EphemeralCredential{AccessKeyID: "ROOT" + account, Account: account})
}

func (h *house) ephemeral(c access.EphemeralCredential) *access.Caller {
	h.t.Helper()
	if c.Secret.Reveal() == "" {
		c.Secret = access.NewSecret("secret of " + c.AccessKeyID)
	}
	if err := h.AddEphemeral(c); err != nil {
		h.t.Fatal(err)
	}
	found, err := h.Credential(h.t.Context(), c.AccessKeyID, c.SessionToken)
	if err != nil {
		h.t.Fatal(err)
	}
	return found.Caller
}

func deniedMessage(t testing.TB, err error) string {
	t.Helper()
	denied, ok := errors.AsType[*access.Denied](err)
	if !ok {
		t.Fatalf("error %v (%T), want *access.Denied", err, err)
	}
	return denied.Error()
}

func TestOpenWantsEverything(t *testing.T) {
	db := sqldbtest.SQLite(t)
	h := open(t, db)
	for _, c := range []access.Config{{}, {DB: db, Log: h.log}, {DB: db, Sealer: h.sealer}, {Log: h.log, Sealer: h.sealer}} {
		if _, err := access.Open(t.Context(), c); err == nil {
			t.Errorf("Open(%+v) succeeded", c)
		}
	}
}

// A stored credential and its caller, as they come out of the database.
func TestCredential(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := open(t, db)
		admin := h.admin(account)
		if admin.ARN != "arn:aws:iam::111122223333:user/admin" || admin.Type != access.IAMUser || admin.UserName != "admin" ||
			admin.Account != account || !strings.HasPrefix(admin.UserID, "AIDA") || len(admin.UserID) != 21 {
			t.Errorf("the administrator is %+v", admin)
		}
		id, secret := h.user(admin, "alice", `{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}`)
		if len(id) != 20 || !strings.HasPrefix(id, "AKIA") || len(secret.Reveal()) != 40 {
			t.Errorf("access key id %q, secret of %d characters", id, len(secret.Reveal()))
		}
		alice := h.signIn(id, secret)
		if alice.ARN != "arn:aws:iam::111122223333:user/alice" || len(alice.Policies) != 1 || alice.Policies[0].Name != "own" {
			t.Errorf("alice is %+v", alice)
		}
		if _, err := h.Credential(t.Context(), id, "a token"); !errors.Is(err, access.ErrInvalidToken) {
			t.Errorf("with a session token: %v, want ErrInvalidToken", err)
		}
		for _, id := range []string{"", "AKIA", "AKIAAAAAAAAAAAAAAAAA", "akiaaaaaaaaaaaaaaaaa", id + "A", strings.ToLower(id), "' OR 1=1 --AKIAAAAAAA"} {
			if _, err := h.Credential(t.Context(), id, ""); !errors.Is(err, access.ErrUnknownAccessKey) {
				t.Errorf("Credential(%q): %v, want ErrUnknownAccessKey", id, err)
			}
		}
	})
}

// When the database is gone, what is warm still works and nothing else does: neither a key that was not asked for yet nor
// an id that might exist is taken for known or unknown.
func TestWarmCredentialsReadNothing(t *testing.T) {
	db := sqldbtest.SQLite(t)
	h := open(t, db)
	admin := h.admin(account)
	warm, secret := h.user(admin, "warm", "")
	cold, _ := h.user(admin, "cold", "")
	h.signIn(warm, secret)
	const missing = "AKIA2222222222222222"
	if _, err := h.Credential(t.Context(), missing, ""); !errors.Is(err, access.ErrUnknownAccessKey) {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	h.signIn(warm, secret)
	if n := testing.AllocsPerRun(100, func() { _, _ = h.Credential(t.Context(), warm, "") }); n != 0 {
		t.Errorf("%v allocations to find a warm credential", n)
	}
	if _, err := h.Credential(t.Context(), missing, ""); !errors.Is(err, access.ErrUnknownAccessKey) {
		t.Errorf("a missing key that was asked for before: %v", err)
	}
	for _, id := range []string{cold, "AKIA3333333333333333"} {
		c, err := h.Credential(t.Context(), id, "")
		if c != nil || err == nil || errors.Is(err, access.ErrUnknownAccessKey) {
			t.Errorf("Credential(%s) without a database: %v, %v", id, c, err)
		}
	}
}

func TestChangesAreInForceAtOnce(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := open(t, db)
		admin := h.admin(account)
		id, secret := h.user(admin, "alice", `{"Effect": "Allow", "Action": "kms:Sign", "Resource": "*"}`)
		r := key(t, accountDecides)
		may := func(action string) bool { return h.Allows(h.signIn(id, secret), action, r) }
		if !may("kms:Sign") || may("kms:Verify") {
			t.Fatal("the first policy is not in force")
		}
		h.allow(admin, "alice", `{"Effect": "Allow", "Action": "kms:Verify", "Resource": "*"}`)
		if may("kms:Sign") || !may("kms:Verify") {
			t.Error("the second policy is not in force")
		}
		must(h, admin, "DeleteUserPolicy", h.DeleteUserPolicy, access.DeleteUserPolicyInput{UserName: "alice", PolicyName: "own"})
		if may("kms:Verify") {
			t.Error("the policy is in force although it is deleted")
		}
		status := func(s string) {
			must(h, admin, "SetAccessKeyStatus", h.SetAccessKeyStatus, access.SetAccessKeyStatusInput{UserName: "alice", AccessKeyId: id, Status: s})
		}
		status(access.Inactive)
		if _, err := h.Credential(t.Context(), id, ""); !errors.Is(err, access.ErrInactive) {
			t.Errorf("made inactive: %v", err)
		}
		status(access.Active)
		h.signIn(id, secret)
		must(h, admin, "DeleteAccessKey", h.DeleteAccessKey, access.DeleteAccessKeyInput{UserName: "alice", AccessKeyId: id})
		if _, err := h.Credential(t.Context(), id, ""); !errors.Is(err, access.ErrUnknownAccessKey) {
			t.Errorf("deleted: %v", err)
		}
	})
}

// What one node changes, another that holds the credential warm forgets within a second or so.
func TestChangesReachOtherNodes(t *testing.T) {
	url := sqldbtest.Postgres(t)
	s := newSealer(t)
	one := openWith(t, sqldbtest.Open(t, url), s, audit.Options{})
	two := openWith(t, sqldbtest.Open(t, url), s, audit.Options{})
	admin := one.admin(account)
	id, secret := one.user(admin, "alice", "")
	two.signIn(id, secret)
	must(one, admin, "DeleteAccessKey", one.DeleteAccessKey, access.DeleteAccessKeyInput{UserName: "alice", AccessKeyId: id})
	for start := time.Now(); ; {
		_, err := two.Credential(t.Context(), id, "")
		if errors.Is(err, access.ErrUnknownAccessKey) {
			break
		}
		if err != nil || time.Since(start) > 5*time.Second {
			t.Fatalf("after %v the other node says %v", time.Since(start), err)
		}
	}
}

func TestEphemeralCredentials(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	root := h.root(account)
	if root.Type != access.Root || root.ARN != "arn:aws:iam::111122223333:root" || root.UserID != account {
		t.Errorf("the root user is %+v", root)
	}
	session := h.ephemeral(access.EphemeralCredential{
		AccessKeyID: "ASIAEXAMPLE", SessionToken: "token", Account: account, Expires: h.now.Add(time.Hour),
		PrincipalARN: "arn:aws:sts::111122223333:assumed-role/Rotator/node-1",
		Policy:       []byte(`{"Statement": {"Effect": "Allow", "Action": "kms:Sign", "Resource": "*"}}`),
	})
	if session.Type != access.AssumedRole || session.RoleARN != "arn:aws:iam::111122223333:role/Rotator" ||
		!strings.HasPrefix(session.UserID, "AROA") || !strings.HasSuffix(session.UserID, ":node-1") {
		t.Errorf("the session is %+v", session)
	}
	if !h.Allows(session, "kms:Sign", key(t, accountDecides)) || h.Allows(session, "kms:Verify", key(t, accountDecides)) {
		t.Error("the session's policy is not in force")
	}
	direct := key(t, `{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:role/Rotator"}, "Action": "kms:Verify", "Resource": "*"}`)
	if !h.Allows(session, "kms:Verify", direct) {
		t.Error("a role in a key policy does not stand for its sessions")
	}
	for _, token := range []string{"", "toke", "token ", "Token", strings.Repeat("token", 1000)} {
		if _, err := h.Credential(t.Context(), "ASIAEXAMPLE", token); !errors.Is(err, access.ErrInvalidToken) {
			t.Errorf("with token %.10q: %v, want ErrInvalidToken", token, err)
		}
	}
	if _, err := h.Credential(t.Context(), root.AccessKeyID, "token"); !errors.Is(err, access.ErrInvalidToken) {
		t.Errorf("a token where none belongs: %v", err)
	}
	h.now = h.now.Add(time.Hour)
	if _, err := h.Credential(t.Context(), "ASIAEXAMPLE", "token"); !errors.Is(err, access.ErrExpiredToken) {
		t.Errorf("at its end: %v", err)
	}
	if _, err := h.Credential(t.Context(), "ASIAEXAMPLE", "wrong"); !errors.Is(err, access.ErrInvalidToken) {
		t.Errorf("whoever has not the token learns that the session has expired: %v", err)
	}
	h.RemoveEphemeral(root.AccessKeyID)
	if _, err := h.Credential(t.Context(), root.AccessKeyID, ""); !errors.Is(err, access.ErrUnknownAccessKey) {
		t.Errorf("removed: %v", err)
	}
}

func TestEphemeralCredentialsMustAgreeWithThemselves(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	const user = "arn:aws:iam::111122223333:user/alice"
	for name, c := range map[string]access.EphemeralCredential{
		"no id":                  {Account: account},
		"no account":             {AccessKeyID: "A"},
		"another account":        {AccessKeyID: "A", Account: other, PrincipalARN: user},
		"a user as root":         {AccessKeyID: "A", Account: account, PrincipalARN: user, Type: access.Root},
		"root as a user":         {AccessKeyID: "A", Account: account, Type: access.IAMUser},
		"a role itself":          {AccessKeyID: "A", Account: account, PrincipalARN: "arn:aws:iam::111122223333:role/R"},
		"a session without name": {AccessKeyID: "A", Account: account, PrincipalARN: "arn:aws:sts::111122223333:assumed-role/R"},
		"no ARN":                 {AccessKeyID: "A", Account: account, PrincipalARN: "alice"},
		"a policy for root":      {AccessKeyID: "A", Account: account, Policy: []byte(`{"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}`)},
		"a malformed policy":     {AccessKeyID: "A", Account: account, PrincipalARN: user, Policy: []byte(`{}`)},
	} {
		c.Secret = access.NewSecret("hush-hush-hush")
		err := h.AddEphemeral(c)
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: the error tells the secret: %v", name, err)
		}
	}
	if err := h.AddEphemeral(access.EphemeralCredential{AccessKeyID: "A", Account: account}); err == nil {
		t.Error("accepted without a secret")
	}
}

// A key's last use is written with the next flush, to the minute, and never read back into a decision.
func TestLastUse(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := open(t, db)
		admin := h.admin(account)
		id, secret := h.user(admin, "alice", "")
		last := func() *access.AccessKeyLastUse {
			t.Helper()
			if err := h.FlushLastUsed(t.Context()); err != nil {
				t.Fatal(err)
			}
			return must(h, admin, "ListAccessKeys", h.ListAccessKeys, access.ListAccessKeysInput{UserName: "alice"}).AccessKeyMetadata[0].LastUsed
		}
		alice := h.signIn(id, secret)
		if got := last(); got != nil {
			t.Errorf("never used: %+v", got)
		}
		for _, at := range []time.Duration{0, 59 * time.Second, time.Minute} {
			want := h.now.Truncate(time.Minute).Add(at.Truncate(time.Minute))
			call := h.readOnly(alice, "Sign")
			call.Time = h.now.Add(at)
			if err := h.Finish(t.Context(), call, "", ""); err != nil {
				t.Fatal(err)
			}
			if got := last(); got == nil || got.LastUsedDate != float64(want.Unix()) || got.ServiceName != "kms" || got.Region != "us-east-1" {
				t.Errorf("used at %v: %+v, want %v", at, got, want)
			}
		}
	})
}
