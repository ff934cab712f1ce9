package access

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyturn/keyturn/sqldb"
)

const (
	noSuchEntity   = "NoSuchEntityException"
	entityExists   = "EntityAlreadyExistsException"
	limitExceeded  = "LimitExceededException"
	deleteConflict = "DeleteConflictException"
)

// Done is the output of operations that answer nothing.
type Done struct{}

// A User is one user of an account, as IAM describes it.
type User struct {
	Path       string
	UserName   string
	UserId     string
	Arn        string
	CreateDate float64 // seconds since 1970

	// Not in lists. The boundary is a policy document.
	PermissionsBoundary string `json:",omitempty"`
	Tags                []Tag  `json:",omitempty"`
}

// CreateUserInput: names that differ in case only are one name.
type CreateUserInput struct {
	UserName            string
	Path                string // "/" when empty
	PermissionsBoundary string // a policy document
	Tags                []Tag
}

type CreateUserOutput struct{ User User }

// Validate checks the input, as AWS IAM does.
func (in *CreateUserInput) Validate() error {
	var v violations
	v.userName(in.UserName)
	v.path(in.Path)
	v.tags(in.Tags)
	return firstError(v.err(), checkTags(in.Tags), checkBoundary(in.PermissionsBoundary))
}

// CreateUser makes a user in the caller's account, who may do nothing yet. EntityAlreadyExistsException when there is one of that name.
func (g *Guard) CreateUser(ctx context.Context, call *Call, in *CreateUserInput) (*CreateUserOutput, error) {
	if err := in.Validate(); err != nil {
		return nil, err
	}
	u := g.newIdentity(users, in.UserName, in.Path)
	u.boundary = in.PermissionsBoundary
	if err := g.checkIdentity(ctx, call, &intent{operation: "CreateUser", tags: in.Tags}, u); err != nil {
		return nil, err
	}
	if err := g.create(ctx, u, in.Tags); err != nil {
		return nil, err
	}
	return &CreateUserOutput{User: u.user()}, nil
}

type GetUserInput struct{ UserName string }

type GetUserOutput struct{ User User }

// Validate checks the input, as AWS IAM does.
func (in *GetUserInput) Validate() error {
	var v violations
	v.optionalUserName(in.UserName)
	return v.err()
}

// GetUser describes a user, the calling one where no name is given.
func (g *Guard) GetUser(ctx context.Context, call *Call, in *GetUserInput) (*GetUserOutput, error) {
	u, err := g.findUser(ctx, call, "GetUser", in.UserName)
	if err != nil {
		return nil, err
	}
	return &GetUserOutput{User: u.user()}, nil
}

type DeleteUserInput struct{ UserName string }

type DeleteUserOutput struct{}

// Validate checks the input, as AWS IAM does.
func (in *DeleteUserInput) Validate() error {
	var v violations
	v.userName(in.UserName)
	return v.err()
}

// DeleteUser removes a user who has no access keys and no policies and is in no group any more; else
// DeleteConflictException. The user's sessions end.
func (g *Guard) DeleteUser(ctx context.Context, call *Call, in *DeleteUserInput) (*DeleteUserOutput, error) {
	u, err := g.findUser(ctx, call, "DeleteUser", in.UserName)
	if err != nil {
		return nil, err
	}
	err = g.remove(ctx, u, obstacle{"access_keys", "delete access keys"}, obstacle{"user_policies", "delete policies"},
		obstacle{"group_members", "remove users from group"})
	if err != nil {
		return nil, err
	}
	return &DeleteUserOutput{}, nil
}

type ListUsersInput struct {
	MaxItems int // at most 1000; 100 when 0
	Marker   string
}

type ListUsersOutput struct {
	Users       []User
	IsTruncated bool
	Marker      string `json:",omitempty"`
}

// Validate checks the input, as AWS IAM does.
func (in *ListUsersInput) Validate() error {
	var v violations
	v.maxItems(in.MaxItems)
	v.marker(in.Marker)
	return v.err()
}

// ListUsers lists the users of the caller's account by name, a page at a time.
func (g *Guard) ListUsers(ctx context.Context, call *Call, in *ListUsersInput) (*ListUsersOutput, error) {
	page, next, err := g.listIdentities(ctx, call, users, "ListUsers", in.MaxItems, in.Marker)
	if err != nil {
		return nil, err
	}
	out := &ListUsersOutput{Users: make([]User, len(page)), IsTruncated: next != "", Marker: next}
	for n, u := range page {
		u.boundary = ""
		out.Users[n] = u.user()
	}
	return out, nil
}

// user describes the identity, which is one.
func (i *identity) user() User {
	return User{
		Path: i.path, UserName: i.name, UserId: i.id, Arn: i.arn(), CreateDate: seconds(i.createdAt),
		PermissionsBoundary: i.boundary, Tags: i.tags,
	}
}

// findUser is findIdentity for users: an empty name means the calling user.
func (g *Guard) findUser(ctx context.Context, call *Call, operation, name string) (*identity, error) {
	if call.Caller != nil && name == "" {
		if name = call.Caller.UserName; name == "" {
			return nil, errorf("ValidationException", "Must specify userName when calling with non-User credentials")
		}
	}
	return g.findIdentity(ctx, call, users, &intent{operation: operation}, name)
}

// ensureAccount makes the account's row unless it is there.
func ensureAccount(tx *sqldb.Tx, account string, now int64) error {
	_, err := tx.Exec(`INSERT INTO accounts (id, created_at, bootstrapped_at) VALUES ($1, $2, 0) ON CONFLICT (id) DO NOTHING`, account, now)
	return err
}

// wrap says what was being done, unless err is nil or meant for the client as it is.
func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	if refused, ok := errors.AsType[*Error](err); ok {
		return refused
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// firstError is the first of the errors that is one.
func firstError(all ...error) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}

// fold makes names that differ in case only one.
func fold(name string) string { return strings.ToLower(name) }

func seconds(micros int64) float64 { return float64(micros) / float64(time.Second/time.Microsecond) }
