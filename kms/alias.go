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

// aliasRow is a row of kms_aliases. Name, account and Region never change.
type aliasRow struct {
	arn, account, region, name string
	keyARN                     string
	created, updated           int64 // µs
	gen                        int64
}

const aliasColumns = `arn, account, region, name, key_arn, created_at, updated_at, gen`

func (a *aliasRow) columns() []any {
	return []any{&a.arn, &a.account, &a.region, &a.name, &a.keyARN, &a.created, &a.updated, &a.gen}
}

func (a *aliasRow) keyID() string { return keyIDOf(a.keyARN) }

// keyIDOf returns the part behind "key/" of a key ARN that we made ourselves.
func keyIDOf(keyARN string) string { return keyARN[strings.LastIndexByte(keyARN, '/')+1:] }

// resource is the alias as the Guard sees it: it has no policy of its own, so
// identity policies decide.
func (n resourceName) aliasResource() access.Resource {
	return access.Resource{ARN: n.arn(), Account: n.account, Type: typeAlias}
}

// readAlias reads an alias's row; sql.ErrNoRows when there is none.
func (s *Service) readAlias(ctx context.Context, aliasARN string) (*aliasRow, error) {
	a := new(aliasRow)
	err := s.db.QueryRow(ctx, `SELECT `+aliasColumns+` FROM kms_aliases WHERE arn = $1`, aliasARN).Scan(a.columns()...)
	if err != nil {
		return nil, fmt.Errorf("reading alias %s: %w", aliasARN, err)
	}
	return a, nil
}

// parseAliasName checks a name for an alias that shall be made, moved or
// deleted: only the bare form is allowed, in the caller's account and the
// call's Region.
func parseAliasName(call *access.Call, name string) (resourceName, error) {
	rest, ok := strings.CutPrefix(name, aliasPrefix)
	switch {
	case !ok:
		return resourceName{}, awsapi.Errorf("ValidationException",
			`Alias must start with the prefix "alias/". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html`)
	case rest == "", strings.Contains(rest, ":"):
		return resourceName{}, awsapi.Errorf("InvalidAliasNameException", "%s is not a valid alias name", name)
	case strings.HasPrefix(rest, "aws/"):
		return resourceName{}, awsapi.Errorf("NotAuthorizedException", "The prefix alias/aws/ is reserved")
	}
	return resourceName{account: call.Account, region: call.Region, name: name}, nil
}

// parseTarget reads TargetKeyId.
func parseTarget(call *access.Call, s string) (resourceName, error) {
	n, err := parseName(call, s)
	if err == nil && n.isAlias() {
		return n, awsapi.Errorf("ValidationException", "Aliases must refer to keys. Not aliases")
	}
	return n, err
}

// CreateAlias needs permission on the alias and on the key.
func (s *Service) CreateAlias(ctx context.Context, call *access.Call, in *CreateAliasRequest) (*awsapi.Empty, error) {
	n, err := parseAliasName(call, in.AliasName)
	if err != nil {
		return nil, err
	}
	keyName, err := parseTarget(call, in.TargetKeyId)
	if err != nil {
		return nil, err
	}
	k, err := s.findKey(ctx, call, &request{operation: "CreateAlias", keyID: in.TargetKeyId}, keyName)
	if err != nil {
		return nil, err
	}
	if err := s.guard.Check(ctx, call, "kms:CreateAlias", n.aliasResource()); err != nil {
		return nil, err
	}
	now := micros(s.now())
	err = s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := targetInTx(tx, "CreateAlias", k.arn); err != nil {
			return err
		}
		var count int
		if err := tx.QueryRow(`SELECT COUNT(*) FROM kms_aliases WHERE key_arn = $1`, k.arn).Scan(&count); err != nil {
			return err
		}
		if count >= s.quotas.AliasesPerKey {
			return awsapi.Errorf("LimitExceededException", "%s already has %d aliases", k.arn, s.quotas.AliasesPerKey)
		}
		return insertAlias(tx, n, k.arn, now)
	})
	if sqldb.IsUniqueViolation(err) {
		return nil, awsapi.Errorf("AlreadyExistsException", "An alias with the name %s already exists", n.arn())
	}
	return nil, err
}

func insertAlias(tx *sqldb.Tx, n resourceName, keyARN string, now int64) error {
	tx.Touch(n.arn())
	tx.Touch(keyARN) // its snapshot holds its aliases
	_, err := tx.Exec(`INSERT INTO kms_aliases (`+aliasColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, 1)`,
		n.arn(), n.account, n.region, n.name, keyARN, now, now)
	return err
}

// targetInTx checks, inside the transaction that points an alias at it, that
// the key still is where an alias may point.
func targetInTx(tx *sqldb.Tx, operation, keyARN string) error {
	var state string
	err := tx.QueryRow(`SELECT state FROM kms_keys WHERE arn = $1`, keyARN).Scan(&state)
	if errors.Is(err, sql.ErrNoRows) || state == stateDestroyed {
		return awsapi.Errorf("NotFoundException", "Key '%s' does not exist", keyARN)
	}
	if err != nil {
		return err
	}
	return checkState(operation, keyARN, state)
}

// UpdateAlias moves an alias to another key of the same type and usage; RSA to
// ECC is the same type. It needs permission on the alias and on both keys. The
// key that the alias leaves may be in any state.
func (s *Service) UpdateAlias(ctx context.Context, call *access.Call, in *UpdateAliasRequest) (*awsapi.Empty, error) {
	n, err := parseAliasName(call, in.AliasName)
	if err != nil {
		return nil, err
	}
	keyName, err := parseTarget(call, in.TargetKeyId)
	if err != nil {
		return nil, err
	}
	for range attempts {
		if err = s.moveAlias(ctx, call, n, keyName); !errors.Is(err, sqldb.ErrConflict) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("moving alias %s: %w", n.arn(), err)
}

// moveAlias is one attempt; sqldb.ErrConflict when the alias moved meanwhile.
func (s *Service) moveAlias(ctx context.Context, call *access.Call, n, keyName resourceName) error {
	a, old, err := s.findAlias(ctx, call, "UpdateAlias", n)
	if err != nil {
		return err
	}
	k, err := s.findKey(ctx, call, &request{operation: "UpdateAlias"}, keyName)
	if err != nil {
		return err
	}
	if err := checkState("UpdateAlias", k.arn, k.state); err != nil {
		return err
	}
	if old.spec.Kind() != k.spec.Kind() || old.usage != k.usage {
		return awsapi.Errorf("ValidationException",
			"%s cannot move from %s (%s, %s) to %s (%s, %s): the keys must have the same type and the same key usage",
			n.arn(), old.arn, old.spec.Kind(), old.usage, k.arn, k.spec.Kind(), k.usage)
	}
	now := micros(s.now())
	return s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := targetInTx(tx, "UpdateAlias", k.arn); err != nil {
			return err
		}
		if old.arn != k.arn {
			var count int
			if err := tx.QueryRow(`SELECT COUNT(*) FROM kms_aliases WHERE key_arn = $1`, k.arn).Scan(&count); err != nil {
				return err
			}
			if count >= s.quotas.AliasesPerKey {
				return awsapi.Errorf("LimitExceededException", "%s already has %d aliases", k.arn, s.quotas.AliasesPerKey)
			}
		}
		rows, err := tx.Exec(`UPDATE kms_aliases SET key_arn = $2, updated_at = $3, gen = gen + 1 WHERE arn = $1 AND gen = $4`,
			a.arn, k.arn, now, a.gen)
		if err == nil && rows == 0 {
			err = sqldb.ErrConflict
		}
		tx.Touch(a.arn)
		tx.Touch(old.arn)
		tx.Touch(k.arn)
		return err
	})
}

// findAlias reads an alias and the key behind it, and asks the Guard about
// both.
func (s *Service) findAlias(ctx context.Context, call *access.Call, operation string, n resourceName) (*aliasRow, *keyRow, error) {
	a, err := s.readAlias(ctx, n.arn())
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil, s.missing(ctx, call, "kms:"+operation, n)
	}
	if err != nil {
		return nil, nil, err
	}
	if err := s.guard.Check(ctx, call, "kms:"+operation, n.aliasResource()); err != nil {
		return nil, nil, err
	}
	k, err := s.findKey(ctx, call, &request{operation: operation}, resourceName{account: a.account, region: a.region, name: a.keyID()})
	return a, k, err
}

// DeleteAlias needs permission on the alias and on the key, which may be in any
// state.
func (s *Service) DeleteAlias(ctx context.Context, call *access.Call, in *DeleteAliasRequest) (*awsapi.Empty, error) {
	n, err := parseAliasName(call, in.AliasName)
	if err != nil {
		return nil, err
	}
	for range attempts {
		var a *aliasRow
		if a, _, err = s.findAlias(ctx, call, "DeleteAlias", n); err != nil {
			return nil, err
		}
		err = s.db.Write(ctx, func(tx *sqldb.Tx) error {
			rows, err := tx.Exec(`DELETE FROM kms_aliases WHERE arn = $1 AND gen = $2`, a.arn, a.gen)
			if err == nil && rows == 0 {
				err = sqldb.ErrConflict
			}
			tx.Touch(a.arn)
			tx.Touch(a.keyARN)
			return err
		})
		if !errors.Is(err, sqldb.ErrConflict) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("deleting alias %s: %w", n.arn(), err)
}

const aliasesOfKeyQuery = `SELECT ` + aliasColumns + ` FROM kms_aliases WHERE key_arn = $1 AND name > $2`

// ListAliases lists the caller's aliases in the call's Region, or those of one
// key, ordered by name.
func (s *Service) ListAliases(ctx context.Context, call *access.Call, in *ListAliasesRequest) (*ListAliasesResponse, error) {
	limit, err := pageLimit(in.Limit, 50, 100)
	if err != nil {
		return nil, err
	}
	if err := s.guard.Check(ctx, call, "kms:ListAliases", everything(call)); err != nil {
		return nil, err
	}
	query := `SELECT ` + aliasColumns + ` FROM kms_aliases WHERE account = $1 AND region = $2 AND name > $3`
	args := []any{call.Account, call.Region, ""}
	scope := call.Account + "/" + call.Region
	if in.KeyId != "" {
		n, err := parseKeyName(call, in.KeyId)
		if err != nil {
			return nil, err
		}
		if n.account != call.Account {
			return nil, s.missing(ctx, call, "kms:ListAliases", n)
		}
		if _, err := s.readKey(ctx, n.arn()); errors.Is(err, sql.ErrNoRows) {
			return nil, s.missing(ctx, call, "kms:ListAliases", n)
		} else if err != nil {
			return nil, err
		}
		scope = n.arn()
		// Account and Region follow from the key. Named, they would tempt a database into
		// walking all aliases of the account instead of those of the key.
		query = aliasesOfKeyQuery
		args = []any{n.arn(), ""}
	}
	if args[len(args)-1], err = parseMarker("ListAliases", scope, in.Marker); err != nil {
		return nil, err
	}
	args = append(args, limit+1)
	rows, err := s.db.Query(ctx, query+fmt.Sprintf(` ORDER BY name LIMIT $%d`, len(args)), args...)
	if err != nil {
		return nil, fmt.Errorf("listing aliases: %w", err)
	}
	defer rows.Close()
	out := &ListAliasesResponse{Aliases: []AliasListEntry{}}
	for rows.Next() {
		var a aliasRow
		if err := rows.Scan(a.columns()...); err != nil {
			return nil, fmt.Errorf("listing aliases: %w", err)
		}
		if len(out.Aliases) == limit {
			out.Truncated = true
			out.NextMarker = formatMarker("ListAliases", scope, out.Aliases[limit-1].AliasName)
			break
		}
		out.Aliases = append(out.Aliases, AliasListEntry{
			AliasName: a.name, AliasArn: a.arn, TargetKeyId: a.keyID(),
			CreationDate: timestamp(a.created), LastUpdatedDate: timestamp(a.updated),
		})
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("listing aliases: %w", err)
	}
	return out, nil
}
