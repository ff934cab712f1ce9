package rotationtest

import (
	"context"
	"fmt"
	"time"

	"github.com/keyturn/keyturn/rotation"
)

// Steps implements rotation.Rotator.
func (w *World) Steps(row *rotation.Row, p *rotation.Policy) []rotation.StepDef {
	return rotation.KeySteps(row, p)
}

// Plan implements rotation.Rotator.
func (w *World) Plan(_ context.Context, job *rotation.Job) (*rotation.Plan, error) {
	return &rotation.Plan{
		Old:    w.Alias().ARN,
		Steps:  []rotation.PlannedStep{{Step: rotation.StepCreate, Calls: []string{"create"}}},
		Checks: []rotation.Check{{Name: "alias", OK: true}},
	}, nil
}

// Do implements rotation.Rotator. Like a real one it makes several calls for a step,
// each of which can go wrong, and must find its way when it is called again.
func (w *World) Do(ctx context.Context, job *rotation.Job) (rotation.Outcome, error) {
	do := map[rotation.Step]func(context.Context, *rotation.Job) (rotation.Outcome, error){
		rotation.StepInspect: w.inspect, rotation.StepCreate: w.doCreate, rotation.StepPublish: w.publish,
		rotation.StepTest: w.test, rotation.StepSwitch: w.doSwitch, rotation.StepDeactivate: w.deactivate,
		rotation.StepSuspend: w.suspend, rotation.StepWatch: w.watch, rotation.StepDestroy: w.destroy,
		rotation.StepConfirm: w.confirm, rotation.StepRestore: w.restore, rotation.StepRevoke: w.revoke,
		rotation.StepUnpublish: w.unpublish, rotation.StepDiscard: w.discard,
	}[job.Row.Step]
	if do == nil {
		return rotation.Outcome{}, fmt.Errorf("unknown step %s", job.Row.Step)
	}
	return do(ctx, job)
}

func (w *World) inspect(ctx context.Context, job *rotation.Job) (out rotation.Outcome, err error) {
	var arn string
	if err := w.call(ctx, "inspect.ListAliases", func() error { arn = w.alias; return nil }); err != nil {
		return out, err
	}
	if job.Closed {
		return out, rotation.ErrNotDone
	}
	out.Data = rotation.Data{OldKey: arn, Spec: "RSA_2048", Usage: w.Policy.Usage}
	switch {
	case job.Row.Data.NewKey != "" && arn == job.Row.Data.NewKey:
		out.Data.OldKey = ""
	case job.Active == nil || job.Row.Data.Accept && job.Active.Key != arn:
		out.Generations = []rotation.GenerationChange{{
			Key: arn, State: rotation.StateActive, Made: rotation.MadeAdopted, Current: true, Spec: "RSA_2048", Usage: w.Policy.Usage,
		}}
	case job.Active.Key != arn:
		return rotation.Outcome{}, rotation.Drift("point it back, or accept it", "the alias names %s, not %s", arn, job.Active.Key)
	}
	return out, nil
}

func (w *World) doCreate(ctx context.Context, job *rotation.Job) (out rotation.Outcome, err error) {
	var arn string
	err = w.call(ctx, "create.ListResourceTags", func() error {
		for _, k := range w.keys {
			if k.Token == job.Row.Token && k.State != Gone && k.State != Pending {
				arn = k.ARN
			}
		}
		return nil
	})
	if err != nil {
		return out, err
	}
	if arn == "" && job.Closed {
		return out, rotation.ErrNotDone
	}
	if arn == "" {
		if err := w.call(ctx, "create.CreateKey", func() error { arn = w.create(job.Row.Token).ARN; return nil }); err != nil {
			return out, err
		}
	}
	out.Data.NewKey = arn
	out.Generations = []rotation.GenerationChange{{Key: arn, State: rotation.StatePreActivation, Spec: "RSA_2048", Usage: w.Policy.Usage, Public: []byte(arn)}}
	return out, nil
}

func (w *World) publish(ctx context.Context, job *rotation.Job) (out rotation.Outcome, err error) {
	key := job.Row.Data.NewKey
	err = w.call(ctx, "publish.UpdateAlias", func() error {
		k := w.find(key)
		if k.State != Enabled {
			return w.violate("%s is published, which is %s", key, k.State)
		}
		w.next = key
		if k.PublishedAt.IsZero() {
			k.PublishedAt = w.Now()
		}
		return nil
	})
	if err != nil {
		return out, err
	}
	out.Generations = []rotation.GenerationChange{{Key: key, Published: true}}
	return out, nil
}

func (w *World) test(ctx context.Context, job *rotation.Job) (out rotation.Outcome, err error) {
	return out, w.call(ctx, "test.Sign", func() error {
		k := w.find(job.Row.Data.NewKey)
		if k.State != Enabled {
			return rotation.Permanent(fmt.Errorf("%s is %s", k.ARN, k.State), "")
		}
		k.Tested = true
		return nil
	})
}

func (w *World) doSwitch(ctx context.Context, job *rotation.Job) (out rotation.Outcome, err error) {
	var arn string
	if err := w.call(ctx, "switch.ListAliases", func() error { arn = w.alias; return nil }); err != nil {
		return out, err
	}
	if arn != job.Row.Data.NewKey {
		if job.Closed {
			return out, rotation.ErrNotDone
		}
		err = w.call(ctx, "switch.UpdateAlias", func() error {
			w.emergency = job.Row.Kind == rotation.KindCompromise
			return w.update(job.Row.Data.OldKey, job.Row.Data.NewKey)
		})
		if err != nil {
			return out, err
		}
	}
	err = w.call(ctx, "switch.UpdatePrevious", func() error {
		w.previous = job.Row.Data.OldKey
		if w.next == job.Row.Data.NewKey {
			w.next = ""
		}
		return nil
	})
	if err != nil {
		return out, err
	}
	out.Generations = []rotation.GenerationChange{{Key: job.Row.Data.NewKey, State: rotation.StateActive, Current: true}}
	return out, nil
}

func (w *World) deactivate(ctx context.Context, job *rotation.Job) (out rotation.Outcome, err error) {
	key := job.Row.Data.OldKey
	err = w.call(ctx, "deactivate.PutKeyPolicy", func() error {
		if w.alias == key {
			return w.violate("%s is deactivated, which the alias names", key)
		}
		w.find(key).Deactivated = true
		return nil
	})
	if err != nil {
		return out, err
	}
	out.Generations = []rotation.GenerationChange{{Key: key, State: rotation.StateDeactivated}}
	return out, nil
}

func (w *World) suspend(ctx context.Context, job *rotation.Job) (out rotation.Outcome, err error) {
	key := job.Row.Data.OldKey
	err = w.call(ctx, "suspend.DisableKey", func() error {
		k, err := w.harm(key, "suspend")
		if err == nil && k.State == Enabled {
			k.State = Disabled
		}
		return err
	})
	if err != nil {
		return out, err
	}
	out.Generations = []rotation.GenerationChange{{Key: key, State: rotation.StateSuspended}}
	return out, nil
}

func (w *World) watch(ctx context.Context, job *rotation.Job) (out rotation.Outcome, err error) {
	key, wanted := job.Row.Data.OldKey, false
	if err := w.call(ctx, "watch.LookupEvents", func() error { wanted = w.wanted[key]; return nil }); err != nil {
		return out, err
	}
	if wanted {
		err = w.call(ctx, "watch.EnableKey", func() error { w.find(key).State = Enabled; return nil })
		if err != nil {
			return out, err
		}
		return rotation.Outcome{
			Person: "somebody still wants " + key, Hint: "find out who, then resume", Back: rotation.StepSuspend,
			Generations: []rotation.GenerationChange{{Key: key, State: rotation.StateDeactivated}},
		}, nil
	}
	ends := job.Row.Data.DoneAt[rotation.StepSuspend].Add(time.Duration(job.Policy.Suspend))
	if job.Now.Before(ends) {
		out.Wait = min(ends.Sub(job.Now), 24*time.Hour)
	}
	return out, nil
}

func (w *World) destroy(ctx context.Context, job *rotation.Job) (out rotation.Outcome, err error) {
	key := job.Row.Data.OldKey
	var at time.Time
	err = w.call(ctx, "destroy.ScheduleKeyDeletion", func() error {
		k, err := w.harm(key, "destroy")
		if err == nil && k.State != Pending {
			k.State, k.DeletionAt = Pending, w.Now().Add(time.Duration(job.Policy.Destroy.PendingWindow))
		}
		at = k.DeletionAt
		return err
	})
	if err != nil {
		return out, err
	}
	out.Generations = []rotation.GenerationChange{{Key: key, DeletionAt: at}}
	return out, nil
}

func (w *World) confirm(ctx context.Context, job *rotation.Job) (out rotation.Outcome, err error) {
	key := job.Row.Data.OldKey
	err = w.call(ctx, "confirm.DescribeKey", func() error {
		k := w.find(key)
		if k.State == Pending && !w.Now().Before(k.DeletionAt) {
			k.State = Gone
		}
		if k.State != Gone {
			out.Wait = time.Hour
		}
		return nil
	})
	if err == nil && out.Wait == 0 {
		out.Generations = []rotation.GenerationChange{{Key: key, State: rotation.StateDestroyed}}
	}
	return out, err
}

func (w *World) restore(ctx context.Context, job *rotation.Job) (out rotation.Outcome, err error) {
	key := job.Row.Data.NewKey
	err = w.call(ctx, "restore.EnableKey", func() error {
		k := w.find(key)
		if k.State == Gone {
			return rotation.Permanent(fmt.Errorf("%s is gone", key), "")
		}
		k.State, k.Deactivated, k.DeletionAt = Enabled, false, time.Time{}
		return nil
	})
	if err != nil {
		return out, err
	}
	out.Generations = []rotation.GenerationChange{{Key: key, State: rotation.StateActive}}
	return out, nil
}

func (w *World) revoke(ctx context.Context, job *rotation.Job) (out rotation.Outcome, err error) {
	key := job.Row.Data.OldKey
	err = w.call(ctx, "revoke.DisableKey", func() error {
		k := w.find(key)
		if w.alias == key {
			return w.violate("%s is revoked, which the alias names", key)
		}
		k.Revoked = true
		if k.State == Enabled {
			k.State = Disabled
		}
		return nil
	})
	if err != nil {
		return out, err
	}
	out.Note = "last used at an unknown time"
	out.Generations = []rotation.GenerationChange{{Key: key, State: rotation.StateCompromised}}
	return out, nil
}

func (w *World) unpublish(ctx context.Context, job *rotation.Job) (rotation.Outcome, error) {
	return rotation.Outcome{}, w.call(ctx, "unpublish.DeleteAlias", func() error {
		if k := w.find(w.next); k.Token == job.Row.Token {
			w.next = ""
		}
		return nil
	})
}

func (w *World) discard(ctx context.Context, job *rotation.Job) (out rotation.Outcome, err error) {
	if job.Row.Token == "" {
		return out, fmt.Errorf("a rotation that has begun has no token")
	}
	for _, k := range w.Keys() {
		if k.Token != job.Row.Token || k.State == Gone || k.State == Pending {
			continue
		}
		err := w.call(ctx, "discard.ScheduleKeyDeletion", func() error {
			if k := w.find(k.ARN); w.alias != k.ARN && !k.Used {
				k.State, k.DeletionAt = Pending, w.Now().Add(7*24*time.Hour)
				return nil
			}
			return w.violate("%s is discarded, which is or was in use", k.ARN)
		})
		if err != nil {
			return out, err
		}
	}
	if job.New != nil {
		out.Generations = append(out.Generations, rotation.GenerationChange{Key: job.New.Key, State: rotation.StateDestroyed})
	}
	return out, nil
}
