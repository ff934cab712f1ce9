package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/rotation"
	"go.yaml.in/yaml/v3"
)

// identityKinds: section of a manifest → how operations call what is in it.
var identityKinds = map[string]string{"users": "User", "groups": "Group", "roles": "Role"}

// What the entries of each section may hold.
type (
	manifestUser struct {
		Name     string              `yaml:"name"`
		Path     string              `yaml:"path"`
		Groups   []string            `yaml:"groups"`
		Policies map[string]document `yaml:"policies"`
		Boundary document            `yaml:"boundary"`
		Tags     map[string]string   `yaml:"tags"`
	}
	manifestGroup struct {
		Name     string              `yaml:"name"`
		Path     string              `yaml:"path"`
		Policies map[string]document `yaml:"policies"`
	}
	manifestRole struct {
		Name        string              `yaml:"name"`
		Path        string              `yaml:"path"`
		Description string              `yaml:"description"`
		Trust       document            `yaml:"trust"`
		MaxSession  rotation.Duration   `yaml:"maxSession"`
		Policies    map[string]document `yaml:"policies"`
		Boundary    document            `yaml:"boundary"`
		Tags        map[string]string   `yaml:"tags"`
	}
)

// A document is a policy document in a manifest: written there as YAML, or in a
// JSON file that is named relative to it. It is kept in AWS's form.
type document struct{ text string }

func (d *document) read(n *yaml.Node, dir string) error {
	var text []byte
	switch {
	case n.Kind == yaml.MappingNode:
		value, err := plain(n)
		if err != nil {
			return err
		}
		if text, err = json.Marshal(value, json.Deterministic(true)); err != nil {
			return err
		}
	case n.Kind == yaml.ScalarNode && n.Tag == "!!str" && n.Value != "":
		var err error
		if text, err = os.ReadFile(filepath.Join(dir, n.Value)); err != nil {
			return err
		}
	default:
		return errors.New("expected a policy document, or the name of a JSON file with one")
	}
	form, err := policy.ReadDocument(text)
	if err != nil {
		return err
	}
	d.text = form.Compact()
	return nil
}

// plain is a YAML value as policy documents have it: every scalar is text, also
// what YAML takes for a date (Version) or a number (an account).
func plain(n *yaml.Node) (any, error) {
	switch n = follow(n); n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			key := n.Content[i].Value
			if _, twice := m[key]; twice {
				return nil, fmt.Errorf("%s is given twice", printable(key))
			}
			value, err := plain(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			m[key] = value
		}
		return m, nil
	case yaml.SequenceNode:
		list := []any{}
		for _, item := range n.Content {
			value, err := plain(item)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		return list, nil
	}
	if n.Tag == "!!null" {
		return nil, errors.New("a value is empty")
	}
	return n.Value, nil
}

// identityEntry is one user, group or role of a manifest: what it shall be.
type identityEntry struct {
	place
	owner
	path, description string
	trust, boundary   string // documents
	maxSession        int    // seconds
	groups            []string
	tags              map[string]string
	policies          map[string]string // name → document
}

// readIdentity decodes and validates one entry.
func readIdentity(file, section string, index int, n *yaml.Node) (identityEntry, []error) {
	e := identityEntry{place: newPlace(file, section, index, n), owner: owner{kind: identityKinds[section]}, policies: map[string]string{}}
	var wrong []located
	var policies map[string]document
	switch e.kind {
	case "User":
		var u manifestUser
		e.fill(n, reflect.ValueOf(&u).Elem(), "", &wrong)
		e.owner.name, e.path, e.groups, e.boundary, e.tags, policies = u.Name, u.Path, u.Groups, u.Boundary.text, u.Tags, u.Policies
	case "Group":
		var g manifestGroup
		e.fill(n, reflect.ValueOf(&g).Elem(), "", &wrong)
		e.owner.name, e.path, policies = g.Name, g.Path, g.Policies
	case "Role":
		var r manifestRole
		e.fill(n, reflect.ValueOf(&r).Elem(), "", &wrong)
		e.owner.name, e.path, e.description, e.trust, e.boundary, e.tags, policies = r.Name, r.Path, r.Description, r.Trust.text, r.Boundary.text, r.Tags, r.Policies
		if e.maxSession = int(time.Duration(r.MaxSession) / time.Second); e.maxSession == 0 {
			e.maxSession = int(access.DefaultSession / time.Second)
		}
	}
	for name, d := range policies {
		e.policies[name] = d.text
	}
	if e.path == "" {
		e.path = "/"
	}
	e.place.name = e.owner.name
	misread, errs := e.say(wrong)
	if len(errs) > 0 {
		return e, errs
	}
	for member, err := range e.check() {
		if !misread[member] {
			errs = append(errs, fmt.Errorf("%s: %s: %w", e.at(e.lineOf(member)), member, err))
		}
	}
	return e, errs
}

// check holds the entry against the server's own checks: member → what is wrong.
func (e *identityEntry) check() map[string]error {
	wrong := map[string]error{}
	note := func(member string, err error) {
		if err != nil {
			wrong[member] = err
		}
	}
	parse := func(member, text string, kind policy.Kind) {
		if text != "" {
			_, err := policy.Parse([]byte(text), kind)
			note(member, err)
		}
	}
	parse("boundary", e.boundary, policy.Identity)
	parse("trust", e.trust, policy.Trust)
	for _, name := range names(e.policies) {
		parse("policies."+name, e.policies[name], policy.Identity)
	}
	if len(wrong) > 0 {
		return wrong
	}
	in, _ := e.creation()
	note("name", in.(interface{ Validate() error }).Validate())
	for _, name := range names(e.policies) {
		note("policies."+name, (&access.GetUserPolicyInput{UserName: "x", PolicyName: name}).Validate())
	}
	for i, group := range e.groups {
		note(fmt.Sprintf("groups[%d]", i), (&access.GetGroupInput{GroupName: group}).Validate())
	}
	return wrong
}

// creation is the input of the operation that makes the identity, and its name.
func (e *identityEntry) creation() (in any, operation string) {
	switch e.kind {
	case "User":
		in = &access.CreateUserInput{UserName: e.owner.name, Path: e.path, PermissionsBoundary: e.boundary, Tags: e.tagList()}
	case "Group":
		in = &access.CreateGroupInput{GroupName: e.owner.name, Path: e.path}
	default:
		in = &access.CreateRoleInput{
			RoleName: e.owner.name, Path: e.path, AssumeRolePolicyDocument: e.trust, Description: e.description, MaxSessionDuration: e.maxSession,
			PermissionsBoundary: e.boundary, Tags: e.tagList(),
		}
	}
	return in, "Create" + e.kind
}

func (e *identityEntry) tagList() []access.Tag {
	var tags []access.Tag
	for _, key := range names(e.tags) {
		tags = append(tags, access.Tag{Key: key, Value: e.tags[key]})
	}
	return tags
}

// identityClashes finds entries that name the same identity, and groups of users that are in no section.
func (m *manifest) identityClashes() (errs []error) {
	first := map[string]*identityEntry{}
	for i := range m.identities {
		e := &m.identities[i]
		key := foldedOwner(e.owner)
		if other := first[key]; other != nil && e.owner.name != "" {
			errs = append(errs, fmt.Errorf("%s: the name is that of %s too", &e.place, &other.place))
			continue
		}
		first[key] = e
	}
	return errs
}
