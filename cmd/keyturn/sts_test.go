//go:build unix

package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// aws runs the AWS CLI, which before 2.13 knows no AWS_ENDPOINT_URL.
func (p *process) aws(env []string, args ...string) (stdout, stderr string, code int) {
	p.t.Helper()
	return p.command("aws", append([]string{"--endpoint-url", p.env["AWS_ENDPOINT_URL"], "--output", "json"}, args...), env...)
}

// sts runs `aws sts …`, which must succeed, and reads what it prints.
func (p *process) sts(out any, env []string, args ...string) {
	p.t.Helper()
	stdout, stderr, code := p.aws(env, append([]string{"sts"}, args...)...)
	if code != 0 {
		p.t.Fatalf("aws sts %s: exit code %d: %s", strings.Join(args, " "), code, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), out); err != nil {
		p.t.Fatalf("aws sts %s: %v in %q", strings.Join(args, " "), err, stdout)
	}
}

// refuses runs the AWS CLI, which must fail and say so as it does for AWS.
func (p *process) refuses(want string, env []string, args ...string) {
	p.t.Helper()
	if _, stderr, code := p.aws(env, args...); code == 0 || !strings.Contains(stderr, want) {
		p.t.Errorf("aws %s: exit code %d: %s\nwant %s", strings.Join(args, " "), code, stderr, want)
	}
}

// The AWS CLI takes on roles of the running process: as a user, and with the token of an OIDC issuer; both outlive a restart.
func TestAWSCLITakesOnRoles(t *testing.T) {
	t.Parallel()
	need(t, "aws")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := newProcess(t)
	write := func(name string, content any) string {
		t.Helper()
		text, ok := content.(string)
		if !ok {
			b, err := json.Marshal(content)
			if err != nil {
				t.Fatal(err)
			}
			text = string(b)
		}
		file := filepath.Join(p.dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	keys := write("keys.json", jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "1", Use: "sig", Algorithm: "ES256"}}})
	p.args = append(p.args, "--config", write("keyturn.yaml", "oidc:\n  - issuer: https://ci.example.com\n    audiences: [sts.amazonaws.com]\n    jwks: "+keys+"\n"))
	p.start()
	must := func(args ...string) {
		t.Helper()
		if stdout, stderr, code := p.run(args...); code != 0 {
			t.Fatalf("keyturn %s: %s%s", strings.Join(args, " "), stdout, stderr)
		}
	}
	trusts := write("trust.json", `{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::000000000000:user/admin"}, "Action": "sts:AssumeRole"},
		{"Effect": "Allow", "Principal": {"Federated": "arn:aws:iam::000000000000:oidc-provider/ci.example.com"}, "Action": "sts:AssumeRoleWithWebIdentity",
		 "Condition": {"StringLike": {"ci.example.com:sub": "repo:acme/*"}}}]}`)
	may := write("may.json", `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kms:ListKeys", "Resource": "*"}]}`)
	must("access", "role", "create", "ci", "--trust", trusts)
	must("access", "policy", "put", "role/ci", "list", "--file", may)

	var who struct{ Arn, UserId, Account string }
	p.sts(&who, nil, "get-caller-identity")
	if who.Arn != "arn:aws:iam::000000000000:user/admin" || who.Account != "000000000000" || !strings.HasPrefix(who.UserId, "AIDA") {
		t.Errorf("the administrator is %+v", who)
	}
	var session struct {
		Credentials     struct{ AccessKeyId, SecretAccessKey, SessionToken, Expiration string }
		AssumedRoleUser struct{ Arn string }
	}
	p.sts(&session, nil, "assume-role", "--role-arn", "arn:aws:iam::000000000000:role/ci", "--role-session-name", "cli", "--duration-seconds", "900")
	env := []string{
		"AWS_ACCESS_KEY_ID=" + session.Credentials.AccessKeyId, "AWS_SECRET_ACCESS_KEY=" + session.Credentials.SecretAccessKey,
		"AWS_SESSION_TOKEN=" + session.Credentials.SessionToken,
	}
	if at, err := time.Parse(time.RFC3339, session.Credentials.Expiration); err != nil || time.Until(at) > 15*time.Minute {
		t.Errorf("it expires %q, %v", session.Credentials.Expiration, err)
	}
	if code := p.stop(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	p.start() // nothing about the session is stored
	p.sts(&who, env, "get-caller-identity")
	if who.Arn != session.AssumedRoleUser.Arn || who.Arn != "arn:aws:sts::000000000000:assumed-role/ci/cli" {
		t.Errorf("the session is %+v", who)
	}
	p.refuses("An error occurred (AccessDeniedException) when calling the CreateKey operation: "+
		"User: arn:aws:sts::000000000000:assumed-role/ci/cli is not authorized", env, "kms", "create-key")
	p.refuses("An error occurred (UnrecognizedClientException)", append(env, "AWS_SESSION_TOKEN="+session.Credentials.SessionToken[:200]), "kms", "list-keys")

	if stdout, stderr, _ := p.command("aws", []string{"--version"}); strings.HasPrefix(stdout+stderr, "aws-cli/2.9.") {
		return // Debian's would ask AWS itself for the role, as it knows no AWS_ENDPOINT_URL
	}
	token := func(subject string) string {
		t.Helper()
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "1"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		text, err := jwt.Signed(signer).Claims(jwt.Claims{
			Issuer: "https://ci.example.com", Subject: subject, Audience: jwt.Audience{"sts.amazonaws.com"},
			IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(time.Minute)),
		}).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	web := func(file string) []string {
		return []string{
			"HOME=" + t.TempDir(), // where the CLI keeps sessions, by the name of the role
			"AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", "AWS_ROLE_ARN=arn:aws:iam::000000000000:role/ci", "AWS_ROLE_SESSION_NAME=build",
			"AWS_WEB_IDENTITY_TOKEN_FILE=" + file,
		}
	}
	p.sts(&who, web(write("token", token("repo:acme/shop"))), "get-caller-identity")
	if who.Arn != "arn:aws:sts::000000000000:assumed-role/ci/build" {
		t.Errorf("with a token of the issuer it is %+v", who)
	}
	p.refuses("Not authorized to perform sts:AssumeRoleWithWebIdentity", web(write("other", token("repo:evil/shop"))), "kms", "list-keys")
}
