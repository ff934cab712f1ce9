package rotators

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/keyturn/keyturn/rotation"
	"github.com/tink-crypto/tink-go/v2/kwp/subtle"
)

// A lineage whose keys hold imported material gets its next material from here: the rotator makes it, wraps it for the
// new key and imports it. It is in this process's memory for the length of two calls, and nowhere else before or after:
// whoever needs a copy of the material turns such a lineage by hand.
//
// A key without its material is a key whose rotation stopped between CreateKey and ImportKeyMaterial, and the next
// attempt goes on there. It makes other material, for the first is forgotten; should that have been imported after all,
// KMS refuses any other for ever, and the attempt after that finds the key enabled.

// noteOrigin says that the new key was made without material.
const noteOrigin = "origin"

// imports reports whether the new key gets its material from this rotator.
func (t *turn) imports() bool { return t.note(noteOrigin) == string(types.OriginTypeExternal) }

// fill imports the new key's material, if it has none. wait is how long the step takes a break then, in which nothing
// is in memory and a target that takes its time can enable the key.
func (t *turn) fill(ctx context.Context) (wait time.Duration, err error) {
	if !t.imports() {
		return 0, nil
	}
	meta, err := t.describe(ctx, t.Row.Data.NewKey)
	if err != nil {
		return 0, err
	}
	if meta == nil {
		return 0, t.unseen()
	}
	if meta.KeyState != types.KeyStatePendingImport {
		return 0, nil
	}
	if meta.Origin != types.OriginTypeExternal {
		return 0, rotation.Drift("cancel the rotation and begin another", "%s waits for its material, and its origin is %s", aws.ToString(meta.Arn), meta.Origin)
	}
	if err := t.importMaterial(ctx, meta); err != nil {
		return 0, err
	}
	if t.Target.Local {
		return time.Nanosecond, nil
	}
	return enabling, nil
}

// enabling is how long AWS is given to show a key enabled whose material it has taken.
const enabling = 2 * time.Second

func (t *turn) importMaterial(ctx context.Context, meta *types.KeyMetadata) error {
	algorithm := wrappingFor(meta.KeySpec)
	parameters, err := t.client.GetParametersForImport(ctx, &kms.GetParametersForImportInput{
		KeyId: meta.Arn, WrappingAlgorithm: algorithm, WrappingKeySpec: types.WrappingKeySpecRsa4096,
	})
	if err != nil {
		return fmt.Errorf("asking for a wrapping key: %w", err)
	}
	wrapped, err := makeWrapped(meta.KeySpec, algorithm, parameters.PublicKey)
	if err != nil {
		return err
	}
	// Nobody has a copy: material that expired would take all that the key encrypted with it.
	_, err = t.client.ImportKeyMaterial(ctx, &kms.ImportKeyMaterialInput{
		KeyId: meta.Arn, ImportToken: parameters.ImportToken, EncryptedKeyMaterial: wrapped, ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire,
	})
	if err != nil {
		return fmt.Errorf("importing the material of the new key: %w", err)
	}
	return nil
}

// importable answers nil when the successor of a key with imported material can have its own imported.
func (t *turn) importable(old *types.KeyMetadata) error {
	if old.Origin != types.OriginTypeExternal {
		return nil
	}
	if aws.ToBool(old.MultiRegion) {
		// Each Region would need the same material, and an attempt that fails between two of them has forgotten it.
		return permanent("turn it by hand, or let the alias name a key of one Region",
			"%s has imported material in several Regions: such keys are not turned", aws.ToString(old.Arn))
	}
	if spec := t.successorSpec(old); !slices.Contains(importable, spec) {
		return permanent("choose a spec whose material can be imported, or let the alias name a key whose material is the KMS's own",
			"%s has imported material, and no key of spec %s can have that", aws.ToString(old.Arn), spec)
	}
	return nil
}

// importable are the specs whose material AWS lets be imported; of those that it does not, none can be turned to.
var importable = []types.KeySpec{
	types.KeySpecSymmetricDefault, types.KeySpecHmac224, types.KeySpecHmac256, types.KeySpecHmac384, types.KeySpecHmac512,
	types.KeySpecRsa2048, types.KeySpecRsa3072, types.KeySpecRsa4096,
	types.KeySpecEccNistP256, types.KeySpecEccNistP384, types.KeySpecEccNistP521, types.KeySpecEccSecgP256k1, types.KeySpecEccNistEdwards25519,
}

// wrappingFor is how material of a spec is wrapped. OAEP is the simplest and too short for an RSA key.
func wrappingFor(spec types.KeySpec) types.AlgorithmSpec {
	switch spec {
	case types.KeySpecRsa2048, types.KeySpecRsa3072, types.KeySpecRsa4096:
		return types.AlgorithmSpecRsaAesKeyWrapSha256
	}
	return types.AlgorithmSpecRsaesOaepSha256
}

// makeWrapped makes material of a spec and answers it wrapped for public, a DER SubjectPublicKeyInfo. The material
// itself does not outlive the call.
func makeWrapped(spec types.KeySpec, algorithm types.AlgorithmSpec, public []byte) ([]byte, error) {
	parsed, err := x509.ParsePKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("reading the wrapping key: %w", err)
	}
	wrapping, ok := parsed.(*rsa.PublicKey)
	if !ok || wrapping.N.BitLen() < 4096 {
		return nil, errors.New("the wrapping key is not the RSA key of 4096 bits that was asked for")
	}
	material, err := makeMaterial(spec)
	if err != nil {
		return nil, fmt.Errorf("making material: %w", err)
	}
	defer clear(material)
	wrapped, err := wrapMaterial(wrapping, algorithm, material)
	if err != nil {
		return nil, fmt.Errorf("wrapping the material: %w", err)
	}
	return wrapped, nil
}

func wrapMaterial(wrapping *rsa.PublicKey, algorithm types.AlgorithmSpec, material []byte) ([]byte, error) {
	if algorithm == types.AlgorithmSpecRsaesOaepSha256 {
		return rsa.EncryptOAEP(sha256.New(), rand.Reader, wrapping, material, nil)
	}
	// RSA_AES_KEY_WRAP_SHA_256 is CKM_RSA_AES_KEY_WRAP: an AES key of one use under OAEP, then the material under it (RFC 5649).
	inner := make([]byte, 32)
	defer clear(inner)
	if _, err := rand.Read(inner); err != nil {
		return nil, err
	}
	outer, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, wrapping, inner, nil)
	if err != nil {
		return nil, err
	}
	kwp, err := subtle.NewKWP(inner)
	if err != nil {
		return nil, err
	}
	wrapped, err := kwp.Wrap(material)
	if err != nil {
		return nil, err
	}
	return append(outer, wrapped...), nil
}

// makeMaterial makes a key as ImportKeyMaterial takes it: raw bytes, or PKCS #8 DER. The caller wipes it.
func makeMaterial(spec types.KeySpec) ([]byte, error) {
	switch spec {
	case types.KeySpecSymmetricDefault, types.KeySpecHmac256:
		return randomBytes(32)
	case types.KeySpecHmac224:
		return randomBytes(28)
	case types.KeySpecHmac384:
		return randomBytes(48)
	case types.KeySpecHmac512:
		return randomBytes(64)
	case types.KeySpecRsa2048:
		return inPKCS8(rsa.GenerateKey(rand.Reader, 2048))
	case types.KeySpecRsa3072:
		return inPKCS8(rsa.GenerateKey(rand.Reader, 3072))
	case types.KeySpecRsa4096:
		return inPKCS8(rsa.GenerateKey(rand.Reader, 4096))
	case types.KeySpecEccNistP256:
		return inPKCS8(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	case types.KeySpecEccNistP384:
		return inPKCS8(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	case types.KeySpecEccNistP521:
		return inPKCS8(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
	case types.KeySpecEccNistEdwards25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		defer clear(key)
		return inPKCS8(key, err)
	case types.KeySpecEccSecgP256k1:
		return makeSecp256k1()
	}
	return nil, fmt.Errorf("of spec %s none can be imported", spec)
}

func randomBytes(n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := rand.Read(b)
	return b, err
}

func inPKCS8[K any](key K, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

// makeSecp256k1 writes what crypto/x509 does not know: RFC 5915 in RFC 5208.
func makeSecp256k1() ([]byte, error) {
	key, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		return nil, err
	}
	defer key.Zero()
	scalar, public := key.Serialize(), key.PubKey().SerializeUncompressed()
	defer clear(scalar)
	curve, err := asn1.Marshal(oidSecp256k1)
	if err != nil {
		return nil, err
	}
	inner, err := asn1.Marshal(struct {
		Version int
		Key     []byte
		Public  asn1.BitString `asn1:"explicit,tag:1"`
	}{1, scalar, asn1.BitString{Bytes: public, BitLength: 8 * len(public)}})
	if err != nil {
		return nil, err
	}
	defer clear(inner)
	return asn1.Marshal(struct {
		Version   int
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
	}{0, pkix.AlgorithmIdentifier{Algorithm: oidECPublicKey, Parameters: asn1.RawValue{FullBytes: curve}}, inner})
}
