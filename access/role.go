package access

import (
	"context"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/sqldb"
)

// EngineRole is the name of the role as whose session the rotation engine calls. No role may be called so: a session of it
// would pass for the engine where policies name that.
const EngineRole = "keyturn"

// Limits on how long a session of a role may last, as AWS sets them.
const (
	MinSession     = 15 * time.Minute
	DefaultSession = time.Hour
	MaxSession     = 12 * time.Hour
	maxDescription = 1000
)

// A Role is one role of an account, as IAM describes it.
type Role struct {
	Path               string
	RoleName           string
	RoleId             string
	Arn                string
	CreateDate         float64 // seconds since 1970
	Description        string  `json:",omitempty"`
	MaxSessionDuration int     // seconds

	// Not in lists. The boundary is a policy document.
	AssumeRolePolicyDocument string `json:",omitempty"` // who may assume it
	PermissionsBoundary      string `json:",omitempty"`
	Tags                     []Tag  `json:",omitempty"`
}

// CreateRoleInput: names that differ in case only are one name.
type CreateRoleInput struct {
	RoleName                 string
	Path                     string // "/" when empty
	AssumeRolePolicyDocument string // a trust policy: who may assume the role
	Description              string
	MaxSessionDuration       int    // seconds, 3600 to 43200; 3600 when 0
	PermissionsBoundary      string // a policy document
	Tags                     []Tag
}

type CreateRoleOutput struct{ Role Role }

// Validate checks the input, as AWS IAM does, and compiles the documents.
func (in *CreateRoleInput) Validate() error {
	var v violations
	v.roleName(in.RoleName)
	v.path(in.Path)
	if in.AssumeRolePolicyDocument == "" {
		v.add("", "assumeRolePolicyDocument", "not be null")
	}
	v.description(in.Description)
	v.maxSession(in.MaxSessionDuration)
	v.tags(in.Tags)
	return firstError(v.err(), checkTags(in.Tags), checkDocument(in.AssumeRolePolicyDocument, policy.Trust), checkBoundary(in.PermissionsBoundary))
}

func (v *violations) description(text string) {
	if !utf8.ValidString(text) || utf8.RuneCountInString(text) > maxDescription {
		v.add(cut(text, 128), "description", "have length less than or equal to "+strconv.Itoa(maxDescription))
	}
}

func (v *violations) maxSession(seconds int) {
	if d := time.Duration(seconds) * time.Second; seconds != 0 && (d < DefaultSession || d > MaxSession) {
		v.add(strconv.Itoa(seconds), "maxSessionDuration", "have value between 3600 and 43200")
	}
}

// CreateRole makes a role in the caller's account, which may do nothing yet. EntityAlreadyExistsException when there is one of that name.
func (g *Guard) CreateRole(ctx context.Context, call *Call, in *CreateRoleInput) (*CreateRoleOutput, error) {
	if err := in.Validate(); err != nil {
		return nil, err
	}
	r := g.newIdentity(roles, in.RoleName, in.Path)
	r.description, r.boundary = in.Description, in.PermissionsBoundary
	if r.maxSession = int64(in.MaxSessionDuration); r.maxSession == 0 {
		r.maxSession = int64(DefaultSession / time.Second)
	}
	doing := &intent{operation: "CreateRole", tags: in.Tags}
	if err := g.checkIdentity(ctx, call, doing, r); err != nil {
		return nil, err
	}
	if fold(r.name) == EngineRole {
		return nil, errorf("ValidationException", "The role name %s is the server's own.", r.name)
	}
	var err error
	if r.trust, err = g.pinTrust(ctx, in.AssumeRolePolicyDocument); err != nil {
		return nil, err
	}
	if err := g.create(ctx, r, doing.tags); err != nil {
		return nil, err
	}
	if r.trust, err = g.printTrust(ctx, r); err != nil {
		return nil, err
	}
	return &CreateRoleOutput{Role: r.role()}, nil
}

type GetRoleInput struct{ RoleName string }

type GetRoleOutput struct{ Role Role }

// Validate checks the input, as AWS IAM does.
func (in *GetRoleInput) Validate() error {
	var v violations
	v.roleName(in.RoleName)
	return v.err()
}

// GetRole describes a role.
func (g *Guard) GetRole(ctx context.Context, call *Call, in *GetRoleInput) (*GetRoleOutput, error) {
	r, err := g.findIdentity(ctx, call, roles, &intent{operation: "GetRole"}, in.RoleName)
	if err != nil {
		return nil, err
	}
	if r.trust, err = g.printTrust(ctx, r); err != nil {
		return nil, err
	}
	return &GetRoleOutput{Role: r.role()}, nil
}

// UpdateRoleInput: what is nil or 0 stays as it is.
type UpdateRoleInput struct {
	RoleName           string
	Description        *string
	MaxSessionDuration int
}

// Validate checks the input, as AWS IAM does.
func (in *UpdateRoleInput) Validate() error {
	var v violations
	v.roleName(in.RoleName)
	if in.Description != nil {
		v.description(*in.Description)
	}
	v.maxSession(in.MaxSessionDuration)
	return v.err()
}

// UpdateRole changes the description of a role and how long its sessions may last; sessions that are under way keep their end.
func (g *Guard) UpdateRole(ctx context.Context, call *Call, in *UpdateRoleInput) (*Done, error) {
	r, err := g.findIdentity(ctx, call, roles, &intent{operation: "UpdateRole"}, in.RoleName)
	if err != nil {
		return nil, err
	}
	if in.Description != nil {
		r.description = *in.Description
	}
	if in.MaxSessionDuration != 0 {
		r.maxSession = int64(in.MaxSessionDuration)
	}
	err = g.change(ctx, r, "changing role", func(tx *sqldb.Tx) error {
		_, err := tx.Exec(`UPDATE roles SET description = $1, max_session = $2 WHERE id = $3 AND account = $4`,
			r.description, r.maxSession, r.id, r.account)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Done{}, nil
}

// UpdateAssumeRolePolicyInput: PolicyDocument is a trust policy as JSON text.
type UpdateAssumeRolePolicyInput struct{ RoleName, PolicyDocument string }

// Validate checks the name and compiles the document.
func (in *UpdateAssumeRolePolicyInput) Validate() error {
	var v violations
	v.roleName(in.RoleName)
	if in.PolicyDocument == "" {
		v.add("", "policyDocument", "not be null")
	}
	return firstError(v.err(), checkDocument(in.PolicyDocument, policy.Trust))
}

// UpdateAssumeRolePolicy replaces the trust policy: who may assume the role from now on. Sessions that are under way stay.
func (g *Guard) UpdateAssumeRolePolicy(ctx context.Context, call *Call, in *UpdateAssumeRolePolicyInput) (*Done, error) {
	if err := in.Validate(); err != nil {
		return nil, err
	}
	r, err := g.findIdentity(ctx, call, roles, &intent{operation: "UpdateAssumeRolePolicy"}, in.RoleName)
	if err != nil {
		return nil, err
	}
	trust, err := g.pinTrust(ctx, in.PolicyDocument)
	if err != nil {
		return nil, err
	}
	err = g.change(ctx, r, "changing trust policy", func(tx *sqldb.Tx) error {
		_, err := tx.Exec(`UPDATE roles SET trust = $1 WHERE id = $2 AND account = $3`, trust, r.id, r.account)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &Done{}, nil
}

type DeleteRoleInput struct{ RoleName string }

// Validate checks the input, as AWS IAM does.
func (in *DeleteRoleInput) Validate() error {
	var v violations
	v.roleName(in.RoleName)
	return v.err()
}

// DeleteRole removes a role that has no policies any more; else DeleteConflictException. Its sessions end, and a role that
// is made anew under the same name does not bring them back.
func (g *Guard) DeleteRole(ctx context.Context, call *Call, in *DeleteRoleInput) (*Done, error) {
	r, err := g.findIdentity(ctx, call, roles, &intent{operation: "DeleteRole"}, in.RoleName)
	if err != nil {
		return nil, err
	}
	if err := g.remove(ctx, r, obstacle{"role_policies", "delete policies"}); err != nil {
		return nil, err
	}
	return &Done{}, nil
}

type ListRolesInput struct {
	MaxItems int // at most 1000; 100 when 0
	Marker   string
}

type ListRolesOutput struct {
	Roles       []Role
	IsTruncated bool
	Marker      string `json:",omitempty"`
}

// Validate checks the input, as AWS IAM does.
func (in *ListRolesInput) Validate() error {
	var v violations
	v.maxItems(in.MaxItems)
	v.marker(in.Marker)
	return v.err()
}

// ListRoles lists the roles of the caller's account by name, a page at a time.
func (g *Guard) ListRoles(ctx context.Context, call *Call, in *ListRolesInput) (*ListRolesOutput, error) {
	page, next, err := g.listIdentities(ctx, call, roles, "ListRoles", in.MaxItems, in.Marker)
	if err != nil {
		return nil, err
	}
	out := &ListRolesOutput{Roles: make([]Role, len(page)), IsTruncated: next != "", Marker: next}
	for n, r := range page {
		r.boundary, r.trust = "", ""
		out.Roles[n] = r.role()
	}
	return out, nil
}

// role describes the identity, which is one.
func (i *identity) role() Role {
	return Role{
		Path: i.path, RoleName: i.name, RoleId: i.id, Arn: i.arn(), CreateDate: seconds(i.createdAt), AssumeRolePolicyDocument: i.trust,
		Description: i.description, MaxSessionDuration: int(i.maxSession), PermissionsBoundary: i.boundary, Tags: i.tags,
	}
}
