// Package arn reads and writes Amazon Resource Names.
//
// An ARN is six parts joined by colons, "arn:partition:service:region:account:resource"; the last part may hold
// colons itself. Parse promises that String gives back the very text that was parsed, and that partition and service
// are never empty; whether a resource exists, or is well formed in the eyes of its service, is that service's matter.
// Parse never panics and keeps no reference to anything but the string it was given.
package arn

import (
	"errors"
	"strings"
)

// An ARN is one name in parts. Region and Account are empty where the service's names have none.
type ARN struct {
	Partition string // "aws", "aws-cn", "aws-us-gov", …
	Service   string // "kms", "iam", "sts", …
	Region    string
	Account   string // twelve digits, or empty
	Resource  string // everything behind the fifth colon, e.g. "key/1234abcd-…" or "alias/x"
}

// ErrMalformed is returned, bare, for every text that is no ARN. It names no input: the caller knows what it asked, and
// decides whether to echo it.
var ErrMalformed = errors.New("malformed ARN")

// Parse splits an ARN. It returns ErrMalformed unless there are six parts, the first is "arn", partition, service and
// resource are not empty, the account is empty or twelve digits, and no part before the resource holds a control
// character, a space or a wildcard.
func Parse(s string) (ARN, error) {
	rest, ok := strings.CutPrefix(s, "arn:")
	if !ok {
		return ARN{}, ErrMalformed
	}
	var parts [4]string
	for i := range parts {
		part, tail, found := strings.Cut(rest, ":")
		if !found || !plain(part) {
			return ARN{}, ErrMalformed
		}
		parts[i], rest = part, tail
	}
	a := ARN{Partition: parts[0], Service: parts[1], Region: parts[2], Account: parts[3], Resource: rest}
	if a.Partition == "" || a.Service == "" || a.Resource == "" {
		return ARN{}, ErrMalformed
	}
	if a.Account != "" && !IsAccount(a.Account) {
		return ARN{}, ErrMalformed
	}
	return a, nil
}

// String joins the parts: the inverse of Parse.
func (a ARN) String() string {
	return "arn:" + a.Partition + ":" + a.Service + ":" + a.Region + ":" + a.Account + ":" + a.Resource
}

// Cut splits the resource at its first slash: "key", "1234abcd-…" for a KMS key; "user", "division/bob" for an IAM user
// with a path. Without a slash all of it is the type and the id is empty.
func (a ARN) Cut() (typ, id string) {
	typ, id, _ = strings.Cut(a.Resource, "/")
	return typ, id
}

// Is reports whether s looks like an ARN rather than a bare id or name, so that an error can speak of the right one.
func Is(s string) bool { return strings.HasPrefix(s, "arn:") }

// IsAccount reports whether s is an AWS account id: twelve digits.
func IsAccount(s string) bool {
	if len(s) != 12 {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// plain reports whether s holds only what stands in an ARN before the resource.
func plain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}
