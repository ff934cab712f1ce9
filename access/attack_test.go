package access_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// Users of the same name in two accounts, and an administrator who tries the other account's.
func TestAccountsAreNotConfused(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := open(t, db)
		admin, intruder := h.admin(account), h.admin(other)
		id, secret := h.user(admin, "alice", "")
		theirs, _ := h.user(intruder, "alice", `{"Effect": "Allow", "Action": "*", "Resource": "*"}`)

		_, err := do(h, intruder, "DeleteAccessKey", h.DeleteAccessKey, access.DeleteAccessKeyInput{UserName: "alice", AccessKeyId: id})
		wantCode(t, err, "NoSuchEntityException")
		_, err = do(h, intruder, "DeleteAccessKey", h.DeleteAccessKey, access.DeleteAccessKeyInput{UserName: "admin", AccessKeyId: admin.AccessKeyID})
		wantCode(t, err, "NoSuchEntityException")
		_, err = do(h, intruder, "SetAccessKeyStatus", h.SetAccessKeyStatus, access.SetAccessKeyStatusInput{UserName: "alice", AccessKeyId: id, Status: access.Inactive})
		wantCode(t, err, "NoSuchEntityException")
		keys := must(h, intruder, "ListAccessKeys", h.ListAccessKeys, access.ListAccessKeysInput{UserName: "alice"}).AccessKeyMetadata
		if len(keys) != 1 || keys[0].AccessKeyId != theirs {
			t.Errorf("the other account lists %+v", keys)
		}
		if users := must(h, intruder, "ListUsers", h.ListUsers, access.ListUsersInput{}).Users; len(users) != 2 {
			t.Errorf("the other account lists %+v", users)
		}
		h.allow(intruder, "alice", `{"Effect": "Allow", "Action": "kms:Sign", "Resource": "*"}`)
		if caller := h.signIn(id, secret); len(caller.Policies) != 0 {
			t.Errorf("a policy of the other account's alice speaks for ours: %+v", caller.Policies)
		}
		// A call that says it is in another account is still the caller's.
		call := h.call(intruder, "CreateUser")
		call.Account = account
		if _, err := h.CreateUser(t.Context(), call, &access.CreateUserInput{UserName: "mallory"}); err != nil {
			t.Fatal(err)
		}
		for _, u := range must(h, admin, "ListUsers", h.ListUsers, access.ListUsersInput{}).Users {
			if u.UserName == "mallory" {
				t.Error("a user was made in another account")
			}
		}
	})
}

// Everybody starts with nothing, and managing users is an action like any other.
func TestUsersManageNothingUnlessAllowed(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	admin := h.admin(account)
	id, secret := h.user(admin, "alice", "")
	h.user(admin, "bob", "")
	everything := func() map[string]error {
		alice := h.signIn(id, secret)
		results := map[string]error{}
		try := func(operation string, err error) { results[operation] = err }
		_, err := do(h, alice, "CreateUser", h.CreateUser, access.CreateUserInput{UserName: "eve"})
		try("CreateUser", err)
		_, err = do(h, alice, "DeleteUser", h.DeleteUser, access.DeleteUserInput{UserName: "nobody"})
		try("DeleteUser", err)
		_, err = do(h, alice, "ListUsers", h.ListUsers, access.ListUsersInput{})
		try("ListUsers", err)
		_, err = do(h, alice, "CreateAccessKey", h.CreateAccessKey, access.CreateAccessKeyInput{UserName: "admin"})
		try("CreateAccessKey", err)
		_, err = do(h, alice, "CreateAccessKey", h.CreateAccessKey, access.CreateAccessKeyInput{})
		try("CreateAccessKey for herself", err)
		_, err = do(h, alice, "SetAccessKeyStatus", h.SetAccessKeyStatus, access.SetAccessKeyStatusInput{UserName: "admin", AccessKeyId: admin.AccessKeyID, Status: access.Inactive})
		try("SetAccessKeyStatus", err)
		_, err = do(h, alice, "DeleteAccessKey", h.DeleteAccessKey, access.DeleteAccessKeyInput{UserName: "admin", AccessKeyId: admin.AccessKeyID})
		try("DeleteAccessKey", err)
		_, err = do(h, alice, "ListAccessKeys", h.ListAccessKeys, access.ListAccessKeysInput{UserName: "bob"})
		try("ListAccessKeys", err)
		_, err = do(h, alice, "PutUserPolicy", h.PutUserPolicy, access.PutUserPolicyInput{UserName: "alice", PolicyName: "p", PolicyDocument: `{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}`})
		try("PutUserPolicy", err)
		_, err = do(h, alice, "GetUserPolicy", h.GetUserPolicy, access.GetUserPolicyInput{UserName: "bob", PolicyName: "p"})
		try("GetUserPolicy", err)
		_, err = do(h, alice, "ListUserPolicies", h.ListUserPolicies, access.ListUserPoliciesInput{UserName: "bob"})
		try("ListUserPolicies", err)
		_, err = do(h, alice, "DeleteUserPolicy", h.DeleteUserPolicy, access.DeleteUserPolicyInput{UserName: "bob", PolicyName: "p"})
		try("DeleteUserPolicy", err)
		return results
	}
	for operation, err := range everything() {
		if codeOf(err) != "AccessDeniedException" {
			t.Errorf("without a policy, %s: %v", operation, err)
		}
	}
	h.allow(admin, "alice", `{"Effect": "Allow", "Action": "*", "Resource": "*"}, {"Effect": "Deny", "Action": "KEYTURN:*", "Resource": "*"}`)
	for operation, err := range everything() {
		if codeOf(err) != "AccessDeniedException" || !strings.Contains(err.Error(), "with an explicit deny in an identity-based policy") {
			t.Errorf("with a deny, %s: %v", operation, err)
		}
	}
	h.allow(admin, "alice", `{"Effect": "Allow", "Action": "keyturn:*", "Resource": "arn:aws:iam::111122223333:user/bob"}`)
	for operation, err := range everything() {
		aboutBob := strings.HasPrefix(operation, "List") && operation != "ListUsers" || operation == "GetUserPolicy" || operation == "DeleteUserPolicy"
		if denied := err != nil && codeOf(err) == "AccessDeniedException"; denied == aboutBob {
			t.Errorf("allowed for bob only, %s: %v", operation, err)
		}
	}
}

// The last way in cannot be closed from inside: the key that signs is neither deleted nor made inactive with itself.
func TestNobodyLocksThemselvesOut(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	admin := h.admin(account)
	_, err := do(h, admin, "DeleteAccessKey", h.DeleteAccessKey, access.DeleteAccessKeyInput{AccessKeyId: admin.AccessKeyID})
	wantCode(t, err, "DeleteConflictException")
	_, err = do(h, admin, "SetAccessKeyStatus", h.SetAccessKeyStatus, access.SetAccessKeyStatusInput{AccessKeyId: admin.AccessKeyID, Status: access.Inactive})
	wantCode(t, err, "DeleteConflictException")
	_, err = do(h, admin, "DeleteUser", h.DeleteUser, access.DeleteUserInput{UserName: "admin"})
	wantCode(t, err, "DeleteConflictException")
	if _, err := h.Credential(t.Context(), admin.AccessKeyID, ""); err != nil {
		t.Fatal(err)
	}
	// Turning one's key is what the second slot is for.
	k := must(h, admin, "CreateAccessKey", h.CreateAccessKey, access.CreateAccessKeyInput{}).AccessKey
	renewed := h.signIn(k.AccessKeyId, k.SecretAccessKey.Secret)
	must(h, renewed, "DeleteAccessKey", h.DeleteAccessKey, access.DeleteAccessKeyInput{AccessKeyId: admin.AccessKeyID})
	if _, err := h.Credential(t.Context(), admin.AccessKeyID, ""); !errors.Is(err, access.ErrUnknownAccessKey) {
		t.Errorf("the old key: %v", err)
	}
}

// Whoever can write the database moves a secret that he knows under another user's key, or under another key id.
func TestSealedSecretsCannotBeMoved(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		s := newSealer(t)
		for i, attack := range []string{
			`UPDATE access_keys SET sealed_secret = (SELECT sealed_secret FROM access_keys WHERE id = $2) WHERE id = $1`,
			`UPDATE access_keys SET user_id = (SELECT user_id FROM access_keys WHERE id = $1), slot = 2 WHERE id = $2`,
			`UPDATE access_keys SET id = CASE id WHEN $1 THEN 'AKIA' || $2 WHEN $2 THEN $1 ELSE id END`,
		} {
			h := openWith(t, db, s, auditOptions)
			acct := fmt.Sprintf("%012d", i+1)
			admin := h.admin(acct)
			victim, _ := h.user(admin, "victim", "")
			mallory, known := h.user(admin, "mallory", "")
			err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
				_, err := tx.Exec(attack, victim, mallory)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			h = openWith(t, db, s, auditOptions) // a node that remembers nothing
			for _, id := range []string{victim, mallory} {
				c, err := h.Credential(t.Context(), id, "")
				if err == nil && c.Secret.Reveal() == known.Reveal() && (id == victim || c.Caller.UserName != "mallory") {
					t.Errorf("attack %d: %s signs with the secret of mallory as %s", i, id, c.Caller.ARN)
				}
				if err != nil && strings.Contains(err.Error(), known.Reveal()) {
					t.Errorf("attack %d: the error tells the secret: %v", i, err)
				}
			}
		}
	})
}

// What the whole life of a user writes to the audit log and says in errors holds no secret.
func TestNoSecretInTheLog(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	id, secret, _, err := h.Bootstrap(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	admin := h.signIn(id, secret)
	aliceID, aliceSecret := h.user(admin, "alice", "")
	second := must(h, admin, "CreateAccessKey", h.CreateAccessKey, access.CreateAccessKeyInput{UserName: "alice"}).AccessKey
	renewed, renewedSecret, err := h.RenewAdmin(t.Context(), account)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	note := func(err error) {
		t.Helper()
		if err == nil {
			t.Fatal("no error")
		}
		said = append(said, err.Error(), fmt.Sprintf("%+v", err))
	}
	_, err = do(h, admin, "CreateAccessKey", h.CreateAccessKey, access.CreateAccessKeyInput{UserName: "alice"})
	note(err)
	_, err = h.Credential(t.Context(), aliceID, aliceSecret.Reveal())
	note(err)
	_, err = h.Credential(t.Context(), aliceSecret.Reveal(), "")
	note(err)
	note(h.AddEphemeral(access.EphemeralCredential{AccessKeyID: "X", Secret: aliceSecret, Account: "1"}))

	all := h.raw()
	for _, want := range []string{id, aliceID, second.AccessKeyId, renewed, "CreateAccessKey", "RenewAdmin"} {
		if !bytes.Contains(all, []byte(want)) {
			t.Errorf("the log does not speak of %s: the search below would prove nothing", want)
		}
	}
	for _, s := range []access.Secret{secret, aliceSecret, second.SecretAccessKey.Secret, renewedSecret} {
		if bytes.Contains(all, []byte(s.Reveal())) {
			t.Error("a secret is in the audit log")
		}
		if strings.Contains(strings.Join(said, "\n"), s.Reveal()) {
			t.Error("a secret is in an error")
		}
	}
}

// Whoever sprays access key ids fills neither memory nor the database's connections, and does not push out what is warm.
func TestSprayingAccessKeyIDs(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	admin := h.admin(account)
	id, secret := h.user(admin, "alice", "")
	h.signIn(id, secret)
	for i := range 3000 {
		spray := fmt.Sprintf("AKIA%016s", strings.NewReplacer("0", "A", "1", "B", "8", "C", "9", "D").Replace(fmt.Sprint(i)))
		spray = strings.ReplaceAll(spray, " ", "Z")
		if _, err := h.Credential(t.Context(), spray, ""); !errors.Is(err, access.ErrUnknownAccessKey) {
			t.Fatalf("Credential(%q): %v", spray, err)
		}
	}
	if err := h.db.Close(); err != nil {
		t.Fatal(err)
	}
	h.signIn(id, secret)
}

// A policy document that a hand in the database has broken makes its user powerless, not unrestricted.
func TestBrokenStoredPolicy(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	admin := h.admin(account)
	id, _ := h.user(admin, "alice", `{"Effect": "Deny", "Action": "*", "Resource": "*"}`)
	err := h.db.Write(t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.Exec(`UPDATE user_policies SET document = '{}' WHERE name = 'own'`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := h.Credential(t.Context(), id, ""); err == nil {
		t.Errorf("a credential comes with a policy that cannot be read: %+v", c.Caller)
	}
}
