package rotation

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Policy says what turns, where, when and how. It is one document, the same in
// the API and in a manifest; strict readers refuse unknown members. Members that
// are left out get the safe default named here when Validate has passed and
// withDefaults has filled them in; every Policy that a Rotator sees is filled in.
type Policy struct {
	Name        string `json:"name" yaml:"name"` // 1–128 of A–Z a–z 0–9 _ . / -, unique in account and Region
	Description string `json:"description,omitzero" yaml:"description,omitempty"`

	Rotator string `json:"rotator,omitzero" yaml:"rotator,omitempty"` // what kind of thing turns; default "key"
	Target  string `json:"target,omitzero" yaml:"target,omitempty"`   // default "local", this server
	Account string `json:"account,omitzero" yaml:"account,omitempty"` // of the alias; default: the caller's
	Region  string `json:"region,omitzero" yaml:"region,omitempty"`   // of the alias; default: the request's
	Alias   string `json:"alias" yaml:"alias"`                        // "alias/…": the lineage

	// When. Without a schedule the policy turns by hand only. Without a window, AWS's
	// default for the schedule: an hour, or to the end of the day; and what was missed
	// while nothing ran is made up for at once. With one, it waits for the next window.
	Schedule string   `json:"schedule,omitzero" yaml:"schedule,omitempty"`
	Window   Duration `json:"window,omitzero" yaml:"window,omitempty"`
	Timezone string   `json:"timezone,omitzero" yaml:"timezone,omitempty"` // IANA name; default UTC
	Freeze   []Period `json:"freeze,omitzero" yaml:"freeze,omitempty"`
	Spread   Duration `json:"spread,omitzero" yaml:"spread,omitempty"`

	// How. Instant is the bare swap, without publication: an outage for everybody who
	// cached the old public key.
	Mode    Mode     `json:"mode,omitzero" yaml:"mode,omitempty"`       // default staged
	Lead    Duration `json:"lead,omitzero" yaml:"lead,omitempty"`       // published before it is used; default 24h; staged only
	Overlap Duration `json:"overlap,omitzero" yaml:"overlap,omitempty"` // verified and decrypted after it was used; default 30d, for encryption keys forever
	Suspend Duration `json:"suspend,omitzero" yaml:"suspend,omitempty"` // disabled and watched before it may be destroyed; default 7d

	Destroy    *DestroyRule `json:"destroy,omitzero" yaml:"destroy,omitempty"`       // default: never
	Deactivate Deactivation `json:"deactivate,omitzero" yaml:"deactivate,omitempty"` // default: enforced by this server
	Adopt      Adoption     `json:"adopt,omitzero" yaml:"adopt,omitempty"`           // default keep

	Spec       string `json:"spec,omitzero" yaml:"spec,omitempty"`   // of the next keys; default: the present key's
	Usage      string `json:"usage,omitzero" yaml:"usage,omitempty"` // of the next keys; must be the present key's
	CopyGrants bool   `json:"copyGrants,omitzero" yaml:"copyGrants,omitempty"`

	MaxAttempts   int      `json:"maxAttempts,omitzero" yaml:"maxAttempts,omitempty"`     // of one step, before the rotation is failed; default 12
	Backoff       Duration `json:"backoff,omitzero" yaml:"backoff,omitempty"`             // before the second attempt, doubling to at most 30 min; default 5s
	MaxKeysPerDay int      `json:"maxKeysPerDay,omitzero" yaml:"maxKeysPerDay,omitempty"` // rotations begun in 24 hours; default 24

	// Paused stops everything at the next step. Putting a policy that says true pauses it; one
	// that leaves it out does not resume it, so that a pipeline cannot undo a person's pause.
	Paused bool `json:"paused,omitzero" yaml:"paused,omitempty"`
}

// Mode says how the switch is prepared.
type Mode string

// Modes.
const (
	ModeStaged  Mode = "staged"  // published for the lead time, then switched
	ModeInstant Mode = "instant" // switched as soon as it is tested
)

// Deactivation says what keeps an old generation from signing and encrypting.
type Deactivation string

// Deactivations.
const (
	DeactivateEnforce Deactivation = "enforce" // this server refuses, by key id too; an AWS account does not
	DeactivateDeny    Deactivation = "deny"    // and on AWS targets a deny statement is added to the key policy
	DeactivateNever   Deactivation = "never"   // old generations go on signing for those who name them by id
)

// Adoption says what may be done to a key that stood behind the alias before
// Keyturn turned it, or was put there by another hand and accepted.
type Adoption string

// Adoptions.
const (
	AdoptKeep Adoption = "keep" // it is retired as a generation, but neither disabled nor deleted
	AdoptFull Adoption = "full" // it is treated as if Keyturn had made it
)

// DestroyRule asks for the deletion of generations whose overlap and suspension
// are over.
type DestroyRule struct {
	PendingWindow Duration `json:"pendingWindow,omitzero" yaml:"pendingWindow,omitempty"` // 7d–30d in whole days, default 30d: until then it can be taken back
	// Reencrypted is the statement that what encryption keys of the lineage protected is encrypted
	// anew before the overlap ends. Without it no encryption key is destroyed.
	Reencrypted bool `json:"reencrypted,omitzero" yaml:"reencrypted,omitempty"`
}

// Local reports whether the policy turns what this server holds.
func (p *Policy) Local() bool { return p.Target == TargetLocal }

// AliasARN names the alias, and so the lineage within its target.
func (p *Policy) AliasARN() string {
	return "arn:aws:kms:" + p.Region + ":" + p.Account + ":" + p.Alias
}

// WithDefaults returns p with every member that was left out filled in, except
// Overlap, whose default depends on the usage of the key that retires.
func (p Policy) WithDefaults() Policy {
	fill(&p.Rotator, "key")
	fill(&p.Target, TargetLocal)
	fill(&p.Mode, ModeStaged)
	fill(&p.Deactivate, DeactivateEnforce)
	fill(&p.Adopt, AdoptKeep)
	fill(&p.Suspend, Duration(7*day))
	fill(&p.MaxAttempts, 12)
	fill(&p.Backoff, Duration(5*time.Second))
	fill(&p.MaxKeysPerDay, 24)
	if p.Mode == ModeStaged {
		fill(&p.Lead, Duration(day))
	}
	if p.Destroy != nil {
		rule := *p.Destroy
		fill(&rule.PendingWindow, Duration(30*day))
		p.Destroy = &rule
	}
	return p
}

func fill[T comparable](member *T, value T) {
	var zero T
	if *member == zero {
		*member = value
	}
}

var (
	namePattern    = regexp.MustCompile(`^[A-Za-z0-9_./-]{1,128}$`)
	aliasPattern   = regexp.MustCompile(`^alias/[A-Za-z0-9/_-]{1,250}$`)
	targetPattern  = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	accountPattern = regexp.MustCompile(`^[0-9]{12}$`)
	regionPattern  = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$`)
	wordPattern    = regexp.MustCompile(`^[A-Z0-9_]{1,64}$`)
)

// Validate reports everything that is wrong with p, each with the name of its
// member, or nil. Members that were left out are taken as their defaults.
func (p Policy) Validate() error {
	p = p.WithDefaults()
	var errs []error
	check := func(ok bool, member, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(member+": "+format, args...))
		}
	}
	check(namePattern.MatchString(p.Name), "name", "expected 1 to 128 of A–Z a–z 0–9 _ . / -, not %q", clip(p.Name))
	check(len(p.Description) <= 1024, "description", "at most 1024 bytes")
	check(aliasPattern.MatchString(p.Alias), "alias", "expected alias/ and up to 250 of A–Z a–z 0–9 / _ -, not %q", clip(p.Alias))
	check(!strings.HasPrefix(p.Alias, "alias/aws/"), "alias", "alias/aws/ belongs to AWS: its keys cannot be turned")
	for _, suffix := range []string{"/next", "/previous"} {
		check(!strings.HasSuffix(p.Alias, suffix), "alias", "it ends in %s, the name of another lineage's generation", suffix)
	}
	check(targetPattern.MatchString(p.Target), "target", "expected up to 64 of A–Z a–z 0–9 _ -, not %q", clip(p.Target))
	check(!strings.HasPrefix(p.Name, materialPrefix), "name", "names that begin with %s are those of keys that EnableKeyRotation turns", materialPrefix)
	check(!p.kept(), "rotator", "%s is for keys that EnableKeyRotation turns", RotatorMaterial)
	check(targetPattern.MatchString(p.Rotator), "rotator", "expected up to 64 of A–Z a–z 0–9 _ -, not %q", clip(p.Rotator))
	check(p.Account == "" || accountPattern.MatchString(p.Account), "account", "expected 12 digits, not %q", clip(p.Account))
	check(p.Region == "" || regionPattern.MatchString(p.Region), "region", "expected a Region as eu-central-1, not %q", clip(p.Region))
	check(p.Spec == "" || wordPattern.MatchString(p.Spec), "spec", "expected a key spec as RSA_2048, not %q", clip(p.Spec))
	check(p.Usage == "" || wordPattern.MatchString(p.Usage), "usage", "expected a key usage as SIGN_VERIFY, not %q", clip(p.Usage))
	check(p.MaxAttempts >= 1 && p.MaxAttempts <= 1000, "maxAttempts", "expected 1 to 1000, not %d", p.MaxAttempts)
	check(p.MaxKeysPerDay >= 1 && p.MaxKeysPerDay <= 1_000_000, "maxKeysPerDay", "expected 1 to 1000000, not %d", p.MaxKeysPerDay)
	errs = append(errs, p.validateTimes()...)
	return errors.Join(errs...)
}

func (p *Policy) validateTimes() (errs []error) {
	if _, err := p.calendar(); err != nil {
		errs = append(errs, err)
	}
	for i, f := range p.Freeze {
		if err := f.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("freeze[%d]: %w", i, err))
		}
	}
	finite := map[string]Duration{"window": p.Window, "spread": p.Spread, "lead": p.Lead, "suspend": p.Suspend, "backoff": p.Backoff}
	for _, member := range slices.Sorted(maps.Keys(finite)) {
		if d := finite[member]; d == Forever || d < 0 {
			errs = append(errs, fmt.Errorf("%s: it must end", member))
		}
	}
	if p.Schedule == "" && (p.Window != 0 || p.Spread != 0) {
		errs = append(errs, errors.New("schedule: window and spread mean nothing without it"))
	}
	switch p.Mode {
	case ModeStaged:
	case ModeInstant:
		if p.Lead != 0 {
			errs = append(errs, errors.New("lead: mode instant publishes nothing ahead"))
		}
	default:
		errs = append(errs, fmt.Errorf("mode: expected staged or instant, not %q", clip(string(p.Mode))))
	}
	if d := p.Deactivate; d != DeactivateEnforce && d != DeactivateDeny && d != DeactivateNever {
		errs = append(errs, fmt.Errorf("deactivate: expected enforce, deny or never, not %q", clip(string(d))))
	}
	if a := p.Adopt; a != AdoptKeep && a != AdoptFull {
		errs = append(errs, fmt.Errorf("adopt: expected keep or full, not %q", clip(string(a))))
	}
	if r := p.Destroy; r != nil {
		w := r.PendingWindow.std()
		if w < 7*day || w > 30*day || w%day != 0 {
			errs = append(errs, fmt.Errorf("destroy.pendingWindow: expected whole days, 7d to 30d, not %s", r.PendingWindow))
		}
		if p.Overlap == Forever {
			errs = append(errs, errors.New("destroy: the overlap is forever, so nothing is ever destroyed"))
		}
	}
	return errs
}
