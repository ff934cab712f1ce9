package software

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// A keyset sealed by a file:
//
//	fileMagic | fingerprint (8) | nonce (12) | AES-256-GCM ciphertext | tag (16)
//
// Both the encryption key and the fingerprint are derived from the file's 32
// bytes with HKDF. The fingerprint tells a wrong root key from a damaged keyset.
const (
	rootKeySize     = 32
	fingerprintSize = 8
)

type rootKeyFile struct{ path string }

// RootKeyFile is a root key of 32 random bytes in the file at path, which only
// its owner may read. The file is read when the store is opened and its content
// forgotten afterwards; it is made, with mode 0600, when the database has no
// keyset and the file does not exist.
func RootKeyFile(path string) RootKey { return rootKeyFile{path} }

func (f rootKeyFile) Seal(plaintext, associated []byte) ([]byte, error) {
	key, err := f.read()
	if errors.Is(err, ErrRootKeyMissing) {
		key, err = f.create()
	}
	if err != nil {
		return nil, err
	}
	defer clear(key)
	gcm, fingerprint, err := fileCipher(key)
	if err != nil {
		return nil, err
	}
	out := append([]byte(fileMagic), fingerprint...)
	return gcm.Seal(out, nil, plaintext, associated), nil
}

func (f rootKeyFile) Open(ciphertext, associated []byte) ([]byte, error) {
	if bytes.HasPrefix(ciphertext, []byte(ageMagic)) {
		return nil, kindError("passphrase", "root key file")
	}
	sealed, ok := bytes.CutPrefix(ciphertext, []byte(fileMagic))
	if !ok || len(sealed) < fingerprintSize {
		return nil, ErrKeysetDamaged
	}
	key, err := f.read()
	if err != nil {
		return nil, err
	}
	defer clear(key)
	gcm, fingerprint, err := fileCipher(key)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(fingerprint, sealed[:fingerprintSize]) {
		return nil, fmt.Errorf("%w: the database was sealed by root key %x, and %s holds root key %x; put the right file there",
			ErrRootKeyWrong, sealed[:fingerprintSize], f.path, fingerprint)
	}
	plaintext, err := gcm.Open(nil, nil, sealed[fingerprintSize:], associated)
	if err != nil {
		return nil, ErrKeysetDamaged
	}
	return plaintext, nil
}

func (f rootKeyFile) read() ([]byte, error) {
	key, err := readPrivate(f.path, rootKeySize+1)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: there is no file %s; put the root key of this database there", ErrRootKeyMissing, f.path)
	case err != nil:
		return nil, err
	case len(key) != rootKeySize:
		clear(key)
		return nil, fmt.Errorf("%w: %s must hold exactly %d bytes; restore it from its backup, "+
			"or, only where no key was ever made with it, delete it", ErrRootKeyDamaged, f.path, rootKeySize)
	}
	return key, nil
}

// create makes the file. When it returns, the file and its name are durable.
func (f rootKeyFile) create() (key []byte, err error) {
	key = make([]byte, rootKeySize)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("creating root key: %w", err)
	}
	// O_EXCL: another process may be here at the same moment.
	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("creating root key: %w", err)
	}
	_, err = file.Write(key)
	if err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = syncDirectory(filepath.Dir(f.path))
	}
	if err != nil {
		// The file is ours and has sealed nothing.
		_ = os.Remove(f.path)
		return nil, fmt.Errorf("creating root key: %w", err)
	}
	return key, nil
}

func syncDirectory(path string) error {
	if runtime.GOOS == "windows" { // which cannot sync a directory
		return nil
	}
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	err = dir.Sync()
	if closeErr := dir.Close(); err == nil {
		err = closeErr
	}
	return err
}

// readPrivate reads up to limit bytes of a file that nobody but its owner may
// read or write. A symbolic link is followed: what counts is the file behind it.
func readPrivate(path string, limit int64) ([]byte, error) {
	// Refuse pipes and devices before opening them, which could block for ever.
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("reading %s: not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading root key: %w", err)
	}
	defer file.Close()
	info, err := file.Stat() // of what was opened, not of the name
	if err != nil {
		return nil, fmt.Errorf("reading root key: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("%w: %s has mode %04o; run: chmod 600 %s", ErrRootKeyExposed, path, mode, path)
	}
	content := make([]byte, limit)
	n, err := io.ReadFull(file, content)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("reading root key: %w", err)
	}
	return content[:n], nil
}

// fileCipher derives what a root key encrypts with, and its fingerprint.
func fileCipher(key []byte) (cipher.AEAD, []byte, error) {
	derived, err := hkdf.Expand(sha256.New, key, "keyturn root key: seal keysets", 32)
	if err != nil {
		return nil, nil, fmt.Errorf("deriving from root key: %w", err)
	}
	defer clear(derived)
	fingerprint, err := hkdf.Expand(sha256.New, key, "keyturn root key: fingerprint", fingerprintSize)
	if err != nil {
		return nil, nil, fmt.Errorf("deriving from root key: %w", err)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, nil, fmt.Errorf("deriving from root key: %w", err)
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, nil, fmt.Errorf("deriving from root key: %w", err)
	}
	return gcm, fingerprint, nil
}
