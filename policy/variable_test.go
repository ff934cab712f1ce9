package policy_test

import (
	"strings"
	"testing"

	"github.com/keyturn/keyturn/policy"
)

// on evaluates a statement about aliases, in an Allow and in a Deny: element is its Resource or NotResource and Condition.
func on(t *testing.T, element, alias string, request policy.Context) (allow, deny bool) {
	t.Helper()
	for _, effect := range []policy.Effect{policy.Allow, policy.Deny} {
		p := mustParse(t, policy.Identity, `{"Effect": "`+effect.String()+`", "Action": "kms:*", `+element+`}`)
		r := policy.Request{Principal: who("alice"), Action: "kms:UpdateAlias", Resource: "arn:aws:kms:us-east-1:111122223333:alias/" + alias, Context: request}
		if effect == policy.Allow {
			allow = p.Evaluate(&r).Effect == effect
		} else {
			deny = p.Evaluate(&r).Effect == effect
		}
	}
	return allow, deny
}

func TestVariablesInResource(t *testing.T) {
	const arn = "arn:aws:kms:us-east-1:111122223333:alias/"
	team := func(value string) facts { return facts{"aws:PrincipalTag/team": {value}} }
	for _, tc := range []struct {
		element, alias string
		request        facts
		allow, deny    bool
	}{
		{`"Resource": "` + arn + `${aws:username}"`, "alice", facts{"aws:username": {"alice"}}, true, true},
		{`"Resource": "` + arn + `${aws:username}"`, "bob", facts{"aws:username": {"alice"}}, false, false},
		{`"Resource": "` + arn + `${AWS:UserName}-*"`, "alice-1", facts{"aws:username": {"alice"}}, true, true},
		{`"Resource": "arn:aws:kms:*:*:alias/${aws:PrincipalTag/Team}/?"`, "red/x", team("red"), true, true},
		{`"Resource": "arn:aws:kms:*:*:alias/${aws:PrincipalTag/Team}/?"`, "red/xy", team("red"), false, false},
		{`"Resource": ["` + arn + `x", "` + arn + `${aws:username}-${aws:PrincipalTag/team}"]`, "a-b", facts{"aws:username": {"a"}, "aws:PrincipalTag/team": {"b"}}, true, true},

		// Whoever may choose a value gets no wildcard by it, nor past a colon of the ARN.
		{`"Resource": "` + arn + `${aws:PrincipalTag/team}"`, "red", team("*"), false, false},
		{`"Resource": "` + arn + `${aws:PrincipalTag/team}"`, "*", team("*"), true, true},
		{`"Resource": "` + arn + `${aws:PrincipalTag/team}"`, "red", team("re?"), false, false},
		{`"Resource": "` + arn + `${aws:PrincipalTag/team}"`, "red", team("\xfe"), false, false},
		{`"Resource": "` + arn + `${aws:PrincipalTag/team}"`, "red", team("re\xff"), false, false},
		{`"Resource": "` + arn + `${aws:PrincipalTag/team}"`, "red", team("${aws:username}"), false, false},

		// Without a value the text is equal to nothing.
		{`"Resource": "` + arn + `${aws:PrincipalTag/team}*"`, "red", nil, false, false},
		{`"Resource": "` + arn + `${aws:PrincipalTag/team}*"`, "red", team(""), false, false},
		{`"Resource": "` + arn + `${aws:PrincipalTag/team}*"`, "red", facts{"aws:PrincipalTag/team": {"red"}, "aws:PrincipalTag/Team": {"red"}}, false, false},
		{`"Resource": ["` + arn + `${aws:PrincipalTag/team}", "` + arn + `red"]`, "red", nil, true, true},
		// NotResource then names all but nothing, which denies everything but allows nothing.
		{`"NotResource": "` + arn + `${aws:PrincipalTag/team}"`, "red", nil, false, true},
		{`"NotResource": ["` + arn + `x", "` + arn + `${aws:PrincipalTag/team}"]`, "blue", team("red"), true, true},
		{`"NotResource": "` + arn + `${aws:PrincipalTag/team}"`, "red", team("red"), false, false},

		{`"Resource": "` + arn + `${aws:PrincipalTag/team, 'none'}"`, "none", nil, true, true},
		{`"Resource": "` + arn + `${aws:PrincipalTag/team, 'none'}"`, "red", team("red"), true, true},
		{`"Resource": "` + arn + `${aws:PrincipalTag/team ,'a}, *'}x"`, "a}, *x", nil, true, true},
		{`"Resource": "` + arn + `${aws:PrincipalTag/team,'*'}"`, "red", nil, false, false},
		{`"Resource": "` + arn + `${aws:PrincipalTag/team, ''}red"`, "red", nil, true, true},

		{`"Resource": "` + arn + `a${*}${?}${$}{b}*"`, "a*?${b}c", nil, true, true},
		{`"Resource": "` + arn + `a${*}"`, "ab", nil, false, false},
		{`"Resource": "` + arn + `a$b$"`, "a$b$", nil, true, true},
	} {
		if allow, deny := on(t, tc.element, tc.alias, tc.request); allow != tc.allow || deny != tc.deny {
			t.Errorf("%s for %q with %q: Allow %t, Deny %t; want %t, %t", tc.element, tc.alias, tc.request, allow, deny, tc.allow, tc.deny)
		}
	}
}

func TestVariablesInConditions(t *testing.T) {
	for _, tc := range []struct {
		condition   string
		request     facts
		allow, deny bool
	}{
		{`{"StringEquals": {"aws:ResourceTag/team": "${aws:PrincipalTag/team}"}}`, having("aws:ResourceTag/team=a aws:PrincipalTag/team=a"), true, true},
		{`{"StringEquals": {"aws:ResourceTag/team": "${aws:PrincipalTag/team}"}}`, having("aws:ResourceTag/team=a aws:PrincipalTag/team=b"), false, false},
		{`{"StringEquals": {"aws:ResourceTag/team": "${aws:PrincipalTag/team}"}}`, having("aws:ResourceTag/team=a"), false, false},
		{`{"StringEquals": {"aws:ResourceTag/team": ["${aws:PrincipalTag/team}", "a"]}}`, having("aws:ResourceTag/team=a"), true, true},
		{`{"StringEquals": {"aws:ResourceTag/team": "${aws:PrincipalTag/team}"}}`, having("aws:ResourceTag/team= aws:PrincipalTag/team="), false, false},
		{`{"StringNotEquals": {"aws:ResourceTag/team": "${aws:PrincipalTag/team}"}}`, having("aws:ResourceTag/team=a aws:PrincipalTag/team=b"), true, true},
		{`{"StringNotEquals": {"aws:ResourceTag/team": "${aws:PrincipalTag/team}"}}`, having("aws:ResourceTag/team=a aws:PrincipalTag/team=a"), false, false},
		// Nothing is equal to what is not there: so a Deny applies, as AWS documents, but an Allow does not.
		{`{"StringNotEquals": {"aws:ResourceTag/team": "${aws:PrincipalTag/team}"}}`, having("aws:ResourceTag/team=a"), false, true},
		{`{"StringNotLike": {"aws:ResourceTag/team": ["${aws:PrincipalTag/team}*", "b"]}}`, having("aws:ResourceTag/team=a"), false, true},
		{`{"StringNotLike": {"aws:ResourceTag/team": ["${aws:PrincipalTag/team}*", "a"]}}`, having("aws:ResourceTag/team=a"), false, false},
		{`{"StringEqualsIfExists": {"aws:ResourceTag/team": "${aws:PrincipalTag/team}"}}`, nil, true, true},

		{`{"StringLike": {"aws:userid": "${aws:PrincipalTag/role}:*"}}`, having("aws:userid=A:x aws:PrincipalTag/role=A"), true, true},
		{`{"StringLike": {"aws:userid": "${aws:PrincipalTag/role}:*"}}`, having("aws:userid=A:x aws:PrincipalTag/role=*"), false, false},
		{`{"StringLike": {"aws:userid": "${aws:PrincipalTag/role}:x"}}`, having("aws:userid=A:x aws:PrincipalTag/role=?"), false, false},
		{`{"StringLike": {"aws:userid": "a${*}b*"}}`, having("aws:userid=a*bc"), true, true},
		{`{"StringLike": {"aws:userid": "a${*}b*"}}`, having("aws:userid=axbc"), false, false},
		{`{"StringEquals": {"aws:userid": "${aws:username}*"}}`, having("aws:userid=a* aws:username=a"), true, true},
		{`{"StringEqualsIgnoreCase": {"aws:userid": "${aws:username}:X"}}`, having("aws:userid=JOE:x aws:username=Joe"), true, true},
		{`{"StringEqualsIgnoreCase": {"aws:userid": "${aws:username}"}}`, having("aws:userid=\u212a aws:username=k"), false, true},
		{`{"ForAllValues:StringLike": {"kms:ResourceAliases": "alias/${aws:username}/*"}}`, having("kms:ResourceAliases=alias/joe/a,alias/joe/b aws:username=joe"), true, true},
		{`{"ForAllValues:StringLike": {"kms:ResourceAliases": "alias/${aws:username}/*"}}`, having("kms:ResourceAliases=alias/joe/a,alias/bob/b aws:username=joe"), false, false},

		{`{"ArnLike": {"aws:SourceArn": "arn:aws:s3:::${aws:PrincipalTag/bucket}"}}`, having("aws:SourceArn=arn:aws:s3:::b aws:PrincipalTag/bucket=b"), true, true},
		{`{"ArnLike": {"aws:SourceArn": "arn:aws:s3:::${aws:PrincipalTag/bucket}"}}`, having("aws:SourceArn=arn:aws:s3:::b aws:PrincipalTag/bucket=*"), false, false},
		{`{"ArnLike": {"aws:SourceArn": "arn:aws:sns:*:${aws:PrincipalAccount}:x"}}`, having("aws:SourceArn=arn:aws:sns:eu:111122223333:x aws:PrincipalAccount=111122223333"), true, true},
		{`{"ArnLike": {"aws:SourceArn": "arn:aws:sns:*:${aws:PrincipalTag/a}:x"}}`, having("aws:SourceArn=arn:aws:sns:eu:1:y:x aws:PrincipalTag/a=1:y"), false, false},
		{`{"ArnEquals": {"aws:SourceArn": "${aws:PrincipalArn}"}}`, having("aws:SourceArn=arn:aws:iam::111122223333:role/r aws:PrincipalArn=arn:aws:iam::111122223333:role/r"), true, true},
		{`{"ArnNotEquals": {"aws:SourceArn": "${aws:PrincipalArn}"}}`, having("aws:SourceArn=arn:aws:iam::111122223333:role/r"), false, true},
		{`{"ArnLike": {"aws:SourceArn": "arn:aws:s3:::${aws:PrincipalTag/a:b, 'c:d'}"}}`, having("aws:SourceArn=arn:aws:s3:::c:d"), true, true},
	} {
		if allow, deny := meets(t, tc.condition, tc.request); allow != tc.allow || deny != tc.deny {
			t.Errorf("%s with %q: Allow %t, Deny %t; want %t, %t", tc.condition, tc.request, allow, deny, tc.allow, tc.deny)
		}
	}
}

// Before 2012-10-17 "${" is text like any other.
func TestVersionsWithoutVariables(t *testing.T) {
	for _, version := range []string{"", `"Version": "2008-10-17", `} {
		p := parse(t, policy.Identity, `{`+version+`"Statement": {"Effect": "Allow", "Action": "kms:*", "Resource": "arn:aws:kms:us-east-1:111122223333:alias/${*}",
			"Condition": {"StringEquals": {"aws:username": "${aws:userid}"}}}}`)
		r := policy.Request{Principal: who("alice"), Action: "kms:UpdateAlias", Resource: "arn:aws:kms:us-east-1:111122223333:alias/${x}", Context: having("aws:username=${aws:userid} aws:userid=x")}
		if p.policy.Evaluate(&r).Effect != policy.Allow {
			t.Errorf("%s: a variable is resolved", version)
		}
	}
}

func TestVariablesThatAreRefused(t *testing.T) {
	const arn = "arn:aws:kms:us-east-1:111122223333:alias/"
	for element, want := range map[string]string{
		`"Resource": "` + arn + `${aws:usernam}"`:                                         `${aws:usernam}" holds a policy variable of unknown key`,
		`"Resource": "` + arn + `${}"`:                                                    "of unknown key",
		`"Resource": "` + arn + `${ aws:username}"`:                                       "of unknown key",
		`"Resource": "` + arn + `${s3:prefix}"`:                                           "of unknown key",
		`"Resource": "` + arn + `${${aws:username}}"`:                                     "of unknown key",
		`"Resource": "` + arn + `${aws:username"`:                                         "is not closed",
		`"Resource": "` + arn + `${"`:                                                     "is not closed",
		`"Resource": "` + arn + `${aws:username, 'x}"`:                                    "is not closed",
		`"Resource": "` + arn + `${aws:username, x}"`:                                     "of unknown key",
		`"Resource": "` + arn + `${aws:username 'x'}"`:                                    "whose default is not written like",
		`"Resource": "` + arn + `${aws:username, 'x'y'}'}"`:                               "whose default is not written like",
		`"Resource": "` + arn + `${aws:username, 'x' }"`:                                  "whose default is not written like",
		`"Resource": "` + arn + `${aws:TagKeys}"`:                                         "of a key that has several values",
		`"Resource": "` + arn + `${kms:ResourceAliases}"`:                                 "of a key that has several values",
		`"Resource": "arn:aws:kms:${aws:RequestedRegion}:111122223333:key/*"`:             "behind the fifth colon only",
		`"Resource": "arn:aws:kms:*:${aws:PrincipalAccount}:key/*"`:                       "behind the fifth colon only",
		`"Resource": "arn:aws:${aws:PrincipalTag/service}:*:*:x"`:                         "behind the fifth colon only",
		`"Resource": "arn:${aws:PrincipalTag/a:b:c:d:e}"`:                                 "must be in ARN format",
		`"Resource": "${aws:PrincipalTag/resource}"`:                                      "must be in ARN format",
		`"NotResource": ["` + arn + `x", "` + arn + `${x}"]`:                              "of unknown key",
		`"Resource": "*", "Condition": {"StringEquals": {"aws:username": "${x}"}}`:        `Condition StringEquals: "aws:username": value "${x}" holds a policy variable of unknown key`,
		`"Resource": "*", "Condition": {"ArnLike": {"aws:SourceArn": "${aws:TagKeys}"}}`:  "of a key that has several values",
		`"Resource": "*", "Condition": {"ArnLike": {"aws:SourceArn": "${*}"}}`:            "must be in ARN format",
		`"Resource": "*", "Condition": {"ArnLike": {"aws:SourceArn": "x${aws:userid}"}}`:  "must be in ARN format",
		`"Resource": "*", "Condition": {"IpAddress": {"aws:SourceIp": "${aws:userid}"}}`:  "is not an IP address",
		`"Resource": "*", "Condition": {"Null": {"aws:username": "${aws:userid}"}}`:       `is not "true"`,
		`"Resource": "*", "Condition": {"BinaryEquals": {"aws:userid": "${aws:userid}"}}`: "is not base64",
	} {
		_, err := policy.Parse([]byte(`{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", `+element+`}}`), policy.Identity)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", element, err, want)
		}
	}
}
