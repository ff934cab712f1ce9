// Package sts is the AWS Security Token Service, as far as callers need it to
// become somebody: GetCallerIdentity, AssumeRole, AssumeRoleWithWebIdentity and
// GetSessionToken, in the AWS Query protocol.
//
// It promises that nobody gets a session whom the role's trust policy does not
// allow, and who signs with credentials also not without his own account's
// leave, unless the trust policy names him; that a session may do no more than
// its role and its session policies both allow; and that its end is no later
// than the role permits. A web identity is believed when its token is signed
// by a key of a configured issuer, for a configured audience, at this time.
//
// It trusts the Guard for decisions and for the sessions themselves, which have
// no row (see access.Session); the issuers in the configuration to vouch for
// whom they like; and TLS, or a file, to say which keys are theirs. Whoever
// controls an issuer can be anybody whom trust policies let in from it.
//
// It fails closed: a token that cannot be checked because its issuer does not
// answer is refused. Tokens are never logged.
package sts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/policy"
)

// Config is what a Service works with. Guard is required.
type Config struct {
	Guard   *access.Guard
	Issuers []Issuer
	Now     func() time.Time // nil: time.Now
	Logger  *slog.Logger     // nil: slog.Default
}

// Service performs the operations. It is safe for concurrent use.
type Service struct {
	guard   *access.Guard
	issuers map[string]*issuer // the iss of tokens → issuer
	now     func() time.Time
}

// New returns a Service. The errors are those of the issuers' configuration;
// nothing is fetched yet.
func New(c Config) (*Service, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	s := &Service{guard: c.Guard, issuers: map[string]*issuer{}, now: c.Now}
	names := map[string]bool{}
	for _, config := range c.Issuers {
		i, err := newIssuer(config, c.Now, c.Logger)
		if err != nil {
			return nil, fmt.Errorf("issuer %q: %w", config.URL, err)
		}
		if name := strings.ToLower(policy.IssuerName(config.URL)); names[name] {
			return nil, fmt.Errorf("issuer %q is given twice", config.URL)
		} else {
			names[name] = true
		}
		s.issuers[config.URL] = i
	}
	return s, nil
}

// API returns the operations for awsapi.NewHandler.
func (s *Service) API() awsapi.Service {
	return awsapi.Service{
		Name: "sts", SigningName: "sts", EventSource: "sts.amazonaws.com", InternalCode: "InternalFailure",
		Global:       true, // older clients sign for us-east-1, wherever they are
		QueryVersion: "2011-06-15", QueryNamespace: "https://sts.amazonaws.com/doc/2011-06-15/",
		Known: []string{
			"AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "AssumeRoot", "DecodeAuthorizationMessage", "GetAccessKeyInfo",
			"GetCallerIdentity", "GetDelegatedAccessToken", "GetFederationToken", "GetSessionToken", "GetWebIdentityToken",
		},
		Notes: compatibilityNotes,
		// They write nothing but their record, and CloudTrail calls them read-only too.
		Operations: []awsapi.Operation{
			awsapi.Op("GetCallerIdentity", s.GetCallerIdentity).ReadOnly(),
			awsapi.Op("AssumeRole", s.AssumeRole).ReadOnly(),
			awsapi.Op("AssumeRoleWithWebIdentity", s.AssumeRoleWithWebIdentity).ReadOnly().Unsigned(),
			awsapi.Op("GetSessionToken", s.GetSessionToken).ReadOnly(),
		},
	}
}

type GetCallerIdentityInput struct{}

type GetCallerIdentityOutput struct {
	Arn     string
	UserId  string
	Account string
}

// GetCallerIdentity says who signed the request. Nobody needs a permission for it, nor can it be denied.
func (s *Service) GetCallerIdentity(_ context.Context, call *access.Call, _ *GetCallerIdentityInput) (*GetCallerIdentityOutput, error) {
	c := call.Caller
	return &GetCallerIdentityOutput{Arn: c.ARN, UserId: c.UserID, Account: c.Account}, nil
}

// Credentials are temporary. All three must be presented.
type Credentials struct {
	AccessKeyId     string
	SecretAccessKey access.IssuedSecret
	SessionToken    access.IssuedSecret
	Expiration      time.Time
}

// AssumedRoleUser is who the holder of the credentials is.
type AssumedRoleUser struct {
	AssumedRoleId string
	Arn           string
}

func credentials(s *access.Session) Credentials {
	return Credentials{
		AccessKeyId: s.AccessKeyID, SecretAccessKey: access.IssuedSecret{Secret: s.Secret},
		SessionToken: access.IssuedSecret{Secret: s.Token}, Expiration: s.Expires,
	}
}

func assumedRole(s *access.Session) AssumedRoleUser {
	return AssumedRoleUser{AssumedRoleId: s.Caller.UserID, Arn: s.Caller.ARN}
}

// GetSessionTokenInput: DurationSeconds is 900 to 129600; 43200 when 0.
type GetSessionTokenInput struct {
	DurationSeconds int    `json:"durationSeconds"`
	SerialNumber    string `json:"serialNumber"`
	TokenCode       string `json:"-"`
}

type GetSessionTokenOutput struct{ Credentials Credentials }

var sessionSeconds = awsapi.Limits{Min: 900, Max: 129600}

// Validate implements the checks of the API model.
func (in *GetSessionTokenInput) Validate() error {
	var d awsapi.Decoder
	if in.DurationSeconds != 0 {
		sessionSeconds.CheckInt(&d, "durationSeconds", int64(in.DurationSeconds))
	}
	return d.Err()
}

// GetSessionToken makes a session of the calling user, who may do with it what
// the user may, but manage no identities. As in AWS no permission is needed.
func (s *Service) GetSessionToken(ctx context.Context, call *access.Call, in *GetSessionTokenInput) (*GetSessionTokenOutput, error) {
	if in.SerialNumber != "" || in.TokenCode != "" {
		return nil, errNoMFA
	}
	seconds := in.DurationSeconds
	if seconds == 0 {
		seconds = 43200
	}
	session, err := s.guard.NewUserSession(ctx, call, &access.SessionOptions{Duration: time.Duration(seconds) * time.Second})
	switch {
	case errors.Is(err, access.ErrNoUser) && (call.Caller.Type == access.AssumedRole || !call.Caller.IssuedAt.IsZero()):
		return nil, denied("Cannot call GetSessionToken with session credentials")
	case errors.Is(err, access.ErrNoUser):
		return nil, denied("Only users of the server can call GetSessionToken, not %s", call.Caller.ARN)
	case err != nil:
		return nil, err
	}
	call.Response = recorded(session, false)
	return &GetSessionTokenOutput{Credentials: credentials(session)}, nil
}

// errNoMFA: there are no MFA devices here, so none belongs to anybody.
var errNoMFA = denied("MultiFactorAuthentication failed, unable to validate MFA code. Please verify your MFA serial number is valid and associated with this user.")

func denied(format string, a ...any) *awsapi.Error {
	return awsapi.Errorf("AccessDeniedException", format, a...)
}

// recorded is what of a session belongs into the audit log: which access key was given out, until when, for whom.
func recorded(s *access.Session, role bool) []byte {
	b := awsapi.AppendString([]byte(`{"credentials":{"accessKeyId":`), s.AccessKeyID)
	b = awsapi.AppendString(append(b, `,"expiration":`...), s.Expires.Format(time.RFC3339))
	b = append(b, '}')
	if role {
		b = awsapi.AppendString(append(b, `,"assumedRoleUser":{"assumedRoleId":`...), s.Caller.UserID)
		b = awsapi.AppendString(append(b, `,"arn":`...), s.Caller.ARN)
		b = append(b, '}')
	}
	return append(b, '}')
}

// A PolicyDescriptor names a managed policy, of which there are none here.
type PolicyDescriptor struct {
	Arn string `json:"arn" query:"arn"`
}

// Text constraints of the API model.
var (
	namePattern  = awsapi.NewPattern(`[\w+=,.@-]*`, `^[\w+=,.@-]*$`)
	roleARN      = awsapi.Text{Min: 20, Max: 2048}
	sessionName  = awsapi.Text{Min: 2, Max: 64, Pattern: namePattern}
	sourceName   = awsapi.Text{Min: 2, Max: 64, Pattern: namePattern}
	externalID   = awsapi.Text{Min: 2, Max: 1224, Pattern: awsapi.NewPattern(`[\w+=,.@:\/-]*`, `^[\w+=,.@:\/-]*$`)}
	policyText   = awsapi.Text{Min: 1, Max: 2048, Pattern: awsapi.NewPattern(`[\u0009\u000A\u000D\u0020-\u00FF]+`, `^[\x{0009}\x{000A}\x{000D}\x{0020}-\x{00FF}]+$`)}
	roleSeconds  = awsapi.Limits{Min: 900, Max: 43200}
	webToken     = awsapi.Text{Min: 4, Max: 20000, Sensitive: true}
	errTwoPolicy = awsapi.Errorf("ValidationException", "There are no managed policies here, so PolicyArns cannot name any. Give the document as Policy.")
)

// checkRole holds what the operations on roles have in common against the model.
func checkRole(d *awsapi.Decoder, arn, name, document string, seconds int) {
	required(d, &roleARN, "roleArn", arn)
	required(d, &sessionName, "roleSessionName", name)
	if document != "" {
		policyText.Check(d, "policy", document)
	}
	if seconds != 0 {
		roleSeconds.CheckInt(d, "durationSeconds", int64(seconds))
	}
}

func required(d *awsapi.Decoder, t *awsapi.Text, name, value string) {
	if value == "" {
		d.Missing(name)
		return
	}
	t.Check(d, name, value)
}

// checkPolicies refuses session policies that do not compile.
func checkPolicies(document string, arns []PolicyDescriptor) error {
	if len(arns) > 0 {
		return errTwoPolicy
	}
	if document == "" {
		return nil
	}
	if _, err := policy.Parse([]byte(document), policy.Identity); err != nil {
		return awsapi.Errorf("MalformedPolicyDocumentException", "%s", err)
	}
	return nil
}

// duration is how long a session lasts, or why it may not last that long.
func duration(seconds int, role *access.AssumableRole) (time.Duration, error) {
	d := time.Duration(seconds) * time.Second
	if d == 0 {
		d = access.DefaultSession
	}
	if d > role.MaxSession {
		return 0, awsapi.Errorf("ValidationException", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	return d, nil
}

// begin makes the session of a role, and says in AWS's words when it would be too large.
func (s *Service) begin(call *access.Call, role *access.AssumableRole, o *access.SessionOptions) (*access.Session, error) {
	session, err := s.guard.NewRoleSession(role, o)
	if large, ok := errors.AsType[*access.PackedTooLargeError](err); ok {
		return nil, awsapi.Errorf("PackedPolicyTooLarge", "%s", large)
	}
	if err != nil {
		return nil, err
	}
	call.Response = recorded(session, true)
	return session, nil
}

// policies is the list of session policies that one document makes.
func policies(document string) []string {
	if document == "" {
		return nil
	}
	return []string{document}
}

// clip makes what a stranger sent fit to be quoted back to him.
func clip(s string) string {
	if utf8.RuneCountInString(s) > 200 {
		s = string([]rune(s)[:200]) + "..."
	}
	return s
}
