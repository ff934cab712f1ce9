package awsapi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keyturn/keyturn/access"
)

const (
	contentType    = "application/x-amz-json-1.1"
	defaultMaxBody = 1 << 20
	maxUserAgent   = 1024
)

// Config is what a Handler needs.
type Config struct {
	Guard    *access.Guard
	Services []Service
	Now      func() time.Time // nil: time.Now
	Logger   *slog.Logger     // nil: slog.Default
	MaxBody  int64            // bytes; 0: 1 MiB
	Regions  []string         // that requests may be signed for; empty: any
	// Observe is told of every request once it is answered: service and
	// operation are empty where there is none of that name, code is empty when
	// it succeeded. nil: nobody is told.
	Observe func(service, operation, code string, d time.Duration)
}

// A Handler serves the operations of its services: POST / with an
// X-Amz-Target. It is an http.Handler, safe for concurrent use.
type Handler struct {
	guard    *access.Guard
	services map[string]*table // target prefix → service
	queries  map[string]*table // version → service that speaks the Query protocol
	now      func() time.Time
	logger   *slog.Logger
	maxBody  int64
	observe  func(service, operation, code string, d time.Duration)
	keys     signingKeys
	regions  []string
}

// table is a Service made ready for lookups.
type table struct {
	Service
	operations map[string]*Operation
	known      map[string]bool
}

// NewHandler returns a handler for c's services. It panics when two services
// share a target prefix or an operation is named twice: that is a mistake in
// the program.
func NewHandler(c Config) *Handler {
	h := &Handler{
		guard: c.Guard, services: make(map[string]*table), queries: make(map[string]*table), now: c.Now, logger: c.Logger,
		maxBody: c.MaxBody, observe: c.Observe, regions: c.Regions,
	}
	if h.now == nil {
		h.now = time.Now
	}
	if h.logger == nil {
		h.logger = slog.Default()
	}
	if h.maxBody == 0 {
		h.maxBody = defaultMaxBody
	}
	for _, s := range c.Services {
		t := &table{Service: s, operations: make(map[string]*Operation), known: make(map[string]bool)}
		for i := range s.Operations {
			op := &s.Operations[i]
			if t.operations[op.Name] != nil {
				panic("awsapi: operation " + op.Name + " is named twice")
			}
			t.operations[op.Name] = op
		}
		for _, name := range s.Known {
			t.known[name] = true
		}
		tables, at := h.services, s.TargetPrefix
		if s.QueryVersion != "" {
			tables, at = h.queries, s.QueryVersion
		}
		if tables[at] != nil {
			panic("awsapi: two services at " + at)
		}
		tables[at] = t
	}
	return h
}

// An exchange holds the buffers of one request. They are used again by later
// ones, and wiped in between: bodies and answers hold plaintext.
type exchange struct {
	body      []byte
	answer    []byte
	audit     []byte
	scratch   []byte
	decoder   Decoder
	signature signature

	query     bool   // the request came in the Query protocol
	form      *form  // of such a request
	namespace string // of the answer to it
}

// keepBuffer is the largest buffer worth keeping for the next request.
const keepBuffer = 16 << 10

var exchanges = sync.Pool{New: func() any { return new(exchange) }}

func (x *exchange) release() {
	for _, b := range []*[]byte{&x.body, &x.answer, &x.audit, &x.scratch} {
		// Beyond len may stand what a longer answer wrote before it failed.
		clear((*b)[:cap(*b)])
		if *b = (*b)[:0]; cap(*b) > keepBuffer {
			*b = nil
		}
	}
	x.decoder.reset(nil)
	x.signature = signature{}
	x.query, x.form, x.namespace = false, nil, ""
	exchanges.Put(x)
}

// ServeHTTP answers one request. Exactly one outcome is recorded for each, and
// before anything is sent; when that cannot be done the answer is an internal
// error, although a mutation may have happened.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := exchanges.Get().(*exchange)
	defer x.release()
	call := h.newCall(r)
	t, err := h.attempt(call, x, r)
	var e *Error
	if err != nil {
		if e = h.answerable(call, t, err); x.query {
			e = queryError(e)
		}
	}
	if ferr := h.finish(r.Context(), call, e); ferr != nil {
		h.logger.Error("recording the outcome of a request", "request_id", call.ID, "operation", call.Operation, "error", ferr)
		e = internal(call, t)
	}
	h.respond(w, call, x, e)
	if h.observe != nil {
		h.tell(call, t, e)
	}
}

func (h *Handler) newCall(r *http.Request) *access.Call {
	call := &access.Call{
		ID: newRequestID(), Time: h.now(), SourceIP: r.RemoteAddr, UserAgent: first(r, "User-Agent"), TLS: r.TLS != nil,
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		call.SourceIP = host
	}
	if len(call.UserAgent) > maxUserAgent {
		call.UserAgent = call.UserAgent[:maxUserAgent]
	}
	return call
}

// newRequestID returns a random UUID.
func newRequestID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails: it ends the process instead
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	b := make([]byte, 0, 36)
	for i, n := range []int{4, 2, 2, 2, 6} {
		if i > 0 {
			b = append(b, '-')
		}
		from := []int{0, 4, 6, 8, 10}[i]
		b = hex.AppendEncode(b, id[from:from+n])
	}
	return string(b)
}

// attempt does what the request asks. A panic becomes an error; its value is
// not logged, for it may quote the payload.
func (h *Handler) attempt(call *access.Call, x *exchange, r *http.Request) (t *table, err error) {
	defer func() {
		if p := recover(); p != nil {
			h.logger.Error("panic", "request_id", call.ID, "operation", call.Operation, "type", fmt.Sprintf("%T", p), "stack", stack())
			err = errPanic
		}
	}()
	root := r.URL.Path == "/" || r.URL.Path == ""
	if root && first(r, "Content-Type") != contentType && isQuery(r) {
		return h.attemptQuery(call, x, r)
	}
	if r.Method != http.MethodPost || !root {
		return nil, &Error{Code: codeUnknownOperation, Message: "Operations are called with POST /.", Status: http.StatusNotFound}
	}
	if !validContentType(first(r, "Content-Type")) {
		return nil, Errorf(codeUnknownOperation, "The Content-Type must be %s.", contentType)
	}
	t, name, e := h.lookUp(call, r)
	if e != nil {
		return t, e
	}
	if e := h.readBody(x, r, h.maxBody); e != nil {
		return t, e
	}
	if e := h.authenticate(call, t, x, r); e != nil {
		return t, e
	}
	op := t.operations[name]
	if op == nil {
		if t.known[name] {
			return t, Errorf(codeUnknownOperation, "The operation %s does not exist here yet.", name)
		}
		return t, Errorf(codeUnknownOperation, "There is no operation %s.", call.Operation)
	}
	call.ReadOnly = op.readOnly
	return t, op.serve(r.Context(), call, x)
}

var errPanic = errors.New("panic")

// stack names the functions that were running, without their arguments.
func stack() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(4, pcs[:])])
	var b strings.Builder
	for {
		f, more := frames.Next()
		b.WriteString(f.Function)
		b.WriteByte(' ')
		b.WriteString(f.File)
		b.WriteByte(':')
		b.WriteString(strconv.Itoa(f.Line))
		if !more {
			return b.String()
		}
		b.WriteByte('\n')
	}
}

func validContentType(v string) bool {
	if v == contentType {
		return true
	}
	media, _, err := mime.ParseMediaType(v)
	return err == nil && media == contentType
}

const codeUnknownOperation = "UnknownOperationException"

// lookUp finds the service of the request's target. A presigned request may
// have the target in its query, where it is signed as well.
func (h *Handler) lookUp(call *access.Call, r *http.Request) (*table, string, *Error) {
	target := first(r, "X-Amz-Target")
	if r.URL.RawQuery != "" {
		if q := r.URL.Query().Get("X-Amz-Target"); target == "" {
			target = q
		} else if q != "" && q != target {
			return nil, "", Errorf(codeUnknownOperation, "X-Amz-Target is given twice.")
		}
	}
	prefix, name, _ := strings.Cut(target, ".")
	t := h.services[prefix]
	if t == nil || !validName(name) {
		return nil, "", Errorf(codeUnknownOperation, "There is no operation of that X-Amz-Target.")
	}
	call.Service, call.EventSource, call.Operation = t.Name, t.EventSource, name
	return t, name, nil
}

// validName keeps what is logged as an operation to what could be one.
func validName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// readBody reads the whole body into the exchange: limit bytes at most.
func (h *Handler) readBody(x *exchange, r *http.Request, limit int64) *Error {
	if r.ContentLength > limit {
		return errTooLarge
	}
	if need := int(r.ContentLength) + 1; need > cap(x.body) {
		x.body = make([]byte, 0, max(need, 512))
	}
	b := x.body[:0]
	for {
		n, err := r.Body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		x.body = b
		switch {
		case int64(len(b)) > limit:
			return errTooLarge
		case err == io.EOF:
			return nil
		case err != nil:
			return &Error{Code: "RequestTimeoutException", Message: "The request's body did not arrive in time.", Status: http.StatusRequestTimeout}
		case len(b) == cap(b):
			grown := append(b, 0)[:len(b)]
			clear(b) // the old buffer goes to the garbage collector without plaintext
			b = grown
		}
	}
}

var errTooLarge = &Error{
	Code: "RequestEntityTooLargeException", Message: "The request's body is too large.",
	Status: http.StatusRequestEntityTooLarge,
}

// authenticate finds out who signed the request, and that it is signed
// rightly; only then the call has a caller.
func (h *Handler) authenticate(call *access.Call, t *table, x *exchange, r *http.Request) *Error {
	s := &x.signature
	if e := s.parse(r); e != nil {
		return e
	}
	call.AccessKeyID, call.Region = s.accessKeyID, s.region
	if s.service != t.SigningName && !slices.Contains(t.AlsoSignedAs, s.service) {
		return Errorf(codeInvalid, "Credential should be scoped to correct service: '%s'.", t.SigningName)
	}
	if !t.Global && len(h.regions) > 0 && !slices.Contains(h.regions, s.region) {
		return errRegion
	}
	if e := s.inTime(call.Time); e != nil {
		return e
	}
	if e := s.covers(r); e != nil {
		return e
	}
	hash := bodyHash(x.body)
	if e := s.payload(r, &hash); e != nil {
		return e
	}
	c, err := h.guard.Credential(r.Context(), s.accessKeyID, s.token)
	if err != nil {
		return h.credentialError(call, t, err)
	}
	var ok bool
	if x.scratch, ok = s.matches(c.Secret, &h.keys, r, &hash, x.scratch); !ok {
		return errNoMatch
	}
	call.Caller, call.Account = c.Caller, c.Caller.Account
	call.AccessKeyID, call.Region = s.accessKeyID, s.region
	return nil
}

// credentialError answers unknown, inactive and wrong tokens alike: nobody
// learns which access keys exist.
func (h *Handler) credentialError(call *access.Call, t *table, err error) *Error {
	switch {
	case errors.Is(err, access.ErrExpiredToken):
		return Errorf(codeExpiredToken, "The security token included in the request is expired")
	case errors.Is(err, access.ErrUnknownAccessKey), errors.Is(err, access.ErrInactive), errors.Is(err, access.ErrInvalidToken):
		return errUnrecognized
	}
	h.logger.Error("reading a credential", "request_id", call.ID, "error", err)
	return internal(call, t)
}

// answerable makes of any error one that the client may see.
func (h *Handler) answerable(call *access.Call, t *table, err error) *Error {
	var own *Error
	var denied *access.Denied
	var refused *access.Error
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &denied):
		return Errorf("AccessDeniedException", "%s", denied.Error())
	case errors.As(err, &refused):
		return Errorf(refused.Code, "%s", refused.Message)
	case errors.Is(err, context.Canceled):
		// Most likely nobody reads this: the client has gone.
		return &Error{Code: "RequestCanceled", Message: "The client ended the request.", Status: 499}
	case !errors.Is(err, errPanic):
		h.logger.Error("an operation ended in an internal error", "request_id", call.ID, "operation", call.Operation, "error", err)
	}
	return internal(call, t)
}

// internal is the service's internal error, which tells nothing but where to look.
func internal(call *access.Call, t *table) *Error {
	code := "InternalFailure"
	if t != nil && t.InternalCode != "" {
		code = t.InternalCode
	}
	e := Errorf(code, "The request failed for an internal reason. Its id is %s.", call.ID)
	if e.Status < http.StatusInternalServerError {
		e.Status = http.StatusInternalServerError
	}
	return e
}

// finish records the outcome. Finish does so also when ctx is cancelled: a
// client that has gone leaves a record.
func (h *Handler) finish(ctx context.Context, call *access.Call, e *Error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			h.logger.Error("panic", "request_id", call.ID, "operation", call.Operation, "type", fmt.Sprintf("%T", p), "stack", stack())
			err = errPanic
		}
	}()
	code, message := "", ""
	if e != nil {
		code, message = e.Code, e.Message
	}
	return h.guard.Finish(ctx, call, code, message)
}

var (
	contentTypeHeader  = []string{contentType}
	xmlTypeHeader      = []string{"text/xml"}
	cacheControlHeader = []string{"no-cache, no-store, must-revalidate, private"}
)

func (h *Handler) respond(w http.ResponseWriter, call *access.Call, x *exchange, e *Error) {
	header := w.Header()
	header["Content-Type"] = contentTypeHeader
	if x.query {
		header["Content-Type"] = xmlTypeHeader
	}
	header["Cache-Control"] = cacheControlHeader
	header["X-Amzn-Requestid"] = []string{call.ID}
	status := http.StatusOK
	if e != nil {
		clear(x.answer)
		if x.query {
			x.writeFault(call, e)
		} else {
			x.writeError(e)
			header["X-Amzn-Errortype"] = []string{e.Code}
		}
		status = e.Status
		if status == http.StatusRequestEntityTooLarge || status == http.StatusRequestTimeout {
			header["Connection"] = []string{"close"}
		}
	}
	w.WriteHeader(status)
	_, _ = w.Write(x.answer) // an error means that the client has gone
}

// writeError encodes an error.
func (x *exchange) writeError(e *Error) {
	x.answer = append(x.answer[:0], `{"__type":`...)
	x.answer = AppendString(x.answer, e.Code)
	x.answer = append(x.answer, `,"message":`...)
	x.answer = append(AppendString(x.answer, e.Message), '}')
}

// tell reports the request for metrics. Names that do not exist are left out:
// a stranger must not be able to make new time series.
func (h *Handler) tell(call *access.Call, t *table, e *Error) {
	service, operation, code := "", "", ""
	if t != nil {
		service = t.Name
		if t.operations[call.Operation] != nil {
			operation = call.Operation
		}
	}
	if e != nil {
		code = e.Code
	}
	h.observe(service, operation, code, h.now().Sub(call.Time))
}
