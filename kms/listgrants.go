package kms

import (
	"context"
	"fmt"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/arn"
	"github.com/keyturn/keyturn/awsapi"
)

// A grantFilter is which grants a list shows, in the order of their ids.
type grantFilter struct {
	operation, scope string // whom markers belong to
	where            string // with parameters $1 …
	args             []any
	most             int    // on a page
	last             string // of the page before
}

// page reads which page is asked for, once the filter is whole.
func (f *grantFilter) page(limit *int32, marker string) (err error) {
	if f.most, err = pageLimit(limit, 50, 100); err == nil {
		f.last, err = parseMarker(f.operation, f.scope, marker)
	}
	return err
}

func (f *grantFilter) add(condition string, arg any) {
	if f.where != "" {
		f.where += " AND "
	}
	f.args = append(f.args, arg)
	f.where += fmt.Sprintf(condition, len(f.args))
	f.scope += fmt.Sprintf("\x00%v", arg)
}

// ListGrants lists the grants on a key: all, or one, or those of a grantee.
func (s *Service) ListGrants(ctx context.Context, call *access.Call, in *ListGrantsRequest) (*ListGrantsResponse, error) {
	n, err := parseKeyName(call, in.KeyId)
	if err != nil {
		return nil, err
	}
	f := &grantFilter{operation: "ListGrants"}
	f.add("key_arn = $%d", n.arn())
	if in.GrantId != "" {
		if err := checkGrantID(in.GrantId); err != nil {
			return nil, err
		}
		f.add("grant_id = $%d", in.GrantId)
	}
	if err := oneFilter(call, "Grantee", in.GranteePrincipal, in.GranteeServicePrincipal); err != nil {
		return nil, err
	}
	if grantee := in.GranteePrincipal + in.GranteeServicePrincipal; grantee != "" {
		if err := s.filterPrincipal(ctx, f, "grantee", grantee); err != nil {
			return nil, err
		}
	}
	if err := f.page(in.Limit, in.Marker); err != nil {
		return nil, err
	}
	k, err := s.findKey(ctx, call, &request{operation: "ListGrants", keyID: in.KeyId, forAWSResource: forService(call)}, n)
	if err != nil {
		return nil, err
	}
	if err := checkState("ListGrants", k.arn, k.state); err != nil {
		return nil, err
	}
	return s.listGrants(ctx, f)
}

// ListRetirableGrants lists the grants in the call's Region, on keys of whichever
// account, that a principal of the caller's account may retire. The principal is
// the resource: to see what he may retire needs no permission on the keys.
func (s *Service) ListRetirableGrants(ctx context.Context, call *access.Call, in *ListRetirableGrantsRequest) (*ListGrantsResponse, error) {
	if in.RetiringPrincipal == "" && in.RetiringServicePrincipal == "" {
		return nil, awsapi.Errorf("ValidationException", "Specify RetiringPrincipal or RetiringServicePrincipal")
	}
	if err := oneFilter(call, "Retiring", in.RetiringPrincipal, in.RetiringServicePrincipal); err != nil {
		return nil, err
	}
	resource := everything(call)
	if in.RetiringPrincipal != "" {
		if err := checkPrincipal(in.RetiringPrincipal); err != nil {
			return nil, err
		}
		a, _ := arn.Parse(in.RetiringPrincipal)
		resource = access.Resource{ARN: in.RetiringPrincipal, Account: a.Account}
	}
	f := &grantFilter{operation: "ListRetirableGrants"}
	f.add("region = $%d", call.Region)
	if err := s.filterPrincipal(ctx, f, "retiring", in.RetiringPrincipal+in.RetiringServicePrincipal); err != nil {
		return nil, err
	}
	if err := f.page(in.Limit, in.Marker); err != nil {
		return nil, err
	}
	if err := s.guard.Check(ctx, call, "kms:ListRetirableGrants", resource); err != nil {
		return nil, err
	}
	return s.listGrants(ctx, f)
}

// oneFilter refuses a principal and a service at once, and one who is no service
// asking for a service's grants.
func oneFilter(call *access.Call, which, principal, service string) error {
	switch {
	case principal != "" && service != "":
		return awsapi.Errorf("ValidationException", "Specify %sPrincipal or %sServicePrincipal, not both", which, which)
	case service != "" && (call.Caller == nil || call.Caller.Type != access.AWSService):
		return awsapi.Errorf("ValidationException", "Only services can use %sServicePrincipal", which)
	}
	return nil
}

// filterPrincipal narrows f to the grants of a principal: of the one who bears
// the name now, and not of one who bore it before. A deleted one may be named by
// his unique id.
func (s *Service) filterPrincipal(ctx context.Context, f *grantFilter, column, name string) error {
	id, _, err := s.guard.PrincipalID(ctx, name)
	if err != nil {
		return err
	}
	if id == name {
		f.add(column+"_id = $%d", id)
		return nil
	}
	f.add(column+" = $%d", name)
	f.add(column+"_id = $%d", id)
	return nil
}

func (s *Service) listGrants(ctx context.Context, f *grantFilter) (*ListGrantsResponse, error) {
	n := len(f.args)
	rows, err := s.db.Query(ctx, `SELECT `+grantColumns+` FROM kms_grants WHERE `+f.where+
		fmt.Sprintf(` AND grant_id > $%d ORDER BY grant_id LIMIT $%d`, n+1, n+2), append(f.args, f.last, f.most+1)...)
	if err != nil {
		return nil, fmt.Errorf("listing grants: %w", err)
	}
	defer rows.Close()
	var grants []*grantRow
	for rows.Next() {
		g := new(grantRow)
		if err := rows.Scan(g.columns()...); err != nil {
			return nil, fmt.Errorf("listing grants: %w", err)
		}
		grants = append(grants, g)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("listing grants: %w", err)
	}
	rows.Close()
	out := &ListGrantsResponse{Grants: []GrantListEntry{}}
	if len(grants) > f.most {
		grants = grants[:f.most]
		out.Truncated = true
		out.NextMarker = formatMarker(f.operation, f.scope, grants[f.most-1].id)
	}
	for _, g := range grants {
		e, err := s.entry(ctx, g)
		if err != nil {
			return nil, err
		}
		out.Grants = append(out.Grants, e)
	}
	return out, nil
}
