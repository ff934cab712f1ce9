package rotators_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// What another hand has done under a rotation is found at the next step, told, and left as it is.
func TestDriftIsToldAndNothingIsOverwritten(t *testing.T) {
	h := newHouse(t, sqldbtest.SQLite(t))
	stranger := h.key(types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify)
	ctx := t.Context()
	for _, tt := range []struct {
		name   string
		after  rotation.Step // the hand comes in when this step is done
		hand   func(p rotation.Policy, r rotation.Rotation) error
		stops  rotation.Step // where the rotation stops
		says   string
		mended func(p rotation.Policy, r rotation.Rotation) error
	}{
		{
			"the alias is moved", rotation.StepPublish,
			func(p rotation.Policy, r rotation.Rotation) error {
				_, err := h.admin.UpdateAlias(ctx, &sdk.UpdateAliasInput{AliasName: &p.Alias, TargetKeyId: &stranger})
				return err
			},
			rotation.StepSwitch, "another hand has moved it",
			func(p rotation.Policy, r rotation.Rotation) error {
				_, err := h.admin.UpdateAlias(ctx, &sdk.UpdateAliasInput{AliasName: &p.Alias, TargetKeyId: &r.OldKey})
				return err
			},
		},
		{
			"the new key is disabled", rotation.StepPublish,
			func(_ rotation.Policy, r rotation.Rotation) error {
				_, err := h.admin.DisableKey(ctx, &sdk.DisableKeyInput{KeyId: &r.NewKey})
				return err
			},
			rotation.StepTest, "is Disabled: another hand did that",
			func(_ rotation.Policy, r rotation.Rotation) error {
				_, err := h.admin.EnableKey(ctx, &sdk.EnableKeyInput{KeyId: &r.NewKey})
				return err
			},
		},
		{
			"the new key is to be deleted", rotation.StepPublish,
			func(_ rotation.Policy, r rotation.Rotation) error {
				_, err := h.admin.ScheduleKeyDeletion(ctx, &sdk.ScheduleKeyDeletionInput{KeyId: &r.NewKey})
				return err
			},
			rotation.StepTest, "pending deletion",
			func(_ rotation.Policy, r rotation.Rotation) error {
				_, err := h.admin.CancelKeyDeletion(ctx, &sdk.CancelKeyDeletionInput{KeyId: &r.NewKey})
				if err == nil {
					_, err = h.admin.EnableKey(ctx, &sdk.EnableKeyInput{KeyId: &r.NewKey})
				}
				return err
			},
		},
		{
			"the present key is disabled", rotation.StepTest,
			func(_ rotation.Policy, r rotation.Rotation) error {
				_, err := h.admin.DisableKey(ctx, &sdk.DisableKeyInput{KeyId: &r.OldKey})
				return err
			},
			rotation.StepSwitch, "the present key",
			func(_ rotation.Policy, r rotation.Rotation) error {
				_, err := h.admin.EnableKey(ctx, &sdk.EnableKeyInput{KeyId: &r.OldKey})
				return err
			},
		},
		{
			"the key policy of the present key is changed", rotation.StepPublish,
			func(_ rotation.Policy, r rotation.Rotation) error { return h.allowAlice(r.OldKey) },
			rotation.StepSwitch, "key policies",
			func(_ rotation.Policy, r rotation.Rotation) error { return h.allowAlice(r.NewKey) },
		},
		{
			"the name of the next generation is taken", rotation.StepCreate,
			func(p rotation.Policy, _ rotation.Rotation) error {
				_, err := h.admin.CreateAlias(ctx, &sdk.CreateAliasInput{AliasName: aws.String(p.Alias + "/next"), TargetKeyId: &stranger})
				return err
			},
			rotation.StepPublish, "not a key of this lineage",
			func(p rotation.Policy, _ rotation.Rotation) error {
				_, err := h.admin.DeleteAlias(ctx, &sdk.DeleteAliasInput{AliasName: aws.String(p.Alias + "/next")})
				return err
			},
		},
		{
			"a friend of the old key gives it another alias", rotation.StepDeactivate,
			func(p rotation.Policy, r rotation.Rotation) error {
				_, err := h.admin.CreateAlias(ctx, &sdk.CreateAliasInput{AliasName: aws.String(p.Alias + "-friend"), TargetKeyId: &r.OldKey})
				return err
			},
			rotation.StepSuspend, "neither disabled nor deleted",
			func(p rotation.Policy, _ rotation.Rotation) error {
				_, err := h.admin.DeleteAlias(ctx, &sdk.DeleteAliasInput{AliasName: aws.String(p.Alias + "-friend")})
				return err
			},
		},
		{
			"the disabled key is enabled", rotation.StepSuspend,
			func(_ rotation.Policy, r rotation.Rotation) error {
				_, err := h.admin.EnableKey(ctx, &sdk.EnableKeyInput{KeyId: &r.OldKey})
				return err
			},
			rotation.StepSuspend, "enabled again by another hand",
			func(rotation.Policy, rotation.Rotation) error { return nil },
		},
		{
			"the deletion is cancelled", rotation.StepDestroy,
			func(_ rotation.Policy, r rotation.Rotation) error {
				_, err := h.admin.CancelKeyDeletion(ctx, &sdk.CancelKeyDeletionInput{KeyId: &r.OldKey})
				return err
			},
			rotation.StepDestroy, "cancelled by another hand",
			func(rotation.Policy, rotation.Rotation) error { return nil },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := h.lineage(strings.ReplaceAll(tt.name, " ", "-"), nil)
			h.settle(p.Name)
			r := h.turn(p.Name, tt.after)
			check(t, tt.hand(p, r))
			before := h.state()
			r = h.drive(r.RotationId)
			if r.Status != rotation.StatusFailed || r.Step != tt.stops || !strings.Contains(r.Error, tt.says) || r.Hint == "" {
				t.Fatalf("the rotation is %s at %s: %q (%q)", r.Status, r.Step, r.Error, r.Hint)
			}
			if after := h.state(); after != before {
				t.Errorf("something was overwritten:\n%s\nbefore:\n%s", after, before)
			}
			check(t, tt.mended(p, r))
			_, err := h.service.ResumePolicy(t.Context(), h.call("ResumePolicy"), &rotation.ResumePolicyInput{Name: p.Name})
			check(t, err)
			if r = h.drive(r.RotationId); r.Status != rotation.StatusDone {
				t.Errorf("mended and resumed, the rotation is %s at %s: %s", r.Status, r.Step, r.Error)
			}
			h.forget()
		})
	}
}

// allowAlice is a change of a key policy by somebody who knows nothing of the rotation.
func (h *house) allowAlice(key string) error {
	text := strings.Replace(h.policyOf(key), `"Statement":[`, `"Statement":[{"Sid":"alice","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::`+account+`:root"},"Action":"kms:Sign","Resource":"*"},`, 1)
	if !strings.Contains(text, "alice") {
		text = strings.Replace(h.policyOf(key), `"Statement" : [`, `"Statement" : [{"Sid":"alice","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::`+account+`:root"},"Action":"kms:Sign","Resource":"*"},`, 1)
	}
	_, err := h.admin.PutKeyPolicy(h.t.Context(), &sdk.PutKeyPolicyInput{KeyId: &key, Policy: &text})
	return err
}

// state is every key, policy, tag and alias there is, but for the names beside an alias, which a step may have
// seen to before it met the drift.
func (h *house) state() string {
	h.t.Helper()
	var b strings.Builder
	for _, query := range []string{
		`SELECT arn || ' ' || state || ' ' || policy FROM kms_keys WHERE state <> 'Destroyed' ORDER BY arn`,
		`SELECT key_arn || ' ' || tag_key || '=' || tag_value FROM kms_tags ORDER BY key_arn, tag_key`,
		`SELECT name || ' ' || key_arn FROM kms_aliases WHERE name NOT LIKE '%/v_' ORDER BY name`,
	} {
		rows, err := h.db.Query(h.t.Context(), query)
		check(h.t, err)
		for rows.Next() {
			var line string
			check(h.t, rows.Scan(&line))
			b.WriteString(line + "\n")
		}
		check(h.t, rows.Err())
		check(h.t, rows.Close())
	}
	return b.String()
}

// A key that anybody else made is never disabled or deleted, whatever the policy asks for, unless it says adopt: full.
func TestAdoptedKeysAreKept(t *testing.T) {
	h := newHouse(t, sqldbtest.SQLite(t))
	p := h.lineage("kept", func(p *rotation.Policy) { p.Adopt = rotation.AdoptKeep })
	r := h.drive(h.rotate(p.Name))
	if r.Status != rotation.StatusDone {
		t.Fatalf("the rotation is %s: %s", r.Status, r.Error)
	}
	if state := h.describe(r.OldKey).KeyState; state != types.KeyStateEnabled {
		t.Errorf("the adopted key is %s", state)
	}
	// The rotator refuses even when the engine should be mistaken.
	for _, step := range []rotation.Step{rotation.StepSuspend, rotation.StepDestroy} {
		job := h.testJob(r.NewKey)
		job.Row.Step, job.Row.Data.OldKey = step, r.OldKey
		policy := p.WithDefaults()
		policy.Target, policy.Account, policy.Region = "local", account, region
		job.Policy, job.Old = &policy, &rotation.Generation{Key: r.OldKey, Made: rotation.MadeAdopted, Public: []byte("x")}
		if _, err := h.rotator.Do(t.Context(), job); !isPermanent(err) {
			t.Errorf("%s of an adopted key: %v", step, err)
		}
		// Nor does it take the tags' word for a key of another lineage.
		job.Old = &rotation.Generation{Key: stranger(h), Made: rotation.MadeByKeyturn, Public: []byte("x")}
		job.Row.Data.OldKey = job.Old.Key
		if _, err := h.rotator.Do(t.Context(), job); !isDrift(err) {
			t.Errorf("%s of a key without our tags: %v", step, err)
		}
	}
}

func stranger(h *house) string { return h.key(types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify) }
