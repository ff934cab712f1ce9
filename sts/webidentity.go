package sts

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
)

// AssumeRoleWithWebIdentityInput is what AWS STS takes.
type AssumeRoleWithWebIdentityInput struct {
	RoleArn          string                 `json:"roleArn"`
	RoleSessionName  string                 `json:"roleSessionName"`
	WebIdentityToken awsapi.SensitiveString `json:"-"`
	ProviderId       string                 `json:"providerId"`
	DurationSeconds  int                    `json:"durationSeconds"` // 900 to 43200; 3600 when 0
	Policy           string                 `json:"policy"`
	PolicyArns       []PolicyDescriptor     `json:"policyArns"`
}

type AssumeRoleWithWebIdentityOutput struct {
	Credentials                 Credentials
	AssumedRoleUser             AssumedRoleUser
	SubjectFromWebIdentityToken string
	Provider                    string // the issuer
	Audience                    string
	PackedPolicySize            int `xml:",omitempty"` // per cent
}

// Validate implements the checks of the API model.
func (in *AssumeRoleWithWebIdentityInput) Validate() error {
	var d awsapi.Decoder
	checkRole(&d, in.RoleArn, in.RoleSessionName, in.Policy, in.DurationSeconds)
	required(&d, &webToken, "webIdentityToken", in.WebIdentityToken.Reveal())
	if err := d.Err(); err != nil {
		return err
	}
	if in.ProviderId != "" {
		return awsapi.Errorf("ValidationException", "ProviderId is for OAuth 2.0 access tokens; those of OpenID Connect name their provider themselves.")
	}
	return checkPolicies(in.Policy, in.PolicyArns)
}

// AssumeRoleWithWebIdentity makes a session of a role for whom an OIDC provider
// vouches. The request is not signed: the token is the proof, and the role's
// trust policy, which must name the provider, alone decides.
func (s *Service) AssumeRoleWithWebIdentity(ctx context.Context, call *access.Call, in *AssumeRoleWithWebIdentityInput) (*AssumeRoleWithWebIdentityOutput, error) {
	who, err := s.verify(ctx, in.WebIdentityToken.Reveal())
	if err != nil {
		return nil, err
	}
	role, err := s.guard.FindRole(ctx, in.RoleArn)
	if err != nil {
		return nil, err
	}
	call.Caller, call.Account = access.WebIdentity(role.Account, who.issuer, who.audience, who.subject), role.Account
	err = s.guard.Check(ctx, call, "sts:AssumeRoleWithWebIdentity", role.Resource(&question{role: role, sessionName: in.RoleSessionName, web: who}))
	if _, ok := errors.AsType[*access.Denied](err); ok {
		// The same for roles that do not exist.
		return nil, denied("Not authorized to perform sts:AssumeRoleWithWebIdentity")
	}
	if err != nil {
		return nil, err
	}
	o := &access.SessionOptions{Name: in.RoleSessionName, Policies: policies(in.Policy), Provider: call.Caller.Provider}
	if o.Duration, err = duration(in.DurationSeconds, role); err != nil {
		return nil, err
	}
	session, err := s.begin(call, role, o)
	if err != nil {
		return nil, err
	}
	return &AssumeRoleWithWebIdentityOutput{
		Credentials: credentials(session), AssumedRoleUser: assumedRole(session), PackedPolicySize: session.PackedPercent,
		SubjectFromWebIdentityToken: who.subject, Provider: who.issuer, Audience: who.audience,
	}, nil
}

// identity is what a token proved.
type identity struct {
	issuer, audience, subject string
	methods                   []string // amr
}

// algorithms are those that AWS takes. None of them is symmetric: whoever can
// check a signature must not be able to make one.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512}

const (
	maxSubject = 1024
	maxSkew    = time.Minute // by which an issuer's clock may be ahead of ours
)

type claims struct {
	jwt.Claims
	Party   string       `json:"azp"`
	Methods jwt.Audience `json:"amr"` // a string or a list, like the audience
}

func badToken(format string, a ...any) *awsapi.Error {
	return awsapi.Errorf("InvalidIdentityToken", format, a...)
}

// verify checks a token and says whom it is about.
func (s *Service) verify(ctx context.Context, text string) (*identity, error) {
	token, err := jwt.ParseSigned(text, algorithms)
	if err != nil || len(token.Headers) != 1 {
		return nil, badToken("The web identity token is not a JWT that is signed with one of %v.", algorithms)
	}
	// Only to know whose keys to take: nothing that is read here is believed.
	var claimed claims
	if err := token.UnsafeClaimsWithoutVerification(&claimed); err != nil {
		return nil, badToken("The claims of the web identity token are not well-formed.")
	}
	i := s.issuers[claimed.Issuer]
	if i == nil {
		return nil, badToken("No OpenIDConnect provider found in your account for %s", clip(claimed.Issuer))
	}
	keys, err := i.keysFor(ctx, token.Headers[0].KeyID, token.Headers[0].Algorithm)
	if err != nil {
		return nil, err
	}
	var proved claims
	for _, key := range keys {
		if err = token.Claims(key, &proved); err == nil {
			break
		}
	}
	if err != nil {
		return nil, badToken("The signature of the web identity token does not match.")
	}
	return i.accept(&proved, s.now())
}

// accept holds the claims of a token whose signature matches against the time
// and the issuer's configuration.
func (i *issuer) accept(c *claims, now time.Time) (*identity, error) {
	switch {
	case c.Expiry == nil || c.IssuedAt == nil:
		return nil, badToken("The web identity token has no exp or no iat.")
	case !now.Before(c.Expiry.Time()):
		return nil, awsapi.Errorf("ExpiredTokenException", "Token expired: current date/time %d must be before the expiration date/time %d",
			now.Unix(), c.Expiry.Time().Unix())
	case now.Add(maxSkew).Before(c.IssuedAt.Time()), c.NotBefore != nil && now.Add(maxSkew).Before(c.NotBefore.Time()):
		return nil, badToken("The web identity token is not valid yet.")
	case c.Subject == "" || len(c.Subject) > maxSubject:
		return nil, badToken("The web identity token has no sub, or one of more than %d bytes.", maxSubject)
	}
	audience, err := i.audience(c)
	if err != nil {
		return nil, err
	}
	return &identity{issuer: i.URL, audience: audience, subject: c.Subject, methods: c.Methods}, nil
}

// audience is for whom the token was made: as in AWS the authorized party where
// it names one. A token for several needs that, or it would be open which of
// them a policy speaks of.
func (i *issuer) audience(c *claims) (string, error) {
	audience := c.Party
	if audience == "" && len(c.Audience) == 1 {
		audience = c.Audience[0]
	}
	allowed := func(a string) bool { return slices.Contains(i.Audiences, a) }
	if !allowed(audience) || !slices.ContainsFunc(c.Audience, allowed) {
		return "", badToken("Incorrect token audience")
	}
	return audience, nil
}

// errUnavailable: it is not known whether the token is good. Why stands in the log, not in the answer to a stranger.
var errUnavailable = awsapi.Errorf("IDPCommunicationError", "The identity provider could not be asked for its keys. Try again.")
