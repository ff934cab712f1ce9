package rotators

import (
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

// Notes of a rotation that this rotator keeps in its row.
const (
	// noteIntent is the claim after which CreateKey may be called once.
	noteIntent = "intent"
	// noteSearch is how far a search for keys by their tag has come: "CLAIM ROUND|MARKER|ARN,ARN".
	noteSearch = "search"
	// noteSwept is "needed" when an answer of CreateKey may have been lost: surplus keys are looked for once more.
	noteSwept = "swept"
)

func (t *turn) note(name string) string { return t.Row.Data.Notes[name] }

// claim names the present claim of the row: each claim and each stored result raises Gen by one.
func (t *turn) claim() string { return t.Row.ID + " " + strconv.FormatInt(t.Row.Gen, 10) }

// mark reports whether the note was stored by the claim just before this one. Then nobody has done anything for the
// rotation in between: a crash, a failure, a resume or another row that took over would each have raised Gen further.
func (t *turn) mark(note string) bool {
	stored, _, _ := strings.Cut(t.note(note), "|")
	return stored == t.Row.ID+" "+strconv.FormatInt(t.Row.Gen-2, 10)
}

// recover looks for a key that an earlier attempt may have made. It returns either the outcome of the step
// (found; or search on) or, when there is none, a new intent.
func (t *turn) recover(ctx context.Context) (rotation.Outcome, error) {
	found, out, err := t.maker().search(ctx)
	if err != nil || out != nil {
		return deref(out), err
	}
	if len(found) == 0 {
		if t.Closed {
			return rotation.Outcome{}, rotation.ErrNotDone
		}
		again := t.intend()
		again.Data.Notes[noteSwept] = "needed"
		return again, nil
	}
	slices.SortFunc(found, func(a, b *types.KeyMetadata) int {
		return aws.ToTime(a.CreationDate).Compare(aws.ToTime(b.CreationDate))
	})
	// The oldest is kept; the row has named none of them, so none was ever published. The sweep removes the others.
	keep := found[0]
	adopted := t.made(keep)
	if adopted.Data.Notes == nil {
		adopted.Data.Notes = map[string]string{}
	}
	adopted.Data.Notes[noteSearch], adopted.Data.Notes[noteSwept] = "", "needed"
	adopted.Note = fmt.Sprintf("found %s again, which an earlier attempt had made", aws.ToString(keep.Arn))
	return adopted, nil
}

func deref(out *rotation.Outcome) rotation.Outcome {
	if out == nil {
		return rotation.Outcome{}
	}
	return *out
}

// search looks for the keys that carry this rotation's token and still live. out is not nil when it must be called
// again.
func (t *turn) search(ctx context.Context) (found []*types.KeyMetadata, out *rotation.Outcome, err error) {
	var arns []string
	if t.Target.Local && t.options.Tagged != nil {
		arns, err = t.lookUp(ctx)
	} else {
		arns, out, err = t.page(ctx)
	}
	if err != nil || out != nil {
		return nil, out, err
	}
	for _, arn := range arns {
		meta, err := t.describe(ctx, arn)
		if err != nil {
			return nil, nil, err
		}
		if meta != nil && !isPending(meta) {
			found = append(found, meta)
		}
	}
	return found, nil, nil
}

// lookUp asks the server itself for the keys with this rotation's token. The answer only says where to look: the
// tags are read through the same door as ever.
func (t *turn) lookUp(ctx context.Context) (arns []string, err error) {
	tagged, err := t.options.Tagged(ctx, t.Target, tagRotation, t.Row.Token)
	if err != nil {
		return nil, fmt.Errorf("looking for a key of an earlier attempt: %w", err)
	}
	for _, arn := range tagged {
		ours, err := t.carriesToken(ctx, arn)
		if err != nil {
			return nil, err
		}
		if ours {
			arns = append(arns, arn)
		}
	}
	return arns, nil
}

// page reads the tags of all keys, one page of keys a call, because an account can hold 100,000 and a lease does not
// last that long. ListKeys has no order that would allow it to stop early.
func (t *turn) page(ctx context.Context) (arns []string, out *rotation.Outcome, err error) {
	var marker *string
	if _, rest, ok := strings.Cut(t.note(noteSearch), "|"); ok && t.mark(noteSearch) {
		m, list, _ := strings.Cut(rest, "|")
		marker = &m
		if list != "" {
			arns = strings.Split(list, ",")
		}
	}
	// The tags of a page must be read within a lease, also at another Keyturn, where each read waits for
	// the audit log's disk.
	size := int32(100)
	page, err := t.client.ListKeys(ctx, &kms.ListKeysInput{Limit: &size, Marker: marker})
	if err != nil {
		return nil, nil, fmt.Errorf("looking for a key of an earlier attempt: %w", err)
	}
	for _, k := range page.Keys {
		ours, err := t.carriesToken(ctx, aws.ToString(k.KeyArn))
		if err != nil {
			return nil, nil, err
		}
		if ours {
			arns = append(arns, aws.ToString(k.KeyArn))
		}
	}
	if page.Truncated {
		note := t.claim() + "|" + aws.ToString(page.NextMarker) + "|" + strings.Join(arns, ",")
		return nil, &rotation.Outcome{
			Data: rotation.Data{Notes: map[string]string{noteSearch: note}}, Wait: time.Nanosecond,
		}, nil
	}
	return arns, nil, nil
}

// carriesToken reports whether this rotation made the key. Keys whose tags the rotator may not read are not its own:
// the policy it gives its keys is that of the present key, whose tags it can read.
func (t *turn) carriesToken(ctx context.Context, arn string) (bool, error) {
	tags, err := t.tags(ctx, arn)
	switch c := code(err); {
	case c == "AccessDeniedException" || c == "NotFoundException" || c == "KMSInvalidStateException":
		return false, nil
	case err != nil:
		return false, err
	}
	return tags[tagRotation] == t.Row.Token && tags[tagLineage] == t.lineage(), nil
}

// sweep removes what a lost answer of CreateKey may have left behind after the search that found nothing: a call
// that was under way when its engine gave up can still be applied a little later. It runs once, after the new key
// has taken over, and only when an answer was ever in doubt. out is not nil when it must be called again.
func (t *turn) sweep(ctx context.Context) (out *rotation.Outcome, note string, err error) {
	if t.note(noteSwept) != "needed" || t.Closed {
		return nil, "", nil
	}
	if !t.Target.Local {
		if left := settling - t.Now.Sub(t.Row.Data.DoneAt[rotation.StepCreate]); left > 0 && left <= settling {
			return &rotation.Outcome{Wait: left, Note: "waiting to see whether a lost call made another key"}, "", nil
		}
	}
	maker := t.maker()
	found, out, err := maker.search(ctx)
	if err != nil || out != nil {
		return out, "", err
	}
	removed := 0
	for _, meta := range found {
		if aws.ToString(meta.Arn) == maker.Row.Data.NewKey {
			continue
		}
		// It was never replicated: no row has named it.
		if err := maker.remove(ctx, meta); err != nil {
			return nil, "", err
		}
		removed++
	}
	if removed == 0 {
		return nil, "", nil
	}
	return nil, fmt.Sprintf("%d surplus keys of lost answers scheduled for deletion", removed), nil
}

// remove schedules the deletion of a key that this rotation made and nobody has used. It refuses a key that the
// lineage's alias names, or any alias that is not Keyturn's.
func (t *turn) remove(ctx context.Context, meta *types.KeyMetadata) error {
	arn := aws.ToString(meta.Arn)
	if isPending(meta) {
		return nil
	}
	if err := t.unneeded(ctx, arn); err != nil {
		return err
	}
	days := int32(shortestDeletion / (24 * time.Hour))
	_, err := t.client.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &arn, PendingWindowInDays: &days})
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("scheduling the deletion of %s: %w", arn, err)
	}
	return nil
}

// shortestDeletion is the least that KMS waits before it deletes. A key that has never signed needs no more.
const shortestDeletion = 7 * 24 * time.Hour

// unneeded answers drift when an alias that is not one of Keyturn's own side names points at the key.
func (t *turn) unneeded(ctx context.Context, arn string) error {
	names, err := t.aliases(ctx, arn)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == t.Policy.Alias || !t.ourSideName(name) {
			return rotation.Drift("let "+name+" name another key, then resume",
				"%s names %s, so it is neither disabled nor deleted", t.named(name), arn)
		}
	}
	return nil
}

// ourSideName reports whether a name is alias/x/next, alias/x/previous or alias/x/vN.
func (t *turn) ourSideName(name string) bool {
	rest, ok := strings.CutPrefix(name, t.Policy.Alias+"/")
	if !ok {
		return false
	}
	if rest == "next" || rest == "previous" {
		return true
	}
	digits, ok := strings.CutPrefix(rest, "v")
	n, err := strconv.Atoi(digits)
	return ok && err == nil && n > 0 && strconv.Itoa(n) == digits
}
