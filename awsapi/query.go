package awsapi

import (
	"bytes"
	"encoding/xml"
	"errors"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/keyturn/keyturn/access"
)

// The AWS Query protocol: a form in, XML out. A request names its operation
// and the version of the API in the form:
//
//	Action=AssumeRole&Version=2011-06-15&RoleArn=…&Tags.member.1.Key=…&Tags.member.1.Value=…
//
// Stricter than AWS: a parameter may be given once, and one that the operation
// does not have is refused, since it may be a restriction.

const (
	formType = "application/x-www-form-urlencoded"

	// maxForm bounds a form; the largest that is right has 50 tags in it.
	maxForm = 256 << 10

	// faultNamespace is that of answers to requests for no service.
	faultNamespace = "http://webservices.amazon.com/AWSFault/2005-15-09"

	memberInfix = ".member."
)

// isQuery tells requests of the Query protocol by their content type; those
// with GET by their query.
func isQuery(r *http.Request) bool {
	if r.Method == http.MethodGet {
		return r.URL.RawQuery != "" && r.URL.Query().Has("Action")
	}
	media, _, err := mime.ParseMediaType(first(r, "Content-Type"))
	return r.Method == http.MethodPost && err == nil && media == formType
}

// attemptQuery is attempt for the Query protocol.
func (h *Handler) attemptQuery(call *access.Call, x *exchange, r *http.Request) (*table, error) {
	x.query, x.namespace = true, faultNamespace
	if e := h.readBody(x, r, min(h.maxBody, maxForm)); e != nil {
		return nil, e
	}
	f, e := readForm(x, r)
	if e != nil {
		return nil, e
	}
	name, version := f.take("Action"), f.take("Version")
	t := h.queries[version]
	if name == "" {
		return t, Errorf("MissingAction", "The request must contain the parameter Action.")
	}
	if t == nil || !validName(name) {
		return nil, Errorf(codeInvalidAction, "Could not find operation %s for version %s", clip(name), clip(version))
	}
	x.namespace, x.form = t.QueryNamespace, f
	call.Service, call.EventSource, call.Operation = t.Name, t.EventSource, name
	op := t.operations[name]
	if op == nil || !op.unsigned || r.Method == http.MethodGet {
		if e := h.authenticate(call, t, x, r); e != nil {
			if e.Code == codeExpiredToken {
				// Without "Exception", which is what operations say of other tokens.
				e = &Error{Code: "ExpiredToken", Message: e.Message, Status: http.StatusForbidden}
			}
			return t, e
		}
	}
	if op == nil {
		return t, Errorf(codeInvalidAction, "Could not find operation %s for version %s", name, version)
	}
	call.ReadOnly = op.readOnly
	return t, op.serve(r.Context(), call, x)
}

const codeInvalidAction = "InvalidAction"

// A form is what a query request asks: each parameter once.
type form struct {
	values map[string]string
	taken  map[string]bool
}

// readForm reads the parameters of a POST from its body, of a GET from its
// query. What signs a request in its query is none of them.
func readForm(x *exchange, r *http.Request) (*form, *Error) {
	body, err := url.ParseQuery(string(x.body))
	query, queryErr := url.ParseQuery(r.URL.RawQuery)
	if err != nil || queryErr != nil {
		return nil, malformed("The form is not well-formed.")
	}
	maps.DeleteFunc(query, func(name string, _ []string) bool { return strings.HasPrefix(name, "X-Amz-") })
	given, other := body, query
	if r.Method == http.MethodGet {
		given, other = query, body
	}
	if len(other) > 0 {
		return nil, malformed("The parameters of a POST stand in its body, those of a GET in its query.")
	}
	f := &form{values: make(map[string]string, len(given)), taken: make(map[string]bool, len(given))}
	for name, values := range given {
		if len(values) > 1 {
			return nil, malformed("The parameter " + clip(name) + " is given more than once.")
		}
		if !utf8.ValidString(name) || !utf8.ValidString(values[0]) {
			return nil, malformed("A parameter is not UTF-8.")
		}
		f.values[name] = values[0]
	}
	return f, nil
}

func malformed(message string) *Error {
	return &Error{Code: "MalformedQueryString", Message: message, Status: http.StatusNotFound}
}

// take returns a parameter, "" when it was not given.
func (f *form) take(name string) string {
	v, ok := f.values[name]
	if ok {
		f.taken[name] = true
	}
	return v
}

// readForm decodes the form into in, a pointer to a struct whose members have
// the names of the parameters or have them in a tag query, and leaves the audit log's view of it in the call.
func (x *exchange) readForm(call *access.Call, in any) error {
	if e := x.form.decode(reflect.ValueOf(in).Elem(), ""); e != nil {
		return e
	}
	for _, name := range slices.Sorted(maps.Keys(x.form.values)) {
		if !x.form.taken[name] {
			return Errorf("ValidationException", "The operation has no parameter %s.", clip(name))
		}
	}
	return x.validate(call, in)
}

// decode reads what stands under a prefix. It panics on types that no
// operation has: that is a mistake in the program.
func (f *form) decode(v reflect.Value, prefix string) *Error {
	for i := range v.NumField() {
		own := v.Type().Field(i)
		name, field := prefix+own.Name, v.Field(i)
		if other := own.Tag.Get("query"); other != "" {
			name = prefix + other
		}
		switch field.Kind() {
		case reflect.String:
			field.SetString(f.take(name))
		case reflect.Int:
			text, given := f.values[name]
			n, err := strconv.ParseInt(f.take(name), 10, 32)
			if given && err != nil {
				return Errorf("ValidationException", "The value %s at %s is not a whole number.", clip(text), name)
			}
			field.SetInt(n)
		case reflect.Slice:
			if e := f.decodeList(field, name); e != nil {
				return e
			}
		default:
			panic("awsapi: a form has no " + field.Kind().String())
		}
	}
	return nil
}

// decodeList reads Name.member.1, Name.member.2 and so on, without gaps. An
// empty list is Name with an empty value.
func (f *form) decodeList(list reflect.Value, name string) *Error {
	if v, ok := f.values[name]; ok && v == "" {
		f.taken[name] = true
	}
	for n := 1; ; n++ {
		at := name + memberInfix + strconv.Itoa(n)
		before := len(f.taken)
		element := reflect.New(list.Type().Elem()).Elem()
		if element.Kind() == reflect.String {
			element.SetString(f.take(at))
		} else if e := f.decode(element, at+"."); e != nil {
			return e
		}
		if len(f.taken) == before {
			return nil
		}
		list.Set(reflect.Append(list, element))
	}
}

// writeXML encodes out as the result of the call's operation.
func (x *exchange) writeXML(call *access.Call, out any) error {
	var b bytes.Buffer
	e := xml.NewEncoder(&b)
	name := func(suffix string) xml.StartElement {
		return xml.StartElement{Name: xml.Name{Local: call.Operation + suffix}}
	}
	response := name("Response")
	response.Attr = []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: x.namespace}}
	err := errors.Join(
		e.EncodeToken(response), e.EncodeElement(out, name("Result")),
		e.EncodeElement(responseMetadata{call.ID}, xml.StartElement{Name: xml.Name{Local: "ResponseMetadata"}}),
		e.EncodeToken(response.End()), e.Close(),
	)
	if err != nil {
		return err
	}
	x.answer = append(x.answer[:0], b.Bytes()...)
	clear(b.Bytes())
	return nil
}

type responseMetadata struct {
	RequestID string `xml:"RequestId"`
}

// writeFault encodes an error.
func (x *exchange) writeFault(call *access.Call, e *Error) {
	kind := "Sender"
	if e.Status >= http.StatusInternalServerError {
		kind = "Receiver"
	}
	b := bytes.NewBuffer(x.answer[:0])
	write := func(before, text string) {
		b.WriteString(before)
		_ = xml.EscapeText(b, []byte(text)) // a Buffer takes everything
	}
	write(`<ErrorResponse xmlns="`, x.namespace)
	write(`"><Error><Type>`, kind)
	write(`</Type><Code>`, e.Code)
	write(`</Code><Message>`, e.Message)
	write(`</Message></Error><RequestId>`, call.ID)
	b.WriteString(`</RequestId></ErrorResponse>`)
	x.answer = b.Bytes()
}

// queryErrors are the codes that have other names and status in the Query
// protocol: code of the JSON protocol → theirs.
var queryErrors = map[string]Error{
	"AccessDeniedException":            {Code: "AccessDenied", Status: http.StatusForbidden},
	"ValidationException":              {Code: "ValidationError", Status: http.StatusBadRequest},
	"MalformedPolicyDocumentException": {Code: "MalformedPolicyDocument", Status: http.StatusBadRequest},
	codeUnrecognized:                   {Code: "InvalidClientTokenId", Status: http.StatusForbidden},
	codeInvalid:                        {Code: "SignatureDoesNotMatch", Status: http.StatusForbidden},
	codeMissing:                        {Code: "MissingAuthenticationToken", Status: http.StatusForbidden},
	codeIncomplete:                     {Code: "IncompleteSignature", Status: http.StatusBadRequest},
}

func queryError(e *Error) *Error {
	q, ok := queryErrors[e.Code]
	if !ok {
		return e
	}
	q.Message = e.Message
	return &q
}
