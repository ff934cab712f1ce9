package main

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/spf13/cobra"
)

func (a *app) keysCommand() *cobra.Command {
	return group("keys", "Make, list, look at and change keys",
		a.keysListCommand(), a.keysCreateCommand(), a.keysShowCommand(), a.keysPublicCommand(),
		a.keysEnableCommand(), a.keysDisableCommand(), a.keysDeleteCommand(), a.keysCancelDeletionCommand(),
		a.keysReplicateCommand(), a.keysPrimaryCommand(), a.keyPolicyCommand(), a.keyRotationCommand(), a.keyRotationsCommand())
}

// keyView is one key as the commands print it.
type keyView struct {
	ID          string   `json:"key_id"`
	ARN         string   `json:"arn"`
	Spec        string   `json:"spec"`
	Usage       string   `json:"usage"`
	State       string   `json:"state"`
	Description string   `json:"description,omitzero"`
	Created     string   `json:"created"`
	Aliases     []string `json:"aliases"`
	MultiRegion *kinView `json:"multi_region,omitzero"`
}

func viewKey(m *types.KeyMetadata, aliases []string) keyView {
	if aliases == nil {
		aliases = []string{}
	}
	return keyView{
		ID: aws.ToString(m.KeyId), ARN: aws.ToString(m.Arn), Spec: string(m.KeySpec), Usage: string(m.KeyUsage),
		State: string(m.KeyState), Description: aws.ToString(m.Description),
		Created: aws.ToTime(m.CreationDate).UTC().Format(time.RFC3339), Aliases: aliases,
		MultiRegion: viewKin(m.MultiRegionConfiguration),
	}
}

func (a *app) keysListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the keys of the account and Region",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			keys, err := listKeys(cmd.Context(), c)
			if err != nil {
				return wrapSDK(c.endpoint, err)
			}
			return a.print(keys, func() error {
				var rows [][]string
				for _, k := range keys {
					rows = append(rows, []string{k.ID, k.Spec, k.Usage, a.stateColour(k.State), strings.Join(k.Aliases, " ")})
				}
				return a.rows([]string{"KEY", "SPEC", "USAGE", "STATE", "ALIASES"}, rows,
					"No keys yet. 'keyturn keys create --spec ECC_NIST_P256 --alias alias/NAME' makes one.")
			})
		},
	}
}

func (a *app) stateColour(state string) string {
	switch state {
	case "Enabled":
		return a.colour(state, green)
	case "PendingDeletion":
		return a.colour(state, red)
	}
	return a.colour(state, yellow)
}

func listKeys(ctx context.Context, c *client) ([]keyView, error) {
	sdk := c.kms()
	names := map[string][]string{} // key id → aliases
	for pages := kms.NewListAliasesPaginator(sdk, &kms.ListAliasesInput{}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, alias := range page.Aliases {
			id := aws.ToString(alias.TargetKeyId)
			names[id] = append(names[id], aws.ToString(alias.AliasName))
		}
	}
	keys := []keyView{}
	for pages := kms.NewListKeysPaginator(sdk, &kms.ListKeysInput{}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, k := range page.Keys {
			out, err := sdk.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: k.KeyId})
			if err != nil {
				return nil, err
			}
			keys = append(keys, viewKey(out.KeyMetadata, names[aws.ToString(k.KeyId)]))
		}
	}
	return keys, nil
}

func (a *app) keysCreateCommand() *cobra.Command {
	var spec, usage, alias, description string
	var multiRegion bool
	cmd := &cobra.Command{
		Use:     "create",
		Short:   "Make a key, and an alias for it",
		Example: "keyturn keys create --spec RSA_2048 --usage SIGN_VERIFY --alias alias/payments",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if alias != "" && !strings.HasPrefix(alias, "alias/") {
				return usageError(fmt.Errorf("alias %q", alias), "an alias begins with alias/, for example alias/%s", alias)
			}
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			in := &kms.CreateKeyInput{KeySpec: types.KeySpec(spec), KeyUsage: types.KeyUsageType(usage)}
			if usage == "" {
				in.KeyUsage = onlyUsage(spec)
			}
			if description != "" {
				in.Description = aws.String(description)
			}
			if multiRegion {
				in.MultiRegion = &multiRegion
			}
			out, err := c.kms().CreateKey(cmd.Context(), in)
			if err != nil {
				return wrapSDK(c.endpoint, err)
			}
			var aliases []string
			if alias != "" {
				if _, err := c.kms().CreateAlias(cmd.Context(), &kms.CreateAliasInput{AliasName: &alias, TargetKeyId: out.KeyMetadata.KeyId}); err != nil {
					return failure(fmt.Errorf("the key %s was made, its alias was not: %w", aws.ToString(out.KeyMetadata.KeyId), wrapSDK(c.endpoint, err)),
						"'keyturn alias create %s --key %s' gives it the alias", alias, aws.ToString(out.KeyMetadata.KeyId))
				}
				aliases = []string{alias}
			}
			view := viewKey(out.KeyMetadata, aliases)
			return a.print(view, func() error {
				_, err := fmt.Fprintln(a.out, view.ARN)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&spec, "spec", "ECC_NIST_P256", "key spec, as AWS KMS names it")
	cmd.Flags().StringVar(&usage, "usage", "", "key usage, as AWS KMS names it (default: the spec's first)")
	cmd.Flags().StringVar(&alias, "alias", "", "name it: alias/NAME")
	cmd.Flags().StringVar(&description, "description", "", "what it is for")
	cmd.Flags().BoolVar(&multiRegion, "multi-region", false, "a Multi-Region key: 'keyturn keys replicate' makes replicas of it in other Regions")
	return cmd
}

// onlyUsage is what most people mean by a spec when they name no usage.
func onlyUsage(spec string) types.KeyUsageType {
	switch {
	case spec == "SYMMETRIC_DEFAULT":
		return types.KeyUsageTypeEncryptDecrypt
	case strings.HasPrefix(spec, "HMAC_"):
		return types.KeyUsageTypeGenerateVerifyMac
	case strings.HasPrefix(spec, "ML_KEM_"):
		return "ENCAPSULATE_DECAPSULATE"
	}
	return types.KeyUsageTypeSignVerify
}

func (a *app) keysShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show KEY",
		Short: "Show one key: id, ARN or alias",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			out, err := c.kms().DescribeKey(cmd.Context(), &kms.DescribeKeyInput{KeyId: &args[0]})
			if err != nil {
				return wrapSDK(c.endpoint, err)
			}
			names, err := c.kms().ListAliases(cmd.Context(), &kms.ListAliasesInput{KeyId: out.KeyMetadata.KeyId})
			if err != nil {
				return wrapSDK(c.endpoint, err)
			}
			var aliases []string
			for _, alias := range names.Aliases {
				aliases = append(aliases, aws.ToString(alias.AliasName))
			}
			k := viewKey(out.KeyMetadata, aliases)
			return a.print(k, func() error {
				return a.rows([]string{"FIELD", "VALUE"}, [][]string{
					{"key", k.ID},
					{"arn", k.ARN},
					{"spec", k.Spec},
					{"usage", k.Usage},
					{"state", a.stateColour(k.State)},
					{"created", k.Created},
					{"description", printable(k.Description)},
					{"aliases", strings.Join(k.Aliases, " ")},
					{"multi-region", k.MultiRegion.String()},
				}, "")
			})
		},
	}
}

func (a *app) keysPublicCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "public KEY",
		Short: "Print the public half of a key as PEM",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			out, err := c.kms().GetPublicKey(cmd.Context(), &kms.GetPublicKeyInput{KeyId: &args[0]})
			if err != nil {
				return wrapSDK(c.endpoint, err)
			}
			view := struct {
				KeyID     string `json:"key_id"`
				Spec      string `json:"spec"`
				PublicKey string `json:"public_key_spki_base64"`
			}{aws.ToString(out.KeyId), string(out.KeySpec), base64.StdEncoding.EncodeToString(out.PublicKey)}
			return a.print(view, func() error {
				return pem.Encode(a.out, &pem.Block{Type: "PUBLIC KEY", Bytes: out.PublicKey})
			})
		},
	}
}

func (a *app) aliasCommand() *cobra.Command {
	var key string
	create := &cobra.Command{
		Use: "create ALIAS --key KEY", Short: "Name a key", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeAlias(cmd.Context(), args[0], func(ctx context.Context, sdk *kms.Client) error {
				_, err := sdk.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: &args[0], TargetKeyId: &key})
				return err
			})
		},
	}
	create.Flags().StringVar(&key, "key", "", "id or ARN of the key")
	requireFlag(create, "key")
	remove := &cobra.Command{
		Use: "delete ALIAS", Short: "Take a name away; the key stays", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeAlias(cmd.Context(), args[0], func(ctx context.Context, sdk *kms.Client) error {
				_, err := sdk.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: &args[0]})
				return err
			})
		},
	}
	list := &cobra.Command{
		Use: "list", Short: "List the aliases and the keys they name", Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.listAliases(cmd.Context()) },
	}
	return group("alias", "Name keys", list, create, remove)
}

func (a *app) changeAlias(ctx context.Context, alias string, change func(context.Context, *kms.Client) error) error {
	if !strings.HasPrefix(alias, "alias/") {
		return usageError(fmt.Errorf("alias %q", alias), "an alias begins with alias/, for example alias/%s", alias)
	}
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	if err := change(ctx, c.kms()); err != nil {
		return wrapSDK(c.endpoint, err)
	}
	return a.print(map[string]string{"alias": alias}, func() error { return nil })
}

func (a *app) listAliases(ctx context.Context) error {
	c, err := a.connect(ctx)
	if err != nil {
		return err
	}
	type aliasView struct {
		Alias string `json:"alias"`
		ARN   string `json:"arn"`
		Key   string `json:"key_id"`
	}
	aliases := []aliasView{}
	for pages := kms.NewListAliasesPaginator(c.kms(), &kms.ListAliasesInput{}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return wrapSDK(c.endpoint, err)
		}
		for _, alias := range page.Aliases {
			aliases = append(aliases, aliasView{aws.ToString(alias.AliasName), aws.ToString(alias.AliasArn), aws.ToString(alias.TargetKeyId)})
		}
	}
	return a.print(aliases, func() error {
		var rows [][]string
		for _, alias := range aliases {
			rows = append(rows, []string{alias.Alias, alias.Key})
		}
		return a.rows([]string{"ALIAS", "KEY"}, rows, "No aliases yet.")
	})
}
