package kms

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/keystore"
	"github.com/keyturn/keyturn/sqldb"
)

// The resource types of the audit record, as CloudTrail names them.
const (
	typeKey   = "AWS::KMS::Key"
	typeAlias = "AWS::KMS::Alias"
)

// keyRow is a row of kms_keys. Spec, usage, origin, ids and creation date never
// change; everything else changes with gen.
type keyRow struct {
	keyFacts
	state        string
	description  string
	document     string // the key policy as it was put
	materialID   string // of the current material
	created      int64  // µs
	deletionAt   sql.NullInt64
	deletionDays sql.NullInt32 // the waiting period that was asked for
	rotationDays int64         // period of automatic rotation; 0: off
	onDemand     int64         // rotations by RotateKeyOnDemand so far
	gen          int64

	imports  []*materialRow // of a key with imported material, by seq: see readImports
	usableTo int64          // µs, when the first of them expires that the key cannot do without; 0: none does
	kin      []string       // the Regions of a Multi-Region key, sorted, where they were read: see readKin
}

const keyColumns = `arn, account, region, key_id, spec, key_usage, origin, manager, primary_region, state, description, policy,
	material_id, created_at, deletion_at, deletion_days, rotation_days, on_demand, gen`

func (k *keyRow) columns() []any {
	return []any{
		&k.arn, &k.account, &k.region, &k.id, &k.spec, &k.usage, &k.origin, &k.manager, &k.primaryRegion, &k.state, &k.description,
		&k.document, &k.materialID, &k.created, &k.deletionAt, &k.deletionDays, &k.rotationDays, &k.onDemand, &k.gen,
	}
}

func (k *keyRow) ref() keystore.Ref {
	return keystore.Ref{Account: k.account, KeyID: k.id, MaterialID: k.materialID}
}

// complete fills in what decisions need and the row does not hold. A policy that does not
// parse, which only a hand in the database can bring about, makes the key unusable.
func (s *Service) complete(ctx context.Context, k *keyRow) (err error) {
	if k.policy, err = s.policies.parse(k.document); err != nil {
		return fmt.Errorf("reading the stored policy of %s: %w", k.arn, err)
	}
	rows, err := s.db.Query(ctx, `SELECT 0, tag_key, tag_value FROM kms_tags WHERE key_arn = $1
		UNION ALL SELECT 1, name, '' FROM kms_aliases WHERE key_arn = $1`, k.arn)
	if err != nil {
		return fmt.Errorf("reading tags and aliases of %s: %w", k.arn, err)
	}
	defer rows.Close()
	k.tags, k.aliases = nil, nil
	for rows.Next() {
		var isAlias int
		var name, value string
		if err := rows.Scan(&isAlias, &name, &value); err != nil {
			return fmt.Errorf("reading tags and aliases of %s: %w", k.arn, err)
		}
		if isAlias != 0 {
			k.aliases = append(k.aliases, name)
		} else {
			k.tags = append(k.tags, Tag{TagKey: name, TagValue: value})
		}
	}
	// The databases do not agree on the order of text.
	slices.Sort(k.aliases)
	slices.SortFunc(k.tags, func(a, b Tag) int { return strings.Compare(a.TagKey, b.TagKey) })
	if err := rows.Err(); err != nil || k.origin != OriginTypeExternal {
		return err
	}
	rows.Close()
	return s.readImports(ctx, k)
}

func micros(t time.Time) int64      { return t.UnixMicro() }
func fromMicros(µs int64) time.Time { return time.UnixMicro(µs).UTC() }

func timestamp(µs int64) *awsapi.Timestamp { return awsapi.NewTimestamp(fromMicros(µs)) }

// readKey reads a key's row; sql.ErrNoRows when there is none, or none any more.
func (s *Service) readKey(ctx context.Context, keyARN string) (*keyRow, error) {
	k := new(keyRow)
	err := s.db.QueryRow(ctx, `SELECT `+keyColumns+` FROM kms_keys WHERE arn = $1 AND state <> 'Destroyed'`, keyARN).
		Scan(k.columns()...)
	if err != nil {
		return nil, fmt.Errorf("reading key %s: %w", keyARN, err)
	}
	return k, s.complete(ctx, k)
}

// crossAccount lists the operations that AWS allows on another account's key,
// if both sides' policies do. All others see only the caller's own account.
var crossAccount = map[string]bool{
	"DescribeKey": true, "GetPublicKey": true, "GetKeyRotationStatus": true,
	"Sign": true, "Verify": true, "Encrypt": true, "Decrypt": true, "ReEncrypt": true,
	"CreateGrant": true, "ListGrants": true, "RetireGrant": true, "RevokeGrant": true,
	"GenerateMac": true, "VerifyMac": true, "DeriveSharedSecret": true, "Encapsulate": true, "Decapsulate": true,
	"GenerateDataKey": true, "GenerateDataKeyWithoutPlaintext": true, "GenerateDataKeyPair": true, "GenerateDataKeyPairWithoutPlaintext": true,
}

// findKey reads the row of the key that n names, for an operation that works
// on the database rather than on snapshots, and asks the Guard.
func (s *Service) findKey(ctx context.Context, call *access.Call, r *request, n resourceName) (*keyRow, error) {
	if n.account != call.Account && !crossAccount[r.operation] {
		return nil, s.missing(ctx, call, r.name(), n)
	}
	k, err := s.readKey(ctx, n.arn())
	if errors.Is(err, sql.ErrNoRows) {
		return nil, s.missing(ctx, call, r.name(), n)
	}
	if err != nil {
		return nil, err
	}
	if err := s.check(ctx, call, r, &k.keyFacts); err != nil {
		return nil, err
	}
	return k, nil
}

// missing is the answer for what does not exist. In the caller's own account
// AWS says so, whatever the caller may do. In another account a miss must look
// like a refusal, or anybody could find out which keys and aliases exist there:
// so the Guard is asked, and without a resource policy it refuses.
func (s *Service) missing(ctx context.Context, call *access.Call, action string, n resourceName) error {
	typ := typeKey
	if n.isAlias() {
		typ = typeAlias
	}
	if n.account == call.Account {
		call.Touched(n.arn(), n.account, typ)
		return n.notFound()
	}
	if err := s.guard.Check(ctx, call, action, access.Resource{ARN: n.arn(), Account: n.account, Type: typ}); err != nil {
		return err
	}
	return n.notFound()
}

// attempts is how often a change is tried that others keep overtaking.
const attempts = 10

// change performs a change of one key: find, check, and then fn together with
// the new gen in one transaction. When somebody else changed the key since it
// was found, all of it is done again, because the decision may be another one
// now. fn may add statements; it may run more than once. The returned row is
// the one from before the change.
func (s *Service) change(ctx context.Context, call *access.Call, r *request, fn func(tx *sqldb.Tx, k *keyRow) error) (*keyRow, error) {
	return s.changePrepared(ctx, call, r, func(*keyRow) error { return nil }, fn)
}

// changePrepared is change with something to do between the checks and the
// transaction, like reading what belongs to others.
func (s *Service) changePrepared(ctx context.Context, call *access.Call, r *request, prepare func(k *keyRow) error,
	fn func(tx *sqldb.Tx, k *keyRow) error,
) (*keyRow, error) {
	n, err := parseKeyName(call, r.keyID)
	if err != nil {
		return nil, err
	}
	for range attempts {
		var k *keyRow
		if k, err = s.findKey(ctx, call, r, n); err != nil {
			return nil, err
		}
		if err = checkState(r.operation, k.arn, k.state); err != nil {
			return nil, err
		}
		if err = prepare(k); err != nil {
			return nil, err
		}
		err = s.db.Write(ctx, func(tx *sqldb.Tx) error {
			rows, err := tx.Exec(`UPDATE kms_keys SET gen = gen + 1 WHERE arn = $1 AND gen = $2`, k.arn, k.gen)
			if err != nil {
				return err
			}
			if rows == 0 {
				return sqldb.ErrConflict
			}
			tx.Touch(k.arn)
			return fn(tx, k)
		})
		if !errors.Is(err, sqldb.ErrConflict) {
			return k, err
		}
	}
	return nil, fmt.Errorf("changing key %s: %w", n.arn(), err)
}

// DescribeKey takes every form of name.
func (s *Service) DescribeKey(ctx context.Context, call *access.Call, in *DescribeKeyRequest) (*DescribeKeyResponse, error) {
	n, err := parseName(call, in.KeyId)
	if err != nil {
		return nil, err
	}
	r := &request{operation: "DescribeKey", keyID: in.KeyId, grantTokens: in.GrantTokens}
	if err := s.checkGrantTokens(r); err != nil {
		return nil, err
	}
	if n.isAlias() {
		r.alias = n.name
		if err := s.predefine(ctx, call, n); err != nil {
			return nil, err
		}
		a, err := s.readAlias(ctx, n.arn())
		if errors.Is(err, sql.ErrNoRows) {
			return nil, s.missing(ctx, call, "kms:DescribeKey", n)
		}
		if err != nil {
			return nil, err
		}
		n.name = a.keyID()
	}
	k, err := s.findKey(ctx, call, r, n)
	if err != nil {
		return nil, err
	}
	if err := s.readKin(ctx, k); err != nil {
		return nil, err
	}
	return &DescribeKeyResponse{KeyMetadata: k.metadata()}, nil
}

// metadata is the key as CreateKey and DescribeKey answer it.
func (k *keyRow) metadata() *KeyMetadata {
	multi := k.multiRegion()
	m := &KeyMetadata{
		AWSAccountId: k.account, KeyId: k.id, Arn: k.arn,
		CreationDate: timestamp(k.created),
		Enabled:      k.state == stateEnabled,
		Description:  k.description,
		KeyUsage:     k.usage, KeyState: k.state, Origin: k.origin,
		KeyManager: k.manager,
		KeySpec:    string(k.spec), CustomerMasterKeySpec: string(k.spec),
		MultiRegion: &multi,
	}
	switch k.state {
	case statePendingDeletion:
		m.DeletionDate = timestamp(k.deletionAt.Int64)
	case statePendingReplicaDeletion:
		m.PendingDeletionWindowInDays = &k.deletionDays.Int32
	}
	if multi {
		m.MultiRegionConfiguration = k.configuration()
	}
	k.describeImports(m)
	switch algorithms := k.spec.Algorithms(k.usage); k.usage {
	case KeyUsageTypeSignVerify:
		m.SigningAlgorithms = algorithms
	case KeyUsageTypeEncryptDecrypt:
		m.EncryptionAlgorithms = algorithms
	case KeyUsageTypeGenerateVerifyMac:
		m.MacAlgorithms = algorithms
	case KeyUsageTypeKeyAgreement:
		m.KeyAgreementAlgorithms = algorithms
	case KeyUsageTypeEncapsulateDecapsulate:
		m.EncapsulationAlgorithms = algorithms
	}
	if k.spec.Kind() == keystore.KindSymmetric {
		m.CurrentKeyMaterialId = k.materialID
	}
	return m
}

// ListKeys lists the caller's keys in the call's Region, ordered by id.
func (s *Service) ListKeys(ctx context.Context, call *access.Call, in *ListKeysRequest) (*ListKeysResponse, error) {
	limit, err := pageLimit(in.Limit, 100, 1000)
	if err != nil {
		return nil, err
	}
	scope := call.Account + "/" + call.Region
	last, err := parseMarker("ListKeys", scope, in.Marker)
	if err != nil {
		return nil, err
	}
	if err := s.guard.Check(ctx, call, "kms:ListKeys", everything(call)); err != nil {
		return nil, err
	}
	rows, err := s.db.Query(ctx, `SELECT key_id, arn FROM kms_keys
		WHERE account = $1 AND region = $2 AND key_id > $3 AND state <> 'Destroyed'
		ORDER BY key_id LIMIT $4`, call.Account, call.Region, last, limit+1)
	if err != nil {
		return nil, fmt.Errorf("listing keys: %w", err)
	}
	defer rows.Close()
	out := &ListKeysResponse{Keys: []KeyListEntry{}}
	for rows.Next() {
		var e KeyListEntry
		if err := rows.Scan(&e.KeyId, &e.KeyArn); err != nil {
			return nil, fmt.Errorf("listing keys: %w", err)
		}
		if len(out.Keys) == limit {
			out.Truncated = true
			out.NextMarker = formatMarker("ListKeys", scope, out.Keys[limit-1].KeyId)
			break
		}
		out.Keys = append(out.Keys, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("listing keys: %w", err)
	}
	return out, nil
}

// UpdateKeyDescription replaces the description.
func (s *Service) UpdateKeyDescription(ctx context.Context, call *access.Call, in *UpdateKeyDescriptionRequest) (*awsapi.Empty, error) {
	_, err := s.change(ctx, call, &request{operation: "UpdateKeyDescription", keyID: in.KeyId}, func(tx *sqldb.Tx, k *keyRow) error {
		_, err := tx.Exec(`UPDATE kms_keys SET description = $2 WHERE arn = $1`, k.arn, in.Description)
		return err
	})
	return nil, err
}

// everything is the resource of operations that work on no key in particular:
// identity policies alone decide.
func everything(call *access.Call) access.Resource {
	return access.Resource{Account: call.Account}
}

// errDryRun is the answer of a dry run that passed every check.
func errDryRun() error {
	return awsapi.Errorf("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
}

func isTrue(b *bool) bool { return b != nil && *b }
