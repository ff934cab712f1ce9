package kms

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/sqldb"
)

// forService says whether a service asks on the caller's behalf, as
// kms:GrantIsForAWSResource.
func forService(call *access.Call) string {
	return strconv.FormatBool(len(call.Via) > 0 || call.Caller != nil && call.Caller.Type == access.AWSService)
}

// CreateGrant makes a grant. With a name it may be called again: the same name
// and the same parameters, from the same account, answer the grant that is there,
// and a new token for it.
//
// Who may do so only by a grant of his own passes on no more than that one gives
// him: see question.widens.
func (s *Service) CreateGrant(ctx context.Context, call *access.Call, in *CreateGrantRequest) (*CreateGrantResponse, error) {
	g, err := newGrant(call, in)
	if err != nil {
		return nil, err
	}
	n, err := parseKeyName(call, in.KeyId)
	if err != nil {
		return nil, err
	}
	r := &request{
		operation: "CreateGrant", keyID: in.KeyId, grantTokens: in.GrantTokens,
		grant: in, context: in.Constraints.context(), forAWSResource: forService(call),
	}
	if err := s.checkGrantTokens(r); err != nil {
		return nil, err
	}
	k, err := s.findKey(ctx, call, r, n)
	if err != nil {
		return nil, err
	}
	if err := checkGrantable(in, &k.keyFacts); err != nil {
		return nil, err
	}
	if err := s.pinGrant(ctx, g); err != nil {
		return nil, err
	}
	if err := checkState("CreateGrant", k.arn, k.state); err != nil {
		return nil, err
	}
	g.keyARN, g.region, g.created = k.arn, k.region, micros(s.now())
	g.sign()
	if err := s.admitNewGrant(ctx, g); err != nil {
		return nil, err
	}
	if isTrue(in.DryRun) {
		return nil, errDryRun()
	}
	if err := s.insertGrant(ctx, g); err != nil {
		return nil, err
	}
	token, err := s.newGrantToken(g)
	if err != nil {
		return nil, err
	}
	return &CreateGrantResponse{GrantId: g.id, GrantToken: token}, nil
}

// newGrant checks all of the request that can be checked without the key.
func newGrant(call *access.Call, in *CreateGrantRequest) (*grantRow, error) {
	c, err := newConstraint(in.Constraints)
	if err != nil {
		return nil, err
	}
	switch {
	case len(in.Operations) == 0:
		return nil, awsapi.Errorf("ValidationException", "1 validation error detected: Value '[]' at 'operations' failed to satisfy constraint: "+
			"Member must have length greater than or equal to 1")
	case (in.GranteePrincipal == "") == (in.GranteeServicePrincipal == ""):
		return nil, awsapi.Errorf("ValidationException", "Specify either GranteePrincipal or GranteeServicePrincipal")
	case in.RetiringPrincipal != "" && in.RetiringServicePrincipal != "":
		return nil, awsapi.Errorf("ValidationException", "Specify RetiringPrincipal or RetiringServicePrincipal, not both")
	case in.GranteeServicePrincipal != "" && c.sourceARN == "":
		return nil, awsapi.Errorf("ValidationException", "A grant to a service needs the constraint SourceArn")
	case in.GranteeServicePrincipal != "" && in.RetiringPrincipal == "" && in.RetiringServicePrincipal == "":
		return nil, awsapi.Errorf("ValidationException", "A grant to a service needs a RetiringPrincipal or RetiringServicePrincipal")
	}
	for _, principal := range []string{in.GranteePrincipal, in.RetiringPrincipal} {
		if principal != "" {
			if err := checkPrincipal(principal); err != nil {
				return nil, err
			}
		}
	}
	for member, name := range map[string]string{
		"GranteeServicePrincipal": in.GranteeServicePrincipal, "RetiringServicePrincipal": in.RetiringServicePrincipal,
	} {
		if name != "" {
			if err := checkServicePrincipal(member, name); err != nil {
				return nil, err
			}
		}
	}
	var id [32]byte
	rand.Read(id[:])
	return &grantRow{
		id: hex.EncodeToString(id[:]), issuer: call.Account, name: in.Name,
		grantee: in.GranteePrincipal + in.GranteeServicePrincipal, retiring: in.RetiringPrincipal + in.RetiringServicePrincipal,
		operations: operationsOf(in.Operations).String(), constraints: in.Constraints.text(),
	}, nil
}

// checkGrantable refuses operations that the key does not do, and a constraint on
// a context that it does not take.
func checkGrantable(in *CreateGrantRequest, k *keyFacts) error {
	for _, name := range in.Operations {
		if !grantable(name, k) {
			return awsapi.Errorf("ValidationException", "A grant on %s cannot allow %s: its key spec is %s and its key usage %s", k.arn, name, k.spec, k.usage)
		}
	}
	if in.Constraints.context() != nil && !grantable("GenerateDataKey", k) {
		return awsapi.Errorf("ValidationException", "An encryption context constraint is valid only with a symmetric encryption key; %s is not", k.arn)
	}
	return nil
}

// pinGrant finds out who the principals are. AWS makes no grant for one that does
// not exist.
func (s *Service) pinGrant(ctx context.Context, g *grantRow) error {
	for _, p := range []struct{ name, id *string }{{&g.grantee, &g.granteeID}, {&g.retiring, &g.retiringID}} {
		id, found, err := s.guard.PrincipalID(ctx, *p.name)
		if err != nil {
			return err
		}
		if !found {
			return awsapi.Errorf("InvalidArnException", "ARN does not refer to a valid principal: %s", *p.name)
		}
		*p.id = id
	}
	return nil
}

// admitNewGrant is admitGrant, unless the grant is there already.
func (s *Service) admitNewGrant(ctx context.Context, g *grantRow) error {
	full := s.admitGrant(ctx, g.keyARN)
	if full == nil || g.name == "" {
		return full
	}
	var have int
	if err := s.db.QueryRow(ctx, `SELECT COUNT(*) FROM kms_grants WHERE key_arn = $1 AND fingerprint = $2`, g.keyARN, g.fingerprint).Scan(&have); err != nil {
		return fmt.Errorf("looking for grant: %w", err)
	}
	if have > 0 {
		return nil
	}
	return full
}

// insertGrant stores a grant, or takes the id of the one that is there.
func (s *Service) insertGrant(ctx context.Context, g *grantRow) error {
	err := s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := targetInTx(tx, "CreateGrant", g.keyARN); err != nil {
			return err
		}
		rows, err := tx.Exec(`INSERT INTO kms_grants (`+grantColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
			ON CONFLICT (key_arn, fingerprint) DO NOTHING`,
			g.id, g.keyARN, g.region, g.grantee, g.granteeID, g.retiring, g.retiringID, g.issuer, g.name, g.operations,
			g.constraints, g.fingerprint, g.created)
		if err != nil {
			return err
		}
		if rows == 0 {
			return tx.QueryRow(`SELECT grant_id FROM kms_grants WHERE key_arn = $1 AND fingerprint = $2`, g.keyARN, g.fingerprint).Scan(&g.id)
		}
		tx.Touch(grantsTopic(g.keyARN))
		return nil
	})
	if err != nil {
		return fmt.Errorf("storing grant: %w", err)
	}
	return nil
}
