package access

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyturn/keyturn/sqldb"
)

const (
	typeUser = "AWS::IAM::User"

	noSuchEntity   = "NoSuchEntityException"
	entityExists   = "EntityAlreadyExistsException"
	limitExceeded  = "LimitExceededException"
	deleteConflict = "DeleteConflictException"
)

// A User is one user of an account, as IAM describes it.
type User struct {
	Path       string
	UserName   string
	UserId     string
	Arn        string
	CreateDate float64 // seconds since 1970
}

// CreateUserInput: names that differ in case only are one name.
type CreateUserInput struct {
	UserName string
	Path     string // "/" when empty
}

type CreateUserOutput struct{ User User }

// Validate checks the input, as AWS IAM does.
func (in *CreateUserInput) Validate() error {
	var v violations
	v.userName(in.UserName)
	v.path(in.Path)
	return v.err()
}

// CreateUser makes a user in the caller's account, who may do nothing yet. EntityAlreadyExistsException when there is one of that name.
func (g *Guard) CreateUser(ctx context.Context, call *Call, in *CreateUserInput) (*CreateUserOutput, error) {
	if in.Path == "" {
		in.Path = "/"
	}
	u := &user{name: in.UserName, path: in.Path, id: newID("AIDA", 17), createdAt: g.now().UnixMicro()}
	if err := g.checkUser(ctx, call, "CreateUser", u); err != nil {
		return nil, err
	}
	err := g.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := ensureAccount(tx, u.account, u.createdAt); err != nil {
			return err
		}
		return u.insert(tx)
	})
	if sqldb.IsUniqueViolation(err) {
		return nil, errorf(entityExists, "User with name %s already exists.", in.UserName)
	}
	if err != nil {
		return nil, fmt.Errorf("creating user: %w", err)
	}
	return &CreateUserOutput{User: u.describe()}, nil
}

type DeleteUserInput struct{ UserName string }

type DeleteUserOutput struct{}

// Validate checks the input, as AWS IAM does.
func (in *DeleteUserInput) Validate() error {
	var v violations
	v.userName(in.UserName)
	return v.err()
}

// DeleteUser removes a user who has no access keys and no policies any more; else DeleteConflictException.
func (g *Guard) DeleteUser(ctx context.Context, call *Call, in *DeleteUserInput) (*DeleteUserOutput, error) {
	u, err := g.findUser(ctx, call, "DeleteUser", in.UserName)
	if err != nil {
		return nil, err
	}
	err = g.db.Write(ctx, func(tx *sqldb.Tx) error {
		for _, of := range []struct{ table, what string }{{"access_keys", "access keys"}, {"user_policies", "policies"}} {
			n := 0
			if err := tx.QueryRow(`SELECT COUNT(*) FROM `+of.table+` WHERE user_id = $1 AND account = $2`, u.id, u.account).Scan(&n); err != nil {
				return err
			}
			if n > 0 {
				return errorf(deleteConflict, "Cannot delete entity, must delete %s first.", of.what)
			}
		}
		rows, err := tx.Exec(`DELETE FROM users WHERE id = $1 AND account = $2`, u.id, u.account)
		if err == nil && rows == 0 {
			return u.missing()
		}
		tx.Touch(userTopic(u.id))
		return err
	})
	if err != nil {
		return nil, wrap("deleting user", err)
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
	if err := g.Check(ctx, call, "keyturn:ListUsers", Resource{}); err != nil {
		return nil, err
	}
	after, err := openMarker(in.Marker)
	if err != nil {
		return nil, err
	}
	limit := in.MaxItems
	if limit == 0 {
		limit = 100
	}
	rows, err := g.db.Query(ctx, `SELECT `+userColumns+` FROM users WHERE account = $1 AND folded > $2 ORDER BY folded LIMIT $3`,
		call.Caller.Account, after, limit+1)
	if err != nil {
		return nil, fmt.Errorf("listing users: %w", err)
	}
	defer rows.Close()
	out := &ListUsersOutput{Users: []User{}}
	for rows.Next() {
		var u user
		if err := rows.Scan(u.columns()...); err != nil {
			return nil, fmt.Errorf("listing users: %w", err)
		}
		if len(out.Users) == limit {
			out.IsTruncated = true
			out.Marker = makeMarker(fold(out.Users[limit-1].UserName))
			break
		}
		out.Users = append(out.Users, u.describe())
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("listing users: %w", err)
	}
	return out, nil
}

// user is a row of table users.
type user struct {
	id, account, name, path string
	createdAt               int64
}

const userColumns = `id, account, name, path, created_at`

func (u *user) columns() []any { return []any{&u.id, &u.account, &u.name, &u.path, &u.createdAt} }

func (u *user) arn() string { return UserARN(u.account, u.path, u.name) }

func (u *user) describe() User {
	return User{Path: u.path, UserName: u.name, UserId: u.id, Arn: u.arn(), CreateDate: seconds(u.createdAt)}
}

func (u *user) missing() error {
	return errorf(noSuchEntity, "The user with name %s cannot be found.", u.name)
}

func (u *user) insert(tx *sqldb.Tx) error {
	_, err := tx.Exec(`INSERT INTO users (id, account, name, folded, path, created_at) VALUES ($1, $2, $3, $4, $5, $6)`,
		u.id, u.account, u.name, fold(u.name), u.path, u.createdAt)
	return err
}

// findUser finds a user of the caller's account by name, or the calling user where the name is empty, and asks the Guard.
// A miss is checked too, so that only who may manage a user of that name learns that there is none.
func (g *Guard) findUser(ctx context.Context, call *Call, operation, name string) (*user, error) {
	if call.Caller == nil {
		return nil, g.Check(ctx, call, "keyturn:"+operation, Resource{})
	}
	if name == "" {
		if name = call.Caller.UserName; name == "" {
			return nil, errorf("ValidationException", "Must specify userName when calling with non-User credentials")
		}
	}
	u := &user{}
	err := g.db.QueryRow(ctx, `SELECT `+userColumns+` FROM users WHERE account = $1 AND folded = $2`, call.Caller.Account, fold(name)).
		Scan(u.columns()...)
	missing := errors.Is(err, sql.ErrNoRows)
	if err != nil && !missing {
		return nil, fmt.Errorf("finding user: %w", err)
	}
	if missing {
		u = &user{name: name, path: "/"}
	}
	if err := g.checkUser(ctx, call, operation, u); err != nil {
		return nil, err
	}
	if missing {
		return nil, u.missing()
	}
	return u, nil
}

// checkUser asks whether the caller may do operation to a user of its own account, which it also makes u's account.
func (g *Guard) checkUser(ctx context.Context, call *Call, operation string, u *user) error {
	if call.Caller == nil {
		return g.Check(ctx, call, "keyturn:"+operation, Resource{})
	}
	if u.account == "" {
		u.account = call.Caller.Account
	}
	return g.Check(ctx, call, "keyturn:"+operation, Resource{ARN: u.arn(), Account: u.account, Type: typeUser})
}

// ensureAccount makes the account's row unless it is there.
func ensureAccount(tx *sqldb.Tx, account string, now int64) error {
	_, err := tx.Exec(`INSERT INTO accounts (id, created_at, bootstrapped_at) VALUES ($1, $2, 0) ON CONFLICT (id) DO NOTHING`, account, now)
	return err
}

// wrap says what was being done, unless err is meant for the client as it is.
func wrap(doing string, err error) error {
	if refused, ok := errors.AsType[*Error](err); ok {
		return refused
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// fold makes names that differ in case only one. Names are ASCII.
func fold(name string) string { return strings.ToLower(name) }

func seconds(micros int64) float64 { return float64(micros) / float64(time.Second/time.Microsecond) }
