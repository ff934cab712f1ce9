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
		Short: "Make the policies what a file says, after showing what would change",
		Long: `Reads a manifest of policies, has the server check them all, shows what would change, asks, and puts them. Nothing is
changed while anything is wrong with any of them. Each entry replaces its policy whole. A policy that is paused stays paused.

--prune also deletes policies of the account and Region that the file does not name. Their keys stay.

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
	cmd.Flags().StringVarP(&file, "file", "f", "", "manifest of policies")
	requireFlag(cmd, "file")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "show what would change, and change nothing")
	cmd.Flags().BoolVar(&prune, "prune", false, "delete policies that the file does not name")
	return cmd
}

// application is what apply would do, and what it has done.
type application struct {
	Policies  []applied `json:"policies"`
	Delete    []string  `json:"delete"` // names
	Applied   bool      `json:"applied"`
	unchanged int
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
	if prune {
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
	return work, nil
}

// apply shows what would change, asks, and does it.
func (a *app) apply(ctx context.Context, c *client, work *application, yes, dry bool) error {
	todo := len(work.Policies) - work.unchanged + len(work.Delete)
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
	for i := range work.Policies {
		p := &work.Policies[i]
		if p.Action == "none" {
			continue
		}
		if err := c.call(ctx, "PutPolicy", &rotation.PutPolicyInput{Policy: p.entry.policy}, nil); err != nil {
			return partly(err, i, p.entry.String())
		}
	}
	for i, name := range work.Delete {
		if err := c.call(ctx, "DeletePolicy", &rotation.DeletePolicyInput{Name: name}, nil); err != nil {
			return partly(err, len(work.Policies)+i, "deleting "+name)
		}
	}
	work.Applied = true
	return a.print(work, func() error {
		_, err := fmt.Fprintf(a.out, "%s: %s put, %d deleted\n", a.colour("applied", green), count(todo-len(work.Delete), "policy"), len(work.Delete))
		return err
	})
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
	for _, name := range work.Delete {
		fmt.Fprintf(a.out, "%s %s\n", a.colour("delete", red), name)
	}
	if work.unchanged == len(work.Policies) && len(work.Delete) == 0 {
		fmt.Fprintln(a.out, "Everything is as the file says.")
	} else if work.unchanged > 0 {
		fmt.Fprintf(a.out, "%d unchanged\n", work.unchanged)
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
