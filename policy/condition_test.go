package policy_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/policy"
)

// facts are what a request knows: key, as AWS spells it → values. Suffixes count without regard to case, as Context says.
type facts map[string][]string

func (f facts) Values(k policy.Key, dst []string) ([]string, bool) {
	found := false
	for name, values := range f {
		if strings.EqualFold(name, k.String()) {
			dst, found = append(dst, values...), true
		}
	}
	return dst, found
}

// having reads facts as tests write them: "kms:KeySpec=RSA_2048 aws:TagKeys=a,b". "key=" has an empty value, "key" an
// empty list.
func having(text string) facts {
	f := facts{}
	for _, field := range strings.Fields(text) {
		name, value, ok := strings.Cut(field, "=")
		if f[name] = nil; ok {
			f[name] = strings.Split(value, ",")
		}
	}
	return f
}

// meets reports whether a statement with the condition applies to the request, in an Allow and in a Deny.
func meets(t *testing.T, condition string, request policy.Context) (allow, deny bool) {
	t.Helper()
	for _, effect := range []policy.Effect{policy.Allow, policy.Deny} {
		p := mustParse(t, policy.Identity, `{"Effect": "`+effect.String()+`", "Action": "kms:*", "Resource": "*", "Condition": `+condition+`}`)
		got := p.Evaluate(&policy.Request{Principal: who("alice"), Action: "kms:Sign", Resource: keyARN, Context: request}).Effect
		if got != effect && got != policy.NoMatch {
			t.Fatalf("%s evaluates to %s in a statement that says %s", condition, got, effect)
		}
		if effect == policy.Allow {
			allow = got == effect
		} else {
			deny = got == effect
		}
	}
	return allow, deny
}

// Every operator, read as a policy: what it says, then the requests that meet it and those that do not. Where it makes a
// difference whether the statement allows or denies, the request stands under deny only.
func TestConditionOperators(t *testing.T) {
	for _, tc := range []struct {
		condition string
		meet      []string
		not       []string
		denyOnly  []string
	}{
		{
			`{"StringEquals": {"kms:KeySpec": "RSA_2048"}}`,
			[]string{"kms:KeySpec=RSA_2048"},
			[]string{"", "kms:KeySpec", "kms:KeySpec=", "kms:KeySpec=rsa_2048", "kms:KeySpec=RSA_20480", "kms:KeySpec=RSA_204", "kms:KeyUsage=RSA_2048"},
			nil,
		},
		{
			`{"StringEquals": {"KMS:keyspec": ["RSA_2048", "RSA_4096", 7, true]}}`, // the names of keys ignore case
			[]string{"kms:KeySpec=RSA_2048", "kms:KeySpec=RSA_4096", "kms:KeySpec=7", "kms:KeySpec=true"},
			[]string{"kms:KeySpec=RSA_3072"},
			nil,
		},
		{
			`{"StringNotEquals": {"kms:KeySpec": ["RSA_2048", "RSA_4096"]}}`, // none of them
			[]string{"", "kms:KeySpec=RSA_3072", "kms:KeySpec=rsa_2048", "kms:KeySpec="},
			[]string{"kms:KeySpec=RSA_2048", "kms:KeySpec=RSA_4096"},
			nil,
		},
		{
			`{"StringEqualsIgnoreCase": {"aws:username": ["Alice", "Ödön", "kelvin"]}}`,
			[]string{"aws:username=alice", "aws:username=ALICE", "aws:username=Ödön", "aws:username=KELVIN"},
			[]string{"", "aws:username=alic", "aws:username=alicee"},
			[]string{"aws:username=\u212aelvin", "aws:username=ÖDÖN"}, // equal in one reading only
		},
		{
			`{"StringNotEqualsIgnoreCase": {"aws:username": ["Alice", "kelvin"]}}`,
			[]string{"", "aws:username=bob"},
			[]string{"aws:username=ALICE", "aws:username=Kelvin"},
			[]string{"aws:username=\u212aelvin"},
		},
		{
			`{"StringLike": {"kms:RequestAlias": ["alias/app-*", "alias/?", "alias/*/x?y"]}}`,
			[]string{"kms:RequestAlias=alias/app-", "kms:RequestAlias=alias/app-1:2/3", "kms:RequestAlias=alias/é", "kms:RequestAlias=alias/a/b/xzy", "kms:RequestAlias=alias//x*y"},
			[]string{"", "kms:RequestAlias=Alias/app-1", "kms:RequestAlias=alias/", "kms:RequestAlias=alias/ab", "kms:RequestAlias=xalias/app-"},
			nil,
		},
		{
			`{"StringEquals": {"kms:RequestAlias": ["alias/app-*"]}}`, // no wildcards here
			[]string{"kms:RequestAlias=alias/app-*"},
			[]string{"kms:RequestAlias=alias/app-1"},
			nil,
		},
		{
			`{"StringNotLike": {"kms:RequestAlias": ["alias/app-*", "alias/web-*"]}}`,
			[]string{"", "kms:RequestAlias=alias/db"},
			[]string{"kms:RequestAlias=alias/app-1", "kms:RequestAlias=alias/web-"},
			nil,
		},
		{
			`{"NumericEquals": {"kms:RotationPeriodInDays": ["90", 180, 3.65e2]}}`,
			[]string{"kms:RotationPeriodInDays=90", "kms:RotationPeriodInDays=90.0", "kms:RotationPeriodInDays=180", "kms:RotationPeriodInDays=365"},
			[]string{"", "kms:RotationPeriodInDays=91"},
			[]string{"kms:RotationPeriodInDays=ninety", "kms:RotationPeriodInDays=0x5A", "kms:RotationPeriodInDays=Inf", "kms:RotationPeriodInDays="},
		},
		{
			`{"NumericNotEquals": {"kms:RotationPeriodInDays": [90, 180]}}`,
			[]string{"", "kms:RotationPeriodInDays=91"},
			[]string{"kms:RotationPeriodInDays=90", "kms:RotationPeriodInDays=180"},
			[]string{"kms:RotationPeriodInDays=x"},
		},
		{`{"NumericLessThan": {"kms:RotationPeriodInDays": 100}}`, having1("kms:RotationPeriodInDays", "99", "99.99", "-5"), having1("kms:RotationPeriodInDays", "100", "101"), nil},
		{`{"NumericLessThanEquals": {"kms:RotationPeriodInDays": 100}}`, having1("kms:RotationPeriodInDays", "99", "100"), having1("kms:RotationPeriodInDays", "100.1"), nil},
		{`{"NumericGreaterThan": {"kms:RotationPeriodInDays": 100}}`, having1("kms:RotationPeriodInDays", "101", "1e3"), having1("kms:RotationPeriodInDays", "100"), nil},
		{`{"NumericGreaterThanEquals": {"kms:RotationPeriodInDays": 100}}`, having1("kms:RotationPeriodInDays", "100"), having1("kms:RotationPeriodInDays", "99"), nil},
		{
			`{"DateLessThan": {"aws:CurrentTime": "2026-11-23T12:00:00Z"}}`,
			having1("aws:CurrentTime", "2026-11-23T11:59:59Z", "2026-11-23T11:59:59.999Z", "2026-11-23T13:59:59+02:00", "1795435199", "2026-11-23", "2026-11", "2026-11-23T11:59Z"),
			having1("aws:CurrentTime", "2026-11-23T12:00:00Z", "2026-11-23T14:00:00+02:00", "1795435200", "2026-12"),
			having1("aws:CurrentTime", "soon", "2026", "2026-11-23T12:00:00", "2026-13-01", "99999999999999999999"),
		},
		{`{"DateEquals": {"aws:EpochTime": ["1795435200", "2030-01-01"]}}`, having1("aws:EpochTime", "1795435200", "1795435200.0", "2026-11-23T12:00:00Z", "2030-01-01T00:00:00Z"), having1("aws:EpochTime", "1795435201", "1795435200.5"), nil},
		{`{"DateNotEquals": {"aws:EpochTime": 1795435200}}`, append(having1("aws:EpochTime", "1795435201"), ""), having1("aws:EpochTime", "1795435200"), nil},
		{`{"DateLessThanEquals": {"aws:TokenIssueTime": "2026-11-23T12:00:00Z"}}`, having1("aws:TokenIssueTime", "2026-11-23T12:00:00Z"), append(having1("aws:TokenIssueTime", "2026-11-23T12:00:01Z"), ""), nil},
		{`{"DateGreaterThan": {"aws:CurrentTime": "2026-11-23T12:00Z"}}`, having1("aws:CurrentTime", "2026-11-23T12:00:01Z"), having1("aws:CurrentTime", "2026-11-23T12:00:00Z"), nil},
		{`{"DateGreaterThanEquals": {"aws:CurrentTime": "2026-11-23T14:00+02:00"}}`, having1("aws:CurrentTime", "2026-11-23T12:00:00Z"), having1("aws:CurrentTime", "2026-11-23T11:59:59Z"), nil},
		{`{"NumericLessThanEquals": {"kms:ValidTo": "1795435200.0"}}`, having1("kms:ValidTo", "1795435200", "2026-11-23T12:00:00Z"), having1("kms:ValidTo", "1795435201"), nil},
		{`{"Bool": {"aws:SecureTransport": "true"}}`, having1("aws:SecureTransport", "true"), append(having1("aws:SecureTransport", "false"), ""), having1("aws:SecureTransport", "yes")},
		{`{"Bool": {"aws:SecureTransport": false}}`, having1("aws:SecureTransport", "false"), append(having1("aws:SecureTransport", "true"), ""), nil},
		{`{"Bool": {"aws:SecureTransport": ["True", "FALSE"]}}`, having1("aws:SecureTransport", "true", "false"), []string{""}, nil},
		{`{"BinaryEquals": {"kms:EncryptionContext:app": "` + base64.StdEncoding.EncodeToString([]byte("billing")) + `"}}`, having1("kms:EncryptionContext:app", "billing"), having1("kms:EncryptionContext:app", "Billing", "YmlsbGluZw=="), nil},
		{
			`{"IpAddress": {"aws:SourceIp": ["203.0.113.0/24", "198.51.100.7", "2001:db8::/32", "::ffff:192.0.2.0/120"]}}`,
			having1("aws:SourceIp", "203.0.113.0", "203.0.113.255", "198.51.100.7", "2001:db8::1", "192.0.2.200", "::ffff:203.0.113.9"),
			append(having1("aws:SourceIp", "203.0.114.0", "198.51.100.8", "2001:db9::1", "::1"), ""),
			having1("aws:SourceIp", "in-process", "203.0.113.1.", "0203.0.113.1", "203.0.113"),
		},
		{`{"NotIpAddress": {"aws:SourceIp": ["203.0.113.0/24", "2001:DB8:0::5/32"]}}`, append(having1("aws:SourceIp", "203.0.114.0", "2001:db9::1"), ""), having1("aws:SourceIp", "203.0.113.9", "2001:db8:ffff::"), nil},
		{`{"IpAddress": {"aws:SourceIp": "203.0.113.99/24"}}`, having1("aws:SourceIp", "203.0.113.1"), having1("aws:SourceIp", "203.0.112.1"), nil}, // host bits do not count
		{`{"IpAddress": {"aws:SourceIp": ["0.0.0.0/0", "fe80::/10"]}}`, having1("aws:SourceIp", "8.8.8.8", "fe80::1%eth0"), having1("aws:SourceIp", "::1"), nil},
		{
			`{"ArnLike": {"aws:PrincipalArn": ["arn:aws:iam::111122223333:role/app-*", "arn:*:iam::*:user/a?ice"]}}`,
			having1("aws:PrincipalArn", "arn:aws:iam::111122223333:role/app-1", "arn:aws:iam::111122223333:role/app-x/y:z", "arn:aws-cn:iam::444455556666:user/alice"),
			append(having1("aws:PrincipalArn", "arn:aws:iam::111122223333:role/App-1", "arn:aws:iam::444455556666:role/app-1", "arn:aws:iam::1:2:user/alice", "arn:aws:iam:alice", "alice", "arn:aws:iam:us-east-1:111122223333:role/app-1"), ""),
			nil,
		},
		{`{"ArnEquals": {"aws:SourceArn": "arn:aws:s3:::*"}}`, having1("aws:SourceArn", "arn:aws:s3:::a/b:c"), having1("aws:SourceArn", "arn:aws:s3:x::a", "arn:aws:s3:"), nil}, // like ArnLike
		{`{"ArnNotEquals": {"aws:PrincipalArn": ["arn:aws:iam::111122223333:user/alice", "arn:aws:iam::111122223333:role/*"]}}`, append(having1("aws:PrincipalArn", "arn:aws:iam::111122223333:user/bob", "rds.amazonaws.com"), ""), having1("aws:PrincipalArn", "arn:aws:iam::111122223333:user/alice", "arn:aws:iam::111122223333:role/x"), nil},
		{`{"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/*"}}`, append(having1("aws:PrincipalArn", "arn:aws:iam::111122223333:user/bob"), ""), having1("aws:PrincipalArn", "arn:aws:iam::111122223333:role/x"), nil},
		{`{"Null": {"aws:TokenIssueTime": "true"}}`, []string{"", "aws:TokenIssueTime"}, having1("aws:TokenIssueTime", "2026-11-23T12:00:00Z", ""), nil},
		{`{"Null": {"kms:EncryptionContextKeys": false}}`, having1("kms:EncryptionContextKeys", "a", "a,b"), []string{"", "kms:EncryptionContextKeys"}, nil},
		{`{"Null": {"aws:TokenIssueTime": [true, false]}}`, append(having1("aws:TokenIssueTime", "x"), ""), nil, nil},

		// IfExists: what is not there is no obstacle.
		{`{"StringEqualsIfExists": {"kms:KeySpec": "RSA_2048"}}`, []string{"", "kms:KeySpec=RSA_2048"}, []string{"kms:KeySpec=RSA_4096"}, nil},
		{`{"NumericLessThanIfExists": {"aws:MultiFactorAuthAge": "3600"}}`, []string{"", "aws:MultiFactorAuthAge=3599"}, []string{"aws:MultiFactorAuthAge=3600"}, nil},
		{`{"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}`, []string{"", "aws:MultiFactorAuthPresent=false"}, []string{"aws:MultiFactorAuthPresent=true"}, nil},
		{`{"StringNotEqualsIfExists": {"kms:KeySpec": "RSA_2048"}}`, []string{"", "kms:KeySpec=RSA_4096"}, []string{"kms:KeySpec=RSA_2048"}, nil},

		// Keys of several values.
		{`{"ForAllValues:StringEquals": {"kms:GrantOperations": ["Encrypt", "Decrypt"]}}`, []string{"", "kms:GrantOperations", "kms:GrantOperations=Encrypt", "kms:GrantOperations=Decrypt,Encrypt"}, []string{"kms:GrantOperations=Encrypt,Sign", "kms:GrantOperations=Sign"}, nil},
		{`{"ForAnyValue:StringEquals": {"kms:GrantOperations": ["Encrypt", "Decrypt"]}}`, []string{"kms:GrantOperations=Sign,Encrypt"}, []string{"", "kms:GrantOperations", "kms:GrantOperations=Sign"}, nil},
		{`{"ForAnyValue:StringEqualsIfExists": {"kms:GrantOperations": "Encrypt"}}`, []string{"", "kms:GrantOperations=Sign,Encrypt"}, []string{"kms:GrantOperations=Sign"}, nil},
		{`{"ForAllValues:StringNotLike": {"kms:ResourceAliases": "alias/prod-*"}}`, []string{"", "kms:ResourceAliases=alias/a,alias/b"}, []string{"kms:ResourceAliases=alias/a,alias/prod-b"}, nil},
		{`{"ForAnyValue:StringNotEquals": {"aws:TagKeys": ["a", "b"]}}`, []string{"aws:TagKeys=a,c"}, []string{"", "aws:TagKeys=a,b"}, nil},
		{`{"StringEquals": {"aws:TagKeys": ["a", "b"]}}`, []string{"aws:TagKeys=a", "aws:TagKeys=a,b"}, []string{"", "aws:TagKeys=c"}, []string{"aws:TagKeys=a,c"}},
		{`{"StringNotEquals": {"aws:TagKeys": ["a", "b"]}}`, []string{"", "aws:TagKeys=c,d"}, []string{"aws:TagKeys=a,b"}, []string{"aws:TagKeys=a,c"}},

		// All operators, and all keys of one, must be met.
		{
			`{"StringEquals": {"kms:KeySpec": "RSA_2048", "kms:KeyUsage": "SIGN_VERIFY"}, "Bool": {"aws:SecureTransport": true}}`,
			[]string{"kms:KeySpec=RSA_2048 kms:KeyUsage=SIGN_VERIFY aws:SecureTransport=true"},
			[]string{"kms:KeySpec=RSA_2048 kms:KeyUsage=SIGN_VERIFY", "kms:KeySpec=RSA_2048 aws:SecureTransport=true", "kms:KeySpec=RSA_4096 kms:KeyUsage=SIGN_VERIFY aws:SecureTransport=true"},
			nil,
		},
		{`{}`, []string{""}, nil, nil},

		// What users choose may be compared as anything.
		{`{"NumericGreaterThan": {"aws:PrincipalTag/Clearance": 3}}`, having1("aws:PrincipalTag/clearance", "4"), having1("aws:PrincipalTag/Clearance", "3"), having1("aws:PrincipalTag/Clearance", "high")},
		{`{"DateGreaterThan": {"aws:ResourceTag/until": "2026-11-23"}}`, having1("aws:ResourceTag/until", "2026-11-24"), having1("aws:ResourceTag/until", "2026-11-23"), nil},
		{`{"ArnLike": {"kms:EncryptionContext:aws:logs:arn": "arn:aws:logs:us-east-1:111122223333:*"}}`, having1("kms:EncryptionContext:aws:logs:arn", "arn:aws:logs:us-east-1:111122223333:log-group:x"), having1("kms:EncryptionContext:aws:logs:arn", "arn:aws:logs:us-east-1:444455556666:log-group:x"), nil},
		{`{"StringEquals": {"kms:EncryptionContext:AppName": "x"}}`, []string{"kms:EncryptionContext:appname=x"}, nil, []string{"kms:EncryptionContext:appname=x kms:EncryptionContext:AppName=y"}},
		{`{"StringEquals": {"aws:userid": ["AROAEXAMPLE:joe"]}}`, []string{"aws:userid=AROAEXAMPLE:joe"}, []string{""}, nil},
	} {
		for group, requests := range map[string][]string{"meets": tc.meet, "does not meet": tc.not, "meets to deny only": tc.denyOnly} {
			for _, request := range requests {
				allow, deny := meets(t, tc.condition, having(request))
				if allow != (group == "meets") || deny != (group != "does not meet") {
					t.Errorf("%q %s %s: Allow %t, Deny %t", request, group, tc.condition, allow, deny)
				}
			}
		}
	}
}

// having1 is one request for each value of a key.
func having1(key string, values ...string) []string {
	var all []string
	for _, v := range values {
		all = append(all, key+"="+v)
	}
	return all
}

// A request without a context has no keys at all.
func TestConditionsWithoutContext(t *testing.T) {
	if allow, deny := meets(t, `{"Null": {"aws:CurrentTime": "true"}}`, nil); !allow || !deny {
		t.Error("a key is there although nobody answers for it")
	}
	if allow, deny := meets(t, `{"DateGreaterThan": {"aws:CurrentTime": "1970-01-01"}}`, nil); allow || deny {
		t.Error("a date is compared although nobody knows it")
	}
}

func TestConditionsThatAreRefused(t *testing.T) {
	long := strings.Repeat(`"x",`, 5000)
	for _, tc := range []struct{ condition, want string }{
		{`{"StringEqual": {"kms:KeySpec": "x"}}`, `statement "S": Condition has unknown operator "StringEqual"`},
		{`{"stringEquals": {"kms:KeySpec": "x"}}`, `unknown operator "stringEquals"`},
		{`{"StringEqual\u017f": {"kms:KeySpec": "x"}}`, "unknown operator"},
		{`{"StringEquals ": {"kms:KeySpec": "x"}}`, "unknown operator"},
		{`{"ForAllValues": {"kms:KeySpec": "x"}}`, "unknown operator"},
		{`{"ForAllValues:ForAnyValue:StringEquals": {"kms:KeySpec": "x"}}`, "unknown operator"},
		{`{"IfExists": {"kms:KeySpec": "x"}}`, "unknown operator"},
		{`{"StringEqualsIfExistsIfExists": {"kms:KeySpec": "x"}}`, "unknown operator"},
		{`{"StringEquals:IfExists": {"kms:KeySpec": "x"}}`, "unknown operator"},
		{`{"NullIfExists": {"kms:KeySpec": true}}`, "unknown operator"},
		{`{"ForAnyValue:Null": {"kms:KeySpec": true}}`, "unknown operator"},
		{`{"NotStringEquals": {"kms:KeySpec": "x"}}`, "unknown operator"},
		{`{"": {"kms:KeySpec": "x"}}`, `unknown operator ""`},
		{`{"StringEquals": {"kms:KeySpecs": "x"}}`, `statement "S": Condition StringEquals: "kms:KeySpecs": is no condition key that is known here`},
		{`{"StringEquals": {"s3:prefix": "x"}}`, `"s3:prefix": is no condition key that is known here: the keys of "s3" belong to another service`},
		{`{"StringEquals": {"aws:PrincipalOrgID": "o-x"}}`, `"aws:PrincipalOrgID": is no condition key that is known here: it cannot have a value`},
		{`{"StringEquals": {"KeySpec": "x"}}`, "is no condition key"},
		{`{"StringEquals": {"\u212ams:KeySpec": "x"}}`, "is no condition key"},
		{`{"StringEquals": {"aw\u017f:PrincipalTag/x": "x"}}`, "is no condition key"},
		{`{"StringEquals": {"aws:PrincipalTag/": "x"}}`, "is no condition key"},
		{`{"StringEquals": {"aws:PrincipalTag": "x"}}`, "is no condition key"},
		{`{"StringEquals": {"kms:EncryptionContext:": "x"}}`, "is no condition key"},
		{`{"StringEquals": {"token.example.com:su\u0062x": "x"}}`, "is no condition key"},
		{`{"NumericEquals": {"kms:KeySpec": "1"}}`, `Condition NumericEquals: "kms:KeySpec": is text, which this operator does not compare`},
		{`{"StringLike": {"aws:CurrentTime": "2026-*"}}`, "is a date, which"},
		{`{"StringEquals": {"aws:SourceIp": "203.0.113.1"}}`, "is an IP address, which"},
		{`{"IpAddress": {"aws:userid": "203.0.113.1"}}`, "is text, which"},
		{`{"Bool": {"aws:CurrentTime": "true"}}`, "is a date, which"},
		{`{"DateLessThan": {"aws:MultiFactorAuthAge": "2026-11-23"}}`, "is a number, which"},
		{`{"ArnLike": {"kms:ViaService": "arn:aws:s3:::x"}}`, "is text, which"},
		{`{"NumericEquals": {"kms:ValidTo": "2026-11-23"}}`, `"kms:ValidTo": value "2026-11-23" is not a number`},
		{`{"NumericEquals": {"kms:RotationPeriodInDays": ["90", "0x5A"]}}`, `value "0x5A" is not a number`},
		{`{"NumericEquals": {"kms:RotationPeriodInDays": "NaN"}}`, "is not a number"},
		{`{"NumericEquals": {"kms:RotationPeriodInDays": "1_000"}}`, "is not a number"},
		{`{"NumericEquals": {"kms:RotationPeriodInDays": 9007199254740993}}`, "too large"},
		{`{"NumericEquals": {"kms:RotationPeriodInDays": 1e999}}`, "is not a number"},
		{`{"NumericEquals": {"kms:RotationPeriodInDays": true}}`, "is not a number"},
		{`{"DateLessThan": {"aws:CurrentTime": "tomorrow"}}`, `value "tomorrow" is not a date`},
		{`{"DateLessThan": {"aws:CurrentTime": "2030"}}`, `value "2030" is not a date`}, // a year, or half an hour of 1970
		{`{"DateLessThan": {"aws:CurrentTime": "2026-02-30"}}`, "is not a date"},
		{`{"DateLessThan": {"aws:CurrentTime": "2026-11-23T12:00:00"}}`, "is not a date"},
		{`{"DateLessThan": {"aws:CurrentTime": "${aws:EpochTime}"}}`, "is not a date"},
		{`{"Bool": {"aws:SecureTransport": "yes"}}`, `value "yes" is not "true" or "false"`},
		{`{"Bool": {"aws:SecureTransport": "${aws:PrincipalTag/x}"}}`, `is not "true"`},
		{`{"Null": {"aws:TokenIssueTime": ""}}`, `value "" is not "true"`},
		{`{"BinaryEquals": {"kms:EncryptionContext:x": "not base64"}}`, "is not base64"},
		{`{"IpAddress": {"aws:SourceIp": "203.0.113.0/33"}}`, "is not an IP address"},
		{`{"IpAddress": {"aws:SourceIp": "203.0.113.*"}}`, "is not an IP address"},
		{`{"IpAddress": {"aws:SourceIp": "fe80::1%eth0"}}`, "is not an IP address"},
		{`{"IpAddress": {"aws:SourceIp": "::ffff:1.2.3.4/8"}}`, "mixes IPv4 and IPv6"},
		{`{"ArnLike": {"aws:PrincipalArn": "*"}}`, "must be in ARN format"},
		{`{"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::111122223333"}}`, "must be in ARN format"},
		{`{"ArnLike": {"aws:PrincipalArn": "urn:aws:iam::111122223333:user/x"}}`, "must be in ARN format"},
		{`{"StringEquals": {"kms:KeySpec": []}}`, `"kms:KeySpec": its value is an empty list`},
		{`{"StringEquals": {"kms:KeySpec": null}}`, "expected a string, a number or a boolean, found null"},
		{`{"StringEquals": {"kms:KeySpec": ["x", ["y"]]}}`, "found a list"},
		{`{"StringEquals": {"kms:KeySpec": {"a": "b"}}}`, "found an object"},
		{`{"StringEquals": {}}`, "Condition StringEquals: names no key"},
		{`{"StringEquals": "x"}`, "Condition StringEquals: expected an object, found a string"},
		{`["StringEquals"]`, "expected an object, found a list"},
		{`null`, "expected an object, found null"},
		{`{"StringEquals": {"kms:KeySpec": "x"}, "StringEquals": {"kms:KeyUsage": "x"}}`, `"StringEquals" is given twice`},
		{`{"StringEquals": {"kms:KeySpec": "x"}, "String\u0045quals": {"kms:KeyUsage": "x"}}`, `"StringEquals" is given twice`},
		{`{"StringEquals": {"kms:KeySpec": "x", "kms:KeySpec": "y"}}`, `"kms:KeySpec" is given twice`},
		{`{"StringEquals": {"kms:KeySpec": "x", "KMS:keyspec": "y"}}`, `"KMS:keyspec" is given twice`},
		{`{"StringEquals": {"aws:PrincipalTag/a": "x", "aws:principaltag/A": "y"}}`, "is given twice"},
		{`{"StringEquals": {"kms:KeySpec": [` + long + `"x"]}}`, "the limit is 6144"},
	} {
		doc := `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": ` + tc.condition + `, "Sid": "S"}}`
		_, err := policy.Parse([]byte(doc), policy.Identity)
		if malformed, ok := errors.AsType[*policy.Error](err); !ok || !strings.Contains(malformed.Error(), tc.want) {
			t.Errorf("%.100s: %v, want %q", tc.condition, err, tc.want)
		}
	}
}

// Every key of the table can be named and is asked for under that name.
func TestEveryConditionKeyIsAskedFor(t *testing.T) {
	for _, name := range []string{
		"aws:CalledViaFirst", "aws:PrincipalTag/Team", "aws:RequestTag/Team", "aws:ResourceTag/a:b/c", "aws:referer", "aws:username",
		"kms:EncryptionContext:a:b", "kms:RecipientAttestation:PCR0", "kms:ViaService", "sts:ExternalId", "token.actions.githubusercontent.com:sub",
	} {
		asked := asked{}
		if allow, _ := meets(t, `{"StringEquals": {"`+strings.ToUpper(name[:4])+name[4:]+`": "x"}}`, asked); allow {
			t.Errorf("%s is met", name)
		}
		if !strings.EqualFold(fmt.Sprint(asked), "map["+name+":true]") {
			t.Errorf("%s: asked for %v", name, asked)
		}
	}
}

type asked map[string]bool

func (a asked) Values(k policy.Key, dst []string) ([]string, bool) {
	a[k.String()] = true
	return append(dst, "x"), false
}

// Lists as long as a document can hold cost time that is linear in document and request.
func TestHugeConditions(t *testing.T) {
	var values, keys []string
	for i := range 3000 {
		values = append(values, fmt.Sprintf("%q", fmt.Sprintf("k%d*", i)))
		keys = append(keys, fmt.Sprint("k", 10000+i))
	}
	p := mustParse(t, policy.Resource, `{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*", "Condition": {"ForAllValues:StringLike": {"kms:EncryptionContextKeys": [`+strings.Join(values, ",")+`]}}}`)
	start := time.Now()
	r := policy.Request{Principal: who("alice"), Action: "kms:Decrypt", Resource: keyARN, Context: facts{"kms:EncryptionContextKeys": keys}}
	if p.Evaluate(&r).Effect != policy.Allow {
		t.Error("a prefix is not found")
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("one evaluation took %v", took)
	}
}
