package access_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// assume makes a session of a role, as STS does once it may.
func (h *house) assume(roleARN string, o access.SessionOptions) *access.Session {
	h.t.Helper()
	role, err := h.FindRole(h.t.Context(), roleARN)
	if err != nil {
		h.t.Fatal(err)
	}
	if o.Name == "" {
		o.Name = "session"
	}
	if o.Duration == 0 {
		o.Duration = time.Hour
	}
	s, err := h.NewRoleSession(role, &o)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

func (h *house) present(s *access.Session) (*access.Caller, error) {
	c, err := h.Credential(h.t.Context(), s.AccessKeyID, s.Token.Reveal())
	if err != nil {
		return nil, err
	}
	if c.Secret.Reveal() != s.Secret.Reveal() {
		h.t.Fatal("another secret than the one issued")
	}
	return c.Caller, nil
}

func (h *house) wantSession(s *access.Session, want error) {
	h.t.Helper()
	if c, err := h.present(s); !errors.Is(err, want) {
		h.t.Errorf("the session: %v, %v; want %v", c, err, want)
	}
}

// Every node that shares database and root key takes a session, after a restart too, and finds who it is.
func TestSessionsNeedNoRow(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		seal := newSealer(t)
		h := openWith(t, db, seal, audit.Options{})
		admin := h.admin(account)
		must(h, admin, "CreateRole", h.CreateRole, access.CreateRoleInput{
			RoleName: "Deployer", Path: "/ci/", AssumeRolePolicyDocument: trustAccount, PermissionsBoundary: mayKMS,
			Tags: []access.Tag{{Key: "Team", Value: "role"}, {Key: "stage", Value: "test"}},
		})
		must(h, admin, "PutRolePolicy", h.PutRolePolicy, access.PutRolePolicyInput{RoleName: "Deployer", PolicyName: "own", PolicyDocument: mayKMS})
		s := h.assume("arn:aws:iam::111122223333:role/ci/Deployer", access.SessionOptions{
			Name: "run-1", Policies: []string{mayKMS}, Tags: []access.Tag{{Key: "team", Value: "session"}},
			TransitiveTags: []string{"team"}, SourceIdentity: "alice", Provider: "arn:aws:iam::111122223333:oidc-provider/x.example",
		})
		if len(s.AccessKeyID) != 20 || !strings.HasPrefix(s.AccessKeyID, "ASIA") || !s.Expires.Equal(h.now.Add(time.Hour)) || s.PackedPercent == 0 {
			t.Errorf("session %+v", s)
		}
		restarted := openWith(t, db, seal, audit.Options{})
		restarted.now = h.now
		for _, node := range []*house{h, h, restarted} {
			c, err := node.present(s)
			if err != nil {
				t.Fatal(err)
			}
			if c.ARN != "arn:aws:sts::111122223333:assumed-role/Deployer/run-1" || c.RoleARN != "arn:aws:iam::111122223333:role/ci/Deployer" ||
				c.Type != access.AssumedRole || c.Account != account || c.UserName != "" || c.AccessKeyID != s.AccessKeyID ||
				!strings.HasPrefix(c.UserID, "AROA") || !strings.HasSuffix(c.UserID, ":run-1") || !c.IssuedAt.Equal(h.now) ||
				c.SourceIdentity != "alice" || !strings.HasSuffix(c.Provider, "x.example") || c.MFA {
				t.Errorf("the caller is %+v", c)
			}
			if len(c.Policies) != 1 || c.Boundary.Policy == nil || len(c.Session) != 1 || len(c.Tags) != 2 || c.Tags[0].Value != "session" ||
				c.Tags[1].Value != "test" || len(c.TransitiveTags) != 1 {
				t.Errorf("the caller may %+v, %+v, %+v, with tags %+v", c.Policies, c.Boundary, c.Session, c.Tags)
			}
		}
		stranger := openWith(t, db, newSealer(t), audit.Options{})
		stranger.now = h.now
		stranger.wantSession(s, access.ErrInvalidToken)
	})
}

// What the role may do changes for its sessions at once, and they end with it.
func TestSessionsFollowTheirRole(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := open(t, db)
		admin := h.admin(account)
		role := h.role(admin, "R", `{"Effect": "Allow", "Action": "kms:Sign", "Resource": "*"}`)
		s := h.assume(role.Arn, access.SessionOptions{})
		may := func(action string) bool {
			c, err := h.present(s)
			if err != nil {
				t.Fatal(err)
			}
			return h.Allows(c, action, key(t, accountDecides))
		}
		if !may("kms:Sign") || may("kms:Verify") {
			t.Error("the session may not do what the role may")
		}
		must(h, admin, "PutRolePolicy", h.PutRolePolicy, access.PutRolePolicyInput{
			RoleName: "R", PolicyName: "own", PolicyDocument: `{"Statement": {"Effect": "Allow", "Action": "kms:Verify", "Resource": "*"}}`,
		})
		if may("kms:Sign") || !may("kms:Verify") {
			t.Error("the new policy is not in force")
		}
		must(h, admin, "DeleteRolePolicy", h.DeleteRolePolicy, access.DeleteRolePolicyInput{RoleName: "R", PolicyName: "own"})
		must(h, admin, "DeleteRole", h.DeleteRole, access.DeleteRoleInput{RoleName: "R"})
		h.wantSession(s, access.ErrInvalidToken)
		if again := h.role(admin, "R", `{"Effect": "Allow", "Action": "*", "Resource": "*"}`); again.Arn != role.Arn || again.RoleId == role.RoleId {
			t.Errorf("made anew: %+v", again)
		}
		h.wantSession(s, access.ErrInvalidToken)
		if gone, err := h.FindRole(t.Context(), "arn:aws:iam::111122223333:role/nobody"); err != nil {
			t.Error(err)
		} else if _, err := h.NewRoleSession(gone, &access.SessionOptions{Name: "x", Duration: time.Hour}); err == nil {
			t.Error("a role that does not exist has a session")
		}
	})
}

// On another node, within a second or so.
func TestDeletedRolesEndOnOtherNodes(t *testing.T) {
	url := sqldbtest.Postgres(t)
	seal := newSealer(t)
	one := openWith(t, sqldbtest.Open(t, url), seal, audit.Options{})
	two := openWith(t, sqldbtest.Open(t, url), seal, audit.Options{})
	admin := one.admin(account)
	s := one.assume(one.role(admin, "R", "").Arn, access.SessionOptions{})
	two.wantSession(s, nil)
	must(one, admin, "DeleteRole", one.DeleteRole, access.DeleteRoleInput{RoleName: "R"})
	for start := time.Now(); ; {
		_, err := two.present(s)
		if errors.Is(err, access.ErrInvalidToken) {
			return
		}
		if err != nil || time.Since(start) > 5*time.Second {
			t.Fatalf("after %v the other node says %v", time.Since(start), err)
		}
	}
}

// Who has one session's token, or parts of several, has no other session.
func TestForgedSessionTokens(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	admin := h.admin(account)
	role := h.role(admin, "R", "")
	one, two := h.assume(role.Arn, access.SessionOptions{Name: "one"}), h.assume(role.Arn, access.SessionOptions{Name: "two"})
	token := one.Token.Reveal()
	sealed, err := base64.StdEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	for _, warm := range []bool{false, true} {
		if warm {
			h.wantSession(one, nil)
			h.wantSession(two, nil)
		}
		try := func(name, id, token string) {
			t.Helper()
			if c, err := h.Credential(t.Context(), id, token); !errors.Is(err, access.ErrInvalidToken) {
				t.Errorf("%s, warm %t: %v, %v", name, warm, c, err)
			}
		}
		try("another's token", two.AccessKeyID, token)
		try("no token", one.AccessKeyID, "")
		try("a longer token", one.AccessKeyID, token+"A")
		try("a token with a line end", one.AccessKeyID, token+"\n")
		try("a shorter token", one.AccessKeyID, token[:len(token)-4])
		try("the secret as the token", one.AccessKeyID, one.Secret.Reveal())
		try("a huge token", one.AccessKeyID, strings.Repeat(token, 100))
		try("an id that is none", "ASIA' OR 1=1 --aaaaa", token)
		for _, at := range []int{0, 12, len(sealed) / 2, len(sealed) - 1} {
			flipped := append([]byte(nil), sealed...)
			flipped[at] ^= 1
			try("a flipped bit", one.AccessKeyID, base64.StdEncoding.EncodeToString(flipped))
		}
		// The secret of a stored access key is sealed with the same keys, and is no token.
		var secret []byte
		if err := h.db.QueryRow(t.Context(), `SELECT sealed_secret FROM access_keys`).Scan(&secret); err != nil {
			t.Fatal(err)
		}
		try("a sealed secret", one.AccessKeyID, base64.StdEncoding.EncodeToString(secret))
	}
	h.wantSession(one, nil) // none of these has pushed it out
	if _, err := h.Credential(t.Context(), admin.AccessKeyID, token); !errors.Is(err, access.ErrInvalidToken) {
		t.Errorf("a user's access key with a session's token: %v", err)
	}
}

// A token says more than this version knows: that may be a restriction, so it is refused.
func TestTokensOfLaterVersions(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	s := h.assume(h.role(h.admin(account), "R", "").Arn, access.SessionOptions{})
	name := []byte("keyturn session\x00" + s.AccessKeyID)
	sealed, _ := base64.StdEncoding.DecodeString(s.Token.Reveal())
	text, err := h.sealer.Open(sealed, name)
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{`{`: `{`, `{"secret"`: `{"onlyOnMondays":true,"secret"`} {
		sealed, _ := h.sealer.Seal([]byte(strings.Replace(string(text), from, to, 1)), name)
		_, err := h.Credential(t.Context(), s.AccessKeyID, base64.StdEncoding.EncodeToString(sealed))
		if known := from == to; known != (err == nil) || !known && !errors.Is(err, access.ErrInvalidToken) {
			t.Errorf("%s: %v", to, err)
		}
	}
}

func TestSessionsExpire(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	role := h.role(h.admin(account), "R", "")
	s := h.assume(role.Arn, access.SessionOptions{Duration: 15 * time.Minute})
	cold := h.assume(role.Arn, access.SessionOptions{Duration: 15 * time.Minute})
	h.now = s.Expires.Add(-time.Second)
	h.wantSession(s, nil)
	h.now = s.Expires
	h.wantSession(s, access.ErrExpiredToken)
	h.wantSession(s, access.ErrExpiredToken)
	h.wantSession(cold, access.ErrExpiredToken)
	if _, err := h.Credential(t.Context(), s.AccessKeyID, "wrong"); !errors.Is(err, access.ErrInvalidToken) {
		t.Errorf("whoever has not the token learns that the session has expired: %v", err)
	}
}

// A warm session reads nothing, opens nothing and allocates nothing; a cold one of a warm role reads nothing either.
func TestWarmSessionsReadNothing(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	role := h.role(h.admin(account), "R", "")
	s, cold := h.assume(role.Arn, access.SessionOptions{}), h.assume(role.Arn, access.SessionOptions{})
	other := h.assume(h.role(h.again(h.root(account)), "other", "").Arn, access.SessionOptions{})
	h.wantSession(s, nil)
	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	token := s.Token.Reveal()
	if n := testing.AllocsPerRun(100, func() {
		if _, err := h.Credential(t.Context(), s.AccessKeyID, token); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations to find a warm session", n)
	}
	h.wantSession(cold, nil)
	h.wantSession(other, nil) // its role was read when the session was made
}

// A user's session is the user, with the policies of this moment, and ends with the user; it manages no identities.
func TestUserSessions(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := open(t, db)
		admin := h.admin(account)
		id, secret := h.user(admin, "alice", `{"Effect": "Allow", "Action": ["kms:Sign", "keyturn:*"], "Resource": "*"}`)
		s, err := h.NewUserSession(t.Context(), h.call(h.signIn(id, secret), "GetSessionToken"), &access.SessionOptions{Duration: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		caller, err := h.present(s)
		if err != nil {
			t.Fatal(err)
		}
		if caller.ARN != "arn:aws:iam::111122223333:user/alice" || caller.Type != access.IAMUser || caller.UserName != "alice" ||
			!caller.IssuedAt.Equal(h.now) || caller.AccessKeyID != s.AccessKeyID {
			t.Errorf("the caller is %+v", caller)
		}
		if !h.Allows(caller, "kms:Sign", key(t, accountDecides)) {
			t.Error("the session may not do what the user may")
		}
		_, err = do(h, caller, "CreateUser", h.CreateUser, access.CreateUserInput{UserName: "eve"})
		wantCode(t, err, "AccessDeniedException")
		_, err = do(h, caller, "CreateAccessKey", h.CreateAccessKey, access.CreateAccessKeyInput{})
		wantCode(t, err, "AccessDeniedException")
		_, err = do(h, caller, "ListUsers", h.ListUsers, access.ListUsersInput{})
		wantCode(t, err, "AccessDeniedException")
		for _, c := range []*access.Caller{caller, h.root(account), nil} {
			if _, err := h.NewUserSession(t.Context(), h.call(c, "GetSessionToken"), &access.SessionOptions{Duration: time.Hour}); !errors.Is(err, access.ErrNoUser) {
				t.Errorf("a session of %v: %v", c, err)
			}
		}
		must(h, admin, "DeleteUserPolicy", h.DeleteUserPolicy, access.DeleteUserPolicyInput{UserName: "alice", PolicyName: "own"})
		if caller, err = h.present(s); err != nil || len(caller.Policies) != 0 {
			t.Errorf("after the policy is gone: %+v, %v", caller, err)
		}
		// As in AWS, the access key that asked for the session may go before it does.
		must(h, admin, "DeleteAccessKey", h.DeleteAccessKey, access.DeleteAccessKeyInput{UserName: "alice", AccessKeyId: id})
		h.wantSession(s, nil)
		must(h, admin, "DeleteUser", h.DeleteUser, access.DeleteUserInput{UserName: "alice"})
		h.wantSession(s, access.ErrInvalidToken)
	})
}

// What a session brings along is bounded, for it is sent with every request.
func TestSessionsAreBounded(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	role, err := h.FindRole(t.Context(), h.role(h.admin(account), "R", "").Arn)
	if err != nil {
		t.Fatal(err)
	}
	o := access.SessionOptions{Name: "s", Duration: time.Hour, Tags: []access.Tag{{Key: "k", Value: strings.Repeat("v", 4095)}}}
	s, err := h.NewRoleSession(role, &o)
	if err != nil || s.PackedPercent != 100 || len(s.Token.Reveal()) > 8<<10 {
		t.Fatalf("%v: %v", s, err)
	}
	h.wantSession(s, nil)
	o.TransitiveTags = []string{"k"}
	_, err = h.NewRoleSession(role, &o)
	if large, ok := errors.AsType[*access.PackedTooLargeError](err); !ok || large.Percent != 101 {
		t.Errorf("one byte more: %v", err)
	}
	if _, err := h.NewRoleSession(role, &access.SessionOptions{Duration: time.Hour}); err == nil {
		t.Error("a session of a role without a name")
	}
}

// The audit log tells a session's role and when the session began, and neither its secret nor its token.
func TestRecordsOfSessions(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	role := h.role(h.admin(account), "R", "")
	s := h.assume(role.Arn, access.SessionOptions{SourceIdentity: "alice", Provider: "arn:aws:iam::111122223333:oidc-provider/x.example"})
	caller, err := h.present(s)
	if err != nil {
		t.Fatal(err)
	}
	call := h.readOnly(caller, "Sign")
	if err := h.Finish(t.Context(), call, "", ""); err != nil {
		t.Fatal(err)
	}
	raw := string(h.raw())
	for _, want := range []string{
		`"type":"AssumedRole","principalId":"` + role.RoleId + `:session","arn":"arn:aws:sts::111122223333:assumed-role/R/session"`,
		`"sessionContext":{"sessionIssuer":{"type":"Role","principalId":"` + role.RoleId + `","arn":"` + role.Arn + `","accountId":"111122223333","userName":"R"},` +
			`"webIdFederationData":{"federatedProvider":"arn:aws:iam::111122223333:oidc-provider/x.example"},` +
			`"attributes":{"creationDate":"2026-11-23T12:00:00Z","mfaAuthenticated":"false"},"sourceIdentity":"alice"}`,
	} {
		if !strings.Contains(raw, want) {
			t.Errorf("the log does not say %s", want)
		}
	}
	if strings.Contains(raw, s.Secret.Reveal()) || strings.Contains(raw, s.Token.Reveal()) {
		t.Error("a secret is in the log")
	}
}

func BenchmarkSession(b *testing.B) {
	h := openWith(b, sqldbtest.SQLite(b), newSealer(b), audit.Options{})
	s := h.assume(h.role(h.admin(account), "R", "").Arn, access.SessionOptions{})
	token := s.Token.Reveal()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.Credential(b.Context(), s.AccessKeyID, token); err != nil {
			b.Fatal(err)
		}
	}
}
