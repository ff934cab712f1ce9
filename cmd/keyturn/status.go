package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/keyturn/keyturn/rotation"
	"github.com/spf13/cobra"
)

func (a *app) statusCommand() *cobra.Command {
	var check, watch bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "What is due, running, failed or overdue",
		Long: `Counts the rotations of the account and Region, and lists those that run, failed or are overdue, and the next ones.

--check is for monitoring: the exit code is 1 when a rotation has failed or is overdue.
--watch shows it anew as it changes, until Ctrl-C.`,
		Example: `keyturn status --watch
keyturn status --check --json`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if check && watch {
				return usageError(fmt.Errorf("--check together with --watch"), "--check looks once")
			}
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			if watch {
				return a.watchStatus(cmd.Context(), c)
			}
			var out rotation.GetStatusOutput
			if err := c.call(cmd.Context(), "GetStatus", &rotation.GetStatusInput{}, &out); err != nil {
				return err
			}
			err = a.print(out, func() error {
				_, err := fmt.Fprint(a.out, a.drawStatus(&out, time.Now()))
				return err
			})
			if err == nil && check && out.Failed+out.Overdue > 0 {
				return errSilent
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "exit with 1 when a rotation has failed or is overdue")
	cmd.Flags().BoolVar(&watch, "watch", false, "show it anew as it changes, until Ctrl-C")
	return cmd
}

// watchStatus draws the status in place on a terminal; elsewhere it prints it
// whenever it has changed. Ctrl-C is how it ends.
func (a *app) watchStatus(ctx context.Context, c *client) error {
	var screen *live
	if isTerminal(a.out) && !a.json {
		screen = newLive(ctx, a, func(time.Time) string { return "" })
		defer screen.stop()
	}
	last := ""
	for {
		var out rotation.GetStatusOutput
		err := c.call(ctx, "GetStatus", &rotation.GetStatusInput{}, &out)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case screen != nil:
			screen.show(func(now time.Time) string { return a.drawStatus(&out, now) })
		default:
			shown, err := json.Marshal(out, json.Deterministic(true))
			if err != nil {
				return fmt.Errorf("encoding the answer: %w", err)
			}
			if string(shown) == last {
				break
			}
			last = string(shown)
			if err := a.print(out, func() error {
				_, err := fmt.Fprintf(a.out, "%s\n%s\n", when(time.Now()), a.drawStatus(&out, time.Now()))
				return err
			}); err != nil {
				return err
			}
		}
		pause(ctx, time.Second)
		if ctx.Err() != nil {
			return nil
		}
	}
}

// drawStatus is the counts in a line, what deserves a look as a table, and what
// to do about what failed.
func (a *app) drawStatus(out *rotation.GetStatusOutput, now time.Time) string {
	var b strings.Builder
	counts := []struct {
		n            int
		what, colour string
		always       bool
	}{
		{out.Failed, "failed", red, true},
		{out.Overdue, "overdue", red, true},
		{out.Running, "running", blue, true},
		{out.Retrying, "retrying", yellow, false},
		{out.Held, "held", yellow, false},
		{out.Due, "due", yellow, true},
		{out.Scheduled, "scheduled", "", true},
		{out.Paused, "paused", yellow, false},
	}
	b.WriteString(count(out.Policies, "policy"))
	for _, c := range counts {
		text := fmt.Sprintf("%d %s", c.n, c.what)
		switch {
		case c.n > 0 && c.colour != "":
			text = a.colour(text, c.colour)
		case c.n == 0 && !c.always:
			continue
		}
		b.WriteString(" · " + text)
	}
	b.WriteString("\n")
	var rows [][]string
	var notes strings.Builder
	for i := range out.Rotations {
		r := &out.Rotations[i]
		rows = append(rows, []string{policyOf(r.Policy), string(r.Kind), a.statusColour(r), stepWords(r), nextWords(r, now)})
		if r.Error != "" {
			fmt.Fprintf(&notes, "%s (%s): %s\n", policyOf(r.Policy), r.RotationId, brief(r.Error))
			if r.Hint != "" {
				fmt.Fprintf(&notes, "  hint: %s\n", brief(r.Hint))
			}
		}
	}
	if len(rows) > 0 {
		b.WriteString(a.table([]string{"POLICY", "KIND", "STATUS", "STEP", "NEXT"}, rows))
	} else if out.Policies == 0 {
		b.WriteString("Nothing turns yet. 'keyturn policy put alias/NAME --schedule 'rate(90 days)'' lets a key turn.\n")
	}
	b.WriteString(notes.String())
	return b.String()
}

// statusColour is the status of a rotation, with what is worth adding to it.
func (a *app) statusColour(r *rotation.Rotation) string {
	text, colour := string(r.Status), ""
	switch r.Status {
	case rotation.StatusFailed:
		colour = red
	case rotation.StatusRunning:
		colour = blue
		if r.Switched {
			text = "retiring"
		}
		if r.Attempt > 0 {
			text, colour = "retrying", yellow
		}
	case rotation.StatusDone:
		colour = green
	case rotation.StatusHeld, rotation.StatusCanceled, rotation.StatusRolledBack:
		colour = yellow
	}
	if r.Overdue {
		text, colour = text+", overdue", red
	}
	return a.colour(text, colour)
}

func stepWords(r *rotation.Rotation) string {
	if r.Status == rotation.StatusScheduled {
		return ""
	}
	return string(r.Step)
}

// nextWords says when something happens next.
func nextWords(r *rotation.Rotation, now time.Time) string {
	switch {
	case r.Status == rotation.StatusFailed:
		return "waits for a person"
	case r.Status == rotation.StatusHeld:
		return "waits for the roll back"
	case r.Begun:
		return "under way"
	case r.Due.IsZero():
		return "when asked"
	case !r.Due.After(now):
		return "now"
	}
	return until(r.Due, now) + " (" + when(r.Due) + ")"
}
