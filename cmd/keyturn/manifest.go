package main

import (
	"encoding"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/rotation"
	"go.yaml.in/yaml/v3"
)

// A manifest is a file of rotation policies, and of identities:
//
//	policies:
//	  - name: payments          # default: the alias without alias/
//	    alias: alias/payments
//	    schedule: rate(90 days)
//	    lead: 24h
//	    overlap: 30d
//	roles:
//	  - name: ci
//	    trust: {…}
//
// It is read strictly, and everything that is wrong is said at once, with file,
// line, entry and member.
type manifest struct {
	entries    []entry
	identities []identityEntry
	sections   map[string]bool // those that are there
}

// place is where an entry of a manifest stands.
type place struct {
	file    string
	line    int
	section string
	index   int            // from 0; -1: the file is this one entry
	name    string         // once it is known
	lines   map[string]int // member ("freeze[0].from") → line
}

// entry is one policy of a manifest.
type entry struct {
	place
	policy rotation.Policy
}

// String says which entry it is, as errors begin.
func (e *place) String() string { return e.at(e.line) }

func (e *place) at(line int) string {
	text := fmt.Sprintf("%s:%d", e.file, line)
	if e.index >= 0 {
		text += fmt.Sprintf(": %s[%d]", e.section, e.index)
	}
	if e.name != "" {
		text += " (" + printable(e.name) + ")"
	}
	return text
}

// wrap says of which entry an error speaks.
func (e *place) wrap(err error) error { return fmt.Errorf("%s: %w", e, err) }

const manifestHint = "nothing was changed; docs/cli.md shows a manifest, and docs/rotation.md says what each member means"

// readManifest reads and checks a manifest.
func readManifest(name string) (*manifest, error) {
	root, err := readYAML(name)
	if err != nil {
		return nil, err
	}
	m := &manifest{sections: map[string]bool{}}
	var errs []error
	if root.Kind != yaml.MappingNode || len(root.Content) == 0 {
		errs = append(errs, fmt.Errorf("%s:%d: expected policies: and a list of them, or users:, groups: or roles:", name, root.Line))
	}
	for i := 0; root.Kind == yaml.MappingNode && i < len(root.Content); i += 2 {
		errs = append(errs, m.readSection(name, root.Content[i], follow(root.Content[i+1]))...)
	}
	errs = append(errs, m.clashes()...)
	if err := errors.Join(errs...); err != nil {
		return nil, usageError(err, manifestHint)
	}
	return m, nil
}

// readPolicies reads a manifest for what is about its rotation policies only.
func readPolicies(name string) (*manifest, error) {
	m, err := readManifest(name)
	if err == nil && !m.sections["policies"] {
		err = usageError(fmt.Errorf("%s: expected policies: and a list of them", name), manifestHint)
	}
	return m, err
}

// readSection reads one list of a manifest.
func (m *manifest) readSection(file string, key, list *yaml.Node) (errs []error) {
	section := key.Value
	switch {
	case section != "policies" && identityKinds[section] == "":
		return []error{fmt.Errorf("%s:%d: %s: only policies:, users:, groups: and roles: are known here", file, key.Line, printable(section))}
	case m.sections[section]:
		return []error{fmt.Errorf("%s:%d: %s: written twice", file, key.Line, section)}
	case list.Kind != yaml.SequenceNode:
		return []error{fmt.Errorf("%s:%d: %s: expected a list, each entry beginning with a dash", file, list.Line, section)}
	}
	m.sections[section] = true
	for i, n := range list.Content {
		if section == "policies" {
			e, wrong := readEntry(file, i, n)
			m.entries, errs = append(m.entries, e), append(errs, wrong...)
			continue
		}
		e, wrong := readIdentity(file, section, i, n)
		m.identities, errs = append(m.identities, e), append(errs, wrong...)
	}
	return errs
}

// readPolicy reads a file that is one policy.
func readPolicy(name string) (*entry, error) {
	root, err := readYAML(name)
	if err != nil {
		return nil, err
	}
	if member(root, "policies") != nil {
		return nil, usageError(fmt.Errorf("%s holds a list of policies", name), "'keyturn apply -f %s' puts them all", name)
	}
	e, errs := readEntry(name, -1, root)
	if err := errors.Join(errs...); err != nil {
		return nil, usageError(err, manifestHint)
	}
	return &e, nil
}

func readYAML(name string) (*yaml.Node, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, usageError(err, "--file names a YAML file of policies")
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, usageError(fmt.Errorf("%s: %w", name, err), manifestHint)
	}
	if len(doc.Content) == 0 {
		return nil, usageError(fmt.Errorf("%s is empty", name), manifestHint)
	}
	return follow(doc.Content[0]), nil
}

// readEntry decodes and validates one policy.
func readEntry(file string, index int, n *yaml.Node) (entry, []error) {
	e := entry{place: newPlace(file, "policies", index, n)}
	var wrong []located
	e.fill(n, reflect.ValueOf(&e.policy).Elem(), "", &wrong)
	if e.policy.Name == "" {
		e.policy.Name = strings.TrimPrefix(e.policy.Alias, "alias/")
	}
	e.name = e.policy.Name
	misread, errs := e.say(wrong)
	for _, err := range unjoin(e.policy.Validate()) {
		text := err.Error()
		at, _, _ := strings.Cut(text, ":")
		if misread[at] {
			continue // said already, in better words
		}
		errs = append(errs, fmt.Errorf("%s: %s", e.at(e.lineOf(at)), text))
	}
	return e, errs
}

// located is a mistake in a member.
type located struct {
	line         int
	member, text string
}

// say words mistakes, and which members they are in.
func (e *place) say(wrong []located) (misread map[string]bool, errs []error) {
	misread = map[string]bool{}
	for _, l := range wrong {
		misread[l.member] = true
		if l.member == "" {
			errs = append(errs, fmt.Errorf("%s: %s", e.at(l.line), l.text))
		} else {
			errs = append(errs, fmt.Errorf("%s: %s: %s", e.at(l.line), l.member, l.text))
		}
	}
	return misread, errs
}

func newPlace(file, section string, index int, n *yaml.Node) place {
	return place{file: file, line: n.Line, section: section, index: index, lines: map[string]int{}}
}

// lineOf finds the line of a member, or of the nearest that is there.
func (e *place) lineOf(member string) int {
	for member != "" {
		if line, ok := e.lines[member]; ok {
			return line
		}
		member = member[:max(strings.LastIndexAny(member, ".["), 0)]
	}
	return e.line
}

// fill decodes n into v as its YAML tags say. Unlike the YAML package it goes on
// after a mistake and refuses members that are unknown, written twice or empty.
func (e *place) fill(n *yaml.Node, v reflect.Value, path string, wrong *[]located) {
	n = follow(n)
	e.lines[path] = n.Line
	bad := func(format string, args ...any) {
		*wrong = append(*wrong, located{n.Line, path, fmt.Sprintf(format, args...)})
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
			bad("expected one value")
		} else if err := u.UnmarshalText([]byte(n.Value)); err != nil {
			bad("%s", err)
		}
		return
	}
	if d, ok := v.Addr().Interface().(*document); ok {
		if err := d.read(n, filepath.Dir(e.file)); err != nil {
			bad("%s", err)
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		e.fill(n, v.Elem(), path, wrong)
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			bad("expected a list")
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		for i, item := range n.Content {
			e.fill(item, v.Index(i), fmt.Sprintf("%s[%d]", path, i), wrong)
		}
	case reflect.Map:
		e.fillMap(n, v, path, wrong)
	case reflect.Struct:
		if n.Kind != yaml.MappingNode {
			bad("expected members, each on a line of its own, as name: value")
			return
		}
		e.fillMembers(n, v, path, wrong)
	default:
		if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
			bad("expected one value")
		} else if err := n.Decode(v.Addr().Interface()); err != nil {
			bad("expected %s, not %q", kindWords(v.Kind()), printable(n.Value))
		}
	}
}

func (e *place) fillMembers(n *yaml.Node, v reflect.Value, path string, wrong *[]located) {
	fields := map[string]int{}
	var known []string
	for i := range v.NumField() {
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
		fields[name] = i
		known = append(known, name)
	}
	seen := map[string]bool{}
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		at := strings.TrimPrefix(path+"."+key.Value, ".")
		field, ok := fields[key.Value]
		switch {
		case !ok:
			text := "unknown member"
			if close := nearest(key.Value, known); close != "" {
				text += "; did you mean " + close + "?"
			}
			*wrong = append(*wrong, located{key.Line, printable(at), text})
		case seen[key.Value]:
			*wrong = append(*wrong, located{key.Line, at, "written twice"})
		default:
			seen[key.Value] = true
			e.fill(n.Content[i+1], v.Field(field), at, wrong)
			e.lines[at] = key.Line
		}
	}
}

// fillMap decodes members that the file names as it likes.
func (e *place) fillMap(n *yaml.Node, v reflect.Value, path string, wrong *[]located) {
	if n.Kind != yaml.MappingNode {
		*wrong = append(*wrong, located{n.Line, path, "expected members, each on a line of its own, as name: value"})
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		at := path + "." + key.Value
		if v.MapIndex(reflect.ValueOf(key.Value)).IsValid() {
			*wrong = append(*wrong, located{key.Line, printable(at), "written twice"})
			continue
		}
		value := reflect.New(v.Type().Elem()).Elem()
		e.fill(n.Content[i+1], value, at, wrong)
		v.SetMapIndex(reflect.ValueOf(key.Value), value)
		e.lines[at] = key.Line
	}
}

func kindWords(k reflect.Kind) string {
	switch k {
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	}
	return "a text"
}

// clashes finds entries that name the same policy or turn the same alias.
func (m *manifest) clashes() (errs []error) {
	first := map[string]*entry{}
	for i := range m.entries {
		e := &m.entries[i]
		p := e.policy.WithDefaults()
		for _, key := range []string{"the name " + p.Name, strings.Join([]string{"the alias " + p.Alias, p.Target, p.Account, p.Region}, " ")} {
			if other := first[key]; other != nil && p.Name != "" {
				errs = append(errs, fmt.Errorf("%s: %s is that of %s too", e, printable(strings.TrimSpace(key)), other))
				break
			}
			first[key] = e
		}
	}
	return append(errs, m.identityClashes()...)
}

// follow goes where a YAML alias points.
func follow(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// member finds the value of a mapping's key.
func member(n *yaml.Node, key string) *yaml.Node {
	for i := 0; n.Kind == yaml.MappingNode && i < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return follow(n.Content[i+1])
		}
	}
	return nil
}

// unjoin takes joined errors apart.
func unjoin(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error }) // only the outermost is taken apart
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, unjoin(e)...)
	}
	return all
}

// nearest is the word that is one or two slips of the finger away from what was
// typed, or none.
func nearest(typed string, words []string) string {
	best, least := "", 3
	for _, w := range words {
		if d := distance(strings.ToLower(typed), strings.ToLower(w)); d < least && d < len(w) {
			best, least = w, d
		}
	}
	return best
}

// distance counts the letters to insert, remove or change to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		previous := slices.Clone(row)
		row[0] = i + 1
		for j := range len(b) {
			changed := previous[j]
			if a[i] != b[j] {
				changed++
			}
			row[j+1] = min(changed, previous[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
