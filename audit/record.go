package audit

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// EventVersion is the version of CloudTrail's record format that is written.
const EventVersion = "1.11"

// Types of events, CloudTrail's eventType.
const (
	APICall      = "AwsApiCall"      // somebody called the API; the default
	ServiceEvent = "AwsServiceEvent" // Keyturn did something by itself
)

// maxRecord bounds one record in bytes, and so the memory that reading one takes.
// Raw members that are too large are left out and their size recorded instead.
const maxRecord = 1 << 20

// Record is one event, in the layout of CloudTrail's record contents. What is
// empty is left out, except requestParameters and responseElements, which are null
// then, as CloudTrail has it. No member may hold plaintext, secrets or key
// material: nothing is redacted here.
type Record struct {
	UserIdentity        Identity
	EventTime           time.Time // zero: when Append is called
	EventSource         string    // "kms.amazonaws.com"
	EventName           string    // "Sign"
	AWSRegion           string
	SourceIPAddress     string
	UserAgent           string
	ErrorCode           string
	ErrorMessage        string
	RequestParameters   []byte // JSON, redacted by the caller; so are the next three
	ResponseElements    []byte
	AdditionalEventData []byte
	ServiceEventDetails []byte // of a ServiceEvent
	RequestID           string
	EventID             string // empty: a random UUID
	ReadOnly            bool
	Resources           []Resource
	EventType           string // empty: APICall
	RecipientAccountID  string

	// Decided says that this is the outcome of a change whose decision was recorded before, by an Append that
	// returned. It is not written.
	Decided bool
}

// Identity is CloudTrail's userIdentity.
type Identity struct {
	Type        string // Root, IAMUser, AssumedRole, AWSService, Unknown …
	PrincipalID string
	ARN         string
	AccountID   string
	AccessKeyID string
	UserName    string
	InvokedBy   string

	IdentityProvider string         // of a WebIdentityUser: who vouched for it
	Session          SessionContext // of temporary credentials
}

// SessionContext is CloudTrail's sessionContext: where temporary credentials come from. It is left out while Created is zero.
type SessionContext struct {
	IssuerID, IssuerARN, IssuerAccount, IssuerName string // of the role; empty for sessions of users
	Provider                                       string // who vouched for the web identity that took on the role
	Created                                        time.Time
	MFA                                            bool
	SourceIdentity                                 string
}

// Resource is a resource the event is about.
type Resource struct {
	ARN       string
	AccountID string
	Type      string // "AWS::KMS::Key"
}

// appendTo appends the record as one line of JSON without its last brace, so that
// the chain can become its last member.
func (r *Record) appendTo(b []byte, now time.Time) []byte {
	params, response, additional := r.RequestParameters, r.ResponseElements, r.AdditionalEventData
	start := len(b)
	b = r.appendWith(b, now, params, response, additional)
	if len(b)-start <= maxRecord {
		return b
	}
	b = r.appendWith(b[:start], now, omit(params), omit(response), omit(additional))
	if len(b)-start <= maxRecord {
		return b
	}
	// Then the strings are to blame, and an attacker behind them.
	short := *r
	for _, s := range []*string{
		&short.ErrorMessage, &short.UserAgent, &short.EventName, &short.EventSource, &short.AWSRegion,
		&short.SourceIPAddress, &short.RequestID, &short.EventID, &short.ErrorCode,
	} {
		*s = shorten(*s)
	}
	if len(short.Resources) > 100 {
		short.Resources = short.Resources[:100]
	}
	return short.appendWith(b[:start], now, omit(params), omit(response), omit(additional))
}

func omit(raw []byte) []byte {
	if len(raw) <= 1024 {
		return raw
	}
	b := append([]byte(nil), `{"omittedBytes":`...)
	return append(appendUint(b, uint64(len(raw))), '}')
}

func shorten(s string) string {
	if len(s) <= 1024 {
		return s
	}
	return s[:1024] + "…"
}

func (r *Record) appendWith(b []byte, now time.Time, params, response, additional []byte) []byte {
	b = append(b, `{"eventVersion":"`+EventVersion+`","userIdentity":{"type":`...)
	u := &r.UserIdentity
	b = appendString(b, u.Type)
	b = appendMember(b, `,"principalId":`, u.PrincipalID)
	b = appendMember(b, `,"arn":`, u.ARN)
	b = appendMember(b, `,"accountId":`, u.AccountID)
	b = appendMember(b, `,"accessKeyId":`, u.AccessKeyID)
	b = appendMember(b, `,"userName":`, u.UserName)
	b = appendMember(b, `,"invokedBy":`, u.InvokedBy)
	b = appendMember(b, `,"identityProvider":`, u.IdentityProvider)
	if !u.Session.Created.IsZero() {
		b = u.Session.appendTo(b)
	}
	b = append(b, `},"eventTime":"`...)
	at := r.EventTime
	if at.IsZero() {
		at = now
	}
	b = appendTime(b, at)
	b = append(b, `","eventSource":`...)
	b = appendString(b, r.EventSource)
	b = append(b, `,"eventName":`...)
	b = appendString(b, r.EventName)
	b = append(b, `,"awsRegion":`...)
	b = appendString(b, r.AWSRegion)
	b = append(b, `,"sourceIPAddress":`...)
	b = appendString(b, r.SourceIPAddress)
	b = append(b, `,"userAgent":`...)
	b = appendString(b, r.UserAgent)
	b = appendMember(b, `,"errorCode":`, r.ErrorCode)
	b = appendMember(b, `,"errorMessage":`, r.ErrorMessage)
	b = append(b, `,"requestParameters":`...)
	b = appendRaw(b, params)
	b = append(b, `,"responseElements":`...)
	b = appendRaw(b, response)
	if len(additional) > 0 {
		b = append(b, `,"additionalEventData":`...)
		b = appendRaw(b, additional)
	}
	b = appendMember(b, `,"requestID":`, r.RequestID)
	b = append(b, `,"eventID":`...)
	if r.EventID == "" {
		b = appendUUID(b)
	} else {
		b = appendString(b, r.EventID)
	}
	if r.ReadOnly {
		b = append(b, `,"readOnly":true`...)
	} else {
		b = append(b, `,"readOnly":false`...)
	}
	b = appendResources(b, r.Resources)
	b = append(b, `,"eventType":`...)
	if r.EventType == "" {
		b = append(b, `"`+APICall+`"`...)
	} else {
		b = appendString(b, r.EventType)
	}
	b = append(b, `,"managementEvent":true`...)
	b = appendMember(b, `,"recipientAccountId":`, r.RecipientAccountID)
	if len(r.ServiceEventDetails) > 0 {
		b = append(b, `,"serviceEventDetails":`...)
		b = appendRaw(b, r.ServiceEventDetails)
	}
	return append(b, `,"eventCategory":"Management"`...)
}

func (s *SessionContext) appendTo(b []byte) []byte {
	b = append(b, `,"sessionContext":{`...)
	if s.IssuerARN != "" {
		b = appendString(append(b, `"sessionIssuer":{"type":"Role","principalId":`...), s.IssuerID)
		b = appendMember(b, `,"arn":`, s.IssuerARN)
		b = appendMember(b, `,"accountId":`, s.IssuerAccount)
		b = append(appendMember(b, `,"userName":`, s.IssuerName), `},`...)
	}
	if s.Provider != "" {
		b = append(appendString(append(b, `"webIdFederationData":{"federatedProvider":`...), s.Provider), `},`...)
	}
	b = appendTime(append(b, `"attributes":{"creationDate":"`...), s.Created)
	if s.MFA {
		b = append(b, `","mfaAuthenticated":"true"}`...)
	} else {
		b = append(b, `","mfaAuthenticated":"false"}`...)
	}
	return append(appendMember(b, `,"sourceIdentity":`, s.SourceIdentity), '}')
}

func appendResources(b []byte, resources []Resource) []byte {
	if len(resources) == 0 {
		return b
	}
	b = append(b, `,"resources":[`...)
	for i := range resources {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"ARN":`...)
		b = appendString(b, resources[i].ARN)
		b = appendMember(b, `,"accountId":`, resources[i].AccountID)
		b = appendMember(b, `,"type":`, resources[i].Type)
		b = append(b, '}')
	}
	return append(b, ']')
}

// appendMember appends name, which is written ready with comma and colon, and the
// string s, or nothing when s is empty.
func appendMember(b []byte, name, s string) []byte {
	if s == "" {
		return b
	}
	return appendString(append(b, name...), s)
}

// appendRaw appends raw as it is when it is JSON on one line. Anything else could
// break the log's lines apart, which an attacker might use to forge some, so it
// becomes a string.
func appendRaw(b, raw []byte) []byte {
	if len(raw) == 0 {
		return append(b, "null"...)
	}
	if !jsontext.Value(raw).IsValid() {
		return appendString(b, string(raw))
	}
	if bytes.IndexByte(raw, '\n') < 0 && bytes.IndexByte(raw, '\r') < 0 {
		return append(b, raw...)
	}
	compact := jsontext.Value(bytes.Clone(raw))
	if err := compact.Compact(); err != nil {
		return appendString(b, string(raw))
	}
	return append(b, compact...)
}

// appendTime appends t as CloudTrail has it, 2006-01-02T15:04:05Z. AppendFormat
// would be a fifth of the cost of a record.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	if year < 0 || year > 9999 {
		return t.AppendFormat(b, time.RFC3339)
	}
	b = appendTwo(appendTwo(b, year/100), year%100)
	b = appendTwo(append(b, '-'), int(month))
	b = appendTwo(append(b, '-'), day)
	b = appendTwo(append(b, 'T'), hour)
	b = appendTwo(append(b, ':'), minute)
	b = appendTwo(append(b, ':'), second)
	return append(b, 'Z')
}

func appendTwo(b []byte, n int) []byte { return append(b, '0'+byte(n/10), '0'+byte(n%10)) }

// safe holds the bytes that stand for themselves in a JSON string.
var safe = func() (t [256]bool) {
	for c := 0x20; c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string. Bytes that are not UTF-8 become U+FFFD;
// control characters, and the separators U+2028 and U+2029, are escaped, so that no
// viewer sees a line end that is none.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if safe[c] {
			i++
			continue
		}
		b = append(b, s[start:i]...)
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
			i++
		case c < utf8.RuneSelf:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			i++
		default:
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == '\u2028' || r == '\u2029' || r == 0x85 {
				b = append(b, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
			} else {
				b = utf8.AppendRune(b, r)
			}
			i += n
		}
		start = i
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// appendUUID appends a random UUID (RFC 9562, version 4), quoted.
func appendUUID(b []byte) []byte {
	var u [16]byte
	rand.Read(u[:]) // never fails
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	b = append(b, '"')
	b = hex.AppendEncode(b, u[:4])
	for _, part := range [][]byte{u[4:6], u[6:8], u[8:10], u[10:]} {
		b = append(b, '-')
		b = hex.AppendEncode(b, part)
	}
	return append(b, '"')
}
