package kms

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/keystore"
	"github.com/keyturn/keyturn/sqldb"
)

// DeleteImportedKeyMaterial takes a material from a key, the current one where no
// other is named. The key is pending import afterwards, unless it is pending
// deletion or could do without the material.
func (s *Service) DeleteImportedKeyMaterial(ctx context.Context, call *access.Call, in *DeleteImportedKeyMaterialRequest) (*DeleteImportedKeyMaterialResponse, error) {
	var deleted *materialRow
	k, err := s.change(ctx, call, &request{operation: "DeleteImportedKeyMaterial", keyID: in.KeyId}, func(tx *sqldb.Tx, k *keyRow) error {
		if err := k.importedOnly(); err != nil {
			return err
		}
		id := in.KeyMaterialId
		if id == "" {
			id = k.materialID
		}
		deleted = k.imported(id)
		switch {
		case deleted != nil:
			return loseMaterial(tx, k, deleted)
		case in.KeyMaterialId != "":
			return awsapi.Errorf("NotFoundException", "Key material '%s' is not associated with %s", id, k.arn)
		}
		return nil // nothing was imported yet: no effect
	})
	if err != nil {
		return nil, err
	}
	s.destroyNow(ctx)
	out := &DeleteImportedKeyMaterialResponse{KeyId: k.arn}
	if deleted != nil && k.spec.Kind() == keystore.KindSymmetric {
		out.KeyMaterialId = deleted.id
	}
	return out, nil
}

// loseMaterial takes a material from the key: a permanent one waits to be imported
// again, a pending one was never there, of a primary key for all its kin. The
// caller has changed the key's gen.
func loseMaterial(tx *sqldb.Tx, k *keyRow, m *materialRow) error {
	if m.isPermanent() {
		if err := condemn(tx, k, m.id); err != nil {
			return err
		}
		if err := emptyMaterial(tx, k, m); err != nil {
			return err
		}
		_, err := tx.Exec(`UPDATE kms_keys SET state = $2 WHERE arn = $1`, k.arn, moves("lose material", k.state))
		return err
	}
	if k.multiRegion() && !k.isPrimary() {
		if err := condemn(tx, k, m.id); err != nil {
			return err
		}
		if err := emptyMaterial(tx, k, m); err != nil {
			return err
		}
		return settlePending(tx, k.account, k.id)
	}
	if err := condemnOfKin(tx, k, m.id); err != nil {
		return err
	}
	if err := tellKin(tx, k, `UPDATE kms_keys SET gen = gen + 1 WHERE account = $1 AND key_id = $2`); err != nil {
		return err
	}
	_, err := tx.Exec(`DELETE FROM kms_materials WHERE material_id = $3 AND key_arn IN (SELECT arn FROM kms_keys WHERE account = $1 AND key_id = $2)`,
		k.account, k.id, m.id)
	return err
}

func emptyMaterial(tx *sqldb.Tx, k *keyRow, m *materialRow) error {
	_, err := tx.Exec(`UPDATE kms_materials SET handle = NULL, import_state = $3, valid_to = NULL WHERE key_arn = $1 AND material_id = $2`,
		k.arn, m.id, ImportStatePendingImport)
	return err
}

// condemn puts the handle of a material, if it has one, among those whose material
// the key store shall destroy.
func condemn(tx *sqldb.Tx, k *keyRow, materialID string) error {
	return condemnWhere(tx, k, `key_arn = $1 AND material_id = $2`, k.arn, materialID)
}

func condemnOfKin(tx *sqldb.Tx, k *keyRow, materialID string) error {
	return condemnWhere(tx, k, `key_arn IN (SELECT arn FROM kms_keys WHERE account = $1 AND key_id = $2) AND material_id = $3`, k.account, k.id, materialID)
}

func condemnWhere(tx *sqldb.Tx, k *keyRow, where string, args ...any) error {
	rows, err := tx.Query(`SELECT material_id, handle FROM kms_materials WHERE handle IS NOT NULL AND `+where, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	var all []materialRow
	for rows.Next() {
		var m materialRow
		if err := rows.Scan(&m.id, &m.handle); err != nil {
			return err
		}
		all = append(all, m)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	rows.Close()
	for _, m := range all {
		_, err := tx.Exec(`INSERT INTO kms_condemned (id, account, key_id, material_id, handle) VALUES ($1, $2, $3, $4, $5)`,
			newUUID(), k.account, k.id, m.id, m.handle)
		if err != nil {
			return err
		}
	}
	return nil
}

// destroyNow has the key store destroy what nobody uses any more, at once if it
// can; what it cannot is tried again with the housekeeping.
func (s *Service) destroyNow(ctx context.Context) {
	if _, err := s.destroyCondemned(context.WithoutCancel(ctx)); err != nil {
		s.logger.Error("destroying imported material", "error", err)
	}
}

// condemnedBatch is how many handles one turn destroys.
const condemnedBatch = 100

func (s *Service) destroyCondemned(ctx context.Context) (worked bool, err error) {
	type condemned struct {
		id     string
		ref    keystore.Ref
		handle []byte
	}
	rows, err := s.db.Query(ctx, `SELECT id, account, key_id, material_id, handle FROM kms_condemned ORDER BY id LIMIT $1`, condemnedBatch)
	if err != nil {
		return false, fmt.Errorf("reading condemned material: %w", err)
	}
	defer rows.Close()
	var all []condemned
	for rows.Next() {
		var c condemned
		if err := rows.Scan(&c.id, &c.ref.Account, &c.ref.KeyID, &c.ref.MaterialID, &c.handle); err != nil {
			return false, fmt.Errorf("reading condemned material: %w", err)
		}
		all = append(all, c)
	}
	if err := rows.Err(); err != nil {
		return false, fmt.Errorf("reading condemned material: %w", err)
	}
	rows.Close()
	var errs []error
	for _, c := range all {
		err := s.backend.Destroy(ctx, c.ref, c.handle)
		if err == nil {
			err = s.db.Write(ctx, func(tx *sqldb.Tx) error {
				_, err := tx.Exec(`DELETE FROM kms_condemned WHERE id = $1`, c.id)
				return err
			})
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("destroying material %s of key %s: %w", c.ref.MaterialID, c.ref.KeyID, err))
			continue
		}
		worked = true
	}
	return worked, errors.Join(errs...)
}

const expiredQuery = `SELECT key_arn FROM kms_materials JOIN kms_keys ON arn = key_arn
	WHERE valid_to IS NOT NULL AND valid_to <= $1 AND kms_keys.state <> 'Destroyed' ORDER BY valid_to LIMIT $2`

// expireDue takes from keys the imported material whose time is over. Nobody could
// use it since then: what a key may do is decided by the clock, not by this. So a
// clock that jumps ahead costs no more than another import.
func (s *Service) expireDue(ctx context.Context) (worked bool, err error) {
	// In the order of the index over valid_to: in that of the keys, each look would walk all materials there are.
	rows, err := s.db.Query(ctx, expiredQuery, micros(s.now()), condemnedBatch)
	if err != nil {
		return false, fmt.Errorf("reading expired material: %w", err)
	}
	defer rows.Close()
	var keys []string
	for rows.Next() {
		var keyARN string
		if err := rows.Scan(&keyARN); err != nil {
			return false, fmt.Errorf("reading expired material: %w", err)
		}
		if !slices.Contains(keys, keyARN) {
			keys = append(keys, keyARN)
		}
	}
	if err := rows.Err(); err != nil {
		return false, fmt.Errorf("reading expired material: %w", err)
	}
	rows.Close()
	var errs []error
	for _, keyARN := range keys {
		if err := s.expire(ctx, keyARN); err != nil {
			errs = append(errs, fmt.Errorf("expiring material of %s: %w", keyARN, err))
			continue
		}
		worked = true
	}
	return worked, errors.Join(errs...)
}

// expire takes from one key all that has expired.
func (s *Service) expire(ctx context.Context, keyARN string) error {
	for range attempts {
		k, err := s.readKey(ctx, keyARN)
		if err != nil {
			return err
		}
		now := micros(s.now())
		i := slices.IndexFunc(k.imports, func(m *materialRow) bool { return expired(m.validTo.Int64, now) })
		if i < 0 {
			return nil
		}
		if err := s.expireMaterial(ctx, k, k.imports[i]); err != nil && !errors.Is(err, sqldb.ErrConflict) {
			return err
		}
	}
	return nil // the next turn goes on
}

// expireMaterial takes one material, and records it as CloudTrail does. Before the
// record is durable nothing is done.
func (s *Service) expireMaterial(ctx context.Context, k *keyRow, m *materialRow) error {
	e := &access.Event{
		Source: "kms.amazonaws.com", Name: "DeleteExpiredKeyMaterial", Region: k.region, Time: s.now(),
		Resource: access.Resource{ARN: k.arn, Account: k.account, Type: typeKey},
		Details:  fmt.Appendf(nil, `{"keyId":"%s","keyMaterialId":"%s"}`, k.id, m.id),
	}
	if err := s.guard.Announce(ctx, e); err != nil {
		return err
	}
	err := s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := claim(tx, k); err != nil {
			return err
		}
		return loseMaterial(tx, k, m)
	})
	if err == nil {
		s.logger.Info("imported key material expired", "key", k.arn, "material", m.id)
	}
	return errors.Join(err, s.guard.Conclude(ctx, e, err))
}
