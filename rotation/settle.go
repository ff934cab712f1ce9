package rotation

import (
	"context"
	"errors"
	"time"

	"github.com/keyturn/keyturn/sqldb"
)

// Settle does all that is due now, one step after the other, and returns when
// something is due next; zero: nothing is. It is Run for tests that move the
// clock themselves.
func (s *Service) Settle(ctx context.Context) (next time.Time, err error) {
	for {
		worked, err := s.engine.RunOnce(ctx)
		if err != nil && !errors.Is(err, sqldb.ErrConflict) {
			return time.Time{}, err
		}
		if worked {
			continue
		}
		due, next, err := s.engine.look(ctx, 1)
		if err != nil || len(due) == 0 {
			return next, err
		}
	}
}
