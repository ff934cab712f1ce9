package policy_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyturn/keyturn/policy"
)

// comparisons: a positive operator, the one that negates it, a key that both fit, and values of policies and requests.
var comparisons = []struct {
	operator, negated, key string
	values                 []string
}{
	{"StringEquals", "StringNotEquals", "kms:KeySpec", []string{"", "a", "A", "b", "*"}},
	{"StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "aws:username", []string{"k", "K", "\u212a", "\u017f", "s", "é", "É"}},
	{"StringLike", "StringNotLike", "kms:ResourceAliases", []string{"alias/a", "alias/*", "*", "?", "é", "alias/?", "a*b?c", "a*b\xc3c", ""}},
	{"NumericEquals", "NumericNotEquals", "aws:PrincipalTag/level", []string{"1", "1.0", "1e0", "2", "-2", "high", ""}},
	{"DateEquals", "DateNotEquals", "aws:TokenIssueTime", []string{"2026-11-23", "1795392000", "2026-11-23T00:00:00Z", "2026-11-24", "soon"}},
	{"IpAddress", "NotIpAddress", "aws:SourceIp", []string{"203.0.113.7", "203.0.113.0/24", "::ffff:203.0.113.7", "2001:db8::/32", "2001:db8::1", "in-process"}},
	{"ArnLike", "ArnNotLike", "aws:PrincipalArn", []string{"arn:aws:iam::1:user/a", "arn:aws:iam::*:user/?", "arn:aws:iam::1:user/a:b", "arn:*:*:*:*:*", "alice"}},
}

// drawn is a condition on one key and what a request has for it.
type drawn struct {
	prefix, positive, negated, key string
	values                         string // the policy's, as JSON
	request                        facts
}

func draw(t *rapid.T) drawn {
	c := rapid.SampledFrom(comparisons).Draw(t, "operator")
	d := drawn{
		prefix:   rapid.SampledFrom([]string{"", "", "ForAllValues:", "ForAnyValue:"}).Draw(t, "set"),
		positive: c.operator, negated: c.negated, key: c.key, request: facts{},
	}
	written, err := json.Marshal(rapid.SliceOfN(rapid.SampledFrom(c.values), 1, 4).Draw(t, "values"))
	if err != nil {
		t.Fatal(err)
	}
	d.values = string(written)
	if rapid.IntRange(0, 5).Draw(t, "absent") > 0 {
		d.request[c.key] = rapid.SliceOfN(rapid.SampledFrom(c.values), 0, 3).Draw(t, "request")
	}
	return d
}

// ask evaluates the condition in an Allow and in a Deny; ok is false where the policy is refused.
func (d drawn) ask(t *rapid.T, operator string) (allow, deny, ok bool) {
	for _, effect := range []policy.Effect{policy.Allow, policy.Deny} {
		p, err := policy.Parse([]byte(`{"Version": "2012-10-17", "Statement": {"Effect": "`+effect.String()+`", "Action": "*", "Resource": "*", "Condition": {"`+
			operator+`": {"`+d.key+`": `+d.values+`}}}}`), policy.Identity)
		if err != nil {
			return false, false, false
		}
		applies := p.Evaluate(&policy.Request{Principal: who("alice"), Action: "kms:Sign", Resource: keyARN, Context: d.request}).Effect == effect
		if effect == policy.Allow {
			allow = applies
		} else {
			deny = applies
		}
	}
	return allow, deny, true
}

// What holds for any condition without variables.
func TestConditionProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := draw(t)
		allow, deny, ok := d.ask(t, d.prefix+d.positive)
		notAllow, notDeny, notOK := d.ask(t, d.prefix+d.negated)
		if ok != notOK {
			t.Fatal("an operator takes what its negation refuses")
		}
		if !ok {
			return
		}
		if allow && !deny || notAllow && !notDeny {
			t.Error("doubt allows what it does not deny")
		}
		empty := len(d.request[d.key]) == 0
		switch opposite := map[string]string{"": "", "ForAllValues:": "ForAnyValue:", "ForAnyValue:": "ForAllValues:"}[d.prefix]; {
		case empty && d.prefix == "":
			if allow || deny || !notAllow || !notDeny {
				t.Error("an absent key meets an operator, or not its negation")
			}
		case empty:
			if all := d.prefix == "ForAllValues:"; allow != all || deny != all || notAllow != all || notDeny != all {
				t.Error("an absent key does not meet ForAllValues, or meets ForAnyValue")
			}
		default:
			// What a negated operator allows is what the operator does not deny; of all, what is not so for any.
			oppositeAllow, oppositeDeny, _ := d.ask(t, opposite+d.positive)
			if notAllow == oppositeDeny || notDeny == oppositeAllow {
				t.Error("a negated operator is not the negation")
			}
		}
		ifExists, ifExistsDeny, _ := d.ask(t, d.prefix+d.positive+"IfExists")
		if ifExists != (allow || empty) || ifExistsDeny != (deny || empty) {
			t.Error("IfExists does more than to wave absent keys through")
		}
	})
}

// statements are drawn for a key, by small numbers of names, so that they meet.
func drawPolicy(t *rapid.T, kind policy.Kind, label string) *policy.Policy {
	var all []string
	for range rapid.IntRange(1, 3).Draw(t, label) {
		pick := func(what string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label+" "+what) }
		s := `{"Effect": "` + pick("effect", "Allow", "Allow", "Deny") + `", ` +
			pick("action", `"Action": "kms:Sign"`, `"Action": ["kms:S*", "kms:Verify"]`, `"NotAction": "kms:Verify"`) + `, ` +
			pick("resource", `"Resource": "*"`, `"Resource": "arn:aws:kms:*:111122223333:key/${aws:PrincipalTag/key}*"`, `"NotResource": "arn:aws:kms:*:*:alias/${aws:username}"`)
		if kind == policy.Resource {
			s += `, "Principal": ` + pick("principal", `"*"`, `{"AWS": "111122223333"}`, `{"AWS": "444455556666"}`,
				`{"AWS": ["arn:aws:iam::111122223333:user/alice", "arn:aws:iam::111122223333:role/R"]}`, `{"AWS": "arn:aws:sts::111122223333:assumed-role/R/s"}`)
		}
		if condition := pick("condition", "", "", `{"StringNotEquals": {"aws:PrincipalTag/team": "${aws:ResourceTag/team}"}}`, `{"Bool": {"aws:SecureTransport": true}}`,
			`{"NumericLessThan": {"aws:PrincipalTag/level": 3}}`, `{"ForAllValues:StringLike": {"aws:TagKeys": ["a*", "b"]}}`); condition != "" {
			s += `, "Condition": ` + condition
		}
		all = append(all, s+"}")
	}
	p, err := policy.Parse([]byte(`{"Version": "2012-10-17", "Statement": [`+strings.Join(all, ",")+`]}`), kind)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What holds for any policies about any request: a deny wins wherever it stands, what bounds never widens, a grant never
// narrows, and who is allowed has been told by whom.
func TestDecisionProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := facts{}
		for _, key := range []string{
			"aws:PrincipalTag/key=1234abcd", "aws:username=alice", "aws:PrincipalTag/team=red", "aws:ResourceTag/team=red", "aws:ResourceTag/team=blue",
			"aws:SecureTransport=true", "aws:SecureTransport=false", "aws:PrincipalTag/level=2", "aws:PrincipalTag/level=high", "aws:TagKeys=a,c",
		} {
			if rapid.Bool().Draw(t, key) {
				name, values, _ := strings.Cut(key, "=")
				f[name] = strings.Split(values, ",")
			}
		}
		q := policy.Question{
			Request: policy.Request{
				Principal: who(rapid.SampledFrom([]string{"alice", "root", "role/R/s", "role/R/t", "444455556666/bob", "444455556666/root", "rds.amazonaws.com"}).Draw(t, "who")),
				Action:    "kms:Sign", Resource: keyARN, Context: f,
			},
			Owner: account,
		}
		if rapid.IntRange(0, 4).Draw(t, "key") > 0 {
			q.Resource = policy.Attached{Name: "key policy", Policy: drawPolicy(t, policy.Resource, "key policy")}
		}
		if rapid.Bool().Draw(t, "identity") {
			q.Identity = []policy.Attached{{Name: "own", Policy: drawPolicy(t, policy.Identity, "identity")}}
		}
		free := policy.Decide(&q, nil)

		bounded := q
		if rapid.Bool().Draw(t, "boundary") {
			bounded.Boundary = policy.Attached{Name: "boundary", Policy: drawPolicy(t, policy.Identity, "boundary")}
		} else {
			bounded.Session = []policy.Attached{{Name: "session", Policy: drawPolicy(t, policy.Identity, "session")}}
		}
		d := policy.Decide(&bounded, nil)
		if d.Allowed && !free.Allowed {
			t.Errorf("what bounds allows: %v", d)
		}
		granted := bounded
		granted.Grant = "g"
		g := policy.Decide(&granted, nil)
		if d.Allowed && !g.Allowed {
			t.Errorf("a grant takes away: %v", g)
		}
		for _, d := range []policy.Decision{free, d, g} {
			denied := false
			for _, r := range d.Reasons {
				denied = denied || r.Effect == policy.Deny
			}
			if d.ExplicitDeny != denied || d.Allowed && denied || d.Allowed != (d.Cause >= policy.AllowedByResource) {
				t.Errorf("%v", d)
			}
			if d.Allowed && len(d.Reasons) == 0 && d.Cause != policy.AllowedAsRoot {
				t.Errorf("nobody allowed it: %v", d)
			}
		}
		for _, a := range append([]policy.Attached{q.Resource, bounded.Boundary}, append(q.Identity, bounded.Session...)...) {
			if a.Policy != nil && a.Policy.Evaluate(&q.Request).Effect == policy.Deny && !g.ExplicitDeny {
				t.Errorf("the deny of %s does not win: %v", a.Name, g)
			}
		}
	})
}

// FuzzCondition holds whatever Parse takes for a condition to what can be said of it: no panic, and never does it allow
// what it would not deny.
func FuzzCondition(f *testing.F) {
	f.Add("StringEquals", "kms:KeySpec", `"RSA_2048"`, "RSA_2048", "")
	f.Add("ForAllValues:StringLikeIfExists", "kms:ResourceAliases", `["alias/*", "${aws:username}"]`, "alias/x", "alias/y")
	f.Add("ForAnyValue:ArnNotLike", "aws:SourceArn", `"arn:aws:s3:::${aws:PrincipalTag/x, 'y'}"`, "arn:aws:s3:::y", "arn")
	f.Add("NumericLessThanEquals", "aws:PrincipalTag/level", `[1.5e3, true]`, "0x10", "1e400")
	f.Add("DateGreaterThan", "aws:CurrentTime", `"2026-11-23T12:00:00.5+01:00"`, "1795435200.123456789", "2026-11")
	f.Add("NotIpAddress", "aws:SourceIp", `["::ffff:1.2.3.4", "0.0.0.0/0"]`, "fe80::1%1", "::")
	f.Add("StringNotEqualsIgnoreCase", "kms:EncryptionContext:\u212a", `"\u017f"`, "S", "\xff")
	f.Add("BinaryEquals", "aws:RequestTag/a", `"AA=="`, "\x00", "")
	f.Add("Null", "token.example.com:amr", `[false]`, "", "")
	f.Add("Bool", "aws:SecureTransport", `[true, "FALSE"]`, "TRUE", "tru\u0435")
	f.Fuzz(func(t *testing.T, operator, key, values, one, other string) {
		condition := fmt.Sprintf(`{%s: {%s: %s}}`, quoted(operator), quoted(key), values)
		for _, request := range []policy.Context{nil, always{}, always{one}, always{other}, always{one, other}} {
			allow, deny, ok := tryCondition(condition, request)
			if !ok {
				return
			}
			if allow && !deny {
				t.Errorf("%s allows %q and would not deny it", condition, request)
			}
		}
	})
}

// FuzzVariable does the same for text with variables, in every place where they may stand. Whatever a value holds, it
// reaches no further than its own text does.
func FuzzVariable(f *testing.F) {
	f.Add("alias/${aws:username}", "alice", "alias/alice")
	f.Add("${aws:PrincipalTag/a, '}'}${*}${?}${$}*", "x", "x*?$y")
	f.Add("${aws:PrincipalTag/'}", "*", "x")
	f.Add("a:b:${aws:userid}:*", "x:y", "a:b:x:y:z")
	f.Add("${${}}$}{$", "\xfe\xff", "\xfe")
	f.Add("${kms:EncryptionContext:${x}, ''}", "", "")
	f.Fuzz(func(t *testing.T, text, value, asked string) {
		arn := "arn:aws:kms:us-east-1:111122223333:"
		for _, element := range []string{
			`"Resource": ` + quoted(arn+text), `"NotResource": ` + quoted(arn+text),
			`"Resource": "*", "Condition": {"StringLike": {"aws:UserAgent": ` + quoted(text) + `}}`,
			`"Resource": "*", "Condition": {"StringNotEqualsIgnoreCase": {"aws:UserAgent": ` + quoted(text) + `}}`,
			`"Resource": "*", "Condition": {"ForAnyValue:ArnLike": {"aws:SourceArn": ` + quoted(arn+text) + `}}`,
		} {
			for _, request := range []policy.Context{nil, always{value}, always{value, asked}} {
				r := policy.Request{Principal: who("alice"), Action: "kms:Sign", Resource: arn + asked, Context: request}
				allow, deny, ok := tryStatement(element, &r)
				if ok && allow && !deny {
					t.Errorf("%s allows %q with %q and would not deny it", element, asked, request)
				}
			}
		}
		// A value that is not what is asked for, alone in the text, does not match.
		r := policy.Request{Principal: who("alice"), Action: "kms:Sign", Resource: arn + asked, Context: always{value}}
		if allow, _, _ := tryStatement(`"Resource": "`+arn+`${aws:username}"`, &r); allow != (value == asked && value != "" && strings.ToValidUTF8(value, "") == value) {
			t.Errorf("the value %q for %q: %t", value, asked, allow)
		}
	})
}

// always is a context that has the same values for every key; nobody has none.
type always []string

func (a always) Values(_ policy.Key, dst []string) ([]string, bool) { return append(dst, a...), true }

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

func tryCondition(condition string, request policy.Context) (allow, deny, ok bool) {
	r := policy.Request{Principal: who("alice"), Action: "kms:Sign", Resource: keyARN, Context: request}
	return tryStatement(`"Resource": "*", "Condition": `+condition, &r)
}

// tryStatement evaluates a statement in an Allow and in a Deny; ok is false where it is refused.
func tryStatement(element string, r *policy.Request) (allow, deny, ok bool) {
	for _, effect := range []policy.Effect{policy.Allow, policy.Deny} {
		p, err := policy.Parse([]byte(`{"Version": "2012-10-17", "Statement": {"Effect": "`+effect.String()+`", "Action": "*", `+element+`}}`), policy.Identity)
		if err != nil {
			return false, false, false
		}
		switch applies := p.Evaluate(r).Effect == effect; effect {
		case policy.Allow:
			allow = applies
		default:
			deny = applies
		}
	}
	return allow, deny, true
}
