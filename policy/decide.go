package policy

import "strconv"

// A Reason is one statement that bore on a decision, or the grant that did.
type Reason struct {
	Policy string // "key policy", the name of a policy of the caller's, or "grant"
	Sid    string // empty where the statement has none; of a grant: its id
	Index  int    // of the statement in its document; -1: a grant
	Effect Effect
}

// String is for people: `key policy, statement "Enable IAM policies": Allow`.
func (r Reason) String() string {
	if r.Index < 0 {
		return r.Policy + " " + r.Sid + ": " + r.Effect.String()
	}
	s := r.Policy + ", statement " + strconv.Itoa(r.Index)
	if r.Sid != "" {
		s = r.Policy + ", statement " + strconv.Quote(r.Sid)
	}
	return s + ": " + r.Effect.String()
}

// Cause says what settled a decision; the denials are those that AWS's messages tell apart.
type Cause uint8

const (
	NoIdentityAllow   Cause = iota // no identity-based policy allows it
	NoResourceAllow                // no resource-based policy allows it
	NoBoundaryAllow                // the permissions boundary does not allow it
	NoSessionAllow                 // no session policy allows it
	IdentityDeny                   // explicit deny in an identity-based policy
	ResourceDeny                   // explicit deny in a resource-based policy
	BoundaryDeny                   // explicit deny in the permissions boundary
	SessionDeny                    // explicit deny in a session policy
	AllowedByResource              // the resource policy names the principal
	AllowedByIdentity              // identity policies alone decide, or the resource policy trusts the account
	AllowedByBoth                  // across accounts: both agreed
	AllowedAsRoot                  // the account's root user, where the account decides
	AllowedByGrant                 // a grant on the resource
)

// A Decision is the answer to a request and what led to it. The zero Decision denies.
type Decision struct {
	Allowed      bool
	ExplicitDeny bool
	Cause        Cause
	CrossAccount bool     // the caller's account is not the resource's
	Reasons      []Reason // statements that matched, the deciding one last
}

// Attached is an identity policy under the name it is attached by.
type Attached struct {
	Name   string
	Policy *Policy
}

// A Question is everything that bears on one decision.
type Question struct {
	Request

	Owner    string     // account that owns the resource
	Resource Attached   // the resource's policy; Policy is nil where the operation knows none (CreateKey, ListKeys)
	Identity []Attached // the caller's own policies; none for a root user

	// Boundary bounds what identity policies can allow; Policy is nil where there is none. Session bounds a session: what
	// none of these policies allows, it may not do; empty where none was given.
	Boundary Attached
	Session  []Attached

	// Grant is the id of a grant on the resource that lets the principal do the action; empty where there is none.
	Grant string
}

// Decide puts the policies of one request together as AWS KMS does.
//
// An explicit deny in any policy wins. Then, where there is a resource policy, it is the root of trust: nobody, not even
// the account's root user, may do what it does not allow. It may allow the principal directly; or it may allow the
// principal's account, and then the identity policies (or being that account's root user) must allow too. Across accounts
// both must allow, in either form. Where there is no resource policy, identity policies decide alone, inside the
// caller's own account only.
//
// A permissions boundary and session policies allow nothing; what they do not allow is denied, whoever else allows it.
// The one exception is a resource policy of the caller's own account that names the user, or the session, by its own ARN:
// that goes past them. One that reaches the caller by its role or by "*" does not.
//
// A grant allows like a resource policy, without the key policy, and also across accounts by itself: it is the word of the
// key's owner, as narrow as can be. AWS does not say how boundaries and session policies bear on it; here they bound it.
//
// Across accounts the caller's own policies are heard first, so that from the words of a refusal nobody learns what
// another account's resource policy says, or whether there is one.
//
// Reasons are appended to buf, which may be nil; Decide allocates only when buf is too small.
func Decide(q *Question, buf []Reason) Decision {
	d := Decision{CrossAccount: q.Owner != q.Principal.Account, Reasons: buf[:0]}
	resource := q.Resource.evaluate(&q.Request)
	if resource.Effect == Allow || resource.Effect == Deny && !d.CrossAccount {
		d.add(&q.Resource, resource)
	}
	if resource.Effect == Deny && !d.CrossAccount {
		return d.deny(ResourceDeny)
	}
	s := side{identity: q.Principal.Root, boundary: q.Boundary.Policy == nil, session: len(q.Session) == 0}
	for i := range q.Identity {
		if !d.hear(&q.Identity[i], q, &s.identity) {
			return d.deny(IdentityDeny)
		}
	}
	if !d.hear(&q.Boundary, q, &s.boundary) {
		return d.deny(BoundaryDeny)
	}
	for i := range q.Session {
		if !d.hear(&q.Session[i], q, &s.session) {
			return d.deny(SessionDeny)
		}
	}
	if resource.Effect == Deny {
		d.add(&q.Resource, resource)
		return d.deny(ResourceDeny)
	}
	d.Allowed, d.Cause = combine(q, resource, &s, d.CrossAccount)
	if !d.Allowed && q.Grant != "" {
		if d.Cause = s.limit(AllowedByGrant); d.Cause == AllowedByGrant {
			d.Allowed = true
			d.Reasons = append(d.Reasons, Reason{Policy: "grant", Sid: q.Grant, Index: -1, Effect: Allow})
		}
	}
	return d
}

// side is what the caller's own policies say: whether each kind of them allows, or there is none of a kind that bounds.
type side struct{ identity, boundary, session bool }

// limit is the denial where boundary or session policies do not allow, else cause.
func (s *side) limit(cause Cause) Cause {
	switch {
	case !s.boundary:
		return NoBoundaryAllow
	case !s.session:
		return NoSessionAllow
	}
	return cause
}

// combine is the rule once no policy denies explicitly.
func combine(q *Question, resource Result, s *side, crossAccount bool) (bool, Cause) {
	cause := AllowedByIdentity
	switch {
	case crossAccount && resource.Effect != Allow, q.Resource.Policy != nil && resource.Effect != Allow:
		return false, NoResourceAllow
	case !crossAccount && resource.Via == Named:
		return true, AllowedByResource
	case !crossAccount && resource.Via == Direct:
		cause = AllowedByResource
	case !s.identity:
		return false, NoIdentityAllow
	case q.Principal.Root:
		cause = AllowedAsRoot
	case crossAccount:
		cause = AllowedByBoth
	}
	limited := s.limit(cause)
	return limited == cause, limited
}

// hear asks one of the caller's own policies; false: it denies.
func (d *Decision) hear(a *Attached, q *Question, allows *bool) bool {
	result := a.evaluate(&q.Request)
	if result.Effect != NoMatch {
		d.add(a, result)
	}
	*allows = *allows || result.Effect == Allow
	return result.Effect != Deny
}

func (d *Decision) deny(cause Cause) Decision {
	d.ExplicitDeny, d.Cause = true, cause
	return *d
}

// evaluate asks the policy; where there is none it says nothing.
func (a *Attached) evaluate(r *Request) Result {
	if a.Policy == nil {
		return Result{Statement: -1}
	}
	return a.Policy.Evaluate(r)
}

func (d *Decision) add(a *Attached, r Result) {
	d.Reasons = append(d.Reasons, Reason{Policy: a.Name, Sid: a.Policy.Sid(r.Statement), Index: r.Statement, Effect: r.Effect})
}

// String is the cause in the words of the audit log.
func (c Cause) String() string {
	switch c {
	case NoIdentityAllow:
		return "no identity-based policy allows"
	case NoResourceAllow:
		return "no resource-based policy allows"
	case NoBoundaryAllow:
		return "no permissions boundary allows"
	case NoSessionAllow:
		return "no session policy allows"
	case BoundaryDeny:
		return "explicit deny in a permissions boundary"
	case SessionDeny:
		return "explicit deny in a session policy"
	case IdentityDeny:
		return "explicit deny in an identity-based policy"
	case ResourceDeny:
		return "explicit deny in a resource-based policy"
	case AllowedByResource:
		return "allowed by the resource-based policy"
	case AllowedByIdentity:
		return "allowed by identity-based policies"
	case AllowedByBoth:
		return "allowed by identity-based and resource-based policies"
	case AllowedAsRoot:
		return "allowed as the account's root user"
	case AllowedByGrant:
		return "allowed by a grant"
	}
	return "unknown"
}
