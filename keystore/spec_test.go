package keystore_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/keystore"
)

// names returns the values of an SDK enum without those of SM2, which exists in
// the China Regions only.
func names[T ~string](values []T) []string {
	var all []string
	for _, v := range values {
		switch string(v) {
		case "SM2", "SM2DSA", "SM2PKE":
		default:
			all = append(all, string(v))
		}
	}
	slices.Sort(all)
	return all
}

// The table and the AWS SDK know the same names.
func TestTableAgreesWithTheSDK(t *testing.T) {
	var specs []string
	byUsage := map[string][]string{}
	for _, spec := range keystore.Specs() {
		specs = append(specs, string(spec))
		if !spec.Known() || spec.Kind() == "" || len(spec.Usages()) == 0 {
			t.Errorf("%s: known %v, kind %q, usages %v", spec, spec.Known(), spec.Kind(), spec.Usages())
		}
		for _, usage := range spec.Usages() {
			for _, alg := range spec.Algorithms(usage) {
				if !slices.Contains(byUsage[usage], alg) {
					byUsage[usage] = append(byUsage[usage], alg)
				}
			}
		}
	}
	same := func(what string, ours, sdk []string) {
		t.Helper()
		slices.Sort(ours)
		if !slices.Equal(ours, sdk) {
			t.Errorf("%s: the table has\n%q\nthe SDK\n%q", what, ours, sdk)
		}
	}
	same("key specs", specs, names(types.KeySpec("").Values()))
	same(keystore.SignVerify, byUsage[keystore.SignVerify], names(types.SigningAlgorithmSpec("").Values()))
	same(keystore.EncryptDecrypt, byUsage[keystore.EncryptDecrypt], names(types.EncryptionAlgorithmSpec("").Values()))
	same(keystore.GenerateVerifyMAC, byUsage[keystore.GenerateVerifyMAC], names(types.MacAlgorithmSpec("").Values()))
	same(keystore.KeyAgreement, byUsage[keystore.KeyAgreement], names(types.KeyAgreementAlgorithmSpec("").Values()))
	same(keystore.EncapsulateDecapsulate, byUsage[keystore.EncapsulateDecapsulate], names(types.EncapsulationAlgorithmSpec("").Values()))
	var usages, messageTypes []string
	for usage, algs := range byUsage {
		usages = append(usages, usage)
		for _, alg := range algs {
			for _, mt := range keystore.MessageTypes(alg) {
				if !slices.Contains(messageTypes, string(mt)) {
					messageTypes = append(messageTypes, string(mt))
				}
			}
		}
	}
	same("usages", usages, names(types.KeyUsageType("").Values()))
	same("message types", messageTypes, names(types.MessageType("").Values()))
}

// What AWS's developer guide says of each spec, written down a second time, from
// the documentation and not from the table.
func TestWhatEachSpecCanDo(t *testing.T) {
	const (
		rsa = "ENCRYPT_DECRYPT[RSAES_OAEP_SHA_1 RSAES_OAEP_SHA_256] SIGN_VERIFY[RSASSA_PKCS1_V1_5_SHA_256 " +
			"RSASSA_PKCS1_V1_5_SHA_384 RSASSA_PKCS1_V1_5_SHA_512 RSASSA_PSS_SHA_256 RSASSA_PSS_SHA_384 RSASSA_PSS_SHA_512]"
		mldsa = "SIGN_VERIFY[ML_DSA_SHAKE_256]"
		mlkem = "ENCAPSULATE_DECAPSULATE[ML_KEM]"
	)
	want := map[keystore.Spec]string{
		"SYMMETRIC_DEFAULT":     "symmetric ENCRYPT_DECRYPT[SYMMETRIC_DEFAULT]",
		"RSA_2048":              "asymmetric " + rsa,
		"RSA_3072":              "asymmetric " + rsa,
		"RSA_4096":              "asymmetric " + rsa,
		"ECC_NIST_P256":         "asymmetric SIGN_VERIFY[ECDSA_SHA_256] KEY_AGREEMENT[ECDH]",
		"ECC_NIST_P384":         "asymmetric SIGN_VERIFY[ECDSA_SHA_384] KEY_AGREEMENT[ECDH]",
		"ECC_NIST_P521":         "asymmetric SIGN_VERIFY[ECDSA_SHA_512] KEY_AGREEMENT[ECDH]",
		"ECC_SECG_P256K1":       "asymmetric SIGN_VERIFY[ECDSA_SHA_256]",
		"ECC_NIST_EDWARDS25519": "asymmetric SIGN_VERIFY[ED25519_SHA_512 ED25519_PH_SHA_512]",
		"ML_DSA_44":             "asymmetric " + mldsa,
		"ML_DSA_65":             "asymmetric " + mldsa,
		"ML_DSA_87":             "asymmetric " + mldsa,
		"ML_KEM_512":            "asymmetric " + mlkem,
		"ML_KEM_768":            "asymmetric " + mlkem,
		"ML_KEM_1024":           "asymmetric " + mlkem,
		"HMAC_224":              "HMAC GENERATE_VERIFY_MAC[HMAC_SHA_224]",
		"HMAC_256":              "HMAC GENERATE_VERIFY_MAC[HMAC_SHA_256]",
		"HMAC_384":              "HMAC GENERATE_VERIFY_MAC[HMAC_SHA_384]",
		"HMAC_512":              "HMAC GENERATE_VERIFY_MAC[HMAC_SHA_512]",
	}
	for _, spec := range keystore.Specs() {
		got := string(spec.Kind())
		for _, usage := range spec.Usages() {
			got += fmt.Sprintf(" %s%v", usage, spec.Algorithms(usage))
		}
		if got != want[spec] {
			t.Errorf("%s:\n%s\nwant\n%s", spec, got, want[spec])
		}
	}
}

func TestMessageTypesOfEachAlgorithm(t *testing.T) {
	for _, alg := range names(types.SigningAlgorithmSpec("").Values()) {
		want := "[RAW DIGEST]"
		switch alg {
		case "ED25519_SHA_512":
			want = "[RAW]"
		case "ED25519_PH_SHA_512":
			want = "[DIGEST]"
		case "ML_DSA_SHAKE_256":
			want = "[RAW EXTERNAL_MU]"
		}
		if got := fmt.Sprint(keystore.MessageTypes(alg)); got != want {
			t.Errorf("%s takes %s, want %s", alg, got, want)
		}
	}
}

func TestMaxPlaintext(t *testing.T) {
	for _, c := range []struct {
		spec keystore.Spec
		alg  string
		want int
	}{
		{keystore.SymmetricDefault, keystore.Symmetric, 4096},
		{keystore.RSA2048, keystore.OAEPSHA1, 214},
		{keystore.RSA2048, keystore.OAEPSHA256, 190},
		{keystore.RSA3072, keystore.OAEPSHA1, 342},
		{keystore.RSA3072, keystore.OAEPSHA256, 318},
		{keystore.RSA4096, keystore.OAEPSHA1, 470},
		{keystore.RSA4096, keystore.OAEPSHA256, 446},
		{keystore.P256, keystore.OAEPSHA256, 0},
		{keystore.RSA2048, keystore.Symmetric, 0},
		{"SM2", "SM2PKE", 0},
	} {
		if got := c.spec.MaxPlaintext(c.alg); got != c.want {
			t.Errorf("%s with %s: %d, want %d", c.spec, c.alg, got, c.want)
		}
	}
}

func TestUnknownSpec(t *testing.T) {
	for _, spec := range []keystore.Spec{"", "SM2", "RSA_1024", "ecc_nist_p256"} {
		if spec.Known() || spec.Kind() != "" || spec.Usages() != nil || spec.SigningAlgorithms() != nil {
			t.Errorf("%q is known", spec)
		}
		if _, err := keystore.GenerateMaterial(spec); !errors.Is(err, keystore.ErrUnsupported) {
			t.Errorf("%q: %v", spec, err)
		}
		if _, err := keystore.NewKey(spec, make([]byte, 32)); !errors.Is(err, keystore.ErrUnsupported) {
			t.Errorf("%q: %v", spec, err)
		}
	}
}
