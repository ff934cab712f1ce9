package kms

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/keystore"
	"github.com/keyturn/keyturn/sqldb"
)

// A key with imported material (Origin EXTERNAL) has one material, or, if it is
// symmetric, the first one and one more for each rotation. Which they are is
// settled when they come the first time; they may go (deleted, or expired) and
// come again, as often as one likes, and the key works while all are there.
//
//	           the first import                RotateKeyOnDemand
//	nothing ───────────────────▶ CURRENT ─────────────────────────▶ NON_CURRENT
//	                                ▲
//	          NEW_KEY_MATERIAL      │ RotateKeyOnDemand
//	nothing ───────────────────▶ PENDING_ROTATION ─▶ nothing, when it is deleted or expires
//
// Of a Multi-Region key the primary key decides which materials there are; each
// kin gets its own import of each. A pending one waits in state
// PENDING_MULTI_REGION_IMPORT_AND_ROTATION until all kin have it.

// maxImportLife is how far in the future a material may expire.
const maxImportLife = 365 * 24 * time.Hour

// takesMaterial says whether material may be imported into the key now.
func (k *keyRow) takesMaterial(operation string) error {
	if err := k.importedOnly(); err != nil {
		return err
	}
	return checkState(operation, k.arn, k.state)
}

func (k *keyRow) importedOnly() error {
	if k.origin == OriginTypeExternal {
		return nil
	}
	return awsapi.Errorf("UnsupportedOperationException", "%s origin is %s which is not valid for this operation.", k.arn, k.origin)
}

// isPermanent reports whether the key cannot do without the material.
func (m *materialRow) isPermanent() bool {
	return m.state == materialCurrent || m.state == materialNonCurrent
}

func (m *materialRow) isThere() bool { return m.importState == ImportStateImported }

// readImports reads the materials of a key with imported material, in the order
// in which they came, and finds out when the key stops working by itself. What has
// expired is not there any more, and a key that lacks material that it needs is
// pending import, whether or not the rows say so yet.
func (s *Service) readImports(ctx context.Context, k *keyRow) error {
	rows, err := s.db.Query(ctx, `SELECT material_id, seq, state, import_state, description, valid_to FROM kms_materials
		WHERE key_arn = $1 ORDER BY seq`, k.arn)
	if err != nil {
		return fmt.Errorf("reading the materials of %s: %w", k.arn, err)
	}
	defer rows.Close()
	k.imports, k.usableTo = nil, 0
	now := micros(s.now())
	for rows.Next() {
		var m materialRow
		if err := rows.Scan(&m.id, &m.seq, &m.state, &m.importState, &m.description, &m.validTo); err != nil {
			return fmt.Errorf("reading the materials of %s: %w", k.arn, err)
		}
		if expired(m.validTo.Int64, now) {
			m.importState = ImportStatePendingImport
		}
		k.imports = append(k.imports, &m)
		if m.isPermanent() && m.isThere() && m.validTo.Valid && (k.usableTo == 0 || m.validTo.Int64 < k.usableTo) {
			k.usableTo = m.validTo.Int64
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("reading the materials of %s: %w", k.arn, err)
	}
	if (k.state == stateEnabled || k.state == stateDisabled) && !k.whole() {
		k.state = statePendingImport
	}
	return nil
}

// whole reports whether all materials that the key cannot do without are there.
func (k *keyRow) whole() bool {
	if k.origin != OriginTypeExternal {
		return true
	}
	return k.materialID != "" && !slices.ContainsFunc(k.imports, func(m *materialRow) bool { return m.isPermanent() && !m.isThere() })
}

// describeImports adds to the metadata of a key with imported material whether and
// when that expires. There is nothing to say while none is there.
func (k *keyRow) describeImports(m *KeyMetadata) {
	if !slices.ContainsFunc(k.imports, func(i *materialRow) bool { return i.isPermanent() && i.isThere() }) {
		return
	}
	m.ExpirationModel = ExpirationModelTypeKeyMaterialDoesNotExpire
	if k.usableTo != 0 {
		m.ExpirationModel, m.ValidTo = ExpirationModelTypeKeyMaterialExpires, timestamp(k.usableTo)
	}
}

func (k *keyRow) imported(id string) *materialRow {
	for _, m := range k.imports {
		if m.id == id {
			return m
		}
	}
	return nil
}

// An importation is what ImportKeyMaterial asks for, checked as far as that needs
// no key.
type importation struct {
	*ImportKeyMaterialRequest
	validTo int64 // µs; 0: for ever
}

func newImportation(in *ImportKeyMaterialRequest, now time.Time) (*importation, error) {
	refuse := func(message string) (*importation, error) {
		return nil, awsapi.Errorf("ValidationException", "%s", message)
	}
	i := &importation{ImportKeyMaterialRequest: in}
	switch expires := in.ExpirationModel != ExpirationModelTypeKeyMaterialDoesNotExpire; {
	case expires && in.ValidTo == nil:
		return refuse("A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES")
	case !expires && in.ValidTo != nil:
		return refuse("A validTo date must not be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE")
	case expires && !in.ValidTo.After(now):
		return refuse("The validTo date must be in the future")
	case expires && in.ValidTo.After(now.Add(maxImportLife)):
		return refuse("The validTo date must be at most 365 days in the future")
	case expires:
		i.validTo = micros(in.ValidTo.Time)
	}
	if in.ImportType == ImportTypeNewKeyMaterial && in.KeyMaterialId != "" {
		return refuse("You cannot specify KeyMaterialId with an ImportType of NEW_KEY_MATERIAL")
	}
	return i, nil
}

// ImportKeyMaterial gives a key of origin EXTERNAL material that was made
// elsewhere and wrapped under a key of GetParametersForImport; or gives it again
// what it had before, with another expiry if one likes. Whatever fails before the
// material is understood is one of the exceptions for tokens and ciphertexts, and
// tells nothing more.
func (s *Service) ImportKeyMaterial(ctx context.Context, call *access.Call, in *ImportKeyMaterialRequest) (*ImportKeyMaterialResponse, error) {
	n, err := parseKeyName(call, in.KeyId)
	if err != nil {
		return nil, err
	}
	i, err := newImportation(in, s.now())
	if err != nil {
		return nil, err
	}
	r := &request{operation: "ImportKeyMaterial", keyID: in.KeyId, expirationModel: in.ExpirationModel, validTo: i.validTo}
	for range attempts {
		var k *keyRow
		if k, err = s.findKey(ctx, call, r, n); err != nil {
			return nil, err
		}
		var m *materialRow
		if m, err = s.importMaterial(ctx, k, i); errors.Is(err, sqldb.ErrConflict) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s.destroyNow(ctx)
		out := &ImportKeyMaterialResponse{KeyId: k.arn}
		if k.spec.Kind() == keystore.KindSymmetric {
			out.KeyMaterialId = m.id
		}
		return out, nil
	}
	return nil, fmt.Errorf("importing material into %s: %w", n.arn(), err)
}

// importMaterial is one attempt; sqldb.ErrConflict when the key changed meanwhile.
func (s *Service) importMaterial(ctx context.Context, k *keyRow, i *importation) (*materialRow, error) {
	if err := k.takesMaterial("ImportKeyMaterial"); err != nil {
		return nil, err
	}
	if k.spec.Kind() != keystore.KindSymmetric && (i.ImportType != "" || i.KeyMaterialId != "" || i.KeyMaterialDescription != "") {
		return nil, awsapi.Errorf("UnsupportedOperationException",
			"ImportType, KeyMaterialId and KeyMaterialDescription are supported for symmetric encryption keys only; %s is not one.", k.arn)
	}
	plaintext, err := s.unwrap(ctx, &k.keyFacts, i.ImportToken, i.EncryptedKeyMaterial)
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	id, err := s.backend.Identify(ctx, keystore.Ref{Account: k.account, KeyID: k.id}, k.spec, plaintext)
	if errors.Is(err, keystore.ErrInvalidMaterial) {
		return nil, awsapi.Errorf("IncorrectKeyMaterialException", "%s", err)
	}
	if err != nil {
		return nil, fmt.Errorf("identifying imported material: %w", err)
	}
	m, err := k.place(id, i, micros(s.now()))
	if err != nil {
		return nil, err
	}
	m.handle, err = s.backend.Import(ctx, keystore.Ref{Account: k.account, KeyID: k.id, MaterialID: id}, k.spec, plaintext)
	if err != nil {
		return nil, fmt.Errorf("importing material: %w", err)
	}
	if err := s.db.Write(ctx, func(tx *sqldb.Tx) error { return storeImport(tx, k, m) }); err != nil {
		s.discard(context.WithoutCancel(ctx), k, id, m.handle)
		return nil, err
	}
	return m, nil
}

// place returns the row that the material with the id takes among those of the
// key: the one it had before, or a new one.
func (k *keyRow) place(id string, i *importation, now int64) (*materialRow, error) {
	incorrect := func(format string, a ...any) (*materialRow, error) {
		return nil, awsapi.Errorf("IncorrectKeyMaterialException", format, a...)
	}
	before := k.imported(id)
	fresh := i.ImportType == ImportTypeNewKeyMaterial || i.ImportType == "" && len(k.imports) == 0
	switch {
	case fresh && before != nil:
		return incorrect("The key material is associated with %s already.", k.arn)
	case fresh && k.multiRegion() && !k.isPrimary():
		return nil, awsapi.Errorf("UnsupportedOperationException",
			"New key material of a multi-Region key is imported into its primary key first; %s is a replica key.", k.arn)
	case fresh && slices.ContainsFunc(k.imports, func(m *materialRow) bool { return !m.isPermanent() }):
		return nil, awsapi.Errorf("KMSInvalidStateException", "%s has key material that is pending rotation already.", k.arn)
	case !fresh && before == nil:
		return incorrect("The key material is not associated with %s.", k.arn)
	case !fresh && i.KeyMaterialId != "" && i.KeyMaterialId != id:
		return incorrect("The key material is not the one with the id %s.", i.KeyMaterialId)
	}
	m := &materialRow{id: id, seq: 1, state: materialCurrent, created: now}
	switch {
	case before != nil:
		*m = *before
	case len(k.imports) > 0:
		m.seq, m.state = k.imports[len(k.imports)-1].seq+1, materialPending
	}
	m.importState = ImportStateImported
	m.validTo.Int64, m.validTo.Valid = i.validTo, i.validTo != 0
	if i.KeyMaterialDescription != "" {
		m.description = i.KeyMaterialDescription
	}
	return m, nil
}

// storeImport stores material that came, and what follows from it for the key;
// sqldb.ErrConflict when the key changed since it was read.
func storeImport(tx *sqldb.Tx, k *keyRow, m *materialRow) error {
	if err := claim(tx, k); err != nil {
		return err
	}
	if k.imported(m.id) == nil {
		if err := insertMaterial(tx, k.arn, m); err != nil {
			return err
		}
		if err := promiseToKin(tx, k, m); err != nil {
			return err
		}
	} else {
		if err := condemn(tx, k, m.id); err != nil {
			return err
		}
		_, err := tx.Exec(`UPDATE kms_materials SET handle = $3, import_state = $4, valid_to = $5, description = $6 WHERE key_arn = $1 AND material_id = $2`,
			k.arn, m.id, m.handle, m.importState, m.validTo, m.description)
		if err != nil {
			return err
		}
	}
	if err := settlePending(tx, k.account, k.id); err != nil {
		return err
	}
	after := *k
	after.imports = append(slices.DeleteFunc(slices.Clone(k.imports), func(o *materialRow) bool { return o.id == m.id }), m)
	if m.state == materialCurrent {
		after.materialID = m.id
	}
	if after.whole() {
		after.state = moves("ImportKeyMaterial", k.state)
	}
	_, err := tx.Exec(`UPDATE kms_keys SET state = $2, material_id = $3 WHERE arn = $1`, k.arn, after.state, after.materialID)
	return err
}

// promiseToKin tells the replicas of a primary key of a new material, which each
// of them now waits for. It is never the first: a key without material has no
// replicas.
func promiseToKin(tx *sqldb.Tx, k *keyRow, m *materialRow) error {
	if !k.isPrimary() {
		return nil
	}
	_, err := tx.Exec(`INSERT INTO kms_materials (key_arn, material_id, seq, state, import_state, description, created_at)
		SELECT arn, CAST($4 AS TEXT), CAST($5 AS BIGINT), CAST($6 AS TEXT), CAST($7 AS TEXT), CAST($8 AS TEXT), CAST($9 AS BIGINT)
		FROM kms_keys WHERE account = $1 AND key_id = $2 AND arn <> $3 AND state <> 'Destroyed'`,
		k.account, k.id, k.arn, m.id, m.seq, m.state, ImportStatePendingImport, m.description, m.created)
	if err != nil {
		return err
	}
	return tellKin(tx, k, `UPDATE kms_keys SET gen = gen + 1 WHERE account = $1 AND key_id = $2`)
}

// settlePending says of pending material whether all kin have it.
func settlePending(tx *sqldb.Tx, account, keyID string) error {
	const kin = `SELECT arn FROM kms_keys WHERE account = $1 AND key_id = $2 AND state <> 'Destroyed'`
	_, err := tx.Exec(`UPDATE kms_materials SET state = CASE WHEN EXISTS (SELECT 1 FROM kms_materials o
			WHERE o.key_arn IN (`+kin+`) AND o.material_id = kms_materials.material_id AND o.handle IS NULL)
		THEN 'PENDING_MULTI_REGION_IMPORT_AND_ROTATION' ELSE 'PENDING_ROTATION' END
		WHERE key_arn IN (`+kin+`) AND state IN ('PENDING_MULTI_REGION_IMPORT_AND_ROTATION', 'PENDING_ROTATION')`, account, keyID)
	return err
}
