package kms_test

import (
	"context"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/keyturn/keyturn/access"
)

// A user is a stored user of account with a client of its own.
type user struct {
	*sdk.Client
	node          *node
	name, arn, id string
	accessKeyID   string
}

// user makes a user who may do nothing yet. Unlike the ephemeral principals of
// as it has a unique id.
func (n *node) user(name string) *user {
	n.t.Helper()
	made := administer(n, "CreateUser", n.guard.CreateUser, access.CreateUserInput{UserName: name})
	key := administer(n, "CreateAccessKey", n.guard.CreateAccessKey, access.CreateAccessKeyInput{UserName: name}).AccessKey
	return &user{
		Client: n.client(region, key.AccessKeyId, key.SecretAccessKey.Secret),
		node:   n, name: name, arn: made.User.Arn, id: made.User.UserId, accessKeyID: key.AccessKeyId,
	}
}

func (u *user) delete() {
	u.node.t.Helper()
	administer(u.node, "DeleteAccessKey", u.node.guard.DeleteAccessKey, access.DeleteAccessKeyInput{UserName: u.name, AccessKeyId: u.accessKeyID})
	administer(u.node, "DeleteUser", u.node.guard.DeleteUser, access.DeleteUserInput{UserName: u.name})
}

// role makes a role, and returns its ARN and unique id and a client for a session
// of it.
func (n *node) role(name string) (c *sdk.Client, arn, id string) {
	n.t.Helper()
	made := administer(n, "CreateRole", n.guard.CreateRole, access.CreateRoleInput{RoleName: name, AssumeRolePolicyDocument: trustAll}).Role
	found, err := n.guard.FindRole(ctx, made.Arn)
	if err != nil {
		n.t.Fatal(err)
	}
	s, err := n.guard.NewRoleSession(found, &access.SessionOptions{Name: "s", Duration: time.Hour})
	if err != nil {
		n.t.Fatal(err)
	}
	return n.client(region, s.AccessKeyID, s.Secret, s.Token.Reveal()), made.Arn, made.RoleId
}

const trustAll = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + account + `"},"Action":"sts:AssumeRole"}]}`

func (n *node) deleteRole(name string) {
	n.t.Helper()
	administer(n, "DeleteRole", n.guard.DeleteRole, access.DeleteRoleInput{RoleName: name})
}

// administer calls an operation of the guard as the root user of account.
func administer[In, Out any](n *node, operation string, do func(ctx context.Context, call *access.Call, in *In) (*Out, error), in In) *Out {
	n.t.Helper()
	n.as(account, "", "")
	root, err := n.guard.Credential(ctx, "AKIA"+account, "")
	if err != nil {
		n.t.Fatal(err)
	}
	call := &access.Call{
		ID: operation, Service: "keyturn", EventSource: "keyturn.amazonaws.com", Operation: operation, Region: region, Account: account,
		Caller: root.Caller, Time: n.clock.now(), SourceIP: "test",
	}
	out, err := do(ctx, call, &in)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.guard.Finish(ctx, call, "", ""); err != nil {
		n.t.Fatal(err)
	}
	return out
}

func rootARN(account string) string { return access.RootARN(account) }

func userARN(name string) string { return access.UserARN(account, "/", name) }

// statement allows a principal to do actions to the key.
func statement(action, principal string) string {
	return `{"Effect":"Allow","Principal":{"AWS":"` + principal + `"},"Action":"` + action + `","Resource":"*"}`
}

func keyPolicyOf(statements ...string) string {
	text := `{"Version":"2012-10-17","Statement":[`
	for i, s := range statements {
		if i > 0 {
			text += ","
		}
		text += s
	}
	return text + `]}`
}
