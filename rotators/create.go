package rotators

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/keyturn/keyturn/rotation"
)

// create makes the successor, or finds the one that an earlier attempt has made.
//
// CreateKey cannot be made idempotent: it has no client token, and an answer that is lost leaves a key nobody has
// heard of. So the call is fenced by three writes of the row:
//
//	intent  the row says that the next claim may call CreateKey
//	call    CreateKey, with the row's token as a tag; at most once for each intent
//	made    the row names the key; what else it needs comes after, its material included where that is imported
//
// Whoever finds an intent that may have been used before looks for the key by its tag before it writes a new intent.
func (t *turn) create(ctx context.Context) (rotation.Outcome, error) {
	switch {
	case t.Row.Data.NewKey != "":
		return t.finish(ctx)
	case t.note(noteIntent) == "":
		// No attempt under this token can have made a key.
		if t.Closed {
			return rotation.Outcome{}, rotation.ErrNotDone
		}
		return t.intend(), nil
	case !t.mark(noteIntent):
		return t.recover(ctx)
	}
	old, err := t.describe(ctx, t.Row.Data.OldKey)
	if err != nil {
		return rotation.Outcome{}, err
	}
	if old == nil {
		return rotation.Outcome{}, rotation.Drift("let the alias name a key that exists", "the present key %s is gone", t.Row.Data.OldKey)
	}
	if err := t.turnable(old); err != nil {
		return rotation.Outcome{}, err
	}
	maker := t.maker()
	if maker != t {
		if old, err = maker.describe(ctx, maker.Row.Data.OldKey); err != nil {
			return rotation.Outcome{}, maker.here(err)
		}
		if old == nil {
			return rotation.Outcome{}, rotation.Drift("cancel the rotation and begin another",
				"the present key is gone from %s, the Region of its primary key", maker.region)
		}
	}
	in, err := maker.successor(ctx, old)
	if err != nil {
		return rotation.Outcome{}, maker.here(err)
	}
	if t.Closed {
		return rotation.Outcome{}, rotation.ErrNotDone
	}
	made, err := maker.client.CreateKey(ctx, in)
	if err != nil {
		return rotation.Outcome{}, fmt.Errorf("making the successor: %w", err)
	}
	// The key exists and no row names it yet. If we crash now, the next attempt finds the intent used and searches.
	return t.made(made.KeyMetadata), nil
}

// intend stores that the next claim of the row may call CreateKey once.
func (t *turn) intend() rotation.Outcome {
	return rotation.Outcome{Data: rotation.Data{Notes: map[string]string{noteIntent: t.claim(), noteSearch: ""}}, Wait: time.Nanosecond}
}

// made records the new key at once, before anything else is done with it. A Multi-Region key is named by its ARN in the
// policy's Region even before it is replicated to there.
func (t *turn) made(meta *types.KeyMetadata) rotation.Outcome {
	arn := aws.ToString(meta.Arn)
	if isMultiRegion(arn) {
		arn = inRegion(arn, t.Policy.Region)
	}
	data := rotation.Data{NewKey: arn}
	if meta.Origin == types.OriginTypeExternal {
		data.Notes = map[string]string{noteOrigin: string(meta.Origin)}
	}
	return rotation.Outcome{
		Data: data,
		Generations: []rotation.GenerationChange{{
			Key: arn, State: rotation.StatePreActivation, Made: rotation.MadeByKeyturn,
			Spec: string(meta.KeySpec), Usage: string(meta.KeyUsage), Regions: regionsOf(meta),
		}},
		// What else the key needs is done by the next attempt of this step, when the row names it.
		Wait: time.Nanosecond,
		Note: fmt.Sprintf("made %s (%s, %s)", aws.ToString(meta.Arn), meta.KeySpec, meta.KeyUsage),
	}
}

// successor answers the call that makes a key like the present one. old is that key in any Region.
func (t *turn) successor(ctx context.Context, old *types.KeyMetadata) (*kms.CreateKeyInput, error) {
	in, err := t.like(ctx, old)
	if err != nil {
		return nil, err
	}
	in.KeySpec, in.KeyUsage, in.Origin = t.successorSpec(old), old.KeyUsage, types.OriginTypeAwsKms
	if old.Origin == types.OriginTypeExternal {
		in.Origin = old.Origin
	}
	if aws.ToBool(old.MultiRegion) {
		in.MultiRegion = old.MultiRegion
	}
	return in, nil
}

// like reads what is the present key's own in t's Region, for another key to be like it: policy, tags, description.
func (t *turn) like(ctx context.Context, old *types.KeyMetadata) (*kms.CreateKeyInput, error) {
	tags, err := t.tags(ctx, t.Row.Data.OldKey)
	if err != nil {
		return nil, err
	}
	text, err := t.keyPolicy(ctx, t.Row.Data.OldKey)
	if err != nil {
		return nil, err
	}
	doc, err := parseDocument(text)
	if err != nil {
		return nil, err
	}
	policy, _ := doc.successor(t.Row.Data.OldKey, t.Row.Data.NewKey)
	in := &kms.CreateKeyInput{Policy: aws.String(policy.String()), Tags: t.successorTags(tags)}
	if d := aws.ToString(old.Description); d != "" {
		in.Description = &d
	}
	if len(in.Tags) > maxTags {
		return nil, permanent(fmt.Sprintf("remove tags from the present key until %d are left", maxTags-3),
			"the successor would carry %d tags and a key can carry %d", len(in.Tags), maxTags)
	}
	return in, nil
}

const maxTags = 50

// successorTags are the present key's own tags and Keyturn's three. Tags of AWS itself cannot be set by anybody.
func (t *turn) successorTags(old map[string]string) []types.Tag {
	all := map[string]string{tagRotation: t.Row.Token, tagLineage: t.lineage()}
	if t.Next > 0 {
		all[tagGeneration] = strconv.Itoa(t.Next)
	}
	for k, v := range old {
		if !strings.HasPrefix(k, tagPrefix) && !strings.HasPrefix(strings.ToLower(k), "aws:") {
			all[k] = v
		}
	}
	tags := make([]types.Tag, 0, len(all))
	for k, v := range all {
		tags = append(tags, types.Tag{TagKey: aws.String(k), TagValue: aws.String(v)})
	}
	slices.SortFunc(tags, func(a, b types.Tag) int { return strings.Compare(*a.TagKey, *b.TagKey) })
	return tags
}

// finish gives the new key what CreateKey cannot: imported material, replicas, mentions of its own ARN in its policy, the automatic
// rotation setting, grants. It is done again whole when any of it failed.
func (t *turn) finish(ctx context.Context) (rotation.Outcome, error) {
	if t.Closed {
		return rotation.Outcome{}, rotation.ErrNotDone
	}
	if wait, err := t.fill(ctx); err != nil {
		return rotation.Outcome{}, err
	} else if wait > 0 {
		return rotation.Outcome{Wait: wait, Note: "made its material here and imported it; there is no copy"}, nil
	}
	old, made, wait, err := t.replicate(ctx, t.maker())
	if err != nil || wait > 0 {
		return rotation.Outcome{Wait: wait}, err
	}
	if spec, want := made.keys[t.region].KeySpec, t.wantedSpec(); want != "" && spec != want {
		// It was made for another rotation that failed, and the policy has changed since.
		return rotation.Outcome{}, permanent("cancel the rotation, which removes the pending key, and begin another",
			"the pending key %s is of spec %s, and the policy now asks for %s", t.Row.Data.NewKey, spec, want)
	}
	var did []string
	if len(made.regions) > 1 {
		did = append(did, "it is in "+strings.Join(made.recordable(), ", "))
	}
	for _, region := range made.regions {
		p := t.at(region)
		if p != t && old.keys[region] == nil {
			continue // another hand has taken it there
		}
		note, err := p.finishHere(ctx, made.keys[region])
		if err != nil {
			return rotation.Outcome{}, p.here(err)
		}
		if note != "" {
			did = append(did, p.named(note))
		}
	}
	out := rotation.Outcome{Note: strings.Join(did, "; ")}
	if regions := made.recordable(); regions != nil {
		out.Generations = []rotation.GenerationChange{{Key: t.Row.Data.NewKey, Regions: regions}}
	}
	return out, nil
}

// finishHere does what finish does for the key of one Region.
func (t *turn) finishHere(ctx context.Context, meta *types.KeyMetadata) (string, error) {
	var did []string
	if !t.atHome() && meta.KeyState == types.KeyStateDisabled {
		return "", nil // that was the last thing to do here
	}
	for _, do := range []func(context.Context, *types.KeyMetadata) (string, error){t.finishPolicy, t.finishRotation, t.finishGrants, t.finishState} {
		note, err := do(ctx, meta)
		if err != nil {
			return "", err
		}
		if note != "" {
			did = append(did, note)
		}
	}
	return strings.Join(did, "; "), nil
}

// finishState disables the new key in a Region where the present one is disabled. At home that one is enabled, or the
// rotation would not have begun.
func (t *turn) finishState(ctx context.Context, meta *types.KeyMetadata) (string, error) {
	if t.atHome() || t.Row.Kind != rotation.KindRotate || meta.KeyState != types.KeyStateEnabled {
		return "", nil
	}
	old, err := t.describe(ctx, t.Row.Data.OldKey)
	if err != nil || old == nil || old.KeyState != types.KeyStateDisabled {
		return "", err
	}
	if _, err := t.client.DisableKey(ctx, &kms.DisableKeyInput{KeyId: meta.Arn}); err != nil {
		return "", fmt.Errorf("disabling %s: %w", aws.ToString(meta.Arn), err)
	}
	return "it is disabled, as the present key is", nil
}

// wantedSpec is what the new key must be, as far as the row knows the present key.
func (t *turn) wantedSpec() types.KeySpec {
	return types.KeySpec(cmp.Or(t.Policy.Spec, t.Row.Data.Spec))
}

// finishPolicy compares the new key's policy with what the present key's policy asks for now, and writes it only where
// a mention of the key itself had to wait until its ARN was known.
func (t *turn) finishPolicy(ctx context.Context, meta *types.KeyMetadata) (string, error) {
	want, rest, err := t.successorPolicy(ctx)
	if err != nil || !rest {
		return "", err
	}
	have, err := t.keyPolicy(ctx, t.Row.Data.NewKey)
	if err != nil || samePolicyText(have, want) {
		return "", err
	}
	_, err = t.client.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: meta.Arn, PolicyName: aws.String("default"), Policy: &want})
	if err != nil {
		return "", fmt.Errorf("writing the new key's ARN into its policy: %w", err)
	}
	return "its policy names it instead of its predecessor", nil
}

// successorPolicy is the policy that the new key should have by what the present key's policy says now.
func (t *turn) successorPolicy(ctx context.Context) (text string, rest bool, err error) {
	old, err := t.keyPolicy(ctx, t.Row.Data.OldKey)
	if err != nil {
		return "", false, err
	}
	doc, err := parseDocument(old)
	if err != nil {
		return "", false, err
	}
	want, rest := doc.successor(t.Row.Data.OldKey, t.Row.Data.NewKey)
	return want.String(), rest, nil
}

// finishRotation carries over AWS's own automatic rotation, which only symmetric keys have.
func (t *turn) finishRotation(ctx context.Context, meta *types.KeyMetadata) (string, error) {
	if primary := primaryRegion(meta); meta.KeySpec != types.KeySpecSymmetricDefault || primary != "" && primary != t.region {
		return "", nil // replicas have the setting of the primary key
	}
	old, err := t.client.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: &t.Row.Data.OldKey})
	if isUnknownOperation(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading the automatic rotation of the present key: %w", err)
	}
	if !old.KeyRotationEnabled {
		return "", nil
	}
	// Enabling it again with the same period changes nothing.
	_, err = t.client.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: meta.Arn, RotationPeriodInDays: old.RotationPeriodInDays})
	if err != nil {
		return "", fmt.Errorf("enabling automatic rotation: %w", err)
	}
	return fmt.Sprintf("automatic rotation every %d days", aws.ToInt32(old.RotationPeriodInDays)), nil
}

// finishGrants copies grants when the policy says so. A grant's name makes CreateGrant idempotent: the same name,
// grantee and operations answer the same grant.
func (t *turn) finishGrants(ctx context.Context, meta *types.KeyMetadata) (string, error) {
	if !t.Policy.CopyGrants {
		return "", nil
	}
	grants, err := t.grants(ctx, t.Row.Data.OldKey)
	if isUnknownOperation(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var notes []string
	copied := 0
	for _, g := range grants {
		in, why := grantLike(&g)
		if in == nil {
			notes = append(notes, fmt.Sprintf("grant %s is not copied: %s", aws.ToString(g.GrantId), why))
			continue
		}
		in.KeyId = meta.Arn
		if _, err := t.client.CreateGrant(ctx, in); err != nil {
			return "", fmt.Errorf("copying grant %s: %w", aws.ToString(g.GrantId), err)
		}
		copied++
	}
	if copied > 0 {
		notes = append([]string{fmt.Sprintf("%d grants copied", copied)}, notes...)
	}
	return strings.Join(notes, "; "), nil
}

// grantLike is the call that makes a grant like g, or why there is none: a principal that was deleted shows as its
// unique id, and a service that made its grant itself as the grantee, and neither can be given one.
func grantLike(g *types.GrantListEntry) (in *kms.CreateGrantInput, why string) {
	in = &kms.CreateGrantInput{
		GranteePrincipal: g.GranteePrincipal, GranteeServicePrincipal: g.GranteeServicePrincipal,
		RetiringPrincipal: g.RetiringPrincipal, RetiringServicePrincipal: g.RetiringServicePrincipal,
		Operations: g.Operations, Constraints: g.Constraints, Name: aws.String("keyturn-" + aws.ToString(g.GrantId)),
	}
	switch grantee := aws.ToString(in.GranteePrincipal); {
	case grantee == "" || strings.HasPrefix(grantee, "arn:"):
	case strings.Contains(grantee, "."):
		return nil, "the service " + grantee + " makes its grants itself"
	default:
		return nil, "its principal " + grantee + " was deleted"
	}
	// Whoever could retire the old grant and was deleted can retire nothing any more.
	if !strings.HasPrefix(aws.ToString(in.RetiringPrincipal), "arn:") {
		in.RetiringPrincipal = nil
	}
	return in, ""
}

func (t *turn) grants(ctx context.Context, key string) ([]types.GrantListEntry, error) {
	var all []types.GrantListEntry
	pages := kms.NewListGrantsPaginator(t.client, &kms.ListGrantsInput{KeyId: &key})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("listing the grants of %s: %w", key, err)
		}
		all = append(all, page.Grants...)
	}
	return all, nil
}
