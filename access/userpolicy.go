package access

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/sqldb"
)

// maxUserPolicies is AWS's default quota of managed policies on a user.
const maxUserPolicies = 10

// PutUserPolicyInput: PolicyDocument is an identity policy as JSON text.
type PutUserPolicyInput struct{ UserName, PolicyName, PolicyDocument string }

type PutUserPolicyOutput struct{}

// Validate checks the names and compiles the document: MalformedPolicyDocumentException says what is wrong with it and where.
func (in *PutUserPolicyInput) Validate() error {
	var v violations
	v.userName(in.UserName)
	v.name(in.PolicyName, "policyName", 128)
	if in.PolicyDocument == "" {
		v.add("", "policyDocument", "not be null")
	}
	if err := v.err(); err != nil {
		return err
	}
	if _, err := policy.Parse([]byte(in.PolicyDocument), policy.Identity); err != nil {
		return errorf("MalformedPolicyDocumentException", "%s", err)
	}
	return nil
}

// PutUserPolicy adds or replaces a policy of a user, in force when it returns. LimitExceededException when it would be the
// eleventh.
func (g *Guard) PutUserPolicy(ctx context.Context, call *Call, in *PutUserPolicyInput) (*PutUserPolicyOutput, error) {
	if err := in.Validate(); err != nil { // also for callers that do not come over the wire: nothing unread is stored
		return nil, err
	}
	u, err := g.findUser(ctx, call, "PutUserPolicy", in.UserName)
	if err != nil {
		return nil, err
	}
	err = g.db.Write(ctx, func(tx *sqldb.Tx) error {
		others := 0
		if err := tx.QueryRow(`SELECT COUNT(*) FROM user_policies WHERE user_id = $1 AND account = $2 AND name <> $3`,
			u.id, u.account, in.PolicyName).Scan(&others); err != nil {
			return err
		}
		if others >= maxUserPolicies {
			return errorf(limitExceeded, "Cannot exceed quota for PoliciesPerUser: %d", maxUserPolicies)
		}
		return u.putPolicy(tx, in.PolicyName, in.PolicyDocument, g.now().UnixMicro())
	})
	if err != nil {
		return nil, wrap("putting user policy", err)
	}
	return &PutUserPolicyOutput{}, nil
}

func (u *user) putPolicy(tx *sqldb.Tx, name, document string, now int64) error {
	_, err := tx.Exec(`INSERT INTO user_policies (account, user_id, name, document, updated_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (user_id, name) DO UPDATE SET document = excluded.document, updated_at = excluded.updated_at`,
		u.account, u.id, name, document, now)
	tx.Touch(userTopic(u.id))
	return err
}

type GetUserPolicyInput struct{ UserName, PolicyName string }

type GetUserPolicyOutput struct{ UserName, PolicyName, PolicyDocument string }

// Validate checks the input, as AWS IAM does.
func (in *GetUserPolicyInput) Validate() error {
	var v violations
	v.userName(in.UserName)
	v.name(in.PolicyName, "policyName", 128)
	return v.err()
}

// GetUserPolicy returns the document as it was put.
func (g *Guard) GetUserPolicy(ctx context.Context, call *Call, in *GetUserPolicyInput) (*GetUserPolicyOutput, error) {
	u, err := g.findUser(ctx, call, "GetUserPolicy", in.UserName)
	if err != nil {
		return nil, err
	}
	out := &GetUserPolicyOutput{UserName: u.name, PolicyName: in.PolicyName}
	err = g.db.QueryRow(ctx, `SELECT document FROM user_policies WHERE user_id = $1 AND account = $2 AND name = $3`, u.id, u.account, in.PolicyName).
		Scan(&out.PolicyDocument)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, missingPolicy(in.PolicyName)
	}
	if err != nil {
		return nil, fmt.Errorf("reading user policy: %w", err)
	}
	return out, nil
}

type ListUserPoliciesInput struct{ UserName string }

type ListUserPoliciesOutput struct{ PolicyNames []string }

// Validate checks the input, as AWS IAM does.
func (in *ListUserPoliciesInput) Validate() error {
	var v violations
	v.userName(in.UserName)
	return v.err()
}

// ListUserPolicies lists the names of a user's policies: ten at most, so there are no pages.
func (g *Guard) ListUserPolicies(ctx context.Context, call *Call, in *ListUserPoliciesInput) (*ListUserPoliciesOutput, error) {
	u, err := g.findUser(ctx, call, "ListUserPolicies", in.UserName)
	if err != nil {
		return nil, err
	}
	rows, err := g.db.Query(ctx, `SELECT name FROM user_policies WHERE user_id = $1 AND account = $2 ORDER BY name`, u.id, u.account)
	if err != nil {
		return nil, fmt.Errorf("listing user policies: %w", err)
	}
	defer rows.Close()
	out := &ListUserPoliciesOutput{PolicyNames: []string{}}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("listing user policies: %w", err)
		}
		out.PolicyNames = append(out.PolicyNames, name)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("listing user policies: %w", err)
	}
	return out, nil
}

type DeleteUserPolicyInput struct{ UserName, PolicyName string }

type DeleteUserPolicyOutput struct{}

// Validate checks the input, as AWS IAM does.
func (in *DeleteUserPolicyInput) Validate() error {
	var v violations
	v.userName(in.UserName)
	v.name(in.PolicyName, "policyName", 128)
	return v.err()
}

// DeleteUserPolicy removes a policy of a user, in force when it returns.
func (g *Guard) DeleteUserPolicy(ctx context.Context, call *Call, in *DeleteUserPolicyInput) (*DeleteUserPolicyOutput, error) {
	u, err := g.findUser(ctx, call, "DeleteUserPolicy", in.UserName)
	if err != nil {
		return nil, err
	}
	err = g.db.Write(ctx, func(tx *sqldb.Tx) error {
		rows, err := tx.Exec(`DELETE FROM user_policies WHERE user_id = $1 AND account = $2 AND name = $3`, u.id, u.account, in.PolicyName)
		if err == nil && rows == 0 {
			return missingPolicy(in.PolicyName)
		}
		tx.Touch(userTopic(u.id))
		return err
	})
	if err != nil {
		return nil, wrap("deleting user policy", err)
	}
	return &DeleteUserPolicyOutput{}, nil
}

func missingPolicy(name string) error {
	return errorf(noSuchEntity, "The user policy with name %s cannot be found.", name)
}
