package rotation

import (
	"fmt"
	"math/bits"
	"strings"
	"time"
)

// cron is a compiled cron() expression: sets of bits, one for each value.
type cron struct {
	minutes uint64
	hours   uint32
	months  uint16    // bit 1 is January
	years   [230]bool // firstYear + index
	allYear bool      // the field is "*": years beyond the table match too
	days    dayRule
}

// dayRule is day-of-month or day-of-week, whichever is not "?".
type dayRule struct {
	days        uint32 // bit 1 is the first
	last        bool   // L
	lastWeekday bool   // LW
	nearest     uint32 // nW: bit n

	weekdays uint8    // bit 0 is Sunday, as in time.Weekday
	nth      [7]uint8 // n#k: by weekday, bit k
	lastOf   uint8    // nL: bit of the weekday
}

const (
	firstYear = 1970
	lastYear  = 2199
)

// cronField describes one of the six fields. Values are as written, so weekdays are 1–7.
type cronField struct {
	name     string
	min, max int
	names    string // three letters each, beginning with the value min
	wraps    bool   // a range may run over the end (native API)
	allowed  string // for error messages
}

var cronFields = [6]cronField{
	{name: "minutes", max: 59, wraps: true, allowed: "0-59 with , - * /"},
	{name: "hours", max: 23, wraps: true, allowed: "0-23 with , - * /"},
	{name: "day-of-month", min: 1, max: 31, allowed: "1-31 with , - * ? / L W"},
	{name: "month", min: 1, max: 12, names: "JANFEBMARAPRMAYJUNJULAUGSEPOCTNOVDEC", wraps: true, allowed: "1-12 or JAN-DEC with , - * /"},
	{name: "day-of-week", min: 1, max: 7, names: "SUNMONTUEWEDTHUFRISAT", wraps: true, allowed: "1-7 (1 is Sunday) or SUN-SAT with , - * ? / L #"},
	{name: "year", min: firstYear, max: lastYear, allowed: "1970-2199 with , - * /"},
}

func parseCron(body string, aws bool) (*cron, error) {
	words := strings.Fields(strings.ToUpper(body))
	if len(words) != len(cronFields) {
		return nil, fmt.Errorf("cron() takes six fields (minutes hours day-of-month month day-of-week year), got %d", len(words))
	}
	if aws && words[0] != "0" {
		return nil, fmt.Errorf("minutes field %q: must be 0, because rotation windows open on the hour", clip(words[0]))
	}
	if aws && words[5] != "*" {
		return nil, fmt.Errorf("year field %q: must be *", clip(words[5]))
	}
	if (words[2] == "?") == (words[4] == "?") {
		return nil, fmt.Errorf("day-of-month %q and day-of-week %q: exactly one of the two must be ?", clip(words[2]), clip(words[4]))
	}
	c := &cron{allYear: words[5] == "*"}
	for i, word := range words {
		f := &cronFields[i]
		if err := c.parseField(i, f, word, aws); err != nil {
			return nil, fmt.Errorf("%s field %q: %w (allowed: %s)", f.name, clip(word), err, f.allowed)
		}
	}
	if aws {
		if err := c.checkAWSHours(); err != nil {
			return nil, fmt.Errorf("hours field %q: %w", clip(words[1]), err)
		}
	}
	if _, ok := c.nextDay(time.Date(firstYear, 1, 1, 0, 0, 0, 0, time.UTC)); !ok {
		return nil, fmt.Errorf("day-of-month %q, month %q, day-of-week %q, year %q: there is no such date",
			clip(words[2]), clip(words[3]), clip(words[4]), clip(words[5]))
	}
	return c, nil
}

// checkAWSHours refuses two starts on one day less than AWS's shortest interval apart.
func (c *cron) checkAWSHours() error {
	last := -24
	for h := range 24 {
		if c.hours&(1<<h) == 0 {
			continue
		}
		if h-last < int(minAWSRate/time.Hour) {
			return fmt.Errorf("%d:00 and %d:00 are less than 4 hours apart", last, h)
		}
		last = h
	}
	return nil
}

func (c *cron) parseField(i int, f *cronField, word string, aws bool) error {
	if word == "?" {
		if i != 2 && i != 4 {
			return fmt.Errorf("? stands only in day-of-month and day-of-week")
		}
		return nil
	}
	items := strings.Split(word, ",")
	for _, item := range items {
		special, err := c.days.parseSpecial(i, f, item, aws)
		if err != nil {
			return err
		}
		if special {
			if aws && len(items) > 1 {
				return fmt.Errorf("%s cannot stand in a list", clip(item))
			}
			continue
		}
		low, high, step, err := f.parseItem(item, aws)
		if err != nil {
			return err
		}
		for v := low; v <= high; v += step {
			// A range that wraps runs beyond max and comes back to min.
			c.set(i, (v-f.min)%(f.max-f.min+1)+f.min)
		}
	}
	return nil
}

func (c *cron) set(i, v int) {
	switch i {
	case 0:
		c.minutes |= 1 << v
	case 1:
		c.hours |= 1 << v
	case 2:
		c.days.days |= 1 << v
	case 3:
		c.months |= 1 << v
	case 4:
		c.days.weekdays |= 1 << (v - 1)
	case 5:
		c.years[v-firstYear] = true
	}
}

// parseSpecial reads the words that only the two day fields know:
// L, LW and nW in day-of-month, L, nL and n#k in day-of-week.
func (r *dayRule) parseSpecial(i int, f *cronField, item string, aws bool) (bool, error) {
	switch {
	case i == 2 && item == "L":
		r.last = true
		return true, nil
	case i == 2 && item == "LW":
		r.lastWeekday = true
		return true, nil
	case i == 2 && strings.HasSuffix(item, "W"):
		if aws {
			return false, fmt.Errorf("%s is not supported, of the W forms only LW is", clip(item))
		}
		n, err := f.parseValue(strings.TrimSuffix(item, "W"))
		r.nearest |= 1 << n
		return true, err
	case i == 4 && item == "L":
		r.weekdays |= 1 << time.Saturday // the last day of AWS's week
		return true, nil
	case i == 4 && strings.HasSuffix(item, "L"):
		n, err := f.parseValue(strings.TrimSuffix(item, "L"))
		if err == nil {
			r.lastOf |= 1 << (n - 1)
		}
		return true, err
	case i == 4 && strings.Contains(item, "#"):
		weekday, nth, _ := strings.Cut(item, "#")
		n, err := f.parseValue(weekday)
		if err != nil {
			return false, err
		}
		k, err := number(nth)
		if err != nil || k < 1 || k > 5 {
			return false, fmt.Errorf("%s: after # a number from 1 to 5 says which one of the month", clip(item))
		}
		r.nth[n-1] |= 1 << k
		return true, nil
	}
	return false, nil
}

// parseItem reads one member of a list: * a a-b */n a/n a-b/n /n. It returns the
// range with high ≥ low (beyond max for a range that wraps) and the step.
func (f *cronField) parseItem(item string, aws bool) (low, high, step int, err error) {
	base, increment, stepped := strings.Cut(item, "/")
	step = 1
	if stepped {
		step, err = number(increment)
		if err != nil || step < 1 || step > f.max {
			return 0, 0, 0, fmt.Errorf("%s: the increment after / must be from 1 to %d", clip(item), f.max)
		}
	}
	if base == "*" || base == "" && stepped {
		return f.min, f.max, step, nil
	}
	from, to, ranged := strings.Cut(base, "-")
	if low, err = f.parseValue(from); err != nil {
		return 0, 0, 0, err
	}
	switch {
	case ranged:
		if high, err = f.parseValue(to); err != nil {
			return 0, 0, 0, err
		}
	case stepped:
		high = f.max
	default:
		high = low
	}
	if high < low {
		if aws || !f.wraps {
			return 0, 0, 0, fmt.Errorf("range %s runs backwards", clip(base))
		}
		high += f.max - f.min + 1
	}
	return low, high, step, nil
}

// parseValue reads a number or a name within the field's limits. On error it returns min.
func (f *cronField) parseValue(s string) (int, error) {
	if len(s) == 3 && f.names != "" {
		for at := 0; at < len(f.names); at += 3 {
			if f.names[at:at+3] == s {
				return f.min + at/3, nil
			}
		}
	}
	v, err := number(s)
	if err != nil {
		return f.min, fmt.Errorf("%q is not a value of this field", clip(s))
	}
	if v < f.min || v > f.max {
		return f.min, fmt.Errorf("%d is outside %d-%d", v, f.min, f.max)
	}
	return v, nil
}

// next returns the first start after the instant, see Schedule.Next.
func (c *cron) next(after time.Time, loc *time.Location) time.Time {
	// Starts are minutes: the first one the clock has not shown by then.
	earliest := latestWall(after, loc)
	if whole := earliest.Truncate(time.Minute); whole.Before(earliest) {
		earliest = whole.Add(time.Minute)
	}
	date, ok := c.nextDay(earliest)
	if ok && sameDay(date, earliest) {
		if minute, found := c.nextMinute(earliest.Hour(), earliest.Minute()); found {
			return firstInstant(date.Add(minute), loc)
		}
		date, ok = c.nextDay(date.AddDate(0, 0, 1))
	}
	if !ok {
		return time.Time{}
	}
	minute, _ := c.nextMinute(0, 0) // neither set is ever empty
	return firstInstant(date.Add(minute), loc)
}

func sameDay(a, b time.Time) bool {
	return a.Year() == b.Year() && a.YearDay() == b.YearDay()
}

// nextMinute returns the first matching time of day at or after hour:minute.
func (c *cron) nextMinute(hour, minute int) (time.Duration, bool) {
	for ; hour < 24; hour, minute = hour+1, 0 {
		if c.hours&(1<<hour) == 0 {
			continue
		}
		if rest := c.minutes >> minute << minute; rest != 0 {
			return time.Duration(hour)*time.Hour + time.Duration(bits.TrailingZeros64(rest))*time.Minute, true
		}
	}
	return 0, false
}

// nextDay returns the first matching date at or after the date of from, as
// midnight UTC, and false when there is none.
func (c *cron) nextDay(from time.Time) (time.Time, bool) {
	year, month, first := from.Date()
	// The calendar of weekdays and leap years repeats after 28 years, after 40
	// when the series crosses a year like 2100: what has not come by then never does.
	for limit := max(year, firstYear) + 41; year <= limit || !c.allYear && year <= lastYear; year, month, first = year+1, 1, 1 {
		if !c.hasYear(year) {
			continue
		}
		for ; month <= 12; month, first = month+1, 1 {
			if c.months&(1<<month) == 0 {
				continue
			}
			if rest := c.days.in(year, month) >> first << first; rest != 0 {
				return time.Date(year, month, bits.TrailingZeros32(rest), 0, 0, 0, 0, time.UTC), true
			}
		}
	}
	return time.Time{}, false
}

func (c *cron) hasYear(year int) bool {
	if c.allYear {
		return true
	}
	return year >= firstYear && year <= lastYear && c.years[year-firstYear]
}

// in returns the matching days of a month as bits, bit 1 for the first.
func (r *dayRule) in(year int, month time.Month) uint32 {
	end := time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC)
	length := end.Day()
	weekday := func(d int) time.Weekday { return (end.Weekday() + time.Weekday(d-length+35)) % 7 }

	match := r.days
	if r.last {
		match |= 1 << length
	}
	if r.lastWeekday {
		match |= 1 << nearestWeekday(length, length, weekday)
	}
	for d := 1; d <= length; d++ {
		if r.nearest&(1<<d) != 0 {
			match |= 1 << nearestWeekday(d, length, weekday)
		}
		w := weekday(d)
		if r.weekdays&(1<<w) != 0 || r.nth[w]&(1<<((d+6)/7)) != 0 || r.lastOf&(1<<w) != 0 && d+7 > length {
			match |= 1 << d
		}
	}
	return match & (1<<(length+1) - 1)
}

// nearestWeekday returns the Monday to Friday nearest to day d that is inside the month.
func nearestWeekday(d, length int, weekday func(int) time.Weekday) int {
	switch weekday(d) {
	case time.Saturday:
		if d == 1 {
			return 3
		}
		return d - 1
	case time.Sunday:
		if d == length {
			return d - 2
		}
		return d + 1
	}
	return d
}
