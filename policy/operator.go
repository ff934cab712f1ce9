package policy

import "strings"

// An operator is a row of the table of
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html.
type operator struct {
	family  family
	negated bool
	order   order
}

// family is what an operator compares.
type family uint8

const (
	textEquals family = iota
	textEqualsFolded
	textLike
	numeric
	date
	boolean
	binary
	address
	arnLike
	nullCheck
)

// order is the comparison of numbers and dates: the request's value stands left, the policy's right.
type order uint8

const (
	equals order = iota
	less
	lessOrEqual
	greater
	greaterOrEqual
)

// operators: name → operator. AWS writes them so; another spelling is refused, never taken for a different operator.
var operators = map[string]operator{
	"StringEquals":              {family: textEquals},
	"StringNotEquals":           {family: textEquals, negated: true},
	"StringEqualsIgnoreCase":    {family: textEqualsFolded},
	"StringNotEqualsIgnoreCase": {family: textEqualsFolded, negated: true},
	"StringLike":                {family: textLike},
	"StringNotLike":             {family: textLike, negated: true},
	"NumericEquals":             {family: numeric},
	"NumericNotEquals":          {family: numeric, negated: true},
	"NumericLessThan":           {family: numeric, order: less},
	"NumericLessThanEquals":     {family: numeric, order: lessOrEqual},
	"NumericGreaterThan":        {family: numeric, order: greater},
	"NumericGreaterThanEquals":  {family: numeric, order: greaterOrEqual},
	"DateEquals":                {family: date},
	"DateNotEquals":             {family: date, negated: true},
	"DateLessThan":              {family: date, order: less},
	"DateLessThanEquals":        {family: date, order: lessOrEqual},
	"DateGreaterThan":           {family: date, order: greater},
	"DateGreaterThanEquals":     {family: date, order: greaterOrEqual},
	"Bool":                      {family: boolean},
	"BinaryEquals":              {family: binary},
	"IpAddress":                 {family: address},
	"NotIpAddress":              {family: address, negated: true},
	"ArnEquals":                 {family: arnLike},
	"ArnNotEquals":              {family: arnLike, negated: true},
	"ArnLike":                   {family: arnLike},
	"ArnNotLike":                {family: arnLike, negated: true},
	"Null":                      {family: nullCheck},
}

// readOperator reads an operator with its prefix and suffix, which it puts into a condition. Null has neither.
func readOperator(text string) (op operator, c condition, ok bool) {
	name := text
	if rest, found := strings.CutPrefix(name, "ForAllValues:"); found {
		name, c.set = rest, allOf
	} else if rest, found := strings.CutPrefix(name, "ForAnyValue:"); found {
		name, c.set = rest, anyOneOf
	}
	name, c.ifExists = strings.CutSuffix(name, "IfExists")
	op, ok = operators[name]
	c.negated = op.negated
	return op, c, ok && (op.family != nullCheck || name == text)
}

// fits reports whether the operator makes sense for the type: where it does not, the author meant something else. Text
// may be compared with everything that is spelled in one way only, and dates also as numbers of seconds since 1970.
func (op operator) fits(t valueType) bool {
	switch op.family {
	case nullCheck:
		return true
	case textEquals, textEqualsFolded, textLike:
		return t != dateValue && t != ipValue
	case binary:
		return t == textValue || t == anyValue
	case numeric:
		return t == numberValue || t == dateValue || t == anyValue
	case date:
		return t == dateValue || t == anyValue
	case boolean:
		return t == boolValue || t == anyValue
	case address:
		return t == ipValue || t == anyValue
	case arnLike:
		return t == arnValue || t == anyValue
	}
	return false
}

// newTest returns a test without values, and what adds one, or says what is wrong with it.
func (op operator) newTest(k Key, variables bool) (test, func(text string) (problem string)) {
	switch op.family {
	case numeric:
		t := &numbers{order: op.order, dates: conditionKeys[k.Name].typ == dateValue}
		return t, t.add
	case date:
		t := &dates{order: op.order}
		return t, t.add
	case boolean:
		t := &booleans{}
		return t, t.add
	case binary:
		t := &texts{}
		return t, t.addBinary
	case address:
		t := &addresses{}
		return t, t.add
	case arnLike:
		t := &arns{variables: variables}
		return t, t.add
	default:
		t := &texts{variables: variables, wild: op.family == textLike, fold: op.family == textEqualsFolded}
		return t, t.add
	}
}
