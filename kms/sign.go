package kms

import (
	"context"
	"errors"
	"strings"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/keystore"
)

// Sign signs a message, a digest or an ML-DSA μ.
func (s *Service) Sign(ctx context.Context, call *access.Call, in *SignRequest) (*SignResponse, error) {
	t, err := s.findAllowed(ctx, call, &request{
		operation: "Sign", keyID: in.KeyId, grantTokens: in.GrantTokens, signingAlgorithm: in.SigningAlgorithm, messageType: in.MessageType,
	})
	if err != nil {
		return nil, err
	}
	k := t.key
	if err := k.usable(call, "Sign", in.SigningAlgorithm); err != nil {
		return nil, err
	}
	if err := k.originates("Sign"); err != nil {
		return nil, err
	}
	mt := keystore.MessageType(in.MessageType)
	if isTrue(in.DryRun) {
		if _, err := k.spec.CheckMessage(in.SigningAlgorithm, mt, in.Message.Reveal()); err != nil {
			return nil, messageError(err, in.SigningAlgorithm, k.spec)
		}
		return nil, errDryRun()
	}
	signature, err := k.do(func(key keystore.Key) ([]byte, error) {
		return key.Sign(ctx, in.SigningAlgorithm, mt, in.Message.Reveal())
	})
	if err != nil {
		return nil, messageError(err, in.SigningAlgorithm, k.spec)
	}
	s.used(k, "Sign", call)
	return &SignResponse{KeyId: k.arn, Signature: signature, SigningAlgorithm: in.SigningAlgorithm}, nil
}

// messageError is cryptoError with AWS's words for a digest of the wrong
// length.
func messageError(err error, algorithm string, spec keystore.Spec) error {
	if errors.Is(err, keystore.ErrMessageLength) && strings.Contains(err.Error(), "digest") {
		return awsapi.Errorf("ValidationException", "Digest is invalid length for algorithm %s.", algorithm)
	}
	return cryptoError(err, algorithm, spec)
}

// Verify verifies a signature. By the alias of a lineage it asks the key that
// stands behind it first and then the other generations inside the overlap,
// newest first; KeyId in the answer is the one that matched.
func (s *Service) Verify(ctx context.Context, call *access.Call, in *VerifyRequest) (*VerifyResponse, error) {
	k, err := s.firstThatMatches(ctx, call, &request{
		operation: "Verify", keyID: in.KeyId, grantTokens: in.GrantTokens, signingAlgorithm: in.SigningAlgorithm, messageType: in.MessageType,
	}, func(k *keySnapshot) error {
		if err := k.usable(call, "Verify", in.SigningAlgorithm); err != nil {
			return err
		}
		mt := keystore.MessageType(in.MessageType)
		if isTrue(in.DryRun) {
			if _, err := k.spec.CheckMessage(in.SigningAlgorithm, mt, in.Message.Reveal()); err != nil {
				return messageError(err, in.SigningAlgorithm, k.spec)
			}
			return errDryRun()
		}
		_, err := k.do(func(key keystore.Key) ([]byte, error) {
			return nil, key.Public().Verify(in.SigningAlgorithm, mt, in.Message.Reveal(), in.Signature)
		})
		return messageError(err, in.SigningAlgorithm, k.spec)
	})
	if err != nil {
		return nil, err
	}
	s.used(k, "Verify", call)
	return &VerifyResponse{KeyId: k.arn, SignatureValid: true, SigningAlgorithm: in.SigningAlgorithm}, nil
}
