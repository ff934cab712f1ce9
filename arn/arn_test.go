package arn_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/arn"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		text string
		want arn.ARN
	}{
		{
			"arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
			arn.ARN{"aws", "kms", "us-east-1", "111122223333", "key/1234abcd-12ab-34cd-56ef-1234567890ab"},
		},
		{"arn:aws-cn:iam::111122223333:root", arn.ARN{"aws-cn", "iam", "", "111122223333", "root"}},
		{"arn:aws:s3:::bucket/*", arn.ARN{"aws", "s3", "", "", "bucket/*"}},
		{
			"arn:aws:secretsmanager:eu-west-1:111122223333:secret:a:b-AbCdEf",
			arn.ARN{"aws", "secretsmanager", "eu-west-1", "111122223333", "secret:a:b-AbCdEf"},
		},
	} {
		got, err := arn.Parse(tc.text)
		if err != nil {
			t.Errorf("Parse(%q): %v", tc.text, err)
			continue
		}
		if got != tc.want {
			t.Errorf("Parse(%q) = %+v, want %+v", tc.text, got, tc.want)
		}
		if got.String() != tc.text {
			t.Errorf("String() = %q, want %q", got.String(), tc.text)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{
		"", "arn", "arn:", "arn:aws:kms:us-east-1:111122223333", "arn:aws:kms:us-east-1:111122223333:",
		"ARN:aws:kms:us-east-1:111122223333:key/x", " arn:aws:kms:us-east-1:111122223333:key/x",
		"arn::kms:us-east-1:111122223333:key/x", "arn:aws::us-east-1:111122223333:key/x",
		"arn:aws:kms:us-east-1:11112222333:key/x", "arn:aws:kms:us-east-1:1111222233334:key/x",
		"arn:aws:kms:us-east-1:11112222333a:key/x", "arn:aws:kms:us east-1:111122223333:key/x",
		"arn:aws:kms:*:111122223333:key/x", "arn:a\nws:kms:us-east-1:111122223333:key/x",
	} {
		if got, err := arn.Parse(text); !errors.Is(err, arn.ErrMalformed) {
			t.Errorf("Parse(%q) = %+v, %v; want ErrMalformed", text, got, err)
		}
	}
}

func TestCut(t *testing.T) {
	for _, tc := range []struct{ resource, typ, id string }{
		{"key/abc", "key", "abc"},
		{"user/division/bob", "user", "division/bob"},
		{"root", "root", ""},
		{"alias/a/b", "alias", "a/b"},
	} {
		if typ, id := (arn.ARN{Resource: tc.resource}).Cut(); typ != tc.typ || id != tc.id {
			t.Errorf("Cut of %q = %q, %q; want %q, %q", tc.resource, typ, id, tc.typ, tc.id)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab")
	f.Add("arn:aws:kms:us-east-1:111122223333:alias/x:111122223333:key/y")
	f.Add("arn:aws:iam::111122223333:root")
	f.Add("arn:::::")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := arn.Parse(s)
		if err != nil {
			if a != (arn.ARN{}) {
				t.Fatalf("Parse(%q) failed and returned %+v", s, a)
			}
			return
		}
		if a.String() != s {
			t.Fatalf("Parse(%q).String() = %q", s, a.String())
		}
		if a.Account != "" && !arn.IsAccount(a.Account) {
			t.Fatalf("Parse(%q) let the account %q through", s, a.Account)
		}
		if strings.ContainsAny(a.Partition+a.Service+a.Region+a.Account, ":*? \n") {
			t.Fatalf("Parse(%q) = %+v", s, a)
		}
	})
}
