package kms

import (
	"context"
	"slices"
	"strings"

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

// A request is what an operation asks of a key, for those who decide about it:
// who it is for, and what its condition keys are. Members that the operation
// does not have are zero.
type request struct {
	operation   string // "Sign": what states and usages know it by
	action      string // "kms:Sign"; empty: "kms:" and the operation
	keyID       string // as given, in any form
	grantTokens []string

	context map[string]string // the encryption context; nil: the operation takes none, or none was given

	encryptionAlgorithm   string
	signingAlgorithm      string
	macAlgorithm          string
	keyAgreementAlgorithm string
	messageType           string

	alias string // that the key was named by, "alias/x"; empty when by id
}

func (r *request) name() string {
	if r.action != "" {
		return r.action
	}
	return "kms:" + r.operation
}

// check asks the Guard whether the caller may do the request to the key, and
// remembers the answer.
func (s *Service) check(ctx context.Context, call *access.Call, r *request, k *keyFacts) error {
	q := &question{service: s, request: r, key: k}
	return s.guard.Check(ctx, call, r.name(), access.Resource{
		ARN: k.arn, Account: k.account, Type: typeKey, Policy: k.policy, Context: q,
	})
}

// A question is a request about one key. It answers for the condition keys that
// only kms knows.
type question struct {
	service *Service
	request *request
	key     *keyFacts
}

// Values implements policy.Context.
func (q *question) Values(k policy.Key, dst []string) ([]string, bool) {
	key := q.key
	switch k.Name {
	case policy.AWSResourceTag:
		i, ok := slices.BinarySearchFunc(key.tags, k.Suffix, func(t Tag, name string) int { return strings.Compare(t.TagKey, name) })
		if !ok {
			return dst, false
		}
		return append(dst, key.tags[i].TagValue), true
	case policy.KMSResourceAliases:
		return append(dst, key.aliases...), len(key.aliases) > 0
	}
	return dst, false
}
