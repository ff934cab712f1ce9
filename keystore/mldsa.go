package keystore

import (
	"context"
	"crypto"
	"encoding/asn1"
	"fmt"
	"sync"

	"filippo.io/mldsa"
	"filippo.io/mldsa/mldsacrypto"
)

// This file is the only one that knows which library does ML-DSA. It is
// filippo.io/mldsa because it signs an external μ, which cloudflare/circl,
// though faster, cannot. Neither verifies one: mldsa_mu.go does.

func mldsaParameters(spec Spec) mldsa.Parameters {
	switch spec {
	case MLDSA44:
		return mldsa.MLDSA44()
	case MLDSA65:
		return mldsa.MLDSA65()
	default:
		return mldsa.MLDSA87()
	}
}

type mldsaPublic struct {
	noHalf
	spec    Spec
	encoded []byte

	// The parsed form takes tens of kilobytes; only keys that verify pay.
	parse sync.Once // guards key
	key   *mldsa.PublicKey
}

func newMLDSAPublic(spec Spec, encoded []byte) (*PublicKey, error) {
	if n := mldsaParameters(spec).PublicKeySize(); len(encoded) != n {
		return nil, fmt.Errorf("%w: an %s key has %d bytes, not %d", ErrInvalidPublicKey, spec, n, len(encoded))
	}
	spki := marshalSPKI(oidsMLDSA[spec], nil, encoded)
	// Every encoding of the right length is a key. The copy inside the SPKI
	// serves both.
	half := &mldsaPublic{spec: spec, encoded: spki[len(spki)-len(encoded):]}
	return &PublicKey{spec: spec, spki: spki, half: half}, nil
}

func (p *mldsaPublic) verify(_ string, m *Message, sig []byte) bool {
	if m.Mu {
		return verifyMu(mldsaSets[p.spec], p.encoded, m.Bytes(), sig)
	}
	p.parse.Do(func() { p.key, _ = mldsa.NewPublicKey(mldsaParameters(p.spec), p.encoded) })
	return p.key != nil && mldsa.Verify(p.key, m.Bytes(), sig, nil) == nil
}

type mldsaKey struct {
	base
	key *mldsa.PrivateKey
}

func newMLDSAKey(spec Spec, material []byte) (Key, error) {
	seed, ok := parseSeed(material, oidsMLDSA[spec], mldsa.PrivateKeySize)
	if !ok {
		return nil, errMaterial
	}
	key, err := mldsa.NewPrivateKey(mldsaParameters(spec), seed)
	if err != nil {
		return nil, errMaterial
	}
	public, err := newMLDSAPublic(spec, key.PublicKey().Bytes())
	if err != nil {
		return nil, err
	}
	return &mldsaKey{base: base{spec: spec, public: public}, key: key}, nil
}

// Sign is hedged (FIPS 204 section 3.4), with an empty context.
func (k *mldsaKey) Sign(_ context.Context, alg string, mt MessageType, message []byte) ([]byte, error) {
	m, err := k.spec.CheckMessage(alg, mt, message)
	if err != nil {
		return nil, err
	}
	var opts crypto.SignerOpts = &mldsa.Options{}
	if m.Mu {
		opts = mldsacrypto.MLDSAMu
	}
	sig, err := k.key.Sign(nil, m.Bytes(), opts)
	if err != nil {
		return nil, fmt.Errorf("signing with %s: %w", alg, err)
	}
	return sig, nil
}

// Close lets go of the key; the library gives no way to wipe it.
func (k *mldsaKey) Close() { k.key = nil }

// seedOID returns the object identifier of a spec whose material is a seed.
func seedOID(spec Spec) (asn1.ObjectIdentifier, bool) {
	if oid, ok := oidsMLDSA[spec]; ok {
		return oid, true
	}
	oid, ok := oidsMLKEM[spec]
	return oid, ok
}
