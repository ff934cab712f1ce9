package keystore

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"math/big"
)

// pssOptions: AWS's salts are as long as the digest.
var pssOptions = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}

func isPSS(alg string) bool { return alg == PSSSHA256 || alg == PSSSHA384 || alg == PSSSHA512 }

type rsaPublic struct {
	noHalf
	key *rsa.PublicKey
}

func (p *rsaPublic) verify(alg string, m *Message, sig []byte) bool {
	if isPSS(alg) {
		return rsa.VerifyPSS(p.key, m.Hash, m.Bytes(), sig, pssOptions) == nil
	}
	return rsa.VerifyPKCS1v15(p.key, m.Hash, m.Bytes(), sig) == nil
}

func (p *rsaPublic) encrypt(alg string, plaintext []byte) ([]byte, error) {
	ciphertext, err := rsa.EncryptOAEP(oaepHash(alg).New(), rand.Reader, p.key, plaintext, nil)
	if err != nil {
		return nil, fmt.Errorf("encrypting with %s: %w", alg, err)
	}
	return ciphertext, nil
}

type rsaKey struct {
	base
	key *rsa.PrivateKey
}

func (k *rsaKey) Sign(_ context.Context, alg string, mt MessageType, message []byte) ([]byte, error) {
	m, err := k.spec.CheckMessage(alg, mt, message)
	if err != nil {
		return nil, err
	}
	var sig []byte
	if isPSS(alg) {
		sig, err = rsa.SignPSS(rand.Reader, k.key, m.Hash, m.Bytes(), pssOptions)
	} else {
		sig, err = rsa.SignPKCS1v15(rand.Reader, k.key, m.Hash, m.Bytes())
	}
	if err != nil {
		return nil, fmt.Errorf("signing with %s: %w", alg, err)
	}
	return sig, nil
}

func (k *rsaKey) Encrypt(_ context.Context, alg string, plaintext, aad []byte) ([]byte, error) {
	if err := k.refuseAAD(alg, aad); err != nil {
		return nil, err
	}
	return k.public.Encrypt(alg, plaintext)
}

// Decrypt gives one error for everything that can be wrong: more would be
// Manger's oracle.
func (k *rsaKey) Decrypt(_ context.Context, alg string, ciphertext, aad []byte) ([]byte, error) {
	if err := k.spec.Check(EncryptDecrypt, alg); err != nil {
		return nil, err
	}
	if err := k.refuseAAD(alg, aad); err != nil {
		return nil, err
	}
	options := &rsa.OAEPOptions{Hash: oaepHash(alg)}
	plaintext, err := k.key.Decrypt(nil, ciphertext, options)
	if err != nil {
		return nil, ErrInvalidCiphertext
	}
	return plaintext, nil
}

func (k *rsaKey) refuseAAD(alg string, aad []byte) error {
	if len(aad) != 0 {
		return fmt.Errorf("associated data with %s: %w", alg, ErrUnsupported)
	}
	return nil
}

func (k *rsaKey) Close() { wipeRSA(k.key) }

// wipeRSA clears the numbers of a private key. What the standard library
// derived from them for its own use is left to the garbage collector.
func wipeRSA(key *rsa.PrivateKey) {
	wipeInt(key.D)
	for _, prime := range key.Primes {
		wipeInt(prime)
	}
	wipeInt(key.Precomputed.Dp)
	wipeInt(key.Precomputed.Dq)
	wipeInt(key.Precomputed.Qinv)
}

func wipeInt(n *big.Int) {
	if n != nil {
		clear(n.Bits())
	}
}
