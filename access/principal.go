package access

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/arn"
	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/sqldb"
)

const (
	maxStored  = 1 << 14 // access keys, principals and sessions kept, of each; beyond that some are forgotten
	maxMissing = 1 << 10 // access keys and principals known not to exist
	maxLoads   = 8       // credentials and principals being read at once
)

// A principal is a user or role as the database has it, made ready for decisions: all its access keys and sessions share
// it. It is immutable, and good while no change of the user or role was announced since before it was read.
type principal struct {
	*identity
	policies []policy.Attached // of a user: the groups' too
	bound    policy.Attached
	trusts   *policy.Policy // of a role: who may assume it
	shard    sqldb.Shard
	epoch    uint64
}

func (g *Guard) currentPrincipal(p *principal) bool { return g.epochs[p.shard].Load() == p.epoch }

// errGone: there is no such user or role, any more.
var errGone = errors.New("the principal does not exist")

// principal finds a user or role by its unique id, or returns errGone. What is warm costs no database read while the node
// hears of changes.
func (g *Guard) principal(ctx context.Context, k *kind, account, id string) (*principal, error) {
	if p, err := g.rememberedPrincipal(k, account, id); p != nil || err != nil {
		return p, err
	}
	release, err := g.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if p, err := g.rememberedPrincipal(k, account, id); p != nil || err != nil { // somebody else may have read it meanwhile
		return p, err
	}
	return g.loadPrincipal(ctx, k, account, id)
}

// acquire waits for leave to read from the database for a request whose sender is not proved yet. Few do at once, so that
// whoever sprays ids cannot take the database from the others.
func (g *Guard) acquire(ctx context.Context) (release func(), err error) {
	select {
	case g.loads <- struct{}{}:
		return func() { <-g.loads }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("reading a credential: %w", ctx.Err())
	}
}

// rememberedPrincipal answers from memory, or not at all. Nothing there is believed while the node may not have heard of
// every change.
func (g *Guard) rememberedPrincipal(k *kind, account, id string) (*principal, error) {
	if !g.db.Fresh() {
		return nil, nil
	}
	if p, ok := g.principals.get(id); ok && p.kind == k && p.account == account && g.currentPrincipal(p) {
		return p, nil
	}
	if g.missing.has(id, g.epochs[sqldb.ShardOf(k.topic(id))].Load()) {
		return nil, errGone
	}
	return nil, nil
}

// loadPrincipal reads a principal. The epoch is noted before: a change that comes in between makes it stale at once.
func (g *Guard) loadPrincipal(ctx context.Context, k *kind, account, id string) (*principal, error) {
	p := &principal{identity: &identity{kind: k}, shard: sqldb.ShardOf(k.topic(id))}
	p.epoch = g.epochs[p.shard].Load()
	err := g.db.QueryRow(ctx, `SELECT `+k.columns+` FROM `+k.table+` WHERE id = $1 AND account = $2`, id, account).Scan(p.columns()...)
	if errors.Is(err, sql.ErrNoRows) {
		g.missing.add(id, p.epoch)
		return nil, errGone
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", k.noun, err)
	}
	if err := g.readTags(ctx, p.identity); err != nil {
		return nil, err
	}
	if p.policies, err = g.readPolicies(ctx, p.identity); err != nil {
		return nil, err
	}
	// A document that no longer compiles makes its owner powerless, not its restrictions void: the error is the caller's answer.
	if p.boundary != "" {
		if p.bound.Policy, err = policy.Parse([]byte(p.boundary), policy.Identity); err != nil {
			return nil, fmt.Errorf("compiling the boundary of %s: %w", p.arn(), err)
		}
		p.bound.Name = "permissions boundary"
	}
	if k == roles {
		if p.trusts, err = policy.Parse([]byte(p.trust), policy.Trust); err != nil {
			return nil, fmt.Errorf("compiling the trust policy of %s: %w", p.arn(), err)
		}
	}
	g.principals.keep(id, p)
	return p, nil
}

// readPolicies reads and compiles the identity policies that speak for a user or role.
func (g *Guard) readPolicies(ctx context.Context, i *identity) ([]policy.Attached, error) {
	query := `SELECT '', name, document FROM role_policies WHERE account = $1 AND role_id = $2`
	if i.kind == users {
		query = `SELECT '', name, document FROM user_policies WHERE account = $1 AND user_id = $2
			UNION ALL SELECT g.name, p.name, p.document FROM group_members m JOIN user_groups g ON g.id = m.group_id
			JOIN group_policies p ON p.group_id = g.id WHERE m.account = $1 AND m.user_id = $2`
	}
	rows, err := g.db.Query(ctx, query, i.account, i.id)
	if err != nil {
		return nil, fmt.Errorf("reading policies of a %s: %w", i.kind.noun, err)
	}
	defer rows.Close()
	var all []policy.Attached
	for rows.Next() {
		var group, name, document string
		if err := rows.Scan(&group, &name, &document); err != nil {
			return nil, fmt.Errorf("reading policies of a %s: %w", i.kind.noun, err)
		}
		if group != "" {
			name = "group " + group + "/" + name
		}
		p, err := policy.Parse([]byte(document), policy.Identity)
		if err != nil {
			return nil, fmt.Errorf("compiling policy %q of %s: %w", name, i.arn(), err)
		}
		all = append(all, policy.Attached{Name: name, Policy: p})
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading policies of a %s: %w", i.kind.noun, err)
	}
	slices.SortFunc(all, func(a, b policy.Attached) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// caller is who signs as the principal itself: a user.
func (p *principal) caller(accessKeyID string) *Caller {
	return &Caller{
		Account: p.account, ARN: p.arn(), UserID: p.id, UserName: p.name, AccessKeyID: accessKeyID, Type: IAMUser,
		Policies: p.policies, Boundary: p.bound, Tags: p.tags,
	}
}

// An AssumableRole is a role as STS needs to know it.
type AssumableRole struct {
	ARN        string // as it was asked for, where there is none
	Account    string
	MaxSession time.Duration
	Tags       []Tag

	p *principal // nil: there is no such role
}

// FindRole finds a role by its ARN, with its path. Where there is none it returns one that nobody may assume, so that whoever
// asks for a session cannot tell what exists.
func (g *Guard) FindRole(ctx context.Context, roleARN string) (*AssumableRole, error) {
	a, err := arn.Parse(roleARN)
	typ, id := a.Cut()
	if err != nil || a.Partition != "aws" || a.Service != "iam" || a.Region != "" || a.Account == "" || typ != "role" || id == "" {
		return nil, errorf("ValidationException", "%s is invalid", cut(roleARN, 2048))
	}
	r := &AssumableRole{ARN: roleARN, Account: a.Account}
	var found string
	err = g.db.QueryRow(ctx, `SELECT id FROM roles WHERE account = $1 AND path || name = $2`, a.Account, "/"+id).Scan(&found)
	if errors.Is(err, sql.ErrNoRows) {
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("finding role: %w", err)
	}
	r.p, err = g.principal(ctx, roles, a.Account, found)
	if errors.Is(err, errGone) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	r.MaxSession, r.Tags = time.Duration(r.p.maxSession)*time.Second, r.p.tags
	return r, nil
}

// nobody is the trust policy of roles that do not exist.
var nobody = new(policy.Policy)

// Resource is the role as the Guard is asked about it: its trust policy decides, as the policy of a resource.
func (r *AssumableRole) Resource(context policy.Context) Resource {
	trusts := nobody
	if r.p != nil {
		trusts = r.p.trusts
	}
	return Resource{ARN: r.ARN, Account: r.Account, Type: roles.typ, Policy: trusts, Context: context}
}

// bounded is a map that forgets some entry for every new one once there are most of them. That what it holds is still good
// is for its users to see. Safe for concurrent use.
type bounded[V any] struct {
	entries sync.Map // id → V
	size    atomic.Int64
}

func (b *bounded[V]) get(id string) (v V, ok bool) {
	e, ok := b.entries.Load(id)
	if !ok {
		return v, false
	}
	return e.(V), true
}

func (b *bounded[V]) keep(id string, v V) {
	if _, had := b.entries.Swap(id, v); had || b.size.Add(1) <= maxStored {
		return
	}
	b.entries.Range(func(other, _ any) bool {
		if other == id {
			return true
		}
		b.forget(other.(string))
		return false
	})
}

func (b *bounded[V]) forget(id string) {
	if _, had := b.entries.LoadAndDelete(id); had {
		b.size.Add(-1)
	}
}
