//go:build unix

package interop_test

import (
	"os"
	"strings"
	"testing"
)

// sts tells who calls, and lends roles and sessions.
func (c *conversation) sts() {
	user, role := "arn:aws:iam::"+c.account+":user/interop", "arn:aws:iam::"+c.account+":role/ci"
	out := c.do("sts:GetCallerIdentity", nil)
	c.equal("account", out["Account"], c.account)
	c.equal("caller", out["Arn"], user)
	in := members{"RoleArn": role, "RoleSessionName": "interop", "DurationSeconds": 900}
	assumed := "arn:aws:sts::" + c.account + ":assumed-role/ci/interop"
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, out := range []members{
		c.do("sts:AssumeRole", in),
		c.do("sts:AssumeRoleWithWebIdentity", members{"RoleArn": role, "RoleSessionName": "interop", "WebIdentityToken": string(token)}),
	} {
		c.equal("session", find(out, "AssumedRoleUser.Arn"), assumed)
		c.temporary(out)
	}
	c.temporary(c.do("sts:GetSessionToken", nil))
	in["RoleArn"] = role + "-missing"
	c.refused("AccessDenied", "sts:AssumeRole", in)
	c.refused("InvalidIdentityToken", "sts:AssumeRoleWithWebIdentity", members{"RoleArn": role, "RoleSessionName": "interop", "WebIdentityToken": string(token[:len(token)-4])})
}

// temporary checks that an answer has credentials that end.
func (c *conversation) temporary(out members) {
	c.t.Helper()
	if id := text(c.t, out, "Credentials.AccessKeyId"); !strings.HasPrefix(id, "ASIA") {
		c.t.Errorf("the access key id of a session is %s", id)
	}
	text(c.t, out, "Credentials.SecretAccessKey")
	text(c.t, out, "Credentials.SessionToken")
	if find(out, "Credentials.Expiration") == nil {
		c.t.Error("no Expiration")
	}
}

// A program that was started with a role and the token of its service account,
// and no access key, as in a Kubernetes pod, calls as the role: its SDK asks STS
// by itself.
func TestWebIdentity(t *testing.T) {
	a := callers["documents"]
	a.role, a.tokenFile = "arn:aws:iam::"+a.account+":role/ci", tokenFile
	for _, name := range []string{"go", "boto3", "cli", "node-v3"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := clients[name](t, a)
			if !c.knows("RotateKeyOnDemand") {
				t.Log("this version finds STS at no other endpoint than AWS's")
				return
			}
			out, refused := c.do(region, "DescribeKey", members{"KeyId": "alias/example"})
			if refused != nil || find(out, "KeyMetadata.Arn") != keyARN {
				t.Errorf("what the role may: %v, %+v", out, refused)
			}
			_, refused = c.do(region, "DisableKey", members{"KeyId": keyARN})
			if refused == nil || refused.Code != "AccessDeniedException" || !strings.Contains(refused.Message, ":assumed-role/ci/interop is not authorized to perform: kms:DisableKey") {
				t.Errorf("what the role may not: %+v", refused)
			}
		})
	}
}
