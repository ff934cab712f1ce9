package kms

import (
	"context"
	"fmt"
	"strings"

	"github.com/keyturn/keyturn/access"
)

// A grantee is a caller as the grants on one key may mean him. It does not name
// the other grants of the key, so that what they are costs him nothing.
type grantee struct {
	keyARN string
	arn    string // of the caller
	userID string
}

func (g grantee) topic() string { return grantsTopic(g.keyARN) }

// granted are the grants on a key whose principal a caller is, in the order of
// their ids, without those that allow nothing beyond another one. It is immutable.
type granted []allowance

// An allowance is what of a grant decides.
type allowance struct {
	id         string
	operations operations
	constraint constraint
	account    bool // it is to the caller's account, whose identity policies must agree
}

// Grant implements access.Grants: the id of a grant that lets the caller do
// action. While the node cannot know of all grants the database is asked, and
// when a grant token says that there is one it may not have heard of.
func (q *question) Grant(ctx context.Context, call *access.Call, action string) (string, error) {
	name, ours := strings.CutPrefix(action, "kms:")
	operation, ok := grantOperations[name]
	if !ours || !ok || operation == grantOperations["RetireGrant"] {
		return "", nil
	}
	id, err := q.search(ctx, call, action, operation, q.service.db.Fresh())
	if err != nil || id != "" || len(q.request.grantTokens) == 0 {
		return id, err
	}
	return q.search(ctx, call, action, operation, false)
}

// search looks among the caller's grants; fresh is whether memory may be believed.
func (q *question) search(ctx context.Context, call *access.Call, action string, operation operations, fresh bool) (string, error) {
	s := q.service
	who := grantee{keyARN: q.key.arn, arn: call.Caller.ARN, userID: call.Caller.UserID}
	all, err := s.snapshots.grants.get(ctx, who, fresh, call.Time, func(ctx context.Context, _ *granted) (*granted, error) {
		return s.loadGranted(ctx, q.key.arn, call.Caller)
	})
	if err != nil {
		return "", err
	}
	for i := range *all {
		a := &(*all)[i]
		if a.operations&operation == 0 || !a.constraint.holds(call, q.request) || q.widens(a) {
			continue
		}
		if a.account {
			agrees, err := q.accountAgrees(call, action)
			if err != nil {
				return "", err
			}
			if !agrees {
				continue
			}
		}
		return a.id, nil
	}
	return "", nil
}

// accountAgrees reports whether the caller's account lets him use what is granted
// to it: a grant to an account is like a statement of the key policy that names
// the account.
func (q *question) accountAgrees(call *access.Call, action string) (bool, error) {
	p, err := q.service.policies.parse(defaultPolicy(call.Caller.Account))
	if err != nil {
		return false, err
	}
	resource := q.service.resource(q.request, q.key)
	resource.Policy, resource.Grants = p, nil
	return q.service.guard.Allows(call, action, resource), nil
}

// widens reports whether CreateGrant asks for more than the grant a allows, by
// which the caller may create grants at all: AWS lets him pass on some or all of
// what he has, under constraints at least as strict.
func (q *question) widens(a *allowance) bool {
	if q.request.grant == nil {
		return false
	}
	return operationsOf(q.request.grant.Operations)&^a.operations != 0 || a.constraint.widens(q.request.grant.Constraints)
}

// loadGranted reads the grants on a key that mean a caller.
func (s *Service) loadGranted(ctx context.Context, keyARN string, caller *access.Caller) (*granted, error) {
	root := access.RootARN(caller.Account)
	if caller.Type == access.AWSService {
		root = "" // it acts for accounts and is of none
	}
	rows, err := s.db.Query(ctx, `SELECT grant_id, grantee, grantee_id, operations, constraints FROM kms_grants
		WHERE key_arn = $1 AND grantee IN ($2, $3, $4) ORDER BY grant_id`, keyARN, caller.ARN, caller.Principal().RoleARN, root)
	if err != nil {
		return nil, fmt.Errorf("reading grants on %s: %w", keyARN, err)
	}
	defer rows.Close()
	all := granted{}
	var covered operations // by grants without constraints; never CreateGrant, which looks at whole grants
	for rows.Next() {
		var a allowance
		var name, pinned, names, constraints string
		if err := rows.Scan(&a.id, &name, &pinned, &names, &constraints); err != nil {
			return nil, fmt.Errorf("reading grants on %s: %w", keyARN, err)
		}
		if !isPinned(caller, pinned) {
			continue
		}
		a.operations = operationsOf(strings.Split(names, ","))
		member, err := parseConstraints(constraints)
		if err != nil {
			return nil, err
		}
		if a.constraint, err = newConstraint(member); err != nil {
			return nil, fmt.Errorf("reading grants on %s: %w", keyARN, err)
		}
		if a.operations&^covered == 0 {
			continue
		}
		a.account = name == root && caller.Type != access.Root
		if a.constraint.none() && !a.account {
			covered |= a.operations &^ grantOperations["CreateGrant"]
		}
		all = append(all, a)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading grants on %s: %w", keyARN, err)
	}
	return &all, nil
}
