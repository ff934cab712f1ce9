package main

import "github.com/spf13/cobra"

// addCommands is the list of commands, in the order of the help.
func addCommands(root *cobra.Command, a *app) {
	root.AddCommand(
		a.demoCommand(),
		a.serverCommand(),
		a.statusCommand(),
		a.rotateCommand(),
		a.planCommand(),
		a.historyCommand(),
		a.generationsCommand(),
		a.rollbackCommand(),
		a.pauseCommand(),
		a.resumeCommand(),
		a.cancelCommand(),
		a.compromisedCommand(),
		a.policyCommand(),
		a.applyCommand(),
		a.simulateCommand(),
		a.jwksCommand(),
		a.keysCommand(),
		a.aliasCommand(),
		a.accessCommand(),
		a.auditCommand(),
		a.versionCommand(),
		a.docsCommand(),
	)
}
