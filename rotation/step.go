package rotation

// Step is one thing that is done to the world, recorded before and after.
type Step string

// Steps of a key lineage. Each must be idempotent under the row's Token: doing
// it again after it was done, or half done, reports success and changes nothing.
// Keys are named by what Data says, never by what the alias happens to name.
const (
	// StepInspect reads the alias. Afterwards Data.OldKey is the key behind it, which is the lineage's
	// active generation: adopted when the lineage has none, or when Data.Accept says so; otherwise a
	// difference is drift. When the alias names Data.NewKey already, a switch whose answer was lost
	// has happened: OldKey stays as it is.
	StepInspect Step = "inspect"
	// StepCreate makes a key like OldKey, tagged with the row's Token in the same call, or finds the one
	// that an earlier attempt made. Afterwards Data.NewKey is recorded as a generation in pre-activation.
	StepCreate Step = "create"
	// StepPublish lets alias/x/next name it. Afterwards JWKS shows it and nobody has signed with it.
	StepPublish Step = "publish"
	// StepTest proves that NewKey does its job, with every algorithm it has.
	StepTest Step = "test"
	// StepSwitch moves the alias from OldKey to NewKey, if it still names OldKey; naming NewKey already is
	// success. It is the commit point: what follows retires the old generation.
	StepSwitch Step = "switch"
	// StepDeactivate lets OldKey verify and decrypt only.
	StepDeactivate Step = "deactivate"
	// StepSuspend disables OldKey when nothing alive should need it.
	StepSuspend Step = "suspend"
	// StepWatch looks, again and again while the suspension lasts, for callers who still want OldKey; when
	// there are any it enables the key again and says so.
	StepWatch Step = "watch"
	// StepDestroy schedules the deletion of OldKey, StepConfirm sees that it is gone.
	StepDestroy Step = "destroy"
	StepConfirm Step = "confirm"

	// StepRestore (roll back) makes NewKey, the generation to go back to, usable again.
	StepRestore Step = "restore"
	// StepRevoke (compromise, revoke) disables OldKey and says what was done with it since when, as far as known.
	StepRevoke Step = "revoke"
	// StepUnpublish and StepDiscard (cancel) take alias/x/next away and schedule the deletion of the pending
	// key, which they must also find by Token when Data.NewKey is empty.
	StepUnpublish Step = "unpublish"
	StepDiscard   Step = "discard"
)

// StepDef is a step of a kind of row, with what must be true before it begins.
type StepDef struct {
	Name Step

	// Delay must have passed since After was done; with After empty or never done, there is no delay.
	// The Delay may be Forever: then the row ends here, done.
	After Step
	Delay Duration

	Windowed bool   // only inside the row's window, unless a person asked for the rotation
	Pivot    bool   // the switch: when it is done the row has Switched
	Creates  bool   // makes something new: counted by MaxKeysPerDay
	Harms    bool   // disables or deletes OldKey: skipped for adopted keys unless the policy says full
	Skip     string // not empty: left out, and why
}

// KeySteps returns the steps of a key lineage: which, in which order, after what
// delay. Names and order depend on the kind alone, so that a row whose policy
// changes under way always finds its step; delays and omissions follow the
// policy as it is now.
func KeySteps(row *Row, p *Policy) []StepDef {
	switch row.Kind {
	case KindRotate:
		return rotateSteps(row, p)
	case KindCompromise:
		return []StepDef{
			{Name: StepInspect},
			{Name: StepCreate, Creates: true},
			{Name: StepPublish, Skip: "it is switched at once"},
			{Name: StepTest},
			{Name: StepSwitch, Pivot: true},
			{Name: StepRevoke},
		}
	case KindRevoke:
		return []StepDef{{Name: StepRevoke}}
	case KindRollBack:
		// While at least the lead is left of its overlap, every verifier knows the key and will go on
		// to. With less left, or past the overlap, it is published for the lead first, from
		// StepRestore on; RollBackInput.Now does not wait.
		var lead Duration
		if row.Data.Hidden && p.Mode == ModeStaged {
			lead = p.Lead
		}
		return []StepDef{
			{Name: StepRestore},
			{Name: StepTest, After: StepRestore, Delay: lead},
			{Name: StepSwitch, After: StepRestore, Delay: lead, Pivot: true},
			{Name: StepDeactivate},
		}
	case KindCancel:
		return []StepDef{{Name: StepUnpublish}, {Name: StepDiscard}}
	case KindAdopt:
		return []StepDef{{Name: StepInspect}}
	}
	return nil
}

func rotateSteps(row *Row, p *Policy) []StepDef {
	steps := []StepDef{
		{Name: StepInspect, Windowed: p.fits(row.Start, row.WindowEnd)},
		{Name: StepCreate, Creates: true},
		{Name: StepPublish},
		{Name: StepTest, After: StepPublish, Delay: p.Lead, Windowed: true},
		{Name: StepSwitch, After: StepPublish, Delay: p.Lead, Windowed: true, Pivot: true},
		{Name: StepDeactivate},
		{Name: StepSuspend, After: StepDeactivate, Delay: p.overlap(row.Data.Usage), Harms: true},
		{Name: StepWatch, Harms: true},
		{Name: StepDestroy, After: StepSuspend, Delay: p.Suspend, Harms: true, Skip: p.keeps(row.Data.Usage)},
		{Name: StepConfirm, After: StepDestroy, Harms: true, Skip: p.keeps(row.Data.Usage)},
	}
	if p.Destroy != nil {
		steps[9].Delay = p.Destroy.PendingWindow
	}
	if p.Mode == ModeInstant {
		steps[2].Skip = "mode is instant"
		steps[3].Delay, steps[4].Delay = 0, 0
	}
	return steps
}

// overlap returns how long a generation of the usage may still be needed.
func (p *Policy) overlap(usage string) Duration {
	switch {
	case p.Overlap != 0:
		return p.Overlap
	case usage == usageEncrypt:
		return Forever
	}
	return defaultOverlap
}

// keeps says why no generation of the usage is destroyed; empty when it may be.
func (p *Policy) keeps(usage string) string {
	switch {
	case p.Destroy == nil:
		return "the policy does not ask for it"
	case usage == usageEncrypt && !p.Destroy.Reencrypted:
		return "the policy does not say that what encryption keys protected is encrypted anew"
	}
	return ""
}

const (
	usageEncrypt   = "ENCRYPT_DECRYPT"
	defaultOverlap = Duration(30 * day)
)
