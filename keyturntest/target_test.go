package keyturntest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
	"github.com/go-json-experiment/json"
	"github.com/keyturn/keyturn/keyturntest"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/server"
)

// One server plays an AWS account, spoken to over HTTP with credentials from the
// environment; another one turns its keys. Only the account that the target is
// configured for may say so.
func TestTurningInAnotherPlace(t *testing.T) {
	ctx := context.Background()
	there := keyturntest.Start(t, func(c *server.Config) {
		c.Now = time.Now
		c.DevCredentials = append(c.DevCredentials, server.DevCredential{AccessKeyID: "AKIATHEOTHERPLACE000", Secret: "of the other place", Account: keyturntest.Account})
	})
	h := httptest.NewServer(there.Handler())
	defer h.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIATHEOTHERPLACE000")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "of the other place")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	const other = "444455556666"
	here := keyturntest.Start(t, func(c *server.Config) {
		c.Targets = []server.Target{{Name: "production", Account: keyturntest.Account, Region: "eu-west-1", Endpoint: h.URL}}
		c.DevCredentials = append(c.DevCredentials, server.DevCredential{AccessKeyID: "AKIAOFANOTHERACCOUNT", Secret: "x", Account: other})
	})

	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion("eu-west-1"), config.WithBaseEndpoint(h.URL))
	if err != nil {
		t.Fatal(err)
	}
	client := kms.NewFromConfig(cfg)
	first, err := client.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: "ECC_NIST_P256", KeyUsage: "SIGN_VERIFY"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/x"), TargetKeyId: first.KeyMetadata.KeyId}); err != nil {
		t.Fatal(err)
	}
	signed, err := client.Sign(ctx, &kms.SignInput{KeyId: aws.String("alias/x"), Message: []byte("m"), SigningAlgorithm: "ECDSA_SHA_256"})
	if err != nil {
		t.Fatal(err)
	}

	policy := rotation.Policy{
		Name: "x", Target: "production", Account: keyturntest.Account, Region: "eu-west-1", Alias: "alias/x", Deactivate: rotation.DeactivateDeny,
	}
	here.Do("us-east-1", "PutPolicy", &rotation.PutPolicyInput{Policy: policy}, nil)
	here.Advance(time.Minute)
	here.Do("us-east-1", "RotateNow", &rotation.RotateNowInput{Name: "x"}, nil)
	here.Advance(25 * time.Hour)

	now, err := client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/x")})
	if err != nil {
		t.Fatal(err)
	}
	if *now.KeyMetadata.KeyId == *first.KeyMetadata.KeyId {
		t.Fatal("the alias still names the first key")
	}
	// The other place knows no generations: the deny statement in the key policy is what deactivates the first key.
	_, err = client.Sign(ctx, &kms.SignInput{KeyId: first.KeyMetadata.Arn, Message: []byte("m"), SigningAlgorithm: "ECDSA_SHA_256"})
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "AccessDeniedException" {
		t.Errorf("signing with the deactivated key: %v", err)
	}
	if _, err := client.Verify(ctx, &kms.VerifyInput{
		KeyId: first.KeyMetadata.Arn, Message: []byte("m"), Signature: signed.Signature, SigningAlgorithm: "ECDSA_SHA_256",
	}); err != nil {
		t.Errorf("verifying with the deactivated key: %v", err)
	}
	w := httptest.NewRecorder()
	here.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/jwks/"+keyturntest.Account+"/eu-west-1/x", nil))
	if n := strings.Count(w.Body.String(), `"kid"`); n != 2 {
		t.Errorf("the key set has %d keys, want both: %s", n, w.Body)
	}

	for _, target := range []string{"production", "nowhere"} {
		policy.Target, policy.Name = target, "mine"
		message := putPolicyAs(t, here, "AKIAOFANOTHERACCOUNT", "x", policy)
		if !strings.Contains(message, "is not configured for account "+other) {
			t.Errorf("another account names the target %s: %s", target, message)
		}
	}
}

// putPolicyAs puts a policy with another credential and returns the answer.
func putPolicyAs(t *testing.T, s *keyturntest.Server, accessKeyID, secret string, p rotation.Policy) string {
	t.Helper()
	body, err := json.Marshal(&rotation.PutPolicyInput{Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequest(http.MethodPost, "http://keyturn.local/", bytes.NewReader(body))
	req.Header.Set("X-Amz-Target", "Keyturn.PutPolicy")
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	hash := sha256.Sum256(body)
	creds := aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secret}
	if err := v4.NewSigner().SignHTTP(t.Context(), creds, req, hex.EncodeToString(hash[:]), "keyturn", "us-east-1", s.Now()); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, req)
	return w.Body.String()
}
