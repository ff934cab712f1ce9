package keystore

import (
	"context"
	"crypto/ed25519"
	"fmt"
)

// ed25519Options picks Ed25519ph (RFC 8032 section 5.1) for a digest, plain
// Ed25519 for a message; the context is empty in both.
func ed25519Options(m *Message) *ed25519.Options { return &ed25519.Options{Hash: m.Hash} }

type ed25519Public struct {
	noHalf
	key ed25519.PublicKey
}

func (p *ed25519Public) verify(_ string, m *Message, sig []byte) bool {
	return ed25519.VerifyWithOptions(p.key, m.Bytes(), sig, ed25519Options(m)) == nil
}

type ed25519Key struct {
	base
	key ed25519.PrivateKey
}

func (k *ed25519Key) Sign(_ context.Context, alg string, mt MessageType, message []byte) ([]byte, error) {
	m, err := k.spec.CheckMessage(alg, mt, message)
	if err != nil {
		return nil, err
	}
	sig, err := k.key.Sign(nil, m.Bytes(), ed25519Options(&m))
	if err != nil {
		return nil, fmt.Errorf("signing with %s: %w", alg, err)
	}
	return sig, nil
}

func (k *ed25519Key) Close() { clear(k.key) }
