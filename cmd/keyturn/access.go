package main

import (
	"fmt"
	"os"
	"time"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/server"
	"github.com/spf13/cobra"
)

func (a *app) accessCommand() *cobra.Command {
	return group("access", "Who may call: users, access keys, identity policies",
		group("user", "Users", a.userListCommand(),
			a.userCommand("create NAME", "Make a user; it may do nothing yet", "CreateUser", func(name string) any { return &access.CreateUserInput{UserName: name} }),
			a.userCommand("delete NAME", "Delete a user without access keys", "DeleteUser", func(name string) any { return &access.DeleteUserInput{UserName: name} })),
		group("key", "Access keys: two a user, so that they can turn", a.keyListCommand(), a.keyCreateCommand(),
			a.keyChangeCommand("activate", "Let an access key be used", access.Active),
			a.keyChangeCommand("deactivate", "Refuse an access key, for now", access.Inactive),
			a.keyChangeCommand("delete", "Delete an access key", "")),
		group("policy", "Identity policies of users", a.userPolicyPutCommand(), a.userPolicyGetCommand(), a.userPolicyListCommand(), a.userPolicyDeleteCommand()),
		group("admin", "The account's administrator", a.adminRenewCommand()))
}

// native runs one operation and prints its answer: as JSON, or by text.
func native[Out any](a *app, cmd *cobra.Command, operation string, in any, text func(*Out) error) error {
	c, err := a.connect(cmd.Context())
	if err != nil {
		return err
	}
	out := new(Out)
	if err := c.call(cmd.Context(), operation, in, out); err != nil {
		return err
	}
	return a.print(out, func() error { return text(out) })
}

// said prints one line about what was done.
func said[Out any](a *app, format string, args ...any) func(*Out) error {
	return func(*Out) error {
		_, err := fmt.Fprintf(a.out, format+"\n", args...)
		return err
	}
}

func (a *app) userCommand(use, short, operation string, in func(name string) any) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return native(a, cmd, operation, in(args[0]), said[map[string]any](a, "%s: %s", operation, args[0]))
		},
	}
}

func (a *app) userListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the users of the account", Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return native(a, cmd, "ListUsers", &access.ListUsersInput{MaxItems: 1000}, func(out *access.ListUsersOutput) error {
				var rows [][]string
				for _, u := range out.Users {
					rows = append(rows, []string{u.UserName, u.Arn, when(time.Unix(int64(u.CreateDate), 0))})
				}
				return a.rows([]string{"USER", "ARN", "CREATED"}, rows, "No users yet. 'keyturn access user create NAME' makes one.")
			})
		},
	}
}

func (a *app) keyListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list USER", Short: "List the access keys of a user", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return native(a, cmd, "ListAccessKeys", &access.ListAccessKeysInput{UserName: args[0]}, func(out *access.ListAccessKeysOutput) error {
				var rows [][]string
				for _, k := range out.AccessKeyMetadata {
					rows = append(rows, []string{k.AccessKeyId, k.Status, when(time.Unix(int64(k.CreateDate), 0))})
				}
				return a.rows([]string{"ACCESS KEY", "STATUS", "CREATED"}, rows, "No access keys. 'keyturn access key create "+args[0]+"' makes one.")
			})
		},
	}
}

func (a *app) keyCreateCommand() *cobra.Command {
	return &cobra.Command{
		Use: "create USER", Short: "Make an access key; its secret is shown once", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return native(a, cmd, "CreateAccessKey", &access.CreateAccessKeyInput{UserName: args[0]}, func(out *access.CreateAccessKeyOutput) error {
				k := out.AccessKey
				_, err := fmt.Fprintf(a.out, "AWS_ACCESS_KEY_ID=%s\nAWS_SECRET_ACCESS_KEY=%s\n", k.AccessKeyId, k.SecretAccessKey.Reveal())
				return err
			})
		},
	}
}

// keyChangeCommand sets the status of an access key, or deletes it when there is none.
func (a *app) keyChangeCommand(verb, short, status string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " USER ACCESS-KEY", Short: short, Args: usageArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			text := said[map[string]any](a, "%s: %s", verb, args[1])
			if status == "" {
				return native(a, cmd, "DeleteAccessKey", &access.DeleteAccessKeyInput{UserName: args[0], AccessKeyId: args[1]}, text)
			}
			return native(a, cmd, "SetAccessKeyStatus", &access.SetAccessKeyStatusInput{UserName: args[0], AccessKeyId: args[1], Status: status}, text)
		},
	}
}

func (a *app) userPolicyPutCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "put USER NAME --file policy.json", Short: "Give a user an identity policy", Args: usageArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := os.ReadFile(file)
			if err != nil {
				return usageError(err, "--file names a JSON policy document")
			}
			return native(a, cmd, "PutUserPolicy", &access.PutUserPolicyInput{UserName: args[0], PolicyName: args[1], PolicyDocument: string(text)},
				said[map[string]any](a, "%s may do what %s says", args[0], args[1]))
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "JSON policy document")
	requireFlag(cmd, "file")
	return cmd
}

func (a *app) userPolicyGetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "get USER NAME", Short: "Print an identity policy", Args: usageArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return native(a, cmd, "GetUserPolicy", &access.GetUserPolicyInput{UserName: args[0], PolicyName: args[1]}, func(out *access.GetUserPolicyOutput) error {
				_, err := fmt.Fprintln(a.out, out.PolicyDocument)
				return err
			})
		},
	}
}

func (a *app) userPolicyListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list USER", Short: "List the identity policies of a user", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return native(a, cmd, "ListUserPolicies", &access.ListUserPoliciesInput{UserName: args[0]}, func(out *access.ListPoliciesOutput) error {
				var rows [][]string
				for _, name := range out.PolicyNames {
					rows = append(rows, []string{name})
				}
				return a.rows([]string{"POLICY"}, rows, "No policies: the user may do nothing but what key policies allow.")
			})
		},
	}
}

func (a *app) userPolicyDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete USER NAME", Short: "Take an identity policy away", Args: usageArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return native(a, cmd, "DeleteUserPolicy", &access.DeleteUserPolicyInput{UserName: args[0], PolicyName: args[1]},
				said[map[string]any](a, "%s has lost %s", args[0], args[1]))
		},
	}
}

func (a *app) adminRenewCommand() *cobra.Command {
	var f serverFlags
	cmd := &cobra.Command{
		Use:   "renew",
		Short: "Give the account's administrator a new access key, when every other way in is lost",
		Long: `Opens the data folder itself, as the server does, so it needs the database and the root key, and on SQLite that the server
is stopped. The administrator gets a new access key in place of any it had, and its policy back; the audit log records it.`,
		Example: "keyturn access admin renew --data /var/lib/keyturn",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.configuration()
			if err != nil {
				return err
			}
			id, secret, err := server.RenewAdmin(cmd.Context(), c)
			if err != nil {
				return openFailure(err)
			}
			view := struct {
				AccessKeyID string `json:"AccessKeyId"`
				Secret      string `json:"SecretAccessKey"`
			}{id, secret.Reveal()}
			return a.print(view, func() error {
				_, err := fmt.Fprintf(a.out, "AWS_ACCESS_KEY_ID=%s\nAWS_SECRET_ACCESS_KEY=%s\n", view.AccessKeyID, view.Secret)
				return err
			})
		},
	}
	f.houseFlags(cmd.Flags())
	return cmd
}
