package main

import (
	"context"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/spf13/cobra"
)

// keyChange is a command that changes the state of one key.
func (a *app) keyChange(use, short string, change func(ctx context.Context, sdk *kms.Client, key string) (string, error)) *cobra.Command {
	return &cobra.Command{
		Use: use + " KEY", Short: short, Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			done, err := change(cmd.Context(), c.kms(), args[0])
			if err != nil {
				return wrapSDK(c.endpoint, err)
			}
			return a.print(map[string]string{"key": args[0], "state": done}, func() error {
				_, err := fmt.Fprintf(a.out, "%s: %s\n", args[0], done)
				return err
			})
		},
	}
}

func (a *app) keysEnableCommand() *cobra.Command {
	return a.keyChange("enable", "Let a key be used: id or ARN", func(ctx context.Context, sdk *kms.Client, key string) (string, error) {
		_, err := sdk.EnableKey(ctx, &kms.EnableKeyInput{KeyId: &key})
		return "enabled", err
	})
}

func (a *app) keysDisableCommand() *cobra.Command {
	return a.keyChange("disable", "Refuse every use of a key, for now: id or ARN", func(ctx context.Context, sdk *kms.Client, key string) (string, error) {
		_, err := sdk.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &key})
		return "disabled", err
	})
}

func (a *app) keysDeleteCommand() *cobra.Command {
	var days int32
	cmd := a.keyChange("delete", "Schedule the deletion of a key: id or ARN", func(ctx context.Context, sdk *kms.Client, key string) (string, error) {
		out, err := sdk.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &key, PendingWindowInDays: &days})
		if err != nil {
			return "", err
		}
		if out.DeletionDate == nil {
			return fmt.Sprintf("disabled, and deleted for good %d days after the last of its replicas", days), nil
		}
		return "disabled, and deleted for good at " + when(aws.ToTime(out.DeletionDate)), nil
	})
	cmd.Long = "What the key encrypted and nothing else holds is lost with it. Until the date, 'keyturn keys cancel-deletion' takes it back."
	cmd.Flags().Int32Var(&days, "days", 30, "days until then, 7 to 30")
	return cmd
}

func (a *app) keysCancelDeletionCommand() *cobra.Command {
	return a.keyChange("cancel-deletion", "Take a scheduled deletion back; the key stays disabled", func(ctx context.Context, sdk *kms.Client, key string) (string, error) {
		_, err := sdk.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: &key})
		return "disabled; 'keyturn keys enable' lets it be used", err
	})
}

func (a *app) keyPolicyCommand() *cobra.Command {
	get := &cobra.Command{
		Use: "get KEY", Short: "Print the policy of a key", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			out, err := c.kms().GetKeyPolicy(cmd.Context(), &kms.GetKeyPolicyInput{KeyId: &args[0]})
			if err != nil {
				return wrapSDK(c.endpoint, err)
			}
			return a.print(map[string]string{"key": args[0], "policy": aws.ToString(out.Policy)}, func() error {
				_, err := fmt.Fprintln(a.out, aws.ToString(out.Policy))
				return err
			})
		},
	}
	var file string
	var lockout bool
	put := &cobra.Command{
		Use: "put KEY --file policy.json", Short: "Replace the policy of a key", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			document, err := os.ReadFile(file)
			if err != nil {
				return usageError(err, "--file names a JSON policy document")
			}
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			in := &kms.PutKeyPolicyInput{KeyId: &args[0], Policy: aws.String(string(document)), BypassPolicyLockoutSafetyCheck: lockout}
			if _, err := c.kms().PutKeyPolicy(cmd.Context(), in); err != nil {
				return wrapSDK(c.endpoint, err)
			}
			return a.print(map[string]string{"key": args[0]}, func() error {
				_, err := fmt.Fprintf(a.out, "%s: the policy is replaced\n", args[0])
				return err
			})
		},
	}
	put.Flags().StringVar(&file, "file", "", "JSON policy document")
	requireFlag(put, "file")
	put.Flags().BoolVar(&lockout, "bypass-lockout-safety-check", false, "also when you could not change the policy again")
	return group("policy", "Key policies", get, put)
}
