package rotators

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // RSAES_OAEP_SHA_1 is one of AWS's algorithms
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"

	"filippo.io/mldsa"
	mldsax509 "filippo.io/mldsa/x509"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/cloudflare/circl/kem/mlkem/mlkem512"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// publicKey is the public half of a key as a stranger would hold it: read from the SubjectPublicKeyInfo
// that GetPublicKey answered, and used with nothing but local cryptography. A KMS whose signatures only
// it can verify is of no use to the verifiers who hold its JWKS, so the test step asks this type and not the KMS.
type publicKey struct {
	// One of *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey, *secp256k1.PublicKey, *mldsa.PublicKey,
	// *mlkem.EncapsulationKey768, *mlkem.EncapsulationKey1024, *mlkem512.PublicKey.
	key any
}

var (
	oidECPublicKey = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidSecp256k1   = asn1.ObjectIdentifier{1, 3, 132, 0, 10}
	// RFC 9935: ML-KEM-512, -768 and -1024.
	oidMLKEM512  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 4, 1}
	oidMLKEM768  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 4, 2}
	oidMLKEM1024 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 4, 3}
)

var errBadSignature = errors.New("the signature does not verify")

// parsePublicKey reads a DER SubjectPublicKeyInfo of any of AWS's key specs but SM2.
func parsePublicKey(der []byte) (*publicKey, error) {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	rest, err := asn1.Unmarshal(der, &info)
	if err != nil {
		return nil, fmt.Errorf("reading the public key: %w", err)
	}
	if len(rest) > 0 {
		return nil, errors.New("reading the public key: bytes follow it")
	}
	bits := info.Key.RightAlign()
	oid := info.Algorithm.Algorithm
	var key any
	switch {
	case oid.Equal(oidECPublicKey) && isSecp256k1(info.Algorithm.Parameters):
		key, err = secp256k1.ParsePubKey(bits)
	case oid.Equal(oidMLKEM512):
		var k mlkem512.PublicKey
		err = k.Unpack(bits)
		key = &k
	case oid.Equal(oidMLKEM768):
		key, err = mlkem.NewEncapsulationKey768(bits)
	case oid.Equal(oidMLKEM1024):
		key, err = mlkem.NewEncapsulationKey1024(bits)
	default:
		key, err = mldsax509.ParsePKIXPublicKey(der)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the public key: %w", err)
	}
	return &publicKey{key: key}, nil
}

func isSecp256k1(parameters asn1.RawValue) bool {
	var curve asn1.ObjectIdentifier
	_, err := asn1.Unmarshal(parameters.FullBytes, &curve)
	return err == nil && curve.Equal(oidSecp256k1)
}

// spec names the AWS key spec that this public key is of.
func (k *publicKey) spec() types.KeySpec {
	switch key := k.key.(type) {
	case *rsa.PublicKey:
		return types.KeySpec(fmt.Sprintf("RSA_%d", key.N.BitLen()))
	case *ecdsa.PublicKey:
		return types.KeySpec(fmt.Sprintf("ECC_NIST_P%d", key.Curve.Params().BitSize))
	case ed25519.PublicKey:
		return types.KeySpecEccNistEdwards25519
	case *secp256k1.PublicKey:
		return types.KeySpecEccSecgP256k1
	case *mldsa.PublicKey:
		switch key.Parameters() {
		case mldsa.MLDSA44():
			return types.KeySpecMlDsa44
		case mldsa.MLDSA65():
			return types.KeySpecMlDsa65
		default:
			return types.KeySpecMlDsa87
		}
	case *mlkem512.PublicKey:
		return types.KeySpecMlKem512
	case *mlkem.EncapsulationKey768:
		return types.KeySpecMlKem768
	case *mlkem.EncapsulationKey1024:
		return types.KeySpecMlKem1024
	}
	return ""
}

// verify checks a signature that KMS made over message with alg. The message is always the whole
// message: where AWS was given a digest or a μ, the caller passes what they were computed from.
func (k *publicKey) verify(alg types.SigningAlgorithmSpec, message, signature []byte) error {
	ok := false
	switch key := k.key.(type) {
	case *rsa.PublicKey:
		ok = verifyRSA(key, alg, message, signature)
	case *ecdsa.PublicKey:
		if h := hashOf(string(alg)); h != 0 {
			ok = ecdsa.VerifyASN1(key, digest(h, message), signature)
		}
	case *secp256k1.PublicKey:
		s, err := secpecdsa.ParseDERSignature(signature)
		ok = err == nil && s.Verify(digest(crypto.SHA256, message), key)
	case ed25519.PublicKey:
		options := &ed25519.Options{}
		if alg == types.SigningAlgorithmSpecEd25519PhSha512 {
			options.Hash, message = crypto.SHA512, digest(crypto.SHA512, message)
		}
		ok = ed25519.VerifyWithOptions(key, message, signature, options) == nil
	case *mldsa.PublicKey:
		ok = mldsa.Verify(key, message, signature, nil) == nil
	default:
		return fmt.Errorf("a %s key does not sign", k.spec())
	}
	if !ok {
		return errBadSignature
	}
	return nil
}

func verifyRSA(key *rsa.PublicKey, alg types.SigningAlgorithmSpec, message, signature []byte) bool {
	h := hashOf(string(alg))
	if h == 0 {
		return false
	}
	switch alg {
	case types.SigningAlgorithmSpecRsassaPssSha256, types.SigningAlgorithmSpecRsassaPssSha384, types.SigningAlgorithmSpecRsassaPssSha512:
		// AWS: the salt is as long as the digest.
		options := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}
		return rsa.VerifyPSS(key, h, digest(h, message), signature, options) == nil
	default:
		return rsa.VerifyPKCS1v15(key, h, digest(h, message), signature) == nil
	}
}

// hashOf reads the hash out of the end of an AWS algorithm name; 0 when it names none.
func hashOf(alg string) crypto.Hash {
	if len(alg) < 3 {
		return 0
	}
	switch alg[len(alg)-3:] {
	case "256":
		return crypto.SHA256
	case "384":
		return crypto.SHA384
	case "512":
		return crypto.SHA512
	}
	return 0
}

func digest(h crypto.Hash, message []byte) []byte {
	switch h {
	case crypto.SHA384:
		d := sha512.Sum384(message)
		return d[:]
	case crypto.SHA512:
		d := sha512.Sum512(message)
		return d[:]
	default:
		d := sha256.Sum256(message)
		return d[:]
	}
}

// mu is the message representative of FIPS 204 with an empty context, which AWS takes as EXTERNAL_MU.
func (k *publicKey) mu(message []byte) ([]byte, error) {
	key, ok := k.key.(*mldsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("a %s key has no external μ", k.spec())
	}
	return externalMu(key.Bytes(), message), nil
}

// encrypt does what a stranger with the public key does before the owner decrypts.
func (k *publicKey) encrypt(alg types.EncryptionAlgorithmSpec, plaintext []byte) ([]byte, error) {
	key, ok := k.key.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("a %s key does not encrypt", k.spec())
	}
	var h hash.Hash
	switch alg {
	case types.EncryptionAlgorithmSpecRsaesOaepSha1:
		h = sha1.New() // AWS's algorithm
	case types.EncryptionAlgorithmSpecRsaesOaepSha256:
		h = sha256.New()
	default:
		return nil, fmt.Errorf("the algorithm %s cannot be checked outside the KMS", alg)
	}
	return rsa.EncryptOAEP(h, rand.Reader, key, plaintext, nil)
}

// agree makes an ephemeral peer on the key's curve and derives the secret both sides must reach.
func (k *publicKey) agree() (peerSPKI, shared []byte, err error) {
	key, ok := k.key.(*ecdsa.PublicKey)
	if !ok {
		return nil, nil, fmt.Errorf("key agreement with a %s key cannot be checked outside the KMS", k.spec())
	}
	remote, err := key.ECDH()
	if err != nil {
		return nil, nil, fmt.Errorf("reading the public key as an ECDH key: %w", err)
	}
	var peer *ecdh.PrivateKey
	if peer, err = remote.Curve().GenerateKey(rand.Reader); err != nil {
		return nil, nil, fmt.Errorf("making an ephemeral peer: %w", err)
	}
	if peerSPKI, err = x509.MarshalPKIXPublicKey(peer.PublicKey()); err != nil {
		return nil, nil, fmt.Errorf("writing the ephemeral peer: %w", err)
	}
	if shared, err = peer.ECDH(remote); err != nil {
		return nil, nil, fmt.Errorf("deriving with an ephemeral peer: %w", err)
	}
	return peerSPKI, shared, nil
}

// encapsulate makes a shared secret for the key without the KMS.
func (k *publicKey) encapsulate() (shared, ciphertext []byte, err error) {
	switch key := k.key.(type) {
	case *mlkem.EncapsulationKey768:
		shared, ciphertext = key.Encapsulate()
	case *mlkem.EncapsulationKey1024:
		shared, ciphertext = key.Encapsulate()
	case *mlkem512.PublicKey:
		ciphertext, shared = make([]byte, mlkem512.CiphertextSize), make([]byte, mlkem512.SharedKeySize)
		seed := make([]byte, mlkem512.EncapsulationSeedSize)
		if _, err := rand.Read(seed); err != nil {
			return nil, nil, fmt.Errorf("reading random bytes: %w", err)
		}
		key.EncapsulateTo(ciphertext, shared, seed)
	default:
		return nil, nil, fmt.Errorf("a %s key does not encapsulate", k.spec())
	}
	return shared, ciphertext, nil
}

func sameBytes(a, b []byte) bool { return len(a) > 0 && bytes.Equal(a, b) }

// externalMu is μ = SHAKE256(SHAKE256(pk, 64) ‖ 0 ‖ 0 ‖ message, 64): FIPS 204, algorithm 2 line 10 and
// algorithm 7 line 6, with an empty context.
func externalMu(publicKey, message []byte) []byte {
	tr := make([]byte, 64)
	h := sha3.NewSHAKE256()
	_, _ = h.Write(publicKey)
	_, _ = h.Read(tr)
	h = sha3.NewSHAKE256()
	_, _ = h.Write(tr)
	_, _ = h.Write([]byte{0, 0})
	_, _ = h.Write(message)
	mu := make([]byte, 64)
	_, _ = h.Read(mu)
	return mu
}
