package kms_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/kms"
)

func TestListKeysPages(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		want := map[string]bool{}
		for range 25 {
			want[*n.create(types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac).KeyId] = true
		}
		got, pages := map[string]bool{}, 0
		for p := sdk.NewListKeysPaginator(n.Client, &sdk.ListKeysInput{Limit: aws.Int32(10)}); p.HasMorePages(); pages++ {
			out := must[*sdk.ListKeysOutput](t)(p.NextPage(ctx))
			for _, k := range out.Keys {
				if got[*k.KeyId] || *k.KeyArn != keyARN(account, *k.KeyId) {
					t.Errorf("%s twice, or as %s", *k.KeyId, *k.KeyArn)
				}
				got[*k.KeyId] = true
			}
			if out.Truncated != (out.NextMarker != nil) {
				t.Errorf("Truncated %v with marker %v", out.Truncated, out.NextMarker)
			}
		}
		if pages != 3 || len(got) != 25 {
			t.Errorf("%d keys on %d pages", len(got), pages)
		}
		// A page that is exactly full and the last one is not truncated.
		if out := must[*sdk.ListKeysOutput](t)(n.ListKeys(ctx, &sdk.ListKeysInput{Limit: aws.Int32(25)})); out.Truncated || len(out.Keys) != 25 {
			t.Errorf("%d keys, truncated %v", len(out.Keys), out.Truncated)
		}
	})
}

// What exists the whole time is listed exactly once, whatever comes and goes
// between two pages.
func TestPagesAreStableUnderChange(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.signingKey()
		for i := range 20 {
			n.alias(fmt.Sprintf("alias/stays-%02d", i), k)
			n.alias(fmt.Sprintf("alias/zgoes-%02d", i), k)
		}
		var names []string
		in := &sdk.ListAliasesInput{Limit: aws.Int32(7)}
		for page := 0; ; page++ {
			out := must[*sdk.ListAliasesOutput](t)(n.ListAliases(ctx, in))
			for _, a := range out.Aliases {
				names = append(names, *a.AliasName)
			}
			if !out.Truncated {
				break
			}
			in.Marker = out.NextMarker
			// One goes that was listed or is about to be, one comes at the front, one at the back.
			for _, name := range []string{fmt.Sprintf("alias/zgoes-%02d", page), names[len(names)-1]} {
				if name == names[len(names)-1] && page != 0 {
					continue
				}
				if _, err := n.DeleteAlias(ctx, &sdk.DeleteAliasInput{AliasName: &name}); err != nil {
					t.Fatal(err)
				}
			}
			n.alias(fmt.Sprintf("alias/a-%02d", page), n.signingKey())
		}
		for i := range 20 {
			name := fmt.Sprintf("alias/stays-%02d", i)
			count := 0
			for _, got := range names {
				if got == name {
					count++
				}
			}
			if count != 1 {
				t.Errorf("%s is listed %d times", name, count)
			}
		}
		if !slices.IsSorted(names) {
			t.Errorf("not in order: %v", names)
		}
	})
}

func TestListAliasesOfAKey(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		a, b := n.signingKey(), n.signingKey()
		for i := range 5 {
			n.alias(fmt.Sprintf("alias/a%d", i), a)
			n.alias(fmt.Sprintf("alias/b%d", i), b)
		}
		var names []string
		for p := sdk.NewListAliasesPaginator(n.Client, &sdk.ListAliasesInput{KeyId: b.Arn, Limit: aws.Int32(2)}); p.HasMorePages(); {
			for _, e := range must[*sdk.ListAliasesOutput](t)(p.NextPage(ctx)).Aliases {
				names = append(names, *e.AliasName)
			}
		}
		if fmt.Sprint(names) != "[alias/b0 alias/b1 alias/b2 alias/b3 alias/b4]" {
			t.Errorf("listed %v", names)
		}
		_, err := n.ListAliases(ctx, &sdk.ListAliasesInput{KeyId: aws.String("1234abcd-12ab-34cd-56ef-1234567890ab")})
		wantError(t, err, "NotFoundException", "*")
		_, err = n.ListAliases(ctx, &sdk.ListAliasesInput{KeyId: aws.String("alias/a0")})
		wantError(t, err, "NotFoundException", "*")
	})
}

func TestLimitsAndMarkers(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		a, b := n.signingKey(), n.signingKey()
		for i := range 3 {
			n.alias(fmt.Sprintf("alias/%d", i), a)
		}
		keys := func(limit *int32, marker *string) error {
			_, err := n.ListKeys(ctx, &sdk.ListKeysInput{Limit: limit, Marker: marker})
			return err
		}
		aliases := func(key *string, limit *int32, marker *string) error {
			_, err := n.ListAliases(ctx, &sdk.ListAliasesInput{KeyId: key, Limit: limit, Marker: marker})
			return err
		}
		resourceTags := func(limit *int32) error {
			_, err := n.ListResourceTags(ctx, &sdk.ListResourceTagsInput{KeyId: a.KeyId, Limit: limit})
			return err
		}
		if err := keys(aws.Int32(1000), nil); err != nil {
			t.Error(err)
		}
		wantError(t, keys(aws.Int32(1001), nil), "ValidationException", "1 validation error detected: Value '1001' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 1000")
		wantError(t, keys(aws.Int32(0), nil), "ValidationException", "*")
		if err := aliases(nil, aws.Int32(100), nil); err != nil {
			t.Error(err)
		}
		wantError(t, aliases(nil, aws.Int32(101), nil), "ValidationException", "1 validation error detected: Value '101' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 100")
		if err := resourceTags(aws.Int32(50)); err != nil {
			t.Error(err)
		}
		wantError(t, resourceTags(aws.Int32(51)), "ValidationException", "*")

		keysMarker := must[*sdk.ListKeysOutput](t)(n.ListKeys(ctx, &sdk.ListKeysInput{Limit: aws.Int32(1)})).NextMarker
		aliasMarker := must[*sdk.ListAliasesOutput](t)(n.ListAliases(ctx, &sdk.ListAliasesInput{Limit: aws.Int32(1)})).NextMarker
		if err := keys(nil, keysMarker); err != nil {
			t.Error(err)
		}
		for _, err := range []error{
			keys(nil, aliasMarker),                    // of another operation
			aliases(a.KeyId, nil, aliasMarker),        // of another scope
			aliases(b.KeyId, nil, aliasMarker),        //
			keys(nil, aws.String("garbage")),          //
			keys(nil, aws.String(*keysMarker+"A")),    //
			keys(nil, aws.String((*keysMarker)[1:])),  //
			keys(nil, aws.String(*keysMarker+"====")), //
		} {
			wantError(t, err, "InvalidMarkerException", "*")
		}
		other := n.as(otherAccount, "", "")
		_, err := other.ListKeys(ctx, &sdk.ListKeysInput{Marker: keysMarker})
		wantError(t, err, "InvalidMarkerException", "*")
	})
}

func FuzzParseMarker(f *testing.F) {
	f.Add("ListKeys", "111122223333/eu-central-1", kms.FormatMarker("ListKeys", "111122223333/eu-central-1", "x"))
	f.Add("ListAliases", "", "")
	f.Add("", "", "AQ")
	f.Fuzz(func(t *testing.T, operation, scope, marker string) {
		last, err := kms.ParseMarker(operation, scope, marker)
		if err == nil && marker != "" && kms.FormatMarker(operation, scope, last) != marker {
			t.Errorf("%q is another marker for %q", marker, last)
		}
		again, err := kms.ParseMarker(operation, scope, kms.FormatMarker(operation, scope, marker))
		if err != nil || again != marker {
			t.Errorf("%q came back as %q: %v", marker, again, err)
		}
	})
}
