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

// Explain says what Check would decide about a call that nobody makes, by the same code, and in which words it would refuse
// it. It records nothing and permits nothing: never act on its word. Whoever asks must have been checked himself.
func (g *Guard) Explain(ctx context.Context, call *Call, action string, r Resource) (d policy.Decision, refusal string, err error) {
	if r.ARN == "" {
		r.ARN = "*"
	}
	if d, err = ask(ctx, call, action, &r); err != nil || d.Allowed {
		return d, "", err
	}
	return d, call.denied(action, &r, d).Error(), nil
}

// FullARN completes the short names of an account's principals: "root", "user/…", "role/…". Others stay as they are.
func FullARN(account, name string) string {
	if typ, _, _ := strings.Cut(name, "/"); name == "root" || typ == users.noun || typ == roles.noun {
		return "arn:aws:iam::" + account + ":" + name
	}
	return name
}

// CallerOf is who would call as a principal of the account: its root user, a user, a role or a session of one (of a role
// one named "explain" is taken), an ephemeral principal like the engine, or a service by its name, which is of every
// account. For Explain only. NoSuchEntityException for others.
func (g *Guard) CallerOf(ctx context.Context, account, name string) (*Caller, error) {
	if c := g.ephemeralCaller(name); c != nil && c.Account == account {
		return c, nil
	}
	a, err := arn.Parse(name)
	typ, id := a.Cut()
	switch {
	case err != nil && strings.Contains(name, ".") && only(name, ".-"):
		return &Caller{Account: account, ARN: name, UserID: name, Type: AWSService}, nil
	case err != nil || a.Account != account:
	case a.Service == "iam" && a.Resource == "root":
		return &Caller{Account: account, ARN: name, UserID: account, Type: Root}, nil
	case a.Service == "iam" && (typ == users.noun || typ == roles.noun):
		return g.storedCaller(ctx, account, typ, `path || name = $2`, "/"+id, "explain", name)
	case a.Service == "sts" && typ == "assumed-role":
		role, session, _ := strings.Cut(id, "/")
		if session != "" {
			return g.storedCaller(ctx, account, roles.noun, `name = $2`, role, session, name)
		}
	}
	return nil, noPrincipal(account, name)
}

func noPrincipal(account, name string) error {
	return errorf(noSuchEntity, "There is no user, role or session %s in account %s. Give its ARN, or root, user/NAME, role/NAME, or a service's name.", cut(name, 256), account)
}

func (g *Guard) ephemeralCaller(name string) (found *Caller) {
	g.ephemeral.Range(func(_, v any) bool {
		if c := v.(*ephemeral).credential.Caller; c.ARN == name {
			found = c
		}
		return found == nil
	})
	return found
}

// storedCaller is a user, or a session of a role, that a condition on its row finds.
func (g *Guard) storedCaller(ctx context.Context, account, noun, condition, value, session, name string) (*Caller, error) {
	k := users
	if noun == roles.noun {
		k = roles
	}
	var id string
	err := g.db.QueryRow(ctx, `SELECT id FROM `+k.table+` WHERE account = $1 AND `+condition, account, value).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, noPrincipal(account, name)
	}
	if err != nil {
		return nil, fmt.Errorf("finding principal: %w", err)
	}
	p, err := g.principal(ctx, k, account, id)
	if errors.Is(err, errGone) {
		return nil, noPrincipal(account, name)
	}
	if err != nil {
		return nil, err
	}
	if k == users {
		return p.caller(""), nil
	}
	return (&statement{Name: session, IssuedAt: g.now().Unix()}).caller(p, "")
}
