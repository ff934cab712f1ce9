package rotators

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/keyturn/keyturn/rotation"
)

// inspect reads what the alias names and finds that it can be turned.
func (t *turn) inspect(ctx context.Context) (rotation.Outcome, error) {
	if t.Closed {
		return rotation.Outcome{}, rotation.ErrNotDone
	}
	meta, err := t.current(ctx)
	if err != nil {
		return rotation.Outcome{}, err
	}
	arn := aws.ToString(meta.Arn)
	if t.Row.Data.NewKey != "" && arn == t.Row.Data.NewKey {
		return rotation.Outcome{Note: "the alias names the new key already"}, nil
	}
	if t.Active != nil && t.Active.Key != arn && !t.Row.Data.Accept {
		return rotation.Outcome{}, t.moved(arn, t.Active.Key)
	}
	if err := t.turnable(meta); err != nil {
		return rotation.Outcome{}, err
	}
	if t.Active == nil {
		if err := t.sideNamesFree(ctx, meta); err != nil {
			return rotation.Outcome{}, err
		}
	}
	public, err := t.publicHalf(ctx, meta)
	if err != nil {
		return rotation.Outcome{}, err
	}
	out := rotation.Outcome{
		Data: rotation.Data{OldKey: arn, Spec: string(meta.KeySpec), Usage: string(meta.KeyUsage)},
		Generations: []rotation.GenerationChange{{
			Key: arn, State: rotation.StateActive, Made: rotation.MadeAdopted, Current: true,
			Spec: string(meta.KeySpec), Usage: string(meta.KeyUsage), Public: public,
		}},
		Note: fmt.Sprintf("%s names %s (%s, %s)", t.Policy.Alias, arn, meta.KeySpec, meta.KeyUsage),
	}
	if err := t.inspectRegions(ctx, meta, &out); err != nil {
		return rotation.Outcome{}, err
	}
	return out, nil
}

// inspectRegions adds in which other Regions the present key is, and in which the alias names it.
func (t *turn) inspectRegions(ctx context.Context, meta *types.KeyMetadata, out *rotation.Outcome) error {
	if !aws.ToBool(meta.MultiRegion) {
		if len(t.Follows) > 0 {
			out.Follows = []string{}
		}
		return nil
	}
	present, err := t.kin(ctx, aws.ToString(meta.Arn))
	if err != nil {
		return err
	}
	primary := primaryRegion(meta)
	if key := present.keys[primary]; key == nil || isPending(key) {
		return permanent("cancel its deletion, or move the primary Region to a replica (UpdatePrimaryRegion), then resume",
			"the primary key of %s, in %s, is pending deletion", aws.ToString(meta.Arn), primary)
	}
	if t.note(noteIntent) == "" {
		// Once CreateKey may have been called somewhere, that is where its key is looked for.
		out.Data.Notes = map[string]string{notePrimary: primary}
	}
	out.Generations[0].Regions = present.recordable()
	if out.Follows, err = t.followers(ctx, present); err != nil {
		return err
	}
	if others := slices.DeleteFunc(slices.Clone(present.regions), func(r string) bool { return r == t.region }); len(others) > 0 {
		out.Note += "; it is in " + strings.Join(others, ", ") + " too"
	}
	if len(out.Follows) > 0 {
		out.Note += ", where the alias follows: " + strings.Join(out.Follows, ", ")
	}
	return nil
}

// moved is the drift that everybody fears most: the alias names a key that Keyturn did not put there.
func (t *turn) moved(found, expected string) error {
	return rotation.Drift(
		"let the alias name "+expected+" again and resume; or, if the move was meant, accept the key that stands there now",
		"%s names %s, not %s: another hand has moved it", t.named(t.Policy.Alias), found, expected)
}

// turnable answers nil when a successor of the key can be made.
func (t *turn) turnable(meta *types.KeyMetadata) error {
	arn := aws.ToString(meta.Arn)
	if parts := strings.Split(arn, ":"); len(parts) == 6 && (parts[3] != t.Policy.Region || parts[4] != t.Policy.Account) {
		return permanent("name the account and Region of the key in the policy, or give the target the right credentials",
			"the target answers with %s, which is not in account %s and Region %s", arn, t.Policy.Account, t.Policy.Region)
	}
	switch {
	case meta.KeyManager == types.KeyManagerTypeAws:
		return permanent("make a key of your own and let the alias name it", "%s belongs to an AWS service", arn)
	case meta.CustomKeyStoreId != nil || (meta.Origin != types.OriginTypeAwsKms && meta.Origin != types.OriginTypeExternal && meta.Origin != ""):
		return permanent("turn it by hand", "%s lives in a custom key store: turning such keys is not implemented yet", arn)
	case t.Policy.Usage != "" && t.Policy.Usage != string(meta.KeyUsage):
		return permanent("leave usage out of the policy, or turn another alias",
			"%s is for %s, and an alias cannot change to %s", arn, meta.KeyUsage, t.Policy.Usage)
	}
	if err := fitsUsage(t.successorSpec(meta), meta); err != nil {
		return err
	}
	if err := t.importable(meta); err != nil {
		return err
	}
	if t.Row.Kind == rotation.KindCompromise {
		// Whoever found the key compromised may have disabled it already; that must not keep the successor away.
		return nil
	}
	return enabled(meta, "the present key")
}

func (t *turn) successorSpec(meta *types.KeyMetadata) types.KeySpec {
	if t.Policy.Spec != "" {
		return types.KeySpec(t.Policy.Spec)
	}
	return meta.KeySpec
}

// usagesOf holds what keys of each spec can be for; AWS: CreateKey, KeyUsage. UpdateAlias lets an alias change
// its spec only inside one usage, so this is also the table of possible migrations.
var usagesOf = map[types.KeySpec][]types.KeyUsageType{
	types.KeySpecSymmetricDefault:    {types.KeyUsageTypeEncryptDecrypt},
	types.KeySpecRsa2048:             {types.KeyUsageTypeSignVerify, types.KeyUsageTypeEncryptDecrypt},
	types.KeySpecRsa3072:             {types.KeyUsageTypeSignVerify, types.KeyUsageTypeEncryptDecrypt},
	types.KeySpecRsa4096:             {types.KeyUsageTypeSignVerify, types.KeyUsageTypeEncryptDecrypt},
	types.KeySpecEccNistP256:         {types.KeyUsageTypeSignVerify, types.KeyUsageTypeKeyAgreement},
	types.KeySpecEccNistP384:         {types.KeyUsageTypeSignVerify, types.KeyUsageTypeKeyAgreement},
	types.KeySpecEccNistP521:         {types.KeyUsageTypeSignVerify, types.KeyUsageTypeKeyAgreement},
	types.KeySpecEccSecgP256k1:       {types.KeyUsageTypeSignVerify},
	types.KeySpecEccNistEdwards25519: {types.KeyUsageTypeSignVerify},
	types.KeySpecMlDsa44:             {types.KeyUsageTypeSignVerify},
	types.KeySpecMlDsa65:             {types.KeyUsageTypeSignVerify},
	types.KeySpecMlDsa87:             {types.KeyUsageTypeSignVerify},
	types.KeySpecMlKem512:            {types.KeyUsageTypeEncapsulateDecapsulate},
	types.KeySpecMlKem768:            {types.KeyUsageTypeEncapsulateDecapsulate},
	types.KeySpecMlKem1024:           {types.KeyUsageTypeEncapsulateDecapsulate},
	types.KeySpecHmac224:             {types.KeyUsageTypeGenerateVerifyMac},
	types.KeySpecHmac256:             {types.KeyUsageTypeGenerateVerifyMac},
	types.KeySpecHmac384:             {types.KeyUsageTypeGenerateVerifyMac},
	types.KeySpecHmac512:             {types.KeyUsageTypeGenerateVerifyMac},
}

// fitsUsage refuses a successor that the alias could not name: UpdateAlias keeps usage and key type.
func fitsUsage(spec types.KeySpec, old *types.KeyMetadata) error {
	usages, known := usagesOf[spec]
	if !known {
		return permanent("choose a spec that can be tested outside the KMS", "keys of spec %s cannot be turned", spec)
	}
	for _, u := range usages {
		symmetric := spec == types.KeySpecSymmetricDefault
		if u == old.KeyUsage && symmetric == (old.KeySpec == types.KeySpecSymmetricDefault) {
			return nil
		}
	}
	return permanent("choose a spec with the usage and type of the present key",
		"a key of spec %s cannot take over from one of spec %s for %s", spec, old.KeySpec, old.KeyUsage)
}

// sideNamesFree refuses to begin a lineage whose names somebody uses for other keys: a later step would
// have to take them away.
func (t *turn) sideNamesFree(ctx context.Context, old *types.KeyMetadata) error {
	for _, name := range []string{"next", "previous", "v1"} {
		meta, err := t.describe(ctx, t.side(name))
		if err != nil {
			return err
		}
		if meta == nil || aws.ToString(meta.Arn) == aws.ToString(old.Arn) {
			continue
		}
		return permanent("rename that alias, then resume",
			"%s names %s already, and Keyturn needs the name for this lineage", t.named(t.side(name)), aws.ToString(meta.Arn))
	}
	return nil
}
