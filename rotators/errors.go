package rotators

import (
	"errors"
	"fmt"

	"github.com/aws/smithy-go"
	"github.com/keyturn/keyturn/rotation"
)

// notSentError is a failure from before the request left this process.
type notSentError struct{ err error }

func (e *notSentError) Error() string { return "waiting for a turn to call: " + e.err.Error() }
func (e *notSentError) Unwrap() error { return e.err }

// code is the AWS error code in err, or "" when the target gave no answer that could be read: a
// connection that broke, a time-out, a cancelled context. Then the call may have been applied.
func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

func isNotFound(err error) bool { return code(err) == "NotFoundException" }

// isUnknownOperation tells that the target does not have the operation, so that nothing can exist that it would show.
func isUnknownOperation(err error) bool {
	c := code(err)
	return c == "UnknownOperationException" || c == "UnsupportedOperationException"
}

// permanentCodes are answers that stay the same until a person changes something, and what that would be.
// Every other failure (throttling, 5xx, time-outs, broken connections, states that pass) is tried again with back-off.
var permanentCodes = map[string]string{
	"AccessDenied":                        "allow the rotator this call in the key policy, or in the identity policy of its role, then resume",
	"AccessDeniedException":               "allow the rotator this call in the key policy, or in the identity policy of its role, then resume",
	"ValidationException":                 "the target refuses the request itself: compare the rotation policy with what the target accepts",
	"MalformedPolicyDocumentException":    "mend the key policy of the present key (a principal that no longer exists is the usual reason), then resume",
	"TagException":                        "mend the tags of the present key (50 at the most, Keyturn's three included), then resume",
	"InvalidAliasNameException":           "the alias cannot carry /next, /previous or /vN: choose a shorter one",
	"InvalidArnException":                 "the target does not accept this ARN: does the policy name the right account and Region?",
	"UnsupportedOperationException":       "this kind of key cannot be turned at this target",
	"UnknownOperationException":           "the target does not have this operation",
	"LimitExceededException":              "a quota of the account is used up: raise it or remove what is not needed, then resume",
	"InvalidKeyUsageException":            "the key does not have this usage",
	"KMSInvalidSignatureException":        "the key's own signature does not verify: cancel the rotation and look at the key store",
	"KMSInvalidMacException":              "the key's own MAC does not verify: cancel the rotation and look at the key store",
	"InvalidCiphertextException":          "the key cannot read its own ciphertext: cancel the rotation and look at the key store",
	"IncorrectKeyException":               "the key cannot read its own ciphertext: cancel the rotation and look at the key store",
	"OptInRequired":                       "the account may not use KMS in this Region",
	"UnrecognizedClientException":         "the target does not know the rotator's access key",
	"InvalidClientTokenId":                "the target does not know the rotator's access key",
	"CustomKeyStoreNotFoundException":     "the custom key store does not exist",
	"CloudHsmClusterNotActiveException":   "bring the custom key store back, then resume",
	"InvalidSignatureException":           "the rotator's secret access key is wrong, or its clock is",
	"SignatureDoesNotMatch":               "the rotator's secret access key is wrong, or its clock is",
	"IncompleteSignature":                 "the target does not accept the rotator's signature",
	"MissingAuthenticationTokenException": "the target wants credentials and the rotator has none",
}

// classify turns an error of a step into what the engine does about it.
func classify(err error) error {
	if err == nil {
		return nil
	}
	var decided *rotation.StepError
	if errors.As(err, &decided) {
		return err
	}
	if errors.Is(err, errUnfit) {
		return rotation.Permanent(err, "cancel the rotation: the new key is removed, and the present one stays current")
	}
	if hint, ok := permanentCodes[code(err)]; ok {
		return rotation.Permanent(err, hint)
	}
	return err
}

func permanent(hint, format string, args ...any) error {
	return rotation.Permanent(fmt.Errorf(format, args...), hint)
}
