package kms_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/kms"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

func TestQuotas(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		n := newNode(t, db, options{config: func(c *kms.Config) {
			c.Quotas = kms.Quotas{Keys: 3, AliasesPerKey: 2, GrantsPerKey: 2, TagsPerKey: 2, PolicyBytes: 300}
		}})
		bob := userARN("bob")
		n.as(account, "bob", "")
		k, doomed := n.symmetricKey(), n.symmetricKey()
		n.symmetricKey()
		create := func(c *sdk.Client) error {
			_, err := c.CreateKey(ctx, &sdk.CreateKeyInput{})
			return err
		}
		wantError(t, create(n.Client), "LimitExceededException", "Account "+account+" has 3 KMS keys in "+region+", which is its quota")
		// Each account and Region has its own.
		for _, c := range []*sdk.Client{n.as(otherAccount, "", ""), n.asIn("us-west-2", account, "", "")} {
			if err := create(c); err != nil {
				t.Error(err)
			}
		}
		n.scheduleDeletion(doomed, 7)
		n.clock.move(8 * 24 * time.Hour)
		if _, err := n.service.RunOnce(ctx); err != nil {
			t.Fatal(err)
		}
		if err := create(n.Client); err != nil {
			t.Errorf("after a deletion: %v", err)
		}

		n.alias("alias/1", k)
		n.alias("alias/2", k)
		_, err := n.CreateAlias(ctx, &sdk.CreateAliasInput{AliasName: ptr("alias/3"), TargetKeyId: k.KeyId})
		wantError(t, err, "LimitExceededException", *k.Arn+" already has 2 aliases")

		_, err = n.TagResource(ctx, &sdk.TagResourceInput{KeyId: k.KeyId, Tags: tags("a", "", "b", "", "c", "")})
		wantError(t, err, "LimitExceededException", "*")
		if _, err := n.TagResource(ctx, &sdk.TagResourceInput{KeyId: k.KeyId, Tags: tags("a", "", "b", "")}); err != nil {
			t.Error(err)
		}

		grant := func(name string) (string, error) {
			out, err := n.CreateGrant(ctx, &sdk.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: &bob, Operations: ops("Encrypt"), Name: &name})
			if err != nil {
				return "", err
			}
			return *out.GrantId, nil
		}
		first := must[string](t)(grant("1"))
		must[string](t)(grant("2"))
		_, err = grant("3")
		wantError(t, err, "LimitExceededException", *k.Arn+" already has 2 grants")
		if again, err := grant("1"); err != nil || again != first {
			t.Errorf("the grant that is there: %s, %v", again, err)
		}
		n.revoke(k, first)
		must[string](t)(grant("3"))

		document := keyPolicyOf(statement("kms:*", rootARN(account)), statement("kms:Encrypt", "*"), statement("kms:Encrypt", "*"))
		_, err = n.PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{KeyId: k.KeyId, Policy: &document})
		wantError(t, err, "LimitExceededException", fmt.Sprintf("A key policy has at most 300 bytes, not %d", len(document)))
	})
}

func TestQuotaSettings(t *testing.T) {
	for _, q := range []kms.Quotas{{Keys: -1}, {PolicyBytes: 32769}} {
		if q.Check() == nil {
			t.Errorf("%+v is taken", q)
		}
	}
	for _, l := range []kms.RateLimits{
		{PerSecond: map[string]float64{"Sign": 1}},
		{PerSecond: map[string]float64{"CreateKey": -1}},
		{PerSecond: map[string]float64{"CreateKey": math.NaN()}},
		{PerSecond: map[string]float64{"CreateKey": math.Inf(1)}},
	} {
		if l.Check() == nil {
			t.Errorf("%+v is taken", l)
		}
	}
}

// Counting is not done for every key: an eighth of what is free is given out at
// once.
func TestKeysAreCountedSeldom(t *testing.T) {
	counts := 0
	tally := kms.NewTally(1000)
	now := time.Now()
	for i := range 500 {
		if err := tally(now, func() int { counts++; return i }); err != nil {
			t.Fatal(err)
		}
	}
	if counts > 8 {
		t.Errorf("counted %d times for 500", counts)
	}
	// Near the end it is exact.
	counts = 0
	have := 990
	for range 10 {
		if err := tally(now.Add(time.Hour), func() int { counts++; return have }); err != nil {
			t.Errorf("with %d: %v", have, err)
		}
		have++
	}
	if err := tally(now.Add(time.Hour), func() int { counts++; return have }); err == nil {
		t.Errorf("one above the quota")
	}
	if counts != 11 {
		t.Errorf("counted %d times at the end", counts)
	}
	for range 5 {
		if tally(now.Add(time.Hour), func() int { counts++; return have }) == nil {
			t.Error("above the quota")
		}
	}
	if counts != 11 {
		t.Errorf("counted %d times although it is full", counts)
	}
	if err := tally(now.Add(time.Hour+time.Second), func() int { return have - 1 }); err != nil {
		t.Errorf("a second later: %v", err)
	}
}

func TestRateLimits(t *testing.T) {
	n := newNode(t, sqldbtest.SQLite(t), options{config: func(c *kms.Config) {
		c.RateLimits = kms.RateLimits{Enabled: true, PerSecond: map[string]float64{"DescribeKey": 0.001, "Symmetric": 0.001, "ECC": 0.001, "CreateKey": 0}}
	}})
	k, signing, mac := n.symmetricKey(), n.signingKey(), n.create(types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac)
	describe := func(c *sdk.Client) error { return describeBy(c, k.Arn) }
	sign := func(c *sdk.Client) error {
		_, err := c.Sign(ctx, &sdk.SignInput{KeyId: signing.Arn, Message: []byte("m"), SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256})
		return err
	}
	other := n.as(otherAccount, "", "")
	for _, use := range []func(*sdk.Client) error{describe, sign, func(c *sdk.Client) error { return encrypts(c, k) }} {
		if err := use(n.Client); err != nil {
			t.Fatal(err)
		}
		wantError(t, use(n.Client), "ThrottlingException", "Rate exceeded")
		// Nobody else pays for it.
		wantDenied(t, use(other))
		wantError(t, use(other), "ThrottlingException", "Rate exceeded")
	}
	// HMAC keys and random bytes share the class of symmetric keys.
	_, err := n.GenerateMac(ctx, &sdk.GenerateMacInput{KeyId: mac.KeyId, Message: []byte("m"), MacAlgorithm: types.MacAlgorithmSpecHmacSha256})
	wantError(t, err, "ThrottlingException", "Rate exceeded")
	_, err = n.GenerateRandom(ctx, &sdk.GenerateRandomInput{NumberOfBytes: ptr(int32(8))})
	wantError(t, err, "ThrottlingException", "Rate exceeded")
	// Another Region is another bucket.
	west := n.asIn("us-west-2", account, "", "")
	if _, err := west.GenerateRandom(ctx, &sdk.GenerateRandomInput{NumberOfBytes: ptr(int32(8))}); err != nil {
		t.Error(err)
	}
	// The memory is bounded, whatever Regions a caller makes up.
	if buckets := n.service.FillRateBuckets(5000); buckets > 4096 {
		t.Errorf("%d buckets", buckets)
	}
}

func TestNotesAreOfOperations(t *testing.T) {
	for _, note := range (*kms.Service)(nil).API().Notes {
		if _, ok := apiOperations[note.Operation]; !ok || note.Text == "" {
			t.Errorf("a note about %q: %q", note.Operation, note.Text)
		}
	}
}

// The rates are of operations that exist.
func TestRatesAreOfOperations(t *testing.T) {
	for _, name := range kms.UnknownRates() {
		t.Errorf("there is no operation %s", name)
	}
}
