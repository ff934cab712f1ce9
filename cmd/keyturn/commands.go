package main

import "github.com/spf13/cobra"

// addCommands is the list of commands, in the order of the help.
func addCommands(root *cobra.Command, a *app) {
	root.AddCommand(
		a.demoCommand(),
		a.serverCommand(),
		a.keysCommand(),
		a.aliasCommand(),
		a.accessCommand(),
		a.auditCommand(),
		a.versionCommand(),
	)
}
