package kms

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/keystore"
	"github.com/keyturn/keyturn/sqldb"
)

// Rotations knows when the materials of symmetric keys turn, and has them
// turned. What changes it is called inside the transaction that changes the key,
// so that both are stored or neither is, and may run more than once; an
// *awsapi.Error is the caller's answer. Keys are named by ARN, a Multi-Region key
// by its primary. Safe for concurrent use.
type Rotations interface {
	// ScheduleKey lets a key, whose current material is materialID, turn at first and then every so many days.
	ScheduleKey(tx *sqldb.Tx, keyARN, materialID string, days int, first time.Time, caller string) error
	// UnscheduleKey ends that. What is under way goes on.
	UnscheduleKey(tx *sqldb.Tx, keyARN, caller string) error
	// PauseKey keeps a key that cannot be used from turning, or lets it turn again: at once, when its time has come meanwhile.
	PauseKey(tx *sqldb.Tx, keyARN string, paused bool, why, caller string) error
	// TurnKey lets a key turn at once, beside its schedule; ConflictException while it turns, or is about to.
	TurnKey(tx *sqldb.Tx, keyARN, materialID, caller string) error
	// MoveKey lets the key to turn when from would have, and no longer from; KMSInvalidStateException while from turns.
	MoveKey(tx *sqldb.Tx, from, to, materialID, caller string) error
	// ForgetKey ends whatever there is about a key that is destroyed.
	ForgetKey(tx *sqldb.Tx, keyARN string) error
	// NextOfKey returns when a key turns next by its schedule, and since when it has been turning on demand; zero: not.
	NextOfKey(ctx context.Context, keyARN string) (next, onDemand time.Time, err error)
}

// The period of automatic rotation in days (AWS).
const (
	minRotationDays     = 90
	maxRotationDays     = 2560
	defaultRotationDays = 365
)

// SetRotations says who turns keys, for the one who does needs a Service first.
// Without, the operations that would have keys turned are unsupported.
func (s *Service) SetRotations(r Rotations) {
	if r == nil {
		s.rotations.Store(nil)
	} else {
		s.rotations.Store(&r)
	}
}

// turner returns who turns keys, for an operation that needs him.
func (s *Service) turner() (Rotations, error) {
	if r := s.rotations.Load(); r != nil {
		return *r, nil
	}
	return nil, awsapi.Errorf("UnsupportedOperationException", "This server does not rotate keys")
}

// rotates says whether the material of a key can turn in operation, as AWS has
// it: symmetric keys whose material was made here; on demand imported ones too.
// The keys of a Multi-Region key turn with their primary.
func (k *keyFacts) rotates(operation string) error {
	refuse := func(what string) error {
		return awsapi.Errorf("UnsupportedOperationException", "%s is %s, which is not valid for %s.", k.arn, what, operation)
	}
	switch {
	case k.spec.Kind() != keystore.KindSymmetric:
		return refuse("a " + string(k.spec) + " key")
	case k.origin == OriginTypeExternal && operation != "EnableKeyRotation" && operation != "DisableKeyRotation":
	case k.origin != OriginTypeAwsKms:
		return refuse("a key of origin " + k.origin)
	}
	switch {
	case k.manager != KeyManagerTypeCustomer:
		return refuse("an AWS managed key")
	case k.multiRegionType() == MultiRegionKeyTypeReplica:
		return refuse("a Multi-Region replica key")
	}
	return nil
}

// turnsAs is the ARN by which Rotations knows a key.
func (k *keyFacts) turnsAs() string {
	if k.multiRegion() {
		return k.in(k.primaryRegion).arn()
	}
	return k.arn
}

// EnableKeyRotation lets a key's material turn by itself, for the first time
// after one period from now. For a key that does so already with the same period
// nothing changes: called again and again, it must not put rotation off for ever.
func (s *Service) EnableKeyRotation(ctx context.Context, call *access.Call, in *EnableKeyRotationRequest) (*awsapi.Empty, error) {
	days := int32(defaultRotationDays)
	if in.RotationPeriodInDays != nil {
		days = *in.RotationPeriodInDays
	}
	if least := s.minRotationDays; int(days) < least {
		return nil, awsapi.Errorf("ValidationException", "1 validation error detected: Value '%d' at 'rotationPeriodInDays' failed to satisfy constraint: "+
			"Member must have value greater than or equal to %d", days, least)
	}
	r := &request{operation: "EnableKeyRotation", keyID: in.KeyId, rotationPeriodInDays: days}
	_, err := s.change(ctx, call, r, func(tx *sqldb.Tx, k *keyRow) error {
		if err := k.rotates(r.operation); err != nil {
			return err
		}
		turner, err := s.turner()
		if err != nil || k.rotationDays == int64(days) {
			return err
		}
		if err := setRotationDays(tx, k, int64(days)); err != nil {
			return err
		}
		return turner.ScheduleKey(tx, k.arn, k.materialID, int(days), s.now().Add(time.Duration(days)*24*time.Hour), call.Caller.ARN)
	})
	return nil, err
}

// DisableKeyRotation ends automatic rotation. A rotation on demand goes on.
func (s *Service) DisableKeyRotation(ctx context.Context, call *access.Call, in *DisableKeyRotationRequest) (*awsapi.Empty, error) {
	_, err := s.change(ctx, call, &request{operation: "DisableKeyRotation", keyID: in.KeyId}, func(tx *sqldb.Tx, k *keyRow) error {
		if err := k.rotates("DisableKeyRotation"); err != nil {
			return err
		}
		turner, err := s.turner()
		if err != nil || k.rotationDays == 0 {
			return err
		}
		if err := setRotationDays(tx, k, 0); err != nil {
			return err
		}
		return turner.UnscheduleKey(tx, k.arn, call.Caller.ARN)
	})
	return nil, err
}

// setRotationDays stores the period, which all keys of a Multi-Region key share.
func setRotationDays(tx *sqldb.Tx, k *keyRow, days int64) error {
	return tellKin(tx, k, `UPDATE kms_keys SET rotation_days = $3 WHERE account = $1 AND key_id = $2`, days)
}

// GetKeyRotationStatus answers for keys of every kind: those that never turn by
// themselves have no rotation. A key that waits for its deletion has none while
// it waits, and its own again when the deletion is canceled.
func (s *Service) GetKeyRotationStatus(ctx context.Context, call *access.Call, in *GetKeyRotationStatusRequest) (*GetKeyRotationStatusResponse, error) {
	n, err := parseKeyName(call, in.KeyId)
	if err != nil {
		return nil, err
	}
	k, err := s.findKey(ctx, call, &request{operation: "GetKeyRotationStatus", keyID: in.KeyId}, n)
	if err != nil {
		return nil, err
	}
	out := &GetKeyRotationStatusResponse{KeyId: k.id}
	turner := s.rotations.Load()
	if turner == nil || k.spec.Kind() != keystore.KindSymmetric {
		return out, nil
	}
	next, onDemand, err := (*turner).NextOfKey(ctx, k.turnsAs())
	if err != nil {
		return nil, err
	}
	if k.rotationDays > 0 && k.state != statePendingDeletion && k.state != statePendingReplicaDeletion {
		days := int32(k.rotationDays)
		out.KeyRotationEnabled, out.RotationPeriodInDays = true, &days
		if !next.IsZero() {
			out.NextRotationDate = awsapi.NewTimestamp(next)
		}
	}
	if !onDemand.IsZero() {
		out.OnDemandRotationStartDate = awsapi.NewTimestamp(onDemand)
	}
	return out, nil
}

// RotateKeyOnDemand begins a rotation. It answers at once; the material turns
// soon after.
func (s *Service) RotateKeyOnDemand(ctx context.Context, call *access.Call, in *RotateKeyOnDemandRequest) (*RotateKeyOnDemandResponse, error) {
	k, err := s.change(ctx, call, &request{operation: "RotateKeyOnDemand", keyID: in.KeyId}, func(tx *sqldb.Tx, k *keyRow) error {
		if err := k.rotates("RotateKeyOnDemand"); err != nil {
			return err
		}
		turner, err := s.turner()
		if err != nil {
			return err
		}
		if k.onDemand >= int64(s.quotas.OnDemandRotations) {
			return awsapi.Errorf("LimitExceededException", "%s has been rotated on demand %d times already", k.arn, s.quotas.OnDemandRotations)
		}
		if k.origin == OriginTypeExternal {
			pending, err := k.pendingMaterial(tx, micros(s.now()))
			if err != nil {
				return err
			}
			if pending == "" {
				return awsapi.Errorf("KMSInvalidStateException", "%s has no imported key material that is pending rotation.", k.arn)
			}
		}
		if err := turner.TurnKey(tx, k.arn, k.materialID, call.Caller.ARN); err != nil {
			return err
		}
		return tellKin(tx, k, `UPDATE kms_keys SET on_demand = on_demand + 1 WHERE account = $1 AND key_id = $2`)
	})
	if err != nil {
		return nil, err
	}
	return &RotateKeyOnDemandResponse{KeyId: k.id}, nil
}

// ListKeyRotations lists the materials that a key has turned to, the first one
// first; with ALL_KEY_MATERIAL also the one that it was made with, and imported
// ones that wait for their turn.
func (s *Service) ListKeyRotations(ctx context.Context, call *access.Call, in *ListKeyRotationsRequest) (*ListKeyRotationsResponse, error) {
	n, err := parseKeyName(call, in.KeyId)
	if err != nil {
		return nil, err
	}
	k, err := s.findKey(ctx, call, &request{operation: "ListKeyRotations", keyID: in.KeyId}, n)
	if err != nil {
		return nil, err
	}
	switch {
	case k.spec.Kind() != keystore.KindSymmetric:
		return nil, awsapi.Errorf("UnsupportedOperationException", "%s is a %s key, which is not valid for ListKeyRotations.", k.arn, k.spec)
	case k.origin != OriginTypeAwsKms && k.origin != OriginTypeExternal:
		return nil, awsapi.Errorf("UnsupportedOperationException", "%s is a key of origin %s, which is not valid for ListKeyRotations.", k.arn, k.origin)
	}
	limit, err := pageLimit(in.Limit, 100, 1000)
	if err != nil {
		return nil, err
	}
	which := `rotated_at > 0`
	if in.IncludeKeyMaterial == IncludeKeyMaterialAllKeyMaterial {
		// A pending material that is not imported is being made by a rotation under way.
		which = `(state IN ('CURRENT', 'NON_CURRENT') OR import_state <> '')`
	}
	scope := k.arn + " " + which
	marker, err := parseMarker("ListKeyRotations", scope, in.Marker)
	if err != nil {
		return nil, err
	}
	var after int64
	if marker != "" {
		if after, err = strconv.ParseInt(marker, 10, 64); err != nil {
			return nil, awsapi.Errorf("InvalidMarkerException", "Could not deserialize marker")
		}
	}
	rows, err := s.db.Query(ctx, `SELECT material_id, seq, state, import_state, description, valid_to, rotated_at, rotation_type
		FROM kms_materials WHERE key_arn = $1 AND seq > $2 AND `+which+` ORDER BY seq LIMIT $3`, k.arn, after, limit+1)
	if err != nil {
		return nil, fmt.Errorf("listing rotations: %w", err)
	}
	defer rows.Close()
	out := &ListKeyRotationsResponse{Rotations: []RotationsListEntry{}}
	var last int64
	for rows.Next() {
		var m materialRow
		if err := rows.Scan(&m.id, &m.seq, &m.state, &m.importState, &m.description, &m.validTo, &m.rotated, &m.rotationType); err != nil {
			return nil, fmt.Errorf("listing rotations: %w", err)
		}
		if len(out.Rotations) == limit {
			out.Truncated = true
			out.NextMarker = formatMarker("ListKeyRotations", scope, strconv.FormatInt(last, 10))
			break
		}
		last = m.seq
		out.Rotations = append(out.Rotations, m.entry(k.id))
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("listing rotations: %w", err)
	}
	return out, nil
}

func (m *materialRow) entry(keyID string) RotationsListEntry {
	e := RotationsListEntry{
		KeyId: keyID, KeyMaterialId: m.id, KeyMaterialDescription: m.description,
		KeyMaterialState: m.state, ImportState: m.importState, RotationType: m.rotationType,
	}
	if m.rotated > 0 {
		e.RotationDate = timestamp(m.rotated)
	}
	if m.importState == ImportStateImported {
		e.ExpirationModel = ExpirationModelTypeKeyMaterialDoesNotExpire
		if m.validTo.Valid {
			e.ExpirationModel, e.ValidTo = ExpirationModelTypeKeyMaterialExpires, timestamp(m.validTo.Int64)
		}
	}
	return e
}

// holdRotation keeps a key that leaves the state Enabled from turning, and lets
// one that comes back turn again.
func (s *Service) holdRotation(tx *sqldb.Tx, call *access.Call, k *keyRow, operation string) error {
	turner := s.rotations.Load()
	if turner == nil || k.spec.Kind() != keystore.KindSymmetric {
		return nil
	}
	return (*turner).PauseKey(tx, k.arn, moves(operation, k.state) != stateEnabled, operation, call.Caller.ARN)
}
