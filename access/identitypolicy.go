package access

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/sqldb"
)

// maxPolicies is AWS's default quota of managed policies on a user, role or group.
const maxPolicies = 10

// PutUserPolicyInput: PolicyDocument is an identity policy as JSON text.
type PutUserPolicyInput struct{ UserName, PolicyName, PolicyDocument string }

// Validate checks the names and compiles the document: MalformedPolicyDocumentException says what is wrong with it and where.
func (in *PutUserPolicyInput) Validate() error {
	var v violations
	v.userName(in.UserName)
	v.policy(in.PolicyName, in.PolicyDocument)
	return firstError(v.err(), checkDocument(in.PolicyDocument, policy.Identity))
}

// PutUserPolicy adds or replaces a policy of a user, in force when it returns. LimitExceededException when it would be the
// eleventh.
func (g *Guard) PutUserPolicy(ctx context.Context, call *Call, in *PutUserPolicyInput) (*Done, error) {
	if err := in.Validate(); err != nil { // also for callers that do not come over the wire: nothing unread is stored
		return nil, err
	}
	return g.putPolicy(ctx, call, users, "PutUserPolicy", in.UserName, in.PolicyName, in.PolicyDocument)
}

// PutRolePolicyInput: PolicyDocument is an identity policy as JSON text.
type PutRolePolicyInput struct{ RoleName, PolicyName, PolicyDocument string }

// Validate checks the names and compiles the document.
func (in *PutRolePolicyInput) Validate() error {
	var v violations
	v.roleName(in.RoleName)
	v.policy(in.PolicyName, in.PolicyDocument)
	return firstError(v.err(), checkDocument(in.PolicyDocument, policy.Identity))
}

// PutRolePolicy adds or replaces a policy of a role, in force for all its sessions when it returns.
func (g *Guard) PutRolePolicy(ctx context.Context, call *Call, in *PutRolePolicyInput) (*Done, error) {
	if err := in.Validate(); err != nil {
		return nil, err
	}
	return g.putPolicy(ctx, call, roles, "PutRolePolicy", in.RoleName, in.PolicyName, in.PolicyDocument)
}

// PutGroupPolicyInput: PolicyDocument is an identity policy as JSON text.
type PutGroupPolicyInput struct{ GroupName, PolicyName, PolicyDocument string }

// Validate checks the names and compiles the document.
func (in *PutGroupPolicyInput) Validate() error {
	var v violations
	v.groupName(in.GroupName)
	v.policy(in.PolicyName, in.PolicyDocument)
	return firstError(v.err(), checkDocument(in.PolicyDocument, policy.Identity))
}

// PutGroupPolicy adds or replaces a policy of a group, in force for all its members when it returns.
func (g *Guard) PutGroupPolicy(ctx context.Context, call *Call, in *PutGroupPolicyInput) (*Done, error) {
	if err := in.Validate(); err != nil {
		return nil, err
	}
	return g.putPolicy(ctx, call, groups, "PutGroupPolicy", in.GroupName, in.PolicyName, in.PolicyDocument)
}

func (v *violations) policy(name, document string) {
	v.policyName(name)
	if document == "" {
		v.add("", "policyDocument", "not be null")
	}
}

// checkDocument compiles a document, which may be empty where there need be none.
func checkDocument(document string, k policy.Kind) error {
	if document == "" {
		return nil
	}
	if _, err := policy.Parse([]byte(document), k); err != nil {
		return errorf("MalformedPolicyDocumentException", "%s", err)
	}
	return nil
}

func (g *Guard) putPolicy(ctx context.Context, call *Call, k *kind, operation, owner, name, document string) (*Done, error) {
	i, err := g.findIdentity(ctx, call, k, &intent{operation: operation}, owner)
	if err != nil {
		return nil, err
	}
	err = g.change(ctx, i, "putting policy of a "+k.noun, func(tx *sqldb.Tx) error {
		others := 0
		if err := tx.QueryRow(`SELECT COUNT(*) FROM `+k.policies+` WHERE `+k.ref()+` = $1 AND account = $2 AND name <> $3`,
			i.id, i.account, name).Scan(&others); err != nil {
			return err
		}
		if others >= maxPolicies {
			return errorf(limitExceeded, "Cannot exceed quota for PoliciesPer%s: %d", k.title(), maxPolicies)
		}
		return i.putPolicy(tx, name, document, g.now().UnixMicro())
	})
	if err != nil {
		return nil, err
	}
	return &Done{}, nil
}

func (i *identity) putPolicy(tx *sqldb.Tx, name, document string, now int64) error {
	ref := i.kind.ref()
	_, err := tx.Exec(`INSERT INTO `+i.kind.policies+` (account, `+ref+`, name, document, updated_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (`+ref+`, name) DO UPDATE SET document = excluded.document, updated_at = excluded.updated_at`,
		i.account, i.id, name, document, now)
	return err
}

type GetUserPolicyInput struct{ UserName, PolicyName string }

type GetUserPolicyOutput struct{ UserName, PolicyName, PolicyDocument string }

// Validate checks the input, as AWS IAM does.
func (in *GetUserPolicyInput) Validate() error {
	var v violations
	v.userName(in.UserName)
	v.policyName(in.PolicyName)
	return v.err()
}

// GetUserPolicy returns the document as it was put.
func (g *Guard) GetUserPolicy(ctx context.Context, call *Call, in *GetUserPolicyInput) (*GetUserPolicyOutput, error) {
	name, document, err := g.getPolicy(ctx, call, users, "GetUserPolicy", in.UserName, in.PolicyName)
	if err != nil {
		return nil, err
	}
	return &GetUserPolicyOutput{name, in.PolicyName, document}, nil
}

type GetRolePolicyInput struct{ RoleName, PolicyName string }

type GetRolePolicyOutput struct{ RoleName, PolicyName, PolicyDocument string }

// Validate checks the input, as AWS IAM does.
func (in *GetRolePolicyInput) Validate() error {
	var v violations
	v.roleName(in.RoleName)
	v.policyName(in.PolicyName)
	return v.err()
}

// GetRolePolicy returns the document as it was put.
func (g *Guard) GetRolePolicy(ctx context.Context, call *Call, in *GetRolePolicyInput) (*GetRolePolicyOutput, error) {
	name, document, err := g.getPolicy(ctx, call, roles, "GetRolePolicy", in.RoleName, in.PolicyName)
	if err != nil {
		return nil, err
	}
	return &GetRolePolicyOutput{name, in.PolicyName, document}, nil
}

type GetGroupPolicyInput struct{ GroupName, PolicyName string }

type GetGroupPolicyOutput struct{ GroupName, PolicyName, PolicyDocument string }

// Validate checks the input, as AWS IAM does.
func (in *GetGroupPolicyInput) Validate() error {
	var v violations
	v.groupName(in.GroupName)
	v.policyName(in.PolicyName)
	return v.err()
}

// GetGroupPolicy returns the document as it was put.
func (g *Guard) GetGroupPolicy(ctx context.Context, call *Call, in *GetGroupPolicyInput) (*GetGroupPolicyOutput, error) {
	name, document, err := g.getPolicy(ctx, call, groups, "GetGroupPolicy", in.GroupName, in.PolicyName)
	if err != nil {
		return nil, err
	}
	return &GetGroupPolicyOutput{name, in.PolicyName, document}, nil
}

// getPolicy also says the owner's name as it was given when the owner was made.
func (g *Guard) getPolicy(ctx context.Context, call *Call, k *kind, operation, owner, name string) (ownerName, document string, err error) {
	i, err := g.findIdentity(ctx, call, k, &intent{operation: operation}, owner)
	if err != nil {
		return "", "", err
	}
	err = g.db.QueryRow(ctx, `SELECT document FROM `+k.policies+` WHERE `+k.ref()+` = $1 AND account = $2 AND name = $3`, i.id, i.account, name).
		Scan(&document)
	if errors.Is(err, sql.ErrNoRows) {
		return "", "", k.missingPolicy(name)
	}
	if err != nil {
		return "", "", fmt.Errorf("reading policy of a %s: %w", k.noun, err)
	}
	return i.name, document, nil
}

type ListUserPoliciesInput struct{ UserName string }

// ListPoliciesOutput: ten at most, so there are no pages.
type ListPoliciesOutput struct{ PolicyNames []string }

// Validate checks the input, as AWS IAM does.
func (in *ListUserPoliciesInput) Validate() error {
	var v violations
	v.userName(in.UserName)
	return v.err()
}

// ListUserPolicies lists the names of a user's policies.
func (g *Guard) ListUserPolicies(ctx context.Context, call *Call, in *ListUserPoliciesInput) (*ListPoliciesOutput, error) {
	return g.listPolicies(ctx, call, users, "ListUserPolicies", in.UserName)
}

type ListRolePoliciesInput struct{ RoleName string }

// Validate checks the input, as AWS IAM does.
func (in *ListRolePoliciesInput) Validate() error {
	var v violations
	v.roleName(in.RoleName)
	return v.err()
}

// ListRolePolicies lists the names of a role's policies.
func (g *Guard) ListRolePolicies(ctx context.Context, call *Call, in *ListRolePoliciesInput) (*ListPoliciesOutput, error) {
	return g.listPolicies(ctx, call, roles, "ListRolePolicies", in.RoleName)
}

type ListGroupPoliciesInput struct{ GroupName string }

// Validate checks the input, as AWS IAM does.
func (in *ListGroupPoliciesInput) Validate() error {
	var v violations
	v.groupName(in.GroupName)
	return v.err()
}

// ListGroupPolicies lists the names of a group's policies.
func (g *Guard) ListGroupPolicies(ctx context.Context, call *Call, in *ListGroupPoliciesInput) (*ListPoliciesOutput, error) {
	return g.listPolicies(ctx, call, groups, "ListGroupPolicies", in.GroupName)
}

func (g *Guard) listPolicies(ctx context.Context, call *Call, k *kind, operation, owner string) (*ListPoliciesOutput, error) {
	i, err := g.findIdentity(ctx, call, k, &intent{operation: operation}, owner)
	if err != nil {
		return nil, err
	}
	rows, err := g.db.Query(ctx, `SELECT name FROM `+k.policies+` WHERE `+k.ref()+` = $1 AND account = $2`, i.id, i.account)
	if err != nil {
		return nil, fmt.Errorf("listing policies of a %s: %w", k.noun, err)
	}
	defer rows.Close()
	out := &ListPoliciesOutput{PolicyNames: []string{}}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("listing policies of a %s: %w", k.noun, err)
		}
		out.PolicyNames = append(out.PolicyNames, name)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("listing policies of a %s: %w", k.noun, err)
	}
	slices.Sort(out.PolicyNames) // the databases do not agree on the order of text
	return out, nil
}

type DeleteUserPolicyInput struct{ UserName, PolicyName string }

// Validate checks the input, as AWS IAM does.
func (in *DeleteUserPolicyInput) Validate() error {
	var v violations
	v.userName(in.UserName)
	v.policyName(in.PolicyName)
	return v.err()
}

// DeleteUserPolicy removes a policy of a user, in force when it returns.
func (g *Guard) DeleteUserPolicy(ctx context.Context, call *Call, in *DeleteUserPolicyInput) (*Done, error) {
	return g.deletePolicy(ctx, call, users, "DeleteUserPolicy", in.UserName, in.PolicyName)
}

type DeleteRolePolicyInput struct{ RoleName, PolicyName string }

// Validate checks the input, as AWS IAM does.
func (in *DeleteRolePolicyInput) Validate() error {
	var v violations
	v.roleName(in.RoleName)
	v.policyName(in.PolicyName)
	return v.err()
}

// DeleteRolePolicy removes a policy of a role, in force when it returns.
func (g *Guard) DeleteRolePolicy(ctx context.Context, call *Call, in *DeleteRolePolicyInput) (*Done, error) {
	return g.deletePolicy(ctx, call, roles, "DeleteRolePolicy", in.RoleName, in.PolicyName)
}

type DeleteGroupPolicyInput struct{ GroupName, PolicyName string }

// Validate checks the input, as AWS IAM does.
func (in *DeleteGroupPolicyInput) Validate() error {
	var v violations
	v.groupName(in.GroupName)
	v.policyName(in.PolicyName)
	return v.err()
}

// DeleteGroupPolicy removes a policy of a group, in force when it returns.
func (g *Guard) DeleteGroupPolicy(ctx context.Context, call *Call, in *DeleteGroupPolicyInput) (*Done, error) {
	return g.deletePolicy(ctx, call, groups, "DeleteGroupPolicy", in.GroupName, in.PolicyName)
}

func (g *Guard) deletePolicy(ctx context.Context, call *Call, k *kind, operation, owner, name string) (*Done, error) {
	i, err := g.findIdentity(ctx, call, k, &intent{operation: operation}, owner)
	if err != nil {
		return nil, err
	}
	err = g.change(ctx, i, "deleting policy of a "+k.noun, func(tx *sqldb.Tx) error {
		rows, err := tx.Exec(`DELETE FROM `+k.policies+` WHERE `+k.ref()+` = $1 AND account = $2 AND name = $3`, i.id, i.account, name)
		if err == nil && rows == 0 {
			return k.missingPolicy(name)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Done{}, nil
}

func (k *kind) missingPolicy(name string) error {
	return errorf(noSuchEntity, "The %s policy with name %s cannot be found.", k.noun, name)
}
