package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/spf13/cobra"
)

func (a *app) keyRotationCommand() *cobra.Command {
	var days int32
	var wait bool
	enable := a.rotationCommand("enable", "Let a symmetric key turn by itself", func(ctx context.Context, sdk *kms.Client, key string) error {
		_, err := sdk.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: &key, RotationPeriodInDays: &days})
		return err
	})
	enable.Long = `The key gets new material after so many days, and again after as many more. Its id, ARN and aliases stay, and
what it has encrypted decrypts for ever. For aliases whose keys themselves turn, of any kind, there is 'keyturn policy put'.`
	enable.Example = "keyturn keys rotation enable alias/backups --days 90"
	enable.Flags().Int32Var(&days, "days", 365, "days between two rotations")
	now := a.rotationCommand("now", "Give a key new material now", func(ctx context.Context, sdk *kms.Client, key string) error {
		if _, err := sdk.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: &key}); err != nil || !wait {
			return err
		}
		return untilTurned(ctx, sdk, key)
	})
	now.Long = "The server begins at once and answers before it is done. A key can do so 25 times; its schedule, if it has one, stays."
	now.Flags().BoolVar(&wait, "wait", false, "answer when it is done")
	return group("rotation", "New material for symmetric keys, by itself or now",
		enable,
		a.rotationCommand("disable", "End the automatic rotation of a key", func(ctx context.Context, sdk *kms.Client, key string) error {
			_, err := sdk.DisableKeyRotation(ctx, &kms.DisableKeyRotationInput{KeyId: &key})
			return err
		}),
		a.rotationCommand("status", "When a key turns next", func(context.Context, *kms.Client, string) error { return nil }),
		now)
}

// untilTurned waits until no rotation on demand of the key is under way.
func untilTurned(ctx context.Context, sdk *kms.Client, key string) error {
	for began := time.Now(); ; pause(ctx, pollPause(time.Since(began))) {
		out, err := sdk.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: &key})
		if err != nil || out.OnDemandRotationStartDate == nil {
			return err
		}
		if ctx.Err() != nil {
			return &cliError{err: errors.New("stopped waiting"), code: exitInterrupted, hint: "the rotation goes on: 'keyturn keys rotation status' shows whether it is under way"}
		}
	}
}

// keyRotation is where the rotation of a key stands, as the commands print it.
type keyRotation struct {
	Key      string     `json:"key_id"`
	Enabled  bool       `json:"enabled"`
	Days     int32      `json:"days,omitzero"`
	Next     *time.Time `json:"next,omitzero"`
	OnDemand *time.Time `json:"on_demand_since,omitzero"` // while a rotation on demand is under way
	Policy   string     `json:"policy"`                   // whose history tells of it
}

// rotationCommand does something to a key and shows where its rotation stands then.
func (a *app) rotationCommand(use, short string, do func(ctx context.Context, sdk *kms.Client, key string) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " KEY", Short: short + ": id, ARN or alias", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			sdk := c.kms()
			// AWS takes no alias for these operations.
			described, err := sdk.DescribeKey(cmd.Context(), &kms.DescribeKeyInput{KeyId: &args[0]})
			if err != nil {
				return wrapSDK(c.endpoint, err)
			}
			key := aws.ToString(described.KeyMetadata.KeyId)
			if err := do(cmd.Context(), sdk, key); err != nil {
				if stopped := (*cliError)(nil); errors.As(err, &stopped) {
					return err
				}
				return wrapSDK(c.endpoint, err)
			}
			out, err := sdk.GetKeyRotationStatus(cmd.Context(), &kms.GetKeyRotationStatusInput{KeyId: &key})
			if err != nil {
				return wrapSDK(c.endpoint, err)
			}
			r := keyRotation{
				Key: key, Enabled: out.KeyRotationEnabled, Days: aws.ToInt32(out.RotationPeriodInDays), Next: out.NextRotationDate,
				OnDemand: out.OnDemandRotationStartDate, Policy: "kms/" + key,
			}
			return a.print(r, func() error {
				return a.rows([]string{"FIELD", "VALUE"}, r.fields(time.Now()), "")
			})
		},
	}
}

func (r *keyRotation) fields(now time.Time) [][]string {
	rows := [][]string{{"key", r.Key}, {"rotation", "off"}}
	if r.Enabled {
		rows[1][1] = "every " + count(int(r.Days), "day")
	}
	if r.Next != nil {
		rows = append(rows, []string{"next", until(*r.Next, now) + " (" + when(*r.Next) + ")"})
	}
	if r.OnDemand != nil {
		rows = append(rows, []string{"on demand", "under way since " + when(*r.OnDemand)})
	}
	if r.Enabled || r.OnDemand != nil {
		rows = append(rows, []string{"history", "keyturn history " + r.Policy})
	}
	return rows
}

// keyMaterial is one material of a key, as the commands print it.
type keyMaterial struct {
	Material    string     `json:"material_id"`
	State       string     `json:"state"`
	Type        string     `json:"rotation_type,omitzero"` // empty: the key was made with it
	At          *time.Time `json:"rotated_at,omitzero"`
	ImportState string     `json:"import_state,omitzero"`
	ValidTo     *time.Time `json:"valid_to,omitzero"`
	Description string     `json:"description,omitzero"`
}

func (a *app) keyRotationsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rotations KEY", Short: "List the materials of a symmetric key, the first one first: id, ARN or alias",
		Example: "keyturn keys rotations alias/backups",
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			sdk := c.kms()
			described, err := sdk.DescribeKey(cmd.Context(), &kms.DescribeKeyInput{KeyId: &args[0]})
			if err != nil {
				return wrapSDK(c.endpoint, err)
			}
			materials := []keyMaterial{}
			for pages := kms.NewListKeyRotationsPaginator(sdk, &kms.ListKeyRotationsInput{
				KeyId: described.KeyMetadata.KeyId, IncludeKeyMaterial: types.IncludeKeyMaterialAllKeyMaterial,
			}); pages.HasMorePages(); {
				page, err := pages.NextPage(cmd.Context())
				if err != nil {
					return wrapSDK(c.endpoint, err)
				}
				for i := range page.Rotations {
					r := &page.Rotations[i]
					materials = append(materials, keyMaterial{
						Material: aws.ToString(r.KeyMaterialId), State: string(r.KeyMaterialState), Type: string(r.RotationType), At: r.RotationDate,
						ImportState: string(r.ImportState), ValidTo: r.ValidTo, Description: aws.ToString(r.KeyMaterialDescription),
					})
				}
			}
			return a.print(materials, func() error {
				var rows [][]string
				for i := range materials {
					m := &materials[i]
					rows = append(rows, []string{fmt.Sprint(i + 1), m.Material, a.materialColour(m.State), m.words()})
				}
				return a.rows([]string{"", "MATERIAL", "STATE", "WHEN"}, rows, "No material yet.")
			})
		},
	}
}

// words say how the key came to the material, and what else there is to know.
func (m *keyMaterial) words() string {
	words := "made with the key"
	switch {
	case m.At != nil && m.Type == string(types.RotationTypeOnDemand):
		words = "on demand " + when(*m.At)
	case m.At != nil:
		words = "by itself " + when(*m.At)
	case m.State != string(types.KeyMaterialStateCurrent) && m.State != string(types.KeyMaterialStateNonCurrent):
		words = "waits for its turn"
	}
	if m.ImportState == string(types.ImportStatePendingImport) {
		words += "; to be imported"
	}
	if m.ValidTo != nil {
		words += "; until " + when(*m.ValidTo)
	}
	if m.Description != "" {
		words += "; " + printable(m.Description)
	}
	return words
}

func (a *app) materialColour(state string) string {
	switch state {
	case string(types.KeyMaterialStateCurrent):
		return a.colour(state, green)
	case string(types.KeyMaterialStateNonCurrent):
		return state
	}
	return a.colour(state, yellow)
}
