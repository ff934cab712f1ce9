package keystore

import (
	"crypto"
	"fmt"
	"slices"
)

// Spec is an AWS key spec. The zero Spec and names that are not in the table
// have no usages and no algorithms.
type Spec string

// The key specs, by AWS's names. SM2 exists in the China Regions only and is
// not among them.
const (
	SymmetricDefault Spec = "SYMMETRIC_DEFAULT"
	RSA2048          Spec = "RSA_2048"
	RSA3072          Spec = "RSA_3072"
	RSA4096          Spec = "RSA_4096"
	P256             Spec = "ECC_NIST_P256"
	P384             Spec = "ECC_NIST_P384"
	P521             Spec = "ECC_NIST_P521"
	Secp256k1        Spec = "ECC_SECG_P256K1"
	Ed25519          Spec = "ECC_NIST_EDWARDS25519"
	MLDSA44          Spec = "ML_DSA_44"
	MLDSA65          Spec = "ML_DSA_65"
	MLDSA87          Spec = "ML_DSA_87"
	MLKEM512         Spec = "ML_KEM_512"
	MLKEM768         Spec = "ML_KEM_768"
	MLKEM1024        Spec = "ML_KEM_1024"
	HMAC224          Spec = "HMAC_224"
	HMAC256          Spec = "HMAC_256"
	HMAC384          Spec = "HMAC_384"
	HMAC512          Spec = "HMAC_512"
)

// The key usages, by AWS's names (KeyUsageType).
const (
	SignVerify             = "SIGN_VERIFY"
	EncryptDecrypt         = "ENCRYPT_DECRYPT"
	GenerateVerifyMAC      = "GENERATE_VERIFY_MAC"
	KeyAgreement           = "KEY_AGREEMENT"
	EncapsulateDecapsulate = "ENCAPSULATE_DECAPSULATE"
)

// The algorithms, by AWS's names.
const (
	PKCS1SHA256 = "RSASSA_PKCS1_V1_5_SHA_256"
	PKCS1SHA384 = "RSASSA_PKCS1_V1_5_SHA_384"
	PKCS1SHA512 = "RSASSA_PKCS1_V1_5_SHA_512"
	PSSSHA256   = "RSASSA_PSS_SHA_256"
	PSSSHA384   = "RSASSA_PSS_SHA_384"
	PSSSHA512   = "RSASSA_PSS_SHA_512"
	ECDSASHA256 = "ECDSA_SHA_256"
	ECDSASHA384 = "ECDSA_SHA_384"
	ECDSASHA512 = "ECDSA_SHA_512"
	Ed25519Pure = "ED25519_SHA_512"
	Ed25519PH   = "ED25519_PH_SHA_512"
	MLDSA       = "ML_DSA_SHAKE_256"

	Symmetric  = "SYMMETRIC_DEFAULT"
	OAEPSHA1   = "RSAES_OAEP_SHA_1"
	OAEPSHA256 = "RSAES_OAEP_SHA_256"

	HMACSHA224 = "HMAC_SHA_224"
	HMACSHA256 = "HMAC_SHA_256"
	HMACSHA384 = "HMAC_SHA_384"
	HMACSHA512 = "HMAC_SHA_512"

	ECDH  = "ECDH"
	MLKEM = "ML_KEM"
)

// Kind is what AWS calls the key type: an alias may move between keys of one
// kind only.
type Kind string

const (
	KindSymmetric  Kind = "symmetric"
	KindAsymmetric Kind = "asymmetric"
	KindHMAC       Kind = "HMAC"
)

// capability is what one spec can do: one line of the table.
type capability struct {
	kind   Kind
	size   int // bytes of raw material, or bits of an RSA modulus
	usages []usage
}

type usage struct {
	name       string
	algorithms []string
}

var (
	rsaUsages = []usage{
		{EncryptDecrypt, []string{OAEPSHA1, OAEPSHA256}},
		{SignVerify, []string{PKCS1SHA256, PKCS1SHA384, PKCS1SHA512, PSSSHA256, PSSSHA384, PSSSHA512}},
	}
	mldsaUsages = []usage{{SignVerify, []string{MLDSA}}}
	mlkemUsages = []usage{{EncapsulateDecapsulate, []string{MLKEM}}}
)

func ecUsages(signing string) []usage {
	return []usage{{SignVerify, []string{signing}}, {KeyAgreement, []string{ECDH}}}
}

func hmacUsages(alg string) []usage { return []usage{{GenerateVerifyMAC, []string{alg}}} }

// specs says everything that depends on the spec alone
// (AWS KMS Developer Guide, "Key spec reference").
var specs = map[Spec]capability{
	SymmetricDefault: {KindSymmetric, 32, []usage{{EncryptDecrypt, []string{Symmetric}}}},
	RSA2048:          {KindAsymmetric, 2048, rsaUsages},
	RSA3072:          {KindAsymmetric, 3072, rsaUsages},
	RSA4096:          {KindAsymmetric, 4096, rsaUsages},
	P256:             {KindAsymmetric, 32, ecUsages(ECDSASHA256)},
	P384:             {KindAsymmetric, 48, ecUsages(ECDSASHA384)},
	P521:             {KindAsymmetric, 66, ecUsages(ECDSASHA512)},
	Secp256k1:        {KindAsymmetric, 32, []usage{{SignVerify, []string{ECDSASHA256}}}},
	Ed25519:          {KindAsymmetric, 32, []usage{{SignVerify, []string{Ed25519Pure, Ed25519PH}}}},
	MLDSA44:          {KindAsymmetric, 32, mldsaUsages},
	MLDSA65:          {KindAsymmetric, 32, mldsaUsages},
	MLDSA87:          {KindAsymmetric, 32, mldsaUsages},
	MLKEM512:         {KindAsymmetric, 64, mlkemUsages},
	MLKEM768:         {KindAsymmetric, 64, mlkemUsages},
	MLKEM1024:        {KindAsymmetric, 64, mlkemUsages},
	HMAC224:          {KindHMAC, 28, hmacUsages(HMACSHA224)},
	HMAC256:          {KindHMAC, 32, hmacUsages(HMACSHA256)},
	HMAC384:          {KindHMAC, 48, hmacUsages(HMACSHA384)},
	HMAC512:          {KindHMAC, 64, hmacUsages(HMACSHA512)},
}

// Specs returns every spec, sorted by name.
func Specs() []Spec {
	all := make([]Spec, 0, len(specs))
	for s := range specs {
		all = append(all, s)
	}
	slices.Sort(all)
	return all
}

// Known reports whether s is in the table.
func (s Spec) Known() bool { _, ok := specs[s]; return ok }

// Kind returns symmetric, asymmetric or HMAC; "" for an unknown spec.
func (s Spec) Kind() Kind { return specs[s].kind }

// Usages returns the usages a key of this spec can be given. Where AWS lets
// CreateKey leave the usage out (SYMMETRIC_DEFAULT), it is the only one.
func (s Spec) Usages() []string {
	var names []string
	for _, u := range specs[s].usages {
		names = append(names, u.name)
	}
	return names
}

// Algorithms returns the algorithms of a usage, in AWS's order, and nil where
// the spec does not have the usage. The slice is shared: do not change it.
func (s Spec) Algorithms(usage string) []string {
	for _, u := range specs[s].usages {
		if u.name == usage {
			return u.algorithms
		}
	}
	return nil
}

// SigningAlgorithms returns the algorithms of SIGN_VERIFY.
func (s Spec) SigningAlgorithms() []string { return s.Algorithms(SignVerify) }

// EncryptionAlgorithms returns the algorithms of ENCRYPT_DECRYPT.
func (s Spec) EncryptionAlgorithms() []string { return s.Algorithms(EncryptDecrypt) }

// MACAlgorithms returns the algorithms of GENERATE_VERIFY_MAC.
func (s Spec) MACAlgorithms() []string { return s.Algorithms(GenerateVerifyMAC) }

// KeyAgreementAlgorithms returns the algorithms of KEY_AGREEMENT.
func (s Spec) KeyAgreementAlgorithms() []string { return s.Algorithms(KeyAgreement) }

// EncapsulationAlgorithms returns the algorithms of ENCAPSULATE_DECAPSULATE.
func (s Spec) EncapsulationAlgorithms() []string { return s.Algorithms(EncapsulateDecapsulate) }

// Check returns ErrUnsupported unless a key of this spec and usage has the
// algorithm.
func (s Spec) Check(usage, alg string) error {
	if slices.Contains(s.Algorithms(usage), alg) {
		return nil
	}
	return fmt.Errorf("algorithm %s with key spec %s: %w", alg, s, ErrUnsupported)
}

// MaxPlaintext returns how many bytes Encrypt takes at most with the algorithm:
// 4096 for SYMMETRIC_DEFAULT, and what OAEP leaves of the modulus for RSA
// (RFC 8017 section 7.1.1). It is 0 where the spec lacks the algorithm.
func (s Spec) MaxPlaintext(alg string) int {
	if s.Check(EncryptDecrypt, alg) != nil {
		return 0
	}
	if alg == Symmetric {
		return MaxMessage
	}
	return specs[s].size/8 - 2*oaepHash(alg).Size() - 2
}

// checkPlaintext refuses plaintexts that AWS's limits exclude.
func (s Spec) checkPlaintext(alg string, plaintext []byte) error {
	if err := s.Check(EncryptDecrypt, alg); err != nil {
		return err
	}
	if n := s.MaxPlaintext(alg); len(plaintext) < 1 || len(plaintext) > n {
		return fmt.Errorf("%w: %s with %s encrypts 1 to %d bytes, not %d", ErrMessageLength, s, alg, n, len(plaintext))
	}
	return nil
}

func oaepHash(alg string) crypto.Hash {
	if alg == OAEPSHA1 {
		return crypto.SHA1
	}
	return crypto.SHA256
}
