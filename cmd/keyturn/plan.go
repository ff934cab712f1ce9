package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyturn/keyturn/rotation"
	"github.com/spf13/cobra"
)

func (a *app) planCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "plan [POLICY]",
		Short: "What the next rotation would do: every call and every check, doing none of it",
		Long: `Asks the server what the next rotation of a policy would do and when: the calls of each step, and everything that can be
checked beforehand: permissions, quotas, the key policy, who depends on the key. Nothing is changed.

With --file it plans the policies of a manifest, whether the server has them or not. The exit code is 1 when a check says
that the rotation would not succeed.`,
		Example: `keyturn plan alias/payments
keyturn plan --file keyturn.yaml`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (len(args) == 1) == (file != "") {
				return usageError(errors.New("nothing to plan, or two things"), "name a policy, or a manifest with --file")
			}
			var plans []rotation.Plan
			if file == "" {
				on, err := a.onPolicy(cmd, args[0])
				if err != nil {
					return err
				}
				var out rotation.PlanRotationOutput
				if err := on.call(cmd.Context(), "PlanRotation", &rotation.PlanRotationInput{Name: on.policy}, &out); err != nil {
					return err
				}
				plans = append(plans, out.Plan)
			} else {
				m, err := readPolicies(file)
				if err != nil {
					return err
				}
				c, err := a.connect(cmd.Context())
				if err != nil {
					return err
				}
				for i := range m.entries {
					var out rotation.PlanRotationOutput
					if err := c.call(cmd.Context(), "PlanRotation", &rotation.PlanRotationInput{Policy: &m.entries[i].policy}, &out); err != nil {
						return m.entries[i].wrap(err)
					}
					plans = append(plans, out.Plan)
				}
			}
			return a.tellPlans(plans)
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "manifest of policies")
	return cmd
}

func (a *app) tellPlans(plans []rotation.Plan) error {
	refused := false
	for i := range plans {
		for _, c := range plans[i].Checks {
			refused = refused || !c.OK
		}
	}
	err := a.print(plans, func() error {
		for i := range plans {
			if i > 0 {
				fmt.Fprintln(a.out)
			}
			if err := a.tellPlan(&plans[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && refused {
		return failure(errors.New("the rotation would not succeed: a check says no"), "the checks above say what to mend")
	}
	return err
}

func (a *app) tellPlan(p *rotation.Plan) error {
	fmt.Fprintf(a.out, "%s\n", a.colour(brief(p.Policy), blue))
	if p.Old != "" {
		fmt.Fprintf(a.out, "  now   %s\n  next  %s\n", brief(p.Old), brief(p.New))
	}
	var rows [][]string
	for _, s := range p.Steps {
		at := when(s.At)
		calls := strings.Join(s.Calls, "\n")
		if !isTerminal(a.out) {
			calls = strings.Join(s.Calls, ", ")
		}
		if s.Skip != "" {
			at, calls = "left out", a.colour(s.Skip, grey)
		}
		rows = append(rows, []string{string(s.Step), at, calls})
	}
	if err := a.rows([]string{"STEP", "AT THE EARLIEST", "CALLS"}, rows, "Nothing would be done."); err != nil {
		return err
	}
	rows = nil
	for _, c := range p.Checks {
		ok, detail := a.colour("ok", green), brief(c.Detail)
		if !c.OK {
			ok = a.colour("NO", red)
			if c.Hint != "" {
				detail += "; hint: " + brief(c.Hint)
			}
		}
		rows = append(rows, []string{c.Name, ok, detail})
	}
	if err := a.rows([]string{"CHECK", "", "DETAIL"}, rows, "Nothing was checked."); err != nil {
		return err
	}
	return a.tellWarnings(p.Warnings)
}

func (a *app) tellWarnings(warnings []string) error {
	for _, w := range warnings {
		if _, err := fmt.Fprintf(a.out, "%s %s\n", a.colour("warning:", yellow), brief(w)); err != nil {
			return err
		}
	}
	return nil
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04Z") }
