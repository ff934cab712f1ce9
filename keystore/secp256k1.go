package keystore

import (
	"context"
	"fmt"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// secp256k1 is not in the standard library, so the encodings that crypto/x509
// gives the other curves are written out here.

const uncompressedSize = 65 // 0x04, x, y

type secp256k1Public struct {
	noHalf
	key *secp256k1.PublicKey
}

func newSecp256k1Public(key *secp256k1.PublicKey) *PublicKey {
	spki := marshalSPKI(oidECPublicKey, oidSecp256k1, key.SerializeUncompressed())
	return &PublicKey{spec: Secp256k1, spki: spki, half: &secp256k1Public{key: key}}
}

func parseSecp256k1Public(point []byte) (*PublicKey, error) {
	// ParsePubKey would take compressed and hybrid points as well.
	if len(point) != uncompressedSize || point[0] != secp256k1.PubKeyFormatUncompressed {
		return nil, fmt.Errorf("%w: not an uncompressed point", ErrInvalidPublicKey)
	}
	key, err := secp256k1.ParsePubKey(point)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidPublicKey, err)
	}
	return newSecp256k1Public(key), nil
}

// verify takes high and low values of s alike, as AWS does.
func (p *secp256k1Public) verify(_ string, m *Message, sig []byte) bool {
	parsed, err := ecdsa.ParseDERSignature(sig)
	return err == nil && parsed.Verify(m.Bytes(), p.key)
}

func generateSecp256k1() ([]byte, error) {
	key, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		return nil, fmt.Errorf("generating an %s key: %w", Secp256k1, err)
	}
	defer key.Zero()
	return marshalSecp256k1(key), nil
}

// marshalSecp256k1 returns PKCS #8 with an ECPrivateKey (RFC 5915) inside.
func marshalSecp256k1(key *secp256k1.PrivateKey) []byte {
	scalar := key.Serialize()
	defer clear(scalar)
	return marshalPKCS8(oidECPublicKey, oidSecp256k1, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(1)
			b.AddASN1OctetString(scalar)
			b.AddASN1(publicTag, func(b *cryptobyte.Builder) {
				b.AddASN1BitString(key.PubKey().SerializeUncompressed())
			})
		})
	})
}

var (
	parametersTag = cbasn1.Tag(0).ContextSpecific().Constructed()
	publicTag     = cbasn1.Tag(1).ContextSpecific().Constructed()
)

type secp256k1Key struct {
	base
	key *secp256k1.PrivateKey
}

func newSecp256k1Key(material []byte) (Key, error) {
	info, ok := parsePKCS8(material)
	if !ok || !info.algorithm.Equal(oidECPublicKey) || !info.curve.Equal(oidSecp256k1) {
		return nil, errMaterial
	}
	var inner, scalar cryptobyte.String
	var version int
	der := cryptobyte.String(info.key)
	ok = der.ReadASN1(&inner, cbasn1.SEQUENCE) && der.Empty() &&
		inner.ReadASN1Integer(&version) && version == 1 &&
		inner.ReadASN1(&scalar, cbasn1.OCTET_STRING) && len(scalar) == secp256k1.PrivKeyBytesLen &&
		inner.SkipOptionalASN1(parametersTag) && inner.SkipOptionalASN1(publicTag) && inner.Empty()
	if !ok {
		return nil, errMaterial
	}
	var d secp256k1.ModNScalar
	if overflow := d.SetByteSlice(scalar); overflow || d.IsZero() {
		return nil, errMaterial
	}
	key := secp256k1.NewPrivateKey(&d)
	return &secp256k1Key{base: base{spec: Secp256k1, public: newSecp256k1Public(key.PubKey())}, key: key}, nil
}

// Sign is deterministic (RFC 6979) and gives the lower s.
func (k *secp256k1Key) Sign(_ context.Context, alg string, mt MessageType, message []byte) ([]byte, error) {
	m, err := k.spec.CheckMessage(alg, mt, message)
	if err != nil {
		return nil, err
	}
	return ecdsa.Sign(k.key, m.Bytes()).Serialize(), nil
}

func (k *secp256k1Key) Close() { k.key.Zero() }
