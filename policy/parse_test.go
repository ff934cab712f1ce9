package policy_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/policy"
)

// What is refused, and the words that tell the author where and why.
func TestParseRefuses(t *testing.T) {
	const tail = `"Action": "kms:*", "Resource": "*"}]}`
	const head = `{"Statement": [{"Effect": "Allow", "Principal": "*", `
	for _, tc := range []struct {
		name string
		kind policy.Kind
		doc  string
		want string
	}{
		{"condition", policy.Resource, `{"Statement": [{"Sid": "Office hours", "Effect": "Allow", "Principal": "*", "Condition": {"Bool": {"aws:SecureTransport": "perhaps"}}, ` + tail, `statement "Office hours": Condition Bool: "aws:SecureTransport": value "perhaps" is not "true" or "false"`},
		{"condition before the Sid", policy.Resource, `{"Statement": [{"Condition": {"Boole": {}}, "Sid": "Late", "Effect": "Allow", "Principal": "*", ` + tail, `statement "Late": Condition has unknown operator "Boole"`},
		{"condition without Sid", policy.Identity, `{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}, {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"a": "b"}}}]}`, `statement 1: Condition StringEquals: "a": is no condition key`},
		{"policy variable", policy.Identity, `{"Version": "2012-10-17", "Statement": {"Sid": "Own", "Effect": "Allow", "Action": "kms:*", "Resource": "arn:aws:kms:*:*:alias/${aws:usernam}"}}`, `statement "Own": Resource "arn:aws:kms:*:*:alias/${aws:usernam}" holds a policy variable of unknown key`},

		{"unknown element", policy.Resource, head + `"Conditions": {}, ` + tail, `statement 0: unknown element "Conditions"`},
		{"element in other case", policy.Resource, head + `"condition": {}, ` + tail, `statement 0: unknown element "condition"`},
		{"unknown element of the document", policy.Resource, `{"Comment": "x", "Statement": [{"Effect": "Allow", "Principal": "*", ` + tail, `unknown element "Comment"`},
		{"duplicate element", policy.Resource, head + `"Effect": "Deny", ` + tail, `statement 0: "Effect" is given twice`},
		{"escaped duplicate", policy.Resource, head + `"\u0045ffect": "Deny", ` + tail, `"Effect" is given twice`},
		{"duplicate Statement", policy.Identity, `{"Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}], "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}`, `"Statement" is given twice`},
		{"duplicate principal type", policy.Resource, `{"Statement": [{"Effect": "Allow", "Principal": {"AWS": "*", "AWS": "111122223333"}, ` + tail, `"AWS" is given twice`},
		{"duplicate Sid", policy.Identity, `{"Statement": [{"Sid": "A", "Effect": "Allow", "Action": "*", "Resource": "*"}, {"Sid": "A", "Effect": "Deny", "Action": "*", "Resource": "*"}]}`, `statement "A": Sid is used twice`},

		{"no Effect", policy.Resource, `{"Statement": [{"Principal": "*", ` + tail, "statement 0: Effect is missing"},
		{"effect in lower case", policy.Resource, `{"Statement": [{"Effect": "allow", "Principal": "*", ` + tail, `Effect "allow" is not "Allow" or "Deny"`},
		{"no Action", policy.Identity, `{"Statement": [{"Effect": "Allow", "Resource": "*"}]}`, "Action is missing"},
		{"no Resource", policy.Identity, `{"Statement": [{"Effect": "Allow", "Action": "*"}]}`, "Resource is missing"},
		{"no Principal", policy.Resource, `{"Statement": [{"Effect": "Allow", ` + tail, "Principal is missing"},
		{"Principal in an identity policy", policy.Identity, head + tail, "names no principal"},
		{"Action and NotAction", policy.Identity, `{"Statement": [{"Effect": "Allow", "NotAction": "iam:*", "Action": "*", "Resource": "*"}]}`, "Action and NotAction exclude each other"},
		{"Resource and NotResource", policy.Resource, head + `"NotResource": "*", ` + tail, "Resource and NotResource exclude"},
		{"Principal and NotPrincipal", policy.Resource, `{"Statement": [{"Effect": "Deny", "Principal": "*", "NotPrincipal": {"AWS": "111122223333"}, ` + tail, "Principal and NotPrincipal exclude"},
		{"NotPrincipal with Allow", policy.Resource, `{"Statement": [{"Effect": "Allow", "NotPrincipal": {"AWS": "111122223333"}, ` + tail, "NotPrincipal must be used with Effect Deny"},
		{"no Statement", policy.Resource, `{"Version": "2012-10-17"}`, "Statement is missing or empty"},
		{"no statements", policy.Resource, `{"Version": "2012-10-17", "Statement": []}`, "Statement is missing or empty"},
		{"version", policy.Resource, `{"Version": "2012-10-18", "Statement": [{"Effect": "Allow", "Principal": "*", ` + tail, `Version "2012-10-18" is not`},
		{"empty version", policy.Resource, `{"Version": "", "Statement": [{"Effect": "Allow", "Principal": "*", ` + tail, `Version "" is not`},

		{"Effect of a wrong type", policy.Resource, `{"Statement": [{"Effect": true, "Principal": "*", ` + tail, "statement 0: expected Effect to be a string, found a boolean"},
		{"Action of a wrong type", policy.Identity, `{"Statement": [{"Effect": "Allow", "Action": {"kms": "*"}, "Resource": "*"}]}`, "expected Action to be a string, found an object"},
		{"Action with null", policy.Identity, `{"Statement": [{"Effect": "Allow", "Action": ["kms:*", null], "Resource": "*"}]}`, "expected Action to be a string, found null"},
		{"nested list", policy.Identity, `{"Statement": [{"Effect": "Allow", "Action": [["kms:*"]], "Resource": "*"}]}`, "expected Action to be a string, found a list"},
		{"empty Action list", policy.Identity, `{"Statement": [{"Effect": "Allow", "Action": [], "Resource": "*"}]}`, "Action is an empty list"},
		{"empty NotAction list", policy.Identity, `{"Statement": [{"Effect": "Allow", "NotAction": [], "Resource": "*"}]}`, "NotAction is an empty list"},
		{"statement of a wrong type", policy.Identity, `{"Statement": ["Allow"]}`, "statement 0: expected an object, found a string"},
		{"document of a wrong type", policy.Identity, `["Statement"]`, "expected an object, found a list"},

		{"action without vendor", policy.Identity, `{"Statement": [{"Effect": "Allow", "Action": "Sign", "Resource": "*"}]}`, `Action "Sign" must be prefaced by a vendor`},
		{"wildcard vendor", policy.Identity, `{"Statement": [{"Effect": "Allow", "Action": "k*:Sign", "Resource": "*"}]}`, "must have a vendor of letters"},
		{"Kelvin sign", policy.Identity, `{"Statement": [{"Effect": "Deny", "Action": "\u212ams:Sign", "Resource": "*"}]}`, "must have a vendor of letters"},
		{"empty action name", policy.Identity, `{"Statement": [{"Effect": "Allow", "Action": "kms:", "Resource": "*"}]}`, "must have a name"},
		{"action with a space", policy.Identity, `{"Statement": [{"Effect": "Deny", "Action": "kms:Sign ", "Resource": "*"}]}`, "must have a name"},
		{"resource that is no ARN", policy.Identity, `{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "key/*"}]}`, `Resource "key/*" must be in ARN format`},
		{"wildcard service", policy.Identity, `{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "arn:aws:*:us-east-1:111122223333:key/1"}]}`, "without wildcards"},
		{"short ARN", policy.Identity, `{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "arn:aws:kms:us-east-1:111122223333"}]}`, "must be in ARN format"},
		{"Sid with a space", policy.Identity, `{"Statement": [{"Sid": "Not good", "Effect": "Allow", "Action": "*", "Resource": "*"}]}`, "letters and digits only"},

		{"bare principal", policy.Resource, `{"Statement": [{"Effect": "Allow", "Principal": "arn:aws:iam::111122223333:root", ` + tail, `a bare string must be "*"`},
		{"empty principal", policy.Resource, `{"Statement": [{"Effect": "Allow", "Principal": {}, ` + tail, "Principal is empty"},
		{"empty principal list", policy.Resource, `{"Statement": [{"Effect": "Allow", "Principal": {"AWS": []}, ` + tail, "Principal AWS is an empty list"},
		{"wildcard in a principal", policy.Resource, `{"Statement": [{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:user/*"}, ` + tail, "wildcards stand alone"},
		{"wildcard account", policy.Resource, `{"Statement": [{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::*:root"}, ` + tail, "is not a principal"},
		{"group", policy.Resource, `{"Statement": [{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:group/Admins"}, ` + tail, "is not a principal"},
		{"user without a name", policy.Resource, `{"Statement": [{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:user/"}, ` + tail, "is not a principal"},
		{"unique id", policy.Resource, `{"Statement": [{"Effect": "Allow", "Principal": {"AWS": "AKIACKCEVSQ6C2EXAMPLE"}, ` + tail, "is not a principal"},
		{"eleven digits", policy.Resource, `{"Statement": [{"Effect": "Allow", "Principal": {"AWS": "11112222333"}, ` + tail, "is not a principal"},
		{"federated", policy.Resource, `{"Statement": [{"Effect": "Allow", "Principal": {"Federated": "cognito-identity.amazonaws.com"}, ` + tail, "of type Federated is for trust policies only"},
		{"unknown principal type", policy.Resource, `{"Statement": [{"Effect": "Allow", "Principal": {"aws": "*"}, ` + tail, `unknown type "aws"`},
		{"service", policy.Resource, `{"Statement": [{"Effect": "Allow", "Principal": {"Service": "*"}, ` + tail, "is not a service"},

		{"no JSON", policy.Resource, `Statement: Allow`, "not valid JSON"},
		{"empty", policy.Resource, ``, "not valid JSON"},
		{"cut off", policy.Resource, `{"Statement": [{"Effect": "Allow"`, "not valid JSON"},
		{"trailing text", policy.Resource, head + tail + `{}`, "more text behind the document"},
		{"trailing comma", policy.Resource, `{"Statement": [{"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*",}]}`, "not valid JSON"},
		{"invalid UTF-8", policy.Resource, "{\"Id\": \"\xff\"}", "not valid JSON"},
		{"too long for a key", policy.Resource, `{"Id": "` + strings.Repeat("x", policy.MaxResourceBytes) + `"}`, "the limit is 32768"},
		{"too long for a user", policy.Identity, `{"Id": "` + strings.Repeat("x", policy.MaxIdentityChars) + `"}`, "the limit is 6144"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := policy.Parse([]byte(tc.doc), tc.kind)
			if err == nil || p != nil {
				t.Fatalf("Parse = %v, %v; want an error with %q", p, err, tc.want)
			}
			if malformed, ok := errors.AsType[*policy.Error](err); !ok || malformed.Error() == "" {
				t.Fatalf("the error is a %T", err)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q, want %q in it", err, tc.want)
			}
		})
	}
}

func TestParseTakes(t *testing.T) {
	for _, tc := range []struct {
		kind policy.Kind
		doc  string
	}{
		{policy.Identity, `{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}`},
		{policy.Identity, `{"Version": "2008-10-17", "Id": "x", "Statement": {"Sid": "", "Effect": "Allow", "Action": ["*"], "Resource": ["*"]}}`},
		{policy.Identity, `{"Statement": [{"Sid": "", "Effect": "Allow", "Action": "*", "Resource": "*"}, {"Sid": "", "Effect": "Deny", "Action": "s3:*", "Resource": "*"}]}`},
		// Before 2012-10-17 there were no variables: a dollar sign is one.
		{policy.Identity, `{"Version": "2008-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "arn:aws:s3:::b/${aws:username}"}}`},
		// White space does not count.
		{policy.Identity, strings.Repeat(" \n\t", 4000) + `{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}`},
		{policy.Resource, `{"Statement": {"Effect": "Allow", "Principal": {"AWS": ["111122223333", "arn:aws-us-gov:iam::111122223333:role/service-role/R"]}, "Action": "kms:*", "Resource": "*"}}`},
		{policy.Resource, `{"Statement": {"Effect": "Allow", "Principal": {"AWS": "arn:aws:sts::111122223333:federated-user/joe"}, "Action": "kms:*", "Resource": "*"}}`},
	} {
		if _, err := policy.Parse([]byte(tc.doc), tc.kind); err != nil {
			t.Errorf("Parse(%.80s…): %v", tc.doc, err)
		}
	}
}

func TestPrincipals(t *testing.T) {
	p := mustParse(t, policy.Resource, `
		{"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:user/a"], "Service": "rds.amazonaws.com"}, "Action": "kms:*", "Resource": "*"},
		{"Effect": "Deny", "NotPrincipal": {"AWS": ["111122223333", "arn:aws:iam::111122223333:role/r"]}, "Action": "kms:*", "Resource": "*"},
		{"Effect": "Allow", "Principal": "*", "Action": "kms:*", "Resource": "*"}`)
	want := "[111122223333 arn:aws:iam::111122223333:user/a rds.amazonaws.com arn:aws:iam::111122223333:role/r *]"
	if got := fmt.Sprint(p.Principals()); got != want {
		t.Errorf("Principals() = %s, want %s", got, want)
	}
}

// The classic that sends a backtracking matcher into the next century.
func TestMatchingDoesNotBacktrackExponentially(t *testing.T) {
	doc := `{"Effect": "Allow", "Action": "kms:*", "Resource": "arn:aws:kms:*:*:alias/` + strings.Repeat("a*", 2000) + `b"}`
	p := mustParse(t, policy.Identity, doc)
	r := policy.Request{Principal: who("alice"), Action: "kms:Sign", Resource: "arn:aws:kms:us-east-1:111122223333:alias/" + strings.Repeat("a", 4000)}
	start := time.Now()
	if p.Evaluate(&r).Effect != policy.NoMatch {
		t.Error("matched")
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("one evaluation took %v", took)
	}
}

// FuzzPolicy holds Parse and Evaluate to what can be said of any document: no panic, no endless time, and a document with
// a Deny for everybody never allows.
func FuzzPolicy(f *testing.F) {
	for _, doc := range []string{
		`{"Version": "2012-10-17", "Statement": [{"Sid": "x", "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": "kms:*", "Resource": "*"}]}`,
		`{"Statement": {"Effect": "Deny", "NotPrincipal": {"AWS": ["111122223333"]}, "NotAction": ["kms:S?gn", "*"], "NotResource": "arn:aws:kms:*:*:key/*"}}`,
		`{"Statement": [{"Effect": "Allow", "Action": ["kms:*Key*"], "Resource": ["arn:aws:kms:us-*-?:1*"]}]}`,
		`{"Statement": [{"Effect": "Allow", "Condition": {}}]}`,
	} {
		f.Add([]byte(doc), "kms:Sign", keyARN)
	}
	f.Fuzz(func(t *testing.T, doc []byte, action, resource string) {
		for _, kind := range []policy.Kind{policy.Identity, policy.Resource} {
			p, err := policy.Parse(doc, kind)
			if (p == nil) == (err == nil) {
				t.Fatalf("Parse = %v, %v", p, err)
			}
			if err != nil {
				if _, ok := errors.AsType[*policy.Error](err); !ok {
					t.Fatalf("the error is a %T", err)
				}
				continue
			}
			for _, name := range []string{"alice", "root", "role/R/s", "444455556666/root", "rds.amazonaws.com"} {
				r := policy.Request{Principal: who(name), Action: action, Resource: resource}
				got := p.Evaluate(&r)
				if (got.Effect == policy.NoMatch) != (got.Statement < 0) || got.Statement >= p.Len() {
					t.Fatalf("%+v of %d statements", got, p.Len())
				}
				q := policy.Question{Request: r, Owner: account}
				if kind == policy.Resource {
					q.Resource.Policy = p
				} else {
					q.Identity = []policy.Attached{{Policy: p}}
				}
				if d := policy.Decide(&q, nil); d.Allowed && (d.ExplicitDeny || got.Effect == policy.Deny) {
					t.Fatalf("allowed although denied: %+v", d)
				} else if d.Allowed && kind == policy.Resource && got.Effect != policy.Allow {
					t.Fatalf("allowed although the resource policy does not: %+v", d)
				}
			}
		}
	})
}
