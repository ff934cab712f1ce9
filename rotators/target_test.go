package rotators_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotators"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// away plays an AWS account: it knows nothing of generations, and the rotator limits itself. It runs in virtual time.
func away(t *testing.T, run func(t *testing.T, h *house)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, sqldbtest.SQLite(t))
		h.local = false
		run(t, h)
	})
}

func abroad(p *rotation.Policy) {
	p.Target, p.Account, p.Region, p.Deactivate = "here", account, region, rotation.DeactivateDeny
}

// In an AWS account a statement in the key policy keeps the old key from signing, and a roll back takes exactly that
// statement out again.
func TestADenyStatementDeactivates(t *testing.T) {
	away(t, func(t *testing.T, h *house) {
		p := h.lineage("abroad", abroad)
		message := []byte("a token")
		signed, err := h.admin.Sign(t.Context(), &sdk.SignInput{KeyId: &p.Alias, Message: message, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
		check(t, err)
		old := h.names(p.Alias)
		before := h.policyOf(old)
		h.turn(p.Name, rotation.StepDeactivate)
		_, err = h.admin.Sign(t.Context(), &sdk.SignInput{KeyId: &old, Message: message, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
		if err == nil || !strings.Contains(err.Error(), "AccessDenied") {
			t.Errorf("signing with the deactivated key: %v", err)
		}
		_, err = h.admin.Verify(t.Context(), &sdk.VerifyInput{KeyId: &old, Message: message, Signature: signed.Signature, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
		check(t, err)
		out, err := h.service.RollBack(t.Context(), h.call("RollBack"), &rotation.RollBackInput{Name: p.Name})
		check(t, err)
		if r := h.drive(out.Rotation.RotationId); r.Status != rotation.StatusDone {
			t.Fatalf("the roll back is %s at %s: %s", r.Status, r.Step, r.Error)
		}
		if strings.Contains(h.policyOf(old), "keyturnDeactivated") || !sameStatements(h.policyOf(old), before) {
			t.Errorf("after the roll back the policy is %s, before it was %s", h.policyOf(old), before)
		}
	})
}

// sameStatements compares two policies as far as this test needs it: by the Sids they hold.
func sameStatements(a, b string) bool {
	return strings.Count(a, `"Effect"`) == strings.Count(b, `"Effect"`) && strings.Count(a, `"Sid"`) == strings.Count(b, `"Sid"`)
}

// A key policy that somebody changes between the rotator's look and its write is not overwritten.
func TestAPolicyThatChangesUnderWayIsKept(t *testing.T) {
	away(t, func(t *testing.T, h *house) {
		p := h.lineage("edited", abroad)
		old := h.names(p.Alias)
		r := h.turn(p.Name, rotation.StepSwitch)
		reads := 0
		h.wire.set(nil, func(_ int, operation string) {
			if operation == "GetKeyPolicy" {
				if reads++; reads == 1 {
					check(t, h.allowAlice(old))
				}
			}
		})
		h.driveUntil(r.RotationId, func(r rotation.Rotation) bool { return !r.DoneAt[rotation.StepDeactivate].IsZero() })
		if got := h.policyOf(old); !strings.Contains(got, "alice") || !strings.Contains(got, "keyturnDeactivated") {
			t.Errorf("the key policy is %s", got)
		}
	})
}

// Management calls to an account stay well below its quotas: 5 a second for CreateKey, CreateAlias and UpdateAlias together.
func TestTheRotatorLimitsItself(t *testing.T) {
	away(t, func(t *testing.T, h *house) {
		var mu sync.Mutex
		var calls []time.Time
		h.wire.set(nil, func(_ int, operation string) {
			switch operation {
			case "CreateKey", "CreateAlias", "UpdateAlias":
				mu.Lock()
				calls = append(calls, time.Now())
				mu.Unlock()
			}
		})
		for _, name := range []string{"a", "b", "c"} {
			p := h.lineage(name, abroad)
			h.turn(p.Name, rotation.StepDeactivate)
		}
		h.wire.set(nil, nil)
		if len(calls) < 12 {
			t.Fatalf("only %d calls", len(calls))
		}
		for i := range calls[5:] {
			if d := calls[i+5].Sub(calls[i]); d < time.Second {
				t.Errorf("calls %d to %d came within %v", i+1, i+6, d)
			}
		}
	})
}

// Somebody who still wants a disabled key gets it back, and a person is told.
func TestAKeyThatIsWantedIsEnabledAgain(t *testing.T) {
	h := newHouse(t, sqldbtest.SQLite(t))
	wanted := 0
	h.rotator = rotators.NewKey(rotators.KeyOptions{Wanted: func(context.Context, rotation.Target, string, time.Time) (rotators.Demand, error) {
		return rotators.Demand{Calls: wanted, Last: h.clock.Now(), By: "arn:aws:iam::111122223333:user/batch"}, nil
	}})
	p := h.lineage("wanted", nil)
	h.settle(p.Name)
	id := h.rotate(p.Name)
	h.driveUntil(id, func(r rotation.Rotation) bool { return !r.DoneAt[rotation.StepSuspend].IsZero() })
	wanted = 3
	r := h.drive(id)
	if r.Status != rotation.StatusFailed || !strings.Contains(r.Error, "wanted 3 times") || !strings.Contains(r.Error, "user/batch") {
		t.Fatalf("the rotation is %s: %s", r.Status, r.Error)
	}
	if state := h.describe(r.OldKey).KeyState; state != types.KeyStateEnabled {
		t.Errorf("the old key is %s", state)
	}
	wanted = 0
	_, err := h.service.ResumePolicy(t.Context(), h.call("ResumePolicy"), &rotation.ResumePolicyInput{Name: p.Name})
	check(t, err)
	if r = h.drive(id); r.Status != rotation.StatusDone {
		t.Errorf("resumed, the rotation is %s at %s: %s", r.Status, r.Step, r.Error)
	}
}

// What will not change is not tried again; what passes is.
func TestErrorsArePermanentOrTriedAgain(t *testing.T) {
	h := newHouse(t, sqldbtest.SQLite(t))
	for code, permanent := range map[string]bool{
		"AccessDeniedException": true, "LimitExceededException": true, "MalformedPolicyDocumentException": true, "ValidationException": true,
		"ThrottlingException": false, "KMSInternalException": false, "DependencyTimeoutException": false, "KMSInvalidStateException": false,
	} {
		t.Run(code, func(t *testing.T) {
			p := h.lineage(strings.ToLower(code), nil)
			h.settle(p.Name)
			left := 2
			h.wire.answers = func(operation, _ string) string {
				if operation != "CreateKey" || left == 0 {
					return ""
				}
				left--
				return code
			}
			defer func() { h.wire.answers = nil; h.forget() }()
			r := h.drive(h.rotate(p.Name))
			if !permanent {
				if r.Status != rotation.StatusDone {
					t.Errorf("the rotation is %s at %s: %s", r.Status, r.Step, r.Error)
				}
				return
			}
			if r.Status != rotation.StatusFailed || r.Hint == "" || left != 1 {
				t.Errorf("the rotation is %s after %d attempts: %s (%s)", r.Status, 2-left, r.Error, r.Hint)
			}
			if got := h.names(p.Alias); got != r.OldKey {
				t.Errorf("the alias names %s", got)
			}
		})
	}
}

// When the network never comes back the rotation fails, the old key stays current, and cancelling leaves nothing.
func TestARotationThatGivesUpLeavesTheOldKeyCurrent(t *testing.T) {
	h := newHouse(t, sqldbtest.SQLite(t))
	p := h.lineage("gives-up", nil)
	h.settle(p.Name)
	id := h.rotate(p.Name)
	w := h.watch(p, id)
	h.wire.set(func(_ int, operation string) breakage {
		if operation == "UpdateAlias" {
			return lostRequest
		}
		return whole
	}, func(int, string) { w.look() })
	r := h.drive(id)
	h.wire.set(nil, nil)
	w.look()
	if r.Status != rotation.StatusFailed || len(w.broken) > 0 {
		t.Fatalf("the rotation is %s: %s; %v", r.Status, r.Error, w.broken)
	}
	out, err := h.service.CancelRotation(t.Context(), h.call("CancelRotation"), &rotation.CancelRotationInput{Name: p.Name, Rotation: id})
	check(t, err)
	if r = h.drive(out.Rotation.RotationId); r.Status != rotation.StatusCanceled {
		t.Fatalf("the cancel is %s: %s", r.Status, r.Error)
	}
	if state := h.describe(r.NewKey).KeyState; state != types.KeyStatePendingDeletion {
		t.Errorf("the pending key is %s", state)
	}
}

// A plan changes nothing, and says what it would do and what it could not find out.
func TestAPlanChangesNothing(t *testing.T) {
	h := newHouse(t, sqldbtest.SQLite(t))
	p := h.lineage("planned", func(p *rotation.Policy) { p.Mode, p.Lead = rotation.ModeInstant, 0 })
	old := h.names(p.Alias)
	h.alias("alias/friend", old)
	before := h.state()
	out, err := h.service.PlanRotation(t.Context(), h.call("PlanRotation"), &rotation.PlanRotationInput{Policy: &p})
	check(t, err)
	if h.state() != before {
		t.Error("planning changed something")
	}
	said := strings.Join(out.Plan.Warnings, "\n")
	for _, want := range []string{"Mode instant", "alias/friend"} {
		if !strings.Contains(said, want) {
			t.Errorf("the plan does not warn of %q: %s", want, said)
		}
	}
	calls := map[rotation.Step]string{}
	for _, s := range out.Plan.Steps {
		calls[s.Step] = strings.Join(s.Calls, "\n")
	}
	for step, want := range map[rotation.Step]string{
		rotation.StepCreate: "CreateKey (ECC_NIST_P256, SIGN_VERIFY)", rotation.StepSwitch: "UpdateAlias (" + p.Alias,
		rotation.StepDestroy: "ScheduleKeyDeletion (the old key, 7 days)", rotation.StepTest: "Sign (the new key, ECDSA_SHA_256)",
	} {
		if !strings.Contains(calls[step], want) {
			t.Errorf("%s would call %q, not %q", step, calls[step], want)
		}
	}
	checks := map[string]rotation.Check{}
	for _, c := range out.Plan.Checks {
		if !c.OK {
			t.Errorf("%s: %s", c.Name, c.Detail)
		}
		checks[c.Name] = c
	}
	for _, name := range []string{"alias", "key", "key policy", "tags", "alias names", "who depends on it", "grants", "last use", "permission kms:Sign"} {
		if _, ok := checks[name]; !ok {
			t.Errorf("the plan does not look at: %s", name)
		}
	}
}

// What is called in a rotation is what the plan said.
func TestAPlanNamesEveryCallThatChangesSomething(t *testing.T) {
	h := newHouse(t, sqldbtest.SQLite(t))
	p := h.lineage("told", nil)
	out, err := h.service.PlanRotation(t.Context(), h.call("PlanRotation"), &rotation.PlanRotationInput{Name: p.Name})
	check(t, err)
	planned := ""
	for _, s := range out.Plan.Steps {
		planned += strings.Join(s.Calls, "\n") + "\n"
	}
	h.wire.set(nil, nil)
	h.drive(h.rotate(p.Name))
	for _, call := range h.wire.set(nil, nil) {
		if !strings.Contains(planned, call) {
			t.Errorf("%s was called and not planned", call)
		}
	}
}

// Two engines on one database turn a key once.
func TestTwoEnginesTurnAKeyOnce(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := newHouse(t, db)
		p := h.lineage("raced", nil)
		h.settle(p.Name)
		id := h.rotate(p.Name)
		w := h.watch(p, id)
		engines := []*engine{h.start(), h.start()}
		for range 500 {
			r := h.rotation(id)
			if r.Status == rotation.StatusDone {
				w.look()
				w.orphans()
				if len(w.broken) > 0 {
					t.Fatal(strings.Join(w.broken, "\n"))
				}
				return
			}
			if r.Status == rotation.StatusFailed {
				t.Fatalf("the rotation failed: %s", r.Error)
			}
			worked := make([]bool, len(engines))
			var both sync.WaitGroup
			for i, e := range engines {
				both.Go(func() { worked[i], _ = e.RunOnce(e.ctx) }) // losing the race is no failure
			}
			both.Wait()
			w.look()
			if worked[0] || worked[1] {
				continue
			}
			due, err := h.table.Due(t.Context(), 1)
			check(t, err)
			h.clock.to(due[0].Row.Wake())
			_, err = h.kms.RunOnce(t.Context())
			check(t, err)
		}
		t.Fatal("the rotation never ends")
	})
}

func TestAWSTarget(t *testing.T) {
	for _, name := range []string{"AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	got, err := rotators.AWSTarget{
		Name: "prod", Region: "us-west-2", Endpoint: "http://127.0.0.1:1", RoleARN: "arn:aws:iam::444455556666:role/turner", ExternalID: "x",
	}.Open(t.Context())
	check(t, err)
	if got.Account != "444455556666" || got.Region != "us-west-2" || got.Local || *got.Config.BaseEndpoint != "http://127.0.0.1:1" {
		t.Errorf("the target is %+v", got)
	}
	for want, target := range map[string]rotators.AWSTarget{
		"no Region is set":             {Name: "prod"},
		"needs a role to assume":       {Name: "prod", Region: "us-west-2", ExternalID: "x"},
		"opening target prod: failed ": {Name: "prod", Region: "us-west-2", Profile: "missing"},
	} {
		if _, err := target.Open(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
