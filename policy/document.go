package policy

import (
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// A Document is the text of a policy taken apart, to be written again in one form whatever it looked like: elements in
// AWS's order, lists of one as the one, principals sorted and each once. What Parse makes of it stays the same.
type Document struct{ root node }

// A node is a JSON value. Booleans and numbers, which only conditions have, are their text: AWS reads and writes them so.
type node struct {
	text    string
	members []member // of an object
	list    []node
	kind    jsontext.Kind // '"', '{' or '['
}

type member struct {
	name  string
	value node
}

// ReadDocument takes apart a text that Parse accepts. Others may fail too.
func ReadDocument(text []byte) (*Document, error) {
	d := newDecoder(text)
	root, err := d.node()
	if err == nil {
		err = d.end()
	}
	if err == nil && root.kind != '{' {
		err = refuse("the document is no object")
	}
	if err != nil {
		return nil, &Error{Problem: problem(err)}
	}
	doc := &Document{root: root}
	doc.arrange()
	return doc, nil
}

func (d *decoder) node() (n node, err error) {
	switch n.kind = d.peek(); n.kind {
	case '{':
		seen := map[string]bool{}
		err = d.object(func(name string) error {
			if seen[name] {
				return refuse("%s is given twice", strconv.Quote(name))
			}
			seen[name] = true
			value, err := d.node()
			n.members = append(n.members, member{name, value})
			return err
		})
		return n, err
	case '[':
		if _, err := d.d.ReadToken(); err != nil {
			return n, err
		}
		for d.peek() != ']' {
			item, err := d.node()
			if err != nil {
				return n, err
			}
			n.list = append(n.list, item)
		}
		_, err = d.d.ReadToken()
		return n, err
	}
	token, err := d.d.ReadToken()
	n.text, n.kind = token.String(), '"'
	return n, err
}

// elements is AWS's order of the elements of documents and statements.
var elements = []string{
	"Version", "Id", "Statement",
	"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition",
}

func (n *node) arrange() {
	slices.SortStableFunc(n.members, func(a, b member) int {
		return slices.Index(elements, a.name) - slices.Index(elements, b.name)
	})
}

func (n *node) member(name string) *node {
	for i := range n.members {
		if n.members[i].name == name {
			return &n.members[i].value
		}
	}
	return nil
}

func (d *Document) arrange() {
	d.root.arrange()
	statements := d.root.member("Statement")
	if statements == nil {
		return
	}
	if statements.kind != '[' { // the one list that stays a list
		*statements = node{kind: '[', list: []node{*statements}}
	}
	for i := range statements.list {
		statements.list[i].arrange()
	}
	d.RenamePrincipals(func(name string) string { return name })
}

// RenamePrincipals puts rename(name) in the place of every name in {"AWS": …} of Principal and NotPrincipal.
func (d *Document) RenamePrincipals(rename func(name string) string) {
	statements := d.root.member("Statement")
	if statements == nil {
		return
	}
	for i := range statements.list {
		for _, element := range []string{"Principal", "NotPrincipal"} {
			if p := statements.list[i].member(element); p != nil {
				if names := p.member("AWS"); names != nil {
					names.rename(rename)
				}
			}
		}
	}
}

func (n *node) rename(rename func(string) string) {
	if n.kind == '"' {
		n.text = rename(n.text)
		return
	}
	for i := range n.list {
		n.list[i].text = rename(n.list[i].text)
	}
	slices.SortFunc(n.list, func(a, b node) int { return strings.Compare(a.text, b.text) })
	n.list = slices.CompactFunc(n.list, func(a, b node) bool { return a.text == b.text })
}

// Compact is the document without white space, for those who keep it.
func (d *Document) Compact() string {
	w := writer{}
	w.node(&d.root, 0, "")
	return string(w.out)
}

// String is the document as AWS prints a key policy: `"Version" : "2012-10-17"`, objects indented by two, lists in a line.
// A document without a version is of the oldest, and says so.
func (d *Document) String() string {
	root := d.root
	if root.member("Version") == nil {
		root.members = append([]member{{"Version", node{kind: '"', text: "2008-10-17"}}}, root.members...)
	}
	w := writer{pretty: true}
	w.node(&root, 0, "")
	return string(w.out)
}

// A writer prints nodes.
type writer struct {
	out    []byte
	pretty bool
}

// node prints n, the value of the member name, at an indentation of depth.
func (w *writer) node(n *node, depth int, name string) {
	switch {
	case n.kind == '"':
		w.text(n.text)
	case n.kind == '{':
		w.object(n.members, depth)
	case len(n.list) == 1 && name != "Statement":
		w.node(&n.list[0], depth, "")
	default:
		w.put("[")
		for i := range n.list {
			if i > 0 {
				w.put(",")
			}
			w.space()
			w.node(&n.list[i], depth, "")
		}
		w.space()
		w.put("]")
	}
}

func (w *writer) object(members []member, depth int) {
	w.put("{")
	for i := range members {
		if i > 0 {
			w.put(",")
		}
		w.line(depth + 1)
		w.text(members[i].name)
		w.space()
		w.put(":")
		w.space()
		w.node(&members[i].value, depth+1, members[i].name)
	}
	if len(members) > 0 {
		w.line(depth)
	} else {
		w.space()
	}
	w.put("}")
}

func (w *writer) put(s string) { w.out = append(w.out, s...) }

func (w *writer) text(s string) {
	// The text was decoded from JSON, so it is UTF-8 and has a form in JSON.
	w.out, _ = jsontext.AppendQuote(w.out, s)
}

func (w *writer) space() {
	if w.pretty {
		w.put(" ")
	}
}

func (w *writer) line(depth int) {
	if w.pretty {
		w.put("\n" + strings.Repeat("  ", depth))
	}
}
