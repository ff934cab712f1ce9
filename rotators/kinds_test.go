package rotators_test

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// Every spec with every usage turns, proven with every algorithm it has, and the successor is like its predecessor in
// everything a user sees.
func TestEveryKindOfKeyTurns(t *testing.T) {
	h := newHouse(t, sqldbtest.SQLite(t))
	for _, kind := range everyKind {
		name := strings.ToLower(string(kind.spec) + "-" + string(kind.usage))
		t.Run(name, func(t *testing.T) {
			first := kind.spec
			if strings.HasPrefix(string(kind.spec), "RSA_") {
				first = types.KeySpecRsa2048 // the long ones take seconds to make: once is enough
			}
			old := h.key(first, kind.usage)
			_, err := h.admin.TagResource(t.Context(), &sdk.TagResourceInput{KeyId: &old, Tags: []types.Tag{
				{TagKey: aws.String("team"), TagValue: aws.String("payments")},
				{TagKey: aws.String("keyturn:rotation"), TagValue: aws.String("planted")},
			}})
			check(t, err)
			check(t, h.allowAlice(old))
			h.alias("alias/"+name, old)
			h.put(rotation.Policy{Name: name, Alias: "alias/" + name, Lead: hour, Overlap: 4 * hour, Spec: string(kind.spec), Usage: string(kind.usage)})
			r := h.turn(name, rotation.StepDeactivate)
			was, is := h.describe(old), h.describe(r.NewKey)
			if is.KeySpec != kind.spec || is.KeyUsage != was.KeyUsage || *is.Description != *was.Description || is.Origin != was.Origin {
				t.Errorf("the successor is %+v, the old key %+v", is, was)
			}
			if !strings.Contains(h.policyOf(r.NewKey), "alice") {
				t.Errorf("the successor's policy is %s", h.policyOf(r.NewKey))
			}
			tags := h.tags(r.NewKey)
			if tags["team"] != "payments" || tags["keyturn:rotation"] == "planted" || len(tags) != 4 {
				t.Errorf("the successor's tags are %v", tags)
			}
			if got := h.names("alias/" + name); got != r.NewKey {
				t.Errorf("the alias names %s", got)
			}
			h.proofs(r, kind.proofs)
			h.forget()
		})
	}
}

// proofs checks what the history says of the test step, and that the public half is kept.
func (h *house) proofs(r rotation.Rotation, want int) {
	h.t.Helper()
	out, err := h.service.DescribeRotation(h.t.Context(), h.call("DescribeRotation"), &rotation.DescribeRotationInput{RotationId: r.RotationId})
	check(h.t, err)
	for _, e := range out.Events {
		if e.Step == rotation.StepTest && len(strings.Split(e.Note, "; ")) != want {
			h.t.Errorf("want %d proofs: %s", want, e.Note)
		}
	}
	var kept []byte
	check(h.t, h.db.QueryRow(h.t.Context(), `SELECT public_key FROM generations WHERE key_arn = $1`, r.NewKey).Scan(&kept))
	m := h.describe(r.NewKey)
	symmetric := m.KeySpec == types.KeySpecSymmetricDefault || m.KeyUsage == types.KeyUsageTypeGenerateVerifyMac
	if symmetric != (len(kept) == 0) {
		h.t.Errorf("the history keeps %d bytes of the public half of a %s key", len(kept), m.KeySpec)
	}
}

// An alias goes from RSA to elliptic curves to ML-DSA. What each key has signed verifies by the alias all along.
func TestMigration(t *testing.T) {
	h := newHouse(t, sqldbtest.SQLite(t))
	ctx := t.Context()
	h.alias(alias, h.key(types.KeySpecRsa2048, types.KeyUsageTypeSignVerify))
	message := []byte("a token")
	type made struct {
		alg       types.SigningAlgorithmSpec
		signature []byte
	}
	var all []made
	sign := func(alg types.SigningAlgorithmSpec) {
		t.Helper()
		out, err := h.admin.Sign(ctx, &sdk.SignInput{KeyId: aws.String(alias), Message: message, SigningAlgorithm: alg})
		check(t, err)
		all = append(all, made{alg, out.Signature})
		for _, m := range all {
			_, err := h.admin.Verify(ctx, &sdk.VerifyInput{KeyId: aws.String(alias), Message: message, Signature: m.signature, SigningAlgorithm: m.alg})
			check(t, err)
		}
	}
	p := rotation.Policy{Name: "signing", Alias: alias, Lead: hour, Overlap: 30 * 24 * hour}
	h.put(p)
	h.settle(p.Name)
	sign(types.SigningAlgorithmSpecRsassaPssSha256)
	for _, to := range []struct {
		spec types.KeySpec
		alg  types.SigningAlgorithmSpec
	}{
		{types.KeySpecEccNistP256, types.SigningAlgorithmSpecEcdsaSha256},
		{types.KeySpecMlDsa65, types.SigningAlgorithmSpecMlDsaShake256},
	} {
		p.Spec = string(to.spec)
		h.put(p)
		out, err := h.service.PlanRotation(ctx, h.call("PlanRotation"), &rotation.PlanRotationInput{Name: p.Name})
		check(t, err)
		if said := strings.Join(out.Plan.Warnings, "\n"); !strings.Contains(said, "migration") || !strings.Contains(said, p.Spec) {
			t.Errorf("the plan does not say the migration aloud: %s", said)
		}
		r := h.turn(p.Name, rotation.StepDeactivate)
		if got := h.describe(r.NewKey).KeySpec; got != to.spec {
			t.Errorf("the new key is of spec %s, want %s", got, to.spec)
		}
		sign(to.alg)
	}
}

// A spec that the alias could never name is refused before anything is made.
func TestImpossibleMigrationsAreRefused(t *testing.T) {
	h := newHouse(t, sqldbtest.SQLite(t))
	for spec, from := range map[types.KeySpec]types.KeyUsageType{
		types.KeySpecMlKem768:            types.KeyUsageTypeSignVerify,
		types.KeySpecSymmetricDefault:    types.KeyUsageTypeSignVerify,
		types.KeySpecEccNistEdwards25519: types.KeyUsageTypeKeyAgreement,
		types.KeySpecSm2:                 types.KeyUsageTypeSignVerify,
	} {
		name := strings.ToLower(string(spec))
		h.alias("alias/"+name, h.key(types.KeySpecEccNistP256, from))
		h.put(rotation.Policy{Name: name, Alias: "alias/" + name, Spec: string(spec)})
		h.wire.set(nil, nil)
		r := h.drive(h.rotate(name))
		if r.Status != rotation.StatusFailed || r.Step != rotation.StepInspect {
			t.Errorf("%s: the rotation is %s at %s", spec, r.Status, r.Step)
		}
		for _, call := range h.wire.set(nil, nil) {
			if call == "CreateKey" {
				t.Errorf("%s: a key was made", spec)
			}
		}
	}
}

// The bare recipe, create a key and move the alias, fails the verifiers that staged mode keeps.
func TestTheBareRecipeFailsTheVerifiersThatStagedModeKeeps(t *testing.T) {
	h := newHouse(t, sqldbtest.SQLite(t))
	turn := func(name string, change func(*rotation.Policy)) (broken []string) {
		p := h.lineage(name, change)
		h.settle(p.Name)
		id := h.rotate(p.Name)
		w := h.watch(p, id)
		w.policy.Lead = hour // how long the verifiers keep what they fetched
		w.look()
		h.wire.set(nil, func(int, string) { w.look() })
		h.driveUntil(id, func(r rotation.Rotation) bool { return !r.DoneAt[rotation.StepDeactivate].IsZero() })
		h.wire.set(nil, nil)
		h.forget()
		return w.broken
	}
	if broken := turn("staged", nil); len(broken) > 0 {
		t.Errorf("staged: %s", strings.Join(broken, "\n"))
	}
	broken := turn("instant", func(p *rotation.Policy) { p.Mode, p.Lead = rotation.ModeInstant, 0 })
	outage := 0
	for _, what := range broken {
		if strings.HasPrefix(what, "2: ") || strings.Contains(what, "the set lacks") {
			outage++ // whoever fetched before the switch, and whoever fetches before it is recorded
		} else {
			t.Errorf("instant: %s", what)
		}
	}
	if outage == 0 {
		t.Error("the bare recipe broke no verifier: the test sees nothing")
	}
}

// A policy of a key that names the key itself names the successor afterwards, wherever it stands.
func TestTheSuccessorsPolicyNamesTheSuccessor(t *testing.T) {
	h := newHouse(t, sqldbtest.SQLite(t))
	old := h.key(types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify)
	id := old[strings.LastIndexByte(old, '/')+1:]
	text := `{"Version":"2012-10-17","Id":"policy of ` + id + `","Statement":[
		{"Sid":"all","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + account + `:root"},"Action":"kms:*","Resource":["` + old + `"]},
		{"Sid":"keyturnDeactivated","Effect":"Deny","Principal":"*","Action":"kms:Encrypt","Resource":"*"}]}`
	_, err := h.admin.PutKeyPolicy(t.Context(), &sdk.PutKeyPolicyInput{KeyId: &old, Policy: &text})
	check(t, err)
	before := h.policyOf(old)
	h.alias(alias, old)
	h.put(rotation.Policy{Name: "signing", Alias: alias, Lead: hour})
	r := h.turn("signing", rotation.StepDeactivate)
	got := h.policyOf(r.NewKey)
	newID := r.NewKey[strings.LastIndexByte(r.NewKey, '/')+1:]
	if strings.Contains(got, id) || !strings.Contains(got, "policy of "+newID) || strings.Contains(got, "keyturnDeactivated") {
		t.Errorf("the successor's policy is %s", got)
	}
	if h.policyOf(old) != before {
		t.Error("the old key's policy was changed")
	}
}

// An answer of CreateKey that comes so late that another key was made instead leaves a surplus key: it is removed.
func TestASurplusKeyOfALateCallIsRemoved(t *testing.T) {
	t.Run("found by its tag", func(t *testing.T) { surplusKey(t, newHouse(t, sqldbtest.SQLite(t))) })
	t.Run("found page by page", func(t *testing.T) {
		h := newHouse(t, sqldbtest.SQLite(t))
		h.page()
		h.crowd(120)
		surplusKey(t, h)
	})
}

func surplusKey(t *testing.T, h *house) {
	p := h.lineage("late", nil)
	h.settle(p.Name)
	var late func()
	h.wire.set(func(_ int, operation string) breakage {
		if operation != "CreateKey" || late != nil {
			return whole
		}
		late = func() {}
		return lostRequest
	}, nil)
	id := h.rotate(p.Name)
	r := h.driveUntil(id, func(r rotation.Rotation) bool { return r.NewKey != "" })
	token := h.tags(r.NewKey)["keyturn:rotation"]
	// The lost call arrives after all, as if it had been on its way for as long as that.
	out, err := h.admin.CreateKey(t.Context(), &sdk.CreateKeyInput{
		KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify, Tags: []types.Tag{
			{TagKey: aws.String("keyturn:rotation"), TagValue: &token},
			{TagKey: aws.String("keyturn:lineage"), TagValue: aws.String("arn:aws:kms:" + region + ":" + account + ":" + p.Alias)},
		},
	})
	check(t, err)
	surplus := *out.KeyMetadata.Arn
	r = h.driveUntil(id, func(r rotation.Rotation) bool { return !r.DoneAt[rotation.StepDeactivate].IsZero() })
	if state := h.describe(surplus).KeyState; state != types.KeyStatePendingDeletion {
		t.Errorf("the surplus key is %s", state)
	}
	if state := h.describe(r.NewKey).KeyState; state != types.KeyStateEnabled {
		t.Errorf("the new key is %s", state)
	}
}

// Verifying with the old key lengthens the overlap; nothing shortens it.
func TestUseLengthensTheOverlap(t *testing.T) {
	h := newHouse(t, sqldbtest.SQLite(t))
	p := h.lineage("used", func(p *rotation.Policy) {
		p.Lead, p.Overlap = rotation.Duration(time.Second), rotation.Duration(8*time.Second)
	})
	message := []byte("a token")
	signed, err := h.admin.Sign(t.Context(), &sdk.SignInput{KeyId: &p.Alias, Message: message, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
	check(t, err)
	h.settle(p.Name)
	r := h.turn(p.Name, rotation.StepDeactivate)
	// The server notes the real time of a use. Virtual time goes on to the moment before the overlap ends.
	ends := r.DoneAt[rotation.StepDeactivate].Add(8 * time.Second)
	h.clock.to(ends)
	h.clock.set(time.Now().UTC().Truncate(time.Microsecond))
	_, err = h.admin.Verify(t.Context(), &sdk.VerifyInput{KeyId: &r.OldKey, Message: message, Signature: signed.Signature, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
	check(t, err)
	job := h.testJob(r.NewKey)
	job.Row.Step, job.Row.Data.OldKey, job.Now = rotation.StepSuspend, r.OldKey, time.Now()
	policy := p.WithDefaults()
	policy.Target, policy.Account, policy.Region = "local", account, region
	job.Policy = &policy
	job.Old = &rotation.Generation{Key: r.OldKey, Made: rotation.MadeAdopted}
	out, err := h.rotator.Do(t.Context(), job)
	check(t, err)
	if out.Wait <= 0 || out.Wait > 2*time.Second || !strings.Contains(out.Note, "still used") {
		t.Errorf("a key that was used just now is not waited for: %+v", out)
	}
	job.Now = time.Now().Add(time.Hour)
	out, err = h.rotator.Do(t.Context(), job)
	check(t, err)
	if out.Wait != 0 || h.describe(r.OldKey).KeyState != types.KeyStateDisabled {
		t.Errorf("a key that nobody uses is waited for: %+v", out)
	}
}

// A successor rotates by itself as its predecessor does: with the same period, or not at all. An answer that is lost
// on the way changes nothing.
func TestAutomaticRotationIsCarriedOver(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := newHouse(t, db)
		status := func(key string) (days int32) {
			out, err := h.admin.GetKeyRotationStatus(t.Context(), &sdk.GetKeyRotationStatusInput{KeyId: &key})
			check(t, err)
			if out.KeyRotationEnabled != (out.RotationPeriodInDays != nil) || out.KeyRotationEnabled != (out.NextRotationDate != nil) {
				t.Errorf("%+v", out)
			}
			return aws.ToInt32(out.RotationPeriodInDays)
		}
		for name, days := range map[string]int32{"off": 0, "yearly": 365, "own": 200} {
			old := h.key(types.KeySpecSymmetricDefault, types.KeyUsageTypeEncryptDecrypt)
			if days > 0 {
				_, err := h.admin.EnableKeyRotation(t.Context(), &sdk.EnableKeyRotationInput{KeyId: &old, RotationPeriodInDays: &days})
				check(t, err)
			}
			h.alias("alias/"+name, old)
			h.put(rotation.Policy{Name: name, Alias: "alias/" + name, Lead: hour})
			plan, err := h.service.PlanRotation(t.Context(), h.call("PlanRotation"), &rotation.PlanRotationInput{Name: name})
			check(t, err)
			var planned []string
			for _, s := range plan.Plan.Steps {
				planned = append(planned, s.Calls...)
			}
			if says := strings.Contains(strings.Join(planned, "; "), "EnableKeyRotation"); says != (days > 0) {
				t.Errorf("%s: the plan is %v", name, planned)
			}
			lost := 0
			h.wire.set(func(_ int, operation string) breakage {
				if operation == "EnableKeyRotation" && lost == 0 {
					lost++
					return lostAnswer
				}
				return whole
			}, nil)
			r := h.turn(name, rotation.StepSwitch)
			h.wire.set(nil, nil)
			if got := status(r.NewKey); got != days || status(old) != days {
				t.Errorf("%s: the successor rotates every %d days, its predecessor every %d", name, got, status(old))
			}
			if lost != int(min(days, 1)) {
				t.Errorf("%s: %d calls", name, lost)
			}
			h.forget()
		}
	})
}
