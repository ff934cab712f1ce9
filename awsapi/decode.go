package awsapi

import (
	"bytes"
	"encoding/base64"
	"strconv"
)

// maxDepth bounds the nesting of a request. No AWS input goes deeper than
// six levels; an attacker's would otherwise grow the stack.
const maxDepth = 64

// A Decoder reads one JSON request into a generated type and collects the
// violations of the model's constraints on the way. It is strict where
// leniency would let two readers disagree: names are case-sensitive,
// duplicate names and invalid UTF-8 are refused, nothing may follow the value.
// Unknown members are skipped, as AWS does. A null member counts as absent.
//
// The first SerializationException ends the reading: every method then
// returns zero values, so that generated code needs no error checks.
// What a method returns never aliases the request body.
type Decoder struct {
	data       []byte
	pos        int
	depth      int
	err        *Error
	violations []violation
	path       []byte // of the structure being read: "tags.1.member."
	scratch    []byte // unescaped string; may hold plaintext
}

func (d *Decoder) reset(data []byte) {
	clear(d.scratch[:cap(d.scratch)])
	clear(d.violations)
	*d = Decoder{data: data, violations: d.violations[:0], path: d.path[:0], scratch: d.scratch[:0]}
}

// decode reads the whole body into in. An empty body stands for {}.
func (d *Decoder) decode(body []byte, in interface{ DecodeJSON(*Decoder) }) *Error {
	d.reset(body)
	if d.space(); d.pos == len(d.data) {
		d.reset([]byte("{}"))
	}
	in.DecodeJSON(d)
	if d.err == nil {
		if d.space(); d.pos != len(d.data) {
			d.malformed()
		}
	}
	if d.err != nil {
		return d.err
	}
	return d.validationError()
}

func (d *Decoder) fail(message string) {
	if d.err == nil {
		d.err = Errorf("SerializationException", "%s", message)
	}
	d.pos = len(d.data)
}

func (d *Decoder) malformed() { d.fail("The request body is not well-formed JSON.") }

func (d *Decoder) space() {
	for d.pos < len(d.data) {
		switch d.data[d.pos] {
		case ' ', '\t', '\n', '\r':
			d.pos++
		default:
			return
		}
	}
}

// peek skips white space and returns the next byte, 0 at the end.
func (d *Decoder) peek() byte {
	if d.pos < len(d.data) && d.data[d.pos] > ' ' {
		return d.data[d.pos]
	}
	d.space()
	if d.pos < len(d.data) {
		return d.data[d.pos]
	}
	return 0
}

// mismatch reports a value of another type than the member's, in AWS's words;
// target is empty where a structure or a list was expected.
func (d *Decoder) mismatch(target string) {
	var token string
	switch c := d.peek(); {
	case c == '{':
		d.fail("Start of structure or map found where not expected.")
		return
	case c == '[':
		d.fail("Start of list found where not expected")
		return
	case c == '"':
		token = "STRING_VALUE"
	case c == 't':
		token = "TRUE_VALUE"
	case c == 'f':
		token = "FALSE_VALUE"
	case c == '-' || '0' <= c && c <= '9':
		token = "NUMBER_VALUE"
	default:
		d.malformed()
		return
	}
	if target == "" {
		d.fail("Unexpected field type")
		return
	}
	d.fail(token + " can not be converted to " + target)
}

// literal consumes word, which the next byte has announced.
func (d *Decoder) literal(word string) bool {
	if !bytes.HasPrefix(d.data[d.pos:], []byte(word)) {
		d.malformed()
		return false
	}
	d.pos += len(word)
	return true
}

func (d *Decoder) enter() bool {
	d.pos++
	if d.depth++; d.depth > maxDepth {
		d.fail("The request body is nested too deeply.")
		return false
	}
	return true
}

// next steps to the following member or element: true when there is one.
func (d *Decoder) next(first bool, closing byte) bool {
	c := d.peek()
	if c == closing {
		d.pos++
		d.depth--
		return false
	}
	if !first {
		if c != ',' {
			d.malformed()
			return false
		}
		d.pos++
		if d.peek() == closing {
			d.malformed()
			return false
		}
	}
	return d.err == nil
}

// Object is the reading of one JSON object: which of the model's members have
// been seen, by their index.
type Object struct {
	d       *Decoder
	Name    []byte // the present member's name; valid until the next call
	seen    uint64 // members read, null or not
	set     uint64 // members that had a value
	open    bool
	started bool
	unknown map[string]struct{} // names that are not the model's
}

// Object begins an object.
func (d *Decoder) Object() Object {
	if d.peek() != '{' {
		d.mismatch("")
		return Object{d: d}
	}
	return Object{d: d, open: d.enter()}
}

// Next reads the next member's name into o.Name; false at the object's end.
func (o *Object) Next() bool {
	d := o.d
	if !o.open || !d.next(!o.started, '}') {
		o.open = false
		return false
	}
	o.started = true
	if d.peek() != '"' {
		d.malformed()
		return false
	}
	o.Name = d.stringBytes()
	if d.peek() != ':' {
		d.malformed()
		return false
	}
	d.pos++
	return d.err == nil
}

// Present records that member i has come and reports whether it has a value
// that must now be read: null counts as absent.
func (o *Object) Present(i int) bool {
	bit := uint64(1) << i
	if o.seen&bit != 0 {
		o.d.duplicate()
		return false
	}
	o.seen |= bit
	if o.d.null() {
		return false
	}
	o.set |= bit
	return true
}

// Has reports whether member i had a value.
func (o *Object) Has(i int) bool { return o.set&(1<<i) != 0 }

// Required reports whether member i had a value, and notes the violation when
// it had none. name is the member's name as AWS writes it in messages.
func (o *Object) Required(i int, name string) bool {
	if o.Has(i) {
		return true
	}
	o.d.violate(name, "null", "Member must not be null")
	return false
}

// Skip passes over a member that the model does not know.
func (o *Object) Skip() {
	if _, ok := o.unknown[string(o.Name)]; ok {
		o.d.duplicate()
		return
	}
	if o.unknown == nil {
		o.unknown = make(map[string]struct{})
	}
	o.unknown[string(o.Name)] = struct{}{}
	o.d.skip()
}

func (d *Decoder) duplicate() { d.fail("The request body has a duplicate member name.") }

func (d *Decoder) null() bool {
	return d.peek() == 'n' && d.literal("null")
}

// skip passes over one value, checking its syntax.
func (d *Decoder) skip() {
	switch c := d.peek(); {
	case c == '{':
		o := d.Object()
		for o.Next() {
			o.Skip()
		}
	case c == '[':
		if !d.enter() {
			return
		}
		for first := true; d.next(first, ']'); first = false {
			d.skip()
		}
	case c == '"':
		d.stringBytes()
	case c == 't':
		d.literal("true")
	case c == 'f':
		d.literal("false")
	case c == 'n':
		d.literal("null")
	default:
		d.number()
	}
}

// String reads a string.
func (d *Decoder) String() string {
	if d.peek() != '"' {
		d.mismatch("a String")
		return ""
	}
	return string(d.stringBytes())
}

// Enum reads a string; when it is one of values, theirs is returned and
// nothing is allocated.
func (d *Decoder) Enum(values []string) string {
	if d.peek() != '"' {
		d.mismatch("a String")
		return ""
	}
	raw := d.stringBytes()
	for _, v := range values {
		if string(raw) == v {
			return v
		}
	}
	return string(raw)
}

// Bool reads a boolean.
func (d *Decoder) Bool() bool {
	switch d.peek() {
	case 't':
		return d.literal("true")
	case 'f':
		d.literal("false")
	default:
		d.mismatch("a Boolean")
	}
	return false
}

// Int32 reads an integer.
func (d *Decoder) Int32() int32 {
	if c := d.peek(); c != '-' && (c < '0' || c > '9') {
		d.mismatch("an Integer")
		return 0
	}
	n, err := strconv.ParseInt(string(d.number()), 10, 32)
	if err != nil {
		d.fail("NUMBER_VALUE can not be converted to an Integer")
		return 0
	}
	return int32(n)
}

// Int64 reads an integer.
func (d *Decoder) Int64() int64 {
	if c := d.peek(); c != '-' && (c < '0' || c > '9') {
		d.mismatch("a Long")
		return 0
	}
	n, err := strconv.ParseInt(string(d.number()), 10, 64)
	if err != nil {
		d.fail("NUMBER_VALUE can not be converted to a Long")
		return 0
	}
	return n
}

// Time reads epoch seconds.
func (d *Decoder) Time() *Timestamp {
	if c := d.peek(); c != '-' && (c < '0' || c > '9') {
		d.mismatch("a Timestamp")
		return nil
	}
	t, ok := parseTimestamp(d.number())
	if !ok {
		d.fail("NUMBER_VALUE can not be converted to a Timestamp")
		return nil
	}
	return &t
}

// Blob reads base64 with padding, never nil: an empty string is an empty blob.
func (d *Decoder) Blob() []byte {
	if d.peek() != '"' {
		d.mismatch("a Blob")
		return nil
	}
	raw := d.stringBytes()
	blob := make([]byte, base64.StdEncoding.DecodedLen(len(raw)))
	n, err := base64.StdEncoding.Decode(blob, raw)
	// Package base64 skips line ends; then fewer bytes come out than the
	// length of the text promises.
	padding := bytes.Count(raw[max(0, len(raw)-2):], []byte("="))
	if err != nil || len(raw)%4 != 0 || n != len(blob)-padding {
		d.fail("STRING_VALUE can not be converted to a Blob")
		return nil
	}
	return blob[:n]
}

// Strings reads a list of strings, never nil. name is the list's member name
// as AWS writes it.
func (d *Decoder) Strings(name string, values []string) []string {
	list := []string{}
	for a := d.Array(name); a.Next(); {
		if a.Null() {
			continue
		}
		list = append(list, d.Enum(values))
	}
	return list
}

// Map reads a map of strings, never nil.
func (d *Decoder) Map() map[string]string {
	m := map[string]string{}
	for o := d.Object(); o.Next(); {
		key := string(o.Name)
		if _, ok := m[key]; ok {
			d.duplicate()
			break
		}
		m[key] = d.String()
	}
	return m
}

// Array is the reading of one JSON array.
type Array struct {
	d    *Decoder
	name string
	path int // length of d.path outside
	n    int
	open bool
}

// Array begins an array whose member name, as AWS writes it, is name.
func (d *Decoder) Array(name string) Array {
	if d.peek() != '[' {
		d.mismatch("")
		return Array{d: d}
	}
	return Array{d: d, name: name, path: len(d.path), open: d.enter()}
}

// Next steps to the next element; false at the array's end.
func (a *Array) Next() bool {
	d := a.d
	if !a.open {
		return false
	}
	d.path = d.path[:a.path]
	if a.open = d.next(a.n == 0, ']'); a.open {
		a.n++
	}
	return a.open
}

// Null reports that the element is null, which no list of AWS's may hold.
func (a *Array) Null() bool {
	if !a.d.null() {
		return false
	}
	a.d.violate(a.name+"."+strconv.Itoa(a.n)+".member", "null", "Member must not be null")
	return true
}

// Structure puts the element's path in front of the violations that reading
// it will find: "tags.1.member.".
func (a *Array) Structure() {
	d := a.d
	d.path = append(append(d.path, a.name...), '.')
	d.path = strconv.AppendInt(d.path, int64(a.n), 10)
	d.path = append(d.path, ".member."...)
}

// Enter puts name in front of the violations that reading a nested structure
// will find, until Leave is called with what it returned.
func (d *Decoder) Enter(name string) int {
	outside := len(d.path)
	d.path = append(append(d.path, name...), '.')
	return outside
}

// Leave ends what Enter began.
func (d *Decoder) Leave(outside int) { d.path = d.path[:outside] }
