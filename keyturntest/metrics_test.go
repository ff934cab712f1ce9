package keyturntest_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/keyturn/keyturn/keyturntest"
)

// The gauges tell a rotation that runs and one that failed.
func TestRotationGauges(t *testing.T) {
	ctx := context.Background()
	s := keyturntest.Start(t)
	scrape := func() string {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		b, err := io.ReadAll(w.Body)
		if err != nil || w.Code != 200 {
			t.Fatalf("%d %v %s", w.Code, err, b)
		}
		return string(b)
	}
	want := func(lines ...string) {
		t.Helper()
		text := scrape()
		for _, line := range lines {
			if !strings.Contains(text, "\n"+line+"\n") {
				t.Errorf("no line %q in\n%s", line, text)
			}
		}
	}
	want("keyturn_rotations_running 0", "keyturn_rotations_failed 0", "keyturn_rotations_overdue 0")

	client := kms.NewFromConfig(s.Config("us-east-1"))
	key, err := client.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: "ECC_NIST_P256", KeyUsage: "SIGN_VERIFY"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/x"), TargetKeyId: key.KeyMetadata.KeyId}); err != nil {
		t.Fatal(err)
	}
	s.Do("us-east-1", "PutPolicy", map[string]any{"Policy": map[string]any{"name": "x", "alias": "alias/x", "schedule": "rate(90 days)"}}, nil)
	s.Advance(time.Hour)
	s.Do("us-east-1", "RotateNow", map[string]any{"Name": "x"}, nil)
	s.Advance(time.Hour)
	want("keyturn_rotations_running 1", "keyturn_rotations_failed 0")

	// Another hand disables the present key: the switch must not happen, and says so.
	if _, err := client.DisableKey(ctx, &kms.DisableKeyInput{KeyId: key.KeyMetadata.KeyId}); err != nil {
		t.Fatal(err)
	}
	s.Advance(48 * time.Hour)
	want("keyturn_rotations_running 0", "keyturn_rotations_failed 1")
}
