package rotation_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/keyturn/keyturn/rotation"
)

func schedule(t testing.TB, expr string) *rotation.Schedule {
	t.Helper()
	s, err := rotation.ParseSchedule(expr)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func period(t testing.TB, from, to string) rotation.Period {
	t.Helper()
	a, errA := rotation.ParseDate(from)
	b, errB := rotation.ParseDate(to)
	p := rotation.Period{From: a, To: b}
	if errA != nil || errB != nil || p.Validate() != nil {
		t.Fatal(errA, errB, p.Validate())
	}
	return p
}

const stamp = "2006-01-02 15:04:05"

func TestCalendarWindows(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	for _, test := range []struct {
		why         string
		calendar    rotation.Calendar
		after       string
		start, ends string
	}{
		{
			"days: to the end of the day",
			rotation.Calendar{Schedule: schedule(t, "rate(30 days)")},
			"2026-03-05 10:20", "2026-04-04 00:00:00", "2026-04-05 00:00:00",
		},
		{
			"a cron of days: to the end of the day",
			rotation.Calendar{Schedule: schedule(t, "cron(0 8 1 * ? *)")},
			"2026-03-05 10:20", "2026-04-01 08:00:00", "2026-04-02 00:00:00",
		},
		{
			"hours: one hour",
			rotation.Calendar{Schedule: schedule(t, "rate(6 hours)")},
			"2026-03-05 10:20", "2026-03-05 16:00:00", "2026-03-05 17:00:00",
		},
		{
			"a cron of hours: one hour",
			rotation.Calendar{Schedule: schedule(t, "cron(0 8/8 * * ? *)")},
			"2026-03-05 10:20", "2026-03-05 16:00:00", "2026-03-05 17:00:00",
		},
		{
			"seconds: until the next start",
			rotation.Calendar{Schedule: schedule(t, "rate(10 seconds)")},
			"2026-03-05 10:20", "2026-03-05 10:20:10", "2026-03-05 10:20:20",
		},
		{
			"never beyond the next start",
			rotation.Calendar{Schedule: schedule(t, "cron(0 8/8 * * ? *)"), Window: 20 * time.Hour},
			"2026-03-05 10:20", "2026-03-05 16:00:00", "2026-03-06 08:00:00",
		},
		{
			"the day that has 23 hours",
			rotation.Calendar{Schedule: schedule(t, "cron(0 0 29 3 ? *)"), Location: berlin},
			"2026-03-05 10:20", "2026-03-29 00:00:00", "2026-03-30 00:00:00",
		},
		{
			"a window ends where a freeze begins",
			rotation.Calendar{Schedule: schedule(t, "cron(0 22 19 12 ? *)"), Window: 6 * time.Hour, Location: berlin, Freeze: []rotation.Period{period(t, "2026-12-20", "2027-01-03")}},
			"2026-03-05 10:20", "2026-12-19 22:00:00", "2026-12-20 00:00:00",
		},
		{
			"cron leaves frozen starts out",
			rotation.Calendar{Schedule: schedule(t, "cron(0 22 1 * ? *)"), Window: time.Hour, Location: berlin, Freeze: []rotation.Period{period(t, "2026-12-01", "2027-02-01")}},
			"2026-11-15 10:20", "2027-03-01 22:00:00", "2027-03-01 23:00:00",
		},
		{
			"a rate begins after the freeze",
			rotation.Calendar{Schedule: schedule(t, "rate(30 days)"), Location: berlin, Freeze: []rotation.Period{period(t, "12-20", "01-03")}},
			"2026-11-25 10:20", "2027-01-04 00:00:00", "2027-01-05 00:00:00",
		},
		{
			"freeze dates are those of the zone",
			rotation.Calendar{Schedule: schedule(t, "cron(30 23 ? * * *)"), Window: time.Hour / 4, Location: zone(t, "Pacific/Auckland"), Freeze: []rotation.Period{period(t, "2026-06-10", "2026-06-10")}},
			"2026-06-09 23:30", "2026-06-11 23:30:00", "2026-06-11 23:45:00",
		},
		{
			"cron begins again at the very end of a freeze",
			rotation.Calendar{Schedule: schedule(t, "cron(0 0 * * ? *)"), Freeze: []rotation.Period{period(t, "2026-03-06", "2026-03-07")}},
			"2026-03-05 10:20", "2026-03-08 00:00:00", "2026-03-09 00:00:00",
		},
		{
			"touching freezes are one",
			rotation.Calendar{Schedule: schedule(t, "rate(1 day)"), Freeze: []rotation.Period{period(t, "2026-03-08", "2026-03-09"), period(t, "2026-03-06", "2026-03-07")}},
			"2026-03-05 10:20", "2026-03-10 00:00:00", "2026-03-11 00:00:00",
		},
		{
			"no start is left",
			rotation.Calendar{Schedule: schedule(t, "cron(0 0 1 1 ? 2020)")},
			"2026-03-05 10:20", "0001-01-01 00:00:00", "0001-01-01 00:00:00",
		},
		{
			"frozen for ever",
			rotation.Calendar{Schedule: schedule(t, "cron(0 0 1 1 ? *)"), Freeze: []rotation.Period{period(t, "01-01", "12-31")}},
			"2026-03-05 10:20", "0001-01-01 00:00:00", "0001-01-01 00:00:00",
		},
		{
			"every start is frozen",
			rotation.Calendar{Schedule: schedule(t, "cron(0 0 1 1 ? *)"), Freeze: []rotation.Period{period(t, "12-30", "01-02")}},
			"2026-03-05 10:20", "0001-01-01 00:00:00", "0001-01-01 00:00:00",
		},
	} {
		name := "UTC"
		if test.calendar.Location != nil {
			name = test.calendar.Location.String()
		}
		start, end := test.calendar.Next(at(t, name, test.after), "item")
		if start.Format(stamp) != test.start || end.Format(stamp) != test.ends {
			t.Errorf("%s: got %v to %v, want %s to %s", test.why, start, end, test.start, test.ends)
		}
	}
}

func TestCalendarCatchesUpOnce(t *testing.T) {
	c := rotation.Calendar{Schedule: schedule(t, "cron(0 2 ? * SAT *)"), Window: 2 * time.Hour, Location: zone(t, "Europe/Berlin")}
	// Three Saturdays were missed. One rotation makes up for them, at once.
	now := at(t, "Europe/Berlin", "2026-03-23 10:00")
	start, end := c.CatchUp(now, "item")
	if !start.Equal(now) || end.Sub(start) != 2*time.Hour {
		t.Errorf("catching up from %v to %v", start, end)
	}
	if next, _ := c.Next(start, "item"); next.Format(stamp) != "2026-03-28 02:00:00" {
		t.Errorf("after catching up the schedule goes on at %v", next)
	}

	c.Freeze = []rotation.Period{period(t, "2026-03-23", "2026-03-24")}
	if start, _ = c.CatchUp(now, "item"); start.Format(stamp) != "2026-03-25 00:00:00" {
		t.Errorf("catching up during a freeze begins at %v", start)
	}
	if p, frozen := c.Frozen(now); !frozen || p.String() != "2026-03-23 to 2026-03-24" {
		t.Errorf("Frozen says %v, %v", p, frozen)
	}

	c = rotation.Calendar{Schedule: schedule(t, "rate(30 days)"), Spread: time.Hour}
	late := at(t, "UTC", "2026-03-23 23:59:50")
	for i := range 50 {
		start, end := c.CatchUp(late, fmt.Sprint(i))
		if start.Before(late) || !start.Before(end) || end.Sub(late) < time.Hour || end.Sub(late) > 25*time.Hour {
			t.Fatalf("item %d catches up from %v to %v", i, start, end)
		}
	}
}

func TestCalendarSpreadsEvenlyAndStably(t *testing.T) {
	c := rotation.Calendar{Schedule: schedule(t, "cron(0 2 ? * SAT *)"), Window: 4 * time.Hour, Spread: time.Hour}
	now := at(t, "UTC", "2026-03-23 10:00")
	const items = 6000
	var perMinute [60]int
	for i := range items {
		item := fmt.Sprintf("alias/payments-%d", i)
		start, _ := c.Next(now, item)
		share := start.Sub(at(t, "UTC", "2026-03-28 02:00"))
		if share < 0 || share >= time.Hour {
			t.Fatalf("%s begins %v after the schedule's start", item, share)
		}
		perMinute[int(share.Minutes())]++
		if later, _ := c.Next(now.AddDate(0, 0, 70), item); later.Sub(start) != 70*24*time.Hour {
			t.Fatalf("%s begins at %v, ten weeks later at %v", item, start, later)
		}
	}
	for minute, n := range perMinute {
		if n < items/60/2 || n > items/60*2 {
			t.Errorf("%d of %d items begin in minute %d", n, items, minute)
		}
	}
}

// Whatever the calendar: windows are well-formed, come in order, do not overlap, keep out of
// freezes, leave none of the schedule's free starts out, and do not depend on where one begins to ask.
func TestCalendarProperties(t *testing.T) {
	zones := []string{"UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kolkata"}
	rapid.Check(t, func(rt *rapid.T) {
		expr := rapid.SampledFrom([]string{
			"rate(10 seconds)", "rate(45 minutes)", "rate(4 hours)", "rate(1 day)", "rate(30 days)",
			"cron(* * ? * SAT *)", "cron(0/7 3 * * ? *)", "cron(0 8/8 * * ? *)", "cron(30 2 * * ? *)", "cron(0 0 L * ? *)", "cron(0 1 ? 1/3 SUN#1 *)",
		}).Draw(rt, "schedule")
		loc := zone(t, rapid.SampledFrom(zones).Draw(rt, "zone"))
		c := rotation.Calendar{
			Schedule: schedule(t, expr), Location: loc,
			Window: time.Duration(rapid.SampledFrom([]int{0, 1, 60, 3600, 86400, 864000}).Draw(rt, "window")) * time.Second,
			Spread: time.Duration(rapid.SampledFrom([]int{0, 1, 60, 5400, 86400, 8640000}).Draw(rt, "spread")) * time.Second,
		}
		after := at(t, "UTC", "2010-10-20 00:00").Add(time.Duration(rapid.Int64Range(0, 600*24*3600).Draw(rt, "after")) * time.Second)
		for range rapid.IntRange(0, 3).Draw(rt, "freezes") {
			from := after.AddDate(0, 0, rapid.IntRange(-5, 90).Draw(rt, "from"))
			to := from.AddDate(0, 0, rapid.IntRange(0, 40).Draw(rt, "days"))
			p := period(t, from.Format(time.DateOnly), to.Format(time.DateOnly))
			if rapid.Bool().Draw(rt, "yearly") {
				p.From.Year, p.To.Year = 0, 0
			}
			c.Freeze = append(c.Freeze, p)
		}
		item := rapid.StringN(1, 8, -1).Draw(rt, "item")

		closed, previous := time.Time{}, after
		for i := range 6 {
			start, end := c.Next(previous, item)
			if start.IsZero() {
				rt.Fatalf("no window after %v", previous)
			}
			if !start.After(previous) || !end.After(start) || i > 0 && start.Before(closed) {
				rt.Fatalf("after %v the window is %v to %v; the one before closed at %v", previous, start, end, closed)
			}
			for _, instant := range []time.Time{start, end.Add(-1)} {
				if p, frozen := c.Frozen(instant); frozen {
					rt.Fatalf("window %v to %v touches the freeze %v", start, end, p)
				}
			}
			if !c.Schedule.IsRate() {
				// The schedule's start it belongs to is the last one by then …
				if nominal := c.Schedule.Next(start.Add(-max(c.Spread, 1)), loc); nominal.After(start) {
					rt.Fatalf("window %v to %v belongs to no start of the schedule", start, end)
				}
				if c.Spread == 0 {
					free := c.Schedule.Next(previous, loc)
					for _, frozen := c.Frozen(free); frozen; _, frozen = c.Frozen(free) {
						free = c.Schedule.Next(free, loc)
					}
					if !start.Equal(free) {
						rt.Fatalf("after %v the window begins at %v, the first free start is %v", previous, start, free)
					}
				}
				// … and asking from any point on the way gives the same window.
				between := previous.Add(time.Duration(rapid.Float64Range(0, 0.999).Draw(rt, "between") * float64(start.Sub(previous))))
				if again, ends := c.Next(between, item); !again.Equal(start) || !ends.Equal(end) {
					rt.Fatalf("after %v the window is %v to %v, after %v it is %v to %v", previous, start, end, between, again, ends)
				}
			}
			closed, previous = end, start
		}
	})
}

func TestCalendarDoesNotDrift(t *testing.T) {
	for expr, interval := range map[string]time.Duration{
		"rate(10 days)": 240 * time.Hour, "rate(4 hours)": 4 * time.Hour, "rate(10 seconds)": 10 * time.Second, "cron(0 2 ? * SAT *)": 168 * time.Hour,
	} {
		c := rotation.Calendar{Schedule: schedule(t, expr), Spread: 30 * time.Minute, Window: 2 * time.Hour}
		first, _ := c.Next(at(t, "UTC", "2026-01-01 12:00"), "alias/payments")
		when := first
		for range 100 {
			when, _ = c.Next(when, "alias/payments")
		}
		if got, want := when.Sub(first), 100*interval; got != want {
			t.Errorf("%s: after 100 rotations %v have passed, not %v", expr, got, want)
		}
	}
}

func TestDates(t *testing.T) {
	for _, text := range []string{"2026-12-20", "12-20", "02-29", "2028-02-29"} {
		d, err := rotation.ParseDate(text)
		if err != nil || d.String() != text {
			t.Errorf("%q reads as %v, %v", text, d, err)
		}
	}
	for _, text := range []string{"", "2027-02-29", "02-30", "13-01", "2026-12", "20.12.2026", "2026-12-20T00:00:00Z", "0000-01-01"} {
		if d, err := rotation.ParseDate(text); err == nil || !strings.Contains(err.Error(), "a day that exists") {
			t.Errorf("%q reads as %v, %v", text, d, err)
		}
	}
	for from, to := range map[string]string{"2026-12-20": "01-03", "12-20": "2027-01-03", "2026-12-20 ": ""} {
		a, _ := rotation.ParseDate(from)
		b, _ := rotation.ParseDate(to)
		if err := (rotation.Period{From: a, To: b}).Validate(); err == nil {
			t.Errorf("freeze %q to %q was accepted", from, to)
		}
	}
	backwards := rotation.Period{From: rotation.Date{Year: 2027, Month: 1, Day: 3}, To: rotation.Date{Year: 2026, Month: 12, Day: 20}}
	if err := backwards.Validate(); err == nil || !strings.Contains(err.Error(), "2027-01-03 to 2026-12-20: it ends before it begins") {
		t.Errorf("a backwards freeze: %v", err)
	}

	// Both notations of a policy read and write the same period, quoted or not.
	want := rotation.Period{From: rotation.Date{Year: 2026, Month: 12, Day: 20}, To: rotation.Date{Year: 2027, Month: 1, Day: 3}, Reason: "year end"}
	var fromJSON, fromYAML rotation.Period
	if err := json.Unmarshal([]byte(`{"from":"2026-12-20","to":"2027-01-03","reason":"year end"}`), &fromJSON); err != nil || fromJSON != want {
		t.Errorf("JSON gives %+v, %v", fromJSON, err)
	}
	if err := yaml.Unmarshal([]byte("from: 2026-12-20\nto: \"2027-01-03\"\nreason: year end\n"), &fromYAML); err != nil || fromYAML != want {
		t.Errorf("YAML gives %+v, %v", fromYAML, err)
	}
	text, err := json.Marshal(want)
	if err != nil || string(text) != `{"from":"2026-12-20","to":"2027-01-03","reason":"year end"}` {
		t.Errorf("JSON written: %s, %v", text, err)
	}
}
