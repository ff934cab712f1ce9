package rotation

import (
	"fmt"
	"time"
)

// turn is when one rotation takes place.
type turn struct {
	due   time.Time // when it begins: at start, or ahead of it when the window is shorter than the lead
	start time.Time // when its window opens; zero: no further rotation by itself
	end   time.Time // when its window closes
}

// calendar returns the policy's calendar; nil when it turns by hand only.
func (p *Policy) calendar() (*Calendar, error) {
	location := time.UTC
	if p.Timezone != "" {
		l, err := loadZone(p.Timezone)
		if err != nil || p.Timezone == "Local" {
			return nil, fmt.Errorf("timezone: expected an IANA name as Europe/Berlin, not %q", clip(p.Timezone))
		}
		location = l
	}
	c := &Calendar{Window: p.Window.std(), Location: location, Freeze: p.Freeze, Spread: p.Spread.std()}
	if p.Schedule == "" {
		return nil, nil
	}
	s, err := ParseSchedule(p.Schedule)
	if err != nil {
		return nil, fmt.Errorf("schedule: %w", err)
	}
	c.Schedule = s
	return c, nil
}

// item is what the policy's share of the spread depends on.
func (p *Policy) item() string { return p.Target + " " + p.AliasARN() }

// nextTurn returns the first turn whose window opens after base.
func (p *Policy) nextTurn(base time.Time) turn {
	c, err := p.calendar()
	if c == nil || err != nil { // a stored policy is valid
		return turn{}
	}
	if p.kept() {
		// KMS counts days of 24 hours from the instant itself, and knows neither windows nor freezes.
		start := base.Add(c.Schedule.period())
		return turn{due: start, start: start}
	}
	start, end := c.Next(base, p.item())
	return p.turnIn(c, start, end)
}

// followingTurn returns the turn after the one that opened at start: the next one
// of the calendar, or, when that has passed as well, the next from now.
func (p *Policy) followingTurn(start, now time.Time) turn {
	t := p.nextTurn(start)
	if !t.start.IsZero() && t.start.Before(now) {
		t = p.nextTurn(now)
	}
	return t
}

// lateTurn returns the window in which a turn that missed its own is made up for.
// Who names a window wants nothing outside it, so the next one; otherwise now.
func (p *Policy) lateTurn(now time.Time) turn {
	c, err := p.calendar()
	if c == nil || err != nil {
		return turn{}
	}
	if p.Window != 0 {
		start, end := c.Next(now, p.item())
		return p.turnIn(c, start, end)
	}
	start, end := c.CatchUp(now, p.item())
	return turn{due: start, start: start, end: end}
}

func (p *Policy) turnIn(c *Calendar, start, end time.Time) turn {
	if start.IsZero() {
		return turn{}
	}
	t := turn{due: start, start: start, end: end}
	if p.fits(start, end) {
		return t
	}
	t.due = start.Add(-p.Lead.std())
	for range maxFrozenDays {
		if _, frozen := c.Frozen(t.due); !frozen {
			break
		}
		y, m, d := t.due.In(c.location()).Date()
		t.due = time.Date(y, m, d, 0, 0, 0, 0, c.location()).Add(-time.Second)
	}
	return t
}

// fits reports whether a rotation that begins at start can switch before end.
func (p *Policy) fits(start, end time.Time) bool {
	return p.Mode == ModeInstant || end.IsZero() || start.Add(p.Lead.std()).Before(end)
}

// thaw returns now, or when the freeze that now lies in ends; zero: never.
func (p *Policy) thaw(now time.Time) time.Time {
	if len(p.Freeze) == 0 {
		return now
	}
	c, err := p.calendar()
	if c == nil || err != nil {
		return now
	}
	return c.thaw(now)
}
