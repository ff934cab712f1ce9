package rotators

import (
	"context"
	"fmt"
	"slices"
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
	for _, p := range t.following() {
		if err := p.tidyNames(ctx); err != nil {
			return rotation.Outcome{}, p.here(err)
		}
	}
	out := rotation.Outcome{Note: "it may verify and decrypt only"}
	switch {
	case t.Policy.Deactivate == rotation.DeactivateNever:
		out.Note = "the policy lets it go on signing and encrypting for those who name it by id"
	case t.Target.Local:
	case t.Policy.Deactivate == rotation.DeactivateDeny:
		old, err := t.kin(ctx, t.Row.Data.OldKey)
		if err != nil {
			return rotation.Outcome{}, err
		}
		for _, region := range old.regions {
			p := t.at(region)
			if err := p.deny(ctx, p.Row.Data.OldKey); err != nil {
				return rotation.Outcome{}, p.here(err)
			}
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

// suspend disables the old key when nothing alive should need it, in every Region or in none: each is looked at before
// the first is disabled.
func (t *turn) suspend(ctx context.Context) (rotation.Outcome, error) {
	if t.Closed {
		return rotation.Outcome{}, rotation.ErrNotDone
	}
	key := t.Row.Data.OldKey
	old, err := t.retired(ctx, key)
	if err != nil {
		return rotation.Outcome{}, err
	}
	if len(old.regions) == 0 {
		return rotation.Outcome{
			Generations: []rotation.GenerationChange{{Key: key, State: rotation.StateDestroyed}},
			Note:        "it is gone already",
		}, nil
	}
	change := rotation.GenerationChange{Key: key, State: rotation.StateSuspended}
	done := []string{}
	switch pending := old.among(types.KeyStatePendingDeletion, types.KeyStatePendingReplicaDeletion); {
	case len(pending) == len(old.regions):
		// Somebody was faster. To take that back is theirs.
		change.DeletionAt = old.deletionAt()
		return rotation.Outcome{Generations: []rotation.GenerationChange{change}, Note: "another hand has scheduled its deletion already"}, nil
	case len(pending) > 0:
		done = append(done, "another hand has scheduled its deletion in "+strings.Join(pending, ", "))
	}
	use := slices.DeleteFunc(old.living(), func(region string) bool { return isOff(old.keys[region]) })
	for _, region := range use {
		p := t.at(region)
		if wait, note, err := p.lastUse(ctx, p.Row.Data.OldKey); err != nil || wait > 0 {
			return rotation.Outcome{Wait: wait, Note: note}, p.here(err)
		}
	}
	for _, region := range use {
		if err := t.at(region).disable(ctx); err != nil {
			return rotation.Outcome{}, err
		}
	}
	note := old.off(t.region)
	if t.options.Wanted == nil && len(use) > 0 {
		note += "; nobody watches for callers who still want it"
	}
	return rotation.Outcome{Generations: []rotation.GenerationChange{change}, Note: strings.Join(append([]string{note}, done...), "; ")}, nil
}

// isOff reports whether nobody can use a key: it is disabled, or has lost its imported material and so cannot be disabled.
func isOff(meta *types.KeyMetadata) bool {
	return meta.KeyState == types.KeyStateDisabled || meta.KeyState == types.KeyStatePendingImport
}

// off says in which way nobody can use a generation any more.
func (k *kin) off(home string) string {
	if len(k.among(types.KeyStatePendingImport)) > 0 {
		return "its imported material is gone, so nobody can use it; were it imported again, the key would be enabled"
	}
	return "it is disabled" + k.elsewhere(home)
}

// disable disables the old key in t's Region.
func (t *turn) disable(ctx context.Context) error {
	if _, err := t.client.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &t.Row.Data.OldKey}); err != nil {
		return t.here(fmt.Errorf("disabling %s: %w", t.Row.Data.OldKey, err))
	}
	return nil
}

// elsewhere names the other Regions of a generation.
func (k *kin) elsewhere(home string) string {
	if others := slices.DeleteFunc(slices.Clone(k.regions), func(r string) bool { return r == home }); len(others) > 0 {
		return ", and so in " + strings.Join(others, ", ")
	}
	return ""
}

// deletionAt is when the last key of a generation that waits for its deletion goes; zero: not known. The waiting period
// of a primary key begins only when its replicas are gone.
func (k *kin) deletionAt() (at time.Time) {
	for _, region := range k.regions {
		if date := aws.ToTime(k.keys[region].DeletionDate); date.After(at) {
			at = date
		}
	}
	for _, meta := range k.keys {
		if meta.KeyState == types.KeyStatePendingReplicaDeletion && !at.IsZero() {
			at = at.Add(time.Duration(aws.ToInt32(meta.PendingDeletionWindowInDays)) * 24 * time.Hour)
		}
	}
	return at
}

// retired reads a key, in all its Regions, that is about to be disabled or deleted and finds that it may be. Where it is
// nowhere, it is gone. This is the one door to everything that takes a key away from its users.
func (t *turn) retired(ctx context.Context, key string) (*kin, error) {
	old, err := t.kin(ctx, key)
	if err != nil {
		return nil, err
	}
	for _, region := range old.regions {
		p := t.at(region)
		if err := p.retiredHere(ctx, inRegion(key, region)); err != nil {
			return nil, p.here(err)
		}
	}
	return old, nil
}

func (t *turn) retiredHere(ctx context.Context, key string) error {
	if err := t.unneeded(ctx, key); err != nil {
		return err
	}
	tags, err := t.tags(ctx, key)
	if err != nil {
		return err
	}
	adopted := t.Old != nil && t.Old.Made == rotation.MadeAdopted
	switch {
	case adopted && t.Policy.Adopt == rotation.AdoptFull:
	case adopted:
		return permanent(`leave it, or say "adopt: full" in the policy`, "%s was not made by Keyturn", key)
	case tags[tagLineage] != t.lineage():
		return rotation.Drift("put the tag "+tagLineage+"="+t.lineage()+" on it again, then resume",
			"%s does not carry Keyturn's tags: another hand has removed them, or made it", key)
	}
	return nil
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
	old, err := t.kin(ctx, key)
	if err != nil {
		return rotation.Outcome{}, err
	}
	if len(old.living()) == 0 {
		return rotation.Outcome{Note: "its deletion has been scheduled by another hand: there is nothing to watch"}, nil
	}
	back := rotation.Outcome{Generations: []rotation.GenerationChange{{Key: key, State: rotation.StateDeactivated}}, Back: rotation.StepSuspend}
	if enabled := old.among(types.KeyStateEnabled); len(enabled) > 0 {
		// Or we have, and died before that was stored: then the other Regions lack it still.
		if err := t.giveBack(ctx, old, ""); err != nil {
			return rotation.Outcome{}, err
		}
		back.Person = t.at(enabled[0]).named(key) + " was enabled again by another hand"
		back.Hint = "find out who needs it; resume to disable it again"
		return back, nil
	}
	if t.options.Wanted == nil {
		return t.watched(since), nil
	}
	for _, region := range old.living() {
		p := t.at(region)
		demand, err := t.options.Wanted(ctx, p.Target, p.Row.Data.OldKey, since)
		if err != nil {
			return rotation.Outcome{}, fmt.Errorf("asking who wants %s: %w", p.Row.Data.OldKey, err)
		}
		if demand.Calls > 0 {
			if err := t.giveBack(ctx, old, region); err != nil {
				return rotation.Outcome{}, err
			}
			back.Person = fmt.Sprintf("%s was wanted %d times while it was disabled%s and is enabled again", p.named(key), demand.Calls, demand.by())
			back.Hint = "move those callers to " + t.Policy.Alias + "; resume to disable it again"
			if old.keys[region].KeyState == types.KeyStatePendingImport {
				back.Person = fmt.Sprintf("%s was wanted %d times%s, and its imported material is gone", p.named(key), demand.Calls, demand.by())
				back.Hint = "import its material again, or move those callers to " + t.Policy.Alias + "; then resume"
			}
			return back, nil
		}
	}
	return t.watched(since), nil
}

// watched says how long the watch still lasts.
func (t *turn) watched(since time.Time) rotation.Outcome {
	left := since.Add(time.Duration(t.Policy.Suspend)).Sub(t.Now)
	if left <= 0 {
		return rotation.Outcome{Note: "nobody missed it"}
	}
	if t.options.Wanted != nil {
		left = min(left, max(time.Duration(t.Policy.Suspend)/20, time.Second))
	}
	return rotation.Outcome{Wait: left}
}

// giveBack enables the old key again, first where it is wanted, but not where the present key is disabled too.
func (t *turn) giveBack(ctx context.Context, old *kin, first string) error {
	regions := old.among(types.KeyStateDisabled)
	slices.SortStableFunc(regions, func(a, b string) int {
		switch first {
		case a:
			return -1
		case b:
			return 1
		}
		return 0
	})
	for _, region := range regions {
		p := t.at(region)
		if region != first && !p.atHome() {
			present, err := p.describe(ctx, p.Row.Data.NewKey)
			if err != nil {
				return p.here(err)
			}
			if present != nil && present.KeyState == types.KeyStateDisabled {
				continue
			}
		}
		if _, err := p.client.EnableKey(ctx, &kms.EnableKeyInput{KeyId: &p.Row.Data.OldKey}); err != nil {
			return p.here(fmt.Errorf("enabling %s again: %w", p.Row.Data.OldKey, err))
		}
	}
	return nil
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
	old, err := t.retired(ctx, key)
	if err != nil {
		return rotation.Outcome{}, err
	}
	if len(old.regions) == 0 {
		return rotation.Outcome{Generations: []rotation.GenerationChange{{Key: key, State: rotation.StateDestroyed}}, Note: "it is gone already"}, nil
	}
	for _, region := range old.regions {
		switch meta := old.keys[region]; {
		case meta.KeyUsage == types.KeyUsageTypeEncryptDecrypt && !rule.Reencrypted:
			return rotation.Outcome{}, permanent("say destroy.reencrypted in the policy when nothing is encrypted with it any more",
				"%s is an encryption key", key)
		case hasPublicHalf(meta) && (t.Old == nil || len(t.Old.Public) == 0):
			return rotation.Outcome{}, permanent("roll nothing further: report this", "the history does not hold the public half of %s", key)
		case !isOff(meta) && !isPending(meta):
			return rotation.Outcome{
				Generations: []rotation.GenerationChange{{Key: key, State: rotation.StateDeactivated}},
				Person:      fmt.Sprintf("%s is %s again: another hand did that", t.at(region).named(key), meta.KeyState),
				Hint:        "find out who needs it; resume to disable it again",
				Back:        rotation.StepSuspend,
			}, nil
		}
	}
	days := int32(time.Duration(rule.PendingWindow) / (24 * time.Hour))
	for _, region := range old.regions { // the primary key last: it waits for its replicas
		p, meta := t.at(region), old.keys[region]
		if isPending(meta) {
			continue
		}
		out, err := p.client.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: meta.Arn, PendingWindowInDays: &days})
		if err != nil {
			return rotation.Outcome{}, p.here(fmt.Errorf("scheduling the deletion of %s: %w", key, err))
		}
		meta.KeyState, meta.DeletionDate, meta.PendingDeletionWindowInDays = out.KeyState, out.DeletionDate, out.PendingWindowInDays
	}
	at := old.deletionAt()
	return rotation.Outcome{
		Generations: []rotation.GenerationChange{{Key: key, State: rotation.StateSuspended, DeletionAt: at}},
		Note:        "it is deleted at " + at.UTC().Format(time.RFC3339) + old.elsewhere(t.region) + "; until then the deletion can be cancelled",
	}, nil
}

// confirm sees that the key is gone.
func (t *turn) confirm(ctx context.Context) (rotation.Outcome, error) {
	if t.Closed {
		return rotation.Outcome{}, rotation.ErrNotDone
	}
	key := t.Row.Data.OldKey
	old, err := t.kin(ctx, key)
	if err != nil {
		return rotation.Outcome{}, err
	}
	if len(old.regions) == 0 {
		return rotation.Outcome{Generations: []rotation.GenerationChange{{Key: key, State: rotation.StateDestroyed}}, Note: "it is gone"}, nil
	}
	if kept := old.living(); len(kept) > 0 {
		return rotation.Outcome{
			Generations: []rotation.GenerationChange{{Key: key, State: rotation.StateSuspended}},
			Person:      fmt.Sprintf("the deletion of %s was cancelled by another hand: it is %s", t.at(kept[0]).named(key), old.keys[kept[0]].KeyState),
			Hint:        "find out who needs it; resume to schedule its deletion again",
			Back:        rotation.StepDestroy,
		}, nil
	}
	// AWS deletes up to a day late.
	return rotation.Outcome{Wait: min(max(old.deletionAt().Sub(t.Now), time.Minute), 24*time.Hour)}, nil
}

// revoke disables a compromised key and says what is known of its use. A person named this very key, so it is disabled
// whether Keyturn made it or not; it is not deleted: what it protected may have to be read once more.
func (t *turn) revoke(ctx context.Context) (rotation.Outcome, error) {
	if t.Closed {
		return rotation.Outcome{}, rotation.ErrNotDone
	}
	key := t.Row.Data.OldKey
	change := []rotation.GenerationChange{{Key: key, State: rotation.StateCompromised}}
	places := t.following()
	found, err := pointing(ctx, places)
	if err != nil {
		return rotation.Outcome{}, err
	}
	for i, p := range places {
		if found[i] == p.Row.Data.OldKey {
			return rotation.Outcome{}, rotation.Drift("let the alias name another key, then resume",
				"%s names the compromised %s again: to disable it would be an outage", p.named(t.Policy.Alias), found[i])
		}
	}
	if t.Row.Data.NewKey != "" {
		for _, p := range places {
			if err := p.tidyNames(ctx); err != nil {
				return rotation.Outcome{}, p.here(err)
			}
		}
	}
	old, err := t.kin(ctx, key)
	if err != nil {
		return rotation.Outcome{}, err
	}
	if len(old.living()) == 0 {
		return t.andSweep(ctx, rotation.Outcome{Generations: change, Note: "it is gone or about to be deleted"})
	}
	var use []string
	for _, region := range old.living() {
		p := t.at(region)
		use = append(use, p.named(p.saysLastUse(ctx, p.Row.Data.OldKey)))
		if isOff(old.keys[region]) {
			continue
		}
		if err := p.disable(ctx); err != nil {
			return rotation.Outcome{}, err
		}
	}
	return t.andSweep(ctx, rotation.Outcome{Generations: change, Note: old.off(t.region) + "; " + strings.Join(use, "; ")})
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
