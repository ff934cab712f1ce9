package kms

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/keystore"
	"github.com/keyturn/keyturn/sqldb"
)

// CreateKey makes a key of any spec and usage. Key, material and tags come
// into being in one transaction: whoever looks for a tag finds the key, or
// there is none. If the transaction fails the material is destroyed again; a
// crash just before it leaves nothing behind in the software store.
func (s *Service) CreateKey(ctx context.Context, call *access.Call, in *CreateKeyRequest) (*CreateKeyResponse, error) {
	spec, usage, err := specAndUsage(in)
	if err != nil {
		return nil, err
	}
	origin, err := originOf(in, spec)
	if err != nil {
		return nil, err
	}
	if err := s.checkTags(in.Tags); err != nil {
		return nil, err
	}
	k := &keyRow{
		keyFacts: keyFacts{
			account: call.Account, region: call.Region,
			spec: spec, usage: usage, origin: origin, manager: KeyManagerTypeCustomer,
		},
		state: stateEnabled, description: in.Description, created: micros(s.now()), gen: 1,
	}
	if origin == OriginTypeExternal {
		k.state = statePendingImport
	}
	if isTrue(in.MultiRegion) {
		k.primaryRegion, k.kin = k.region, []string{k.region}
	}
	r := &request{operation: "CreateKey", tags: in.Tags, bypass: in.BypassPolicyLockoutSafetyCheck}
	if err := s.mayCreate(ctx, call, r, &k.keyFacts); err != nil {
		return nil, err
	}
	k.id = newUUID()
	if k.multiRegion() {
		k.id = newMultiRegionID()
	}
	k.arn = resourceName{account: k.account, region: k.region, name: k.id}.arn()
	if k.document, err = s.newKeyPolicy(ctx, call, r, &k.keyFacts, in.Policy); err != nil {
		return nil, err
	}
	if err := s.admitKey(ctx, k.account, k.region); err != nil {
		return nil, err
	}
	call.Touched(k.arn, k.account, typeKey)

	err = s.storeKey(ctx, k, func(tx *sqldb.Tx) error { return insertKey(tx, k, in.Tags) })
	if err != nil {
		return nil, err
	}
	return &CreateKeyResponse{KeyMetadata: k.metadata()}, nil
}

// mayCreate asks whether the caller may make a key like k, which has no name
// yet, with the request's tags.
func (s *Service) mayCreate(ctx context.Context, call *access.Call, r *request, k *keyFacts) error {
	for _, action := range []string{"kms:CreateKey", "kms:TagResource"} {
		if action == "kms:TagResource" && len(r.tags) == 0 {
			continue
		}
		asked := &request{operation: "CreateKey", action: action, tags: r.tags, bypass: r.bypass}
		if err := s.check(ctx, call, asked, k); err != nil {
			return err
		}
	}
	return nil
}

// storeKey makes a new key's material, unless that will be imported, and stores
// it together with what insert stores.
func (s *Service) storeKey(ctx context.Context, k *keyRow, insert func(*sqldb.Tx) error) error {
	var m *materialRow
	if k.origin == OriginTypeAwsKms {
		k.materialID = newMaterialID()
		handle, err := s.backend.Generate(ctx, k.ref(), k.spec)
		if err != nil {
			return fmt.Errorf("generating %s key material: %w", k.spec, err)
		}
		m = &materialRow{id: k.materialID, seq: 1, state: materialCurrent, handle: handle, created: k.created}
	}
	err := s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := insert(tx); err != nil || m == nil {
			return err
		}
		return insertMaterial(tx, k.arn, m)
	})
	if err != nil {
		if m != nil {
			s.discard(context.WithoutCancel(ctx), k, m.id, m.handle)
		}
		return fmt.Errorf("storing new key: %w", err)
	}
	return nil
}

// discard destroys material that could not be stored. A write that failed may
// have been stored all the same, when the connection broke at the end of it: then
// the key has the material, and keeps it.
func (s *Service) discard(ctx context.Context, k *keyRow, materialID string, handle []byte) {
	var stored int64
	err := s.db.QueryRow(ctx, `SELECT COUNT(*) FROM kms_materials WHERE key_arn = $1 AND material_id = $2 AND handle = $3`,
		k.arn, materialID, handle).Scan(&stored)
	if err == nil && stored == 0 {
		err = s.backend.Destroy(ctx, keystore.Ref{Account: k.account, KeyID: k.id, MaterialID: materialID}, handle)
	}
	if err != nil {
		s.logger.Error("material that could not be stored may be left in the key store", "key", k.arn, "error", err)
	}
}

// insertKey stores a new key with its tags and no material.
func insertKey(tx *sqldb.Tx, k *keyRow, tags []Tag) error {
	if _, err := tx.Exec(`INSERT INTO kms_keys (`+keyColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)`,
		k.arn, k.account, k.region, k.id, string(k.spec), k.usage, k.origin, k.manager, k.primaryRegion, k.state, k.description, k.document,
		k.materialID, k.created, nil, nil, k.rotationDays, k.onDemand, k.gen); err != nil {
		return err
	}
	for _, t := range tags {
		if err := putTag(tx, k.arn, t); err != nil {
			return err
		}
	}
	tx.Touch(k.arn)
	return nil
}

// specAndUsage settles what kind of key is asked for.
func specAndUsage(in *CreateKeyRequest) (keystore.Spec, string, error) {
	name := in.KeySpec
	switch {
	case in.KeySpec != "" && in.CustomerMasterKeySpec != "" && in.KeySpec != in.CustomerMasterKeySpec:
		return "", "", awsapi.Errorf("ValidationException",
			"You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated.")
	case name == "" && in.CustomerMasterKeySpec != "":
		name = in.CustomerMasterKeySpec
	case name == "":
		name = KeySpecSymmetricDefault
	}
	spec := keystore.Spec(name)
	if !spec.Known() {
		return "", "", awsapi.Errorf("UnsupportedOperationException", "KeySpec %s is not supported in this Region", name)
	}
	usage := in.KeyUsage
	if usage == "" {
		if spec.Kind() != keystore.KindSymmetric {
			return "", "", awsapi.Errorf("ValidationException",
				"You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")
		}
		usage = KeyUsageTypeEncryptDecrypt
	}
	if !slices.Contains(spec.Usages(), usage) {
		return "", "", awsapi.Errorf("ValidationException", "KeyUsage %s is not compatible with KeySpec %s", usage, name)
	}
	return spec, usage, nil
}

// newUUID returns a random UUID (RFC 9562, version 4).
func newUUID() string {
	var id [16]byte
	rand.Read(id[:])
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return formatUUID(id)
}

// newMultiRegionID returns a random id of a Multi-Region key.
func newMultiRegionID() string {
	var id [16]byte
	rand.Read(id[:])
	return mrkPrefix + hex.EncodeToString(id[:])
}

// newMaterialID returns 64 random hex digits, AWS's form of the id of a key
// material.
func newMaterialID() string {
	var id [32]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

// defaultPolicy is the key policy that CreateKey gives where none is asked
// for, AWS's own: the account's identity policies decide.
func defaultPolicy(account string) string {
	return strings.ReplaceAll(`{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "arn:aws:iam::ACCOUNT:root"
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}`, "ACCOUNT", account)
}
