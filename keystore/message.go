package keystore

import (
	"crypto"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"slices"

	_ "crypto/sha1" // OAEP with SHA-1
)

// MessageType says what the message of Sign and Verify is. "" is RAW, AWS's
// default.
type MessageType string

// The message types, by AWS's names.
const (
	Raw        MessageType = "RAW"         // the message itself, at most MaxMessage bytes
	Digest     MessageType = "DIGEST"      // its digest, by the algorithm's hash function
	ExternalMu MessageType = "EXTERNAL_MU" // the 64-byte μ of FIPS 204, ML-DSA only
)

// MaxMessage is how many bytes Sign, GenerateMac and Encrypt take at most
// (AWS's PlaintextType).
const MaxMessage = 4096

const muSize = 64

// signing is what an algorithm takes.
type signing struct {
	hash  crypto.Hash // 0 where the scheme itself takes the message
	types []MessageType
}

var (
	rawOrDigest = []MessageType{Raw, Digest}
	onlyRaw     = []MessageType{Raw}
	onlyDigest  = []MessageType{Digest}
	rawOrMu     = []MessageType{Raw, ExternalMu}
)

// signings: algorithm name → what it takes. Ed25519ph takes a digest only and
// Ed25519 a message only, as AWS has it.
var signings = map[string]signing{
	PKCS1SHA256: {crypto.SHA256, rawOrDigest},
	PKCS1SHA384: {crypto.SHA384, rawOrDigest},
	PKCS1SHA512: {crypto.SHA512, rawOrDigest},
	PSSSHA256:   {crypto.SHA256, rawOrDigest},
	PSSSHA384:   {crypto.SHA384, rawOrDigest},
	PSSSHA512:   {crypto.SHA512, rawOrDigest},
	ECDSASHA256: {crypto.SHA256, rawOrDigest},
	ECDSASHA384: {crypto.SHA384, rawOrDigest},
	ECDSASHA512: {crypto.SHA512, rawOrDigest},
	Ed25519Pure: {0, onlyRaw},
	Ed25519PH:   {crypto.SHA512, onlyDigest},
	MLDSA:       {0, rawOrMu},
}

// MessageTypes returns the message types a signing algorithm takes. The slice
// is shared: do not change it.
func MessageTypes(alg string) []MessageType { return signings[alg].types }

// Message is a message that may be signed or verified: checked against the
// limits of its algorithm, and hashed where the algorithm hashes.
type Message struct {
	Hash crypto.Hash // of the digest; 0 where Bytes is a message or a μ
	Mu   bool        // Bytes is an external μ
	raw  []byte
	sum  [sha512.Size]byte
}

// Bytes returns what the signing primitive takes: the digest where Hash is not
// 0, else the message or μ itself.
func (m *Message) Bytes() []byte {
	if m.raw != nil {
		return m.raw
	}
	return m.sum[:m.Hash.Size()]
}

// CheckMessage makes a message ready for signing or verifying with a key of
// this spec. ErrUnsupported: the spec has no such signing algorithm.
// ErrMessageType: the algorithm does not take the type. ErrMessageLength: RAW
// of 0 or more than MaxMessage bytes, a DIGEST that is not exactly as long as
// the algorithm's, or an EXTERNAL_MU that is not 64 bytes.
func (s Spec) CheckMessage(alg string, mt MessageType, message []byte) (Message, error) {
	if err := s.Check(SignVerify, alg); err != nil {
		return Message{}, err
	}
	if mt == "" {
		mt = Raw
	}
	a := signings[alg]
	if !slices.Contains(a.types, mt) {
		return Message{}, fmt.Errorf("%w: %s with %s", ErrMessageType, mt, alg)
	}
	switch mt {
	case Digest:
		if len(message) != a.hash.Size() {
			return Message{}, fmt.Errorf("%w: a digest for %s has %d bytes, not %d", ErrMessageLength, alg, a.hash.Size(), len(message))
		}
		return Message{Hash: a.hash, raw: message}, nil
	case ExternalMu:
		if len(message) != muSize {
			return Message{}, fmt.Errorf("%w: an external mu has %d bytes, not %d", ErrMessageLength, muSize, len(message))
		}
		return Message{Mu: true, raw: message}, nil
	}
	if err := checkRaw(message); err != nil {
		return Message{}, err
	}
	m := Message{Hash: a.hash}
	switch a.hash {
	case crypto.SHA256:
		sum := sha256.Sum256(message)
		copy(m.sum[:], sum[:])
	case crypto.SHA384:
		sum := sha512.Sum384(message)
		copy(m.sum[:], sum[:])
	case crypto.SHA512:
		m.sum = sha512.Sum512(message)
	default:
		m.raw = message
	}
	return m, nil
}

func checkRaw(message []byte) error {
	if len(message) < 1 || len(message) > MaxMessage {
		return fmt.Errorf("%w: a message has 1 to %d bytes, not %d", ErrMessageLength, MaxMessage, len(message))
	}
	return nil
}
