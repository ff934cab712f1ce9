package access_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// The keys that call and caller answer for, and nobody else may.
var globalKeys = []string{
	"aws:CalledVia", "aws:CalledViaFirst", "aws:CalledViaLast", "aws:CurrentTime", "aws:EpochTime", "aws:FederatedProvider",
	"aws:MultiFactorAuthAge", "aws:MultiFactorAuthPresent", "aws:PrincipalAccount", "aws:PrincipalArn", "aws:PrincipalIsAWSService",
	"aws:PrincipalServiceName", "aws:PrincipalTag/team", "aws:PrincipalType", "aws:referer", "aws:RequestedRegion", "aws:ResourceAccount",
	"aws:SecureTransport", "aws:SourceIdentity", "aws:SourceIp", "aws:TokenIssueTime", "aws:UserAgent", "aws:userid", "aws:username",
	"aws:ViaAWSService", "kms:CallerAccount", "kms:ViaService",
}

// has reports whether the key has the value for the call, "" for none, by asking a key policy that allows no other.
func (h *house) has(call *access.Call, key, value string, resource policy.Context) bool {
	h.t.Helper()
	condition := fmt.Sprintf(`"StringEquals": {%q: %q}`, key, value)
	for prefix, operator := range map[string]string{
		"aws:CurrentTime": "DateEquals", "aws:EpochTime": "NumericEquals", "aws:TokenIssueTime": "DateEquals", "aws:SourceIp": "IpAddress",
		"aws:CalledVia": "ForAnyValue:StringEquals",
	} {
		if key == prefix {
			condition = fmt.Sprintf(`%q: {%q: %q}`, operator, key, value)
		}
	}
	if value == "" {
		condition = fmt.Sprintf(`"Null": {%q: true}`, key)
	}
	return h.Guard.Allows(call, "kms:Sign", access.Resource{
		ARN: keyARN, Account: account, Type: typeKey, Context: resource,
		Policy: keyPolicy(h.t, `{"Effect": "Allow", "Principal": {"AWS": "*", "Service": "rds.amazonaws.com"}, "Action": "*", "Resource": "*", "Condition": {`+condition+`}}`),
	})
}

// A liar is the context of a resource whose owner has an answer to every question. It keeps those that it was asked.
type liar struct{ asked map[string]bool }

func (l liar) Values(k policy.Key, dst []string) ([]string, bool) {
	l.asked[k.String()] = true
	return append(dst, "a lie"), true
}

func TestGlobalConditionKeys(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	user := &access.Caller{
		Account: account, ARN: "arn:aws:iam::111122223333:user/div/alice", UserID: "AIDAEXAMPLE", UserName: "alice", Type: access.IAMUser,
		Tags: []access.Tag{{Key: "Team", Value: "red"}},
	}
	session := &access.Caller{
		Account: account, ARN: "arn:aws:sts::111122223333:assumed-role/Signer/joe", RoleARN: "arn:aws:iam::111122223333:role/path/Signer",
		UserID: "AROAEXAMPLE:joe", Type: access.AssumedRole, IssuedAt: h.now.Add(-90 * time.Second), MFA: true,
		Provider: "arn:aws:iam::111122223333:oidc-provider/issuer.example.com", SourceIdentity: "joe@example.com",
	}
	plain := *session
	plain.MFA, plain.Provider, plain.SourceIdentity = false, "", ""
	root := &access.Caller{Account: account, ARN: access.RootARN(account), UserID: account, Type: access.Root}
	service := &access.Caller{Account: account, ARN: "rds.amazonaws.com", UserID: "rds.amazonaws.com", Type: access.AWSService}

	always := map[string]string{
		"aws:CurrentTime": "2026-11-23T12:00:00Z", "aws:EpochTime": "1795435200", "aws:RequestedRegion": "us-east-1", "aws:ResourceAccount": account,
		"aws:SecureTransport": "true", "aws:SourceIp": "192.0.2.1", "aws:UserAgent": "aws-cli/2.31", "aws:ViaAWSService": "false",
		"kms:CallerAccount": account, "aws:PrincipalIsAWSService": "false", "aws:PrincipalAccount": account,
	}
	for name, tc := range map[string]struct {
		caller *access.Caller
		change func(*access.Call)
		want   map[string]string // beyond always; "": has none
	}{
		"user": {user, nil, map[string]string{
			"aws:PrincipalArn": user.ARN, "aws:PrincipalType": "User", "aws:userid": "AIDAEXAMPLE", "aws:username": "alice", "aws:PrincipalTag/team": "red",
		}},
		"session": {session, nil, map[string]string{
			"aws:PrincipalArn": session.RoleARN, "aws:PrincipalType": "AssumedRole", "aws:userid": "AROAEXAMPLE:joe",
			"aws:TokenIssueTime": "2026-11-23T11:58:30Z", "aws:MultiFactorAuthPresent": "true", "aws:MultiFactorAuthAge": "90",
			"aws:FederatedProvider": session.Provider, "aws:SourceIdentity": "joe@example.com",
		}},
		"session without a second factor": {&plain, nil, map[string]string{
			"aws:PrincipalArn": session.RoleARN, "aws:PrincipalType": "AssumedRole", "aws:userid": "AROAEXAMPLE:joe",
			"aws:TokenIssueTime": "2026-11-23T11:58:30Z", "aws:MultiFactorAuthPresent": "false",
		}},
		"root": {root, nil, map[string]string{"aws:PrincipalArn": root.ARN, "aws:PrincipalType": "Account", "aws:userid": account}},
		"service": {service, nil, map[string]string{
			"aws:PrincipalIsAWSService": "true", "aws:PrincipalServiceName": "rds.amazonaws.com", "aws:PrincipalAccount": "",
		}},
		"in plain text": {root, func(c *access.Call) { c.TLS, c.SourceIP, c.UserAgent, c.Region = false, "2001:db8::1", "", "" }, map[string]string{
			"aws:PrincipalArn": root.ARN, "aws:PrincipalType": "Account", "aws:userid": account,
			"aws:SecureTransport": "false", "aws:SourceIp": "2001:db8::1", "aws:UserAgent": "", "aws:RequestedRegion": "",
		}},
		"in the process": {root, func(c *access.Call) { c.TLS, c.SourceIP = false, "in-process" }, map[string]string{
			"aws:PrincipalArn": root.ARN, "aws:PrincipalType": "Account", "aws:userid": account, "aws:SourceIp": "",
		}},
		"via services": {user, func(c *access.Call) {
			c.Via, c.Region = []string{"rds.amazonaws.com", "secretsmanager.amazonaws.com"}, "eu-central-1"
		}, map[string]string{
			"aws:PrincipalArn": user.ARN, "aws:PrincipalType": "User", "aws:userid": "AIDAEXAMPLE", "aws:username": "alice", "aws:PrincipalTag/team": "red",
			"aws:RequestedRegion": "eu-central-1", "aws:SourceIp": "", "aws:ViaAWSService": "true", "aws:CalledVia": "rds.amazonaws.com",
			"aws:CalledViaFirst": "rds.amazonaws.com", "aws:CalledViaLast": "secretsmanager.amazonaws.com",
			"kms:ViaService": "secretsmanager.eu-central-1.amazonaws.com",
		}},
	} {
		call := h.call(tc.caller, "Sign")
		if tc.change != nil {
			tc.change(call)
		}
		for _, key := range globalKeys {
			want, ok := tc.want[key]
			if !ok {
				want = always[key]
			}
			resource := liar{map[string]bool{}}
			if !h.has(call, key, want, resource) {
				t.Errorf("%s: %s is not %q", name, key, want)
			}
			if len(resource.asked) > 0 {
				t.Errorf("%s: the resource is asked for %v", name, resource.asked)
			}
		}
	}
	if !h.has(h.call(user, "Sign"), "kms:KeySpec", "a lie", liar{map[string]bool{}}) {
		t.Error("the resource is not asked for what it knows")
	}
}

// Tags that differ in case only are one condition key of two values, and a variable of none.
func TestPrincipalTagsOfOneNameIgnoringCase(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	caller := &access.Caller{
		Account: account, ARN: "arn:aws:iam::111122223333:user/alice", UserName: "alice", Type: access.IAMUser,
		Tags: []access.Tag{{Key: "team", Value: "red"}, {Key: "Team", Value: "blue"}},
	}
	for condition, want := range map[string]bool{
		`"StringEquals": {"aws:PrincipalTag/team": ["red", "blue"]}`:     true,
		`"StringEquals": {"aws:PrincipalTag/team": "red"}`:               false,
		`"StringEquals": {"aws:PrincipalTag/Team": "blue"}`:              false,
		`"StringNotEquals": {"aws:PrincipalTag/Team": "green"}`:          true,
		`"StringLike": {"aws:username": "${aws:PrincipalTag/team}*"}`:    false,
		`"StringLike": {"aws:username": "${aws:PrincipalTag/x, ''}al*"}`: true,
	} {
		r := key(t, `{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*", "Condition": {`+condition+`}}`)
		if got := h.Allows(caller, "kms:Sign", r); got != want {
			t.Errorf("%s: %t", condition, got)
		}
	}
}

// One decision after another in one call: each has the context of its own resource.
func TestConditionsOfOneCallAboutSeveralResources(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	call := h.readOnly(h.root(account), "ReEncrypt")
	r := key(t, `{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"kms:KeyUsage": "yes"}}}`)
	for _, known := range []policy.Context{answers{"kms:KeyUsage": "yes"}, nil, answers{"kms:KeyUsage": "no"}, answers{"kms:KeyUsage": "yes"}} {
		r.Context = known
		want := known != nil && known.(answers)["kms:KeyUsage"] == "yes"
		if err := h.Check(t.Context(), call, "kms:ReEncryptFrom", r); (err == nil) != want {
			t.Errorf("with %v: %v", known, err)
		}
	}
}

type answers map[string]string

func (a answers) Values(k policy.Key, dst []string) ([]string, bool) {
	return append(dst, a[k.String()]), true
}

// The words of refusals that come of what bounds a caller, and what the audit record says of every document that was heard.
func TestBoundariesAndGrantsInMessagesAndRecords(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	doc := func(statements string) *policy.Policy {
		p, err := policy.Parse([]byte(`{"Statement": [`+statements+`]}`), policy.Identity)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	const arn = "arn:aws:sts::111122223333:assumed-role/Signer/joe"
	allow := doc(`{"Sid": "All", "Effect": "Allow", "Action": "*", "Resource": "*"}`)
	silent := doc(`{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}`)
	deny := doc(`{"Effect": "Deny", "Action": "*", "Resource": "*"}`)
	for _, tc := range []struct {
		boundary, session *policy.Policy
		grant             string
		want, cause       string
		reasons           string
	}{
		{nil, nil, "", "", "allowed by identity-based policies", "key policy Enable IAM policies, own All"},
		{allow, allow, "", "", "allowed by identity-based policies", "key policy Enable IAM policies, own All, limit All, session All"},
		{silent, allow, "", " because no permissions boundary allows the kms:Sign action", "no permissions boundary allows", "key policy Enable IAM policies, own All, session All"},
		{allow, silent, "", " because no session policy allows the kms:Sign action", "no session policy allows", "key policy Enable IAM policies, own All, limit All"},
		{deny, allow, "", " with an explicit deny in a permissions boundary", "explicit deny in a permissions boundary", "key policy Enable IAM policies, own All, limit "},
		{allow, deny, "", " with an explicit deny in a session policy", "explicit deny in a session policy", "key policy Enable IAM policies, own All, limit All, session "},
	} {
		caller := &access.Caller{Account: account, ARN: arn, RoleARN: "arn:aws:iam::111122223333:role/Signer", UserID: "AROAEXAMPLE:joe", Type: access.AssumedRole, Policies: []policy.Attached{{Name: "own", Policy: allow}}}
		if tc.boundary != nil {
			caller.Boundary = policy.Attached{Name: "limit", Policy: tc.boundary}
		}
		if tc.session != nil {
			caller.Session = []policy.Attached{{Name: "session", Policy: tc.session}}
		}
		call := h.readOnly(caller, "Sign")
		err := h.Check(t.Context(), call, "kms:Sign", key(t, accountDecides))
		if tc.want == "" && err != nil {
			t.Error(err)
		} else if tc.want != "" && deniedMessage(t, err) != "User: "+arn+" is not authorized to perform: kms:Sign on resource: "+keyARN+tc.want {
			t.Errorf("got %v, want %s", err, tc.want)
		}
		if err := h.Finish(t.Context(), call, "", ""); err != nil {
			t.Fatal(err)
		}
		d := h.recordsOf(call)[0].AdditionalEventData.Decisions[0]
		var reasons []string
		for _, r := range d.Reasons {
			reasons = append(reasons, r.Policy+" "+r.Sid)
		}
		if got := strings.Join(reasons, ", "); d.Cause != tc.cause || got != tc.reasons {
			t.Errorf("recorded %q because of %q; want %q, %q", d.Cause, got, tc.cause, tc.reasons)
		}
	}
}

type grants string

func (g grants) Grant(context.Context, *access.Call, string) (string, error) { return string(g), nil }

func TestGrantsAreRecorded(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	bob := &access.Caller{Account: other, ARN: "arn:aws:iam::444455556666:user/bob", UserID: "AIDAEXAMPLE", UserName: "bob", Type: access.IAMUser}
	call := h.readOnly(bob, "Decrypt")
	r := key(t, accountDecides)
	r.Grants = grants("0123abcd")
	if err := h.Check(t.Context(), call, "kms:Decrypt", r); err != nil {
		t.Error(err)
	}
	if err := h.Finish(t.Context(), call, "", ""); err != nil {
		t.Fatal(err)
	}
	d := h.recordsOf(call)[0].AdditionalEventData.Decisions[0]
	if !d.Allowed || d.Cause != "allowed by a grant" || len(d.Reasons) != 1 || d.Reasons[0].Grant != "0123abcd" || d.Reasons[0].Policy != "grant" || d.Reasons[0].Effect != "Allow" {
		t.Errorf("recorded %+v", d)
	}
	denied := key(t, accountDecides+`, {"Effect": "Deny", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*"}`)
	denied.Grants = r.Grants
	if err := h.Check(t.Context(), h.readOnly(bob, "Decrypt"), "kms:Decrypt", denied); err == nil {
		t.Error("a grant goes past an explicit deny")
	}
}
