package kms

import (
	"context"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/keystore"
	"github.com/keyturn/keyturn/policy"
)

// keyFacts is what a key is, as decisions see it. It is immutable.
type keyFacts struct {
	arn, account, region, id string
	spec                     keystore.Spec
	usage, origin            string
	manager                  string // AWS's KeyManager
	primaryRegion            string // of a Multi-Region key; empty for others
	policy                   *policy.Policy

	tags    []Tag    // by tag key
	aliases []string // their names, sorted
}

// multiRegion reports whether the key is one of a Multi-Region key.
func (k *keyFacts) multiRegion() bool { return k.primaryRegion != "" }

// multiRegionType is PRIMARY or REPLICA, or empty for a key of one Region.
func (k *keyFacts) multiRegionType() string {
	switch k.primaryRegion {
	case "":
		return ""
	case k.region:
		return MultiRegionKeyTypePrimary
	}
	return MultiRegionKeyTypeReplica
}

// A request is what an operation asks of a key, for those who decide about it:
// who it is for, and what its condition keys are. Members that the operation
// does not have are zero.
type request struct {
	operation   string // "Sign": what states and usages know it by
	action      string // "kms:Sign"; empty: "kms:" and the operation
	keyID       string // as given, in any form
	grantTokens []string

	context map[string]string // the encryption context; nil: the operation takes none, or none was given

	encryptionAlgorithm   string // also of the data key operations, which have no such member
	signingAlgorithm      string
	macAlgorithm          string
	keyAgreementAlgorithm string
	messageType           string // empty in Sign and Verify: RAW
	dataKeyPairSpec       string // GenerateDataKeyPair*: KeyPairSpec

	wrappingAlgorithm string // GetParametersForImport
	wrappingKeySpec   string
	expirationModel   string // ImportKeyMaterial, as given: empty where the default holds
	validTo           int64  // ImportKeyMaterial, µs

	pendingWindowInDays  int32  // ScheduleKeyDeletion, with the default filled in
	rotationPeriodInDays int32  // EnableKeyRotation, with the default filled in
	primaryRegion        string // UpdatePrimaryRegion
	replicaRegion        string // ReplicateKey

	tags    []Tag    // CreateKey, ReplicateKey, TagResource: those to be given
	tagKeys []string // UntagResource: those to be taken
	bypass  bool     // CreateKey, ReplicateKey, PutKeyPolicy: BypassPolicyLockoutSafetyCheck

	otherKey string // ReEncrypt: ARN of the other side's key; empty where it is not known

	grant          *CreateGrantRequest // CreateGrant; context is then that of its constraint
	forAWSResource string              // CreateGrant, ListGrants, RevokeGrant: "true" when a service asks on the caller's behalf, else "false"

	alias string // that the key was named by, "alias/x"; empty when by id
}

func (r *request) name() string {
	if r.action != "" {
		return r.action
	}
	return "kms:" + r.operation
}

// check asks the Guard whether the caller may do the request to the key, and
// remembers the answer. A key that is yet to be made has neither ARN nor policy.
func (s *Service) check(ctx context.Context, call *access.Call, r *request, k *keyFacts) error {
	if err := s.admitUse(call, r, k); err != nil {
		return err
	}
	if err := s.guard.Check(ctx, call, r.name(), s.resource(r, k)); err != nil {
		return err
	}
	if s.foreignToken(r, k) {
		return errGrantToken()
	}
	return nil
}

// resource is a key as the Guard sees it when it is asked for r.
func (s *Service) resource(r *request, k *keyFacts) access.Resource {
	q := &question{service: s, request: r, key: k}
	resource := access.Resource{ARN: k.arn, Account: k.account, Type: typeKey, Policy: k.policy, Context: q}
	if k.arn != "" {
		resource.Grants = q
	}
	return resource
}

// A question is a request about one key. It answers for the condition keys and
// the grants that only kms knows.
type question struct {
	service *Service
	request *request
	key     *keyFacts
}
