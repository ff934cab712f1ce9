package access

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/sqldb"
)

// A kind is one of the three kinds of identities: users, roles and groups have a name, a path and policies in common.
type kind struct {
	noun     string // in ARNs, topics and messages; tables refer to it as <noun>_id
	typ      string // as CloudTrail writes it
	prefix   string // of unique ids
	table    string // of the rows
	columns  string // of the rows, in the order of identity.columns
	policies string // table of its policies
	tags     string // table of its tags; empty: it has none
	longest  int    // characters of a name
	most     int    // of them in an account: AWS's default quotas
}

const commonColumns = `id, account, name, path, created_at`

var (
	users = &kind{
		noun: "user", typ: "AWS::IAM::User", prefix: "AIDA", table: "users", columns: commonColumns + `, boundary`,
		policies: "user_policies", tags: "user_tags", longest: 64, most: 5000,
	}
	roles = &kind{
		noun: "role", typ: "AWS::IAM::Role", prefix: "AROA", table: "roles",
		columns:  commonColumns + `, boundary, description, trust, max_session`,
		policies: "role_policies", tags: "role_tags", longest: 64, most: 1000,
	}
	groups = &kind{
		noun: "group", typ: "AWS::IAM::Group", prefix: "AGPA", table: "user_groups", columns: commonColumns,
		policies: "group_policies", longest: 128, most: 300,
	}
)

// ref is the column by which other tables refer to an identity of the kind.
func (k *kind) ref() string { return k.noun + "_id" }

// title is the noun as quotas and sentences begin with it.
func (k *kind) title() string { return strings.ToUpper(k.noun[:1]) + k.noun[1:] }

// topic is the name under which a change of a user or role is announced.
func (k *kind) topic(id string) string { return k.noun + "/" + id }

func (k *kind) arn(account, path, name string) string {
	return "arn:aws:iam::" + account + ":" + k.noun + path + name
}

// An identity is a row of users, roles or user_groups.
type identity struct {
	kind                    *kind
	id, account, name, path string
	createdAt               int64
	boundary                string // of users and roles: a document; empty: none

	description, trust string // of roles
	maxSession         int64  // of roles: seconds

	tags []Tag // of users and roles, where they have been read
}

func (g *Guard) newIdentity(k *kind, name, path string) *identity {
	if path == "" {
		path = "/"
	}
	return &identity{kind: k, name: name, path: path, id: newID(k.prefix, 17), createdAt: g.now().UnixMicro()}
}

// columns are where the kind's columns are read to.
func (i *identity) columns() []any {
	all := []any{&i.id, &i.account, &i.name, &i.path, &i.createdAt, &i.boundary, &i.description, &i.trust, &i.maxSession}
	return all[:strings.Count(i.kind.columns, ",")+1]
}

func (i *identity) arn() string { return i.kind.arn(i.account, i.path, i.name) }

func (i *identity) missing() error {
	return errorf(noSuchEntity, "The %s with name %s cannot be found.", i.kind.noun, i.name)
}

func (i *identity) insert(tx *sqldb.Tx) error {
	values := make([]any, 0, 10)
	values = append(values, i.id, i.account, i.name, i.path, i.createdAt, i.boundary, i.description, i.trust, i.maxSession)
	values = append(values[:strings.Count(i.kind.columns, ",")+1], fold(i.name))
	places := make([]string, len(values))
	for n := range places {
		places[n] = fmt.Sprintf("$%d", n+1)
	}
	_, err := tx.Exec(`INSERT INTO `+i.kind.table+` (`+i.kind.columns+`, folded) VALUES (`+strings.Join(places, ", ")+`)`, values...)
	return err
}

// stands refuses to go on when the identity has gone since it was found.
func (i *identity) stands(tx *sqldb.Tx) error {
	n := 0
	if err := tx.QueryRow(`SELECT COUNT(*) FROM `+i.kind.table+` WHERE id = $1 AND account = $2`, i.id, i.account).Scan(&n); err != nil {
		return err
	}
	if n == 0 {
		return i.missing()
	}
	return nil
}

// changed announces that the identity means something else now. What a group means its members do.
func (i *identity) changed(tx *sqldb.Tx) error {
	if i.kind != groups {
		tx.Touch(i.kind.topic(i.id))
		return nil
	}
	rows, err := tx.Query(`SELECT user_id FROM group_members WHERE group_id = $1`, i.id)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return err
		}
		tx.Touch(users.topic(id))
	}
	return rows.Err()
}

// change performs a change of an identity that was found, and announces it.
func (g *Guard) change(ctx context.Context, i *identity, doing string, fn func(tx *sqldb.Tx) error) error {
	err := g.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := i.stands(tx); err != nil {
			return err
		}
		if err := fn(tx); err != nil {
			return err
		}
		return i.changed(tx)
	})
	return wrap(doing, err)
}

// create stores a new identity, which was checked, with its tags.
func (g *Guard) create(ctx context.Context, i *identity, tags []Tag) error {
	err := g.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := ensureAccount(tx, i.account, i.createdAt); err != nil {
			return err
		}
		n := 0
		if err := tx.QueryRow(`SELECT COUNT(*) FROM `+i.kind.table+` WHERE account = $1`, i.account).Scan(&n); err != nil {
			return err
		}
		if n >= i.kind.most {
			return errorf(limitExceeded, "Cannot exceed quota for %ssPerAccount: %d", i.kind.title(), i.kind.most)
		}
		if err := i.insert(tx); err != nil {
			return err
		}
		return i.putTags(tx, tags)
	})
	if sqldb.IsUniqueViolation(err) {
		return errorf(entityExists, "%s with name %s already exists.", i.kind.title(), i.name)
	}
	i.tags = tags
	return wrap("creating "+i.kind.noun, err)
}

// An obstacle is a table whose rows must go before the identity that they refer to.
type obstacle struct{ table, demand string }

// remove deletes an identity unless something stands in the way: DeleteConflictException.
func (g *Guard) remove(ctx context.Context, i *identity, obstacles ...obstacle) error {
	return g.change(ctx, i, "deleting "+i.kind.noun, func(tx *sqldb.Tx) error {
		for _, o := range obstacles {
			n := 0
			err := tx.QueryRow(`SELECT COUNT(*) FROM `+o.table+` WHERE `+i.kind.ref()+` = $1 AND account = $2`, i.id, i.account).Scan(&n)
			if err != nil {
				return err
			}
			if n > 0 {
				return errorf(deleteConflict, "Cannot delete entity, must %s first.", o.demand)
			}
		}
		tables := []string{i.kind.tags, i.kind.table}
		columns := []string{i.kind.ref(), "id"}
		for n, table := range tables {
			if table == "" {
				continue
			}
			if _, err := tx.Exec(`DELETE FROM `+table+` WHERE `+columns[n]+` = $1 AND account = $2`, i.id, i.account); err != nil {
				return err
			}
		}
		return nil
	})
}

// An intent is what is to be done to an identity, for those who decide about it.
type intent struct {
	operation string
	tags      []Tag    // that it gives: aws:RequestTag
	tagKeys   []string // that it takes away: they count among aws:TagKeys
}

// findIdentity finds an identity of the caller's account by name, and asks the Guard. A miss is checked too, so that only
// who may manage one of that name learns that there is none.
func (g *Guard) findIdentity(ctx context.Context, call *Call, k *kind, in *intent, name string) (*identity, error) {
	if call.Caller == nil {
		return nil, g.Check(ctx, call, "keyturn:"+in.operation, Resource{})
	}
	i, err := g.readIdentity(ctx, k, call.Caller.Account, name)
	if err != nil {
		return nil, err
	}
	missing := i == nil
	if missing {
		i = &identity{kind: k, name: name, path: "/"}
	}
	if err := g.checkIdentity(ctx, call, in, i); err != nil {
		return nil, err
	}
	if missing {
		return nil, i.missing()
	}
	return i, nil
}

// readIdentity reads an identity and its tags; nil when there is none of that name.
func (g *Guard) readIdentity(ctx context.Context, k *kind, account, name string) (*identity, error) {
	i := &identity{kind: k}
	err := g.db.QueryRow(ctx, `SELECT `+k.columns+` FROM `+k.table+` WHERE account = $1 AND folded = $2`, account, fold(name)).
		Scan(i.columns()...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("finding %s: %w", k.noun, err)
	}
	return i, g.readTags(ctx, i)
}

// checkIdentity asks whether the caller may do in to an identity of its own account, which it also makes i's account.
func (g *Guard) checkIdentity(ctx context.Context, call *Call, in *intent, i *identity) error {
	if call.Caller == nil {
		return g.Check(ctx, call, "keyturn:"+in.operation, Resource{})
	}
	i.account = call.Caller.Account
	return g.checkManagement(ctx, call, in, Resource{
		ARN: i.arn(), Account: i.account, Type: i.kind.typ, Context: &identityContext{identity: i, intent: in},
	})
}

// checkManagement is Check for what manages identities.
//
// Users' sessions manage none: as in AWS, where they cannot call IAM without a second factor, whoever steals one cannot
// make access keys that outlive it.
func (g *Guard) checkManagement(ctx context.Context, call *Call, in *intent, r Resource) error {
	if err := g.Check(ctx, call, "keyturn:"+in.operation, r); err != nil {
		return err
	}
	if who := call.Caller; who.Type == IAMUser && !who.IssuedAt.IsZero() && !who.MFA {
		return errorf("AccessDeniedException", "A session of a user cannot manage identities. Sign with the user's access key, or assume a role.")
	}
	return nil
}

// identityContext answers for the condition keys of operations on identities. Unlike those of other resources, the tag keys
// of identities do not tell upper from lower case.
type identityContext struct {
	identity *identity
	intent   *intent
}

// Values implements policy.Context.
func (c *identityContext) Values(k policy.Key, dst []string) ([]string, bool) {
	switch k.Name {
	case policy.AWSResourceTag:
		return tagValue(c.identity.tags, k.Suffix, dst)
	case policy.AWSRequestTag:
		return tagValue(c.intent.tags, k.Suffix, dst)
	case policy.AWSTagKeys:
		for _, t := range c.intent.tags {
			dst = append(dst, t.Key)
		}
		return append(dst, c.intent.tagKeys...), len(c.intent.tags)+len(c.intent.tagKeys) > 0
	}
	return dst, false
}

// listIdentities lists the identities of the caller's account by name, a page at a time.
func (g *Guard) listIdentities(ctx context.Context, call *Call, k *kind, operation string, maxItems int, marker string) (page []*identity, next string, err error) {
	if err := g.checkManagement(ctx, call, &intent{operation: operation}, Resource{}); err != nil {
		return nil, "", err
	}
	after, err := openMarker(marker)
	if err != nil {
		return nil, "", err
	}
	if maxItems == 0 {
		maxItems = 100
	}
	rows, err := g.db.Query(ctx, `SELECT `+k.columns+` FROM `+k.table+` WHERE account = $1 AND folded > $2 ORDER BY folded LIMIT $3`,
		call.Caller.Account, after, maxItems+1)
	if err != nil {
		return nil, "", fmt.Errorf("listing %ss: %w", k.noun, err)
	}
	defer rows.Close()
	for rows.Next() {
		i := &identity{kind: k}
		if err := rows.Scan(i.columns()...); err != nil {
			return nil, "", fmt.Errorf("listing %ss: %w", k.noun, err)
		}
		if len(page) == maxItems {
			return page, makeMarker(fold(page[maxItems-1].name)), nil
		}
		page = append(page, i)
	}
	if err := rows.Err(); err != nil {
		return nil, "", fmt.Errorf("listing %ss: %w", k.noun, err)
	}
	return page, "", nil
}
