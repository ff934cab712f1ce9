package kms

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/keystore"
	"github.com/keyturn/keyturn/sqldb"
)

// The states of a key material, AWS's KeyMaterialState. A key has one current
// material, which encrypts; it and the earlier ones decrypt. A pending one does
// neither.
const (
	materialCurrent       = KeyMaterialStateCurrent
	materialNonCurrent    = KeyMaterialStateNonCurrent
	materialPending       = KeyMaterialStatePendingRotation
	materialPendingImport = KeyMaterialStatePendingMultiRegionImportAndRotation
)

// A materialRow is a row of kms_materials without the key that it belongs to:
// the keys of one Multi-Region key have the same materials.
type materialRow struct {
	id           string
	seq          int64
	state        string
	importState  string // of imported material
	description  string
	handle       []byte        // nil: it waits to be imported
	validTo      sql.NullInt64 // µs
	created      int64         // µs
	rotated      int64         // µs, when it became the current one; 0: the first
	rotationType string
	token        string // of the rotation that made it
}

func insertMaterial(tx *sqldb.Tx, keyARN string, m *materialRow) error {
	_, err := tx.Exec(`INSERT INTO kms_materials (key_arn, material_id, seq, state, import_state, description, handle,
			valid_to, created_at, rotated_at, rotation_type, rotation_token)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		keyARN, m.id, m.seq, m.state, m.importState, m.description, m.handle, m.validTo, m.created, m.rotated, m.rotationType, m.token)
	return err
}

// turnMaterial makes a pending material the current one, of the key and of all
// its Multi-Region kin. Each of them must have it, or nothing is stored.
func turnMaterial(tx *sqldb.Tx, account, keyID, materialID, rotationType string, now int64) error {
	const kin = `account = $1 AND key_id = $2 AND state <> 'Destroyed'`
	const ofKin = `key_arn IN (SELECT arn FROM kms_keys WHERE ` + kin + `)`
	if _, err := tx.Exec(`UPDATE kms_materials SET state = 'NON_CURRENT' WHERE `+ofKin+` AND state = 'CURRENT'`, account, keyID); err != nil {
		return err
	}
	turned, err := tx.Exec(`UPDATE kms_materials SET state = 'CURRENT', rotated_at = $4, rotation_type = $5
		WHERE `+ofKin+` AND material_id = $3 AND handle IS NOT NULL AND (valid_to IS NULL OR valid_to > $4)`, account, keyID, materialID, now, rotationType)
	if err != nil {
		return err
	}
	rows, err := tx.Query(`UPDATE kms_keys SET material_id = $3, gen = gen + 1 WHERE `+kin+` RETURNING arn`, account, keyID, materialID)
	if err != nil {
		return err
	}
	defer rows.Close()
	var keys int64
	for rows.Next() {
		var keyARN string
		if err := rows.Scan(&keyARN); err != nil {
			return err
		}
		keys++
		tx.Touch(keyARN)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if keys == 0 || turned != keys {
		return fmt.Errorf("material %s is there for %d of the %d keys %s", materialID, turned, keys, keyID)
	}
	return nil
}

// A material is an opened key, shared by the successive snapshots of its row.
// It is closed by the garbage collector once neither a snapshot nor a request
// refers to it, so that no request ever holds a closed one. Whoever calls the
// key must keep the material alive meanwhile: use do.
type material struct {
	key     keystore.Key
	id      string
	handle  [sha256.Size]byte // of what it was opened from
	validTo int64             // µs; 0: for ever
}

func newMaterial(key keystore.Key, id string, handle [sha256.Size]byte, validTo int64) *material {
	m := &material{key: key, id: id, handle: handle, validTo: validTo}
	runtime.AddCleanup(m, func(k keystore.Key) { k.Close() }, key)
	return m
}

// do runs fn with the material.
func (m *material) do(fn func(keystore.Key) ([]byte, error)) ([]byte, error) {
	out, err := fn(m.key)
	runtime.KeepAlive(m)
	return out, err
}

func expired(validTo, now int64) bool { return validTo != 0 && validTo <= now }

// maxOlder is how many older materials a snapshot keeps open.
const maxOlder = 32

// olderMaterials are materials of a key beside the current one, opened when a
// ciphertext names them. They live no longer than the snapshot: any change of a
// material announces the change of its key.
type olderMaterials struct {
	mu     sync.RWMutex
	opened map[string]*material // by material id; at most maxOlder
}

func (o *olderMaterials) get(id string) *material {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.opened[id]
}

func (o *olderMaterials) put(m *material) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id := range o.opened {
		if len(o.opened) < maxOlder {
			break
		}
		delete(o.opened, id)
	}
	if o.opened == nil {
		o.opened = make(map[string]*material)
	}
	o.opened[m.id] = m
}

// materialOf returns the material of an enabled key that a ciphertext names. It
// costs the same however many materials the key has had.
func (s *Service) materialOf(ctx context.Context, k *keySnapshot, id string) (*material, error) {
	if id == k.materialID {
		return k.material, nil
	}
	m := k.older.get(id)
	if m == nil {
		var err error
		if m, err = s.openMaterial(ctx, k, id); err != nil {
			return nil, err
		}
		k.older.put(m)
	}
	if expired(m.validTo, micros(s.now())) {
		return nil, errPendingImport(k.arn)
	}
	return m, nil
}

// openMaterial opens a material beside the current one. It may have become the
// current one meanwhile, on another node, and have made the ciphertext.
func (s *Service) openMaterial(ctx context.Context, k *keySnapshot, id string) (*material, error) {
	var state string
	var handle []byte
	var validTo sql.NullInt64
	err := s.db.QueryRow(ctx, `SELECT state, handle, valid_to FROM kms_materials WHERE key_arn = $1 AND material_id = $2`, k.arn, id).
		Scan(&state, &handle, &validTo)
	switch {
	case errors.Is(err, sql.ErrNoRows), err == nil && state != materialCurrent && state != materialNonCurrent:
		return nil, awsapi.Errorf("InvalidCiphertextException", "")
	case err != nil:
		return nil, fmt.Errorf("reading material %s of %s: %w", id, k.arn, err)
	case handle == nil:
		return nil, errPendingImport(k.arn)
	}
	key, err := s.backend.Open(ctx, keystore.Ref{Account: k.account, KeyID: k.id, MaterialID: id}, k.spec, handle)
	if err != nil {
		return nil, fmt.Errorf("opening material %s of %s: %w", id, k.arn, err)
	}
	return newMaterial(key, id, sha256.Sum256(handle), validTo.Int64), nil
}

// errPendingImport: the material is not there, or its time is over.
func errPendingImport(keyARN string) error {
	return awsapi.Errorf("KMSInvalidStateException", "%s is pending import.", keyARN)
}
