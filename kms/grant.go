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

// A constraint is the Constraints of a grant. It is immutable.
type constraint struct {
	pairs     [][2]string // that the encryption context must have; none: any context will do
	exact     bool        // and must have no others: EncryptionContextEquals
	sourceARN string      // of the resource for which a service asks; empty: any
}

// The limits of a constraint on the encryption context.
const (
	maxConstraintPairs = 8
	maxConstraintValue = 384
)

// newConstraint checks the member. AWS's tools take the two constraints on the
// context as alternatives, and so is it here.
func newConstraint(in *GrantConstraints) (c constraint, err error) {
	if in == nil {
		return c, nil
	}
	refuse := func(format string, args ...any) (constraint, error) {
		return constraint{}, awsapi.Errorf("ValidationException", format, args...)
	}
	if in.EncryptionContextEquals != nil && in.EncryptionContextSubset != nil {
		return refuse("Constraints has either EncryptionContextEquals or EncryptionContextSubset, not both")
	}
	c.exact = in.EncryptionContextEquals != nil
	if pairs := in.context(); pairs != nil && (len(pairs) == 0 || len(pairs) > maxConstraintPairs) {
		return refuse("An encryption context constraint has 1 to %d pairs, not %d", maxConstraintPairs, len(pairs))
	}
	for key, value := range in.context() {
		if len(value) > maxConstraintValue {
			return refuse("A value of an encryption context constraint has at most %d characters", maxConstraintValue)
		}
		c.pairs = append(c.pairs, [2]string{key, value})
	}
	if c.sourceARN = in.SourceArn; c.sourceARN != "" {
		if _, err := arn.Parse(c.sourceARN); err != nil {
			return constraint{}, awsapi.Errorf("InvalidArnException", "Invalid arn %s", c.sourceARN)
		}
	}
	return c, nil
}

// context are the pairs of the constraint on the encryption context; nil where
// there is none.
func (c *GrantConstraints) context() map[string]string {
	switch {
	case c == nil:
		return nil
	case c.EncryptionContextEquals != nil:
		return c.EncryptionContextEquals
	}
	return c.EncryptionContextSubset
}

// none reports whether the constraint is one at all.
func (c *constraint) none() bool { return len(c.pairs) == 0 && c.sourceARN == "" }

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
	return c.fits(r.context)
}

// fits reports whether a context has the pairs that it must have.
func (c *constraint) fits(context map[string]string) bool {
	if c.exact && len(context) != len(c.pairs) {
		return false
	}
	for i := range c.pairs {
		if value, ok := context[c.pairs[i][0]]; !ok || value != c.pairs[i][1] {
			return false
		}
	}
	return true
}

// widens says whether a grant under other could let do what one under c cannot.
func (c *constraint) widens(other *GrantConstraints) bool {
	if c.sourceARN != "" && (other == nil || c.sourceARN != other.SourceArn) {
		return true
	}
	if c.exact && other.context() != nil && other.EncryptionContextEquals == nil {
		return true
	}
	return len(c.pairs) > 0 && !c.fits(other.context())
}

// text is how the row keeps the member.
func (c *GrantConstraints) text() string {
	if c == nil || c.context() == nil && c.SourceArn == "" {
		return ""
	}
	return string(c.AppendJSON(nil))
}

// parseConstraints reads what text has written; nil of nothing.
func parseConstraints(text string) (*GrantConstraints, error) {
	if text == "" {
		return nil, nil
	}
	c := new(GrantConstraints)
	if err := json.Unmarshal([]byte(text), c, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("reading the constraints of a grant: %w", err)
	}
	return c, nil
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
	var err error
	if e.Constraints, err = parseConstraints(g.constraints); err != nil {
		return e, err
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
