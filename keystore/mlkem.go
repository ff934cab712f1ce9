package keystore

import (
	"context"
	"crypto/mlkem"
	"fmt"

	"github.com/cloudflare/circl/kem/mlkem/mlkem512"
)

// ML-KEM-768 and 1024 are the standard library's, 512 is circl's. Both are held
// through one pair of interfaces.

type encapsulationKey interface {
	Bytes() []byte
	Encapsulate() (shared, ciphertext []byte)
}

type decapsulationKey interface {
	Decapsulate(ciphertext []byte) (shared []byte, err error)
}

type mlkemPublic struct {
	noHalf
	key encapsulationKey
}

func (p *mlkemPublic) encapsulate() (shared, ciphertext []byte) { return p.key.Encapsulate() }

// newMLKEMPublic refuses keys that fail FIPS 203 section 7.2's checks.
func newMLKEMPublic(spec Spec, encoded []byte) (*PublicKey, error) {
	var key encapsulationKey
	var err error
	switch spec {
	case MLKEM768:
		key, err = mlkem.NewEncapsulationKey768(encoded)
	case MLKEM1024:
		key, err = mlkem.NewEncapsulationKey1024(encoded)
	default:
		key, err = newEncapsulationKey512(encoded)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidPublicKey, err)
	}
	spki := marshalSPKI(oidsMLKEM[spec], nil, encoded)
	return &PublicKey{spec: spec, spki: spki, half: &mlkemPublic{key: key}}, nil
}

type mlkemKey struct {
	base
	key decapsulationKey
}

func newMLKEMKey(spec Spec, material []byte) (Key, error) {
	seed, ok := parseSeed(material, oidsMLKEM[spec], mlkem.SeedSize)
	if !ok {
		return nil, errMaterial
	}
	key, encoded, err := expandMLKEM(spec, seed)
	if err != nil {
		return nil, errMaterial
	}
	public, err := newMLKEMPublic(spec, encoded)
	if err != nil {
		return nil, err
	}
	return &mlkemKey{base: base{spec: spec, public: public}, key: key}, nil
}

// expandMLKEM returns the decapsulation key of a seed and the encoding of its
// encapsulation key.
func expandMLKEM(spec Spec, seed []byte) (decapsulationKey, []byte, error) {
	switch spec {
	case MLKEM768:
		key, err := mlkem.NewDecapsulationKey768(seed)
		if err != nil {
			return nil, nil, err
		}
		return key, key.EncapsulationKey().Bytes(), nil
	case MLKEM1024:
		key, err := mlkem.NewDecapsulationKey1024(seed)
		if err != nil {
			return nil, nil, err
		}
		return key, key.EncapsulationKey().Bytes(), nil
	}
	public, private := mlkem512.NewKeyFromSeed(seed)
	return decapsulationKey512{private}, encapsulationKey512{public}.Bytes(), nil
}

func (k *mlkemKey) Decapsulate(_ context.Context, alg string, ciphertext []byte) ([]byte, error) {
	if err := k.spec.Check(EncapsulateDecapsulate, alg); err != nil {
		return nil, err
	}
	shared, err := k.key.Decapsulate(ciphertext)
	if err != nil {
		return nil, ErrInvalidCiphertext
	}
	return shared, nil
}

// Close lets go of the key; the libraries give no way to wipe it.
func (k *mlkemKey) Close() { k.key = nil }

type encapsulationKey512 struct{ key *mlkem512.PublicKey }

func newEncapsulationKey512(encoded []byte) (encapsulationKey, error) {
	key := new(mlkem512.PublicKey)
	if err := key.Unpack(encoded); err != nil {
		return nil, err
	}
	return encapsulationKey512{key}, nil
}

func (k encapsulationKey512) Bytes() []byte {
	encoded := make([]byte, mlkem512.PublicKeySize)
	k.key.Pack(encoded)
	return encoded
}

func (k encapsulationKey512) Encapsulate() (shared, ciphertext []byte) {
	shared = make([]byte, mlkem512.SharedKeySize)
	ciphertext = make([]byte, mlkem512.CiphertextSize)
	k.key.EncapsulateTo(ciphertext, shared, nil)
	return shared, ciphertext
}

type decapsulationKey512 struct{ key *mlkem512.PrivateKey }

func (k decapsulationKey512) Decapsulate(ciphertext []byte) ([]byte, error) {
	if len(ciphertext) != mlkem512.CiphertextSize {
		return nil, ErrInvalidCiphertext
	}
	shared := make([]byte, mlkem512.SharedKeySize)
	k.key.DecapsulateTo(shared, ciphertext)
	return shared, nil
}
