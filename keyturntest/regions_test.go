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
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/server"
)

// A Multi-Region key turns in its Regions as one, by the server's own engine, and each Region verifies by the alias what
// either signed before.
func TestALineageOfSeveralRegions(t *testing.T) {
	ctx := context.Background()
	s := keyturntest.Start(t, func(c *server.Config) { c.Regions = []string{"us-east-1", "us-west-2"} })
	home, west := kms.NewFromConfig(s.Config("us-east-1")), kms.NewFromConfig(s.Config("us-west-2"))
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	first, err := home.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: "ECC_NIST_P256", KeyUsage: "SIGN_VERIFY", MultiRegion: aws.Bool(true)})
	check(err)
	_, err = home.ReplicateKey(ctx, &kms.ReplicateKeyInput{KeyId: first.KeyMetadata.KeyId, ReplicaRegion: aws.String("us-west-2")})
	check(err)
	signatures := map[*kms.Client][]byte{}
	for _, c := range []*kms.Client{home, west} {
		_, err := c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/x"), TargetKeyId: first.KeyMetadata.KeyId})
		check(err)
		signed, err := c.Sign(ctx, &kms.SignInput{KeyId: aws.String("alias/x"), Message: []byte("m"), SigningAlgorithm: "ECDSA_SHA_256"})
		check(err)
		signatures[c] = signed.Signature
	}
	s.Do("us-east-1", "PutPolicy", map[string]any{"Policy": map[string]any{"name": "x", "alias": "alias/x", "lead": "6h", "overlap": "2d", "suspend": "7d", "adopt": "full"}}, nil)
	s.Advance(time.Minute)
	s.Do("us-east-1", "RotateNow", map[string]any{"Name": "x"}, nil)
	s.Advance(7 * time.Hour)

	var generations rotation.ListGenerationsOutput
	s.Do("us-east-1", "ListGenerations", map[string]any{"Name": "x"}, &generations)
	active := generations.Generations[0]
	if len(generations.Generations) != 2 || strings.Join(active.Regions, " ") != "us-east-1 us-west-2" {
		t.Fatalf("the generations are %+v", generations.Generations)
	}
	for name, c := range map[string]*kms.Client{"home": home, "west": west} {
		now, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/x")})
		check(err)
		if !strings.HasSuffix(active.Key, *now.KeyMetadata.KeyId) || *now.KeyMetadata.KeyId == *first.KeyMetadata.KeyId {
			t.Errorf("%s: the alias names %s, want %s", name, *now.KeyMetadata.Arn, active.Key)
		}
		for _, signature := range signatures {
			out, err := c.Verify(ctx, &kms.VerifyInput{KeyId: aws.String("alias/x"), Message: []byte("m"), Signature: signature, SigningAlgorithm: "ECDSA_SHA_256"})
			if err != nil || !strings.HasSuffix(*out.KeyId, *first.KeyMetadata.KeyId) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := c.Sign(ctx, &kms.SignInput{KeyId: first.KeyMetadata.KeyId, Message: []byte("m"), SigningAlgorithm: "ECDSA_SHA_256"}); err == nil {
			t.Errorf("%s: the old key still signs", name)
		}
	}
	// JWKS serves the Region of the policy.
	for path, status := range map[string]int{"/us-east-1/x": http.StatusOK, "/us-west-2/x": http.StatusNotFound} {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/jwks/"+keyturntest.Account+path, nil))
		if w.Code != status || status == http.StatusOK && strings.Count(w.Body.String(), `"kid"`) != 2 {
			t.Errorf("%s: %d, %s", path, w.Code, w.Body)
		}
	}
	// What a server does not serve is refused at the door.
	_, err = kms.NewFromConfig(s.Config("eu-west-1")).ListKeys(ctx, &kms.ListKeysInput{})
	if err == nil || !strings.Contains(err.Error(), "Credential should be scoped to a valid region.") {
		t.Errorf("a Region that is not served: %v", err)
	}
	s.Advance(60 * 24 * time.Hour)
	for name, c := range map[string]*kms.Client{"home": home, "west": west} {
		old, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: first.KeyMetadata.KeyId})
		if err != nil || old.KeyMetadata.KeyState != "Disabled" {
			t.Errorf("%s: after its overlap the old key is %v (%v)", name, old, err)
		}
	}
}
