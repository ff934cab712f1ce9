package policy_test

import (
	"strings"
	"testing"

	"github.com/keyturn/keyturn/policy"
)

func document(t *testing.T, text string) *policy.Document {
	t.Helper()
	d, err := policy.ReadDocument([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return d
}

// However a policy is written, it is read back as AWS prints it, and what is
// read back prints as it is.
func TestDocumentPrintsAsAWS(t *testing.T) {
	const want = `{
  "Version" : "2012-10-17",
  "Id" : "keys",
  "Statement" : [ {
    "Sid" : "Use",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : [ "arn:aws:iam::111122223333:user/alice", "arn:aws:iam::111122223333:user/bob" ],
      "Service" : "rds.amazonaws.com"
    },
    "Action" : [ "kms:Sign", "kms:Decrypt" ],
    "Resource" : "*",
    "Condition" : {
      "Bool" : {
        "aws:SecureTransport" : "true"
      },
      "NumericLessThan" : {
        "kms:RotationPeriodInDays" : [ "90", "365.5" ]
      },
      "Null" : { }
    }
  }, {
    "Effect" : "Deny",
    "NotPrincipal" : "*",
    "NotAction" : "kms:*",
    "NotResource" : "é\"\n"
  } ]
}`
	given := `{"Statement": [{"Condition": {"Bool": {"aws:SecureTransport": [true]}, "NumericLessThan": {"kms:RotationPeriodInDays": [90, 365.5]}, "Null": {}},
		"Resource": ["*"], "Principal": {"AWS": ["arn:aws:iam::111122223333:user/bob", "arn:aws:iam::111122223333:user/alice", "arn:aws:iam::111122223333:user/bob"],
		"Service": ["rds.amazonaws.com"]}, "Action": ["kms:Sign", "kms:Decrypt"], "Effect": "Allow", "Sid": "Use"},
		{"NotResource": ["\u00e9\"\n"], "NotAction": ["kms:*"], "NotPrincipal": "*", "Effect": "Deny"}], "Id": "keys", "Version": "2012-10-17"}`
	for _, text := range []string{given, want, document(t, given).Compact()} {
		if got := document(t, text).String(); got != want {
			t.Errorf("got %s\nof %s", got, text)
		}
	}
	if compact := document(t, given).Compact(); strings.ContainsAny(compact, " \t") || document(t, want).Compact() != compact {
		t.Errorf("compact: %s", compact)
	}
}

func TestDocumentOfOneStatementAndNoVersion(t *testing.T) {
	const want = `{
  "Version" : "2008-10-17",
  "Statement" : [ {
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "*"
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}`
	d := document(t, `{"Statement": {"Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": ["kms:*"], "Resource": ["*"]}}`)
	if got := d.String(); got != want {
		t.Errorf("got %s", got)
	}
	// What is kept is no longer than what was given.
	if compact := d.Compact(); strings.Contains(compact, "Version") {
		t.Errorf("compact: %s", compact)
	}
}

func TestDocumentRefuses(t *testing.T) {
	for _, text := range []string{``, `[]`, `{"Statement": [}`, `{} {}`, `{"Condition": {"a": 1, "a": 2}}`, `"text"`} {
		if _, err := policy.ReadDocument([]byte(text)); err == nil {
			t.Errorf("%s was read", text)
		}
	}
}

func TestRenamePrincipals(t *testing.T) {
	d := document(t, `{"Statement": [
		{"Effect": "Allow", "Principal": {"AWS": ["b", "c", "a"], "Service": "a"}, "Action": "a", "Resource": "a"},
		{"Effect": "Deny", "NotPrincipal": {"AWS": "a"}, "Action": "a", "Resource": "a"},
		{"Effect": "Deny", "Principal": "*", "Action": "a", "Resource": "a"}]}`)
	d.RenamePrincipals(func(name string) string {
		if name == "b" {
			return "a"
		}
		return strings.ToUpper(name)
	})
	const want = `{"Statement":[{"Effect":"Allow","Principal":{"AWS":["A","C","a"],"Service":"a"},"Action":"a","Resource":"a"},` +
		`{"Effect":"Deny","NotPrincipal":{"AWS":"A"},"Action":"a","Resource":"a"},` +
		`{"Effect":"Deny","Principal":"*","Action":"a","Resource":"a"}]}`
	if got := d.Compact(); got != want {
		t.Errorf("got %s", got)
	}
}

// A user or role named by its unique id is that one, not the next of its name;
// a role's id stands for its sessions where the role's name would.
func TestUniqueIDs(t *testing.T) {
	const alice, signer = "AIDACKCEVSQ6C2EXAMPLE", "AROACKCEVSQ6C2EXAMPLE"
	p, err := policy.Parse([]byte(`{"Statement": [
		{"Effect": "Allow", "Principal": {"AWS": ["`+alice+`", "`+signer+`"]}, "Action": "kms:Sign", "Resource": "*"},
		{"Effect": "Allow", "Principal": "*", "Action": "kms:Verify", "Resource": "*"},
		{"Effect": "Deny", "NotPrincipal": {"AWS": ["`+alice+`", "`+signer+`"]}, "Action": "kms:Verify", "Resource": "*"}]}`), policy.Resource)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		userID       string
		sign, verify policy.Effect
	}{
		{alice, policy.Allow, policy.Allow},
		{"AIDACKCEVSQ6C2EXAMPL2", policy.NoMatch, policy.Deny},
		{signer, policy.Allow, policy.Allow},
		{signer + ":session", policy.Allow, policy.Deny}, // AWS wants sessions spared by their own names
		{signer + "X:session", policy.NoMatch, policy.Deny},
		{"", policy.NoMatch, policy.Deny},
	} {
		ask := func(action string) policy.Effect {
			return p.Evaluate(&policy.Request{Action: action, Resource: "*", Principal: policy.Principal{
				ARN: "arn:aws:iam::111122223333:user/alice", Account: "111122223333", UserID: c.userID,
			}}).Effect
		}
		if sign, verify := ask("kms:Sign"), ask("kms:Verify"); sign != c.sign || verify != c.verify {
			t.Errorf("%q: Sign %s, Verify %s", c.userID, sign, verify)
		}
	}
	names := p.Principals()
	if len(names) != 3 || !policy.IsUniqueID(alice) || policy.IsUniqueID("AIDA") || policy.IsUniqueID("AKIACKCEVSQ6C2EXAMPLE") {
		t.Errorf("principals %q", names)
	}
}
