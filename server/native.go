package server

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/jwks"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotators"
)

// accessOperations puts the administration of identities on the wire: access
// knows no protocol.
func accessOperations(g *access.Guard) []awsapi.Operation {
	return []awsapi.Operation{
		awsapi.Op("CreateUser", g.CreateUser),
		awsapi.Op("GetUser", g.GetUser).ReadOnly(),
		awsapi.Op("DeleteUser", g.DeleteUser),
		awsapi.Op("ListUsers", g.ListUsers).ReadOnly(),
		awsapi.Op("CreateAccessKey", g.CreateAccessKey),
		awsapi.Op("DeleteAccessKey", g.DeleteAccessKey),
		awsapi.Op("SetAccessKeyStatus", g.SetAccessKeyStatus),
		awsapi.Op("ListAccessKeys", g.ListAccessKeys).ReadOnly(),
		awsapi.Op("PutUserPolicy", g.PutUserPolicy),
		awsapi.Op("GetUserPolicy", g.GetUserPolicy).ReadOnly(),
		awsapi.Op("ListUserPolicies", g.ListUserPolicies).ReadOnly(),
		awsapi.Op("DeleteUserPolicy", g.DeleteUserPolicy),
		awsapi.Op("TagUser", g.TagUser),
		awsapi.Op("UntagUser", g.UntagUser),
		awsapi.Op("ListUserTags", g.ListUserTags).ReadOnly(),
		awsapi.Op("PutUserPermissionsBoundary", g.PutUserPermissionsBoundary),
		awsapi.Op("DeleteUserPermissionsBoundary", g.DeleteUserPermissionsBoundary),

		awsapi.Op("CreateRole", g.CreateRole),
		awsapi.Op("GetRole", g.GetRole).ReadOnly(),
		awsapi.Op("UpdateRole", g.UpdateRole),
		awsapi.Op("UpdateAssumeRolePolicy", g.UpdateAssumeRolePolicy),
		awsapi.Op("DeleteRole", g.DeleteRole),
		awsapi.Op("ListRoles", g.ListRoles).ReadOnly(),
		awsapi.Op("PutRolePolicy", g.PutRolePolicy),
		awsapi.Op("GetRolePolicy", g.GetRolePolicy).ReadOnly(),
		awsapi.Op("ListRolePolicies", g.ListRolePolicies).ReadOnly(),
		awsapi.Op("DeleteRolePolicy", g.DeleteRolePolicy),
		awsapi.Op("TagRole", g.TagRole),
		awsapi.Op("UntagRole", g.UntagRole),
		awsapi.Op("ListRoleTags", g.ListRoleTags).ReadOnly(),
		awsapi.Op("PutRolePermissionsBoundary", g.PutRolePermissionsBoundary),
		awsapi.Op("DeleteRolePermissionsBoundary", g.DeleteRolePermissionsBoundary),

		awsapi.Op("CreateGroup", g.CreateGroup),
		awsapi.Op("GetGroup", g.GetGroup).ReadOnly(),
		awsapi.Op("DeleteGroup", g.DeleteGroup),
		awsapi.Op("ListGroups", g.ListGroups).ReadOnly(),
		awsapi.Op("AddUserToGroup", g.AddUserToGroup),
		awsapi.Op("RemoveUserFromGroup", g.RemoveUserFromGroup),
		awsapi.Op("ListGroupsForUser", g.ListGroupsForUser).ReadOnly(),
		awsapi.Op("PutGroupPolicy", g.PutGroupPolicy),
		awsapi.Op("GetGroupPolicy", g.GetGroupPolicy).ReadOnly(),
		awsapi.Op("ListGroupPolicies", g.ListGroupPolicies).ReadOnly(),
		awsapi.Op("DeleteGroupPolicy", g.DeleteGroupPolicy),
	}
}

// wanted asks the own KMS whether somebody was turned away with a disabled key.
// Other targets cannot tell.
func (s *Server) wanted(ctx context.Context, target rotation.Target, keyARN string, since time.Time) (rotators.Demand, error) {
	if !target.Local {
		return rotators.Demand{}, nil
	}
	calls, last, by, err := s.kms.Refused(ctx, keyARN, since)
	return rotators.Demand{Calls: calls, Last: last, By: by}, err
}

// tagged asks the own KMS for the keys that carry a tag.
func (s *Server) tagged(ctx context.Context, target rotation.Target, key, value string) ([]string, error) {
	return s.kms.KeysTagged(ctx, target.Account, target.Region, key, value)
}

// jwks serves the public keys of lineages, to anybody.
func (s *Server) jwks() http.Handler {
	return jwks.NewHandler(jwks.Config{
		Source: s.lineage, Account: s.config.Account, Region: s.config.Region, Now: s.config.Now, Logger: s.config.Logger,
	})
}

// lineage is what JWKS shows of an alias.
func (s *Server) lineage(ctx context.Context, account, region, alias string) (*jwks.Lineage, error) {
	info, err := s.rotation.Generations(ctx, account, region, alias)
	if errors.Is(err, rotation.ErrNoLineage) {
		return nil, jwks.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	l := &jwks.Lineage{}
	if p := info.Policy; p != nil && p.Mode == rotation.ModeStaged {
		// An overlap that the policy leaves to the engine is longer than any set is cached.
		l.Lead, l.Overlap = time.Duration(p.Lead), cmp.Or(time.Duration(p.Overlap), 30*24*time.Hour)
	}
	for _, g := range info.Generations {
		l.Generations = append(l.Generations, jwks.Generation{
			Number: g.Number, Key: g.Key, Usage: g.Usage, SPKI: g.Public, State: shown(&g), NotBefore: notBefore(&g, info), Leaves: g.OverlapEnds,
		})
	}
	return l, nil
}

// shown is how a generation stands in the key set.
func shown(g *rotation.Generation) jwks.State {
	switch {
	case g.Active:
		return jwks.Current
	case g.State == rotation.StatePreActivation && !g.PublishedAt.IsZero():
		return jwks.Next
	case g.State == rotation.StateActive, g.State == rotation.StateDeactivated:
		return jwks.Previous // or about to be: the alias has moved on
	}
	return jwks.Hidden
}

// notBefore is when a pending generation may sign at the earliest.
func notBefore(g *rotation.Generation, info *rotation.LineageInfo) time.Time {
	if g.State == rotation.StatePreActivation {
		return info.Switches
	}
	return time.Time{}
}
