package awsapi_test

import (
	"context"
	"encoding/xml"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
)

type helloInput struct {
	Name  string `json:"name"`
	Count int    `json:"count"`
	Tags  []struct{ Key, Value string }
	Words []string
	Proof awsapi.SensitiveString `json:"-"`
	Named string                 `query:"lowerCase"`
}

func (in *helloInput) Validate() error {
	var d awsapi.Decoder
	if in.Name == "" {
		d.Missing("name")
	}
	return d.Err()
}

type helloOutput struct {
	Greeting string
	Who      string
	Secret   access.IssuedSecret
	At       time.Time
	Left     string `xml:",omitempty"`
}

// newQueryHouse has two operations in the Query protocol, one of which needs no signature.
func newQueryHouse(t *testing.T) *house {
	t.Helper()
	h := newHouse(t)
	hello := func(_ context.Context, call *access.Call, in *helloInput) (*helloOutput, error) {
		out := &helloOutput{Greeting: fmt.Sprint(in.Name, in.Count, in.Tags, in.Words, in.Named), Who: "nobody", Secret: access.IssuedSecret{Secret: access.NewSecret("a<b")}, At: time.Unix(5, 0).UTC()}
		if call.Caller != nil {
			out.Who = call.Caller.ARN
		}
		if in.Name == "panic" {
			panic(in.Proof.Reveal())
		}
		if in.Name == "refuse" {
			return nil, awsapi.Errorf("AccessDeniedException", "not <%s>", in.Words)
		}
		return out, nil
	}
	h.handler = awsapi.NewHandler(awsapi.Config{
		Guard: h.guard, Logger: slog.New(slog.NewTextHandler(h.logged, nil)),
		Services: append(h.services(), awsapi.Service{
			Name: "old", SigningName: "old", EventSource: "old.amazonaws.com", InternalCode: "InternalFailure",
			QueryVersion: "2011-06-15", QueryNamespace: "https://old.amazonaws.com/doc/2011-06-15/", Known: []string{"Hello", "Goodbye"},
			Operations: []awsapi.Operation{awsapi.Op("Hello", hello), awsapi.Op("Stranger", hello).Unsigned()},
		}),
		Observe: func(service, op, code string, _ time.Duration) { h.seen = append(h.seen, service+"."+op+":"+code) },
	})
	return h
}

func form(body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "http://old.example.com/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	return r
}

func (h *house) hello(body string) *httptest.ResponseRecorder {
	return h.send(h.signAs(form(body), body, testKeyID, "", "old"))
}

const hello = "Action=Hello&Version=2011-06-15"

// fault reads an error of the Query protocol, which must be well-formed XML.
func fault(t *testing.T, w *httptest.ResponseRecorder) (status int, code, message string) {
	t.Helper()
	var e struct {
		XMLName   xml.Name
		Error     struct{ Type, Code, Message string }
		RequestId string
	}
	if err := xml.Unmarshal(w.Body.Bytes(), &e); err != nil || e.XMLName.Local != "ErrorResponse" || w.Header().Get("Content-Type") != "text/xml" {
		t.Fatalf("%v in %s", err, w.Body)
	}
	if e.RequestId != w.Header().Get("X-Amzn-Requestid") || e.RequestId == "" || (e.Error.Type == "Receiver") != (w.Code >= 500) {
		t.Errorf("answered %s", w.Body)
	}
	return w.Code, e.Error.Code, e.Error.Message
}

func TestQuery(t *testing.T) {
	h := newQueryHouse(t)
	w := h.hello(hello + "&Name=Ann+%26+Bob&Count=-7&Tags.member.1.Key=a&Tags.member.1.Value=1&Tags.member.2.Key=b&Words.member.1=x&lowerCase=y")
	want := `<HelloResponse xmlns="https://old.amazonaws.com/doc/2011-06-15/"><HelloResult><Greeting>Ann &amp; Bob-7 [{a 1} {b }] [x]y</Greeting>` +
		`<Who>arn:aws:iam::111122223333:root</Who><Secret>a&lt;b</Secret><At>1970-01-01T00:00:05Z</At></HelloResult>` +
		`<ResponseMetadata><RequestId>` + w.Header().Get("X-Amzn-Requestid") + `</RequestId></ResponseMetadata></HelloResponse>`
	if w.Code != 200 || w.Body.String() != want || w.Header().Get("Content-Type") != "text/xml" {
		t.Errorf("%d %s: %s\nwant %s", w.Code, w.Header(), w.Body, want)
	}
	if w := h.hello(hello + "&Name=x&Tags=&Words="); !strings.Contains(w.Body.String(), "x0 [] []") {
		t.Errorf("empty lists: %s", w.Body)
	}
	// The JSON services are where they were.
	if w := h.do("TrentService.Sign", `{"KeyId":"x","Message":"aGk=","SigningAlgorithm":"ECDSA_SHA_256"}`); w.Code != 200 {
		t.Errorf("JSON: %d %s", w.Code, w.Body)
	}
	if got := h.seen[0]; got != "old.Hello:" {
		t.Errorf("observed %s", got)
	}
}

// What was sent comes back as text, never as markup, and a form cannot speak with two tongues.
func TestQueryInjection(t *testing.T) {
	h := newQueryHouse(t)
	evil := `</Message></Error><Error><Code>OK</Code>` + "\x00\x1b]0;x\a" + `<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>&a;`
	w := h.hello(hello + "&Name=" + url.QueryEscape(evil))
	var answer struct {
		HelloResult struct{ Greeting string }
	}
	if err := xml.Unmarshal(w.Body.Bytes(), &answer); err != nil || !strings.HasPrefix(answer.HelloResult.Greeting, `</Message></Error><Error>`) || strings.Contains(w.Body.String(), "<Error>") {
		t.Errorf("%v: %s", err, w.Body)
	}
	if status, code, message := fault(t, h.hello(hello+"&Name=refuse&Words.member.1="+url.QueryEscape(evil))); status != 403 || code != "AccessDenied" || !strings.HasPrefix(message, "not <[</Message>") {
		t.Errorf("%d %s: %s", status, code, message)
	}
	for name, body := range map[string]string{
		"a parameter twice":        hello + "&Name=ann&Name=bob",
		"the action twice":         hello + "&Action=Stranger&Name=ann",
		"twice, otherwise encoded": hello + "&Name=ann&%4eame=bob",
		"a broken escape":          hello + "&Name=%zz",
		"a semicolon":              hello + "&Name=ann;Count=1",
		"no UTF-8":                 hello + "&Name=%ff",
	} {
		if status, code, _ := fault(t, h.hello(body)); status != 404 || code != "MalformedQueryString" {
			t.Errorf("%s: %d %s", name, status, code)
		}
	}
	for name, body := range map[string]string{
		"an unknown parameter":   hello + "&Name=ann&Admin=true",
		"in another case":        hello + "&name=ann",
		"a list from 0":          hello + "&Name=ann&Words.member.0=x",
		"a list with a gap":      hello + "&Name=ann&Words.member.2=x",
		"a list with zeros":      hello + "&Name=ann&Words.member.01=x",
		"a member of no list":    hello + "&Name=ann&Name.member.1=x",
		"a number that is none":  hello + "&Name=ann&Count=many",
		"a number too large":     hello + "&Name=ann&Count=99999999999",
		"a missing parameter":    hello,
		"a list with a value":    hello + "&Name=ann&Words=x",
		"the field's other name": hello + "&Name=ann&Named=x",
	} {
		if status, code, _ := fault(t, h.hello(body)); status != 400 || code != "ValidationError" {
			t.Errorf("%s: %d %s", name, status, code)
		}
	}
	// Parameters that stand beside the body, where a proxy may look for them.
	r := form(hello + "&Name=ann")
	r.URL.RawQuery = "Action=Stranger"
	if _, code, _ := fault(t, h.send(h.signAs(r, hello+"&Name=ann", testKeyID, "", "old"))); code != "MalformedQueryString" {
		t.Errorf("an action in body and query: %s", code)
	}
}

func TestQueryRefusals(t *testing.T) {
	h := newQueryHouse(t)
	good := hello + "&Name=ann"
	signed := func(body, id, token, service string) *http.Request {
		return h.signAs(form(body), body, id, token, service)
	}
	tampered := form(hello + "&Name=eve")
	tampered.Header = signed(good, testKeyID, "", "old").Header
	for name, tc := range map[string]struct {
		r      *http.Request
		status int
		code   string
	}{
		"unsigned":            {form(good), 403, "MissingAuthenticationToken"},
		"an unknown key":      {signed(good, "AKIAUNKNOWN", "", "old"), 403, "InvalidClientTokenId"},
		"a wrong token":       {signed(good, "ASIASESSION", "x", "old"), 403, "InvalidClientTokenId"},
		"an expired session":  {signed(good, "ASIAEXPIRED", "old", "old"), 403, "ExpiredToken"},
		"another service":     {signed(good, testKeyID, "", "kms"), 403, "SignatureDoesNotMatch"},
		"another body":        {tampered, 403, "SignatureDoesNotMatch"},
		"no action":           {signed("Version=2011-06-15", testKeyID, "", "old"), 400, "MissingAction"},
		"an unknown action":   {signed("Action=Bye&Version=2011-06-15", testKeyID, "", "old"), 400, "InvalidAction"},
		"one not here yet":    {signed("Action=Goodbye&Version=2011-06-15", testKeyID, "", "old"), 400, "InvalidAction"},
		"no version":          {signed("Action=Hello", testKeyID, "", "old"), 400, "InvalidAction"},
		"an unknown version":  {signed("Action=Hello&Version=2010-05-08", testKeyID, "", "old"), 400, "InvalidAction"},
		"an unsigned unknown": {form("Action=Bye&Version=2011-06-15"), 403, "MissingAuthenticationToken"},
		"no form":             {form(""), 400, "MissingAction"},
		"too large":           {form(strings.Repeat("a", 300<<10)), 413, "RequestEntityTooLargeException"},
		"a panic":             {signed(hello+"&Name=panic&Proof=hush-hush", testKeyID, "", "old"), 500, "InternalFailure"},
	} {
		if status, code, _ := fault(t, h.send(tc.r)); status != tc.status || code != tc.code {
			t.Errorf("%s: %d %s, want %d %s", name, status, code, tc.status, tc.code)
		}
	}
	endless := form(strings.Repeat("a", 300<<10))
	endless.ContentLength = -1
	if status, _, _ := fault(t, h.send(endless)); status != 413 {
		t.Errorf("an endless form: %d", status)
	}
	if strings.Contains(h.logged.String(), "hush-hush") {
		t.Error("the log has the form's secret")
	}
	records, text := h.records()
	if len(records) != 16 || strings.Contains(text, "hush-hush") {
		t.Errorf("%d records, want one for each request and no secret", len(records))
	}
	// Of the operations that need none, a signature is not looked at, and they must be posted.
	h = newQueryHouse(t)
	if w := h.send(form("Action=Stranger&Version=2011-06-15&Name=ann")); w.Code != 200 || !strings.Contains(w.Body.String(), "<Who>nobody</Who>") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	put := form("Action=Stranger&Version=2011-06-15&Name=ann")
	put.Method = http.MethodPut
	if w := h.send(put); w.Code != http.StatusNotFound {
		t.Errorf("by PUT: %d %s", w.Code, w.Body)
	}
	get := httptest.NewRequest(http.MethodGet, "http://old.example.com/?Action=Stranger&Version=2011-06-15&Name=ann", nil)
	if _, code, _ := fault(t, h.send(get)); code != "MissingAuthenticationToken" {
		t.Errorf("unsigned by GET: %s", code)
	}
}

// A presigned link asks once for what it was signed for.
func TestPresignedQuery(t *testing.T) {
	h := newQueryHouse(t)
	presign := func(query string) string {
		t.Helper()
		r := httptest.NewRequest(http.MethodGet, "http://old.example.com/?"+query+"&X-Amz-Expires=60", nil)
		link, _, err := v4.NewSigner().PresignHTTP(context.Background(), aws.Credentials{AccessKeyID: testKeyID, SecretAccessKey: testSecret},
			r, hashOf(""), "old", "eu-central-1", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return link
	}
	link := presign(hello + "&Name=ann")
	get := func(link string) *httptest.ResponseRecorder {
		return h.send(httptest.NewRequest(http.MethodGet, link, nil))
	}
	if w := get(link); w.Code != 200 || !strings.Contains(w.Body.String(), "<Greeting>ann0 [] []</Greeting><Who>arn:aws:iam::111122223333:root</Who>") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if _, code, _ := fault(t, get(strings.Replace(link, "Name=ann", "Name=eve", 1))); code != "SignatureDoesNotMatch" {
		t.Errorf("another name: %s", code)
	}
	if _, code, _ := fault(t, get(link+"&Count=1")); code != "SignatureDoesNotMatch" {
		t.Errorf("a parameter more: %s", code)
	}
	if _, code, _ := fault(t, get(link+"&Name=eve")); code != "MalformedQueryString" {
		t.Errorf("a parameter twice: %s", code)
	}
	if w := get("http://old.example.com/"); w.Code != http.StatusNotFound || w.Header().Get("Content-Type") != "application/x-amz-json-1.1" {
		t.Errorf("GET of nothing: %d %s", w.Code, w.Body)
	}
}
