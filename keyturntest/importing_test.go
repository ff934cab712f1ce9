package keyturntest_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/keyturn/keyturn/keyturntest"
)

// A key whose material its owner has made turns to one whose material the server's own engine has made, with what the
// engine's principal may do. What expires in between is the owner's: his old MACs verify until then.
func TestALineageOfImportedMaterial(t *testing.T) {
	ctx := context.Background()
	s := keyturntest.Start(t)
	c := kms.NewFromConfig(s.Config("us-east-1"))
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	first, err := c.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: "HMAC_256", KeyUsage: "GENERATE_VERIFY_MAC", Origin: "EXTERNAL"})
	check(err)
	old := first.KeyMetadata.KeyId
	parameters, err := c.GetParametersForImport(ctx, &kms.GetParametersForImportInput{KeyId: old, WrappingAlgorithm: "RSAES_OAEP_SHA_256", WrappingKeySpec: "RSA_2048"})
	check(err)
	public, err := x509.ParsePKIXPublicKey(parameters.PublicKey)
	check(err)
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), []byte("the owner has made these 32 bytes"[:32]), nil)
	check(err)
	_, err = c.ImportKeyMaterial(ctx, &kms.ImportKeyMaterialInput{
		KeyId: old, ImportToken: parameters.ImportToken, EncryptedKeyMaterial: wrapped, ValidTo: aws.Time(s.Now().Add(10 * 24 * time.Hour)),
	})
	check(err)
	_, err = c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/x"), TargetKeyId: old})
	check(err)
	mac, err := c.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: aws.String("alias/x"), Message: []byte("m"), MacAlgorithm: "HMAC_SHA_256"})
	check(err)
	verify := func() error {
		_, err := c.VerifyMac(ctx, &kms.VerifyMacInput{KeyId: aws.String("alias/x"), Message: []byte("m"), Mac: mac.Mac, MacAlgorithm: "HMAC_SHA_256"})
		return err
	}
	s.Do("us-east-1", "PutPolicy", map[string]any{"Policy": map[string]any{"name": "x", "alias": "alias/x", "lead": "6h", "overlap": "30d"}}, nil)
	s.Advance(time.Minute)
	s.Do("us-east-1", "RotateNow", map[string]any{"Name": "x"}, nil)
	s.Advance(7 * time.Hour)

	now, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/x")})
	check(err)
	if m := now.KeyMetadata; *m.KeyId == *old || m.Origin != "EXTERNAL" || m.KeyState != "Enabled" || m.ExpirationModel != "KEY_MATERIAL_DOES_NOT_EXPIRE" {
		t.Errorf("the alias names %+v", m)
	}
	check(verify())
	s.Advance(10 * 24 * time.Hour)
	state, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: old})
	check(err)
	var invalid *types.KMSInvalidMacException
	if err := verify(); state.KeyMetadata.KeyState != "PendingImport" || !errors.As(err, &invalid) {
		t.Errorf("the old key is %s and its MAC %v", state.KeyMetadata.KeyState, err)
	}
}
