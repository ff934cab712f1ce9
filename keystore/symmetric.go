package keystore

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
)

// A SYMMETRIC_DEFAULT ciphertext:
//
//	salt (16) | nonce (12) | AES-256-GCM ciphertext | tag (16)
//
// The GCM key is HKDF-Expand(SHA-256, material, label | salt) (RFC 5869): a key
// of its own for nearly every message, so that the 2³² random nonces that
// NIST SP 800-38D section 8.3 allows one GCM key do not bound how often a KMS
// key may encrypt. Two messages collide only where salt and nonce, 224 random
// bits, both do.
const (
	saltSize       = 16
	gcmOverhead    = 12 + 16
	symmetricLabel = "keyturn SYMMETRIC_DEFAULT v1\x00"
)

type symmetricKey struct {
	base
	secret []byte
}

func newSymmetricKey(material []byte) (Key, error) {
	if len(material) != specs[SymmetricDefault].size {
		return nil, errMaterial
	}
	return &symmetricKey{base: base{spec: SymmetricDefault}, secret: bytes.Clone(material)}, nil
}

// messageCipher returns the cipher of the messages that carry salt.
func (k *symmetricKey) messageCipher(salt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Expand(sha256.New, k.secret, symmetricLabel+string(salt), len(k.secret))
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return newGCM(key)
}

// newGCM returns AES-GCM that puts a random nonce before each ciphertext.
func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (k *symmetricKey) Encrypt(_ context.Context, alg string, plaintext, aad []byte) ([]byte, error) {
	if err := k.spec.checkPlaintext(alg, plaintext); err != nil {
		return nil, err
	}
	out := make([]byte, saltSize, saltSize+gcmOverhead+len(plaintext))
	if _, err := rand.Read(out); err != nil {
		return nil, fmt.Errorf("reading random bytes: %w", err)
	}
	gcm, err := k.messageCipher(out)
	if err != nil {
		return nil, fmt.Errorf("deriving a message key: %w", err)
	}
	return gcm.Seal(out, nil, plaintext, aad), nil
}

func (k *symmetricKey) Decrypt(_ context.Context, alg string, ciphertext, aad []byte) ([]byte, error) {
	if err := k.spec.Check(EncryptDecrypt, alg); err != nil {
		return nil, err
	}
	if len(ciphertext) < saltSize+gcmOverhead {
		return nil, ErrInvalidCiphertext
	}
	gcm, err := k.messageCipher(ciphertext[:saltSize])
	if err != nil {
		return nil, fmt.Errorf("deriving a message key: %w", err)
	}
	plaintext, err := gcm.Open(nil, nil, ciphertext[saltSize:], aad)
	if err != nil {
		return nil, ErrInvalidCiphertext
	}
	return plaintext, nil
}

func (k *symmetricKey) Close() { clear(k.secret) }
