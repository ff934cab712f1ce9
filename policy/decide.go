package policy

import "strconv"

// A Reason is one statement that bore on a decision.
type Reason struct {
	Policy string // "key policy", or the name of an identity policy
	Sid    string // empty where the statement has none
	Index  int    // of the statement in its document
	Effect Effect
}

// String is for people: `key policy, statement "Enable IAM policies": Allow`.
func (r Reason) String() string {
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
	IdentityDeny                   // explicit deny in an identity-based policy
	ResourceDeny                   // explicit deny in a resource-based policy
	AllowedByResource              // the resource policy names the principal
	AllowedByIdentity              // identity policies alone decide, or the resource policy trusts the account
	AllowedByBoth                  // across accounts: both agreed
	AllowedAsRoot                  // the account's root user, where the account decides
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

	// Grant names a grant on the resource that lets the principal do the action; empty where there is none.
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
// Reasons are appended to buf, which may be nil; Decide allocates only when buf is too small.
func Decide(q *Question, buf []Reason) Decision {
	d := Decision{CrossAccount: q.Owner != q.Principal.Account, Reasons: buf[:0]}
	var resource Result
	if q.Resource.Policy != nil {
		if resource = q.Resource.Policy.Evaluate(&q.Request); resource.Effect != NoMatch {
			d.add(&q.Resource, resource)
		}
		if resource.Effect == Deny {
			d.ExplicitDeny, d.Cause = true, ResourceDeny
			return d
		}
	}
	identity := q.Principal.Root
	for i := range q.Identity {
		a := &q.Identity[i]
		result := a.Policy.Evaluate(&q.Request)
		if result.Effect == NoMatch {
			continue
		}
		d.add(a, result)
		if result.Effect == Deny {
			d.ExplicitDeny, d.Cause = true, IdentityDeny
			return d
		}
		identity = true
	}
	d.Allowed, d.Cause = combine(q, resource, identity, d.CrossAccount)
	return d
}

// combine is the rule once no policy denies explicitly; identity says whether the caller's account allows.
func combine(q *Question, resource Result, identity, crossAccount bool) (bool, Cause) {
	needsIdentity := crossAccount || q.Resource.Policy == nil || resource.Via == Account
	switch {
	case crossAccount && resource.Effect != Allow, q.Resource.Policy != nil && resource.Effect != Allow:
		return false, NoResourceAllow
	case !needsIdentity:
		return true, AllowedByResource
	case !identity:
		return false, NoIdentityAllow
	case q.Principal.Root:
		return true, AllowedAsRoot
	case crossAccount:
		return true, AllowedByBoth
	}
	return true, AllowedByIdentity
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
	}
	return "unknown"
}
