package kms

import (
	"context"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/sqldb"
)

// EnableKey makes a disabled key usable; an enabled one stays as it is.
func (s *Service) EnableKey(ctx context.Context, call *access.Call, in *EnableKeyRequest) (*awsapi.Empty, error) {
	_, err := s.change(ctx, call, &request{operation: "EnableKey", keyID: in.KeyId}, s.setState(call, "EnableKey"))
	return nil, err
}

// DisableKey makes a key unusable: on this node when the call returns, and
// within a second on every other.
func (s *Service) DisableKey(ctx context.Context, call *access.Call, in *DisableKeyRequest) (*awsapi.Empty, error) {
	disable := s.setState(call, "DisableKey")
	_, err := s.change(ctx, call, &request{operation: "DisableKey", keyID: in.KeyId}, func(tx *sqldb.Tx, k *keyRow) error {
		if k.state == stateEnabled {
			// Who is turned away is counted anew.
			if _, err := tx.Exec(`DELETE FROM kms_key_refusals WHERE key_arn = $1`, k.arn); err != nil {
				return err
			}
		}
		return disable(tx, k)
	})
	return nil, err
}

func (s *Service) setState(call *access.Call, operation string) func(*sqldb.Tx, *keyRow) error {
	return func(tx *sqldb.Tx, k *keyRow) error {
		if err := s.holdRotation(tx, call, k, operation); err != nil {
			return err
		}
		_, err := tx.Exec(`UPDATE kms_keys SET state = $2 WHERE arn = $1`, k.arn, moves(operation, k.state))
		return err
	}
}
