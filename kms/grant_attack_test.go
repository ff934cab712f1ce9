package kms_test

import (
	"maps"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/keystore/software"
	"github.com/keyturn/keyturn/kms"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// session is a client for a session of a role without policies.
func (n *node) session(role, session string) *sdk.Client {
	n.t.Helper()
	secret := access.NewSecret("secret-of-" + role + session)
	c := access.EphemeralCredential{
		AccessKeyID: "ASIA" + strings.ToUpper(role+session), Secret: secret, Account: account,
		PrincipalARN: "arn:aws:sts::" + account + ":assumed-role/" + role + "/" + session,
	}
	if err := n.guard.AddEphemeral(c); err != nil {
		n.t.Fatal(err)
	}
	return n.client(region, c.AccessKeyID, secret)
}

// Whoever may create grants by a grant passes on no more than he has.
func TestGrantsCannotBeWidened(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		n.as(account, "eve", "")
		subset := func(pairs ...string) *types.GrantConstraints {
			return &types.GrantConstraints{EncryptionContextSubset: pairsOf(pairs)}
		}
		equals := func(pairs ...string) *types.GrantConstraints {
			return &types.GrantConstraints{EncryptionContextEquals: pairsOf(pairs)}
		}
		source := func(arn string) *types.GrantConstraints { return &types.GrantConstraints{SourceArn: &arn} }
		for name, c := range map[string]struct {
			parent, child *types.GrantConstraints
			operations    []types.GrantOperation
			may           bool
		}{
			"the same":               {nil, nil, ops("Encrypt", "CreateGrant"), true},
			"less":                   {nil, nil, ops("Encrypt"), true},
			"another operation":      {nil, nil, ops("Encrypt", "Decrypt"), false},
			"an operation besides":   {nil, nil, ops("DescribeKey"), false},
			"stricter":               {nil, subset("a", "1"), ops("Encrypt"), true},
			"the same subset":        {subset("a", "1"), subset("a", "1"), ops("Encrypt"), true},
			"more pairs":             {subset("a", "1"), subset("a", "1", "b", "2"), ops("Encrypt"), true},
			"subset to equals":       {subset("a", "1"), equals("a", "1"), ops("Encrypt"), true},
			"no constraint":          {subset("a", "1"), nil, ops("Encrypt"), false},
			"another value":          {subset("a", "1"), subset("a", "2"), ops("Encrypt"), false},
			"another case":           {subset("a", "1"), subset("A", "1"), ops("Encrypt"), false},
			"a pair less":            {subset("a", "1", "b", "2"), subset("a", "1"), ops("Encrypt"), false},
			"the same equals":        {equals("a", "1"), equals("a", "1"), ops("Encrypt"), true},
			"equals to subset":       {equals("a", "1"), subset("a", "1"), ops("Encrypt"), false},
			"equals to another":      {equals("a", "1"), equals("a", "1", "b", "2"), ops("Encrypt"), false},
			"for a resource, unsaid": {source("arn:aws:s3:::b"), nil, ops("Encrypt"), false},
		} {
			k := n.symmetricKey()
			bob := n.as(account, "bob", "")
			n.grantIf(c.parent, k, userARN("bob"), "Encrypt", "CreateGrant")
			_, err := bob.CreateGrant(ctx, &sdk.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: ptr(userARN("eve")), Operations: c.operations, Constraints: c.child})
			if (err == nil) != c.may || err != nil && errorCode(err) != "AccessDeniedException" {
				t.Errorf("%s: %v", name, err)
			}
		}
		// Two grants do not add up to one.
		k, bob := n.symmetricKey(), n.as(account, "bob", "")
		n.grant(k, userARN("bob"), "Encrypt", "CreateGrant")
		n.grant(k, userARN("bob"), "Decrypt", "CreateGrant")
		in := &sdk.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: ptr(userARN("eve")), Operations: ops("Encrypt", "Decrypt")}
		_, err := bob.CreateGrant(ctx, in)
		wantDenied(t, err)
		n.grant(k, userARN("bob"), "Encrypt", "Decrypt", "CreateGrant")
		if _, err := bob.CreateGrant(ctx, in); err != nil {
			t.Error(err)
		}
	})
}

// A token is of use to the grantee, and says nothing that he could change.
func TestGrantTokens(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k, other := n.symmetricKey(), n.symmetricKey()
		bob, eve := n.as(account, "bob", ""), n.as(account, "eve", "")
		id, token := n.grant(k, userARN("bob"), "Encrypt")
		_, foreign := n.grant(other, userARN("bob"), "Encrypt")
		encrypt := func(c *sdk.Client, key *types.KeyMetadata, tokens ...string) error {
			_, err := c.Encrypt(ctx, &sdk.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("m"), GrantTokens: tokens})
			return err
		}
		if err := encrypt(bob, k, token); err != nil {
			t.Fatal(err)
		}
		// Whoever took it gets nothing by it.
		wantDenied(t, encrypt(eve, k, token))
		for i := 0; i < len(token); i += 7 {
			flipped := []byte(token)
			flipped[i] ^= 1
			wantError(t, encrypt(bob, k, string(flipped)), "InvalidGrantTokenException", "*")
		}
		elsewhere := newNode(t, sqldbtest.SQLite(t), options{})
		elsewhere.as(account, "bob", "")
		_, stranger := elsewhere.grant(elsewhere.symmetricKey(), userARN("bob"), "Encrypt")
		for _, forged := range []string{"x", token + token, token[:len(token)-4], id, stranger} {
			wantError(t, encrypt(bob, k, token, forged), "InvalidGrantTokenException", "*")
			wantError(t, encrypt(n.Client, k, forged), "InvalidGrantTokenException", "*")
			_, err := n.DescribeKey(ctx, &sdk.DescribeKeyInput{KeyId: k.KeyId, GrantTokens: []string{forged}})
			wantError(t, err, "InvalidGrantTokenException", "*")
			_, err = n.RetireGrant(ctx, &sdk.RetireGrantInput{GrantToken: &forged})
			wantError(t, err, "InvalidGrantTokenException", "*")
		}
		// One of another key is refused, but only to those who may use this one.
		wantError(t, encrypt(bob, k, foreign), "InvalidGrantTokenException", "*")
		wantDenied(t, encrypt(eve, k, foreign))
		blob := encryptSomething(n, k)
		if _, err := n.ReEncrypt(ctx, &sdk.ReEncryptInput{CiphertextBlob: blob, DestinationKeyId: other.KeyId, GrantTokens: []string{token, foreign}}); err != nil {
			t.Errorf("ReEncrypt with the tokens of both keys: %v", err)
		}
		// Nor is an old token worth anything.
		n.revoke(k, id)
		wantDenied(t, encrypt(bob, k, token))
	})
}

// Grants across accounts: to whom they are given, and who else has a say in them.
func TestGrantsAcrossAccounts(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		other := func(user, policy string) (*sdk.Client, string) {
			return n.as(otherAccount, user, policy), access.UserARN(otherAccount, "/", user)
		}
		bob, bobARN := other("bob", "")
		eve, _ := other("eve", allow("kms:*"))
		idle, _ := other("idle", "")
		otherRoot := n.as(otherAccount, "", "")
		wantDenied(t, encrypts(bob, k))
		id, token := n.grant(k, bobARN, "Encrypt", "CreateGrant")
		if err := encrypts(bob, k); err != nil {
			t.Fatal(err)
		}
		wantDenied(t, encrypts(eve, k))
		wantDenied(t, encrypts(n.as(account, "bob", ""), k)) // the same name, another account

		// What bob passes on is his account's doing: it may take it back, the account of a third may not.
		passed := must[*sdk.CreateGrantOutput](t)(bob.CreateGrant(ctx, &sdk.CreateGrantInput{KeyId: k.Arn, GranteePrincipal: ptr(access.UserARN(otherAccount, "/", "idle")), Operations: ops("Encrypt")}))
		if err := encrypts(idle, k); err != nil {
			t.Error(err)
		}
		third := n.as("777788889999", "", "")
		for _, in := range []*sdk.RetireGrantInput{{KeyId: k.Arn, GrantId: passed.GrantId}, {GrantToken: passed.GrantToken}, {GrantToken: &token}} {
			_, err := third.RetireGrant(ctx, in)
			wantDenied(t, err)
			_, err = eve.RetireGrant(ctx, in)
			wantDenied(t, err)
		}
		_, err := otherRoot.RetireGrant(ctx, &sdk.RetireGrantInput{GrantToken: &token}) // made by account
		wantDenied(t, err)
		for _, c := range []*sdk.Client{eve, otherRoot, third} {
			_, err := c.RevokeGrant(ctx, &sdk.RevokeGrantInput{KeyId: k.Arn, GrantId: &id})
			wantDenied(t, err)
			_, err = c.ListGrants(ctx, &sdk.ListGrantsInput{KeyId: k.Arn})
			wantDenied(t, err)
		}
		for _, g := range grantsOf(n.Client, k) {
			if want := map[bool]string{true: otherAccount, false: account}[*g.GrantId == *passed.GrantId]; *g.IssuingAccount != rootARN(want) {
				t.Errorf("grant %s was issued by %s", *g.GrantId, *g.IssuingAccount)
			}
		}
		if _, err := otherRoot.RetireGrant(ctx, &sdk.RetireGrantInput{GrantToken: passed.GrantToken}); err != nil {
			t.Error(err)
		}
		wantDenied(t, encrypts(idle, k))

		// A grant to an account: its root user, and whom it lets.
		n.grant(k, rootARN(otherAccount), "Encrypt")
		for _, c := range []*sdk.Client{otherRoot, eve} {
			if err := encrypts(c, k); err != nil {
				t.Error(err)
			}
		}
		wantDenied(t, encrypts(idle, k))
		wantDenied(t, encrypts(third, k))
		if err := encrypts(bob, k); err != nil {
			t.Error(err)
		}
	})
}

// A grant to a role is for its sessions, one to a session for that one.
func TestGrantsToRoles(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		one, two, other := n.session("Signer", "one"), n.session("Signer", "two"), n.session("SignerX", "one")
		role := "arn:aws:iam::" + account + ":role/Signer"
		byRole, _ := n.grant(k, role, "Encrypt")
		for _, c := range []*sdk.Client{one, two} {
			if err := encrypts(c, k); err != nil {
				t.Error(err)
			}
		}
		wantDenied(t, encrypts(other, k))
		n.revoke(k, byRole)
		n.grant(k, "arn:aws:sts::"+account+":assumed-role/Signer/one", "Encrypt")
		if err := encrypts(one, k); err != nil {
			t.Error(err)
		}
		wantDenied(t, encrypts(two, k))
	})
}

// A user who is made again under the name of a deleted one has not his grants.
func TestGrantsAreNotInherited(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		bob := n.user("bob")
		n.as(account, "eve", "")
		id, token := n.grant(k, bob.arn, "Encrypt", "RetireGrant")
		retirable := must[*sdk.CreateGrantOutput](t)(n.CreateGrant(ctx, &sdk.CreateGrantInput{
			KeyId: k.KeyId, GranteePrincipal: ptr(userARN("eve")), RetiringPrincipal: &bob.arn, Operations: ops("Encrypt"),
		}))
		if err := encrypts(bob.Client, k); err != nil {
			t.Fatal(err)
		}
		list := func(grantee string) int {
			out := must[*sdk.ListGrantsOutput](t)(n.ListGrants(ctx, &sdk.ListGrantsInput{KeyId: k.KeyId, GranteePrincipal: &grantee}))
			return len(out.Grants)
		}
		if list(bob.arn) != 1 {
			t.Error("bob's grant is not listed")
		}
		bob.delete()
		namesake := n.user("bob")
		wantDenied(t, encrypts(namesake.Client, k))
		for _, in := range []*sdk.RetireGrantInput{{GrantToken: &token}, {KeyId: k.KeyId, GrantId: &id}, {GrantToken: retirable.GrantToken}} {
			_, err := namesake.RetireGrant(ctx, in)
			wantDenied(t, err)
		}
		shown := map[string]string{}
		for _, g := range grantsOf(n.Client, k) {
			shown[*g.GranteePrincipal] = ""
			if g.RetiringPrincipal != nil {
				shown[*g.GranteePrincipal] = *g.RetiringPrincipal
			}
		}
		if want := map[string]string{bob.id: "", userARN("eve"): bob.id}; !maps.Equal(shown, want) {
			t.Errorf("the grants show %v, want %v", shown, want)
		}
		if list(bob.arn) != 0 || list(bob.id) != 1 {
			t.Errorf("%d grants of the namesake, %d of the deleted", list(bob.arn), list(bob.id))
		}
		retirableNow := must[*sdk.ListRetirableGrantsOutput](t)(n.ListRetirableGrants(ctx, &sdk.ListRetirableGrantsInput{RetiringPrincipal: &bob.arn}))
		if len(retirableNow.Grants) != 0 {
			t.Errorf("the namesake may retire %d grants", len(retirableNow.Grants))
		}
		// A grant of the same name is another one, for the other user.
		named := func() string {
			out := must[*sdk.CreateGrantOutput](t)(n.CreateGrant(ctx, &sdk.CreateGrantInput{KeyId: k.KeyId, GranteePrincipal: &bob.arn, Operations: ops("Encrypt"), Name: ptr("n")}))
			return *out.GrantId
		}
		first := named()
		namesake.delete()
		n.user("bob")
		if named() == first {
			t.Error("the third user of the name has the grant of the second")
		}
	})
}

// Nor has a role that is made again under the name of a deleted one its grants,
// nor what key policies gave it.
func TestRolesInheritNothing(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		byGrant, byPolicy := n.symmetricKey(), n.symmetricKey()
		c, arn, id := n.role("Signer")
		n.grant(byGrant, arn, "Encrypt")
		document := keyPolicyOf(statement("kms:*", rootARN(account)), statement("kms:Encrypt", arn))
		if _, err := n.PutKeyPolicy(ctx, &sdk.PutKeyPolicyInput{KeyId: byPolicy.KeyId, Policy: &document}); err != nil {
			t.Fatal(err)
		}
		for _, k := range []*types.KeyMetadata{byGrant, byPolicy} {
			if err := encrypts(c, k); err != nil {
				t.Error(err)
			}
		}
		n.deleteRole("Signer")
		again, _, newID := n.role("Signer")
		if newID == id {
			t.Fatal("the roles are one")
		}
		for _, k := range []*types.KeyMetadata{byGrant, byPolicy} {
			wantDenied(t, encrypts(again, k))
		}
		shown := *must[*sdk.GetKeyPolicyOutput](t)(n.GetKeyPolicy(ctx, &sdk.GetKeyPolicyInput{KeyId: byPolicy.KeyId})).Policy
		if strings.Contains(shown, arn) || !strings.Contains(shown, id) {
			t.Errorf("the policy shows %s", shown)
		}
		if g := grantsOf(n.Client, byGrant)[0]; *g.GranteePrincipal != id {
			t.Errorf("the grant shows %s", *g.GranteePrincipal)
		}
	})
}

// A grant to a service is for the resource that it names, and for nobody but the
// service.
func TestGrantsToServices(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		const service, secret = "secretsmanager.amazonaws.com", "arn:aws:secretsmanager:eu-central-1:111122223333:secret:x"
		if _, err := n.CreateGrant(ctx, &sdk.CreateGrantInput{
			KeyId: k.KeyId, GranteeServicePrincipal: ptr(service), RetiringServicePrincipal: ptr(service), Operations: ops("Encrypt"),
			Constraints: &types.GrantConstraints{SourceArn: ptr(secret)},
		}); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			name, source string
			may          bool
		}{{service, secret, true}, {service, secret + "y", false}, {service, "", false}, {"rds.amazonaws.com", secret, false}} {
			call := &access.Call{
				ID: "1", Service: "kms", EventSource: "kms.amazonaws.com", Operation: "Encrypt", Region: region, Account: account, ReadOnly: true,
				Caller: &access.Caller{Account: account, ARN: c.name, UserID: c.name, Type: access.AWSService}, Time: time.Now(), SourceARN: c.source,
			}
			_, err := n.service.Encrypt(ctx, call, &kms.EncryptRequest{KeyId: *k.Arn, Plaintext: awsapi.Sensitive("m")})
			if (err == nil) != c.may {
				t.Errorf("%s for %q: %v", c.name, c.source, err)
			}
			if err := n.guard.Finish(ctx, call, "", ""); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Once RevokeGrant has returned, no request that begins afterwards is allowed by
// the grant, however look-ups and changes race; and once CreateGrant has, all are.
func TestRevokedMeansRevoked(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		k := n.symmetricKey()
		bob := n.as(account, "bob", "")
		stop := make(chan struct{})
		var phase atomic.Int64 // 1 modulo 4 while the grant certainly holds, 3 while it certainly does not
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					before := phase.Load()
					err := encrypts(bob, k)
					if after := phase.Load(); before != after {
						continue
					}
					switch {
					case before%4 == 1 && err != nil, before%4 == 3 && errorCode(err) != "AccessDeniedException":
						t.Errorf("in phase %d: %v", before%4, err)
					}
				}
			})
		}
		for range 15 {
			id, _ := n.grant(k, userARN("bob"), "Encrypt")
			phase.Add(1)
			if err := encrypts(bob, k); err != nil {
				t.Errorf("right after CreateGrant: %v", err)
			}
			phase.Add(1)
			n.revoke(k, id)
			phase.Add(1)
			if err := encrypts(bob, k); errorCode(err) != "AccessDeniedException" {
				t.Errorf("right after RevokeGrant: %v", err)
			}
			phase.Add(1)
		}
		close(stop)
		wg.Wait()
	})
}

// Two nodes on one database: a token makes a grant hold at once on the node that
// has not heard of it, and a grant that ends on one ends on the other within a
// second.
func TestGrantsOnTwoNodes(t *testing.T) {
	url := sqldbtest.Postgres(t)
	root := software.RootKeyFile(filepath.Join(t.TempDir(), "root.key"))
	a := newNode(t, sqldbtest.Open(t, url), options{root: root})
	b := newNode(t, sqldbtest.Open(t, url), options{root: root})
	k := a.symmetricKey()
	a.as(account, "bob", "")
	bob := b.as(account, "bob", "")
	within := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Second); ; runtime.Gosched() {
			began := time.Now()
			if ok() {
				return
			}
			if began.After(deadline) {
				t.Fatalf("%s: not after a second", what)
			}
		}
	}
	for range 3 {
		wantDenied(t, encrypts(bob, k)) // b knows now that there is none
		id, token := a.grant(k, userARN("bob"), "Encrypt", "RetireGrant")
		if _, err := bob.Encrypt(ctx, &sdk.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("m"), GrantTokens: []string{token}}); err != nil {
			t.Errorf("with the token: %v", err)
		}
		within("granted elsewhere", func() bool { return encrypts(bob, k) == nil })
		a.revoke(k, id)
		within("revoked elsewhere", func() bool { return errorCode(encrypts(bob, k)) == "AccessDeniedException" })
		_, err := bob.Encrypt(ctx, &sdk.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("m"), GrantTokens: []string{token}})
		wantDenied(t, err)
	}
	_, token := a.grant(k, userARN("bob"), "Encrypt", "RetireGrant")
	if _, err := bob.RetireGrant(ctx, &sdk.RetireGrantInput{GrantToken: &token}); err != nil {
		t.Errorf("retiring elsewhere, at once: %v", err)
	}
}

// A request that a grant allows reads nothing from the database, once it is warm.
func TestWarmGrantsReadNothing(t *testing.T) {
	db := sqldbtest.SQLite(t)
	n := newNode(t, db, options{})
	k := n.symmetricKey()
	bob, eve := n.as(account, "bob", ""), n.as(account, "eve", "")
	_, token := n.grantIf(&types.GrantConstraints{EncryptionContextSubset: map[string]string{"a": "1"}}, k, userARN("bob"), "Encrypt")
	use := func() error {
		_, err := bob.Encrypt(ctx, &sdk.EncryptInput{KeyId: k.KeyId, Plaintext: []byte("m"), EncryptionContext: map[string]string{"a": "1"}, GrantTokens: []string{token}})
		return err
	}
	if err := use(); err != nil {
		t.Fatal(err)
	}
	wantDenied(t, encrypts(eve, k))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := use(); err != nil {
			t.Error(err)
		}
		wantDenied(t, encrypts(eve, k))
	}
}
