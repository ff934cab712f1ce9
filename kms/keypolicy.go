package kms

import (
	"cmp"
	"context"
	"fmt"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/arn"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/sqldb"
)

// policyName is the only name a key policy can have.
const policyName = "default"

func checkPolicyName(name string) error {
	if name != "" && name != policyName {
		return awsapi.Errorf("NotFoundException", "No such policy exists")
	}
	return nil
}

// newKeyPolicy checks a document that shall become the policy of the key k, and
// returns the form in which it is kept: without white space, and with the unique
// ids of users and roles in the place of their ARNs, so that whoever is made
// under the name of one who was deleted gets nothing. Of no document it makes
// AWS's default.
//
// Unless the request bypasses it, the policy must not lock the caller out: it
// must allow him PutKeyPolicy, asked as he asks now, himself or through his
// account.
func (s *Service) newKeyPolicy(ctx context.Context, call *access.Call, r *request, k *keyFacts, document string) (string, error) {
	if document == "" {
		return defaultPolicy(k.account), nil
	}
	if most := s.quotas.PolicyBytes; len(document) > most {
		return "", awsapi.Errorf("LimitExceededException", "A key policy has at most %d bytes, not %d", most, len(document))
	}
	stored, err := s.pinPrincipals(ctx, document)
	if err != nil {
		return "", err
	}
	p, err := policy.Parse([]byte(stored), policy.Resource)
	if err != nil {
		return "", awsapi.Errorf("MalformedPolicyDocumentException", "%s", err)
	}
	if r.bypass || s.allowsPut(call, r, k, p) {
		return stored, nil
	}
	return "", awsapi.Errorf("MalformedPolicyDocumentException",
		"The new key policy will not allow you to update the key policy in the future.")
}

// pinPrincipals rewrites a document with unique ids, and refuses one that names
// a principal who does not exist.
func (s *Service) pinPrincipals(ctx context.Context, document string) (string, error) {
	p, err := policy.Parse([]byte(document), policy.Resource)
	if err != nil {
		return "", awsapi.Errorf("MalformedPolicyDocumentException", "%s", err)
	}
	ids := map[string]string{}
	for _, name := range p.Principals() {
		id, found, err := s.guard.PrincipalID(ctx, name)
		if err != nil {
			return "", err
		}
		if !found {
			return "", awsapi.Errorf("MalformedPolicyDocumentException", "Policy contains a statement with one or more invalid principals.")
		}
		ids[name] = id
	}
	d, err := policy.ReadDocument([]byte(document))
	if err != nil {
		return "", awsapi.Errorf("MalformedPolicyDocumentException", "%s", err)
	}
	d.RenamePrincipals(func(name string) string { return cmp.Or(ids[name], name) })
	return d.Compact(), nil
}

// allowsPut reports whether under the policy p the caller could put another one.
// Allowed through the account counts, whatever the account's identity policies
// say today: its administrators can still give the permission.
func (s *Service) allowsPut(call *access.Call, r *request, k *keyFacts, p *policy.Policy) bool {
	asked := *r
	asked.operation, asked.action = "PutKeyPolicy", ""
	resource := s.resource(&asked, k)
	resource.Policy, resource.Grants = p, nil
	byRoot := *call
	byRoot.Caller = &access.Caller{Account: k.account, ARN: access.RootARN(k.account), UserID: k.account, Type: access.Root}
	return s.guard.Allows(call, "kms:PutKeyPolicy", resource) || s.guard.Allows(&byRoot, "kms:PutKeyPolicy", resource)
}

// printKeyPolicy is the key's policy as AWS prints it. A user or role that was
// deleted shows as its unique id.
func (s *Service) printKeyPolicy(ctx context.Context, k *keyRow) (string, error) {
	d, err := policy.ReadDocument([]byte(k.document))
	if err != nil {
		return "", fmt.Errorf("printing the policy of %s: %w", k.arn, err)
	}
	p, err := s.policies.parse(k.document)
	if err != nil {
		return "", fmt.Errorf("printing the policy of %s: %w", k.arn, err)
	}
	names := map[string]string{}
	for _, name := range p.Principals() {
		switch {
		case arn.IsAccount(name):
			names[name] = access.RootARN(name)
		case policy.IsUniqueID(name):
			if names[name], _, err = s.guard.PrincipalARN(ctx, name); err != nil {
				return "", err
			}
		}
	}
	d.RenamePrincipals(func(name string) string { return cmp.Or(names[name], name) })
	return d.String(), nil
}

// GetKeyPolicy returns the document as AWS prints it.
func (s *Service) GetKeyPolicy(ctx context.Context, call *access.Call, in *GetKeyPolicyRequest) (*GetKeyPolicyResponse, error) {
	n, err := parseKeyName(call, in.KeyId)
	if err != nil {
		return nil, err
	}
	k, err := s.findKey(ctx, call, &request{operation: "GetKeyPolicy", keyID: in.KeyId}, n)
	if err != nil {
		return nil, err
	}
	if err := checkPolicyName(in.PolicyName); err != nil {
		return nil, err
	}
	document, err := s.printKeyPolicy(ctx, k)
	if err != nil {
		return nil, err
	}
	return &GetKeyPolicyResponse{Policy: document, PolicyName: policyName}, nil
}

// PutKeyPolicy replaces the document. It holds on this node when the call
// returns, and within a second on every other.
func (s *Service) PutKeyPolicy(ctx context.Context, call *access.Call, in *PutKeyPolicyRequest) (*awsapi.Empty, error) {
	r := &request{operation: "PutKeyPolicy", keyID: in.KeyId, bypass: in.BypassPolicyLockoutSafetyCheck}
	var stored string
	prepare := func(k *keyRow) (err error) {
		if err := checkPolicyName(in.PolicyName); err != nil {
			return err
		}
		stored, err = s.newKeyPolicy(ctx, call, r, &k.keyFacts, in.Policy)
		return err
	}
	_, err := s.changePrepared(ctx, call, r, prepare, func(tx *sqldb.Tx, k *keyRow) error {
		_, err := tx.Exec(`UPDATE kms_keys SET policy = $2 WHERE arn = $1`, k.arn, stored)
		return err
	})
	return nil, err
}

// ListKeyPolicies lists the one name there is.
func (s *Service) ListKeyPolicies(ctx context.Context, call *access.Call, in *ListKeyPoliciesRequest) (*ListKeyPoliciesResponse, error) {
	n, err := parseKeyName(call, in.KeyId)
	if err != nil {
		return nil, err
	}
	last, err := parseMarker("ListKeyPolicies", n.arn(), in.Marker)
	if err != nil {
		return nil, err
	}
	if _, err := s.findKey(ctx, call, &request{operation: "ListKeyPolicies", keyID: in.KeyId}, n); err != nil {
		return nil, err
	}
	out := &ListKeyPoliciesResponse{PolicyNames: []string{}}
	if last < policyName {
		out.PolicyNames = append(out.PolicyNames, policyName)
	}
	return out, nil
}
