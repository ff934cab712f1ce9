package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/keyturn/keyturn/rotation"
)

// live draws a view again and again on a terminal until it is stopped. It reads
// no keys, so Ctrl-C stays a signal like everywhere else.
type live struct {
	program *tea.Program
	ended   chan struct{}
}

// A screen is what live draws at an instant.
type screen func(now time.Time) string

func newLive(ctx context.Context, a *app, first screen) *live {
	l := &live{ended: make(chan struct{})}
	l.program = tea.NewProgram(liveModel{draw: first}, tea.WithContext(ctx), tea.WithInput(nil), tea.WithOutput(a.out), tea.WithoutSignalHandler())
	go func() {
		defer close(l.ended)
		_, _ = l.program.Run() // its only error is that ctx has ended
	}()
	return l
}

// show replaces what is drawn.
func (l *live) show(s screen) { l.program.Send(s) }

// stop draws a last time and gives the terminal back.
func (l *live) stop() {
	l.program.Quit()
	<-l.ended
}

type liveModel struct {
	draw screen
	now  time.Time
}

type frame time.Time

func nextFrame() tea.Cmd {
	return tea.Tick(120*time.Millisecond, func(t time.Time) tea.Msg { return frame(t) })
}

func (m liveModel) Init() tea.Cmd { return nextFrame() }

func (m liveModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case frame:
		m.now = time.Time(msg)
		return m, nextFrame()
	case screen:
		m.draw = msg
	}
	return m, nil
}

func (m liveModel) View() tea.View { return tea.NewView(m.draw(m.now)) }

// spinner turns ten times in twelve seconds.
func spinner(now time.Time) string {
	frames := []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}
	return frames[now.UnixMilli()/120%int64(len(frames))]
}

// liveWatch draws the steps of a rotation as a list that fills.
type liveWatch struct {
	*live
	a *app
}

func newLiveWatch(ctx context.Context, a *app) *liveWatch {
	return &liveWatch{newLive(ctx, a, func(time.Time) string { return "" }), a}
}

func (l *liveWatch) update(r rotation.Rotation, events []rotation.Event) {
	l.show(func(now time.Time) string { return l.a.drawRotation(&r, events, now) })
}

// drawRotation is the picture of a rotation: a line a step.
func (a *app) drawRotation(r *rotation.Rotation, events []rotation.Event, now time.Time) string {
	var b strings.Builder
	notes := map[rotation.Step]string{}
	for _, e := range events {
		if e.What == rotation.WhatDone || e.What == rotation.WhatSkipped {
			notes[e.Step] = brief(e.Note)
		}
	}
	steps := stepsOf(r)
	current := max(slices.Index(steps, r.Step), 0)
	for i, s := range steps {
		mark, text := a.colour("·", grey), ""
		switch done, ok := r.DoneAt[s]; {
		case ok:
			mark, text = a.colour("✓", green), a.colour(done.UTC().Format("15:04:05Z"), grey)+"  "+notes[s]
		case !r.Status.Open() && notes[s] != "":
			mark, text = a.colour("–", grey), a.colour("left out: "+notes[s], grey)
		case !r.Status.Open():
		case r.Status == rotation.StatusFailed && i == current:
			mark, text = a.colour("✗", red), brief(r.Error)
		case i < current:
			mark, text = a.colour("–", grey), a.colour("left out: "+firstOf(notes[s], "not needed"), grey)
		case i == current:
			mark, text = a.colour(spinner(now), blue), waiting(r, now)
		}
		fmt.Fprintf(&b, " %s %-10s %s\n", mark, s, lipgloss.NewStyle().MaxWidth(a.width()-14).Render(text))
	}
	return b.String()
}

// waiting says what the present step waits for.
func waiting(r *rotation.Rotation, now time.Time) string {
	switch {
	case r.Begun:
		return "under way"
	case r.Attempt > 0:
		return fmt.Sprintf("attempt %d %s, after: %s", r.Attempt+1, until(r.Due, now), brief(r.Error))
	case r.Due.After(now):
		return until(r.Due, now) + ", at " + when(r.Due)
	}
	return "next"
}
