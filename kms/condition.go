package kms

import (
	"slices"
	"strconv"
	"strings"

	"github.com/keyturn/keyturn/policy"
)

// Values implements policy.Context, as "AWS KMS condition keys" in the KMS
// developer guide says for each key. Every key here has a value for some
// operation; what a request or a key does not have, it has no value for.
//
// Where AWS takes a member's default for its value (KeySpec, MessageType), so
// does this; BypassPolicyLockoutSafetyCheck and ExpirationModel have one only
// when the request has the member, as AWS's examples with Null show.
func (q *question) Values(k policy.Key, dst []string) ([]string, bool) {
	r, key := q.request, q.key
	switch k.Name {
	case policy.AWSResourceTag:
		return tagValues(key.tags, k.Suffix, dst)
	case policy.AWSRequestTag:
		return tagValues(r.tags, k.Suffix, dst)
	case policy.AWSTagKeys:
		for _, t := range r.tags {
			dst = append(dst, t.TagKey)
		}
		return append(dst, r.tagKeys...), len(r.tags)+len(r.tagKeys) > 0

	case policy.KMSKeySpec, policy.KMSCustomerMasterKeySpec:
		return one(dst, string(key.spec))
	case policy.KMSKeyUsage, policy.KMSCustomerMasterKeyUsage:
		return one(dst, key.usage)
	case policy.KMSKeyOrigin:
		return one(dst, key.origin)
	case policy.KMSMultiRegion:
		return append(dst, strconv.FormatBool(key.multiRegion())), true
	case policy.KMSMultiRegionKeyType:
		return one(dst, key.multiRegionType())
	case policy.KMSResourceAliases:
		return append(dst, key.aliases...), len(key.aliases) > 0
	case policy.KMSRequestAlias:
		return one(dst, r.alias)

	case policy.KMSEncryptionContext:
		return r.contextValues(k.Suffix, dst)
	case policy.KMSEncryptionContextKeys:
		for name := range r.context {
			dst = append(dst, name)
		}
		return dst, len(r.context) > 0
	case policy.KMSEncryptionAlgorithm:
		return one(dst, r.encryptionAlgorithm)
	case policy.KMSSigningAlgorithm:
		return one(dst, r.signingAlgorithm)
	case policy.KMSMacAlgorithm:
		return one(dst, r.macAlgorithm)
	case policy.KMSKeyAgreementAlgorithm:
		return one(dst, r.keyAgreementAlgorithm)
	case policy.KMSMessageType:
		if r.messageType == "" && r.signingAlgorithm != "" {
			return append(dst, MessageTypeRaw), true
		}
		return one(dst, r.messageType)
	case policy.KMSDataKeyPairSpec:
		return one(dst, r.dataKeyPairSpec)
	case policy.KMSReEncryptOnSameKey:
		return append(dst, strconv.FormatBool(r.otherKey == key.arn)), r.operation == "ReEncrypt"
	}
	return q.managementValues(k, dst)
}

// managementValues answers for the keys of the operations that manage keys.
func (q *question) managementValues(k policy.Key, dst []string) ([]string, bool) {
	r := q.request
	switch k.Name {
	case policy.KMSBypassPolicyLockoutSafetyCheck:
		return append(dst, "true"), r.bypass
	case policy.KMSScheduleKeyDeletionPendingWindowInDays:
		return number(dst, int64(r.pendingWindowInDays))
	case policy.KMSRotationPeriodInDays:
		return number(dst, int64(r.rotationPeriodInDays))
	case policy.KMSPrimaryRegion:
		return one(dst, r.primaryRegion)
	case policy.KMSReplicaRegion:
		return one(dst, r.replicaRegion)
	case policy.KMSWrappingAlgorithm:
		return one(dst, r.wrappingAlgorithm)
	case policy.KMSWrappingKeySpec:
		return one(dst, r.wrappingKeySpec)
	case policy.KMSExpirationModel:
		return one(dst, r.expirationModel)
	case policy.KMSValidTo:
		return number(dst, r.validTo/1e6) // in seconds
	case policy.KMSGrantIsForAWSResource:
		return one(dst, r.forAWSResource)
	}
	if r.grant == nil {
		return dst, false
	}
	switch k.Name {
	case policy.KMSGrantOperations:
		return append(dst, r.grant.Operations...), len(r.grant.Operations) > 0
	case policy.KMSGranteePrincipal:
		return one(dst, r.grant.GranteePrincipal)
	case policy.KMSGranteeServicePrincipal:
		return one(dst, r.grant.GranteeServicePrincipal)
	case policy.KMSRetiringPrincipal:
		return one(dst, r.grant.RetiringPrincipal)
	case policy.KMSRetiringServicePrincipal:
		return one(dst, r.grant.RetiringServicePrincipal)
	}
	if r.grant.Constraints == nil {
		return dst, false
	}
	switch k.Name {
	case policy.KMSGrantConstraintType:
		return one(dst, r.grant.Constraints.kind())
	case policy.KMSGrantConstraintSourceARN:
		return one(dst, r.grant.Constraints.SourceArn)
	}
	return dst, false
}

// one is the answer for a key that has at most one value.
func one(dst []string, value string) ([]string, bool) {
	if value == "" {
		return dst, false
	}
	return append(dst, value), true
}

func number(dst []string, n int64) ([]string, bool) {
	if n == 0 {
		return dst, false
	}
	return append(dst, strconv.FormatInt(n, 10)), true
}

// tagValues are the values of the tags of a name. In condition keys it counts
// without regard to case, so there may be several.
func tagValues(tags []Tag, name string, dst []string) ([]string, bool) {
	have := len(dst)
	for _, t := range tags {
		if strings.EqualFold(t.TagKey, name) {
			dst = append(dst, t.TagValue)
		}
	}
	return dst, len(dst) > have
}

// contextValues does the same for the pairs of the encryption context.
func (r *request) contextValues(name string, dst []string) ([]string, bool) {
	if value, ok := r.context[name]; ok && len(r.context) == 1 {
		return append(dst, value), true
	}
	have := len(dst)
	for key, value := range r.context {
		if strings.EqualFold(key, name) {
			dst = append(dst, value)
		}
	}
	slices.Sort(dst[have:])
	return dst, len(dst) > have
}

// kind is the value of kms:GrantConstraintType.
func (c *GrantConstraints) kind() string {
	switch {
	case len(c.EncryptionContextEquals) > 0:
		return "EncryptionContextEquals"
	case len(c.EncryptionContextSubset) > 0:
		return "EncryptionContextSubset"
	case c.SourceArn != "":
		return "SourceArn"
	}
	return ""
}
