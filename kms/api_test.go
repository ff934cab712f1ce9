package kms_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// The generated API and the SDK's are made from two copies of AWS's model;
// these tests find where the copies differ.

func TestOperationsAreTheSDKs(t *testing.T) {
	client := reflect.TypeFor[*sdk.Client]()
	seen := map[string]bool{}
	for i := range client.NumMethod() {
		m := client.Method(i)
		// func(*Client, context.Context, *SignInput, ...func(*Options)) (*SignOutput, error)
		if !m.Type.IsVariadic() || m.Type.NumIn() != 4 {
			continue
		}
		seen[m.Name] = true
		op, ok := apiOperations[m.Name]
		if !ok {
			t.Errorf("operation %s is missing", m.Name)
			continue
		}
		compareMembers(t, m.Name+"'s input", op[0], m.Type.In(2).Elem())
		compareMembers(t, m.Name+"'s output", op[1], m.Type.Out(0).Elem())
	}
	for name := range apiOperations {
		if !seen[name] {
			t.Errorf("operation %s is not the SDK's", name)
		}
	}
	if len(seen) < 50 {
		t.Errorf("only %d operations seen", len(seen))
	}
}

// compareMembers holds a structure against the SDK's, and those inside it.
func compareMembers(t *testing.T, where string, ours any, theirs reflect.Type) {
	t.Helper()
	var own reflect.Type
	names := []string{}
	if ours != nil {
		own = reflect.TypeOf(ours)
		for i := range own.NumField() {
			names = append(names, own.Field(i).Name)
		}
	}
	for i := range theirs.NumField() {
		f := theirs.Field(i)
		if !f.IsExported() || f.Name == "ResultMetadata" {
			continue
		}
		at := slices.Index(names, f.Name)
		if at < 0 {
			t.Errorf("%s lacks %s", where, f.Name)
			continue
		}
		names = slices.Delete(names, at, at+1)
		mine, _ := own.FieldByName(f.Name)
		compareTypes(t, where+"."+f.Name, mine.Type, f.Type)
	}
	for _, n := range names {
		t.Errorf("%s has %s, the SDK has not", where, n)
	}
}

func compareTypes(t *testing.T, where string, ours, theirs reflect.Type) {
	t.Helper()
	if theirs.Kind() == reflect.Pointer {
		theirs = theirs.Elem()
	}
	if ours.Kind() == reflect.Pointer {
		ours = ours.Elem()
	}
	switch {
	case theirs.PkgPath() == "time" || ours.Name() == "Timestamp":
		if theirs.Name() != "Time" || ours.Name() != "Timestamp" {
			t.Errorf("%s is %v, the SDK's %v", where, ours, theirs)
		}
	case theirs.Kind() != ours.Kind():
		t.Errorf("%s is %v, the SDK's %v", where, ours, theirs)
	case theirs.Kind() == reflect.Struct:
		compareMembers(t, where, reflect.Zero(ours).Interface(), theirs)
	case theirs.Kind() == reflect.Slice || theirs.Kind() == reflect.Map:
		compareTypes(t, where+"[]", ours.Elem(), theirs.Elem())
	default:
		if _, ok := theirs.MethodByName("Values"); ok {
			compareEnum(t, where, theirs)
		}
	}
}

func compareEnum(t *testing.T, where string, theirs reflect.Type) {
	t.Helper()
	ours, ok := apiEnums[theirs.Name()]
	if !ok {
		t.Errorf("%s: enum %s is missing", where, theirs.Name())
		return
	}
	values := reflect.Zero(theirs).MethodByName("Values").Call(nil)[0]
	known := map[string]bool{}
	for i := range values.Len() {
		known[values.Index(i).String()] = true
	}
	for _, v := range ours {
		if !known[v] {
			t.Errorf("%s: %s has %s, the SDK has not", where, theirs.Name(), v)
		}
		delete(known, v)
	}
	for v := range known {
		t.Errorf("%s: %s lacks %s", where, theirs.Name(), v)
	}
}

// The constants are called what the SDK calls them, so that nobody has to
// learn two sets of names.
func TestConstantsAreNamedAsTheSDKs(t *testing.T) {
	dir, err := exec.Command("go", "list", "-f", "{{.Dir}}", reflect.TypeFor[types.KeyMetadata]().PkgPath()).Output()
	if err != nil {
		t.Fatal(err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(dir)), "enums.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := map[string]string{} // constant → value
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			theirs[spec.Names[0].Name] = value
		}
		return true
	})
	if len(theirs) < 100 {
		t.Fatalf("only %d constants found", len(theirs))
	}
	for _, enum := range apiEnums {
		for name, value := range enum {
			if theirs[name] != value {
				t.Errorf("%s is %q, the SDK's %q", name, value, theirs[name])
			}
		}
	}
}
