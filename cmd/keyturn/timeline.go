package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/keyturn/keyturn/rotation"
)

// phase is a stretch of a generation's life in one state.
type phase struct {
	from, to time.Time
	mark     rune
	colour   string
}

const timelineWidth = 72

// timeline draws the life of each generation under one axis of time.
func (d *demo) timeline(a *app) {
	if a.json {
		return
	}
	lanes := lanesOf(d.events)
	if len(lanes) == 0 {
		return
	}
	begin, end := d.began, time.Now()
	column := func(t time.Time) int {
		return min(max(int(float64(timelineWidth)*t.Sub(begin).Seconds()/end.Sub(begin).Seconds()), 0), timelineWidth)
	}
	fmt.Fprintln(a.out)
	for i, lane := range lanes {
		var line strings.Builder
		at := 0
		for _, p := range lane {
			to := p.to
			if to.IsZero() {
				to = end
			}
			from, until := column(p.from), column(to)
			line.WriteString(strings.Repeat(" ", max(from-at, 0)))
			line.WriteString(a.colour(strings.Repeat(string(p.mark), max(until-max(from, at), 0)), p.colour))
			at = max(at, until)
		}
		fmt.Fprintf(a.out, "  v%-3d %s\n", i+1, line.String())
	}
	if !d.crashedAt.IsZero() {
		fmt.Fprintf(a.out, "       %s%s\n", strings.Repeat(" ", column(d.crashedAt)), a.colour("^ kill -9", red))
	}
	fmt.Fprintf(a.out, "       %s published   %s signs and verifies   %s verifies only   %s disabled\n",
		a.colour("░", blue), a.colour("█", green), a.colour("▒", yellow), a.colour("·", grey))
}

// lanesOf reads the phases of the generations v1, v2, … from the history: the
// n-th switch ends the signing of the n-th and begins that of the next.
func lanesOf(events []rotation.Event) [][]phase {
	var lanes [][]phase
	lane := func(n int) *[]phase {
		for len(lanes) <= n {
			lanes = append(lanes, nil)
		}
		return &lanes[n]
	}
	enter := func(n int, at time.Time, mark rune, colour string) {
		l := lane(n)
		if last := len(*l) - 1; last >= 0 {
			(*l)[last].to = at
		}
		*l = append(*l, phase{from: at, mark: mark, colour: colour})
	}
	published, suspended, switched := 0, 0, 0
	for _, e := range events {
		if e.What != rotation.WhatDone {
			continue
		}
		switch e.Step {
		case rotation.StepInspect:
			if len(lanes) == 0 {
				enter(0, e.At, '█', green)
			}
		case rotation.StepPublish:
			published++
			enter(published, e.At, '░', blue)
		case rotation.StepSwitch:
			enter(switched, e.At, '▒', yellow)
			switched++
			enter(switched, e.At, '█', green)
		case rotation.StepSuspend:
			enter(suspended, e.At, '·', grey)
			suspended++
		}
	}
	return lanes
}
