package kms

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/keystore"
)

// importValidity is how long an import token and its public key are good for.
const importValidity = 24 * time.Hour

// An import token carries the private half of the wrapping key, as a handle of the
// key store, so that any node can unwrap and none keeps anything:
//
//	offset  bytes
//	0       1     version, 1
//	1       1     place of the wrapping algorithm in wrappingAlgorithms, from 1
//	2       1     place of the wrapping key spec in wrappingKeySpecs, from 1
//	3       8     when it ends, Unix µs, big-endian
//	11      …     the handle
//
// The handle opens only for the key it was made for and with everything that
// stands in front of it, because all of that is the name of its row (ref): who
// alters a token, or presents it for another key, has an invalid one. It is no
// handle of any material either, whose row is named by 64 hex digits.
//
// A token may be used again until it ends, as AWS's: what it lets in is decided
// by what the key has, not by how often somebody asks.
type importToken struct {
	algorithm string
	spec      keystore.Spec
	ends      int64 // µs
}

const (
	tokenVersion   = 1
	tokenHeaderLen = 3 + 8
)

// The order of these is written in tokens: names are added behind, none goes.
var (
	wrappingAlgorithms = []string{
		AlgorithmSpecRsaesOaepSha1, AlgorithmSpecRsaesOaepSha256, AlgorithmSpecRsaAesKeyWrapSha1, AlgorithmSpecRsaAesKeyWrapSha256,
	}
	wrappingKeySpecs = []keystore.Spec{keystore.RSA2048, keystore.RSA3072, keystore.RSA4096}
)

func (t importToken) header() []byte {
	b := []byte{
		tokenVersion, byte(slices.Index(wrappingAlgorithms, t.algorithm) + 1), byte(slices.Index(wrappingKeySpecs, t.spec) + 1),
	}
	return binary.BigEndian.AppendUint64(b, uint64(t.ends))
}

// ref names the row that the wrapping key would be in if it were in one.
func (t importToken) ref(k *keyFacts) keystore.Ref {
	return keystore.Ref{Account: k.account, KeyID: k.id, MaterialID: "import token " + hex.EncodeToString(t.header()) + " of " + k.arn}
}

func parseImportToken(b []byte) (t importToken, handle []byte, ok bool) {
	if len(b) <= tokenHeaderLen || b[0] != tokenVersion {
		return t, nil, false
	}
	algorithm, spec := int(b[1])-1, int(b[2])-1
	if algorithm < 0 || algorithm >= len(wrappingAlgorithms) || spec < 0 || spec >= len(wrappingKeySpecs) {
		return t, nil, false
	}
	t = importToken{algorithm: wrappingAlgorithms[algorithm], spec: wrappingKeySpecs[spec], ends: int64(binary.BigEndian.Uint64(b[3:]))}
	return t, b[tokenHeaderLen:], true
}

// GetParametersForImport makes a wrapping key for material that is to be imported
// into the key.
func (s *Service) GetParametersForImport(ctx context.Context, call *access.Call, in *GetParametersForImportRequest) (*GetParametersForImportResponse, error) {
	n, err := parseKeyName(call, in.KeyId)
	if err != nil {
		return nil, err
	}
	k, err := s.findKey(ctx, call, &request{
		operation: "GetParametersForImport", keyID: in.KeyId, wrappingAlgorithm: in.WrappingAlgorithm, wrappingKeySpec: in.WrappingKeySpec,
	}, n)
	if err != nil {
		return nil, err
	}
	if err := k.takesMaterial("GetParametersForImport"); err != nil {
		return nil, err
	}
	t := importToken{
		algorithm: in.WrappingAlgorithm, spec: keystore.Spec(in.WrappingKeySpec), ends: micros(s.now().Add(importValidity)),
	}
	if err := checkWrapping(k.spec, t); err != nil {
		return nil, err
	}
	ref := t.ref(&k.keyFacts)
	handle, err := s.backend.Generate(ctx, ref, t.spec)
	if err != nil {
		return nil, fmt.Errorf("generating a wrapping key: %w", err)
	}
	key, err := s.backend.Open(ctx, ref, t.spec, handle)
	if err != nil {
		return nil, fmt.Errorf("opening a wrapping key: %w", err)
	}
	defer key.Close()
	return &GetParametersForImportResponse{
		KeyId: k.arn, PublicKey: key.Public().SPKI(), ImportToken: append(t.header(), handle...), ParametersValidTo: timestamp(t.ends),
	}, nil
}

// checkWrapping refuses what AWS does not have for material of spec: "Select a
// wrapping algorithm" in the KMS developer guide.
func checkWrapping(spec keystore.Spec, t importToken) error {
	if !slices.Contains(wrappingAlgorithms, t.algorithm) {
		return awsapi.Errorf("UnsupportedOperationException", "WrappingAlgorithm %s is not supported.", t.algorithm)
	}
	if !slices.Contains(wrappingKeySpecs, t.spec) {
		return awsapi.Errorf("UnsupportedOperationException", "WrappingKeySpec %s is not supported.", t.spec)
	}
	direct := t.algorithm == AlgorithmSpecRsaesOaepSha1 || t.algorithm == AlgorithmSpecRsaesOaepSha256
	var fits bool
	switch spec {
	case keystore.RSA2048, keystore.RSA3072, keystore.RSA4096:
		fits = !direct // an RSA private key is longer than what RSA encrypts
	case keystore.P521:
		fits = !direct || t.spec != keystore.RSA2048
	default:
		fits = direct || spec.Kind() == keystore.KindAsymmetric
	}
	if !fits {
		return awsapi.Errorf("UnsupportedOperationException",
			"WrappingAlgorithm %s with WrappingKeySpec %s is not supported for key material of KeySpec %s.", t.algorithm, t.spec, spec)
	}
	return nil
}

// unwrap returns the material that was wrapped for the key under token. The
// caller wipes it.
func (s *Service) unwrap(ctx context.Context, k *keyFacts, token, wrapped []byte) ([]byte, error) {
	t, handle, ok := parseImportToken(token)
	if !ok {
		return nil, awsapi.Errorf("InvalidImportTokenException", "")
	}
	key, err := s.backend.Open(ctx, t.ref(k), t.spec, handle)
	if errors.Is(err, keystore.ErrInvalidHandle) {
		return nil, awsapi.Errorf("InvalidImportTokenException", "")
	}
	if err != nil {
		return nil, fmt.Errorf("opening a wrapping key: %w", err)
	}
	defer key.Close()
	if micros(s.now()) >= t.ends {
		return nil, awsapi.Errorf("ExpiredImportTokenException", "")
	}
	material, err := keystore.Unwrap(ctx, key, t.algorithm, wrapped)
	return material, cryptoError(err, t.algorithm, t.spec)
}
