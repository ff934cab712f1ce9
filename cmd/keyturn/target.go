package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/keyturn/keyturn/rotation"
	"github.com/spf13/cobra"
)

// named is a policy of a server, by name.
type named struct {
	*client
	policy string
}

// onPolicy connects and finds the policy that arg names.
func (a *app) onPolicy(cmd *cobra.Command, arg string) (*named, error) {
	c, err := a.connect(cmd.Context())
	if err != nil {
		return nil, err
	}
	name, err := c.policyName(cmd.Context(), arg)
	return &named{c, name}, err
}

// policyName resolves the alias of a policy to the policy's name. Anything that
// does not begin with alias/ is a name already.
func (c *client) policyName(ctx context.Context, arg string) (string, error) {
	if !strings.HasPrefix(arg, "alias/") {
		return arg, nil
	}
	all, err := c.policies(ctx)
	if err != nil {
		return "", err
	}
	var names []string
	for _, p := range all {
		if p.Name == arg {
			return arg, nil
		}
		if p.Alias == arg {
			names = append(names, p.Name)
		}
	}
	switch len(names) {
	case 0:
		return "", &cliError{
			err: fmt.Errorf("no policy turns %s", arg), code: exitNotFound,
			hint: fmt.Sprintf("'keyturn policy put %s --schedule ...' makes one; 'keyturn policy list' shows those there are", arg),
		}
	case 1:
		return names[0], nil
	}
	return "", usageError(fmt.Errorf("%s is turned on several targets, by %s", arg, strings.Join(names, ", ")), "name the policy instead of the alias")
}

// policies lists the policies of the account and Region, by name.
func (c *client) policies(ctx context.Context) ([]rotation.PolicySummary, error) {
	return c.listPolicies(ctx, rotation.ListPoliciesInput{})
}

func (c *client) listPolicies(ctx context.Context, in rotation.ListPoliciesInput) ([]rotation.PolicySummary, error) {
	all := []rotation.PolicySummary{}
	in.Page = rotation.Page{MaxResults: 1000}
	for {
		var out rotation.ListPoliciesOutput
		if err := c.call(ctx, "ListPolicies", &in, &out); err != nil {
			return nil, err
		}
		all = append(all, out.Policies...)
		if in.NextToken = out.NextToken; in.NextToken == "" {
			return all, nil
		}
	}
}

// policyOf is the name in a policy's ARN.
func policyOf(arn string) string {
	if _, name, ok := strings.Cut(arn, ":policy/"); ok {
		return name
	}
	return arn
}

// keyOf is the id in a key's ARN, or of the material in the name of one.
func keyOf(arn string) string {
	_, id, ok := strings.Cut(arn, ":key/")
	if !ok {
		return arn
	}
	if _, material, ok := rotation.CutMaterial(id); ok {
		return "material " + material
	}
	return id
}
