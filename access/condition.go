package access

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/keyturn/keyturn/arn"
	"github.com/keyturn/keyturn/policy"
)

// conditions answers for condition keys while one decision is made: for the global ones, and those of KMS that are about
// the caller, from the call and its caller as the signature proved him; for the rest it asks the resource. That order is
// what keeps anybody who has a say in a resource (its tags, the encryption context) from passing for somebody else.
//
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html says when each key has a value.
type conditions struct {
	call     *Call
	owner    string         // account of the resource
	resource policy.Context // nil: knows nothing
	now      string         // aws:CurrentTime, once somebody asked
}

// Values implements policy.Context.
func (c *conditions) Values(k policy.Key, dst []string) ([]string, bool) {
	call := c.call
	switch k.Name {
	case policy.AWSCurrentTime:
		if c.now == "" {
			c.now = timestamp(call.Time)
		}
		return append(dst, c.now), true
	case policy.AWSEpochTime:
		return append(dst, strconv.FormatInt(call.Time.Unix(), 10)), true
	case policy.AWSRequestedRegion:
		return one(dst, call.Region)
	case policy.AWSResourceAccount:
		return one(dst, c.owner)
	case policy.AWSUserAgent:
		return one(dst, call.UserAgent)
	case policy.AWSSecureTransport:
		return append(dst, strconv.FormatBool(call.TLS || !call.fromNetwork())), true
	case policy.AWSSourceIP:
		// The address of a service that asks on the caller's behalf says nothing about the caller.
		return append(dst, call.SourceIP), call.fromNetwork() && len(call.Via) == 0
	case policy.AWSViaAWSService:
		return append(dst, strconv.FormatBool(len(call.Via) > 0)), true
	case policy.AWSCalledVia:
		return append(dst, call.Via...), len(call.Via) > 0
	case policy.AWSCalledViaFirst, policy.AWSCalledViaLast, policy.KMSViaService:
		return call.viaValues(k, dst)
	case policy.AWSSourceARN:
		return one(dst, call.SourceARN)
	case policy.AWSSourceAccount:
		source, _ := arn.Parse(call.SourceARN)
		return one(dst, source.Account)
	case policy.AWSReferer:
		return dst, false // nothing here has one

	case policy.AWSPrincipalARN, policy.AWSPrincipalAccount, policy.AWSPrincipalType, policy.AWSUserID, policy.AWSUsername, policy.AWSPrincipalTag,
		policy.AWSPrincipalIsAWSService, policy.AWSPrincipalServiceName, policy.KMSCallerAccount:
		return call.Caller.values(k, dst)
	case policy.AWSTokenIssueTime, policy.AWSMultiFactorAuthPresent, policy.AWSMultiFactorAuthAge, policy.AWSFederatedProvider, policy.AWSSourceIdentity:
		return call.Caller.sessionValues(k, dst, call.Time)
	}
	if c.resource == nil {
		return dst, false
	}
	return c.resource.Values(k, dst)
}

// fromNetwork: a call from inside the process has no address, and no wire to listen to.
func (c *Call) fromNetwork() bool {
	_, err := netip.ParseAddr(c.SourceIP)
	return err == nil
}

// viaValues answers for one of the services through which the call came.
func (c *Call) viaValues(k policy.Key, dst []string) ([]string, bool) {
	if len(c.Via) == 0 {
		return dst, false
	}
	first, last := c.Via[0], c.Via[len(c.Via)-1]
	switch k.Name {
	case policy.AWSCalledViaFirst:
		return append(dst, first), true
	case policy.AWSCalledViaLast:
		return append(dst, last), true
	}
	service, domain, _ := strings.Cut(last, ".")
	return append(dst, service+"."+c.Region+"."+domain), c.Region != ""
}

// values answers for who the caller is. A service acts for an account and is nobody in it: it has a name only. Whom an OIDC
// provider vouches for is a stranger to the account.
func (c *Caller) values(k policy.Key, dst []string) ([]string, bool) {
	switch k.Name {
	case policy.KMSCallerAccount:
		return one(dst, c.Account)
	case policy.AWSPrincipalIsAWSService:
		return append(dst, strconv.FormatBool(c.Type == AWSService)), true
	case policy.AWSPrincipalServiceName:
		return append(dst, c.ARN), c.Type == AWSService
	}
	if c.Type == AWSService || c.Type == WebIdentityUser {
		return dst, false
	}
	switch k.Name {
	case policy.AWSPrincipalARN:
		p := c.Principal()
		if p.RoleARN != "" {
			return append(dst, p.RoleARN), true
		}
		return one(dst, c.ARN)
	case policy.AWSPrincipalAccount:
		return one(dst, c.Account)
	case policy.AWSPrincipalType:
		return one(dst, principalTypes[c.Type])
	case policy.AWSUserID:
		return one(dst, c.UserID)
	case policy.AWSUsername:
		return one(dst, c.UserName)
	}
	have := len(dst)
	for _, t := range c.Tags {
		if strings.EqualFold(t.Key, k.Suffix) {
			dst = append(dst, t.Value)
		}
	}
	return dst, len(dst) > have
}

// principalTypes: Caller.Type → aws:PrincipalType.
var principalTypes = map[string]string{Root: "Account", IAMUser: "User", AssumedRole: "AssumedRole"}

// sessionValues answers for the session that the caller's credentials are of. Access keys of users, which have no end,
// are of none: about a second factor they say neither yes nor no.
func (c *Caller) sessionValues(k policy.Key, dst []string, now time.Time) ([]string, bool) {
	session := !c.IssuedAt.IsZero()
	switch k.Name {
	case policy.AWSTokenIssueTime:
		return append(dst, timestamp(c.IssuedAt)), session
	case policy.AWSMultiFactorAuthPresent:
		return append(dst, strconv.FormatBool(c.MFA)), session
	case policy.AWSMultiFactorAuthAge:
		return append(dst, strconv.FormatInt(int64(now.Sub(c.IssuedAt)/time.Second), 10)), session && c.MFA
	case policy.AWSFederatedProvider:
		return one(dst, c.Provider)
	}
	return one(dst, c.SourceIdentity)
}

// one is the answer for a key that has at most one value.
func one(dst []string, value string) ([]string, bool) {
	if value == "" {
		return dst, false
	}
	return append(dst, value), true
}

func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
