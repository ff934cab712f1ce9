package access

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/keyturn/keyturn/policy"
)

// Sessions are temporary credentials of a role or a user. There is no row for one: its token is a statement of what it is,
// sealed under the name of its access key, and every node that has the root key can open it. What the session may do is not
// in it, but read from the role or user by its unique id, as stored access keys are: so a session follows every change of
// that, and ends with it.
//
//	session token = base64(Seal(statement, "keyturn session" ‖ access key id))
//
// Nobody without the root key can make a token, change one, or use it with another access key id; and who has a token
// only, without the secret access key inside, can sign nothing.

const (
	sessionPrefix = "ASIA"

	maxToken = 8 << 10 // characters of a session token; the header that carries it has bounds

	// maxPacked bounds what a session brings along: its policies and tags. AWS packs them and bounds the result.
	maxPacked = 4 << 10
)

// A PackedTooLargeError says that a session's policies and tags do not fit into its token.
type PackedTooLargeError struct{ Percent int }

func (e *PackedTooLargeError) Error() string {
	return fmt.Sprintf("Packed size of session policies and tags consumes %d%% of allotted space.", e.Percent)
}

// statement is what a session token says. Its JSON names are a format that later versions must read.
type statement struct {
	Secret         string   `json:"secret"`
	Account        string   `json:"account"`
	Principal      string   `json:"principal"` // unique id of the role or user
	Name           string   `json:"name,omitempty"`
	IssuedAt       int64    `json:"issued"`  // seconds since 1970
	Expires        int64    `json:"expires"` // seconds since 1970
	Policies       []string `json:"policies,omitempty"`
	Tags           []Tag    `json:"tags,omitempty"`
	Transitive     []string `json:"transitive,omitempty"` // keys among Tags
	SourceIdentity string   `json:"source,omitempty"`
	Provider       string   `json:"provider,omitempty"`
}

// SessionOptions say what a session is to be. Whoever makes one has checked who may have it, and the limits of AWS STS.
type SessionOptions struct {
	Name           string // of a session of a role
	Duration       time.Duration
	Policies       []string // session policies: documents that bound it
	Tags           []Tag    // beside those of the role
	TransitiveTags []string // keys of those that sessions made with this one inherit
	SourceIdentity string
	Provider       string // who vouched for a web identity, as aws:FederatedProvider
}

// A Session is temporary credentials, told this once.
type Session struct {
	AccessKeyID   string
	Secret        Secret
	Token         Secret
	Expires       time.Time
	Caller        *Caller
	PackedPercent int // how much of the room for policies and tags they take; 0: there are none
}

// NewRoleSession makes a session of a role that exists: FindRole's Resource must have been checked.
func (g *Guard) NewRoleSession(r *AssumableRole, o *SessionOptions) (*Session, error) {
	if r.p == nil || o.Name == "" {
		return nil, errors.New("making a session: there is no such role, or the session has no name")
	}
	return g.newSession(r.p, o)
}

// NewUserSession makes a session of the calling user, who must have signed with an access key that is stored: it may do what
// the user may. ErrNoUser for all others.
func (g *Guard) NewUserSession(ctx context.Context, call *Call, o *SessionOptions) (*Session, error) {
	who := call.Caller
	if who == nil || who.Type != IAMUser || !who.IssuedAt.IsZero() {
		return nil, ErrNoUser
	}
	p, err := g.principal(ctx, users, who.Account, who.UserID)
	if errors.Is(err, errGone) {
		return nil, ErrNoUser
	}
	if err != nil {
		return nil, err
	}
	return g.newSession(p, o)
}

// ErrNoUser: the caller is not a stored user who signed with an access key.
var ErrNoUser = errors.New("only users have sessions of themselves")

func (g *Guard) newSession(p *principal, o *SessionOptions) (*Session, error) {
	now := g.now().Truncate(time.Second)
	packed := 0
	for _, text := range o.Policies {
		packed += len(text)
	}
	for _, t := range o.Tags {
		packed += len(t.Key) + len(t.Value)
	}
	for _, key := range o.TransitiveTags {
		packed += len(key)
	}
	percent := int(math.Ceil(float64(packed) * 100 / maxPacked))
	if packed > maxPacked {
		return nil, &PackedTooLargeError{percent}
	}
	secret := newSecret()
	st := &statement{
		Secret: secret.Reveal(), Account: p.account, Principal: p.id, Name: o.Name, IssuedAt: now.Unix(), Expires: now.Add(o.Duration).Unix(),
		Policies: o.Policies, Tags: o.Tags, Transitive: o.TransitiveTags, SourceIdentity: o.SourceIdentity, Provider: o.Provider,
	}
	id := newID(sessionPrefix, 16)
	caller, err := st.caller(p, id)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(st)
	if err != nil {
		return nil, fmt.Errorf("making a session: %w", err)
	}
	sealed, err := g.sealer.Seal(text, sessionName(id))
	clear(text)
	if err != nil {
		return nil, fmt.Errorf("sealing a session: %w", err)
	}
	token := base64.StdEncoding.EncodeToString(sealed)
	if len(token) > maxToken {
		return nil, fmt.Errorf("making a session: a token of %d characters", len(token))
	}
	return &Session{
		AccessKeyID: id, Secret: secret, Token: NewSecret(token), Expires: time.Unix(st.Expires, 0).UTC(), Caller: caller, PackedPercent: percent,
	}, nil
}

// sessionName is what a session token is bound to.
func sessionName(accessKeyID string) []byte { return []byte("keyturn session\x00" + accessKeyID) }

// session is a token that was opened, together with what it means now. Immutable.
type session struct {
	token      [sha256.Size]byte
	statement  *statement
	principal  *principal
	credential *Credential
}

// session finds the credential of a session. What is warm costs no database read, no unsealing and no allocation.
func (g *Guard) session(ctx context.Context, accessKeyID, token string) (*Credential, error) {
	if !wellFormed(accessKeyID, sessionPrefix) || token == "" || len(token) > maxToken {
		return nil, ErrInvalidToken
	}
	var buf [maxToken]byte
	hash := sha256.Sum256(buf[:copy(buf[:], token)])
	s, warm := g.sessions.get(accessKeyID)
	if !warm || subtle.ConstantTimeCompare(s.token[:], hash[:]) != 1 {
		st, err := g.openToken(accessKeyID, token)
		if err != nil {
			return nil, err
		}
		s, warm = &session{token: hash, statement: st}, false
	}
	if !g.now().Before(time.Unix(s.statement.Expires, 0)) {
		g.sessions.forget(accessKeyID)
		return nil, ErrExpiredToken
	}
	if warm && g.db.Fresh() && g.currentPrincipal(s.principal) {
		return s.credential, nil
	}
	return g.resolve(ctx, accessKeyID, s)
}

// openToken opens a session token. It says nothing about whether the session still stands.
func (g *Guard) openToken(accessKeyID, token string) (*statement, error) {
	sealed, err := base64.StdEncoding.Strict().DecodeString(token)
	if err != nil || base64.StdEncoding.EncodedLen(len(sealed)) != len(token) { // line ends were passed over
		return nil, ErrInvalidToken
	}
	text, err := g.sealer.Open(sealed, sessionName(accessKeyID))
	if err != nil {
		return nil, ErrInvalidToken // made up, changed, of another access key, or sealed with keys that are gone
	}
	defer clear(text)
	st := &statement{}
	if err := json.Unmarshal(text, st, json.RejectUnknownMembers(true)); err != nil {
		// A later version may say what this one does not understand, and what is not understood may be a restriction.
		return nil, ErrInvalidToken
	}
	return st, nil
}

// resolve finds out what a session that was opened means now, and remembers it.
func (g *Guard) resolve(ctx context.Context, accessKeyID string, s *session) (*Credential, error) {
	k := roles
	if s.statement.Name == "" {
		k = users
	}
	p, err := g.principal(ctx, k, s.statement.Account, s.statement.Principal)
	if errors.Is(err, errGone) {
		g.sessions.forget(accessKeyID)
		return nil, ErrInvalidToken
	}
	if err != nil {
		return nil, err
	}
	caller, err := s.statement.caller(p, accessKeyID)
	if err != nil {
		return nil, err
	}
	next := &session{
		token: s.token, statement: s.statement, principal: p,
		credential: &Credential{Secret: NewSecret(s.statement.Secret), Caller: caller},
	}
	g.sessions.keep(accessKeyID, next)
	return next.credential, nil
}

// caller is who signs with the session.
func (st *statement) caller(p *principal, accessKeyID string) (*Caller, error) {
	c := p.caller(accessKeyID)
	c.IssuedAt, c.SourceIdentity, c.Provider = time.Unix(st.IssuedAt, 0).UTC(), st.SourceIdentity, st.Provider
	for _, document := range st.Policies {
		compiled, err := policy.Parse([]byte(document), policy.Identity)
		if err != nil {
			return nil, fmt.Errorf("compiling a session policy of %s: %w", p.arn(), err)
		}
		c.Session = append(c.Session, policy.Attached{Name: "session policy", Policy: compiled})
	}
	if p.kind == roles {
		c.Type, c.RoleARN, c.UserName = AssumedRole, c.ARN, ""
		c.ARN = "arn:aws:sts::" + p.account + ":assumed-role/" + p.name + "/" + st.Name
		c.UserID = p.id + ":" + st.Name
		c.Tags = mergeTags(p.tags, st.Tags)
		c.TransitiveTags = st.Transitive
	}
	return c, nil
}
