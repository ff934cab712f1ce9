package kms

import (
	"context"
	"crypto/rand"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
)

// GenerateRandom returns 1 to 1024 bytes of the operating system's random
// generator.
func (s *Service) GenerateRandom(ctx context.Context, call *access.Call, in *GenerateRandomRequest) (*GenerateRandomResponse, error) {
	if err := s.guard.Check(ctx, call, "kms:GenerateRandom", everything(call)); err != nil {
		return nil, err
	}
	switch {
	case in.Recipient != nil:
		return nil, errRecipient()
	case in.CustomKeyStoreId != "":
		return nil, noSuchStore(in.CustomKeyStoreId)
	case in.NumberOfBytes == nil:
		return nil, awsapi.Errorf("ValidationException", "NumberOfBytes is required.")
	}
	b := make([]byte, *in.NumberOfBytes)
	rand.Read(b)
	return &GenerateRandomResponse{Plaintext: b}, nil
}
