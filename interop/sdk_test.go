//go:build unix

package interop_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

// config is what aws-sdk-go-v2 needs to call the server as c.
func config(c caller) aws.Config {
	cfg := aws.Config{Region: region, BaseEndpoint: aws.String(house.endpoint)}
	if c.role == "" {
		cfg.Credentials = credentials.NewStaticCredentialsProvider(c.accessKeyID, c.secret, "")
	} else {
		provider := stscreds.NewWebIdentityRoleProvider(sts.NewFromConfig(cfg), c.role, stscreds.IdentityTokenFile(c.tokenFile),
			func(o *stscreds.WebIdentityRoleOptions) { o.RoleSessionName = "interop" })
		cfg.Credentials = aws.NewCredentialsCache(provider)
	}
	return cfg
}

// goSDK is aws-sdk-go-v2, called by the names of operations.
type goSDK struct {
	t   *testing.T
	cfg aws.Config
}

func newGoSDK(t *testing.T, c caller) client { return &goSDK{t, config(c)} }

// method is the SDK's method for an operation; the zero Value where there is none.
func (c *goSDK) method(region, operation string) reflect.Value {
	cfg := c.cfg.Copy()
	cfg.Region = region
	if name, is := strings.CutPrefix(operation, "sts:"); is {
		return reflect.ValueOf(sts.NewFromConfig(cfg)).MethodByName(name)
	}
	return reflect.ValueOf(kms.NewFromConfig(cfg)).MethodByName(operation)
}

// operations are the names of all that the SDK can do.
func operations() (names []string) {
	of := reflect.TypeFor[*kms.Client]()
	for i := range of.NumMethod() {
		if m := of.Method(i); m.Type.NumIn() == 4 && m.Type.NumOut() == 2 { // client, context, input, options → output, error
			names = append(names, m.Name)
		}
	}
	return names
}

func (c *goSDK) knows(operation string) bool { return c.method(region, operation).IsValid() }

// input is what the SDK's method takes.
func (c *goSDK) input(method reflect.Value, in members) reflect.Value {
	c.t.Helper()
	text, err := json.Marshal(in)
	if err != nil {
		c.t.Fatal(err)
	}
	input := reflect.New(method.Type().In(1).Elem())
	if err := json.Unmarshal(text, input.Interface()); err != nil {
		c.t.Fatalf("%v in %s", err, text)
	}
	return input
}

func (c *goSDK) output(out any) (m members) {
	c.t.Helper()
	text, err := json.Marshal(out)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := json.Unmarshal(text, &m); err != nil {
		c.t.Fatal(err)
	}
	return m
}

func (c *goSDK) do(region, operation string, in members) (members, *refusal) {
	c.t.Helper()
	method := c.method(region, operation)
	results := method.Call([]reflect.Value{reflect.ValueOf(context.Background()), c.input(method, in)})
	err, _ := results[1].Interface().(error)
	if err == nil {
		return c.output(results[0].Interface()), nil
	}
	var answered smithy.APIError
	if !errors.As(err, &answered) {
		c.t.Fatalf("%s: %v", operation, err)
	}
	class := reflect.TypeOf(answered).Elem().Name()
	return nil, &refusal{answered.ErrorCode(), class, answered.ErrorMessage()}
}

func (c *goSDK) pages(operation string, in members, size int) []members {
	c.t.Helper()
	limit := int32(size)
	input := c.input(c.method(region, operation), in).Interface()
	client := kms.NewFromConfig(c.cfg)
	switch operation {
	case "DescribeCustomKeyStores":
		return drain(c, kms.NewDescribeCustomKeyStoresPaginator(client, input.(*kms.DescribeCustomKeyStoresInput), func(o *kms.DescribeCustomKeyStoresPaginatorOptions) { o.Limit = limit }))
	case "ListAliases":
		return drain(c, kms.NewListAliasesPaginator(client, input.(*kms.ListAliasesInput), func(o *kms.ListAliasesPaginatorOptions) { o.Limit = limit }))
	case "ListGrants":
		return drain(c, kms.NewListGrantsPaginator(client, input.(*kms.ListGrantsInput), func(o *kms.ListGrantsPaginatorOptions) { o.Limit = limit }))
	case "ListKeyPolicies":
		return drain(c, kms.NewListKeyPoliciesPaginator(client, input.(*kms.ListKeyPoliciesInput), func(o *kms.ListKeyPoliciesPaginatorOptions) { o.Limit = limit }))
	case "ListKeyRotations":
		return drain(c, kms.NewListKeyRotationsPaginator(client, input.(*kms.ListKeyRotationsInput), func(o *kms.ListKeyRotationsPaginatorOptions) { o.Limit = limit }))
	case "ListKeys":
		return drain(c, kms.NewListKeysPaginator(client, input.(*kms.ListKeysInput), func(o *kms.ListKeysPaginatorOptions) { o.Limit = limit }))
	case "ListResourceTags":
		return drain(c, kms.NewListResourceTagsPaginator(client, input.(*kms.ListResourceTagsInput), func(o *kms.ListResourceTagsPaginatorOptions) { o.Limit = limit }))
	case "ListRetirableGrants":
		return drain(c, kms.NewListRetirableGrantsPaginator(client, input.(*kms.ListRetirableGrantsInput), func(o *kms.ListRetirableGrantsPaginatorOptions) { o.Limit = limit }))
	}
	c.t.Fatalf("the SDK has no paginator for %s", operation)
	return nil
}

func drain[Out any](c *goSDK, p interface {
	HasMorePages() bool
	NextPage(context.Context, ...func(*kms.Options)) (*Out, error)
},
) (pages []members) {
	c.t.Helper()
	for p.HasMorePages() {
		out, err := p.NextPage(context.Background())
		if err != nil {
			c.t.Fatalf("page %d: %v", len(pages)+1, err)
		}
		pages = append(pages, c.output(out))
	}
	return pages
}

// What a Go program can ask an error: its type, its code, its HTTP status and
// the id of the request that the server logs.
func TestErrors(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	a := callers["errors"]
	client := kms.NewFromConfig(config(a))
	_, err := client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/missing")})
	var notFound *types.NotFoundException
	if !errors.As(err, &notFound) || notFound.ErrorFault() != smithy.FaultClient {
		t.Errorf("an alias that does not exist: %v", err)
	}
	var response *awshttp.ResponseError
	if !errors.As(err, &response) || response.HTTPStatusCode() != http.StatusBadRequest || response.ServiceRequestID() == "" {
		t.Errorf("its answer: %v", response)
	}
	for name, test := range map[string]struct {
		caller caller
		code   string
	}{
		"another secret":           {caller{accessKeyID: a.accessKeyID, secret: "wrong"}, "InvalidSignatureException"},
		"an unknown access key":    {caller{accessKeyID: "AKIAIOSFODNN7EXAMPLE", secret: a.secret}, "UnrecognizedClientException"},
		"a key of another account": {a, "AccessDeniedException"},
	} {
		_, err := kms.NewFromConfig(config(test.caller)).DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &keyARN})
		var answered smithy.APIError
		if !errors.As(err, &answered) || answered.ErrorCode() != test.code {
			t.Errorf("%s: %v, want %s", name, err, test.code)
		}
	}
	_, err = client.GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1025)})
	var answered smithy.APIError
	if !errors.As(err, &answered) || answered.ErrorCode() != "ValidationException" || !strings.Contains(answered.ErrorMessage(), "'numberOfBytes' failed to satisfy constraint") {
		t.Errorf("too many bytes: %v", err)
	}
}

// Who asks too often is told so by the error that the SDK knows for it, and the
// SDK's own retries get through.
func TestThrottling(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	limits := filepath.Join(dir, "keyturn.yaml")
	if err := os.WriteFile(limits, []byte("rateLimits: {enabled: true, perSecond: {EnableKey: 1}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	limited, err := startServer(dir, "--config", limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := limited.stop(); err != nil {
			t.Error(err)
		}
	})
	ctx := context.Background()
	cfg := config(root(0))
	cfg.BaseEndpoint = &limited.endpoint
	patient := kms.NewFromConfig(cfg, func(o *kms.Options) {
		o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.MaxBackoff, o.RateLimiter = 100, 200*time.Millisecond, ratelimit.None
		})
	})
	hasty := kms.NewFromConfig(cfg, func(o *kms.Options) { o.Retryer = aws.NopRetryer{} })
	key := newKeys(t, patient, 1)[0]
	enable := &kms.EnableKeyInput{KeyId: &key}

	// A slow machine may need several calls until one comes too early.
	err = nil
	for deadline := time.Now().Add(time.Minute); err == nil && time.Now().Before(deadline); {
		_, err = hasty.EnableKey(ctx, enable)
	}
	var answered smithy.APIError
	if !errors.As(err, &answered) || answered.ErrorCode() != "ThrottlingException" || answered.ErrorMessage() != "Rate exceeded" {
		t.Errorf("above the rate: %v", err)
	}
	if retry.IsErrorThrottles(retry.DefaultThrottles).IsErrorThrottle(err) != aws.TrueTernary {
		t.Errorf("the SDK does not take it for throttling: %v", err)
	}
	attempts := 0
	for deadline := time.Now().Add(time.Minute); attempts < 2 && time.Now().Before(deadline); {
		out, err := patient.EnableKey(ctx, enable)
		if err != nil {
			t.Fatalf("with retries: %v", err)
		}
		results, _ := retry.GetAttemptResults(out.ResultMetadata)
		attempts = len(results.Results)
	}
	if attempts < 2 {
		t.Error("no call had to be tried again")
	}
}
