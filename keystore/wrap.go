package keystore

import (
	"context"
	"fmt"

	"github.com/tink-crypto/tink-go/v2/kwp/subtle"
)

// The algorithms by which material is wrapped on its way into a store, by AWS's
// names (AlgorithmSpec): OAEPSHA1 and OAEPSHA256 encrypt the material itself,
// these an AES-256 key of its own, which comes first, and with that, by AES key
// wrap with padding (RFC 5649), the material.
const (
	RSAAESKeyWrapSHA1   = "RSA_AES_KEY_WRAP_SHA_1"
	RSAAESKeyWrapSHA256 = "RSA_AES_KEY_WRAP_SHA_256"
)

// Unwrap returns the material that was wrapped with the public half of key, an
// RSA key. Whatever is wrong with wrapped, and however far it came, the error is
// ErrInvalidCiphertext and nothing else: whoever can try may not learn from it.
// The caller wipes the material.
func Unwrap(ctx context.Context, key Key, alg string, wrapped []byte) ([]byte, error) {
	var oaep string
	switch alg {
	case OAEPSHA1, OAEPSHA256:
		return key.Decrypt(ctx, alg, wrapped, nil)
	case RSAAESKeyWrapSHA1:
		oaep = OAEPSHA1
	case RSAAESKeyWrapSHA256:
		oaep = OAEPSHA256
	default:
		return nil, fmt.Errorf("wrapping algorithm %q: %w", alg, ErrUnsupported)
	}
	size := specs[key.Public().spec].size / 8
	if len(wrapped) < size {
		return nil, ErrInvalidCiphertext
	}
	aesKey, err := key.Decrypt(ctx, oaep, wrapped[:size], nil)
	if err != nil {
		return nil, err
	}
	defer clear(aesKey)
	wrap, err := subtle.NewKWP(aesKey)
	if err != nil {
		return nil, ErrInvalidCiphertext
	}
	material, err := wrap.Unwrap(wrapped[size:])
	if err != nil {
		return nil, ErrInvalidCiphertext
	}
	return material, nil
}
