// Generate writes the Go types of an AWS service from its API model: one
// struct for each input, output and nested structure, with AWS's own names,
// a decoder that checks every constraint of the model, an encoder, and the
// form of it that the audit log keeps, without blobs and sensitive members.
//
// It trusts the model, which is part of the source tree, and stops at
// anything in it that it would have to ignore: a constraint that is silently
// dropped would be a hole in the validation.
//
// Usage, from a go:generate line:
//
//	generate -model api.json -package kms -out api_gen.go -test api_gen_test.go
//
// The test file lists the types and enums for a test that compares them with
// those of an SDK.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("generate: ")
	model := flag.String("model", "api.json", "API model to read")
	pkg := flag.String("package", "", "name of the Go package to write")
	out := flag.String("out", "api_gen.go", "file to write")
	test := flag.String("test", "", "test file to write; none when empty")
	flag.Parse()
	source, err := os.ReadFile(*model)
	if err != nil {
		log.Fatalf("reading the model: %v", err)
	}
	code, err := Generate(source, filepath.Base(*model), *pkg)
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(*out, code, 0o644); err != nil {
		log.Fatalf("writing the types: %v", err)
	}
	if *test == "" {
		return
	}
	if code, err = GenerateTest(source, filepath.Base(*model), *pkg); err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(*test, code, 0o644); err != nil {
		log.Fatalf("writing the lists of types: %v", err)
	}
}

// A model is an AWS service model, reduced to the facts.
type model struct {
	Service       string                `json:"service"`
	Protocol      string                `json:"protocol"`
	TargetPrefix  string                `json:"targetPrefix"`
	SigningName   string                `json:"signingName"`
	Operations    map[string]*operation `json:"operations"`
	Shapes        map[string]*shape     `json:"shapes"`
	memberOrder   map[string][]string   // structure → members as the model orders them
	input, output map[string]bool       // structures reached from inputs, outputs
	used          map[string]bool       // constrained shapes that inputs mention
}

type operation struct {
	Input  string   `json:"input"`
	Output string   `json:"output"`
	Errors []string `json:"errors"`
}

type shape struct {
	Type       string          `json:"type"`
	Required   []string        `json:"required"`
	Members    json.RawMessage `json:"members"`
	Member     *ref            `json:"member"`
	Key        *ref            `json:"key"`
	Value      *ref            `json:"value"`
	Enum       []string        `json:"enum"`
	Min        int             `json:"min"`
	Max        int             `json:"max"`
	Pattern    string          `json:"pattern"`
	Sensitive  bool            `json:"sensitive"`
	Exception  bool            `json:"exception"`
	Fault      bool            `json:"fault"`
	Deprecated bool            `json:"deprecated"`

	members map[string]*ref
}

type ref struct {
	Shape      string `json:"shape"`
	Deprecated bool   `json:"deprecated"`
}

// Generate returns the Go source of package pkg for the model in source,
// which is called name in the file's header.
func Generate(source []byte, name, pkg string) ([]byte, error) {
	m, err := parse(source)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	w := &writer{model: m}
	w.header(name, pkg)
	w.imports()
	w.service()
	w.enums()
	w.constraints()
	for _, name := range slices.Sorted(maps.Keys(m.memberOrder)) {
		if m.input[name] || m.output[name] {
			w.structure(name)
		}
	}
	return w.source()
}

// GenerateTest returns the Go source of lists of everything that Generate
// makes, in the external test package of pkg.
func GenerateTest(source []byte, name, pkg string) ([]byte, error) {
	m, err := parse(source)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	w := &writer{model: m}
	w.header(name, pkg+"_test")
	w.lists(pkg)
	return w.source()
}

func parse(source []byte) (*model, error) {
	m := &model{
		memberOrder: map[string][]string{},
		input:       map[string]bool{}, output: map[string]bool{}, used: map[string]bool{},
	}
	dec := json.NewDecoder(bytes.NewReader(source))
	dec.DisallowUnknownFields()
	if err := dec.Decode(m); err != nil {
		return nil, err
	}
	if m.Protocol != "awsJson1_1" {
		return nil, fmt.Errorf("protocol %q is not awsJson1_1", m.Protocol)
	}
	for name, s := range m.Shapes {
		if s.Type != "structure" {
			continue
		}
		var err error
		if s.members, m.memberOrder[name], err = orderedMembers(s.Members); err != nil {
			return nil, fmt.Errorf("structure %s: %w", name, err)
		}
		if len(s.members) > 64 {
			return nil, fmt.Errorf("structure %s has more than 64 members", name)
		}
		for _, r := range s.Required {
			if s.members[r] == nil {
				return nil, fmt.Errorf("structure %s requires %s, which it does not have", name, r)
			}
		}
	}
	for name, op := range m.Operations {
		if err := m.reach(op.Input, m.input); err != nil {
			return nil, fmt.Errorf("input of %s: %w", name, err)
		}
		if err := m.reach(op.Output, m.output); err != nil {
			return nil, fmt.Errorf("output of %s: %w", name, err)
		}
	}
	for name := range m.input {
		for _, r := range m.Shapes[name].members {
			m.used[r.Shape] = true
			if s := m.Shapes[r.Shape]; s.Type == "list" {
				m.used[s.Member.Shape] = true
			}
		}
	}
	return m, nil
}

// sensitive reports whether a sensitive member is in the shape or below it.
func (m *model) sensitive(shape string, seen map[string]bool) bool {
	s := m.Shapes[shape]
	if s.Sensitive || seen[shape] {
		return s.Sensitive
	}
	seen[shape] = true
	for _, r := range s.members {
		if m.sensitive(r.Shape, seen) {
			return true
		}
	}
	return s.Member != nil && m.sensitive(s.Member.Shape, seen)
}

// orderedMembers keeps the model's order, in which violations are reported.
func orderedMembers(raw json.RawMessage) (members map[string]*ref, order []string, err error) {
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil {
		return nil, nil, err
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, nil, err
		}
		order = append(order, name.(string))
		var skipped json.RawMessage
		if err := dec.Decode(&skipped); err != nil {
			return nil, nil, err
		}
	}
	return members, order, nil
}

// reach marks structure name and those inside it.
func (m *model) reach(name string, seen map[string]bool) error {
	if name == "" || seen[name] {
		return nil
	}
	s := m.Shapes[name]
	if s == nil {
		return fmt.Errorf("there is no shape %s", name)
	}
	if s.Type == "structure" {
		seen[name] = true
	}
	for _, r := range s.members {
		if err := m.reach(r.Shape, seen); err != nil {
			return err
		}
	}
	for _, r := range []*ref{s.Member, s.Key, s.Value} {
		if r == nil {
			continue
		}
		if err := m.reach(r.Shape, seen); err != nil {
			return err
		}
	}
	return nil
}
