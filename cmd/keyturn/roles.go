package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyturn/keyturn/access"
	"github.com/spf13/cobra"
)

const aboutTrust = `The trust policy says who may assume the role: a resource policy without Resource, as AWS IAM takes it.

  {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
    "Principal": {"AWS": "arn:aws:iam::111122223333:user/alice"}}]}`

func (a *app) roleListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the roles of the account", Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return listed(a, cmd, "ListRoles", func(all, page *access.ListRolesOutput) string {
				all.Roles = append(all.Roles, page.Roles...)
				return page.Marker
			}, func(out *access.ListRolesOutput) error {
				var rows [][]string
				for _, r := range out.Roles {
					rows = append(rows, []string{r.RoleName, r.Arn, short(time.Duration(r.MaxSessionDuration) * time.Second), printable(r.Description)})
				}
				return a.rows([]string{"ROLE", "ARN", "SESSION", "DESCRIPTION"}, rows, "No roles yet. 'keyturn access role create NAME --trust FILE' makes one.")
			})
		},
	}
}

func (a *app) roleShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show a role with its trust policy, policies and tags", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			r, err := c.readRole(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.print(r, func() error {
				return a.facts(
					"role", r.RoleName, "ARN", r.Arn, "id", r.RoleId, "created", when(time.Unix(int64(r.CreateDate), 0)), "description", r.Description,
					"session", short(time.Duration(r.MaxSessionDuration)*time.Second)+" at most", "trust", r.AssumeRolePolicyDocument,
					"policies", strings.Join(names(r.Policies), ", "), "boundary", r.PermissionsBoundary, "tags", tagText(r.Tags),
				)
			})
		},
	}
}

func (a *app) roleCreateCommand() *cobra.Command {
	in := &access.CreateRoleInput{}
	var trust string
	var session time.Duration
	var tags []string
	cmd := &cobra.Command{
		Use: "create NAME --trust trust.json", Short: "Make a role; its sessions may do nothing yet",
		Long:    "Makes a role; its sessions may do nothing until it has a policy.\n\n" + aboutTrust,
		Example: "keyturn access role create ci --trust trust.json --max-session 2h",
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if in.AssumeRolePolicyDocument, err = readDocument(trust); err != nil {
				return usageError(err, "--trust names a JSON trust policy")
			}
			if in.MaxSessionDuration, err = wholeSeconds("max-session", session); err != nil {
				return err
			}
			if in.Tags, err = readTags(tags); err != nil {
				return err
			}
			in.RoleName = args[0]
			return native(a, cmd, "CreateRole", in, func(out *access.CreateRoleOutput) error { return a.made(out.Role.Arn) })
		},
	}
	cmd.Flags().StringVar(&trust, "trust", "", "JSON trust policy")
	requireFlag(cmd, "trust")
	pathFlag(cmd, &in.Path)
	tagsFlag(cmd, &tags)
	roleFlags(cmd, &in.Description, &session)
	return cmd
}

func roleFlags(cmd *cobra.Command, description *string, session *time.Duration) {
	cmd.Flags().StringVar(description, "description", "", "what it is for")
	cmd.Flags().DurationVar(session, "max-session", 0, "how long a session may last, 1h to 12h (default 1h)")
}

func wholeSeconds(flag string, d time.Duration) (int, error) {
	if d < 0 || d%time.Second != 0 {
		return 0, usageError(fmt.Errorf("--%s %s: not a whole number of seconds", flag, d), "write it as 2h or 90m")
	}
	return int(d / time.Second), nil
}

func (a *app) roleTrustCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "trust NAME --file trust.json", Short: "Say who may assume a role from now on",
		Long: "Replaces the trust policy. Sessions that are under way stay.\n\n" + aboutTrust,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readDocument(file)
			if err != nil {
				return err
			}
			return native(a, cmd, "UpdateAssumeRolePolicy", &access.UpdateAssumeRolePolicyInput{RoleName: args[0], PolicyDocument: text},
				said[map[string]any](a, "role/%s trusts whom %s names", args[0], file))
		},
	}
	fileFlag(cmd, &file, "JSON trust policy")
	return cmd
}

func (a *app) roleUpdateCommand() *cobra.Command {
	var description string
	var session time.Duration
	cmd := &cobra.Command{
		Use: "update NAME", Short: "Change the description or the longest session of a role", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			in := &access.UpdateRoleInput{RoleName: args[0]}
			if cmd.Flags().Changed("description") {
				in.Description = &description
			}
			if in.MaxSessionDuration, err = wholeSeconds("max-session", session); err != nil {
				return err
			}
			if in.Description == nil && in.MaxSessionDuration == 0 {
				return usageError(errors.New("nothing to change"), "give --description or --max-session")
			}
			return native(a, cmd, "UpdateRole", in, said[map[string]any](a, "changed role/%s", args[0]))
		},
	}
	roleFlags(cmd, &description, &session)
	return cmd
}

func (a *app) groupListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the groups of the account", Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return listed(a, cmd, "ListGroups", func(all, page *access.ListGroupsOutput) string {
				all.Groups = append(all.Groups, page.Groups...)
				return page.Marker
			}, func(out *access.ListGroupsOutput) error {
				var rows [][]string
				for _, g := range out.Groups {
					rows = append(rows, []string{g.GroupName, g.Arn, when(time.Unix(int64(g.CreateDate), 0))})
				}
				return a.rows([]string{"GROUP", "ARN", "CREATED"}, rows, "No groups yet. 'keyturn access group create NAME' makes one.")
			})
		},
	}
}

func (a *app) groupShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show a group with its members and policies", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			g, err := c.readGroup(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.print(g, func() error {
				return a.facts(
					"group", g.GroupName, "ARN", g.Arn, "id", g.GroupId, "created", when(time.Unix(int64(g.CreateDate), 0)),
					"members", strings.Join(g.Users, ", "), "policies", strings.Join(names(g.Policies), ", "),
				)
			})
		},
	}
}

func (a *app) groupCreateCommand() *cobra.Command {
	in := &access.CreateGroupInput{}
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a group", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			in.GroupName = args[0]
			return native(a, cmd, "CreateGroup", in, func(out *access.CreateGroupOutput) error { return a.made(out.Group.Arn) })
		},
	}
	pathFlag(cmd, &in.Path)
	return cmd
}

func (a *app) groupMemberCommand(use, short, operation, text string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: usageArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return native(a, cmd, operation, &access.GroupMemberInput{GroupName: args[0], UserName: args[1]},
				said[map[string]any](a, text, args[1], args[0]))
		},
	}
}
