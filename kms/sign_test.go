package kms_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// Every signing key signs and verifies with each of its algorithms and message
// types, and refuses what was altered.
func TestSignAndVerify(t *testing.T) {
	message := []byte("a message")
	each(t, func(t *testing.T, n *node) {
		for _, kind := range kinds {
			if kind.usage != types.KeyUsageTypeSignVerify {
				continue
			}
			k := n.create(kind.spec, kind.usage)
			for _, algorithm := range k.SigningAlgorithms {
				for _, c := range messagesFor(algorithm, message) {
					signed, err := n.Sign(ctx, &sdk.SignInput{KeyId: k.KeyId, Message: c.message, MessageType: c.messageType, SigningAlgorithm: algorithm})
					if err != nil {
						t.Errorf("Sign %s %s %s: %v", k.KeySpec, algorithm, c.messageType, err)
						continue
					}
					if *signed.KeyId != *k.Arn || signed.SigningAlgorithm != algorithm {
						t.Errorf("answer names %s %s", *signed.KeyId, signed.SigningAlgorithm)
					}
					verify := func(message, signature []byte) error {
						out, err := n.Verify(ctx, &sdk.VerifyInput{
							KeyId: k.KeyId, Message: message, MessageType: c.messageType, Signature: signature, SigningAlgorithm: algorithm,
						})
						if err == nil && (!out.SignatureValid || *out.KeyId != *k.Arn) {
							t.Errorf("%+v", out)
						}
						return err
					}
					if err := verify(c.message, signed.Signature); err != nil {
						t.Errorf("Verify %s %s %s: %v", k.KeySpec, algorithm, c.messageType, err)
					}
					altered := bytes.Clone(signed.Signature)
					altered[len(altered)-1] ^= 1
					wantError(t, verify(c.message, altered), "KMSInvalidSignatureException", "")
					other := bytes.Clone(c.message)
					other[0] ^= 1
					wantError(t, verify(other, signed.Signature), "KMSInvalidSignatureException", "")
					wantError(t, verify(c.message, []byte("no signature")), "KMSInvalidSignatureException", "")
				}
			}
		}
	})
}

type messageCase struct {
	messageType types.MessageType
	message     []byte
}

func messagesFor(algorithm types.SigningAlgorithmSpec, message []byte) []messageCase {
	var digest []byte
	switch name := string(algorithm); {
	case strings.HasSuffix(name, "SHA_256"):
		sum := sha256.Sum256(message)
		digest = sum[:]
	case strings.HasSuffix(name, "SHA_384"):
		sum := sha512.Sum384(message)
		digest = sum[:]
	default:
		sum := sha512.Sum512(message)
		digest = sum[:]
	}
	switch algorithm {
	case types.SigningAlgorithmSpecEd25519Sha512:
		return []messageCase{{types.MessageTypeRaw, message}}
	case types.SigningAlgorithmSpecEd25519PhSha512:
		return []messageCase{{types.MessageTypeDigest, digest}}
	case types.SigningAlgorithmSpecMlDsaShake256:
		return []messageCase{{types.MessageTypeRaw, message}, {types.MessageTypeExternalMu, digest}}
	}
	return []messageCase{{types.MessageTypeRaw, message}, {types.MessageTypeDigest, digest}, {"", message}}
}

// What the server signs verifies outside with the key that GetPublicKey gives.
func TestSignaturesVerifyOutside(t *testing.T) {
	message := []byte("a message")
	digest := sha256.Sum256(message)
	each(t, func(t *testing.T, n *node) {
		for _, c := range []struct {
			spec      types.KeySpec
			algorithm types.SigningAlgorithmSpec
			verify    func(key any, signature []byte) bool
		}{
			{types.KeySpecEccNistP256, types.SigningAlgorithmSpecEcdsaSha256, func(key any, signature []byte) bool {
				return ecdsa.VerifyASN1(key.(*ecdsa.PublicKey), digest[:], signature)
			}},
			{types.KeySpecEccNistEdwards25519, types.SigningAlgorithmSpecEd25519Sha512, func(key any, signature []byte) bool {
				return ed25519.Verify(key.(ed25519.PublicKey), message, signature)
			}},
			{types.KeySpecRsa2048, types.SigningAlgorithmSpecRsassaPkcs1V15Sha256, func(key any, signature []byte) bool {
				return rsa.VerifyPKCS1v15(key.(*rsa.PublicKey), crypto.SHA256, digest[:], signature) == nil
			}},
			{types.KeySpecRsa2048, types.SigningAlgorithmSpecRsassaPssSha256, func(key any, signature []byte) bool {
				return rsa.VerifyPSS(key.(*rsa.PublicKey), crypto.SHA256, digest[:], signature, &rsa.PSSOptions{SaltLength: 32}) == nil
			}},
		} {
			k := n.create(c.spec, types.KeyUsageTypeSignVerify)
			public := must[*sdk.GetPublicKeyOutput](t)(n.GetPublicKey(ctx, &sdk.GetPublicKeyInput{KeyId: k.KeyId}))
			if *public.KeyId != *k.Arn || public.KeySpec != k.KeySpec || string(public.CustomerMasterKeySpec) != string(k.KeySpec) ||
				public.KeyUsage != k.KeyUsage || len(public.SigningAlgorithms) != len(k.SigningAlgorithms) {
				t.Errorf("GetPublicKey of %s: %+v", c.spec, public)
			}
			key, err := x509.ParsePKIXPublicKey(public.PublicKey)
			if err != nil {
				t.Fatal(err)
			}
			signed := must[*sdk.SignOutput](t)(n.Sign(ctx, &sdk.SignInput{KeyId: k.KeyId, Message: message, SigningAlgorithm: c.algorithm}))
			if !c.verify(key, signed.Signature) {
				t.Errorf("%s %s does not verify outside", c.spec, c.algorithm)
			}
		}
	})
}

func TestSignRefusals(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		p256, rsaKey, edwards := n.signingKey(), n.create(types.KeySpecRsa2048, types.KeyUsageTypeSignVerify),
			n.create(types.KeySpecEccNistEdwards25519, types.KeyUsageTypeSignVerify)
		mldsa := n.create(types.KeySpecMlDsa44, types.KeyUsageTypeSignVerify)
		hmacKey, encryption := n.create(types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac), n.symmetricKey()
		agreement := n.create(types.KeySpecEccNistP256, types.KeyUsageTypeKeyAgreement)
		const p256Algorithm = types.SigningAlgorithmSpecEcdsaSha256
		for _, c := range []struct {
			key         *types.KeyMetadata
			algorithm   types.SigningAlgorithmSpec
			messageType types.MessageType
			length      int
			code, text  string
		}{
			{hmacKey, p256Algorithm, "RAW", 1, "InvalidKeyUsageException", *hmacKey.Arn + " key usage is GENERATE_VERIFY_MAC which is not valid for Sign."},
			{encryption, p256Algorithm, "RAW", 1, "InvalidKeyUsageException", *encryption.Arn + " key usage is ENCRYPT_DECRYPT which is not valid for Sign."},
			{agreement, p256Algorithm, "RAW", 1, "InvalidKeyUsageException", "*"},
			{p256, types.SigningAlgorithmSpecEcdsaSha384, "RAW", 1, "InvalidKeyUsageException", "Algorithm ECDSA_SHA_384 is incompatible with key spec ECC_NIST_P256."},
			{rsaKey, p256Algorithm, "RAW", 1, "InvalidKeyUsageException", "Algorithm ECDSA_SHA_256 is incompatible with key spec RSA_2048."},
			{p256, p256Algorithm, "DIGEST", 31, "ValidationException", "Digest is invalid length for algorithm ECDSA_SHA_256."},
			{rsaKey, types.SigningAlgorithmSpecRsassaPssSha512, "DIGEST", 32, "ValidationException", "Digest is invalid length for algorithm RSASSA_PSS_SHA_512."},
			{p256, p256Algorithm, "EXTERNAL_MU", 64, "ValidationException", "*"},
			{edwards, types.SigningAlgorithmSpecEd25519Sha512, "DIGEST", 64, "ValidationException", "*"},
			{edwards, types.SigningAlgorithmSpecEd25519PhSha512, "RAW", 64, "ValidationException", "*"},
			{mldsa, types.SigningAlgorithmSpecMlDsaShake256, "EXTERNAL_MU", 63, "ValidationException", "*"},
			{mldsa, types.SigningAlgorithmSpecMlDsaShake256, "DIGEST", 64, "ValidationException", "*"},
			{p256, p256Algorithm, "RAW", 4097, "ValidationException", "1 validation error detected: Value at 'message' failed to satisfy constraint: Member must have length less than or equal to 4096"},
			{p256, "ECDSA", "RAW", 1, "ValidationException", "1 validation error detected: Value 'ECDSA' at 'signingAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: […"},
		} {
			for _, dryRun := range []*bool{nil, aws.Bool(true)} {
				_, err := n.Sign(ctx, &sdk.SignInput{
					KeyId: c.key.KeyId, Message: make([]byte, c.length), MessageType: c.messageType, SigningAlgorithm: c.algorithm, DryRun: dryRun,
				})
				wantError(t, err, c.code, c.text)
				if c.code == "InvalidKeyUsageException" {
					c.text = strings.Replace(c.text, "for Sign.", "for Verify.", 1)
				}
				_, err = n.Verify(ctx, &sdk.VerifyInput{
					KeyId: c.key.KeyId, Message: make([]byte, c.length), MessageType: c.messageType, SigningAlgorithm: c.algorithm, DryRun: dryRun,
					Signature: []byte("x"),
				})
				wantError(t, err, c.code, c.text)
				c.text = strings.Replace(c.text, "for Verify.", "for Sign.", 1)
			}
		}
		_, err := n.Sign(ctx, &sdk.SignInput{KeyId: p256.KeyId, Message: []byte("m"), SigningAlgorithm: p256Algorithm, GrantTokens: []string{"made up"}})
		wantError(t, err, "InvalidGrantTokenException", "*")
		for _, k := range []*types.KeyMetadata{hmacKey, encryption} {
			_, err := n.GetPublicKey(ctx, &sdk.GetPublicKeyInput{KeyId: k.KeyId})
			wantError(t, err, "UnsupportedOperationException", "*")
		}
	})
}

// A dry run checks everything and does nothing.
func TestDryRuns(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		sign, mac, sym := n.signingKey(), n.create(types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac), n.symmetricKey()
		kem, agree := n.create(types.KeySpecMlKem512, types.KeyUsageTypeEncapsulateDecapsulate), n.create(types.KeySpecEccNistP256, types.KeyUsageTypeKeyAgreement)
		peer := must[*sdk.GetPublicKeyOutput](t)(n.GetPublicKey(ctx, &sdk.GetPublicKeyInput{KeyId: agree.KeyId})).PublicKey
		encapsulated := must[*sdk.EncapsulateOutput](t)(n.Encapsulate(ctx, &sdk.EncapsulateInput{KeyId: kem.KeyId, EncapsulationAlgorithm: "ML_KEM"})).SharedSecretCiphertextBlob
		blob := encryptSomething(n, sym)
		nobody := n.as(account, "nobody", "")
		yes := aws.Bool(true)
		m := []byte("m")
		for name, op := range map[string]func(c *sdk.Client) error{
			"Sign": func(c *sdk.Client) error {
				_, err := c.Sign(ctx, &sdk.SignInput{KeyId: sign.KeyId, Message: m, SigningAlgorithm: "ECDSA_SHA_256", DryRun: yes})
				return err
			},
			"Verify": func(c *sdk.Client) error {
				_, err := c.Verify(ctx, &sdk.VerifyInput{KeyId: sign.KeyId, Message: m, Signature: m, SigningAlgorithm: "ECDSA_SHA_256", DryRun: yes})
				return err
			},
			"GenerateMac": func(c *sdk.Client) error {
				_, err := c.GenerateMac(ctx, &sdk.GenerateMacInput{KeyId: mac.KeyId, Message: m, MacAlgorithm: "HMAC_SHA_256", DryRun: yes})
				return err
			},
			"VerifyMac": func(c *sdk.Client) error {
				_, err := c.VerifyMac(ctx, &sdk.VerifyMacInput{KeyId: mac.KeyId, Message: m, Mac: m, MacAlgorithm: "HMAC_SHA_256", DryRun: yes})
				return err
			},
			"Encrypt": func(c *sdk.Client) error {
				_, err := c.Encrypt(ctx, &sdk.EncryptInput{KeyId: sym.KeyId, Plaintext: m, DryRun: yes})
				return err
			},
			"Decrypt": func(c *sdk.Client) error {
				_, err := c.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: blob, DryRun: yes})
				return err
			},
			"Decrypt without ciphertext": func(c *sdk.Client) error {
				_, err := c.Decrypt(ctx, &sdk.DecryptInput{KeyId: sym.KeyId, DryRun: yes, DryRunModifiers: []types.DryRunModifierType{"IGNORE_CIPHERTEXT"}})
				return err
			},
			"ReEncrypt": func(c *sdk.Client) error {
				_, err := c.ReEncrypt(ctx, &sdk.ReEncryptInput{CiphertextBlob: blob, DestinationKeyId: sym.KeyId, DryRun: yes})
				return err
			},
			"ReEncrypt without ciphertext": func(c *sdk.Client) error {
				_, err := c.ReEncrypt(ctx, &sdk.ReEncryptInput{
					SourceKeyId: sym.KeyId, DestinationKeyId: sym.KeyId, DryRun: yes, DryRunModifiers: []types.DryRunModifierType{"IGNORE_CIPHERTEXT"},
				})
				return err
			},
			"DeriveSharedSecret": func(c *sdk.Client) error {
				_, err := c.DeriveSharedSecret(ctx, &sdk.DeriveSharedSecretInput{KeyId: agree.KeyId, PublicKey: peer, KeyAgreementAlgorithm: "ECDH", DryRun: yes})
				return err
			},
			"Encapsulate": func(c *sdk.Client) error {
				_, err := c.Encapsulate(ctx, &sdk.EncapsulateInput{KeyId: kem.KeyId, EncapsulationAlgorithm: "ML_KEM", DryRun: yes})
				return err
			},
			"Decapsulate": func(c *sdk.Client) error {
				_, err := c.Decapsulate(ctx, &sdk.DecapsulateInput{KeyId: kem.KeyId, SharedSecretCiphertextBlob: encapsulated, EncapsulationAlgorithm: "ML_KEM", DryRun: yes})
				return err
			},
		} {
			if s := apiError(op(n.Client)); s != "DryRunOperationException: The request would have succeeded, but the DryRun option is set." {
				t.Errorf("%s: %s", name, s)
			}
			if code := errorCode(op(nobody)); code != "AccessDeniedException" {
				t.Errorf("%s by nobody: %s", name, code)
			}
		}
		for _, k := range []*types.KeyMetadata{sign, mac, agree} {
			out := must[*sdk.GetKeyLastUsageOutput](t)(n.GetKeyLastUsage(ctx, &sdk.GetKeyLastUsageInput{KeyId: k.KeyId}))
			if out.KeyLastUsage != nil && out.KeyLastUsage.Operation != "" {
				t.Errorf("a dry run counts as use: %+v", out.KeyLastUsage)
			}
		}
		n.disable(sign)
		_, err := n.Sign(ctx, &sdk.SignInput{KeyId: sign.KeyId, Message: m, SigningAlgorithm: "ECDSA_SHA_256", DryRun: yes})
		wantError(t, err, "DisabledException", *sign.Arn+" is disabled.")
	})
}
