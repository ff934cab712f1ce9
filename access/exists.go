package access

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/keyturn/keyturn/arn"
	"github.com/keyturn/keyturn/policy"
)

// PrincipalID finds out whether a principal exists, named as policy.Policy.Principals names it or as a grant does: AWS stores
// policy and no grant for one that does not. id is the unique id that a user or role keeps for its life. Whoever stores that in
// the place of the ARN gives nothing to the next one of the name. Other principals have none, and id is empty.
//
// Known are the users and roles of the database, sessions of these roles, and the principals of this process' ephemeral
// credentials. Accounts, federated users, services and OIDC providers are taken at their word: there is nobody to ask, and
// naming one who is not there gives nobody anything.
func (g *Guard) PrincipalID(ctx context.Context, name string) (id string, found bool, err error) {
	if policy.IsUniqueID(name) {
		_, found, err = g.PrincipalARN(ctx, name)
		return name, found, err
	}
	if !arn.Is(name) {
		return "", true, nil // "*", an account id or a service
	}
	a, err := arn.Parse(name)
	if err != nil {
		return "", false, nil //nolint:nilerr // there is nobody of such a name
	}
	typ, path := a.Cut()
	switch {
	case a.Service == "iam" && (a.Resource == "root" || typ == "oidc-provider"), a.Service == "sts" && typ == "federated-user":
		return "", true, nil
	case a.Service == "iam" && (typ == users.noun || typ == roles.noun):
		// Paths and names hold no character by which two pairs could make one text.
		err = g.db.QueryRow(ctx, `SELECT id FROM `+typ+`s WHERE account = $1 AND path || name = $2`, a.Account, "/"+path).Scan(&id)
		if !errors.Is(err, sql.ErrNoRows) {
			return id, err == nil, finding(err)
		}
	case a.Service == "sts" && typ == "assumed-role":
		role, _, _ := strings.Cut(path, "/")
		var roleID string
		err = g.db.QueryRow(ctx, `SELECT id FROM roles WHERE account = $1 AND name = $2`, a.Account, role).Scan(&roleID)
		if !errors.Is(err, sql.ErrNoRows) {
			return "", err == nil, finding(err)
		}
	}
	return "", g.livePrincipal(name), nil
}

// PrincipalARN is what the user or role of a unique id is called; not found when there is none any more.
func (g *Guard) PrincipalARN(ctx context.Context, id string) (name string, found bool, err error) {
	k := users
	if strings.HasPrefix(id, "AROA") {
		k = roles
	}
	i := identity{kind: k}
	err = g.db.QueryRow(ctx, `SELECT account, path, name FROM `+k.table+` WHERE id = $1`, id).Scan(&i.account, &i.path, &i.name)
	if errors.Is(err, sql.ErrNoRows) {
		return "", false, nil
	}
	return i.arn(), err == nil, finding(err)
}

func finding(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("finding principal: %w", err)
}

// livePrincipal reports whether an ephemeral credential is of the user, role or session, or of a session of its role. They
// are not pinned: their ARN is all that they are.
func (g *Guard) livePrincipal(name string) (found bool) {
	role := roleOf(name)
	g.ephemeral.Range(func(_, v any) bool {
		c := v.(*ephemeral).credential.Caller
		found = c.ARN == name || c.RoleARN != "" && (c.RoleARN == name || c.RoleARN == role)
		return !found
	})
	return found
}
