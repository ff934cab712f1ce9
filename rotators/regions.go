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

// A Multi-Region key turns in all its Regions at once. The policy's Region is its home: there the row names the keys.
// Every other Region is looked at through a turn of its own (at), in which the same row names the kin of these keys
// there, so that what a step does it does in each Region with the same words.

// at is the turn as it is in another Region.
func (t *turn) at(region string) *turn {
	if region == t.region {
		return t
	}
	job := *t.Job
	job.Target.Region, job.Target.Config = region, job.Target.Config.Copy()
	job.Target.Config.Region = region
	job.Row.Data.OldKey, job.Row.Data.NewKey = inRegion(job.Row.Data.OldKey, region), inRegion(job.Row.Data.NewKey, region)
	for _, g := range []**rotation.Generation{&job.Active, &job.Old, &job.New} {
		if *g != nil {
			kin := **g
			kin.Key = inRegion(kin.Key, region)
			*g = &kin
		}
	}
	return t.rotator.turn(&job, region)
}

// atHome reports whether t is the turn of the policy's Region.
func (t *turn) atHome() bool { return t.region == t.Policy.Region }

// here adds to an error where it came from.
func (t *turn) here(err error) error {
	if err == nil || t.atHome() {
		return err
	}
	return fmt.Errorf("in %s: %w", t.region, err)
}

// named is a name with its Region, where that is not the policy's.
func (t *turn) named(name string) string {
	if t.atHome() {
		return name
	}
	return name + " in " + t.region
}

// following are the turns of the Regions whose alias moves: the policy's own, then those that follow it.
func (t *turn) following() []*turn {
	all := []*turn{t}
	for _, region := range t.Follows {
		all = append(all, t.at(region))
	}
	return all
}

// inRegion is the ARN of the kin of a key in a Region.
func inRegion(arn, region string) string {
	parts := strings.SplitN(arn, ":", 5)
	if len(parts) < 5 {
		return arn
	}
	parts[3] = region
	return strings.Join(parts, ":")
}

// isMultiRegion goes by the key's id, which AWS promises to tell.
func isMultiRegion(arn string) bool { return strings.HasPrefix(keyID(arn), "mrk-") }

// A kin is a generation in all its Regions; of a key of one Region, in that one.
type kin struct {
	regions []string                      // where it is; the primary key's Region is the last
	keys    map[string]*types.KeyMetadata // by Region
}

// kin describes a key, named by its ARN in the policy's Region, in every Region that it is in. None: it is gone.
func (t *turn) kin(ctx context.Context, key string) (*kin, error) {
	k := &kin{keys: map[string]*types.KeyMetadata{}}
	seen := map[string]bool{}
	for look := append([]string{t.region}, t.recorded(key)...); len(look) > 0; look = look[1:] {
		region := look[0]
		if seen[region] {
			continue
		}
		seen[region] = true
		meta, err := t.at(region).describe(ctx, inRegion(key, region))
		if err != nil {
			return nil, t.at(region).here(err)
		}
		if meta == nil {
			continue
		}
		k.regions, k.keys[region] = append(k.regions, region), meta
		look = append(look, regionsOf(meta)...)
	}
	primary := ""
	for _, meta := range k.keys {
		primary = primaryRegion(meta)
	}
	slices.SortFunc(k.regions, func(a, b string) int {
		switch primary {
		case a:
			return 1
		case b:
			return -1
		}
		return strings.Compare(a, b)
	})
	return k, nil
}

// recorded are the Regions in which a generation was seen, for when there is no key left at home to tell.
func (t *turn) recorded(key string) []string {
	for _, g := range []*rotation.Generation{t.New, t.Old, t.Active} {
		if g != nil && g.Key == key {
			return g.Regions
		}
	}
	return nil
}

// regionsOf are the Regions of a key, that of the primary key first.
func regionsOf(meta *types.KeyMetadata) []string {
	c := meta.MultiRegionConfiguration
	if c == nil || c.PrimaryKey == nil {
		return nil
	}
	regions := []string{aws.ToString(c.PrimaryKey.Region)}
	for _, r := range c.ReplicaKeys {
		regions = append(regions, aws.ToString(r.Region))
	}
	return regions
}

// primaryRegion is "" for a key of one Region.
func primaryRegion(meta *types.KeyMetadata) string {
	if regions := regionsOf(meta); len(regions) > 0 {
		return regions[0]
	}
	return ""
}

// recordable are the Regions as the lineage keeps them: none for a key of one Region.
func (k *kin) recordable() []string {
	for _, meta := range k.keys {
		if primary := primaryRegion(meta); primary != "" {
			return append([]string{primary}, slices.DeleteFunc(slices.Clone(k.regions), func(r string) bool { return r == primary })...)
		}
	}
	return nil
}

// isPending reports whether a key waits for its deletion: then it is of no use to anybody.
func isPending(meta *types.KeyMetadata) bool {
	return meta.KeyState == types.KeyStatePendingDeletion || meta.KeyState == types.KeyStatePendingReplicaDeletion
}

// living are the Regions that a successor must be in.
func (k *kin) living() []string {
	return slices.DeleteFunc(slices.Clone(k.regions), func(region string) bool { return isPending(k.keys[region]) })
}

// among are the Regions whose key is in one of the states.
func (k *kin) among(states ...types.KeyState) (regions []string) {
	for _, region := range k.regions {
		if slices.Contains(states, k.keys[region].KeyState) {
			regions = append(regions, region)
		}
	}
	return regions
}

// notePrimary is the Region in which the successor of a Multi-Region key is made.
const notePrimary = "primary"

// maker is the turn of the Region in which the successor is made: the one that CreateKey was or will be called in.
func (t *turn) maker() *turn {
	if region := t.note(notePrimary); region != "" {
		return t.at(region)
	}
	return t
}

// followers finds in which other Regions the alias names the kin of the present key.
func (t *turn) followers(ctx context.Context, present *kin) (follows []string, err error) {
	follows = []string{}
	for _, region := range present.living() {
		p := t.at(region)
		if p == t {
			continue
		}
		meta, err := p.describe(ctx, t.Policy.Alias)
		if err != nil {
			return nil, p.here(err)
		}
		names := "no key"
		if meta != nil {
			names = aws.ToString(meta.Arn)
		}
		before := slices.Contains(t.Follows, region)
		switch {
		case names == aws.ToString(present.keys[region].Arn), names == p.Row.Data.NewKey:
		case before && !t.Row.Data.Accept:
			return nil, p.moved(names, aws.ToString(present.keys[region].Arn))
		default:
			continue
		}
		policy, err := t.TurnedBy(ctx, inRegion(t.lineage(), region))
		if err != nil {
			return nil, err
		}
		if policy != "" {
			return nil, permanent("delete one of the two policies: the keys of a Multi-Region key turn together",
				"%s names the same Multi-Region key, and %s turns it", p.named(t.Policy.Alias), policy)
		}
		if !before {
			if err := p.sideNamesFree(ctx, present.keys[region]); err != nil {
				return nil, p.here(err)
			}
		}
		follows = append(follows, region)
	}
	slices.Sort(follows)
	return follows, nil
}

// replicate lets the new key be wherever the old one is, with what is each Region's own like there: policy, tags,
// description. ReplicateKey can be called again: there is one key a Region. wait is how long to give a target that
// takes its time. Of a key of one Region it only sees that it is there. maker is the turn of the new primary key's Region.
func (t *turn) replicate(ctx context.Context, maker *turn) (old, made *kin, wait time.Duration, err error) {
	if _, err := maker.fresh(ctx); err != nil {
		return nil, nil, 0, maker.here(err)
	}
	if !isMultiRegion(t.Row.Data.NewKey) {
		made, err = t.kin(ctx, t.Row.Data.NewKey)
		return nil, made, 0, err
	}
	if old, err = t.kin(ctx, t.Row.Data.OldKey); err != nil {
		return nil, nil, 0, err
	}
	if made, err = t.kin(ctx, t.Row.Data.NewKey); err != nil {
		return nil, nil, 0, err
	}
	for _, region := range old.living() {
		if made.keys[region] != nil {
			continue
		}
		p := t.at(region)
		in, err := p.replica(ctx, old.keys[region])
		if err != nil {
			return nil, nil, 0, p.here(err)
		}
		if _, err := maker.client.ReplicateKey(ctx, in); err != nil && code(err) != "AlreadyExistsException" {
			return nil, nil, 0, fmt.Errorf("replicating %s to %s: %w", maker.Row.Data.NewKey, region, err)
		}
	}
	if made, err = t.kin(ctx, t.Row.Data.NewKey); err != nil {
		return nil, nil, 0, err
	}
	for _, region := range old.living() {
		if meta := made.keys[region]; meta == nil || meta.KeyState == types.KeyStateCreating {
			return nil, nil, replicating, nil
		}
	}
	return old, made, 0, nil
}

// replicating is how long AWS is given to copy a key to another Region before it is looked at again.
const replicating = 2 * time.Second

// replica is the call that makes the kin of the new key in t's Region, like the old key's kin there.
func (t *turn) replica(ctx context.Context, old *types.KeyMetadata) (*kms.ReplicateKeyInput, error) {
	like, err := t.like(ctx, old)
	if err != nil {
		return nil, err
	}
	return &kms.ReplicateKeyInput{
		KeyId: aws.String(keyID(t.Row.Data.NewKey)), ReplicaRegion: &t.region,
		Policy: like.Policy, Tags: like.Tags, Description: like.Description,
	}, nil
}

// sameRegions finds that the new key is wherever the old one is, and in the same state: a Region whose present key is
// disabled stays so.
func (t *turn) sameRegions(ctx context.Context) (old, made *kin, err error) {
	if old, err = t.kin(ctx, t.Row.Data.OldKey); err != nil {
		return nil, nil, err
	}
	if made, err = t.kin(ctx, t.Row.Data.NewKey); err != nil {
		return nil, nil, err
	}
	for _, region := range slices.Compact(slices.Sorted(slices.Values(slices.Concat([]string{t.region}, t.Follows, old.living())))) {
		p, was, meta := t.at(region), old.keys[region], made.keys[region]
		switch {
		case meta == nil && region == t.region:
			return nil, nil, t.unseen()
		case meta == nil:
			return nil, nil, rotation.Drift("replicate "+keyID(t.Row.Data.NewKey)+" to "+region+" too and resume; or cancel the rotation and begin another",
				"the present key has a replica in %s, and its successor has none there", region)
		case was != nil && was.KeyState == types.KeyStateDisabled && meta.KeyState == types.KeyStateDisabled:
			continue
		}
		if err := enabled(meta, "the new key"); err != nil {
			return nil, nil, p.here(err)
		}
	}
	return old, made, nil
}
