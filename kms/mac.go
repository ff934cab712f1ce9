package kms

import (
	"context"
	"crypto/subtle"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/keystore"
)

// GenerateMac computes the HMAC of a message.
func (s *Service) GenerateMac(ctx context.Context, call *access.Call, in *GenerateMacRequest) (*GenerateMacResponse, error) {
	t, err := s.findAllowed(ctx, call, &request{
		operation: "GenerateMac", keyID: in.KeyId, grantTokens: in.GrantTokens, macAlgorithm: in.MacAlgorithm,
	})
	if err != nil {
		return nil, err
	}
	k := t.key
	if err := k.usable(call, "GenerateMac", in.MacAlgorithm); err != nil {
		return nil, err
	}
	if err := k.originates("GenerateMac"); err != nil {
		return nil, err
	}
	if isTrue(in.DryRun) {
		return nil, errDryRun()
	}
	mac, err := k.mac(ctx, in.MacAlgorithm, in.Message)
	if err != nil {
		return nil, err
	}
	s.used(k, "GenerateMac", call)
	return &GenerateMacResponse{KeyId: k.arn, Mac: mac, MacAlgorithm: in.MacAlgorithm}, nil
}

// VerifyMac compares, in constant time, a MAC with the one it computes itself.
// By the alias of a lineage it tries the generations as Verify does.
func (s *Service) VerifyMac(ctx context.Context, call *access.Call, in *VerifyMacRequest) (*VerifyMacResponse, error) {
	k, err := s.firstThatMatches(ctx, call, &request{
		operation: "VerifyMac", keyID: in.KeyId, grantTokens: in.GrantTokens, macAlgorithm: in.MacAlgorithm,
	}, func(k *keySnapshot) error {
		if err := k.usable(call, "VerifyMac", in.MacAlgorithm); err != nil {
			return err
		}
		if isTrue(in.DryRun) {
			return errDryRun()
		}
		mac, err := k.mac(ctx, in.MacAlgorithm, in.Message)
		if err == nil && subtle.ConstantTimeCompare(mac, in.Mac) != 1 {
			err = awsapi.Errorf("KMSInvalidMacException", "")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	s.used(k, "VerifyMac", call)
	return &VerifyMacResponse{KeyId: k.arn, MacAlgorithm: in.MacAlgorithm, MacValid: true}, nil
}

func (k *keySnapshot) mac(ctx context.Context, algorithm string, message awsapi.Sensitive) ([]byte, error) {
	mac, err := k.do(func(key keystore.Key) ([]byte, error) {
		return key.MAC(ctx, algorithm, message.Reveal())
	})
	return mac, cryptoError(err, algorithm, k.spec)
}
