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
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/keyturn/keyturn/keyturntest"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// A year of a quarterly policy in a test: four turns, what the first key signed
// still verifies by the alias inside the overlap, and the key set shows who may.
func TestAYear(t *testing.T) {
	for name, options := range map[string][]keyturntest.Option{
		"sqlite":   nil,
		"postgres": {keyturntest.OnDatabase(sqldbtest.Postgres(t))},
	} {
		t.Run(name, func(t *testing.T) { testAYear(t, options) })
	}
}

func testAYear(t *testing.T, options []keyturntest.Option) {
	ctx := context.Background()
	s := keyturntest.Start(t, options...)
	client := kms.NewFromConfig(s.Config("eu-central-1"))
	key, err := client.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify})
	if err != nil {
		t.Fatal(err)
	}
	alias := aws.String("alias/payments")
	if _, err := client.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: alias, TargetKeyId: key.KeyMetadata.KeyId}); err != nil {
		t.Fatal(err)
	}
	s.Do("eu-central-1", "PutPolicy", map[string]any{"Policy": map[string]any{
		"name": "payments", "alias": "alias/payments", "schedule": "rate(90 days)", "lead": "24h", "overlap": "30d",
	}}, nil)
	s.Advance(time.Hour)

	signers := map[string]bool{}
	for day := range 365 {
		signed, err := client.Sign(ctx, &kms.SignInput{KeyId: alias, Message: []byte("order"), SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
		if err != nil {
			t.Fatalf("day %d: %v", day, err)
		}
		signers[*signed.KeyId] = true
		// A token that lives for a week is verified by name on its last day.
		s.Advance(24 * time.Hour)
		if day%7 != 0 {
			continue
		}
		s.Advance(6 * 24 * time.Hour)
		verified, err := client.Verify(ctx, &kms.VerifyInput{
			KeyId: alias, Message: []byte("order"), Signature: signed.Signature, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256,
		})
		if err != nil {
			t.Fatalf("day %d: what was signed a week ago: %v", day, err)
		}
		if *verified.KeyId != *signed.KeyId {
			t.Errorf("day %d: signed by %s, verified by %s", day, *signed.KeyId, *verified.KeyId)
		}
	}
	if len(signers) < 5 {
		t.Errorf("%d keys have signed in a year and more, want at least 5", len(signers))
	}

	h := httptest.NewServer(s.Handler())
	defer h.Close()
	resp, err := http.Get(h.URL + "/jwks/" + keyturntest.Account + "/eu-central-1/payments")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), `"kty":"EC"`) {
		t.Errorf("key set: %s %s (%v)", resp.Status, body, err)
	}
}
