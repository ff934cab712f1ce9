package kms

import (
	"context"
	"errors"
	"fmt"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/keystore"
)

// target is what a request for a cryptographic operation named: the key that
// stands behind the name now and, if the name is the alias of a lineage, the
// other generations that may still verify and decrypt for it.
type target struct {
	name    resourceName // as given
	key     *keySnapshot
	lineage []resourceName
}

// find returns what r names, in any form. It asks nobody for permission.
func (s *Service) find(ctx context.Context, call *access.Call, r *request) (target, error) {
	if err := s.checkGrantTokens(r); err != nil {
		return target{}, err
	}
	n, err := parseName(call, r.keyID)
	if err != nil {
		return target{}, err
	}
	t, keyName := target{name: n}, n
	if n.isAlias() {
		r.alias = n.name
		a, err := s.aliasSnapshot(ctx, call, n)
		if errors.Is(err, errGone) {
			return target{}, s.missing(ctx, call, r.name(), n)
		}
		if err != nil {
			return target{}, err
		}
		keyName, t.lineage = a.target, a.lineage
	}
	t.key, err = s.keySnapshot(ctx, call, keyName)
	if errors.Is(err, errGone) {
		return target{}, s.missing(ctx, call, r.name(), n)
	}
	return t, err
}

// findAllowed is find, and then the Guard's answer about the key.
func (s *Service) findAllowed(ctx context.Context, call *access.Call, r *request) (target, error) {
	t, err := s.find(ctx, call, r)
	if err != nil {
		return t, err
	}
	return t, s.check(ctx, call, r, &t.key.keyFacts)
}

// usable says whether the key, in its state, of its usage and spec, does
// operation with algorithm.
func (k *keySnapshot) usable(call *access.Call, operation, algorithm string) error {
	if err := k.answers(call, operation); err != nil {
		return err
	}
	return checkUsage(operation, k.arn, k.usage, string(k.spec), algorithm, k.spec.Algorithms(k.usage))
}

// originates refuses operation on a generation that was retired from making
// new signatures, ciphertexts and MACs (PCI DSS 3.7.5). What it made before can
// still be verified and decrypted.
func (k *keySnapshot) originates(operation string) error {
	if !k.deactivated {
		return nil
	}
	return awsapi.Errorf("KMSInvalidStateException",
		"%s is a deactivated generation: it verifies and decrypts, but is no longer used for %s. "+
			"Use the alias of its lineage, or roll the lineage back to this generation.", k.arn, operation)
}

// cryptoError translates what a key store says. Anything it does not know stays
// as it is and becomes the internal error.
func cryptoError(err error, algorithm string, spec keystore.Spec) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, keystore.ErrInvalidCiphertext):
		return awsapi.Errorf("InvalidCiphertextException", "")
	case errors.Is(err, keystore.ErrInvalidSignature):
		return awsapi.Errorf("KMSInvalidSignatureException", "")
	case errors.Is(err, keystore.ErrUnsupported):
		return awsapi.Errorf("InvalidKeyUsageException", "Algorithm %s is incompatible with key spec %s.", algorithm, spec)
	case errors.Is(err, keystore.ErrMessageType), errors.Is(err, keystore.ErrMessageLength),
		errors.Is(err, keystore.ErrInvalidPublicKey):
		return awsapi.Errorf("ValidationException", "%s", err)
	}
	return fmt.Errorf("using the key material: %w", err)
}
