package awsapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyturn/keyturn/access"
)

// Signature Version 4 as AWS's "Create a signed API request" describes it,
// read from the server's side. Stricter than AWS where a signer never needs
// the leniency: host and every x-amz-* header must be signed, the hash of the
// body is always computed here, a request is signed in one place only.

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	dateLayout = "20060102T150405Z"
	maxSkew    = 5 * time.Minute
	// maxExpires is the longest life of a presigned request.
	maxExpires = 7 * 24 * time.Hour
)

const (
	codeIncomplete   = "IncompleteSignatureException"
	codeInvalid      = "InvalidSignatureException"
	codeMissing      = "MissingAuthenticationTokenException"
	codeUnrecognized = "UnrecognizedClientException"
	codeExpiredToken = "ExpiredTokenException"
)

var errNoMatch = Errorf(codeInvalid, "The request signature we calculated does not match the signature you provided. "+
	"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")

// A signature is what a request says about how it was signed. Its strings
// alias the request's headers.
type signature struct {
	scope
	time          time.Time
	date          string // as signed: 20060102T150405Z
	signedHeaders string // lower case, sorted, joined by ";"
	mac           [sha256.Size]byte
	token         string // session token; empty when there is none
	presigned     bool
	query         url.Values    // nil when the query is empty
	expires       time.Duration // of a presigned request
}

// A scope is what a signing key is derived for.
type scope struct{ accessKeyID, day, region, service string }

// parse reads the signature of a request, from its Authorization header or its
// query. What it leaves in s is well-formed, not yet believed.
func (s *signature) parse(r *http.Request) *Error {
	*s = signature{}
	if r.URL.RawQuery != "" {
		query, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			return Errorf(codeIncomplete, "The query string is not well-formed.")
		}
		s.query = query
	}
	_, s.presigned = s.query["X-Amz-Signature"]
	header := r.Header["Authorization"]
	switch {
	case len(header) > 1 || s.presigned && len(header) > 0:
		return Errorf(codeIncomplete, "Only one signature is allowed in a request.")
	case s.presigned:
		return s.fromQuery()
	case len(header) == 0:
		return Errorf(codeMissing, "Missing Authentication Token")
	}
	return s.fromHeader(r, header[0])
}

func (s *signature) fromHeader(r *http.Request, header string) *Error {
	name, rest, _ := strings.Cut(header, " ")
	if name != algorithm {
		if strings.HasPrefix(name, "AWS4-") {
			return Errorf(codeIncomplete, "Unsupported AWS 'algorithm': '%s'.", clip(name))
		}
		return Errorf(codeMissing, "Missing Authentication Token")
	}
	var credential, mac string
	for rest != "" {
		var part string
		part, rest, _ = strings.Cut(rest, ",")
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		var to *string
		switch key {
		case "Credential":
			to = &credential
		case "SignedHeaders":
			to = &s.signedHeaders
		case "Signature":
			to = &mac
		}
		if to == nil || *to != "" || value == "" {
			return Errorf(codeIncomplete, "'%s' not a valid key=value pair (missing equal-sign) in Authorization header.", clip(part))
		}
		*to = value
	}
	missing := ""
	for _, p := range []struct{ name, value string }{{"Credential", credential}, {"Signature", mac}, {"SignedHeaders", s.signedHeaders}} {
		if p.value == "" {
			missing += "Authorization header requires '" + p.name + "' parameter. "
		}
	}
	if missing != "" {
		return Errorf(codeIncomplete, "%s", strings.TrimSpace(missing))
	}
	if s.date = first(r, "X-Amz-Date"); s.date == "" {
		t, err := http.ParseTime(r.Header.Get("Date"))
		if err != nil || !s.signs("date") {
			return Errorf(codeIncomplete, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
		}
		s.date = t.UTC().Format(dateLayout)
	}
	s.token = first(r, "X-Amz-Security-Token")
	return s.finish(credential, mac)
}

func (s *signature) fromQuery() *Error {
	for name, values := range s.query {
		if len(values) > 1 && strings.HasPrefix(name, "X-Amz-") {
			return Errorf(codeIncomplete, "The query parameter '%s' may be given once.", clip(name))
		}
	}
	if s.query.Get("X-Amz-Algorithm") != algorithm {
		return Errorf(codeIncomplete, "Unsupported AWS 'algorithm': '%s'.", clip(s.query.Get("X-Amz-Algorithm")))
	}
	s.expires = maxSkew
	if v, ok := s.query["X-Amz-Expires"]; ok {
		n, err := strconv.ParseUint(v[0], 10, 31)
		if s.expires = time.Duration(n) * time.Second; err != nil || s.expires < time.Second || s.expires > maxExpires {
			return Errorf(codeIncomplete, "X-Amz-Expires must be between 1 and 604800 seconds.")
		}
	}
	s.date = s.query.Get("X-Amz-Date")
	s.signedHeaders = s.query.Get("X-Amz-SignedHeaders")
	s.token = s.query.Get("X-Amz-Security-Token")
	return s.finish(s.query.Get("X-Amz-Credential"), s.query.Get("X-Amz-Signature"))
}

// finish reads what both forms have in common.
func (s *signature) finish(credential, mac string) *Error {
	var ok bool
	if s.time, ok = parseDate(s.date); !ok {
		return Errorf(codeIncomplete, "Date must be in ISO-8601 'basic format'. Got '%s'.", clip(s.date))
	}
	if len(mac) != 2*sha256.Size {
		return errNoMatch
	}
	if _, err := hex.Decode(s.mac[:], []byte(mac)); err != nil {
		return errNoMatch
	}
	var parts [5]string
	for i := range parts[:4] {
		parts[i], credential, _ = strings.Cut(credential, "/")
	}
	if parts[4] = credential; parts[0] == "" || parts[4] == "" || strings.Contains(parts[4], "/") {
		return Errorf(codeIncomplete, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.")
	}
	s.scope = scope{parts[0], parts[1], parts[2], parts[3]}
	switch {
	case parts[4] != terminator:
		return Errorf(codeInvalid, "Credential should be scoped with a valid terminator: '%s'.", terminator)
	case s.day != s.date[:8]:
		return Errorf(codeInvalid, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP.")
	case !validRegion(s.region):
		return errRegion
	case !validAccessKeyID(s.accessKeyID):
		return errUnrecognized
	}
	return nil
}

// first is Header.Get for a name in canonical case.
func first(r *http.Request, name string) string {
	if v := r.Header[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// parseDate reads 20060102T150405Z, and nothing that package time would be
// lenient about.
func parseDate(s string) (time.Time, bool) {
	if len(s) != len(dateLayout) || s[8] != 'T' || s[15] != 'Z' {
		return time.Time{}, false
	}
	number := func(from, to int) (n int) {
		for _, c := range []byte(s[from:to]) {
			if c < '0' || c > '9' {
				return -1
			}
			n = n*10 + int(c-'0')
		}
		return n
	}
	year, month, day := number(0, 4), number(4, 6), number(6, 8)
	hour, minute, second := number(9, 11), number(11, 13), number(13, 15)
	if min(year, month, day, hour, minute, second) < 0 || hour > 23 || minute > 59 || second > 59 {
		return time.Time{}, false
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC)
	// The 31st of February would have become another day.
	return t, t.Day() == day && t.Month() == time.Month(month)
}

var errUnrecognized = Errorf(codeUnrecognized, "The security token included in the request is invalid.")

var errRegion = Errorf(codeInvalid, "Credential should be scoped to a valid region.")

// validRegion keeps what will stand in ARNs to the shape of a region's name;
// which regions exist is the caller's affair.
func validRegion(s string) bool {
	if s == "" || len(s) > 32 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// validAccessKeyID keeps logs free of what no access key id has.
func validAccessKeyID(s string) bool {
	if len(s) > 128 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("_-.", rune(c)) {
			return false
		}
	}
	return true
}

// clip makes what a client sent fit to be quoted back to it.
func clip(s string) string {
	if len(s) > 64 {
		s = s[:64] + "..."
	}
	return s
}

// inTime holds the date of the signature against now.
func (s *signature) inTime(now time.Time) *Error {
	limit := maxSkew
	if s.presigned {
		limit = s.expires
	}
	age := now.Sub(s.time)
	switch {
	case age > limit && s.presigned:
		return Errorf(codeInvalid, "Signature expired: %s is now later than %s.", now.UTC().Format(dateLayout), s.time.Add(limit).Format(dateLayout))
	case age > limit:
		return Errorf(codeInvalid, "Signature expired: %s is now earlier than %s (%s - 5 min.)",
			s.date, now.Add(-limit).UTC().Format(dateLayout), now.UTC().Format(dateLayout))
	case age < -maxSkew:
		return Errorf(codeInvalid, "Signature not yet current: %s is still later than %s (%s + 5 min.)",
			s.date, now.Add(maxSkew).UTC().Format(dateLayout), now.UTC().Format(dateLayout))
	}
	return nil
}

// signs reports whether the header of this lower-case name is signed.
func (s *signature) signs(name string) bool {
	for rest := s.signedHeaders; rest != ""; {
		var h string
		if h, rest, _ = strings.Cut(rest, ";"); h == name {
			return true
		}
	}
	return false
}

// covers checks that what gives the request its meaning is signed. An
// attacker who sees a signed request could otherwise add an x-amz-target or
// a session token to it.
func (s *signature) covers(r *http.Request) *Error {
	if !s.signs("host") {
		return Errorf(codeInvalid, "'Host' must be a 'SignedHeader' in the AWS Authorization.")
	}
	var lower [64]byte
	for name, values := range r.Header {
		if len(name) < 6 || name[5] != '-' || !strings.EqualFold(name[:5], "x-amz") {
			continue
		}
		if len(name) > len(lower) || len(values) != 1 {
			return Errorf(codeInvalid, "The header '%s' may be given once.", clip(name))
		}
		n := copy(lower[:], name)
		for i, c := range lower[:n] {
			if 'A' <= c && c <= 'Z' {
				lower[i] = c + ('a' - 'A')
			}
		}
		if !s.signs(string(lower[:n])) {
			return Errorf(codeInvalid, "'%s' must be a 'SignedHeader' in the AWS Authorization.", clip(name))
		}
	}
	return nil
}

// payload checks what the request claims of its body's hash. UNSIGNED-PAYLOAD
// and the STREAMING forms would leave the body to whoever is on the way.
func (s *signature) payload(r *http.Request, hash *[2 * sha256.Size]byte) *Error {
	for _, claim := range []string{first(r, "X-Amz-Content-Sha256"), s.query.Get("X-Amz-Content-Sha256")} {
		switch {
		case claim == "" || claim == string(hash[:]):
		case strings.HasPrefix(claim, "UNSIGNED-") || strings.HasPrefix(claim, "STREAMING-"):
			return Errorf(codeInvalid, "The request's body must be signed; X-Amz-Content-Sha256 is '%s'.", clip(claim))
		default:
			return errNoMatch
		}
	}
	return nil
}

// canonical appends the canonical request. false: the signed headers are not
// in canonical order, so no signer has made this.
func (s *signature) canonical(b []byte, r *http.Request, bodyHash *[2 * sha256.Size]byte) ([]byte, bool) {
	b = append(b, r.Method...)
	b = append(b, "\n/\n"...) // the handler serves no other path
	b = s.canonicalQuery(b)
	b = append(b, '\n')
	previous := ""
	for rest := s.signedHeaders; rest != ""; {
		var name string
		name, rest, _ = strings.Cut(rest, ";")
		if name <= previous {
			return b, false
		}
		previous = name
		b = append(append(b, name...), ':')
		b = appendHeader(b, r, name)
		b = append(b, '\n')
	}
	b = append(b, '\n')
	b = append(append(b, s.signedHeaders...), '\n')
	return append(b, bodyHash[:]...), true
}

// headerKeys spares the usual signed headers a conversion to canonical case.
var headerKeys = map[string]string{ //nolint:gosec // names of headers, no credentials
	"accept":                "Accept",
	"accept-encoding":       "Accept-Encoding",
	"amz-sdk-invocation-id": "Amz-Sdk-Invocation-Id",
	"amz-sdk-request":       "Amz-Sdk-Request",
	"content-length":        "Content-Length",
	"content-type":          "Content-Type",
	"user-agent":            "User-Agent",
	"x-amz-content-sha256":  "X-Amz-Content-Sha256",
	"x-amz-date":            "X-Amz-Date",
	"x-amz-security-token":  "X-Amz-Security-Token",
	"x-amz-target":          "X-Amz-Target",
	"x-amz-user-agent":      "X-Amz-User-Agent",
}

func appendHeader(b []byte, r *http.Request, name string) []byte {
	if name == "host" {
		return appendTrimmed(b, r.Host)
	}
	key, ok := headerKeys[name]
	if !ok {
		key = http.CanonicalHeaderKey(name)
	}
	values := r.Header[key]
	if len(values) == 0 && name == "content-length" && r.ContentLength >= 0 {
		return strconv.AppendInt(b, r.ContentLength, 10)
	}
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendTrimmed(b, v)
	}
	return b
}

// appendTrimmed appends a header's value without spaces around it and with
// runs of spaces inside it made one.
func appendTrimmed(b []byte, v string) []byte {
	v = strings.Trim(v, " \t")
	if !strings.Contains(v, "  ") {
		return append(b, v...)
	}
	for i := range len(v) {
		if v[i] == ' ' && v[i-1] == ' ' {
			continue
		}
		b = append(b, v[i])
	}
	return b
}

func (s *signature) canonicalQuery(b []byte) []byte {
	if len(s.query) == 0 {
		return b
	}
	type pair struct{ name, value string }
	var pairs []pair
	for name, values := range s.query {
		if s.presigned && name == "X-Amz-Signature" {
			continue
		}
		for _, v := range values {
			pairs = append(pairs, pair{uriEncode(name), uriEncode(v)})
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		if c := strings.Compare(a.name, b.name); c != 0 {
			return c
		}
		return strings.Compare(a.value, b.value)
	})
	for i, p := range pairs {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(append(append(b, p.name...), '='), p.value...)
	}
	return b
}

// uriEncode is AWS's UriEncode: everything but RFC 3986's unreserved
// characters, in upper-case hex.
func uriEncode(s string) string {
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}

// matches computes the signature anew and compares it in constant time. The
// scratch buffer is returned for reuse.
func (s *signature) matches(secret access.Secret, keys *signingKeys, r *http.Request, bodyHash *[2 * sha256.Size]byte, scratch []byte) ([]byte, bool) {
	scratch, ok := s.canonical(scratch[:0], r, bodyHash)
	if !ok {
		return scratch, false
	}
	hash := sha256.Sum256(scratch)
	b := append(scratch[:0], algorithm+"\n"...)
	b = append(append(b, s.date...), '\n')
	b = append(append(b, s.day...), '/')
	b = append(append(b, s.region...), '/')
	b = append(append(b, s.service...), '/')
	b = append(b, terminator+"\n"...)
	b = hex.AppendEncode(b, hash[:])

	key := keys.find(&s.scope, secret)
	cached := key != nil
	if !cached {
		key = derive(secret, &s.scope)
	}
	sum := key.sum(b)
	if subtle.ConstantTimeCompare(sum[:], s.mac[:]) != 1 {
		return b, false
	}
	if !cached {
		keys.keep(key)
	}
	s.scope = key.scope // the region will stand in stored names
	return b, true
}

// bodyHash is the hex SHA-256 of the body.
func bodyHash(body []byte) (out [2 * sha256.Size]byte) {
	sum := sha256.Sum256(body)
	hex.Encode(out[:], sum[:])
	return out
}
