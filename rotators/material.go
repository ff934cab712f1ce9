package rotators

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keyturn/keyturn/rotation"
)

// Materials is what turns inside the symmetric keys of the rotator's own server. No AWS API does these things: AWS does
// them inside, and so does the server. Keys are named by ARN. Every method may be called again after any failure, reported or
// not, with the same arguments, and ends in the same state. ErrNotNow says that the key cannot be used at present and
// nothing was done; a rotation.StepError is passed on; any other error is tried again. Safe for concurrent use.
type Materials interface {
	// Current returns the id of the material that encrypts.
	Current(ctx context.Context, key string) (id string, err error)
	// Prepare makes the next material under token, or finds it.
	Prepare(ctx context.Context, key, token string) (id string, err error)
	// Prove shows that the material id works, and that the current one does.
	Prove(ctx context.Context, key, id string) error
	// Turn makes the material id the current one. It decrypts, like all before it, for ever.
	Turn(ctx context.Context, key, id string, onDemand bool) error
	// Discard removes what Prepare made under token and Turn has not made current.
	Discard(ctx context.Context, key, token string) error
}

// ErrNotNow is Materials' answer for a key that is disabled, or waits for its deletion or for its material.
var ErrNotNow = errors.New("the key is not enabled")

// NewMaterial returns the rotator of the materials of symmetric keys: rotation.RotatorMaterial.
func NewMaterial(m Materials) rotation.Rotator { return &materialRotator{m} }

type materialRotator struct{ materials Materials }

// Steps implements rotation.Rotator. There is nothing to publish, for nobody holds a symmetric key, and nothing to retire: a
// ciphertext names the material that made it, which decrypts it for ever.
func (r *materialRotator) Steps(row *rotation.Row, _ *rotation.Policy) []rotation.StepDef {
	switch row.Kind {
	case rotation.KindRotate:
		return []rotation.StepDef{{Name: rotation.StepCreate, Creates: true}, {Name: rotation.StepTest}, {Name: rotation.StepSwitch, Pivot: true}}
	case rotation.KindCancel:
		return []rotation.StepDef{{Name: rotation.StepDiscard}}
	}
	return nil
}

// notNow is how long a rotation waits for a key that cannot be used. Who disables the key pauses its policy too, so this
// only bridges the moment between the two.
const notNow = time.Minute

// Do implements rotation.Rotator.
func (r *materialRotator) Do(ctx context.Context, job *rotation.Job) (rotation.Outcome, error) {
	do, ok := map[rotation.Step]func(context.Context, *rotation.Job, string) (rotation.Outcome, error){
		rotation.StepCreate: r.create, rotation.StepTest: r.test, rotation.StepSwitch: r.turn, rotation.StepDiscard: r.discard,
	}[job.Row.Step]
	if !ok {
		return rotation.Outcome{}, permanent("run the version of Keyturn that began this rotation", "a material has no step %q", job.Row.Step)
	}
	out, err := do(ctx, job, job.Policy.AliasARN())
	switch {
	case errors.Is(err, ErrNotNow):
		return rotation.Outcome{Wait: notNow}, nil
	case err != nil:
		return rotation.Outcome{}, fmt.Errorf("%s: %w", job.Row.Step, err)
	}
	return out, nil
}

func (r *materialRotator) create(ctx context.Context, job *rotation.Job, key string) (rotation.Outcome, error) {
	if job.Closed {
		return rotation.Outcome{}, rotation.ErrNotDone
	}
	old, err := r.materials.Current(ctx, key)
	if err != nil {
		return rotation.Outcome{}, err
	}
	id, err := r.materials.Prepare(ctx, key, job.Row.Token)
	if err != nil {
		return rotation.Outcome{}, err
	}
	out := rotation.Outcome{
		Data: rotation.Data{OldKey: rotation.MaterialARN(key, old), NewKey: rotation.MaterialARN(key, id), Spec: "SYMMETRIC_DEFAULT", Usage: "ENCRYPT_DECRYPT"},
		Note: "made material " + id,
	}
	if old == id {
		// Another rotation has turned it that could not say so, and this one took it over.
		return rotation.Outcome{}, permanent("cancel this rotation", "material %s is the current one already", id)
	}
	if job.Active == nil || job.Active.Key != out.Data.OldKey {
		out.Generations = append(out.Generations, rotation.GenerationChange{
			Key: out.Data.OldKey, State: rotation.StateActive, Made: rotation.MadeAdopted, Current: true, Spec: out.Data.Spec, Usage: out.Data.Usage,
		})
	}
	out.Generations = append(out.Generations, rotation.GenerationChange{
		Key: out.Data.NewKey, State: rotation.StatePreActivation, Made: rotation.MadeByKeyturn, Spec: out.Data.Spec, Usage: out.Data.Usage,
	})
	return out, nil
}

func (r *materialRotator) test(ctx context.Context, job *rotation.Job, key string) (rotation.Outcome, error) {
	if job.Closed {
		return rotation.Outcome{}, rotation.ErrNotDone
	}
	_, id, _ := rotation.CutMaterial(job.Row.Data.NewKey)
	return rotation.Outcome{Note: "it encrypts and decrypts"}, r.materials.Prove(ctx, key, id)
}

func (r *materialRotator) turn(ctx context.Context, job *rotation.Job, key string) (rotation.Outcome, error) {
	_, id, _ := rotation.CutMaterial(job.Row.Data.NewKey)
	if job.Closed {
		current, err := r.materials.Current(ctx, key)
		if err != nil {
			return rotation.Outcome{}, err
		}
		if current != id {
			return rotation.Outcome{}, rotation.ErrNotDone
		}
	} else if err := r.materials.Turn(ctx, key, id, job.Row.Data.Apart); err != nil {
		return rotation.Outcome{}, err
	}
	return rotation.Outcome{
		Generations: []rotation.GenerationChange{{Key: job.Row.Data.OldKey, State: rotation.StateDeactivated}},
		Note:        "it encrypts from now on; those before it decrypt",
	}, nil
}

func (r *materialRotator) discard(ctx context.Context, job *rotation.Job, key string) (rotation.Outcome, error) {
	if err := r.materials.Discard(ctx, key, job.Row.Token); err != nil {
		return rotation.Outcome{}, err
	}
	out := rotation.Outcome{Note: "the new material is removed"}
	if job.New != nil {
		out.Generations = []rotation.GenerationChange{{Key: job.New.Key, State: rotation.StateDestroyed}}
	}
	return out, nil
}

// Plan implements rotation.Rotator.
func (r *materialRotator) Plan(ctx context.Context, job *rotation.Job) (*rotation.Plan, error) {
	key := job.Policy.AliasARN()
	old, err := r.materials.Current(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("planning: %w", err)
	}
	p := &rotation.Plan{
		Old: "material " + old, New: "another material of " + key,
		Checks: []rotation.Check{{Name: "key", OK: true, Detail: "it can be used"}},
	}
	switch err := r.materials.Prove(ctx, key, old); {
	case errors.Is(err, ErrNotNow):
		p.Checks[0] = rotation.Check{Name: "key", Detail: "it is not enabled", Hint: "it turns when it is enabled again"}
	case err != nil:
		p.Checks[0] = rotation.Check{Name: "key", Detail: err.Error(), Hint: "look at the error, then plan again"}
	}
	for _, s := range r.Steps(&rotation.Row{Kind: rotation.KindRotate}, job.Policy) {
		p.Steps = append(p.Steps, rotation.PlannedStep{Step: s.Name})
	}
	return p, nil
}
