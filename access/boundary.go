package access

import (
	"context"

	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/sqldb"
)

// A permissions boundary bounds what the identity policies of a user or role allow, whoever writes them. Where AWS names a
// managed policy, of which there are none here, it is a document.

func checkBoundary(document string) error { return checkDocument(document, policy.Identity) }

func (v *violations) boundary(document string) {
	if document == "" {
		v.add("", "permissionsBoundary", "not be null")
	}
}

// PutUserPermissionsBoundaryInput: PermissionsBoundary is an identity policy as JSON text.
type PutUserPermissionsBoundaryInput struct{ UserName, PermissionsBoundary string }

// Validate checks the name and compiles the document.
func (in *PutUserPermissionsBoundaryInput) Validate() error {
	var v violations
	v.userName(in.UserName)
	v.boundary(in.PermissionsBoundary)
	return firstError(v.err(), checkBoundary(in.PermissionsBoundary))
}

// PutUserPermissionsBoundary sets or replaces the boundary of a user, in force when it returns.
func (g *Guard) PutUserPermissionsBoundary(ctx context.Context, call *Call, in *PutUserPermissionsBoundaryInput) (*Done, error) {
	if err := in.Validate(); err != nil {
		return nil, err
	}
	return g.setBoundary(ctx, call, users, "PutUserPermissionsBoundary", in.UserName, in.PermissionsBoundary)
}

// PutRolePermissionsBoundaryInput: PermissionsBoundary is an identity policy as JSON text.
type PutRolePermissionsBoundaryInput struct{ RoleName, PermissionsBoundary string }

// Validate checks the name and compiles the document.
func (in *PutRolePermissionsBoundaryInput) Validate() error {
	var v violations
	v.roleName(in.RoleName)
	v.boundary(in.PermissionsBoundary)
	return firstError(v.err(), checkBoundary(in.PermissionsBoundary))
}

// PutRolePermissionsBoundary sets or replaces the boundary of a role, in force for all its sessions when it returns.
func (g *Guard) PutRolePermissionsBoundary(ctx context.Context, call *Call, in *PutRolePermissionsBoundaryInput) (*Done, error) {
	if err := in.Validate(); err != nil {
		return nil, err
	}
	return g.setBoundary(ctx, call, roles, "PutRolePermissionsBoundary", in.RoleName, in.PermissionsBoundary)
}

type DeleteUserPermissionsBoundaryInput struct{ UserName string }

// Validate checks the input, as AWS IAM does.
func (in *DeleteUserPermissionsBoundaryInput) Validate() error {
	var v violations
	v.userName(in.UserName)
	return v.err()
}

// DeleteUserPermissionsBoundary takes the boundary of a user away.
func (g *Guard) DeleteUserPermissionsBoundary(ctx context.Context, call *Call, in *DeleteUserPermissionsBoundaryInput) (*Done, error) {
	return g.setBoundary(ctx, call, users, "DeleteUserPermissionsBoundary", in.UserName, "")
}

type DeleteRolePermissionsBoundaryInput struct{ RoleName string }

// Validate checks the input, as AWS IAM does.
func (in *DeleteRolePermissionsBoundaryInput) Validate() error {
	var v violations
	v.roleName(in.RoleName)
	return v.err()
}

// DeleteRolePermissionsBoundary takes the boundary of a role away.
func (g *Guard) DeleteRolePermissionsBoundary(ctx context.Context, call *Call, in *DeleteRolePermissionsBoundaryInput) (*Done, error) {
	return g.setBoundary(ctx, call, roles, "DeleteRolePermissionsBoundary", in.RoleName, "")
}

func (g *Guard) setBoundary(ctx context.Context, call *Call, k *kind, operation, name, document string) (*Done, error) {
	i, err := g.findIdentity(ctx, call, k, &intent{operation: operation}, name)
	if err != nil {
		return nil, err
	}
	err = g.change(ctx, i, "setting boundary of a "+k.noun, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(`UPDATE `+k.table+` SET boundary = $1 WHERE id = $2 AND account = $3`, document, i.id, i.account)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Done{}, nil
}
