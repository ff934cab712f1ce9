package rotators_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// user makes an ephemeral user, whom grants may name.
func (h *house) user(name string) (arn string) {
	h.t.Helper()
	arn = access.UserARN(account, "/", name)
	check(h.t, h.guard.AddEphemeral(access.EphemeralCredential{AccessKeyID: "AKIA" + name, Secret: access.NewSecret("s"), Account: account, PrincipalARN: arn}))
	return arn
}

func (h *house) grant(in sdk.CreateGrantInput) {
	h.t.Helper()
	_, err := h.admin.CreateGrant(h.t.Context(), &in)
	check(h.t, err)
}

// grants are the grants on a key, but for what no two grants share.
func (h *house) grants(key string) (all []string) {
	h.t.Helper()
	out, err := h.admin.ListGrants(h.t.Context(), &sdk.ListGrantsInput{KeyId: &key})
	check(h.t, err)
	for _, g := range out.Grants {
		c := types.GrantConstraints{}
		if g.Constraints != nil {
			c = *g.Constraints
		}
		all = append(all, fmt.Sprintln(aws.ToString(g.GranteePrincipal), aws.ToString(g.GranteeServicePrincipal), aws.ToString(g.RetiringPrincipal),
			aws.ToString(g.RetiringServicePrincipal), g.Operations, c.EncryptionContextSubset, aws.ToString(c.SourceArn)))
	}
	slices.Sort(all)
	return all
}

// grantedLineage is a lineage whose key has grants, one of them of a user who was deleted.
func (h *house) grantedLineage(name string, copied bool) rotation.Policy {
	h.t.Helper()
	p := fullLife(name, "alias/"+name)
	p.CopyGrants = copied
	key := h.key(types.KeySpecSymmetricDefault, types.KeyUsageTypeEncryptDecrypt)
	bob, eve, service := h.user("bob"), h.user("eve"), aws.String("secretsmanager.amazonaws.com")
	h.grant(sdk.CreateGrantInput{
		KeyId: &key, GranteePrincipal: &bob, RetiringPrincipal: &eve, Operations: []types.GrantOperation{"Encrypt", "CreateGrant"},
		Constraints: &types.GrantConstraints{EncryptionContextSubset: map[string]string{"a": "b"}},
	})
	h.grant(sdk.CreateGrantInput{KeyId: &key, GranteePrincipal: &bob, Operations: []types.GrantOperation{"Decrypt"}, Name: aws.String("mine")})
	h.grant(sdk.CreateGrantInput{
		KeyId: &key, GranteeServicePrincipal: service, RetiringServicePrincipal: service, Operations: []types.GrantOperation{"Decrypt"},
		Constraints: &types.GrantConstraints{SourceArn: aws.String("arn:aws:secretsmanager:eu-central-1:" + account + ":secret:x")},
	})
	h.alias(p.Alias, key)
	h.put(p)
	return p
}

// deletedPrincipal makes a grant on the key whose principal is deleted afterwards.
func (h *house) deletedPrincipal(key string) (id string) {
	h.t.Helper()
	made, err := h.guard.CreateUser(h.t.Context(), h.call("CreateUser"), &access.CreateUserInput{UserName: "gone"})
	check(h.t, err)
	h.grant(sdk.CreateGrantInput{KeyId: &key, GranteePrincipal: &made.User.Arn, Operations: []types.GrantOperation{"Encrypt"}})
	_, err = h.guard.DeleteUser(h.t.Context(), h.call("DeleteUser"), &access.DeleteUserInput{UserName: "gone"})
	check(h.t, err)
	return made.User.UserId
}

// The new key has the grants of the old one when the policy says so, each once, whatever happens to the calls.
func TestGrantsAreCopied(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := newHouse(t, db)
		i := 0
		for how, name := range breakages {
			i++
			p := h.grantedLineage(fmt.Sprintf("copied%d", i), true)
			h.settle(p.Name)
			id := h.rotate(p.Name)
			seen := 0
			h.wire.set(func(_ int, operation string) breakage {
				if operation != "CreateGrant" {
					return whole
				}
				if seen++; seen == 2 {
					return how
				}
				return whole
			}, nil)
			r := h.driveUntil(id, func(r rotation.Rotation) bool { return r.Step == rotation.StepDeactivate })
			h.wire.set(nil, nil)
			if old, got := h.grants(r.OldKey), h.grants(r.NewKey); len(got) != 3 || !slices.Equal(got, old) {
				t.Errorf("%s: the grants were %s and are %s", name, old, got)
			}
			h.forget()
		}
	})
}

// A plan says of each grant what becomes of it, and what it says is true.
func TestPlansTellOfGrants(t *testing.T) {
	for _, copied := range []bool{true, false} {
		h := newHouse(t, sqldbtest.SQLite(t))
		p := h.grantedLineage("planned", copied)
		old := h.names(p.Alias)
		gone := h.deletedPrincipal(old)
		out, err := h.service.PlanRotation(t.Context(), h.call("PlanRotation"), &rotation.PlanRotationInput{Name: p.Name})
		check(t, err)
		text := strings.Join(out.Plan.Warnings, "\n")
		want := map[string]int{"is copied, as the policy says": 3, "is not copied: its principal " + gone + " was deleted": 1, "review whether": 0}
		if !copied {
			want = map[string]int{"is copied": 0, "is not copied: review whether its holder needs it on the new key": 4}
		}
		for what, n := range want {
			if strings.Count(text, what) != n {
				t.Errorf("copied %t: %q is not %d times in\n%s", copied, what, n, text)
			}
		}
		planned := ""
		for _, s := range out.Plan.Steps {
			planned += strings.Join(s.Calls, "\n") + "\n"
		}
		if strings.Contains(planned, "CreateGrant (the new key, 3 times)") != copied {
			t.Errorf("copied %t: the calls are\n%s", copied, planned)
		}
		h.settle(p.Name)
		h.wire.set(nil, nil)
		r := h.driveUntil(h.rotate(p.Name), func(r rotation.Rotation) bool { return r.Step == rotation.StepDeactivate })
		calls := 0
		for _, call := range h.wire.set(nil, nil) {
			if call == "CreateGrant" {
				calls++
			}
		}
		if got := h.grants(r.NewKey); len(got) != calls || calls != map[bool]int{true: 3}[copied] {
			t.Errorf("copied %t: %d calls made %s", copied, calls, got)
		}
	}
}
