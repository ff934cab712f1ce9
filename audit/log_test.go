package audit_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/sqldb"
)

// sample is a record as a call of Sign makes it.
func sample() *audit.Record {
	return &audit.Record{
		UserIdentity: audit.Identity{
			Type: "IAMUser", PrincipalID: "AIDACKCEVSQ6C2EXAMPLE", ARN: "arn:aws:iam::111122223333:user/signer",
			AccountID: "111122223333", AccessKeyID: "AKIAIOSFODNN7EXAMPLE", UserName: "signer",
		},
		EventTime:         time.Date(2026, 11, 3, 4, 5, 6, 789, time.FixedZone("", 3600)),
		EventSource:       "kms.amazonaws.com",
		EventName:         "Sign",
		AWSRegion:         "eu-central-1",
		SourceIPAddress:   "192.0.2.7",
		UserAgent:         "aws-sdk-go-v2/1.47.7 os/linux lang/go#1.26.0 api/kms#1.62.4",
		RequestParameters: []byte(`{"keyId":"alias/signing","signingAlgorithm":"ECDSA_SHA_256","messageType":"DIGEST"}`),
		RequestID:         "6f3f9d0e-2b7c-4a57-9d3e-5c2e0a7c1f00",
		ReadOnly:          true,
		Resources: []audit.Resource{{
			ARN:       "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
			AccountID: "111122223333", Type: "AWS::KMS::Key",
		}},
		RecipientAccountID: "111122223333",
	}
}

func open(t testing.TB, dir string, db *sqldb.DB, o audit.Options) *audit.Log {
	t.Helper()
	l, err := audit.Open(t.Context(), dir, db, "node-1", o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// fill appends n records and closes the log.
func fill(t testing.TB, l *audit.Log, n int) {
	t.Helper()
	for range n {
		if err := l.Append(t.Context(), sample()); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func verify(t testing.TB, dir string, o audit.VerifyOptions) audit.Report {
	t.Helper()
	report, err := audit.Verify(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// files returns the paths of the log's files, oldest first.
func files(t testing.TB, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "audit-*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAppendAndVerify(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	fill(t, open(t, dir, nil, audit.Options{}), 3)
	fill(t, open(t, dir, nil, audit.Options{}), 2)
	report := verify(t, dir, audit.VerifyOptions{})
	if report.Records != 5 || report.Files != 1 || report.FirstSeq != 1 || report.LastSeq != 5 {
		t.Errorf("report %+v", report)
	}
	text := read(t, files(t, dir)[0])
	for _, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, files(t, dir)[0]: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v; want %v", path, info.Mode().Perm(), err, want)
		}
	}
	t.Log(text[:strings.IndexByte(text, '\n')])
}
