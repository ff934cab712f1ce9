package main

import (
	"fmt"

	"github.com/keyturn/keyturn/rotation"
	"github.com/spf13/cobra"
)

// steering is a command that makes or changes one rotation of a policy.
type steering struct {
	use, short, long, example string
	operation                 string
	in                        func(name string) any
	until                     string // what --wait waits for, unless told otherwise
	end                       rotation.Status
	flags                     func(*cobra.Command)
}

func (a *app) steeringCommand(s steering) *cobra.Command {
	var w wait
	cmd := &cobra.Command{
		Use: s.use, Short: s.short, Long: s.long, Example: s.example, Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := w.check(cmd); err != nil {
				return err
			}
			p, err := a.onPolicy(cmd, args[0])
			if err != nil {
				return err
			}
			var out rotation.RotationOutput
			if err := p.call(cmd.Context(), s.operation, s.in(p.policy), &out); err != nil {
				return err
			}
			if w.on {
				return a.await(cmd.Context(), p, out.Rotation, w)
			}
			return a.print(out.Rotation, func() error { return a.tellRotation(&out.Rotation, p.policy) })
		},
	}
	if s.flags != nil {
		s.flags(cmd)
	}
	w.flags(cmd, s.until, s.end)
	return cmd
}

// tellRotation says in a line or two where a rotation stands.
func (a *app) tellRotation(r *rotation.Rotation, name string) error {
	_, err := fmt.Fprintf(a.out, "%s: %s %s is %s\n", name, r.Kind, r.RotationId, a.statusColour(r))
	if err == nil && r.Status.Open() {
		_, err = fmt.Fprintf(a.out, "'keyturn status' shows how it goes, --wait waits for it\n")
	}
	return err
}

func reasonFlag(cmd *cobra.Command, reason *string) {
	cmd.Flags().StringVar(reason, "reason", "", "why, for the history")
}

func (a *app) rotateCommand() *cobra.Command {
	var reason string
	return a.steeringCommand(steering{
		use: "rotate POLICY", short: "Turn a key now, whatever its schedule and window say",
		long: `Lets the policy's next rotation begin at once. Its stages are kept: the new key is published for the policy's lead before
it is used. While a rotation is under way, only its window is lifted: asking twice does not turn twice.
POLICY is the name of a policy, or the alias that it turns.

--wait shows the steps as they are done, until the alias names the new key. Ctrl-C stops the waiting, not the rotation.`,
		example:   "keyturn rotate alias/payments --wait --reason 'a laptop was stolen'",
		operation: "RotateNow", until: untilSwitched, end: rotation.StatusDone,
		in:    func(name string) any { return &rotation.RotateNowInput{Name: name, Reason: reason} },
		flags: func(cmd *cobra.Command) { reasonFlag(cmd, &reason) },
	})
}

func (a *app) rollbackCommand() *cobra.Command {
	var reason string
	var now bool
	return a.steeringCommand(steering{
		use: "rollback POLICY", short: "Let the previous generation take over again",
		long: `The previous generation is tested and takes over again; the present one verifies and decrypts on, and nothing is destroyed.
A rotation that is being prepared is canceled. Inside the overlap of the previous generation this is immediate. Once the overlap
is over, or when less than the policy's lead is left of it, verifiers may not know the generation: then it is published for the
lead first. --now does not wait for them.`,
		example:   "keyturn rollback alias/payments --wait",
		operation: "RollBack", until: untilSwitched, end: rotation.StatusDone,
		in: func(name string) any { return &rotation.RollBackInput{Name: name, Now: now, Reason: reason} },
		flags: func(cmd *cobra.Command) {
			reasonFlag(cmd, &reason)
			cmd.Flags().BoolVar(&now, "now", false, "switch at once, though verifiers may not know the key any more")
		},
	})
}

func (a *app) cancelCommand() *cobra.Command {
	var reason, id string
	return a.steeringCommand(steering{
		use: "cancel POLICY", short: "Stop a rotation before its switch and remove what it made",
		long: `Cancels the rotation that is under way, else the one that failed, else the next one. After the switch, 'keyturn rollback'
undoes it.`,
		example:   "keyturn cancel alias/payments",
		operation: "CancelRotation", until: untilDone, end: rotation.StatusCanceled,
		in: func(name string) any {
			return &rotation.CancelRotationInput{Name: name, Rotation: id, Reason: reason}
		},
		flags: func(cmd *cobra.Command) {
			reasonFlag(cmd, &reason)
			cmd.Flags().StringVar(&id, "rotation", "", "id of the rotation to cancel")
		},
	})
}

func (a *app) compromisedCommand() *cobra.Command {
	var reason string
	var generation int
	return a.steeringCommand(steering{
		use: "compromised POLICY", short: "Take a generation out of use at once: its key is no longer to be trusted",
		long: `The active generation is replaced at once by a tested key, without publishing it first; another one is revoked. The
compromised key leaves the JWKS and is disabled, and the history says what was done with it since when, as far as that is
known. Verifiers that keep the key set reject new signatures until they read it again: that is the price.`,
		example:   "keyturn compromised alias/payments --reason 'found in a log' --wait",
		operation: "MarkCompromised", until: untilDone, end: rotation.StatusDone,
		in: func(name string) any {
			return &rotation.MarkCompromisedInput{Name: name, Generation: generation, Reason: reason}
		},
		flags: func(cmd *cobra.Command) {
			reasonFlag(cmd, &reason)
			cmd.Flags().IntVar(&generation, "generation", 0, "its number, as 'keyturn generations' shows it (default: the active one)")
		},
	})
}

func (a *app) pauseCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "pause POLICY", Short: "Stop the rotations of a policy at their next step",
		Long: "Nothing turns and nothing retires until 'keyturn resume'. What is asked for in an emergency still happens: rollback,\ncompromised, cancel.",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.onPolicy(cmd, args[0])
			if err != nil {
				return err
			}
			if err := p.call(cmd.Context(), "PausePolicy", &rotation.PausePolicyInput{Name: p.policy, Reason: reason}, nil); err != nil {
				return err
			}
			return a.print(map[string]any{"policy": p.policy, "paused": true}, func() error {
				_, err := fmt.Fprintf(a.out, "%s: paused; 'keyturn resume %s' lets it go on\n", p.policy, p.policy)
				return err
			})
		},
	}
	reasonFlag(cmd, &reason)
	return cmd
}

func (a *app) resumeCommand() *cobra.Command {
	var in rotation.ResumePolicyInput
	cmd := &cobra.Command{
		Use: "resume POLICY", Short: "Lift a pause, and let failed rotations go on",
		Long: `Lifts the pause of a policy and lets those of its rotations that failed go on where they failed.

When a rotation failed because another hand moved the alias or changed the key, --accept says that what stands there now is
right: the rotation begins anew from it.`,
		Example: "keyturn resume alias/payments --accept --reason 'moved by hand during the incident'",
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := a.onPolicy(cmd, args[0])
			if err != nil {
				return err
			}
			in.Name = p.policy
			var out rotation.ResumePolicyOutput
			if err := p.call(cmd.Context(), "ResumePolicy", &in, &out); err != nil {
				return err
			}
			return a.print(out, func() error {
				if _, err := fmt.Fprintf(a.out, "%s: goes on\n", p.policy); err != nil {
					return err
				}
				for i := range out.Rotations {
					r := &out.Rotations[i]
					if _, err := fmt.Fprintf(a.out, "  %s %s is %s\n", r.Kind, r.RotationId, a.statusColour(r)); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&in.Accept, "accept", false, "what another hand put there is right")
	cmd.Flags().StringVar(&in.Rotation, "rotation", "", "id of the failed rotation that is to go on (default: all of them, and the pause is lifted)")
	reasonFlag(cmd, &in.Reason)
	return cmd
}
