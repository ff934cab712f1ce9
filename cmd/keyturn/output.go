package main

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"
	"unicode"

	"charm.land/lipgloss/v2"
	"charm.land/lipgloss/v2/table"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/term"
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
	if s == "" || !isTerminal(a.out) || os.Getenv("NO_COLOR") != "" {
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

// rows prints a table, or empty where there is nothing in it.
func (a *app) rows(header []string, rows [][]string, empty string) error {
	text := empty + "\n"
	if len(rows) > 0 {
		text = a.table(header, rows)
	}
	_, err := fmt.Fprint(a.out, text)
	return err
}

// table draws a table: with rules and colour on a terminal, as wide as that at
// most; else columns apart by two spaces, which cut and awk read.
func (a *app) table(header []string, rows [][]string) string {
	width := make([]int, len(header))
	for _, row := range append([][]string{header}, rows...) {
		for i, cell := range row {
			width[i] = max(width[i], lipgloss.Width(cell))
		}
	}
	if isTerminal(a.out) {
		fit(width, a.width()-3*len(width)-1)
		t := table.New().Border(lipgloss.RoundedBorder()).BorderStyle(lipgloss.NewStyle().Foreground(lipgloss.Color(grey))).
			Headers(header...).Rows(rows...).
			StyleFunc(func(row, column int) lipgloss.Style {
				style := lipgloss.NewStyle().Padding(0, 1).Width(width[column] + 2)
				if row == table.HeaderRow {
					return style.Bold(true)
				}
				return style
			})
		return t.String() + "\n"
	}
	var text strings.Builder
	for _, row := range append([][]string{header}, rows...) {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", width[i]-lipgloss.Width(cell)+2))
			}
		}
		text.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return text.String()
}

// fit narrows columns until they fit into room: the last one first, which holds
// the words, then whichever is widest. What does not fit into a cell is wrapped.
func fit(width []int, room int) {
	last := len(width) - 1
	for sum := total(width); sum > room; sum-- {
		widest := 0
		for i := range width {
			if width[i] > width[widest] {
				widest = i
			}
		}
		if width[last] > 20 {
			widest = last
		}
		if width[widest] <= 8 {
			return
		}
		width[widest]--
	}
}

func total(numbers []int) (sum int) {
	for _, n := range numbers {
		sum += n
	}
	return sum
}

// width is how many columns the terminal has; 100 where there is none.
func (a *app) width() int {
	if f, ok := a.out.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 20 {
			return columns
		}
	}
	return 100
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

// printable replaces what a terminal would obey: texts that other people wrote
// must not draw on this one's screen.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r != ' ' && !unicode.IsGraphic(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// keyARN is what notes of the server name keys by.
var keyARN = regexp.MustCompile(`arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/`)

// brief is a note as tables show it: printable, and keys by id.
func brief(s string) string { return printable(keyARN.ReplaceAllString(s, "key/")) }

// count is a number of things: "1 rotation", "2 rotations".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	if stem, ok := strings.CutSuffix(thing, "y"); ok && !strings.HasSuffix(stem, "a") {
		thing = stem + "ie"
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
