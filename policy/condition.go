package policy

import (
	"errors"
	"strconv"
	"strings"
	"sync"
)

// A condition is one key under one operator of a statement's Condition. All of them must hold for the statement to apply.
type condition struct {
	key      Key
	set      set
	negated  bool // of what test says
	ifExists bool // holds where the request lacks the key
	null     null
	test     test // nil for Null
}

// set is how several values of a request count.
type set uint8

const (
	single   set = iota // no prefix
	allOf               // "ForAllValues:"
	anyOneOf            // "ForAnyValue:"
)

// null is what the operator Null takes; 0: another operator.
type null uint8

const (
	absent  null = 1 << iota // "true"
	present                  // "false"
)

// A test compares a value of the request with those of the policy: one that matches is enough.
type test interface {
	match(value string, e *evaluation) verdict
}

// verdict is what comes of comparing two texts.
type verdict uint8

const (
	no verdict = iota
	yes
	unresolved // no, and a variable of the policy has no value
	unreadable // the request's value is none that the operator compares
)

func verdictOf(matched bool) verdict {
	if matched {
		return yes
	}
	return no
}

// holds reports whether the request meets the condition.
//
// A key that the request lacks, or has with an empty list, meets IfExists, ForAllValues and, without ForAnyValue, the
// negated operators, and no other.
//
// AWS wants ForAllValues or ForAnyValue for keys with several values and does not say what comes without. Here all of
// them must match to allow, and one is enough to deny.
func (c *condition) holds(e *evaluation) bool {
	values := e.ask(c.key, e.values[:0])
	switch {
	case c.null != 0 && len(values) == 0:
		return c.null&absent != 0
	case c.null != 0:
		return c.null&present != 0
	case len(values) == 0:
		return c.ifExists || c.set == allOf || c.set == single && c.negated
	}
	e.loose = (e.effect == Deny) != c.negated
	every := c.set == allOf || c.set == single && e.effect == Allow
	for _, value := range values {
		if c.meets(value, e) != every {
			return !every
		}
	}
	return every
}

// meets is the condition for one value. A value that the operator cannot read, like a tag "high" where numbers are
// compared, is in doubt: then an Allow does not apply and a Deny does. For unresolved see variable.go.
func (c *condition) meets(value string, e *evaluation) bool {
	switch v := c.test.match(value, e); v {
	case unreadable:
		return e.effect == Deny
	case unresolved:
		return c.negated && e.effect == Deny
	default:
		return (v == yes) != c.negated
	}
}

// An evaluation is what one call of Evaluate needs beyond its arguments, kept for the next one.
type evaluation struct {
	context Context
	effect  Effect // of the statement in question
	loose   bool   // a match would deny: where there are two readings of equality, the wider one

	values [16]string // space for the values of a condition's key
	single [2]string  // and of a variable
	text   []byte     // what variables resolve to
}

var evaluations = sync.Pool{New: func() any { return new(evaluation) }}

func begin(c Context) *evaluation {
	e := evaluations.Get().(*evaluation)
	e.context = c
	return e
}

// end forgets the request, whose values are nobody else's business.
func (e *evaluation) end() {
	if cap(e.text) > 1<<12 {
		e.text = nil
	}
	clear(e.text[:cap(e.text)])
	*e = evaluation{text: e.text[:0]}
	evaluations.Put(e)
}

// ask returns the values of a key, none where the request lacks it.
func (e *evaluation) ask(k Key, space []string) []string {
	if e.context == nil {
		return nil
	}
	values, ok := e.context.Values(k, space)
	if !ok {
		return nil
	}
	return values
}

// condition reads the Condition of a statement: operators, under each of them keys, under each of these values.
func (b *builder) condition() error {
	operators := map[string]bool{}
	return b.object(func(text string) error {
		if operators[text] {
			return refuse("Condition %s is given twice", strconv.Quote(text))
		}
		operators[text] = true
		op, c, ok := readOperator(text)
		if !ok {
			return refuse("Condition has unknown operator %s", strconv.Quote(text))
		}
		keys := map[string]bool{}
		err := b.object(func(name string) error {
			if keys[lower(name)] {
				return refuse("%s is given twice", strconv.Quote(name))
			}
			keys[lower(name)] = true
			return inside(strconv.Quote(name), b.comparison(op, c, name))
		})
		if err == nil && len(keys) == 0 {
			err = refuse("names no key")
		}
		return inside("Condition "+text, err)
	})
}

// comparison reads the values of one key under one operator.
func (b *builder) comparison(op operator, c condition, name string) error {
	key, ok := parseKey(name)
	if !ok {
		return refuse("is no condition key that is known here%s", hint(name))
	}
	c.key = key
	if typ := conditionKeys[key.Name].typ; !op.fits(typ) {
		return refuse("is %s, which this operator does not compare", typ)
	}
	var add func(text string) string
	if op.family == nullCheck {
		add = c.addNull
	} else {
		c.test, add = op.newTest(key, b.variables)
	}
	if err := b.scalars(add); err != nil {
		return err
	}
	b.statement.conditions = append(b.statement.conditions, c)
	return nil
}

func (c *condition) addNull(text string) (problem string) {
	missing, ok := readBool(text)
	switch {
	case !ok:
		return `is not "true" (the key is absent) or "false" (it is present)`
	case missing:
		c.null |= absent
	default:
		c.null |= present
	}
	return ""
}

// hint tells an author who names the key of another service that it is not his spelling.
func hint(name string) string {
	switch vendor, _, found := strings.Cut(lower(name), ":"); {
	case !found:
		return ""
	case vendor == "aws":
		return ": it cannot have a value, or AWS has none of this name"
	case vendor != "kms" && vendor != "sts":
		return ": the keys of " + strconv.Quote(vendor) + " belong to another service"
	}
	return ""
}

// inside says where in a statement an error is.
func inside(place string, err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return &Error{Problem: place + ": " + e.Problem}
	}
	return err
}
