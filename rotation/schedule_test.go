package rotation_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/rotation"
)

func at(t testing.TB, zone, text string) time.Time {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	for _, layout := range []string{"2006-01-02 15:04:05 -0700", "2006-01-02 15:04:05", "2006-01-02 15:04"} {
		if when, err := time.ParseInLocation(layout, text, loc); err == nil {
			return when
		}
	}
	t.Fatalf("%q is not a time", text)
	return time.Time{}
}

// starts lists the next n starts as a clock in zone shows them.
func starts(t testing.TB, s *rotation.Schedule, zone, after string, n int) []string {
	t.Helper()
	when := at(t, zone, after)
	loc, _ := time.LoadLocation(zone)
	var list []string
	for range n {
		when = s.Next(when, loc)
		if when.IsZero() {
			return append(list, "never")
		}
		list = append(list, when.In(loc).Format("Mon 2006-01-02 15:04 -0700"))
	}
	return list
}

// The examples of the AWS Secrets Manager User Guide, "Schedule expressions",
// and of the EventBridge guide where Secrets Manager allows the form.
func TestScheduleReadsAWSExamples(t *testing.T) {
	for _, test := range []struct {
		expr, after string
		want        []string
	}{
		{"rate(4 hours)", "2026-03-05 10:20", []string{"Thu 2026-03-05 14:00", "Thu 2026-03-05 18:00", "Thu 2026-03-05 22:00", "Fri 2026-03-06 02:00"}},
		{"rate(1 day)", "2026-03-05 10:20", []string{"Fri 2026-03-06 00:00", "Sat 2026-03-07 00:00"}},
		{"rate(10 days)", "2026-02-20 23:59", []string{"Mon 2026-03-02 00:00", "Thu 2026-03-12 00:00"}},
		{"rate(999 days)", "2026-01-01 00:00", []string{"Tue 2028-09-26 00:00"}},
		{"cron(0 /8 * * ? *)", "2026-03-05 10:20", []string{"Thu 2026-03-05 16:00", "Fri 2026-03-06 00:00", "Fri 2026-03-06 08:00"}},
		{"cron(0 8/8 * * ? *)", "2026-03-05 10:20", []string{"Thu 2026-03-05 16:00", "Fri 2026-03-06 08:00"}},
		{"cron(0 2/10 * * ? *)", "2026-03-05 10:20", []string{"Thu 2026-03-05 12:00", "Thu 2026-03-05 22:00", "Fri 2026-03-06 02:00"}},
		{"cron(0 4/12 * * ? *)", "2026-03-05 04:00", []string{"Thu 2026-03-05 16:00", "Fri 2026-03-06 04:00"}},
		{"cron(0 10 * * ? *)", "2026-02-28 10:00", []string{"Sun 2026-03-01 10:00"}},
		{"cron(0 18 ? * SAT *)", "2026-03-05 10:20", []string{"Sat 2026-03-07 18:00", "Sat 2026-03-14 18:00"}},
		{"cron(0 18 ? * 7 *)", "2026-03-05 10:20", []string{"Sat 2026-03-07 18:00"}},
		{"cron(0 18 ? * 1 *)", "2026-03-05 10:20", []string{"Sun 2026-03-08 18:00"}},
		{"cron(0 8 1 * ? *)", "2026-03-05 10:20", []string{"Wed 2026-04-01 08:00", "Fri 2026-05-01 08:00"}},
		{"cron(0 1 ? 1/3 SUN#1 *)", "2026-03-05 10:20", []string{"Sun 2026-04-05 01:00", "Sun 2026-07-05 01:00", "Sun 2026-10-04 01:00", "Sun 2027-01-03 01:00"}},
		{"cron(0 17 L * ? *)", "2028-01-31 17:00", []string{"Tue 2028-02-29 17:00", "Fri 2028-03-31 17:00"}},
		{"cron(0 8 ? * MON-FRI *)", "2026-03-05 08:00", []string{"Fri 2026-03-06 08:00", "Mon 2026-03-09 08:00"}},
		{"cron(0 8 ? * 2-6 *)", "2026-03-06 08:00", []string{"Mon 2026-03-09 08:00"}},
		{"cron(0 16 1,15 * ? *)", "2026-03-05 10:20", []string{"Sun 2026-03-15 16:00", "Wed 2026-04-01 16:00"}},
		{"cron(0 0 ? * SUN#1 *)", "2026-03-05 10:20", []string{"Sun 2026-04-05 00:00"}},
		{"cron(0 0 ? * 3#2 *)", "2026-03-05 10:20", []string{"Tue 2026-03-10 00:00"}},
		{"cron(0 0 ? * 6L *)", "2026-03-05 10:20", []string{"Fri 2026-03-27 00:00", "Fri 2026-04-24 00:00"}},
		{"cron(0 0 ? * FRIL *)", "2026-03-05 10:20", []string{"Fri 2026-03-27 00:00"}},
		{"cron(0 0 ? * L *)", "2026-03-05 10:20", []string{"Sat 2026-03-07 00:00", "Sat 2026-03-14 00:00"}},
		{"cron(0 0 LW * ? *)", "2026-05-05 10:20", []string{"Fri 2026-05-29 00:00", "Tue 2026-06-30 00:00"}},
		{"cron(0 0 1 JAN,APR,JUL,OCT ? *)", "2026-03-05 10:20", []string{"Wed 2026-04-01 00:00", "Wed 2026-07-01 00:00"}},
		{"cron(0 0 ? jan mon#5 *)", "2026-03-05 10:20", []string{"Mon 2028-01-31 00:00"}},
		{"cron(0 0 29 2 ? *)", "2096-03-01 00:00", []string{"Fri 2104-02-29 00:00"}},
		{"cron(0 0 ? 2 SUN#5 *)", "2064-01-01 00:00", []string{"Sun 2088-02-29 00:00", "Sun 2128-02-29 00:00"}},
	} {
		for entry, parse := range map[string]func(string) (*rotation.Schedule, error){"AWS": rotation.ParseAWSSchedule, "native": rotation.ParseSchedule} {
			s, err := parse(test.expr)
			if err != nil {
				t.Errorf("%s: %s: %v", entry, test.expr, err)
				continue
			}
			got := strings.Join(starts(t, s, "UTC", test.after, len(test.want)), "\n")
			if want := strings.Join(test.want, " +0000\n") + " +0000"; got != want {
				t.Errorf("%s: %s after %s:\n%s\nwant\n%s", entry, test.expr, test.after, got, want)
			}
		}
	}
}

func TestScheduleReadsTheNativeForms(t *testing.T) {
	for _, test := range []struct {
		expr, after string
		want        []string
	}{
		{"cron(30 9-11 1 * ? *)", "2026-03-05 10:20", []string{"Wed 2026-04-01 09:30", "Wed 2026-04-01 10:30", "Wed 2026-04-01 11:30"}},
		{"cron(0/25 3 * * ? *)", "2026-03-05 03:10", []string{"Thu 2026-03-05 03:25", "Thu 2026-03-05 03:50", "Fri 2026-03-06 03:00"}},
		{"cron(59 23 31 12 ? 2027,2030)", "2026-03-05 10:20", []string{"Fri 2027-12-31 23:59", "Tue 2030-12-31 23:59", "never"}},
		{"cron(0 0 1 1 ? 2026-2030/2)", "2026-03-05 10:20", []string{"Sat 2028-01-01 00:00", "Tue 2030-01-01 00:00", "never"}},
		{"cron(0 22-3 * * ? *)", "2026-03-05 22:20", []string{"Thu 2026-03-05 23:00", "Fri 2026-03-06 00:00"}},
		{"cron(0 0 ? * FRI-MON *)", "2026-03-05 10:20", []string{"Fri 2026-03-06 00:00", "Sat 2026-03-07 00:00", "Sun 2026-03-08 00:00", "Mon 2026-03-09 00:00", "Fri 2026-03-13 00:00"}},
		{"cron(0 0 ? * FRI-MON/2 *)", "2026-03-05 10:20", []string{"Fri 2026-03-06 00:00", "Sun 2026-03-08 00:00", "Fri 2026-03-13 00:00"}},
		{"cron(0 0 1 NOV-FEB/2 ? *)", "2026-03-05 10:20", []string{"Sun 2026-11-01 00:00", "Fri 2027-01-01 00:00"}},
		// 1 August 2026 is a Saturday, 31 May 2026 a Sunday: nearest stays inside the month.
		{"cron(0 0 1W 8 ? *)", "2026-03-05 10:20", []string{"Mon 2026-08-03 00:00"}},
		{"cron(0 0 31W * ? *)", "2026-05-01 10:20", []string{"Fri 2026-05-29 00:00", "Fri 2026-07-31 00:00"}},
		{"cron(0 0 15W * ? *)", "2026-03-05 10:20", []string{"Mon 2026-03-16 00:00", "Wed 2026-04-15 00:00", "Fri 2026-05-15 00:00"}},
		{"cron(0 0 15,L * ? *)", "2026-03-05 10:20", []string{"Sun 2026-03-15 00:00", "Tue 2026-03-31 00:00"}},
		{"cron(0 0 ? * 2#1,2#3 *)", "2026-03-05 10:20", []string{"Mon 2026-03-16 00:00", "Mon 2026-04-06 00:00"}},
		{" cron( 5  4 * * ? * ) ", "2026-03-05 10:20", []string{"Fri 2026-03-06 04:05"}},
		{"rate(1 hour)", "2026-03-05 10:20", []string{"Thu 2026-03-05 11:00"}},
		{"rate(90 minutes)", "2026-03-05 10:20", []string{"Thu 2026-03-05 11:50", "Thu 2026-03-05 13:20"}},
	} {
		s, err := rotation.ParseSchedule(test.expr)
		if err != nil {
			t.Errorf("%s: %v", test.expr, err)
			continue
		}
		if s.String() != strings.TrimSpace(test.expr) {
			t.Errorf("%q prints as %q", test.expr, s)
		}
		var want []string
		for _, w := range test.want {
			if w != "never" {
				w += " +0000"
			}
			want = append(want, w)
		}
		if got := starts(t, s, "UTC", test.after, len(test.want)); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s after %s:\n%q\nwant\n%q", test.expr, test.after, got, want)
		}
	}
	s, err := rotation.ParseSchedule("rate(10 seconds)")
	if err != nil {
		t.Fatal(err)
	}
	now := at(t, "UTC", "2026-03-05 10:20:07").Add(123 * time.Millisecond)
	if got := s.Next(now, nil).Sub(now); got != 10*time.Second {
		t.Errorf("rate(10 seconds) begins again after %v", got)
	}
}

func TestScheduleAcrossDaylightSaving(t *testing.T) {
	for _, test := range []struct {
		why, zone, expr, after string
		want                   []string
	}{
		{
			"a skipped time runs at the first instant after the gap", "Europe/Berlin", "cron(30 2 * * ? *)", "2026-03-28 00:00",
			[]string{"Sat 2026-03-28 02:30 +0100", "Sun 2026-03-29 03:00 +0200", "Mon 2026-03-30 02:30 +0200"},
		},
		{
			"skipped times and the one they fall on are one start", "Europe/Berlin", "cron(0/15 2-3 29 3 ? 2026)", "2026-03-28 00:00",
			[]string{"Sun 2026-03-29 03:00 +0200", "Sun 2026-03-29 03:15 +0200", "Sun 2026-03-29 03:30 +0200", "Sun 2026-03-29 03:45 +0200", "never"},
		},
		{
			"a repeated time runs once, at its first showing", "Europe/Berlin", "cron(30 2 * * ? *)", "2026-10-24 12:00",
			[]string{"Sun 2026-10-25 02:30 +0200", "Mon 2026-10-26 02:30 +0100"},
		},
		{
			"asked inside the second showing", "Europe/Berlin", "cron(0/30 * * * ? *)", "2026-10-25 02:10:00 +0100",
			[]string{"Sun 2026-10-25 03:00 +0100", "Sun 2026-10-25 03:30 +0100"},
		},
		{
			"half an hour", "Australia/Lord_Howe", "cron(10 2 * * ? *)", "2026-10-03 12:00",
			[]string{"Sun 2026-10-04 02:30 +1100", "Mon 2026-10-05 02:10 +1100"},
		},
		{
			"midnight does not exist", "Africa/Cairo", "rate(1 day)", "2026-04-23 12:00",
			[]string{"Fri 2026-04-24 01:00 +0300", "Sat 2026-04-25 00:00 +0300"},
		},
		{
			"midnight does not exist, as cron", "Africa/Cairo", "cron(0 0 ? * FRI *)", "2026-04-23 12:00",
			[]string{"Fri 2026-04-24 01:00 +0300", "Fri 2026-05-01 00:00 +0300"},
		},
		{
			"a day that was left out", "Pacific/Apia", "cron(0 12 30 12 ? 2011)", "2011-12-28 00:00",
			[]string{"Sat 2011-12-31 00:00 +1400", "never"},
		},
		{
			"the clock goes back over midnight", "America/St_Johns", "rate(1 day)", "2010-11-06 23:30:00 -0230",
			[]string{"Sun 2010-11-07 00:00 -0230", "Mon 2010-11-08 00:00 -0330"},
		},
		{
			"asked in the second half of the last hour of such a day", "America/St_Johns", "rate(1 day)", "2010-11-06 23:30:00 -0330",
			[]string{"Mon 2010-11-08 00:00 -0330"},
		},
		{
			"hours elapse", "Europe/Berlin", "rate(4 hours)", "2026-03-29 00:40",
			[]string{"Sun 2026-03-29 05:00 +0200"},
		},
		{
			"whole hours of a zone that is half an hour off", "Asia/Kolkata", "rate(4 hours)", "2026-03-29 00:40",
			[]string{"Sun 2026-03-29 04:00 +0530"},
		},
	} {
		s, err := rotation.ParseSchedule(test.expr)
		if err != nil {
			t.Errorf("%s: %v", test.why, err)
			continue
		}
		if got := starts(t, s, test.zone, test.after, len(test.want)); strings.Join(got, "\n") != strings.Join(test.want, "\n") {
			t.Errorf("%s: %s in %s:\n%q\nwant\n%q", test.why, test.expr, test.zone, got, test.want)
		}
	}
}

func TestScheduleRefuses(t *testing.T) {
	const both = "both"
	for _, test := range []struct{ entry, expr, want string }{
		{both, "", "expected rate(value unit) or cron("},
		{both, "every day", "expected rate(value unit) or cron("},
		{both, "rate(1 day", "expected rate(value unit) or cron("},
		{both, "at(2026-01-01T00:00:00)", `it begins with "at"`},
		{both, "rate(day)", "takes a value and a unit"},
		{both, "rate(0 days)", `value "0": expected a whole number from 1`},
		{both, "rate(-1 days)", `value "-1"`},
		{both, "rate(1.5 days)", `value "1.5"`},
		{both, "rate(99999999999999999999 days)", "expected a whole number"},
		{both, "rate(1 week)", `unit "week": expected`},
		{both, "rate(4000 days)", "the longest rate is"},
		{"AWS", "rate(3 hours)", "the shortest rate is 4 hours"},
		{"AWS", "rate(1000 days)", "the longest rate is 999 days"},
		{"AWS", "rate(23977 hours)", "the longest rate is 999 days"},
		{"AWS", "rate(10 minutes)", `unit "minutes": expected hour, hours, day or days`},
		{both, "cron(0 8 * * ?)", "takes six fields (minutes hours day-of-month month day-of-week year), got 5"},
		{both, "cron(0 0 8 * * ? *)", "got 7"},
		{both, "cron(0 24 * * ? *)", `hours field "24": 24 is outside 0-23 (allowed: 0-23 with , - * /)`},
		{both, "cron(0 8 32 * ? *)", `day-of-month field "32": 32 is outside 1-31`},
		{both, "cron(0 8 0 * ? *)", "0 is outside 1-31"},
		{both, "cron(0 8 1 13 ? *)", `month field "13": 13 is outside 1-12`},
		{both, "cron(0 8 1 JANUARY ? *)", `month field "JANUARY": "JANUARY" is not a value`},
		{both, "cron(0 8 ? * 0 *)", `day-of-week field "0": 0 is outside 1-7 (allowed: 1-7 (1 is Sunday) or SUN-SAT`},
		{both, "cron(0 8 ? * 8 *)", "8 is outside 1-7"},
		{both, "cron(0 8 * * * *)", "exactly one of the two must be ?"},
		{both, "cron(0 8 ? * ? *)", "exactly one of the two must be ?"},
		{both, "cron(0 ? * * ? *)", "? stands only in day-of-month and day-of-week"},
		{both, "cron(0 8/0 * * ? *)", "the increment after / must be from 1 to 23"},
		{both, "cron(0 8/24 * * ? *)", "the increment after / must be from 1 to 23"},
		{both, "cron(0 8/ * * ? *)", "the increment after /"},
		{both, "cron(0 8, * * ? *)", `"" is not a value`},
		{both, "cron(0 - * * ? *)", `"" is not a value`},
		{both, "cron(0 8 ? * MON#6 *)", "a number from 1 to 5"},
		{both, "cron(0 8 ? * MON# *)", "a number from 1 to 5"},
		{both, "cron(0 8 W * ? *)", "W"},
		{both, "cron(0 8 20-10 * ? *)", "range 20-10 runs backwards"},
		{both, "cron(0 8 30 2 ? *)", "there is no such date"},
		{both, "cron(0 8 31 2,4,6,9,11 ? *)", "there is no such date"},
		{"native", "cron(0 8 29 2 ? 2027)", "there is no such date"},
		{"native", "cron(0 8 ? 2 MON#5 2026)", "there is no such date"},
		{"native", "cron(0 8 1 1 ? 1969)", "1969 is outside 1970-2199"},
		{"native", "cron(60 8 1 1 ? *)", `minutes field "60": 60 is outside 0-59`},
		{"AWS", "cron(30 8 1 * ? *)", `minutes field "30": must be 0`},
		{"AWS", "cron(0 8 1 * ? 2027)", `year field "2027": must be *`},
		{"AWS", "cron(0 * * * ? *)", "less than 4 hours apart"},
		{"AWS", "cron(0 8 15W * ? *)", "of the W forms only LW is"},
		{"AWS", "cron(0 8 ? * 3#1,6#3 *)", "3#1 cannot stand in a list"},
		{"AWS", "cron(0 8 ? * FRI-MON *)", "range FRI-MON runs backwards"},
		{both, "cron(" + strings.Repeat("0", 300) + " 8 1 * ? *)", "at most 256"},
	} {
		for entry, parse := range map[string]func(string) (*rotation.Schedule, error){"AWS": rotation.ParseAWSSchedule, "native": rotation.ParseSchedule} {
			if test.entry != both && test.entry != entry {
				continue
			}
			s, err := parse(test.expr)
			if err == nil {
				t.Errorf("%s: %s was accepted", entry, test.expr)
				continue
			}
			if s != nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: %s: error %q does not say %q", entry, test.expr, err, test.want)
			}
		}
	}
}

func FuzzSchedule(f *testing.F) {
	for _, seed := range []string{
		"rate(4 hours)", "rate(10 seconds)", "cron(0 8/8 * * ? *)", "cron(0 0 ? * SUN#1 *)", "cron(0 17 LW * ? *)",
		"cron(5,10-20/3 22-3 15W,L JAN-MAR ? 2026/2)", "cron(0 0 29 2 ? *)", "cron(0 0 30 2 ? *)", "cron(0 0 ? * 6L,2#5 *)",
	} {
		f.Add(seed, int64(1_790_000_000), "Europe/Berlin")
		f.Add(seed, int64(1_320_000_000), "Pacific/Apia")
	}
	f.Fuzz(func(t *testing.T, expr string, seconds int64, zone string) {
		native, err := rotation.ParseSchedule(expr)
		aws, awsErr := rotation.ParseAWSSchedule(expr)
		if err != nil && awsErr == nil {
			t.Fatalf("%q: AWS's form is accepted, the native one is not: %v", expr, err)
		}
		if (err == nil) != (native != nil) || (awsErr == nil) != (aws != nil) {
			t.Fatalf("%q: neither or both of a schedule and an error", expr)
		}
		if err != nil {
			return
		}
		loc, zoneErr := time.LoadLocation(zone)
		if zoneErr != nil || seconds < -60_000_000_000 || seconds > 7_000_000_000 {
			loc, seconds = time.UTC, 0
		}
		after := time.Unix(seconds, 0)
		for range 3 {
			next := native.Next(after, loc)
			if next.IsZero() {
				return
			}
			if !next.After(after) {
				t.Fatalf("%q after %v gives %v", expr, after, next)
			}
			after = next
		}
	})
}
