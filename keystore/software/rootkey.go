package software

import (
	"errors"
	"fmt"
)

// RootKey seals the keyset. Losing it loses every key; whoever has it and the
// database has every key.
type RootKey interface {
	// Seal is called only while the database has no keyset. It may create the
	// root key, which must be durable when it returns.
	Seal(plaintext, associated []byte) ([]byte, error)

	// Open returns what Seal was given. It never creates or changes a root key.
	// Its errors are the ones below.
	Open(ciphertext, associated []byte) ([]byte, error)
}

// What can be wrong with a root key. Each comes with what to do about it, and
// nothing has been changed.
var (
	// ErrRootKeyMissing: there is a keyset but no root key.
	ErrRootKeyMissing = errors.New("the root key is missing")
	// ErrRootKeyWrong: the keyset was sealed by another root key.
	ErrRootKeyWrong = errors.New("the root key is not the one that sealed this database")
	// ErrRootKeyExposed: others than its owner may read the root key.
	ErrRootKeyExposed = errors.New("the root key can be read by others")
	// ErrRootKeyDamaged: the root key file does not hold a root key.
	ErrRootKeyDamaged = errors.New("the root key file is damaged")
	// ErrPassphrase: a passphrase is empty or too short.
	ErrPassphrase = errors.New("unusable passphrase")
)

// The first bytes of a sealed keyset say what sealed it.
const (
	fileMagic = "keyturn root key file v1\n"
	ageMagic  = "age-encryption.org/v1\n"
)

// kindError says that the keyset wants another kind of root key.
func kindError(is, configured string) error {
	return fmt.Errorf("%w: it was sealed by a %s, and a %s is configured; configure the one it was made with", ErrRootKeyWrong, is, configured)
}
