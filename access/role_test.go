package access_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

const (
	trustAccount  = `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "sts:AssumeRole"}]}`
	mayEverything = `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}`
	mayKMS        = `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}]}`
)

// role makes a role that the account trusts, with one policy, "" for none.
func (h *house) role(admin *access.Caller, name, statements string) access.Role {
	h.t.Helper()
	r := must(h, admin, "CreateRole", h.CreateRole, access.CreateRoleInput{RoleName: name, AssumeRolePolicyDocument: trustAccount}).Role
	if statements != "" {
		must(h, admin, "PutRolePolicy", h.PutRolePolicy, access.PutRolePolicyInput{
			RoleName: name, PolicyName: "own", PolicyDocument: `{"Version": "2012-10-17", "Statement": [` + statements + `]}`,
		})
	}
	return r
}

func TestRoles(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := open(t, db)
		admin := h.admin(account)
		made := must(h, admin, "CreateRole", h.CreateRole, access.CreateRoleInput{
			RoleName: "Deployer", Path: "/ci/", AssumeRolePolicyDocument: trustAccount, Description: "puts it there",
			MaxSessionDuration: 7200, PermissionsBoundary: mayKMS, Tags: []access.Tag{{Key: "team", Value: "payments"}},
		}).Role
		if made.Arn != "arn:aws:iam::111122223333:role/ci/Deployer" || !strings.HasPrefix(made.RoleId, "AROA") || len(made.RoleId) != 21 || made.MaxSessionDuration != 7200 {
			t.Errorf("made %+v", made)
		}
		got := must(h, admin, "GetRole", h.GetRole, access.GetRoleInput{RoleName: "deployer"}).Role
		if fmt.Sprint(got) != fmt.Sprint(made) {
			t.Errorf("got  %+v\nmade %+v", got, made)
		}
		_, err := do(h, admin, "CreateRole", h.CreateRole, access.CreateRoleInput{RoleName: "DEPLOYER", AssumeRolePolicyDocument: trustAccount})
		wantCode(t, err, "EntityAlreadyExistsException")
		if h.role(admin, "other", "").MaxSessionDuration != 3600 {
			t.Error("a session lasts longer than an hour unless told")
		}
		text := "changed"
		must(h, admin, "UpdateRole", h.UpdateRole, access.UpdateRoleInput{RoleName: "Deployer", Description: &text})
		must(h, admin, "UpdateAssumeRolePolicy", h.UpdateAssumeRolePolicy, access.UpdateAssumeRolePolicyInput{
			RoleName: "Deployer", PolicyDocument: strings.Replace(trustAccount, "111122223333", "*", 1),
		})
		must(h, admin, "DeleteRolePermissionsBoundary", h.DeleteRolePermissionsBoundary, access.DeleteRolePermissionsBoundaryInput{RoleName: "Deployer"})
		got = must(h, admin, "GetRole", h.GetRole, access.GetRoleInput{RoleName: "Deployer"}).Role
		if got.Description != text || got.MaxSessionDuration != 7200 || got.PermissionsBoundary != "" || !strings.Contains(got.AssumeRolePolicyDocument, `"*"`) {
			t.Errorf("changed to %+v", got)
		}
		listed := must(h, admin, "ListRoles", h.ListRoles, access.ListRolesInput{MaxItems: 1})
		if len(listed.Roles) != 1 || !listed.IsTruncated || listed.Roles[0].RoleName != "Deployer" || listed.Roles[0].Tags != nil {
			t.Errorf("listed %+v", listed)
		}
		if rest := must(h, admin, "ListRoles", h.ListRoles, access.ListRolesInput{Marker: listed.Marker}); len(rest.Roles) != 1 || rest.IsTruncated {
			t.Errorf("then %+v", rest)
		}
		must(h, admin, "PutRolePolicy", h.PutRolePolicy, access.PutRolePolicyInput{RoleName: "other", PolicyName: "own", PolicyDocument: mayKMS})
		_, err = do(h, admin, "DeleteRole", h.DeleteRole, access.DeleteRoleInput{RoleName: "other"})
		wantCode(t, err, "DeleteConflictException")
		if names := must(h, admin, "ListRolePolicies", h.ListRolePolicies, access.ListRolePoliciesInput{RoleName: "other"}).PolicyNames; !slices.Equal(names, []string{"own"}) {
			t.Errorf("policies %v", names)
		}
		must(h, admin, "DeleteRolePolicy", h.DeleteRolePolicy, access.DeleteRolePolicyInput{RoleName: "other", PolicyName: "own"})
		must(h, admin, "DeleteRole", h.DeleteRole, access.DeleteRoleInput{RoleName: "other"})
		must(h, admin, "DeleteRole", h.DeleteRole, access.DeleteRoleInput{RoleName: "Deployer"}) // with tags
		_, err = do(h, admin, "GetRole", h.GetRole, access.GetRoleInput{RoleName: "Deployer"})
		wantCode(t, err, "NoSuchEntityException")
	})
}

func TestTrustPoliciesNameWhoExists(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := open(t, db)
		admin := h.admin(account)
		h.role(admin, "first", "")
		must(h, admin, "CreateUser", h.CreateUser, access.CreateUserInput{UserName: "alice"})
		const trustAlice = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:user/alice"},"Action":"sts:AssumeRole"}]}`
		must(h, admin, "UpdateAssumeRolePolicy", h.UpdateAssumeRolePolicy, access.UpdateAssumeRolePolicyInput{RoleName: "first", PolicyDocument: trustAlice})
		trusts := func() string {
			return must(h, admin, "GetRole", h.GetRole, access.GetRoleInput{RoleName: "first"}).Role.AssumeRolePolicyDocument
		}
		if got := trusts(); got != trustAlice {
			t.Errorf("the trust policy reads %s", got)
		}
		// Whoever is made under the name of one who was deleted is somebody else.
		must(h, admin, "DeleteUser", h.DeleteUser, access.DeleteUserInput{UserName: "alice"})
		must(h, admin, "CreateUser", h.CreateUser, access.CreateUserInput{UserName: "alice"})
		if got := trusts(); strings.Contains(got, "alice") || !strings.Contains(got, `"AWS":"AIDA`) {
			t.Errorf("after alice was deleted and made anew it reads %s", got)
		}
		for principal, known := range map[string]bool{
			`"*"`: true, `{"AWS": "arn:aws:iam::111122223333:user/admin"}`: true, `{"AWS": "arn:aws:iam::111122223333:role/first"}`: true,
			`{"AWS": "arn:aws:sts::111122223333:assumed-role/first/session"}`: true, `{"AWS": "arn:aws:iam::111122223333:user/nobody"}`: false,
			`{"AWS": "arn:aws:iam::111122223333:role/second"}`: false, `{"AWS": "arn:aws:sts::111122223333:assumed-role/second/s"}`: false,
			`{"AWS": "arn:aws:iam::444455556666:role/first"}`: false, `{"AWS": "444455556666"}`: true, `{"Service": "lambda.amazonaws.com"}`: true,
			`{"Federated": "arn:aws:iam::111122223333:oidc-provider/issuer.example.com"}`: true,
		} {
			_, err := do(h, admin, "UpdateAssumeRolePolicy", h.UpdateAssumeRolePolicy, access.UpdateAssumeRolePolicyInput{
				RoleName: "first", PolicyDocument: `{"Statement": {"Effect": "Allow", "Principal": ` + principal + `, "Action": "sts:*"}}`,
			})
			if known && err != nil || !known && (err == nil || codeOf(err) != "MalformedPolicyDocumentException") {
				t.Errorf("%s: %v", principal, err)
			}
		}
	})
}

// A session of a role called like the engine's would pass for the engine.
func TestTheEnginesRoleIsReserved(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	admin := h.admin(account)
	for _, name := range []string{"keyturn", "KeyTurn"} {
		_, err := do(h, admin, "CreateRole", h.CreateRole, access.CreateRoleInput{RoleName: name, AssumeRolePolicyDocument: trustAccount})
		wantCode(t, err, "ValidationException")
	}
}

func TestGroups(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := open(t, db)
		admin := h.admin(account)
		id, secret := h.user(admin, "alice", "")
		may := func(action string) bool { return h.Allows(h.signIn(id, secret), action, key(t, accountDecides)) }
		made := must(h, admin, "CreateGroup", h.CreateGroup, access.CreateGroupInput{GroupName: "Signers", Path: "/x/"}).Group
		if made.Arn != "arn:aws:iam::111122223333:group/x/Signers" || !strings.HasPrefix(made.GroupId, "AGPA") {
			t.Errorf("made %+v", made)
		}
		put := func(action string) {
			must(h, admin, "PutGroupPolicy", h.PutGroupPolicy, access.PutGroupPolicyInput{
				GroupName: "signers", PolicyName: "p", PolicyDocument: `{"Statement": {"Sid": "S", "Effect": "Allow", "Action": "` + action + `", "Resource": "*"}}`,
			})
		}
		member := access.GroupMemberInput{GroupName: "signers", UserName: "ALICE"}
		put("kms:Sign")
		if may("kms:Sign") {
			t.Error("who is in no group may what a group may")
		}
		for range 2 {
			must(h, admin, "AddUserToGroup", h.AddUserToGroup, member)
		}
		if !may("kms:Sign") {
			t.Error("membership gives nothing")
		}
		if got := h.signIn(id, secret).Policies[0].Name; got != "group Signers/p" {
			t.Errorf("the policy is called %q", got)
		}
		// A change of the group reaches its members at once.
		put("kms:Verify")
		if may("kms:Sign") || !may("kms:Verify") {
			t.Error("the group's new policy is not in force")
		}
		group := must(h, admin, "GetGroup", h.GetGroup, access.GetGroupInput{GroupName: "SIGNERS"})
		if len(group.Users) != 1 || group.Users[0].UserName != "alice" {
			t.Errorf("members %+v", group.Users)
		}
		if of := must(h, admin, "ListGroupsForUser", h.ListGroupsForUser, access.ListGroupsForUserInput{UserName: "alice"}).Groups; len(of) != 1 || of[0].GroupName != "Signers" {
			t.Errorf("groups of alice %+v", of)
		}
		for _, then := range []func(){
			func() { must(h, admin, "RemoveUserFromGroup", h.RemoveUserFromGroup, member) },
			func() {
				must(h, admin, "DeleteGroupPolicy", h.DeleteGroupPolicy, access.DeleteGroupPolicyInput{GroupName: "Signers", PolicyName: "p"})
			},
		} {
			_, err := do(h, admin, "DeleteGroup", h.DeleteGroup, access.DeleteGroupInput{GroupName: "Signers"})
			wantCode(t, err, "DeleteConflictException")
			then()
		}
		if may("kms:Verify") {
			t.Error("who has left may what the group may")
		}
		must(h, admin, "DeleteGroup", h.DeleteGroup, access.DeleteGroupInput{GroupName: "Signers"})

		for i := range 11 {
			name := fmt.Sprint("g", i)
			must(h, admin, "CreateGroup", h.CreateGroup, access.CreateGroupInput{GroupName: name})
			_, err := do(h, admin, "AddUserToGroup", h.AddUserToGroup, access.GroupMemberInput{GroupName: name, UserName: "alice"})
			if i < 10 && err != nil {
				t.Fatal(err)
			}
			if i == 10 {
				wantCode(t, err, "LimitExceededException")
			}
		}
		must(h, admin, "DeleteAccessKey", h.DeleteAccessKey, access.DeleteAccessKeyInput{UserName: "alice", AccessKeyId: id})
		_, err := do(h, admin, "DeleteUser", h.DeleteUser, access.DeleteUserInput{UserName: "alice"})
		if wantCode(t, err, "DeleteConflictException"); !strings.Contains(err.Error(), "remove users from group") {
			t.Error(err)
		}
		if listed := must(h, admin, "ListGroups", h.ListGroups, access.ListGroupsInput{MaxItems: 5}); len(listed.Groups) != 5 || !listed.IsTruncated {
			t.Errorf("listed %+v", listed)
		}
	})
}

func TestTags(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := open(t, db)
		admin := h.admin(account)
		id, secret := h.user(admin, "alice", "")
		tag := func(pairs ...string) error {
			in := access.TagUserInput{UserName: "alice"}
			for i := 0; i < len(pairs); i += 2 {
				in.Tags = append(in.Tags, access.Tag{Key: pairs[i], Value: pairs[i+1]})
			}
			_, err := do(h, admin, "TagUser", h.TagUser, in)
			return err
		}
		if err := tag("Team", "payments", "größe", ""); err != nil {
			t.Fatal(err)
		}
		if err := tag("TEAM", "search"); err != nil { // another spelling of the same key
			t.Fatal(err)
		}
		want := []access.Tag{{Key: "TEAM", Value: "search"}, {Key: "größe"}}
		if got := must(h, admin, "ListUserTags", h.ListUserTags, access.ListUserTagsInput{UserName: "alice"}).Tags; !slices.Equal(got, want) {
			t.Errorf("tags %+v", got)
		}
		if got := h.signIn(id, secret).Tags; !slices.Equal(got, want) {
			t.Errorf("the caller's tags are %+v", got)
		}
		wantCode(t, tag("a", "1", "A", "2"), "InvalidInputException")
		wantCode(t, tag("AWS:x", "1"), "InvalidInputException")
		wantCode(t, tag(), "ValidationException")
		wantCode(t, tag("", "x"), "ValidationException")
		wantCode(t, tag("a\x00", "x"), "ValidationException")
		wantCode(t, tag("a", "<script>"), "ValidationException")
		wantCode(t, tag(strings.Repeat("k", 129), "x"), "ValidationException")
		wantCode(t, tag("a", strings.Repeat("v", 257)), "ValidationException")
		var many []string
		for i := range 48 {
			many = append(many, fmt.Sprint("k", i), "v")
		}
		if err := tag(many...); err != nil {
			t.Fatal(err)
		}
		wantCode(t, tag("one more", "v"), "LimitExceededException")
		must(h, admin, "UntagUser", h.UntagUser, access.UntagUserInput{UserName: "alice", TagKeys: []string{"team", "unknown"}})
		if err := tag("one more", "v"); err != nil {
			t.Error(err)
		}
		h.role(admin, "r", "")
		must(h, admin, "TagRole", h.TagRole, access.TagRoleInput{RoleName: "r", Tags: []access.Tag{{Key: "a", Value: "b"}}})
		must(h, admin, "UntagRole", h.UntagRole, access.UntagRoleInput{RoleName: "r", TagKeys: []string{"A"}})
		if got := must(h, admin, "ListRoleTags", h.ListRoleTags, access.ListRoleTagsInput{RoleName: "r"}).Tags; len(got) != 0 {
			t.Errorf("tags of the role %+v", got)
		}
	})
}

// Whoever may change one user's or group's policies gets no further by names of other kinds or accounts.
func TestManagementIsDecidedByARN(t *testing.T) {
	h := open(t, sqldbtest.SQLite(t))
	admin := h.admin(account)
	for _, name := range []string{"ops", "devs"} {
		h.role(admin, name, "")
		must(h, admin, "CreateGroup", h.CreateGroup, access.CreateGroupInput{GroupName: name})
	}
	h.user(admin, "devs", "")
	alice := h.signIn(h.user(admin, "alice", `{"Effect": "Allow", "Action": "keyturn:*", "Resource": "arn:aws:iam::111122223333:group/devs"}`))
	try := func(operation string, err error, allowed bool) {
		t.Helper()
		if denied := err != nil && codeOf(err) == "AccessDeniedException"; denied == allowed {
			t.Errorf("%s: %v", operation, err)
		}
	}
	_, err := do(h, alice, "PutGroupPolicy", h.PutGroupPolicy, access.PutGroupPolicyInput{GroupName: "devs", PolicyName: "p", PolicyDocument: mayKMS})
	try("PutGroupPolicy devs", err, true)
	_, err = do(h, alice, "AddUserToGroup", h.AddUserToGroup, access.GroupMemberInput{GroupName: "devs", UserName: "alice"})
	try("AddUserToGroup devs", err, true)
	_, err = do(h, alice, "PutGroupPolicy", h.PutGroupPolicy, access.PutGroupPolicyInput{GroupName: "ops", PolicyName: "p", PolicyDocument: mayEverything})
	try("PutGroupPolicy ops", err, false)
	_, err = do(h, alice, "AddUserToGroup", h.AddUserToGroup, access.GroupMemberInput{GroupName: "ops", UserName: "alice"})
	try("AddUserToGroup ops", err, false)
	_, err = do(h, alice, "PutRolePolicy", h.PutRolePolicy, access.PutRolePolicyInput{RoleName: "devs", PolicyName: "p", PolicyDocument: mayEverything})
	try("PutRolePolicy devs", err, false)
	_, err = do(h, alice, "UpdateAssumeRolePolicy", h.UpdateAssumeRolePolicy, access.UpdateAssumeRolePolicyInput{RoleName: "devs", PolicyDocument: trustAccount})
	try("UpdateAssumeRolePolicy devs", err, false)
	_, err = do(h, alice, "CreateRole", h.CreateRole, access.CreateRoleInput{RoleName: "mine", AssumeRolePolicyDocument: trustAccount})
	try("CreateRole", err, false)
	_, err = do(h, alice, "DeleteRolePermissionsBoundary", h.DeleteRolePermissionsBoundary, access.DeleteRolePermissionsBoundaryInput{RoleName: "devs"})
	try("DeleteRolePermissionsBoundary devs", err, false)
	_, err = do(h, alice, "DeleteUserPermissionsBoundary", h.DeleteUserPermissionsBoundary, access.DeleteUserPermissionsBoundaryInput{UserName: "alice"})
	try("DeleteUserPermissionsBoundary alice", err, false)
	_, err = do(h, alice, "TagUser", h.TagUser, access.TagUserInput{UserName: "devs", Tags: []access.Tag{{Key: "a", Value: "b"}}})
	try("TagUser devs", err, false)

	intruder := h.admin(other)
	_, err = do(h, intruder, "GetRole", h.GetRole, access.GetRoleInput{RoleName: "ops"})
	wantCode(t, err, "NoSuchEntityException")
	_, err = do(h, intruder, "GetGroup", h.GetGroup, access.GetGroupInput{GroupName: "ops"})
	wantCode(t, err, "NoSuchEntityException")
	must(h, intruder, "CreateGroup", h.CreateGroup, access.CreateGroupInput{GroupName: "theirs"})
	_, err = do(h, intruder, "AddUserToGroup", h.AddUserToGroup, access.GroupMemberInput{GroupName: "theirs", UserName: "alice"})
	wantCode(t, err, "NoSuchEntityException")
}

// What still denies something to the administrator goes when the operator renews it.
func TestRenewedAdministratorsAreUnbound(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := open(t, db)
		admin := h.admin(account)
		deny := `{"Statement": {"Effect": "Deny", "Action": "keyturn:*", "Resource": "*"}}`
		must(h, admin, "CreateGroup", h.CreateGroup, access.CreateGroupInput{GroupName: "jail"})
		must(h, admin, "PutGroupPolicy", h.PutGroupPolicy, access.PutGroupPolicyInput{GroupName: "jail", PolicyName: "p", PolicyDocument: deny})
		must(h, admin, "PutUserPermissionsBoundary", h.PutUserPermissionsBoundary, access.PutUserPermissionsBoundaryInput{UserName: "admin", PermissionsBoundary: mayEverything})
		must(h, admin, "AddUserToGroup", h.AddUserToGroup, access.GroupMemberInput{GroupName: "jail", UserName: "admin"})
		if _, err := do(h, h.again(admin), "ListUsers", h.ListUsers, access.ListUsersInput{}); err == nil {
			t.Fatal("a group's denial does not bind its members")
		}
		id, secret, err := h.RenewAdmin(t.Context(), account)
		if err != nil {
			t.Fatal(err)
		}
		renewed := h.signIn(id, secret)
		if renewed.Boundary.Policy != nil || len(renewed.Policies) != 1 {
			t.Errorf("the renewed administrator is %+v", renewed)
		}
		must(h, renewed, "ListUsers", h.ListUsers, access.ListUsersInput{})
	})
}

// again is the caller as the door sees it now.
func (h *house) again(c *access.Caller) *access.Caller {
	h.t.Helper()
	found, err := h.Credential(h.t.Context(), c.AccessKeyID, "")
	if err != nil {
		h.t.Fatal(err)
	}
	return found.Caller
}
