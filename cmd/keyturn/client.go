package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
	"github.com/go-json-experiment/json"
)

// client speaks to one server: KMS through the AWS SDK, Keyturn's own
// operations on the same wire with the same signature.
type client struct {
	aws      aws.Config
	endpoint string
}

// connect finds the server and the credentials in the flags, in the file that
// the server wrote, or in the environment and the AWS configuration files, in
// this order.
func (a *app) connect(ctx context.Context) (*client, error) {
	options := []func(*config.LoadOptions) error{config.WithRetryMaxAttempts(3)}
	endpoint := a.endpoint
	env := map[string]string{}
	if a.clientEnvFile != "" {
		var err error
		if env, err = readEnvFile(a.clientEnvFile); err != nil {
			return nil, usageError(err, "give the file that 'keyturn server --env-file FILE' wrote")
		}
		options = append(options, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env["AWS_SESSION_TOKEN"])))
	}
	for _, from := range []string{env["AWS_ENDPOINT_URL"], os.Getenv("AWS_ENDPOINT_URL_KMS"), os.Getenv("AWS_ENDPOINT_URL")} {
		if endpoint == "" {
			endpoint = from
		}
	}
	if endpoint == "" {
		return nil, usageError(errors.New("no server named"),
			"set AWS_ENDPOINT_URL, or give --endpoint URL, or --server-env FILE with the file that 'keyturn server --env-file FILE' wrote")
	}
	if !strings.HasPrefix(endpoint, "http://") && !strings.HasPrefix(endpoint, "https://") {
		return nil, usageError(fmt.Errorf("endpoint %q is not a URL", endpoint), "it begins with http:// or https://")
	}
	if region := firstOf(a.region, env["AWS_REGION"]); region != "" {
		options = append(options, config.WithRegion(region))
	}
	if a.profile != "" {
		options = append(options, config.WithSharedConfigProfile(a.profile))
	}
	if bundle := env["AWS_CA_BUNDLE"]; bundle != "" {
		pem, err := os.ReadFile(bundle)
		if err != nil {
			return nil, usageError(err, "the server's file names it as the certificate to trust")
		}
		options = append(options, config.WithCustomCABundle(bytes.NewReader(pem)))
	}
	options = append(options, config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(time.Minute)))
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, usageError(err, "check the AWS configuration files, or name a profile with --profile")
	}
	cfg.BaseEndpoint = aws.String(endpoint)
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	return &client{aws: cfg, endpoint: endpoint}, nil
}

func (c *client) kms() *kms.Client { return kms.NewFromConfig(c.aws) }

// call does one of Keyturn's own operations. out may be nil.
func (c *client) call(ctx context.Context, operation string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encoding the request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint+"/", bytes.NewReader(body))
	if err != nil {
		return usageError(err, "check the endpoint URL")
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "Keyturn."+operation)
	creds, err := c.aws.Credentials.Retrieve(ctx)
	if err != nil {
		return &cliError{
			err: errors.New("no credentials found"), code: exitUsage,
			hint: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give --server-env FILE or --profile NAME",
		}
	}
	hash := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(ctx, creds, req, hex.EncodeToString(hash[:]), "keyturn", c.aws.Region, time.Now()); err != nil {
		return fmt.Errorf("signing the request: %w", err)
	}
	resp, err := c.aws.HTTPClient.Do(req)
	if err != nil {
		return unavailable(c.endpoint, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return unavailable(c.endpoint, err)
	}
	if resp.StatusCode != http.StatusOK {
		return newAPIError(resp.StatusCode, answer)
	}
	if out == nil || len(answer) == 0 {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("reading the answer to %s: %w", operation, err)
	}
	return nil
}

func unavailable(endpoint string, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	hint := "is the server running, and is this its address? The operation may have happened"
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		hint = "is the server running, and is this its address?"
	}
	return &cliError{err: fmt.Errorf("no answer from %s: %w", endpoint, err), hint: hint, code: exitUnavailable}
}

// apiError is an answer that says no.
type apiError struct {
	Code, Message string
	Status        int
}

func newAPIError(status int, body []byte) *apiError {
	var wire struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &wire) != nil || wire.Type == "" {
		return &apiError{Code: http.StatusText(status), Message: "the answer is not from a Keyturn server", Status: status}
	}
	return &apiError{Code: wire.Type, Message: wire.Message, Status: status}
}

func (e *apiError) Error() string { return e.Code + ": " + e.Message }

func (e *apiError) exitCode() int {
	switch {
	case strings.HasPrefix(e.Code, "AccessDenied"), e.Code == "UnrecognizedClientException",
		strings.Contains(e.Code, "Signature"), e.Code == "MissingAuthenticationTokenException":
		return exitDenied
	case strings.Contains(e.Code, "NotFound"), e.Code == "NoSuchEntityException":
		return exitNotFound
	case e.Code == "InvalidStateException":
		return exitFailed
	case strings.Contains(e.Code, "Validation"), strings.HasPrefix(e.Code, "Invalid"), strings.HasPrefix(e.Code, "Malformed"):
		return exitUsage
	case e.Status >= http.StatusInternalServerError:
		return exitUnavailable
	}
	return exitFailed
}

func (e *apiError) hint() string {
	switch e.exitCode() {
	case exitDenied:
		if strings.HasPrefix(e.Code, "AccessDenied") {
			return "the message names what is missing; 'keyturn access explain' says why, 'keyturn access policy put' gives a policy"
		}
		return "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and this machine's clock"
	case exitUnavailable:
		return "the server's log has the details under the request id"
	}
	return ""
}

// wrapSDK turns an error of the AWS SDK into one of ours, so that exit codes
// and hints do not depend on which client made the call.
func wrapSDK(endpoint string, err error) error {
	if err == nil {
		return nil
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		status := http.StatusBadRequest
		if api.ErrorFault() == smithy.FaultServer {
			status = http.StatusInternalServerError
		}
		return &apiError{Code: api.ErrorCode(), Message: api.ErrorMessage(), Status: status}
	}
	return unavailable(endpoint, err)
}

// readEnvFile reads NAME=value lines.
func readEnvFile(name string) (map[string]string, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	env := map[string]string{}
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, fmt.Errorf("%s, line %d: not NAME=value", name, i+1)
		}
		env[key] = value
	}
	return env, nil
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
