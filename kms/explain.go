package kms

import (
	"context"
	"strings"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
)

// AsResource is a key as the Guard is asked about it when the call is to do
// action ("kms:Sign") with an encryption context: for whoever explains decisions.
// It asks nobody for permission, does nothing, and finds keys of the call's own
// account and Region only.
func (s *Service) AsResource(ctx context.Context, call *access.Call, keyID, action string, encryptionContext map[string]string) (access.Resource, error) {
	n, err := parseName(call, keyID)
	if err != nil {
		return access.Resource{}, err
	}
	if n.account != call.Account {
		return access.Resource{}, awsapi.Errorf("NotFoundException", "Only keys of account %s can be explained.", call.Account)
	}
	r := &request{operation: strings.TrimPrefix(action, "kms:"), action: action, keyID: keyID, context: encryptionContext}
	t, err := s.find(ctx, call, r)
	if err != nil {
		return access.Resource{}, err
	}
	return s.resource(r, &t.key.keyFacts), nil
}
