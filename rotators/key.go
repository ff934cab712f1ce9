package rotators

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/keyturn/keyturn/rotation"
)

// KeyOptions is what the key rotator cannot learn through the KMS API.
type KeyOptions struct {
	// Wanted tells whether somebody has asked for a disabled key since the given time and was turned away. The KMS
	// API cannot tell. Nil: nobody watches, and the history says so.
	Wanted func(ctx context.Context, target rotation.Target, keyARN string, since time.Time) (Demand, error)
	// Tagged answers the ARNs of all keys of a local target's account and Region that carry a tag: what would
	// take the KMS API a call for every key there is. Nil: that is what is done, as at any other target.
	Tagged func(ctx context.Context, target rotation.Target, key, value string) ([]string, error)
}

// Demand is what callers asked of a key that no longer answers.
type Demand struct {
	Calls int       // how many were turned away
	Last  time.Time // the last of them
	By    string    // who, as far as is known: an ARN
}

// NewKey returns the rotator of key lineages: KMS keys of any spec and usage behind an alias. It is safe for
// concurrent use; rotations of the same target share one rate limiter.
func NewKey(o KeyOptions) rotation.Rotator {
	return &keyRotator{options: o}
}

type keyRotator struct {
	options  KeyOptions
	limiters limiters
}

// Steps implements rotation.Rotator.
func (r *keyRotator) Steps(row *rotation.Row, p *rotation.Policy) []rotation.StepDef {
	return rotation.KeySteps(row, p)
}

// Do implements rotation.Rotator.
func (r *keyRotator) Do(ctx context.Context, job *rotation.Job) (rotation.Outcome, error) {
	do, ok := keySteps[job.Row.Step]
	if !ok {
		return rotation.Outcome{}, permanent("run the version of Keyturn that began this rotation", "a key has no step %q", job.Row.Step)
	}
	out, err := do(r.turn(job, ""), ctx)
	if err != nil {
		return rotation.Outcome{}, classify(fmt.Errorf("%s: %w", job.Row.Step, err))
	}
	return out, nil
}

var keySteps = map[rotation.Step]func(*turn, context.Context) (rotation.Outcome, error){
	rotation.StepInspect:    (*turn).inspect,
	rotation.StepCreate:     (*turn).create,
	rotation.StepPublish:    (*turn).publish,
	rotation.StepTest:       (*turn).test,
	rotation.StepSwitch:     (*turn).switchAlias,
	rotation.StepDeactivate: (*turn).deactivate,
	rotation.StepSuspend:    (*turn).suspend,
	rotation.StepWatch:      (*turn).watch,
	rotation.StepDestroy:    (*turn).destroy,
	rotation.StepConfirm:    (*turn).confirm,
	rotation.StepRestore:    (*turn).restore,
	rotation.StepRevoke:     (*turn).revoke,
	rotation.StepUnpublish:  (*turn).unpublish,
	rotation.StepDiscard:    (*turn).discard,
}

// turn is one step of one rotation at its target, in one Region.
type turn struct {
	*rotation.Job
	rotator *keyRotator
	options *KeyOptions
	region  string
	client  *kms.Client
}

// turn looks at a job in a Region; empty: in the policy's.
func (r *keyRotator) turn(job *rotation.Job, region string) *turn {
	client := kms.NewFromConfig(job.Target.Config, func(o *kms.Options) {
		// A retry inside the SDK would repeat a CreateKey whose answer was lost. The engine retries, and
		// each step looks first what the last attempt has done.
		o.Retryer = aws.NopRetryer{}
		if job.Target.Local {
			// The server serves every Region; the lineage's decides where its keys live.
			o.Region = cmp.Or(region, job.Policy.Region)
			return
		}
		o.APIOptions = append(o.APIOptions, r.limiters.get(job.Target.Account+"/"+o.Region+"/"+job.Target.Name).add)
	})
	return &turn{Job: job, rotator: r, options: &r.options, region: cmp.Or(region, job.Policy.Region), client: client}
}

// Tags that Keyturn puts on the keys it makes, in the CreateKey call itself: no key of ours ever exists without them.
const (
	tagPrefix     = "keyturn:"
	tagRotation   = "keyturn:rotation"   // the token of the rotation that made it
	tagLineage    = "keyturn:lineage"    // the ARN of the alias it was made for
	tagGeneration = "keyturn:generation" // its number, as far as it was known when it was made
)

const settling = 5 * time.Minute // how long AWS may answer NotFound for a key it has just made

func (t *turn) lineage() string { return t.Policy.AliasARN() }

// side is the name of an alias that stands beside the lineage's: alias/x/next.
func (t *turn) side(name string) string { return t.Policy.Alias + "/" + name }

// describe reads a key by ARN or alias name. A missing one is nil without an error.
func (t *turn) describe(ctx context.Context, id string) (*types.KeyMetadata, error) {
	out, err := t.client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &id})
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("describing %s: %w", id, err)
	}
	return out.KeyMetadata, nil
}

// current reads what the lineage's alias names now.
func (t *turn) current(ctx context.Context) (*types.KeyMetadata, error) {
	meta, err := t.describe(ctx, t.Policy.Alias)
	if err != nil {
		return nil, err
	}
	if meta == nil {
		return nil, t.aliasMissing()
	}
	return meta, nil
}

func (t *turn) aliasMissing() error {
	return rotation.Drift("create the alias again and let it name the present key, then resume", "%s does not exist", t.named(t.Policy.Alias))
}

// fresh reads the key that this rotation made and finds it enabled, or says what happened to it.
func (t *turn) fresh(ctx context.Context) (*types.KeyMetadata, error) {
	meta, err := t.describe(ctx, t.Row.Data.NewKey)
	if err != nil {
		return nil, err
	}
	if meta == nil {
		return nil, t.unseen()
	}
	if err := enabled(meta, "the new key"); err != nil {
		return nil, err
	}
	return meta, nil
}

// unseen says what it means that the new key is not there.
func (t *turn) unseen() error {
	if made := t.Row.Data.DoneAt[rotation.StepCreate]; made.IsZero() || t.Now.Sub(made) < settling {
		return fmt.Errorf("the new key %s cannot be seen yet", t.Row.Data.NewKey)
	}
	return rotation.Drift("cancel the rotation and begin another", "the new key %s is gone: another hand has deleted it", t.Row.Data.NewKey)
}

// enabled answers nil, an error worth another try, or drift, by the state of a key.
func enabled(meta *types.KeyMetadata, what string) error {
	switch meta.KeyState {
	case types.KeyStateEnabled:
		return nil
	case types.KeyStateCreating, types.KeyStateUpdating, types.KeyStateUnavailable:
		return fmt.Errorf("%s %s is %s", what, aws.ToString(meta.Arn), meta.KeyState)
	case types.KeyStatePendingImport:
		return rotation.Drift("import its key material again, then resume; or cancel the rotation",
			"%s %s has lost its imported key material", what, aws.ToString(meta.Arn))
	case types.KeyStatePendingDeletion, types.KeyStatePendingReplicaDeletion:
		return rotation.Drift("cancel its deletion and enable it, then resume; or cancel the rotation",
			"%s %s is pending deletion: another hand did that", what, aws.ToString(meta.Arn))
	default:
		return rotation.Drift("enable it, then resume; or cancel the rotation",
			"%s %s is %s: another hand did that", what, aws.ToString(meta.Arn), meta.KeyState)
	}
}

// tags reads all tags of a key.
func (t *turn) tags(ctx context.Context, key string) (map[string]string, error) {
	tags := map[string]string{}
	pages := kms.NewListResourceTagsPaginator(t.client, &kms.ListResourceTagsInput{KeyId: &key})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("reading the tags of %s: %w", key, err)
		}
		for _, tag := range page.Tags {
			tags[aws.ToString(tag.TagKey)] = aws.ToString(tag.TagValue)
		}
	}
	return tags, nil
}

// aliases reads the names that point at a key, in order.
func (t *turn) aliases(ctx context.Context, key string) ([]string, error) {
	var names []string
	pages := kms.NewListAliasesPaginator(t.client, &kms.ListAliasesInput{KeyId: &key})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("listing the aliases of %s: %w", key, err)
		}
		for _, a := range page.Aliases {
			names = append(names, aws.ToString(a.AliasName))
		}
	}
	slices.Sort(names)
	return names, nil
}

func (t *turn) keyPolicy(ctx context.Context, key string) (string, error) {
	out, err := t.client.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: &key, PolicyName: aws.String("default")})
	if err != nil {
		return "", fmt.Errorf("reading the key policy of %s: %w", key, err)
	}
	return aws.ToString(out.Policy), nil
}

// publicHalf reads the SubjectPublicKeyInfo of a key; nil for a key that has none, or is compromised and shows it no more.
func (t *turn) publicHalf(ctx context.Context, meta *types.KeyMetadata) ([]byte, error) {
	if !hasPublicHalf(meta) || t.Row.Kind == rotation.KindCompromise && meta.KeyState != types.KeyStateEnabled {
		return nil, nil
	}
	out, err := t.client.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: meta.Arn})
	if err != nil {
		return nil, fmt.Errorf("reading the public key of %s: %w", aws.ToString(meta.Arn), err)
	}
	return out.PublicKey, nil
}
