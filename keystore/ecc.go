package keystore

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"sync"
)

// The curves P-256, P-384 and P-521: ECDSA and ECDH.

func eccSpec(curve elliptic.Curve) Spec {
	switch curve {
	case elliptic.P256():
		return P256
	case elliptic.P384():
		return P384
	case elliptic.P521():
		return P521
	}
	return ""
}

type eccPublic struct {
	noHalf
	key *ecdsa.PublicKey
}

func (p *eccPublic) verify(_ string, m *Message, sig []byte) bool {
	return ecdsa.VerifyASN1(p.key, m.Bytes(), sig)
}

type eccKey struct {
	base
	key *ecdsa.PrivateKey

	agree     sync.Once // guards agreement and agreeErr
	agreement *ecdh.PrivateKey
	agreeErr  error
}

func (k *eccKey) Sign(_ context.Context, alg string, mt MessageType, message []byte) ([]byte, error) {
	m, err := k.spec.CheckMessage(alg, mt, message)
	if err != nil {
		return nil, err
	}
	sig, err := ecdsa.SignASN1(rand.Reader, k.key, m.Bytes())
	if err != nil {
		return nil, fmt.Errorf("signing with %s: %w", alg, err)
	}
	return sig, nil
}

func (k *eccKey) Derive(_ context.Context, alg string, peer *PublicKey) ([]byte, error) {
	if err := k.spec.Check(KeyAgreement, alg); err != nil {
		return nil, err
	}
	if peer == nil || peer.spec != k.spec {
		return nil, fmt.Errorf("%w: not a public key of spec %s", ErrInvalidPublicKey, k.spec)
	}
	half, ok := peer.half.(*eccPublic)
	if !ok {
		return nil, ErrInvalidPublicKey
	}
	point, err := half.key.ECDH() // checks the point again
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidPublicKey, err)
	}
	// Only keys of usage KEY_AGREEMENT come here, so the others do not pay for
	// the second form of the key.
	k.agree.Do(func() { k.agreement, k.agreeErr = k.key.ECDH() })
	if k.agreeErr != nil {
		return nil, fmt.Errorf("preparing a key agreement: %w", k.agreeErr)
	}
	shared, err := k.agreement.ECDH(point)
	if err != nil {
		return nil, fmt.Errorf("agreeing on a secret: %w", err)
	}
	return shared, nil
}

func (k *eccKey) Close() {
	wipeInt(k.key.D) //nolint:staticcheck // there is no other way to wipe it
	k.agreement = nil
}
