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

// deactivate lets the old key verify and decrypt only. This server enforces it by the generation's state; in
// an AWS account a deny statement does, when the policy asks for one.
func (t *turn) deactivate(ctx context.Context) (rotation.Outcome, error) {
	if t.Closed {
		return rotation.Outcome{}, rotation.ErrNotDone
	}
	if err := t.tidyNames(ctx); err != nil {
		return rotation.Outcome{}, err
	}
	out := rotation.Outcome{Note: "it may verify and decrypt only"}
	switch {
	case t.Policy.Deactivate == rotation.DeactivateNever:
		out.Note = "the policy lets it go on signing and encrypting for those who name it by id"
	case t.Target.Local:
	case t.Policy.Deactivate == rotation.DeactivateDeny:
		if err := t.deny(ctx, t.Row.Data.OldKey); err != nil {
			return rotation.Outcome{}, err
		}
		out.Note += ": its key policy denies the rest"
	default:
		out.Note += " by agreement: the policy asks for no deny statement, so the account does not enforce it"
	}
	out.Generations = []rotation.GenerationChange{{Key: t.Row.Data.OldKey, State: rotation.StateDeactivated}}
	return t.andSweep(ctx, out)
}

// andSweep ends a step with the search for what a lost answer may have left behind.
func (t *turn) andSweep(ctx context.Context, out rotation.Outcome) (rotation.Outcome, error) {
	again, note, err := t.sweep(ctx)
	if err != nil {
		return rotation.Outcome{}, err
	}
	if again != nil {
		// What the step itself has done is stored now; the search goes on.
		again.Generations = out.Generations
		return *again, nil
	}
	if note != "" {
		out.Note += "; " + note
	}
	return out, nil
}

// deny adds Keyturn's statement to the key policy; allow takes it out again. Both leave every other statement as it is.
func (t *turn) deny(ctx context.Context, key string) error {
	return t.editPolicy(ctx, key, func(d *document) (*document, bool) { return d.deactivate(), !d.deactivated() })
}

func (t *turn) allow(ctx context.Context, key string) error {
	return t.editPolicy(ctx, key, func(d *document) (*document, bool) { return d.without(), d.deactivated() })
}

// editPolicy reads, changes and writes a key policy. PutKeyPolicy replaces the whole document and knows no
// condition, so the policy is read again just before it is written, and afterwards: a change by another hand in
// between is never overwritten without being noticed.
func (t *turn) editPolicy(ctx context.Context, key string, edit func(*document) (*document, bool)) error {
	before, err := t.keyPolicy(ctx, key)
	if err != nil {
		return err
	}
	doc, err := parseDocument(before)
	if err != nil {
		return err
	}
	edited, needed := edit(doc)
	if !needed {
		return nil
	}
	again, err := t.keyPolicy(ctx, key)
	if err != nil {
		return err
	}
	if !samePolicyText(before, again) {
		// Nothing is written: the next attempt begins with what stands there now.
		return fmt.Errorf("the key policy of %s changes under way", key)
	}
	text := edited.String()
	if _, err := t.client.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: &key, PolicyName: aws.String("default"), Policy: &text}); err != nil {
		return fmt.Errorf("writing the key policy of %s: %w", key, err)
	}
	after, err := t.keyPolicy(ctx, key)
	if err != nil {
		return err
	}
	// AWS may still answer the policy of a moment ago.
	if !samePolicyText(after, text) && !samePolicyText(after, before) {
		return rotation.Drift("compare the key policy with what it should be, then resume",
			"the key policy of %s was changed by another hand at the same time", key)
	}
	return nil
}

// suspend disables the old key when nothing alive should need it.
func (t *turn) suspend(ctx context.Context) (rotation.Outcome, error) {
	if t.Closed {
		return rotation.Outcome{}, rotation.ErrNotDone
	}
	key := t.Row.Data.OldKey
	meta, err := t.retired(ctx, key)
	if err != nil {
		return rotation.Outcome{}, err
	}
	change := []rotation.GenerationChange{{Key: key, State: rotation.StateSuspended}}
	if meta == nil {
		return rotation.Outcome{
			Generations: []rotation.GenerationChange{{Key: key, State: rotation.StateDestroyed}},
			Note:        "it is gone already",
		}, nil
	}
	switch meta.KeyState {
	case types.KeyStateDisabled:
		return rotation.Outcome{Generations: change, Note: "it is disabled"}, nil
	case types.KeyStatePendingDeletion:
		// Somebody was faster. To take that back is theirs.
		change[0].DeletionAt = aws.ToTime(meta.DeletionDate)
		return rotation.Outcome{Generations: change, Note: "another hand has scheduled its deletion already"}, nil
	}
	if wait, note, err := t.lastUse(ctx, key); err != nil || wait > 0 {
		return rotation.Outcome{Wait: wait, Note: note}, err
	}
	if _, err := t.client.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &key}); err != nil {
		return rotation.Outcome{}, fmt.Errorf("disabling %s: %w", key, err)
	}
	note := "it is disabled"
	if t.options.Wanted == nil {
		note += "; nobody watches for callers who still want it"
	}
	return rotation.Outcome{Generations: change, Note: note}, nil
}

// retired reads a key that is about to be disabled or deleted and finds that it may be. nil: it is gone.
// This is the one door to everything that takes a key away from its users.
func (t *turn) retired(ctx context.Context, key string) (*types.KeyMetadata, error) {
	meta, err := t.describe(ctx, key)
	if err != nil || meta == nil {
		return nil, err
	}
	if err := t.unneeded(ctx, key); err != nil {
		return nil, err
	}
	tags, err := t.tags(ctx, key)
	if err != nil {
		return nil, err
	}
	adopted := t.Old != nil && t.Old.Made == rotation.MadeAdopted
	switch {
	case adopted && t.Policy.Adopt == rotation.AdoptFull:
	case adopted:
		return nil, permanent(`leave it, or say "adopt: full" in the policy`, "%s was not made by Keyturn", key)
	case tags[tagLineage] != t.lineage():
		return nil, rotation.Drift("put the tag "+tagLineage+"="+t.lineage()+" on it again, then resume",
			"%s no longer carries Keyturn's tags: another hand has removed them", key)
	}
	return meta, nil
}

// readingOperations are uses of a key that need what was made before. Signing and encrypting are not among them: they say
// that somebody made something, not that anybody still needs it.
var readingOperations = map[types.KeyLastUsageTrackingOperation]bool{
	"Verify": true, "VerifyMac": true, "Decrypt": true, "DeriveSharedSecret": true, "Decapsulate": true, "ReEncrypt": true,
}

// quiet is how long nobody may have read with a key before it is disabled, at the most; for short overlaps a
// quarter of the overlap.
const quiet = 24 * time.Hour

// lastUse lengthens the overlap while somebody still verifies or decrypts with the key. It never shortens anything: KMS
// cannot see who verifies with the public key alone, so silence proves nothing.
func (t *turn) lastUse(ctx context.Context, key string) (wait time.Duration, note string, err error) {
	out, err := t.client.GetKeyLastUsage(ctx, &kms.GetKeyLastUsageInput{KeyId: &key})
	if code(err) == "UnknownOperationException" || code(err) == "AccessDeniedException" {
		return 0, "", nil
	}
	if err != nil {
		return 0, "", fmt.Errorf("reading the last use of %s: %w", key, err)
	}
	use := out.KeyLastUsage
	if use == nil || use.Timestamp == nil || !readingOperations[use.Operation] {
		return 0, "", nil
	}
	calm := quiet
	if o := time.Duration(t.Policy.Overlap); o > 0 && o/4 < calm {
		calm = o / 4
	}
	if left := use.Timestamp.Add(calm).Sub(t.Now); left > 0 {
		return min(left, calm), fmt.Sprintf("it is still used (%s at %s): the overlap lasts longer", use.Operation, use.Timestamp.UTC().Format(time.RFC3339)), nil
	}
	return 0, "", nil
}

// watch looks for callers who still want the disabled key. When there are any it gives the key back and asks a person.
func (t *turn) watch(ctx context.Context) (rotation.Outcome, error) {
	if t.Closed {
		return rotation.Outcome{}, rotation.ErrNotDone
	}
	key := t.Row.Data.OldKey
	since := t.Row.Data.DoneAt[rotation.StepSuspend]
	meta, err := t.describe(ctx, key)
	if err != nil {
		return rotation.Outcome{}, err
	}
	if meta == nil || meta.KeyState == types.KeyStatePendingDeletion {
		return rotation.Outcome{Note: "its deletion has been scheduled by another hand: there is nothing to watch"}, nil
	}
	back := []rotation.GenerationChange{{Key: key, State: rotation.StateDeactivated}}
	if meta.KeyState == types.KeyStateEnabled {
		return rotation.Outcome{
			Generations: back,
			Person:      key + " was enabled again by another hand",
			Hint:        "find out who needs it; resume to disable it again",
			Back:        rotation.StepSuspend,
		}, nil
	}
	if t.options.Wanted != nil {
		demand, err := t.options.Wanted(ctx, t.Target, key, since)
		if err != nil {
			return rotation.Outcome{}, fmt.Errorf("asking who wants %s: %w", key, err)
		}
		if demand.Calls > 0 {
			if _, err := t.client.EnableKey(ctx, &kms.EnableKeyInput{KeyId: &key}); err != nil {
				return rotation.Outcome{}, fmt.Errorf("enabling %s again: %w", key, err)
			}
			return rotation.Outcome{
				Generations: back,
				Person:      fmt.Sprintf("%s was wanted %d times while it was disabled%s and is enabled again", key, demand.Calls, demand.by()),
				Hint:        "move those callers to " + t.Policy.Alias + "; resume to disable it again",
				Back:        rotation.StepSuspend,
			}, nil
		}
	}
	left := since.Add(time.Duration(t.Policy.Suspend)).Sub(t.Now)
	if left <= 0 {
		return rotation.Outcome{Note: "nobody missed it"}, nil
	}
	if t.options.Wanted != nil {
		left = min(left, max(time.Duration(t.Policy.Suspend)/20, time.Second))
	}
	return rotation.Outcome{Wait: left}, nil
}

func (d Demand) by() string {
	if d.By == "" {
		return ""
	}
	return ", last by " + d.By + " at " + d.Last.UTC().Format(time.RFC3339)
}

// destroy schedules the deletion of the old key. The history keeps its public half.
func (t *turn) destroy(ctx context.Context) (rotation.Outcome, error) {
	if t.Closed {
		return rotation.Outcome{}, rotation.ErrNotDone
	}
	key := t.Row.Data.OldKey
	rule := t.Policy.Destroy
	if rule == nil {
		return rotation.Outcome{}, permanent("say destroy in the policy", "the policy does not ask for the destruction of %s", key)
	}
	meta, err := t.retired(ctx, key)
	if err != nil {
		return rotation.Outcome{}, err
	}
	if meta == nil {
		return rotation.Outcome{Generations: []rotation.GenerationChange{{Key: key, State: rotation.StateDestroyed}}, Note: "it is gone already"}, nil
	}
	if meta.KeyUsage == types.KeyUsageTypeEncryptDecrypt && !rule.Reencrypted {
		return rotation.Outcome{}, permanent("say destroy.reencrypted in the policy when nothing is encrypted with it any more",
			"%s is an encryption key", key)
	}
	if hasPublicHalf(meta) && (t.Old == nil || len(t.Old.Public) == 0) {
		return rotation.Outcome{}, permanent("roll nothing further: report this", "the history does not hold the public half of %s", key)
	}
	switch meta.KeyState {
	case types.KeyStatePendingDeletion:
		return t.destroying(meta.DeletionDate), nil
	case types.KeyStateDisabled:
	default:
		return rotation.Outcome{
			Generations: []rotation.GenerationChange{{Key: key, State: rotation.StateDeactivated}},
			Person:      fmt.Sprintf("%s is %s again: another hand did that", key, meta.KeyState),
			Hint:        "find out who needs it; resume to disable it again",
			Back:        rotation.StepSuspend,
		}, nil
	}
	days := int32(time.Duration(rule.PendingWindow) / (24 * time.Hour))
	out, err := t.client.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &key, PendingWindowInDays: &days})
	if err != nil {
		return rotation.Outcome{}, fmt.Errorf("scheduling the deletion of %s: %w", key, err)
	}
	return t.destroying(out.DeletionDate), nil
}

func (t *turn) destroying(at *time.Time) rotation.Outcome {
	return rotation.Outcome{
		Generations: []rotation.GenerationChange{{Key: t.Row.Data.OldKey, State: rotation.StateSuspended, DeletionAt: aws.ToTime(at)}},
		Note:        "it is deleted at " + aws.ToTime(at).UTC().Format(time.RFC3339) + "; until then the deletion can be cancelled",
	}
}

// confirm sees that the key is gone.
func (t *turn) confirm(ctx context.Context) (rotation.Outcome, error) {
	if t.Closed {
		return rotation.Outcome{}, rotation.ErrNotDone
	}
	key := t.Row.Data.OldKey
	meta, err := t.describe(ctx, key)
	if err != nil {
		return rotation.Outcome{}, err
	}
	switch {
	case meta == nil:
		return rotation.Outcome{Generations: []rotation.GenerationChange{{Key: key, State: rotation.StateDestroyed}}, Note: "it is gone"}, nil
	case meta.KeyState == types.KeyStatePendingDeletion:
		// AWS deletes up to a day late.
		wait := min(max(aws.ToTime(meta.DeletionDate).Sub(t.Now), time.Minute), 24*time.Hour)
		return rotation.Outcome{Wait: wait}, nil
	}
	return rotation.Outcome{
		Generations: []rotation.GenerationChange{{Key: key, State: rotation.StateSuspended}},
		Person:      fmt.Sprintf("the deletion of %s was cancelled by another hand: it is %s", key, meta.KeyState),
		Hint:        "find out who needs it; resume to schedule its deletion again",
		Back:        rotation.StepDestroy,
	}, nil
}

// revoke disables a compromised key and says what is known of its use. A person named this very key, so it is disabled
// whether Keyturn made it or not; it is not deleted: what it protected may have to be read once more.
func (t *turn) revoke(ctx context.Context) (rotation.Outcome, error) {
	if t.Closed {
		return rotation.Outcome{}, rotation.ErrNotDone
	}
	key := t.Row.Data.OldKey
	change := []rotation.GenerationChange{{Key: key, State: rotation.StateCompromised}}
	now, err := t.describe(ctx, t.Policy.Alias)
	if err != nil {
		return rotation.Outcome{}, err
	}
	if now != nil && aws.ToString(now.Arn) == key {
		return rotation.Outcome{}, rotation.Drift("let the alias name another key, then resume",
			"%s names the compromised %s again: to disable it would be an outage", t.Policy.Alias, key)
	}
	if t.Row.Data.NewKey != "" {
		if err := t.tidyNames(ctx); err != nil {
			return rotation.Outcome{}, err
		}
	}
	meta, err := t.describe(ctx, key)
	if err != nil {
		return rotation.Outcome{}, err
	}
	if meta == nil || meta.KeyState == types.KeyStatePendingDeletion {
		return t.andSweep(ctx, rotation.Outcome{Generations: change, Note: "it is gone or about to be deleted"})
	}
	use := t.saysLastUse(ctx, key)
	if meta.KeyState != types.KeyStateDisabled {
		if _, err := t.client.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &key}); err != nil {
			return rotation.Outcome{}, fmt.Errorf("disabling %s: %w", key, err)
		}
	}
	return t.andSweep(ctx, rotation.Outcome{Generations: change, Note: "it is disabled; " + use})
}

// saysLastUse words the last use of a key for the history. Not to know it is no reason to leave a compromised key enabled.
func (t *turn) saysLastUse(ctx context.Context, key string) string {
	out, err := t.client.GetKeyLastUsage(ctx, &kms.GetKeyLastUsageInput{KeyId: &key})
	switch {
	case err != nil:
		return "its last use is unknown: the audit log names every use"
	case out.KeyLastUsage == nil || out.KeyLastUsage.Timestamp == nil:
		return "no use of it is known"
	}
	return fmt.Sprintf("its last use was %s at %s; the audit log names every use", out.KeyLastUsage.Operation,
		strings.TrimSpace(out.KeyLastUsage.Timestamp.UTC().Format(time.RFC3339)))
}
