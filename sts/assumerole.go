package sts

import (
	"context"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/policy"
)

// AssumeRoleInput is what AWS STS takes.
type AssumeRoleInput struct {
	RoleArn           string             `json:"roleArn"`
	RoleSessionName   string             `json:"roleSessionName"`
	DurationSeconds   int                `json:"durationSeconds"` // 900 to 43200; 3600 when 0
	Policy            string             `json:"policy"`
	PolicyArns        []PolicyDescriptor `json:"policyArns"`
	Tags              []access.Tag       `json:"tags"`
	TransitiveTagKeys []string           `json:"transitiveTagKeys"`
	ExternalId        string             `json:"externalId"`
	SourceIdentity    string             `json:"sourceIdentity"`
	SerialNumber      string             `json:"serialNumber"`
	TokenCode         string             `json:"-"`
}

type AssumeRoleOutput struct {
	Credentials      Credentials
	AssumedRoleUser  AssumedRoleUser
	PackedPolicySize int    `xml:",omitempty"` // per cent
	SourceIdentity   string `xml:",omitempty"`
}

// Validate implements the checks of the API model.
func (in *AssumeRoleInput) Validate() error {
	var d awsapi.Decoder
	checkRole(&d, in.RoleArn, in.RoleSessionName, in.Policy, in.DurationSeconds)
	if in.ExternalId != "" {
		externalID.Check(&d, "externalId", in.ExternalId)
	}
	if in.SourceIdentity != "" {
		sourceName.Check(&d, "sourceIdentity", in.SourceIdentity)
	}
	if err := d.Err(); err != nil {
		return err
	}
	if err := access.CheckTags(in.Tags); err != nil {
		return invalid("%s", err)
	}
	for _, key := range in.TransitiveTagKeys {
		if !slices.ContainsFunc(in.Tags, func(t access.Tag) bool { return t.Key == key }) {
			return awsapi.Errorf("ValidationException", "The specified transitive tag key must be included in the requested tags.")
		}
	}
	return checkPolicies(in.Policy, in.PolicyArns)
}

func invalid(format string, a ...any) *awsapi.Error {
	return awsapi.Errorf("InvalidParameterValue", format, a...)
}

// AssumeRole makes a session of a role for a caller whom its trust policy
// allows to assume it. Within the account it is enough that the trust policy
// names the caller; where it names the account, and for callers of another
// account, the caller's identity policies must allow it as well. Tags and a
// source identity, also those that the calling session hands on, need
// permissions of their own.
func (s *Service) AssumeRole(ctx context.Context, call *access.Call, in *AssumeRoleInput) (*AssumeRoleOutput, error) {
	role, err := s.guard.FindRole(ctx, in.RoleArn)
	if err != nil {
		return nil, err
	}
	if call.Caller.Type == access.Root {
		call.Touched(role.ARN, role.Account, "AWS::IAM::Role")
		return nil, denied("Roles may not be assumed by root accounts.")
	}
	o, err := s.options(call.Caller, in)
	if err != nil {
		return nil, err
	}
	if err := s.checkAssume(ctx, call, role, in, o); err != nil {
		return nil, err
	}
	if in.SerialNumber != "" || in.TokenCode != "" {
		return nil, errNoMFA
	}
	if o.Duration, err = duration(in.DurationSeconds, role); err != nil {
		return nil, err
	}
	if call.Caller.Type == access.AssumedRole && o.Duration > access.DefaultSession {
		return nil, awsapi.Errorf("ValidationException",
			"The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining")
	}
	session, err := s.begin(call, role, o)
	if err != nil {
		return nil, err
	}
	return &AssumeRoleOutput{
		Credentials: credentials(session), AssumedRoleUser: assumedRole(session),
		PackedPolicySize: session.PackedPercent, SourceIdentity: o.SourceIdentity,
	}, nil
}

// options are what the session is to be: what was asked for, and what the
// calling session hands on.
func (s *Service) options(caller *access.Caller, in *AssumeRoleInput) (*access.SessionOptions, error) {
	o := &access.SessionOptions{
		Name: in.RoleSessionName, Policies: policies(in.Policy), SourceIdentity: in.SourceIdentity,
		Tags: slices.Clone(in.Tags), TransitiveTags: slices.Clone(in.TransitiveTagKeys),
	}
	for _, t := range caller.Tags {
		if !containsFold(caller.TransitiveTags, t.Key) {
			continue
		}
		if slices.ContainsFunc(in.Tags, func(own access.Tag) bool { return strings.EqualFold(own.Key, t.Key) }) {
			return nil, invalid("One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session.")
		}
		o.Tags = append(o.Tags, t)
		o.TransitiveTags = append(o.TransitiveTags, t.Key)
	}
	if len(o.Tags) > access.MaxTags {
		return nil, invalid("A session has at most %d tags, those of the calling session included.", access.MaxTags)
	}
	switch was := caller.SourceIdentity; {
	case was == "":
	case in.SourceIdentity != "" && in.SourceIdentity != was:
		return nil, denied("The source identity of the calling session cannot be changed.")
	default:
		o.SourceIdentity = was
	}
	return o, nil
}

func containsFold(list []string, s string) bool {
	return slices.ContainsFunc(list, func(have string) bool { return strings.EqualFold(have, s) })
}

// checkAssume asks the Guard for each thing that the session is to be.
func (s *Service) checkAssume(ctx context.Context, call *access.Call, role *access.AssumableRole, in *AssumeRoleInput, o *access.SessionOptions) error {
	r := role.Resource(&question{
		role: role, sessionName: in.RoleSessionName, externalID: in.ExternalId, sourceIdentity: in.SourceIdentity,
		tags: in.Tags, transitive: in.TransitiveTagKeys,
	})
	actions := []string{"sts:AssumeRole"}
	if len(o.Tags) > 0 {
		actions = append(actions, "sts:TagSession")
	}
	if o.SourceIdentity != "" {
		actions = append(actions, "sts:SetSourceIdentity")
	}
	for _, action := range actions {
		if err := s.guard.Check(ctx, call, action, r); err != nil {
			return err
		}
	}
	return nil
}

// A question answers for the condition keys that only STS knows.
type question struct {
	role                                    *access.AssumableRole
	sessionName, externalID, sourceIdentity string
	tags                                    []access.Tag
	transitive                              []string
	web                                     *identity // nil: the caller has signed
}

// Values implements policy.Context.
func (q *question) Values(k policy.Key, dst []string) ([]string, bool) {
	switch k.Name {
	case policy.STSRoleSessionName:
		return one(dst, q.sessionName)
	case policy.STSExternalID:
		return one(dst, q.externalID)
	case policy.STSSourceIdentity:
		return one(dst, q.sourceIdentity)
	case policy.STSTransitiveTagKeys:
		return append(dst, q.transitive...), len(q.transitive) > 0
	case policy.AWSRequestTag:
		return tagValue(q.tags, k.Suffix, dst)
	case policy.AWSTagKeys:
		for _, t := range q.tags {
			dst = append(dst, t.Key)
		}
		return dst, len(q.tags) > 0
	case policy.AWSResourceTag:
		return tagValue(q.role.Tags, k.Suffix, dst)
	}
	if q.web == nil || !strings.EqualFold(k.Suffix, policy.IssuerName(q.web.issuer)) {
		return dst, false
	}
	switch k.Name {
	case policy.OIDCAudience:
		return one(dst, q.web.audience)
	case policy.OIDCSubject:
		return one(dst, q.web.subject)
	case policy.OIDCMethods:
		return append(dst, q.web.methods...), len(q.web.methods) > 0
	}
	return dst, false
}

// one appends a value that is there when it is not empty.
func one(dst []string, v string) ([]string, bool) {
	if v == "" {
		return dst, false
	}
	return append(dst, v), true
}

func tagValue(tags []access.Tag, key string, dst []string) ([]string, bool) {
	for _, t := range tags {
		if strings.EqualFold(t.Key, key) {
			return append(dst, t.Value), true
		}
	}
	return dst, false
}
