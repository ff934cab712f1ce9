package rotators

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/keyturn/keyturn/rotation"
)

// publish reads the public half of the new key, which JWKS shows from then on, and lets alias/x/next name the key.
//
// The lead counts from the end of this step, and nobody sees the key before it is stored that it is published, however
// long the commit takes. So that is stored first, and the step ends with a later attempt.
func (t *turn) publish(ctx context.Context) (rotation.Outcome, error) {
	meta, err := t.fresh(ctx)
	if err != nil {
		return rotation.Outcome{}, err
	}
	if t.New == nil || t.New.PublishedAt.IsZero() {
		if t.Closed {
			return rotation.Outcome{}, rotation.ErrNotDone
		}
		public, err := t.publicHalf(ctx, meta)
		if err != nil {
			return rotation.Outcome{}, err
		}
		return rotation.Outcome{
			Generations: []rotation.GenerationChange{{Key: t.Row.Data.NewKey, Published: true, Public: public}},
			Wait:        time.Nanosecond,
		}, nil
	}
	for _, p := range t.following() {
		if err := p.point(ctx, "next", p.Row.Data.NewKey); err != nil {
			return rotation.Outcome{}, p.here(err)
		}
	}
	return rotation.Outcome{Note: t.side("next") + " names " + t.Row.Data.NewKey + t.everywhere()}, nil
}

// test proves the new key in every Region, whatever else has been said about it. Where the present key is disabled, the
// new one is too, and cannot be tried.
func (t *turn) test(ctx context.Context) (rotation.Outcome, error) {
	if t.Closed {
		return rotation.Outcome{}, rotation.ErrNotDone
	}
	_, made, err := t.sameRegions(ctx)
	if err != nil {
		return rotation.Outcome{}, err
	}
	var did []string
	change := rotation.GenerationChange{Key: t.Row.Data.NewKey}
	for _, region := range made.among(types.KeyStateEnabled) {
		p := t.at(region)
		proven, public, err := proveKey(ctx, p.client, made.keys[region], t.Row.Token)
		if err != nil {
			return rotation.Outcome{}, p.here(err)
		}
		did, change.Public = proven, public
	}
	note := strings.Join(did, "; ")
	if n := len(made.among(types.KeyStateEnabled)); n > 1 {
		note += fmt.Sprintf(", in each of %d Regions", n)
	}
	return rotation.Outcome{Generations: []rotation.GenerationChange{change}, Note: note}, nil
}

// mayActivate guards invariants 2 and 6 on its own account, whatever the engine believes: the new key was tested, and in
// staged mode it has been published for the lead.
func (t *turn) mayActivate() (wait time.Duration, err error) {
	done := t.Row.Data.DoneAt
	if done[rotation.StepTest].IsZero() {
		return 0, permanent("cancel the rotation and begin another", "the new key %s has not been tested", t.Row.Data.NewKey)
	}
	if t.Row.Kind != rotation.KindRotate || t.Policy.Mode == rotation.ModeInstant {
		return 0, nil
	}
	published := done[rotation.StepPublish]
	if published.IsZero() {
		return 0, permanent("cancel the rotation and begin another", "the new key %s has not been published", t.Row.Data.NewKey)
	}
	return max(0, published.Add(time.Duration(t.Policy.Lead)).Sub(t.Now)), nil
}

// unchanged looks, in every Region, whether another hand has touched either key since the rotation began.
func (t *turn) unchanged(ctx context.Context) error {
	old, made, err := t.sameRegions(ctx)
	if err != nil {
		return err
	}
	if t.Row.Kind != rotation.KindRotate {
		// After a compromise or for a roll back the key that is left may be in any state, and its policy may have been
		// narrowed by hand in the meantime. That must not keep callers on it.
		return nil
	}
	if present := old.keys[t.region]; present != nil { // or somebody has just deleted it, and the policy cannot be read
		if err := enabled(present, "the present key"); err != nil {
			return err
		}
	}
	for _, region := range old.living() {
		p := t.at(region)
		if old.keys[region].KeyState != made.keys[region].KeyState {
			return rotation.Drift("disable or enable one of the two and resume", "in %s the present key is %s and its successor is %s",
				region, old.keys[region].KeyState, made.keys[region].KeyState)
		}
		if err := p.samePolicy(ctx); err != nil {
			return p.here(err)
		}
	}
	return nil
}

// samePolicy finds that the policy of the new key is what it would be if it were made now.
func (t *turn) samePolicy(ctx context.Context) error {
	want, _, err := t.successorPolicy(ctx)
	if err != nil {
		return err
	}
	have, err := t.keyPolicy(ctx, t.Row.Data.NewKey)
	if err != nil {
		return err
	}
	want, have = t.withoutDeny(want), t.withoutDeny(have)
	if !samePolicyText(want, have) {
		return rotation.Drift(
			"make the same change to the key policy of "+t.Row.Data.NewKey+" and resume; or cancel the rotation and begin another, which copies the policy anew",
			"the key policies of %s and its successor differ: another hand has changed one of them since the successor was made", t.Row.Data.OldKey)
	}
	return nil
}

func (t *turn) withoutDeny(text string) string {
	doc, err := parseDocument(text)
	if err != nil {
		return text
	}
	return doc.without().String()
}

// nameGenerations lets alias/x/vN name each of the two generations. These names never move again, so it does not
// matter that they are there before the switch.
func (t *turn) nameGenerations(ctx context.Context) error {
	for _, g := range []*rotation.Generation{t.Old, t.New} {
		if g == nil || g.Number == 0 {
			continue
		}
		name := fmt.Sprintf("v%d", g.Number)
		meta, err := t.describe(ctx, t.side(name))
		if err != nil {
			return err
		}
		switch {
		case meta == nil:
			if err := t.createAlias(ctx, t.side(name), g.Key); err != nil {
				return err
			}
		case aws.ToString(meta.Arn) != g.Key:
			return rotation.Drift("delete that alias, then resume",
				"%s names %s, but generation %d is %s: another hand has moved it", t.named(t.side(name)), aws.ToString(meta.Arn), g.Number, g.Key)
		}
	}
	return nil
}

func (t *turn) createAlias(ctx context.Context, name, key string) error {
	_, err := t.client.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: &name, TargetKeyId: &key})
	if err != nil {
		return fmt.Errorf("creating %s: %w", name, err)
	}
	return nil
}

// tidyNames brings the names beside the alias to what is true after a switch: previous names the key that was left, next
// is gone. It may be repeated.
func (t *turn) tidyNames(ctx context.Context) error {
	if err := t.point(ctx, "previous", t.Row.Data.OldKey); err != nil {
		return err
	}
	return t.dropNext(ctx)
}

// dropNext removes alias/x/next when it names this rotation's key; any other it leaves alone.
func (t *turn) dropNext(ctx context.Context) error {
	meta, err := t.describe(ctx, t.side("next"))
	if err != nil || meta == nil || aws.ToString(meta.Arn) != t.Row.Data.NewKey {
		return err
	}
	name := t.side("next")
	_, err = t.client.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: &name})
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("deleting %s: %w", name, err)
	}
	return nil
}

// point lets alias/x/next or alias/x/previous name a key. A key that is not of this lineage is never pushed
// aside: somebody else uses the name.
func (t *turn) point(ctx context.Context, side, key string) error {
	name := t.side(side)
	meta, err := t.describe(ctx, name)
	if err != nil {
		return err
	}
	switch {
	case meta == nil:
		if t.Closed {
			return rotation.ErrNotDone
		}
		return t.createAlias(ctx, name, key)
	case aws.ToString(meta.Arn) == key:
		return nil
	}
	ours, err := t.ofLineage(ctx, aws.ToString(meta.Arn))
	if err != nil {
		return err
	}
	if !ours {
		return rotation.Drift("delete or rename that alias, then resume",
			"%s names %s, which is not a key of this lineage", t.named(name), aws.ToString(meta.Arn))
	}
	if t.Closed {
		return rotation.ErrNotDone
	}
	_, err = t.client.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: &name, TargetKeyId: &key})
	if err != nil {
		return fmt.Errorf("moving %s: %w", name, err)
	}
	return nil
}

// ofLineage reports whether a key is a generation of this lineage: one of those at hand, made for it by its tag, or
// named by one of its vN.
func (t *turn) ofLineage(ctx context.Context, arn string) (bool, error) {
	for _, g := range []*rotation.Generation{t.Active, t.Old, t.New} {
		if g != nil && g.Key == arn {
			return true, nil
		}
	}
	tags, err := t.tags(ctx, arn)
	if err != nil {
		return false, err
	}
	if tags[tagLineage] == t.lineage() {
		return true, nil
	}
	names, err := t.aliases(ctx, arn)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		if strings.HasPrefix(name, t.side("v")) && t.ourSideName(name) {
			return true, nil
		}
	}
	return false, nil
}
