package kms

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/sqldb"
)

// A Multi-Region key is one key in several Regions: rows of the same account and
// key id, each with its own ARN. One of them is the primary key, the others are
// its replicas; all are kin.
//
//	shared by all kin   material, spec, usage, origin, automatic rotation
//	each kin's own      policy, tags, aliases, description, state, deletion, last use
//
// What changes more than one row of a Multi-Region key, or depends on which there
// are, changes the primary key's gen in the same transaction, so that two such
// changes never pass each other unnoticed.

// isPrimary reports whether the key is the one of a Multi-Region key that can be
// replicated.
func (k *keyFacts) isPrimary() bool { return k.multiRegion() && k.primaryRegion == k.region }

// in is the kin of the key in another Region, whether it exists or not.
func (k *keyFacts) in(region string) resourceName {
	return resourceName{account: k.account, region: region, name: k.id}
}

func (k *keyFacts) notPrimary() error {
	return awsapi.Errorf("UnsupportedOperationException", "%s is not a multi-Region primary key.", k.arn)
}

// readKin reads in which Regions the Multi-Region key of k has keys; of another
// key nothing.
func (s *Service) readKin(ctx context.Context, k *keyRow) error {
	k.kin = nil
	if !k.multiRegion() {
		return nil
	}
	rows, err := s.db.Query(ctx, `SELECT region FROM kms_keys WHERE account = $1 AND key_id = $2 AND state <> 'Destroyed'`, k.account, k.id)
	if err != nil {
		return fmt.Errorf("reading the Regions of %s: %w", k.arn, err)
	}
	defer rows.Close()
	for rows.Next() {
		var region string
		if err := rows.Scan(&region); err != nil {
			return fmt.Errorf("reading the Regions of %s: %w", k.arn, err)
		}
		k.kin = append(k.kin, region)
	}
	slices.Sort(k.kin)
	return rows.Err()
}

// configuration tells the primary key and its replicas, as every kin does.
func (k *keyRow) configuration() *MultiRegionConfiguration {
	c := &MultiRegionConfiguration{
		MultiRegionKeyType: k.multiRegionType(),
		PrimaryKey:         &MultiRegionKey{Arn: k.in(k.primaryRegion).arn(), Region: k.primaryRegion},
		ReplicaKeys:        []MultiRegionKey{},
	}
	for _, region := range k.kin {
		if region != k.primaryRegion {
			c.ReplicaKeys = append(c.ReplicaKeys, MultiRegionKey{Arn: k.in(region).arn(), Region: region})
		}
	}
	return c
}

// inRegion asks for a permission that the caller needs in another Region than the
// call's: policies may tell Regions apart.
func inRegion(call *access.Call, region string, check func() error) error {
	home := call.Region
	call.Region = region
	defer func() { call.Region = home }()
	return check()
}

// ReplicateKey makes a replica of a primary key in another Region that the server
// serves. It is there, and enabled, when the call returns; of a key with imported
// material it waits for that material to be imported into it too. Policy, tags and
// description are its own and are not copied. It needs kms:ReplicateKey on the
// primary key, and in the other Region kms:CreateKey and, for tags,
// kms:TagResource.
func (s *Service) ReplicateKey(ctx context.Context, call *access.Call, in *ReplicateKeyRequest) (*ReplicateKeyResponse, error) {
	n, err := parseKeyName(call, in.KeyId)
	if err != nil {
		return nil, err
	}
	for range attempts {
		var replica *keyRow
		if replica, err = s.replicate(ctx, call, n, in); errors.Is(err, sqldb.ErrConflict) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := s.readKin(ctx, replica); err != nil {
			return nil, err
		}
		document, err := s.printKeyPolicy(ctx, replica)
		if err != nil {
			return nil, err
		}
		out := &ReplicateKeyResponse{ReplicaKeyMetadata: replica.metadata(), ReplicaPolicy: document, ReplicaTags: in.Tags}
		if out.ReplicaTags == nil {
			out.ReplicaTags = []Tag{}
		}
		return out, nil
	}
	return nil, fmt.Errorf("replicating key %s: %w", n.arn(), err)
}

// replicate is one attempt; sqldb.ErrConflict when the primary key changed
// meanwhile.
func (s *Service) replicate(ctx context.Context, call *access.Call, n resourceName, in *ReplicateKeyRequest) (*keyRow, error) {
	r := &request{
		operation: "ReplicateKey", keyID: in.KeyId, replicaRegion: in.ReplicaRegion, tags: in.Tags, bypass: in.BypassPolicyLockoutSafetyCheck,
	}
	primary, err := s.findKey(ctx, call, r, n)
	if err != nil {
		return nil, err
	}
	if !primary.isPrimary() {
		return nil, primary.notPrimary()
	}
	if err := checkState("ReplicateKey", primary.arn, primary.state); err != nil {
		return nil, err
	}
	if len(s.regions) > 0 && !slices.Contains(s.regions, in.ReplicaRegion) {
		return nil, awsapi.Errorf("UnsupportedOperationException", "Keys cannot be replicated to the Region %s.", in.ReplicaRegion)
	}
	replica := s.replicaOf(primary, in)
	err = inRegion(call, in.ReplicaRegion, func() error {
		asked := replica.keyFacts
		asked.arn = ""
		return s.mayCreate(ctx, call, r, &asked)
	})
	if err != nil {
		return nil, err
	}
	if err := s.checkTags(in.Tags); err != nil {
		return nil, err
	}
	if replica.document, err = s.newKeyPolicy(ctx, call, r, &replica.keyFacts, in.Policy); err != nil {
		return nil, err
	}
	if err := s.admitKey(ctx, replica.account, replica.region); err != nil {
		return nil, err
	}
	call.Touched(replica.arn, replica.account, typeKey)
	return replica, s.storeReplica(ctx, primary, replica, in.Tags)
}

// replicaOf is the key that in asks for: what kin share it has of primary, and all
// else of the request.
func (s *Service) replicaOf(primary *keyRow, in *ReplicateKeyRequest) *keyRow {
	k := *primary
	k.region, k.arn = in.ReplicaRegion, primary.in(in.ReplicaRegion).arn()
	k.description, k.created, k.gen = in.Description, micros(s.now()), 1
	k.policy, k.tags, k.aliases = nil, nil, nil
	if k.origin == OriginTypeExternal {
		k.state = statePendingImport
	}
	return &k
}

// storeReplica stores a replica with all materials of its primary key, old ones
// too: what any kin ever encrypted, it decrypts. A material lies sealed under
// account, key id and material id, which kin share, so that the sealed bytes are
// copied. Imported material is not: each kin wants its own import of it.
func (s *Service) storeReplica(ctx context.Context, primary, replica *keyRow, tags []Tag) error {
	handle, imported := "handle", "import_state"
	if replica.origin == OriginTypeExternal {
		handle, imported = "NULL", "'"+ImportStatePendingImport+"'"
	}
	err := s.db.Write(ctx, func(tx *sqldb.Tx) error {
		rows, err := tx.Exec(`UPDATE kms_keys SET gen = gen + 1 WHERE arn = $1 AND gen = $2`, primary.arn, primary.gen)
		if err != nil {
			return err
		}
		if rows == 0 {
			return sqldb.ErrConflict
		}
		if err := insertKey(tx, replica, tags); err != nil {
			return err
		}
		_, err = tx.Exec(`INSERT INTO kms_materials (key_arn, material_id, handle, created_at, seq, state, import_state, description,
				rotated_at, rotation_type, rotation_token)
			SELECT CAST($2 AS TEXT), material_id, `+handle+`, created_at, seq, state, `+imported+`, description,
				rotated_at, rotation_type, rotation_token
			FROM kms_materials WHERE key_arn = $1`, primary.arn, replica.arn)
		if err != nil {
			return err
		}
		return settlePending(tx, replica.account, replica.id)
	})
	if sqldb.IsUniqueViolation(err) {
		return awsapi.Errorf("AlreadyExistsException", "A key %s of the multi-Region key exists in %s already.", replica.arn, replica.region)
	}
	return err
}

// UpdatePrimaryRegion makes a replica the primary key, and the primary key its
// replica, in one transaction: AWS's state Updating never shows. Both must be
// enabled, and it needs kms:UpdatePrimaryRegion on both.
func (s *Service) UpdatePrimaryRegion(ctx context.Context, call *access.Call, in *UpdatePrimaryRegionRequest) (*awsapi.Empty, error) {
	n, err := parseKeyName(call, in.KeyId)
	if err != nil {
		return nil, err
	}
	for range attempts {
		if err = s.movePrimary(ctx, call, n, in); !errors.Is(err, sqldb.ErrConflict) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("moving the primary Region of %s: %w", n.arn(), err)
}

// movePrimary is one attempt; sqldb.ErrConflict when one of the two keys changed
// meanwhile.
func (s *Service) movePrimary(ctx context.Context, call *access.Call, n resourceName, in *UpdatePrimaryRegionRequest) error {
	r := &request{operation: "UpdatePrimaryRegion", keyID: in.KeyId, primaryRegion: in.PrimaryRegion}
	primary, err := s.findKey(ctx, call, r, n)
	if err != nil {
		return err
	}
	if !primary.isPrimary() {
		return primary.notPrimary()
	}
	if in.PrimaryRegion == primary.region {
		return awsapi.Errorf("UnsupportedOperationException", "%s is the primary key in %s already.", primary.arn, primary.region)
	}
	to := primary.in(in.PrimaryRegion)
	replica, err := s.readKey(ctx, to.arn())
	if errors.Is(err, sql.ErrNoRows) {
		call.Touched(to.arn(), to.account, typeKey)
		return to.notFound()
	}
	if err != nil {
		return err
	}
	if err := inRegion(call, replica.region, func() error { return s.check(ctx, call, r, &replica.keyFacts) }); err != nil {
		return err
	}
	for _, k := range []*keyRow{primary, replica} {
		if err := checkState("UpdatePrimaryRegion", k.arn, k.state); err != nil {
			return err
		}
	}
	return s.db.Write(ctx, func(tx *sqldb.Tx) error {
		for _, k := range []*keyRow{primary, replica} {
			rows, err := tx.Exec(`UPDATE kms_keys SET gen = gen + 1 WHERE arn = $1 AND gen = $2`, k.arn, k.gen)
			if err != nil {
				return err
			}
			if rows == 0 {
				return sqldb.ErrConflict
			}
		}
		if turner := s.rotations.Load(); turner != nil {
			if err := (*turner).MoveKey(tx, primary.arn, replica.arn, primary.materialID, call.Caller.ARN); err != nil {
				return err
			}
		}
		return tellKin(tx, primary, `UPDATE kms_keys SET primary_region = $3 WHERE account = $1 AND key_id = $2`, replica.region)
	})
}

// tellKin changes all kin of k with a statement whose first parameters are account
// and key id, and announces every one of them.
func tellKin(tx *sqldb.Tx, k *keyRow, statement string, args ...any) error {
	rows, err := tx.Query(`SELECT arn FROM kms_keys WHERE account = $1 AND key_id = $2`, k.account, k.id)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var keyARN string
		if err := rows.Scan(&keyARN); err != nil {
			return err
		}
		tx.Touch(keyARN)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	rows.Close()
	_, err = tx.Exec(statement, append([]any{k.account, k.id}, args...)...)
	return err
}

// KinAliases answers the ARNs of the aliases of the same name, in other Regions,
// that name the same Multi-Region key as an alias. It checks no permission.
func (s *Service) KinAliases(ctx context.Context, aliasARN string) (arns []string, err error) {
	rows, err := s.db.Query(ctx, `SELECT o.arn FROM kms_aliases a
		JOIN kms_keys k ON k.arn = a.key_arn AND k.primary_region <> ''
		JOIN kms_keys r ON r.account = k.account AND r.key_id = k.key_id AND r.arn <> k.arn
		JOIN kms_aliases o ON o.key_arn = r.arn AND o.name = a.name
		WHERE a.arn = $1`, aliasARN)
	if err != nil {
		return nil, fmt.Errorf("looking for the kin of %s: %w", aliasARN, err)
	}
	defer rows.Close()
	for rows.Next() {
		var arn string
		if err := rows.Scan(&arn); err != nil {
			return nil, fmt.Errorf("looking for the kin of %s: %w", aliasARN, err)
		}
		arns = append(arns, arn)
	}
	slices.Sort(arns)
	return arns, rows.Err()
}
