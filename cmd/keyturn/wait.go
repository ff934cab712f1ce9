package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/rotation"
	"github.com/spf13/cobra"
)

// wait says whether, for what and for how long a command waits for a rotation.
type wait struct {
	on      bool
	until   string
	timeout time.Duration
	end     rotation.Status // how it should end
}

// What may be waited for.
const (
	untilSwitched = "switched" // the alias names the other key
	untilDone     = "done"     // the rotation is over, old keys retired
)

// unanswered is for how long a server that does not answer is asked again: a
// restart is no reason to give up.
const unanswered = 30 * time.Second

func (w *wait) flags(cmd *cobra.Command, until string, end rotation.Status) {
	w.end = end
	cmd.Flags().BoolVar(&w.on, "wait", false, "show the steps until it is "+until)
	cmd.Flags().StringVar(&w.until, "until", until, "with --wait: switched or done")
	cmd.Flags().DurationVar(&w.timeout, "timeout", 0, "with --wait: stop waiting after so long; exit code 1")
}

func (w *wait) check(cmd *cobra.Command) error {
	if w.until != untilSwitched && w.until != untilDone {
		return usageError(fmt.Errorf("--until %q", w.until), "it is switched or done")
	}
	for _, name := range []string{"until", "timeout"} {
		if cmd.Flags().Changed(name) && !w.on {
			return usageError(fmt.Errorf("--%s without --wait", name), "add --wait")
		}
	}
	if w.timeout < 0 {
		return usageError(fmt.Errorf("--timeout %s", w.timeout), "it is longer than nothing, as 10m")
	}
	return nil
}

// over reports whether there is nothing more to wait for.
func (w *wait) over(r *rotation.Rotation) bool {
	return !r.Status.Open() || r.Status == rotation.StatusFailed || w.until == untilSwitched && r.Switched
}

// await shows how the rotation goes until it is what w waits for. Progress goes
// to standard error with --json, so that standard output is one document.
func (a *app) await(ctx context.Context, p *named, r rotation.Rotation, w wait) error {
	if w.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, w.timeout)
		defer cancel()
	}
	final, err := a.follow(ctx, p, r, w)
	switch {
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil:
		return failure(fmt.Errorf("not %s within %s", w.until, w.timeout), "the rotation goes on: 'keyturn status' shows how")
	case ctx.Err() != nil:
		return &cliError{err: errors.New("stopped waiting"), code: exitInterrupted, hint: "the rotation goes on: 'keyturn status' shows how"}
	case err != nil:
		return err
	}
	if err := a.print(final, func() error {
		_, err := fmt.Fprintln(a.out, a.outcome(&final, p.policy))
		return err
	}); err != nil {
		return err
	}
	return verdict(&final, w)
}

// verdict is the error of a rotation that did not come to the end that was wanted.
func verdict(r *rotation.Rotation, w wait) error {
	switch {
	case r.Status == rotation.StatusFailed:
		return failure(fmt.Errorf("%s %s failed at step %s: %s", r.Kind, r.RotationId, r.Step, r.Error),
			"%s", firstOf(r.Hint, "'keyturn history' tells more; 'keyturn resume' goes on, 'keyturn cancel' gives up"))
	case r.Status == w.end, r.Switched && r.Status.Open():
		return nil
	}
	return failure(fmt.Errorf("%s %s is %s", r.Kind, r.RotationId, r.Status), "'keyturn history' tells by whom and why")
}

// outcome says in one line what came of a rotation.
func (a *app) outcome(r *rotation.Rotation, name string) string {
	switch {
	case r.Status == rotation.StatusFailed:
		return fmt.Sprintf("%s: %s", name, a.colour("failed", red))
	case r.Switched:
		return fmt.Sprintf("%s: %s to %s", name, a.colour("switched", green), keyOf(r.NewKey))
	}
	return fmt.Sprintf("%s: %s is %s", name, r.Kind, a.statusColour(r))
}

// follow asks for the rotation until there is nothing more to wait for.
func (a *app) follow(ctx context.Context, p *named, r rotation.Rotation, w wait) (rotation.Rotation, error) {
	var show watcher = &plainWatch{out: a.progress(), began: time.Now()}
	if isTerminal(a.out) && !a.json {
		show = newLiveWatch(ctx, a)
	}
	defer show.stop()
	asked := time.Now()
	for {
		var out rotation.DescribeRotationOutput
		err := p.call(ctx, "DescribeRotation", &rotation.DescribeRotationInput{RotationId: r.RotationId}, &out)
		switch {
		case err == nil:
			r, asked = out.Rotation, time.Now()
			show.update(r, out.Events)
			if w.over(&r) {
				return r, nil
			}
		case ctx.Err() != nil:
			return r, context.Cause(ctx)
		case exitCode(err) != exitUnavailable || time.Since(asked) > unanswered:
			return r, err
		}
		pause(ctx, pollPause(time.Since(r.CreatedAt)))
		if ctx.Err() != nil {
			return r, context.Cause(ctx)
		}
	}
}

// pollPause is short while things happen fast and longer when a lead of days goes by.
func pollPause(age time.Duration) time.Duration {
	return min(max(age/50, 100*time.Millisecond), 5*time.Second)
}

// progress is where plain progress goes.
func (a *app) progress() io.Writer {
	if a.json {
		return a.err
	}
	return a.out
}

// watcher shows a rotation as it goes.
type watcher interface {
	update(r rotation.Rotation, events []rotation.Event)
	stop()
}

// plainWatch writes one line for each event of the rotation.
type plainWatch struct {
	out   io.Writer
	began time.Time
	seen  int
}

func (p *plainWatch) update(_ rotation.Rotation, events []rotation.Event) {
	for ; p.seen < len(events); p.seen++ {
		e := events[p.seen]
		text := brief(firstOf(e.Error, e.Note))
		if !e.Next.IsZero() && e.Next.After(e.At) {
			text = strings.TrimSpace(text + " (goes on " + when(e.Next) + ")")
		}
		line := fmt.Sprintf("%s  %-9s  %-10s  %s", e.At.UTC().Format("15:04:05Z"), e.What, firstOf(string(e.Step), string(e.Kind)), text)
		fmt.Fprintln(p.out, strings.TrimRight(line, " "))
	}
}

func (p *plainWatch) stop() {}

// stepsOf are the steps of a rotation in order, those of its kind and any other that was done.
func stepsOf(r *rotation.Rotation) []rotation.Step {
	var all []rotation.Step
	policy := rotation.Policy{}.WithDefaults()
	for _, s := range rotation.KeySteps(&rotation.Row{Kind: r.Kind}, &policy) {
		all = append(all, s.Name)
	}
	for s := range r.DoneAt {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}
