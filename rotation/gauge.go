package rotation

import (
	"context"
	"fmt"
	"time"
)

// Gauges is how the rotations of all accounts are doing, for metrics. It costs
// what is under way, not what is scheduled.
type Gauges struct {
	Running int // begun and not over, retirements included
	Failed  int // wait for a person
	Overdue int // wanted an hour or more ago and not begun
}

// Gauges counts.
func (s *Service) Gauges(ctx context.Context) (g Gauges, err error) {
	late := micros(s.engine.now().Add(-time.Hour))
	err = s.c.DB.QueryRow(ctx, `SELECT
		(SELECT COUNT(*) FROM rotations WHERE stage = 2 AND status <> 'failed'),
		(SELECT COUNT(*) FROM rotations WHERE stage = 2 AND status = 'failed'),
		(SELECT COUNT(*) FROM rotations WHERE stage = 1 AND wanted > 0 AND wanted <= $1)`, late).Scan(&g.Running, &g.Failed, &g.Overdue)
	if err != nil {
		return g, fmt.Errorf("counting rotations: %w", err)
	}
	return g, nil
}
