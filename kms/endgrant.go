package kms

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/sqldb"
)

// RetireGrant ends a grant that is named by its token, or by key and id. The
// retiring principal may, the grantee where RetireGrant is among the operations,
// the root user of the account that made the grant, and whom the key's policies
// allow kms:RetireGrant.
func (s *Service) RetireGrant(ctx context.Context, call *access.Call, in *RetireGrantRequest) (*awsapi.Empty, error) {
	n, id, err := s.grantToRetire(call, in)
	if err != nil {
		return nil, err
	}
	r := &request{operation: "RetireGrant", keyID: n.name}
	k, err := s.readKey(ctx, n.arn())
	if errors.Is(err, sql.ErrNoRows) {
		return nil, s.missing(ctx, call, r.name(), n)
	}
	if err != nil {
		return nil, err
	}
	g, err := s.readGrant(ctx, k.arn, id)
	missing := errors.Is(err, sql.ErrNoRows)
	if err != nil && !missing {
		return nil, err
	}
	// A grant that is not there is checked like one that does not name the caller:
	// to a stranger both look the same.
	resource := s.resource(r, &k.keyFacts)
	resource.Grants = retirer{g}
	if err := s.guard.Check(ctx, call, r.name(), resource); err != nil {
		return nil, err
	}
	switch {
	case missing && in.GrantToken != "":
		return nil, errGrantToken()
	case missing:
		return nil, grantNotFound(id)
	}
	return nil, s.endGrant(ctx, k, id, "RetireGrant", isTrue(in.DryRun))
}

// grantToRetire reads which grant is meant.
func (s *Service) grantToRetire(call *access.Call, in *RetireGrantRequest) (n resourceName, id string, err error) {
	switch byID := in.KeyId != "" && in.GrantId != ""; {
	case in.GrantToken != "" && in.KeyId == "" && in.GrantId == "":
		token, err := s.openGrantToken(in.GrantToken)
		if err != nil {
			return n, "", err
		}
		if n, err = parseKeyName(call, token.keyARN); err != nil {
			return n, "", errGrantToken() // of another Region
		}
		return n, token.grantID, nil
	case in.GrantToken != "" || !byID:
		return n, "", awsapi.Errorf("ValidationException", "Specify a grant token, or a key and a grant ID")
	}
	if err := checkGrantID(in.GrantId); err != nil {
		return n, "", err
	}
	n, err = parseKeyName(call, in.KeyId)
	return n, in.GrantId, err
}

// retirer answers whether a grant, which may be nil, lets the caller retire it.
type retirer struct{ grant *grantRow }

// Grant implements access.Grants.
func (r retirer) Grant(_ context.Context, call *access.Call, action string) (string, error) {
	g, caller := r.grant, call.Caller
	if g == nil || action != "kms:RetireGrant" {
		return "", nil
	}
	byGrantee := operationsOf(strings.Split(g.operations, ","))&grantOperations["RetireGrant"] != 0 && isPrincipal(caller, g.grantee, g.granteeID)
	byIssuer := caller.Type == access.Root && caller.Account == g.issuer
	if byGrantee || byIssuer || isPrincipal(caller, g.retiring, g.retiringID) {
		return g.id, nil
	}
	return "", nil
}

// RevokeGrant ends a grant: whoever may kms:RevokeGrant on the key can.
func (s *Service) RevokeGrant(ctx context.Context, call *access.Call, in *RevokeGrantRequest) (*awsapi.Empty, error) {
	if err := checkGrantID(in.GrantId); err != nil {
		return nil, err
	}
	n, err := parseKeyName(call, in.KeyId)
	if err != nil {
		return nil, err
	}
	k, err := s.findKey(ctx, call, &request{operation: "RevokeGrant", keyID: in.KeyId, forAWSResource: forService(call)}, n)
	if err != nil {
		return nil, err
	}
	return nil, s.endGrant(ctx, k, in.GrantId, "RevokeGrant", isTrue(in.DryRun))
}

// endGrant removes a grant. It holds no longer on this node when the call
// returns, and within a second on no other.
func (s *Service) endGrant(ctx context.Context, k *keyRow, id, operation string, dryRun bool) error {
	if err := checkState(operation, k.arn, k.state); err != nil {
		return err
	}
	if dryRun {
		if _, err := s.readGrant(ctx, k.arn, id); errors.Is(err, sql.ErrNoRows) {
			return grantNotFound(id)
		} else if err != nil {
			return err
		}
		return errDryRun()
	}
	err := s.db.Write(ctx, func(tx *sqldb.Tx) error {
		rows, err := tx.Exec(`DELETE FROM kms_grants WHERE grant_id = $1 AND key_arn = $2`, id, k.arn)
		if err == nil && rows == 0 {
			return grantNotFound(id)
		}
		tx.Touch(grantsTopic(k.arn))
		return err
	})
	s.tally.forget(grantsTopic(k.arn))
	if refused := (*awsapi.Error)(nil); err != nil && !errors.As(err, &refused) {
		return fmt.Errorf("removing grant: %w", err)
	}
	return err
}
