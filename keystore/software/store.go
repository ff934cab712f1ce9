// Package software is the key store that keeps key material in the database,
// sealed.
//
// It promises that the database alone reveals nothing: material is sealed with
// AES-256-GCM before it leaves this package, and what opens it, a Tink keyset in
// table keysets, is itself sealed by the root key, which never is in the
// database. The associated data of every sealed value names its row, so that
// whoever can write to the database can destroy keys but cannot put one key's
// material in another key's place.
//
// It trusts the process: keys in use are in memory, and whoever can read the
// memory of this process, or the root key and the database, has them all.
//
// It fails closed and changes nothing when the root key is missing, wrong, or
// readable by others, or when a keyset is damaged; each has its own error, with
// what to do. A lost root key cannot be replaced: what it sealed is gone.
package software

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/keyturn/keyturn/keystore"
	"github.com/keyturn/keyturn/sqldb"
)

// keysetName is the row of table keysets that seals.
const keysetName = "store"

// ErrKeysetDamaged: the root key is the right one, but what it sealed was
// altered.
var ErrKeysetDamaged = errors.New("the keyset in the database is damaged; restore the database from a backup")

// Store is a keystore.Backend. It is safe for concurrent use.
type Store struct {
	aead     tink.AEAD
	pool     *pool
	identity identityKey
}

var _ keystore.Backend = (*Store)(nil)

// Open opens the store in db with root. In a database without a keyset it makes
// one, sealed by root, which may create the root key; otherwise root only opens
// what is there, and nothing is written. Several nodes may open a new database
// at once: one keyset stays. The caller closes the store, and may forget root.
func Open(ctx context.Context, db *sqldb.DB, root RootKey) (*Store, error) {
	sealed, err := readKeyset(ctx, db, keysetName)
	if errors.Is(err, sql.ErrNoRows) {
		sealed, err = createKeyset(ctx, db, root)
	}
	if err != nil {
		return nil, fmt.Errorf("opening key store: %w", err)
	}
	plaintext, err := root.Open(sealed, keysetAssociated(keysetName))
	if err != nil {
		return nil, fmt.Errorf("opening key store: %w", err)
	}
	defer clear(plaintext)
	handle, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(plaintext)))
	if err != nil {
		return nil, fmt.Errorf("opening key store: %w", ErrKeysetDamaged)
	}
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("opening key store: %w", ErrKeysetDamaged)
	}
	return &Store{aead: primitive, pool: newPool(), identity: identityKey{db: db, aead: primitive}}, nil
}

// readKeyset returns a sealed keyset, and sql.ErrNoRows when there is none.
func readKeyset(ctx context.Context, db *sqldb.DB, name string) ([]byte, error) {
	var sealed []byte
	err := db.QueryRow(ctx, `SELECT sealed FROM keysets WHERE name = $1`, name).Scan(&sealed)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("reading keyset: %w", err)
	}
	return sealed, err
}

// createKeyset makes a keyset and returns the one that is in the database
// afterwards: ours, or that of a node that was faster.
func createKeyset(ctx context.Context, db *sqldb.DB, root RootKey) ([]byte, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("generating keyset: %w", err)
	}
	var plaintext bytes.Buffer
	defer func() { clear(plaintext.Bytes()) }()
	if err := insecurecleartextkeyset.Write(handle, keyset.NewBinaryWriter(&plaintext)); err != nil {
		return nil, fmt.Errorf("generating keyset: %w", err)
	}
	// When Seal returns, the root key is durable. So a crash leaves a root key
	// without a keyset, which the next start uses, and never the reverse.
	sealed, err := root.Seal(plaintext.Bytes(), keysetAssociated(keysetName))
	if err != nil {
		return nil, fmt.Errorf("sealing keyset: %w", err)
	}
	return keepKeyset(ctx, db, keysetName, sealed)
}

// keepKeyset stores a sealed keyset unless another node was faster, and returns
// the one that stays.
func keepKeyset(ctx context.Context, db *sqldb.DB, name string, sealed []byte) ([]byte, error) {
	err := db.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(`INSERT INTO keysets (name, sealed, created_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING`,
			name, sealed, time.Now().UTC().UnixMicro())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("storing keyset: %w", err)
	}
	return readKeyset(ctx, db, name)
}

// Close ends key generation and wipes the keys made ahead. It waits up to a
// second for a key that is being made; one that takes longer is wiped when it is
// there. Keys that were opened stay usable until they are closed themselves.
func (s *Store) Close() { s.pool.close() }

// Generate implements keystore.Backend. The handle is the sealed material.
func (s *Store) Generate(ctx context.Context, ref keystore.Ref, spec keystore.Spec) ([]byte, error) {
	material, err := s.generate(ctx, spec)
	if err != nil {
		return nil, err
	}
	defer clear(material)
	return s.seal(ref, spec, material)
}

// Import implements keystore.Backend.
func (s *Store) Import(_ context.Context, ref keystore.Ref, spec keystore.Spec, material []byte) ([]byte, error) {
	material, err := keystore.ImportMaterial(spec, material)
	if err != nil {
		return nil, err
	}
	defer clear(material)
	return s.seal(ref, spec, material)
}

func (s *Store) seal(ref keystore.Ref, spec keystore.Spec, material []byte) ([]byte, error) {
	handle, err := s.aead.Encrypt(material, materialAssociated(ref, spec))
	if err != nil {
		return nil, fmt.Errorf("sealing key material: %w", err)
	}
	return handle, nil
}

// GeneratePair implements keystore.Backend. RSA pairs come from those made ahead.
func (s *Store) GeneratePair(ctx context.Context, spec keystore.Spec) ([]byte, *keystore.PublicKey, error) {
	if spec.Kind() != keystore.KindAsymmetric {
		return nil, nil, fmt.Errorf("a key pair of spec %q: %w", spec, keystore.ErrUnsupported)
	}
	private, err := s.generate(ctx, spec)
	if err != nil {
		return nil, nil, err
	}
	key, err := keystore.NewKey(spec, private)
	if err != nil {
		clear(private)
		return nil, nil, err
	}
	defer key.Close()
	return private, key.Public(), nil
}

func (s *Store) generate(ctx context.Context, spec keystore.Spec) ([]byte, error) {
	switch spec {
	case keystore.RSA2048, keystore.RSA3072, keystore.RSA4096:
		return s.pool.take(ctx, spec)
	}
	return keystore.GenerateMaterial(spec)
}

// Open implements keystore.Backend.
func (s *Store) Open(_ context.Context, ref keystore.Ref, spec keystore.Spec, handle []byte) (keystore.Key, error) {
	material, err := s.aead.Decrypt(handle, materialAssociated(ref, spec))
	if err != nil {
		return nil, keystore.ErrInvalidHandle
	}
	defer clear(material)
	return keystore.NewKey(spec, material)
}

// Destroy implements keystore.Backend. The store keeps nothing beside the
// handle: the material is gone when the caller has deleted that.
func (s *Store) Destroy(context.Context, keystore.Ref, []byte) error { return nil }

// Sealer seals secrets that are not key material, such as access keys. What one
// purpose sealed, no other opens, nor does Open take it for key material.
func (s *Store) Sealer(purpose string) Sealer { return Sealer{aead: s.aead, purpose: purpose} }

// Sealer seals values for one purpose. It is safe for concurrent use.
type Sealer struct {
	aead    tink.AEAD
	purpose string
}

// Seal encrypts plaintext and binds it to associated, which names its row.
func (s Sealer) Seal(plaintext, associated []byte) ([]byte, error) {
	sealed, err := s.aead.Encrypt(plaintext, s.associated(associated))
	if err != nil {
		return nil, fmt.Errorf("sealing for %s: %w", s.purpose, err)
	}
	return sealed, nil
}

// Open returns what Seal was given. It fails when ciphertext was altered, or
// sealed for another purpose or row.
func (s Sealer) Open(ciphertext, associated []byte) ([]byte, error) {
	plaintext, err := s.aead.Decrypt(ciphertext, s.associated(associated))
	if err != nil {
		return nil, fmt.Errorf("opening what was sealed for %s: it was altered, or belongs to another row", s.purpose)
	}
	return plaintext, nil
}

func (s Sealer) associated(associated []byte) []byte {
	return fields("keyturn sealed v1", s.purpose, string(associated))
}

func materialAssociated(ref keystore.Ref, spec keystore.Spec) []byte {
	return fields("keyturn material v1", ref.Account, ref.KeyID, ref.MaterialID, string(spec))
}

func keysetAssociated(name string) []byte { return fields("keyturn keyset v1", name) }

// fields joins values so that no two lists give the same bytes: each has its
// length before it.
func fields(values ...string) []byte {
	var b []byte
	for _, v := range values {
		b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
		b = append(b, v...)
	}
	return b
}
