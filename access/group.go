package access

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/sqldb"
)

// maxGroupsPerUser is AWS's quota.
const maxGroupsPerUser = 10

// A Group is one group of an account, as IAM describes it.
type Group struct {
	Path       string
	GroupName  string
	GroupId    string
	Arn        string
	CreateDate float64 // seconds since 1970
}

// CreateGroupInput: names that differ in case only are one name.
type CreateGroupInput struct {
	GroupName string
	Path      string // "/" when empty
}

type CreateGroupOutput struct{ Group Group }

// Validate checks the input, as AWS IAM does.
func (in *CreateGroupInput) Validate() error {
	var v violations
	v.groupName(in.GroupName)
	v.path(in.Path)
	return v.err()
}

// CreateGroup makes a group in the caller's account. EntityAlreadyExistsException when there is one of that name.
func (g *Guard) CreateGroup(ctx context.Context, call *Call, in *CreateGroupInput) (*CreateGroupOutput, error) {
	i := g.newIdentity(groups, in.GroupName, in.Path)
	if err := g.checkIdentity(ctx, call, &intent{operation: "CreateGroup"}, i); err != nil {
		return nil, err
	}
	if err := g.create(ctx, i, nil); err != nil {
		return nil, err
	}
	return &CreateGroupOutput{Group: i.group()}, nil
}

type GetGroupInput struct{ GroupName string }

// GetGroupOutput: the members are sorted by name; there are no pages.
type GetGroupOutput struct {
	Group Group
	Users []User
}

// Validate checks the input, as AWS IAM does.
func (in *GetGroupInput) Validate() error {
	var v violations
	v.groupName(in.GroupName)
	return v.err()
}

// GetGroup describes a group and its members.
func (g *Guard) GetGroup(ctx context.Context, call *Call, in *GetGroupInput) (*GetGroupOutput, error) {
	i, err := g.findIdentity(ctx, call, groups, &intent{operation: "GetGroup"}, in.GroupName)
	if err != nil {
		return nil, err
	}
	members, err := g.related(ctx, users, `id IN (SELECT user_id FROM group_members WHERE group_id = $2)`, i)
	if err != nil {
		return nil, err
	}
	out := &GetGroupOutput{Group: i.group(), Users: []User{}}
	for _, u := range members {
		u.boundary = ""
		out.Users = append(out.Users, u.user())
	}
	return out, nil
}

// related reads the identities of a kind, in the account of i, that a condition picks: $2 is the id of i.
func (g *Guard) related(ctx context.Context, k *kind, condition string, i *identity) ([]*identity, error) {
	rows, err := g.db.Query(ctx, `SELECT `+k.columns+` FROM `+k.table+` WHERE account = $1 AND `+condition, i.account, i.id)
	if err != nil {
		return nil, fmt.Errorf("reading %ss of a %s: %w", k.noun, i.kind.noun, err)
	}
	defer rows.Close()
	var all []*identity
	for rows.Next() {
		r := &identity{kind: k}
		if err := rows.Scan(r.columns()...); err != nil {
			return nil, fmt.Errorf("reading %ss of a %s: %w", k.noun, i.kind.noun, err)
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *identity) int { return strings.Compare(fold(a.name), fold(b.name)) })
	return all, rows.Err()
}

type DeleteGroupInput struct{ GroupName string }

// Validate checks the input, as AWS IAM does.
func (in *DeleteGroupInput) Validate() error {
	var v violations
	v.groupName(in.GroupName)
	return v.err()
}

// DeleteGroup removes a group that has no members and no policies any more; else DeleteConflictException.
func (g *Guard) DeleteGroup(ctx context.Context, call *Call, in *DeleteGroupInput) (*Done, error) {
	i, err := g.findIdentity(ctx, call, groups, &intent{operation: "DeleteGroup"}, in.GroupName)
	if err != nil {
		return nil, err
	}
	err = g.remove(ctx, i, obstacle{"group_members", "remove users from group"}, obstacle{"group_policies", "delete policies"})
	if err != nil {
		return nil, err
	}
	return &Done{}, nil
}

type ListGroupsInput struct {
	MaxItems int // at most 1000; 100 when 0
	Marker   string
}

type ListGroupsOutput struct {
	Groups      []Group
	IsTruncated bool
	Marker      string `json:",omitempty"`
}

// Validate checks the input, as AWS IAM does.
func (in *ListGroupsInput) Validate() error {
	var v violations
	v.maxItems(in.MaxItems)
	v.marker(in.Marker)
	return v.err()
}

// ListGroups lists the groups of the caller's account by name, a page at a time.
func (g *Guard) ListGroups(ctx context.Context, call *Call, in *ListGroupsInput) (*ListGroupsOutput, error) {
	page, next, err := g.listIdentities(ctx, call, groups, "ListGroups", in.MaxItems, in.Marker)
	if err != nil {
		return nil, err
	}
	out := &ListGroupsOutput{Groups: make([]Group, len(page)), IsTruncated: next != "", Marker: next}
	for n, i := range page {
		out.Groups[n] = i.group()
	}
	return out, nil
}

type ListGroupsForUserInput struct{ UserName string }

// ListGroupsForUserOutput: ten at most, so there are no pages.
type ListGroupsForUserOutput struct{ Groups []Group }

// Validate checks the input, as AWS IAM does.
func (in *ListGroupsForUserInput) Validate() error {
	var v violations
	v.userName(in.UserName)
	return v.err()
}

// ListGroupsForUser lists the groups that a user is in.
func (g *Guard) ListGroupsForUser(ctx context.Context, call *Call, in *ListGroupsForUserInput) (*ListGroupsForUserOutput, error) {
	u, err := g.findUser(ctx, call, "ListGroupsForUser", in.UserName)
	if err != nil {
		return nil, err
	}
	all, err := g.related(ctx, groups, `id IN (SELECT group_id FROM group_members WHERE user_id = $2)`, u)
	if err != nil {
		return nil, err
	}
	out := &ListGroupsForUserOutput{Groups: []Group{}}
	for _, i := range all {
		out.Groups = append(out.Groups, i.group())
	}
	return out, nil
}

// GroupMemberInput is the input of AddUserToGroup and RemoveUserFromGroup.
type GroupMemberInput struct{ GroupName, UserName string }

// Validate checks the input, as AWS IAM does.
func (in *GroupMemberInput) Validate() error {
	var v violations
	v.groupName(in.GroupName)
	v.userName(in.UserName)
	return v.err()
}

// AddUserToGroup makes a user a member, who may do what the group may when it returns. As in AWS, the permission is checked
// on the group, whose policies it hands out. To add a member again does nothing.
func (g *Guard) AddUserToGroup(ctx context.Context, call *Call, in *GroupMemberInput) (*Done, error) {
	return g.changeMember(ctx, call, "AddUserToGroup", in, func(tx *sqldb.Tx, group, user *identity) error {
		n := 0
		if err := tx.QueryRow(`SELECT COUNT(*) FROM group_members WHERE user_id = $1 AND account = $2 AND group_id <> $3`,
			user.id, user.account, group.id).Scan(&n); err != nil {
			return err
		}
		if n >= maxGroupsPerUser {
			return errorf(limitExceeded, "Cannot exceed quota for GroupsPerUser: %d", maxGroupsPerUser)
		}
		_, err := tx.Exec(`INSERT INTO group_members (account, user_id, group_id) VALUES ($1, $2, $3) ON CONFLICT (user_id, group_id) DO NOTHING`,
			user.account, user.id, group.id)
		return err
	})
}

// RemoveUserFromGroup ends a membership, and what it gave, when it returns. To remove who is no member does nothing.
func (g *Guard) RemoveUserFromGroup(ctx context.Context, call *Call, in *GroupMemberInput) (*Done, error) {
	return g.changeMember(ctx, call, "RemoveUserFromGroup", in, func(tx *sqldb.Tx, group, user *identity) error {
		_, err := tx.Exec(`DELETE FROM group_members WHERE user_id = $1 AND account = $2 AND group_id = $3`, user.id, user.account, group.id)
		return err
	})
}

func (g *Guard) changeMember(ctx context.Context, call *Call, operation string, in *GroupMemberInput, fn func(tx *sqldb.Tx, group, user *identity) error) (*Done, error) {
	group, err := g.findIdentity(ctx, call, groups, &intent{operation: operation}, in.GroupName)
	if err != nil {
		return nil, err
	}
	user, err := g.readIdentity(ctx, users, group.account, in.UserName)
	if err != nil {
		return nil, err
	}
	if user == nil {
		return nil, (&identity{kind: users, name: in.UserName}).missing()
	}
	call.Touched(user.arn(), user.account, users.typ)
	err = g.change(ctx, user, "changing group", func(tx *sqldb.Tx) error {
		if err := group.stands(tx); err != nil {
			return err
		}
		return fn(tx, group, user)
	})
	if err != nil {
		return nil, err
	}
	return &Done{}, nil
}

// group describes the identity, which is one.
func (i *identity) group() Group {
	return Group{Path: i.path, GroupName: i.name, GroupId: i.id, Arn: i.arn(), CreateDate: seconds(i.createdAt)}
}
