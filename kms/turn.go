package kms

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/keystore"
	"github.com/keyturn/keyturn/sqldb"
)

// What follows is done to a key whose material turns, by whoever Rotations has
// do it: prepare, prove, turn; or discard. Nobody can call it over the wire. Each
// may be done again after any failure, under the same token, and then changes
// nothing more.

// The errors that the one who turns keys branches on.
var (
	// ErrNotNow: the key is not enabled. Nothing was done; it is to be tried later.
	ErrNotNow = errors.New("the key is not enabled")
	// ErrNoMaterial: key or material are not there, and will not be.
	ErrNoMaterial = errors.New("there is no such material")
)

// turning reads a key whose material is about to turn.
func (s *Service) turning(ctx context.Context, keyARN string) (*keyRow, error) {
	k, err := s.readKey(ctx, keyARN)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, fmt.Errorf("%s: %w", keyARN, ErrNoMaterial)
	case err != nil:
		return nil, err
	case k.state != stateEnabled:
		return nil, fmt.Errorf("%s is in state %s: %w", keyARN, k.state, ErrNotNow)
	}
	return k, nil
}

// CurrentMaterial returns the id of a key's current material, whatever the key's
// state.
func (s *Service) CurrentMaterial(ctx context.Context, keyARN string) (string, error) {
	k, err := s.readKey(ctx, keyARN)
	if errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("%s: %w", keyARN, ErrNoMaterial)
	}
	if err != nil {
		return "", err
	}
	return k.materialID, nil
}

// PrepareMaterial makes the material that the key shall turn to, or finds the
// one that an earlier attempt under token has made. A pending material that is
// there already, imported or left over, is taken: a key has one at most.
func (s *Service) PrepareMaterial(ctx context.Context, keyARN, token string) (materialID string, err error) {
	k, err := s.turning(ctx, keyARN)
	if err != nil {
		return "", err
	}
	err = s.db.QueryRow(ctx, `SELECT material_id FROM kms_materials WHERE key_arn = $1 AND rotation_token = $2`, keyARN, token).Scan(&materialID)
	if err == nil || !errors.Is(err, sql.ErrNoRows) {
		return materialID, err
	}
	m := &materialRow{id: newMaterialID(), state: materialPending, created: micros(s.now()), token: token}
	ref := keystore.Ref{Account: k.account, KeyID: k.id, MaterialID: m.id}
	if k.origin == OriginTypeAwsKms {
		if m.handle, err = s.backend.Generate(ctx, ref, k.spec); err != nil {
			return "", fmt.Errorf("generating %s key material: %w", k.spec, err)
		}
	}
	err = s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := claim(tx, k); err != nil {
			return err
		}
		pending, err := k.pendingMaterial(tx, micros(s.now()))
		if err == nil && pending == "" && k.origin == OriginTypeExternal {
			err = fmt.Errorf("no imported material of %s is pending: %w", keyARN, ErrNoMaterial)
		}
		if err != nil {
			return err
		}
		if pending != "" {
			materialID = pending
			_, err := tx.Exec(`UPDATE kms_materials SET rotation_token = $3 WHERE material_id = $4 AND key_arn IN (SELECT arn FROM kms_keys
				WHERE account = $1 AND key_id = $2)`, k.account, k.id, token, pending)
			return err
		}
		materialID = m.id
		return insertForKin(tx, k, m)
	})
	if err == nil && materialID == m.id {
		return materialID, nil
	}
	// Whoever failed here may have stored it all the same; the next attempt finds
	// it by its token, and the handle in the row must then still be good.
	if err == nil && m.handle != nil {
		err = s.backend.Destroy(context.WithoutCancel(ctx), ref, m.handle)
	}
	return materialID, err
}

// claim fences a change of an enabled key that was read as k.
func claim(tx *sqldb.Tx, k *keyRow) error {
	rows, err := tx.Exec(`UPDATE kms_keys SET gen = gen + 1 WHERE arn = $1 AND gen = $2`, k.arn, k.gen)
	if err == nil && rows == 0 {
		err = sqldb.ErrConflict
	}
	tx.Touch(k.arn)
	return err
}

// pendingMaterial returns the material that waits to become the current one, ""
// if there is none.
func (k *keyRow) pendingMaterial(tx *sqldb.Tx, now int64) (id string, err error) {
	err = tx.QueryRow(`SELECT material_id FROM kms_materials
		WHERE key_arn = $1 AND state = 'PENDING_ROTATION' AND handle IS NOT NULL AND (valid_to IS NULL OR valid_to > $2)`, k.arn, now).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return id, err
}

// insertForKin stores a new material of the key and all its Multi-Region kin.
func insertForKin(tx *sqldb.Tx, k *keyRow, m *materialRow) error {
	rows, err := tx.Query(`SELECT arn FROM kms_keys WHERE account = $1 AND key_id = $2 AND state <> 'Destroyed'`, k.account, k.id)
	if err != nil {
		return err
	}
	defer rows.Close()
	var kin []string
	for rows.Next() {
		var keyARN string
		if err := rows.Scan(&keyARN); err != nil {
			return err
		}
		kin = append(kin, keyARN)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	rows.Close()
	if err := tx.QueryRow(`SELECT MAX(seq) + 1 FROM kms_materials WHERE key_arn = $1`, k.arn).Scan(&m.seq); err != nil {
		return err
	}
	for _, keyARN := range kin {
		if err := insertMaterial(tx, keyARN, m); err != nil {
			return err
		}
	}
	return nil
}

// ProveMaterial shows that the pending material encrypts and decrypts, that the
// current one still does, and that they are not the same.
func (s *Service) ProveMaterial(ctx context.Context, keyARN, materialID string) error {
	k, err := s.turning(ctx, keyARN)
	if err != nil {
		return err
	}
	pending, err := s.openForProof(ctx, k, materialID)
	if err != nil {
		return err
	}
	current, err := s.openForProof(ctx, k, k.materialID)
	if err != nil {
		return err
	}
	blob, err := prove(ctx, pending)
	if err != nil {
		return fmt.Errorf("proving the new material of %s: %w", keyARN, err)
	}
	if _, err := prove(ctx, current); err != nil {
		return fmt.Errorf("proving the present material of %s: %w", keyARN, err)
	}
	if _, err := current.do(func(key keystore.Key) ([]byte, error) {
		return key.Decrypt(ctx, EncryptionAlgorithmSpecSymmetricDefault, blob, nil)
	}); err == nil && materialID != k.materialID {
		return fmt.Errorf("the new material of %s is the present one: %w", keyARN, ErrNoMaterial)
	}
	return nil
}

func (s *Service) openForProof(ctx context.Context, k *keyRow, materialID string) (*material, error) {
	var handle []byte
	err := s.db.QueryRow(ctx, `SELECT handle FROM kms_materials WHERE key_arn = $1 AND material_id = $2`, k.arn, materialID).Scan(&handle)
	if errors.Is(err, sql.ErrNoRows) || err == nil && handle == nil {
		return nil, fmt.Errorf("material %s of %s: %w", materialID, k.arn, ErrNoMaterial)
	}
	if err != nil {
		return nil, fmt.Errorf("reading material %s of %s: %w", materialID, k.arn, err)
	}
	key, err := s.backend.Open(ctx, keystore.Ref{Account: k.account, KeyID: k.id, MaterialID: materialID}, k.spec, handle)
	if err != nil {
		return nil, fmt.Errorf("opening material %s of %s: %w", materialID, k.arn, err)
	}
	return newMaterial(key, materialID, [32]byte{}, 0), nil
}

// prove encrypts something and decrypts it again, and returns the ciphertext.
func prove(ctx context.Context, m *material) ([]byte, error) {
	plaintext := make([]byte, 32)
	rand.Read(plaintext)
	blob, err := m.do(func(key keystore.Key) ([]byte, error) {
		return key.Encrypt(ctx, EncryptionAlgorithmSpecSymmetricDefault, plaintext, nil)
	})
	if err != nil {
		return nil, err
	}
	got, err := m.do(func(key keystore.Key) ([]byte, error) {
		return key.Decrypt(ctx, EncryptionAlgorithmSpecSymmetricDefault, blob, nil)
	})
	if err == nil && string(got) != string(plaintext) {
		err = errors.New("it does not decrypt what it encrypted")
	}
	return blob, err
}

// TurnMaterial makes a prepared material the current one, of the key and all its
// Multi-Region kin, and records that the server did it, as CloudTrail records
// RotateKey. Before the record is durable nothing is done.
func (s *Service) TurnMaterial(ctx context.Context, keyARN, materialID string, onDemand bool) error {
	k, err := s.turning(ctx, keyARN)
	if err != nil {
		return err
	}
	rotationType := RotationTypeAutomatic
	if onDemand {
		rotationType = RotationTypeOnDemand
	}
	e := &access.Event{
		Source: "kms.amazonaws.com", Name: "RotateKey", Region: k.region, Time: s.now(),
		Resource: access.Resource{ARN: k.arn, Account: k.account, Type: typeKey},
		Details:  fmt.Appendf(nil, `{"rotationType":"%s","keyId":"%s","keyMaterialId":"%s"}`, rotationType, k.id, materialID),
	}
	if k.materialID != materialID {
		if err := s.guard.Announce(ctx, e); err != nil {
			return err
		}
		err = s.db.Write(ctx, func(tx *sqldb.Tx) error {
			if err := claim(tx, k); err != nil {
				return err
			}
			var state string
			err := tx.QueryRow(`SELECT state FROM kms_materials WHERE key_arn = $1 AND material_id = $2`, keyARN, materialID).Scan(&state)
			if errors.Is(err, sql.ErrNoRows) || err == nil && state != materialPending {
				return fmt.Errorf("material %s of %s is not pending: %w", materialID, keyARN, ErrNoMaterial)
			}
			if err != nil {
				return err
			}
			return turnMaterial(tx, k.account, k.id, materialID, rotationType, micros(s.now()))
		})
	}
	// At this point the material has turned, or an earlier attempt had turned it
	// and could perhaps not say so.
	return errors.Join(err, s.guard.Conclude(ctx, e, err))
}

// DiscardMaterial removes the pending material that was prepared under token, of
// the key and all its kin. An imported one stays: it was not made here.
func (s *Service) DiscardMaterial(ctx context.Context, keyARN, token string) error {
	k, err := s.readKey(ctx, keyARN)
	if errors.Is(err, sql.ErrNoRows) {
		return nil // and its materials with it
	}
	if err != nil {
		return err
	}
	err = s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := claim(tx, k); err != nil {
			return err
		}
		var id string
		err := tx.QueryRow(`SELECT material_id FROM kms_materials
			WHERE key_arn = $1 AND rotation_token = $2 AND state = 'PENDING_ROTATION' AND import_state = ''`, keyARN, token).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := condemnOfKin(tx, k, id); err != nil {
			return err
		}
		_, err = tx.Exec(`DELETE FROM kms_materials WHERE material_id = $3 AND key_arn IN (SELECT arn FROM kms_keys WHERE account = $1 AND key_id = $2)`,
			k.account, k.id, id)
		return err
	})
	if err == nil {
		s.destroyNow(ctx)
	}
	return err
}
