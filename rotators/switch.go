package rotators

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/keyturn/keyturn/rotation"
)

// switchAlias moves the alias. UpdateAlias is the commit point of the whole rotation: before it nothing that callers
// see has changed, after it the new key does the work. Everything that could refuse is looked at before it,
// and nothing that comes after it can make the step fail: the names beside the alias are seen to by the next step.
//
// Where other Regions follow there is one call for each, and any of them can be the last before a crash. So the alias of
// the policy's own Region goes first and, should it have to go back, last:
//
//	it names the old key   the switch has not happened; the others name the old key too
//	it names the new key   the switch has happened, and the others are on their way
//
// Whoever finds it on the new key moves the others after it, under the same row and whatever the window says. Only when
// one of them cannot follow for a reason that trying again does not mend, all go back, and the step fails with drift.
// Meanwhile each Region signs with the one or the other key, both are generations of the lineage that may, and what
// either made is verified and decrypted everywhere.
func (t *turn) switchAlias(ctx context.Context) (rotation.Outcome, error) {
	places := t.following()
	found, err := pointing(ctx, places)
	if err != nil {
		return rotation.Outcome{}, err
	}
	switch found[0] {
	case t.Row.Data.NewKey:
		// The answer of an earlier UpdateAlias was lost, or we died behind it.
		return t.follow(ctx, places, found)
	case t.Row.Data.OldKey:
	default:
		return rotation.Outcome{}, t.giveUp(ctx, places, found, t.lost(found[0]))
	}
	if t.Closed {
		return rotation.Outcome{}, t.giveUp(ctx, places, found, rotation.ErrNotDone)
	}
	if wait, err := t.mayActivate(); err != nil || wait > 0 {
		return rotation.Outcome{Wait: wait}, err
	}
	for i, p := range places {
		if found[i] != p.Row.Data.OldKey && found[i] != p.Row.Data.NewKey {
			return rotation.Outcome{}, t.giveUp(ctx, places, found, p.lost(found[i]))
		}
	}
	if err := t.unchanged(ctx); err != nil {
		return rotation.Outcome{}, err
	}
	for _, p := range places {
		if err := p.nameGenerations(ctx); err != nil {
			return rotation.Outcome{}, p.here(err)
		}
	}
	// At this point the new key is tested, published for the lead time, enabled, and like the present key, in every Region.
	if err := t.move(ctx, t.Row.Data.NewKey); err != nil {
		return rotation.Outcome{}, err
	}
	found[0] = t.Row.Data.NewKey
	return t.follow(ctx, places, found)
}

// pointing answers what the alias names in each place; "" where there is none.
func pointing(ctx context.Context, places []*turn) ([]string, error) {
	found := make([]string, len(places))
	for i, p := range places {
		meta, err := p.describe(ctx, p.Policy.Alias)
		if err != nil {
			return nil, p.here(err)
		}
		if meta != nil {
			found[i] = aws.ToString(meta.Arn)
		}
	}
	return found, nil
}

// lost is the drift of an alias that names neither key any more.
func (t *turn) lost(found string) error {
	if found == "" {
		return t.aliasMissing()
	}
	return t.moved(found, t.Row.Data.OldKey)
}

func (t *turn) move(ctx context.Context, to string) error {
	_, err := t.client.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: &t.Policy.Alias, TargetKeyId: &to})
	if err != nil {
		return t.here(fmt.Errorf("moving %s: %w", t.Policy.Alias, err))
	}
	return nil
}

// follow moves the alias of every Region that is not there yet. The first one names the new key.
func (t *turn) follow(ctx context.Context, places []*turn, found []string) (rotation.Outcome, error) {
	for i, p := range places {
		// UpdateAlias knows no condition: what the others name is read again just before each is moved.
		err := p.followOne(ctx, &found[i])
		if decided := (*rotation.StepError)(nil); errors.As(classify(err), &decided) {
			return rotation.Outcome{}, t.giveUp(ctx, places, found, rotation.Drift(decided.Hint, "%w", err))
		}
		if err != nil {
			return rotation.Outcome{}, err
		}
		found[i] = p.Row.Data.NewKey
	}
	return t.switched(ctx, places), nil
}

func (t *turn) followOne(ctx context.Context, found *string) error {
	if *found == t.Row.Data.NewKey {
		return nil
	}
	now, err := pointing(ctx, []*turn{t})
	if err != nil {
		return err
	}
	switch *found = now[0]; *found {
	case t.Row.Data.NewKey:
		return nil
	case t.Row.Data.OldKey:
	default:
		return t.lost(*found)
	}
	meta, err := t.describe(ctx, t.Row.Data.NewKey)
	if err != nil {
		return t.here(err)
	}
	if meta == nil || isPending(meta) {
		return t.here(rotation.Drift("cancel its deletion or replicate it again, then resume",
			"the new key %s is gone or pending deletion: another hand did that", t.Row.Data.NewKey))
	}
	return t.move(ctx, t.Row.Data.NewKey)
}

// giveUp leaves the alias everywhere as it was and answers why. What names the new key goes back to the old one, that of
// the policy's own Region last: as long as it is in doubt whether all have gone back, it says that the switch goes on.
// If one does not let itself be moved back, the step has neither been done nor not been done: that is no answer of a
// kind that would let the rotation be called failed, so it is tried again.
func (t *turn) giveUp(ctx context.Context, places []*turn, found []string, why error) error {
	for i, p := range slices.Backward(places) {
		if found[i] != p.Row.Data.NewKey {
			continue
		}
		if err := p.move(ctx, p.Row.Data.OldKey); err != nil {
			return fmt.Errorf("%s; moving %s back: %s", why, p.named(t.Policy.Alias), err) //nolint:errorlint // neither error may decide
		}
	}
	return why
}

// switched is the outcome of the switch, with the names beside the alias moved as far as they let themselves be moved.
func (t *turn) switched(ctx context.Context, places []*turn) rotation.Outcome {
	note := t.Policy.Alias + " names " + t.Row.Data.NewKey + t.everywhere()
	for _, p := range places {
		if err := p.tidyNames(ctx); err != nil {
			note += "; the next step sees to the names beside it: " + p.here(err).Error()
			break
		}
	}
	return rotation.Outcome{Note: note}
}

// everywhere names the other Regions that something was done in.
func (t *turn) everywhere() string {
	if len(t.Follows) == 0 {
		return ""
	}
	return ", and so in " + strings.Join(t.Follows, ", ")
}
