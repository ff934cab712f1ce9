package keystore

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
)

type hmacKey struct {
	base
	secret []byte
}

func newHMACKey(spec Spec, material []byte) (Key, error) {
	// Those made here have the digest's length; those made elsewhere may be longer.
	if len(material) < specs[spec].size || len(material) > maxHMACKey {
		return nil, errMaterial
	}
	return &hmacKey{base: base{spec: spec}, secret: bytes.Clone(material)}, nil
}

func hmacHash(alg string) func() hash.Hash {
	switch alg {
	case HMACSHA224:
		return sha256.New224
	case HMACSHA256:
		return sha256.New
	case HMACSHA384:
		return sha512.New384
	default:
		return sha512.New
	}
}

func (k *hmacKey) MAC(_ context.Context, alg string, message []byte) ([]byte, error) {
	if err := k.spec.Check(GenerateVerifyMAC, alg); err != nil {
		return nil, err
	}
	if err := checkRaw(message); err != nil {
		return nil, err
	}
	h := hmac.New(hmacHash(alg), k.secret)
	h.Write(message)
	return h.Sum(nil), nil
}

func (k *hmacKey) Close() { clear(k.secret) }
