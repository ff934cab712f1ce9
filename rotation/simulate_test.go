package rotation_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyturn/keyturn/rotation"
)

const (
	hours = rotation.Duration(time.Hour)
	days  = 24 * hours
)

func simulate(t testing.TB, from, to string, limit int, policies ...*rotation.Policy) []rotation.CalendarEntry {
	t.Helper()
	calendar, err := rotation.Simulate(policies, at(t, "UTC", from), at(t, "UTC", to), limit)
	if err != nil {
		t.Fatal(err)
	}
	return calendar
}

func lines(calendar []rotation.CalendarEntry, loc *time.Location) string {
	var b strings.Builder
	for _, e := range calendar {
		fmt.Fprintf(&b, "%s %d %s %s %s\n", e.At.In(loc).Format("2006-01-02 15:04"), e.Rotation, e.Step, e.Note, e.Warning)
	}
	return strings.NewReplacer("  \n", "\n", " \n", "\n").Replace(b.String())
}

// The whole life of two generations, over a freeze and the end of summer time.
func TestSimulateTellsTheLifeOfALineage(t *testing.T) {
	policy := &rotation.Policy{
		Name: "payments", Alias: "alias/payments", Schedule: "cron(0 2 1 * ? *)", Window: 2 * hours, Timezone: "Europe/Berlin",
		Freeze: []rotation.Period{period(t, "12-20", "01-05")}, Overlap: 45 * days, Destroy: &rotation.DestroyRule{PendingWindow: 7 * days},
	}
	got := lines(simulate(t, "2026-10-10 10:00", "2027-02-15 10:00", 1000, policy), zone(t, "Europe/Berlin"))
	const want = `2026-10-10 12:00 0   The lead (24h) does not fit into the window (2h): a rotation begins ahead of its window and switches inside it.
2026-10-10 12:00 0   Old keys are destroyed in the end. Make sure that nothing needs them by then.
2026-10-31 02:00 1 inspect v1
2026-10-31 02:00 1 create v2
2026-10-31 02:00 1 publish v2
2026-11-01 02:00 1 test v2
2026-11-01 02:00 1 switch v2
2026-11-01 02:00 0   the overlap (45d) is longer than the interval (30d): up to 2 old generations are needed at once
2026-11-01 02:00 1 deactivate v1
2026-11-30 02:00 2 inspect v2
2026-11-30 02:00 2 create v3
2026-11-30 02:00 2 publish v3
2026-12-01 02:00 2 test v3
2026-12-01 02:00 2 switch v3
2026-12-01 02:00 2 deactivate v2
2027-01-15 02:00 2 suspend v2
2027-01-22 02:00 2 watch v2
2027-01-22 02:00 2 destroy v2
2027-01-29 02:00 2 confirm v2
2027-01-31 02:00 3 inspect v3 the start of 2027-01-01 02:00 CET falls into the freeze 12-20 to 01-05
2027-01-31 02:00 3 create v4
2027-01-31 02:00 3 publish v4
2027-02-01 02:00 3 test v4
2027-02-01 02:00 3 switch v4
2027-02-01 02:00 3 deactivate v3
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestSimulateWarns(t *testing.T) {
	freeze := []rotation.Period{period(t, "2026-10-14", "2026-10-15")}
	for _, test := range []struct {
		policy rotation.Policy
		want   string // "": no warning at all
	}{
		{rotation.Policy{Schedule: "rate(60 days)"}, ""},
		{rotation.Policy{Schedule: "rate(60 days)", Freeze: freeze}, ""},
		{rotation.Policy{Schedule: "rate(1 day)", Spec: "SYMMETRIC_DEFAULT"}, ""}, // kept for ever anyway
		{rotation.Policy{Schedule: "rate(10 days)"}, "1 the overlap (30d) is longer than the interval (10d): up to 3 old generations are needed at once"},
		{rotation.Policy{Schedule: "rate(1 hour)"}, "1 the publication lead (24h) is longer than the interval (1h): rotations come late"},
		{rotation.Policy{Schedule: "rate(1 hour)"}, "4 11:00 UTC was missed"},
		{rotation.Policy{Schedule: "rate(60 days)", Mode: rotation.ModeInstant}, "1 Mode instant publishes nothing ahead"},
		{rotation.Policy{Schedule: "rate(60 days)", Paused: true}, "1 the policy is paused: nothing happens until it is resumed"},
		{rotation.Policy{}, "1 Without a schedule the alias turns by hand only"},
		{rotation.Policy{Schedule: "cron(0 12 20 10 ? 2026)"}, "1 the schedule cron(0 12 20 10 ? 2026) has no further start outside the freezes"},
		{rotation.Policy{Schedule: "cron(0 12 14 * ? *)", Freeze: freeze}, "1 the start of 2026-10-14 12:00 UTC falls into the freeze 2026-10-14 to 2026-10-15"},
		// Put on the 12th, it cannot switch on the 13th; then the freeze is on.
		{rotation.Policy{Schedule: "rate(1 day)", Lead: 30 * hours, Freeze: freeze}, "1 the freeze 2026-10-14 to 2026-10-15 holds it up from"},
		{rotation.Policy{Schedule: "rate(1 hour)", Lead: hours / 4, MaxKeysPerDay: 2}, "1 the start of 2026-10-12 13:00 UTC finds 2 rotations begun within a day (maxKeysPerDay)"},
	} {
		p := test.policy
		p.Name, p.Alias = "payments", "alias/payments"
		var warnings []string
		for _, e := range simulate(t, "2026-10-12 10:00", "2027-03-01 10:00", 30, &p) {
			if e.Warning != "" {
				warnings = append(warnings, e.Warning)
			}
			if e.Policy != "payments" || e.Alias != "alias/payments" || (e.Step == "") == (e.Note != "") {
				t.Errorf("%+v: entry %+v", test.policy, e)
			}
		}
		all := strings.Join(warnings, "\n")
		least, text, _ := strings.Cut(test.want, " ")
		if n := fmt.Sprint(strings.Count(all, text)); test.want == "" && all != "" || test.want != "" && (n < least || n == "0") {
			t.Errorf("%+v: %q is not among\n%s", test.policy, test.want, all)
		}
	}
}

func TestSimulateRefuses(t *testing.T) {
	good := &rotation.Policy{Name: "good", Alias: "alias/good", Schedule: "rate(30 days)"}
	for want, policy := range map[string]*rotation.Policy{
		"simulating policy bad: schedule: reading schedule": {Name: "bad", Alias: "alias/bad", Schedule: "rate(0 days)"},
		"rotator secret is not simulated":                   {Name: "bad", Alias: "alias/bad", Schedule: "rate(30 days)", Rotator: "secret"},
	} {
		calendar, err := rotation.Simulate([]*rotation.Policy{good, policy}, time.Unix(0, 0), time.Unix(1e9, 0), 10)
		if err == nil || calendar != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", policy, err, want)
		}
	}
	if _, err := rotation.Simulate([]*rotation.Policy{good}, time.Unix(0, 0), time.Unix(1e9, 0), 0); err == nil {
		t.Error("a limit of 0 was accepted")
	}
	if calendar := simulate(t, "2026-10-12 10:00", "2026-10-01 10:00", 10, good); len(calendar) != 0 {
		t.Errorf("a time that ends before it begins: %v", calendar)
	}
}

// fleet is n policies of all sorts.
func fleet(t testing.TB, n int) []*rotation.Policy {
	schedules := []string{"rate(30 days)", "rate(90 days)", "cron(0 2 1 * ? *)", "cron(0 1 ? 1/3 SUN#1 *)", "cron(30 22 ? * SAT *)", "cron(0 17 LW * ? *)"}
	zones := []string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"}
	var policies []*rotation.Policy
	for i := range n {
		p := &rotation.Policy{
			Name: fmt.Sprintf("p%d", i), Alias: fmt.Sprintf("alias/p%d", i), Schedule: schedules[i%len(schedules)], Timezone: zones[i%len(zones)],
			Spread: hours, Destroy: &rotation.DestroyRule{PendingWindow: 7 * days}, Overlap: rotation.Duration(1+i%50) * days, Lead: rotation.Duration(1+i%60) * hours,
		}
		if i%4 == 0 {
			p.Window = 2 * hours
		}
		if i%3 == 0 {
			p.Freeze = []rotation.Period{period(t, "12-20", "01-05"), period(t, "2027-04-01", "2027-04-03")}
		}
		if i%10 == 0 {
			p.Mode, p.Lead = rotation.ModeInstant, 0
		}
		policies = append(policies, p)
	}
	return policies
}

// A year of a thousand lineages: the promises of a rotation hold for each of them.
func TestSimulateAYearOfAThousandLineages(t *testing.T) {
	policies := map[string]*rotation.Policy{}
	list := fleet(t, 1000)
	for _, p := range list {
		policies[p.Name] = p
	}
	calendar := simulate(t, "2026-10-10 10:00", "2027-10-10 10:00", 10_000_000, list...)

	type turn struct {
		policy   string
		rotation int
	}
	done := map[turn]map[rotation.Step]time.Time{}
	last := time.Time{}
	switches := map[string]int{}
	for _, e := range calendar {
		if e.At.Before(last) {
			t.Fatalf("%+v comes after %v", e, last)
		}
		last = e.At
		if e.Step == "" {
			continue
		}
		p, key := policies[e.Policy], turn{e.Policy, e.Rotation}
		if done[key] == nil {
			done[key] = map[rotation.Step]time.Time{}
		}
		steps := done[key]
		if !steps[e.Step].IsZero() {
			t.Fatalf("%+v: the step was done at %v already", e, steps[e.Step])
		}
		steps[e.Step] = e.At
		since := func(step rotation.Step) rotation.Duration {
			if steps[step].IsZero() {
				t.Fatalf("%+v comes before %s", e, step)
			}
			return rotation.Duration(e.At.Sub(steps[step]))
		}
		switch e.Step {
		case rotation.StepSwitch:
			since(rotation.StepTest)
			if p.Mode != rotation.ModeInstant && since(rotation.StepPublish) < p.Lead {
				t.Fatalf("%+v: published for %v only, the lead is %v", e, since(rotation.StepPublish), p.Lead)
			}
			loc := zone(t, p.Timezone)
			if _, frozen := (&rotation.Calendar{Location: loc, Freeze: p.Freeze}).Frozen(e.At); frozen {
				t.Fatalf("%+v: during a freeze", e)
			}
			if s := schedule(t, p.Schedule); p.Window != 0 && !s.IsRate() {
				// Inside a window of the calendar, whatever the machine believes.
				c := rotation.Calendar{Schedule: s, Location: loc, Window: time.Duration(p.Window), Freeze: p.Freeze}
				if opens, _ := c.Next(e.At.Add(-time.Duration(p.Window)), ""); opens.After(e.At) {
					t.Fatalf("%+v: outside its window, the next one opens at %v", e, opens)
				}
			}
			switches[e.Policy]++
		case rotation.StepSuspend:
			if e.Note == "v1" {
				t.Fatalf("%+v: an adopted key is disabled", e)
			}
			if since(rotation.StepDeactivate) < p.Overlap {
				t.Fatalf("%+v: %v after it was deactivated, the overlap is %v", e, since(rotation.StepDeactivate), p.Overlap)
			}
		case rotation.StepDestroy:
			if since(rotation.StepSuspend) < 7*days {
				t.Fatalf("%+v: %v after it was disabled", e, since(rotation.StepSuspend))
			}
		case rotation.StepConfirm:
			if since(rotation.StepDestroy) < 7*days {
				t.Fatalf("%+v: %v after its deletion was scheduled", e, since(rotation.StepDestroy))
			}
		}
	}
	// No policy falls silent, and none turns more often than its schedule says.
	for i, p := range list {
		bounds := [][2]int{{11, 13}, {3, 5}, {10, 13}, {3, 4}, {44, 53}, {10, 13}}[i%6]
		if n := switches[p.Name]; n < bounds[0] || n > bounds[1] {
			t.Errorf("%s (%s, lead %v, freeze %v) switched %d times in a year, expected %v", p.Name, p.Schedule, p.Lead, p.Freeze, n, bounds)
		}
	}
	t.Logf("%d entries", len(calendar))
}

// A limit, an earlier end or another order of the policies takes entries away and changes none.
func TestSimulateIsStable(t *testing.T) {
	whole := simulate(t, "2026-10-10 10:00", "2027-04-10 10:00", 1_000_000, fleet(t, 20)...)
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.IntRange(1, len(whole)+10).Draw(rt, "limit")
		cut := simulate(t, "2026-10-10 10:00", "2027-04-10 10:00", limit, fleet(t, 20)...)
		if want := whole[:min(limit, len(whole))]; !reflect.DeepEqual(cut, want) {
			rt.Fatalf("the first %d entries differ", limit)
		}
		end := at(t, "UTC", "2026-10-10 10:00").Add(time.Duration(rapid.IntRange(0, 180*24*60).Draw(rt, "minutes")) * time.Minute)
		shorter, err := rotation.Simulate(fleet(t, 20), at(t, "UTC", "2026-10-10 10:00"), end, 1_000_000)
		if err != nil {
			rt.Fatal(err)
		}
		if len(shorter) > 0 && !reflect.DeepEqual(shorter, whole[:len(shorter)]) {
			rt.Fatalf("the entries until %v differ", end)
		}
		if len(shorter) < len(whole) && !whole[len(shorter)].At.After(end) {
			rt.Fatalf("%+v is missing before %v", whole[len(shorter)], end)
		}
	})
}

func BenchmarkSimulateAYearOfAThousandLineages(b *testing.B) {
	policies := fleet(b, 1000)
	entries := 0
	for b.Loop() {
		entries = len(simulate(b, "2026-10-10 10:00", "2027-10-10 10:00", 10_000_000, policies...))
	}
	b.ReportMetric(float64(entries), "entries/op")
}

// A zone has one name. Others would be kept in memory, one for each way to write it.
func TestTimeZonesHaveOneName(t *testing.T) {
	for name, ok := range map[string]bool{
		"Europe/Berlin": true, "UTC": true, "": true,
		"Europe/./Berlin": false, "Europe//Berlin": false, "./UTC": false, "../UTC": false, "/etc/localtime": false, "Local": false, "Mars/Base": false,
	} {
		p := rotation.Policy{Name: "p", Alias: "alias/p", Schedule: "rate(1 day)", Timezone: name}
		if err := p.Validate(); (err == nil) != ok {
			t.Errorf("timezone %q: %v", name, err)
		}
	}
}
