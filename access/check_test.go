package access_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// Refusals are worded as AWS words them.
func TestDeniedMessages(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	const (
		allowSign = `{"Effect": "Allow", "Action": "kms:Sign", "Resource": "*"}`
		denySign  = `{"Effect": "Allow", "Action": "*", "Resource": "*"}, {"Effect": "Deny", "Action": "kms:Sign", "Resource": "*"}`
		silent    = `{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}`
		alice     = "arn:aws:iam::111122223333:user/alice"
		bob       = "arn:aws:iam::444455556666:user/bob"
		hidden    = " because the resource does not exist in this Region, no resource-based policies allow access, or a resource-based policy explicitly denies access"
	)
	denyAll := key(t, accountDecides+`, {"Effect": "Deny", "Principal": "*", "Action": "kms:Sign", "Resource": "*"}`)
	onlyBob := key(t, `{"Effect": "Allow", "Principal": {"AWS": "`+bob+`"}, "Action": "kms:Sign", "Resource": "*"}`)
	absent := access.Resource{ARN: keyARN, Account: account, Type: typeKey}
	for _, tc := range []struct {
		arn, statements string
		resource        access.Resource
		action, want    string
	}{
		{alice, silent, key(t, accountDecides), "kms:Sign", " on resource: " + keyARN + " because no identity-based policy allows the kms:Sign action"},
		{alice, denySign, key(t, accountDecides), "kms:Sign", " on resource: " + keyARN + " with an explicit deny in an identity-based policy"},
		{alice, allowSign, denyAll, "kms:Sign", " on resource: " + keyARN + " with an explicit deny in a resource-based policy"},
		{alice, allowSign, onlyBob, "kms:Sign", " on resource: " + keyARN + " because no resource-based policy allows the kms:Sign action"},
		{alice, silent, access.Resource{}, "kms:CreateKey", " on resource: * because no identity-based policy allows the kms:CreateKey action"},
		// Another account's key: whether it is there must not show.
		{bob, allowSign, key(t, accountDecides), "kms:Sign", " on resource: " + keyARN + hidden},
		{bob, allowSign, denyAll, "kms:Sign", " on resource: " + keyARN + hidden},
		{bob, allowSign, absent, "kms:Sign", " on resource: " + keyARN + hidden},
		{bob, silent, key(t, accountDecides), "kms:Sign", " on resource: " + keyARN + hidden},
		{bob, silent, absent, "kms:Sign", " on resource: " + keyARN + hidden},
		{bob, denySign, key(t, accountDecides), "kms:Sign", " on resource: " + keyARN + " with an explicit deny in an identity-based policy"},
		{bob, denySign, absent, "kms:Sign", " on resource: " + keyARN + " with an explicit deny in an identity-based policy"},
		{bob, silent, onlyBob, "kms:Sign", " on resource: " + keyARN + " because no identity-based policy allows the kms:Sign action"},
	} {
		caller := h.ephemeral(access.EphemeralCredential{
			AccessKeyID: "T", Account: strings.Split(tc.arn, ":")[4], PrincipalARN: tc.arn,
			Policy: []byte(`{"Statement": [` + tc.statements + `]}`),
		})
		call := h.readOnly(caller, "Sign")
		got := deniedMessage(t, h.Check(t.Context(), call, tc.action, tc.resource))
		if want := "User: " + tc.arn + " is not authorized to perform: " + tc.action + tc.want; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// One allowed, changing call leaves two records: the decision before the deed, the outcome behind it.
func TestRecordsOfAChange(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	admin := h.admin(account)
	call := h.call(admin, "ScheduleKeyDeletion")
	call.Params = []byte(`{"keyId":"alias/x"}`)
	call.Response = []byte(`{"keyState":"PendingDeletion"}`)
	if err := h.Check(t.Context(), call, "kms:ScheduleKeyDeletion", key(t, accountDecides)); err != nil {
		t.Fatal(err)
	}
	if got := h.recordsOf(call); len(got) != 1 || got[0].AdditionalEventData.Phase != "decision" {
		t.Fatalf("before the deed the log says %+v", got)
	}
	call.Touched("arn:aws:kms:us-east-1:111122223333:alias/x", account, "AWS::KMS::Alias")
	if err := h.Finish(t.Context(), call, "", ""); err != nil {
		t.Fatal(err)
	}
	got := h.recordsOf(call)
	if len(got) != 2 || got[1].AdditionalEventData.Phase != "outcome" || got[0].EventID == got[1].EventID {
		t.Fatalf("the log says %+v", got)
	}
	for _, r := range got {
		u := r.UserIdentity
		if u.Type != "IAMUser" || u.ARN != admin.ARN || u.UserName != "admin" || u.AccountID != account ||
			u.PrincipalID != admin.UserID || u.AccessKeyID != admin.AccessKeyID {
			t.Errorf("userIdentity %+v", u)
		}
		if r.EventSource != "kms.amazonaws.com" || r.EventName != "ScheduleKeyDeletion" || r.AWSRegion != "us-east-1" ||
			r.SourceIPAddress != "192.0.2.1" || r.UserAgent != "aws-cli/2.31" || !r.EventTime.Equal(h.now) ||
			r.ReadOnly || !r.ManagementEvent || r.EventType != "AwsApiCall" || r.RecipientAccountID != account {
			t.Errorf("record %+v", r)
		}
		if string(r.RequestParameters) != `{"keyId":"alias/x"}` || r.Resources[0].ARN != keyARN || r.Resources[0].Type != typeKey {
			t.Errorf("parameters %s, resources %+v", r.RequestParameters, r.Resources)
		}
		d := r.AdditionalEventData.Decisions
		if len(d) != 1 || !d[0].Allowed || d[0].Action != "kms:ScheduleKeyDeletion" || d[0].Resource != keyARN || len(d[0].Reasons) != 2 {
			t.Fatalf("decisions %+v", d)
		}
		if r := d[0].Reasons[0]; r.Policy != "key policy" || r.Sid != "Enable IAM policies" || r.Effect != "Allow" {
			t.Errorf("first reason %+v", r)
		}
		if r := d[0].Reasons[1]; r.Policy != "AdministratorAccess" || r.Sid != "" || r.Statement != 0 {
			t.Errorf("second reason %+v", r)
		}
	}
	if len(got[1].Resources) != 2 || string(got[1].ResponseElements) != `{"keyState":"PendingDeletion"}` {
		t.Errorf("outcome: resources %+v, response %s", got[1].Resources, got[1].ResponseElements)
	}
	if err := h.Finish(t.Context(), call, "", ""); err == nil {
		t.Error("a call can be finished twice")
	}
	if err := h.Check(t.Context(), call, "kms:Sign", key(t, accountDecides)); err == nil {
		t.Error("a finished call can be checked")
	}
}

// A read-only call leaves one record, with every decision that was made; a refused one too.
func TestRecordsOfAReadOnlyCall(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	root := h.root(account)
	call := h.readOnly(root, "ReEncrypt")
	call.ParamsFunc = func(b []byte) []byte { return append(b, `{"lazy":true}`...) }
	r := key(t, accountDecides)
	for _, action := range []string{"kms:ReEncryptFrom", "kms:ReEncryptTo", "s3:GetObject"} {
		err := h.Check(t.Context(), call, action, r)
		if (err == nil) != strings.HasPrefix(action, "kms:") {
			t.Fatalf("%s: %v", action, err)
		}
	}
	if n := len(h.recordsOf(call)); n != 0 {
		t.Errorf("%d records before the end of a read-only call", n)
	}
	if err := h.Finish(t.Context(), call, "AccessDeniedException", "no"); err != nil {
		t.Fatal(err)
	}
	got := h.recordsOf(call)
	if len(got) != 1 || !got[0].ReadOnly || got[0].ErrorCode != "AccessDeniedException" || string(got[0].RequestParameters) != `{"lazy":true}` {
		t.Fatalf("records %+v", got)
	}
	d := got[0].AdditionalEventData.Decisions
	if len(d) != 3 || !d[0].Allowed || !d[1].Allowed || d[2].Allowed || d[1].Action != "kms:ReEncryptTo" || len(d[1].Reasons) != 1 {
		t.Errorf("decisions %+v", d)
	}
	if d[2].Cause != "no resource-based policy allows" || len(got[0].Resources) != 1 {
		t.Errorf("cause %q, resources %+v", d[2].Cause, got[0].Resources)
	}
}

// Without a proved caller everything is refused, and what was claimed is recorded as a claim, cut to size and harmless.
func TestUnprovedCallers(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	call := h.call(nil, strings.Repeat("Sign\n", 1000))
	call.AccessKeyID = "AKIA\"},\n{\"eventVersion\":" + strings.Repeat("x", 1000)
	call.UserAgent = strings.Repeat("\x00\xff\"", 1000)
	if err := h.Check(t.Context(), call, "kms:Sign", key(t, `{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}`)); err == nil {
		t.Error("a call without a caller is allowed")
	}
	if h.Allows(nil, "kms:Sign", key(t, `{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}`)) {
		t.Error("nobody is allowed")
	}
	if err := h.Finish(t.Context(), call, "UnrecognizedClientException", strings.Repeat("e", 1<<20)); err != nil {
		t.Fatal(err)
	}
	got := h.records()
	if len(got) != 1 || got[0].UserIdentity.Type != "Unknown" || got[0].UserIdentity.ARN != "" || len(got[0].UserIdentity.AccessKeyID) != 128 {
		t.Fatalf("%d records, %+v", len(got), got[0].UserIdentity)
	}
	if size := len(h.raw()); size > 16<<10 {
		t.Errorf("the record of a stranger has %d bytes", size)
	}
}

// A client that hangs up is recorded all the same, and cannot keep a decision out of the log.
func TestCancelledCallsAreRecorded(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	call := h.call(h.root(account), "DisableKey")
	if err := h.Check(ctx, call, "kms:DisableKey", key(t, accountDecides)); err != nil {
		t.Fatal(err)
	}
	if err := h.Finish(ctx, call, "", ""); err != nil {
		t.Fatal(err)
	}
	if n := len(h.recordsOf(call)); n != 2 {
		t.Errorf("%d records, want 2", n)
	}
}

// When the log cannot be written, nothing is changed and nothing is released.
func TestFailsClosed(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	admin := h.admin(account)
	if err := h.log.Close(); err != nil {
		t.Fatal(err)
	}
	change := h.call(admin, "DisableKey")
	err := h.Check(t.Context(), change, "kms:DisableKey", key(t, accountDecides))
	if err == nil {
		t.Error("a change is allowed without a record")
	}
	var denied *access.Denied
	if errors.As(err, &denied) {
		t.Error("a log that fails is answered as a refusal")
	}
	if err := h.Finish(t.Context(), change, "", ""); err == nil {
		t.Error("a change is released without a record")
	}
	read := h.readOnly(admin, "Sign")
	if err := h.Check(t.Context(), read, "kms:Sign", key(t, accountDecides)); err != nil {
		t.Error(err)
	}
	if err := h.Finish(t.Context(), read, "", ""); err == nil {
		t.Error("a signature is released without a record")
	}
	call := h.call(admin, "CreateUser")
	if _, err := h.CreateUser(t.Context(), call, &access.CreateUserInput{UserName: "ghost"}); err == nil {
		t.Error("a user is made without a record")
	}
	if _, _, created, err := h.Bootstrap(t.Context(), other); err == nil || created {
		t.Error("an account is bootstrapped without a record")
	}
	n := 0
	if err := h.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM users WHERE name = 'ghost' OR account = $1`, other).Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows written without a record, %v", n, err)
	}
}

func BenchmarkCheckAndFinish(b *testing.B) {
	h := openWith(b, sqldbtest.SQLite(b), newSealer(b), audit.Options{Sync: audit.Interval, Interval: time.Second})
	admin := h.admin(account)
	r := key(b, accountDecides)
	params := []byte(`{"keyId":"alias/app","messageType":"RAW","signingAlgorithm":"ECDSA_SHA_256"}`)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			call := h.readOnly(admin, "Sign")
			call.Params = params
			if err := h.Check(b.Context(), call, "kms:Sign", r); err != nil {
				b.Fatal(err)
			}
			if err := h.Finish(b.Context(), call, "", ""); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkCredential(b *testing.B) {
	h := openWith(b, sqldbtest.SQLite(b), newSealer(b), audit.Options{})
	id := h.admin(account).AccessKeyID
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.Credential(b.Context(), id, ""); err != nil {
			b.Fatal(err)
		}
	}
}
