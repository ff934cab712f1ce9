package rotators

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/keyturn/keyturn/rotation"
)

// Plan implements rotation.Rotator. It reads, and makes dry runs; it changes nothing.
func (r *keyRotator) Plan(ctx context.Context, job *rotation.Job) (*rotation.Plan, error) {
	copied := *job
	if copied.Row.Kind == "" {
		copied.Row.Kind = rotation.KindRotate
	}
	p := &planning{turn: r.turn(&copied, ""), plan: &rotation.Plan{Policy: job.Policy.Name}}
	if err := p.look(ctx); err != nil {
		return nil, classify(fmt.Errorf("planning: %w", err))
	}
	p.steps()
	return p.plan, nil
}

// planning is one dry run.
type planning struct {
	*turn
	plan      *rotation.Plan
	meta      *types.KeyMetadata // of the present key
	policy    *document          // of the present key; nil when it could not be read
	rewrites  bool               // the successor's policy needs a second call
	automatic int32              // days between automatic rotations; 0: off or not known
	copies    int                // grants that the new key gets
	present   *kin               // of a Multi-Region key
}

func (p *planning) check(name string, ok bool, hint, detail string, args ...any) {
	if ok {
		hint = ""
	}
	p.plan.Checks = append(p.plan.Checks, rotation.Check{Name: name, OK: ok, Detail: fmt.Sprintf(detail, args...), Hint: hint})
}

// refuse records an error of the rotation itself as a check that is not OK.
func (p *planning) refuse(name string, err error) {
	hint := "look at the error, then plan again"
	var decided *rotation.StepError
	if errors.As(classify(err), &decided) {
		hint = decided.Hint
	}
	p.check(name, false, hint, "%v", err)
}

func (p *planning) warn(format string, args ...any) {
	p.plan.Warnings = append(p.plan.Warnings, fmt.Sprintf(format, args...))
}

// look reads what a rotation would find. It returns an error only when nothing at all can be said.
func (p *planning) look(ctx context.Context) error {
	meta, err := p.describe(ctx, p.Policy.Alias)
	if err != nil {
		return err
	}
	if meta == nil {
		p.check("alias", false, "create the alias and let it name the present key", "%s does not exist", p.Policy.Alias)
		return nil
	}
	p.meta = meta
	arn := aws.ToString(meta.Arn)
	p.plan.Old = fmt.Sprintf("%s (%s, %s)", arn, meta.KeySpec, meta.KeyUsage)
	p.plan.New = fmt.Sprintf("%s, %s", p.successorSpec(meta), meta.KeyUsage)
	if p.Row.Data.OldKey == "" {
		p.Row.Data.OldKey = arn
	}
	if p.Active != nil && p.Active.Key != arn {
		p.refuse("alias", p.moved(arn, p.Active.Key))
	} else {
		p.check("alias", true, "", "%s names %s", p.Policy.Alias, arn)
	}
	if err := p.turnable(meta); err != nil {
		p.refuse("key", err)
	} else {
		p.check("key", true, "", "%s, %s, %s, made %s", meta.KeySpec, meta.KeyUsage, meta.KeyState, aws.ToTime(meta.CreationDate).UTC().Format(time.RFC3339))
	}
	p.lookAtMigration()
	p.lookAtOrigin()
	p.lookAtRegions(ctx)
	for _, look := range []func(context.Context){p.lookAtPolicy, p.lookAtTags, p.lookAtNames, p.lookAtGrants, p.lookAtUse, p.lookAtRotation, p.lookAtPermissions} {
		look(ctx)
	}
	if !p.Target.Local {
		p.warn("services that stored the key's ARN instead of the alias (RDS, EBS, S3 defaults and others) do not follow the switch; " +
			"permissions granted through kms:ResourceAliases do")
	}
	return nil
}

func (p *planning) lookAtMigration() {
	spec := p.successorSpec(p.meta)
	if spec == p.meta.KeySpec {
		return
	}
	p.warn("this is a migration: the next key is of spec %s instead of %s. Every caller that names an algorithm, and every verifier, must know the new one before the switch",
		spec, p.meta.KeySpec)
}

func (p *planning) lookAtOrigin() {
	if p.meta.Origin != types.OriginTypeExternal {
		return
	}
	p.check("imported material", true, "", "the next key's is made by the rotator, wrapped with %s and imported", wrappingFor(p.successorSpec(p.meta)))
	p.warn("nobody keeps a copy of the material that the rotator imports, and it does not expire: whoever must hold the key elsewhere too turns it by hand")
}

func (p *planning) lookAtRegions(ctx context.Context) {
	if !aws.ToBool(p.meta.MultiRegion) {
		return
	}
	present, err := p.kin(ctx, p.Row.Data.OldKey)
	if err != nil {
		p.refuse("regions", err)
		return
	}
	if p.Follows, err = p.followers(ctx, present); err != nil {
		p.refuse("regions", err)
		return
	}
	p.present = present
	if primary := present.keys[primaryRegion(p.meta)]; primary == nil || isPending(primary) {
		p.check("regions", false, "cancel its deletion, or move the primary Region to a replica, then plan again",
			"the primary key, in %s, is pending deletion", primaryRegion(p.meta))
		return
	}
	detail := "the present key is a Multi-Region key in " + strings.Join(present.recordable(), ", ") + ": its successor is made in the first and replicated to the others"
	if len(p.Follows) > 0 {
		detail += "; the alias moves in " + p.Policy.Region + " and then in " + strings.Join(p.Follows, ", ") + ", or in none of them"
	}
	p.check("regions", true, "", "%s", detail)
	for _, region := range present.regions {
		if isPending(present.keys[region]) {
			p.warn("the key in %s is pending deletion: its successor is not replicated there", region)
		}
	}
}

// alsoIn adds the other Regions in which the calls of a step are made too.
func (p *planning) alsoIn(calls, regions []string) []string {
	if others := slices.DeleteFunc(slices.Clone(regions), func(r string) bool { return r == p.Policy.Region }); len(others) > 0 && len(calls) > 0 {
		calls = append(calls, "and the same in "+strings.Join(others, ", "))
	}
	return calls
}

func (p *planning) lookAtPolicy(ctx context.Context) {
	text, err := p.keyPolicy(ctx, p.Row.Data.OldKey)
	if err != nil {
		p.refuse("key policy", err)
		return
	}
	doc, err := parseDocument(text)
	if err != nil {
		p.check("key policy", false, "mend the key policy", "%v", err)
		return
	}
	p.policy = doc
	_, p.rewrites = doc.successor(p.Row.Data.OldKey, "")
	detail := "it is copied"
	if p.rewrites {
		detail = "it is copied, with mentions of the present key changed to the new one"
	}
	// AWS refuses a policy under which nobody could ever change the policy again. So do we, before anything is made.
	p.check("key policy", doc.administrable(), "allow somebody kms:PutKeyPolicy in the key policy: CreateKey refuses a policy that locks everybody out", "%s", detail)
}

func (p *planning) lookAtTags(ctx context.Context) {
	tags, err := p.tags(ctx, p.Row.Data.OldKey)
	if err != nil {
		p.refuse("tags", err)
		return
	}
	n := len(p.successorTags(tags))
	p.check("tags", n <= maxTags, "remove tags from the present key", "the new key would carry %d of at most %d", n, maxTags)
}

func (p *planning) lookAtNames(ctx context.Context) {
	if longest := len(p.side("v999999")); longest > maxAlias {
		p.check("alias names", false, "choose a shorter alias", "%s would be longer than %d characters", p.side("previous"), maxAlias)
	} else if p.Active == nil {
		if err := p.sideNamesFree(ctx, p.meta); err != nil {
			p.refuse("alias names", err)
		} else {
			p.check("alias names", true, "", "%s, %s and %s are free", p.side("next"), p.side("previous"), p.side("v1"))
		}
	}
	names, err := p.aliases(ctx, p.Row.Data.OldKey)
	if err != nil {
		p.refuse("who depends on it", err)
		return
	}
	var others []string
	for _, name := range names {
		if name != p.Policy.Alias && !p.ourSideName(name) {
			others = append(others, name)
		}
	}
	p.check("who depends on it", true, "", "%d other aliases name the present key", len(others))
	if len(others) > 0 {
		p.warn("%s also name the present key and stay with it: the key is neither disabled nor deleted while they do", strings.Join(others, ", "))
	}
}

const maxAlias = 256

func (p *planning) lookAtGrants(ctx context.Context) {
	grants, err := p.turn.grants(ctx, p.Row.Data.OldKey)
	switch {
	case isUnknownOperation(err):
		p.check("grants", true, "", "grants unknown: the target has no such operation")
		return
	case err != nil:
		p.refuse("grants", err)
		return
	}
	if p.present != nil {
		for _, region := range p.present.living() {
			if at := p.at(region); at != p.turn {
				more, err := at.grants(ctx, at.Row.Data.OldKey)
				if err != nil {
					p.refuse("grants", at.here(err))
					continue
				}
				grants = append(grants, more...)
			}
		}
	}
	p.check("grants", true, "", "%d on the present key", len(grants))
	for _, g := range grants {
		what := "is not copied: review whether its holder needs it on the new key"
		if p.Policy.CopyGrants {
			what = "is copied, as the policy says"
			if in, why := grantLike(&g); in != nil {
				p.copies++
			} else {
				what = "is not copied: " + why
			}
		}
		p.warn("grant %s to %s (%s) %s", aws.ToString(g.GrantId), cmp.Or(aws.ToString(g.GranteePrincipal), aws.ToString(g.GranteeServicePrincipal)),
			strings.Join(names(g.Operations), ", "), what)
	}
}

func (p *planning) lookAtUse(ctx context.Context) {
	out, err := p.client.GetKeyLastUsage(ctx, &kms.GetKeyLastUsageInput{KeyId: &p.Row.Data.OldKey})
	switch {
	case err != nil:
		p.check("last use", true, "", "not known: %s", code(err))
	case out.KeyLastUsage == nil || out.KeyLastUsage.Timestamp == nil:
		p.check("last use", true, "", "none is known")
	default:
		p.check("last use", true, "", "%s at %s", out.KeyLastUsage.Operation, out.KeyLastUsage.Timestamp.UTC().Format(time.RFC3339))
	}
}

func (p *planning) lookAtRotation(ctx context.Context) {
	if p.meta.KeySpec != types.KeySpecSymmetricDefault {
		return
	}
	out, err := p.client.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: &p.Row.Data.OldKey})
	if err != nil {
		return
	}
	if out.KeyRotationEnabled {
		p.automatic = max(aws.ToInt32(out.RotationPeriodInDays), 1)
		p.check("automatic rotation", true, "", "every %d days: the new key gets the same", p.automatic)
	}
}

// lookAtPermissions makes a dry run of each operation of the test step that has one, on the present key, whose policy
// the new one gets. Management operations have no dry run: for them it says so instead of guessing.
func (p *planning) lookAtPermissions(ctx context.Context) {
	for _, trial := range dryRuns(p.client, p.meta) {
		err := trial.run(ctx)
		switch c := code(err); {
		case err == nil || c == "DryRunOperationException":
			p.check("permission kms:"+trial.operation, true, "", "allowed (dry run)")
		case c == "AccessDeniedException":
			p.check("permission kms:"+trial.operation, false, permanentCodes[c], "denied (dry run on the present key)")
		default:
			p.check("permission kms:"+trial.operation, true, "", "not known: the dry run answered %s", cmp.Or(c, "nothing"))
		}
	}
	p.check("permissions to manage", true, "", "kms:%s have no dry run: they are seen to be allowed when they are first used",
		strings.Join(p.managing(), ", kms:"))
}

// managing lists the management operations that the rotation needs.
func (p *planning) managing() []string {
	needed := slices.Clone(managing)
	if p.present != nil {
		needed = append(needed, "ReplicateKey")
	}
	if p.meta.Origin == types.OriginTypeExternal {
		needed = append(needed, "GetParametersForImport", "ImportKeyMaterial")
	}
	return needed
}

var managing = []string{"CreateKey", "TagResource", "CreateAlias", "UpdateAlias", "DeleteAlias", "DisableKey", "EnableKey", "ScheduleKeyDeletion"}

type dryRun struct {
	operation string
	run       func(context.Context) error
}

// dryRuns are the uses of a key that the test step makes, as DryRun calls.
func dryRuns(c *kms.Client, meta *types.KeyMetadata) []dryRun {
	yes, id, text := aws.Bool(true), meta.Arn, []byte("keyturn dry run")
	switch meta.KeyUsage {
	case types.KeyUsageTypeSignVerify:
		if len(meta.SigningAlgorithms) == 0 {
			return nil
		}
		return []dryRun{{"Sign", func(ctx context.Context) error {
			_, err := c.Sign(ctx, &kms.SignInput{KeyId: id, Message: text, SigningAlgorithm: meta.SigningAlgorithms[0], DryRun: yes})
			return err
		}}}
	case types.KeyUsageTypeEncryptDecrypt:
		if len(meta.EncryptionAlgorithms) == 0 {
			return nil
		}
		return []dryRun{{"Encrypt", func(ctx context.Context) error {
			_, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: text, EncryptionAlgorithm: meta.EncryptionAlgorithms[0], DryRun: yes})
			return err
		}}}
	case types.KeyUsageTypeGenerateVerifyMac:
		if len(meta.MacAlgorithms) == 0 {
			return nil
		}
		return []dryRun{{"GenerateMac", func(ctx context.Context) error {
			_, err := c.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: id, Message: text, MacAlgorithm: meta.MacAlgorithms[0], DryRun: yes})
			return err
		}}}
	case types.KeyUsageTypeEncapsulateDecapsulate:
		if len(meta.EncapsulationAlgorithms) == 0 {
			return nil
		}
		return []dryRun{{"Encapsulate", func(ctx context.Context) error {
			_, err := c.Encapsulate(ctx, &kms.EncapsulateInput{KeyId: id, EncapsulationAlgorithm: meta.EncapsulationAlgorithms[0], DryRun: yes})
			return err
		}}}
	}
	return nil
}

// steps lists the calls of every step.
func (p *planning) steps() {
	for _, def := range rotation.KeySteps(&p.Row, p.Policy) {
		calls := p.calls(def.Name)
		switch def.Name {
		case rotation.StepInspect, rotation.StepCreate:
		case rotation.StepPublish, rotation.StepSwitch:
			calls = p.alsoIn(calls, p.Follows)
		default:
			if p.present != nil {
				calls = p.alsoIn(calls, p.present.living())
			}
		}
		p.plan.Steps = append(p.plan.Steps, rotation.PlannedStep{Step: def.Name, Calls: calls})
	}
}

func (p *planning) calls(step rotation.Step) []string {
	if p.meta == nil {
		return nil
	}
	alias, next, previous := p.Policy.Alias, p.side("next"), p.side("previous")
	read := func(what string) string { return "DescribeKey (" + what + ")" }
	switch step {
	case rotation.StepInspect:
		return p.withPublic([]string{read(alias)}, "the present key")
	case rotation.StepCreate:
		calls := []string{
			read("the present key"), "ListResourceTags (the present key)", "GetKeyPolicy (the present key)",
			fmt.Sprintf("CreateKey (%s, %s)", p.successorSpec(p.meta), p.meta.KeyUsage),
		}
		if p.present != nil {
			primary := primaryRegion(p.meta)
			calls[3] = fmt.Sprintf("CreateKey (%s, %s, Multi-Region, in %s)", p.successorSpec(p.meta), p.meta.KeyUsage, primary)
			for _, region := range p.present.living() {
				if region != primary {
					calls = append(calls, "ReplicateKey (the new key, to "+region+", like the present key there)")
				}
			}
		}
		if p.meta.Origin == types.OriginTypeExternal {
			calls = append(calls, "GetParametersForImport (the new key)", "ImportKeyMaterial (the new key: material made here)")
		}
		if p.rewrites {
			calls = append(calls, "PutKeyPolicy (the new key: mentions of the present key become its own ARN)")
		}
		if p.automatic > 0 {
			calls = append(calls, fmt.Sprintf("EnableKeyRotation (the new key, every %d days)", p.automatic))
		}
		if p.copies > 0 {
			calls = append(calls, fmt.Sprintf("CreateGrant (the new key, %d times)", p.copies))
		}
		return calls
	case rotation.StepPublish:
		return append(p.withPublic([]string{read("the new key")}, "the new key"), read(next), "CreateAlias ("+next+" names the new key)")
	case rotation.StepTest:
		return p.withPublic(append([]string{read("the new key")}, p.trials()...), "the new key")
	case rotation.StepSwitch:
		return []string{
			read(alias), read("the new key"), "GetKeyPolicy (both keys)", "CreateAlias (" + p.side("vN") + " name each generation)",
			"UpdateAlias (" + alias + " names the new key)", "CreateAlias or UpdateAlias (" + previous + " names the present key)", "DeleteAlias (" + next + ")",
		}
	case rotation.StepDeactivate:
		switch {
		case p.Target.Local || p.Policy.Deactivate != rotation.DeactivateDeny:
			return nil
		}
		return []string{"GetKeyPolicy (the old key)", "PutKeyPolicy (the old key: a statement that denies " + strings.Join(actionNames(), ", ") + ")"}
	case rotation.StepSuspend:
		return []string{read("the old key"), "ListAliases (the old key)", "ListResourceTags (the old key)", "GetKeyLastUsage (the old key)", "DisableKey (the old key)"}
	case rotation.StepWatch:
		return []string{read("the old key"), "EnableKey (the old key), if anybody still wants it"}
	case rotation.StepDestroy:
		if p.Policy.Destroy == nil {
			return nil
		}
		return []string{read("the old key"), fmt.Sprintf("ScheduleKeyDeletion (the old key, %d days)", int(time.Duration(p.Policy.Destroy.PendingWindow)/(24*time.Hour)))}
	case rotation.StepConfirm:
		return []string{read("the old key")}
	case rotation.StepRevoke:
		return []string{read("the old key"), "GetKeyLastUsage (the old key)", "DisableKey (the old key)"}
	}
	return nil
}

func actionNames() []string {
	names := make([]string, len(deactivatedActions))
	for i, a := range deactivatedActions {
		names[i] = a.(string)
	}
	return names
}

func (p *planning) withPublic(calls []string, what string) []string {
	if hasPublicHalf(p.meta) {
		return append(calls, "GetPublicKey ("+what+")")
	}
	return calls
}

// trials are the calls of the test step. The algorithms of another spec are known only when the key exists.
func (p *planning) trials() []string {
	algorithms := "every algorithm it has"
	if p.successorSpec(p.meta) == p.meta.KeySpec {
		algorithms = strings.Join(slices.Concat(
			names(p.meta.SigningAlgorithms), names(p.meta.EncryptionAlgorithms), names(p.meta.MacAlgorithms),
			names(p.meta.KeyAgreementAlgorithms), names(p.meta.EncapsulationAlgorithms)), ", ")
	}
	pair := map[types.KeyUsageType][]string{
		types.KeyUsageTypeSignVerify:             {"Sign", "Verify"},
		types.KeyUsageTypeEncryptDecrypt:         {"Encrypt", "Decrypt"},
		types.KeyUsageTypeGenerateVerifyMac:      {"GenerateMac", "VerifyMac"},
		types.KeyUsageTypeKeyAgreement:           {"DeriveSharedSecret"},
		types.KeyUsageTypeEncapsulateDecapsulate: {"Encapsulate", "Decapsulate"},
	}[p.meta.KeyUsage]
	var calls []string
	for _, op := range pair {
		calls = append(calls, op+" (the new key, "+algorithms+")")
	}
	return calls
}

func names[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}
