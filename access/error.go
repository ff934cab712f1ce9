package access

import (
	"errors"
	"fmt"

	"github.com/keyturn/keyturn/policy"
)

// Why Credential gave none. The wire answers all but the last with one message, so that nobody learns which access keys
// exist: UnrecognizedClientException, "The security token included in the request is invalid."
var (
	ErrUnknownAccessKey = errors.New("unknown access key")
	ErrInactive         = errors.New("access key is inactive")
	ErrInvalidToken     = errors.New("session token is missing or wrong")
	ErrExpiredToken     = errors.New("session has expired") // ExpiredTokenException
)

// Denied is the refusal of Check, worded as AWS words AccessDeniedException: it names the caller, the action, the resource
// and the kind of policy that is to blame, and nothing that the caller may not know.
//
//nolint:errname // it is the denial that one branches on; AccessDeniedError would be AWS's word twice
type Denied struct {
	Action   string
	Resource string // ARN or "*"
	Decision policy.Decision
	caller   string
}

// Error is the message for the client.
func (d *Denied) Error() string {
	return "User: " + d.caller + " is not authorized to perform: " + d.Action + " on resource: " + d.Resource + d.because()
}

func (d *Denied) because() string {
	switch cause := d.Decision.Cause; {
	case d.Decision.CrossAccount && (cause == policy.ResourceDeny || cause == policy.NoResourceAllow):
		// One text for all of these: another account's resources are not for the caller to find.
		return " because the resource does not exist in this Region, no resource-based policies allow access, or a resource-based policy explicitly denies access"
	case cause == policy.ResourceDeny:
		return " with an explicit deny in a resource-based policy"
	case cause == policy.IdentityDeny:
		return " with an explicit deny in an identity-based policy"
	case cause == policy.BoundaryDeny:
		return " with an explicit deny in a permissions boundary"
	case cause == policy.SessionDeny:
		return " with an explicit deny in a session policy"
	case cause == policy.NoBoundaryAllow:
		return " because no permissions boundary allows the " + d.Action + " action"
	case cause == policy.NoSessionAllow:
		return " because no session policy allows the " + d.Action + " action"
	case cause == policy.NoResourceAllow:
		return " because no resource-based policy allows the " + d.Action + " action"
	}
	return " because no identity-based policy allows the " + d.Action + " action"
}

// An Error is a refusal of the administration methods, with the code that AWS IAM gives it. The wire answers it as it is.
type Error struct{ Code, Message string }

func (e *Error) Error() string { return e.Message }

func errorf(code, format string, a ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, a...)}
}
