package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/keyturn/keyturn/access"
	"github.com/spf13/cobra"
)

const aboutOwners = "\n\nOWNER is the NAME of a user, or role/NAME, or group/NAME."

// ownerCommand is a command whose first argument is an owner.
func ownerCommand(use, short string, args cobra.PositionalArgs, run func(cmd *cobra.Command, o owner, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: short + "." + aboutOwners, Args: usageArgs(args),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := readOwner(args[0])
			if err != nil {
				return err
			}
			return run(cmd, o, args[1:])
		},
	}
}

// readDocument reads the policy document that --file names.
func readDocument(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", usageError(err, "--file names a JSON policy document")
	}
	return string(text), nil
}

func fileFlag(cmd *cobra.Command, file *string, usage string) {
	cmd.Flags().StringVar(file, "file", "", usage)
	requireFlag(cmd, "file")
}

// policyAnswer is the answer to GetUserPolicy, GetRolePolicy and GetGroupPolicy.
type policyAnswer struct {
	UserName       string `json:",omitzero"`
	RoleName       string `json:",omitzero"`
	GroupName      string `json:",omitzero"`
	PolicyName     string
	PolicyDocument string
}

func (a *app) ownPolicyPutCommand() *cobra.Command {
	var file string
	cmd := ownerCommand("put OWNER NAME --file policy.json", "Give a user, role or group an identity policy", cobra.ExactArgs(2),
		func(cmd *cobra.Command, o owner, args []string) error {
			text, err := readDocument(file)
			if err != nil {
				return err
			}
			in := o.input(map[string]any{"PolicyName": args[0], "PolicyDocument": text})
			return native(a, cmd, "Put"+o.kind+"Policy", in, said[map[string]any](a, "%s may do what %s says", o.name, args[0]))
		})
	cmd.Example = "keyturn access policy put role/ci deploy --file deploy.json"
	fileFlag(cmd, &file, "JSON policy document")
	return cmd
}

func (a *app) ownPolicyGetCommand() *cobra.Command {
	return ownerCommand("get OWNER NAME", "Print an identity policy", cobra.ExactArgs(2),
		func(cmd *cobra.Command, o owner, args []string) error {
			return native(a, cmd, "Get"+o.kind+"Policy", o.input(map[string]any{"PolicyName": args[0]}), func(out *policyAnswer) error {
				_, err := fmt.Fprintln(a.out, out.PolicyDocument)
				return err
			})
		})
}

func (a *app) ownPolicyListCommand() *cobra.Command {
	return ownerCommand("list OWNER", "List the identity policies of a user, role or group", cobra.ExactArgs(1),
		func(cmd *cobra.Command, o owner, _ []string) error {
			return native(a, cmd, "List"+o.kind+"Policies", o.input(nil), func(out *access.ListPoliciesOutput) error {
				var rows [][]string
				for _, name := range out.PolicyNames {
					rows = append(rows, []string{name})
				}
				return a.rows([]string{"POLICY"}, rows, "No policies: "+o.String()+" allows nothing by itself.")
			})
		})
}

func (a *app) ownPolicyDeleteCommand() *cobra.Command {
	return ownerCommand("delete OWNER NAME", "Take an identity policy away", cobra.ExactArgs(2),
		func(cmd *cobra.Command, o owner, args []string) error {
			return native(a, cmd, "Delete"+o.kind+"Policy", o.input(map[string]any{"PolicyName": args[0]}),
				said[map[string]any](a, "%s has lost %s", o.name, args[0]))
		})
}

// noGroup refuses what groups do not have.
func (o owner) noGroup(what string) error {
	if o.kind == "Group" {
		return usageError(errors.New("groups have no "+what), "users and roles have: give NAME or role/NAME")
	}
	return nil
}

func (a *app) boundaryPutCommand() *cobra.Command {
	var file string
	cmd := ownerCommand("put OWNER --file policy.json", "Bound what the policies of a user or role can allow", cobra.ExactArgs(1),
		func(cmd *cobra.Command, o owner, _ []string) error {
			if err := o.noGroup("permissions boundary"); err != nil {
				return err
			}
			text, err := readDocument(file)
			if err != nil {
				return err
			}
			return native(a, cmd, "Put"+o.kind+"PermissionsBoundary", o.input(map[string]any{"PermissionsBoundary": text}),
				said[map[string]any](a, "%s is bounded", o))
		})
	fileFlag(cmd, &file, "JSON policy document")
	return cmd
}

func (a *app) boundaryGetCommand() *cobra.Command {
	return ownerCommand("get OWNER", "Print the permissions boundary of a user or role", cobra.ExactArgs(1),
		func(cmd *cobra.Command, o owner, _ []string) error {
			if err := o.noGroup("permissions boundary"); err != nil {
				return err
			}
			return native(a, cmd, "Get"+o.kind, o.input(nil), func(out *struct {
				User, Role struct{ PermissionsBoundary string }
			},
			) error {
				text := out.User.PermissionsBoundary + out.Role.PermissionsBoundary
				if text == "" {
					text = "No boundary: " + o.String() + " may do what its policies allow."
				}
				_, err := fmt.Fprintln(a.out, text)
				return err
			})
		})
}

func (a *app) boundaryDeleteCommand() *cobra.Command {
	return ownerCommand("delete OWNER", "Take the permissions boundary of a user or role away", cobra.ExactArgs(1),
		func(cmd *cobra.Command, o owner, _ []string) error {
			if err := o.noGroup("permissions boundary"); err != nil {
				return err
			}
			return native(a, cmd, "Delete"+o.kind+"PermissionsBoundary", o.input(nil), said[map[string]any](a, "%s is no longer bounded", o))
		})
}

func (a *app) tagPutCommand() *cobra.Command {
	return ownerCommand("put OWNER KEY=VALUE…", "Add tags, or change their values", cobra.MinimumNArgs(2),
		func(cmd *cobra.Command, o owner, args []string) error {
			if err := o.noGroup("tags"); err != nil {
				return err
			}
			tags, err := readTags(args)
			if err != nil {
				return err
			}
			return native(a, cmd, "Tag"+o.kind, o.input(map[string]any{"Tags": tags}), said[map[string]any](a, "tagged %s: %s", o, tagText(tags)))
		})
}

func (a *app) tagListCommand() *cobra.Command {
	return ownerCommand("list OWNER", "List the tags of a user or role", cobra.ExactArgs(1),
		func(cmd *cobra.Command, o owner, _ []string) error {
			if err := o.noGroup("tags"); err != nil {
				return err
			}
			return native(a, cmd, "List"+o.kind+"Tags", o.input(nil), func(out *access.ListTagsOutput) error {
				var rows [][]string
				for _, t := range out.Tags {
					rows = append(rows, []string{t.Key, t.Value})
				}
				return a.rows([]string{"KEY", "VALUE"}, rows, "No tags. 'keyturn access tag put "+o.String()+" KEY=VALUE' gives some.")
			})
		})
}

func (a *app) tagDeleteCommand() *cobra.Command {
	return ownerCommand("delete OWNER KEY…", "Take tags away", cobra.MinimumNArgs(2),
		func(cmd *cobra.Command, o owner, args []string) error {
			if err := o.noGroup("tags"); err != nil {
				return err
			}
			return native(a, cmd, "Untag"+o.kind, o.input(map[string]any{"TagKeys": args}), said[map[string]any](a, "untagged %s", o))
		})
}
