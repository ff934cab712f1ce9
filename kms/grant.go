package kms

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/arn"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/keystore"
)

// A grant lets one principal do some operations with one key, until somebody
// retires or revokes it. It can only allow: a policy that denies still denies.
// Here, unlike at AWS, it holds from the moment that CreateGrant answers on the
// node that was asked, and within a second on every other; there its token makes
// it hold at once.

// grantRow is a row of kms_grants. It never changes.
type grantRow struct {
	id, keyARN, region   string
	grantee, granteeID   string // ARN, or the name of a service; unique id
	retiring, retiringID string
	issuer               string // account
	name                 string
	operations           string
	constraints          string
	fingerprint          string
	created              int64 // µs
}

const grantColumns = `grant_id, key_arn, region, grantee, grantee_id, retiring, retiring_id, issuer, name, operations, constraints, fingerprint, created_at`

func (g *grantRow) columns() []any {
	return []any{
		&g.id, &g.keyARN, &g.region, &g.grantee, &g.granteeID, &g.retiring, &g.retiringID, &g.issuer, &g.name, &g.operations,
		&g.constraints, &g.fingerprint, &g.created,
	}
}

// grantsTopic is what changes of a key's grants are announced under.
func grantsTopic(keyARN string) string { return "grants/" + keyARN }

// readGrant reads a grant on a key; sql.ErrNoRows when there is none.
func (s *Service) readGrant(ctx context.Context, keyARN, id string) (*grantRow, error) {
	g := new(grantRow)
	err := s.db.QueryRow(ctx, `SELECT `+grantColumns+` FROM kms_grants WHERE grant_id = $1 AND key_arn = $2`, id, keyARN).Scan(g.columns()...)
	if err != nil {
		return nil, fmt.Errorf("reading grant %s: %w", id, err)
	}
	return g, nil
}

// grantOperations: what a grant can let do → its bit in a grant's operations.
// The order is the API model's.
var grantOperations = func() map[string]operations {
	all := map[string]operations{}
	for i, op := range constrainGrantOperation.Enum {
		all[op] = 1 << i
	}
	return all
}()

// operations is a set of the operations of grants.
type operations uint32

func operationsOf(names []string) (set operations) {
	for _, name := range names {
		set |= grantOperations[name]
	}
	return set
}

func (o operations) String() string {
	var names []string
	for _, name := range constrainGrantOperation.Enum {
		if o&grantOperations[name] != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// grantable says whether a grant on such a key can have the operation.
func grantable(operation string, k *keyFacts) bool {
	switch operation {
	case "CreateGrant", "RetireGrant", "DescribeKey":
		return true
	case "GetPublicKey":
		return k.spec.Kind() == keystore.KindAsymmetric
	case "ReEncryptFrom", "ReEncryptTo":
		operation = "ReEncrypt"
	}
	if strings.HasPrefix(operation, "GenerateDataKey") && k.spec.Kind() != keystore.KindSymmetric {
		return false
	}
	return usageFor[operation] == k.usage
}

// A constraint is the Constraints of a grant.
type constraint struct {
	equals, subset map[string]string // of the encryption context; nil: any will do
	sourceARN      string            // of the resource for which a service asks; empty: any
}

// The limits of a constraint on the encryption context.
const (
	maxConstraintPairs = 8
	maxConstraintValue = 384
)

// newConstraint checks the member. AWS's tools take the two constraints on the
// context as alternatives, and so is it here.
func newConstraint(in *GrantConstraints) (constraint, error) {
	if in == nil {
		return constraint{}, nil
	}
	c := constraint{equals: in.EncryptionContextEquals, subset: in.EncryptionContextSubset, sourceARN: in.SourceArn}
	if c.equals != nil && c.subset != nil {
		return c, awsapi.Errorf("ValidationException", "Constraints has either EncryptionContextEquals or EncryptionContextSubset, not both")
	}
	for _, pairs := range []map[string]string{c.equals, c.subset} {
		if pairs != nil && (len(pairs) == 0 || len(pairs) > maxConstraintPairs) {
			return c, awsapi.Errorf("ValidationException", "An encryption context constraint has 1 to %d pairs, not %d", maxConstraintPairs, len(pairs))
		}
		for _, value := range pairs {
			if len(value) > maxConstraintValue {
				return c, awsapi.Errorf("ValidationException", "A value of an encryption context constraint has at most %d characters", maxConstraintValue)
			}
		}
	}
	if c.sourceARN != "" {
		if _, err := arn.Parse(c.sourceARN); err != nil {
			return c, awsapi.Errorf("InvalidArnException", "Invalid arn %s", c.sourceARN)
		}
	}
	return c, nil
}

// context is what CreateGrant has for kms:EncryptionContext and its keys.
func (c *constraint) context() map[string]string {
	if c.equals != nil {
		return c.equals
	}
	return c.subset
}

// holds says whether a request meets the constraint. That on the encryption
// context is about the use of the key.
func (c *constraint) holds(call *access.Call, r *request) bool {
	if c.sourceARN != "" && c.sourceARN != call.SourceARN {
		return false
	}
	switch r.operation {
	case "DescribeKey", "CreateGrant", "RetireGrant":
		return true
	}
	return (c.equals == nil || len(c.equals) == len(r.context) && within(c.equals, r.context)) && within(c.subset, r.context)
}

// widens says whether a grant under child could let do what one under c cannot.
func (c *constraint) widens(child *constraint) bool {
	if c.sourceARN != "" && c.sourceARN != child.sourceARN {
		return true
	}
	if c.equals != nil {
		return child.equals == nil || len(c.equals) != len(child.equals) || !within(c.equals, child.equals)
	}
	return !within(c.subset, child.context())
}

// within reports whether all pairs of a are pairs of b.
func within(a, b map[string]string) bool {
	for key, value := range a {
		if have, ok := b[key]; !ok || have != value {
			return false
		}
	}
	return true
}

// text is how the row keeps the member.
func (c *constraint) text() string {
	if c.equals == nil && c.subset == nil && c.sourceARN == "" {
		return ""
	}
	return string(c.member().AppendJSON(nil))
}

func (c *constraint) member() *GrantConstraints {
	return &GrantConstraints{EncryptionContextEquals: c.equals, EncryptionContextSubset: c.subset, SourceArn: c.sourceARN}
}

func parseConstraint(text string) (c constraint, err error) {
	if text == "" {
		return c, nil
	}
	var member GrantConstraints
	if err := json.Unmarshal([]byte(text), &member, json.RejectUnknownMembers(true)); err != nil {
		return c, fmt.Errorf("reading the constraints of a grant: %w", err)
	}
	return newConstraint(&member)
}

// sign fills in the fingerprint by which CreateGrant knows a request again.
func (g *grantRow) sign() {
	if g.name == "" {
		g.fingerprint = g.id
		return
	}
	h := sha256.New()
	for _, field := range []string{g.issuer, g.name, g.grantee, g.granteeID, g.retiring, g.retiringID, g.operations, g.constraints} {
		fmt.Fprintf(h, "%d:%s", len(field), field)
	}
	g.fingerprint = hex.EncodeToString(h.Sum(nil))
}

// A principal of a grant is named by ARN, or, in a member of its own, by the name
// of a service.
func isService(principal string) bool { return !arn.Is(principal) }

// checkPrincipal reads the ARN of a grant's principal.
func checkPrincipal(principal string) error {
	a, err := arn.Parse(principal)
	typ, id := a.Cut()
	switch {
	case err != nil || a.Account == "" || a.Region != "" || a.Partition != partition:
	case a.Service == "iam" && a.Resource == "root",
		a.Service == "iam" && (typ == "user" || typ == "role") && id != "",
		a.Service == "sts" && typ == "assumed-role" && strings.Count(id, "/") == 1,
		a.Service == "sts" && typ == "federated-user" && id != "":
		return nil
	}
	return awsapi.Errorf("InvalidArnException", "Invalid arn %s", principal)
}

func checkServicePrincipal(member, name string) error {
	if len(name) > 256 || !strings.Contains(name, ".") || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" {
		return awsapi.Errorf("ValidationException", "%s %q is not the name of a service, like rds.amazonaws.com", member, name)
	}
	return nil
}

// checkGrantID refuses what cannot be the id of a grant.
func checkGrantID(id string) error {
	if len(id) != 2*sha256.Size || strings.Trim(id, "0123456789abcdef") != "" {
		return awsapi.Errorf("InvalidGrantIdException", "Invalid grant ID %s", id)
	}
	return nil
}

func grantNotFound(id string) error {
	return awsapi.Errorf("NotFoundException", "Grant ID %s not found", id)
}

// entry is the grant as lists show it. A principal that was deleted shows as its
// unique id.
func (s *Service) entry(ctx context.Context, g *grantRow) (GrantListEntry, error) {
	e := GrantListEntry{
		GrantId: g.id, KeyId: g.keyARN, IssuingAccount: access.RootARN(g.issuer), Name: g.name,
		Operations: strings.Split(g.operations, ","), CreationDate: timestamp(g.created),
	}
	c, err := parseConstraint(g.constraints)
	if err != nil {
		return e, err
	}
	if g.constraints != "" {
		e.Constraints = c.member()
	}
	if isService(g.grantee) {
		e.GranteeServicePrincipal = g.grantee
	} else if e.GranteePrincipal, err = s.principalName(ctx, g.grantee, g.granteeID); err != nil {
		return e, err
	}
	if isService(g.retiring) {
		e.RetiringServicePrincipal = g.retiring
	} else if e.RetiringPrincipal, err = s.principalName(ctx, g.retiring, g.retiringID); err != nil {
		return e, err
	}
	return e, nil
}

// principalName is what the principal that was once named by name is called now.
func (s *Service) principalName(ctx context.Context, name, id string) (string, error) {
	if id == "" {
		return name, nil
	}
	now, found, err := s.guard.PrincipalARN(ctx, id)
	if err != nil {
		return "", err
	}
	if !found {
		return id, nil
	}
	return now, nil
}

// isPrincipal reports whether the caller is the principal of a grant, himself or
// through the role of his session.
func isPrincipal(c *access.Caller, name, id string) bool {
	return name != "" && (name == c.ARN || name == c.Principal().RoleARN) && isPinned(c, id)
}

// isPinned reports whether the caller is the one who had the unique id, not
// another one of the same name.
func isPinned(c *access.Caller, id string) bool {
	return id == "" || c.UserID == id || strings.HasPrefix(c.UserID, id+":")
}
