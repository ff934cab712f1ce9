package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"charm.land/lipgloss/v2"
	"charm.land/lipgloss/v2/table"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// app is what every command shares: the flags of the root and where to print.
type app struct {
	out, err io.Writer

	json          bool
	endpoint      string
	region        string
	profile       string
	clientEnvFile string
}

// print writes value as one JSON document with --json, else calls text.
func (a *app) print(value any, text func() error) error {
	if !a.json {
		return text()
	}
	b, err := json.Marshal(value, jsontext.WithIndent("  "), json.Deterministic(true))
	if err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	_, err = a.out.Write(append(b, '\n'))
	return err
}

// colour wraps s in the colour on a terminal and leaves it alone elsewhere.
func (a *app) colour(s, colour string) string {
	if !isTerminal(a.out) || s == "" {
		return s
	}
	return lipgloss.NewStyle().Foreground(lipgloss.Color(colour)).Render(s)
}

const (
	red    = "1"
	green  = "2"
	yellow = "3"
	blue   = "4"
	grey   = "8"
)

// rows prints a table: with rules and colour on a terminal, else columns apart
// by two spaces, which cut and awk read.
func (a *app) rows(header []string, rows [][]string, empty string) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(a.out, empty)
		return err
	}
	if isTerminal(a.out) {
		t := table.New().Border(lipgloss.RoundedBorder()).BorderStyle(lipgloss.NewStyle().Foreground(lipgloss.Color(grey))).
			Headers(header...).Rows(rows...).
			StyleFunc(func(row, _ int) lipgloss.Style {
				style := lipgloss.NewStyle().Padding(0, 1)
				if row == table.HeaderRow {
					return style.Bold(true)
				}
				return style
			})
		_, err := fmt.Fprintln(a.out, t)
		return err
	}
	width := make([]int, len(header))
	for _, row := range append([][]string{header}, rows...) {
		for i, cell := range row {
			width[i] = max(width[i], lipgloss.Width(cell))
		}
	}
	for _, row := range append([][]string{header}, rows...) {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", width[i]-lipgloss.Width(cell)+2))
			}
		}
		if _, err := fmt.Fprintln(a.out, strings.TrimRight(line.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// when shows a time as a person says it, and exactly.
func when(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

// until shows how far off a time is: "in 3d4h", "2m ago", "now".
func until(t, now time.Time) string {
	if t.IsZero() {
		return "–"
	}
	d := t.Sub(now).Round(time.Second)
	switch {
	case d == 0:
		return "now"
	case d > 0:
		return "in " + short(d)
	}
	return short(-d) + " ago"
}

// short shows the two largest units of a duration.
func short(d time.Duration) string {
	units := []struct {
		name string
		unit time.Duration
	}{{"y", 365 * 24 * time.Hour}, {"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}}
	for i, u := range units {
		if d < u.unit {
			continue
		}
		s := fmt.Sprintf("%d%s", d/u.unit, u.name)
		if rest := d % u.unit; i+1 < len(units) && rest >= units[i+1].unit {
			s += fmt.Sprintf("%d%s", rest/units[i+1].unit, units[i+1].name)
		}
		return s
	}
	return d.String()
}
