//go:build unix

package interop_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// caller is who a client calls as: by an access key, or as a role that it
// assumes with the token of a web identity.
type caller struct {
	account             string
	accessKeyID, secret string
	role, tokenFile     string
}

// callers are users, each in an account of its own, by the client that uses them.
// A user may do everything; so may nobody else in the account but the role "ci",
// which may describe keys.
var callers = map[string]caller{}

// clientNames are the keys of callers.
var clientNames = []string{"go", "boto3", "cli", "node-v3", "node-v2", "tink", "gocloud", "encryption-sdk", "documents", "errors"}

// root is the root user of the account of the i-th client.
func root(i int) caller {
	return caller{account: fmt.Sprintf("%012d", 100000000001+i), accessKeyID: fmt.Sprintf("AKIA%012d", i), secret: "root"}
}

// variables are what tells a client who it is and where the server is.
func (c caller) variables() map[string]string {
	v := map[string]string{"AWS_ENDPOINT_URL": house.endpoint, "AWS_REGION": region, "AWS_DEFAULT_REGION": region}
	if c.role == "" {
		v["AWS_ACCESS_KEY_ID"], v["AWS_SECRET_ACCESS_KEY"] = c.accessKeyID, c.secret
	} else {
		v["AWS_ROLE_ARN"], v["AWS_WEB_IDENTITY_TOKEN_FILE"], v["AWS_ROLE_SESSION_NAME"] = c.role, c.tokenFile, "interop"
	}
	return v
}

// environment is that of a program that is to call the server as c.
func (c caller) environment() []string {
	env := plainEnvironment()
	for name, value := range c.variables() {
		env = append(env, name+"="+value)
	}
	return env
}

const everythingAllowed = `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}`

// prepareCallers makes the users and roles.
func prepareCallers() error {
	for i, name := range clientNames {
		r := root(i)
		trust := fmt.Sprintf(`{"Version": "2012-10-17", "Statement": [
			{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "arn:aws:iam::%[1]s:user/interop"}},
			{"Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity", "Principal": {"Federated": "arn:aws:iam::%[1]s:oidc-provider/%[2]s"},
				"Condition": {"StringEquals": {"%[2]s:aud": "sts.amazonaws.com", "%[2]s:sub": "system:serviceaccount:shop:orders"}}}]}`, r.account, issuer)
		describe := strings.Replace(everythingAllowed, `"*"`, `"kms:DescribeKey"`, 1)
		var made struct {
			AccessKey struct{ AccessKeyId, SecretAccessKey string }
		}
		for _, request := range []struct {
			operation string
			in        members
			out       any
		}{
			{"CreateUser", members{"UserName": "interop"}, nil},
			{"PutUserPolicy", members{"UserName": "interop", "PolicyName": "all", "PolicyDocument": everythingAllowed}, nil},
			{"CreateAccessKey", members{"UserName": "interop"}, &made},
			{"CreateRole", members{"RoleName": "ci", "AssumeRolePolicyDocument": trust}, nil},
			{"PutRolePolicy", members{"RoleName": "ci", "PolicyName": "describe", "PolicyDocument": describe}, nil},
		} {
			if err := native(r, request.operation, request.in, request.out); err != nil {
				return fmt.Errorf("%s: %w", request.operation, err)
			}
		}
		callers[name] = caller{account: r.account, accessKeyID: made.AccessKey.AccessKeyId, secret: made.AccessKey.SecretAccessKey}
	}
	return nil
}

// native does one of Keyturn's own operations. out may be nil.
func native(c caller, operation string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, house.endpoint, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "Keyturn."+operation)
	hash := sha256.Sum256(body)
	key := aws.Credentials{AccessKeyID: c.accessKeyID, SecretAccessKey: c.secret}
	if err := v4.NewSigner().SignHTTP(req.Context(), key, req, hex.EncodeToString(hash[:]), "keyturn", region, time.Now()); err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, answer)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// The OpenID Connect provider whose word the server takes: a cluster's, for its
// service accounts.
const issuer = "oidc.cluster.test/shop"

// identityProvider writes the server's configuration of the provider to dir, and
// a token of orders, one of its service accounts.
func identityProvider(dir string) (config, tokenFile string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	encode := base64.RawURLEncoding.EncodeToString
	point, err := key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		return "", "", err
	}
	keys := fmt.Sprintf(`{"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "1", "x": %q, "y": %q}]}`,
		encode(point[1:33]), encode(point[33:]))
	now := time.Now()
	claims := fmt.Sprintf(`{"iss": "https://%s", "aud": ["sts.amazonaws.com"], "sub": "system:serviceaccount:shop:orders", "iat": %d, "exp": %d}`,
		issuer, now.Unix(), now.Add(time.Hour).Unix())
	token := encode([]byte(`{"alg": "ES256", "kid": "1"}`)) + "." + encode([]byte(claims))
	digest := sha256.Sum256([]byte(token))
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		return "", "", err
	}
	token += "." + encode(append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...))
	config, tokenFile = filepath.Join(dir, "keyturn.yaml"), filepath.Join(dir, "token")
	jwks := filepath.Join(dir, "jwks.json")
	for name, content := range map[string]string{
		jwks: keys, tokenFile: token,
		config: fmt.Sprintf("oidc:\n  - issuer: https://%s\n    audiences: [sts.amazonaws.com]\n    jwks: %s\n", issuer, jwks),
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			return "", "", err
		}
	}
	return config, tokenFile, nil
}
