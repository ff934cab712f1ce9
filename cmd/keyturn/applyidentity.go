package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/rotation"
)

// appliedIdentity is one user, group or role of an application.
type appliedIdentity struct {
	Identity string                `json:"identity"` // user/alice
	Action   string                `json:"action"`   // create, change, delete or none
	Changes  []rotation.Difference `json:"changes"`
	steps    []step
	what     string // as errors begin
}

// step is one operation that makes an identity what it shall be. Those that make
// one come before all others: groups, users, then roles, which may trust users.
type step struct {
	stage     int // 0 to 2: Create…; 3: the rest; 4: what is deleted
	operation string
	in        any
}

func foldedOwner(o owner) string { return strings.ToLower(o.String()) }

// planIdentities compares what the file wants with what there is.
func planIdentities(ctx context.Context, c *client, m *manifest, prune bool) ([]appliedIdentity, error) {
	all := []appliedIdentity{}
	var refused []error
	for i := range m.identities {
		e := &m.identities[i]
		p, err := e.plan(ctx, c)
		var api *apiError
		switch {
		case err == nil:
			all = append(all, *p)
		case errors.As(err, &api) && exitCode(err) != exitUnavailable:
			return nil, e.wrap(err)
		default:
			if exitCode(err) == exitUnavailable || exitCode(err) == exitInterrupted {
				return nil, err
			}
			refused = append(refused, e.wrap(err))
		}
	}
	if prune {
		gone, errs := pruneIdentities(ctx, c, m)
		all, refused = append(all, gone...), append(refused, errs...)
	}
	if err := errors.Join(refused...); err != nil {
		return nil, usageError(err, "nothing was changed")
	}
	return all, nil
}

// present is an identity as the server has it; nil: there is none.
type present struct {
	path, description, trust, boundary string
	maxSession                         int
	groups                             []string
	tags                               map[string]string
	policies                           map[string]string
}

func (c *client) readPresent(ctx context.Context, o owner) (*present, error) {
	p := &present{}
	var tags []access.Tag
	var err error
	switch o.kind {
	case "User":
		var u *userView
		if u, err = c.readUser(ctx, o.name); err == nil {
			p.path, p.boundary, p.groups, p.policies, tags = u.Path, u.PermissionsBoundary, u.Groups, u.Policies, u.Tags
		}
	case "Group":
		var g *groupView
		if g, err = c.readGroup(ctx, o.name); err == nil {
			p.path, p.policies = g.Path, g.Policies
		}
	default:
		var r *roleView
		if r, err = c.readRole(ctx, o.name); err == nil {
			p.path, p.description, p.trust, p.boundary, p.maxSession, p.policies, tags = r.Path, r.Description, r.AssumeRolePolicyDocument,
				r.PermissionsBoundary, r.MaxSessionDuration, r.Policies, r.Tags
		}
	}
	if err != nil {
		var api *apiError
		if errors.As(err, &api) && api.Code == "NoSuchEntityException" {
			return nil, nil
		}
		return nil, err
	}
	p.tags = map[string]string{}
	for _, t := range tags {
		p.tags[t.Key] = t.Value
	}
	return p, nil
}

// plan is what makes the identity what the entry says.
func (e *identityEntry) plan(ctx context.Context, c *client) (*appliedIdentity, error) {
	is, err := c.readPresent(ctx, e.owner)
	if err != nil {
		return nil, err
	}
	p := &appliedIdentity{Identity: e.owner.String(), Action: "change", Changes: []rotation.Difference{}, what: e.place.String()}
	if is == nil {
		p.Action = "create"
		in, operation := e.creation()
		p.steps = append(p.steps, step{slices.Index([]string{"Group", "User", "Role"}, e.kind), operation, in})
		is = &present{path: e.path, trust: e.trust, boundary: e.boundary, description: e.description, maxSession: e.maxSession, tags: e.tags}
		e.tellCreation(p)
	}
	if is.path != e.path {
		return nil, fmt.Errorf("path: %s cannot become %s: delete the %s first", is.path, e.path, strings.ToLower(e.kind))
	}
	e.planRole(p, is)
	e.planBoundary(p, is)
	e.planTags(p, is)
	e.planPolicies(p, is)
	e.planGroups(p, is)
	if len(p.steps) == 0 {
		p.Action = "none"
	}
	return p, nil
}

func (e *identityEntry) tellCreation(p *appliedIdentity) {
	for _, d := range []rotation.Difference{{Member: "path", To: e.path}, {Member: "description", To: e.description}, {Member: "trust", To: e.trust}, {Member: "boundary", To: e.boundary}} {
		if d.To != "" && d.To != "/" {
			p.Changes = append(p.Changes, d)
		}
	}
	for _, key := range names(e.tags) {
		p.Changes = append(p.Changes, rotation.Difference{Member: "tags." + key, To: e.tags[key]})
	}
}

func (p *appliedIdentity) add(operation string, in any, changes ...rotation.Difference) {
	p.steps = append(p.steps, step{3, operation, in})
	p.Changes = append(p.Changes, changes...)
}

func (e *identityEntry) planRole(p *appliedIdentity, is *present) {
	if e.kind != "Role" {
		return
	}
	var changes []rotation.Difference
	if is.description != e.description {
		changes = append(changes, rotation.Difference{Member: "description", From: is.description, To: e.description})
	}
	if is.maxSession != e.maxSession {
		changes = append(changes, rotation.Difference{
			Member: "maxSession", From: short(time.Duration(is.maxSession) * time.Second), To: short(time.Duration(e.maxSession) * time.Second),
		})
	}
	if len(changes) > 0 {
		p.add("UpdateRole", &access.UpdateRoleInput{RoleName: e.owner.name, Description: &e.description, MaxSessionDuration: e.maxSession}, changes...)
	}
	if changes := documentChanges("trust", is.trust, e.trust); len(changes) > 0 {
		p.add("UpdateAssumeRolePolicy", &access.UpdateAssumeRolePolicyInput{RoleName: e.owner.name, PolicyDocument: e.trust}, changes...)
	}
}

func (e *identityEntry) planBoundary(p *appliedIdentity, is *present) {
	changes := documentChanges("boundary", is.boundary, e.boundary)
	switch {
	case len(changes) == 0:
	case e.boundary == "":
		p.add("Delete"+e.kind+"PermissionsBoundary", e.input(nil), changes...)
	default:
		p.add("Put"+e.kind+"PermissionsBoundary", e.input(map[string]any{"PermissionsBoundary": e.boundary}), changes...)
	}
}

func (e *identityEntry) planTags(p *appliedIdentity, is *present) {
	var put []access.Tag
	var drop []string
	var changes []rotation.Difference
	for _, key := range names(e.tags) {
		if was, ok := is.tags[key]; !ok || was != e.tags[key] {
			put = append(put, access.Tag{Key: key, Value: e.tags[key]})
			changes = append(changes, rotation.Difference{Member: "tags." + key, From: was, To: e.tags[key]})
		}
	}
	if len(put) > 0 {
		p.add("Tag"+e.kind, e.input(map[string]any{"Tags": put}), changes...)
	}
	changes = nil
	for _, key := range names(is.tags) {
		// Another spelling of a key that stays is replaced with it.
		if !slices.ContainsFunc(names(e.tags), func(kept string) bool { return strings.EqualFold(kept, key) }) {
			drop = append(drop, key)
			changes = append(changes, rotation.Difference{Member: "tags." + key, From: is.tags[key]})
		}
	}
	if len(drop) > 0 {
		p.add("Untag"+e.kind, e.input(map[string]any{"TagKeys": drop}), changes...)
	}
}

func (e *identityEntry) planPolicies(p *appliedIdentity, is *present) {
	for _, name := range names(is.policies) { // first, for ten is the most
		if _, stays := e.policies[name]; !stays {
			p.add("Delete"+e.kind+"Policy", e.input(map[string]any{"PolicyName": name}), documentChanges("policies."+name, is.policies[name], "")...)
		}
	}
	for _, name := range names(e.policies) {
		if changes := documentChanges("policies."+name, is.policies[name], e.policies[name]); len(changes) > 0 {
			p.add("Put"+e.kind+"Policy", e.input(map[string]any{"PolicyName": name, "PolicyDocument": e.policies[name]}), changes...)
		}
	}
}

func (e *identityEntry) planGroups(p *appliedIdentity, is *present) {
	if e.kind != "User" {
		return
	}
	in := func(list []string, name string) bool {
		return slices.ContainsFunc(list, func(have string) bool { return strings.EqualFold(have, name) })
	}
	for _, name := range is.groups {
		if !in(e.groups, name) {
			p.add("RemoveUserFromGroup", &access.GroupMemberInput{GroupName: name, UserName: e.owner.name}, rotation.Difference{Member: "groups", From: name})
		}
	}
	for _, name := range e.groups {
		if !in(is.groups, name) {
			p.add("AddUserToGroup", &access.GroupMemberInput{GroupName: name, UserName: e.owner.name}, rotation.Difference{Member: "groups", To: name})
		}
	}
}

// documentChanges are the statements that go and come when a document becomes
// another; none when both say the same in AWS's form.
func documentChanges(member, from, to string) (changes []rotation.Difference) {
	was, is := inForm(from), inForm(to)
	if was == is {
		return nil
	}
	old, now := statements(was), statements(is)
	for _, s := range old {
		if !slices.Contains(now, s) {
			changes = append(changes, rotation.Difference{Member: member, From: s})
		}
	}
	for _, s := range now {
		if !slices.Contains(old, s) {
			changes = append(changes, rotation.Difference{Member: member, To: s})
		}
	}
	if len(changes) == 0 { // the version, or the order
		changes = append(changes, rotation.Difference{Member: member, From: was, To: is})
	}
	return changes
}

func inForm(text string) string {
	if d, err := policy.ReadDocument([]byte(text)); err == nil {
		return d.Compact()
	}
	return text
}

func statements(text string) []string {
	var d struct {
		Version   string
		ID        string `json:"Id"`
		Statement []jsontext.Value
	}
	if json.Unmarshal([]byte(text), &d) != nil {
		return nil
	}
	var all []string
	for _, s := range d.Statement {
		all = append(all, string(s))
	}
	return all
}

// pruneIdentities plans the end of what the file does not name, of the sections that it has.
func pruneIdentities(ctx context.Context, c *client, m *manifest) (all []appliedIdentity, errs []error) {
	named := map[string]bool{}
	for i := range m.identities {
		named[foldedOwner(m.identities[i].owner)] = true
	}
	who, err := sts.NewFromConfig(c.aws).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return nil, []error{wrapSDK(c.endpoint, err)}
	}
	there, err := c.identities(ctx, m.sections)
	if err != nil {
		return nil, []error{err}
	}
	for _, arn := range names(there) {
		o := there[arn]
		if named[foldedOwner(o)] {
			continue
		}
		if arn == *who.Arn {
			errs = append(errs, fmt.Errorf("%s is who applies this, and the file does not name it", o))
			continue
		}
		p, err := c.planDeletion(ctx, o)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", o, err))
			continue
		}
		all = append(all, *p)
	}
	slices.SortFunc(all, func(a, b appliedIdentity) int { return strings.Compare(a.Identity, b.Identity) })
	return all, errs
}

// identities lists what there is of the sections: ARN → whose.
func (c *client) identities(ctx context.Context, sections map[string]bool) (map[string]owner, error) {
	all := map[string]owner{}
	var err error
	if sections["users"] {
		err = listAll(ctx, c, "ListUsers", func(out *access.ListUsersOutput) string {
			for _, u := range out.Users {
				all[u.Arn] = owner{"User", u.UserName}
			}
			return out.Marker
		})
	}
	if sections["groups"] && err == nil {
		err = listAll(ctx, c, "ListGroups", func(out *access.ListGroupsOutput) string {
			for _, g := range out.Groups {
				all[g.Arn] = owner{"Group", g.GroupName}
			}
			return out.Marker
		})
	}
	if sections["roles"] && err == nil {
		err = listAll(ctx, c, "ListRoles", func(out *access.ListRolesOutput) string {
			for _, r := range out.Roles {
				all[r.Arn] = owner{"Role", r.RoleName}
			}
			return out.Marker
		})
	}
	return all, err
}

// planDeletion takes everything away that hangs on an identity, then itself. Users with access keys are left to a person:
// somebody signs with them.
func (c *client) planDeletion(ctx context.Context, o owner) (*appliedIdentity, error) {
	is, err := c.readPresent(ctx, o)
	if err != nil {
		return nil, err
	}
	p := &appliedIdentity{Identity: o.String(), Action: "delete", Changes: []rotation.Difference{}, what: "deleting " + o.String()}
	if is == nil {
		p.Action = "none"
		return p, nil
	}
	add := func(operation string, in any) { p.steps = append(p.steps, step{4, operation, in}) }
	if o.kind == "User" {
		var keys access.ListAccessKeysOutput
		if err := c.call(ctx, "ListAccessKeys", &access.ListAccessKeysInput{UserName: o.name}, &keys); err != nil {
			return nil, err
		}
		if n := len(keys.AccessKeyMetadata); n > 0 {
			return nil, fmt.Errorf("it has %s: delete them first, or name the user in the file", count(n, "access key"))
		}
		for _, group := range is.groups {
			add("RemoveUserFromGroup", &access.GroupMemberInput{GroupName: group, UserName: o.name})
		}
	}
	if o.kind == "Group" {
		group, err := c.readGroup(ctx, o.name)
		if err != nil {
			return nil, err
		}
		for _, user := range group.Users {
			add("RemoveUserFromGroup", &access.GroupMemberInput{GroupName: o.name, UserName: user})
		}
	}
	for _, name := range names(is.policies) {
		add("Delete"+o.kind+"Policy", o.input(map[string]any{"PolicyName": name}))
	}
	add("Delete"+o.kind, o.input(nil))
	return p, nil
}
