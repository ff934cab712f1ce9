package access

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/policy"
)

// Limits on what a stranger can write into the log with one request. CloudTrail cuts too.
const (
	maxUserAgent    = 1024
	maxErrorMessage = 1024
	maxName         = 128 // of operations and access key ids that were never proved
)

// Finish writes the outcome of the call: who, what, on which resources, decided why, and how it ended. errorCode and
// errorMessage are what the client is told, empty on success. It must be called exactly once for every call, also for
// misses, bad signatures and malformed input, and its success is the condition for releasing the answer: when it fails,
// nothing that the operation computed may leave. It does not give up when ctx is cancelled: a client that hangs up is recorded too.
func (g *Guard) Finish(ctx context.Context, call *Call, errorCode, errorMessage string) error {
	if call.finished {
		return errors.New("recording outcome: the call is finished")
	}
	call.finished = true
	if call.Caller != nil {
		call.Caller.used.mark(call)
	}
	w := writers.Get().(*writer)
	defer w.release()
	w.fill(call)
	w.record.Decided = !call.ReadOnly && len(call.decisions) > 0
	w.record.ErrorCode, w.record.ErrorMessage = errorCode, cut(errorMessage, maxErrorMessage)
	if len(call.decisions) > 0 {
		w.buf = append(w.buf, `{"phase":"outcome","decisions":[`...)
		for i := range call.decisions {
			w.decision(i, &call.decisions[i])
		}
		w.buf = append(w.buf, "]}"...)
	}
	if err := w.append(ctx, g.log); err != nil {
		return fmt.Errorf("recording outcome: %w", err)
	}
	return nil
}

// recordDecision writes the call's latest decision before it is acted upon.
func (g *Guard) recordDecision(ctx context.Context, call *Call) error {
	w := writers.Get().(*writer)
	defer w.release()
	w.fill(call)
	w.buf = append(w.buf, `{"phase":"decision","decisions":[`...)
	w.decision(0, &call.decisions[len(call.decisions)-1])
	w.buf = append(w.buf, "]}"...)
	return w.append(ctx, g.log)
}

// A writer builds one record in memory that is used again.
type writer struct {
	record    audit.Record
	resources []audit.Resource
	params    []byte
	buf       []byte // additionalEventData
}

var writers = sync.Pool{New: func() any {
	return &writer{buf: make([]byte, 0, 1024), params: make([]byte, 0, 512)}
}}

// release forgets the call's strings, so that no idle writer keeps them alive.
func (w *writer) release() {
	clear(w.resources)
	if cap(w.buf) > 1<<16 || cap(w.params) > 1<<16 {
		return
	}
	*w = writer{resources: w.resources[:0], params: w.params[:0], buf: w.buf[:0]}
	writers.Put(w)
}

// append hands the record to the log, which does not keep it.
func (w *writer) append(ctx context.Context, log *audit.Log) error {
	if len(w.buf) > 0 {
		w.record.AdditionalEventData = w.buf
	}
	return log.Append(context.WithoutCancel(ctx), &w.record)
}

func (w *writer) fill(c *Call) {
	r := &w.record
	r.UserIdentity = userIdentity(c)
	r.EventTime = c.Time
	r.EventSource, r.EventName, r.AWSRegion = c.EventSource, cut(c.Operation, maxName), cut(c.Region, maxName)
	r.SourceIPAddress, r.UserAgent = c.SourceIP, cut(c.UserAgent, maxUserAgent)
	r.RequestID, r.ReadOnly, r.EventType, r.RecipientAccountID = c.ID, c.ReadOnly, audit.APICall, c.Account
	switch {
	case c.Params != nil:
		r.RequestParameters = c.Params
	case c.ParamsFunc != nil:
		w.params = c.ParamsFunc(w.params)
		r.RequestParameters = w.params
	}
	r.ResponseElements = c.Response
	for i := range c.touched {
		t := &c.touched[i]
		w.resources = append(w.resources, audit.Resource{ARN: t.arn, AccountID: t.account, Type: t.typ})
	}
	r.Resources = w.resources
}

// userIdentity is CloudTrail's. An access key that was presented but not proved stands in a record of type
// Unknown: it says what was claimed, not who it was.
func userIdentity(c *Call) audit.Identity {
	who := c.Caller
	if who == nil {
		return audit.Identity{Type: "Unknown", AccessKeyID: cut(c.AccessKeyID, maxName)}
	}
	id := audit.Identity{
		Type: who.Type, PrincipalID: who.UserID, ARN: who.ARN, AccountID: who.Account,
		AccessKeyID: who.AccessKeyID, UserName: who.UserName,
	}
	switch who.Type {
	case AWSService:
		id.ARN, id.InvokedBy = "", who.ARN
	case WebIdentityUser:
		id.AccountID, id.IdentityProvider = "", who.Provider
	}
	if !who.IssuedAt.IsZero() {
		id.Session = audit.SessionContext{Created: who.IssuedAt, MFA: who.MFA, Provider: who.Provider, SourceIdentity: who.SourceIdentity}
		if who.Type == AssumedRole {
			id.Session.IssuerARN, id.Session.IssuerAccount = who.RoleARN, who.Account
			id.Session.IssuerID, _, _ = strings.Cut(who.UserID, ":")
			id.Session.IssuerName = who.RoleARN[strings.LastIndexByte(who.RoleARN, '/')+1:]
		}
	}
	return id
}

func (w *writer) decision(i int, d *decision) {
	b := w.buf
	if i > 0 {
		b = append(b, ',')
	}
	b = append(b, `{"action":`...)
	b = quote(b, d.action)
	b = append(b, `,"resource":`...)
	b = quote(b, d.resource)
	b = append(b, `,"allowed":`...)
	if d.Allowed {
		b = append(b, `true`...)
	} else {
		b = append(b, `false`...)
	}
	b = append(b, `,"cause":"`...)
	b = append(b, d.Cause.String()...)
	b = append(b, `","reasons":[`...)
	for j := range d.Reasons {
		r := &d.Reasons[j]
		if j > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"effect":"`...)
		b = append(b, r.Effect.String()...)
		b = append(b, `","policy":`...)
		b = quote(b, r.Policy)
		b = append(appendName(b, r), '}')
	}
	w.buf = append(b, "]}"...)
}

// appendName says which statement of its policy a reason is, or which grant.
func appendName(b []byte, r *policy.Reason) []byte {
	if r.Index < 0 {
		return quote(append(b, `,"grant":`...), r.Sid)
	}
	if r.Sid != "" {
		b = quote(append(b, `,"sid":`...), r.Sid)
	}
	return strconv.AppendInt(append(b, `,"statement":`...), int64(r.Index), 10)
}

// quote appends a JSON string; bytes that are no UTF-8 become U+FFFD.
func quote(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s)
	return b
}

// cut shortens a text to n bytes.
func cut(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
