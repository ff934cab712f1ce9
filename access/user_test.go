package access_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	if err == nil || codeOf(err) != code {
		t.Errorf("error %v, want %s", err, code)
	}
}

func TestUsers(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := open(t, db)
		admin := h.admin(account)
		made := must(h, admin, "CreateUser", h.CreateUser, access.CreateUserInput{UserName: "Alice", Path: "/team/"}).User
		if made.Arn != "arn:aws:iam::111122223333:user/team/Alice" || made.Path != "/team/" || !strings.HasPrefix(made.UserId, "AIDA") || made.CreateDate != float64(h.now.Unix()) {
			t.Errorf("made %+v", made)
		}
		for _, name := range []string{"Alice", "alice", "ALICE"} {
			_, err := do(h, admin, "CreateUser", h.CreateUser, access.CreateUserInput{UserName: name})
			wantCode(t, err, "EntityAlreadyExistsException")
		}
		for i := range 5 {
			must(h, admin, "CreateUser", h.CreateUser, access.CreateUserInput{UserName: fmt.Sprintf("user-%d", i)})
		}
		var names []string
		for in := (access.ListUsersInput{MaxItems: 3}); ; {
			out := must(h, admin, "ListUsers", h.ListUsers, in)
			for _, u := range out.Users {
				names = append(names, u.UserName)
			}
			if !out.IsTruncated {
				break
			}
			in.Marker = out.Marker
		}
		if want := []string{"admin", "Alice", "user-0", "user-1", "user-2", "user-3", "user-4"}; !slices.Equal(names, want) {
			t.Errorf("listed %v, want %v", names, want)
		}

		key := must(h, admin, "CreateAccessKey", h.CreateAccessKey, access.CreateAccessKeyInput{UserName: "alice"}).AccessKey
		h.allow(admin, "alice", `{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}`)
		for range 2 {
			_, err := do(h, admin, "DeleteUser", h.DeleteUser, access.DeleteUserInput{UserName: "alice"})
			wantCode(t, err, "DeleteConflictException")
			_, _ = do(h, admin, "DeleteAccessKey", h.DeleteAccessKey, access.DeleteAccessKeyInput{UserName: "alice", AccessKeyId: key.AccessKeyId})
		}
		must(h, admin, "DeleteUserPolicy", h.DeleteUserPolicy, access.DeleteUserPolicyInput{UserName: "alice", PolicyName: "own"})
		must(h, admin, "DeleteUser", h.DeleteUser, access.DeleteUserInput{UserName: "alice"})
		_, err := do(h, admin, "DeleteUser", h.DeleteUser, access.DeleteUserInput{UserName: "alice"})
		wantCode(t, err, "NoSuchEntityException")
	})
}

func TestUserPolicies(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := open(t, db)
		admin := h.admin(account)
		must(h, admin, "CreateUser", h.CreateUser, access.CreateUserInput{UserName: "alice"})
		const doc = `{"Statement":  {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}}`
		for i := range 10 {
			must(h, admin, "PutUserPolicy", h.PutUserPolicy, access.PutUserPolicyInput{UserName: "alice", PolicyName: fmt.Sprint("p", i), PolicyDocument: doc})
		}
		_, err := do(h, admin, "PutUserPolicy", h.PutUserPolicy, access.PutUserPolicyInput{UserName: "alice", PolicyName: "more", PolicyDocument: doc})
		wantCode(t, err, "LimitExceededException")
		must(h, admin, "PutUserPolicy", h.PutUserPolicy, access.PutUserPolicyInput{UserName: "alice", PolicyName: "p3", PolicyDocument: doc})
		got := must(h, admin, "GetUserPolicy", h.GetUserPolicy, access.GetUserPolicyInput{UserName: "ALICE", PolicyName: "p3"})
		if got.PolicyDocument != doc || got.UserName != "alice" {
			t.Errorf("got %+v", got)
		}
		if names := must(h, admin, "ListUserPolicies", h.ListUserPolicies, access.ListUserPoliciesInput{UserName: "alice"}).PolicyNames; len(names) != 10 || names[3] != "p3" {
			t.Errorf("listed %v", names)
		}
		for _, name := range []string{"none", "P3"} {
			_, err := do(h, admin, "GetUserPolicy", h.GetUserPolicy, access.GetUserPolicyInput{UserName: "alice", PolicyName: name})
			wantCode(t, err, "NoSuchEntityException")
			_, err = do(h, admin, "DeleteUserPolicy", h.DeleteUserPolicy, access.DeleteUserPolicyInput{UserName: "alice", PolicyName: name})
			wantCode(t, err, "NoSuchEntityException")
		}
		conditional := `{"Statement": {"Sid": "MFA", "Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}}}`
		must(h, admin, "PutUserPolicy", h.PutUserPolicy, access.PutUserPolicyInput{UserName: "alice", PolicyName: "p1", PolicyDocument: conditional})
		conditional = strings.Replace(conditional, "aws:Multi", "aws:Many", 1)
		_, err = do(h, admin, "PutUserPolicy", h.PutUserPolicy, access.PutUserPolicyInput{UserName: "alice", PolicyName: "p1", PolicyDocument: conditional})
		wantCode(t, err, "MalformedPolicyDocumentException")
		if err == nil || !strings.Contains(err.Error(), `statement "MFA": Condition Bool: "aws:ManyFactorAuthPresent"`) {
			t.Errorf("error %v does not name the statement", err)
		}
	})
}

// However many race, a user has two access keys.
func TestTwoAccessKeysAtMost(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := open(t, db)
		admin := h.admin(account)
		must(h, admin, "CreateUser", h.CreateUser, access.CreateUserInput{UserName: "alice"})
		var wg sync.WaitGroup
		var mu sync.Mutex
		made := 0
		for range 8 {
			wg.Go(func() {
				call := h.call(admin, "CreateAccessKey")
				_, err := h.CreateAccessKey(t.Context(), call, &access.CreateAccessKeyInput{UserName: "alice"})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					made++
				} else {
					wantCode(t, err, "LimitExceededException")
				}
			})
		}
		wg.Wait()
		keys := must(h, admin, "ListAccessKeys", h.ListAccessKeys, access.ListAccessKeysInput{UserName: "alice"}).AccessKeyMetadata
		if made != 2 || len(keys) != 2 {
			t.Fatalf("%d made, %d listed; want 2", made, len(keys))
		}
		// The slot of a deleted key is free again, whichever it was.
		for _, k := range keys {
			must(h, admin, "DeleteAccessKey", h.DeleteAccessKey, access.DeleteAccessKeyInput{UserName: "alice", AccessKeyId: k.AccessKeyId})
			must(h, admin, "CreateAccessKey", h.CreateAccessKey, access.CreateAccessKeyInput{UserName: "alice"})
		}
	})
}

func TestInputsAreValidated(t *testing.T) {
	const id = "AKIAAAAAAAAAAAAAAAAA"
	const doc = `{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}`
	for want, in := range map[string]interface{ Validate() error }{
		"1 validation error detected: Value null at 'userName' failed to satisfy constraint: Member must not be null":                                       &access.CreateUserInput{},
		"1 validation error detected: Value 'a b' at 'userName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]+": &access.DeleteUserInput{UserName: "a b"},
		"Value 'team' at 'path' failed":                    &access.CreateUserInput{UserName: "a", Path: "team"},
		"Value '/a:root/' at 'path' failed":                &access.CreateUserInput{UserName: "a", Path: "/a:root/"},
		"Value '/*/' at 'path' failed":                     &access.CreateUserInput{UserName: "a", Path: "/*/"},
		"Member must have length less than or equal to 64": &access.CreateUserInput{UserName: strings.Repeat("a", 65)},
		"Value 'alice/../root' at 'userName'":              &access.PutUserPolicyInput{UserName: "alice/../root", PolicyName: "p", PolicyDocument: doc},
		"Value '*' at 'userName'":                          &access.CreateAccessKeyInput{UserName: "*"},
		"Value 'alicé' at 'userName'":                      &access.ListAccessKeysInput{UserName: "alicé"},
		"Value null at 'accessKeyId'":                      &access.DeleteAccessKeyInput{},
		"at 'accessKeyId' failed to satisfy constraint: Member must have length between 16 and 128":                             &access.DeleteAccessKeyInput{AccessKeyId: "AKIA"},
		"Value 'active' at 'status' failed to satisfy constraint: Member must satisfy enum value set: [Active, Inactive]":       &access.SetAccessKeyStatusInput{AccessKeyId: id, Status: "active"},
		"2 validation errors detected: Value null at 'userName' failed to satisfy constraint: Member must not be null; Value n": &access.GetUserPolicyInput{},
		"Value '1001' at 'maxItems'":        &access.ListUsersInput{MaxItems: 1001},
		"Value '!' at 'marker'":             &access.ListUsersInput{Marker: "!"},
		"Value null at 'policyDocument'":    &access.PutUserPolicyInput{UserName: "a", PolicyName: "p"},
		"Value 'a/b' at 'policyName'":       &access.DeleteUserPolicyInput{UserName: "a", PolicyName: "a/b"},
		"Statement is missing or empty":     &access.PutUserPolicyInput{UserName: "a", PolicyName: "p", PolicyDocument: "{}"},
		"Value null at 'userName' failed t": &access.ListUserPoliciesInput{},
	} {
		if err := in.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%T: error %v, want %q", in, err, want)
		}
	}
	for _, in := range []interface{ Validate() error }{
		&access.CreateUserInput{UserName: "a.b+c=d,e@f_-9", Path: "/x/y/"}, &access.CreateAccessKeyInput{}, &access.ListUsersInput{},
		&access.SetAccessKeyStatusInput{AccessKeyId: id, Status: "Inactive"}, &access.PutUserPolicyInput{UserName: "a", PolicyName: "p", PolicyDocument: doc},
	} {
		if err := in.Validate(); err != nil {
			t.Errorf("%+v: %v", in, err)
		}
	}
}

func TestBootstrap(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := open(t, db)
		// Nodes that start at once: one of them makes the administrator.
		var wg sync.WaitGroup
		var mu sync.Mutex
		secrets := map[string]access.Secret{}
		for range 4 {
			wg.Go(func() {
				id, secret, created, err := h.Bootstrap(t.Context(), account)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				if created {
					secrets[id] = secret
				}
			})
		}
		wg.Wait()
		if len(secrets) != 1 {
			t.Fatalf("%d administrators", len(secrets))
		}
		var old string
		for id, secret := range secrets {
			old = id
			h.signIn(id, secret)
		}
		last := h.records()[len(h.records())-1]
		if last.EventName != "BootstrapAccount" || last.UserIdentity.Type != "AWSService" {
			t.Errorf("the last record is %+v", last)
		}
		// Nobody left who may sign does not make a new one, however often one starts.
		root := h.root(account)
		must(h, root, "DeleteAccessKey", h.DeleteAccessKey, access.DeleteAccessKeyInput{UserName: "admin", AccessKeyId: old})
		must(h, root, "DeleteUserPolicy", h.DeleteUserPolicy, access.DeleteUserPolicyInput{UserName: "admin", PolicyName: "AdministratorAccess"})
		before := len(h.records())
		if _, _, created, err := h.Bootstrap(t.Context(), account); created || err != nil {
			t.Errorf("created %t again, %v", created, err)
		}
		if after := len(h.records()); after != before {
			t.Errorf("an ordinary start leaves %d records", after-before)
		}
		// The operator gets back in, and only the new key works.
		for _, gone := range []bool{false, true} {
			if gone {
				must(h, root, "DeleteAccessKey", h.DeleteAccessKey, access.DeleteAccessKeyInput{UserName: "admin", AccessKeyId: old})
				must(h, root, "DeleteUserPolicy", h.DeleteUserPolicy, access.DeleteUserPolicyInput{UserName: "admin", PolicyName: "AdministratorAccess"})
				must(h, root, "DeleteUser", h.DeleteUser, access.DeleteUserInput{UserName: "admin"})
			}
			id, secret, err := h.RenewAdmin(t.Context(), account)
			if err != nil {
				t.Fatal(err)
			}
			if !h.Allows(h.signIn(id, secret), "keyturn:CreateUser", access.Resource{ARN: access.UserARN(account, "/", "x")}) {
				t.Error("the renewed administrator may not make users")
			}
			if c, err := h.Credential(t.Context(), old, ""); err == nil {
				t.Errorf("the old access key still works: %v", c.Caller)
			}
			old = id
		}
		if _, _, _, err := h.Bootstrap(t.Context(), "12345"); err == nil {
			t.Error("an account of five digits is bootstrapped")
		}
	})
}
