package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/keyturn/keyturn/server"
	"github.com/spf13/cobra"
)

func (a *app) auditCommand() *cobra.Command {
	return group("audit", "The log of what was decided and done", a.auditVerifyCommand())
}

func (a *app) auditVerifyCommand() *cobra.Command {
	var data, database string
	var from uint64
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check the chain of an audit log: nothing altered, missing or reordered",
		Long: `Reads the audit log of a data folder and names the first record that was altered, is missing or stands in the wrong place.
With the database at hand it also finds a log whose end was cut off. The server may run meanwhile, except on SQLite, whose
file only one process may open: then the end is checked up to what the files say.`,
		Example: "keyturn audit verify --data /var/lib/keyturn",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := os.Stat(data); errors.Is(err, fs.ErrNotExist) {
				return usageError(err, "--data names the data folder of a server")
			}
			report, err := server.VerifyAudit(cmd.Context(), data, database, from)
			if err != nil {
				return failure(err, "the log is not what the server wrote: keep the files as they are and find out who had access to them")
			}
			return a.print(report, func() error {
				fmt.Fprintf(a.out, "%s: %d records in %d files, numbers %d to %d\nhead %s\n",
					a.colour("intact", green), report.Records, report.Files, report.FirstSeq, report.LastSeq, report.Head)
				if report.AnchorsSkipped != "" {
					fmt.Fprintf(a.out, "not checked against the database: %s\n", report.AnchorsSkipped)
				}
				for _, name := range report.Torn {
					fmt.Fprintf(a.out, "%s: a crash left a half-written record, which was moved aside\n", name)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&data, "data", "keyturn-data", "data folder")
	cmd.Flags().StringVar(&database, "database", "", "postgres://… (default: the SQLite file in the data folder)")
	cmd.Flags().Uint64Var(&from, "from", 0, "number of the first record that should be there, when older files were archived")
	return cmd
}
