package access_test

import (
	"testing"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

func TestPrincipalID(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := open(t, db)
		admin := h.admin(account)
		must(h, admin, "CreateUser", h.CreateUser, access.CreateUserInput{UserName: "alice", Path: "/team/"})
		h.ephemeral(access.EphemeralCredential{AccessKeyID: "S", Account: "777788889999", PrincipalARN: "arn:aws:sts::777788889999:assumed-role/R/s"})
		for name, known := range map[string]bool{
			"*": true, "111122223333": true, "123412341234": true, "rds.amazonaws.com": true,
			"arn:aws:iam::444455556666:root":                       true,
			"arn:aws:sts::111122223333:federated-user/f":           true,
			"arn:aws:iam::111122223333:user/admin":                 true,
			"arn:aws:iam::111122223333:user/team/alice":            true,
			"arn:aws:iam::111122223333:user/alice":                 false,
			"arn:aws:iam::111122223333:user/Admin":                 false,
			"arn:aws:iam::444455556666:user/admin":                 false,
			"arn:aws:iam::111122223333:role/R":                     false,
			"arn:aws:iam::111122223333:group/admin":                false,
			"arn:aws:iam::777788889999:role/R":                     true,
			"arn:aws:sts::777788889999:assumed-role/R/s":           true,
			"arn:aws:sts::777788889999:assumed-role/R/t":           true,
			"arn:aws:sts::111122223333:assumed-role/R/s":           false,
			"arn:aws:s3:::bucket":                                  false,
			"AIDACKCEVSQ6C2EXAMPLE":                                false,
			"arn:aws:iam::111122223333:user/team/alice' OR '1'='1": false,
		} {
			if _, found, err := h.PrincipalID(t.Context(), name); err != nil || found != known {
				t.Errorf("%s: found %t, %v", name, found, err)
			}
		}
	})
}

// A user keeps its unique id for its life, and the next of its name has another.
func TestPrincipalIDsAreNotInherited(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T, db *sqldb.DB) {
		h := open(t, db)
		admin := h.admin(account)
		const alice = "arn:aws:iam::" + account + ":user/team/alice"
		create := func() string {
			out := must(h, admin, "CreateUser", h.CreateUser, access.CreateUserInput{UserName: "alice", Path: "/team/"})
			id, found, err := h.PrincipalID(t.Context(), alice)
			if id != out.User.UserId || !found || err != nil {
				t.Fatalf("alice is %q %t, %v; want %s", id, found, err, out.User.UserId)
			}
			if name, found, err := h.PrincipalARN(t.Context(), id); name != alice || !found || err != nil {
				t.Errorf("%s is %q %t, %v", id, name, found, err)
			}
			if same, found, err := h.PrincipalID(t.Context(), id); same != id || !found || err != nil {
				t.Errorf("%s is %q %t, %v", id, same, found, err)
			}
			return id
		}
		first := create()
		must(h, admin, "DeleteUser", h.DeleteUser, access.DeleteUserInput{UserName: "alice"})
		if name, found, err := h.PrincipalARN(t.Context(), first); name != "" || found || err != nil {
			t.Errorf("the deleted user is %q %t, %v", name, found, err)
		}
		if second := create(); second == first {
			t.Errorf("both are %s", first)
		}
		if _, found, err := h.PrincipalID(t.Context(), first); found || err != nil {
			t.Errorf("the deleted user is found: %t, %v", found, err)
		}
	})
}
