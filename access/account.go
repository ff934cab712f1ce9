package access

import (
	"context"
	"errors"
	"fmt"

	"github.com/keyturn/keyturn/arn"
	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/sqldb"
)

// The first administrator of an account, and the policy that lets it do everything there.
const (
	adminName       = "admin"
	adminPolicyName = "AdministratorAccess"
	adminPolicy     = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
)

// Bootstrap makes an account and its first administrator, once: a user "admin" who may do everything, with an access key.
// When that has been done before, by this node or another, created is false and nothing is changed, even if nobody is left
// who may sign. The secret is told this once.
//
// The deed is in the audit log before it is done, and its outcome before the secret is returned. When recording the outcome
// fails, or the process dies in between, the access key exists and nobody knows its secret: RenewAdmin mends that.
func (g *Guard) Bootstrap(ctx context.Context, account string) (accessKeyID string, secret Secret, created bool, err error) {
	k, err := g.administer(ctx, "BootstrapAccount", account, func(tx *sqldb.Tx, k *newKey) error {
		rows, err := tx.Exec(`UPDATE accounts SET bootstrapped_at = $1 WHERE id = $2 AND bootstrapped_at = 0`, k.createdAt, account)
		if err != nil {
			return err
		}
		if rows == 0 {
			return errBootstrapped
		}
		return k.insertAdmin(tx)
	})
	if errors.Is(err, errBootstrapped) {
		return "", Secret{}, false, nil
	}
	if err != nil {
		return "", Secret{}, false, fmt.Errorf("bootstrapping account %s: %w", account, err)
	}
	return k.id, k.secret, true, nil
}

var errBootstrapped = errors.New("the account has had its first administrator")

// RenewAdmin gives an account's administrator a new access key in place of any it had, and its policy in place of all that
// spoke for or against it, making user and account where they are missing. It is for the operator who has lost every other way in and holds the database and
// the root key; no request reaches it.
func (g *Guard) RenewAdmin(ctx context.Context, account string) (accessKeyID string, secret Secret, err error) {
	k, err := g.administer(ctx, "RenewAdmin", account, func(tx *sqldb.Tx, k *newKey) error {
		if _, err := tx.Exec(`UPDATE accounts SET bootstrapped_at = $1 WHERE id = $2 AND bootstrapped_at = 0`, k.createdAt, account); err != nil {
			return err
		}
		return k.insertAdmin(tx)
	})
	if err != nil {
		return "", Secret{}, fmt.Errorf("renewing the administrator of account %s: %w", account, err)
	}
	return k.id, k.secret, nil
}

// administer runs a change that no caller asked for, recorded like one: the decision before, the outcome behind it.
func (g *Guard) administer(ctx context.Context, operation, account string, change func(tx *sqldb.Tx, k *newKey) error) (*newKey, error) {
	if !arn.IsAccount(account) {
		return nil, fmt.Errorf("%q is not an account id: it has twelve digits", account)
	}
	u := g.newIdentity(users, adminName, "/")
	u.account = account
	// A user "admin" who is there keeps its unique id, and the secret must be sealed under it.
	if there, err := g.readIdentity(ctx, users, account, adminName); err != nil {
		return nil, err
	} else if there != nil {
		u = there
	}
	done := 0
	if err := g.db.QueryRow(ctx, `SELECT COUNT(*) FROM accounts WHERE id = $1 AND bootstrapped_at <> 0`, account).Scan(&done); err != nil {
		return nil, err
	}
	if done > 0 && operation == "BootstrapAccount" {
		return nil, errBootstrapped // the ordinary start: no record of what does not happen
	}
	k, err := g.newKey(u)
	if err != nil {
		return nil, err
	}
	call := g.ownCall(operation, account)
	call.Touched(u.arn(), account, users.typ)
	call.Params = append(quote([]byte(`{"account":`), account), '}')
	call.remember("keyturn:"+operation, u.arn(), policy.Decision{Allowed: true, Cause: policy.AllowedAsRoot})
	if err := g.recordDecision(ctx, call); err != nil {
		return nil, fmt.Errorf("recording decision: %w", err)
	}
	err = g.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := ensureAccount(tx, account, k.createdAt); err != nil {
			return err
		}
		return change(tx, k)
	})
	code, message := "", ""
	if err != nil {
		code, message = "InternalFailure", "the account was not changed"
	} else {
		call.Response = k.describe()
	}
	if recording := g.Finish(ctx, call, code, message); recording != nil && err == nil {
		err = recording
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}

// insertAdmin stores the administrator with this key as the only one.
func (k *newKey) insertAdmin(tx *sqldb.Tx) error {
	u := k.user
	have := 0
	if err := tx.QueryRow(`SELECT COUNT(*) FROM users WHERE id = $1 AND account = $2`, u.id, u.account).Scan(&have); err != nil {
		return err
	}
	if have == 0 {
		if err := u.insert(tx); err != nil {
			return err
		}
	}
	rows, err := tx.Query(`SELECT id FROM access_keys WHERE user_id = $1 AND account = $2`, u.id, u.account)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return err
		}
		tx.Touch(keyTopic(id))
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, statement := range []string{
		`DELETE FROM access_keys WHERE user_id = $1 AND account = $2`,
		// Whatever could still deny something.
		`DELETE FROM user_policies WHERE user_id = $1 AND account = $2`,
		`DELETE FROM group_members WHERE user_id = $1 AND account = $2`,
		`UPDATE users SET boundary = '' WHERE id = $1 AND account = $2`,
	} {
		if _, err := tx.Exec(statement, u.id, u.account); err != nil {
			return err
		}
	}
	if err := u.putPolicy(tx, adminPolicyName, adminPolicy, k.createdAt); err != nil {
		return err
	}
	if err := u.changed(tx); err != nil {
		return err
	}
	return k.insert(tx)
}

// ownCall is a call that the server makes by itself.
func (g *Guard) ownCall(operation, account string) *Call {
	return &Call{
		ID: newRequestID(), Service: "keyturn", EventSource: serviceName, Operation: operation, Account: account, Time: g.now(),
		SourceIP: serviceName, UserAgent: serviceName,
		Caller: &Caller{Account: account, ARN: serviceName, UserID: serviceName, Type: AWSService},
	}
}

const serviceName = "keyturn.amazonaws.com"

// EnsureAccount makes an account that is not there yet, so that policies may name it: the fixed accounts of a development
// server.
func (g *Guard) EnsureAccount(ctx context.Context, account string) error {
	if !arn.IsAccount(account) {
		return fmt.Errorf("making account: %q is not an account id: it has twelve digits", account)
	}
	now := g.now().UnixMicro()
	if err := g.db.Write(ctx, func(tx *sqldb.Tx) error { return ensureAccount(tx, account, now) }); err != nil {
		return fmt.Errorf("making account: %w", err)
	}
	return nil
}
