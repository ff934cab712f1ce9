package kms

import (
	"context"

	"github.com/keyturn/keyturn/access"
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

// checkKeyPolicy refuses a document that does not parse, and, unless bypass,
// one that would lock the caller out: it must allow him PutKeyPolicy, himself
// or through his account.
func (s *Service) checkKeyPolicy(call *access.Call, keyARN, document string, bypass bool) error {
	if len(document) > policy.MaxResourceBytes {
		return awsapi.Errorf("LimitExceededException", "A key policy has at most %d bytes, not %d", policy.MaxResourceBytes, len(document))
	}
	p, err := policy.Parse([]byte(document), policy.Resource)
	if err != nil {
		return awsapi.Errorf("MalformedPolicyDocumentException", "%s", err)
	}
	if bypass || call.Caller == nil {
		return nil
	}
	// Allowed through the account counts, whatever the account's identity
	// policies say today: its administrators can still give the permission.
	r := access.Resource{ARN: keyARN, Account: call.Account, Type: typeKey, Policy: p}
	account := policy.Request{
		Principal: policy.Principal{ARN: access.RootARN(call.Account), Account: call.Account, UserID: call.Account, Root: true},
		Action:    "kms:PutKeyPolicy", Resource: keyARN,
	}
	if !s.guard.Allows(call, "kms:PutKeyPolicy", r) && p.Evaluate(&account).Effect != policy.Allow {
		return awsapi.Errorf("MalformedPolicyDocumentException",
			"The new key policy will not allow you to update the key policy in the future.")
	}
	return nil
}

// GetKeyPolicy returns the document as it was put.
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
	return &GetKeyPolicyResponse{Policy: k.document, PolicyName: policyName}, nil
}

// PutKeyPolicy replaces the document. It holds on this node when the call
// returns, and within a second on every other.
func (s *Service) PutKeyPolicy(ctx context.Context, call *access.Call, in *PutKeyPolicyRequest) (*awsapi.Empty, error) {
	_, err := s.change(ctx, call, &request{operation: "PutKeyPolicy", keyID: in.KeyId}, func(tx *sqldb.Tx, k *keyRow) error {
		if err := checkPolicyName(in.PolicyName); err != nil {
			return err
		}
		if err := s.checkKeyPolicy(call, k.arn, in.Policy, in.BypassPolicyLockoutSafetyCheck); err != nil {
			return err
		}
		_, err := tx.Exec(`UPDATE kms_keys SET policy = $2 WHERE arn = $1`, k.arn, in.Policy)
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
	if _, err := s.findKey(ctx, call, &request{operation: "ListKeyPolicies", keyID: in.KeyId}, n); err != nil {
		return nil, err
	}
	last, err := parseMarker("ListKeyPolicies", n.arn(), in.Marker)
	if err != nil {
		return nil, err
	}
	out := &ListKeyPoliciesResponse{PolicyNames: []string{}}
	if last < policyName {
		out.PolicyNames = append(out.PolicyNames, policyName)
	}
	return out, nil
}
