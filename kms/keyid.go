package kms

import (
	"encoding/hex"
	"strings"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/arn"
	"github.com/keyturn/keyturn/awsapi"
)

const (
	partition   = "aws"
	aliasPrefix = "alias/"
)

// A resourceName is what a KeyId, TargetKeyId or AliasName member names, in
// any of its four forms:
//
//	1234abcd-12ab-34cd-56ef-1234567890ab                                       key id
//	arn:aws:kms:us-east-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab  key ARN
//	alias/x                                                                    alias name
//	arn:aws:kms:us-east-2:111122223333:alias/x                                 alias ARN
//
// Bare ids and names live in the caller's account and in the Region of the
// call; an ARN says its account itself and must be of the call's Region.
type resourceName struct {
	account, region string
	name            string // the key id, or the alias with "alias/" in front
}

func (n resourceName) isAlias() bool { return strings.HasPrefix(n.name, aliasPrefix) }

func (n resourceName) arn() string {
	if n.isAlias() {
		return "arn:" + partition + ":kms:" + n.region + ":" + n.account + ":" + n.name
	}
	return "arn:" + partition + ":kms:" + n.region + ":" + n.account + ":key/" + n.name
}

// topic is what changes of it are announced under.
func (n resourceName) topic() string { return n.arn() }

// notFound is AWS's answer for what does not exist in the caller's account.
func (n resourceName) notFound() error {
	if n.isAlias() {
		return awsapi.Errorf("NotFoundException", "Alias %s is not found.", n.arn())
	}
	return awsapi.Errorf("NotFoundException", "Key '%s' does not exist", n.arn())
}

// parseName reads a key's name in any form.
func parseName(call *access.Call, s string) (resourceName, error) {
	if arn.Is(s) {
		return parseARN(call, s)
	}
	if !strings.HasPrefix(s, aliasPrefix) && !isKeyID(s) {
		return resourceName{}, awsapi.Errorf("NotFoundException", "Invalid keyId '%s'", s)
	}
	return resourceName{account: call.Account, region: call.Region, name: s}, nil
}

// parseKeyName reads a key's name where AWS takes no alias.
func parseKeyName(call *access.Call, s string) (resourceName, error) {
	n, err := parseName(call, s)
	switch {
	case err != nil:
		return n, err
	case !n.isAlias():
		return n, nil
	case arn.Is(s):
		return n, awsapi.Errorf("InvalidArnException", "%s is an alias ARN; this operation takes a key ID or a key ARN", s)
	}
	return n, awsapi.Errorf("NotFoundException", "Invalid keyId '%s'", s)
}

func parseARN(call *access.Call, s string) (resourceName, error) {
	a, err := arn.Parse(s)
	if err != nil || a.Partition != partition || a.Service != "kms" || a.Account == "" || a.Region == "" {
		return resourceName{}, awsapi.Errorf("InvalidArnException", "Invalid arn %s", s)
	}
	n := resourceName{account: a.Account, region: a.Region}
	switch typ, id := a.Cut(); {
	case typ == "key" && isKeyID(id):
		n.name = id
	case typ == "alias" && id != "":
		n.name = a.Resource
	case typ == "key" && id != "":
		return resourceName{}, awsapi.Errorf("NotFoundException", "Invalid keyId '%s'", id)
	default:
		return resourceName{}, awsapi.Errorf("InvalidArnException", "Invalid arn %s", s)
	}
	if n.region != call.Region {
		return resourceName{}, awsapi.Errorf("NotFoundException", "Invalid arn %s", n.region)
	}
	return n, nil
}

// isKeyID reports whether s has the form of a key id: a UUID, or "mrk-" and 32
// hex digits.
func isKeyID(s string) bool {
	_, ok := parseUUID(s)
	if !ok {
		_, ok = parseMultiRegionID(s)
	}
	return ok
}

// mrkPrefix begins the id of a Multi-Region key.
const mrkPrefix = "mrk-"

// parseMultiRegionID reads "mrk-" and 32 hex digits, lower case.
func parseMultiRegionID(s string) (id [16]byte, ok bool) {
	digits, ok := strings.CutPrefix(s, mrkPrefix)
	if !ok || len(digits) != 2*len(id) || strings.Trim(digits, "0123456789abcdef") != "" {
		return id, false
	}
	_, err := hex.Decode(id[:], []byte(digits))
	return id, err == nil
}
