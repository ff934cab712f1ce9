package access

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/keyturn/keyturn/sqldb"
)

// Limits on the tags of an identity or a session, as AWS sets them.
const (
	MaxTags     = 50
	maxTagKey   = 128
	maxTagValue = 256
)

// tagKeyPattern is AWS's.
const tagKeyPattern = `[\p{L}\p{Z}\p{N}_.:/=+\-@]+`

// CheckTags says what AWS IAM finds wrong with a list of tags, or nil. Tag keys that differ in case only are one.
func CheckTags(tags []Tag) error {
	var v violations
	v.tags(tags)
	return firstError(v.err(), checkTags(tags))
}

func (v *violations) tags(tags []Tag) {
	if len(tags) > MaxTags {
		v.add(fmt.Sprint(len(tags)), "tags", fmt.Sprintf("have length less than or equal to %d", MaxTags))
		return
	}
	for n, t := range tags {
		at := fmt.Sprintf("tags.%d.member.", n+1)
		v.tagKey(t.Key, at+"key")
		if !tagText(t.Value, maxTagValue) {
			v.add(cut(t.Value, maxTagValue), at+"value", `satisfy regular expression pattern: [\p{L}\p{Z}\p{N}_.:/=+\-@]* and have length less than or equal to 256`)
		}
	}
}

func (v *violations) tagKey(key, member string) {
	if key == "" || !tagText(key, maxTagKey) {
		v.add(cut(key, maxTagKey), member, "satisfy regular expression pattern: "+tagKeyPattern+" and have length between 1 and 128")
	}
}

func (v *violations) tagKeys(keys []string) {
	if len(keys) == 0 || len(keys) > MaxTags {
		v.add(fmt.Sprint(len(keys)), "tagKeys", fmt.Sprintf("have length between 1 and %d", MaxTags))
		return
	}
	for n, key := range keys {
		v.tagKey(key, fmt.Sprintf("tagKeys.%d.member", n+1))
	}
}

func tagText(s string, longest int) bool {
	if !utf8.ValidString(s) || utf8.RuneCountInString(s) > longest {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.In(r, unicode.Z) && !unicode.IsNumber(r) && !strings.ContainsRune("_.:/=+-@", r)
	}) < 0
}

// checkTags refuses what no single tag shows.
func checkTags(tags []Tag) error {
	seen := map[string]bool{}
	for _, t := range tags {
		key := fold(t.Key)
		switch {
		case strings.HasPrefix(key, "aws:"):
			return errorf("InvalidInputException", "The tag key %s begins with aws:, which is AWS's.", t.Key)
		case seen[key]:
			return errorf("InvalidInputException", "Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		}
		seen[key] = true
	}
	return nil
}

// tagValue appends the value of the tag of that key, in whatever case.
func tagValue(tags []Tag, key string, dst []string) ([]string, bool) {
	for i := range tags {
		if strings.EqualFold(tags[i].Key, key) {
			return append(dst, tags[i].Value), true
		}
	}
	return dst, false
}

// mergeTags is one list with another's tags put over it.
func mergeTags(under, over []Tag) []Tag {
	all := slices.Clone(over)
	for _, t := range under {
		if !slices.ContainsFunc(over, func(o Tag) bool { return strings.EqualFold(o.Key, t.Key) }) {
			all = append(all, t)
		}
	}
	return all
}

type TagUserInput struct {
	UserName string
	Tags     []Tag
}

// Validate checks the input, as AWS IAM does.
func (in *TagUserInput) Validate() error {
	var v violations
	v.userName(in.UserName)
	v.someTags(in.Tags)
	return firstError(v.err(), checkTags(in.Tags))
}

// TagUser adds tags to a user, or replaces their values; 50 at most.
func (g *Guard) TagUser(ctx context.Context, call *Call, in *TagUserInput) (*Done, error) {
	return g.tag(ctx, call, users, "TagUser", in.UserName, in.Tags)
}

type TagRoleInput struct {
	RoleName string
	Tags     []Tag
}

// Validate checks the input, as AWS IAM does.
func (in *TagRoleInput) Validate() error {
	var v violations
	v.roleName(in.RoleName)
	v.someTags(in.Tags)
	return firstError(v.err(), checkTags(in.Tags))
}

// TagRole adds tags to a role, or replaces their values; 50 at most.
func (g *Guard) TagRole(ctx context.Context, call *Call, in *TagRoleInput) (*Done, error) {
	return g.tag(ctx, call, roles, "TagRole", in.RoleName, in.Tags)
}

func (v *violations) someTags(tags []Tag) {
	if len(tags) == 0 {
		v.add("", "tags", "not be null")
	}
	v.tags(tags)
}

func (g *Guard) tag(ctx context.Context, call *Call, k *kind, operation, name string, tags []Tag) (*Done, error) {
	i, err := g.findIdentity(ctx, call, k, &intent{operation: operation, tags: tags}, name)
	if err != nil {
		return nil, err
	}
	err = g.change(ctx, i, "tagging "+k.noun, func(tx *sqldb.Tx) error {
		if err := i.dropTags(tx, tags); err != nil {
			return err
		}
		n := 0
		if err := tx.QueryRow(`SELECT COUNT(*) FROM `+k.tags+` WHERE `+k.ref()+` = $1 AND account = $2`, i.id, i.account).Scan(&n); err != nil {
			return err
		}
		if n+len(tags) > MaxTags {
			return errorf(limitExceeded, "The number of tags has reached the maximum limit: %d", MaxTags)
		}
		return i.putTags(tx, tags)
	})
	if err != nil {
		return nil, err
	}
	return &Done{}, nil
}

// putTags inserts tags whose keys the identity does not have.
func (i *identity) putTags(tx *sqldb.Tx, tags []Tag) error {
	for _, t := range tags {
		_, err := tx.Exec(`INSERT INTO `+i.kind.tags+` (account, `+i.kind.ref()+`, folded, tag_key, tag_value) VALUES ($1, $2, $3, $4, $5)`,
			i.account, i.id, fold(t.Key), t.Key, t.Value)
		if err != nil {
			return err
		}
	}
	return nil
}

func (i *identity) dropTags(tx *sqldb.Tx, tags []Tag) error {
	for _, t := range tags {
		_, err := tx.Exec(`DELETE FROM `+i.kind.tags+` WHERE account = $1 AND `+i.kind.ref()+` = $2 AND folded = $3`, i.account, i.id, fold(t.Key))
		if err != nil {
			return err
		}
	}
	return nil
}

type UntagUserInput struct {
	UserName string
	TagKeys  []string
}

// Validate checks the input, as AWS IAM does.
func (in *UntagUserInput) Validate() error {
	var v violations
	v.userName(in.UserName)
	v.tagKeys(in.TagKeys)
	return v.err()
}

// UntagUser takes tags away; keys that the user does not have are passed over.
func (g *Guard) UntagUser(ctx context.Context, call *Call, in *UntagUserInput) (*Done, error) {
	return g.untag(ctx, call, users, "UntagUser", in.UserName, in.TagKeys)
}

type UntagRoleInput struct {
	RoleName string
	TagKeys  []string
}

// Validate checks the input, as AWS IAM does.
func (in *UntagRoleInput) Validate() error {
	var v violations
	v.roleName(in.RoleName)
	v.tagKeys(in.TagKeys)
	return v.err()
}

// UntagRole takes tags away; keys that the role does not have are passed over.
func (g *Guard) UntagRole(ctx context.Context, call *Call, in *UntagRoleInput) (*Done, error) {
	return g.untag(ctx, call, roles, "UntagRole", in.RoleName, in.TagKeys)
}

func (g *Guard) untag(ctx context.Context, call *Call, k *kind, operation, name string, keys []string) (*Done, error) {
	i, err := g.findIdentity(ctx, call, k, &intent{operation: operation, tagKeys: keys}, name)
	if err != nil {
		return nil, err
	}
	tags := make([]Tag, len(keys))
	for n, key := range keys {
		tags[n].Key = key
	}
	if err := g.change(ctx, i, "untagging "+k.noun, func(tx *sqldb.Tx) error { return i.dropTags(tx, tags) }); err != nil {
		return nil, err
	}
	return &Done{}, nil
}

type ListUserTagsInput struct{ UserName string }

// ListTagsOutput: all of them, sorted by key; there are no pages.
type ListTagsOutput struct{ Tags []Tag }

// Validate checks the input, as AWS IAM does.
func (in *ListUserTagsInput) Validate() error {
	var v violations
	v.userName(in.UserName)
	return v.err()
}

// ListUserTags lists the tags of a user.
func (g *Guard) ListUserTags(ctx context.Context, call *Call, in *ListUserTagsInput) (*ListTagsOutput, error) {
	return g.listTags(ctx, call, users, "ListUserTags", in.UserName)
}

type ListRoleTagsInput struct{ RoleName string }

// Validate checks the input, as AWS IAM does.
func (in *ListRoleTagsInput) Validate() error {
	var v violations
	v.roleName(in.RoleName)
	return v.err()
}

// ListRoleTags lists the tags of a role.
func (g *Guard) ListRoleTags(ctx context.Context, call *Call, in *ListRoleTagsInput) (*ListTagsOutput, error) {
	return g.listTags(ctx, call, roles, "ListRoleTags", in.RoleName)
}

func (g *Guard) listTags(ctx context.Context, call *Call, k *kind, operation, name string) (*ListTagsOutput, error) {
	i, err := g.findIdentity(ctx, call, k, &intent{operation: operation}, name)
	if err != nil {
		return nil, err
	}
	return &ListTagsOutput{Tags: append([]Tag{}, i.tags...)}, nil
}

// readTags fills in the tags of a user or role.
func (g *Guard) readTags(ctx context.Context, i *identity) error {
	if i.kind.tags == "" {
		return nil
	}
	rows, err := g.db.Query(ctx, `SELECT tag_key, tag_value FROM `+i.kind.tags+` WHERE account = $1 AND `+i.kind.ref()+` = $2`, i.account, i.id)
	if err != nil {
		return fmt.Errorf("reading tags of a %s: %w", i.kind.noun, err)
	}
	defer rows.Close()
	i.tags = nil
	for rows.Next() {
		var t Tag
		if err := rows.Scan(&t.Key, &t.Value); err != nil {
			return fmt.Errorf("reading tags of a %s: %w", i.kind.noun, err)
		}
		i.tags = append(i.tags, t)
	}
	// The databases do not agree on the order of text.
	slices.SortFunc(i.tags, func(a, b Tag) int { return strings.Compare(a.Key, b.Key) })
	return rows.Err()
}
