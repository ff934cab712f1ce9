package main

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// alwaysSent are members that AWS sends although they are empty and the model
// does not say so.
var alwaysSent = map[string]bool{"KeyMetadata.Description": true}

// A writer prints Go code for the model; the first thing that it cannot
// express is kept in err.
type writer struct {
	bytes.Buffer
	*model
	err error
}

func (w *writer) printf(format string, a ...any) { fmt.Fprintf(&w.Buffer, format, a...) }

func (w *writer) unsupported(format string, a ...any) {
	if w.err == nil {
		w.err = fmt.Errorf("the generator cannot express "+format, a...)
	}
}

func (w *writer) service() {
	w.printf("// Facts about the service as a whole.\nconst (\n")
	w.printf("\tapiTargetPrefix = %q\n\tapiSigningName = %q\n)\n\n", w.TargetPrefix, w.SigningName)
	w.printf("// apiOperations are the operations of the model, whether they exist here or not.\n")
	w.printf("var apiOperations = []string{\n")
	for _, name := range slices.Sorted(maps.Keys(w.Operations)) {
		w.printf("\t%q,\n", name)
	}
	w.printf("}\n\n")
}

func (w *writer) enums() {
	for _, name := range slices.Sorted(maps.Keys(w.Shapes)) {
		s := w.Shapes[name]
		if s.Enum == nil {
			continue
		}
		w.printf("// Values of %s.\nconst (\n", name)
		for _, v := range s.Enum {
			w.printf("\t%s%s = %q\n", name, camel(v), v)
		}
		w.printf(")\n\n")
	}
}

// camel names an enum value as aws-sdk-go-v2 does: RSA_2048 is Rsa2048, names
// that are in camel case already stay.
func camel(v string) string {
	var b strings.Builder
	for word := range strings.FieldsFuncSeq(v, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		if word == strings.ToUpper(word) {
			word = strings.ToLower(word)
		}
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}

// constraints prints one variable for each shape that constrains an input.
func (w *writer) constraints() {
	w.printf("// What the model demands of the members of inputs.\nvar (\n")
	for _, name := range slices.Sorted(maps.Keys(w.used)) {
		s := w.Shapes[name]
		v := constraintName(name)
		switch {
		case s.Type == "string" && s.constrained():
			w.printf("\t%s = awsapi.Text{", v)
			if s.Enum != nil {
				w.printf("Enum: []string{%s}}\n", quoted(s.Enum))
				continue
			}
			w.printf("Min: %d, Max: %d", s.Min, s.Max)
			if s.Pattern != "" {
				w.printf(", Pattern: awsapi.NewPattern(`%s`, `%s`)", s.Pattern, re2(s.Pattern))
			}
			if s.Sensitive {
				w.printf(", Sensitive: true")
			}
			w.printf("}\n")
		case s.constrained():
			w.printf("\t%s = awsapi.Limits{Min: %d, Max: %d}\n", v, s.Min, s.Max)
		}
	}
	w.printf(")\n\n")
}

func (s *shape) constrained() bool {
	return s.Min != 0 || s.Max != 0 || s.Pattern != "" || s.Enum != nil
}

func constraintName(shape string) string { return "constrain" + shape }

func quoted(list []string) string {
	var b strings.Builder
	for i, v := range list {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", v)
	}
	return b.String()
}

var javaEscape = regexp.MustCompile(`\\u([0-9a-fA-F]{4})`)

// re2 rewrites what Java's regular expressions, which AWS writes, spell
// differently from Go's.
func re2(pattern string) string { return javaEscape.ReplaceAllString(pattern, `\x{$1}`) }

// lower is how AWS writes a member's name in messages and in CloudTrail.
func lower(member string) string { return strings.ToLower(member[:1]) + member[1:] }

// goType is the Go type of a member.
func (w *writer) goType(s *shape, name string, required bool) string {
	switch s.Type {
	case "string":
		if s.Sensitive {
			return "awsapi.SensitiveString"
		}
		return "string"
	case "blob":
		if s.Sensitive {
			return "awsapi.Sensitive"
		}
		return "[]byte"
	case "boolean", "integer", "long":
		t := map[string]string{"boolean": "bool", "integer": "int32", "long": "int64"}[s.Type]
		if name == "BooleanType" || required {
			return t
		}
		return "*" + t
	case "timestamp":
		return "*awsapi.Timestamp"
	case "list":
		inner := w.Shapes[s.Member.Shape]
		if inner.Type == "structure" {
			return "[]" + s.Member.Shape
		}
		if inner.Type != "string" || inner.Sensitive {
			w.unsupported("list %s of %s", name, s.Member.Shape)
		}
		return "[]string"
	case "map":
		k, v := w.Shapes[s.Key.Shape], w.Shapes[s.Value.Shape]
		if k.Type != "string" || v.Type != "string" || k.constrained() || v.constrained() || k.Sensitive || v.Sensitive || s.constrained() {
			w.unsupported("map %s", name)
		}
		return "map[string]string"
	case "structure":
		return "*" + name
	}
	w.unsupported("type %s of %s", s.Type, name)
	return ""
}

func (w *writer) structure(name string) {
	s := w.Shapes[name]
	w.printf("// %s is the structure of that name in the API model.\ntype %s struct {\n", name, name)
	for _, m := range w.memberOrder[name] {
		r := s.members[m]
		t := w.goType(w.Shapes[r.Shape], r.Shape, slices.Contains(s.Required, m))
		if r.Deprecated {
			w.printf("\t%s %s // deprecated by AWS\n", m, t)
			continue
		}
		w.printf("\t%s %s\n", m, t)
	}
	w.printf("}\n\n")
	if w.input[name] {
		w.decoder(name, s)
	}
	if w.output[name] {
		w.printf("// AppendJSON appends the structure as it goes over the wire.\n")
		w.appender(name, s, "AppendJSON")
	}
	w.printf("// AppendAudit appends what the audit log keeps: no blob, nothing sensitive.\n")
	w.appender(name, s, "AppendAudit")
}

func (w *writer) decoder(name string, s *shape) {
	order := w.memberOrder[name]
	w.printf("// DecodeJSON reads the structure and checks it against the model.\n")
	w.printf("func (s *%s) DecodeJSON(d *awsapi.Decoder) {\n\to := d.Object()\n\tfor o.Next() {\n", name)
	if len(order) == 0 {
		w.printf("\t\to.Skip()\n\t}\n}\n\n")
		return
	}
	w.printf("\t\tswitch string(o.Name) {\n")
	for i, m := range order {
		r := s.members[m]
		w.printf("\t\tcase %q:\n\t\t\tif o.Present(%d) {\n", m, i)
		w.read(m, r.Shape, slices.Contains(s.Required, m))
		w.printf("\t\t\t}\n")
	}
	w.printf("\t\tdefault:\n\t\t\to.Skip()\n\t\t}\n\t}\n")
	for i, m := range order {
		has := fmt.Sprintf("o.Has(%d)", i)
		required := slices.Contains(s.Required, m)
		if required {
			has = fmt.Sprintf("o.Required(%d, %q)", i, lower(m))
		}
		check := w.check(m, s.members[m].Shape, required)
		switch {
		case check != "":
			w.printf("\tif %s {\n%s\t}\n", has, check)
		case required:
			w.printf("\t%s\n", has)
		}
	}
	w.printf("}\n\n")
}

// read prints the statements that read a member's value.
func (w *writer) read(m, shapeName string, required bool) {
	s := w.Shapes[shapeName]
	t := w.goType(s, shapeName, required)
	assign := func(expr string) { w.printf("\t\t\t\ts.%s = %s\n", m, expr) }
	point := func(expr string) {
		if strings.HasPrefix(t, "*") {
			w.printf("\t\t\t\tv := %s\n", expr)
			expr = "&v"
		}
		assign(expr)
	}
	switch s.Type {
	case "string":
		switch {
		case s.Enum != nil:
			assign("d.Enum(" + constraintName(shapeName) + ".Enum)")
		case s.Sensitive:
			assign("awsapi.SensitiveString(d.String())")
		default:
			assign("d.String()")
		}
	case "blob":
		assign("d.Blob()")
	case "boolean":
		point("d.Bool()")
	case "integer":
		point("d.Int32()")
	case "long":
		point("d.Int64()")
	case "timestamp":
		assign("d.Time()")
	case "map":
		assign("d.Map()")
	case "structure":
		w.printf("\t\t\t\toutside := d.Enter(%q)\n\t\t\t\ts.%s = new(%s)\n", lower(m), m, shapeName)
		w.printf("\t\t\t\ts.%s.DecodeJSON(d)\n\t\t\t\td.Leave(outside)\n", m)
	case "list":
		inner := s.Member.Shape
		switch in := w.Shapes[inner]; {
		case in.Type == "structure":
			w.printf("\t\t\t\ts.%s = []%s{}\n", m, inner)
			w.printf("\t\t\t\tfor a := d.Array(%q); a.Next(); {\n\t\t\t\t\tif a.Null() {\n\t\t\t\t\t\tcontinue\n\t\t\t\t\t}\n", lower(m))
			w.printf("\t\t\t\t\ta.Structure()\n\t\t\t\t\tvar e %s\n\t\t\t\t\te.DecodeJSON(d)\n\t\t\t\t\ts.%s = append(s.%s, e)\n\t\t\t\t}\n", inner, m, m)
		case in.Enum != nil:
			assign(fmt.Sprintf("d.Strings(%q, %s.Enum)", lower(m), constraintName(inner)))
		default:
			assign(fmt.Sprintf("d.Strings(%q, nil)", lower(m)))
		}
	}
}

// check prints the statements that hold a member's value against the model;
// nothing when the model demands nothing.
func (w *writer) check(m, shapeName string, required bool) string {
	s := w.Shapes[shapeName]
	v := "s." + m
	if s.Type == "list" {
		var b strings.Builder
		if s.constrained() {
			fmt.Fprintf(&b, "\t\t%s.CheckList(d, %q, len(%s))\n", constraintName(shapeName), lower(m), v)
		}
		if inner := w.Shapes[s.Member.Shape]; inner.Type == "string" && inner.constrained() {
			fmt.Fprintf(&b, "\t\t%s.CheckAll(d, %q, %s)\n", constraintName(s.Member.Shape), lower(m), v)
		}
		return b.String()
	}
	if !s.constrained() {
		return ""
	}
	method := ""
	switch s.Type {
	case "string":
		method = "Check"
		if s.Sensitive {
			v = "string(" + v + ")"
		}
	case "blob":
		method = "CheckBlob"
	case "integer", "long":
		method = "CheckInt"
		if strings.HasPrefix(w.goType(s, shapeName, required), "*") {
			v = "*" + v
		}
		v = "int64(" + v + ")"
	default:
		w.unsupported("a constraint on %s %s", s.Type, shapeName)
	}
	return fmt.Sprintf("\t\t%s.%s(d, %q, %s)\n", constraintName(shapeName), method, lower(m), v)
}

// appender prints AppendJSON or AppendAudit.
func (w *writer) appender(name string, s *shape, method string) {
	w.printf("func (s *%s) %s(b []byte) []byte {\n\tb = append(b, '{')\n", name, method)
	for _, m := range w.memberOrder[name] {
		r := s.members[m]
		in := w.Shapes[r.Shape]
		key := m
		if method == "AppendAudit" {
			key = lower(m)
			if in.Sensitive || in.Type == "blob" {
				continue
			}
		}
		required := slices.Contains(s.Required, m)
		t := w.goType(in, r.Shape, required)
		v := "s." + m
		present := ""
		switch always := required || alwaysSent[name+"."+m]; {
		case t == "bool" || t == "int32" || t == "int64":
		case always && in.Type == "string":
		case in.Type == "string":
			present = v + ` != ""`
		default:
			present = v + " != nil"
		}
		body := w.appendValue(v, t, in, method)
		body = fmt.Sprintf("\tb = append(b, `%q:`...)\n%s\tb = append(b, ',')\n", key, body)
		if present != "" {
			body = "\tif " + present + " {\n" + body + "\t}\n"
		}
		w.printf("%s", body)
	}
	w.printf("\treturn awsapi.CloseObject(b)\n}\n\n")
}

func (w *writer) appendValue(v, t string, s *shape, method string) string {
	deref := v
	if strings.HasPrefix(t, "*") {
		deref = "*" + v
	}
	switch s.Type {
	case "string":
		if s.Sensitive {
			v = "string(" + v + ")"
		}
		return "\tb = awsapi.AppendString(b, " + v + ")\n"
	case "blob":
		return "\tb = awsapi.AppendBlob(b, " + v + ")\n"
	case "boolean":
		return "\tb = awsapi.AppendBool(b, " + deref + ")\n"
	case "integer", "long":
		return "\tb = awsapi.AppendInt(b, int64(" + deref + "))\n"
	case "timestamp":
		return "\tb = awsapi.AppendTimestamp(b, " + deref + ")\n"
	case "map":
		return "\tb = awsapi.AppendMap(b, " + v + ")\n"
	case "structure":
		return "\tb = " + v + "." + method + "(b)\n"
	case "list":
		if t == "[]string" {
			return "\tb = awsapi.AppendStrings(b, " + v + ")\n"
		}
		return fmt.Sprintf("\tb = append(b, '[')\n\tfor i := range %s {\n\t\tb = append(%s[i].%s(b), ',')\n\t}\n\tb = awsapi.CloseArray(b)\n", v, v, method)
	}
	w.unsupported("the encoding of %s", s.Type)
	return ""
}
