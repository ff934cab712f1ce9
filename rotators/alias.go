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
	if err := t.point(ctx, "next", t.Row.Data.NewKey); err != nil {
		return rotation.Outcome{}, err
	}
	return rotation.Outcome{Note: t.side("next") + " names " + t.Row.Data.NewKey}, nil
}

// test proves the new key, whatever else has been said about it.
func (t *turn) test(ctx context.Context) (rotation.Outcome, error) {
	if t.Closed {
		return rotation.Outcome{}, rotation.ErrNotDone
	}
	meta, err := t.fresh(ctx)
	if err != nil {
		return rotation.Outcome{}, err
	}
	did, public, err := proveKey(ctx, t.client, meta, t.Row.Token)
	if err != nil {
		return rotation.Outcome{}, err
	}
	return rotation.Outcome{
		Generations: []rotation.GenerationChange{{Key: t.Row.Data.NewKey, Public: public}},
		Note:        strings.Join(did, "; "),
	}, nil
}

// switchAlias moves the alias. UpdateAlias is the commit point of the whole rotation: before it nothing that callers
// see has changed, after it the new key does the work. Everything that could refuse is looked at before it,
// and nothing that comes after it can make the step fail: the names beside the alias are seen to by the next step.
func (t *turn) switchAlias(ctx context.Context) (rotation.Outcome, error) {
	now, err := t.current(ctx)
	if err != nil {
		return rotation.Outcome{}, err
	}
	switch found := aws.ToString(now.Arn); found {
	case t.Row.Data.NewKey:
		// The answer of an earlier UpdateAlias was lost.
		return t.switched(ctx), nil
	case t.Row.Data.OldKey:
	default:
		return rotation.Outcome{}, t.moved(found, t.Row.Data.OldKey)
	}
	if t.Closed {
		return rotation.Outcome{}, rotation.ErrNotDone
	}
	if wait, err := t.mayActivate(); err != nil || wait > 0 {
		return rotation.Outcome{Wait: wait}, err
	}
	if err := t.unchanged(ctx, now); err != nil {
		return rotation.Outcome{}, err
	}
	if err := t.nameGenerations(ctx); err != nil {
		return rotation.Outcome{}, err
	}
	// At this point the new key is tested, published for the lead time, enabled, and like the present key.
	_, err = t.client.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: &t.Policy.Alias, TargetKeyId: &t.Row.Data.NewKey})
	if err != nil {
		return rotation.Outcome{}, fmt.Errorf("moving %s: %w", t.Policy.Alias, err)
	}
	return t.switched(ctx), nil
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

// unchanged looks whether another hand has touched either key since the rotation began.
func (t *turn) unchanged(ctx context.Context, old *types.KeyMetadata) error {
	if _, err := t.fresh(ctx); err != nil {
		return err
	}
	if t.Row.Kind != rotation.KindRotate {
		// After a compromise or for a roll back the key that is left may be in any state, and its policy may have been
		// narrowed by hand in the meantime. That must not keep callers on it.
		return nil
	}
	if err := enabled(old, "the present key"); err != nil {
		return err
	}
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
				"%s names %s, but generation %d is %s: another hand has moved it", t.side(name), aws.ToString(meta.Arn), g.Number, g.Key)
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

// switched is the outcome of the switch, with the names beside the alias moved as far as they let themselves be moved.
func (t *turn) switched(ctx context.Context) rotation.Outcome {
	note := t.Policy.Alias + " names " + t.Row.Data.NewKey
	if err := t.tidyNames(ctx); err != nil {
		note += "; the next step sees to the names beside it: " + err.Error()
	}
	return rotation.Outcome{Note: note}
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
			"%s names %s, which is not a key of this lineage", name, aws.ToString(meta.Arn))
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
