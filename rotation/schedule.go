package rotation

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// Schedule says when something begins: a rate() or a cron() expression, read
// as AWS Secrets Manager reads them. A Schedule is immutable and safe for
// concurrent use. Make one with ParseSchedule or ParseAWSSchedule.
type Schedule struct {
	text string
	rate rate // rate.count is 0 when the schedule is a cron() expression
	cron *cron
}

// rate is count units: rate(10 days).
type rate struct {
	count int
	unit  time.Duration // second, minute, hour or 24 hours; 24 hours means a calendar day
}

const (
	day = 24 * time.Hour

	minAWSRate = 4 * time.Hour
	maxAWSRate = 999 * day
	maxRate    = 3650 * day
)

// ParseSchedule reads expr by the rules of the native API: all that AWS allows
// (see ParseAWSSchedule) and besides
//
//   - rates from rate(1 second) to rate(3650 days), with second, minute, hour and day as units,
//   - cron() at any minute and in given years (1970–2199),
//   - nW (the weekday nearest to day n, inside its month), lists that hold L, LW, nW, n#k and nL
//     beside other values, and ranges that wrap (FRI-MON, 22-3) in minutes, hours, month and day-of-week.
//
// A date that never comes (30 February) is refused. Errors name the field and what it allows.
func ParseSchedule(expr string) (*Schedule, error) {
	return parseSchedule(expr, false)
}

// ParseAWSSchedule reads expr by exactly the rules of AWS Secrets Manager
// (RotationRules.ScheduleExpression):
//
//   - rate(n hours) and rate(n days), from 4 hours to 999 days,
//   - cron(minutes hours day-of-month month day-of-week year) with minutes 0, year *,
//     one of day-of-month and day-of-week "?", weekday 1 = Sunday, names JAN–DEC and SUN–SAT,
//     "," "-" "*" "/" everywhere else, L and LW as a day-of-month, L (Saturday), nL and n#k as a day-of-week,
//   - starts of one day at least 4 hours apart.
func ParseAWSSchedule(expr string) (*Schedule, error) {
	return parseSchedule(expr, true)
}

func parseSchedule(expr string, aws bool) (*Schedule, error) {
	s, err := parseExpression(strings.TrimSpace(expr), aws)
	if err != nil {
		return nil, fmt.Errorf("reading schedule %q: %w", clip(expr), err)
	}
	return s, nil
}

func parseExpression(text string, aws bool) (*Schedule, error) {
	if len(text) > 256 {
		return nil, fmt.Errorf("it is %d characters long, at most 256 are allowed", len(text))
	}
	name, rest, found := strings.Cut(text, "(")
	body, closed := strings.CutSuffix(rest, ")")
	if !found || !closed {
		return nil, fmt.Errorf(`expected rate(value unit) or cron(minutes hours day-of-month month day-of-week year)`)
	}
	switch name {
	case "rate":
		r, err := parseRate(body, aws)
		if err != nil {
			return nil, err
		}
		return &Schedule{text: text, rate: r}, nil
	case "cron":
		c, err := parseCron(body, aws)
		if err != nil {
			return nil, err
		}
		return &Schedule{text: text, cron: c}, nil
	}
	return nil, fmt.Errorf(`it begins with %q, expected "rate(" or "cron("`, clip(name))
}

func parseRate(body string, aws bool) (rate, error) {
	words := strings.Fields(body)
	if len(words) != 2 {
		return rate{}, fmt.Errorf("rate() takes a value and a unit, such as rate(30 days)")
	}
	count, err := number(words[0])
	if err != nil || count < 1 {
		return rate{}, fmt.Errorf("value %q: expected a whole number from 1", clip(words[0]))
	}
	units := map[string]time.Duration{"hour": time.Hour, "day": day}
	allowed := "hour, hours, day or days"
	if !aws {
		units["second"], units["minute"] = time.Second, time.Minute
		allowed = "second(s), minute(s), hour(s) or day(s)"
	}
	unit, known := units[strings.TrimSuffix(words[1], "s")]
	if !known {
		return rate{}, fmt.Errorf("unit %q: expected %s", clip(words[1]), allowed)
	}
	r := rate{count, unit}
	switch total := time.Duration(count) * unit; {
	case aws && total < minAWSRate:
		return rate{}, fmt.Errorf("value %d: the shortest rate is 4 hours", count)
	case aws && (count > int(maxAWSRate/unit)):
		return rate{}, fmt.Errorf("value %d: the longest rate is 999 days", count)
	case count > int(maxRate/unit):
		return rate{}, fmt.Errorf("value %d: the longest rate is 3650 days", count)
	}
	return r, nil
}

// String returns the expression as it was given, without surrounding space.
func (s *Schedule) String() string { return s.text }

// Next returns the first start after the given instant, in the calendar of loc
// (nil is UTC), or the zero time when there is none (a cron() expression whose
// last year has passed).
//
// cron(): the instants at which a clock on a wall of loc first shows a matching
// time or a later one. So a matching time that the clock skips (daylight saving
// time begins) starts at the first instant after the gap, one that the clock
// shows twice starts once, at the first, and starts that fall on one instant are one.
//
// rate(): count units after the beginning of the unit in which the given instant
// lies: rate(10 days) after any time of 3 May is midnight of 13 May in loc,
// rate(4 hours) after 10:20 is 14:00. Minutes and seconds, which AWS does not
// have, count from the instant itself. A caller that passes the previous
// start gets an even sequence.
func (s *Schedule) Next(after time.Time, loc *time.Location) time.Time {
	if loc == nil {
		loc = time.UTC
	}
	if s.cron != nil {
		return s.cron.next(after, loc)
	}
	switch s.rate.unit {
	case day:
		return startOfDay(after, s.rate.count, loc)
	case time.Hour:
		wall := wallClock(after, loc)
		after = after.Add(-wall.Sub(wall.Truncate(time.Hour)))
	}
	return after.Add(time.Duration(s.rate.count) * s.rate.unit).In(loc)
}

// IsRate reports whether the schedule is a rate() expression.
func (s *Schedule) IsRate() bool { return s.cron == nil }

// period is the time between two starts of a rate() expression, whose days have 24 hours here.
func (s *Schedule) period() time.Duration { return time.Duration(s.rate.count) * s.rate.unit }

// defaultWindow is how long a window stays open when nothing else is said:
// AWS's rule is one hour for schedules in hours, otherwise to the end of the day.
// Rates below an hour are open until the next start.
func (s *Schedule) defaultWindow(start time.Time, loc *time.Location) time.Time {
	switch {
	case s.cron == nil && s.rate.unit < time.Hour:
		return start.Add(time.Duration(s.rate.count) * s.rate.unit)
	case s.cron == nil && s.rate.unit == time.Hour,
		s.cron != nil && bits.OnesCount32(s.cron.hours)*bits.OnesCount64(s.cron.minutes) > 1:
		return start.Add(time.Hour)
	}
	return startOfDay(start, 1, loc)
}

// rateWindow is the longest window that defaultWindow gives a rate() expression on an ordinary day.
func (s *Schedule) rateWindow() time.Duration {
	if s.rate.unit < time.Hour {
		return time.Duration(s.rate.count) * s.rate.unit
	}
	return s.rate.unit
}

// wallClock returns what a clock in loc shows at t, written as a time in UTC.
func wallClock(t time.Time, loc *time.Location) time.Time {
	_, offset := t.In(loc).Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

// startOfDay is the first instant of the day in loc that lies days (1 or more)
// after the day of t. It is after t.
func startOfDay(t time.Time, days int, loc *time.Location) time.Time {
	y, m, d := t.In(loc).Date()
	for {
		start := firstInstant(time.Date(y, m, d+days, 0, 0, 0, 0, time.UTC), loc)
		if start.After(t) {
			return start
		}
		// The clock went back over midnight: tomorrow has begun once already.
		days++
	}
}

// maxOffset is more than any zone has ever been away from UTC.
const maxOffset = 26 * time.Hour

// firstInstant returns the first instant at which a clock in loc shows wall
// (written as a time in UTC) or later.
func firstInstant(wall time.Time, loc *time.Location) time.Time {
	// At this instant, and before it, no clock shows wall yet. From here walk
	// over the stretches of constant offset: nearly always there is one.
	t := wall.Add(-maxOffset).In(loc)
	for {
		_, offset := t.Zone()
		candidate := wall.Add(time.Duration(-offset) * time.Second).In(loc)
		if candidate.Before(t) {
			candidate = t // the clock jumped over wall: t is where it landed
		}
		_, end := t.ZoneBounds()
		if end.IsZero() || candidate.Before(end) {
			return candidate
		}
		t = end.In(loc)
	}
}

// latestWall returns the earliest clock time that loc's clock has not shown up
// to and including the instant t. It differs from the time after t only in the
// hour that a clock shows twice.
func latestWall(t time.Time, loc *time.Location) time.Time {
	latest := wallClock(t, loc).Add(1)
	start, _ := t.In(loc).ZoneBounds()
	for !start.IsZero() && t.Sub(start) < maxOffset {
		before := start.Add(-1)
		// Just before the change the clock showed everything below this.
		if shown := wallClock(before, loc).Add(1); shown.After(latest) {
			latest = shown
		}
		start, _ = before.In(loc).ZoneBounds()
	}
	return latest
}

func number(s string) (int, error) {
	if s == "" || len(s) > 9 || strings.Trim(s, "0123456789") != "" {
		return 0, fmt.Errorf("%q is not a number", clip(s))
	}
	return strconv.Atoi(s)
}

// clip keeps error messages short whatever was sent.
func clip(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:77], "") + "..."
	}
	return s
}
