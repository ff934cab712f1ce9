package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/spf13/cobra"
)

// kinView is what a key of a Multi-Region key tells of its kin.
type kinView struct {
	Type     string   `json:"type"`    // PRIMARY or REPLICA
	Primary  string   `json:"primary"` // Region
	Replicas []string `json:"replicas"`
}

func viewKin(c *types.MultiRegionConfiguration) *kinView {
	if c == nil {
		return nil
	}
	v := &kinView{Type: string(c.MultiRegionKeyType), Replicas: []string{}}
	if c.PrimaryKey != nil {
		v.Primary = aws.ToString(c.PrimaryKey.Region)
	}
	for _, r := range c.ReplicaKeys {
		v.Replicas = append(v.Replicas, aws.ToString(r.Region))
	}
	return v
}

// String is "primary key, with replicas in us-east-1, us-west-2".
func (v *kinView) String() string {
	switch {
	case v == nil:
		return "no"
	case v.Type == string(types.MultiRegionKeyTypeReplica):
		return "replica of the primary key in " + v.Primary
	case len(v.Replicas) == 0:
		return "primary key, with no replica yet"
	}
	return "primary key, with replicas in " + strings.Join(v.Replicas, ", ")
}

// keyIDOf is the id of a key that is named in any form: operations that change a key take no alias.
func keyIDOf(ctx context.Context, sdk *kms.Client, name string) (string, error) {
	out, err := sdk.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &name})
	if err != nil {
		return "", err
	}
	return aws.ToString(out.KeyMetadata.KeyId), nil
}

func (a *app) keysReplicateCommand() *cobra.Command {
	var to, alias, description string
	cmd := &cobra.Command{
		Use:   "replicate KEY --to REGION",
		Short: "Make a replica of a Multi-Region key in another Region",
		Long: `The replica has the same id and material: what one of them encrypted or signed, the others decrypt and verify.
Policy, tags, aliases and description are its own; it begins with the default policy.`,
		Example: "keyturn keys replicate alias/payments --to us-west-2 --alias alias/payments",
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if alias != "" && !strings.HasPrefix(alias, "alias/") {
				return usageError(fmt.Errorf("alias %q", alias), "an alias begins with alias/, for example alias/%s", alias)
			}
			ctx := cmd.Context()
			c, err := a.connect(ctx)
			if err != nil {
				return err
			}
			id, err := keyIDOf(ctx, c.kms(), args[0])
			if err != nil {
				return wrapSDK(c.endpoint, err)
			}
			in := &kms.ReplicateKeyInput{KeyId: &id, ReplicaRegion: &to}
			if description != "" {
				in.Description = &description
			}
			out, err := c.kms().ReplicateKey(ctx, in)
			if err != nil {
				return wrapSDK(c.endpoint, err)
			}
			var aliases []string
			if alias != "" {
				there := c.aws.Copy()
				there.Region = to
				if _, err := kms.NewFromConfig(there).CreateAlias(ctx, &kms.CreateAliasInput{AliasName: &alias, TargetKeyId: &id}); err != nil {
					return failure(fmt.Errorf("the replica in %s was made, its alias was not: %w", to, wrapSDK(c.endpoint, err)),
						"'keyturn alias create %s --key %s --region %s' gives it the alias", alias, id, to)
				}
				aliases = []string{alias}
			}
			view := viewKey(out.ReplicaKeyMetadata, aliases)
			return a.print(view, func() error {
				_, err := fmt.Fprintln(a.out, view.ARN)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "Region of the replica")
	cmd.Flags().StringVar(&alias, "alias", "", "name the replica in its Region: alias/NAME")
	cmd.Flags().StringVar(&description, "description", "", "what the replica is for")
	requireFlag(cmd, "to")
	return cmd
}

func (a *app) keysPrimaryCommand() *cobra.Command {
	var to string
	cmd := a.keyChange("primary", "Make a replica the primary key of its Multi-Region key", func(ctx context.Context, sdk *kms.Client, key string) (string, error) {
		id, err := keyIDOf(ctx, sdk, key)
		if err == nil {
			_, err = sdk.UpdatePrimaryRegion(ctx, &kms.UpdatePrimaryRegionInput{KeyId: &id, PrimaryRegion: &to})
		}
		return "the primary key is in " + to + " now", err
	})
	cmd.Use = "primary KEY --to REGION"
	cmd.Long = "Names the present primary key, in its Region, by id, ARN or alias. It becomes a replica; nothing else changes."
	cmd.Flags().StringVar(&to, "to", "", "Region whose replica becomes the primary key")
	requireFlag(cmd, "to")
	return cmd
}
