package kms_test

import (
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
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
