package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/policy"
)

const (
	account = "111122223333"
	other   = "444455556666"
	keyARN  = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
)

// who makes a principal of a short name: "alice" is a user of the account, "444455556666/bob" one of another, "root" the
// root user, "role/KeyAdmin/session" a session of a role, "rds.amazonaws.com" a service.
func who(name string) policy.Principal {
	acct := account
	if before, after, ok := strings.Cut(name, "/"); ok && len(before) == 12 {
		acct, name = before, after
	}
	p := policy.Principal{Account: acct}
	switch {
	case name == "root":
		p.ARN, p.Root = "arn:aws:iam::"+acct+":root", true
	case strings.HasPrefix(name, "role/"):
		role, session, _ := strings.Cut(strings.TrimPrefix(name, "role/"), "/")
		p.ARN = "arn:aws:sts::" + acct + ":assumed-role/" + role + "/" + session
		p.RoleARN = "arn:aws:iam::" + acct + ":role/" + role
	case strings.HasSuffix(name, ".amazonaws.com"):
		p.ARN, p.Service = name, name
	default:
		p.ARN = "arn:aws:iam::" + acct + ":user/" + name
	}
	return p
}

// A table reads like the policy it tests. Each line is "who may|may not|may through the account|is denied, actions…";
// actions without a vendor are of KMS.
type table struct {
	t        *testing.T
	policy   *policy.Policy
	resource string
	context  policy.Context
}

func parse(t *testing.T, kind policy.Kind, doc string) table {
	t.Helper()
	p, err := policy.Parse([]byte(doc), kind)
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return table{t, p, keyARN, nil}
}

func (c table) on(resource string) table { c.resource = resource; return c }

// given is the table for requests that have these condition keys, written as having reads them.
func (c table) given(text string) table { c.context = having(text); return c }

func (c table) check(name, want string, actions ...string) {
	c.t.Helper()
	for _, action := range actions {
		if !strings.Contains(action, ":") {
			action = "kms:" + action
		}
		r := c.policy.Evaluate(&policy.Request{Principal: who(name), Action: action, Resource: c.resource, Context: c.context})
		got := r.Effect.String()
		if r.Via == policy.Account {
			got += " through the account"
		}
		if got != want {
			c.t.Errorf("%s, %s on %s: %s, want %s", name, action, c.resource, got, want)
		}
		if (r.Statement >= 0) != (r.Effect != policy.NoMatch) {
			c.t.Errorf("%s, %s: statement %d for %s", name, action, r.Statement, r.Effect)
		}
	}
}

func (c table) may(name string, actions ...string) { c.t.Helper(); c.check(name, "Allow", actions...) }

func (c table) mayByAccount(name string, actions ...string) {
	c.t.Helper()
	c.check(name, "Allow through the account", actions...)
}

func (c table) mayNot(name string, actions ...string) {
	c.t.Helper()
	c.check(name, "NoMatch", actions...)
}

func (c table) denied(name string, actions ...string) {
	c.t.Helper()
	c.check(name, "Deny", actions...)
}

// The key policy that AWS KMS gives a key by default.
// https://docs.aws.amazon.com/kms/latest/developerguide/key-policy-default.html
func TestDefaultKeyPolicy(t *testing.T) {
	p := parse(t, policy.Resource, `{
		"Version": "2012-10-17",
		"Id": "key-default-1",
		"Statement": [{
			"Sid": "Enable IAM User Permissions",
			"Effect": "Allow",
			"Principal": {"AWS": "arn:aws:iam::111122223333:root"},
			"Action": "kms:*",
			"Resource": "*"
		}]
	}`)
	p.may("root", "Sign", "PutKeyPolicy", "ScheduleKeyDeletion")
	p.mayByAccount("alice", "Sign", "Decrypt", "CreateGrant")
	p.mayByAccount("role/Admin/joe", "Sign")
	p.mayNot("444455556666/bob", "Sign", "DescribeKey")
	p.mayNot("444455556666/root", "Sign", "DescribeKey")
	p.mayNot("root", "secretsmanager:GetSecretValue")
	p.mayNot("rds.amazonaws.com", "Decrypt")
}

// The policy that the console gives a key with an administrator and users, without its conditions.
// https://docs.aws.amazon.com/kms/latest/developerguide/key-policy-overview.html
func TestAdministratorsAndUsers(t *testing.T) {
	p := parse(t, policy.Resource, `{
		"Version": "2012-10-17",
		"Statement": [{
			"Sid": "Allow access for Key Administrators",
			"Effect": "Allow",
			"Principal": {"AWS": ["arn:aws:iam::111122223333:user/KeyAdminUser", "arn:aws:iam::111122223333:role/KeyAdminRole"]},
			"Action": ["kms:Create*", "kms:Describe*", "kms:Enable*", "kms:List*", "kms:Put*", "kms:Update*", "kms:Revoke*",
				"kms:Disable*", "kms:Get*", "kms:Delete*", "kms:TagResource", "kms:UntagResource",
				"kms:ScheduleKeyDeletion", "kms:CancelKeyDeletion"],
			"Resource": "*"
		}, {
			"Sid": "Allow use of the key",
			"Effect": "Allow",
			"Principal": {"AWS": ["arn:aws:iam::111122223333:user/ExampleUser", "arn:aws:iam::444455556666:root"]},
			"Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"],
			"Resource": "*"
		}]
	}`)
	p.may("KeyAdminUser", "CreateAlias", "DescribeKey", "PutKeyPolicy", "GetPublicKey", "ScheduleKeyDeletion")
	p.may("role/KeyAdminRole/joe", "CreateAlias", "DeleteAlias", "UntagResource")
	p.mayNot("KeyAdminUser", "Encrypt", "Decrypt", "Sign", "GenerateDataKey", "TagResources")
	p.may("ExampleUser", "Encrypt", "Decrypt", "ReEncryptFrom", "ReEncryptTo", "GenerateDataKeyPair", "DescribeKey")
	p.mayNot("ExampleUser", "PutKeyPolicy", "GenerateMac", "DescribeKeys")
	p.mayByAccount("444455556666/bob", "Decrypt")
	p.may("444455556666/root", "Decrypt")
	p.mayNot("444455556666/bob", "PutKeyPolicy")
	p.mayNot("root", "DescribeKey", "PutKeyPolicy")

	// Other users, and other things of the same name.
	p.mayNot("keyadminuser", "CreateAlias")
	p.mayNot("KeyAdminRole", "CreateAlias")
	p.mayNot("role/KeyAdminUser/KeyAdminUser", "CreateAlias")
	p.mayNot("444455556666/KeyAdminUser", "CreateAlias")
	p.mayNot("team/KeyAdminUser", "CreateAlias")
}

// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_notaction.html
func TestNotAction(t *testing.T) {
	p := parse(t, policy.Identity, `{
		"Version": "2012-10-17",
		"Statement": {"Effect": "Allow", "NotAction": ["iam:*", "KMS:Schedule*"], "Resource": "*"}
	}`)
	p.may("alice", "Sign", "secretsmanager:GetSecretValue", "CancelKeyDeletion")
	p.mayNot("alice", "iam:CreateUser", "ScheduleKeyDeletion")

	p = parse(t, policy.Identity, `{"Statement": [
		{"Effect": "Allow", "Action": "*", "Resource": "*"},
		{"Effect": "Deny", "NotAction": ["kms:Sign", "kms:Verify"], "Resource": "*"}]}`)
	p.may("alice", "Sign", "Verify")
	p.denied("alice", "Decrypt", "SignAll", "s3:GetObject")
}

// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_notresource.html
func TestNotResource(t *testing.T) {
	p := parse(t, policy.Identity, `{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Action": "kms:*", "Resource": "*"},
		{"Effect": "Deny", "Action": "kms:*", "NotResource": ["arn:aws:kms:us-east-1:111122223333:key/*", "arn:aws:kms:*:*:alias/app-?"]}]}`)
	p.may("alice", "Sign")
	p.on("arn:aws:kms:eu-west-1:111122223333:alias/app-1").may("alice", "UpdateAlias")
	p.on("arn:aws:kms:eu-west-1:111122223333:alias/app-12").denied("alice", "UpdateAlias")
	p.on("arn:aws:kms:us-east-1:444455556666:key/1").denied("alice", "Sign")
	p.on("*").denied("alice", "ListKeys")
}

func TestNotPrincipal(t *testing.T) {
	p := parse(t, policy.Resource, `{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Principal": {"AWS": ["111122223333", "444455556666"]}, "Action": "kms:*", "Resource": "*"},
		{"Effect": "Deny", "NotPrincipal": {"AWS": [
			"arn:aws:iam::111122223333:root",
			"arn:aws:iam::111122223333:user/alice",
			"arn:aws:iam::111122223333:role/Signer",
			"arn:aws:sts::111122223333:assumed-role/Signer/prod"]}, "Action": "kms:Sign", "Resource": "*"}]}`)
	p.mayByAccount("alice", "Sign")
	p.may("root", "Sign")
	p.mayByAccount("role/Signer/prod", "Sign")
	p.denied("bob", "Sign")                // naming the account spares its root user, not everybody in it
	p.denied("role/Signer/test", "Sign")   // nor does the role spare its sessions
	p.denied("444455556666/alice", "Sign") // nor the name of a user the user of that name elsewhere
	p.denied("444455556666/root", "Sign")
	p.mayByAccount("bob", "Verify")
}

func TestWildcardPrincipal(t *testing.T) {
	for _, principal := range []string{`"*"`, `{"AWS": "*"}`, `{"AWS": ["*"]}`} {
		p := parse(t, policy.Resource, `{"Statement": [{"Effect": "Allow", "Principal": `+principal+`, "Action": "kms:Sign", "Resource": "*"}]}`)
		p.may("alice", "Sign")
		p.may("444455556666/bob", "Sign")
		p.may("role/Any/one", "Sign")
		p.mayNot("alice", "Verify")
	}
}

func TestServicePrincipal(t *testing.T) {
	p := parse(t, policy.Resource, `{"Statement": [{"Effect": "Allow", "Principal": {"Service": ["rds.amazonaws.com"], "AWS": "444455556666"}, "Action": "kms:Decrypt", "Resource": "*"}]}`)
	p.may("rds.amazonaws.com", "Decrypt")
	p.mayNot("s3.amazonaws.com", "Decrypt")
	p.mayNot("alice", "Decrypt")
	p.mayByAccount("444455556666/bob", "Decrypt")
}

func TestDenyWinsWhereverItStands(t *testing.T) {
	allow := `{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}`
	deny := `{"Effect": "Deny", "Principal": {"AWS": "111122223333"}, "Action": "kms:S?gn", "Resource": "*"}`
	for _, order := range []string{allow + "," + deny, deny + "," + allow, allow + "," + deny + "," + allow} {
		p := parse(t, policy.Resource, `{"Statement": [`+order+`]}`)
		p.denied("alice", "Sign") // an account in a Deny is everybody in it
		p.denied("root", "Sign")
		p.denied("role/Any/one", "Sign")
		p.may("alice", "Verify")
		p.may("444455556666/bob", "Sign")
	}
}

func TestDirectAllowWinsOverAccount(t *testing.T) {
	byAccount := `{"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "kms:*", "Resource": "*"}`
	direct := `{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:user/alice"}, "Action": "kms:Sign", "Resource": "*"}`
	for _, order := range []string{byAccount + "," + direct, direct + "," + byAccount} {
		p := parse(t, policy.Resource, `{"Statement": [`+order+`]}`)
		p.may("alice", "Sign")
		p.mayByAccount("alice", "Verify")
		p.mayByAccount("bob", "Sign")
	}
}

func TestActionsIgnoreASCIICaseOnly(t *testing.T) {
	p := parse(t, policy.Identity, `{"Statement": [
		{"Effect": "Allow", "Action": "KMS:*", "Resource": "*"},
		{"Effect": "Deny", "Action": ["kMs:sIGN", "kms:SCHEDULE*Deletion", "kms:?ecrypt"], "Resource": "*"}]}`)
	p.may("alice", "Verify", "kms:verify", "Encrypt")
	p.denied("alice", "Sign", "kms:SIGN", "ScheduleKeyDeletion", "Decrypt", "KMS:DECRYPT")
	p.mayNot("alice", "\u212ams:Verify") // a Kelvin sign is no k
}

func TestResourcesHeedCase(t *testing.T) {
	p := parse(t, policy.Identity, `{"Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "arn:aws:kms:us-east-1:111122223333:alias/App*"}]}`)
	p.on("arn:aws:kms:us-east-1:111122223333:alias/App1").may("alice", "UpdateAlias")
	p.on("arn:aws:kms:us-east-1:111122223333:alias/app1").mayNot("alice", "UpdateAlias")
}

// Alias names may hold colons. Whoever may name aliases in account 999999999999 must not make one that a pattern of
// another account's keys allows; and where a pattern denies, it must not be slipped past.
func TestWildcardsDoNotCrossColonsToAllow(t *testing.T) {
	crafted := "arn:aws:kms:us-east-1:999999999999:alias/x:111122223333:key/y"
	const pattern = `"arn:aws:kms:*:111122223333:key/*"`
	p := parse(t, policy.Identity, `{"Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": `+pattern+`}]}`)
	p.may("alice", "Sign")
	p.on(crafted).mayNot("alice", "Sign")
	p = parse(t, policy.Identity, `{"Statement": [
		{"Effect": "Allow", "Action": "*", "Resource": "*"}, {"Effect": "Deny", "Action": "kms:*", "Resource": `+pattern+`}]}`)
	p.on(crafted).denied("alice", "Sign")
	p = parse(t, policy.Identity, `{"Statement": [{"Effect": "Allow", "Action": "kms:*", "NotResource": `+pattern+`}]}`)
	p.on(crafted).mayNot("alice", "Sign")
	p.on("arn:aws:kms:us-east-1:999999999999:alias/z").may("alice", "Sign")

	// A star at the very end reaches over colons, as AWS documents.
	p = parse(t, policy.Identity, `{"Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "arn:aws:kms:us-east-1:*"}]}`)
	p.may("alice", "Sign")
	p.on("arn:aws:kms:us-west-1:111122223333:key/1").mayNot("alice", "Sign")
	p = parse(t, policy.Identity, `{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "arn:aws:secretsmanager:*:*:secret:app/*"}]}`)
	p.on("arn:aws:secretsmanager:us-east-1:111122223333:secret:app/db-AbCdEf").may("alice", "secretsmanager:GetSecretValue")
	p.on("arn:aws:secretsmanager:us-east-1:111122223333:secret:web/app/db-AbCdEf").mayNot("alice", "secretsmanager:GetSecretValue")
}

func ExampleDecide() {
	key, _ := policy.Parse([]byte(`{"Version": "2012-10-17", "Statement": [{
		"Sid": "The account decides", "Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "kms:*", "Resource": "*"}]}`), policy.Resource)
	signers, _ := policy.Parse([]byte(`{"Version": "2012-10-17", "Statement": [
		{"Sid": "Sign", "Effect": "Allow", "Action": "kms:Sign", "Resource": "*"}]}`), policy.Identity)
	d := policy.Decide(&policy.Question{
		Request: policy.Request{
			Principal: policy.Principal{ARN: "arn:aws:iam::111122223333:user/alice", Account: "111122223333"},
			Action:    "kms:Sign",
			Resource:  "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		},
		Owner:    "111122223333",
		Resource: policy.Attached{Name: "key policy", Policy: key},
		Identity: []policy.Attached{{Name: "signers", Policy: signers}},
	}, nil)
	fmt.Println(d.Allowed)
	for _, reason := range d.Reasons {
		fmt.Println(reason)
	}
	// Output:
	// true
	// key policy, statement "The account decides": Allow
	// signers, statement "Sign": Allow
}
