package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/access"
	"github.com/spf13/cobra"
)

// userView is a user with all that hangs on it.
type userView struct {
	access.User
	Groups   []string          `json:"Groups"`
	Policies map[string]string `json:"Policies"` // name → document
}

// roleView is a role with its policies.
type roleView struct {
	access.Role
	Policies map[string]string `json:"Policies"`
}

// groupView is a group with its members and policies.
type groupView struct {
	access.Group
	Users    []string          `json:"Users"`
	Policies map[string]string `json:"Policies"`
}

func (c *client) readUser(ctx context.Context, name string) (*userView, error) {
	var user access.GetUserOutput
	if err := c.call(ctx, "GetUser", &access.GetUserInput{UserName: name}, &user); err != nil {
		return nil, err
	}
	var groups access.ListGroupsForUserOutput
	if err := c.call(ctx, "ListGroupsForUser", &access.ListGroupsForUserInput{UserName: name}, &groups); err != nil {
		return nil, err
	}
	v := &userView{User: user.User, Groups: []string{}}
	for _, g := range groups.Groups {
		v.Groups = append(v.Groups, g.GroupName)
	}
	var err error
	v.Policies, err = c.readPolicies(ctx, owner{"User", name})
	return v, err
}

func (c *client) readRole(ctx context.Context, name string) (*roleView, error) {
	var role access.GetRoleOutput
	if err := c.call(ctx, "GetRole", &access.GetRoleInput{RoleName: name}, &role); err != nil {
		return nil, err
	}
	policies, err := c.readPolicies(ctx, owner{"Role", name})
	return &roleView{role.Role, policies}, err
}

func (c *client) readGroup(ctx context.Context, name string) (*groupView, error) {
	var group access.GetGroupOutput
	if err := c.call(ctx, "GetGroup", &access.GetGroupInput{GroupName: name}, &group); err != nil {
		return nil, err
	}
	v := &groupView{Group: group.Group, Users: []string{}}
	for _, u := range group.Users {
		v.Users = append(v.Users, u.UserName)
	}
	var err error
	v.Policies, err = c.readPolicies(ctx, owner{"Group", name})
	return v, err
}

// readPolicies reads the documents of all policies of an identity.
func (c *client) readPolicies(ctx context.Context, o owner) (map[string]string, error) {
	var listed access.ListPoliciesOutput
	if err := c.call(ctx, "List"+o.kind+"Policies", o.input(nil), &listed); err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, name := range listed.PolicyNames {
		var p policyAnswer
		if err := c.call(ctx, "Get"+o.kind+"Policy", o.input(map[string]any{"PolicyName": name}), &p); err != nil {
			return nil, err
		}
		all[name] = p.PolicyDocument
	}
	return all, nil
}

// listAll reads every page of a list of identities.
func listAll[Out any](ctx context.Context, c *client, operation string, more func(*Out) (marker string)) error {
	for marker := ""; ; {
		out := new(Out)
		if err := c.call(ctx, operation, map[string]any{"MaxItems": 1000, "Marker": marker}, out); err != nil {
			return err
		}
		if marker = more(out); marker == "" {
			return nil
		}
	}
}

// listed prints all pages of a list of identities as one answer.
func listed[Out any](a *app, cmd *cobra.Command, operation string, add func(all, page *Out) (marker string), text func(*Out) error) error {
	c, err := a.connect(cmd.Context())
	if err != nil {
		return err
	}
	all := new(Out)
	if err := listAll(cmd.Context(), c, operation, func(page *Out) string { return add(all, page) }); err != nil {
		return err
	}
	return a.print(all, func() error { return text(all) })
}

// An owner is whose policies, boundary and tags a command is about.
type owner struct {
	kind string // User, Role or Group, as operations are named
	name string
}

// readOwner reads NAME or user/NAME, role/NAME, group/NAME. No name holds a slash.
func readOwner(text string) (owner, error) {
	kind, name, found := strings.Cut(text, "/")
	if !found {
		return owner{"User", text}, nil
	}
	switch kind {
	case "user":
		return owner{"User", name}, nil
	case "role":
		return owner{"Role", name}, nil
	case "group":
		return owner{"Group", name}, nil
	}
	return owner{}, usageError(fmt.Errorf("%q is no user, role or group", text), "give NAME of a user, or role/NAME, or group/NAME")
}

// input is what operations about the owner take, and more.
func (o owner) input(more map[string]any) map[string]any {
	in := map[string]any{o.kind + "Name": o.name}
	maps.Copy(in, more)
	return in
}

func (o owner) String() string { return strings.ToLower(o.kind) + "/" + o.name }

// names are the keys of a map, sorted.
func names[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// readTags reads KEY=VALUE.
func readTags(pairs []string) ([]access.Tag, error) {
	var tags []access.Tag
	for _, pair := range pairs {
		key, value, found := strings.Cut(pair, "=")
		if !found || key == "" {
			return nil, usageError(fmt.Errorf("%q is no tag", pair), "write KEY=VALUE; the value may be empty")
		}
		tags = append(tags, access.Tag{Key: key, Value: value})
	}
	return tags, nil
}

func tagText(tags []access.Tag) string {
	var all []string
	for _, t := range tags {
		all = append(all, t.Key+"="+t.Value)
	}
	return strings.Join(all, ", ")
}
