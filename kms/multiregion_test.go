package kms_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/keystore"
	"github.com/keyturn/keyturn/kms"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

const (
	west = "us-west-2"
	east = "us-east-1"
)

// multiRegion makes a Multi-Region key, whose primary key is in region.
func (n *node) multiRegion(spec types.KeySpec, usage types.KeyUsageType) *types.KeyMetadata {
	n.t.Helper()
	return n.createWith(&sdk.CreateKeyInput{KeySpec: spec, KeyUsage: usage, MultiRegion: ptr(true)})
}

// in is the node's client for another Region.
func (n *node) in(region string) *sdk.Client { return n.asIn(region, account, "", "") }

func (n *node) replicate(k *types.KeyMetadata, to string) *types.KeyMetadata {
	n.t.Helper()
	return must[*sdk.ReplicateKeyOutput](n.t)(n.ReplicateKey(ctx, &sdk.ReplicateKeyInput{KeyId: k.KeyId, ReplicaRegion: &to})).ReplicaKeyMetadata
}

func describe(t testing.TB, c *sdk.Client, id *string) *types.KeyMetadata {
	t.Helper()
	return must[*sdk.DescribeKeyOutput](t)(c.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: id})).KeyMetadata
}

// kin says what a key tells of its kin: "PRIMARY eu-central-1, us-east-1".
func kin(t testing.TB, m *types.KeyMetadata) string {
	t.Helper()
	c := m.MultiRegionConfiguration
	if c == nil {
		return ""
	}
	s := fmt.Sprintf("%s %s", c.MultiRegionKeyType, *c.PrimaryKey.Region)
	for _, k := range append([]types.MultiRegionKey{*c.PrimaryKey}, c.ReplicaKeys...) {
		if want := "arn:aws:kms:" + *k.Region + ":" + *m.AWSAccountId + ":key/" + *m.KeyId; *k.Arn != want {
			t.Errorf("the kin in %s is %s, want %s", *k.Region, *k.Arn, want)
		}
	}
	for _, k := range c.ReplicaKeys {
		s += ", " + *k.Region
	}
	return s
}

func TestReplicas(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.multiRegion(types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac)
		if id := *k.KeyId; len(id) != 36 || !strings.HasPrefix(id, "mrk-") || !*k.MultiRegion || kin(t, k) != "PRIMARY "+region {
			t.Errorf("%s: %s", id, kin(t, k))
		}
		if m := n.signingKey(); *m.MultiRegion || m.MultiRegionConfiguration != nil {
			t.Errorf("a key of one Region: %+v", m.MultiRegionConfiguration)
		}
		n.clock.move(time.Hour)
		out := must[*sdk.ReplicateKeyOutput](t)(n.ReplicateKey(ctx, &sdk.ReplicateKeyInput{
			KeyId: k.Arn, ReplicaRegion: ptr(west), Description: ptr("in the west"), Tags: tags("a", "1"),
		}))
		r := out.ReplicaKeyMetadata
		if *r.KeyId != *k.KeyId || *r.Arn != strings.Replace(*k.Arn, region, west, 1) || r.KeyState != types.KeyStateEnabled || !r.Enabled ||
			*r.Description != "in the west" || r.KeySpec != k.KeySpec || r.KeyUsage != k.KeyUsage || r.Origin != k.Origin ||
			r.CreationDate.Sub(*k.CreationDate) < time.Hour || kin(t, r) != "REPLICA "+region+", "+west {
			t.Errorf("the replica is %+v, %s", r, kin(t, r))
		}
		if len(out.ReplicaTags) != 1 || *out.ReplicaTags[0].TagKey != "a" || !strings.Contains(*out.ReplicaPolicy, "key-default-1") {
			t.Errorf("tags %v, policy %s", out.ReplicaTags, *out.ReplicaPolicy)
		}
		n.replicate(k, east)
		for _, c := range []struct {
			sdk  *sdk.Client
			want string
		}{
			{n.Client, "PRIMARY eu-central-1, us-east-1, us-west-2"},
			{n.in(east), "REPLICA eu-central-1, us-east-1, us-west-2"},
			{n.in(west), "REPLICA eu-central-1, us-east-1, us-west-2"},
		} {
			if got := kin(t, describe(t, c.sdk, k.KeyId)); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		}
		if _, err := n.in("ap-south-1").DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: k.KeyId}); err == nil {
			t.Error("a key where none was replicated to")
		}
		// A request names a key of its own Region only.
		_, err := n.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: r.Arn})
		wantError(t, err, "NotFoundException", "Invalid arn us-west-2")
	})
}

func TestReplicateKeyRefuses(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		n := newNode(t, db, options{config: func(c *kms.Config) { c.Regions = []string{region, west, east} }})
		k, single := n.multiRegion(types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac), n.signingKey()
		r := n.replicate(k, west)
		foreign := n.as(otherAccount, "", "")
		locked := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + otherAccount + `:root"},"Action":"kms:*","Resource":"*"}]}`
		for name, c := range map[string]struct {
			sdk           *sdk.Client
			in            sdk.ReplicateKeyInput
			code, message string
		}{
			"again":               {n.Client, sdk.ReplicateKeyInput{KeyId: k.KeyId, ReplicaRegion: ptr(west)}, "AlreadyExistsException", "A key " + *r.Arn + "…"},
			"at home":             {n.Client, sdk.ReplicateKeyInput{KeyId: k.KeyId, ReplicaRegion: ptr(region)}, "AlreadyExistsException", "A key " + *k.Arn + "…"},
			"from a replica":      {n.in(west), sdk.ReplicateKeyInput{KeyId: k.KeyId, ReplicaRegion: ptr(east)}, "UnsupportedOperationException", *r.Arn + " is not a multi-Region primary key."},
			"of one Region":       {n.Client, sdk.ReplicateKeyInput{KeyId: single.KeyId, ReplicaRegion: ptr(east)}, "UnsupportedOperationException", *single.Arn + " is not a multi-Region primary key."},
			"not served":          {n.Client, sdk.ReplicateKeyInput{KeyId: k.KeyId, ReplicaRegion: ptr("ap-south-1")}, "UnsupportedOperationException", "Keys cannot be replicated to the Region ap-south-1."},
			"no Region":           {n.Client, sdk.ReplicateKeyInput{KeyId: k.KeyId, ReplicaRegion: ptr("nowhere")}, "ValidationException", "*"},
			"an alias":            {n.Client, sdk.ReplicateKeyInput{KeyId: ptr("alias/x"), ReplicaRegion: ptr(east)}, "NotFoundException", "Invalid keyId 'alias/x'"},
			"not there":           {n.Client, sdk.ReplicateKeyInput{KeyId: ptr("mrk-" + strings.Repeat("0", 32)), ReplicaRegion: ptr(east)}, "NotFoundException", "*"},
			"locked out":          {n.Client, sdk.ReplicateKeyInput{KeyId: k.KeyId, ReplicaRegion: ptr(east), Policy: &locked}, "MalformedPolicyDocumentException", "*"},
			"reserved tag":        {n.Client, sdk.ReplicateKeyInput{KeyId: k.KeyId, ReplicaRegion: ptr(east), Tags: tags("aws:x", "1")}, "TagException", "*"},
			"of another account":  {foreign, sdk.ReplicateKeyInput{KeyId: k.Arn, ReplicaRegion: ptr(east)}, "AccessDeniedException", "*"},
			"id of another's key": {foreign, sdk.ReplicateKeyInput{KeyId: k.KeyId, ReplicaRegion: ptr(east)}, "NotFoundException", "*"},
		} {
			t.Run(name, func(t *testing.T) {
				_, err := c.sdk.ReplicateKey(ctx, &c.in)
				wantError(t, err, c.code, c.message)
			})
		}
		if got := kin(t, describe(t, n.Client, k.KeyId)); got != "PRIMARY "+region+", "+west {
			t.Errorf("after all refusals: %s", got)
		}
	})
}

// Replicating needs a permission on the primary key and others in the replica's
// Region; moving the primary Region one on each of both keys.
func TestMultiRegionPermissions(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.multiRegion(types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac)
		replicate := func(user, policy string, with []types.Tag) error {
			_, err := n.as(account, user, policy).ReplicateKey(ctx, &sdk.ReplicateKeyInput{KeyId: k.KeyId, ReplicaRegion: ptr(west), Tags: with})
			return err
		}
		for user, actions := range map[string][]string{
			"creator": {"kms:CreateKey", "kms:TagResource"}, "replicator": {"kms:ReplicateKey", "kms:TagResource"},
		} {
			wantError(t, replicate(user, allow(actions...), nil), "AccessDeniedException", "*")
		}
		wantError(t, replicate("untagged", allow("kms:ReplicateKey", "kms:CreateKey"), tags("a", "1")), "AccessDeniedException", "*")
		if err := replicate("both", allow("kms:ReplicateKey", "kms:CreateKey", "kms:TagResource"), tags("a", "1")); err != nil {
			t.Error(err)
		}
		on := func(arns ...*string) string {
			var list []string
			for _, a := range arns {
				list = append(list, `"`+*a+`"`)
			}
			return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:UpdatePrimaryRegion","Resource":[` + strings.Join(list, ",") + `]}]}`
		}
		move := func(user, policy string) error {
			_, err := n.as(account, user, policy).UpdatePrimaryRegion(ctx, &sdk.UpdatePrimaryRegionInput{KeyId: k.KeyId, PrimaryRegion: ptr(west)})
			return err
		}
		replica := ptr(strings.Replace(*k.Arn, region, west, 1))
		wantError(t, move("left", on(k.Arn)), "AccessDeniedException", "*")
		wantError(t, move("right", on(replica)), "AccessDeniedException", "*")
		if got := kin(t, describe(t, n.Client, k.KeyId)); got != "PRIMARY "+region+", "+west {
			t.Errorf("after refusals: %s", got)
		}
		if err := move("mover", on(k.Arn, replica)); err != nil {
			t.Error(err)
		}
	})
}

// Policies tell Multi-Region keys and their Regions apart.
func TestMultiRegionConditions(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k, single := n.multiRegion(types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac), n.create(types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac)
		n.replicate(k, west)
		when := func(action, operator, key, value, createIn string) string {
			return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"` + action + `","Resource":"*","Condition":{"` + operator + `":{"` + key + `":"` + value + `"}}},
				{"Effect":"Allow","Action":"kms:CreateKey","Resource":"*","Condition":{"StringEquals":{"aws:RequestedRegion":"` + createIn + `"}}}]}`
		}
		replicate := func(c *sdk.Client, to string) error {
			return second(c.ReplicateKey(ctx, &sdk.ReplicateKeyInput{KeyId: k.KeyId, ReplicaRegion: &to}))
		}
		c := n.as(account, "replicator", when("kms:ReplicateKey", "StringEquals", "kms:ReplicaRegion", east, east))
		wantError(t, replicate(c, "eu-west-1"), "AccessDeniedException", "*")
		if err := replicate(c, east); err != nil {
			t.Error(err)
		}
		// kms:CreateKey is needed where the replica is made.
		c = n.as(account, "athome", when("kms:ReplicateKey", "StringLike", "kms:ReplicaRegion", "*", region))
		wantError(t, replicate(c, "eu-west-1"), "AccessDeniedException", "*")

		c = n.as(account, "mover", when("kms:UpdatePrimaryRegion", "StringEquals", "kms:PrimaryRegion", west, region))
		wantError(t, second(c.UpdatePrimaryRegion(ctx, &sdk.UpdatePrimaryRegionInput{KeyId: k.KeyId, PrimaryRegion: ptr(east)})), "AccessDeniedException", "*")
		if _, err := c.UpdatePrimaryRegion(ctx, &sdk.UpdatePrimaryRegionInput{KeyId: k.KeyId, PrimaryRegion: ptr(west)}); err != nil {
			t.Error(err)
		}
		// Which kin is the primary key has changed, also for what is in memory.
		for user, want := range map[string][2]bool{"PRIMARY": {false, true}, "REPLICA": {true, false}} {
			policy := when("kms:GenerateMac", "StringEquals", "kms:MultiRegionKeyType", user, region)
			for i, in := range []string{region, west} {
				if err := mac(n.asIn(in, account, strings.ToLower(user), policy), k); (err == nil) != want[i] {
					t.Errorf("in %s a user of %s keys: %v", in, user, err)
				}
			}
		}
		only := n.as(account, "only", when("kms:GenerateMac", "Bool", "kms:MultiRegion", "true", region))
		if err := mac(only, k); err != nil {
			t.Error(err)
		}
		wantError(t, mac(only, single), "AccessDeniedException", "*")
	})
}

// A replica of a key with imported material wants the same material, and decrypts
// what its kin encrypted once it has it. What one lacks, no other lacks.
func TestReplicasOfImportedKeys(t *testing.T) {
	eachImporting(t, func(t *testing.T, n *node) {
		other := n.in(west)
		k := n.createWith(&sdk.CreateKeyInput{Origin: types.OriginTypeExternal, MultiRegion: ptr(true)})
		_, err := n.ReplicateKey(ctx, &sdk.ReplicateKeyInput{KeyId: k.KeyId, ReplicaRegion: ptr(west)})
		wantError(t, err, "KMSInvalidStateException", *k.Arn+" is pending import.")
		material := secret(32)
		n.mustImport(k, material, nil)
		blob := must[*sdk.EncryptOutput](t)(n.Encrypt(ctx, &sdk.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("p")})).CiphertextBlob
		r := n.replicate(k, west)
		if r.KeyState != types.KeyStatePendingImport || r.Enabled || r.Origin != types.OriginTypeExternal {
			t.Errorf("the replica is %s, of origin %s", r.KeyState, r.Origin)
		}
		_, err = other.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: blob})
		wantError(t, err, "KMSInvalidStateException", *r.Arn+" is pending import.")
		_, err = n.importsBy(other, r, secret(32), nil)
		wantError(t, err, "IncorrectKeyMaterialException", "*")
		if _, err = n.importsBy(other, r, material, nil); err != nil {
			t.Fatal(err)
		}
		decrypts := func(when string) {
			t.Helper()
			if out, err := other.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: blob}); err != nil || string(out.Plaintext) != "p" {
				t.Errorf("%s: %v, %v", when, out, err)
			}
		}
		decrypts("with its own import")
		n.deleteMaterial(k, nil)
		decrypts("when the primary key has lost its material")
		// The replica goes: the new material that it lacks is no longer waited for.
		n.mustImport(k, material, nil)
		n.mustImport(k, secret(32), asNew)
		if got := n.materialStates(k); !strings.Contains(got, "PENDING_MULTI_REGION_IMPORT_AND_ROTATION") {
			t.Errorf("before the replica is gone: %s", got)
		}
		if _, err := other.ScheduleKeyDeletion(ctx, &sdk.ScheduleKeyDeletionInput{KeyId: k.KeyId, PendingWindowInDays: ptr(int32(7))}); err != nil {
			t.Fatal(err)
		}
		n.clock.move(8 * day)
		n.runOnce()
		if got := n.materialStates(k); !strings.Contains(got, "PENDING_ROTATION") || strings.Contains(got, "MULTI_REGION") {
			t.Errorf("after the replica is gone: %s", got)
		}
	})
}

// Whatever one kin made, the others read: they are one key. Keys of one Region never cross.
func TestKinAreOneKey(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		other := n.in(west)
		sym := n.multiRegion(types.KeySpecSymmetricDefault, types.KeyUsageTypeEncryptDecrypt)
		before := must[*sdk.EncryptOutput](t)(n.Encrypt(ctx, &sdk.EncryptInput{KeyId: sym.KeyId, Plaintext: []byte("p"), EncryptionContext: map[string]string{"a": "1"}}))
		n.replicate(sym, west)
		back := must[*sdk.EncryptOutput](t)(other.Encrypt(ctx, &sdk.EncryptInput{KeyId: sym.KeyId, Plaintext: []byte("p"), EncryptionContext: map[string]string{"a": "1"}}))
		for _, c := range []struct {
			sdk  *sdk.Client
			blob []byte
			in   string
		}{{other, before.CiphertextBlob, west}, {n.Client, back.CiphertextBlob, region}} {
			for _, id := range []*string{nil, sym.KeyId} {
				out, err := c.sdk.Decrypt(ctx, &sdk.DecryptInput{KeyId: id, CiphertextBlob: c.blob, EncryptionContext: map[string]string{"a": "1"}})
				if err != nil || string(out.Plaintext) != "p" || !strings.Contains(*out.KeyId, ":"+c.in+":") {
					t.Errorf("in %s: %v, %v", c.in, out, err)
				}
			}
			_, err := c.sdk.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: c.blob})
			wantError(t, err, "InvalidCiphertextException", "*")
		}
		_, err := n.in(east).Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: before.CiphertextBlob, EncryptionContext: map[string]string{"a": "1"}})
		wantError(t, err, "AccessDeniedException", "*")

		single := n.symmetricKey()
		alone := must[*sdk.EncryptOutput](t)(n.Encrypt(ctx, &sdk.EncryptInput{KeyId: single.KeyId, Plaintext: []byte("p")}))
		_, err = other.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: alone.CiphertextBlob})
		wantError(t, err, "AccessDeniedException", "*")
		// The form of the id belongs to what is authenticated.
		forged := bytes.Clone(before.CiphertextBlob)
		forged[0] = alone.CiphertextBlob[0]
		_, err = other.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: forged, EncryptionContext: map[string]string{"a": "1"}})
		wantError(t, err, "AccessDeniedException", "*")

		signing := n.multiRegion(types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify)
		n.replicate(signing, west)
		signed := must[[]byte](t)(n.sign(*signing.KeyId, "m"))
		if _, err := other.Verify(ctx, &sdk.VerifyInput{
			KeyId: signing.KeyId, Message: []byte("m"), Signature: signed, SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256,
		}); err != nil {
			t.Error(err)
		}
		here := must[*sdk.GetPublicKeyOutput](t)(n.GetPublicKey(ctx, &sdk.GetPublicKeyInput{KeyId: signing.KeyId}))
		there := must[*sdk.GetPublicKeyOutput](t)(other.GetPublicKey(ctx, &sdk.GetPublicKeyInput{KeyId: signing.KeyId}))
		if !bytes.Equal(here.PublicKey, there.PublicKey) || *here.KeyId == *there.KeyId {
			t.Errorf("%s and %s differ", *here.KeyId, *there.KeyId)
		}
	})
}

// Policy, aliases, tags, description, state and last use are each kin's own.
func TestKinLiveTheirOwnLives(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		other := n.in(west)
		k := n.multiRegion(types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify)
		n.alias("alias/x", k)
		if _, err := n.TagResource(ctx, &sdk.TagResourceInput{KeyId: k.KeyId, Tags: tags("a", "1")}); err != nil {
			t.Fatal(err)
		}
		n.replicate(k, west)
		kinOf := func() string {
			return strings.Join(must[[]string](t)(n.service.KinAliases(ctx, aliasARN(account, "alias/x"))), " ")
		}
		if got := kinOf(); got != "" {
			t.Errorf("before there is an alias in the west: %s", got)
		}
		for _, name := range []string{"alias/x", "alias/y"} {
			if _, err := other.CreateAlias(ctx, &sdk.CreateAliasInput{AliasName: &name, TargetKeyId: k.KeyId}); err != nil {
				t.Fatal(err)
			}
		}
		if got, want := kinOf(), "arn:aws:kms:us-west-2:"+account+":alias/x"; got != want {
			t.Errorf("the aliases of that name elsewhere are %q, want %q", got, want)
		}
		for _, name := range []string{"alias/x", "alias/y"} {
			if _, err := other.DeleteAlias(ctx, &sdk.DeleteAliasInput{AliasName: &name}); err != nil {
				t.Fatal(err)
			}
		}
		if out := must[*sdk.ListAliasesOutput](t)(other.ListAliases(ctx, &sdk.ListAliasesInput{})); len(out.Aliases) != 0 {
			t.Errorf("aliases came along: %v", out.Aliases)
		}
		if out := must[*sdk.ListResourceTagsOutput](t)(other.ListResourceTags(ctx, &sdk.ListResourceTagsInput{KeyId: k.KeyId})); len(out.Tags) != 0 {
			t.Errorf("tags came along: %v", out.Tags)
		}
		if _, err := other.PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{KeyId: k.KeyId, Policy: ptr(keyPolicy("arn:aws:iam::"+account+":root", "kms:*"))}); err != nil {
			t.Fatal(err)
		}
		if here := must[*sdk.GetKeyPolicyOutput](t)(n.GetKeyPolicy(ctx, &sdk.GetKeyPolicyInput{KeyId: k.KeyId})); !strings.Contains(*here.Policy, "key-default-1") {
			t.Errorf("the primary key's policy is now %s", *here.Policy)
		}
		if _, err := other.UpdateKeyDescription(ctx, &sdk.UpdateKeyDescriptionInput{KeyId: k.KeyId, Description: ptr("there")}); err != nil {
			t.Fatal(err)
		}
		if m := describe(t, n.Client, k.KeyId); *m.Description != "" {
			t.Errorf("described as %q", *m.Description)
		}
		n.disable(k)
		if _, err := n.sign("alias/x", "m"); errorCode(err) != "DisabledException" {
			t.Errorf("disabled: %v", err)
		}
		sign := &sdk.SignInput{KeyId: k.KeyId, Message: []byte("m"), SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256}
		if _, err := other.Sign(ctx, sign); err != nil {
			t.Errorf("the replica of a disabled key: %v", err)
		}
		if out := must[*sdk.GetKeyLastUsageOutput](t)(n.GetKeyLastUsage(ctx, &sdk.GetKeyLastUsageInput{KeyId: k.KeyId})); out.KeyLastUsage.Timestamp != nil {
			t.Errorf("the primary key was used: %v", out.KeyLastUsage)
		}
	})
}

func TestUpdatePrimaryRegion(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		west_, east_ := n.in(west), n.in(east)
		k := n.multiRegion(types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac)
		n.replicate(k, west)
		n.replicate(k, east)
		move := func(c *sdk.Client, to string) error {
			_, err := c.UpdatePrimaryRegion(ctx, &sdk.UpdatePrimaryRegionInput{KeyId: k.KeyId, PrimaryRegion: &to})
			return err
		}
		wantError(t, move(n.Client, "ap-south-1"), "NotFoundException", "*")
		wantError(t, move(n.Client, region), "UnsupportedOperationException", "*")
		wantError(t, move(west_, east), "UnsupportedOperationException", "*")
		if _, err := west_.DisableKey(ctx, &sdk.DisableKeyInput{KeyId: k.KeyId}); err != nil {
			t.Fatal(err)
		}
		wantError(t, move(n.Client, west), "DisabledException", "*")
		if _, err := west_.EnableKey(ctx, &sdk.EnableKeyInput{KeyId: k.KeyId}); err != nil {
			t.Fatal(err)
		}
		if err := move(n.Client, west); err != nil {
			t.Fatal(err)
		}
		for c, want := range map[*sdk.Client]string{
			n.Client: "REPLICA us-west-2, eu-central-1, us-east-1", west_: "PRIMARY us-west-2, eu-central-1, us-east-1",
			east_: "REPLICA us-west-2, eu-central-1, us-east-1",
		} {
			if m := describe(t, c, k.KeyId); kin(t, m) != want || m.KeyState != types.KeyStateEnabled {
				t.Errorf("%s, want %s", kin(t, m), want)
			}
		}
		wantError(t, move(n.Client, east), "UnsupportedOperationException", *k.Arn+" is not a multi-Region primary key.")
		if _, err := west_.ReplicateKey(ctx, &sdk.ReplicateKeyInput{KeyId: k.KeyId, ReplicaRegion: ptr("ap-south-1")}); err != nil {
			t.Errorf("the new primary key cannot be replicated: %v", err)
		}
	})
}

// A primary key goes last. Its waiting period begins when its last replica is gone.
func TestPrimaryKeyIsDeletedLast(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		var store reluctant
		n := newNode(t, db, options{backend: func(b keystore.Backend) keystore.Backend { store.Backend = b; return &store }})
		west_ := n.in(west)
		k := n.multiRegion(types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac)
		replica := n.replicate(k, west)
		schedule := func(c *sdk.Client, days int32) *sdk.ScheduleKeyDeletionOutput {
			t.Helper()
			return must[*sdk.ScheduleKeyDeletionOutput](t)(c.ScheduleKeyDeletion(ctx, &sdk.ScheduleKeyDeletionInput{KeyId: k.KeyId, PendingWindowInDays: &days}))
		}
		out := schedule(n.Client, 8)
		if out.KeyState != types.KeyStatePendingReplicaDeletion || out.DeletionDate != nil || *out.PendingWindowInDays != 8 {
			t.Errorf("%+v", out)
		}
		m := describe(t, n.Client, k.KeyId)
		if m.KeyState != types.KeyStatePendingReplicaDeletion || m.DeletionDate != nil || *m.PendingDeletionWindowInDays != 8 || m.Enabled {
			t.Errorf("%+v", m)
		}
		for what, err := range map[string]error{
			"is used":       mac(n.Client, k),
			"is replicated": second(n.ReplicateKey(ctx, &sdk.ReplicateKeyInput{KeyId: k.KeyId, ReplicaRegion: ptr(east)})),
			"is enabled":    second(n.EnableKey(ctx, &sdk.EnableKeyInput{KeyId: k.KeyId})),
			"is scheduled":  second(n.ScheduleKeyDeletion(ctx, &sdk.ScheduleKeyDeletionInput{KeyId: k.KeyId})),
		} {
			if s := apiError(err); s != "KMSInvalidStateException: "+*k.Arn+" is pending replica deletion." {
				t.Errorf("it %s: %s", what, s)
			}
		}
		if err := mac(west_, k); err != nil {
			t.Errorf("its replica: %v", err)
		}
		n.clock.move(100 * day) // nothing is waiting
		if n.runOnce(); describe(t, n.Client, k.KeyId).KeyState != types.KeyStatePendingReplicaDeletion {
			t.Error("the waiting period began while there is a replica")
		}
		if _, err := n.CancelKeyDeletion(ctx, &sdk.CancelKeyDeletionInput{KeyId: k.KeyId}); err != nil {
			t.Fatal(err)
		}
		if m := describe(t, n.Client, k.KeyId); m.KeyState != types.KeyStateDisabled || m.PendingDeletionWindowInDays != nil {
			t.Errorf("cancelled: %+v", m)
		}
		schedule(n.Client, 8)
		schedule(west_, 7)
		n.clock.move(7*day + time.Minute)
		n.runOnce()
		if n.rows(replica) != 0 || store.destroyed.Load() != 0 {
			t.Errorf("%d rows of the replica; material destroyed %d times while the primary key has it", n.rows(replica), store.destroyed.Load())
		}
		m = describe(t, n.Client, k.KeyId)
		if m.KeyState != types.KeyStatePendingDeletion || m.DeletionDate.Sub(n.clock.now().Add(8*day)).Abs() > time.Minute || kin(t, m) != "PRIMARY "+region {
			t.Errorf("%+v", m)
		}
		n.clock.move(8*day - time.Minute)
		if n.runOnce(); n.rows(k) == 0 {
			t.Error("deleted before its waiting period was over")
		}
		n.clock.move(2 * time.Minute)
		if n.runOnce(); n.rows(k) != 0 || store.destroyed.Load() != 1 {
			t.Errorf("%d rows are left, material destroyed %d times", n.rows(k), store.destroyed.Load())
		}
	})
}

// A replica that is deleted takes nothing from its kin, and can be made again.
func TestReplicaComesAgain(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.multiRegion(types.KeySpecSymmetricDefault, types.KeyUsageTypeEncryptDecrypt)
		n.replicate(k, west)
		blob := must[*sdk.EncryptOutput](t)(n.in(west).Encrypt(ctx, &sdk.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("p")})).CiphertextBlob
		if _, err := n.in(west).ScheduleKeyDeletion(ctx, &sdk.ScheduleKeyDeletionInput{KeyId: k.KeyId, PendingWindowInDays: ptr(int32(7))}); err != nil {
			t.Fatal(err)
		}
		if _, err := n.in(west).Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: blob}); errorCode(err) != "KMSInvalidStateException" {
			t.Errorf("pending deletion: %v", err)
		}
		n.clock.move(8 * day)
		n.runOnce()
		if got := kin(t, describe(t, n.Client, k.KeyId)); got != "PRIMARY "+region {
			t.Errorf("after its deletion: %s", got)
		}
		n.replicate(k, west)
		for _, c := range []*sdk.Client{n.Client, n.in(west)} {
			if out, err := c.Decrypt(ctx, &sdk.DecryptInput{CiphertextBlob: blob}); err != nil || string(out.Plaintext) != "p" {
				t.Errorf("%v, %v", out, err)
			}
		}
	})
}

// Two callers replicate to the same Region and to different ones, while a third
// moves the primary Region to and fro: each Region gets one replica, and one kin is
// the primary key.
func TestReplicationRaces(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.multiRegion(types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac)
		n.replicate(k, west)
		clients := []*sdk.Client{n.Client, n.in(west)}
		regions := []string{east, "eu-west-1", "ap-south-1"}
		var made atomic.Int64
		var wg sync.WaitGroup
		for range 2 {
			for _, to := range regions {
				wg.Go(func() {
					for i := 0; ; i++ {
						_, err := clients[i%2].ReplicateKey(ctx, &sdk.ReplicateKeyInput{KeyId: k.KeyId, ReplicaRegion: &to})
						switch errorCode(err) {
						case "":
							made.Add(1)
							return
						case "AlreadyExistsException":
							return
						case "UnsupportedOperationException", "KMSInternalException": // the primary key is the other, or moves too often
						default:
							t.Errorf("replicating to %s: %v", to, err)
							return
						}
					}
				})
			}
		}
		wg.Go(func() {
			for i := range 4 {
				_, err := clients[i%2].UpdatePrimaryRegion(ctx, &sdk.UpdatePrimaryRegionInput{KeyId: k.KeyId, PrimaryRegion: ptr([]string{west, region}[i%2])})
				if c := errorCode(err); c != "" && c != "UnsupportedOperationException" && c != "KMSInternalException" {
					t.Errorf("moving the primary Region: %v", err)
				}
			}
		})
		wg.Wait()
		if made.Load() != 3 {
			t.Errorf("%d replicas were made", made.Load())
		}
		m := describe(t, n.Client, k.KeyId)
		primary := *m.MultiRegionConfiguration.PrimaryKey.Region
		for _, in := range append(regions, region, west) {
			m := describe(t, n.in(in), k.KeyId)
			if len(m.MultiRegionConfiguration.ReplicaKeys) != 4 || *m.MultiRegionConfiguration.PrimaryKey.Region != primary ||
				(m.MultiRegionConfiguration.MultiRegionKeyType == types.MultiRegionKeyTypePrimary) != (in == primary) {
				t.Errorf("%s says %s", in, kin(t, m))
			}
		}
	})
}

func mac(c *sdk.Client, k *types.KeyMetadata) error {
	_, err := c.GenerateMac(ctx, &sdk.GenerateMacInput{KeyId: k.KeyId, Message: []byte("m"), MacAlgorithm: types.MacAlgorithmSpecHmacSha256})
	return err
}

func second[T any](_ T, err error) error { return err }

// Every spec becomes a Multi-Region key whose replica opens: the sealed material
// is bound to what kin share.
func TestEverySpecReplicates(t *testing.T) {
	n := newNode(t, sqldbtest.SQLite(t), options{})
	for _, spec := range keystore.Specs() {
		if strings.HasPrefix(string(spec), "RSA_") && spec != keystore.RSA2048 {
			continue // the same but slower to make
		}
		k := n.multiRegion(types.KeySpec(spec), types.KeyUsageType(spec.Usages()[0]))
		r := n.replicate(k, west)
		if !slices.Equal(r.SigningAlgorithms, k.SigningAlgorithms) || r.KeyState != types.KeyStateEnabled {
			t.Errorf("%s: %+v", spec, r)
		}
		// Reading the key opens its material, for a key without a public half too.
		_, err := n.in(west).GetPublicKey(ctx, &sdk.GetPublicKeyInput{KeyId: k.KeyId})
		if c := errorCode(err); c != "" && c != "UnsupportedOperationException" {
			t.Errorf("%s: %v", spec, err)
		}
	}
}
