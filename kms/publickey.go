package kms

import (
	"context"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/keystore"
)

// GetPublicKey returns the DER SubjectPublicKeyInfo of an asymmetric key.
func (s *Service) GetPublicKey(ctx context.Context, call *access.Call, in *GetPublicKeyRequest) (*GetPublicKeyResponse, error) {
	t, err := s.findAllowed(ctx, call, &request{operation: "GetPublicKey", keyID: in.KeyId, grantTokens: in.GrantTokens})
	if err != nil {
		return nil, err
	}
	k := t.key
	if k.spec.Kind() != keystore.KindAsymmetric {
		return nil, awsapi.Errorf("UnsupportedOperationException", "%s key spec is %s which is not valid for GetPublicKey.", k.arn, k.spec)
	}
	if err := k.answers(call, "GetPublicKey"); err != nil {
		return nil, err
	}
	out := &GetPublicKeyResponse{
		KeyId: k.arn, PublicKey: k.material.key.Public().SPKI(),
		KeySpec: string(k.spec), CustomerMasterKeySpec: string(k.spec), KeyUsage: k.usage,
	}
	switch algorithms := k.spec.Algorithms(k.usage); k.usage {
	case KeyUsageTypeSignVerify:
		out.SigningAlgorithms = algorithms
	case KeyUsageTypeEncryptDecrypt:
		out.EncryptionAlgorithms = algorithms
	case KeyUsageTypeKeyAgreement:
		out.KeyAgreementAlgorithms = algorithms
	case KeyUsageTypeEncapsulateDecapsulate:
		out.EncapsulationAlgorithms = algorithms
	}
	return out, nil
}
