// Package keystore is where key material lives and works.
//
// It promises that a key never leaves its store: callers generate, open and use
// keys through [Backend] and [Key], and what they hold between calls is a handle
// that is worthless anywhere but in its own row. It holds the one table of what
// each key spec can do ([Spec]), the public halves ([PublicKey], which any
// backend's keys share), and the cryptography of keys held in this process
// ([NewKey]), which the software store builds on.
//
// It trusts the standard library for RSA, ECDSA, ECDH, Ed25519, HMAC, AES-GCM
// and ML-KEM-768/1024, filippo.io/mldsa for ML-DSA, cloudflare/circl for
// ML-KEM-512, decred's secp256k1, and Tink for AES key wrap.
//
// It fails closed: an algorithm, message type or length that AWS does not
// document for a spec is refused before any key is touched, every way in which a
// ciphertext or a signature can be wrong is the same error, and no error text
// holds key material, plaintext or message.
package keystore

import (
	"context"
	"errors"
)

// Ref names the database row that a key material belongs to. Stores bind it to
// what they seal, so that a handle copied to another row does not open.
type Ref struct {
	Account    string // twelve digits
	KeyID      string // the KMS key id
	MaterialID string // the key material id within the key
}

// Backend makes and opens key material. A backend is safe for concurrent use,
// by several nodes on one database too.
type Backend interface {
	// Generate makes new key material of spec for the row ref. The handle is
	// opaque and may be stored in the clear; it opens for the same ref and spec
	// only. Nothing is remembered when Generate fails; a handle that the caller
	// loses must not cost more than the room it takes. Generate respects ctx
	// where making a key takes long. A spec the backend cannot hold is
	// ErrUnsupported.
	Generate(ctx context.Context, ref Ref, spec Spec) (handle []byte, err error)

	// GeneratePair makes a key pair of an asymmetric spec that leaves the store
	// at once and of which it keeps nothing: a data key pair. private has the
	// form of [GenerateMaterial], and the caller wipes it. It respects ctx as
	// Generate does. A spec without a public half is ErrUnsupported.
	GeneratePair(ctx context.Context, spec Spec) (private []byte, public *PublicKey, err error)

	// Import is Generate with material that was made elsewhere, in any form that
	// [ImportMaterial] takes; what that refuses is ErrInvalidMaterial, or
	// ErrUnsupported for a spec of which none may be imported. The material is
	// neither kept nor changed: the caller wipes it.
	Import(ctx context.Context, ref Ref, spec Spec, material []byte) (handle []byte, err error)

	// Identify returns the material id of material that is to be imported for the
	// key of ref, whose MaterialID it does not look at: 64 hex digits, the same
	// whenever the same material comes to the same key, on every node and in
	// whatever form. Who does not hold the store's secrets learns nothing about
	// the material from it, even if he can guess what it is. Errors are Import's.
	Identify(ctx context.Context, ref Ref, spec Spec, material []byte) (materialID string, err error)

	// Open parses the material behind handle and returns it ready for use, so
	// that operations on it do no parsing. A handle that was altered, or that
	// belongs to another ref or spec, is ErrInvalidHandle.
	Open(ctx context.Context, ref Ref, spec Spec, handle []byte) (Key, error)

	// Destroy removes what the backend itself keeps of the material, for good.
	// Destroying what is already gone is not an error.
	Destroy(ctx context.Context, ref Ref, handle []byte) error
}

// Key is opened key material. It is safe for concurrent use until Close. What
// the spec cannot do is ErrUnsupported; which of its usages a KMS key was given
// is the caller's business. Arguments are neither kept nor changed; results
// belong to the caller.
type Key interface {
	// Public returns the public half, and nil for symmetric and HMAC keys. It
	// stays valid after Close.
	Public() *PublicKey

	// Sign signs message as AWS KMS Sign does: ECDSA signatures are DER
	// (RFC 3279), RSA-PSS salts are as long as the digest, Ed25519 and ML-DSA
	// signatures are raw with an empty context. See [Spec.CheckMessage] for what
	// is refused.
	Sign(ctx context.Context, alg string, mt MessageType, message []byte) ([]byte, error)

	// Encrypt encrypts 1 to [Spec.MaxPlaintext] bytes. aad, which may be empty,
	// is bound to the ciphertext of symmetric keys; RSA takes none.
	Encrypt(ctx context.Context, alg string, plaintext, aad []byte) ([]byte, error)

	// Decrypt undoes Encrypt. Whatever is wrong with ciphertext or aad,
	// the error is ErrInvalidCiphertext.
	Decrypt(ctx context.Context, alg string, ciphertext, aad []byte) ([]byte, error)

	// MAC returns the HMAC of 1 to 4096 bytes. Compare in constant time.
	MAC(ctx context.Context, alg string, message []byte) ([]byte, error)

	// Derive returns the raw ECDH shared secret (the x coordinate, RFC 6090
	// section 4) with peer, whose spec must be this key's; any other peer is
	// ErrInvalidPublicKey.
	Derive(ctx context.Context, alg string, peer *PublicKey) ([]byte, error)

	// Decapsulate returns the shared secret in an ML-KEM ciphertext. A
	// ciphertext of the wrong length is ErrInvalidCiphertext; one of the right
	// length that was altered gives another secret, by FIPS 203's design.
	Decapsulate(ctx context.Context, alg string, ciphertext []byte) ([]byte, error)

	// Close wipes what can be wiped. The caller has waited for all operations
	// on the key to end, and starts no other.
	Close()
}

// The errors a caller branches on. They come wrapped, with a text that names
// algorithms and lengths and is safe to show to the caller of the API.
var (
	// ErrUnsupported: the spec does not have this operation or algorithm.
	ErrUnsupported = errors.New("not supported by the key spec")
	// ErrMessageType: the algorithm does not take messages of this type.
	ErrMessageType = errors.New("message type not supported by the algorithm")
	// ErrMessageLength: a message, digest or plaintext of a length that the
	// algorithm does not take.
	ErrMessageLength = errors.New("invalid length for the algorithm")
	// ErrInvalidSignature: the signature is not one of this message by this key.
	ErrInvalidSignature = errors.New("invalid signature")
	// ErrInvalidCiphertext: the ciphertext was not made by this key with this
	// algorithm and associated data, or was altered.
	ErrInvalidCiphertext = errors.New("invalid ciphertext")
	// ErrInvalidPublicKey: not a DER SubjectPublicKeyInfo of a spec in the table,
	// or a peer of the wrong spec.
	ErrInvalidPublicKey = errors.New("invalid public key")
	// ErrInvalidMaterial: material that was made elsewhere is not a key of the
	// spec, contradicts itself or is weak.
	ErrInvalidMaterial = errors.New("invalid key material")
	// ErrInvalidHandle: the handle was altered or belongs to another row.
	ErrInvalidHandle = errors.New("key material does not belong to this key or was altered")
)
