package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/keyturn/keyturn/access"
)

// benchGrants is how many grants a restricted key has.
const benchGrants = 50

// restrict makes a user for one operation on one key and returns an SDK
// configuration with its access key. under "rules", the key policy has five
// statements with three conditions, all of which have to be evaluated to find
// that the caller may; under "grants" nothing allows it but the last of 50
// grants. Both kinds of key have the 50 grants.
func (k *keyturn) restrict(ctx context.Context, under, keyID, operation string) (aws.Config, error) {
	account, err := k.account(ctx, keyID)
	if err != nil {
		return aws.Config{}, err
	}
	users := make([]string, benchGrants)
	for i := range users {
		users[i] = fmt.Sprintf("bench-%s-%d", strings.ToLower(rand.Text()[:8]), i)
		if err := k.native(ctx, http.DefaultClient, "CreateUser", &access.CreateUserInput{UserName: users[i]}, nil); err != nil {
			return aws.Config{}, err
		}
	}
	caller := "arn:aws:iam::" + account + ":user/" + users[benchGrants-1]
	if under == "rules" {
		policy := strings.NewReplacer("ACCOUNT", account, "CALLER", caller, "OPERATION", operation).Replace(rulesPolicy)
		if _, err := k.sdk.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: &keyID, Policy: &policy}); err != nil {
			return aws.Config{}, err
		}
	}
	for i, user := range users {
		granted := types.GrantOperation(operation)
		if under == "rules" && i == benchGrants-1 {
			granted = types.GrantOperationDescribeKey
		}
		if _, err := k.sdk.CreateGrant(ctx, &kms.CreateGrantInput{
			KeyId: &keyID, GranteePrincipal: aws.String("arn:aws:iam::" + account + ":user/" + user), Operations: []types.GrantOperation{granted},
		}); err != nil {
			return aws.Config{}, err
		}
	}
	var key struct {
		AccessKey struct{ AccessKeyId, SecretAccessKey string }
	}
	if err := k.native(ctx, http.DefaultClient, "CreateAccessKey", &access.CreateAccessKeyInput{UserName: users[benchGrants-1]}, &key); err != nil {
		return aws.Config{}, err
	}
	cfg := k.aws.Copy()
	cfg.Credentials = credentials.NewStaticCredentialsProvider(key.AccessKey.AccessKeyId, key.AccessKey.SecretAccessKey, "")
	return cfg, nil
}

func (k *keyturn) account(ctx context.Context, keyID string) (string, error) {
	out, err := k.sdk.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &keyID})
	if err != nil {
		return "", err
	}
	return *out.KeyMetadata.AWSAccountId, nil
}

// rulesPolicy is a key policy as teams with several duties have it.
const rulesPolicy = `{"Version": "2012-10-17", "Statement": [
	{"Sid": "Account", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::ACCOUNT:root"}, "Action": "kms:*", "Resource": "*"},
	{"Sid": "FromHereOnly", "Effect": "Deny", "Principal": {"AWS": "CALLER"}, "Action": "kms:*", "Resource": "*",
		"Condition": {"NotIpAddress": {"aws:SourceIp": ["10.0.0.0/8", "127.0.0.0/8"]}}},
	{"Sid": "NoAdministration", "Effect": "Deny", "Principal": {"AWS": "CALLER"}, "Action": ["kms:Put*", "kms:Schedule*", "kms:Disable*", "kms:Create*"], "Resource": "*"},
	{"Sid": "Auditors", "Effect": "Allow", "Principal": {"AWS": "*"}, "Action": ["kms:Describe*", "kms:Get*", "kms:List*"], "Resource": "*",
		"Condition": {"StringEquals": {"aws:PrincipalTag/duty": "audit"}}},
	{"Sid": "ByItsAlias", "Effect": "Allow", "Principal": {"AWS": "CALLER"}, "Action": "kms:OPERATION", "Resource": "*",
		"Condition": {"StringLike": {"kms:RequestAlias": "alias/bench-*"}}}
]}`
