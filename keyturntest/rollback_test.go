package keyturntest_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/keyturn/keyturn/keyturntest"
)

// Going back to a generation that has left the key set publishes it for the
// lead first, as no verifier may know it any more; inside the overlap, or when
// a person says not to wait, it switches at once.
func TestRollBackPublishesWhatHasLeftTheKeySet(t *testing.T) {
	for _, c := range []struct {
		name  string
		later time.Duration // of the roll back after the switch
		now   bool
		waits bool
	}{
		{"inside the overlap", 24 * time.Hour, false, false},
		{"less than the lead before its end", 44 * time.Hour, false, true},
		{"after the overlap", 4 * 24 * time.Hour, false, true},
		{"after the overlap, now", 4 * 24 * time.Hour, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := context.Background()
			s := keyturntest.Start(t)
			client := kms.NewFromConfig(s.Config("us-east-1"))
			first, err := client.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: "ECC_NIST_P256", KeyUsage: "SIGN_VERIFY"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/x"), TargetKeyId: first.KeyMetadata.KeyId}); err != nil {
				t.Fatal(err)
			}
			s.Do("us-east-1", "PutPolicy", map[string]any{"Policy": map[string]any{
				"name": "x", "alias": "alias/x", "lead": "6h", "overlap": "2d", "suspend": "7d", "adopt": "full",
			}}, nil)
			s.Advance(time.Minute)
			s.Do("us-east-1", "RotateNow", map[string]any{"Name": "x"}, nil)
			s.Advance(7 * time.Hour)
			behind := func() string {
				t.Helper()
				k, err := client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/x")})
				if err != nil {
					t.Fatal(err)
				}
				return *k.KeyMetadata.KeyId
			}
			keys := func() int {
				w := httptest.NewRecorder()
				s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/jwks/"+keyturntest.Account+"/us-east-1/x", nil))
				return strings.Count(w.Body.String(), `"kid"`)
			}
			second := behind()
			if second == *first.KeyMetadata.KeyId {
				t.Fatal("the lineage did not turn")
			}
			s.Advance(c.later)
			if want := map[bool]int{true: 1, false: 2}[c.later > 48*time.Hour]; keys() != want {
				t.Fatalf("the key set has %d keys, want %d", keys(), want)
			}
			s.Do("us-east-1", "RollBack", map[string]any{"Name": "x", "Now": c.now}, nil)
			s.Advance(time.Minute)
			if keys() != 2 {
				t.Errorf("the key set has %d keys after the roll back began, want both", keys())
			}
			if waits := behind() == second; waits != c.waits {
				t.Errorf("it waits: %v, want %v", waits, c.waits)
			}
			s.Advance(6 * time.Hour)
			if behind() != *first.KeyMetadata.KeyId {
				t.Error("the previous generation did not take over")
			}
			signed, err := client.Sign(ctx, &kms.SignInput{KeyId: aws.String("alias/x"), Message: []byte("m"), SigningAlgorithm: "ECDSA_SHA_256"})
			if err != nil || !strings.HasSuffix(*signed.KeyId, *first.KeyMetadata.KeyId) {
				t.Errorf("signing after the roll back: %v", err)
			}
		})
	}
}
