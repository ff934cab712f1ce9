package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyturn/keyturn/rotation"
	"github.com/spf13/cobra"
)

func (a *app) simulateCommand() *cobra.Command {
	var file, long, from string
	var limit int
	cmd := &cobra.Command{
		Use:   "simulate --file keyturn.yaml",
		Short: "The calendar of everything that a manifest's policies would do",
		Long: `Runs the policies of a manifest in virtual time and prints every step of every rotation, with warnings where a person would
wonder. It needs no server and changes nothing; what happens when is decided by the engine's own machine.`,
		Example: "keyturn simulate --for 1y -f keyturn.yaml",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			length, err := parseSpan(long)
			if err != nil {
				return usageError(fmt.Errorf("--for: %w", err), "for example --for 1y, 90d or 48h")
			}
			begin := time.Now().UTC().Truncate(time.Second)
			if from != "" {
				if begin, err = parseInstant(from); err != nil {
					return usageError(fmt.Errorf("--from: %w", err), "for example --from 2027-01-01")
				}
			}
			if limit < 1 {
				return usageError(errors.New("--limit is less than 1"), "it is how many lines to print at most")
			}
			m, err := readPolicies(file)
			if err != nil {
				return err
			}
			policies := make([]*rotation.Policy, len(m.entries))
			for i := range m.entries {
				p := m.entries[i].policy
				// They name the lineage, by which the spread of starts is drawn, and no server is asked.
				p.Account, p.Region = firstOf(p.Account, "000000000000"), firstOf(p.Region, a.region, "us-east-1")
				policies[i] = &p
			}
			calendar, err := rotation.Simulate(policies, begin, begin.Add(length), limit)
			if err != nil {
				return usageError(err, manifestHint)
			}
			if calendar == nil {
				calendar = []rotation.CalendarEntry{}
			}
			return a.print(calendar, func() error { return a.tellCalendar(calendar, limit) })
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "manifest of policies")
	requireFlag(cmd, "file")
	cmd.Flags().StringVar(&long, "for", "1y", "how much time to simulate: y, d, h, m, s")
	cmd.Flags().StringVar(&from, "from", "", "when to begin: 2027-01-01 or 2027-01-01T06:00:00Z (default: now)")
	cmd.Flags().IntVar(&limit, "limit", 10000, "at most so many entries")
	return cmd
}

// parseSpan reads a duration as policies write it, and years of 365 days.
func parseSpan(s string) (time.Duration, error) {
	if years, ok := strings.CutSuffix(s, "y"); ok {
		n, err := strconv.Atoi(years)
		if err != nil || n < 1 || n > 100 {
			return 0, fmt.Errorf("expected 1y to 100y, not %q", s)
		}
		return time.Duration(n) * 365 * 24 * time.Hour, nil
	}
	d, err := rotation.ParseDuration(s)
	if d == rotation.Forever {
		err = errors.New("it must end")
	}
	return time.Duration(d), err
}

func parseInstant(s string) (time.Time, error) {
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("expected a date or an instant, not %q", s)
	}
	return t, nil
}

func (a *app) tellCalendar(calendar []rotation.CalendarEntry, limit int) error {
	var rows [][]string
	switches := map[string]int{} // policy → how often its alias moves
	var order []string
	for _, e := range calendar {
		if _, seen := switches[e.Policy]; !seen {
			switches[e.Policy] = 0
			order = append(order, e.Policy)
		}
		if e.Step == rotation.StepSwitch {
			switches[e.Policy]++
		}
		turn, step, note := "", string(e.Step), ""
		if e.Rotation > 0 {
			turn = strconv.Itoa(e.Rotation)
		}
		if e.Step == rotation.StepSwitch {
			step = a.colour(step, green)
		}
		if e.Warning != "" {
			note = a.colour("warning:", yellow) + " " + e.Warning
		}
		rows = append(rows, []string{day(e.At), e.Policy, turn, step, e.Note, note})
	}
	header := []string{"AT", "POLICY", "NO", "STEP", "KEY", "NOTE"}
	if !slices.ContainsFunc(calendar, func(e rotation.CalendarEntry) bool { return e.Warning != "" }) {
		header = header[:5]
		for i := range rows {
			rows[i] = rows[i][:5]
		}
	}
	if err := a.rows(header, rows, "Nothing would happen."); err != nil {
		return err
	}
	for _, name := range order {
		fmt.Fprintf(a.out, "%s: %s\n", name, count(switches[name], "rotation"))
	}
	if len(calendar) == limit {
		fmt.Fprintf(a.out, "%s only the first %d entries are shown; --limit shows more\n", a.colour("warning:", yellow), limit)
	}
	return nil
}
