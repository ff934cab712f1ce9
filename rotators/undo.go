package rotators

import (
	"context"
	"fmt"
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
	meta, err := t.describe(ctx, key)
	if err != nil {
		return rotation.Outcome{}, err
	}
	if meta == nil {
		return rotation.Outcome{}, permanent("rotate forward instead", "%s is destroyed", key)
	}
	state := rotation.StateActive
	if t.New != nil {
		state = t.New.State
	}
	if state == rotation.StateCompromised || state == rotation.StateDestroyed {
		return rotation.Outcome{}, permanent("rotate forward instead", "%s is %s", key, state)
	}
	// The roll back may have come while our own suspension was under way: the key is disabled and nobody recorded it.
	ours := state == rotation.StateSuspended || t.Row.Data.Cut == rotation.StepSuspend && meta.KeyState == types.KeyStateDisabled
	if meta.KeyState != types.KeyStateEnabled && !ours {
		return rotation.Outcome{}, enabled(meta, "the previous key")
	}
	if meta.KeyState == types.KeyStatePendingDeletion {
		if _, err := t.client.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: &key}); err != nil {
			return rotation.Outcome{}, fmt.Errorf("cancelling the deletion of %s: %w", key, err)
		}
		meta.KeyState = types.KeyStateDisabled
	}
	if meta.KeyState == types.KeyStateDisabled {
		if _, err := t.client.EnableKey(ctx, &kms.EnableKeyInput{KeyId: &key}); err != nil {
			return rotation.Outcome{}, fmt.Errorf("enabling %s: %w", key, err)
		}
	}
	if !t.Target.Local {
		if err := t.allow(ctx, key); err != nil {
			return rotation.Outcome{}, err
		}
	}
	if state != rotation.StateActive {
		return rotation.Outcome{
			Generations: []rotation.GenerationChange{{Key: key, State: rotation.StateActive}}, Wait: time.Nanosecond,
		}, nil
	}
	// From here on it may sign again, and the test proves that it does before the alias moves back.
	return rotation.Outcome{Note: key + " may sign and encrypt again"}, nil
}

// unpublish takes alias/x/next away from the key that is given up.
func (t *turn) unpublish(ctx context.Context) (rotation.Outcome, error) {
	if t.Closed {
		return rotation.Outcome{}, rotation.ErrNotDone
	}
	if t.Row.Data.NewKey == "" {
		return rotation.Outcome{Note: "nothing was published"}, nil
	}
	if err := t.dropNext(ctx); err != nil {
		return rotation.Outcome{}, err
	}
	return rotation.Outcome{Note: "nobody is told of " + t.Row.Data.NewKey + " any more"}, nil
}

// discard schedules the deletion of whatever the rotation has made.
func (t *turn) discard(ctx context.Context) (rotation.Outcome, error) {
	if t.Closed {
		return rotation.Outcome{}, rotation.ErrNotDone
	}
	var found []*types.KeyMetadata
	if t.Row.Data.NewKey != "" {
		meta, err := t.describe(ctx, t.Row.Data.NewKey)
		if err != nil {
			return rotation.Outcome{}, err
		}
		if meta != nil {
			ours, err := t.carriesToken(ctx, aws.ToString(meta.Arn))
			if err != nil {
				return rotation.Outcome{}, err
			}
			if !ours && meta.KeyState != types.KeyStatePendingDeletion {
				return rotation.Outcome{}, rotation.Drift("delete it by hand if it is not needed, then resume",
					"%s no longer carries the tags of this rotation: another hand has changed them", t.Row.Data.NewKey)
			}
			found = append(found, meta)
		}
	}
	if t.note(noteIntent) != "" && (t.Row.Data.NewKey == "" || t.note(noteSwept) == "needed") {
		more, out, err := t.search(ctx)
		if err != nil || out != nil {
			return deref(out), err
		}
		found = append(found, more...)
	}
	out := rotation.Outcome{Note: "there was no key to remove"}
	for _, meta := range found {
		if err := t.remove(ctx, meta); err != nil {
			return rotation.Outcome{}, err
		}
		out.Note = fmt.Sprintf("the deletion of %d keys that nobody has used is scheduled", len(found))
		if arn := aws.ToString(meta.Arn); arn == t.Row.Data.NewKey {
			out.Generations = []rotation.GenerationChange{{Key: arn, State: rotation.StateDestroyed, Note: "given up before it was used"}}
		}
	}
	return out, nil
}
