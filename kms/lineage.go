package kms

import (
	"context"
	"errors"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
)

// firstThatMatches performs a verification or a decryption with the key that
// r names. If that is the alias of a lineage and that key does not match,
// the other generations that may still verify and decrypt are asked too,
// newest first. Each is its own key: it must be allowed to the caller, enabled
// and of a spec that has the algorithm, or it is passed over.
//
// try returns nil when the key matched. When none does, the answer is the
// first key's: a caller who knows nothing of lineages sees what AWS would have
// answered. The exception is a first key that could not be asked at all
// (disabled, or of another spec after a migration): if another generation
// could, then its "does not match" is the truth.
func (s *Service) firstThatMatches(ctx context.Context, call *access.Call, r *request, try func(*keySnapshot) error) (*keySnapshot, error) {
	t, err := s.findAllowed(ctx, call, r)
	if err != nil {
		return nil, err
	}
	first := try(t.key)
	if first == nil || isDryRun(first) {
		return t.key, first
	}
	for _, n := range t.lineage {
		if !goesOn(first) {
			break
		}
		k, err := s.keySnapshot(ctx, call, n)
		if errors.Is(err, errGone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if k.state != stateEnabled {
			continue
		}
		if err := s.check(ctx, call, r, &k.keyFacts); err != nil {
			if denied := (*access.Denied)(nil); errors.As(err, &denied) {
				continue
			}
			return nil, err
		}
		err = try(k)
		if err == nil || isDryRun(err) {
			return k, err
		}
		if !doesNotMatch(first) && doesNotMatch(err) {
			first = err
		}
	}
	return nil, first
}

// doesNotMatch reports whether err says that a key was asked and did not match.
func doesNotMatch(err error) bool {
	switch code(err) {
	case "KMSInvalidSignatureException", "KMSInvalidMacException", "InvalidCiphertextException", "IncorrectKeyException":
		return true
	}
	return false
}

// goesOn reports whether after err another generation may be asked.
func goesOn(err error) bool {
	switch code(err) {
	case "DisabledException", "KMSInvalidStateException", "InvalidKeyUsageException":
		return true
	}
	return doesNotMatch(err)
}

func isDryRun(err error) bool { return code(err) == "DryRunOperationException" }

func code(err error) string {
	if e := (*awsapi.Error)(nil); errors.As(err, &e) {
		return e.Code
	}
	return ""
}
