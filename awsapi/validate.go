package awsapi

import (
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A violation is one constraint of the model that a request breaks.
type violation struct {
	path  string
	value string // as AWS quotes it: "null", "'BAD'"; empty when it must not be shown
	rule  string // "Member must …"
}

// maxViolations bounds the answer to a request that is a long list of
// nonsense.
const maxViolations = 64

func (d *Decoder) violate(name, value, rule string) {
	if len(d.violations) == maxViolations {
		return
	}
	d.violations = append(d.violations, violation{string(d.path) + name, value, rule})
}

// Missing notes that a required member was not given.
func (d *Decoder) Missing(name string) { d.violate(name, "null", "Member must not be null") }

// Err returns what was noted so far, in AWS's words; nil when it is nothing.
func (d *Decoder) Err() error {
	if e := d.validationError(); e != nil {
		return e
	}
	return nil
}

// validationError words the violations as AWS does; nil when there are none.
func (d *Decoder) validationError() *Error {
	n := len(d.violations)
	if n == 0 {
		return nil
	}
	var b strings.Builder
	b.WriteString(strconv.Itoa(n))
	b.WriteString(" validation error")
	if n > 1 {
		b.WriteByte('s')
	}
	b.WriteString(" detected: ")
	for i, v := range d.violations {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString("Value ")
		if v.value != "" {
			b.WriteString(v.value)
			b.WriteByte(' ')
		}
		b.WriteString("at '")
		b.WriteString(v.path)
		b.WriteString("' failed to satisfy constraint: ")
		b.WriteString(v.rule)
	}
	return Errorf("ValidationException", "%s", b.String())
}

// maxEcho bounds how much of a refused value is quoted in the answer and in
// the audit record.
const maxEcho = 1024

func quote(s string) string {
	if len(s) > maxEcho {
		s = strings.ToValidUTF8(s[:maxEcho], "") + "..."
	}
	return "'" + s + "'"
}

func atLeast(what string, n int) string {
	return "Member must have " + what + " greater than or equal to " + strconv.Itoa(n)
}

func atMost(what string, n int) string {
	return "Member must have " + what + " less than or equal to " + strconv.Itoa(n)
}

// Text is what the model demands of a string. Lengths count characters; a Max
// of 0 is none.
type Text struct {
	Min, Max  int
	Pattern   *Pattern
	Enum      []string
	Sensitive bool // the value is not quoted in messages
}

// Check notes what is wrong with v, the value of member name.
func (t *Text) Check(d *Decoder, name, v string) {
	if t.Enum != nil {
		for _, e := range t.Enum {
			if v == e {
				return
			}
		}
	} else if t.ok(v) {
		return
	}
	value := quote(v)
	if t.Sensitive {
		value = ""
	}
	for _, rule := range t.broken(v) {
		d.violate(name, value, rule)
	}
}

// CheckAll does the same for the elements of a list. AWS names all the
// constraints of its elements, whichever of them was broken.
func (t *Text) CheckAll(d *Decoder, name string, list []string) {
	for _, v := range list {
		if len(t.broken(v)) == 0 {
			continue
		}
		value := ""
		if !t.Sensitive {
			value = quote("[" + strings.Join(list, ", ") + "]")
		}
		d.violate(name, value, "Member must satisfy constraint: ["+strings.Join(t.rules(), ", ")+"]")
		return
	}
}

// ok is the ordinary case of broken, without allocations.
func (t *Text) ok(v string) bool {
	// A string has at most as many characters as bytes, at least a quarter.
	if n := len(v); n > t.Max && t.Max > 0 || n/4 < t.Min {
		n = utf8.RuneCountInString(v)
		if n < t.Min || n > t.Max && t.Max > 0 {
			return false
		}
	}
	return t.Pattern == nil || t.Pattern.Match(v)
}

func (t *Text) broken(v string) (rules []string) {
	if t.Enum != nil {
		for _, e := range t.Enum {
			if v == e {
				return nil
			}
		}
		return t.rules()
	}
	n := utf8.RuneCountInString(v)
	if t.Max > 0 && n > t.Max {
		rules = append(rules, atMost("length", t.Max))
	}
	if n < t.Min {
		rules = append(rules, atLeast("length", t.Min))
	}
	if t.Pattern != nil && !t.Pattern.Match(v) {
		rules = append(rules, t.Pattern.rule())
	}
	return rules
}

func (t *Text) rules() (rules []string) {
	if t.Enum != nil {
		return []string{"Member must satisfy enum value set: [" + strings.Join(t.Enum, ", ") + "]"}
	}
	if t.Max > 0 {
		rules = append(rules, atMost("length", t.Max), atLeast("length", t.Min))
	}
	if t.Pattern != nil {
		rules = append(rules, t.Pattern.rule())
	}
	return rules
}

// Limits is what the model demands of a blob, a list or a number. A Max of 0
// is none.
type Limits struct{ Min, Max int }

func (l *Limits) broken(what string, n int) string {
	switch {
	case n < l.Min:
		return atLeast(what, l.Min)
	case l.Max > 0 && n > l.Max:
		return atMost(what, l.Max)
	}
	return ""
}

// CheckBlob notes when a blob of member name is too short or too long.
// Its bytes are never quoted.
func (l *Limits) CheckBlob(d *Decoder, name string, blob []byte) {
	if rule := l.broken("length", len(blob)); rule != "" {
		d.violate(name, "", rule)
	}
}

// CheckList notes when a list of n elements is too short or too long.
func (l *Limits) CheckList(d *Decoder, name string, n int) {
	if rule := l.broken("length", n); rule != "" {
		d.violate(name, "", rule)
	}
}

// CheckInt notes when v is out of range.
func (l *Limits) CheckInt(d *Decoder, name string, v int64) {
	if rule := l.broken("value", int(v)); rule != "" {
		d.violate(name, quote(strconv.FormatInt(v, 10)), rule)
	}
}

// A Pattern is a regular expression of the model, which must match the whole
// value. One that is a single class of characters repeated, as most are, is
// matched without the regexp engine.
type Pattern struct {
	source string
	class  []rune // ranges: from, to, from, to; nil when the engine is needed
	empty  bool   // the class may be repeated zero times
	expr   *regexp.Regexp
}

// NewPattern compiles expr, in RE2 syntax, that AWS writes as source. It
// panics when expr is no regular expression: only generated code calls it.
func NewPattern(source, expr string) *Pattern {
	p := &Pattern{source: source}
	tree, err := syntax.Parse(strings.TrimSuffix(strings.TrimPrefix(expr, "^"), "$"), syntax.Perl)
	if err == nil && (tree.Op == syntax.OpPlus || tree.Op == syntax.OpStar) && tree.Sub[0].Op == syntax.OpCharClass {
		p.class, p.empty = tree.Sub[0].Rune, tree.Op == syntax.OpStar
		return p
	}
	p.expr = regexp.MustCompile(`^(?:` + expr + `)$`)
	return p
}

// Match reports whether the pattern matches all of s.
func (p *Pattern) Match(s string) bool {
	if p.expr != nil {
		return p.expr.MatchString(s)
	}
	if s == "" {
		return p.empty
	}
next:
	for _, r := range s {
		for i := 0; i < len(p.class); i += 2 {
			if p.class[i] <= r && r <= p.class[i+1] {
				continue next
			}
		}
		return false
	}
	return true
}

func (p *Pattern) rule() string {
	return "Member must satisfy regular expression pattern: " + p.source
}
