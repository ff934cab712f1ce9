package kms_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/kms"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// grant makes a grant on a key and returns its id and token.
func (n *node) grant(key *types.KeyMetadata, grantee string, operations ...types.GrantOperation) (id, token string) {
	n.t.Helper()
	return n.grantIf(nil, key, grantee, operations...)
}

func (n *node) grantIf(c *types.GrantConstraints, key *types.KeyMetadata, grantee string, operations ...types.GrantOperation) (id, token string) {
	n.t.Helper()
	out, err := n.CreateGrant(ctx, &sdk.CreateGrantInput{KeyId: key.KeyId, GranteePrincipal: &grantee, Operations: operations, Constraints: c})
	if err != nil {
		n.t.Fatalf("CreateGrant to %s: %v", grantee, err)
	}
	return *out.GrantId, *out.GrantToken
}

func (n *node) revoke(key *types.KeyMetadata, id string) {
	n.t.Helper()
	if _, err := n.RevokeGrant(ctx, &sdk.RevokeGrantInput{KeyId: key.KeyId, GrantId: &id}); err != nil {
		n.t.Fatal(err)
	}
}

// encrypts returns what became of an Encrypt with the pairs as context.
func encrypts(c *sdk.Client, key *types.KeyMetadata, pairs ...string) error {
	_, err := c.Encrypt(ctx, &sdk.EncryptInput{KeyId: key.Arn, Plaintext: []byte("m"), EncryptionContext: pairsOf(pairs)})
	return err
}

func pairsOf(pairs []string) map[string]string {
	m := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

func wantDenied(t testing.TB, err error) {
	t.Helper()
	wantError(t, err, "AccessDeniedException", "*")
}

// A grant lets its grantee do its operations and nothing else, to him and nobody
// else, from the answer to CreateGrant to that to RevokeGrant.
func TestGrantAllows(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k, other := n.symmetricKey(), n.symmetricKey()
		bob, eve := n.as(account, "bob", ""), n.as(account, "eve", "")
		wantDenied(t, encrypts(bob, k))
		id, token := n.grant(k, userARN("bob"), "Encrypt", "DescribeKey")
		if len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" || len(token) < 64 {
			t.Errorf("id %q, token %q", id, token)
		}
		if err := encrypts(bob, k); err != nil {
			t.Fatal(err)
		}
		if _, err := bob.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: k.KeyId}); err != nil {
			t.Error(err)
		}
		wantDenied(t, encrypts(eve, k))
		wantDenied(t, encrypts(bob, other))
		_, err := bob.GenerateDataKey(ctx, &sdk.GenerateDataKeyInput{KeyId: k.KeyId, KeySpec: "AES_256"})
		wantDenied(t, err)
		_, err = bob.ListGrants(ctx, &sdk.ListGrantsInput{KeyId: k.KeyId})
		wantDenied(t, err)
		_, err = bob.RevokeGrant(ctx, &sdk.RevokeGrantInput{KeyId: k.KeyId, GrantId: &id})
		wantDenied(t, err)
		n.revoke(k, id)
		wantDenied(t, encrypts(bob, k))
	})
}

// Of several grants to one principal each counts by itself.
func TestSeveralGrants(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		bob := n.as(account, "bob", "")
		narrow, _ := n.grantIf(&types.GrantConstraints{EncryptionContextSubset: pairsOf([]string{"a", "1"})}, k, userARN("bob"), "Encrypt")
		wide, _ := n.grant(k, userARN("bob"), "Encrypt")
		if err := encrypts(bob, k); err != nil {
			t.Fatal(err)
		}
		n.revoke(k, wide)
		wantDenied(t, encrypts(bob, k))
		if err := encrypts(bob, k, "a", "1"); err != nil {
			t.Fatal(err)
		}
		again, _ := n.grant(k, userARN("bob"), "Encrypt")
		n.revoke(k, narrow)
		if err := encrypts(bob, k); err != nil {
			t.Fatal(err)
		}
		n.revoke(k, again)
		wantDenied(t, encrypts(bob, k, "a", "1"))
	})
}

// A policy that denies, denies the grantee too.
func TestDenyWinsOverGrant(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		bob := n.as(account, "bob", `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"kms:Encrypt","Resource":"*"}]}`)
		n.grant(k, userARN("bob"), "Encrypt", "GenerateDataKey")
		wantDenied(t, encrypts(bob, k))
		generate := func() error {
			_, err := bob.GenerateDataKey(ctx, &sdk.GenerateDataKeyInput{KeyId: k.KeyId, KeySpec: "AES_256"})
			return err
		}
		if err := generate(); err != nil {
			t.Fatal(err)
		}
		document := keyPolicyOf(statement("kms:*", rootARN(account)),
			`{"Effect":"Deny","Principal":{"AWS":"`+userARN("bob")+`"},"Action":"kms:GenerateDataKey","Resource":"*"}`)
		if _, err := n.PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{KeyId: k.KeyId, Policy: &document}); err != nil {
			t.Fatal(err)
		}
		wantDenied(t, generate())
	})
}

func TestGrantConstraints(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		equal, subset := n.as(account, "equal", ""), n.as(account, "subset", "")
		both := pairsOf([]string{"Department", "IT", "Purpose", "Test"})
		n.grantIf(&types.GrantConstraints{EncryptionContextEquals: both}, k, userARN("equal"), "Encrypt", "Decrypt", "DescribeKey")
		n.grantIf(&types.GrantConstraints{EncryptionContextSubset: both}, k, userARN("subset"), "Encrypt", "Decrypt", "DescribeKey")
		for _, c := range []struct {
			pairs         []string
			equal, subset bool
		}{
			{[]string{"Department", "IT", "Purpose", "Test"}, true, true},
			{[]string{"Purpose", "Test", "Department", "IT"}, true, true},
			{[]string{"Department", "IT", "Purpose", "Test", "x", "y"}, false, true},
			{[]string{"Department", "IT"}, false, false},
			{[]string{"Department", "IT", "Purpose", "test"}, false, false},
			{[]string{"department", "IT", "Purpose", "Test"}, false, false},
			{nil, false, false},
		} {
			for name, who := range map[string]struct {
				client *sdk.Client
				may    bool
			}{"equal": {equal, c.equal}, "subset": {subset, c.subset}} {
				if err := encrypts(who.client, k, c.pairs...); (err == nil) != who.may {
					t.Errorf("%s %q: %v", name, c.pairs, err)
				}
			}
		}
		// What has no context is not bound by it.
		if _, err := equal.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: k.KeyId}); err != nil {
			t.Error(err)
		}
	})
}

func TestCreateGrantValidation(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		n.as(account, "bob", "")
		symmetric, signing, mac := n.symmetricKey(), n.signingKey(), n.create(types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac)
		bob, service := ptr(userARN("bob")), ptr("secretsmanager.amazonaws.com")
		ten := map[string]string{}
		for i := range 9 {
			ten[fmt.Sprint(i)] = ""
		}
		source := &types.GrantConstraints{SourceArn: ptr("arn:aws:secretsmanager:eu-central-1:111122223333:secret:x")}
		for name, c := range map[string]struct {
			in            sdk.CreateGrantInput
			code, message string
		}{
			"no operations":   {sdk.CreateGrantInput{GranteePrincipal: bob, Operations: []types.GrantOperation{}}, "ValidationException", "*"},
			"no grantee":      {sdk.CreateGrantInput{Operations: ops("Encrypt")}, "ValidationException", "Specify either GranteePrincipal or GranteeServicePrincipal"},
			"two grantees":    {sdk.CreateGrantInput{GranteePrincipal: bob, GranteeServicePrincipal: service, Operations: ops("Encrypt")}, "ValidationException", "*"},
			"two retirers":    {sdk.CreateGrantInput{GranteePrincipal: bob, RetiringPrincipal: bob, RetiringServicePrincipal: service, Operations: ops("Encrypt")}, "ValidationException", "*"},
			"unknown op":      {sdk.CreateGrantInput{GranteePrincipal: bob, Operations: ops("ScheduleKeyDeletion")}, "ValidationException", "*"},
			"sign":            {sdk.CreateGrantInput{GranteePrincipal: bob, Operations: ops("Sign")}, "ValidationException", "A grant on…"},
			"GetPublicKey":    {sdk.CreateGrantInput{GranteePrincipal: bob, Operations: ops("GetPublicKey")}, "ValidationException", "A grant on…"},
			"GenerateDataKey": {sdk.CreateGrantInput{KeyId: signing.KeyId, GranteePrincipal: bob, Operations: ops("GenerateDataKey")}, "ValidationException", "A grant on…"},
			"MAC of a signer": {sdk.CreateGrantInput{KeyId: signing.KeyId, GranteePrincipal: bob, Operations: ops("GenerateMac")}, "ValidationException", "A grant on…"},
			"public MAC":      {sdk.CreateGrantInput{KeyId: mac.KeyId, GranteePrincipal: bob, Operations: ops("GetPublicKey")}, "ValidationException", "A grant on…"},
			"context of a signer": {sdk.CreateGrantInput{
				KeyId: signing.KeyId, GranteePrincipal: bob, Operations: ops("Sign"),
				Constraints: &types.GrantConstraints{EncryptionContextEquals: map[string]string{"a": "b"}},
			}, "ValidationException", "An encryption context constraint…"},
			"both constraints": {sdk.CreateGrantInput{
				GranteePrincipal: bob, Operations: ops("Encrypt"),
				Constraints: &types.GrantConstraints{EncryptionContextEquals: map[string]string{"a": "b"}, EncryptionContextSubset: map[string]string{"a": "b"}},
			}, "ValidationException", "*"},
			"empty constraint": {sdk.CreateGrantInput{
				GranteePrincipal: bob, Operations: ops("Encrypt"), Constraints: &types.GrantConstraints{EncryptionContextEquals: map[string]string{}},
			}, "ValidationException", "*"},
			"nine pairs": {sdk.CreateGrantInput{
				GranteePrincipal: bob, Operations: ops("Encrypt"), Constraints: &types.GrantConstraints{EncryptionContextSubset: ten},
			}, "ValidationException", "*"},
			"long value": {sdk.CreateGrantInput{
				GranteePrincipal: bob, Operations: ops("Encrypt"),
				Constraints: &types.GrantConstraints{EncryptionContextSubset: map[string]string{"a": strings.Repeat("x", 385)}},
			}, "ValidationException", "*"},
			"source":                {sdk.CreateGrantInput{GranteePrincipal: bob, Operations: ops("Encrypt"), Constraints: &types.GrantConstraints{SourceArn: ptr("x")}}, "InvalidArnException", "Invalid arn x"},
			"service, no source":    {sdk.CreateGrantInput{GranteeServicePrincipal: service, RetiringPrincipal: bob, Operations: ops("Encrypt")}, "ValidationException", "A grant to a service needs the constraint…"},
			"service, no retirer":   {sdk.CreateGrantInput{GranteeServicePrincipal: service, Constraints: source, Operations: ops("Encrypt")}, "ValidationException", "A grant to a service needs a Retiring…"},
			"no service":            {sdk.CreateGrantInput{GranteeServicePrincipal: bob, RetiringPrincipal: bob, Constraints: source, Operations: ops("Encrypt")}, "ValidationException", "*"},
			"account id":            {sdk.CreateGrantInput{GranteePrincipal: ptr(account), Operations: ops("Encrypt")}, "InvalidArnException", "Invalid arn " + account},
			"a key":                 {sdk.CreateGrantInput{GranteePrincipal: symmetric.Arn, Operations: ops("Encrypt")}, "InvalidArnException", "*"},
			"a group":               {sdk.CreateGrantInput{GranteePrincipal: ptr("arn:aws:iam::" + account + ":group/g"), Operations: ops("Encrypt")}, "InvalidArnException", "*"},
			"nobody":                {sdk.CreateGrantInput{GranteePrincipal: ptr(userARN("nobody")), Operations: ops("Encrypt")}, "InvalidArnException", "ARN does not refer to a valid principal: " + userARN("nobody")},
			"nobody retires":        {sdk.CreateGrantInput{GranteePrincipal: bob, RetiringPrincipal: ptr(userARN("nobody")), Operations: ops("Encrypt")}, "InvalidArnException", "ARN does not…"},
			"name":                  {sdk.CreateGrantInput{GranteePrincipal: bob, Operations: ops("Encrypt"), Name: ptr("a b")}, "ValidationException", "*"},
			"alias":                 {sdk.CreateGrantInput{KeyId: ptr("alias/x"), GranteePrincipal: bob, Operations: ops("Encrypt")}, "NotFoundException", "*"},
			"missing key":           {sdk.CreateGrantInput{KeyId: ptr("1234abcd-12ab-34cd-56ef-1234567890ab"), GranteePrincipal: bob, Operations: ops("Encrypt")}, "NotFoundException", "*"},
			"missing, not mine":     {sdk.CreateGrantInput{KeyId: ptr(keyARN(otherAccount, "1234abcd-12ab-34cd-56ef-1234567890ab")), GranteePrincipal: bob, Operations: ops("Encrypt")}, "AccessDeniedException", "*"},
			"a dry run would do it": {sdk.CreateGrantInput{GranteePrincipal: bob, Operations: ops("Encrypt"), DryRun: ptr(true)}, "DryRunOperationException", "*"},
		} {
			if c.in.KeyId == nil {
				c.in.KeyId = symmetric.KeyId
			}
			_, err := n.CreateGrant(ctx, &c.in)
			if err == nil {
				t.Errorf("%s: granted", name)
				continue
			}
			t.Run(name, func(t *testing.T) { wantError(t, err, c.code, c.message) })
		}
		for _, k := range []*types.KeyMetadata{symmetric, signing, mac} {
			if got := grantsOf(n.Client, k); len(got) != 0 {
				t.Errorf("after all refusals %d grants", len(got))
			}
		}
	})
}

func ops(names ...types.GrantOperation) []types.GrantOperation { return names }

// grantsOf lists all grants on a key, two a page.
func grantsOf(c *sdk.Client, k *types.KeyMetadata) []types.GrantListEntry {
	var all []types.GrantListEntry
	pages := sdk.NewListGrantsPaginator(c, &sdk.ListGrantsInput{KeyId: k.KeyId, Limit: ptr(int32(2))})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			panic(err)
		}
		all = append(all, page.Grants...)
	}
	return all
}

// With a name CreateGrant may be called again: the same request answers the same
// grant, with another token.
func TestNamedGrants(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		bob := n.as(account, "bob", "")
		n.as(account, "eve", "")
		ask := func(change func(*sdk.CreateGrantInput)) (id, token string) {
			in := &sdk.CreateGrantInput{
				KeyId: k.KeyId, GranteePrincipal: ptr(userARN("bob")), Operations: ops("Encrypt", "Decrypt"), Name: ptr("n"),
				Constraints: &types.GrantConstraints{EncryptionContextSubset: map[string]string{"a": "1", "b": "2"}},
			}
			change(in)
			out, err := n.CreateGrant(ctx, in)
			if err != nil {
				t.Fatal(err)
			}
			return *out.GrantId, *out.GrantToken
		}
		first, token := ask(func(*sdk.CreateGrantInput) {})
		tokens := map[string]bool{token: true}
		for range 3 {
			id, token := ask(func(in *sdk.CreateGrantInput) { in.Operations = ops("Decrypt", "Encrypt", "Encrypt") })
			if id != first || tokens[token] {
				t.Errorf("again %s, token seen before: %t; want %s", id, tokens[token], first)
			}
			tokens[token] = true
		}
		ids := map[string]bool{first: true}
		for what, change := range map[string]func(*sdk.CreateGrantInput){
			"name":        func(in *sdk.CreateGrantInput) { in.Name = ptr("m") },
			"no name":     func(in *sdk.CreateGrantInput) { in.Name = nil },
			"operations":  func(in *sdk.CreateGrantInput) { in.Operations = ops("Encrypt") },
			"grantee":     func(in *sdk.CreateGrantInput) { in.GranteePrincipal = ptr(userARN("eve")) },
			"retirer":     func(in *sdk.CreateGrantInput) { in.RetiringPrincipal = ptr(userARN("eve")) },
			"constraints": func(in *sdk.CreateGrantInput) { in.Constraints = nil },
		} {
			id, _ := ask(change)
			if ids[id] {
				t.Errorf("with another %s the same grant", what)
			}
			ids[id] = true
		}
		if again, _ := ask(func(in *sdk.CreateGrantInput) { in.Name = nil }); ids[again] {
			t.Error("without a name the same grant again")
		}
		if got := grantsOf(n.Client, k); len(got) != 8 {
			t.Errorf("%d grants", len(got))
		}
		// Any of the tokens retires the one grant.
		for token := range tokens {
			if _, err := n.RetireGrant(ctx, &sdk.RetireGrantInput{GrantToken: &token}); err != nil {
				t.Fatal(err)
			}
			break
		}
		for token := range tokens {
			_, err := n.RetireGrant(ctx, &sdk.RetireGrantInput{GrantToken: &token})
			wantError(t, err, "InvalidGrantTokenException", "*")
		}
		_ = bob
	})
}

func TestListGrants(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k, other := n.symmetricKey(), n.symmetricKey()
		n.as(account, "bob", "")
		n.as(account, "eve", "")
		service := "secretsmanager.amazonaws.com"
		out := must[*sdk.CreateGrantOutput](t)(n.CreateGrant(ctx, &sdk.CreateGrantInput{
			KeyId: k.KeyId, GranteePrincipal: ptr(userARN("bob")), RetiringPrincipal: ptr(userARN("eve")), Name: ptr("mine"),
			Operations: ops("RetireGrant", "Encrypt"), Constraints: &types.GrantConstraints{EncryptionContextEquals: map[string]string{"a": "b"}},
		}))
		served := must[*sdk.CreateGrantOutput](t)(n.CreateGrant(ctx, &sdk.CreateGrantInput{
			KeyId: k.KeyId, GranteeServicePrincipal: &service, RetiringServicePrincipal: &service, Operations: ops("Decrypt"),
			Constraints: &types.GrantConstraints{SourceArn: ptr("arn:aws:secretsmanager:eu-central-1:111122223333:secret:x")},
		}))
		ids := map[string]bool{*out.GrantId: true, *served.GrantId: true}
		for range 3 {
			id, _ := n.grant(k, userARN("bob"), "Decrypt")
			ids[id] = true
		}
		elsewhere, _ := n.grant(other, userARN("bob"), "Decrypt")

		all := grantsOf(n.Client, k)
		if len(all) != 5 || !slices.IsSortedFunc(all, func(a, b types.GrantListEntry) int { return strings.Compare(*a.GrantId, *b.GrantId) }) {
			t.Errorf("%d grants", len(all))
		}
		for _, g := range all {
			if !ids[*g.GrantId] {
				t.Errorf("unexpected grant %s", *g.GrantId)
			}
			if *g.KeyId != *k.Arn || *g.IssuingAccount != rootARN(account) || g.CreationDate == nil {
				t.Errorf("grant %+v", g)
			}
			switch *g.GrantId {
			case *out.GrantId:
				if *g.GranteePrincipal != userARN("bob") || *g.RetiringPrincipal != userARN("eve") || *g.Name != "mine" || g.GranteeServicePrincipal != nil ||
					!slices.Equal(g.Operations, ops("Encrypt", "RetireGrant")) || !maps.Equal(g.Constraints.EncryptionContextEquals, map[string]string{"a": "b"}) {
					t.Errorf("grant %+v", g)
				}
			case *served.GrantId:
				if g.GranteePrincipal != nil || *g.GranteeServicePrincipal != service || *g.RetiringServicePrincipal != service || g.Constraints.SourceArn == nil {
					t.Errorf("grant %+v", g)
				}
			}
		}
		list := func(change func(*sdk.ListGrantsInput)) *sdk.ListGrantsOutput {
			t.Helper()
			in := &sdk.ListGrantsInput{KeyId: k.KeyId}
			change(in)
			return must[*sdk.ListGrantsOutput](t)(n.ListGrants(ctx, in))
		}
		for want, change := range map[int]func(*sdk.ListGrantsInput){
			4: func(in *sdk.ListGrantsInput) { in.GranteePrincipal = ptr(userARN("bob")) },
			1: func(in *sdk.ListGrantsInput) { in.GrantId = out.GrantId },
			0: func(in *sdk.ListGrantsInput) { in.GrantId = &elsewhere },
		} {
			if got := list(change); len(got.Grants) != want || got.Truncated {
				t.Errorf("%d grants, want %d", len(got.Grants), want)
			}
		}
		if got := list(func(in *sdk.ListGrantsInput) { in.GranteePrincipal = ptr(userARN("eve")) }); len(got.Grants) != 0 {
			t.Errorf("eve has %d grants", len(got.Grants))
		}
		for _, in := range []*sdk.ListGrantsInput{
			{KeyId: k.KeyId, GrantId: ptr("x")},
			{KeyId: k.KeyId, GranteeServicePrincipal: &service},
			{KeyId: k.KeyId, GranteePrincipal: ptr(userARN("bob")), GranteeServicePrincipal: &service},
			{KeyId: k.KeyId, Limit: ptr(int32(101))},
			{KeyId: other.KeyId, Marker: list(func(in *sdk.ListGrantsInput) { in.Limit = ptr(int32(1)) }).NextMarker},
		} {
			_, err := n.ListGrants(ctx, in)
			want := "ValidationException"
			if in.GrantId != nil {
				want = "InvalidGrantIdException"
			} else if in.Marker != nil {
				want = "InvalidMarkerException"
			}
			wantError(t, err, want, "*")
		}
	})
}

func TestListRetirableGrants(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		mine, theirs := n.symmetricKey(), n.symmetricKey()
		n.as(account, "bob", "")
		eve := n.as(account, "eve", allow("kms:ListRetirableGrants"))
		make := func(k *types.KeyMetadata, retirer string) string {
			out := must[*sdk.CreateGrantOutput](t)(n.CreateGrant(ctx, &sdk.CreateGrantInput{
				KeyId: k.KeyId, GranteePrincipal: ptr(userARN("bob")), RetiringPrincipal: &retirer, Operations: ops("Decrypt"),
			}))
			return *out.GrantId
		}
		want := map[string]bool{make(mine, userARN("eve")): true, make(theirs, userARN("eve")): true, make(mine, userARN("eve")): true}
		make(mine, userARN("bob"))
		var got []types.GrantListEntry
		pages := sdk.NewListRetirableGrantsPaginator(eve, &sdk.ListRetirableGrantsInput{RetiringPrincipal: ptr(userARN("eve")), Limit: ptr(int32(1))})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, page.Grants...)
		}
		if len(got) != 3 {
			t.Errorf("%d grants", len(got))
		}
		for _, g := range got {
			if !want[*g.GrantId] || *g.RetiringPrincipal != userARN("eve") {
				t.Errorf("grant %+v", g)
			}
		}
		elsewhere := n.asIn("us-west-2", account, "eve", allow("kms:ListRetirableGrants"))
		if out := must[*sdk.ListRetirableGrantsOutput](t)(elsewhere.ListRetirableGrants(ctx, &sdk.ListRetirableGrantsInput{RetiringPrincipal: ptr(userARN("eve"))})); len(out.Grants) != 0 {
			t.Errorf("in another Region %d grants", len(out.Grants))
		}
		stranger := n.as(otherAccount, "stranger", allow("kms:*"))
		_, err := stranger.ListRetirableGrants(ctx, &sdk.ListRetirableGrantsInput{RetiringPrincipal: ptr(userARN("eve"))})
		wantDenied(t, err)
		// The principal is the resource that policies speak of.
		n.as(account, "eve", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:ListRetirableGrants","Resource":"`+userARN("eve")+`"}]}`)
		if _, err := eve.ListRetirableGrants(ctx, &sdk.ListRetirableGrantsInput{RetiringPrincipal: ptr(userARN("eve"))}); err != nil {
			t.Error(err)
		}
		_, err = eve.ListRetirableGrants(ctx, &sdk.ListRetirableGrantsInput{RetiringPrincipal: ptr(userARN("bob"))})
		wantDenied(t, err)
		for _, in := range []*sdk.ListRetirableGrantsInput{{}, {RetiringServicePrincipal: ptr("a.b")}} {
			_, err := n.ListRetirableGrants(ctx, in)
			wantError(t, err, "ValidationException", "*")
		}
		_, err = n.ListRetirableGrants(ctx, &sdk.ListRetirableGrantsInput{RetiringPrincipal: ptr("bob")})
		wantError(t, err, "InvalidArnException", "*")
	})
}

// Who may retire a grant, and who not.
func TestRetireGrant(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		grantee, retirer, delegate := n.as(account, "grantee", ""), n.as(account, "retirer", ""), n.as(account, "delegate", allow("kms:RetireGrant"))
		stranger := n.as(account, "stranger", allow("kms:RevokeGrant"))
		make := func(operations ...types.GrantOperation) *sdk.CreateGrantOutput {
			return must[*sdk.CreateGrantOutput](t)(n.CreateGrant(ctx, &sdk.CreateGrantInput{
				KeyId: k.KeyId, GranteePrincipal: ptr(userARN("grantee")), RetiringPrincipal: ptr(userARN("retirer")), Operations: operations,
			}))
		}
		for name, c := range map[string]struct {
			who        *sdk.Client
			operations []types.GrantOperation
			may        bool
		}{
			"retiring principal":     {retirer, ops("Encrypt"), true},
			"grantee with the right": {grantee, ops("Encrypt", "RetireGrant"), true},
			"grantee without":        {grantee, ops("Encrypt"), false},
			"root":                   {n.Client, ops("Encrypt"), true},
			"delegate":               {delegate, ops("Encrypt"), true},
			"stranger":               {stranger, ops("Encrypt", "RetireGrant"), false},
			"another account":        {n.as(otherAccount, "", ""), ops("Encrypt", "RetireGrant"), false},
		} {
			g := make(c.operations...)
			for _, in := range []*sdk.RetireGrantInput{
				{KeyId: k.Arn, GrantId: g.GrantId, DryRun: ptr(true)},
				{GrantToken: g.GrantToken, DryRun: ptr(true)},
				{KeyId: k.Arn, GrantId: g.GrantId},
				{GrantToken: make(c.operations...).GrantToken},
			} {
				_, err := c.who.RetireGrant(ctx, in)
				want := "AccessDeniedException"
				if c.may {
					want = ""
					if in.DryRun != nil {
						want = "DryRunOperationException"
					}
				}
				if errorCode(err) != want {
					t.Errorf("%s: %v, want %q", name, err, want)
				}
			}
		}
		id := strings.Repeat("0", 64)
		for _, c := range []struct {
			in   sdk.RetireGrantInput
			code string
		}{
			{sdk.RetireGrantInput{}, "ValidationException"},
			{sdk.RetireGrantInput{KeyId: k.Arn}, "ValidationException"},
			{sdk.RetireGrantInput{KeyId: k.Arn, GrantId: &id, GrantToken: ptr("x")}, "ValidationException"},
			{sdk.RetireGrantInput{GrantToken: ptr("x")}, "InvalidGrantTokenException"},
			{sdk.RetireGrantInput{KeyId: k.Arn, GrantId: ptr("x")}, "InvalidGrantIdException"},
			{sdk.RetireGrantInput{KeyId: k.Arn, GrantId: &id}, "NotFoundException"},
			{sdk.RetireGrantInput{KeyId: ptr("1234abcd-12ab-34cd-56ef-1234567890ab"), GrantId: &id}, "NotFoundException"},
		} {
			_, err := n.RetireGrant(ctx, &c.in)
			wantError(t, err, c.code, "*")
		}
		// A stranger does not learn which grants there are.
		_, missing := stranger.RetireGrant(ctx, &sdk.RetireGrantInput{KeyId: k.Arn, GrantId: &id})
		_, present := stranger.RetireGrant(ctx, &sdk.RetireGrantInput{KeyId: k.Arn, GrantId: make("Encrypt").GrantId})
		if apiError(missing) != apiError(present) {
			t.Errorf("missing: %v\npresent: %v", missing, present)
		}
		_, err := n.RevokeGrant(ctx, &sdk.RevokeGrantInput{KeyId: k.KeyId, GrantId: &id})
		wantError(t, err, "NotFoundException", "*")
		_, err = n.RevokeGrant(ctx, &sdk.RevokeGrantInput{KeyId: k.KeyId, GrantId: &id, DryRun: ptr(true)})
		wantError(t, err, "NotFoundException", "*")
		_, err = n.RevokeGrant(ctx, &sdk.RevokeGrantInput{KeyId: k.KeyId, GrantId: ptr("x")})
		wantError(t, err, "InvalidGrantIdException", "*")
	})
}

// A replica that is made again has the ARN of the one before, and not its grants.
func TestGrantsOfAReplicaThatComesBack(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		n := newNode(t, db, options{config: func(c *kms.Config) { c.IdleAfter = 1000 * time.Hour }})
		const west = "us-west-2"
		primary := n.createWith(&sdk.CreateKeyInput{MultiRegion: ptr(true)})
		replicate := func() *types.KeyMetadata {
			return must[*sdk.ReplicateKeyOutput](t)(n.ReplicateKey(ctx, &sdk.ReplicateKeyInput{KeyId: primary.KeyId, ReplicaRegion: ptr(west)})).ReplicaKeyMetadata
		}
		root, bob := n.asIn(west, account, "", ""), n.asIn(west, account, "bob", "")
		k := replicate()
		if _, err := root.CreateGrant(ctx, &sdk.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: ptr(userARN("bob")), Operations: ops("Encrypt")}); err != nil {
			t.Fatal(err)
		}
		if err := encrypts(bob, k); err != nil {
			t.Fatal(err)
		}
		wantDenied(t, encrypts(n.as(account, "bob", ""), primary)) // each kin has its own
		if _, err := root.ScheduleKeyDeletion(ctx, &sdk.ScheduleKeyDeletionInput{KeyId: k.KeyId, PendingWindowInDays: ptr(int32(7))}); err != nil {
			t.Fatal(err)
		}
		n.clock.move(8 * 24 * time.Hour)
		if _, err := n.service.RunOnce(ctx); err != nil {
			t.Fatal(err)
		}
		if again := replicate(); *again.Arn != *k.Arn {
			t.Fatalf("the replica is %s", *again.Arn)
		}
		wantDenied(t, encrypts(bob, k))
	})
}

// Grants of a disabled key can be ended, not made; a deleted key's are gone.
func TestGrantsAndKeyStates(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		bob := n.as(account, "bob", "")
		id, _ := n.grant(k, userARN("bob"), "Encrypt")
		last, _ := n.grant(k, userARN("bob"), "Decrypt")
		in := &sdk.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: ptr(userARN("bob")), Operations: ops("Decrypt")}
		n.disable(k)
		wantError(t, encrypts(bob, k), "DisabledException", "*")
		_, err := n.CreateGrant(ctx, in)
		wantError(t, err, "DisabledException", "*")
		if got := grantsOf(n.Client, k); len(got) != 2 {
			t.Errorf("%d grants", len(got))
		}
		n.revoke(k, id)
		n.scheduleDeletion(k, 7)
		_, err = n.CreateGrant(ctx, in)
		wantError(t, err, "KMSInvalidStateException", "*")
		if _, err := n.RetireGrant(ctx, &sdk.RetireGrantInput{KeyId: k.KeyId, GrantId: &last, DryRun: ptr(true)}); errorCode(err) != "DryRunOperationException" {
			t.Error(err)
		}
		n.clock.move(8 * 24 * time.Hour)
		if _, err := n.service.RunOnce(ctx); err != nil {
			t.Fatal(err)
		}
		var left int
		if err := n.db.QueryRow(ctx, `SELECT COUNT(*) FROM kms_grants`).Scan(&left); err != nil || left != 0 {
			t.Errorf("%d grants are left, %v", left, err)
		}
	})
}

// However many grants a key has, looking for those of one caller is one search.
func TestGrantsOfOneCallerAreOneSearch(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		bob := n.as(account, "bob", "")
		id, _ := n.grant(k, userARN("bob"), "Encrypt")
		err := n.db.Write(ctx, func(tx *sqldb.Tx) error {
			_, err := tx.Exec(`INSERT INTO kms_grants WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < 3000)
				SELECT grant_id || i, key_arn, region, grantee || i, grantee_id, retiring, retiring_id, issuer, name, operations, constraints,
				fingerprint || i, created_at FROM kms_grants, n WHERE grant_id = $1`, id)
			if err == nil {
				_, err = tx.Exec(`ANALYZE`)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := encrypts(bob, k); err != nil {
			t.Error(err)
		}
		prefix := "EXPLAIN QUERY PLAN "
		if n.db.IsPostgres() {
			prefix = "EXPLAIN "
		}
		rows, err := n.db.Query(ctx, prefix+`SELECT grant_id FROM kms_grants WHERE key_arn = $1 AND grantee IN ($2, $3, $4) ORDER BY grant_id`,
			*k.Arn, userARN("bob"), "", rootARN(account))
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		plan := ""
		for rows.Next() {
			var line string
			var number [3]int
			if n.db.IsPostgres() {
				err = rows.Scan(&line)
			} else {
				err = rows.Scan(&number[0], &number[1], &number[2], &line)
			}
			if err != nil {
				t.Fatal(err)
			}
			plan += line + "\n"
		}
		if !strings.Contains(plan, "kms_grants_grantee") {
			t.Errorf("the plan is\n%s", plan)
		}
	})
}
