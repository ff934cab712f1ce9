package kms_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/x509"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

func TestMACs(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		for _, kind := range kinds {
			if kind.usage != types.KeyUsageTypeGenerateVerifyMac {
				continue
			}
			k := n.create(kind.spec, kind.usage)
			algorithm := k.MacAlgorithms[0]
			made := must[*sdk.GenerateMacOutput](t)(n.GenerateMac(ctx, &sdk.GenerateMacInput{KeyId: k.KeyId, Message: []byte("m"), MacAlgorithm: algorithm}))
			if *made.KeyId != *k.Arn || made.MacAlgorithm != algorithm {
				t.Errorf("%+v", made)
			}
			verify := func(message string, mac []byte) error {
				out, err := n.VerifyMac(ctx, &sdk.VerifyMacInput{KeyId: k.KeyId, Message: []byte(message), Mac: mac, MacAlgorithm: algorithm})
				if err == nil && (!out.MacValid || *out.KeyId != *k.Arn) {
					t.Errorf("%+v", out)
				}
				return err
			}
			if err := verify("m", made.Mac); err != nil {
				t.Errorf("%s: %v", kind.spec, err)
			}
			wantError(t, verify("other", made.Mac), "KMSInvalidMacException", "")
			wantError(t, verify("m", made.Mac[:len(made.Mac)-1]), "KMSInvalidMacException", "")
			made.Mac[0] ^= 1
			wantError(t, verify("m", made.Mac), "KMSInvalidMacException", "")
		}
		k := n.create(types.KeySpecHmac224, types.KeyUsageTypeGenerateVerifyMac)
		_, err := n.GenerateMac(ctx, &sdk.GenerateMacInput{KeyId: k.KeyId, Message: []byte("m"), MacAlgorithm: "HMAC_SHA_256"})
		wantError(t, err, "InvalidKeyUsageException", "Algorithm HMAC_SHA_256 is incompatible with key spec HMAC_224.")
		_, err = n.VerifyMac(ctx, &sdk.VerifyMacInput{KeyId: k.KeyId, Message: []byte("m"), Mac: []byte("x"), MacAlgorithm: "HMAC_SHA_512"})
		wantError(t, err, "InvalidKeyUsageException", "Algorithm HMAC_SHA_512 is incompatible with key spec HMAC_224.")
		symmetric := n.symmetricKey()
		_, err = n.GenerateMac(ctx, &sdk.GenerateMacInput{KeyId: symmetric.KeyId, Message: []byte("m"), MacAlgorithm: "HMAC_SHA_256"})
		wantError(t, err, "InvalidKeyUsageException", *symmetric.Arn+" key usage is ENCRYPT_DECRYPT which is not valid for GenerateMac.")
	})
}

// Both sides of an agreement, one in the server and one outside, get one secret.
func TestKeyAgreement(t *testing.T) {
	curves := map[types.KeySpec]ecdh.Curve{
		types.KeySpecEccNistP256: ecdh.P256(), types.KeySpecEccNistP384: ecdh.P384(), types.KeySpecEccNistP521: ecdh.P521(),
	}
	each(t, func(t *testing.T, n *node) {
		for spec, curve := range curves {
			k := n.create(spec, types.KeyUsageTypeKeyAgreement)
			mine, err := curve.GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			peer, err := x509.MarshalPKIXPublicKey(mine.PublicKey())
			if err != nil {
				t.Fatal(err)
			}
			public := must[*sdk.GetPublicKeyOutput](t)(n.GetPublicKey(ctx, &sdk.GetPublicKeyInput{KeyId: k.KeyId}))
			if len(public.KeyAgreementAlgorithms) != 1 || public.KeyAgreementAlgorithms[0] != types.KeyAgreementAlgorithmSpecEcdh {
				t.Errorf("algorithms %v", public.KeyAgreementAlgorithms)
			}
			parsed, err := x509.ParsePKIXPublicKey(public.PublicKey)
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := parsed.(interface {
				ECDH() (*ecdh.PublicKey, error)
			}).ECDH()
			if err != nil {
				t.Fatal(err)
			}
			want, err := mine.ECDH(theirs)
			if err != nil {
				t.Fatal(err)
			}
			out := must[*sdk.DeriveSharedSecretOutput](t)(n.DeriveSharedSecret(ctx, &sdk.DeriveSharedSecretInput{
				KeyId: k.KeyId, PublicKey: peer, KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh,
			}))
			if !bytes.Equal(out.SharedSecret, want) || *out.KeyId != *k.Arn || out.KeyOrigin != types.OriginTypeAwsKms {
				t.Errorf("%s: secrets differ", spec)
			}
		}
		k := n.create(types.KeySpecEccNistP256, types.KeyUsageTypeKeyAgreement)
		wrong := must[*sdk.GetPublicKeyOutput](t)(n.GetPublicKey(ctx, &sdk.GetPublicKeyInput{
			KeyId: n.create(types.KeySpecEccNistP384, types.KeyUsageTypeKeyAgreement).KeyId,
		})).PublicKey
		for _, peer := range [][]byte{wrong, []byte("no key")} {
			for _, dryRun := range []bool{false, true} {
				_, err := n.DeriveSharedSecret(ctx, &sdk.DeriveSharedSecretInput{
					KeyId: k.KeyId, PublicKey: peer, KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh, DryRun: &dryRun,
				})
				wantError(t, err, "ValidationException", "*")
			}
		}
	})
}

func TestEncapsulation(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		for _, spec := range []types.KeySpec{types.KeySpecMlKem512, types.KeySpecMlKem768, types.KeySpecMlKem1024} {
			k := n.create(spec, types.KeyUsageTypeEncapsulateDecapsulate)
			made := must[*sdk.EncapsulateOutput](t)(n.Encapsulate(ctx, &sdk.EncapsulateInput{KeyId: k.KeyId, EncapsulationAlgorithm: "ML_KEM"}))
			decapsulate := func(ciphertext []byte) (*sdk.DecapsulateOutput, error) {
				return n.Decapsulate(ctx, &sdk.DecapsulateInput{KeyId: k.KeyId, SharedSecretCiphertextBlob: ciphertext, EncapsulationAlgorithm: "ML_KEM"})
			}
			got := must[*sdk.DecapsulateOutput](t)(decapsulate(made.SharedSecretCiphertextBlob))
			if len(made.SharedSecret) != 32 || !bytes.Equal(got.SharedSecret, made.SharedSecret) || *got.KeyId != *k.Arn || *made.KeyId != *k.Arn {
				t.Errorf("%s: secrets differ", spec)
			}
			// Altered: another secret and no error, by FIPS 203.
			altered := bytes.Clone(made.SharedSecretCiphertextBlob)
			altered[0] ^= 1
			if got := must[*sdk.DecapsulateOutput](t)(decapsulate(altered)); bytes.Equal(got.SharedSecret, made.SharedSecret) {
				t.Errorf("%s: altered ciphertext, same secret", spec)
			}
			_, err := decapsulate(altered[1:])
			wantError(t, err, "InvalidCiphertextException", "")
		}
		// What was encapsulated outside opens inside.
		k := n.create(types.KeySpecMlKem768, types.KeyUsageTypeEncapsulateDecapsulate)
		public := must[*sdk.GetPublicKeyOutput](t)(n.GetPublicKey(ctx, &sdk.GetPublicKeyInput{KeyId: k.KeyId}))
		outside, err := mlkem.NewEncapsulationKey768(public.PublicKey[len(public.PublicKey)-mlkem.EncapsulationKeySize768:])
		if err != nil {
			t.Fatal(err)
		}
		secret, ciphertext := outside.Encapsulate()
		got := must[*sdk.DecapsulateOutput](t)(n.Decapsulate(ctx, &sdk.DecapsulateInput{KeyId: k.KeyId, SharedSecretCiphertextBlob: ciphertext, EncapsulationAlgorithm: "ML_KEM"}))
		if !bytes.Equal(got.SharedSecret, secret) {
			t.Error("secrets differ")
		}
	})
}

func TestGenerateRandom(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		seen := map[string]bool{}
		for _, size := range []int32{1, 12, 1024} {
			out := must[*sdk.GenerateRandomOutput](t)(n.GenerateRandom(ctx, &sdk.GenerateRandomInput{NumberOfBytes: &size}))
			if len(out.Plaintext) != int(size) || seen[string(out.Plaintext)] {
				t.Errorf("%d bytes, want %d", len(out.Plaintext), size)
			}
			seen[string(out.Plaintext)] = true
		}
		for _, c := range []struct {
			in            sdk.GenerateRandomInput
			code, message string
		}{
			{sdk.GenerateRandomInput{}, "ValidationException", "NumberOfBytes is required."},
			{sdk.GenerateRandomInput{NumberOfBytes: aws.Int32(0)}, "ValidationException", "1 validation error detected: Value '0' at 'numberOfBytes' failed to satisfy constraint: Member must have value greater than or equal to 1"},
			{sdk.GenerateRandomInput{NumberOfBytes: aws.Int32(1025)}, "ValidationException", "1 validation error detected: Value '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have value less than or equal to 1024"},
			{sdk.GenerateRandomInput{NumberOfBytes: aws.Int32(1), CustomKeyStoreId: aws.String("cks-1")}, "CustomKeyStoreNotFoundException", "Custom key store cks-1 is not found."},
		} {
			_, err := n.GenerateRandom(ctx, &c.in)
			wantError(t, err, c.code, c.message)
		}
		_, err := n.as(account, "nobody", "").GenerateRandom(ctx, &sdk.GenerateRandomInput{NumberOfBytes: aws.Int32(1)})
		wantError(t, err, "AccessDeniedException", "*")
	})
}
