package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/server"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

//go:generate go run . docs cli --output ../../docs/cli.md
//go:generate go run . docs compatibility --output ../../docs/compatibility.md

// docsCommand prints the documents that say what the code is.
func (a *app) docsCommand() *cobra.Command {
	var output string
	write := func(text string) error {
		if output == "" {
			_, err := fmt.Fprint(a.out, text)
			return err
		}
		if err := os.WriteFile(output, []byte(text), 0o644); err != nil { //nolint:gosec // a document for everybody
			return failure(err, "is the folder there, and writable?")
		}
		return nil
	}
	cmd := group("docs", "Print the documents that are made from the code",
		&cobra.Command{
			Use: "cli", Short: "Every command, flag and exit code, as Markdown", Args: usageArgs(cobra.NoArgs),
			RunE: func(cmd *cobra.Command, _ []string) error { return write(reference(cmd.Root())) },
		},
		&cobra.Command{
			Use: "compatibility", Short: "Every API operation and whether it exists, as Markdown", Args: usageArgs(cobra.NoArgs),
			RunE: func(*cobra.Command, []string) error { return write(awsapi.Compatibility(server.Services())) },
		})
	cmd.PersistentFlags().StringVarP(&output, "output", "o", "", "file to write (default: standard output)")
	cmd.Hidden = true
	return cmd
}

// reference is docs/cli.md.
func reference(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString(`# The command line

Printed from the commands themselves; do not edit.

Every command prints a table for people (plain columns where no terminal is) and, with ` + "`--json`" + `, one JSON document.
Errors and their hints go to standard error. NO_COLOR turns colour off.

## Exit codes

| code | meaning |
|---|---|
`)
	for _, c := range exitCodes {
		fmt.Fprintf(&b, "| %d | %s |\n", c.code, c.meaning)
	}
	b.WriteString(`
## Which server, as whom

In this order: flags; the file of ` + "`--server-env`" + `, which ` + "`keyturn server --env-file`" + ` writes; the environment
(` + "`AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_PROFILE`" + `) and the AWS configuration files.
POLICY is a policy's name, or the alias that it turns.

Flags of every command:

`)
	writeFlags(&b, root.PersistentFlags())
	b.WriteString("\n## A manifest\n\nWhat `apply`, `plan` and `simulate` read: strict YAML, members as in [rotation.md](rotation.md) and [access.md](access.md).\n\n```yaml\n" + exampleManifest + "```\n")
	b.WriteString("\n## Commands\n")
	writeCommands(&b, root)
	b.WriteString("\nShell completion: `keyturn completion bash`, `zsh`, `fish` or `powershell`. Manual page: `keyturn man`.\n")
	return b.String()
}

// exampleManifest is read by a test, so that it stays true.
const exampleManifest = `policies:
  - alias: alias/payments             # name: payments, unless name: says otherwise
    schedule: cron(0 3 ? * SUN *)
    timezone: Europe/Berlin
    window: 4h
    freeze:
      - {from: 12-20, to: 01-02, reason: year-end}
    lead: 24h
    overlap: 30d
  - name: tokens
    alias: alias/tokens
    schedule: rate(90 days)
    spec: ML_DSA_65                   # another spec makes the next rotation a migration
    destroy: {pendingWindow: 30d}
groups:
  - name: signers
    policies:
      sign:                           # written here, or the name of a JSON file beside this one
        Version: 2012-10-17
        Statement: {Effect: Allow, Action: "kms:Sign", Resource: "*"}
users:
  - name: alice
    groups: [signers]
    tags: {team: payments}
roles:
  - name: ci
    description: builds and signs releases
    maxSession: 2h
    trust:
      Version: 2012-10-17
      Statement:
        Effect: Allow
        Action: sts:AssumeRoleWithWebIdentity
        Principal: {Federated: "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com"}
        Condition:
          StringEquals: {"token.actions.githubusercontent.com:aud": sts.amazonaws.com}
          StringLike: {"token.actions.githubusercontent.com:sub": "repo:acme/shop:ref:refs/heads/main"}
    policies:
      sign: {Version: 2012-10-17, Statement: {Effect: Allow, Action: "kms:Sign", Resource: "*"}}
`

func writeCommands(b *strings.Builder, cmd *cobra.Command) {
	for _, c := range cmd.Commands() {
		if c.Hidden || c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		if c.HasSubCommands() {
			writeCommands(b, c)
			continue
		}
		fmt.Fprintf(b, "\n### %s\n\n`%s`\n\n", c.CommandPath(), c.UseLine())
		about := c.Short + "."
		if c.Long != "" {
			about += "\n\n" + c.Long
		}
		fmt.Fprintf(b, "%s\n", indentedAsCode(about))
		if c.Example != "" {
			fmt.Fprintf(b, "\n```sh\n%s\n```\n", c.Example)
		}
		if c.LocalNonPersistentFlags().HasAvailableFlags() {
			b.WriteString("\n")
			writeFlags(b, c.LocalNonPersistentFlags())
		}
	}
}

// indentedAsCode puts indented lines, and the lines between them, into a code block.
func indentedAsCode(text string) string {
	var out []string
	code := false
	for line := range strings.SplitSeq(text, "\n") {
		if indented := strings.HasPrefix(line, "  "); indented != code && (indented || line != "") {
			out = append(out, "```")
			code = indented
		}
		out = append(out, line)
	}
	if code {
		out = append(out, "```")
	}
	return strings.Join(out, "\n")
}

func writeFlags(b *strings.Builder, flags *pflag.FlagSet) {
	b.WriteString("| flag | meaning |\n|---|---|\n")
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" || f.Name == "version" {
			return
		}
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if kind := f.Value.Type(); kind != "bool" {
			name += " " + strings.ToUpper(kind)
		}
		usage := f.Usage
		switch f.DefValue {
		case "", "false", "0", "0s", "[]":
		default:
			usage += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(b, "| `%s` | %s |\n", name, strings.ReplaceAll(usage, "|", "\\|"))
	})
}

// completion gives cobra's command for completion scripts the argument check
// that every group of ours has.
func completion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() != "completion" {
			continue
		}
		shells := group("completion", "")
		c.Args, c.RunE = shells.Args, shells.RunE
		for _, shell := range c.Commands() {
			shell.Args = usageArgs(shell.Args)
		}
	}
}

// suggest says which command was probably meant.
func suggest(cmd *cobra.Command, typed string) string {
	var names []string
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			names = append(names, c.Name())
		}
	}
	if name := nearest(typed, names); name != "" {
		return fmt.Sprintf("did you mean '%s %s'?", cmd.CommandPath(), name)
	}
	return fmt.Sprintf("'%s --help' lists the commands", cmd.CommandPath())
}

// onlyCommands refuses arguments of a command that only holds others.
func onlyCommands(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usageError(errors.New("unknown command "+quoted(args[0])+" for "+quoted(cmd.CommandPath())), "%s", suggest(cmd, args[0]))
}

func quoted(s string) string { return `"` + printable(s) + `"` }
