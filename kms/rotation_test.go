package kms_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/kms"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

func (n *node) enableRotation(k *types.KeyMetadata, days int32) {
	n.t.Helper()
	if _, err := n.EnableKeyRotation(ctx, &sdk.EnableKeyRotationInput{KeyId: k.KeyId, RotationPeriodInDays: &days}); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) rotationStatus(k *types.KeyMetadata) *sdk.GetKeyRotationStatusOutput {
	n.t.Helper()
	return must[*sdk.GetKeyRotationStatusOutput](n.t)(n.GetKeyRotationStatus(ctx, &sdk.GetKeyRotationStatusInput{KeyId: k.KeyId}))
}

// days is how many days from now a date lies, to the hour.
func (n *node) days(at *time.Time) float64 {
	n.t.Helper()
	if at == nil {
		return 0
	}
	return at.Sub(n.clock.now()).Round(time.Hour).Hours() / 24
}

// rotations lists all that a key has turned to.
func (n *node) rotations(k *types.KeyMetadata, include types.IncludeKeyMaterial) []types.RotationsListEntry {
	n.t.Helper()
	return must[*sdk.ListKeyRotationsOutput](n.t)(n.ListKeyRotations(ctx, &sdk.ListKeyRotationsInput{KeyId: k.KeyId, IncludeKeyMaterial: include})).Rotations
}

// A key turns when its period is over, again and again; not before, and not
// after rotation is disabled.
func TestAutomaticRotation(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		if s := n.rotationStatus(k); s.KeyRotationEnabled || s.RotationPeriodInDays != nil || s.NextRotationDate != nil || *s.KeyId != *k.KeyId {
			t.Errorf("before: %+v", s)
		}
		if _, err := n.EnableKeyRotation(ctx, &sdk.EnableKeyRotationInput{KeyId: k.Arn}); err != nil {
			t.Fatal(err)
		}
		if s := n.rotationStatus(k); !s.KeyRotationEnabled || *s.RotationPeriodInDays != 365 || n.days(s.NextRotationDate) != 365 {
			t.Errorf("enabled: %+v", s)
		}
		n.enableRotation(k, 90)
		n.clock.move(30 * day)
		n.enableRotation(k, 90) // which must not put it off
		s := n.rotationStatus(k)
		if *s.RotationPeriodInDays != 90 || n.days(s.NextRotationDate) != 60 {
			t.Errorf("enabled again: %+v", s)
		}
		n.clock.move(60*day - time.Hour)
		n.settle()
		if n.material(k) != *k.CurrentKeyMaterialId {
			t.Error("it turned before its time")
		}
		n.clock.move(2 * time.Hour)
		n.settle()
		second := n.material(k)
		if second == *k.CurrentKeyMaterialId {
			t.Fatal("it did not turn")
		}
		if s := n.rotationStatus(k); n.days(s.NextRotationDate) != 90 {
			t.Errorf("turned: %+v", s)
		}
		n.clock.move(91 * day)
		n.settle()
		if n.material(k) == second {
			t.Error("it did not turn again")
		}
		if _, err := n.DisableKeyRotation(ctx, &sdk.DisableKeyRotationInput{KeyId: k.KeyId}); err != nil {
			t.Fatal(err)
		}
		if s := n.rotationStatus(k); s.KeyRotationEnabled || s.NextRotationDate != nil {
			t.Errorf("disabled: %+v", s)
		}
		n.clock.move(400 * day)
		n.settle()
		all := n.rotations(k, "")
		if len(all) != 2 {
			t.Fatalf("%d rotations", len(all))
		}
		for i, r := range all {
			if r.RotationType != types.RotationTypeAutomatic || *r.KeyId != *k.KeyId || r.RotationDate == nil || r.ImportState != "" || r.ExpirationModel != "" {
				t.Errorf("rotation %d: %+v", i, r)
			}
		}
		if all[0].KeyMaterialState != types.KeyMaterialStateNonCurrent || *all[0].KeyMaterialId != second || all[1].KeyMaterialState != types.KeyMaterialStateCurrent {
			t.Errorf("%+v", all)
		}
		whole := n.rotations(k, types.IncludeKeyMaterialAllKeyMaterial)
		if len(whole) != 3 || *whole[0].KeyMaterialId != *k.CurrentKeyMaterialId || whole[0].RotationDate != nil || whole[0].RotationType != "" {
			t.Errorf("%+v", whole)
		}
	})
}

// A key that cannot be used keeps its schedule and does not turn; it turns when
// it is enabled again, if its time has come meanwhile, and then a whole period later.
func TestDisabledKeysWait(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		n.enableRotation(k, 90)
		n.disable(k)
		n.clock.move(170 * day)
		n.settle()
		if s := n.rotationStatus(k); n.material(k) != *k.CurrentKeyMaterialId || !s.KeyRotationEnabled || n.days(s.NextRotationDate) != -80 {
			t.Errorf("disabled: %+v", s)
		}
		n.enable(k)
		n.settle()
		if s := n.rotationStatus(k); n.material(k) == *k.CurrentKeyMaterialId || n.days(s.NextRotationDate) != 90 {
			t.Errorf("enabled: %+v", s)
		}

		// Pending deletion: no rotation, and the same again when it is canceled.
		n.scheduleDeletion(k, 30)
		if s := n.rotationStatus(k); s.KeyRotationEnabled || s.NextRotationDate != nil {
			t.Errorf("pending deletion: %+v", s)
		}
		n.clock.move(10 * day)
		if _, err := n.CancelKeyDeletion(ctx, &sdk.CancelKeyDeletionInput{KeyId: k.KeyId}); err != nil {
			t.Fatal(err)
		}
		if s := n.rotationStatus(k); !s.KeyRotationEnabled || *s.RotationPeriodInDays != 90 || n.days(s.NextRotationDate) != 80 {
			t.Errorf("canceled: %+v", s)
		}
		n.clock.move(81 * day)
		n.settle()
		second := n.material(k)
		n.enable(k)
		n.settle()
		if n.material(k) == second {
			t.Error("it did not turn when it was enabled again")
		}

		// Destroyed: nothing is left that could turn.
		n.scheduleDeletion(k, 7)
		n.clock.move(8 * day)
		for range 3 {
			if _, err := n.service.RunOnce(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := n.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: k.KeyId}); errorCode(err) != "NotFoundException" {
			t.Fatal(err)
		}
		var left int
		if err := n.db.QueryRow(ctx, `SELECT (SELECT COUNT(*) FROM rotation_policies) + (SELECT COUNT(*) FROM rotations WHERE stage > 0)
			+ (SELECT COUNT(*) FROM kms_materials)`).Scan(&left); err != nil || left != 0 {
			t.Errorf("%d rows are left: %v", left, err)
		}
	})
}

// On demand a key turns at once, 25 times, and its schedule stays as it is.
func TestRotateKeyOnDemand(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		out := must[*sdk.RotateKeyOnDemandOutput](t)(n.RotateKeyOnDemand(ctx, &sdk.RotateKeyOnDemandInput{KeyId: k.Arn}))
		if *out.KeyId != *k.KeyId {
			t.Errorf("answers %s", *out.KeyId)
		}
		if s := n.rotationStatus(k); s.OnDemandRotationStartDate == nil || s.KeyRotationEnabled || n.days(s.OnDemandRotationStartDate) != 0 {
			t.Errorf("under way: %+v", s)
		}
		_, err := n.RotateKeyOnDemand(ctx, &sdk.RotateKeyOnDemandInput{KeyId: k.KeyId})
		wantError(t, err, "ConflictException", "A rotation of "+*k.Arn+" is in progress.")
		n.settle()
		if s := n.rotationStatus(k); s.OnDemandRotationStartDate != nil || n.material(k) == *k.CurrentKeyMaterialId {
			t.Errorf("done: %+v", s)
		}
		n.enableRotation(k, 90)
		n.clock.move(40 * day)
		for range 24 {
			n.turn(k)
		}
		if s := n.rotationStatus(k); n.days(s.NextRotationDate) != 50 {
			t.Errorf("the schedule has moved: %+v", s)
		}
		_, err = n.RotateKeyOnDemand(ctx, &sdk.RotateKeyOnDemandInput{KeyId: k.KeyId})
		wantError(t, err, "LimitExceededException", *k.Arn+" has been rotated on demand 25 times already")
		all := n.rotations(k, "")
		if len(all) != 25 || all[24].RotationType != types.RotationTypeOnDemand {
			t.Errorf("%d rotations, the last %+v", len(all), all[len(all)-1])
		}

		// Not just before the automatic one, which then comes in its time.
		soon := n.symmetricKey()
		n.enableRotation(soon, 90)
		n.clock.move(90*day - 10*time.Minute)
		_, err = n.RotateKeyOnDemand(ctx, &sdk.RotateKeyOnDemandInput{KeyId: soon.KeyId})
		wantError(t, err, "ConflictException", "An automatic rotation of "+*soon.Arn+" is scheduled to begin within the next 20 minutes.")

		// Ending the schedule does not end a rotation on demand.
		other := n.symmetricKey()
		n.enableRotation(other, 90)
		if _, err := n.RotateKeyOnDemand(ctx, &sdk.RotateKeyOnDemandInput{KeyId: other.KeyId}); err != nil {
			t.Fatal(err)
		}
		if _, err := n.DisableKeyRotation(ctx, &sdk.DisableKeyRotationInput{KeyId: other.KeyId}); err != nil {
			t.Fatal(err)
		}
		n.settle()
		if s := n.rotationStatus(other); n.material(other) == *other.CurrentKeyMaterialId || s.NextRotationDate != nil {
			t.Errorf("%+v", s)
		}
	})
}

// What cannot turn says so, with AWS's codes.
func TestRotationIsForSomeKeysOnly(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		imported, store, managed := n.symmetricKey(), n.symmetricKey(), n.symmetricKey()
		n.write(*imported.Arn, `UPDATE kms_keys SET origin = 'EXTERNAL' WHERE arn = $1`, *imported.Arn)
		n.write(*store.Arn, `UPDATE kms_keys SET origin = 'AWS_CLOUDHSM' WHERE arn = $1`, *store.Arn)
		n.write(*managed.Arn, `UPDATE kms_keys SET manager = 'AWS' WHERE arn = $1`, *managed.Arn)
		const unsupported = "UnsupportedOperationException"
		for name, c := range map[string]struct {
			key                             *types.KeyMetadata
			enable, disable, onDemand, list string // codes
		}{
			"asymmetric":       {n.signingKey(), unsupported, unsupported, unsupported, unsupported},
			"HMAC":             {n.create(types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac), unsupported, unsupported, unsupported, unsupported},
			"custom key store": {store, unsupported, unsupported, unsupported, unsupported},
			"imported":         {imported, unsupported, unsupported, "KMSInvalidStateException", ""},
			"AWS managed":      {managed, unsupported, unsupported, unsupported, ""},
			"symmetric":        {n.symmetricKey(), "", "", "", ""},
		} {
			id := c.key.KeyId
			_, enable := n.EnableKeyRotation(ctx, &sdk.EnableKeyRotationInput{KeyId: id})
			_, disable := n.DisableKeyRotation(ctx, &sdk.DisableKeyRotationInput{KeyId: id})
			_, onDemand := n.RotateKeyOnDemand(ctx, &sdk.RotateKeyOnDemandInput{KeyId: id})
			_, list := n.ListKeyRotations(ctx, &sdk.ListKeyRotationsInput{KeyId: id})
			for op, got := range map[string][2]string{
				"EnableKeyRotation": {errorCode(enable), c.enable}, "DisableKeyRotation": {errorCode(disable), c.disable},
				"RotateKeyOnDemand": {errorCode(onDemand), c.onDemand}, "ListKeyRotations": {errorCode(list), c.list},
			} {
				if got[0] != got[1] {
					t.Errorf("%s of a key that is %s: %q, want %q", op, name, got[0], got[1])
				}
			}
			if s := n.rotationStatus(c.key); s.KeyRotationEnabled {
				t.Errorf("%s: rotation is enabled", name)
			}
		}
	})
}

// Imported material turns on demand alone, and only to what was imported for it.
func TestRotationOfImportedMaterial(t *testing.T) {
	eachImporting(t, func(t *testing.T, n *node) {
		k := n.external(types.KeySpecSymmetricDefault, "")
		_, err := n.EnableKeyRotation(ctx, &sdk.EnableKeyRotationInput{KeyId: k.KeyId})
		wantError(t, err, "UnsupportedOperationException", *k.Arn+" is a key of origin EXTERNAL, which is not valid for EnableKeyRotation.")
		onDemand := func(message string) {
			t.Helper()
			_, err := n.RotateKeyOnDemand(ctx, &sdk.RotateKeyOnDemandInput{KeyId: k.KeyId})
			wantError(t, err, "KMSInvalidStateException", *k.Arn+message)
		}
		onDemand(" is pending import.")
		one := n.mustImport(k, secret(32), n.until(90*day))
		onDemand(" has no imported key material that is pending rotation.")
		blob := encryptSomething(n, k)
		second := secret(32)
		two := n.mustImport(k, second, func(in *sdk.ImportKeyMaterialInput) { asNew(in); in.KeyMaterialDescription = ptr("the second") })
		list := func(include types.IncludeKeyMaterial) (told []string) {
			for _, r := range n.rotations(k, include) {
				told = append(told, fmt.Sprintf("%v %s %s %s %s %v %v %s", *r.KeyMaterialId == two, r.KeyMaterialState, r.ImportState, r.ExpirationModel, r.RotationType,
					r.ValidTo != nil, r.RotationDate != nil, aws.ToString(r.KeyMaterialDescription)))
			}
			return told
		}
		want := func(what string, got []string, want ...string) {
			t.Helper()
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("%s:\n%s", what, strings.Join(got, "\n"))
			}
		}
		const all = types.IncludeKeyMaterialAllKeyMaterial
		want("pending", list(all), "false CURRENT IMPORTED KEY_MATERIAL_EXPIRES  true false ",
			"true PENDING_ROTATION IMPORTED KEY_MATERIAL_DOES_NOT_EXPIRE  false false the second")
		want("pending, rotations only", list(""))
		if got := n.turn(k); got != two || n.opens(blob) != one || n.opens(encryptSomething(n, k)) != two {
			t.Errorf("it has turned to %s", got)
		}
		want("turned", list(""), "true CURRENT IMPORTED KEY_MATERIAL_DOES_NOT_EXPIRE ON_DEMAND false true the second")
		n.deleteMaterial(k, &one)
		want("the first deleted", list(all), "false NON_CURRENT PENDING_IMPORT   false false ",
			"true CURRENT IMPORTED KEY_MATERIAL_DOES_NOT_EXPIRE ON_DEMAND false true the second")
		onDemand(" is pending import.")

		// What was to be turned to is taken away before it is: the rotation fails, and the next one goes on.
		k = n.external(types.KeySpecSymmetricDefault, "")
		n.mustImport(k, secret(32), nil)
		three := n.mustImport(k, secret(32), asNew)
		if _, err := n.RotateKeyOnDemand(ctx, &sdk.RotateKeyOnDemandInput{KeyId: k.KeyId}); err != nil {
			t.Fatal(err)
		}
		n.deleteMaterial(k, &three)
		n.settle()
		n.wantState(k, types.KeyStateEnabled)
		n.opens(encryptSomething(n, k))
		onDemand(" has no imported key material that is pending rotation.")
		four := n.mustImport(k, secret(32), asNew)
		if got := n.turn(k); got != four {
			t.Errorf("it has turned to %s, not %s", got, four)
		}
	})
}

func TestRotationPeriod(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		n := newNode(t, db, options{})
		k := n.symmetricKey()
		for days, message := range map[int32]string{
			89:   "Value '89' at 'rotationPeriodInDays' failed to satisfy constraint: Member must have value greater than or equal to 90",
			0:    "Value '0' at 'rotationPeriodInDays' failed to satisfy constraint: Member must have value greater than or equal to 1",
			2561: "Value '2561' at 'rotationPeriodInDays' failed to satisfy constraint: Member must have value less than or equal to 2560",
		} {
			_, err := n.EnableKeyRotation(ctx, &sdk.EnableKeyRotationInput{KeyId: k.KeyId, RotationPeriodInDays: &days})
			wantError(t, err, "ValidationException", "1 validation error detected: "+message)
		}
		for _, days := range []int32{90, 2560} {
			n.enableRotation(k, days)
		}
	})
}

// A policy may bound the period by kms:RotationPeriodInDays.
func TestRotationPeriodAsACondition(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		user := n.as(account, "yearly", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:EnableKeyRotation","Resource":"*",
			"Condition":{"NumericLessThanEquals":{"kms:RotationPeriodInDays":"365"}}}]}`)
		if _, err := user.EnableKeyRotation(ctx, &sdk.EnableKeyRotationInput{KeyId: k.KeyId}); err != nil {
			t.Error(err)
		}
		_, err := user.EnableKeyRotation(ctx, &sdk.EnableKeyRotationInput{KeyId: k.KeyId, RotationPeriodInDays: ptr[int32](366)})
		wantError(t, err, "AccessDeniedException", "*")
	})
}

func TestListKeyRotationsPages(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		for range 5 {
			n.turn(k)
		}
		want := n.rotations(k, "")
		var got []string
		var marker *string
		for {
			out := must[*sdk.ListKeyRotationsOutput](t)(n.ListKeyRotations(ctx, &sdk.ListKeyRotationsInput{KeyId: k.KeyId, Limit: ptr[int32](2), Marker: marker}))
			for _, r := range out.Rotations {
				got = append(got, *r.KeyMaterialId)
			}
			if marker = out.NextMarker; out.Truncated != (marker != nil) {
				t.Errorf("Truncated is %v, the marker %s", out.Truncated, aws.ToString(marker))
			}
			if marker == nil {
				break
			}
			// It is good for this list alone.
			for _, in := range []*sdk.ListKeyRotationsInput{
				{KeyId: n.symmetricKey().KeyId, Marker: marker},
				{KeyId: k.KeyId, Marker: marker, IncludeKeyMaterial: types.IncludeKeyMaterialAllKeyMaterial},
			} {
				_, err := n.ListKeyRotations(ctx, in)
				wantError(t, err, "InvalidMarkerException", "*")
			}
		}
		if len(got) != len(want) {
			t.Errorf("%d in pages, %d at once", len(got), len(want))
		}
		for i := range got {
			if got[i] != *want[i].KeyMaterialId {
				t.Errorf("%d is %s, not %s", i, got[i], *want[i].KeyMaterialId)
			}
		}
	})
}

// The audit log tells of a rotation as CloudTrail does: of the call that enabled
// it, and then of what the server did by itself.
func TestRotationIsRecorded(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		n.enableRotation(k, 90)
		n.clock.move(91 * day)
		n.settle()
		n.turn(k)
		var told []string
		for _, r := range n.records("RotateKey") {
			if r.EventType != "AwsServiceEvent" || r.UserIdentity.Type != "AWSService" || r.UserIdentity.ARN != "" || r.EventSource != "kms.amazonaws.com" ||
				r.AWSRegion != region || r.RecipientAccountID != account || r.ErrorCode != "" || len(r.Resources) != 1 || r.Resources[0].ARN != *k.Arn ||
				r.Details.KeyID != *k.KeyId {
				t.Errorf("%+v", r)
			}
			told = append(told, r.Additional.Phase+" "+r.Details.RotationType)
		}
		if got := strings.Join(told, ", "); got != "decision AUTOMATIC, outcome AUTOMATIC, decision ON_DEMAND, outcome ON_DEMAND" {
			t.Errorf("the log tells: %s", got)
		}
	})
}

// trailRecord is what this file looks at of a line of the audit log.
type trailRecord struct {
	EventName, EventType, EventSource, AWSRegion, ErrorCode, RecipientAccountID string
	UserIdentity                                                                struct{ Type, ARN, AccountID string }
	Resources                                                                   []struct{ ARN string }
	Additional                                                                  struct{ Phase string }               `json:"additionalEventData"`
	Details                                                                     struct{ RotationType, KeyID string } `json:"serviceEventDetails"`
}

// records reads those of an event from the audit log.
func (n *node) records(event string) []trailRecord {
	n.t.Helper()
	var all []trailRecord
	files := must[[]string](n.t)(filepath.Glob(filepath.Join(n.auditDir, "*.jsonl")))
	for _, file := range files {
		for line := range bytes.Lines(must[[]byte](n.t)(os.ReadFile(file))) {
			var r trailRecord
			if err := json.Unmarshal(line, &r); err != nil {
				n.t.Fatal(err)
			}
			if r.EventName == event {
				all = append(all, r)
			}
		}
	}
	return all
}

// When the log cannot be written no key turns.
func TestNoRotationWithoutARecord(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		id := must[string](t)(n.service.PrepareMaterial(ctx, *k.Arn, "token"))
		if err := n.log.Close(); err != nil {
			t.Fatal(err)
		}
		if err := n.service.TurnMaterial(ctx, *k.Arn, id, false); err == nil {
			t.Error("it says that it turned")
		}
		if current := must[string](t)(n.service.CurrentMaterial(ctx, *k.Arn)); current != *k.CurrentKeyMaterialId {
			t.Error("it turned")
		}
	})
}

// A rotation is one transaction with its schedule: when the second half fails,
// the first is not there either.
func TestEnablingAndSchedulingAreOne(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		n.service.SetRotations(brokenRotations{n.rotation})
		_, err := n.EnableKeyRotation(ctx, &sdk.EnableKeyRotationInput{KeyId: k.KeyId})
		wantError(t, err, "KMSInternalException", "*")
		n.service.SetRotations(n.rotation)
		if s := n.rotationStatus(k); s.KeyRotationEnabled || s.NextRotationDate != nil {
			t.Errorf("%+v", s)
		}
		var left int
		if err := n.db.QueryRow(ctx, `SELECT COUNT(*) FROM rotation_policies`).Scan(&left); err != nil || left != 0 {
			t.Errorf("%d policies are left: %v", left, err)
		}
		n.service.SetRotations(nil)
		_, err = n.EnableKeyRotation(ctx, &sdk.EnableKeyRotationInput{KeyId: k.KeyId})
		wantError(t, err, "UnsupportedOperationException", "This server does not rotate keys")
	})
}

// brokenRotations fails when everything is done.
type brokenRotations struct{ kms.Rotations }

func (b brokenRotations) ScheduleKey(tx *sqldb.Tx, keyARN, materialID string, days int, first time.Time, caller string) error {
	if err := b.Rotations.ScheduleKey(tx, keyARN, materialID, days, first, caller); err != nil {
		return err
	}
	return fmt.Errorf("broken on purpose")
}
