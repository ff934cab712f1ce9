package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/keyturn/keyturn/server"
	"github.com/spf13/cobra"
)

func (a *app) whoamiCommand() *cobra.Command {
	return &cobra.Command{
		Use: "whoami", Short: "Say whom the server takes these credentials for", Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(cmd.Context())
			if err != nil {
				return err
			}
			out, err := sts.NewFromConfig(c.aws).GetCallerIdentity(cmd.Context(), &sts.GetCallerIdentityInput{})
			if err != nil {
				return wrapSDK(c.endpoint, err)
			}
			view := struct{ Arn, UserId, Account string }{*out.Arn, *out.UserId, *out.Account}
			return a.print(view, func() error { return a.facts("ARN", view.Arn, "id", view.UserId, "account", view.Account) })
		},
	}
}

// sessionView is temporary credentials as the command prints them.
type sessionView struct {
	AccessKeyID  string `json:"AccessKeyId"`
	Secret       string `json:"SecretAccessKey"`
	SessionToken string
	Expiration   string
	Arn          string
}

func (a *app) assumeCommand() *cobra.Command {
	var name, file, externalID, source string
	var lasts time.Duration
	var tags []string
	cmd := &cobra.Command{
		Use:   "assume ROLE-ARN",
		Short: "Become a role for a while; prints temporary credentials",
		Long: `Calls sts:AssumeRole and prints what the environment of AWS SDKs and tools needs, one NAME=value a line. AWS SDKs do it
by themselves with role_arn in a profile.`,
		Example: "keyturn access assume arn:aws:iam::111122223333:role/ci > session.env",
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if name == "" {
				name = "keyturn-" + user()
			}
			in := &sts.AssumeRoleInput{RoleArn: &args[0], RoleSessionName: &name}
			if seconds, err := wholeSeconds("duration", lasts); err != nil {
				return err
			} else if seconds > 0 {
				in.DurationSeconds = aws.Int32(int32(seconds))
			}
			if file != "" {
				text, err := readDocument(file)
				if err != nil {
					return err
				}
				in.Policy = &text
			}
			for flag, to := range map[*string]**string{&externalID: &in.ExternalId, &source: &in.SourceIdentity} {
				if *flag != "" {
					*to = flag
				}
			}
			pairs, err := readTags(tags)
			if err != nil {
				return err
			}
			for _, t := range pairs {
				in.Tags = append(in.Tags, types.Tag{Key: &t.Key, Value: &t.Value})
			}
			return a.assume(cmd, in)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&name, "session", "", "name of the session, which the audit log shows (default keyturn- and the value of USER)")
	flags.DurationVar(&lasts, "duration", 0, "how long it lasts, 15m to the role's longest (default 1h)")
	flags.StringVar(&file, "policy", "", "JSON policy document that bounds the session")
	flags.StringVar(&externalID, "external-id", "", "what the role's trust policy asks for as sts:ExternalId")
	flags.StringVar(&source, "source-identity", "", "who is behind the session; stays through further roles")
	tagsFlag(cmd, &tags)
	return cmd
}

// user names the person at the machine in the characters of session names.
func user() string {
	name := strings.Map(func(r rune) rune {
		if r < 128 && (r == '-' || r == '_' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			return r
		}
		return -1
	}, os.Getenv("USER"))
	if name == "" {
		return "cli"
	}
	return name[:min(len(name), 40)]
}

func (a *app) assume(cmd *cobra.Command, in *sts.AssumeRoleInput) error {
	c, err := a.connect(cmd.Context())
	if err != nil {
		return err
	}
	out, err := sts.NewFromConfig(c.aws).AssumeRole(cmd.Context(), in)
	if err != nil {
		return wrapSDK(c.endpoint, err)
	}
	view := sessionView{
		*out.Credentials.AccessKeyId, *out.Credentials.SecretAccessKey, *out.Credentials.SessionToken,
		out.Credentials.Expiration.UTC().Format(time.RFC3339), *out.AssumedRoleUser.Arn,
	}
	return a.print(view, func() error {
		_, err := fmt.Fprintf(a.out, "AWS_ACCESS_KEY_ID=%s\nAWS_SECRET_ACCESS_KEY=%s\nAWS_SESSION_TOKEN=%s\n", view.AccessKeyID, view.Secret, view.SessionToken)
		return err
	})
}

func (a *app) explainCommand() *cobra.Command {
	in := &server.ExplainAccessInput{}
	var context, conditions []string
	cmd := &cobra.Command{
		Use:   "explain --as PRINCIPAL --action kms:Sign --key alias/x",
		Short: "Say whether a principal may do something, and which statement says so",
		Long: `Asks the server what its door would decide, and does nothing. Key policies, identity policies, boundaries, session
policies, grants and conditions all count; the state of the key does not. Exit code 1 when it would be denied.

PRINCIPAL is an ARN, or root, user/NAME, role/NAME (as a session of it), or the name of a service.`,
		Example: "keyturn access explain --as user/alice --action kms:Decrypt --key alias/orders --context shop=berlin",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			pairs, err := readTags(context)
			if err != nil {
				return usageError(err, "write --context KEY=VALUE")
			}
			for _, p := range pairs {
				if in.EncryptionContext == nil {
					in.EncryptionContext = map[string]string{}
				}
				in.EncryptionContext[p.Key] = p.Value
			}
			if pairs, err = readTags(conditions); err != nil {
				return usageError(err, "write --condition KEY=VALUE, like kms:SigningAlgorithm=ECDSA_SHA_256")
			}
			for _, p := range pairs {
				if in.Conditions == nil {
					in.Conditions = map[string][]string{}
				}
				in.Conditions[p.Key] = append(in.Conditions[p.Key], p.Value)
			}
			denied := false
			err = native(a, cmd, "ExplainAccess", in, func(out *server.ExplainAccessOutput) error { return a.tellExplanation(out) }, func(out *server.ExplainAccessOutput) { denied = !out.Allowed })
			if err == nil && denied {
				return errSilent
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&in.As, "as", "", "who: an ARN, root, user/NAME, role/NAME, or a service's name")
	flags.StringVar(&in.Action, "action", "", "what, like kms:Sign")
	flags.StringVar(&in.Key, "key", "", "to which key: id, alias or ARN")
	flags.StringVar(&in.Resource, "resource", "", "to what else: an ARN")
	flags.StringArrayVar(&context, "context", nil, "KEY=VALUE of the encryption context; may be given again")
	flags.StringArrayVar(&conditions, "condition", nil, "KEY=VALUE of a condition key that the request would have, like kms:SigningAlgorithm=ECDSA_SHA_256; may be given again")
	flags.StringArrayVar(&in.Via, "via", nil, "service through which it comes, like secretsmanager.amazonaws.com; may be given again")
	flags.StringVar(&in.SourceIP, "source-ip", "", "address from which it comes")
	return cmd
}

func (a *app) tellExplanation(out *server.ExplainAccessOutput) error {
	verdict := a.colour("denied", red)
	if out.Allowed {
		verdict = a.colour("allowed", green)
	}
	fmt.Fprintf(a.out, "%s: %s may%s do %s to %s\n", verdict, printable(out.Principal), map[bool]string{true: "", false: " not"}[out.Allowed], out.Action, printable(out.Resource))
	fmt.Fprintf(a.out, "because: %s\n", out.Cause)
	if out.Message != "" {
		fmt.Fprintf(a.out, "told: %s\n", printable(out.Message))
	}
	var rows [][]string
	for _, s := range out.Reasons {
		decides := ""
		if out.DecidedBy != nil && s == *out.DecidedBy {
			decides = "decides"
		}
		rows = append(rows, []string{s.Effect, printable(s.Policy), statementName(s), decides})
	}
	return a.rows([]string{"EFFECT", "POLICY", "STATEMENT", ""}, rows, "No statement of any policy speaks of it.")
}

func statementName(s server.Statement) string {
	if s.Statement < 0 {
		return printable(s.Sid) // a grant
	}
	if s.Sid != "" {
		return fmt.Sprintf("%d (%s)", s.Statement, printable(s.Sid))
	}
	return fmt.Sprint(s.Statement)
}
