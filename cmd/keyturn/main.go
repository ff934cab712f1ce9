// Command keyturn turns keys and secrets on time, without an outage, and can
// prove that it did. It is the rotator, the self-hosted server and the client
// of both in one binary; see README.md.
//
// Every command prints tables for people and, with --json, one JSON document
// for programs. What went wrong goes to standard error with a hint, and the
// exit code says of what kind it was (see exit.go).
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"charm.land/fang/v2"
	"charm.land/lipgloss/v2"
	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run())
}

// run is main with an exit code, so that the tests can call it as a command of
// their scripts.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := newRoot(os.Stdout, os.Stderr)
	err := fang.Execute(ctx, root,
		fang.WithVersion(version()),
		fang.WithErrorHandler(printError),
		fang.WithColorSchemeFunc(fang.AnsiColorScheme),
	)
	return exitCode(err)
}

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	a := &app{out: stdout, err: stderr}
	root := &cobra.Command{
		Use:   "keyturn",
		Short: "Turns keys and secrets on time, without an outage, and proves it",
		Long: `Keyturn replaces the key behind an alias at an interval: the new key is made, published, tested,
switched to, and the old one is retired only when nothing needs it. A crash at any point loses nothing,
and one command undoes it.`,
		Example: `# See it happen, in under half a minute
keyturn demo

# A server that needs nothing, for trying things out
keyturn server --dev --env-file keyturn.env

# What is due, running, failed or overdue
keyturn status`,
		SilenceUsage: true,
		Args:         onlyCommands,
		RunE:         func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError(err, "'%s --help' lists the flags", cmd.CommandPath())
	})
	flags := root.PersistentFlags()
	flags.BoolVar(&a.json, "json", false, "print JSON instead of a table")
	flags.StringVar(&a.endpoint, "endpoint", "", "URL of the server (default: AWS_ENDPOINT_URL)")
	flags.StringVar(&a.region, "region", "", "Region (default: AWS_REGION)")
	flags.StringVar(&a.profile, "profile", "", "profile of the AWS configuration files")
	flags.StringVar(&a.clientEnvFile, "server-env", "", "read endpoint and credentials from a file that 'keyturn server --env-file' wrote")
	addCommands(root, a)
	completion(root)
	return root
}

// group is a command that only holds others. Without an argument check cobra
// would print the help of the group for a mistyped child and exit with 0.
func group(use, short string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  onlyCommands,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(children...)
	return cmd
}

// usageArgs makes cobra's complaint about arguments an error with a hint.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError(err, "usage: %s", cmd.UseLine())
		}
		return nil
	}
}

// requireFlag is cobra's check for a flag that must be given, with a hint.
func requireFlag(cmd *cobra.Command, name string) {
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		if !cmd.Flags().Changed(name) {
			return usageError(fmt.Errorf("--%s is missing", name), "usage: %s", cmd.UseLine())
		}
		return nil
	}
}

// isTerminal reports whether w is a terminal that a person looks at.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && lipgloss.Width("x") == 1 && isTTY(f.Fd())
}
