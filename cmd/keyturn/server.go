package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/keyturn/keyturn/server"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// serverFlags are the flags of `keyturn server`; each overrides an environment
// variable (KEYTURN_LISTEN …), which overrides the configuration file.
type serverFlags struct {
	config, listen, data, database, account, envFile string
	rootKeyFile, passphraseFile                      string
	tlsCert, tlsKey                                  string
	tlsSelfSigned, dev                               bool
	devCredentials, regions                          []string
	auditSync, logFormat                             string
}

func (a *app) serverCommand() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Serve the AWS KMS API, and turn what is due",
		Long: `Serves the AWS KMS API and Keyturn's own operations, and turns the keys whose time has come.
Everything is kept in the data folder: one SQLite file (or a PostgreSQL database), the root key that unseals it,
and the audit log. Keep a copy of the root key elsewhere: without it the database is of no use to anybody.

SIGTERM and Ctrl-C let running requests finish and exit with 0.`,
		Example: `# Nothing to prepare, nothing kept; not for production
keyturn server --dev

# A real one
keyturn server --data /var/lib/keyturn --listen 127.0.0.1:7400 --env-file /run/keyturn.env`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.serve(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	f.houseFlags(flags)
	flags.StringVar(&f.listen, "listen", "", "address to serve on (default 127.0.0.1:7400; port 0 picks a free one)")
	flags.StringVar(&f.envFile, "env-file", "", "write endpoint and credentials here once it serves, one NAME=value a line")
	flags.StringVar(&f.tlsCert, "tls-cert", "", "PEM certificate to serve TLS with")
	flags.StringVar(&f.tlsKey, "tls-key", "", "PEM private key of --tls-cert")
	flags.BoolVar(&f.tlsSelfSigned, "tls-self-signed", false, "serve TLS with a certificate made here, kept in the data folder")
	flags.BoolVar(&f.dev, "dev", false, "for trying things out: nothing to prepare, nothing kept, credentials printed")
	flags.StringArrayVar(&f.devCredentials, "dev-credential", nil, "with --dev: a fixed credential ID:SECRET[:ACCOUNT] (repeatable)")
	flags.StringSliceVar(&f.regions, "regions", nil, "Regions to serve, with commas between; requests for another one are refused (default: any)")
	flags.StringVar(&f.auditSync, "audit-sync", "", "which audit records are on disk before the answer: interval (changes, the default) or every (uses too); docs/audit.md")
	flags.StringVar(&f.logFormat, "log-format", "text", "text or json")
	return cmd
}

// houseFlags are the flags of every command that opens the data folder as a server does.
func (f *serverFlags) houseFlags(flags *pflag.FlagSet) {
	flags.StringVar(&f.config, "config", "", "configuration file (YAML)")
	flags.StringVar(&f.data, "data", "", "data folder (default ./keyturn-data; of server --dev a temporary one)")
	flags.StringVar(&f.database, "database", "", "postgres://… (default: a SQLite file in the data folder)")
	flags.StringVar(&f.account, "account", "", "account id, 12 digits (default 000000000000)")
	flags.StringVar(&f.rootKeyFile, "root-key-file", "", "file of the root key (default root.key in the data folder; a server's first start makes it)")
	flags.StringVar(&f.passphraseFile, "passphrase-file", "", "file that holds a passphrase to use as the root key")
}

// openFailure is an error of opening what a server opens.
func openFailure(err error) error {
	if server.IsConfigError(err) {
		return usageError(err, "%s", server.Hint(err))
	}
	return failure(err, "%s", server.Hint(err))
}

// configuration joins file, environment and flags.
func (f *serverFlags) configuration() (server.Config, error) {
	var c server.Config
	if name := firstOf(f.config, os.Getenv("KEYTURN_CONFIG")); name != "" {
		var err error
		if c, err = server.ReadConfig(name); err != nil {
			return c, usageError(err, "docs/server.md lists what the file may say")
		}
	}
	for _, s := range []struct {
		to         *string
		flag, name string
	}{
		{&c.Listen, f.listen, "KEYTURN_LISTEN"},
		{&c.Data, f.data, "KEYTURN_DATA"},
		{&c.Database, f.database, "KEYTURN_DATABASE"},
		{&c.Account, f.account, "KEYTURN_ACCOUNT"},
		{&c.RootKey.File, f.rootKeyFile, "KEYTURN_ROOT_KEY_FILE"},
		{&c.RootKey.Passphrase, f.passphraseFile, "KEYTURN_PASSPHRASE_FILE"},
		{&c.TLS.Certificate, f.tlsCert, "KEYTURN_TLS_CERT"},
		{&c.TLS.Key, f.tlsKey, "KEYTURN_TLS_KEY"},
		{&c.Audit.Sync, f.auditSync, "KEYTURN_AUDIT_SYNC"},
	} {
		if v := firstOf(s.flag, os.Getenv(s.name)); v != "" {
			*s.to = v
		}
	}
	if regions := f.regions; len(regions) > 0 {
		c.Regions = regions
	} else if v := os.Getenv("KEYTURN_REGIONS"); v != "" {
		c.Regions = strings.Split(v, ",")
	}
	c.TLS.SelfSigned = c.TLS.SelfSigned || f.tlsSelfSigned
	c.Dev, c.EnvFile = f.dev, f.envFile
	if len(f.devCredentials) > 0 && !f.dev {
		return c, usageError(errors.New("--dev-credential without --dev"), "fixed credentials are for development; 'keyturn access key create' makes real ones")
	}
	for _, text := range f.devCredentials {
		parts := strings.Split(text, ":")
		if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[1] == "" {
			return c, usageError(errors.New("a --dev-credential is not of the form ID:SECRET[:ACCOUNT]"), "for example --dev-credential test:test")
		}
		d := server.DevCredential{AccessKeyID: parts[0], Secret: parts[1]}
		if len(parts) == 3 {
			d.Account = parts[2]
		}
		c.DevCredentials = append(c.DevCredentials, d)
	}
	return c, nil
}

func (a *app) serve(ctx context.Context, f serverFlags) error {
	c, err := f.configuration()
	if err != nil {
		return err
	}
	switch f.logFormat {
	case "text":
		c.Logger = slog.New(slog.NewTextHandler(a.err, nil))
	case "json":
		c.Logger = slog.New(slog.NewJSONHandler(a.err, nil))
	default:
		return usageError(fmt.Errorf("--log-format %q", f.logFormat), "it is text or json")
	}
	if c.Dev && c.Data == "" {
		dir, err := os.MkdirTemp("", "keyturn-dev-")
		if err != nil {
			return failure(err, "is the temporary folder writable?")
		}
		defer os.RemoveAll(dir)
		c.Data = dir
	}
	s, err := server.Open(ctx, c)
	if err != nil {
		return openFailure(err)
	}
	defer s.Close()
	l, err := net.Listen("tcp", s.Config().Listen)
	if err != nil {
		return failure(err, "is another server running there? --listen 127.0.0.1:0 picks a free port")
	}
	return s.Serve(ctx, l, func(r server.Ready) error { return a.announce(f, r) })
}

// announce tells where the server is, once it answers.
func (a *app) announce(f serverFlags, r server.Ready) error {
	if f.envFile != "" {
		if err := writeEnvFile(f.envFile, r); err != nil {
			return failure(err, "is the folder of --env-file there, and writable?")
		}
	}
	if a.json {
		return a.print(r, nil)
	}
	fmt.Fprintf(a.out, "Keyturn serves on %s\n", r.Endpoint)
	switch {
	case f.dev:
		fmt.Fprintf(a.out, `
This is a development server: its credentials are printed and nothing is kept. Not for production.

  export %s
  aws kms list-keys --endpoint-url %s
`, strings.Join(r.Environment(), " "), r.Endpoint)
	case r.Secret != "" && f.envFile == "":
		fmt.Fprintf(a.out, `
First start: this is the only time that the credentials of the account's first administrator are shown. Keep them.

  %s
`, strings.Join(r.Environment(), "\n  "))
	case r.Secret != "":
		fmt.Fprintf(a.out, "First start: the credentials of the account's first administrator are in %s\n", f.envFile)
	}
	return nil
}

// writeEnvFile replaces the file whole, readable by its owner alone: whoever
// waits for it never reads half of it.
func writeEnvFile(name string, r server.Ready) error {
	text := strings.Join(r.Environment(), "\n") + "\n"
	tmp, err := os.CreateTemp(filepath.Dir(name), ".keyturn-env-")
	if err != nil {
		return fmt.Errorf("writing the environment file: %w", err)
	}
	defer os.Remove(tmp.Name())
	if _, err = tmp.WriteString(text); err == nil {
		err = tmp.Sync()
	}
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("writing the environment file: %w", err)
	}
	return nil
}
