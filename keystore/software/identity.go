package software

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/keyturn/keyturn/keystore"
	"github.com/keyturn/keyturn/sqldb"
)

// Identify implements keystore.Backend. The id is HMAC-SHA-256 over the names of
// key and spec and what tells one material from another, under a key that lies
// sealed in the database: who reads the database cannot try out what the
// material might be.
func (s *Store) Identify(ctx context.Context, ref keystore.Ref, spec keystore.Spec, material []byte) (string, error) {
	material, err := keystore.ImportMaterial(spec, material)
	if err != nil {
		return "", err
	}
	defer clear(material)
	identity, err := keystore.Identity(spec, material)
	if err != nil {
		return "", err
	}
	defer clear(identity)
	key, err := s.identity.get(ctx)
	if err != nil {
		return "", err
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(fields("keyturn material id v1", ref.Account, ref.KeyID, string(spec)))
	mac.Write(identity) // the last field: its length says nothing more
	return hex.EncodeToString(mac.Sum(nil)), nil
}

// identityName is the row of table keysets with the key of material ids. It is
// apart from the keyset that seals, so that ids stay when that one gets new keys.
const (
	identityName = "material id"
	identitySize = 32
)

// identityKey is read, or made, when the first material is imported.
type identityKey struct {
	db   *sqldb.DB
	aead tink.AEAD

	mu  sync.Mutex // guards key
	key []byte
}

func (k *identityKey) get(ctx context.Context) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.key != nil {
		return k.key, nil
	}
	associated := keysetAssociated(identityName)
	sealed, err := readKeyset(ctx, k.db, identityName)
	if errors.Is(err, sql.ErrNoRows) {
		fresh := make([]byte, identitySize)
		defer clear(fresh)
		rand.Read(fresh)
		if sealed, err = k.aead.Encrypt(fresh, associated); err == nil {
			sealed, err = keepKeyset(ctx, k.db, identityName, sealed)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading the key of material ids: %w", err)
	}
	key, err := k.aead.Decrypt(sealed, associated)
	if err != nil || len(key) != identitySize {
		return nil, fmt.Errorf("reading the key of material ids: %w", ErrKeysetDamaged)
	}
	k.key = key
	return key, nil
}
