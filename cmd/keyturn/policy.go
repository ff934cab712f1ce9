package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/keyturn/keyturn/rotation"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

func (a *app) policyCommand() *cobra.Command {
	return group("policy", "What turns, when and how",
		a.policyPutCommand(), a.policyGetCommand(), a.policyListCommand(), a.policyDeleteCommand())
}

// memberFlags are the flags of a policy's members: what a flag sets, from a text.
// A test holds them against the members that a policy has.
var memberFlags = []struct {
	name, member, usage string
	set                 func(p *rotation.Policy, text string) error
}{
	{"name", "name", "name of the policy (default: the alias without alias/)", text(func(p *rotation.Policy) *string { return &p.Name })},
	{"description", "description", "what it is for", text(func(p *rotation.Policy) *string { return &p.Description })},
	{"rotator", "rotator", "what kind of thing turns (default key)", text(func(p *rotation.Policy) *string { return &p.Rotator })},
	{"target", "target", "where: local, or a target of the server's configuration (default local)", text(func(p *rotation.Policy) *string { return &p.Target })},
	{"account", "account", "account of the alias (default: yours)", text(func(p *rotation.Policy) *string { return &p.Account })},
	{"alias-region", "region", "Region of the alias (default: yours)", text(func(p *rotation.Policy) *string { return &p.Region })},
	{"schedule", "schedule", "when: 'rate(90 days)' or 'cron(0 3 ? * SUN *)'; empty: by hand only", text(func(p *rotation.Policy) *string { return &p.Schedule })},
	{"window", "window", "how long after the scheduled time a rotation may begin, as 4h", span(func(p *rotation.Policy) *rotation.Duration { return &p.Window })},
	{"timezone", "timezone", "IANA time zone of the schedule (default UTC)", text(func(p *rotation.Policy) *string { return &p.Timezone })},
	{"freeze", "freeze", "dates without rotations, FROM..TO, as 2026-12-20..2027-01-02 or, every year, 12-20..01-02 (repeatable; '' removes all)", setFreeze},
	{"spread", "spread", "spread the starts of policies with one schedule over this time", span(func(p *rotation.Policy) *rotation.Duration { return &p.Spread })},
	{"mode", "mode", "staged, or instant: the bare swap (default staged)", word(func(p *rotation.Policy) *rotation.Mode { return &p.Mode })},
	{"lead", "lead", "how long a new key is published before it is used (default 24h)", span(func(p *rotation.Policy) *rotation.Duration { return &p.Lead })},
	{"overlap", "overlap", "how long an old key verifies and decrypts on (default 30d; encryption keys forever)", span(func(p *rotation.Policy) *rotation.Duration { return &p.Overlap })},
	{"suspend", "suspend", "how long an old key is disabled and watched before it may be destroyed (default 7d)", span(func(p *rotation.Policy) *rotation.Duration { return &p.Suspend })},
	{"destroy", "destroy", "never, or destroy old keys in the end, with a pending window of 7d to 30d (default never)", setDestroy},
	{"reencrypted", "destroy", "with --destroy: what encryption keys protected is encrypted anew by then", setReencrypted},
	{"deactivate", "deactivate", "what keeps old keys from signing: enforce, deny or never (default enforce)", word(func(p *rotation.Policy) *rotation.Deactivation { return &p.Deactivate })},
	{"adopt", "adopt", "what may be done to the key that is there now: keep or full (default keep)", word(func(p *rotation.Policy) *rotation.Adoption { return &p.Adopt })},
	{"spec", "spec", "key spec of the next keys (default: the present key's)", text(func(p *rotation.Policy) *string { return &p.Spec })},
	{"usage", "usage", "key usage of the next keys: the present key's", text(func(p *rotation.Policy) *string { return &p.Usage })},
	{"copy-grants", "copyGrants", "give the grants of the old key to the new one", truth(func(p *rotation.Policy) *bool { return &p.CopyGrants })},
	{"max-attempts", "maxAttempts", "attempts of a step before a rotation has failed (default 12)", number(func(p *rotation.Policy) *int { return &p.MaxAttempts })},
	{"backoff", "backoff", "pause before the second attempt; it doubles (default 5s)", span(func(p *rotation.Policy) *rotation.Duration { return &p.Backoff })},
	{"max-keys-per-day", "maxKeysPerDay", "rotations begun in 24 hours at most (default 24)", number(func(p *rotation.Policy) *int { return &p.MaxKeysPerDay })},
	{"paused", "paused", "put it paused; 'keyturn resume' lets it go", truth(func(p *rotation.Policy) *bool { return &p.Paused })},
}

type setter = func(*rotation.Policy, string) error

func text(of func(*rotation.Policy) *string) setter {
	return func(p *rotation.Policy, s string) error { *of(p) = s; return nil }
}

func word[T ~string](of func(*rotation.Policy) *T) setter {
	return func(p *rotation.Policy, s string) error { *of(p) = T(s); return nil }
}

// span sets a duration; an empty text takes it away, back to its default.
func span(of func(*rotation.Policy) *rotation.Duration) setter {
	return func(p *rotation.Policy, s string) error {
		if s == "" {
			*of(p) = 0
			return nil
		}
		return of(p).UnmarshalText([]byte(s))
	}
}

func truth(of func(*rotation.Policy) *bool) setter {
	return func(p *rotation.Policy, s string) (err error) {
		if *of(p), err = strconv.ParseBool(s); err != nil {
			return fmt.Errorf("expected true or false, not %q", s)
		}
		return nil
	}
}

func number(of func(*rotation.Policy) *int) setter {
	return func(p *rotation.Policy, s string) (err error) {
		if *of(p), err = strconv.Atoi(s); err != nil {
			return fmt.Errorf("expected a whole number, not %q", s)
		}
		return nil
	}
}

func setFreeze(p *rotation.Policy, s string) error {
	if s == "" {
		p.Freeze = nil
		return nil
	}
	from, to, ok := strings.Cut(s, "..")
	if !ok {
		return fmt.Errorf("expected FROM..TO, as 2026-12-20..2027-01-02, not %q", s)
	}
	var period rotation.Period
	if err := errors.Join(period.From.UnmarshalText([]byte(from)), period.To.UnmarshalText([]byte(to))); err != nil {
		return err
	}
	p.Freeze = append(p.Freeze, period)
	return nil
}

func setDestroy(p *rotation.Policy, s string) error {
	if s == "never" || s == "" {
		p.Destroy = nil
		return nil
	}
	rule := &rotation.DestroyRule{}
	if p.Destroy != nil {
		*rule = *p.Destroy
	}
	p.Destroy = rule
	return rule.PendingWindow.UnmarshalText([]byte(s))
}

// errNeedsDestroy is no mistake when the policy that is there destroys already.
var errNeedsDestroy = errors.New("it means nothing without --destroy")

func setReencrypted(p *rotation.Policy, s string) error {
	if p.Destroy == nil {
		return errNeedsDestroy
	}
	rule := *p.Destroy
	p.Destroy = &rule
	return truth(func(*rotation.Policy) *bool { return &rule.Reencrypted })(p, s)
}

// given collects what the flags of members say, to be set in the order of
// memberFlags, whatever the order on the command line.
type given struct{ texts map[string][]string }

// memberFlag is one of them; cobra calls Set.
type memberFlag struct {
	to   *given
	name string
	kind string
}

func (f memberFlag) String() string { return "" }
func (f memberFlag) Type() string   { return f.kind }
func (f memberFlag) Set(s string) error {
	f.to.texts[f.name] = append(f.to.texts[f.name], s)
	return nil
}

func (g *given) flags(set *pflag.FlagSet) {
	g.texts = map[string][]string{}
	for _, m := range memberFlags {
		kind := "string"
		switch m.name {
		case "copy-grants", "paused", "reencrypted":
			kind = "bool"
		case "window", "spread", "lead", "overlap", "suspend", "backoff", "destroy":
			kind = "duration"
		case "max-attempts", "max-keys-per-day":
			kind = "int"
		case "freeze":
			kind = "dates"
		}
		f := set.VarPF(memberFlag{g, m.name, kind}, m.name, "", m.usage)
		if kind == "bool" {
			f.NoOptDefVal = "true"
		}
	}
}

// set changes in p what the flags name and nothing else.
func (g *given) set(p *rotation.Policy) error {
	var errs []error
	if len(g.texts["freeze"]) > 0 {
		p.Freeze = nil
	}
	for _, m := range memberFlags {
		for _, text := range g.texts[m.name] {
			if err := m.set(p, text); err != nil {
				errs = append(errs, fmt.Errorf("--%s: %w", m.name, err))
			}
		}
	}
	return errors.Join(errs...)
}

func (a *app) policyPutCommand() *cobra.Command {
	var flags given
	var file string
	var dry bool
	cmd := &cobra.Command{
		Use:   "put [ALIAS | POLICY]",
		Short: "Let a key turn: make a policy, or change one",
		Long: `Makes the policy of an alias, or changes it. Flags change what they name and leave the rest as it is; what is not said has
a safe default. With --file the document in the file, YAML or JSON, replaces the policy whole.

What has changed is shown. --dry-run shows it and changes nothing.`,
		Example: `keyturn policy put alias/payments --schedule 'rate(90 days)' --lead 24h --overlap 30d
keyturn policy put alias/payments --freeze 12-20..01-02 --timezone Europe/Berlin
keyturn policy put --file payments.yaml`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var in rotation.PutPolicyInput
			var c *client
			switch {
			case file != "" && (len(args) > 0 || len(flags.texts) > 0):
				return usageError(errors.New("--file together with an alias or flags of members"), "the file says it all: put it there")
			case file != "":
				e, err := readPolicy(file)
				if err != nil {
					return err
				}
				in.Policy = e.policy
				if c, err = a.connect(cmd.Context()); err != nil {
					return err
				}
			case len(args) == 0:
				return usageError(errors.New("no alias named"), "'keyturn policy put alias/NAME --schedule 'rate(90 days)'', or --file FILE")
			default:
				var err error
				if c, in.Policy, err = a.changedPolicy(cmd, args[0], &flags); err != nil {
					return err
				}
			}
			in.DryRun = dry
			var out rotation.PutPolicyOutput
			if err := c.call(cmd.Context(), "PutPolicy", &in, &out); err != nil {
				return err
			}
			return a.print(out, func() error { return a.tellPut(in.Policy.Name, &out, dry) })
		},
	}
	flags.flags(cmd.Flags())
	cmd.Flags().StringVarP(&file, "file", "f", "", "file that holds the whole policy, YAML or JSON")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "show what would change, and change nothing")
	return cmd
}

// changedPolicy is the policy that arg names, or a new one, with what the flags say.
func (a *app) changedPolicy(cmd *cobra.Command, arg string, flags *given) (*client, rotation.Policy, error) {
	p := rotation.Policy{Alias: arg, Name: strings.TrimPrefix(arg, "alias/")}
	// Bad flags are found before anything is asked of a server.
	trial := p
	if err := flags.set(&trial); err != nil && !errors.Is(err, errNeedsDestroy) {
		return nil, p, usageError(err, "'%s --help' lists the flags", cmd.CommandPath())
	}
	c, err := a.connect(cmd.Context())
	if err != nil {
		return nil, p, err
	}
	name := trial.Name
	if strings.HasPrefix(arg, "alias/") && len(flags.texts["name"]) == 0 {
		found, err := c.policyName(cmd.Context(), arg)
		switch {
		case err == nil:
			name = found
		case exitCode(err) != exitNotFound:
			return nil, p, err
		}
	}
	var out rotation.GetPolicyOutput
	err = c.call(cmd.Context(), "GetPolicy", &rotation.NameInput{Name: name}, &out)
	switch {
	case err == nil:
		p = out.Policy
	case exitCode(err) != exitNotFound:
		return nil, p, err
	case !strings.HasPrefix(arg, "alias/"):
		return nil, p, &cliError{
			err: fmt.Errorf("there is no policy %q", arg), code: exitNotFound,
			hint: fmt.Sprintf("to make one, name the alias that is to turn: keyturn policy put alias/%s ...", arg),
		}
	}
	if err := flags.set(&p); err != nil {
		return nil, p, usageError(err, "'%s --help' lists the flags", cmd.CommandPath())
	}
	if strings.HasPrefix(arg, "alias/") && p.Alias != arg {
		return nil, p, usageError(fmt.Errorf("the policy %s turns %s, not %s", p.Name, p.Alias, arg), "choose another name with --name")
	}
	if err := p.Validate(); err != nil {
		return nil, p, usageError(err, "'%s --help' lists the flags; nothing was changed", cmd.CommandPath())
	}
	return c, p, nil
}

func (a *app) tellPut(name string, out *rotation.PutPolicyOutput, dry bool) error {
	verb := map[bool]string{false: "changed", true: "created"}[out.Created]
	switch {
	case !out.Created && len(out.Changes) == 0:
		verb = "is like that already"
	case dry:
		verb = "would be " + verb
	}
	fmt.Fprintf(a.out, "%s %s\n", name, verb)
	a.tellChanges(out.Changes)
	if !out.Next.IsZero() {
		fmt.Fprintf(a.out, "next rotation %s\n", when(out.Next))
	}
	return a.tellWarnings(out.Warnings)
}

// tellChanges writes what differs, a line a member.
func (a *app) tellChanges(changes []rotation.Difference) {
	for _, d := range changes {
		switch {
		case d.From == "":
			fmt.Fprintf(a.out, "  %s %s: %s\n", a.colour("+", green), d.Member, printable(d.To))
		case d.To == "":
			fmt.Fprintf(a.out, "  %s %s: %s\n", a.colour("-", red), d.Member, printable(d.From))
		default:
			fmt.Fprintf(a.out, "  %s %s: %s -> %s\n", a.colour("~", yellow), d.Member, printable(d.From), printable(d.To))
		}
	}
}

func (a *app) policyGetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "get POLICY", Short: "Print a policy as a manifest would hold it",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			on, err := a.onPolicy(cmd, args[0])
			if err != nil {
				return err
			}
			var out rotation.GetPolicyOutput
			if err := on.call(cmd.Context(), "GetPolicy", &rotation.NameInput{Name: on.policy}, &out); err != nil {
				return err
			}
			return a.print(out, func() error {
				e := yaml.NewEncoder(a.out)
				e.SetIndent(2)
				return errors.Join(e.Encode(&out.Policy), e.Close())
			})
		},
	}
}

func (a *app) policyListCommand() *cobra.Command {
	var keys bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the policies of the account and Region",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			all, err := c.listPolicies(cmd.Context(), rotation.ListPoliciesInput{Keys: keys})
			if err != nil {
				return err
			}
			return a.print(all, func() error {
				var rows [][]string
				for _, p := range all {
					next := ""
					switch {
					case p.Paused:
						next = a.colour("paused", yellow)
					case p.Next != nil && p.Next.Status == rotation.StatusScheduled && p.Next.WindowStart.IsZero():
						next = "when asked"
					case p.Next != nil && p.Next.Status == rotation.StatusScheduled:
						next = when(p.Next.WindowStart)
					case p.Next != nil:
						next = a.statusColour(p.Next) + ": " + string(p.Next.Step)
					}
					rows = append(rows, []string{p.Name, p.Alias, p.Target, firstOf(p.Schedule, "by hand"), string(p.Mode), next})
				}
				return a.rows([]string{"POLICY", "ALIAS", "TARGET", "SCHEDULE", "MODE", "NEXT"}, rows,
					"No policies yet. 'keyturn policy put alias/NAME --schedule 'rate(90 days)'' makes one.")
			})
		},
	}
	cmd.Flags().BoolVar(&keys, "keys", false, "those of symmetric keys that turn by 'keyturn keys rotation' instead")
	return cmd
}

func (a *app) policyDeleteCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "delete POLICY", Short: "End a policy; keys, lineage and history stay",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			on, err := a.onPolicy(cmd, args[0])
			if err != nil {
				return err
			}
			if err := on.call(cmd.Context(), "DeletePolicy", &rotation.DeletePolicyInput{Name: on.policy, Force: force}, nil); err != nil {
				return err
			}
			return a.print(map[string]any{"policy": on.policy, "deleted": true}, func() error {
				_, err := fmt.Fprintf(a.out, "%s deleted; its keys stay as they are\n", on.policy)
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "also when an old key is still being retired: it then stays as it is")
	return cmd
}
