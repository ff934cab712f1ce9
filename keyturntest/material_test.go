package keyturntest_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/keyturn/keyturn/keyturntest"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// A key with a period of 90 days turns after 90 days and after 180, to the
// instant; a disabled one waits; and it stands in the history like every rotation.
func TestASymmetricKeyTurnsByItself(t *testing.T) {
	for name, options := range map[string][]keyturntest.Option{
		"sqlite":   nil,
		"postgres": {keyturntest.OnDatabase(sqldbtest.Postgres(t))},
	} {
		t.Run(name, func(t *testing.T) { testASymmetricKeyTurns(t, options) })
	}
}

func testASymmetricKeyTurns(t *testing.T, options []keyturntest.Option) {
	const day, region = 24 * time.Hour, "eu-central-1"
	ctx := context.Background()
	s := keyturntest.Start(t, options...)
	s.Advance(10*time.Hour + 7*time.Minute) // not at midnight
	client := kms.NewFromConfig(s.Config(region))
	newKey := func() *string {
		key, err := client.CreateKey(ctx, &kms.CreateKeyInput{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: key.KeyMetadata.KeyId, RotationPeriodInDays: aws.Int32(90)}); err != nil {
			t.Fatal(err)
		}
		return key.KeyMetadata.KeyId
	}
	began := s.Now()
	id, waits := newKey(), newKey()
	if _, err := client.DisableKey(ctx, &kms.DisableKeyInput{KeyId: waits}); err != nil {
		t.Fatal(err)
	}
	material := func(id *string) string {
		out, err := client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: id})
		if err != nil {
			t.Fatal(err)
		}
		return *out.KeyMetadata.CurrentKeyMaterialId
	}
	first, asleep := material(id), material(waits)
	sealed := map[string][]byte{} // material → what it encrypted
	seal := func() {
		out, err := client.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: []byte("order")})
		if err != nil {
			t.Fatal(err)
		}
		sealed[material(id)] = out.CiphertextBlob
	}

	seal()
	s.Advance(90*day - time.Second)
	if material(id) != first {
		t.Error("it turned too early")
	}
	s.Advance(time.Second)
	seal()
	s.Advance(90 * day)
	seal()
	if len(sealed) != 3 {
		t.Errorf("%d materials have encrypted", len(sealed))
	}
	for id, blob := range sealed {
		out, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: blob})
		if err != nil || *out.KeyMaterialId != id || string(out.Plaintext) != "order" {
			t.Errorf("what %s encrypted: %v", id, err)
		}
	}
	listed, err := client.ListKeyRotations(ctx, &kms.ListKeyRotationsInput{KeyId: id})
	if err != nil || len(listed.Rotations) != 2 {
		t.Fatal(listed, err)
	}
	for i, r := range listed.Rotations {
		if want := began.Add(time.Duration(i+1) * 90 * day); !r.RotationDate.Equal(want) || r.RotationType != types.RotationTypeAutomatic {
			t.Errorf("it turned at %s (%s), want %s", r.RotationDate, r.RotationType, want)
		}
	}
	status, err := client.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: id})
	if err != nil || !status.NextRotationDate.Equal(began.Add(270*day)) {
		t.Errorf("next: %v %v", status.NextRotationDate, err)
	}

	if material(waits) != asleep {
		t.Error("a disabled key has turned")
	}
	if _, err := client.EnableKey(ctx, &kms.EnableKeyInput{KeyId: waits}); err != nil {
		t.Fatal(err)
	}
	s.Advance(0)
	if material(waits) == asleep {
		t.Error("a key that is enabled again did not make up for its rotation")
	}

	// On demand, beside the schedule.
	s.Advance(time.Hour)
	if _, err := client.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: id}); err != nil {
		t.Fatal(err)
	}
	s.Advance(time.Minute)
	if _, known := sealed[material(id)]; known {
		t.Error("it did not turn on demand")
	}

	// Keyturn's own API tells of it as of every rotation.
	policy := "kms/" + *id
	var rotations rotation.ListRotationsOutput
	s.Do(region, "ListRotations", map[string]any{"Name": policy}, &rotations)
	if len(rotations.Rotations) != 4 || rotations.Rotations[0].Status != rotation.StatusScheduled || !rotations.Rotations[0].Due.Equal(began.Add(270*day)) {
		t.Errorf("%+v", rotations.Rotations)
	}
	var history rotation.ListHistoryOutput
	s.Do(region, "ListHistory", map[string]any{"Name": policy}, &history)
	var told []string
	for i := len(history.Events) - 1; i >= 0; i-- {
		e := history.Events[i]
		told = append(told, strings.TrimSpace(fmt.Sprintf("%s %s", e.What, e.Step)))
	}
	const turned = "begun, done create, done test, done switch, scheduled, finished"
	if got := strings.Join(told, ", "); got != "put, scheduled, "+turned+", "+turned+", requested, "+turned {
		t.Errorf("the history tells: %s", got)
	}
	var overview rotation.GetStatusOutput
	s.Do(region, "GetStatus", map[string]any{}, &overview)
	if overview.Policies != 2 || overview.Scheduled != 2 || overview.Failed != 0 || overview.Overdue != 0 {
		t.Errorf("%+v", overview)
	}
}
