package rotation_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyturn/keyturn/rotation"
)

// The reference: a clock on the wall, looked at every minute. It shares no code
// and no idea with the implementation, which never looks at a minute that does not match.

// matchesDate reports whether a clock that shows wall is on a day of the fields.
func matchesDate(fields [6]string, wall time.Time) bool {
	return (fields[2] == "?" || matchesDay(fields[2], wall)) &&
		matchesField(fields[3], int(wall.Month()), 1, 12, []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}) &&
		(fields[4] == "?" || matchesWeekday(fields[4], wall)) &&
		(fields[5] == "*" || matchesField(fields[5], wall.Year(), 1970, 2199, nil))
}

// matchesTime does the same for its minutes and hours.
func matchesTime(fields [6]string, wall time.Time) bool {
	return matchesField(fields[0], wall.Minute(), 0, 59, nil) && matchesField(fields[1], wall.Hour(), 0, 23, nil)
}

func matchesField(field string, value, low, high int, names []string) bool {
	parse := func(s string) int {
		for i, name := range names {
			if s == name {
				return low + i
			}
		}
		n, err := strconv.Atoi(s)
		if err != nil {
			panic(err)
		}
		return n
	}
	for item := range strings.SplitSeq(field, ",") {
		base, increment, stepped := strings.Cut(item, "/")
		step := 1
		if stepped {
			step = parse(increment)
		}
		from, to := low, high
		if base != "*" && base != "" {
			first, last, ranged := strings.Cut(base, "-")
			from = parse(first)
			switch {
			case ranged:
				to = parse(last)
			case !stepped:
				to = from
			}
		}
		for i := 0; ; i += step {
			v := from + i
			if from <= to && v > to || from > to && v > to+high-low+1 {
				break
			}
			if v > high {
				v -= high - low + 1
			}
			if v == value {
				return true
			}
		}
	}
	return false
}

func matchesDay(field string, wall time.Time) bool {
	tomorrow := func(t time.Time) time.Time { return t.AddDate(0, 0, 1) }
	isWeekday := func(t time.Time) bool { return t.Weekday() != time.Saturday && t.Weekday() != time.Sunday }
	for item := range strings.SplitSeq(field, ",") {
		switch {
		case item == "L":
			if tomorrow(wall).Month() != wall.Month() {
				return true
			}
		case item == "LW":
			if !isWeekday(wall) {
				continue
			}
			last := true
			for d := tomorrow(wall); d.Month() == wall.Month(); d = tomorrow(d) {
				last = last && !isWeekday(d)
			}
			if last {
				return true
			}
		case strings.HasSuffix(item, "W"):
			n, _ := strconv.Atoi(strings.TrimSuffix(item, "W"))
			target := time.Date(wall.Year(), wall.Month(), n, 0, 0, 0, 0, time.UTC)
			if target.Month() != wall.Month() {
				continue
			}
			for _, away := range []int{0, -1, 1, -2, 2} {
				near := target.AddDate(0, 0, away)
				if near.Month() == target.Month() && isWeekday(near) {
					if near.Day() == wall.Day() {
						return true
					}
					break
				}
			}
		default:
			if matchesField(item, wall.Day(), 1, 31, nil) {
				return true
			}
		}
	}
	return false
}

func matchesWeekday(field string, wall time.Time) bool {
	names := []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}
	number := func(s string) int {
		for i, name := range names {
			if s == name {
				return i + 1
			}
		}
		n, _ := strconv.Atoi(s)
		return n
	}
	today := int(wall.Weekday()) + 1
	for item := range strings.SplitSeq(field, ",") {
		switch {
		case item == "L":
			if today == 7 {
				return true
			}
		case strings.HasSuffix(item, "L"):
			if number(strings.TrimSuffix(item, "L")) == today && wall.AddDate(0, 0, 7).Month() != wall.Month() {
				return true
			}
		case strings.Contains(item, "#"):
			weekday, nth, _ := strings.Cut(item, "#")
			if number(weekday) == today && strconv.Itoa((wall.Day()-1)/7+1) == nth {
				return true
			}
		default:
			if matchesField(item, today, 1, 7, names) {
				return true
			}
		}
	}
	return false
}

// nextByWalking looks at the clock every minute after the given instant: a start is where
// the clock for the first time shows a matching time, or has passed over one.
func nextByWalking(fields [6]string, after time.Time, loc *time.Location, limit time.Duration) time.Time {
	show := func(t time.Time) time.Time {
		local := t.In(loc)
		return time.Date(local.Year(), local.Month(), local.Day(), local.Hour(), local.Minute(), 0, 0, time.UTC)
	}
	begin := after.Add(-30 * time.Hour).Truncate(time.Minute)
	shown := show(begin) // the furthest the clock has been
	date, onDate := 0, false
	for t := begin.Add(time.Minute); t.Before(after.Add(limit)); t = t.Add(time.Minute) {
		start := false
		for wall := show(t); shown.Before(wall); {
			shown = shown.Add(time.Minute)
			if today := shown.Year()*1000 + shown.YearDay(); today != date {
				date, onDate = today, matchesDate(fields, shown)
			}
			start = start || onDate && matchesTime(fields, shown)
		}
		if start && t.After(after) {
			return t
		}
	}
	return time.Time{}
}

func fieldOf(rt *rapid.T, name string, low, high int, names []string, wraps bool) string {
	value := func(label string) (int, string) {
		v := rapid.IntRange(low, high).Draw(rt, name+label)
		if names != nil && rapid.Bool().Draw(rt, name+" by name") {
			return v, names[v-low]
		}
		return v, strconv.Itoa(v)
	}
	var items []string
	for range rapid.IntRange(1, 3).Draw(rt, name+" items") {
		a, from := value(" from")
		b, to := value(" to")
		if b < a && !wraps {
			from, to = to, from
		}
		step := strconv.Itoa(rapid.IntRange(1, min(high, 30)).Draw(rt, name+" step"))
		items = append(items, rapid.SampledFrom([]string{"*", from, from + "-" + to, "*/" + step, "/" + step, from + "/" + step, from + "-" + to + "/" + step}).Draw(rt, name))
	}
	return strings.Join(items, ",")
}

func drawFields(rt *rapid.T) [6]string {
	months := []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}
	weekdays := []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}
	fields := [6]string{
		fieldOf(rt, "minutes", 0, 59, nil, true),
		fieldOf(rt, "hours", 0, 23, nil, true),
		"?",
		rapid.SampledFrom([]string{"*", fieldOf(rt, "month", 1, 12, months, true)}).Draw(rt, "months"),
		"?",
		rapid.SampledFrom([]string{"*", "*", "2000-2030/2", "2011,2026"}).Draw(rt, "year"),
	}
	if rapid.Bool().Draw(rt, "by day of month") {
		n := rapid.IntRange(1, 31).Draw(rt, "n")
		fields[2] = rapid.SampledFrom([]string{"L", "LW", fmt.Sprintf("%dW", n), fmt.Sprintf("L,%d", n), fmt.Sprintf("%dW,LW", n), fieldOf(rt, "day", 1, 31, nil, false)}).Draw(rt, "day")
	} else {
		w, k := rapid.SampledFrom(weekdays).Draw(rt, "w"), rapid.IntRange(1, 5).Draw(rt, "k")
		fields[4] = rapid.SampledFrom([]string{"L", w + "L", fmt.Sprintf("%s#%d", w, k), fmt.Sprintf("%s#%d,3", w, k), "2L,6L", fieldOf(rt, "weekday", 1, 7, weekdays, true)}).Draw(rt, "weekday")
	}
	return fields
}

func TestScheduleAgreesWithAWallClock(t *testing.T) {
	const horizon = 45 * 24 * time.Hour
	// Each with an instant near which its clock does something odd.
	clocks := []struct{ zone, near string }{
		{"UTC", "2026-02-28 12:00"},
		{"Europe/Berlin", "2026-03-28 12:00"},
		{"Europe/Berlin", "2026-10-24 12:00"},
		{"America/New_York", "2028-03-11 12:00"},
		{"America/St_Johns", "2010-11-06 12:00"}, // back over midnight, at 00:01
		{"Australia/Lord_Howe", "2026-04-04 12:00"},
		{"Africa/Cairo", "2026-04-23 12:00"},
		{"Pacific/Apia", "2011-12-28 12:00"},      // a day left out
		{"Pacific/Kwajalein", "1969-09-30 12:00"}, // a day twice
		{"Asia/Kathmandu", "1985-12-31 12:00"},
		{"Africa/Casablanca", "2026-02-14 12:00"},
	}
	reached := 0
	rapid.Check(t, func(rt *rapid.T) {
		fields := drawFields(rt)
		clock := rapid.SampledFrom(clocks).Draw(rt, "clock")
		loc, err := time.LoadLocation(clock.zone)
		if err != nil {
			t.Fatal(err)
		}
		near := at(t, clock.zone, clock.near)
		after := near.Add(time.Duration(rapid.Int64Range(-20*24*3600, 3*24*3600).Draw(rt, "seconds")) * time.Second)

		expr := "cron(" + strings.Join(fields[:], " ") + ")"
		schedule, err := rotation.ParseSchedule(expr)
		if err != nil {
			if strings.Contains(err.Error(), "there is no such date") {
				rt.Skip()
			}
			rt.Fatal(err)
		}
		got, want := schedule.Next(after, loc), nextByWalking(fields, after, loc, horizon)
		switch {
		case want.IsZero():
			if !got.IsZero() && got.Before(after.Add(horizon)) {
				rt.Fatalf("%s in %s after %v: got %v, the clock never showed it", expr, clock.zone, after, got)
			}
		case !got.Equal(want):
			rt.Fatalf("%s in %s after %v: got %v, want %v", expr, clock.zone, after, got, want)
		default:
			reached++
		}
	})
	if reached < 20 {
		t.Errorf("only %d comparisons had a start to compare", reached)
	}
}
