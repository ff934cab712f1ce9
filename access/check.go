package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/keyturn/keyturn/policy"
)

// Check decides whether the call's caller may do action ("kms:Sign") to r, and remembers the decision and its reasons for
// the record that Finish writes. It returns nil, a *Denied, or an error when the decision could not be recorded; only nil
// permits the act.
//
// When the call changes something, the decision, allowed or denied, is durable in the audit log before Check returns: a
// crash behind it cannot hide what was about to happen. For a read-only call the one record of Finish, which must succeed
// before the answer is released, does. Every call must be finished, denied ones too.
func (g *Guard) Check(ctx context.Context, call *Call, action string, r Resource) error {
	if call.finished {
		return errors.New("checking access: the call is finished")
	}
	if r.ARN == "" {
		r.ARN = "*"
	}
	call.Touched(r.ARN, r.Account, r.Type)
	if call.Caller == nil {
		call.remember(action, r.ARN, policy.Decision{})
		return &Denied{Action: action, Resource: r.ARN, caller: "anonymous"}
	}
	d, err := ask(ctx, call, action, &r)
	if err != nil {
		return err
	}
	call.remember(action, r.ARN, d)
	if !call.ReadOnly {
		if err := g.recordDecision(ctx, call); err != nil {
			return fmt.Errorf("recording decision: %w", err)
		}
	}
	if !d.Allowed {
		return call.denied(action, &r, d)
	}
	return nil
}

func (c *Call) denied(action string, r *Resource, d policy.Decision) *Denied {
	return &Denied{Action: action, Resource: r.ARN, Decision: d, caller: cmp.Or(c.Caller.ARN, c.Caller.UserID)}
}

// Allows answers as Check would for the same call, grants aside, without remembering or recording anything. It is for
// questions that permit nothing by themselves: would this new key policy still let its author change it. Never act on its
// word.
func (g *Guard) Allows(call *Call, action string, r Resource) bool {
	if call.Caller == nil {
		return false
	}
	if r.ARN == "" {
		r.ARN = "*"
	}
	return decide(call, action, &r, "", nil).Allowed
}

// ask decides by the policies, and where they neither allow nor deny, by the resource's grants.
func ask(ctx context.Context, call *Call, action string, r *Resource) (policy.Decision, error) {
	d := decide(call, action, r, "", call.reasonBuffer())
	if d.Allowed || d.ExplicitDeny || r.Grants == nil {
		return d, nil
	}
	grant, err := r.Grants.Grant(ctx, call, action)
	if err != nil {
		return d, fmt.Errorf("looking for grants: %w", err)
	}
	if grant == "" {
		return d, nil
	}
	return decide(call, action, r, grant, call.reasonBuffer()), nil
}

func decide(call *Call, action string, r *Resource, grant string, buf []policy.Reason) policy.Decision {
	caller := call.Caller
	owner := r.Account
	if owner == "" {
		owner = caller.Account
	}
	call.asked.call, call.asked.owner, call.asked.resource = call, owner, r.Context
	q := policy.Question{
		Request:  policy.Request{Principal: caller.Principal(), Action: action, Resource: r.ARN, Context: &call.asked},
		Owner:    owner,
		Resource: policy.Attached{Name: resourcePolicyName(r), Policy: r.Policy},
		Identity: caller.Policies,
		Boundary: caller.Boundary,
		Session:  caller.Session,
		Grant:    grant,
	}
	return policy.Decide(&q, buf)
}

func resourcePolicyName(r *Resource) string {
	switch r.Type {
	case "AWS::KMS::Key":
		return "key policy"
	case roles.typ:
		return "trust policy"
	}
	return "resource policy"
}
