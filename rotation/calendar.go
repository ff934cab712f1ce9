package rotation

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"
	"path"
	"sync"
	"time"
)

// Calendar turns a schedule into windows for one policy: in the policy's time
// zone, outside its freeze periods, spread over the items that share it. All its
// methods are pure: same calendar, same arguments, same answer. The zero value of
// every field but Schedule is meaningful.
type Calendar struct {
	Schedule *Schedule
	Window   time.Duration  // how long a start may wait; 0: AWS's default (1 h for schedules in hours, else to the end of the day)
	Location *time.Location // nil: UTC
	Freeze   []Period       // nothing starts on these dates of Location
	Spread   time.Duration  // items begin at a stable point within this of the schedule's start; 0: all at once
}

// Next returns the first window of item that begins after the given instant.
//
// start is the schedule's start plus the item's share of Spread, which depends
// on item alone and is the same every time; it lies inside the window. end is
// where the window closes: Window after the schedule's start, but not beyond the
// schedule's next start nor into a freeze period. start < end.
//
// A start that falls on a frozen date is left out: a cron() schedule goes on with
// its next start, a rate() schedule begins with the first instant after the freeze.
//
// Only one window comes back however long ago the given instant is, so a caller that was
// down asks with the present time and has at most one rotation to make up for: see CatchUp.
// Both times are zero when there is no further start.
func (c *Calendar) Next(after time.Time, item string) (start, end time.Time) {
	loc := c.location()
	nominal := c.firstNominal(after, item)
	for range maxFrozenStarts {
		if nominal.IsZero() {
			break
		}
		thaw := c.thaw(nominal)
		switch {
		case thaw.IsZero():
			return time.Time{}, time.Time{}
		case !thaw.Equal(nominal) && c.Schedule.IsRate():
			nominal = thaw
		case !thaw.Equal(nominal):
			nominal = c.Schedule.Next(thaw.Add(-1), loc)
		default:
			if start, end = c.window(nominal, item); start.After(after) {
				return start, end
			}
			nominal = c.Schedule.Next(nominal, loc)
		}
	}
	return time.Time{}, time.Time{}
}

// maxFrozenStarts bounds the search for a start outside the freeze periods, each
// round of which leaves a freeze period behind: beyond, they count as for ever.
const maxFrozenStarts = 2_000

// firstNominal returns the schedule's start that the first window of item after the
// given instant can belong to: the last one up to that instant when the item's
// share may still be to come, otherwise the one that follows.
func (c *Calendar) firstNominal(after time.Time, item string) time.Time {
	loc := c.location()
	spread := c.Spread
	if c.Window > 0 {
		spread = min(spread, c.Window)
	}
	if c.Schedule.IsRate() {
		// A rate has no starts of its own, it counts from the last one: the
		// instant less the share, when the instant was a start of this item.
		spread = min(spread, c.Schedule.rateWindow())
		return c.Schedule.Next(after.Add(-c.share(item, spread)), loc)
	}
	nominal := c.Schedule.Next(after.Add(-spread), loc)
	// Windows do not overlap, so of the starts up to the instant only the last one
	// can matter. Bisect, for there may be one every minute.
	for until := after; !nominal.IsZero() && !nominal.After(after); {
		following := c.Schedule.Next(nominal, loc)
		if following.IsZero() || following.After(after) {
			break
		}
		middle := nominal.Add(until.Sub(nominal) / 2)
		if later := c.Schedule.Next(middle, loc); !later.IsZero() && !later.After(after) {
			nominal = later
		} else {
			nominal, until = following, middle
		}
	}
	return nominal
}

// CatchUp returns the window in which item makes up for a start that was missed,
// because nothing ran when its window was open. It begins now, plus the item's
// share of Spread so that not everything starts at once, and is as long as an
// ordinary window; during a freeze it begins when the freeze ends. Call it once and
// store what it returns; the sequence then goes on with Next, so any number of missed
// windows is made up for by one rotation.
func (c *Calendar) CatchUp(now time.Time, item string) (start, end time.Time) {
	thaw := c.thaw(now)
	if thaw.IsZero() {
		return time.Time{}, time.Time{}
	}
	open := *c
	if c.Window == 0 {
		open.Window = c.Schedule.defaultWindow(thaw, c.location()).Sub(thaw)
		if !c.Schedule.IsRate() || c.Schedule.rateWindow() >= time.Hour {
			open.Window = max(open.Window, time.Hour) // the day may be nearly over
		}
	}
	return open.window(thaw.In(c.location()), item)
}

// Frozen reports whether t lies in a freeze period, and in which.
func (c *Calendar) Frozen(t time.Time) (Period, bool) {
	// A clock that goes back over midnight does not bring the old date back.
	date := dateOf(latestWall(t, c.location()).Add(-1))
	for _, p := range c.Freeze {
		if p.contains(date) {
			return p, true
		}
	}
	return Period{}, false
}

// zones keeps the time zones that were asked for: IANA name → *time.Location.
// Reading one costs 30 µs. There are some 1,800 files, and nothing else is kept.
var zones sync.Map

// loadZone returns the time zone of an IANA name.
func loadZone(name string) (*time.Location, error) {
	if loc, known := zones.Load(name); known {
		return loc.(*time.Location), nil
	}
	// Europe/./Berlin would be found as well, and a thousand like it fill the memory.
	if path.Clean(name) != name {
		return nil, fmt.Errorf("unknown time zone %s", clip(name))
	}
	loc, err := time.LoadLocation(name)
	if err == nil {
		zones.Store(name, loc)
	}
	return loc, err
}

func (c *Calendar) location() *time.Location {
	if c.Location == nil {
		return time.UTC
	}
	return c.Location
}

// window returns the item's window for a start of the schedule.
func (c *Calendar) window(nominal time.Time, item string) (start, end time.Time) {
	loc := c.location()
	if c.Window > 0 {
		end = nominal.Add(c.Window)
	} else {
		end = c.Schedule.defaultWindow(nominal, loc)
	}
	if next := c.Schedule.Next(nominal, loc); !next.IsZero() && next.Before(end) {
		end = next
	}
	if freeze := c.nextFreeze(nominal, end); freeze.Before(end) {
		end = freeze
	}
	// The item begins inside the window even where it is shorter than the spread.
	share := c.share(item, min(c.Spread, end.Sub(nominal)))
	return nominal.Add(share), end
}

// share is the item's stable part of spread: at least 0, less than spread.
func (c *Calendar) share(item string, spread time.Duration) time.Duration {
	if spread <= 0 {
		return 0
	}
	sum := sha256.Sum256([]byte(item))
	high, _ := bits.Mul64(binary.BigEndian.Uint64(sum[:8]), uint64(spread))
	unit := time.Second
	if spread < time.Minute {
		unit = time.Millisecond
	}
	return time.Duration(high).Truncate(unit)
}

// thaw returns t, or the first instant after the freeze periods that t lies in,
// or the zero time when they never end.
func (c *Calendar) thaw(t time.Time) time.Time {
	for range maxFrozenDays {
		if _, frozen := c.Frozen(t); !frozen {
			return t
		}
		t = startOfDay(t, 1, c.location())
	}
	return time.Time{}
}

// maxFrozenDays is the longest freeze that is ever waited for: beyond, it counts as for ever.
const maxFrozenDays = 20 * 366

// nextFreeze returns the first instant in (from, until) of a frozen date, or until.
func (c *Calendar) nextFreeze(from, until time.Time) time.Time {
	if len(c.Freeze) == 0 {
		return until
	}
	for t := startOfDay(from, 1, c.location()); t.Before(until); t = startOfDay(t, 1, c.location()) {
		if _, frozen := c.Frozen(t); frozen {
			return t
		}
	}
	return until
}

// Period is a run of dates, first and last day included, in the time zone of the
// policy it belongs to. Dates without a year ("12-20") come every year; such
// a period may run over the end of the year. Both dates are of one kind.
type Period struct {
	From   Date   `json:"from" yaml:"from"`
	To     Date   `json:"to" yaml:"to"`
	Reason string `json:"reason,omitempty" yaml:"reason,omitempty"`
}

// Validate reports a period whose dates are missing, of two kinds, or backwards.
func (p Period) Validate() error {
	switch {
	case p.From.IsZero() || p.To.IsZero():
		return fmt.Errorf("freeze period: both from and to are needed, as 2026-12-20 or, for every year, 12-20")
	case (p.From.Year == 0) != (p.To.Year == 0):
		return fmt.Errorf("freeze period %s to %s: give the year in both dates or in neither", p.From, p.To)
	case p.From.Year != 0 && p.To.before(p.From):
		return fmt.Errorf("freeze period %s to %s: it ends before it begins", p.From, p.To)
	}
	return nil
}

// String returns the period as people write it.
func (p Period) String() string { return p.From.String() + " to " + p.To.String() }

func (p Period) contains(d Date) bool {
	if p.From.Year == 0 {
		d.Year = 0
		if p.To.before(p.From) { // over the end of the year
			return !d.before(p.From) || !p.To.before(d)
		}
	}
	return !d.before(p.From) && !p.To.before(d)
}

// Date is a day of the calendar. Year 0 means every year. Its text is 2026-12-20 or 12-20.
type Date struct {
	Year  int
	Month time.Month
	Day   int
}

func dateOf(t time.Time) Date {
	y, m, d := t.Date()
	return Date{y, m, d}
}

// ParseDate reads 2026-12-20, or 12-20 for that day of every year.
func ParseDate(s string) (Date, error) {
	if t, err := time.Parse(time.DateOnly, s); err == nil && t.Year() > 0 {
		return dateOf(t), nil
	}
	// 2000 had a 29 February, so that day can be named for every year.
	if t, err := time.Parse(time.DateOnly, "2000-"+s); err == nil {
		return Date{0, t.Month(), t.Day()}, nil
	}
	return Date{}, fmt.Errorf("reading date %q: expected a day that exists, as 2026-12-20 or, for every year, 12-20", clip(s))
}

// IsZero reports whether d is no date at all.
func (d Date) IsZero() bool { return d == Date{} }

func (d Date) before(e Date) bool {
	if d.Year != e.Year {
		return d.Year < e.Year
	}
	if d.Month != e.Month {
		return d.Month < e.Month
	}
	return d.Day < e.Day
}

// String returns 2026-12-20, or 12-20 for every year, or nothing for the zero date.
func (d Date) String() string {
	switch {
	case d.IsZero():
		return ""
	case d.Year == 0:
		return fmt.Sprintf("%02d-%02d", d.Month, d.Day)
	}
	return fmt.Sprintf("%04d-%02d-%02d", d.Year, d.Month, d.Day)
}

// MarshalText is for JSON and YAML.
func (d Date) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what ParseDate reads.
func (d *Date) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDate(string(text))
	return err
}
