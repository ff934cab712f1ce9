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

// A Credential is an access key that may sign: its secret, and who is asking when the signature proves right. Immutable.
type Credential struct {
	Secret Secret
	Caller *Caller
}

// Credential finds an access key. It returns ErrUnknownAccessKey, ErrInactive, ErrInvalidToken or ErrExpiredToken, or an
// error of the database when it had to ask and could not: then it is not known whether the key is good, and it must not be
// taken for so. A session's token is what the session is made of; a user's access key has none, and giving one is an error.
//
// When the key is warm and the node hears of changes, nothing is read and nothing allocated. Unknown ids cost one indexed
// read at most, and few of these run at once, so that whoever sprays ids cannot take the database from the others.
func (g *Guard) Credential(ctx context.Context, accessKeyID, sessionToken string) (*Credential, error) {
	if e, ok := g.ephemeral.Load(accessKeyID); ok {
		return e.(*ephemeral).present(sessionToken, g.now())
	}
	if strings.HasPrefix(accessKeyID, sessionPrefix) {
		return g.session(ctx, accessKeyID, sessionToken)
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

// entry is the access key of a user, read from the database, with the epoch noted before. It is good while that and its
// user are what they were.
type entry struct {
	credential *Credential
	active     bool
	user       *principal
	shard      sqldb.Shard
	epoch      uint64
}

func (g *Guard) current(e *entry) bool {
	return g.epochs[e.shard].Load() == e.epoch && g.currentPrincipal(e.user)
}

func (g *Guard) find(ctx context.Context, id string) (*entry, error) {
	if e, err, ok := g.remembered(id); ok {
		return e, err
	}
	if !wellFormed(id, "AKIA") {
		return nil, ErrUnknownAccessKey
	}
	release, err := g.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
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
	if e, found := g.stored.get(id); found && g.current(e) {
		return e, nil, true
	}
	if g.missing.has(id, g.epochs[keyShard(id)].Load()) {
		return nil, ErrUnknownAccessKey, true
	}
	return nil, nil, false
}

// load reads a credential. The epoch is noted before: a change that comes in between makes the entry stale at once, never
// wrong for good.
func (g *Guard) load(ctx context.Context, id string) (*entry, error) {
	e := &entry{shard: keyShard(id)}
	e.epoch = g.epochs[e.shard].Load()
	var account, userID, status string
	var sealed []byte
	err := g.db.QueryRow(ctx, `SELECT account, user_id, sealed_secret, status FROM access_keys WHERE id = $1`, id).
		Scan(&account, &userID, &sealed, &status)
	if errors.Is(err, sql.ErrNoRows) {
		g.missing.add(id, e.epoch)
		return nil, ErrUnknownAccessKey
	}
	if err != nil {
		return nil, fmt.Errorf("reading access key: %w", err)
	}
	e.user, err = g.rememberedPrincipal(users, account, userID)
	if e.user == nil && err == nil {
		e.user, err = g.loadPrincipal(ctx, users, account, userID)
	}
	if errors.Is(err, errGone) {
		return nil, ErrUnknownAccessKey
	}
	if err != nil {
		return nil, err
	}
	secret, err := g.sealer.Open(sealed, secretName(account, userID, id))
	if err != nil {
		return nil, fmt.Errorf("opening the sealed secret of access key %s: %w", id, err)
	}
	e.active = status == Active
	caller := e.user.caller(id)
	caller.used = g.lastUseOf(id)
	e.credential = &Credential{Secret: NewSecret(string(secret)), Caller: caller}
	clear(secret)
	g.stored.keep(id, e)
	return e, nil
}

// secretName is what a sealed secret is bound to. Its parts hold no zero byte.
func secretName(account, userID, accessKeyID string) []byte {
	return []byte("keyturn access key\x00" + account + "\x00" + userID + "\x00" + accessKeyID)
}

// keyTopic is the name under which changes of an access key are announced.
func keyTopic(accessKeyID string) string { return "access-key/" + accessKeyID }

func keyShard(accessKeyID string) sqldb.Shard { return sqldb.ShardOf(keyTopic(accessKeyID)) }

// wellFormed reports whether an access key made here could be called so: see newID.
func wellFormed(id, prefix string) bool {
	return len(id) == 20 && strings.HasPrefix(id, prefix) && strings.Trim(id, idAlphabet) == ""
}

// missing remembers some ids of access keys and principals that do not exist, in a table of fixed size: a slot holds the latest id that
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

// An EphemeralCredential is an access key that lives in memory only: the fixed ones of a development server, and those of the
// process' own workers.
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
