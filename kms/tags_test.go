package kms_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/kms"
	"github.com/keyturn/keyturn/sqldb"
)

func (n *node) tagsOf(k *types.KeyMetadata, limit int32) string {
	n.t.Helper()
	s := ""
	for p := sdk.NewListResourceTagsPaginator(n.Client, &sdk.ListResourceTagsInput{KeyId: k.KeyId, Limit: &limit}); p.HasMorePages(); {
		for _, tag := range must[*sdk.ListResourceTagsOutput](n.t)(p.NextPage(ctx)).Tags {
			s += *tag.TagKey + "=" + *tag.TagValue + " "
		}
	}
	return s
}

func TestTags(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := must[*sdk.CreateKeyOutput](t)(n.CreateKey(ctx, &sdk.CreateKeyInput{Tags: tags("b", "2", "a", "1")})).KeyMetadata
		tag := func(pairs ...string) error {
			_, err := n.TagResource(ctx, &sdk.TagResourceInput{KeyId: k.KeyId, Tags: tags(pairs...)})
			return err
		}
		if err := tag("c", "", "a", "changed"); err != nil {
			t.Fatal(err)
		}
		if got := n.tagsOf(k, 2); got != "a=changed b=2 c= " {
			t.Errorf("tags %s", got)
		}
		if _, err := n.UntagResource(ctx, &sdk.UntagResourceInput{KeyId: k.KeyId, TagKeys: []string{"b", "never there"}}); err != nil {
			t.Fatal(err)
		}
		if got := n.tagsOf(k, 50); got != "a=changed c= " {
			t.Errorf("tags %s", got)
		}
		wantError(t, tag("x", "1", "x", "2"), "TagException", "Duplicate tag keys")
		wantError(t, tag("aws:x", "1"), "TagException", "Tags beginning with aws: are reserved")
		wantError(t, tag("x", string(make([]byte, 257))), "ValidationException", "*")
		for i := range 48 {
			if err := tag(fmt.Sprintf("tag-%02d", i), "v"); err != nil {
				t.Fatal(err)
			}
		}
		// All of a call or nothing.
		wantError(t, tag("a", "again", "fifty-first", "v"), "LimitExceededException", "A key has at most 50 tags")
		if err := tag("a", "fits"); err != nil {
			t.Error(err)
		}
		out := must[*sdk.ListResourceTagsOutput](t)(n.ListResourceTags(ctx, &sdk.ListResourceTagsInput{KeyId: k.KeyId}))
		if len(out.Tags) != 50 || out.Truncated || *out.Tags[0].TagValue != "fits" {
			t.Errorf("%d tags, the first %s", len(out.Tags), *out.Tags[0].TagValue)
		}
		_, err := n.TagResource(ctx, &sdk.TagResourceInput{KeyId: aws.String("alias/x"), Tags: tags("a", "1")})
		wantError(t, err, "NotFoundException", "Invalid keyId 'alias/x'")
	})
}

func TestKeysTagged(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		create := func(c *sdk.Client, pairs ...string) *types.KeyMetadata {
			t.Helper()
			return must[*sdk.CreateKeyOutput](t)(c.CreateKey(ctx, &sdk.CreateKeyInput{Tags: tags(pairs...)})).KeyMetadata
		}
		first, second := create(n.Client, "made-by", "one"), create(n.Client, "a", "b", "made-by", "one")
		create(n.Client, "made-by", "One")
		create(n.Client, "one", "made-by")
		elsewhere := create(n.asIn("eu-west-3", account, "", ""), "made-by", "one")
		foreign := create(n.as(otherAccount, "", ""), "made-by", "one")
		tagged := func(account, region string) string {
			t.Helper()
			return strings.Join(must[[]string](t)(n.service.KeysTagged(ctx, account, region, "made-by", "one")), " ")
		}
		both := []string{*first.Arn, *second.Arn}
		slices.Sort(both)
		if got := tagged(account, region); got != strings.Join(both, " ") {
			t.Errorf("found %s, want %s", got, both)
		}
		if got := tagged(account, "eu-west-3"); got != *elsewhere.Arn {
			t.Errorf("in the other Region found %s", got)
		}
		if got := tagged(otherAccount, region); got != *foreign.Arn {
			t.Errorf("in the other account found %s", got)
		}
		if _, err := n.UntagResource(ctx, &sdk.UntagResourceInput{KeyId: first.KeyId, TagKeys: []string{"made-by"}}); err != nil {
			t.Fatal(err)
		}
		n.scheduleDeletion(second, 7)
		if got := tagged(account, region); got != *second.Arn {
			t.Errorf("once untagged, and with the other pending deletion, found %s", got)
		}
		n.clock.move(8 * day)
		n.runOnce()
		if got := tagged(account, region); got != "" {
			t.Errorf("once deleted found %s", got)
		}
	})
}

// However many keys there are, those with a tag are found by the index.
func TestKeysTaggedIsOneSearch(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.signingKey()
		err := n.db.Write(ctx, func(tx *sqldb.Tx) error {
			for _, insert := range []string{
				`INSERT INTO kms_keys (arn, account, region, key_id, spec, key_usage, origin, state, description, policy, material_id,
					created_at, deletion_at, deletion_days, due_seen_at, gen)
					WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
					SELECT arn || i, account, region, key_id || i, spec, key_usage, origin, state, description, policy, material_id,
					created_at, deletion_at, deletion_days, due_seen_at, gen FROM kms_keys, n WHERE arn = $1`,
				`INSERT INTO kms_tags SELECT arn, 'made-by', arn FROM kms_keys WHERE arn <> $1`,
			} {
				if _, err := tx.Exec(insert, *k.Arn); err != nil {
					return err
				}
			}
			_, err := tx.Exec(`ANALYZE`)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := must[[]string](t)(n.service.KeysTagged(ctx, account, region, "made-by", *k.Arn+"77")); !slices.Equal(got, []string{*k.Arn + "77"}) {
			t.Errorf("found %s", got)
		}
		prefix := "EXPLAIN QUERY PLAN "
		if n.db.IsPostgres() {
			prefix = "EXPLAIN "
		}
		rows, err := n.db.Query(ctx, prefix+kms.KeysTagged, "made-by", "x", account, region)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		plan := ""
		for rows.Next() {
			var line string
			var id, parent, unused int
			if n.db.IsPostgres() {
				err = rows.Scan(&line)
			} else {
				err = rows.Scan(&id, &parent, &unused, &line)
			}
			if err != nil {
				t.Fatal(err)
			}
			plan += line + "\n"
		}
		if !strings.Contains(plan, "kms_tags_value") || strings.Contains(plan, "SCAN") || strings.Contains(plan, "Seq Scan") {
			t.Errorf("it does not rest on the index:\n%s", plan)
		}
	})
}
