package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/keyturn/keyturn/rotation"
	"github.com/spf13/cobra"
)

func (a *app) applyCommand() *cobra.Command {
	var file string
	var yes, dry, prune bool
	cmd := &cobra.Command{
		Use:   "apply --file keyturn.yaml",
		Short: "Make policies and identities what a file says, after showing what would change",
		Long: `Reads a manifest of rotation policies, users, groups and roles, checks them all, shows what would change, asks, and makes
it so. Nothing is changed while anything is wrong with any of them. Each entry replaces what it names whole: a policy, tag or
membership that it does not mention goes. A rotation policy that is paused stays paused. Access keys are none of its business.

--prune also deletes what the file does not name, of the sections that it has: rotation policies of the account and Region
(their keys stay), users without access keys, groups, roles.

  policies:
    - alias: alias/payments        # the name is "payments" unless name: says otherwise
      schedule: rate(90 days)
      lead: 24h
      overlap: 30d`,
		Example: "keyturn apply -f keyturn.yaml --dry-run",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if yes && dry {
				return usageError(errors.New("--yes together with --dry-run"), "choose one")
			}
			m, err := readManifest(file)
			if err != nil {
				return err
			}
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			work, err := planApply(cmd.Context(), c, m, prune)
			if err != nil {
				return err
			}
			return a.apply(cmd.Context(), c, work, yes, dry)
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "manifest")
	requireFlag(cmd, "file")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "show what would change, and change nothing")
	cmd.Flags().BoolVar(&prune, "prune", false, "delete what the file does not name")
	return cmd
}

// application is what apply would do, and what it has done.
type application struct {
	Policies  []applied `json:"policies"`
	Delete    []string  `json:"delete"` // names of policies
	Applied   bool      `json:"applied"`
	unchanged int

	Identities []appliedIdentity `json:"identities"`
}

// todo is how many things would change.
func (w *application) todo() int {
	n := len(w.Policies) - w.unchanged + len(w.Delete)
	for i := range w.Identities {
		if w.Identities[i].Action != "none" {
			n++
		}
	}
	return n
}

// applied is one policy of it.
type applied struct {
	Policy   string                `json:"policy"`
	Action   string                `json:"action"` // create, change or none
	Changes  []rotation.Difference `json:"changes"`
	Warnings []string              `json:"warnings"`
	entry    *entry
}

// planApply has the server check every entry, and answers everything that it
// refuses at once.
func planApply(ctx context.Context, c *client, m *manifest, prune bool) (*application, error) {
	work := &application{Policies: []applied{}, Delete: []string{}}
	var refused []error
	code := exitUsage
	named := map[string]bool{}
	for i := range m.entries {
		e := &m.entries[i]
		named[e.policy.Name] = true
		var out rotation.PutPolicyOutput
		err := c.call(ctx, "PutPolicy", &rotation.PutPolicyInput{Policy: e.policy, DryRun: true}, &out)
		if err != nil {
			switch exitCode(err) {
			case exitUnavailable, exitInterrupted:
				return nil, err
			case exitDenied:
				code = exitDenied
			}
			refused = append(refused, e.wrap(err))
			continue
		}
		p := applied{Policy: e.policy.Name, Action: "change", Changes: out.Changes, Warnings: out.Warnings, entry: e}
		switch {
		case out.Created:
			p.Action = "create"
		case len(out.Changes) == 0:
			p.Action = "none"
			work.unchanged++
		}
		work.Policies = append(work.Policies, p)
	}
	if len(refused) > 0 {
		return nil, &cliError{err: errors.Join(refused...), code: code, hint: "nothing was changed: the server refuses what is listed"}
	}
	if prune && m.sections["policies"] {
		all, err := c.policies(ctx)
		if err != nil {
			return nil, err
		}
		for _, p := range all {
			if !named[p.Name] {
				work.Delete = append(work.Delete, p.Name)
			}
		}
	}
	var err error
	work.Identities, err = planIdentities(ctx, c, m, prune)
	return work, err
}

// apply shows what would change, asks, and does it.
func (a *app) apply(ctx context.Context, c *client, work *application, yes, dry bool) error {
	todo := work.todo()
	if !a.json {
		if err := a.tellApplication(work); err != nil {
			return err
		}
	}
	switch {
	case todo == 0, dry:
		return a.print(work, func() error { return nil })
	case !yes && (a.json || !isTerminal(a.out) || !isTTY(os.Stdin.Fd())):
		return usageError(errors.New("nothing was changed: nobody is there to say yes"), "--yes applies it without asking, --dry-run only shows it")
	case !yes:
		agreed, err := a.confirm(ctx, fmt.Sprintf("Apply %s? [y/N] ", count(todo, "change")))
		if err != nil {
			return err
		}
		if !agreed {
			return failure(errors.New("nothing was changed"), "")
		}
	}
	done, err := work.applyIdentities(ctx, c)
	if err != nil {
		return err
	}
	for i := range work.Policies {
		p := &work.Policies[i]
		if p.Action == "none" {
			continue
		}
		if err := c.call(ctx, "PutPolicy", &rotation.PutPolicyInput{Policy: p.entry.policy}, nil); err != nil {
			return partly(err, done+i, p.entry.String())
		}
	}
	for i, name := range work.Delete {
		if err := c.call(ctx, "DeletePolicy", &rotation.DeletePolicyInput{Name: name}, nil); err != nil {
			return partly(err, done+len(work.Policies)+i, "deleting "+name)
		}
	}
	work.Applied = true
	return a.print(work, func() error {
		text := fmt.Sprintf("%s put, %d deleted", count(len(work.Policies)-work.unchanged, "policy"), len(work.Delete))
		if len(work.Identities) > 0 {
			text = count(todo, "change")
		}
		_, err := fmt.Fprintf(a.out, "%s: %s\n", a.colour("applied", green), text)
		return err
	})
}

// applyIdentities does what was planned, stage by stage: what others name is made first.
func (w *application) applyIdentities(ctx context.Context, c *client) (done int, err error) {
	for stage := range 5 {
		for i := range w.Identities {
			for _, s := range w.Identities[i].steps {
				if s.stage != stage {
					continue
				}
				if err := c.call(ctx, s.operation, s.in, nil); err != nil {
					return done, partly(err, done, w.Identities[i].what)
				}
				done++
			}
		}
	}
	return done, nil
}

// partly says that what came before err is done: applying again goes on.
func partly(err error, before int, what string) error {
	hint := "the entries before it are applied; apply again when it is mended"
	if before == 0 {
		hint = "nothing was changed"
	}
	return &cliError{err: fmt.Errorf("%s: %w", what, err), code: exitCode(err), hint: hint}
}

func (a *app) tellApplication(work *application) error {
	for _, p := range work.Policies {
		switch p.Action {
		case "none":
			continue
		case "create":
			fmt.Fprintf(a.out, "%s %s\n", a.colour("create", green), p.Policy)
		default:
			fmt.Fprintf(a.out, "%s %s\n", a.colour("change", yellow), p.Policy)
		}
		a.tellChanges(p.Changes)
		if err := a.tellWarnings(p.Warnings); err != nil {
			return err
		}
	}
	unchanged := work.unchanged
	for i := range work.Identities {
		p := &work.Identities[i]
		if p.Action == "none" {
			unchanged++
			continue
		}
		colour := map[string]string{"create": green, "change": yellow, "delete": red}[p.Action]
		fmt.Fprintf(a.out, "%s %s\n", a.colour(p.Action, colour), p.Identity)
		a.tellChanges(p.Changes)
	}
	for _, name := range work.Delete {
		fmt.Fprintf(a.out, "%s %s\n", a.colour("delete", red), name)
	}
	if work.todo() == 0 {
		fmt.Fprintln(a.out, "Everything is as the file says.")
	} else if unchanged > 0 {
		fmt.Fprintf(a.out, "%d unchanged\n", unchanged)
	}
	return nil
}

// confirm asks on the terminal; only y and yes are yes.
func (a *app) confirm(ctx context.Context, question string) (bool, error) {
	fmt.Fprint(a.out, question)
	answer := make(chan string, 1)
	go func() { // ends with the process when nobody answers
		line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case s := <-answer:
		return s == "y" || s == "yes", nil
	}
}
