package policy

import (
	"encoding/base64"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// texts is the test of the string operators, and of BinaryEquals.
type texts struct {
	patterns              []pattern
	variables, wild, fold bool
}

func (t *texts) add(text string) (problem string) {
	p, problem := compileText(text, t.variables, t.wild, t.fold)
	t.patterns = append(t.patterns, p)
	return problem
}

// addBinary takes bytes in base64. The values of requests are compared with them as they are.
func (t *texts) addBinary(text string) (problem string) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "is not base64"
	}
	t.patterns = append(t.patterns, pattern{text: string(b), form: exact})
	return ""
}

func (t *texts) match(value string, e *evaluation) verdict {
	best := no
	for i := range t.patterns {
		v := t.patterns[i].matches(value, e)
		if v != yes && t.fold && e.loose {
			v = t.patterns[i].folds(value, e)
		}
		if v == yes {
			return yes
		}
		best = max(best, v)
	}
	return best
}

// folds compares without regard to case as Unicode has it, which takes a Kelvin sign for a k. Who would profit from the
// difference decides which reading counts: see evaluation.loose.
func (p *pattern) folds(s string, e *evaluation) verdict {
	if p.parts == nil {
		return verdictOf(strings.EqualFold(p.text, s))
	}
	text, ok := e.resolve(p.parts)
	if !ok {
		return unresolved
	}
	return verdictOf(strings.EqualFold(text, s))
}

// arns is the test of the ARN operators: six parts, each with wildcards of its own, so that a star never reaches across
// a colon except in the last part.
type arns struct {
	patterns  []arnPattern
	variables bool
}

// arnPattern has six parts, or one, a variable, that stands for a whole ARN.
type arnPattern []pattern

func (t *arns) add(text string) (problem string) {
	fields := cutARN(text, t.variables)
	p := make(arnPattern, len(fields))
	for i, field := range fields {
		if p[i], problem = compileText(field, t.variables, true, false); problem != "" {
			return problem
		}
	}
	if whole := len(p) == 1 && len(p[0].parts) == 1; !whole && (len(p) != 6 || fields[0] != "arn") {
		return "must be in ARN format, with six parts"
	}
	t.patterns = append(t.patterns, p)
	return ""
}

func (t *arns) match(value string, e *evaluation) verdict {
	best := no
	for _, p := range t.patterns {
		v := p.match(value, e)
		if v == yes {
			return yes
		}
		best = max(best, v)
	}
	return best
}

func (a arnPattern) match(s string, e *evaluation) verdict {
	all := yes
	for i := range a {
		field, rest := s, ""
		if i < len(a)-1 {
			var found bool
			if field, rest, found = strings.Cut(s, ":"); !found {
				return no
			}
		}
		switch v := a[i].matches(field, e); v {
		case no:
			return no
		case unresolved:
			all = unresolved
		}
		s = rest
	}
	return all
}

// cutARN cuts a text into the six parts of an ARN, or as many as it has. A colon in a variable does not count.
func cutARN(text string, variables bool) []string {
	fields := make([]string, 0, 6)
	start := 0
	for i := 0; i < len(text) && len(fields) < 5; i++ {
		if variables && strings.HasPrefix(text[i:], "${") {
			end := variableEnd(text[i+2:])
			if end < 0 {
				break
			}
			i += 2 + end
		} else if text[i] == ':' {
			fields = append(fields, text[start:i])
			start = i + 1
		}
	}
	return append(fields, text[start:])
}

// numbers is the test of the numeric operators. For the keys that are dates these count seconds since 1970.
type numbers struct {
	order  order
	dates  bool
	values []float64
}

// add takes what a float64 tells apart from its neighbours.
func (t *numbers) add(text string) (problem string) {
	n, ok := readNumber(text)
	if !ok || math.Abs(n) >= 1<<53 {
		return "is not a number, or too large a one"
	}
	t.values = append(t.values, n)
	return ""
}

func (t *numbers) match(value string, _ *evaluation) verdict {
	var n float64
	var ok bool
	if t.dates {
		var at int64
		at, ok = readDate(value)
		n = float64(at) / 1e6
	} else {
		n, ok = readNumber(value)
	}
	if !ok {
		return unreadable
	}
	return compareAny(n, t.values, t.order)
}

// dates is the test of the date operators, in microseconds since 1970.
type dates struct {
	order  order
	values []int64
}

func (t *dates) add(text string) (problem string) {
	at, ok := readDate(text)
	if !ok {
		return "is not a date like 2026-11-23T12:00:00Z, nor seconds since 1970"
	}
	t.values = append(t.values, at)
	return ""
}

func (t *dates) match(value string, _ *evaluation) verdict {
	at, ok := readDate(value)
	if !ok {
		return unreadable
	}
	return compareAny(at, t.values, t.order)
}

func compareAny[T int64 | float64](n T, values []T, o order) verdict {
	for _, v := range values {
		if o == equals && n == v || o == less && n < v || o == lessOrEqual && n <= v ||
			o == greater && n > v || o == greaterOrEqual && n >= v {
			return yes
		}
	}
	return no
}

// booleans is the test of Bool.
type booleans struct{ yes, no bool }

func (t *booleans) add(text string) (problem string) {
	switch value, ok := readBool(text); {
	case !ok:
		return `is not "true" or "false"`
	case value:
		t.yes = true
	default:
		t.no = true
	}
	return ""
}

func (t *booleans) match(text string, _ *evaluation) verdict {
	value, ok := readBool(text)
	if !ok {
		return unreadable
	}
	return verdictOf(value && t.yes || !value && t.no)
}

// addresses is the test of IpAddress: IPv4 and IPv6, each for itself.
type addresses struct{ networks []netip.Prefix }

func (t *addresses) add(text string) (problem string) {
	network, err := netip.ParsePrefix(text)
	if err != nil {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return "is not an IP address, nor a range like 203.0.113.0/24 or 2001:db8::/32"
		}
		network = netip.PrefixFrom(a, a.BitLen())
	}
	if network.Addr().Is4In6() {
		if network.Bits() < 96 {
			return "mixes IPv4 and IPv6"
		}
		network = netip.PrefixFrom(network.Addr().Unmap(), network.Bits()-96)
	}
	t.networks = append(t.networks, network.Masked())
	return ""
}

func (t *addresses) match(value string, _ *evaluation) verdict {
	a, err := netip.ParseAddr(value)
	if err != nil {
		return unreadable
	}
	a = a.Unmap().WithZone("")
	for _, network := range t.networks {
		if network.Contains(a) {
			return yes
		}
	}
	return no
}

func readNumber(text string) (float64, bool) {
	if strings.Trim(text, "0123456789.+-eE") != "" {
		return 0, false
	}
	n, err := strconv.ParseFloat(text, 64)
	return n, err == nil
}

// readDate reads the forms of ISO 8601 that https://www.w3.org/TR/NOTE-datetime describes, except a year alone, and
// seconds since 1970, into microseconds. Four digits could be both, so they are neither.
func readDate(text string) (micros int64, ok bool) {
	if whole, fraction, _ := strings.Cut(text, "."); len(whole) > 4 && len(whole) < 13 && digits(whole) && digits(fraction) {
		seconds, err := strconv.ParseInt(whole, 10, 64)
		if len(fraction) > 6 {
			fraction = fraction[:6]
		}
		for i := range 6 {
			seconds *= 10
			if i < len(fraction) {
				seconds += int64(fraction[i] - '0')
			}
		}
		return seconds, err == nil
	}
	layout := time.RFC3339
	switch {
	case len(text) == len("2006-01"):
		layout = "2006-01"
	case len(text) == len("2006-01-02"):
		layout = time.DateOnly
	case len(text) > len("2006-01-02T15:04") && text[len("2006-01-02T15:04")] != ':':
		layout = "2006-01-02T15:04Z07:00"
	}
	t, err := time.Parse(layout, text)
	return t.UnixMicro(), err == nil
}

func digits(s string) bool { return strings.Trim(s, "0123456789") == "" }

func readBool(text string) (value, ok bool) {
	switch {
	case len(text) == len("true") && equal("true", text, true):
		return true, true
	case len(text) == len("false") && equal("false", text, true):
		return false, true
	}
	return false, false
}
