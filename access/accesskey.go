package access

import (
	"context"
	"fmt"

	"github.com/keyturn/keyturn/sqldb"
)

// Status of an access key.
const (
	Active   = "Active"
	Inactive = "Inactive"
)

// An AccessKey describes an access key, without its secret.
type AccessKey struct {
	UserName    string
	AccessKeyId string
	Status      string
	CreateDate  float64           // seconds since 1970
	LastUsed    *AccessKeyLastUse `json:",omitempty"` // nil: never
}

// AccessKeyLastUse is when an access key last signed a request, to the minute or so, and for what.
type AccessKeyLastUse struct {
	LastUsedDate float64 // seconds since 1970
	ServiceName  string
	Region       string
}

// A NewAccessKey is an access key with its secret, which is told this once.
type NewAccessKey struct {
	UserName        string
	AccessKeyId     string
	Status          string
	SecretAccessKey IssuedSecret
	CreateDate      float64
}

// CreateAccessKeyInput: an empty UserName means the calling user, in all operations on access keys.
type CreateAccessKeyInput struct{ UserName string }

type CreateAccessKeyOutput struct{ AccessKey NewAccessKey }

// Validate checks the input, as AWS IAM does.
func (in *CreateAccessKeyInput) Validate() error {
	var v violations
	v.optionalUserName(in.UserName)
	return v.err()
}

// CreateAccessKey makes an access key for a user: the second at most, else LimitExceededException.
func (g *Guard) CreateAccessKey(ctx context.Context, call *Call, in *CreateAccessKeyInput) (*CreateAccessKeyOutput, error) {
	u, err := g.findUser(ctx, call, "CreateAccessKey", in.UserName)
	if err != nil {
		return nil, err
	}
	k, err := g.newKey(u)
	if err != nil {
		return nil, err
	}
	for range 3 { // each slot can be lost to somebody else once
		if err = g.db.Write(ctx, k.insert); !sqldb.IsUniqueViolation(err) {
			break
		}
	}
	if err != nil {
		return nil, wrap("creating access key", err)
	}
	call.Response = k.describe()
	return &CreateAccessKeyOutput{AccessKey: NewAccessKey{
		UserName: u.name, AccessKeyId: k.id, Status: Active, SecretAccessKey: IssuedSecret{k.secret}, CreateDate: seconds(k.createdAt),
	}}, nil
}

var errTooManyKeys = errorf(limitExceeded, "Cannot exceed quota for AccessKeysPerUser: 2")

// newKey is an access key that is about to be stored.
type newKey struct {
	user      *identity
	id        string
	secret    Secret
	sealed    []byte
	createdAt int64
}

func (g *Guard) newKey(u *identity) (*newKey, error) {
	k := &newKey{user: u, id: newID("AKIA", 16), secret: newSecret(), createdAt: g.now().UnixMicro()}
	var err error
	if k.sealed, err = g.sealer.Seal([]byte(k.secret.Reveal()), secretName(u.account, u.id, k.id)); err != nil {
		return nil, fmt.Errorf("sealing secret access key: %w", err)
	}
	return k, nil
}

// describe is what the audit log may know of the new key.
func (k *newKey) describe() []byte {
	b := quote([]byte(`{"accessKey":{"accessKeyId":`), k.id)
	b = quote(append(b, `,"status":"Active","userName":`...), k.user.name)
	return append(b, "}}"...)
}

// insert stores the key in a free slot of its user. Two inserts that race for one slot end in a unique violation.
func (k *newKey) insert(tx *sqldb.Tx) error {
	var count, low int
	err := tx.QueryRow(`SELECT COUNT(*), COALESCE(MIN(slot), 0) FROM access_keys WHERE user_id = $1 AND account = $2`, k.user.id, k.user.account).
		Scan(&count, &low)
	if err != nil {
		return err
	}
	if count >= 2 {
		return errTooManyKeys
	}
	slot := 1
	if low == 1 {
		slot = 2
	}
	_, err = tx.Exec(`INSERT INTO access_keys
		(id, account, user_id, slot, sealed_secret, status, created_at, last_used_at, last_used_service, last_used_region)
		VALUES ($1, $2, $3, $4, $5, 'Active', $6, 0, '', '')`, k.id, k.user.account, k.user.id, slot, k.sealed, k.createdAt)
	tx.Touch(keyTopic(k.id))
	return err
}

type SetAccessKeyStatusInput struct {
	UserName    string
	AccessKeyId string
	Status      string // Active or Inactive
}

type SetAccessKeyStatusOutput struct{}

// Validate checks the input, as AWS IAM does.
func (in *SetAccessKeyStatusInput) Validate() error {
	var v violations
	v.optionalUserName(in.UserName)
	v.accessKeyID(in.AccessKeyId)
	if in.Status != Active && in.Status != Inactive {
		v.add(cut(in.Status, 128), "status", "satisfy enum value set: [Active, Inactive]")
	}
	return v.err()
}

// SetAccessKeyStatus makes an access key usable or not, from this moment on. Nobody may make the key inactive with which
// the request is signed: see errOwnKey.
func (g *Guard) SetAccessKeyStatus(ctx context.Context, call *Call, in *SetAccessKeyStatusInput) (*SetAccessKeyStatusOutput, error) {
	u, err := g.findUser(ctx, call, "SetAccessKeyStatus", in.UserName)
	if err != nil {
		return nil, err
	}
	if in.Status == Inactive && in.AccessKeyId == call.Caller.AccessKeyID {
		return nil, errOwnKey
	}
	err = g.db.Write(ctx, func(tx *sqldb.Tx) error {
		rows, err := tx.Exec(`UPDATE access_keys SET status = $1 WHERE id = $2 AND user_id = $3 AND account = $4`,
			in.Status, in.AccessKeyId, u.id, u.account)
		if err == nil && rows == 0 {
			return missingKey(in.AccessKeyId)
		}
		tx.Touch(keyTopic(in.AccessKeyId))
		return err
	})
	if err != nil {
		return nil, wrap("changing access key", err)
	}
	return &SetAccessKeyStatusOutput{}, nil
}

type DeleteAccessKeyInput struct {
	UserName    string
	AccessKeyId string
}

type DeleteAccessKeyOutput struct{}

// Validate checks the input, as AWS IAM does.
func (in *DeleteAccessKeyInput) Validate() error {
	var v violations
	v.optionalUserName(in.UserName)
	v.accessKeyID(in.AccessKeyId)
	return v.err()
}

// DeleteAccessKey removes an access key for good, from this moment on. Nobody may delete the key with which the request is
// signed: see errOwnKey.
func (g *Guard) DeleteAccessKey(ctx context.Context, call *Call, in *DeleteAccessKeyInput) (*DeleteAccessKeyOutput, error) {
	u, err := g.findUser(ctx, call, "DeleteAccessKey", in.UserName)
	if err != nil {
		return nil, err
	}
	if in.AccessKeyId == call.Caller.AccessKeyID {
		return nil, errOwnKey
	}
	err = g.db.Write(ctx, func(tx *sqldb.Tx) error {
		rows, err := tx.Exec(`DELETE FROM access_keys WHERE id = $1 AND user_id = $2 AND account = $3`, in.AccessKeyId, u.id, u.account)
		if err == nil && rows == 0 {
			return missingKey(in.AccessKeyId)
		}
		tx.Touch(keyTopic(in.AccessKeyId))
		return err
	})
	if err != nil {
		return nil, wrap("deleting access key", err)
	}
	g.used.Delete(in.AccessKeyId)
	g.stored.forget(in.AccessKeyId)
	return &DeleteAccessKeyOutput{}, nil
}

// errOwnKey is stricter than AWS, which has the console to get back in. Here the last access key of the last administrator
// is the last way in; since whoever deletes a key signs with another, one always remains.
var errOwnKey = errorf(deleteConflict, "The access key that signed this request cannot be deleted or made inactive with itself. Use another access key.")

func missingKey(id string) error {
	return errorf(noSuchEntity, "The Access Key with id %s cannot be found.", id)
}

type ListAccessKeysInput struct{ UserName string }

type ListAccessKeysOutput struct{ AccessKeyMetadata []AccessKey }

// Validate checks the input, as AWS IAM does.
func (in *ListAccessKeysInput) Validate() error {
	var v violations
	v.optionalUserName(in.UserName)
	return v.err()
}

// ListAccessKeys lists a user's access keys, the older first.
func (g *Guard) ListAccessKeys(ctx context.Context, call *Call, in *ListAccessKeysInput) (*ListAccessKeysOutput, error) {
	u, err := g.findUser(ctx, call, "ListAccessKeys", in.UserName)
	if err != nil {
		return nil, err
	}
	rows, err := g.db.Query(ctx, `SELECT id, status, created_at, last_used_at, last_used_service, last_used_region
		FROM access_keys WHERE user_id = $1 AND account = $2 ORDER BY created_at, id`, u.id, u.account)
	if err != nil {
		return nil, fmt.Errorf("listing access keys: %w", err)
	}
	defer rows.Close()
	out := &ListAccessKeysOutput{AccessKeyMetadata: []AccessKey{}}
	for rows.Next() {
		k := AccessKey{UserName: u.name}
		var created, used int64
		var service, region string
		if err := rows.Scan(&k.AccessKeyId, &k.Status, &created, &used, &service, &region); err != nil {
			return nil, fmt.Errorf("listing access keys: %w", err)
		}
		k.CreateDate = seconds(created)
		if used != 0 {
			k.LastUsed = &AccessKeyLastUse{LastUsedDate: seconds(used), ServiceName: service, Region: region}
		}
		out.AccessKeyMetadata = append(out.AccessKeyMetadata, k)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("listing access keys: %w", err)
	}
	return out, nil
}
