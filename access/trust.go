package access

import (
	"cmp"
	"context"
	"fmt"

	"github.com/keyturn/keyturn/policy"
)

// Trust policies are kept without white space and with the unique ids of users and roles in the place of their ARNs, as
// AWS keeps them: whoever is made under the name of one who was deleted is not trusted.

// pinTrust makes the kept form of a trust policy, and refuses one that names principals who do not exist.
func (g *Guard) pinTrust(ctx context.Context, document string) (string, error) {
	p, err := policy.Parse([]byte(document), policy.Trust)
	if err != nil {
		return "", errorf("MalformedPolicyDocumentException", "%s", err)
	}
	ids := map[string]string{}
	for _, name := range p.Principals() {
		id, found, err := g.PrincipalID(ctx, name)
		if err != nil {
			return "", err
		}
		if !found {
			return "", errorf("MalformedPolicyDocumentException", "Invalid principal in policy: %q", name)
		}
		ids[name] = id
	}
	d, err := policy.ReadDocument([]byte(document))
	if err != nil {
		return "", errorf("MalformedPolicyDocumentException", "%s", err)
	}
	d.RenamePrincipals(func(name string) string { return cmp.Or(ids[name], name) })
	return d.Compact(), nil
}

// printTrust is a kept trust policy with ARNs again. A user or role that was deleted shows as its unique id.
func (g *Guard) printTrust(ctx context.Context, i *identity) (string, error) {
	p, err := policy.Parse([]byte(i.trust), policy.Trust)
	if err != nil {
		return "", fmt.Errorf("printing the trust policy of %s: %w", i.arn(), err)
	}
	names := map[string]string{}
	for _, name := range p.Principals() {
		if policy.IsUniqueID(name) {
			if names[name], _, err = g.PrincipalARN(ctx, name); err != nil {
				return "", err
			}
		}
	}
	d, err := policy.ReadDocument([]byte(i.trust))
	if err != nil {
		return "", fmt.Errorf("printing the trust policy of %s: %w", i.arn(), err)
	}
	d.RenamePrincipals(func(name string) string { return cmp.Or(names[name], name) })
	return d.Compact(), nil
}
