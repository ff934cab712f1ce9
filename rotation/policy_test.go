package rotation_test

import (
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/keyturn/keyturn/rotation"
)

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90d": 90 * day, "24h": day, "1d12h": 36 * time.Hour, "15m": 15 * time.Minute, "30s": 30 * time.Second,
		"500ms": 500 * time.Millisecond, "1m30s": 90 * time.Second, "1d": day, "2h": 2 * time.Hour,
	} {
		d, err := rotation.ParseDuration(text)
		if err != nil || time.Duration(d) != want {
			t.Errorf("%s is read as %v: %v", text, time.Duration(d), err)
		}
		if again, err := rotation.ParseDuration(d.String()); err != nil || again != d {
			t.Errorf("%s is written as %s", text, d)
		}
	}
	if d, err := rotation.ParseDuration("forever"); err != nil || d != rotation.Forever || d.String() != "forever" {
		t.Errorf("forever: %s %v", d, err)
	}
	for _, text := range []string{"", "0s", "0d", "-1h", "1", "d", "1w", "99999d", "1d-1h", "5000000h", "1d1d", "+1d", "1 d", "forever1"} {
		if d, err := rotation.ParseDuration(text); err == nil {
			t.Errorf("%q is read as %s", text, d)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		d := rotation.Duration(rapid.Int64Range(1, int64(100*365*day)).Draw(t, "d"))
		if again, err := rotation.ParseDuration(d.String()); err != nil || again != d {
			t.Fatalf("%d is written as %s: %v", d, d, err)
		}
	})
}

func TestPolicyDefaultsAreSafe(t *testing.T) {
	p := rotation.Policy{Name: "p", Alias: "alias/p"}
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	p = p.WithDefaults()
	if p.Mode != rotation.ModeStaged || time.Duration(p.Lead) != day || p.Destroy != nil || p.Adopt != rotation.AdoptKeep || p.Target != "local" || p.Deactivate != rotation.DeactivateEnforce {
		t.Errorf("%+v", p)
	}
	row := &rotation.Row{Kind: rotation.KindRotate}
	for usage, want := range map[string]time.Duration{"SIGN_VERIFY": 30 * day, "GENERATE_VERIFY_MAC": 30 * day, "ENCRYPT_DECRYPT": time.Duration(rotation.Forever)} {
		row.Data.Usage = usage
		for _, s := range rotation.KeySteps(row, &p) {
			if s.Name == rotation.StepSuspend && time.Duration(s.Delay) != want {
				t.Errorf("%s is suspended after %s", usage, s.Delay)
			}
			if s.Name == rotation.StepDestroy && s.Skip == "" {
				t.Errorf("%s is destroyed", usage)
			}
		}
	}
}

func TestPolicyNamesEverythingThatIsWrong(t *testing.T) {
	p := rotation.Policy{
		Name: "a b", Alias: "payments", Target: "not a target", Account: "1", Region: "mars", Schedule: "rate(1 fortnight)", Timezone: "Moon/Crater",
		Mode: "sudden", Lead: rotation.Forever, Spec: "rsa", Usage: "sign", Deactivate: "maybe", Adopt: "perhaps", MaxAttempts: -1, MaxKeysPerDay: -1,
		Destroy: &rotation.DestroyRule{PendingWindow: rotation.Duration(time.Hour)},
	}
	err := p.Validate()
	if err == nil {
		t.Fatal("it is valid")
	}
	for _, member := range []string{
		"name:", "alias:", "target:", "account:", "region:", "timezone:", "mode:", "lead:", "spec:", "usage:",
		"deactivate:", "adopt:", "maxAttempts:", "maxKeysPerDay:", "destroy.pendingWindow:",
	} {
		if !strings.Contains(err.Error(), member) {
			t.Errorf("%s is not named in: %v", member, err)
		}
	}
	for name, change := range map[string]func(*rotation.Policy){
		"schedule:": func(p *rotation.Policy) { p.Schedule = "rate(1 fortnight)" },
		"window":    func(p *rotation.Policy) { p.Window = rotation.Duration(time.Hour) },
		"lead:":     func(p *rotation.Policy) { p.Mode, p.Lead = rotation.ModeInstant, rotation.Duration(time.Hour) },
		"alias:":    func(p *rotation.Policy) { p.Alias = "alias/payments/next" },
		"aws":       func(p *rotation.Policy) { p.Alias = "alias/aws/s3" },
		"freeze[0]": func(p *rotation.Policy) { p.Freeze = []rotation.Period{{}} },
		"destroy:":  func(p *rotation.Policy) { p.Destroy, p.Overlap = &rotation.DestroyRule{}, rotation.Forever },
	} {
		p := rotation.Policy{Name: "p", Alias: "alias/p"}
		change(&p)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPolicyDocument: JSON and YAML read and write the same document.
func TestPolicyDocument(t *testing.T) {
	text := `
name: payments
alias: alias/payments
schedule: cron(0 3 1 * ? *)
window: 4h
timezone: Europe/Berlin
freeze:
  - from: 12-20
    to: 01-06
    reason: Christmas
lead: 36h
overlap: 90d
destroy:
  pendingWindow: 14d
paused: true
`
	var fromYAML, fromJSON rotation.Policy
	decoder := yaml.NewDecoder(strings.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&fromYAML); err != nil {
		t.Fatal(err)
	}
	if err := fromYAML.Validate(); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(fromYAML)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"name":"payments","alias":"alias/payments","schedule":"cron(0 3 1 * ? *)","window":"4h","timezone":"Europe/Berlin",` +
		`"freeze":[{"from":"12-20","to":"01-06","reason":"Christmas"}],"lead":"1d12h","overlap":"90d","destroy":{"pendingWindow":"14d"},"paused":true}`
	if string(b) != want {
		t.Errorf("written as\n%s, want\n%s", b, want)
	}
	if err := json.Unmarshal(b, &fromJSON, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	y, err := yaml.Marshal(fromJSON)
	if err != nil {
		t.Fatal(err)
	}
	var again rotation.Policy
	if err := yaml.Unmarshal(y, &again); err != nil || again.Lead != fromYAML.Lead || again.Destroy.PendingWindow != fromYAML.Destroy.PendingWindow {
		t.Errorf("%v\n%s", err, y)
	}
}
