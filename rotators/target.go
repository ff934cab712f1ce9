package rotators

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/keyturn/keyturn/rotation"
)

// AWSTarget names a place outside this process that speaks the AWS APIs: an account and Region, or anything at an
// endpoint. Zero members mean what they mean to every AWS tool: the standard chain (environment, shared files, single
// sign-on, container and instance roles) decides.
type AWSTarget struct {
	Name       string // how policies call it
	Profile    string // of the shared configuration files
	Region     string
	Endpoint   string // a URL that replaces AWS's own endpoint for KMS and Secrets Manager; STS keeps its own
	RoleARN    string // a role to assume before anything else
	ExternalID string // the external id that the role's trust policy asks for; needs RoleARN
	Account    string // the account; read from RoleARN when empty, and unknown when that is empty too
}

// Open resolves the credentials' source and Region once; the answer refreshes its credentials by itself and may be
// kept for as long as the process lives. It makes no call to KMS.
func (t AWSTarget) Open(ctx context.Context) (rotation.Target, error) {
	if t.ExternalID != "" && t.RoleARN == "" {
		return rotation.Target{}, fmt.Errorf("opening target %s: an external id needs a role to assume", t.Name)
	}
	options := []func(*config.LoadOptions) error{}
	if t.Region != "" {
		options = append(options, config.WithRegion(t.Region))
	}
	if t.Profile != "" {
		options = append(options, config.WithSharedConfigProfile(t.Profile))
	}
	c, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return rotation.Target{}, fmt.Errorf("opening target %s: %w", t.Name, err)
	}
	if c.Region == "" {
		return rotation.Target{}, fmt.Errorf("opening target %s: no Region is set; name one in the target, in AWS_REGION or in the profile", t.Name)
	}
	account := t.Account
	if t.RoleARN != "" {
		c.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(c), t.RoleARN,
			func(o *stscreds.AssumeRoleOptions) {
				o.RoleSessionName = "keyturn"
				if t.ExternalID != "" {
					o.ExternalID = aws.String(t.ExternalID)
				}
			}))
		if parts := strings.Split(t.RoleARN, ":"); account == "" && len(parts) == 6 {
			account = parts[4]
		}
	}
	if t.Endpoint != "" {
		// After STS has been set up, which must go on speaking to AWS.
		c.BaseEndpoint = aws.String(t.Endpoint)
	}
	return rotation.Target{Name: t.Name, Account: account, Region: c.Region, Config: c}, nil
}
