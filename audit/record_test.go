package audit_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/keyturn/keyturn/audit"
)

// line is what the log writes for r.
func line(t testing.TB, r *audit.Record) map[string]any {
	t.Helper()
	dir := t.TempDir()
	l := open(t, dir, nil, audit.Options{})
	if err := l.Append(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	verify(t, dir, audit.VerifyOptions{})
	text := read(t, files(t, dir)[0])
	if strings.Count(text, "\n") != 1 || strings.ContainsAny(text, "\r\x00\u2028\u0085") {
		t.Errorf("not one line: %q", text)
	}
	var m map[string]any
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return m
}

func TestLayoutIsCloudTrails(t *testing.T) {
	got := line(t, sample())
	if id, _ := got["eventID"].(string); !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(id) {
		t.Errorf("eventID %q is no UUID", id)
	}
	delete(got, "eventID")
	delete(got, "chain")
	want := map[string]any{
		"eventVersion": "1.11",
		"userIdentity": map[string]any{
			"type": "IAMUser", "principalId": "AIDACKCEVSQ6C2EXAMPLE", "arn": "arn:aws:iam::111122223333:user/signer",
			"accountId": "111122223333", "accessKeyId": "AKIAIOSFODNN7EXAMPLE", "userName": "signer",
		},
		"eventTime":       "2026-11-03T03:05:06Z",
		"eventSource":     "kms.amazonaws.com",
		"eventName":       "Sign",
		"awsRegion":       "eu-central-1",
		"sourceIPAddress": "192.0.2.7",
		"userAgent":       "aws-sdk-go-v2/1.47.7 os/linux lang/go#1.26.0 api/kms#1.62.4",
		"requestParameters": map[string]any{
			"keyId": "alias/signing", "signingAlgorithm": "ECDSA_SHA_256", "messageType": "DIGEST",
		},
		"responseElements": nil,
		"requestID":        "6f3f9d0e-2b7c-4a57-9d3e-5c2e0a7c1f00",
		"readOnly":         true,
		"resources": []any{map[string]any{
			"ARN":       "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
			"accountId": "111122223333", "type": "AWS::KMS::Key",
		}},
		"eventType":          "AwsApiCall",
		"managementEvent":    true,
		"recipientAccountId": "111122223333",
		"eventCategory":      "Management",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestHostileValues are an attacker's: what he sends must neither end the line nor
// leave its string.
func TestHostileValues(t *testing.T) {
	for _, s := range []string{
		"\n{\"eventVersion\":\"1.11\"}\n", `","chain":{"seq":9,"prev":"`, "\x00\x1f\x7f\"\\", "\xff\xfe", "\u2028\u2029\u0085", "😀ü",
		strings.Repeat("x", 3<<20),
	} {
		r := sample()
		r.UserAgent, r.ErrorMessage, r.UserIdentity.UserName = s, s, "u"
		want := strings.ToValidUTF8(strings.ReplaceAll(s, "\xff\xfe", "\ufffd\ufffd"), "\ufffd")
		got, _ := line(t, r)["userAgent"].(string)
		if len(s) > 1<<20 {
			if len(got) == 0 || len(got) > 2000 {
				t.Errorf("a string of %d bytes became one of %d", len(s), len(got))
			}
		} else if got != want {
			t.Errorf("%q became %q", s, got)
		}
	}
	for raw, want := range map[string]any{
		"{\"a\":\n[1,\r\n2]}":                  map[string]any{"a": []any{1.0, 2.0}},
		"{\"a\":":                              "{\"a\":",
		"{}\n{\"forged\":true}":                "{}\n{\"forged\":true}",
		`{"a":1,"a":2}`:                        `{"a":1,"a":2}`,
		`null},"chain":{"seq":1}}`:             `null},"chain":{"seq":1}}`,
		`{"chain":{"seq":1}}`:                  map[string]any{"chain": map[string]any{"seq": 1.0}},
		`"` + strings.Repeat("x", 2<<20) + `"`: map[string]any{"omittedBytes": float64(2<<20 + 2)},
	} {
		r := sample()
		r.RequestParameters = []byte(raw)
		if diff := cmp.Diff(want, line(t, r)["requestParameters"]); diff != "" {
			t.Errorf("%.40q: %s", raw, diff)
		}
	}
}

func TestTimes(t *testing.T) {
	for _, at := range []time.Time{
		time.Date(2026, 1, 2, 3, 4, 5, 999_999_999, time.UTC), time.Date(2024, 2, 29, 23, 59, 59, 0, time.FixedZone("", -9*3600)),
		time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC), time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		r := sample()
		r.EventTime = at
		if got, want := line(t, r)["eventTime"], at.UTC().Format("2006-01-02T15:04:05Z"); got != want {
			t.Errorf("time %q, want %q", got, want)
		}
	}
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	l := open(t, dir, nil, audit.Options{Now: func() time.Time { return now }})
	r := sample()
	r.EventTime = time.Time{}
	if err := l.Append(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(read(t, files(t, dir)[0]), `"eventTime":"2030-01-01T00:00:00Z"`) {
		t.Error("a record without a time does not have that of Append")
	}
}

// FuzzRecord holds that any record is one line of JSON that verifies.
func FuzzRecord(f *testing.F) {
	f.Add("Sign", "curl\n", []byte(`{"a":1}`), []byte("{"))
	f.Fuzz(func(t *testing.T, name, agent string, params, additional []byte) {
		r := sample()
		r.EventName, r.UserAgent, r.RequestParameters, r.AdditionalEventData = name, agent, params, additional
		line(t, r)
	})
}
