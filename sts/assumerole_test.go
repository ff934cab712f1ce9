package sts_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	sdk "github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
	"github.com/keyturn/keyturn/sts"
)

func assume(c *sdk.Client, roleARN string, change ...func(*sdk.AssumeRoleInput)) (*sdk.AssumeRoleOutput, error) {
	in := &sdk.AssumeRoleInput{RoleArn: &roleARN, RoleSessionName: aws.String("session-1")}
	for _, f := range change {
		f(in)
	}
	return c.AssumeRole(ctx, in)
}

func whoami(t testing.TB, c *sdk.Client) string {
	t.Helper()
	return *must[*sdk.GetCallerIdentityOutput](t)(c.GetCallerIdentity(ctx, &sdk.GetCallerIdentityInput{})).Arn
}

// A user takes on a role, and is the role's session at every node, after a restart too.
func TestAssumeRole(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		rootKey := filepath.Join(t.TempDir(), "root.key")
		n := newNodeOn(t, db, rootKey)
		alice := n.user(account, "alice", allow("sts:AssumeRole"))
		role := n.role(account, "Deployer", document(trust(`{"AWS": "111122223333"}`, "sts:AssumeRole")), allow("kms:Sign"))
		out := must[*sdk.AssumeRoleOutput](t)(assume(alice, role))
		if *out.AssumedRoleUser.Arn != "arn:aws:sts::111122223333:assumed-role/Deployer/session-1" || !strings.HasPrefix(*out.AssumedRoleUser.AssumedRoleId, "AROA") ||
			!strings.HasSuffix(*out.AssumedRoleUser.AssumedRoleId, ":session-1") || out.PackedPolicySize != nil || out.SourceIdentity != nil {
			t.Errorf("answered %+v", out)
		}
		if left := time.Until(*out.Credentials.Expiration); left > time.Hour || left < time.Hour-time.Minute {
			t.Errorf("it lasts %v", left)
		}
		restarted := newNodeOn(t, db, rootKey)
		for _, node := range []*node{n, restarted} {
			who := must[*sdk.GetCallerIdentityOutput](t)(node.as(out.Credentials).GetCallerIdentity(ctx, &sdk.GetCallerIdentityInput{}))
			if *who.Arn != *out.AssumedRoleUser.Arn || *who.UserId != *out.AssumedRoleUser.AssumedRoleId || *who.Account != account {
				t.Errorf("the session is %s, %s, %s", *who.Arn, *who.UserId, *who.Account)
			}
			if !node.may(out.Credentials, "kms:Sign") || node.may(out.Credentials, "kms:Verify") {
				t.Error("the session may not do what the role may, or may do more")
			}
		}
		// The SDK's own way to a role.
		provider := aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(alice, role))
		if got := whoami(t, n.client(provider)); !strings.HasPrefix(got, "arn:aws:sts::111122223333:assumed-role/Deployer/") {
			t.Errorf("through the SDK's provider it is %s", got)
		}
	})
}

// Who may assume: both sides, unless the trust policy names the caller in its own account.
func TestWhoMayAssume(t *testing.T) {
	n := newNode(t)
	const (
		theAccount = `{"AWS": "111122223333"}`
		theAlice   = `{"AWS": "arn:aws:iam::111122223333:user/may"}`
		theOther   = `{"AWS": "arn:aws:iam::444455556666:user/may"}`
	)
	callers := map[string]*sdk.Client{
		"may":        n.user(account, "may", allow("sts:AssumeRole")),
		"may not":    n.user(account, "not"),
		"denied":     n.user(account, "denied", allow("*"), `{"Effect": "Deny", "Action": "sts:AssumeRole", "Resource": "*"}`),
		"theirs may": n.user(other, "may", allow("sts:AssumeRole")),
		"theirs not": n.user(other, "not"),
	}
	const refused = "is not authorized to perform: sts:AssumeRole on resource: "
	for i, tc := range []struct {
		trusts string
		who    string // those who may
	}{
		{document(trust(theAccount, "sts:AssumeRole")), "may"},
		{document(trust(theAlice, "sts:AssumeRole")), "may"},
		{document(trust(`{"AWS": "arn:aws:iam::111122223333:user/not"}`, "sts:AssumeRole")), "may not"},
		{document(trust(`{"AWS": "arn:aws:iam::111122223333:user/denied"}`, "sts:AssumeRole")), ""},
		{document(trust(`{"AWS": "444455556666"}`, "sts:AssumeRole")), "theirs may"},
		{document(trust(theOther, "sts:AssumeRole")), "theirs may"},
		{document(trust(`{"AWS": "arn:aws:iam::444455556666:user/not"}`, "sts:AssumeRole")), ""},
		// As in AWS: everybody of the account, whoever's policies do not deny it; of other accounts those whose policies allow it.
		{document(trust(`"*"`, "sts:AssumeRole")), "may, may not, theirs may"},
		{document(trust(`{"AWS": "*"}`, "sts:*"), `{"Effect": "Deny", "Principal": {"AWS": "444455556666"}, "Action": "sts:AssumeRole"}`), "may, may not"},
		{document(trust(theAccount, "sts:TagSession")), ""},
		{document(trust(`{"Federated": "arn:aws:iam::111122223333:oidc-provider/x.example"}`, "sts:*")), ""},
		{document(trust(`{"Service": "lambda.amazonaws.com"}`, "sts:AssumeRole")), ""},
	} {
		role := n.role(account, fmt.Sprint("role-", i), tc.trusts)
		for name, caller := range callers {
			_, err := assume(caller, role)
			want := false
			for allowed := range strings.SplitSeq(tc.who, ", ") {
				want = want || allowed == name
			}
			switch {
			case want && err != nil:
				t.Errorf("%s, %s: %v", tc.trusts, name, err)
			case !want:
				wantError(t, err, "AccessDenied", refused+role)
			}
		}
	}
	// What does not exist is refused in the same words, also to those whom their own policies allow everything.
	for name, caller := range callers {
		_, err := assume(caller, "arn:aws:iam::111122223333:role/nobody")
		if wantError(t, err, "AccessDenied", refused); name == "may" && !strings.Contains(err.Error(), "because no resource-based policy allows") {
			t.Errorf("%s: %v", name, err)
		}
	}
	n.role(account, "pathless", document(trust(theAccount, "sts:AssumeRole")))
	_, err := assume(callers["may"], "arn:aws:iam::111122223333:role/some/pathless")
	wantError(t, err, "AccessDenied", refused)
	if err := n.guard.AddEphemeral(access.EphemeralCredential{AccessKeyID: "ROOT", Secret: access.NewSecret("secret"), Account: account}); err != nil {
		t.Fatal(err)
	}
	root := n.client(credentials.NewStaticCredentialsProvider("ROOT", "secret", ""))
	_, err = assume(root, "arn:aws:iam::111122223333:role/role-0")
	wantError(t, err, "AccessDenied", "Roles may not be assumed by root accounts.")
}

// From account to account a session goes as a user does: where the other side trusts it, and its own side lets it.
func TestSessionsAcrossAccounts(t *testing.T) {
	n := newNode(t)
	alice := n.user(account, "alice", allow("sts:*"))
	mine := document(trust(`{"AWS": "111122223333"}`, "sts:AssumeRole"))
	sessions := map[string]*sdk.Client{}
	for name, statements := range map[string][]string{"may": {allow("sts:AssumeRole")}, "not": nil} {
		out := must[*sdk.AssumeRoleOutput](t)(assume(alice, n.role(account, name, mine, statements...)))
		sessions[name] = n.as(out.Credentials)
	}
	out := must[*sdk.AssumeRoleOutput](t)(assume(alice, "arn:aws:iam::111122223333:role/may", func(in *sdk.AssumeRoleInput) { in.Policy = aws.String(document(allow("kms:*"))) }))
	sessions["bounded"] = n.as(out.Credentials)
	for i, tc := range []struct{ principal, who string }{
		{`{"AWS": "arn:aws:iam::111122223333:role/may"}`, "may"},
		{`{"AWS": "arn:aws:sts::111122223333:assumed-role/may/session-1"}`, "may"},
		{`{"AWS": "arn:aws:sts::111122223333:assumed-role/may/session-2"}`, ""},
		{`{"AWS": "arn:aws:iam::111122223333:role/not"}`, ""},
		{`{"AWS": "111122223333"}`, "may"},
		{`{"AWS": "arn:aws:iam::111122223333:user/alice"}`, ""},
	} {
		theirs := n.role(other, fmt.Sprint("theirs-", i), document(trust(tc.principal, "sts:AssumeRole")))
		for name, session := range sessions {
			_, err := assume(session, theirs)
			if name == tc.who && err != nil {
				t.Errorf("%s, %s: %v", tc.principal, name, err)
			}
			if name != tc.who {
				wantError(t, err, "AccessDenied", "is not authorized to perform: sts:AssumeRole")
			}
		}
	}
}

// The confused deputy: a service that serves many customers with one identity gives the external id of the one it serves.
func TestExternalID(t *testing.T) {
	n := newNode(t)
	vendor := n.user(other, "vendor", allow("sts:AssumeRole"))
	role := n.role(account, "R", document(trust(`{"AWS": "444455556666"}`, "sts:AssumeRole", `"Condition": {"StringEquals": {"sts:ExternalId": "customer-7"}}`)))
	for id, ok := range map[string]bool{"": false, "customer-7": true, "customer-8": false, "CUSTOMER-7": false} {
		_, err := assume(vendor, role, func(in *sdk.AssumeRoleInput) {
			if id != "" {
				in.ExternalId = &id
			}
		})
		if ok && err != nil {
			t.Errorf("%q: %v", id, err)
		}
		if !ok {
			wantError(t, err, "AccessDenied", "is not authorized")
		}
	}
}

// A session may do what the role and the session policy both allow, however wide either is.
func TestSessionPoliciesCannotWiden(t *testing.T) {
	n := newNode(t)
	alice := n.user(account, "alice", allow("sts:AssumeRole"))
	role := n.role(account, "R", document(trust(`{"AWS": "111122223333"}`, "sts:AssumeRole")), allow("kms:Sign"), allow("kms:Verify"))
	with := func(statements ...string) *sdk.AssumeRoleOutput {
		t.Helper()
		return must[*sdk.AssumeRoleOutput](t)(assume(alice, role, func(in *sdk.AssumeRoleInput) { in.Policy = aws.String(document(statements...)) }))
	}
	narrow := with(allow("kms:Sign"))
	if *narrow.PackedPolicySize < 1 || *narrow.PackedPolicySize > 5 {
		t.Errorf("packed size %d %%", *narrow.PackedPolicySize)
	}
	for _, tc := range []struct {
		session              *sdk.AssumeRoleOutput
		sign, verify, delete bool
	}{
		{with(allow("*")), true, true, false},
		{narrow, true, false, false},
		{with(`{"Effect": "Deny", "Action": "kms:Sign", "Resource": "*"}`, allow("kms:*")), false, true, false},
		{with(allow("s3:*")), false, false, false},
	} {
		c := tc.session.Credentials
		if n.may(c, "kms:Sign") != tc.sign || n.may(c, "kms:Verify") != tc.verify || n.may(c, "kms:ScheduleKeyDeletion") != tc.delete {
			t.Errorf("sign %t, verify %t, delete %t; want %+v", n.may(c, "kms:Sign"), n.may(c, "kms:Verify"), n.may(c, "kms:ScheduleKeyDeletion"), tc)
		}
	}
	for text, message := range map[string]string{
		`{}`: "Statement is missing",
		`{"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}]}`: "names no principal",
	} {
		_, err := assume(alice, role, func(in *sdk.AssumeRoleInput) { in.Policy = &text })
		wantError(t, err, "MalformedPolicyDocument", message)
	}
	_, err := assume(alice, role, func(in *sdk.AssumeRoleInput) { in.Policy = aws.String(strings.Repeat(" ", 2049)) })
	wantError(t, err, "ValidationError", "length less than or equal to 2048")
	_, err = assume(alice, role, func(in *sdk.AssumeRoleInput) {
		in.PolicyArns = []types.PolicyDescriptorType{{Arn: aws.String("arn:aws:iam::aws:policy/AdministratorAccess")}}
	})
	wantError(t, err, "ValidationError", "There are no managed policies here")
}

// Tags need a permission of their own, become the session's, and go on to further sessions where they are transitive.
func TestSessionTags(t *testing.T) {
	n := newNode(t)
	alice := n.user(account, "alice", allow("sts:*"))
	both := document(trust(`{"AWS": "111122223333"}`, "sts:AssumeRole"), trust(`{"AWS": "111122223333"}`, "sts:TagSession"))
	untagged := n.role(account, "untagged", document(trust(`{"AWS": "111122223333"}`, "sts:AssumeRole")), allow("sts:*"))
	first, second := n.role(account, "first", both, allow("sts:*")), n.role(account, "second", both, allow("sts:*"))
	tags := func(in *sdk.AssumeRoleInput) {
		in.Tags = []types.Tag{{Key: aws.String("team"), Value: aws.String("payments")}, {Key: aws.String("run"), Value: aws.String("7")}}
		in.TransitiveTagKeys = []string{"team"}
	}
	_, err := assume(alice, untagged, tags)
	wantError(t, err, "AccessDenied", "sts:TagSession on resource: "+untagged)
	out := must[*sdk.AssumeRoleOutput](t)(assume(alice, first, tags))
	if got := n.caller(out.Credentials).Tags; fmt.Sprint(got) != "[{team payments} {run 7}]" {
		t.Errorf("tags of the session %v", got)
	}
	chained := must[*sdk.AssumeRoleOutput](t)(assume(n.as(out.Credentials), second))
	again := must[*sdk.AssumeRoleOutput](t)(assume(n.as(chained.Credentials), first))
	for _, s := range []*sdk.AssumeRoleOutput{chained, again} {
		if got := n.caller(s.Credentials).Tags; fmt.Sprint(got) != "[{team payments}]" {
			t.Errorf("tags of the next session %v", got)
		}
	}
	_, err = assume(n.as(out.Credentials), untagged)
	wantError(t, err, "AccessDenied", "sts:TagSession")
	_, err = assume(n.as(out.Credentials), second, func(in *sdk.AssumeRoleInput) {
		in.Tags = []types.Tag{{Key: aws.String("TEAM"), Value: aws.String("admins")}}
	})
	wantError(t, err, "InvalidParameterValue", "conflicts with a transitive tag key")
	_, err = assume(alice, first, func(in *sdk.AssumeRoleInput) { in.TransitiveTagKeys = []string{"team"} })
	wantError(t, err, "ValidationError", "must be included in the requested tags")
	_, err = assume(alice, first, func(in *sdk.AssumeRoleInput) {
		in.Tags = []types.Tag{{Key: aws.String("a"), Value: aws.String("1")}, {Key: aws.String("A"), Value: aws.String("2")}}
	})
	wantError(t, err, "InvalidParameterValue", "Duplicate tag keys")
	_, err = assume(alice, first, func(in *sdk.AssumeRoleInput) {
		for i := range 40 {
			in.Tags = append(in.Tags, types.Tag{Key: aws.String(fmt.Sprint("k", i)), Value: aws.String(strings.Repeat("v", 110))})
		}
	})
	wantError(t, err, "PackedPolicyTooLarge", "consumes 11")
}

// A source identity needs a permission of its own, stays through chains and cannot be changed.
func TestSourceIdentity(t *testing.T) {
	n := newNode(t)
	alice := n.user(account, "alice", allow("sts:*"))
	both := document(trust(`{"AWS": "111122223333"}`, "sts:AssumeRole"), trust(`{"AWS": "111122223333"}`, "sts:SetSourceIdentity"))
	plain := n.role(account, "plain", document(trust(`{"AWS": "111122223333"}`, "sts:AssumeRole")))
	first, second := n.role(account, "first", both, allow("sts:*")), n.role(account, "second", both)
	source := func(name string) func(*sdk.AssumeRoleInput) {
		return func(in *sdk.AssumeRoleInput) { in.SourceIdentity = &name }
	}
	_, err := assume(alice, plain, source("alice"))
	wantError(t, err, "AccessDenied", "sts:SetSourceIdentity")
	out := must[*sdk.AssumeRoleOutput](t)(assume(alice, first, source("alice")))
	if *out.SourceIdentity != "alice" || n.caller(out.Credentials).SourceIdentity != "alice" {
		t.Errorf("source identity %v", out.SourceIdentity)
	}
	next := must[*sdk.AssumeRoleOutput](t)(assume(n.as(out.Credentials), second))
	if n.caller(next.Credentials).SourceIdentity != "alice" {
		t.Error("the source identity is lost")
	}
	_, err = assume(n.as(out.Credentials), second, source("bob"))
	wantError(t, err, "AccessDenied", "cannot be changed")
	_, err = assume(n.as(out.Credentials), plain)
	wantError(t, err, "AccessDenied", "sts:SetSourceIdentity")
}

func TestDurations(t *testing.T) {
	n := newNode(t)
	alice := n.user(account, "alice", allow("sts:*"))
	role := n.role(account, "R", document(trust(`{"AWS": "111122223333"}`, "sts:AssumeRole")), allow("sts:AssumeRole"))
	lasting := func(c *sdk.Client, seconds int32) (*sdk.AssumeRoleOutput, error) {
		return assume(c, role, func(in *sdk.AssumeRoleInput) { in.DurationSeconds = &seconds })
	}
	for seconds, message := range map[int32]string{
		899:   "Value '899' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900",
		43201: "less than or equal to 43200", 7201: "exceeds the MaxSessionDuration set for this role", 2000000000: "43200", -1: "900",
	} {
		_, err := lasting(alice, seconds)
		wantError(t, err, "ValidationError", message)
	}
	out := must[*sdk.AssumeRoleOutput](t)(lasting(alice, 7200))
	if left := time.Until(*out.Credentials.Expiration); left > 2*time.Hour || left < 2*time.Hour-time.Minute {
		t.Errorf("it lasts %v", left)
	}
	session := n.as(out.Credentials)
	_, err := lasting(session, 3601)
	wantError(t, err, "ValidationError", "exceeds the 1 hour session limit for roles assumed by role chaining")
	must[*sdk.AssumeRoleOutput](t)(lasting(session, 3600))
	n.advance(2 * time.Hour)
	_, err = session.GetCallerIdentity(ctx, &sdk.GetCallerIdentityInput{})
	wantError(t, err, "ExpiredToken", "The security token included in the request is expired")
}

func TestGetSessionToken(t *testing.T) {
	n := newNode(t)
	alice := n.user(account, "alice", allow("kms:Sign"), allow("keyturn:*"))
	out := must[*sdk.GetSessionTokenOutput](t)(alice.GetSessionToken(ctx, &sdk.GetSessionTokenInput{DurationSeconds: aws.Int32(129600)}))
	session := n.as(out.Credentials)
	if got := whoami(t, session); got != "arn:aws:iam::111122223333:user/alice" {
		t.Errorf("the session is %s", got)
	}
	if !n.may(out.Credentials, "kms:Sign") || n.may(out.Credentials, "kms:Verify") {
		t.Error("the session may not do what the user may, or may do more")
	}
	_, err := session.GetSessionToken(ctx, &sdk.GetSessionTokenInput{})
	wantError(t, err, "AccessDenied", "Cannot call GetSessionToken with session credentials")
	_, err = alice.GetSessionToken(ctx, &sdk.GetSessionTokenInput{DurationSeconds: aws.Int32(899)})
	wantError(t, err, "ValidationError", "durationSeconds")
	_, err = alice.GetSessionToken(ctx, &sdk.GetSessionTokenInput{SerialNumber: aws.String("GAHT12345678"), TokenCode: aws.String("123456")})
	wantError(t, err, "AccessDenied", "MultiFactorAuthentication failed")
	short := must[*sdk.GetSessionTokenOutput](t)(alice.GetSessionToken(ctx, &sdk.GetSessionTokenInput{}))
	if left := time.Until(*short.Credentials.Expiration); left > 12*time.Hour || left < 12*time.Hour-time.Minute {
		t.Errorf("it lasts %v", left)
	}
	if err := n.guard.AddEphemeral(access.EphemeralCredential{AccessKeyID: "ROOT", Secret: access.NewSecret("secret"), Account: account}); err != nil {
		t.Fatal(err)
	}
	_, err = n.client(credentials.NewStaticCredentialsProvider("ROOT", "secret", "")).GetSessionToken(ctx, &sdk.GetSessionTokenInput{})
	wantError(t, err, "AccessDenied", "Only users of the server")
}

// The way of AWS's console to end sessions: what was begun before a moment is denied everything. What begins later, and who
// signs with an access key, is not.
func TestSessionsAreRevokedByTime(t *testing.T) {
	n := newNode(t)
	alice := n.user(account, "alice", allow("sts:*"))
	role := n.role(account, "R", document(trust(`{"AWS": "111122223333"}`, "sts:AssumeRole")), allow("kms:Sign"))
	before := must[*sdk.AssumeRoleOutput](t)(assume(alice, role)).Credentials
	if !n.may(before, "kms:Sign") {
		t.Fatal("the session may not do what the role may")
	}
	n.advance(2 * time.Second)
	do(n, account, n.guard.PutRolePolicy, access.PutRolePolicyInput{RoleName: "R", PolicyName: "revoke", PolicyDocument: document(
		`{"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"DateLessThan": {"aws:TokenIssueTime": "` + n.now().UTC().Format(time.RFC3339) + `"}}}`)})
	if n.may(before, "kms:Sign") {
		t.Error("a session that began earlier goes on")
	}
	n.advance(2 * time.Second)
	if !n.may(must[*sdk.AssumeRoleOutput](t)(assume(alice, role)).Credentials, "kms:Sign") {
		t.Error("a session that began later is denied too")
	}
}

// Notes speak of operations that there are.
func TestNotesAreOfOperations(t *testing.T) {
	api := (*sts.Service)(nil).API()
	for _, note := range api.Notes {
		if !slices.ContainsFunc(api.Operations, func(op awsapi.Operation) bool { return op.Name == note.Operation }) {
			t.Errorf("a note on %s", note.Operation)
		}
	}
}

// Even who is denied everything may know who he is.
func TestGetCallerIdentityNeedsNoPermission(t *testing.T) {
	n := newNode(t)
	nobody := n.user(account, "nobody", `{"Effect": "Deny", "Action": "*", "Resource": "*"}`)
	if got := whoami(t, nobody); got != "arn:aws:iam::111122223333:user/nobody" {
		t.Errorf("nobody is %s", got)
	}
}

func TestInputsAreValidated(t *testing.T) {
	n := newNode(t)
	alice := n.user(account, "alice", allow("sts:*"))
	role := n.role(account, "R", document(trust(`{"AWS": "111122223333"}`, "sts:AssumeRole")))
	for message, change := range map[string]func(*sdk.AssumeRoleInput){
		"Value 'a' at 'roleSessionName' failed to satisfy constraint: Member must have length greater than or equal to 2": func(in *sdk.AssumeRoleInput) { in.RoleSessionName = aws.String("a") },
		`at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]*`:  func(in *sdk.AssumeRoleInput) { in.RoleSessionName = aws.String("a/b") },
		"Member must have length less than or equal to 64":                                                                func(in *sdk.AssumeRoleInput) { in.RoleSessionName = aws.String(strings.Repeat("a", 65)) },
		"Value 'role' at 'roleArn'":                       func(in *sdk.AssumeRoleInput) { in.RoleArn = aws.String("role") },
		"arn:aws:iam::111122223333:user/alice is invalid": func(in *sdk.AssumeRoleInput) { in.RoleArn = aws.String("arn:aws:iam::111122223333:user/alice") },
		"arn:aws:iam::11112222:role/deployer is invalid":  func(in *sdk.AssumeRoleInput) { in.RoleArn = aws.String("arn:aws:iam::11112222:role/deployer") },
		"at 'externalId'":                                 func(in *sdk.AssumeRoleInput) { in.ExternalId = aws.String("a<b") },
		"at 'sourceIdentity'":                             func(in *sdk.AssumeRoleInput) { in.SourceIdentity = aws.String("a b") },
	} {
		_, err := assume(alice, role, change)
		wantError(t, err, "ValidationError", message)
	}
	_, err := assume(alice, role, func(in *sdk.AssumeRoleInput) {
		in.SerialNumber, in.TokenCode = aws.String("GAHT12345678"), aws.String("123456")
	})
	wantError(t, err, "AccessDenied", "MultiFactorAuthentication failed")
	_, err = assume(alice, role, func(in *sdk.AssumeRoleInput) {
		in.ProvidedContexts = []types.ProvidedContext{{ProviderArn: aws.String("arn:aws:iam::aws:contextProvider/IdentityCenter"), ContextAssertion: aws.String("assertion")}}
	})
	wantError(t, err, "ValidationError", "The operation has no parameter ProvidedContexts.member.1.")
}

// Each request leaves one record: who became whom, and no secret or token of it.
func TestRecords(t *testing.T) {
	n := newNode(t)
	alice := n.user(account, "alice", allow("sts:*"))
	role := n.role(account, "R", document(trust(`{"AWS": "111122223333"}`, "sts:AssumeRole")))
	out := must[*sdk.AssumeRoleOutput](t)(assume(alice, role))
	whoami(t, n.as(out.Credentials))
	user := must[*sdk.GetSessionTokenOutput](t)(alice.GetSessionToken(ctx, &sdk.GetSessionTokenInput{}))
	if _, err := assume(n.as(out.Credentials), role); err == nil {
		t.Fatal("the role assumes itself")
	}
	if err := n.log.Close(); err != nil {
		t.Fatal(err)
	}
	records, text := n.records()
	var names []string
	for _, r := range records {
		names = append(names, r.EventName+":"+r.ErrorCode)
		if !r.ReadOnly {
			t.Errorf("%s is no read-only event, as it is of CloudTrail", r.EventName)
		}
	}
	if got := strings.Join(names, " "); got != "AssumeRole: GetCallerIdentity: GetSessionToken: AssumeRole:AccessDenied" {
		t.Fatalf("recorded %s", got)
	}
	first := records[0]
	if first.UserIdentity.ARN != "arn:aws:iam::111122223333:user/alice" || len(first.Resources) != 1 || first.Resources[0].ARN != role ||
		!strings.Contains(string(first.RequestParameters), `"roleSessionName":"session-1"`) ||
		!strings.Contains(string(first.ResponseElements), *out.Credentials.AccessKeyId) ||
		!strings.Contains(string(first.ResponseElements), *out.AssumedRoleUser.Arn) {
		t.Errorf("recorded %s, %s", first.RequestParameters, first.ResponseElements)
	}
	for _, c := range []*types.Credentials{out.Credentials, user.Credentials} {
		if strings.Contains(text, *c.SecretAccessKey) || strings.Contains(text, *c.SessionToken) {
			t.Error("a secret is in the log")
		}
	}
}
