package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/server"
)

const account = "111122223333"

var ctx = context.Background()

// A house is a whole server, asked as its administrator.
type house struct {
	t      *testing.T
	server *server.Server
	data   string
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, data: filepath.Join(t.TempDir(), "data")}
	var err error
	h.server, err = server.Open(ctx, server.Config{
		Data: h.data, Account: account, DevCredentials: []server.DevCredential{{AccessKeyID: "ROOT", Secret: "secret", Account: account}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.server.Close() })
	return h
}

func (h *house) config(id, secret, token string) aws.Config {
	return h.server.InProcess(credentials.NewStaticCredentialsProvider(id, secret, token), "eu-central-1")
}

func (h *house) root() aws.Config { return h.config("ROOT", "secret", "") }

// native does one of Keyturn's own operations.
func (h *house) native(c aws.Config, operation string, in, out any) error {
	h.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		h.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://keyturn.local/", strings.NewReader(string(body)))
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "Keyturn."+operation)
	resp, err := c.HTTPClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var e struct {
			Type    string `json:"__type"`
			Message string `json:"message"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
			h.t.Fatal(err)
		}
		return errors.New(e.Type + ": " + e.Message)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

func (h *house) must(operation string, in, out any) {
	h.t.Helper()
	if err := h.native(h.root(), operation, in, out); err != nil {
		h.t.Fatalf("%s: %v", operation, err)
	}
}

// user makes a user with a policy and an access key.
func (h *house) user(name, statements string) aws.Config {
	h.t.Helper()
	h.must("CreateUser", access.CreateUserInput{UserName: name}, nil)
	h.must("PutUserPolicy", access.PutUserPolicyInput{UserName: name, PolicyName: "own", PolicyDocument: `{"Version":"2012-10-17","Statement":[` + statements + `]}`}, nil)
	var out access.CreateAccessKeyOutput
	h.must("CreateAccessKey", access.CreateAccessKeyInput{UserName: name}, &out)
	return h.config(out.AccessKey.AccessKeyId, out.AccessKey.SecretAccessKey.Reveal(), "")
}

func (h *house) explain(in server.ExplainAccessInput) *server.ExplainAccessOutput {
	h.t.Helper()
	out := &server.ExplainAccessOutput{}
	h.must("ExplainAccess", in, out)
	return out
}

// What is explained is what the door does, for every principal, with the statement that decides.
func TestExplainAccess(t *testing.T) {
	h := newHouse(t)
	admin := kms.NewFromConfig(h.root())
	key, err := admin.CreateKey(ctx, &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	id := key.KeyMetadata.KeyId
	if _, err := admin.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/x"), TargetKeyId: id}); err != nil {
		t.Fatal(err)
	}
	alice := h.user("alice", `{"Sid":"Shop","Effect":"Allow","Action":"kms:*","Resource":"*"}`)
	bob := h.user("bob", `{"Effect":"Allow","Action":"kms:*","Resource":"*"},{"Sid":"Stop","Effect":"Deny","Action":"kms:Encrypt","Resource":"*"}`)
	carol := h.user("carol", `{"Effect":"Allow","Action":"kms:ListKeys","Resource":"*"}`)
	dave := h.user("dave", `{"Sid":"Berlin","Effect":"Allow","Action":"kms:Encrypt","Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:shop":"berlin"}}}`)
	erin := h.user("erin", `{"Sid":"All","Effect":"Allow","Action":"*","Resource":"*"}`)
	h.must("PutUserPermissionsBoundary", access.PutUserPermissionsBoundaryInput{UserName: "erin", PermissionsBoundary: `{"Statement":{"Effect":"Allow","Action":"sts:*","Resource":"*"}}`}, nil)
	frank := h.user("frank", `{"Effect":"Allow","Action":"kms:ListKeys","Resource":"*"}`)
	grant, err := admin.CreateGrant(ctx, &kms.CreateGrantInput{KeyId: id, GranteePrincipal: aws.String("arn:aws:iam::" + account + ":user/frank"), Operations: []types.GrantOperation{"Encrypt"}})
	if err != nil {
		t.Fatal(err)
	}
	h.must("CreateRole", access.CreateRoleInput{RoleName: "ci", AssumeRolePolicyDocument: `{"Statement":{"Sid":"Erin","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + account + `:user/erin"},"Action":"sts:AssumeRole"}}`}, nil)
	h.must("PutRolePolicy", access.PutRolePolicyInput{RoleName: "ci", PolicyName: "crypt", PolicyDocument: `{"Statement":{"Effect":"Allow","Action":"kms:Encrypt","Resource":"*"}}`}, nil)
	session, err := sts.NewFromConfig(erin).AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::" + account + ":role/ci"), RoleSessionName: aws.String("run")})
	if err != nil {
		t.Fatal(err)
	}
	c := session.Credentials
	ci := h.config(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken)

	for _, tc := range []struct {
		as, shop string
		config   aws.Config
		allowed  bool
		by       string // policy/Sid of the statement that decided
	}{
		{"user/alice", "", alice, true, "own/Shop"},
		{"arn:aws:iam::" + account + ":user/bob", "", bob, false, "own/Stop"},
		{"user/carol", "", carol, false, ""},
		{"user/dave", "", dave, false, ""},
		{"user/dave", "berlin", dave, true, "own/Berlin"},
		{"user/erin", "", erin, false, ""},
		{"user/frank", "", frank, true, "grant/" + *grant.GrantId},
		{"role/ci", "", ci, true, "crypt/"},
		{"arn:aws:sts::" + account + ":assumed-role/ci/run", "", ci, true, "crypt/"},
		{"root", "", h.root(), true, "key policy/Enable IAM User Permissions"},
	} {
		in := &kms.EncryptInput{KeyId: aws.String("alias/x"), Plaintext: []byte("x")}
		asked := server.ExplainAccessInput{As: tc.as, Action: "kms:Encrypt", Key: "alias/x"}
		if tc.shop != "" {
			in.EncryptionContext = map[string]string{"shop": tc.shop}
			asked.EncryptionContext = in.EncryptionContext
		}
		_, err := kms.NewFromConfig(tc.config).Encrypt(ctx, in)
		got := h.explain(asked)
		by := ""
		if got.DecidedBy != nil {
			by = got.DecidedBy.Policy + "/" + got.DecidedBy.Sid
		}
		if got.Allowed != tc.allowed || (err == nil) != tc.allowed || by != tc.by {
			t.Errorf("%s: explained %+v, decided by %q; the door says %v", tc.as, got, by, err)
		}
		var refused smithy.APIError
		if errors.As(err, &refused) {
			told := strings.Replace(got.Message, ":assumed-role/ci/explain", ":assumed-role/ci/run", 1)
			if told != refused.ErrorMessage() {
				t.Errorf("%s: explained %q, the door says %q", tc.as, told, refused.ErrorMessage())
			}
		}
	}
	if out := h.explain(server.ExplainAccessInput{As: "user/carol", Action: "kms:ListKeys"}); !out.Allowed || out.Resource != "*" {
		t.Errorf("an action without a resource: %+v", out)
	}
	if out := h.explain(server.ExplainAccessInput{As: "user/erin", Action: "sts:AssumeRole", Resource: "arn:aws:iam::" + account + ":role/ci"}); !out.Allowed || out.DecidedBy.Policy != "trust policy" || out.DecidedBy.Sid != "Erin" {
		t.Errorf("taking on a role: %+v", out)
	}
	if out := h.explain(server.ExplainAccessInput{As: "rds.amazonaws.com", Action: "kms:Encrypt", Key: *id}); out.Allowed || out.Principal != "rds.amazonaws.com" {
		t.Errorf("a service: %+v", out)
	}
	for message, in := range map[string]server.ExplainAccessInput{
		"NoSuchEntityException: There is no user, role or session": {As: "user/nobody", Action: "kms:Sign"},
		"NoSuchEntityException":                                {As: "arn:aws:iam::444455556666:user/alice", Action: "kms:Sign"},
		"NotFoundException: Alias":                             {As: "root", Action: "kms:Sign", Key: "alias/none"},
		"NotFoundException: Only keys of account 111122223333": {As: "root", Action: "kms:Sign", Key: "arn:aws:kms:eu-central-1:444455556666:key/" + *id},
		"Only resources of account 111122223333":               {As: "root", Action: "sts:AssumeRole", Resource: "arn:aws:iam::444455556666:role/x"},
		"no wildcards":                                         {As: "root", Action: "kms:*"},
		"Value null at 'action'":                               {As: "root"},
		"exclude each other":                                   {As: "root", Action: "kms:Sign", Key: "alias/x", Resource: "arn:aws:iam::111122223333:role/x"},
	} {
		if err := h.native(h.root(), "ExplainAccess", in, nil); err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("%+v: %v, want %s", in, err, message)
		}
	}
	// It is a permission like any other, and about whom one may ask is part of it.
	err = h.native(alice, "ExplainAccess", server.ExplainAccessInput{As: "user/bob", Action: "kms:Sign", Key: "alias/x"}, nil)
	if err == nil || !strings.Contains(err.Error(), "is not authorized to perform: keyturn:ExplainAccess on resource: arn:aws:iam::"+account+":user/bob") {
		t.Errorf("alice asks about bob: %v", err)
	}
}

// Explaining is recorded as the question of who asks it, and nothing as the deed of whom it is about.
func TestExplainAccessIsRecorded(t *testing.T) {
	h := newHouse(t)
	h.user("alice", `{"Effect":"Allow","Action":"*","Resource":"*"}`)
	h.explain(server.ExplainAccessInput{As: "user/alice", Action: "kms:ListKeys"})
	if err := h.server.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(h.data, "audit", "*"))
	var text string
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text += string(b)
	}
	records := 0
	for line := range strings.Lines(text) {
		if strings.Contains(line, `"eventName":"ExplainAccess"`) {
			records++
			if !strings.Contains(line, `"type":"Root"`) || !strings.Contains(line, `"readOnly":true`) || !strings.Contains(line, `"Action":"kms:ListKeys"`) {
				t.Errorf("recorded %s", line)
			}
		}
	}
	if records != 1 || strings.Contains(text, `"eventName":"kms:ListKeys"`) {
		t.Errorf("%d records in %s", records, text)
	}
}
