package policy

import (
	"strings"

	"github.com/keyturn/keyturn/arn"
)

// Trust policies say who may take on a role, and are resource policies of it: they name principals and, as the role itself
// is the resource, no Resource. Beside the principals of other documents they name OIDC providers:
//
//	"Principal": {"Federated": "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com"}
//
// Who an OIDC provider vouches for is reached by its ARN alone: "*" in an Allow stands for those who sign their requests.
const Trust Kind = Resource + 1

// MaxTrustChars is AWS's default quota of a trust policy, white space not counted.
const MaxTrustChars = 2048

const providerPrefix = "oidc-provider/"

// ProviderARN names the OIDC provider of an issuer URL in an account, as Federated principals do.
func ProviderARN(account, issuer string) string {
	return "arn:aws:iam::" + account + ":" + providerPrefix + IssuerName(issuer)
}

// IssuerName is an issuer's URL without its scheme: the last part of its provider's ARN, and the first of its condition keys.
func IssuerName(issuer string) string {
	_, name, found := strings.Cut(issuer, "://")
	if !found {
		return issuer
	}
	return strings.TrimSuffix(name, "/")
}

// addFederated takes one entry of {"Federated": …}.
func (p *principals) addFederated(text string) (problem string) {
	a, err := arn.Parse(text)
	if err != nil || a.Service != "iam" || a.Region != "" || a.Account == "" || !strings.HasPrefix(a.Resource, providerPrefix) ||
		!IsIssuer(a.Resource[len(providerPrefix):]) {
		return "is not an OIDC provider: give its ARN, like arn:aws:iam::111122223333:oidc-provider/issuer.example.com/path"
	}
	p.federated = append(p.federated, text)
	return ""
}

// viaProvider is via for those whom an OIDC provider vouches for.
func (p *principals) viaProvider(who *Principal, effect Effect) Via {
	applies := contains(p.federated, who.Federated) || p.everyone && effect == Deny
	if applies == p.not {
		return 0
	}
	return Direct
}

// federatedKey reads the name of a condition key about a web identity, like "token.actions.githubusercontent.com:sub".
func federatedKey(text string) (Key, bool) {
	at := strings.LastIndexByte(text, ':')
	if at < 0 || !IsIssuer(text[:at]) {
		return Key{}, false
	}
	for _, n := range [...]KeyName{OIDCAudience, OIDCMethods, OIDCSubject} {
		if name := conditionKeys[n].name; len(text)-at == len(name) && equal(name, text[at:], true) {
			return Key{Name: n, Suffix: text[:at]}, true
		}
	}
	return Key{}, false
}

// IsIssuer reports whether a text passes for the name of an issuer. A dot in its host keeps it apart from the vendors of other
// condition keys, which have none.
func IsIssuer(text string) bool {
	host, _, _ := strings.Cut(text, "/")
	return strings.Contains(host, ".") && only(text, ".-_~:/%") && len(text) <= 255
}
