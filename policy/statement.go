package policy

import (
	"strings"

	"github.com/keyturn/keyturn/arn"
)

// A statement is one compiled entry of a document. It speaks of a request when actions, resources, in a resource policy
// principals, and all conditions apply.
type statement struct {
	sid        string
	effect     Effect
	actions    actions
	resources  resources
	principals principals
	conditions []condition
}

func (s *statement) holds(e *evaluation) bool {
	for i := range s.conditions {
		if !s.conditions[i].holds(e) {
			return false
		}
	}
	return true
}

// actions is Action, or NotAction when not is set.
type actions struct {
	not      bool
	patterns []pattern
}

func (a *actions) applies(action string) bool {
	for i := range a.patterns {
		if a.patterns[i].match(action) {
			return !a.not
		}
	}
	return a.not
}

// resources is Resource, or NotResource when not is set.
type resources struct {
	not       bool
	variables bool // in one of the patterns
	patterns  []resourcePattern
}

// applies reads patterns strictly where a match would allow and loosely where it would deny, so that the two readings of
// a wildcard at a colon never give anybody more.
func (r *resources) applies(resource string, effect Effect, e *evaluation) bool {
	loose := (effect == Deny) != r.not
	for i := range r.patterns {
		switch r.patterns[i].match(resource, loose, e) {
		case yes:
			return !r.not
		case unresolved:
			if r.not && effect == Allow {
				return false
			}
		}
	}
	return r.not
}

// A resourcePattern matches ARNs. AWS matches wildcards inside the colon-separated parts; only a star at the very end
// reaches beyond them. That matters: an alias name may hold colons, so whoever owns account 999999999999 can make the ARN
// "arn:aws:kms:us-east-1:999999999999:alias/x:111122223333:key/y", which the pattern
// "arn:aws:kms:*:111122223333:key/*" would take for a key of 111122223333 if stars ran across colons. So the strict
// reading goes part by part; the loose one, for denials, takes the pattern as one text.
type resourcePattern struct {
	whole pattern
	head  string    // "arn:aws:kms:", never with wildcards
	parts []pattern // region, account, resource; the last given may stand for all that follow. None: only whole counts
}

func compileResource(text string, variables bool) (p resourcePattern, problem string) {
	if p.whole, problem = compileText(text, variables, true, false); problem != "" || text == "*" {
		return p, problem
	}
	fields := cutARN(text, variables)
	if fields[0] != "arn" || len(fields) < 6 && !strings.HasSuffix(text, "*") {
		return p, `must be in ARN format or "*"`
	}
	if variables && strings.Contains(strings.Join(fields[:min(5, len(fields))], ":"), "${") {
		return p, "may hold policy variables behind the fifth colon only"
	}
	if len(fields) < 4 || fields[1] == "" || fields[2] == "" || strings.ContainsAny(fields[1]+fields[2], "*?") {
		return p, "must name its partition and service, without wildcards"
	}
	if p.whole.form == exact {
		return p, ""
	}
	p.head = strings.Join(fields[:3], ":") + ":"
	p.parts = make([]pattern, len(fields)-3)
	for i, field := range fields[3:] {
		if p.parts[i], problem = compileText(field, variables, true, false); problem != "" {
			return p, problem
		}
	}
	return p, ""
}

func (p *resourcePattern) match(s string, loose bool, e *evaluation) verdict {
	if loose || len(p.parts) == 0 {
		return p.whole.matches(s, e)
	}
	rest, ok := strings.CutPrefix(s, p.head)
	if !ok {
		return no
	}
	last := len(p.parts) - 1
	for i := range p.parts[:last] {
		part, tail, found := strings.Cut(rest, ":")
		if !found || !p.parts[i].match(part) {
			return no
		}
		rest = tail
	}
	return p.parts[last].matches(rest, e)
}

// principals is Principal, or NotPrincipal when not is set. accounts are twelve digits, arns are users, roles and
// sessions, services are names like "rds.amazonaws.com".
type principals struct {
	not      bool
	everyone bool
	accounts []string
	arns     []string
	ids      []string // unique ids of users and roles, which stand for one of a name and not for the next
	services []string

	federated []string // OIDC providers; of trust policies
}

// via reports how the statement reaches a principal; 0: it does not.
//
// An account named in an Allow gives its permissions to the account, whose identity policies then decide; its root user
// is the account. An account named in a Deny means everybody in it.
//
// NotPrincipal, which AWS and Parse accept with Deny only, spares exactly those it names: an account there spares its root
// user, and a role does not spare its sessions, which AWS wants named themselves. Who is in doubt is denied.
func (p *principals) via(who *Principal, effect Effect) Via {
	if who.Federated != "" {
		return p.viaProvider(who, effect)
	}
	if p.not {
		if p.everyone || p.named(who, false) || who.Root && p.account(who) {
			return 0
		}
		return Direct
	}
	switch account := p.account(who); {
	case p.named(who, false), who.Root && account:
		return Named
	case p.everyone, p.named(who, true), account && effect == Deny:
		return Direct
	case account:
		return Account
	}
	return 0
}

// named reports whether a principal stands in the list itself. roles: a role's name stands for its sessions.
func (p *principals) named(who *Principal, roles bool) bool {
	if who.Service != "" {
		for _, name := range p.services {
			if name == who.Service {
				return true
			}
		}
	}
	for _, name := range p.arns {
		if name == who.ARN || roles && who.RoleARN != "" && name == who.RoleARN {
			return true
		}
	}
	for _, id := range p.ids {
		if who.UserID == id || roles && len(who.UserID) > len(id) && who.UserID[len(id)] == ':' && strings.HasPrefix(who.UserID, id) {
			return true
		}
	}
	return false
}

// account reports whether the principal's account stands in the list. A service acts for accounts and is of none.
func (p *principals) account(who *Principal) bool {
	if who.Service != "" {
		return false
	}
	for _, id := range p.accounts {
		if id == who.Account {
			return true
		}
	}
	return false
}

func (p *principals) names() []string {
	var all []string
	if p.everyone {
		all = append(all, "*")
	}
	all = append(all, p.accounts...)
	all = append(all, p.arns...)
	all = append(all, p.ids...)
	all = append(all, p.services...)
	return append(all, p.federated...)
}

// add takes one entry of {"AWS": …} and says what is wrong with it, or "".
func (p *principals) add(text string) (problem string) {
	if text == "*" {
		p.everyone = true
		return ""
	}
	if arn.IsAccount(text) {
		p.accounts = append(p.accounts, text)
		return ""
	}
	if IsUniqueID(text) {
		p.ids = append(p.ids, text)
		return ""
	}
	const invalid = "is not a principal: give an account id, or the ARN of an account root, user, role or session"
	a, err := arn.Parse(text)
	if err != nil || a.Account == "" || a.Region != "" {
		return invalid
	}
	if strings.ContainsAny(a.Resource, "*?") {
		return `is not a principal: wildcards stand alone ("*") or not at all`
	}
	typ, id := a.Cut()
	switch {
	case a.Service == "iam" && a.Resource == "root":
		p.accounts = append(p.accounts, a.Account)
	case a.Service == "iam" && (typ == "user" || typ == "role") && id != "" && !strings.HasSuffix(id, "/"):
		p.arns = append(p.arns, text)
	case a.Service == "sts" && typ == "assumed-role" && strings.Count(id, "/") == 1:
		p.arns = append(p.arns, text)
	case a.Service == "sts" && typ == "federated-user" && id != "":
		p.arns = append(p.arns, text)
	default:
		return invalid
	}
	return ""
}

// IsUniqueID reports whether a principal is named by the unique id that a user (AIDA…) or role (AROA…) keeps for its life.
func IsUniqueID(name string) bool {
	return len(name) == 21 && (strings.HasPrefix(name, "AIDA") || strings.HasPrefix(name, "AROA")) &&
		strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == ""
}

// addService takes one entry of {"Service": …}.
func (p *principals) addService(text string) (problem string) {
	if !strings.Contains(text, ".") || strings.Trim(text, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" {
		return `is not a service: give its name, like "rds.amazonaws.com"`
	}
	p.services = append(p.services, text)
	return ""
}
