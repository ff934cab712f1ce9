// Package policy evaluates AWS policy documents: who may do what to which resource.
//
// A document is compiled once by Parse and then asked as often as one likes; asking reads nothing but the request's
// Context and, where there are no variables, allocates nothing. What Parse does not fully understand it refuses, naming
// the place: an element left unread would be a restriction left unenforced. So are condition keys of other services and
// comparisons that make no sense for a key.
//
// The package is pure. It trusts its caller to say truly who asks (Principal) and for what (Action, Resource), and it
// trusts no document: any bytes may be parsed, in time linear in their length, and matching never backtracks
// exponentially. Where AWS's rules leave room, doubt ends in denial: see resourcePattern, NotPrincipal, condition and
// variable.go.
//
// Evaluate answers for one document; Decide puts the documents of one request together by the rules of
// https://docs.aws.amazon.com/kms/latest/developerguide/policy-evaluation.html.
package policy

import "strconv"

// Kind is what a document is attached to, which decides the elements it must have.
type Kind uint8

const (
	// Identity policies are attached to a user or role and name no principal.
	Identity Kind = 1 + iota
	// Resource policies are attached to what they protect (a key policy) and name principals.
	Resource
	// The third is Trust.
)

// A Policy is a compiled document. It is immutable and safe for concurrent use.
type Policy struct {
	kind       Kind
	id         string
	statements []statement
	asks       bool // one of them needs to know more of a request than who does what to what
}

// A Request is one question: may Principal do Action to Resource?
type Request struct {
	Principal Principal
	Action    string // "kms:Sign", spelled as AWS spells it
	Resource  string // ARN; "*" for an operation that has no resource

	// Context answers for condition keys. Nil: the request has none of them.
	Context Context
}

// A Principal is who asks, as the caller's credentials proved it.
type Principal struct {
	ARN     string // arn:aws:iam::111122223333:user/bob, …:root, or arn:aws:sts::…:assumed-role/Role/session
	RoleARN string // of an assumed-role session: the role, with its path; else empty
	Account string // twelve digits
	UserID  string // AIDA…, or AROA…:session
	Service string // of an AWS service: its name, e.g. "rds.amazonaws.com"; else empty
	Root    bool   // the account's root user

	Federated string // of a web identity: the ARN of the OIDC provider that vouches for it; else empty
}

// Effect is what a document says to a request.
type Effect uint8

const (
	NoMatch Effect = iota // nothing in the document speaks of this request
	Allow
	Deny
)

// String gives AWS's word.
func (e Effect) String() string {
	switch e {
	case Allow:
		return "Allow"
	case Deny:
		return "Deny"
	}
	return "NoMatch"
}

// Via is how a resource policy's allow reached the principal.
type Via uint8

const (
	Named   Via = 1 + iota // by its own name: a user, a session, a service, or as the root user its account
	Direct                 // as a session by its role, or by "*"
	Account                // through its account: the account's own identity policies must agree
)

// A Result is one document's answer. Statement is the index of the statement that decided, -1 for NoMatch; Via is set
// when a resource policy allows.
type Result struct {
	Effect    Effect
	Via       Via
	Statement int
}

// Evaluate asks one document. Any matching Deny wins over any Allow, wherever it stands; among allows of a resource
// policy one that reaches the principal more directly wins. It allocates nothing, unless the document has variables.
func (p *Policy) Evaluate(r *Request) Result {
	best := Result{Statement: -1}
	var e *evaluation
	if p.asks {
		e = begin(r.Context)
		defer e.end()
	}
	for i := range p.statements {
		s := &p.statements[i]
		if s.effect == Allow && best.Effect == Allow && best.Via <= Named {
			continue // only a Deny could still change the answer
		}
		if !s.actions.applies(r.Action) {
			continue
		}
		if e != nil {
			e.effect = s.effect
		}
		if !s.resources.applies(r.Resource, s.effect, e) {
			continue
		}
		via := Via(0)
		if p.kind != Identity {
			if via = s.principals.via(&r.Principal, s.effect); via == 0 {
				continue
			}
		}
		if !s.holds(e) {
			continue
		}
		if s.effect == Deny {
			return Result{Effect: Deny, Statement: i}
		}
		if best.Effect == NoMatch || via < best.Via {
			best = Result{Effect: Allow, Via: via, Statement: i}
		}
	}
	return best
}

// Kind says what Parse was told.
func (p *Policy) Kind() Kind { return p.kind }

// Len is the number of statements.
func (p *Policy) Len() int { return len(p.statements) }

// Sid is the statement's id, empty where it has none. It panics when i is out of range, as an index does.
func (p *Policy) Sid(i int) string { return p.statements[i].sid }

// Principals lists what the document names in Principal and NotPrincipal, each once, in the form in which it is matched:
// "*", an account id, a user, role or session ARN, or a service's name. A service refuses a document whose principals do
// not exist.
func (p *Policy) Principals() []string {
	var all []string
	seen := map[string]bool{}
	for i := range p.statements {
		for _, name := range p.statements[i].principals.names() {
			if !seen[name] {
				seen[name] = true
				all = append(all, name)
			}
		}
	}
	return all
}

// place names statement i to a person: its Sid where there is one, else its index in the list.
func place(i int, sid string) string {
	if sid != "" {
		return "statement " + strconv.Quote(sid)
	}
	return "statement " + strconv.Itoa(i)
}
