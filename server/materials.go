package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/keyturn/keyturn/kms"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotators"
)

// materials is the own KMS as the rotator of materials sees it.
type materials struct{ kms *kms.Service }

// Materials answers as the rotator of materials wants it what s does.
func Materials(s *kms.Service) rotators.Materials { return materials{s} }

func (m materials) Current(ctx context.Context, key string) (string, error) {
	id, err := m.kms.CurrentMaterial(ctx, key)
	return id, turnError(err)
}

func (m materials) Prepare(ctx context.Context, key, token string) (string, error) {
	id, err := m.kms.PrepareMaterial(ctx, key, token)
	return id, turnError(err)
}

func (m materials) Prove(ctx context.Context, key, id string) error {
	return turnError(m.kms.ProveMaterial(ctx, key, id))
}

func (m materials) Turn(ctx context.Context, key, id string, onDemand bool) error {
	return turnError(m.kms.TurnMaterial(ctx, key, id, onDemand))
}

func (m materials) Discard(ctx context.Context, key, token string) error {
	return turnError(m.kms.DiscardMaterial(ctx, key, token))
}

// turnError says in the rotator's words what kms says in its own.
func turnError(err error) error {
	switch {
	case errors.Is(err, kms.ErrNotNow):
		return fmt.Errorf("%w: %w", rotators.ErrNotNow, err)
	case errors.Is(err, kms.ErrNoMaterial):
		return rotation.Permanent(err, "cancel the rotation; the present material stays current")
	}
	return err
}
