package policy_test

import (
	"strings"
	"testing"

	"github.com/keyturn/keyturn/policy"
)

const (
	github = "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com"
	eks    = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/0A1B"
)

// Only the provider that is named lets its users in; a star stands for those who sign, except where it denies.
func TestTrustPoliciesOfWebIdentities(t *testing.T) {
	for name, tc := range map[string]struct{ statements, github, eks string }{
		"named":         {`{"Effect": "Allow", "Principal": {"Federated": "` + github + `"}, "Action": "sts:AssumeRoleWithWebIdentity"}`, "Allow", "NoMatch"},
		"among others":  {`{"Effect": "Allow", "Principal": {"AWS": "*", "Federated": ["` + github + `", "` + eks + `"]}, "Action": "sts:*"}`, "Allow", "Allow"},
		"star":          {`{"Effect": "Allow", "Principal": "*", "Action": "sts:*"}`, "NoMatch", "NoMatch"},
		"AWS star":      {`{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:*"}`, "NoMatch", "NoMatch"},
		"the account":   {`{"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "sts:*"}`, "NoMatch", "NoMatch"},
		"another's":     {`{"Effect": "Allow", "Principal": {"Federated": "` + strings.Replace(github, account, other, 1) + `"}, "Action": "sts:*"}`, "NoMatch", "NoMatch"},
		"other action":  {`{"Effect": "Allow", "Principal": {"Federated": "` + github + `"}, "Action": "sts:AssumeRole"}`, "NoMatch", "NoMatch"},
		"star denies":   {`{"Effect": "Allow", "Principal": {"Federated": "` + github + `"}, "Action": "sts:*"}, {"Effect": "Deny", "Principal": "*", "Action": "sts:*"}`, "Deny", "Deny"},
		"denied by ARN": {`{"Effect": "Deny", "Principal": {"Federated": "` + github + `"}, "Action": "sts:*"}`, "Deny", "NoMatch"},
		"all but one":   {`{"Effect": "Deny", "NotPrincipal": {"Federated": "` + github + `"}, "Action": "sts:*"}`, "NoMatch", "Deny"},
		"all but users": {`{"Effect": "Deny", "NotPrincipal": {"AWS": "111122223333"}, "Action": "sts:*"}`, "Deny", "Deny"},
	} {
		p, err := policy.Parse([]byte(`{"Version": "2012-10-17", "Statement": [`+tc.statements+`]}`), policy.Trust)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for provider, want := range map[string]string{github: tc.github, eks: tc.eks} {
			got := p.Evaluate(&policy.Request{
				Principal: policy.Principal{Federated: provider, Account: account},
				Action:    "sts:AssumeRoleWithWebIdentity", Resource: "arn:aws:iam::111122223333:role/ci",
			}).Effect.String()
			if got != want {
				t.Errorf("%s: %s: %s, want %s", name, provider, got, want)
			}
		}
	}
}

func TestTrustPoliciesOfUsers(t *testing.T) {
	p := parse(t, policy.Trust, `{"Statement": [{"Effect": "Allow", "Principal": {"AWS": ["arn:aws:iam::111122223333:user/alice", "444455556666"],
		"Federated": "`+github+`"}, "Action": "sts:AssumeRole"}]}`).on("arn:aws:iam::111122223333:role/ci")
	p.may("alice", "sts:AssumeRole")
	p.check("bob", "NoMatch", "sts:AssumeRole")
	p.check("alice", "NoMatch", "sts:TagSession")
	p.check("444455556666/bob", "Allow through the account", "sts:AssumeRole")
}

func TestTrustPoliciesThatAreRefused(t *testing.T) {
	for want, statement := range map[string]string{
		"has no Resource":                   `"Principal": "*", "Action": "sts:AssumeRole", "Resource": "*"`,
		"has no Resource: it":               `"Principal": "*", "Action": "sts:AssumeRole", "NotResource": "*"`,
		"Principal is missing":              `"Action": "sts:AssumeRole"`,
		"is not an action of STS":           `"Principal": "*", "Action": "*"`,
		`"kms:Sign" is not an action`:       `"Principal": "*", "Action": ["STS:AssumeRole", "kms:Sign"]`,
		"is not an OIDC provider":           `"Principal": {"Federated": "cognito-identity.amazonaws.com"}, "Action": "sts:*"`,
		"provider: give its ARN":            `"Principal": {"Federated": "arn:aws:iam::111122223333:saml-provider/x.y"}, "Action": "sts:*"`,
		`oidc-provider/*" is not an OIDC`:   `"Principal": {"Federated": "arn:aws:iam::111122223333:oidc-provider/*"}, "Action": "sts:*"`,
		`oidc-provider/a.*" is not an OIDC`: `"Principal": {"Federated": "arn:aws:iam::111122223333:oidc-provider/a.*"}, "Action": "sts:*"`,
		`iam:::oidc-provider/a.b" is not`:   `"Principal": {"Federated": "arn:aws:iam:::oidc-provider/a.b"}, "Action": "sts:*"`,
		"the limit is 2048":                 `"Sid": "` + strings.Repeat("x", 2048) + `", "Principal": "*", "Action": "sts:*"`,
	} {
		_, err := policy.Parse([]byte(`{"Statement": [{"Effect": "Allow", `+statement+`}]}`), policy.Trust)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", statement, err, want)
		}
	}
}

func TestProviderARN(t *testing.T) {
	for issuer, want := range map[string]string{
		"https://token.actions.githubusercontent.com":         github,
		"https://oidc.eks.eu-central-1.amazonaws.com/id/0A1B": eks,
		"https://kubernetes.default.svc.cluster.local/":       "arn:aws:iam::111122223333:oidc-provider/kubernetes.default.svc.cluster.local",
		"http://127.0.0.1:8080/realms/x":                      "arn:aws:iam::111122223333:oidc-provider/127.0.0.1:8080/realms/x",
	} {
		if got := policy.ProviderARN(account, issuer); got != want {
			t.Errorf("%s: %s, want %s", issuer, got, want)
		}
	}
}
