package access

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/arn"
	"github.com/keyturn/keyturn/policy"
	"github.com/keyturn/keyturn/sqldb"
)

const (
	maxStored  = 1 << 14 // credentials kept; beyond that some are forgotten
	maxMissing = 1 << 10 // access key ids known not to exist
	maxLoads   = 8       // credentials being read at once
)

// A Credential is an access key that may sign: its secret, and who is asking when the signature proves right. Immutable.
type Credential struct {
	Secret Secret
	Caller *Caller
}

// Credential finds an access key. It returns ErrUnknownAccessKey, ErrInactive, ErrInvalidToken or ErrExpiredToken, or an
// error of the database when it had to ask and could not: then it is not known whether the key is good, and it must not be
// taken for so. The session token is compared in constant time; a stored key has none, and giving one is an error.
//
// When the key is warm and the node hears of changes, nothing is read and nothing allocated. Unknown ids cost one indexed
// read at most, and few of these run at once, so that whoever sprays ids cannot take the database from the others.
func (g *Guard) Credential(ctx context.Context, accessKeyID, sessionToken string) (*Credential, error) {
	if e, ok := g.ephemeral.Load(accessKeyID); ok {
		return e.(*ephemeral).present(sessionToken, g.now())
	}
	e, err := g.find(ctx, accessKeyID)
	switch {
	case err != nil:
		return nil, err
	case sessionToken != "":
		return nil, ErrInvalidToken
	case !e.active:
		return nil, ErrInactive
	}
	return e.credential, nil
}

// entry is a credential read from the database, with the epochs noted before what it was made from was read: the key's row
// hangs on the id of the key, the policies on that of the user. It is good while both are what they were.
type entry struct {
	credential          *Credential
	active              bool
	keyShard, userShard sqldb.Shard
	keyEpoch, userEpoch uint64
}

func (g *Guard) current(e *entry) bool {
	return g.epochs[e.keyShard].Load() == e.keyEpoch && g.epochs[e.userShard].Load() == e.userEpoch
}

func (g *Guard) find(ctx context.Context, id string) (*entry, error) {
	if e, err, ok := g.remembered(id); ok {
		return e, err
	}
	if !wellFormed(id) {
		return nil, ErrUnknownAccessKey
	}
	select {
	case g.loads <- struct{}{}:
		defer func() { <-g.loads }()
	case <-ctx.Done():
		return nil, fmt.Errorf("reading access key: %w", ctx.Err())
	}
	if e, err, ok := g.remembered(id); ok { // somebody else may have read it meanwhile
		return e, err
	}
	return g.load(ctx, id)
}

// remembered answers from memory. Nothing there is believed while the node may not have heard of every change.
func (g *Guard) remembered(id string) (e *entry, err error, ok bool) {
	if !g.db.Fresh() {
		return nil, nil, false
	}
	if v, found := g.stored.Load(id); found {
		if e := v.(*entry); g.current(e) {
			return e, nil, true
		}
	}
	if g.missing.has(id, g.epochs[keyShard(id)].Load()) {
		return nil, ErrUnknownAccessKey, true
	}
	return nil, nil, false
}

// load reads a credential. Each epoch is noted before that is read which hangs on it: a change that comes in between makes
// the entry stale at once, never wrong for good.
func (g *Guard) load(ctx context.Context, id string) (*entry, error) {
	e := &entry{keyShard: keyShard(id)}
	e.keyEpoch = g.epochs[e.keyShard].Load()
	var row keyRow
	err := g.db.QueryRow(ctx, `SELECT k.account, k.user_id, k.sealed_secret, k.status, u.name, u.path
		FROM access_keys k JOIN users u ON u.id = k.user_id AND u.account = k.account WHERE k.id = $1`, id).
		Scan(&row.account, &row.userID, &row.sealed, &row.status, &row.name, &row.path)
	if errors.Is(err, sql.ErrNoRows) {
		g.missing.add(id, e.keyEpoch)
		return nil, ErrUnknownAccessKey
	}
	if err != nil {
		return nil, fmt.Errorf("reading access key: %w", err)
	}
	e.userShard = userShard(row.userID)
	e.userEpoch = g.epochs[e.userShard].Load()
	policies, err := g.userPolicies(ctx, row.account, row.userID)
	if err != nil {
		return nil, err
	}
	secret, err := g.sealer.Open(row.sealed, secretName(row.account, row.userID, id))
	if err != nil {
		return nil, fmt.Errorf("opening the sealed secret of access key %s: %w", id, err)
	}
	e.active = row.status == Active
	e.credential = &Credential{
		Secret: NewSecret(string(secret)),
		Caller: &Caller{
			Account: row.account, ARN: UserARN(row.account, row.path, row.name), UserID: row.userID, UserName: row.name,
			AccessKeyID: id, Type: IAMUser, Policies: policies, used: g.lastUseOf(id),
		},
	}
	clear(secret)
	g.keep(id, e)
	return e, nil
}

type keyRow struct {
	account, userID, status, name, path string
	sealed                              []byte
}

// keep remembers an entry. The number of access keys that exist bounds the map, and maxStored does.
func (g *Guard) keep(id string, e *entry) {
	if _, had := g.stored.Swap(id, e); had || g.storedSize.Add(1) <= maxStored {
		return
	}
	g.stored.Range(func(other, _ any) bool {
		if other == id {
			return true
		}
		g.forget(other.(string))
		return false
	})
}

// forget frees the memory of an entry. That an entry is no longer good does not hang on it: see current.
func (g *Guard) forget(id string) {
	if _, had := g.stored.LoadAndDelete(id); had {
		g.storedSize.Add(-1)
	}
}

// userPolicies reads and compiles the policies of a user. A document that no longer compiles makes its user powerless, not
// its restrictions void: the error is the caller's answer.
func (g *Guard) userPolicies(ctx context.Context, account, userID string) ([]policy.Attached, error) {
	rows, err := g.db.Query(ctx, `SELECT name, document FROM user_policies WHERE account = $1 AND user_id = $2 ORDER BY name`, account, userID)
	if err != nil {
		return nil, fmt.Errorf("reading user policies: %w", err)
	}
	defer rows.Close()
	var all []policy.Attached
	for rows.Next() {
		var name, document string
		if err := rows.Scan(&name, &document); err != nil {
			return nil, fmt.Errorf("reading user policies: %w", err)
		}
		p, err := policy.Parse([]byte(document), policy.Identity)
		if err != nil {
			return nil, fmt.Errorf("compiling user policy %q: %w", name, err)
		}
		all = append(all, policy.Attached{Name: name, Policy: p})
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading user policies: %w", err)
	}
	return all, nil
}

// secretName is what a sealed secret is bound to. Its parts hold no zero byte.
func secretName(account, userID, accessKeyID string) []byte {
	return []byte("keyturn access key\x00" + account + "\x00" + userID + "\x00" + accessKeyID)
}

// The topics under which changes are announced.
func keyTopic(accessKeyID string) string { return "access-key/" + accessKeyID }
func userTopic(userID string) string     { return "user/" + userID }

func keyShard(accessKeyID string) sqldb.Shard { return sqldb.ShardOf(keyTopic(accessKeyID)) }
func userShard(userID string) sqldb.Shard     { return sqldb.ShardOf(userTopic(userID)) }

// wellFormed reports whether a stored access key could be called so: see newID.
func wellFormed(id string) bool {
	return len(id) == 20 && strings.HasPrefix(id, "AKIA") && strings.Trim(id, idAlphabet) == ""
}

// missing remembers some ids of access keys that do not exist, in a table of fixed size: a slot holds the latest id that
// hashed to it. The hash has a secret seed; whoever sprays ids can empty slots, nothing else.
type missing struct {
	seed  maphash.Seed
	slots [maxMissing]atomic.Pointer[miss]
}

type miss struct {
	id    string
	epoch uint64 // of the id's shard, noted before it was looked for
}

func newMissing() *missing { return &missing{seed: maphash.MakeSeed()} }

func (m *missing) slot(id string) *atomic.Pointer[miss] {
	return &m.slots[maphash.String(m.seed, id)%maxMissing]
}

func (m *missing) has(id string, epoch uint64) bool {
	known := m.slot(id).Load()
	return known != nil && known.id == id && known.epoch == epoch
}

func (m *missing) add(id string, epoch uint64) { m.slot(id).Store(&miss{strings.Clone(id), epoch}) }

// An EphemeralCredential is an access key that lives in memory only: the fixed ones of a development server, those of the
// process' own workers, those of assumed roles.
type EphemeralCredential struct {
	AccessKeyID  string
	Secret       Secret
	SessionToken string    // required of the caller when not empty
	Expires      time.Time // zero: never

	Account      string
	Type         string // Root, IAMUser, AssumedRole or AWSService; empty: as PrincipalARN says
	PrincipalARN string // empty: the account's root user. Of an AWSService: its name
	RoleARN      string // of an AssumedRole; empty: derived from PrincipalARN
	UserID       string // empty: made from the ARN
	Policy       []byte // identity policy document; a root user needs none
}

type ephemeral struct {
	credential *Credential
	token      [sha256.Size]byte // of the session token; of "" where none is needed
	expires    time.Time
}

// present checks what was presented with the access key id. The tokens' hashes are compared, so that not even a length
// shows in the time it takes.
func (e *ephemeral) present(sessionToken string, now time.Time) (*Credential, error) {
	given := sha256.Sum256([]byte(sessionToken))
	if subtle.ConstantTimeCompare(given[:], e.token[:]) != 1 {
		return nil, ErrInvalidToken
	}
	if !e.expires.IsZero() && !now.Before(e.expires) {
		return nil, ErrExpiredToken
	}
	return e.credential, nil
}

// AddEphemeral adds or replaces a credential of this process. It stands before any stored one of the same id. The error
// says what in the credential is wrong, never its secret.
func (g *Guard) AddEphemeral(c EphemeralCredential) error {
	caller, err := c.caller()
	if err != nil {
		return fmt.Errorf("adding credential %q: %w", c.AccessKeyID, err)
	}
	g.ephemeral.Store(c.AccessKeyID, &ephemeral{
		credential: &Credential{Secret: c.Secret, Caller: caller},
		token:      sha256.Sum256([]byte(c.SessionToken)),
		expires:    c.Expires,
	})
	return nil
}

// RemoveEphemeral takes a credential of this process away. Removing one that is not there does nothing.
func (g *Guard) RemoveEphemeral(accessKeyID string) { g.ephemeral.Delete(accessKeyID) }

func (c *EphemeralCredential) caller() (*Caller, error) {
	switch {
	case c.AccessKeyID == "" || len(c.AccessKeyID) > 128:
		return nil, errors.New("an access key id has 1 to 128 characters")
	case c.Secret.Reveal() == "":
		return nil, errors.New("the secret is empty")
	case !arn.IsAccount(c.Account):
		return nil, errors.New("the account is not twelve digits")
	}
	who := &Caller{
		Account: c.Account, ARN: c.PrincipalARN, UserID: c.UserID, AccessKeyID: c.AccessKeyID,
		Type: c.Type, RoleARN: c.RoleARN,
	}
	if who.ARN == "" {
		who.ARN = RootARN(c.Account)
	}
	if err := who.complete(); err != nil {
		return nil, err
	}
	if len(c.Policy) > 0 {
		if who.Type == Root {
			return nil, errors.New("a root user has no identity policy")
		}
		p, err := policy.Parse(c.Policy, policy.Identity)
		if err != nil {
			return nil, err
		}
		who.Policies = []policy.Attached{{Name: "session", Policy: p}}
	}
	return who, nil
}

// complete derives from the ARN what was not given, and refuses an account, a type or a role that contradicts it.
func (c *Caller) complete() error {
	if c.Type == AWSService {
		if c.UserID == "" {
			c.UserID = c.ARN
		}
		return nil
	}
	a, err := arn.Parse(c.ARN)
	if err != nil {
		return fmt.Errorf("the principal %q: %w", c.ARN, err)
	}
	typ, id := a.Cut()
	derived := ""
	switch {
	case a.Service == "iam" && a.Resource == "root":
		derived = Root
	case a.Service == "iam" && typ == "user" && id != "":
		derived, c.UserName = IAMUser, id[strings.LastIndexByte(id, '/')+1:]
	case a.Service == "sts" && typ == "assumed-role" && strings.Count(id, "/") == 1:
		derived = AssumedRole
	}
	switch {
	case derived == "":
		return fmt.Errorf("the principal %q is no root user, user or session", c.ARN)
	case c.Type != "" && c.Type != derived:
		return fmt.Errorf("the principal %q is no %s", c.ARN, c.Type)
	case a.Account != c.Account:
		return fmt.Errorf("the principal %q is not of account %s", c.ARN, c.Account)
	}
	c.Type = derived
	if c.Type == AssumedRole && c.RoleARN == "" {
		c.RoleARN = roleOf(c.ARN)
	}
	if c.UserID == "" {
		c.UserID = c.madeID(id)
	}
	return nil
}

// madeID is the unique id of a principal that no table knows: the same for the same ARN.
func (c *Caller) madeID(id string) string {
	sum := sha256.Sum256([]byte(c.ARN))
	switch c.Type {
	case Root:
		return c.Account
	case AssumedRole:
		sum = sha256.Sum256([]byte(c.RoleARN))
		_, session, _ := strings.Cut(id, "/")
		return encodeID("AROA", sum[:], 17) + ":" + session
	}
	return encodeID("AIDA", sum[:], 17)
}
