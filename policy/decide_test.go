package policy_test

import (
	"strings"
	"testing"

	"github.com/keyturn/keyturn/policy"
)

// The decision table of a key: what the key policy says to the caller, what the caller's identity policies say, and what
// comes of it.
func TestDecide(t *testing.T) {
	const sign = `"Action": "kms:Sign", "Resource": "*"}`
	keyPolicies := map[string]string{
		"none":        "",
		"silent":      `{"Effect": "Allow", "Principal": {"AWS": "123412341234"}, ` + sign,
		"account":     `{"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam::111122223333:root", "444455556666"]}, ` + sign,
		"direct":      `{"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam::111122223333:user/alice", "arn:aws:iam::444455556666:user/bob"]}, ` + sign,
		"everyone":    `{"Effect": "Allow", "Principal": "*", ` + sign,
		"deny":        `{"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}, {"Effect": "Deny", "Principal": "*", ` + sign,
		"deny others": `{"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}, {"Effect": "Deny", "Principal": {"AWS": "444455556666"}, ` + sign,
	}
	identities := map[string]string{
		"silent": `{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}`,
		"allow":  `{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}`,
		"deny":   `{"Effect": "Allow", "Action": "*", "Resource": "*"}, {"Effect": "Deny", ` + sign,
	}
	for _, tc := range []struct {
		key, caller, identity string
		want                  bool
		cause                 policy.Cause
	}{
		// The key policy is the root of trust.
		{"silent", "alice", "allow", false, policy.NoResourceAllow},
		{"silent", "root", "", false, policy.NoResourceAllow},
		// It may leave it to the account.
		{"account", "alice", "silent", false, policy.NoIdentityAllow},
		{"account", "alice", "", false, policy.NoIdentityAllow},
		{"account", "alice", "allow", true, policy.AllowedByIdentity},
		{"account", "alice", "deny", false, policy.IdentityDeny},
		{"account", "root", "", true, policy.AllowedByResource},
		{"account", "role/Signer/prod", "allow", true, policy.AllowedByIdentity},
		// Or name the caller.
		{"direct", "alice", "", true, policy.AllowedByResource},
		{"direct", "alice", "silent", true, policy.AllowedByResource},
		{"direct", "alice", "deny", false, policy.IdentityDeny},
		{"direct", "carol", "allow", false, policy.NoResourceAllow},
		{"direct", "root", "", false, policy.NoResourceAllow},
		{"everyone", "alice", "", true, policy.AllowedByResource},
		{"everyone", "root", "", true, policy.AllowedByResource},
		// An explicit deny wins everywhere.
		{"deny", "alice", "allow", false, policy.ResourceDeny},
		{"deny", "root", "", false, policy.ResourceDeny},
		{"deny", "444455556666/bob", "allow", false, policy.ResourceDeny},
		{"deny others", "alice", "", true, policy.AllowedByResource},
		{"deny others", "444455556666/bob", "allow", false, policy.ResourceDeny},
		{"deny others", "444455556666/root", "", false, policy.ResourceDeny},
		// Across accounts both sides must allow.
		{"silent", "444455556666/bob", "allow", false, policy.NoResourceAllow},
		{"account", "444455556666/bob", "allow", true, policy.AllowedByBoth},
		{"account", "444455556666/bob", "silent", false, policy.NoIdentityAllow},
		{"account", "444455556666/root", "", true, policy.AllowedAsRoot},
		{"direct", "444455556666/bob", "allow", true, policy.AllowedByBoth},
		{"direct", "444455556666/bob", "", false, policy.NoIdentityAllow},
		{"direct", "444455556666/bob", "deny", false, policy.IdentityDeny},
		{"direct", "444455556666/alice", "allow", false, policy.NoResourceAllow},
		{"direct", "444455556666/root", "", false, policy.NoResourceAllow},
		{"everyone", "444455556666/bob", "", false, policy.NoIdentityAllow},
		{"everyone", "444455556666/bob", "allow", true, policy.AllowedByBoth},
		// Without a key policy the caller's own account decides, and only there.
		{"none", "alice", "allow", true, policy.AllowedByIdentity},
		{"none", "alice", "silent", false, policy.NoIdentityAllow},
		{"none", "alice", "deny", false, policy.IdentityDeny},
		{"none", "root", "", true, policy.AllowedAsRoot},
		{"none", "444455556666/bob", "allow", false, policy.NoResourceAllow},
		{"none", "444455556666/root", "", false, policy.NoResourceAllow},
	} {
		t.Run(tc.key+", "+tc.caller+", "+tc.identity, func(t *testing.T) {
			q := policy.Question{
				Request: policy.Request{Principal: who(tc.caller), Action: "kms:Sign", Resource: keyARN},
				Owner:   account,
			}
			if doc := keyPolicies[tc.key]; doc != "" {
				q.Resource = policy.Attached{Name: "key policy", Policy: mustParse(t, policy.Resource, doc)}
			}
			if tc.identity != "" {
				q.Identity = []policy.Attached{{Name: "own", Policy: mustParse(t, policy.Identity, identities[tc.identity])}}
			}
			d := policy.Decide(&q, nil)
			if d.Allowed != tc.want || d.Cause != tc.cause {
				t.Errorf("allowed %t, cause %d; want %t, %d (%v)", d.Allowed, d.Cause, tc.want, tc.cause, d.Reasons)
			}
			if deny := tc.cause == policy.IdentityDeny || tc.cause == policy.ResourceDeny; d.ExplicitDeny != deny {
				t.Errorf("ExplicitDeny = %t, want %t", d.ExplicitDeny, deny)
			}
			if d.ExplicitDeny && d.Reasons[len(d.Reasons)-1].Effect != policy.Deny {
				t.Errorf("the last reason of a denial is %v", d.Reasons[len(d.Reasons)-1])
			}
			if d.Allowed && d.Cause != policy.AllowedAsRoot && len(d.Reasons) == 0 {
				t.Error("allowed without a reason")
			}
		})
	}
}

// What bounds a caller: permissions boundary and session policies, against every way in which a key can be reached.
func TestBoundariesAndSessionPolicies(t *testing.T) {
	keyPolicies := map[string]string{
		"account":  `{"AWS": ["111122223333", "444455556666"]}`,
		"named":    `{"AWS": ["arn:aws:iam::111122223333:user/alice", "arn:aws:sts::111122223333:assumed-role/Signer/prod", "arn:aws:sts::444455556666:assumed-role/Signer/prod"]}`,
		"role":     `{"AWS": ["arn:aws:iam::111122223333:role/Signer", "arn:aws:iam::444455556666:role/Signer"]}`,
		"everyone": `"*"`,
		"other":    `{"AWS": "arn:aws:iam::111122223333:user/carol"}`,
	}
	documents := map[string]string{
		"allow":  `{"Effect": "Allow", "Action": "kms:S*", "Resource": "*"}`,
		"silent": `{"Effect": "Allow", "Action": "kms:Verify", "Resource": "*"}`,
		"deny":   `{"Effect": "Allow", "Action": "*", "Resource": "*"}, {"Effect": "Deny", "Action": "kms:Sign", "Resource": "*"}`,
	}
	for _, tc := range []struct {
		key, caller                 string
		identity, boundary, session string // a space between session policies
		grant                       string
		want                        policy.Cause
	}{
		// They bound what identity policies allow.
		{"account", "alice", "allow", "allow", "", "", policy.AllowedByIdentity},
		{"account", "alice", "allow", "silent", "", "", policy.NoBoundaryAllow},
		{"account", "alice", "allow", "deny", "", "", policy.BoundaryDeny},
		{"account", "alice", "silent", "allow", "", "", policy.NoIdentityAllow}, // and allow nothing themselves
		{"account", "role/Signer/prod", "allow", "", "allow", "", policy.AllowedByIdentity},
		{"account", "role/Signer/prod", "allow", "", "silent", "", policy.NoSessionAllow},
		{"account", "role/Signer/prod", "allow", "", "silent allow", "", policy.AllowedByIdentity}, // one of them is enough
		{"account", "role/Signer/prod", "allow", "", "allow deny", "", policy.SessionDeny},
		{"account", "role/Signer/prod", "silent", "", "allow", "", policy.NoIdentityAllow},
		{"account", "role/Signer/prod", "allow", "allow", "silent", "", policy.NoSessionAllow},
		{"account", "role/Signer/prod", "allow", "silent", "allow", "", policy.NoBoundaryAllow},

		// A key policy that names user or session itself goes past them, but not past a deny.
		{"named", "alice", "", "silent", "", "", policy.AllowedByResource},
		{"named", "alice", "", "deny", "", "", policy.BoundaryDeny},
		{"named", "role/Signer/prod", "", "silent", "silent", "", policy.AllowedByResource},
		{"named", "role/Signer/prod", "silent", "", "silent", "", policy.AllowedByResource},
		{"named", "role/Signer/prod", "", "", "deny", "", policy.SessionDeny},
		{"named", "role/Signer/prod", "deny", "silent", "silent", "", policy.IdentityDeny},

		// One that reaches the caller by role or star does not.
		{"role", "role/Signer/prod", "", "", "", "", policy.AllowedByResource},
		{"role", "role/Signer/prod", "", "allow", "allow", "", policy.AllowedByResource},
		{"role", "role/Signer/prod", "", "silent", "allow", "", policy.NoBoundaryAllow},
		{"role", "role/Signer/prod", "", "allow", "silent", "", policy.NoSessionAllow},
		{"everyone", "alice", "", "silent", "", "", policy.NoBoundaryAllow},
		{"everyone", "alice", "", "allow", "", "", policy.AllowedByResource},
		{"everyone", "role/Signer/prod", "", "", "silent", "", policy.NoSessionAllow},

		// Without a key policy they bound as well.
		{"none", "alice", "allow", "silent", "", "", policy.NoBoundaryAllow},
		{"none", "role/Signer/prod", "allow", "allow", "silent", "", policy.NoSessionAllow},
		{"none", "role/Signer/prod", "allow", "allow", "allow", "", policy.AllowedByIdentity},

		// Across accounts nothing goes past them: the caller's own account must allow.
		{"named", "444455556666/role/Signer/prod", "allow", "", "silent", "", policy.NoSessionAllow},
		{"named", "444455556666/role/Signer/prod", "allow", "silent", "allow", "", policy.NoBoundaryAllow},
		{"named", "444455556666/role/Signer/prod", "allow", "allow", "allow", "", policy.AllowedByBoth},
		{"named", "444455556666/role/Signer/prod", "", "allow", "allow", "", policy.NoIdentityAllow},

		// A grant opens the key, to other accounts too; what bounds the caller bounds it.
		{"other", "alice", "", "", "", "g", policy.AllowedByGrant},
		{"other", "444455556666/bob", "", "", "", "g", policy.AllowedByGrant},
		{"other", "rds.amazonaws.com", "", "", "", "g", policy.AllowedByGrant},
		{"account", "alice", "", "", "", "g", policy.AllowedByGrant},
		{"other", "alice", "", "silent", "", "g", policy.NoBoundaryAllow},
		{"other", "role/Signer/prod", "allow", "", "silent", "g", policy.NoSessionAllow},
		{"other", "role/Signer/prod", "", "allow", "allow", "g", policy.AllowedByGrant},
		{"other", "alice", "deny", "", "", "g", policy.IdentityDeny},
		{"other", "alice", "", "deny", "", "g", policy.BoundaryDeny},
		{"named", "alice", "", "silent", "", "g", policy.AllowedByResource},
		{"account", "alice", "allow", "", "", "g", policy.AllowedByIdentity},
	} {
		name := strings.Join([]string{tc.key, tc.caller, tc.identity, tc.boundary, tc.session, tc.grant}, ", ")
		q := policy.Question{Request: policy.Request{Principal: who(tc.caller), Action: "kms:Sign", Resource: keyARN}, Owner: account, Grant: tc.grant}
		document := func(kind string) policy.Attached {
			return policy.Attached{Name: kind, Policy: mustParse(t, policy.Identity, documents[kind])}
		}
		if principal := keyPolicies[tc.key]; principal != "" {
			q.Resource = policy.Attached{Name: "key policy", Policy: mustParse(t, policy.Resource, `{"Effect": "Allow", "Principal": `+principal+`, "Action": "kms:Sign", "Resource": "*"}`)}
		}
		if tc.identity != "" {
			q.Identity = []policy.Attached{document(tc.identity)}
		}
		if tc.boundary != "" {
			q.Boundary = document(tc.boundary)
		}
		for _, kind := range strings.Fields(tc.session) {
			q.Session = append(q.Session, document(kind))
		}
		d := policy.Decide(&q, nil)
		allowed := tc.want >= policy.AllowedByResource
		if d.Cause != tc.want || d.Allowed != allowed {
			t.Errorf("%s: %s, allowed %t; want %s", name, d.Cause, d.Allowed, tc.want)
		}
		if deny := strings.HasPrefix(tc.want.String(), "explicit deny"); deny != d.ExplicitDeny || deny && d.Reasons[len(d.Reasons)-1].Effect != policy.Deny {
			t.Errorf("%s: explicit deny %t, reasons %v", name, d.ExplicitDeny, d.Reasons)
		}
		if grant := len(d.Reasons) > 0 && d.Reasons[len(d.Reasons)-1].String() == "grant g: Allow"; grant != (tc.want == policy.AllowedByGrant) {
			t.Errorf("%s: reasons %v", name, d.Reasons)
		}
	}
}

// Who is denied by his own policies learns nothing about another account's key, whether it denies him too or is not there.
func TestOwnDenialsComeFirstAcrossAccounts(t *testing.T) {
	deny := policy.Attached{Name: "own", Policy: mustParse(t, policy.Identity, `{"Effect": "Deny", "Action": "*", "Resource": "*"}`)}
	causes := map[policy.Cause]bool{}
	for _, statements := range []string{
		"", `{"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}`, `{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}`,
	} {
		q := policy.Question{Request: policy.Request{Principal: who("444455556666/bob"), Action: "kms:Sign", Resource: keyARN}, Owner: account, Identity: []policy.Attached{deny}}
		if statements != "" {
			q.Resource = policy.Attached{Name: "key policy", Policy: mustParse(t, policy.Resource, statements)}
		}
		d := policy.Decide(&q, nil)
		causes[d.Cause] = true
	}
	if len(causes) != 1 || !causes[policy.IdentityDeny] {
		t.Errorf("causes %v", causes)
	}
}

func TestDenyInAnyIdentityPolicyWins(t *testing.T) {
	allow := policy.Attached{Name: "allow", Policy: mustParse(t, policy.Identity, `{"Effect": "Allow", "Action": "*", "Resource": "*"}`)}
	deny := policy.Attached{Name: "deny", Policy: mustParse(t, policy.Identity, `{"Effect": "Deny", "Action": "kms:S*", "Resource": "*"}`)}
	for _, identity := range [][]policy.Attached{{allow, deny}, {deny, allow}, {allow, deny, allow}} {
		q := policy.Question{Request: policy.Request{Principal: who("alice"), Action: "kms:Sign", Resource: keyARN}, Owner: account, Identity: identity}
		if d := policy.Decide(&q, nil); d.Allowed || !d.ExplicitDeny {
			t.Errorf("with policies %v: %+v", identity, d)
		}
	}
}

// A question with nothing in it is denied: there is no zero value that lets anybody in.
func TestZeroQuestionIsDenied(t *testing.T) {
	if d := policy.Decide(&policy.Question{}, nil); d.Allowed {
		t.Error("the zero question is allowed")
	}
	if (policy.Decision{}).Allowed {
		t.Error("the zero decision allows")
	}
}

func mustParse(t testing.TB, kind policy.Kind, statements string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse([]byte(`{"Version": "2012-10-17", "Statement": [`+statements+`]}`), kind)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func BenchmarkDecide(b *testing.B) {
	key := mustParse(b, policy.Resource, `{"Sid": "Enable IAM policies", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": "kms:*", "Resource": "*"}`)
	own := mustParse(b, policy.Identity, `{"Sid": "Use", "Effect": "Allow", "Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:Sign", "kms:Verify"],
		"Resource": ["arn:aws:kms:eu-west-1:111122223333:key/*", "arn:aws:kms:*:111122223333:key/*"]}`)
	q := policy.Question{
		Request:  policy.Request{Principal: who("alice"), Action: "kms:Sign", Resource: keyARN},
		Owner:    account,
		Resource: policy.Attached{Name: "key policy", Policy: key},
		Identity: []policy.Attached{{Name: "own", Policy: own}},
	}
	var buf [4]policy.Reason
	b.ReportAllocs()
	for b.Loop() {
		if d := policy.Decide(&q, buf[:0]); !d.Allowed {
			b.Fatal("denied")
		}
	}
}

func TestDecideAllocatesNothing(t *testing.T) {
	q := policy.Question{
		Request:  policy.Request{Principal: who("alice"), Action: "kms:Sign", Resource: keyARN},
		Owner:    account,
		Resource: policy.Attached{Name: "key policy", Policy: mustParse(t, policy.Resource, `{"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "kms:*", "Resource": "*"}`)},
		Identity: []policy.Attached{{Name: "own", Policy: mustParse(t, policy.Identity, `{"Effect": "Allow", "Action": "kms:Si?n", "Resource": "arn:aws:kms:*:*:key/*"}`)}},
	}
	buf := make([]policy.Reason, 0, 4)
	if n := testing.AllocsPerRun(100, func() {
		if !policy.Decide(&q, buf).Allowed {
			t.Fatal("denied")
		}
	}); n != 0 {
		t.Errorf("%v allocations a decision", n)
	}
}
