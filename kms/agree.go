package kms

import (
	"context"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/keystore"
)

// DeriveSharedSecret returns the raw ECDH secret of the key and the peer's
// public key. A deactivated generation still does it: both sides of an
// agreement made before need it.
func (s *Service) DeriveSharedSecret(ctx context.Context, call *access.Call, in *DeriveSharedSecretRequest) (*DeriveSharedSecretResponse, error) {
	if in.Recipient != nil {
		return nil, errRecipient()
	}
	t, err := s.findAllowed(ctx, call, &request{
		operation: "DeriveSharedSecret", keyID: in.KeyId, grantTokens: in.GrantTokens, keyAgreementAlgorithm: in.KeyAgreementAlgorithm,
	})
	if err != nil {
		return nil, err
	}
	k := t.key
	if err := k.usable(call, "DeriveSharedSecret", in.KeyAgreementAlgorithm); err != nil {
		return nil, err
	}
	peer, err := keystore.ParsePublicKey(in.PublicKey)
	if err == nil && peer.Spec() != k.spec {
		err = keystore.ErrInvalidPublicKey
	}
	if err != nil {
		return nil, cryptoError(err, in.KeyAgreementAlgorithm, k.spec)
	}
	if isTrue(in.DryRun) {
		return nil, errDryRun()
	}
	secret, err := k.do(func(key keystore.Key) ([]byte, error) {
		return key.Derive(ctx, in.KeyAgreementAlgorithm, peer)
	})
	if err != nil {
		return nil, cryptoError(err, in.KeyAgreementAlgorithm, k.spec)
	}
	s.used(k, "DeriveSharedSecret", call)
	return &DeriveSharedSecretResponse{
		KeyId: k.arn, SharedSecret: secret, KeyAgreementAlgorithm: in.KeyAgreementAlgorithm, KeyOrigin: k.origin,
	}, nil
}
