package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/server"
	"github.com/spf13/cobra"
)

func (a *app) accessCommand() *cobra.Command {
	return group("access", "Who may call, and do what: users, roles, groups, access keys, policies",
		a.whoamiCommand(), a.assumeCommand(), a.explainCommand(),
		group("user", "Users", a.userListCommand(), a.userShowCommand(), a.userCreateCommand(),
			a.nameCommand("delete NAME", "Delete a user without access keys, policies and groups", "DeleteUser", "UserName")),
		group("key", "Access keys: two a user, so that they can turn", a.keyListCommand(), a.keyCreateCommand(),
			a.keyChangeCommand("activate", "Let an access key be used", access.Active),
			a.keyChangeCommand("deactivate", "Refuse an access key, for now", access.Inactive),
			a.keyChangeCommand("delete", "Delete an access key", "")),
		group("role", "Roles: what others may become for a while", a.roleListCommand(), a.roleShowCommand(), a.roleCreateCommand(),
			a.roleTrustCommand(), a.roleUpdateCommand(),
			a.nameCommand("delete NAME", "Delete a role without policies; its sessions end", "DeleteRole", "RoleName")),
		group("group", "Groups: policies that several users share", a.groupListCommand(), a.groupShowCommand(), a.groupCreateCommand(),
			a.groupMemberCommand("add GROUP USER", "Make a user a member", "AddUserToGroup", "%s is in %s"),
			a.groupMemberCommand("remove GROUP USER", "End a membership", "RemoveUserFromGroup", "%s is no longer in %s"),
			a.nameCommand("delete NAME", "Delete a group without members and policies", "DeleteGroup", "GroupName")),
		group("policy", "Identity policies of users, roles and groups", a.ownPolicyPutCommand(), a.ownPolicyGetCommand(), a.ownPolicyListCommand(), a.ownPolicyDeleteCommand()),
		group("boundary", "Permissions boundaries of users and roles: what their policies can allow at most",
			a.boundaryPutCommand(), a.boundaryGetCommand(), a.boundaryDeleteCommand()),
		group("tag", "Tags of users and roles, which conditions may ask for", a.tagPutCommand(), a.tagListCommand(), a.tagDeleteCommand()),
		group("admin", "The account's administrator", a.adminRenewCommand()))
}

// native runs one operation and prints its answer: as JSON, or by text. also is told of it before.
func native[Out any](a *app, cmd *cobra.Command, operation string, in any, text func(*Out) error, also ...func(*Out)) error {
	c, err := a.connect(cmd.Context())
	if err != nil {
		return err
	}
	out := new(Out)
	if err := c.call(cmd.Context(), operation, in, out); err != nil {
		return err
	}
	for _, f := range also {
		f(out)
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

// nameCommand does an operation to what its argument names.
func (a *app) nameCommand(use, short, operation, member string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return native(a, cmd, operation, map[string]string{member: args[0]}, said[map[string]any](a, "%s: %s", operation, args[0]))
		},
	}
}

func (a *app) userCreateCommand() *cobra.Command {
	in := &access.CreateUserInput{}
	var tags []string
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a user; it may do nothing yet", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			in.UserName = args[0]
			if in.Tags, err = readTags(tags); err != nil {
				return err
			}
			return native(a, cmd, "CreateUser", in, func(out *access.CreateUserOutput) error { return a.made(out.User.Arn) })
		},
	}
	pathFlag(cmd, &in.Path)
	tagsFlag(cmd, &tags)
	return cmd
}

func pathFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "path", "", "path in the ARN, like /team/ (default /)")
}

func tagsFlag(cmd *cobra.Command, tags *[]string) {
	cmd.Flags().StringArrayVar(tags, "tag", nil, "KEY=VALUE; may be given again")
}

// made says what there is now.
func (a *app) made(arn string) error {
	_, err := fmt.Fprintf(a.out, "made %s\n", arn)
	return err
}

func (a *app) userShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show a user with groups, policies and tags", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			u, err := c.readUser(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.print(u, func() error {
				return a.facts(
					"user", u.UserName, "ARN", u.Arn, "id", u.UserId, "created", when(time.Unix(int64(u.CreateDate), 0)),
					"groups", strings.Join(u.Groups, ", "), "policies", strings.Join(names(u.Policies), ", "),
					"boundary", u.PermissionsBoundary, "tags", tagText(u.Tags),
				)
			})
		},
	}
}

// facts prints pairs of a name and a value, those without a value left out.
func (a *app) facts(pairs ...string) error {
	width := 0
	for pair := range slices.Chunk(pairs, 2) {
		if pair[1] != "" {
			width = max(width, len(pair[0]))
		}
	}
	for pair := range slices.Chunk(pairs, 2) {
		if pair[1] == "" {
			continue
		}
		if _, err := fmt.Fprintf(a.out, "%-*s  %s\n", width, pair[0], printable(pair[1])); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) userListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the users of the account", Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return listed(a, cmd, "ListUsers", func(all, page *access.ListUsersOutput) string {
				all.Users = append(all.Users, page.Users...)
				return page.Marker
			}, func(out *access.ListUsersOutput) error {
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
