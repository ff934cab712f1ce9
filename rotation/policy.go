package rotation

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
