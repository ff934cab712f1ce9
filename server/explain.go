package server

import (
	"cmp"
	"context"
	"strings"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/kms"
	"github.com/keyturn/keyturn/policy"
)

// ExplainAccessInput asks: may As do Action to Key, or to Resource, or without
// either of them where the action has no resource?
type ExplainAccessInput struct {
	As                string            // ARN; also root, user/NAME, role/NAME, or a service's name
	Action            string            // "kms:Sign"
	Key               string            // key id, alias name, or ARN of one of these
	Resource          string            // ARN of something else
	EncryptionContext map[string]string // with Key

	// What else the request would be. Conditions are values of condition keys
	// that only the resource's service knows, like kms:SigningAlgorithm; those
	// about the caller follow from As.
	Conditions map[string][]string
	SourceIP   string
	Via        []string // services through which it comes: "secretsmanager.amazonaws.com"
}

// ExplainAccessOutput is the decision and what led to it.
type ExplainAccessOutput struct {
	Allowed   bool
	Cause     string // in the words of the audit log
	Message   string `json:",omitempty"` // what the principal would be told; empty when allowed
	Principal string
	Action    string
	Resource  string
	// DecidedBy is the statement that settled it; nil where none did, because
	// nothing allows.
	DecidedBy *Statement  `json:",omitempty"`
	Reasons   []Statement // all statements that matched, in the order in which they were asked
}

// Statement is one statement of a policy.
type Statement struct {
	Effect    string
	Policy    string // "key policy", or the name of an identity policy
	Sid       string `json:",omitempty"`
	Statement int    // its place in the document, from 0
}

// Validate checks the input.
func (in *ExplainAccessInput) Validate() error {
	var d awsapi.Decoder
	if in.As == "" {
		d.Missing("as")
	}
	if in.Action == "" {
		d.Missing("action")
	}
	if err := d.Err(); err != nil {
		return err
	}
	if vendor, name, found := strings.Cut(in.Action, ":"); !found || vendor == "" || name == "" || strings.ContainsAny(in.Action, "*?") {
		return awsapi.Errorf("ValidationException", "An action has a vendor and a name and no wildcards, like kms:Sign.")
	}
	if in.Key != "" && in.Resource != "" {
		return awsapi.Errorf("ValidationException", "Key and Resource exclude each other.")
	}
	return nil
}

// explainer answers ExplainAccess. It is given what it asks.
type explainer struct {
	guard *access.Guard
	kms   *kms.Service
}

// ExplainAccess says what the Guard would decide, by the Guard's own code, and
// does nothing. Principal and resource must be of the caller's account; the
// permission is keyturn:ExplainAccess on the principal.
func (e explainer) ExplainAccess(ctx context.Context, call *access.Call, in *ExplainAccessInput) (*ExplainAccessOutput, error) {
	name := access.FullARN(call.Account, in.As)
	asked := access.Resource{Account: call.Account}
	if strings.HasPrefix(name, "arn:") {
		asked.ARN = name
	}
	if err := e.guard.Check(ctx, call, "keyturn:ExplainAccess", asked); err != nil {
		return nil, err
	}
	who, err := e.guard.CallerOf(ctx, call.Account, name)
	if err != nil {
		return nil, err
	}
	question := &access.Call{
		ID: call.ID, Service: call.Service, Operation: in.Action, Region: call.Region, Account: call.Account, Caller: who, Time: call.Time,
		SourceIP: in.SourceIP, UserAgent: call.UserAgent, TLS: call.TLS, Via: in.Via, ReadOnly: true,
	}
	r, err := e.resource(ctx, question, in)
	if err != nil {
		return nil, err
	}
	call.Touched(r.ARN, r.Account, r.Type)
	if len(in.Conditions) > 0 {
		r.Context = given{in.Conditions, r.Context}
	}
	d, message, err := e.guard.Explain(ctx, question, in.Action, r)
	if err != nil {
		return nil, err
	}
	out := &ExplainAccessOutput{
		Allowed: d.Allowed, Cause: d.Cause.String(), Message: message, Principal: who.ARN, Action: in.Action,
		Resource: cmp.Or(r.ARN, "*"), Reasons: []Statement{},
	}
	for _, reason := range d.Reasons {
		out.Reasons = append(out.Reasons, Statement{
			Effect: reason.Effect.String(), Policy: reason.Policy, Sid: reason.Sid, Statement: reason.Index,
		})
	}
	if n := deciding(&d); n >= 0 {
		out.DecidedBy = &out.Reasons[n]
	}
	return out, nil
}

// resource is what the action is done to.
func (e explainer) resource(ctx context.Context, question *access.Call, in *ExplainAccessInput) (access.Resource, error) {
	switch {
	case in.Key != "":
		return e.kms.AsResource(ctx, question, in.Key, in.Action, in.EncryptionContext)
	case strings.HasPrefix(in.Action, "sts:"):
		role, err := e.guard.FindRole(ctx, in.Resource)
		if err != nil {
			return access.Resource{}, err
		}
		if role.Account == question.Account {
			return role.Resource(nil), nil
		}
	case in.Resource == "" || !strings.HasPrefix(in.Resource, "arn:"):
		return access.Resource{Account: question.Account}, nil
	case accountOf(in.Resource) == question.Account:
		return access.Resource{ARN: in.Resource, Account: question.Account}, nil
	}
	return access.Resource{}, awsapi.Errorf("ValidationException", "Only resources of account %s can be explained.", question.Account)
}

// accountOf is the account in an ARN.
func accountOf(name string) string {
	parts := strings.SplitN(name, ":", 6)
	if len(parts) < 6 {
		return ""
	}
	return parts[4]
}

// deciding finds the reason that settled a decision; -1: nothing allows, which
// no statement says.
func deciding(d *policy.Decision) int {
	switch {
	case d.ExplicitDeny, d.Cause == policy.AllowedByGrant:
		return len(d.Reasons) - 1
	case !d.Allowed:
		return -1
	}
	for n, reason := range d.Reasons {
		own := !strings.Contains(reason.Policy, " ") || strings.HasPrefix(reason.Policy, "group ")
		if byIdentity := d.Cause == policy.AllowedByIdentity || d.Cause == policy.AllowedByBoth; own == byIdentity {
			return n
		}
	}
	return -1
}

// given answers with the values that the question names, and asks the resource
// for the others.
type given struct {
	values map[string][]string
	next   policy.Context
}

// Values implements policy.Context.
func (g given) Values(k policy.Key, dst []string) ([]string, bool) {
	for name, values := range g.values {
		if strings.EqualFold(name, k.String()) {
			return append(dst, values...), true
		}
	}
	if g.next == nil {
		return dst, false
	}
	return g.next.Values(k, dst)
}
