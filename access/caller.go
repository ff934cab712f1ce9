package access

import (
	"strings"
	"time"

	"github.com/keyturn/keyturn/arn"
	"github.com/keyturn/keyturn/policy"
)

// Types of callers, as CloudTrail's userIdentity.type writes them.
const (
	Root        = "Root"
	IAMUser     = "IAMUser"
	AssumedRole = "AssumedRole"
	AWSService  = "AWSService"

	WebIdentityUser = "WebIdentityUser" // whom an OIDC provider vouches for; only AssumeRoleWithWebIdentity has such callers
)

// A Caller is who asks, as the signature proved it. It is immutable and shared by all requests of its access key.
type Caller struct {
	Account     string // twelve digits
	ARN         string // arn:aws:iam::…:user/bob, …:root, arn:aws:sts::…:assumed-role/Role/session; of a service: its name
	UserID      string // AIDA…, AROA…:session; of a root user: the account
	UserName    string // of a user; else empty
	AccessKeyID string
	Type        string // one of the types above
	RoleARN     string // of an assumed role: the role's own ARN, with its path

	// Policies are the identity policies that speak for the caller; Boundary and Session bound them, as in policy.Question.
	Policies []policy.Attached
	Boundary policy.Attached
	Session  []policy.Attached

	Tags           []Tag     // of the user, or of the role and session: aws:PrincipalTag
	TransitiveTags []string  // of a session: keys of the tags that sessions made with it inherit
	IssuedAt       time.Time // of a session: when its credentials were made; zero for access keys of users
	MFA            bool      // of a session: it was begun with a second factor
	Provider       string    // of a federated session: who vouched for it, as aws:FederatedProvider
	SourceIdentity string    // of a session, where its maker gave one

	used *lastUse // nil where nothing is kept
}

// A Tag is a name and a value that an administrator gave to a principal.
type Tag struct{ Key, Value string }

// Principal is the caller in the words of policies.
func (c *Caller) Principal() policy.Principal {
	p := policy.Principal{ARN: c.ARN, Account: c.Account, UserID: c.UserID, Root: c.Type == Root}
	switch c.Type {
	case AssumedRole:
		if p.RoleARN = c.RoleARN; p.RoleARN == "" {
			p.RoleARN = roleOf(c.ARN)
		}
	case AWSService:
		p.Service = c.ARN
	case WebIdentityUser:
		p.Federated = c.Provider
	}
	return p
}

// WebIdentity is the caller whom the OIDC provider of an issuer vouches for, as the account knows that provider.
func WebIdentity(account, issuer, audience, subject string) *Caller {
	return &Caller{
		Account: account, Type: WebIdentityUser, UserName: subject, UserID: policy.IssuerName(issuer) + ":" + audience + ":" + subject,
		Provider: policy.ProviderARN(account, issuer),
	}
}

// roleOf derives the role of a session, as far as its name tells: paths do not stand in session ARNs.
func roleOf(session string) string {
	a, err := arn.Parse(session)
	if err != nil {
		return ""
	}
	typ, id := a.Cut()
	name, _, _ := strings.Cut(id, "/")
	if typ != "assumed-role" || name == "" {
		return ""
	}
	a.Service, a.Resource = "iam", "role/"+name
	return a.String()
}

// RootARN names an account's root user.
func RootARN(account string) string { return "arn:aws:iam::" + account + ":root" }

// UserARN names a user. path begins and ends with a slash.
func UserARN(account, path, name string) string { return users.arn(account, path, name) }
