package policy

import (
	"strings"
	"unicode/utf8"
)

// Policy variables, in documents of Version 2012-10-17: "${aws:username}" stands for the value that the request has for the
// key, "${aws:PrincipalTag/team, 'none'}" has a default for requests that lack it, and "${*}", "${?}" and "${$}" are these
// characters themselves. Keys with several values are no variables. What a variable stands for is compared as it is:
// wildcards in it are literal, and it never reaches across a colon of the ARN around it.
//
// A variable has no value where the request lacks the key and there is no default, and also, though AWS does not say so,
// where the value is empty, has no valid encoding, or is not the only one (two tags whose keys differ in case only). Text
// with such a variable is equal to and like nothing. In a Deny that is all; so Resource does not match, NotResource does,
// and negated operators do, as AWS documents. In an Allow the safe reading goes further: what only matches because of the
// missing value, through NotResource or a negated operator, does not match.

// A part of a text with variables is literal text, with wildcards as in compiled patterns, or a variable.
type part struct {
	text     string // literal; of a variable: its default
	variable bool
	fallback bool // there is a default
	key      Key
}

// compileText makes a pattern of text as an author writes it. Without variables "${" is text like any other; without wild
// so are '*' and '?'.
func compileText(text string, variables, wild, fold bool) (p pattern, problem string) {
	parts, problem := readParts(text, variables, wild)
	switch {
	case problem != "":
		return pattern{}, problem
	case len(parts) == 0:
		return compiled("", fold), ""
	case len(parts) == 1 && !parts[0].variable:
		return compiled(parts[0].text, fold), ""
	}
	return pattern{form: glob, fold: fold, parts: parts}, ""
}

func readParts(text string, variables, wild bool) (parts []part, problem string) {
	var literal strings.Builder
	write := func(s string) {
		if wild {
			s = wildcards.Replace(s)
		}
		literal.WriteString(s)
	}
	flush := func() {
		if literal.Len() > 0 {
			parts = append(parts, part{text: literal.String()})
			literal.Reset()
		}
	}
	for variables {
		before, rest, found := strings.Cut(text, "${")
		if !found {
			break
		}
		write(before)
		end := variableEnd(rest)
		if end < 0 {
			return nil, "holds a policy variable that is not closed"
		}
		inside := rest[:end]
		text = rest[end+1:]
		if inside == "*" || inside == "?" || inside == "$" {
			literal.WriteString(inside)
			continue
		}
		p, problem := readVariable(inside)
		if problem != "" {
			return nil, problem
		}
		flush()
		parts = append(parts, p)
	}
	write(text)
	flush()
	return parts, ""
}

// variableEnd finds the brace that closes a variable; one in a quoted default does not.
func variableEnd(s string) int {
	quoted := false
	for i := range len(s) {
		switch {
		case s[i] == '\'':
			quoted = !quoted
		case s[i] == '}' && !quoted:
			return i
		}
	}
	return -1
}

// readVariable reads what stands between the braces: a key, or a key, a comma and a default in single quotes.
func readVariable(inside string) (p part, problem string) {
	name := inside
	if before, quoted, found := strings.Cut(inside, "'"); found {
		head, comma := strings.CutSuffix(strings.TrimRight(before, " "), ",")
		value, closed := strings.CutSuffix(quoted, "'")
		if !comma || !closed || strings.Contains(value, "'") {
			return p, "holds a policy variable whose default is not written like ${key, 'default'}"
		}
		name, p.text, p.fallback = strings.TrimRight(head, " "), value, true
	}
	key, ok := parseKey(name)
	switch {
	case !ok:
		return p, "holds a policy variable of unknown key"
	case conditionKeys[key.Name].multi:
		return p, "holds a policy variable of a key that has several values"
	}
	p.key, p.variable = key, true
	return p, ""
}

// resolve puts the values of variables into text; false: one of them has none.
func (e *evaluation) resolve(parts []part) (string, bool) {
	e.text = e.text[:0]
	for i := range parts {
		p := &parts[i]
		if !p.variable {
			e.text = append(e.text, p.text...)
			continue
		}
		value, ok := e.variable(p)
		if !ok {
			return "", false
		}
		e.text = append(e.text, value...)
	}
	return string(e.text), true
}

func (e *evaluation) variable(p *part) (string, bool) {
	switch values := e.ask(p.key, e.single[:0]); {
	case len(values) == 0:
		return p.text, p.fallback
	case len(values) > 1 || values[0] == "" || !utf8.ValidString(values[0]):
		return "", false
	default:
		return values[0], true
	}
}

// matches is match for patterns that may hold variables.
func (p *pattern) matches(s string, e *evaluation) verdict {
	if p.parts == nil {
		return verdictOf(p.match(s))
	}
	text, ok := e.resolve(p.parts)
	if !ok {
		return unresolved
	}
	if p.fold {
		text = lower(text)
	}
	q := pattern{text: text, form: glob, fold: p.fold}
	return verdictOf(q.match(s))
}
