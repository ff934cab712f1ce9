package rotation

import (
	"context"
	"fmt"

	"github.com/keyturn/keyturn/sqldb"
)

// ReleaseLeases ends every lease. It is for the start of the only process that
// can have the database open: whoever held one is gone, and its steps need not
// wait for the lease to run out before they are done again. On a database that
// several processes share it would let two of them do the same step at once.
func (s *Service) ReleaseLeases(ctx context.Context) error {
	err := s.c.DB.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(`UPDATE rotations SET lease_until = 0, wake = CASE WHEN wake IS NULL THEN NULL ELSE due END
			WHERE lease_until > 0 AND stage > 0`)
		return err
	})
	if err != nil {
		return fmt.Errorf("ending the leases of the process before: %w", err)
	}
	return nil
}
