package kms

import (
	"context"
	"crypto/rand"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/keystore"
)

// Data keys and data key pairs are made for use outside: the caller gets them
// encrypted under a symmetric key and, where he asks for it, in plaintext.
// Decrypt gives the plaintext again. Nothing of them is kept here.

// GenerateDataKey makes 1 to 1024 random bytes.
func (s *Service) GenerateDataKey(ctx context.Context, call *access.Call, in *GenerateDataKeyRequest) (*GenerateDataKeyResponse, error) {
	if in.Recipient != nil {
		return nil, errRecipient()
	}
	d, err := s.dataKey(ctx, call, in.KeySpec, in.NumberOfBytes, isTrue(in.DryRun), &request{
		operation: "GenerateDataKey", keyID: in.KeyId, grantTokens: in.GrantTokens, context: in.EncryptionContext,
	})
	if err != nil {
		return nil, err
	}
	return &GenerateDataKeyResponse{KeyId: d.key.arn, Plaintext: d.plaintext, CiphertextBlob: d.blob, KeyMaterialId: d.key.materialID}, nil
}

// GenerateDataKeyWithoutPlaintext is GenerateDataKey for whoever needs the key
// only later.
func (s *Service) GenerateDataKeyWithoutPlaintext(ctx context.Context, call *access.Call, in *GenerateDataKeyWithoutPlaintextRequest) (*GenerateDataKeyWithoutPlaintextResponse, error) {
	d, err := s.dataKey(ctx, call, in.KeySpec, in.NumberOfBytes, isTrue(in.DryRun), &request{
		operation: "GenerateDataKeyWithoutPlaintext", keyID: in.KeyId, grantTokens: in.GrantTokens, context: in.EncryptionContext,
	})
	if err != nil {
		return nil, err
	}
	clear(d.plaintext)
	return &GenerateDataKeyWithoutPlaintextResponse{KeyId: d.key.arn, CiphertextBlob: d.blob, KeyMaterialId: d.key.materialID}, nil
}

// GenerateDataKeyPair makes a key pair: the private key as PKCS #8 DER (ML-KEM
// in the seed form), the public one as SubjectPublicKeyInfo.
func (s *Service) GenerateDataKeyPair(ctx context.Context, call *access.Call, in *GenerateDataKeyPairRequest) (*GenerateDataKeyPairResponse, error) {
	if in.Recipient != nil {
		return nil, errRecipient()
	}
	d, err := s.dataKeyPair(ctx, call, isTrue(in.DryRun), &request{
		operation: "GenerateDataKeyPair", keyID: in.KeyId, grantTokens: in.GrantTokens, context: in.EncryptionContext, dataKeyPairSpec: in.KeyPairSpec,
	})
	if err != nil {
		return nil, err
	}
	return &GenerateDataKeyPairResponse{
		KeyId: d.key.arn, KeyPairSpec: in.KeyPairSpec, KeyMaterialId: d.key.materialID,
		PublicKey: d.public, PrivateKeyPlaintext: d.plaintext, PrivateKeyCiphertextBlob: d.blob,
	}, nil
}

// GenerateDataKeyPairWithoutPlaintext is GenerateDataKeyPair for whoever needs
// the private key only later.
func (s *Service) GenerateDataKeyPairWithoutPlaintext(ctx context.Context, call *access.Call, in *GenerateDataKeyPairWithoutPlaintextRequest) (*GenerateDataKeyPairWithoutPlaintextResponse, error) {
	d, err := s.dataKeyPair(ctx, call, isTrue(in.DryRun), &request{
		operation: "GenerateDataKeyPairWithoutPlaintext", keyID: in.KeyId, grantTokens: in.GrantTokens, context: in.EncryptionContext, dataKeyPairSpec: in.KeyPairSpec,
	})
	if err != nil {
		return nil, err
	}
	clear(d.plaintext)
	return &GenerateDataKeyPairWithoutPlaintextResponse{
		KeyId: d.key.arn, KeyPairSpec: in.KeyPairSpec, KeyMaterialId: d.key.materialID, PublicKey: d.public, PrivateKeyCiphertextBlob: d.blob,
	}, nil
}

// A dataKey is what was made, and what it was encrypted with.
type dataKey struct {
	key       *keySnapshot
	plaintext []byte // of the pair's private key; the receiver wipes what he does not hand on
	public    []byte // of a pair, SubjectPublicKeyInfo
	blob      []byte // plaintext, encrypted under key
}

func (s *Service) dataKey(ctx context.Context, call *access.Call, spec string, bytes *int32, dryRun bool, r *request) (dataKey, error) {
	size, err := dataKeySize(spec, bytes)
	if err != nil {
		return dataKey{}, err
	}
	k, err := s.dataKeyEncrypter(ctx, call, dryRun, r)
	if err != nil {
		return dataKey{}, err
	}
	d := dataKey{key: k, plaintext: make([]byte, size)}
	rand.Read(d.plaintext)
	return s.encryptDataKey(ctx, call, d, r)
}

func dataKeySize(spec string, bytes *int32) (int, error) {
	switch {
	case (spec == "") == (bytes == nil):
		return 0, awsapi.Errorf("ValidationException", "Please specify either number of bytes or key spec.")
	case bytes != nil:
		return int(*bytes), nil
	case spec == DataKeySpecAes128:
		return 16, nil
	}
	return 32, nil
}

func (s *Service) dataKeyPair(ctx context.Context, call *access.Call, dryRun bool, r *request) (dataKey, error) {
	spec := keystore.Spec(r.dataKeyPairSpec)
	if !spec.Known() {
		return dataKey{}, awsapi.Errorf("UnsupportedOperationException", "KeyPairSpec %s is not supported in this Region", spec)
	}
	k, err := s.dataKeyEncrypter(ctx, call, dryRun, r)
	if err != nil {
		return dataKey{}, err
	}
	private, public, err := s.backend.GeneratePair(ctx, spec)
	if err != nil {
		return dataKey{}, cryptoError(err, string(spec), k.spec)
	}
	return s.encryptDataKey(ctx, call, dataKey{key: k, plaintext: private, public: public.SPKI()}, r)
}

// dataKeyEncrypter finds the key that r names, where it may encrypt a data key.
// A dry run ends here.
func (s *Service) dataKeyEncrypter(ctx context.Context, call *access.Call, dryRun bool, r *request) (*keySnapshot, error) {
	r.encryptionAlgorithm = EncryptionAlgorithmSpecSymmetricDefault
	t, err := s.findAllowed(ctx, call, r)
	if err != nil {
		return nil, err
	}
	if err := t.key.encrypts(call, r.operation, r.encryptionAlgorithm, r.context); err != nil {
		return nil, err
	}
	if dryRun {
		return nil, errDryRun()
	}
	return t.key, nil
}

// encryptDataKey completes d with its ciphertext, or wipes it.
func (s *Service) encryptDataKey(ctx context.Context, call *access.Call, d dataKey, r *request) (dataKey, error) {
	var err error
	if d.blob, err = d.key.encrypt(ctx, r.encryptionAlgorithm, d.plaintext, r.context); err != nil {
		clear(d.plaintext)
		return dataKey{}, err
	}
	s.used(d.key, r.operation, call)
	return d, nil
}
