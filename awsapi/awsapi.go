// Package awsapi speaks the AWS JSON 1.1 protocol over HTTP, and for services
// that are older than that the AWS Query protocol: it takes a signed request
// apart, finds out who sent it, decodes and validates the input, calls the
// operation, and answers as AWS does. It knows no service: kms, sts and the
// native Keyturn API are tables of operations.
//
// It promises that an operation, unless it says that it needs none (Unsigned),
// runs only for a request whose SigV4 signature covers the host, every x-amz-*
// header and the body, that is at most five minutes old and whose credential
// is known; that its input satisfies every
// constraint of the API model; and that no answer leaves before its outcome
// is in the audit log. It trusts the access.Guard for credentials, decisions
// and the log, and the clock for the age of signatures. A replay inside the
// five minutes is accepted, as by AWS: TLS is what prevents it.
//
// It fails closed: a panic, an unknown error and a log that cannot be written
// are all answered with the service's internal error, which names the request
// and nothing else. Bodies are kept in reused buffers that are wiped after
// each request, and never reach a log or an error; decoded inputs are left to
// the garbage collector.
package awsapi

import (
	"context"
	"errors"
	"reflect"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/keyturn/keyturn/access"
)

// A Service is a table of operations behind one X-Amz-Target prefix.
type Service struct {
	Name         string // "kms"
	SigningName  string // the service in the scope of signatures: "kms"
	TargetPrefix string // "TrentService"
	EventSource  string // in the audit log: "kms.amazonaws.com"
	InternalCode string // the error code of what is nobody's fault but ours
	Operations   []Operation
	Known        []string // every operation of the API model, existing here or not
	Notes        []Note   // for the compatibility page
	// AlsoSignedAs are further signing names that are accepted: the native API
	// may be called with a client that can sign for KMS only.
	AlsoSignedAs []string

	// Global says that the service is the same in all Regions, and takes
	// signatures for those that are not served as well.
	Global bool

	// QueryVersion makes the service speak the Query protocol instead, with
	// the XML namespace of its answers. It has no TargetPrefix then.
	QueryVersion, QueryNamespace string
}

// A Note says how an operation behaves where the service that it is after is
// silent, or where it differs.
type Note struct{ Operation, Text string }

// An Operation is a method of a service and its name on the wire. Op makes it.
type Operation struct {
	Name     string
	readOnly bool
	unsigned bool
	serve    func(ctx context.Context, call *access.Call, x *exchange) error
}

// ReadOnly returns the operation marked as one that changes nothing: it reads,
// or it uses a key. The audit log then writes decision and outcome together.
func (o Operation) ReadOnly() Operation {
	o.readOnly = true
	return o
}

// Unsigned returns the operation marked as one for callers without
// credentials, who prove who they are in the request itself: the call has no
// Caller until the operation sets one. Only the Query protocol has such.
func (o Operation) Unsigned() Operation {
	o.unsigned = true
	return o
}

// Before returns the operation with something that is asked first, when it is
// known who calls: an error is the answer.
func (o Operation) Before(ask func(ctx context.Context, call *access.Call) error) Operation {
	serve := o.serve
	o.serve = func(ctx context.Context, call *access.Call, x *exchange) error {
		if err := ask(ctx, call); err != nil {
			return err
		}
		return serve(ctx, call, x)
	}
	return o
}

// Empty is the output of operations that answer with an empty body.
type Empty struct{}

// Op makes an operation of a method. fn is called with a decoded, validated
// input that it may keep; the output is encoded before the call's outcome is
// recorded. A nil output is answered with an empty body. Errors: *Error is the
// answer, *access.Denied becomes AccessDeniedException, anything else the
// service's internal error.
//
// Inputs with a DecodeJSON method, the generated ones, decode and validate
// themselves. Others are decoded as go-json-experiment does, unknown members
// refused, and validated with their Validate() error method if they have one.
// In the Query protocol they are decoded from the form.
func Op[In, Out any](name string, fn func(ctx context.Context, call *access.Call, in *In) (*Out, error)) Operation {
	return Operation{Name: name, serve: func(ctx context.Context, call *access.Call, x *exchange) error {
		in := new(In)
		if err := x.read(call, in); err != nil {
			return err
		}
		out, err := fn(ctx, call, in)
		if err != nil {
			return err
		}
		if out == nil {
			return nil
		}
		return x.write(call, out)
	}}
}

// read decodes the body into in, a pointer, and leaves the audit log's view of
// it in the call.
func (x *exchange) read(call *access.Call, in any) error {
	if x.form != nil {
		return x.readForm(call, in)
	}
	generated, ok := in.(interface{ DecodeJSON(*Decoder) })
	if !ok {
		return x.readPlain(call, in)
	}
	if err := x.decoder.decode(x.body, generated); err != nil {
		// What was read before the mistake is recorded all the same, but only
		// when it is whole.
		if err.Code == "ValidationException" {
			x.keepParams(call, in)
		}
		return err
	}
	x.keepParams(call, in)
	return nil
}

// keepParams leaves the audit log's view of the input in the call. It lives in
// the exchange's buffer, which outlives the call's record.
func (x *exchange) keepParams(call *access.Call, in any) {
	if a, ok := in.(interface{ AppendAudit([]byte) []byte }); ok {
		x.audit = a.AppendAudit(x.audit[:0])
		call.Params = x.audit
	}
}

// keepResponse does the same for the output of an operation that changes
// something; CloudTrail keeps no other.
func (x *exchange) keepResponse(call *access.Call, out any) {
	if a, ok := out.(interface{ AppendAudit([]byte) []byte }); ok && !call.ReadOnly {
		start := len(x.audit)
		x.audit = a.AppendAudit(x.audit)
		call.Response = x.audit[start:]
	}
}

// readPlain decodes an input that is not generated.
func (x *exchange) readPlain(call *access.Call, in any) error {
	if len(x.body) > 0 {
		if err := json.Unmarshal(x.body, in, json.RejectUnknownMembers(true)); err != nil {
			return serializationError(err)
		}
	}
	return x.validate(call, in)
}

// validate leaves the audit log's view of an input that is not generated in
// the call, and has it check itself.
func (x *exchange) validate(call *access.Call, in any) error {
	if params, err := json.Marshal(in, json.OmitZeroStructFields(true)); err == nil {
		call.Params = params // Sensitive members have redacted themselves
	}
	v, ok := in.(interface{ Validate() error })
	if !ok {
		return nil
	}
	err := v.Validate()
	var own *Error
	var refused *access.Error
	if err == nil || errors.As(err, &own) || errors.As(err, &refused) {
		return err
	}
	return Errorf("ValidationException", "%s", err)
}

// serializationError says where the mistake is, never what was there: the
// decoder's own text can quote the input.
func serializationError(err error) error {
	var semantic *json.SemanticError
	if !errors.As(err, &semantic) {
		return Errorf("SerializationException", "The request body is not well-formed JSON.")
	}
	at := clip(string(semantic.JSONPointer))
	if errors.Is(err, json.ErrUnknownName) {
		return Errorf("SerializationException", "Unknown member: %s", at)
	}
	if at == "" {
		at = "/"
	}
	return Errorf("SerializationException", "The value at %s is not of the member's type.", at)
}

// reveal writes sensitive members of outputs that are not generated.
var reveal = json.WithMarshalers(json.JoinMarshalers(
	json.MarshalToFunc(func(enc *jsontext.Encoder, s Sensitive) error {
		return enc.WriteValue(AppendBlob(nil, s.Reveal()))
	}),
	json.MarshalToFunc(func(enc *jsontext.Encoder, s SensitiveString) error {
		return enc.WriteValue(AppendString(nil, s.Reveal()))
	}),
))

// write encodes out, a pointer, into the answer.
func (x *exchange) write(call *access.Call, out any) error {
	x.keepResponse(call, out)
	if x.query {
		return x.writeXML(call, out)
	}
	if g, ok := out.(interface{ AppendJSON([]byte) []byte }); ok {
		x.answer = g.AppendJSON(x.answer[:0])
		return nil
	}
	if t := reflect.TypeOf(out).Elem(); t.Kind() == reflect.Struct && t.NumField() == 0 {
		return nil
	}
	b, err := json.Marshal(out, reveal)
	if err != nil {
		return err
	}
	x.answer = append(x.answer[:0], b...)
	clear(b)
	return nil
}
