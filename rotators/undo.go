package rotators

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/keyturn/keyturn/rotation"
)

// restore makes the generation that a roll back goes back to usable again: it takes back what retirement has done,
// and nothing that another hand has done. As with publish, verifiers see the key again once that is stored, and
// a lead may count from the end of this step, so it ends with a later attempt.
func (t *turn) restore(ctx context.Context) (rotation.Outcome, error) {
	if t.Closed {
		return rotation.Outcome{}, rotation.ErrNotDone
	}
	key := t.Row.Data.NewKey
	state := rotation.StateActive
	if t.New != nil {
		state = t.New.State
	}
	if state == rotation.StateCompromised || state == rotation.StateDestroyed {
		return rotation.Outcome{}, permanent("rotate forward instead", "%s is %s", key, state)
	}
	back, err := t.kin(ctx, key)
	if err != nil {
		return rotation.Outcome{}, err
	}
	maker := t
	if len(back.regions) > 0 {
		maker = t.at(back.regions[len(back.regions)-1])
	}
	if meta := back.keys[maker.region]; meta == nil || primaryRegion(meta) != "" && primaryRegion(meta) != maker.region {
		return rotation.Outcome{}, permanent("rotate forward instead", "%s is destroyed", key)
	}
	present, err := t.kin(ctx, t.Row.Data.OldKey)
	if err != nil {
		return rotation.Outcome{}, err
	}
	for _, region := range slices.Backward(back.regions) { // the primary key first: while it waits, nothing is replicated
		left := present.keys[region]
		if region != t.region && left != nil && left.KeyState == types.KeyStateDisabled {
			continue // a Region whose present key is disabled stays so
		}
		p := t.at(region)
		if err := p.restoreHere(ctx, back.keys[region], state); err != nil {
			return rotation.Outcome{}, p.here(err)
		}
	}
	change := rotation.GenerationChange{Key: key, State: rotation.StateActive}
	if isMultiRegion(key) {
		// Replicas that are gone, or never were where the present key is, come again.
		_, made, wait, err := t.replicate(ctx, maker)
		if err != nil || wait > 0 {
			return rotation.Outcome{Wait: wait}, err
		}
		change.Regions = made.recordable()
	}
	if state != rotation.StateActive {
		return rotation.Outcome{Generations: []rotation.GenerationChange{change}, Wait: time.Nanosecond}, nil
	}
	// From here on it may sign again, and the test proves that it does before the alias moves back.
	return rotation.Outcome{Note: key + " may sign and encrypt again"}, nil
}

// restoreHere takes back what retirement has done to the key of one Region.
func (t *turn) restoreHere(ctx context.Context, meta *types.KeyMetadata, state rotation.State) error {
	key := meta.Arn
	// The roll back may have come while our own suspension was under way: the key is disabled and nobody recorded it.
	ours := state == rotation.StateSuspended || t.Row.Data.Cut == rotation.StepSuspend && meta.KeyState == types.KeyStateDisabled
	if meta.KeyState == types.KeyStatePendingImport || meta.KeyState != types.KeyStateEnabled && !ours {
		return enabled(meta, "the previous key")
	}
	if isPending(meta) {
		if _, err := t.client.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: key}); err != nil {
			return fmt.Errorf("cancelling the deletion of %s: %w", aws.ToString(key), err)
		}
		meta.KeyState = types.KeyStateDisabled
	}
	if meta.KeyState == types.KeyStateDisabled {
		if _, err := t.client.EnableKey(ctx, &kms.EnableKeyInput{KeyId: key}); err != nil {
			return fmt.Errorf("enabling %s: %w", aws.ToString(key), err)
		}
	}
	if t.Target.Local {
		return nil
	}
	return t.allow(ctx, aws.ToString(key))
}

// unpublish takes alias/x/next away from the key that is given up.
func (t *turn) unpublish(ctx context.Context) (rotation.Outcome, error) {
	if t.Closed {
		return rotation.Outcome{}, rotation.ErrNotDone
	}
	if t.Row.Data.NewKey == "" {
		return rotation.Outcome{Note: "nothing was published"}, nil
	}
	for _, p := range t.following() {
		if err := p.dropNext(ctx); err != nil {
			return rotation.Outcome{}, p.here(err)
		}
	}
	return rotation.Outcome{Note: "nobody is told of " + t.Row.Data.NewKey + " any more"}, nil
}

// discard schedules the deletion of whatever the rotation has made.
func (t *turn) discard(ctx context.Context) (rotation.Outcome, error) {
	if t.Closed {
		return rotation.Outcome{}, rotation.ErrNotDone
	}
	var found []*kin
	if t.Row.Data.NewKey != "" {
		pending, err := t.kin(ctx, t.Row.Data.NewKey)
		if err != nil {
			return rotation.Outcome{}, err
		}
		for _, region := range pending.regions {
			p, meta := t.at(region), pending.keys[region]
			ours, err := p.carriesToken(ctx, aws.ToString(meta.Arn))
			if err != nil {
				return rotation.Outcome{}, p.here(err)
			}
			if !ours && !isPending(meta) {
				return rotation.Outcome{}, p.here(rotation.Drift("delete it by hand if it is not needed, then resume",
					"%s no longer carries the tags of this rotation: another hand has changed them", aws.ToString(meta.Arn)))
			}
		}
		found = append(found, pending)
	}
	if t.note(noteIntent) != "" && (t.Row.Data.NewKey == "" || t.note(noteSwept) == "needed") {
		maker := t.maker()
		more, out, err := maker.search(ctx)
		if err != nil || out != nil {
			return deref(out), err
		}
		for _, meta := range more {
			if aws.ToString(meta.Arn) != maker.Row.Data.NewKey {
				found = append(found, &kin{regions: []string{maker.region}, keys: map[string]*types.KeyMetadata{maker.region: meta}})
			}
		}
	}
	out, removed := rotation.Outcome{Note: "there was no key to remove"}, 0
	for _, k := range found {
		for _, region := range k.regions { // the primary key last
			if err := t.at(region).remove(ctx, k.keys[region]); err != nil {
				return rotation.Outcome{}, t.at(region).here(err)
			}
			removed++
		}
	}
	if removed > 0 {
		out.Note = fmt.Sprintf("the deletion of %d keys that nobody has used is scheduled", removed)
	}
	if len(found) > 0 && t.Row.Data.NewKey != "" && len(found[0].regions) > 0 {
		out.Generations = []rotation.GenerationChange{{Key: t.Row.Data.NewKey, State: rotation.StateDestroyed, Note: "given up before it was used"}}
	}
	return out, nil
}
