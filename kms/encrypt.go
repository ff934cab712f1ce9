package kms

import (
	"context"
	"errors"
	"slices"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/keystore"
)

// Encrypt encrypts up to 4096 bytes; RSA keys as much as OAEP leaves.
func (s *Service) Encrypt(ctx context.Context, call *access.Call, in *EncryptRequest) (*EncryptResponse, error) {
	algorithm := orSymmetric(in.EncryptionAlgorithm)
	t, err := s.findAllowed(ctx, call, &request{
		operation: "Encrypt", keyID: in.KeyId, grantTokens: in.GrantTokens, context: in.EncryptionContext, encryptionAlgorithm: algorithm,
	})
	if err != nil {
		return nil, err
	}
	if err := t.key.encrypts(call, "Encrypt", algorithm, in.EncryptionContext); err != nil {
		return nil, err
	}
	if err := checkPlaintext(t.key.spec, algorithm, len(in.Plaintext)); err != nil {
		return nil, err
	}
	if isTrue(in.DryRun) {
		return nil, errDryRun()
	}
	blob, err := t.key.encrypt(ctx, algorithm, in.Plaintext.Reveal(), in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	s.used(t.key, "Encrypt", call)
	return &EncryptResponse{KeyId: t.key.arn, CiphertextBlob: blob, EncryptionAlgorithm: algorithm}, nil
}

func orSymmetric(algorithm string) string {
	if algorithm == "" {
		return EncryptionAlgorithmSpecSymmetricDefault
	}
	return algorithm
}

// encrypts says whether the key may make a ciphertext in operation.
func (k *keySnapshot) encrypts(call *access.Call, operation, algorithm string, context map[string]string) error {
	if err := k.usable(call, operation, algorithm); err != nil {
		return err
	}
	if err := k.originates(operation); err != nil {
		return err
	}
	return k.checkContext(context)
}

// checkContext refuses an encryption context where it would not be
// authenticated.
func (k *keySnapshot) checkContext(context map[string]string) error {
	if len(context) > 0 && k.spec.Kind() != keystore.KindSymmetric {
		return awsapi.Errorf("ValidationException", "An encryption context is valid only with a symmetric encryption key; %s is not", k.arn)
	}
	return nil
}

func checkPlaintext(spec keystore.Spec, algorithm string, length int) error {
	if most := spec.MaxPlaintext(algorithm); length > most {
		return awsapi.Errorf("ValidationException", "Algorithm %s and key spec %s cannot encrypt data larger than %d bytes.", algorithm, spec, most)
	}
	return nil
}

// encrypt makes a ciphertext blob.
func (k *keySnapshot) encrypt(ctx context.Context, algorithm string, plaintext []byte, context map[string]string) ([]byte, error) {
	if algorithm != EncryptionAlgorithmSpecSymmetricDefault {
		out, err := k.do(func(key keystore.Key) ([]byte, error) {
			return key.Encrypt(ctx, algorithm, plaintext, nil)
		})
		return out, cryptoError(err, algorithm, k.spec)
	}
	header, err := blobHeader{account: k.account, keyID: k.id, materialID: k.materialID}.append(make([]byte, 0, blobHeaderLen+len(plaintext)+64))
	if err != nil {
		return nil, err
	}
	body, err := k.do(func(key keystore.Key) ([]byte, error) {
		return key.Encrypt(ctx, algorithm, plaintext, associatedData(header, context))
	})
	if err != nil {
		return nil, cryptoError(err, algorithm, k.spec)
	}
	return append(header, body...), nil
}

// Decrypt decrypts. A symmetric ciphertext names its key itself; if the request
// names one too it must be the same. By the alias of a lineage that may be any
// generation inside the overlap, and RSA ciphertext is tried with each.
func (s *Service) Decrypt(ctx context.Context, call *access.Call, in *DecryptRequest) (*DecryptResponse, error) {
	if in.Recipient != nil {
		return nil, errRecipient()
	}
	d := decryption{
		request: request{
			operation: "Decrypt", keyID: in.KeyId, grantTokens: in.GrantTokens, context: in.EncryptionContext,
			encryptionAlgorithm: orSymmetric(in.EncryptionAlgorithm),
		},
		blob:   in.CiphertextBlob,
		dryRun: isTrue(in.DryRun), ignoreCiphertext: ignoresCiphertext(in.DryRun, in.DryRunModifiers),
	}
	from, err := s.decrypt(ctx, call, &d)
	if err != nil {
		return nil, err
	}
	if d.dryRun {
		clear(from.plaintext)
		return nil, errDryRun()
	}
	s.used(from.key, "Decrypt", call)
	return &DecryptResponse{
		KeyId: from.key.arn, KeyMaterialId: from.materialID, Plaintext: from.plaintext, EncryptionAlgorithm: d.encryptionAlgorithm,
	}, nil
}

func ignoresCiphertext(dryRun *bool, modifiers []string) bool {
	return isTrue(dryRun) && slices.Contains(modifiers, DryRunModifierTypeIgnoreCiphertext)
}

func errRecipient() error {
	return awsapi.Errorf("UnsupportedOperationException", "Recipient (attestation documents of Nitro enclaves) is not supported")
}

// decryption is what Decrypt and ReEncrypt ask for.
type decryption struct {
	request          // keyID is "" where the ciphertext shall say it
	blob             []byte
	dryRun           bool
	ignoreCiphertext bool // a dry run that asks for the permission only
}

// decrypted is what came of it. With ignoreCiphertext there is only the key.
type decrypted struct {
	key        *keySnapshot // that matched
	materialID string       // of the material that made the ciphertext; symmetric keys only
	plaintext  []byte
}

// decrypt decrypts. A dry run does too: whether the request would succeed
// depends on it.
func (s *Service) decrypt(ctx context.Context, call *access.Call, d *decryption) (*decrypted, error) {
	symmetric := d.encryptionAlgorithm == EncryptionAlgorithmSpecSymmetricDefault
	switch {
	case len(d.blob) == 0 && !d.ignoreCiphertext:
		return nil, awsapi.Errorf("ValidationException",
			"1 validation error detected: Value null at 'ciphertextBlob' failed to satisfy constraint: Member must not be null")
	case d.keyID == "" && (d.ignoreCiphertext || !symmetric):
		return nil, awsapi.Errorf("ValidationException", "The key must be named: it cannot be read from the ciphertext")
	}
	if d.ignoreCiphertext || !symmetric {
		return s.decryptByName(ctx, call, d)
	}
	header, body, ok := parseBlob(d.blob)
	if !ok {
		return s.refuseCiphertext(ctx, call, d)
	}
	return s.decryptByHeader(ctx, call, d, header, body)
}

// decryptByName decrypts with the named key, or the generations behind the
// named alias.
func (s *Service) decryptByName(ctx context.Context, call *access.Call, d *decryption) (*decrypted, error) {
	var plaintext []byte
	k, err := s.firstThatMatches(ctx, call, &d.request, func(k *keySnapshot) error {
		if err := k.decrypts(call, d); err != nil || d.ignoreCiphertext {
			return err
		}
		var err error
		plaintext, err = k.do(func(key keystore.Key) ([]byte, error) {
			return key.Decrypt(ctx, d.encryptionAlgorithm, d.blob, nil)
		})
		return cryptoError(err, d.encryptionAlgorithm, k.spec)
	})
	return &decrypted{key: k, plaintext: plaintext}, err
}

func (k *keySnapshot) decrypts(call *access.Call, d *decryption) error {
	if err := k.answers(call, d.operation); err != nil {
		return err
	}
	if err := checkUsage(d.operation, k.arn, k.usage, string(k.spec), d.encryptionAlgorithm, k.spec.Algorithms(k.usage)); err != nil {
		return err
	}
	return k.checkContext(d.context)
}

// refuseCiphertext answers for bytes that are no ciphertext of a symmetric key.
// Where a key is named, permission and state come first, as always.
func (s *Service) refuseCiphertext(ctx context.Context, call *access.Call, d *decryption) (*decrypted, error) {
	if d.keyID != "" {
		t, err := s.findAllowed(ctx, call, &d.request)
		if err != nil {
			return nil, err
		}
		if err := t.key.decrypts(call, d); err != nil {
			return nil, err
		}
	}
	return nil, awsapi.Errorf("InvalidCiphertextException", "")
}

// decryptByHeader decrypts what a symmetric key encrypted, with that very key.
func (s *Service) decryptByHeader(ctx context.Context, call *access.Call, d *decryption, header blobHeader, body []byte) (*decrypted, error) {
	n := resourceName{account: header.account, region: call.Region, name: header.keyID}
	// A bare key id may, here alone, name another account's key: the ciphertext
	// says which account.
	if d.keyID != "" && d.keyID != header.keyID {
		t, err := s.find(ctx, call, &d.request)
		if err != nil {
			return nil, err
		}
		if t.key.id != header.keyID || t.key.account != header.account {
			if !slices.Contains(t.lineage, n) {
				// The named key is not the one, and nothing about the one may be
				// learnt from the answer. Whether the named one may be used comes first.
				if err := s.check(ctx, call, &d.request, &t.key.keyFacts); err != nil {
					return nil, err
				}
				return nil, awsapi.Errorf("IncorrectKeyException",
					"The key ID in the request does not identify a CMK that can perform this operation.")
			}
		}
	} else if err := s.checkGrantTokens(&d.request); err != nil {
		return nil, err
	}
	k, err := s.keySnapshot(ctx, call, n)
	if errors.Is(err, errGone) {
		return nil, s.unknownKey(ctx, call, d.name(), n)
	}
	if err != nil {
		return nil, err
	}
	if err := s.check(ctx, call, &d.request, &k.keyFacts); err != nil {
		return nil, err
	}
	if err := k.decrypts(call, d); err != nil {
		return nil, err
	}
	m, err := s.materialOf(ctx, k, header.materialID)
	if err != nil {
		return nil, err
	}
	plaintext, err := m.do(func(key keystore.Key) ([]byte, error) {
		return key.Decrypt(ctx, d.encryptionAlgorithm, body, associatedData(d.blob[:blobHeaderLen], d.context))
	})
	return &decrypted{key: k, materialID: m.id, plaintext: plaintext}, cryptoError(err, d.encryptionAlgorithm, k.spec)
}

// unknownKey answers for a ciphertext whose key does not exist here. AWS does
// not say which of the reasons it is, in the caller's own account either.
func (s *Service) unknownKey(ctx context.Context, call *access.Call, action string, n resourceName) error {
	call.Touched(n.arn(), n.account, typeKey)
	if n.account != call.Account {
		return s.missing(ctx, call, action, n)
	}
	return &awsapi.Error{Code: "AccessDeniedException", Status: 400, Message: "The ciphertext refers to a customer master key that does not exist, " +
		"does not exist in this region, or you are not allowed to access."}
}

// sourceKey is the ARN of the key that d will decrypt with as far as that can be
// told without asking it: the ciphertext says so, or the request. Empty where
// neither does, which d will refuse.
func (s *Service) sourceKey(ctx context.Context, call *access.Call, d decryption) (string, error) {
	if d.encryptionAlgorithm == EncryptionAlgorithmSpecSymmetricDefault && !d.ignoreCiphertext {
		if header, _, ok := parseBlob(d.blob); ok {
			return resourceName{account: header.account, region: call.Region, name: header.keyID}.arn(), nil
		}
	}
	if d.keyID == "" {
		return "", nil
	}
	t, err := s.find(ctx, call, &d.request)
	if err != nil {
		return "", err
	}
	return t.key.arn, nil
}

// ReEncrypt decrypts with one key and encrypts with another; the plaintext does
// not leave the server. It needs kms:ReEncryptFrom on the source and
// kms:ReEncryptTo on the destination.
func (s *Service) ReEncrypt(ctx context.Context, call *access.Call, in *ReEncryptRequest) (*ReEncryptResponse, error) {
	algorithm := orSymmetric(in.DestinationEncryptionAlgorithm)
	r := &request{
		operation: "ReEncrypt", action: "kms:ReEncryptTo", keyID: in.DestinationKeyId, grantTokens: in.GrantTokens,
		context: in.DestinationEncryptionContext, encryptionAlgorithm: algorithm,
	}
	t, err := s.find(ctx, call, r)
	if err != nil {
		return nil, err
	}
	to := t.key
	d := decryption{
		request: request{
			operation: "ReEncrypt", action: "kms:ReEncryptFrom", keyID: in.SourceKeyId, grantTokens: in.GrantTokens,
			context: in.SourceEncryptionContext, encryptionAlgorithm: orSymmetric(in.SourceEncryptionAlgorithm),
			otherKey: to.arn,
		},
		blob:   in.CiphertextBlob,
		dryRun: isTrue(in.DryRun), ignoreCiphertext: ignoresCiphertext(in.DryRun, in.DryRunModifiers),
	}
	if r.otherKey, err = s.sourceKey(ctx, call, d); err != nil {
		return nil, err
	}
	if err := s.check(ctx, call, r, &to.keyFacts); err != nil {
		return nil, err
	}
	if err := to.encrypts(call, "ReEncrypt", algorithm, in.DestinationEncryptionContext); err != nil {
		return nil, err
	}
	from, err := s.decrypt(ctx, call, &d)
	if err != nil {
		return nil, err
	}
	defer clear(from.plaintext)
	if r.otherKey != from.key.arn {
		// It was another generation that matched, and the answer may hang on which.
		r.otherKey = from.key.arn
		if err := s.check(ctx, call, r, &to.keyFacts); err != nil {
			return nil, err
		}
	}
	if err := checkPlaintext(to.spec, algorithm, len(from.plaintext)); err != nil {
		return nil, err
	}
	if d.dryRun {
		return nil, errDryRun()
	}
	blob, err := to.encrypt(ctx, algorithm, from.plaintext, in.DestinationEncryptionContext)
	if err != nil {
		return nil, err
	}
	s.used(from.key, "ReEncrypt", call)
	s.used(to, "ReEncrypt", call)
	out := &ReEncryptResponse{
		CiphertextBlob: blob, SourceKeyId: from.key.arn, SourceKeyMaterialId: from.materialID, KeyId: to.arn,
		SourceEncryptionAlgorithm: d.encryptionAlgorithm, DestinationEncryptionAlgorithm: algorithm,
	}
	if to.spec.Kind() == keystore.KindSymmetric {
		out.DestinationKeyMaterialId = to.materialID
	}
	return out, nil
}
