package kms

import (
	"context"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/keystore"
)

// Encapsulate makes a shared secret and its encapsulation for the key (FIPS
// 203). It uses the public half only.
func (s *Service) Encapsulate(ctx context.Context, call *access.Call, in *EncapsulateRequest) (*EncapsulateResponse, error) {
	t, err := s.findAllowed(ctx, call, &request{operation: "Encapsulate", keyID: in.KeyId, grantTokens: in.GrantTokens})
	if err != nil {
		return nil, err
	}
	k := t.key
	if err := k.usable(call, "Encapsulate", in.EncapsulationAlgorithm); err != nil {
		return nil, err
	}
	if err := k.originates("Encapsulate"); err != nil {
		return nil, err
	}
	if isTrue(in.DryRun) {
		return nil, errDryRun()
	}
	secret, ciphertext, err := k.material.key.Public().Encapsulate(in.EncapsulationAlgorithm)
	if err != nil {
		return nil, cryptoError(err, in.EncapsulationAlgorithm, k.spec)
	}
	s.used(k, "Encapsulate", call)
	return &EncapsulateResponse{
		KeyId: k.arn, SharedSecret: secret, SharedSecretCiphertextBlob: ciphertext, EncapsulationAlgorithm: in.EncapsulationAlgorithm,
	}, nil
}

// Decapsulate recovers a shared secret. ML-KEM cannot tell whose ciphertext it
// is given: one that was made for another key gives another secret and no
// error. So an alias means the key behind it now, and no other generation;
// after a turn, name the key itself.
func (s *Service) Decapsulate(ctx context.Context, call *access.Call, in *DecapsulateRequest) (*DecapsulateResponse, error) {
	t, err := s.findAllowed(ctx, call, &request{operation: "Decapsulate", keyID: in.KeyId, grantTokens: in.GrantTokens})
	if err != nil {
		return nil, err
	}
	k := t.key
	if err := k.usable(call, "Decapsulate", in.EncapsulationAlgorithm); err != nil {
		return nil, err
	}
	secret, err := k.do(func(key keystore.Key) ([]byte, error) {
		return key.Decapsulate(ctx, in.EncapsulationAlgorithm, in.SharedSecretCiphertextBlob)
	})
	if err != nil {
		return nil, cryptoError(err, in.EncapsulationAlgorithm, k.spec)
	}
	if isTrue(in.DryRun) {
		clear(secret)
		return nil, errDryRun()
	}
	s.used(k, "Decapsulate", call)
	return &DecapsulateResponse{KeyId: k.arn, SharedSecret: secret, EncapsulationAlgorithm: in.EncapsulationAlgorithm}, nil
}
