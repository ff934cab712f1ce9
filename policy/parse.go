package policy

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Size limits, as AWS sets them. https://docs.aws.amazon.com/kms/latest/developerguide/resource-limits.html and
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
const (
	MaxResourceBytes = 32 << 10  // of a key policy, as given
	MaxIdentityChars = 6144      // of an identity policy, white space not counted
	maxIdentityBytes = 128 << 10 // of an identity policy, as given
)

// An Error says where a document is wrong and how. Its text is fit for the caller who wrote the document.
type Error struct {
	Place   string // `statement "AllowBob"`, "statement 2" (counted from 0), or "" for the document
	Problem string
}

func (e *Error) Error() string {
	if e.Place == "" {
		return e.Problem
	}
	return e.Place + ": " + e.Problem
}

// refuse is an Error without a place yet: whoever knows it adds it.
func refuse(format string, a ...any) error { return &Error{Problem: fmt.Sprintf(format, a...)} }

// Parse compiles a document. Every error is an *Error. The document is not kept.
func Parse(doc []byte, kind Kind) (*Policy, error) {
	if err := checkSize(doc, kind); err != nil {
		return nil, err
	}
	d := newDecoder(doc)
	p := &Policy{kind: kind}
	var version string
	var statements []jsontext.Value
	var seen []string
	err := d.object(func(name string) error {
		if err := once(&seen, name); err != nil {
			return err
		}
		var err error
		switch name {
		case "Version":
			version, err = d.string(name)
		case "Id":
			p.id, err = d.string(name)
		case "Statement":
			statements, err = d.values()
		default:
			err = refuse("unknown element %s", strconv.Quote(name))
		}
		return err
	})
	if err == nil {
		err = d.end()
	}
	switch {
	case err != nil:
	case version == "" && !contains(seen, "Version"), version == "2008-10-17", version == "2012-10-17":
	default:
		err = refuse(`Version %s is not "2012-10-17" or "2008-10-17"`, strconv.Quote(version))
	}
	if err == nil && len(statements) == 0 {
		err = refuse("Statement is missing or empty")
	}
	if err != nil {
		return nil, &Error{Problem: problem(err)}
	}
	if err := p.compile(statements, version == "2012-10-17"); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Policy) compile(statements []jsontext.Value, variables bool) error {
	p.statements = make([]statement, len(statements))
	sids := make(map[string]bool, len(statements))
	for i, raw := range statements {
		b := builder{decoder: newDecoder(raw), kind: p.kind, variables: variables, statement: &p.statements[i]}
		err := b.build()
		if err == nil && b.statement.sid != "" && sids[b.statement.sid] {
			err = refuse("Sid is used twice; statement ids in a single policy must be unique")
		}
		if err != nil {
			return &Error{Place: place(i, sidOf(raw)), Problem: problem(err)}
		}
		sids[b.statement.sid] = true
		p.asks = p.asks || len(b.statement.conditions) > 0 || b.statement.resources.variables
	}
	return nil
}

func checkSize(doc []byte, kind Kind) error {
	limit, most := MaxResourceBytes, MaxIdentityChars
	switch kind {
	case Identity:
		limit = maxIdentityBytes
	case Trust:
		most = MaxTrustChars
	}
	if len(doc) > limit {
		return &Error{Problem: fmt.Sprintf("the document is %d bytes long; the limit is %d", len(doc), limit)}
	}
	if kind == Resource {
		return nil
	}
	chars := 0
	for _, r := range string(doc) {
		if r != ' ' && r != '\t' && r != '\n' && r != '\r' {
			chars++
		}
	}
	if chars > most {
		return &Error{Problem: fmt.Sprintf("the document has %d characters without white space; the limit is %d", chars, most)}
	}
	return nil
}

// A builder reads one statement.
type builder struct {
	*decoder
	kind      Kind
	variables bool // the document's version knows policy variables
	statement *statement
	seen      []string
}

func (b *builder) build() error {
	if err := b.object(b.element); err != nil {
		return err
	}
	for _, pair := range [][2]string{{"Action", "NotAction"}, {"Resource", "NotResource"}, {"Principal", "NotPrincipal"}} {
		one, other := contains(b.seen, pair[0]), contains(b.seen, pair[1])
		switch {
		case one && other:
			return refuse("%s and %s exclude each other", pair[0], pair[1])
		case pair[0] == "Principal" && b.kind == Identity && (one || other):
			return refuse("an identity-based policy names no principal")
		case pair[0] == "Principal" && b.kind == Identity:
		case pair[0] == "Resource" && b.kind == Trust && (one || other):
			return refuse("a trust policy has no Resource: it is about the role that it belongs to")
		case pair[0] == "Resource" && b.kind == Trust:
			b.statement.resources.not = true // and names none: every resource
		case !one && !other:
			return refuse("%s is missing", pair[0])
		}
	}
	if b.statement.effect == NoMatch {
		return refuse("Effect is missing")
	}
	if b.statement.principals.not && b.statement.effect == Allow {
		return refuse("NotPrincipal must be used with Effect Deny")
	}
	return nil
}

func (b *builder) element(name string) error {
	if err := once(&b.seen, name); err != nil {
		return err
	}
	s := b.statement
	switch name {
	case "Sid":
		return b.sid()
	case "Effect":
		return b.effect()
	case "Action", "NotAction":
		s.actions.not = name == "NotAction"
		return b.strings(name, b.action)
	case "Resource", "NotResource":
		s.resources.not = name == "NotResource"
		return b.strings(name, b.resource)
	case "Principal", "NotPrincipal":
		s.principals.not = name == "NotPrincipal"
		return b.principal(name)
	case "Condition":
		return b.condition()
	}
	return refuse("unknown element %s", strconv.Quote(name))
}

func (b *builder) sid() (err error) {
	if b.statement.sid, err = b.string("Sid"); err != nil {
		return err
	}
	// In resource policies AWS takes more, as its own "Enable IAM User Permissions" shows.
	if b.kind == Identity && !alphanumeric(b.statement.sid) {
		return refuse("Sid %s may hold letters and digits only", strconv.Quote(b.statement.sid))
	}
	return nil
}

func (b *builder) effect() error {
	text, err := b.string("Effect")
	switch {
	case err != nil:
		return err
	case text == "Allow":
		b.statement.effect = Allow
	case text == "Deny":
		b.statement.effect = Deny
	default:
		return refuse(`Effect %s is not "Allow" or "Deny"`, strconv.Quote(text))
	}
	return nil
}

func (b *builder) action(text string) (problem string) {
	vendor, name, found := strings.Cut(text, ":")
	switch {
	case b.kind == Trust && lower(vendor) != "sts":
		return "is not an action of STS, which alone are about roles"
	case text == "*":
	case !found:
		return `must be prefaced by a vendor, like "kms:Sign"`
	case vendor == "" || !only(vendor, "-"):
		return "must have a vendor of letters, digits and hyphens before the colon"
	case name == "" || !only(name, "*?-_."):
		return "must have a name of letters, digits, * and ? behind the colon"
	}
	b.statement.actions.patterns = append(b.statement.actions.patterns, compile(text, true))
	return ""
}

func (b *builder) resource(text string) (problem string) {
	p, problem := compileResource(text, b.variables)
	r := &b.statement.resources
	r.patterns = append(r.patterns, p)
	r.variables = r.variables || p.whole.parts != nil
	return problem
}

func (b *builder) principal(name string) error {
	p := &b.statement.principals
	if b.peek() == '"' {
		text, err := b.string(name)
		if err == nil && text != "*" {
			err = refuse(`%s is %s; a bare string must be "*"`, name, strconv.Quote(text))
		}
		p.everyone = true
		return err
	}
	var seen []string
	err := b.object(func(kind string) error {
		if err := once(&seen, kind); err != nil {
			return err
		}
		switch kind {
		case "AWS":
			return b.strings(name+" AWS", p.add)
		case "Service":
			return b.strings(name+" Service", p.addService)
		case "Federated":
			if b.kind == Trust {
				return b.strings(name+" Federated", p.addFederated)
			}
			return refuse("%s of type Federated is for trust policies only", name)
		case "CanonicalUser":
			return refuse("%s of type %s is not supported", name, kind)
		}
		return refuse("%s has unknown type %s", name, strconv.Quote(kind))
	})
	if err == nil && len(seen) == 0 {
		err = refuse("%s is empty", name)
	}
	return err
}

// problem words an error for the document's author. What the JSON library says of broken syntax may quote a few bytes of
// the document, which its author knows.
func problem(err error) string {
	if syntactic, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return "not valid JSON: " + syntactic.Err.Error()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "not valid JSON: unexpected end"
	}
	return err.Error()
}

// sidOf finds the Sid of a statement that could not be compiled, so that the message can name it.
func sidOf(raw jsontext.Value) (sid string) {
	d := newDecoder(raw)
	_ = d.object(func(name string) (err error) {
		if name == "Sid" && d.peek() == '"' {
			sid, err = d.string(name)
			return err
		}
		return d.d.SkipValue()
	})
	return sid
}

func once(seen *[]string, name string) error {
	if contains(*seen, name) {
		return refuse("%s is given twice", strconv.Quote(name))
	}
	if len(*seen) > 16 {
		return refuse("too many elements")
	}
	*seen = append(*seen, name)
	return nil
}

func contains(list []string, s string) bool {
	for _, have := range list {
		if have == s {
			return true
		}
	}
	return false
}

func alphanumeric(s string) bool { return only(s, "") }

// only reports whether s holds ASCII letters, digits and the bytes of more.
func only(s, more string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && strings.IndexByte(more, c) < 0 {
			return false
		}
	}
	return true
}
