package software

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"filippo.io/age"
)

const (
	// minPassphrase is the least number of bytes for a new keyset. scrypt slows
	// guessing down; it does not make short passphrases good.
	minPassphrase = 16
	maxPassphrase = 1024
)

// Passphrase is a root key that a passphrase stands for: the keyset is an age
// file encrypted with scrypt. Opening it takes about a second and 256 MiB, on
// purpose.
type Passphrase struct {
	passphrase string
	workFactor int // log₂ of scrypt's N; 0 is age's default
}

// PassphraseFromEnv takes the passphrase from an environment variable. There is
// no way to give one as an argument, where every user of the machine could read
// it.
func PassphraseFromEnv(name string) (*Passphrase, error) {
	passphrase := os.Getenv(name)
	if passphrase == "" {
		return nil, fmt.Errorf("%w: the environment variable %s is empty or not set", ErrPassphrase, name)
	}
	return newPassphrase(passphrase)
}

// PassphraseFromFile takes the passphrase from a file that only its owner may
// read. One newline at its end does not count.
func PassphraseFromFile(path string) (*Passphrase, error) {
	content, err := readPrivate(path, maxPassphrase+3)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no passphrase file %s", ErrRootKeyMissing, path)
	}
	if err != nil {
		return nil, err
	}
	defer clear(content)
	line := bytes.TrimSuffix(bytes.TrimSuffix(content, []byte("\n")), []byte("\r"))
	if len(line) == 0 {
		return nil, fmt.Errorf("%w: the passphrase file %s is empty", ErrPassphrase, path)
	}
	return newPassphrase(string(line))
}

func newPassphrase(passphrase string) (*Passphrase, error) {
	if len(passphrase) > maxPassphrase {
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrPassphrase, maxPassphrase)
	}
	return &Passphrase{passphrase: passphrase}, nil
}

// Format keeps the passphrase out of logs and error texts, whatever the verb.
func (Passphrase) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[redacted]") }

// Seal implements RootKey. A passphrase of less than 16 bytes is refused.
func (p *Passphrase) Seal(plaintext, associated []byte) ([]byte, error) {
	if len(p.passphrase) < minPassphrase {
		return nil, fmt.Errorf("%w: it protects every key and needs at least %d bytes; five random words are a good one", ErrPassphrase, minPassphrase)
	}
	recipient, err := age.NewScryptRecipient(p.passphrase)
	if err != nil {
		return nil, fmt.Errorf("sealing with passphrase: %w", err)
	}
	if p.workFactor != 0 {
		recipient.SetWorkFactor(p.workFactor)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, recipient)
	if err != nil {
		return nil, fmt.Errorf("sealing with passphrase: %w", err)
	}
	// age has no associated data, so it goes before the plaintext.
	payload := append(fields(string(associated)), plaintext...)
	defer clear(payload)
	if _, err := w.Write(payload); err != nil {
		return nil, fmt.Errorf("sealing with passphrase: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("sealing with passphrase: %w", err)
	}
	return out.Bytes(), nil
}

// Open implements RootKey.
func (p *Passphrase) Open(ciphertext, associated []byte) ([]byte, error) {
	if bytes.HasPrefix(ciphertext, []byte(fileMagic)) {
		return nil, kindError("root key file", "passphrase")
	}
	if !bytes.HasPrefix(ciphertext, []byte(ageMagic)) {
		return nil, ErrKeysetDamaged
	}
	identity, err := age.NewScryptIdentity(p.passphrase)
	if err != nil {
		return nil, fmt.Errorf("opening with passphrase: %w", err)
	}
	r, err := age.Decrypt(bytes.NewReader(ciphertext), identity)
	var noMatch *age.NoIdentityMatchError
	switch {
	case errors.As(err, &noMatch):
		return nil, fmt.Errorf("%w: the passphrase does not fit; give the one the database was made with", ErrRootKeyWrong)
	case err != nil:
		return nil, ErrKeysetDamaged
	}
	payload, err := io.ReadAll(r)
	if err != nil {
		clear(payload)
		return nil, ErrKeysetDamaged
	}
	plaintext, ok := bytes.CutPrefix(payload, fields(string(associated)))
	if !ok {
		clear(payload)
		return nil, ErrKeysetDamaged
	}
	return plaintext, nil
}
