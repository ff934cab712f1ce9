package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/keyturn/keyturn/arn"
	"github.com/spf13/cobra"
)

func (a *app) jwksCommand() *cobra.Command {
	var format, account string
	cmd := &cobra.Command{
		Use:   "jwks ALIAS",
		Short: "Print the public keys of a lineage: next, current and previous",
		Long: `Fetches what verifiers fetch from the server's /jwks/ address, without credentials. ALIAS is alias/NAME in the account and
Region that the server is configured for, or with --account and --region in others, or an alias's ARN.`,
		Example: `keyturn jwks alias/payments
keyturn jwks alias/payments --format pem`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "jwks" && format != "pem" && format != "ssh" {
				return usageError(fmt.Errorf("--format %q", format), "it is jwks, pem or ssh")
			}
			if a.json && format != "jwks" {
				return usageError(fmt.Errorf("--json together with --format %s", format), "a JWK set is JSON; the others are not")
			}
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			region, alias := c.aws.Region, args[0]
			if strings.HasPrefix(alias, "arn:") {
				name, err := arn.Parse(alias)
				if err != nil {
					return usageError(err, "an alias's ARN ends in :alias/NAME")
				}
				account, region, alias = name.Account, name.Region, name.Resource
			}
			if !strings.HasPrefix(alias, "alias/") {
				return usageError(fmt.Errorf("alias %q", alias), "an alias begins with alias/, for example alias/%s", alias)
			}
			address := c.endpoint + "/jwks/"
			if account != "" {
				address += url.PathEscape(account) + "/" + url.PathEscape(region) + "/"
			}
			address += (&url.URL{Path: alias}).EscapedPath() + "?format=" + format
			body, err := c.get(cmd, address)
			if err != nil {
				return err
			}
			_, err = a.out.Write(append([]byte(strings.TrimRight(string(body), "\n")), '\n'))
			return err
		},
	}
	cmd.Flags().StringVar(&format, "format", "jwks", "jwks, pem or ssh (authorized_keys lines)")
	cmd.Flags().StringVar(&account, "account", "", "account of the alias (default: the server's)")
	return cmd
}

// get fetches a public page of the server.
func (c *client) get(cmd *cobra.Command, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, address, nil)
	if err != nil {
		return nil, usageError(err, "check the endpoint URL and the alias")
	}
	resp, err := c.aws.HTTPClient.Do(req)
	if err != nil {
		return nil, unavailable(c.endpoint, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return nil, unavailable(c.endpoint, err)
	}
	if resp.StatusCode == http.StatusOK {
		return body, nil
	}
	var wire struct {
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &wire) != nil || wire.Message == "" {
		wire.Message = resp.Status
	}
	e := &cliError{err: errors.New(wire.Message), code: exitFailed}
	switch resp.StatusCode {
	case http.StatusNotFound:
		e.code, e.hint = exitNotFound, "'keyturn policy list' shows the aliases that turn; symmetric and HMAC keys have no public half"
	case http.StatusServiceUnavailable:
		e.code, e.hint = exitUnavailable, "the server's log has the details"
	case http.StatusNotAcceptable:
		e.hint = "--format pem has every public key"
	}
	return nil, e
}
