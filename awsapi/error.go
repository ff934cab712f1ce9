package awsapi

import (
	"fmt"
	"net/http"
)

// An Error is an answer that a client of the AWS JSON 1.1 protocol
// understands: a code that SDKs map to an exception type, a message for
// people, and the HTTP status. It is sent to the caller and written to the
// audit log as it is, so neither Code nor Message may hold anything secret.
type Error struct {
	Code    string
	Message string
	Status  int // HTTP status, 400 to 599
}

// Error returns "Code: Message".
func (e *Error) Error() string {
	if e.Message == "" {
		return e.Code
	}
	return e.Code + ": " + e.Message
}

// statuses of the error codes that are not the caller's fault; every other
// code is answered with 400, as the AWS JSON services do.
var statuses = map[string]int{
	"KMSInternalException":       http.StatusInternalServerError,
	"KeyUnavailableException":    http.StatusInternalServerError,
	"DependencyTimeoutException": http.StatusServiceUnavailable,
	"InternalServiceError":       http.StatusInternalServerError,
	"InternalFailure":            http.StatusInternalServerError,
	"ServiceUnavailable":         http.StatusServiceUnavailable,
}

// Errorf makes an Error. Its status is 400, or 5xx for the codes by which
// AWS says that the fault is the service's.
func Errorf(code, format string, a ...any) *Error {
	status, ok := statuses[code]
	if !ok {
		status = http.StatusBadRequest
	}
	return &Error{Code: code, Message: fmt.Sprintf(format, a...), Status: status}
}
