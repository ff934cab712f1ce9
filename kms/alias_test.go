package kms_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

func (n *node) aliases() map[string]types.AliasListEntry {
	n.t.Helper()
	all := map[string]types.AliasListEntry{}
	for p := sdk.NewListAliasesPaginator(n.Client, &sdk.ListAliasesInput{}); p.HasMorePages(); {
		for _, a := range must[*sdk.ListAliasesOutput](n.t)(p.NextPage(ctx)).Aliases {
			all[*a.AliasName] = a
		}
	}
	return all
}

func TestAliasLife(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		a, b := n.signingKey(), n.signingKey()
		n.alias("alias/x", a)
		entry := n.aliases()["alias/x"]
		if *entry.AliasArn != aliasARN(account, "alias/x") || *entry.TargetKeyId != *a.KeyId || time.Since(*entry.CreationDate) > time.Minute {
			t.Errorf("listed as %+v", entry)
		}
		if !entry.CreationDate.Equal(*entry.LastUpdatedDate) {
			t.Errorf("created %v, updated %v", entry.CreationDate, entry.LastUpdatedDate)
		}
		n.clock.move(time.Hour)
		n.moveAlias("alias/x", b)
		moved := n.aliases()["alias/x"]
		if *moved.TargetKeyId != *b.KeyId || !moved.CreationDate.Equal(*entry.CreationDate) || !moved.LastUpdatedDate.After(*entry.CreationDate) {
			t.Errorf("moved to %+v", moved)
		}
		signature := must[[]byte](t)(n.sign("alias/x", "m"))
		if _, err := n.verify(*b.Arn, "m", signature); err != nil {
			t.Errorf("the alias still signs with the old key: %v", err)
		}
		if _, err := n.DeleteAlias(ctx, &sdk.DeleteAliasInput{AliasName: aws.String("alias/x")}); err != nil {
			t.Fatal(err)
		}
		_, err := n.sign("alias/x", "m")
		wantError(t, err, "NotFoundException", "Alias "+aliasARN(account, "alias/x")+" is not found.")
		for _, op := range []error{
			func() error {
				_, err := n.DeleteAlias(ctx, &sdk.DeleteAliasInput{AliasName: aws.String("alias/x")})
				return err
			}(),
			func() error {
				_, err := n.UpdateAlias(ctx, &sdk.UpdateAliasInput{AliasName: aws.String("alias/x"), TargetKeyId: a.KeyId})
				return err
			}(),
		} {
			wantError(t, op, "NotFoundException", "Alias "+aliasARN(account, "alias/x")+" is not found.")
		}
		n.alias("alias/x", a) // the name is free again
	})
}

func TestCreateAliasRefusals(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.signingKey()
		n.alias("alias/taken", k)
		for _, c := range []struct{ name, target, code, message string }{
			{"taken", *k.KeyId, "ValidationException", `Alias must start with the prefix "alias/". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html`},
			{"alias/", *k.KeyId, "InvalidAliasNameException", "*"},
			{"alias/a:b", *k.KeyId, "InvalidAliasNameException", "*"},
			{"alias/a b", *k.KeyId, "ValidationException", "1 validation error detected: Value 'alias/a b' at 'aliasName' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$"},
			{"alias/aws/s3", *k.KeyId, "NotAuthorizedException", "*"},
			{"alias/taken", *k.KeyId, "AlreadyExistsException", "An alias with the name " + aliasARN(account, "alias/taken") + " already exists"},
			{"alias/new", "alias/taken", "ValidationException", "Aliases must refer to keys. Not aliases"},
			{"alias/new", aliasARN(account, "alias/taken"), "ValidationException", "Aliases must refer to keys. Not aliases"},
			{"alias/new", "1234abcd-12ab-34cd-56ef-1234567890ab", "NotFoundException", "*"},
			{"alias/new", keyARN(otherAccount, *k.KeyId), "AccessDeniedException", "*"},
		} {
			_, err := n.CreateAlias(ctx, &sdk.CreateAliasInput{AliasName: &c.name, TargetKeyId: &c.target})
			wantError(t, err, c.code, c.message)
		}
		for i := range 49 {
			n.alias(fmt.Sprintf("alias/%d", i), k)
		}
		_, err := n.CreateAlias(ctx, &sdk.CreateAliasInput{AliasName: aws.String("alias/51st"), TargetKeyId: k.KeyId})
		wantError(t, err, "LimitExceededException", "*")
		n.alias("alias/other", n.signingKey())
		_, err = n.UpdateAlias(ctx, &sdk.UpdateAliasInput{AliasName: aws.String("alias/other"), TargetKeyId: k.KeyId})
		wantError(t, err, "LimitExceededException", "*")
	})
}

// An alias moves within one type and one usage; RSA to ECC is one type.
func TestUpdateAliasKeepsTypeAndUsage(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		keys := map[string]*types.KeyMetadata{
			"P-256 signing":   n.signingKey(),
			"P-384 signing":   n.create(types.KeySpecEccNistP384, types.KeyUsageTypeSignVerify),
			"RSA signing":     n.create(types.KeySpecRsa2048, types.KeyUsageTypeSignVerify),
			"ML-DSA signing":  n.create(types.KeySpecMlDsa65, types.KeyUsageTypeSignVerify),
			"RSA encryption":  n.create(types.KeySpecRsa2048, types.KeyUsageTypeEncryptDecrypt),
			"P-256 agreement": n.create(types.KeySpecEccNistP256, types.KeyUsageTypeKeyAgreement),
			"symmetric":       n.symmetricKey(),
			"HMAC 256":        n.create(types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac),
			"HMAC 512":        n.create(types.KeySpecHmac512, types.KeyUsageTypeGenerateVerifyMac),
		}
		group := func(name string) string {
			for _, g := range []string{"signing", "encryption", "agreement", "HMAC"} {
				if strings.Contains(name, g) {
					return g
				}
			}
			return name
		}
		for from, a := range keys {
			for to, b := range keys {
				name := "alias/" + strings.ReplaceAll(from+"-"+to, " ", "_")
				n.alias(name, a)
				_, err := n.UpdateAlias(ctx, &sdk.UpdateAliasInput{AliasName: &name, TargetKeyId: b.KeyId})
				if group(from) == group(to) {
					if err != nil {
						t.Errorf("%s to %s: %v", from, to, err)
					}
				} else if errorCode(err) != "ValidationException" {
					t.Errorf("%s to %s: %v", from, to, err)
				}
				if _, err := n.DeleteAlias(ctx, &sdk.DeleteAliasInput{AliasName: &name}); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func TestAliasPermissions(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		mine, theirs := n.signingKey(), n.signingKey()
		// User may use the alias operations on alias/x and on one key only.
		user := n.as(account, "u", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
			"Action":["kms:CreateAlias","kms:UpdateAlias","kms:DeleteAlias"],
			"Resource":["`+*mine.Arn+`","`+aliasARN(account, "alias/x")+`"]}]}`)
		create := func(name string, k *types.KeyMetadata) error {
			_, err := user.CreateAlias(ctx, &sdk.CreateAliasInput{AliasName: &name, TargetKeyId: k.KeyId})
			return err
		}
		wantError(t, create("alias/y", mine), "AccessDeniedException", "*")
		wantError(t, create("alias/x", theirs), "AccessDeniedException", "*")
		if err := create("alias/x", mine); err != nil {
			t.Fatal(err)
		}
		_, err := user.UpdateAlias(ctx, &sdk.UpdateAliasInput{AliasName: aws.String("alias/x"), TargetKeyId: theirs.KeyId})
		wantError(t, err, "AccessDeniedException", "*")
		// Away from a key needs permission on that key too.
		n.moveAlias("alias/x", theirs)
		_, err = user.UpdateAlias(ctx, &sdk.UpdateAliasInput{AliasName: aws.String("alias/x"), TargetKeyId: mine.KeyId})
		wantError(t, err, "AccessDeniedException", "*")
		_, err = user.DeleteAlias(ctx, &sdk.DeleteAliasInput{AliasName: aws.String("alias/x")})
		wantError(t, err, "AccessDeniedException", "*")
		n.alias("alias/y", mine)
		_, err = user.DeleteAlias(ctx, &sdk.DeleteAliasInput{AliasName: aws.String("alias/y")})
		wantError(t, err, "AccessDeniedException", "*")
		if target := *n.aliases()["alias/x"].TargetKeyId; target != *theirs.KeyId {
			t.Errorf("a refused call moved the alias to %s", target)
		}
	})
}

// A source that is pending deletion does not hold the alias back.
func TestUpdateAliasAwayFromADyingKey(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		a, b := n.signingKey(), n.signingKey()
		n.alias("alias/x", a)
		n.scheduleDeletion(a, 7)
		n.moveAlias("alias/x", b)
		if _, err := n.sign("alias/x", "m"); err != nil {
			t.Error(err)
		}
	})
}

func TestAliasRaces(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		const racers = 8
		keys := make([]*types.KeyMetadata, racers)
		for i := range keys {
			keys[i] = n.signingKey()
		}
		race := func(do func(i int) error) (codes map[string]int) {
			var wg sync.WaitGroup
			var mu sync.Mutex
			codes = map[string]int{}
			for i := range racers {
				wg.Go(func() {
					code := errorCode(do(i))
					mu.Lock()
					codes[code]++
					mu.Unlock()
				})
			}
			wg.Wait()
			return codes
		}
		codes := race(func(i int) error {
			_, err := n.CreateAlias(ctx, &sdk.CreateAliasInput{AliasName: aws.String("alias/x"), TargetKeyId: keys[i].KeyId})
			return err
		})
		if codes[""] != 1 || codes["AlreadyExistsException"] != racers-1 {
			t.Errorf("of %d creations at once: %v", racers, codes)
		}
		codes = race(func(i int) error {
			_, err := n.UpdateAlias(ctx, &sdk.UpdateAliasInput{AliasName: aws.String("alias/x"), TargetKeyId: keys[i].KeyId})
			return err
		})
		if codes[""] != racers {
			t.Errorf("of %d moves at once: %v", racers, codes)
		}
		target := *n.aliases()["alias/x"].TargetKeyId
		signature := must[[]byte](t)(n.sign("alias/x", "m"))
		if matched, err := n.verify(target, "m", signature); err != nil {
			t.Errorf("listed at %s, signs with another: %s %v", target, matched, err)
		}
		codes = race(func(int) error {
			_, err := n.DeleteAlias(ctx, &sdk.DeleteAliasInput{AliasName: aws.String("alias/x")})
			return err
		})
		if codes[""] != 1 || codes["NotFoundException"] != racers-1 {
			t.Errorf("of %d deletions at once: %v", racers, codes)
		}
	})
}
