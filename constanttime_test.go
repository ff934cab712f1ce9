package keyturn_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// comparesPublic: files that compare bytes which everybody may know, or which the
// caller has given himself, and why that is so.
var comparesPublic = map[string]string{
	"keystore/import.go":   "the public half that came with imported material against the one computed from it",
	"keystore/mldsa_mu.go": "the challenge of a signature, which is public",
}

// Comparing bytes the ordinary way takes longer the more of them agree: whoever
// may guess a MAC, a signature or a token as often as he likes learns it byte by
// byte. So the packages that answer strangers compare with crypto/subtle only.
// A clock would not show it reliably; the source does.
func TestSecretsAreComparedInConstantTime(t *testing.T) {
	found := map[string]bool{}
	for dir, files := range sources(t) {
		switch pkg, _, _ := strings.Cut(filepath.ToSlash(dir), "/"); pkg {
		case "access", "awsapi", "keystore", "kms", "sts":
		default:
			continue
		}
		if strings.HasSuffix(dir, "keystoretest") {
			continue
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			path := filepath.ToSlash(filepath.Join(dir, filepath.Base(name)))
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				s, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				x, ok := s.X.(*ast.Ident)
				if !ok || x.Name != "bytes" || s.Sel.Name != "Equal" && s.Sel.Name != "Compare" {
					return true
				}
				found[path] = true
				if comparesPublic[path] == "" {
					t.Errorf("%s: bytes.%s: use crypto/subtle, or say in comparesPublic why the bytes are no secret", set.Position(n.Pos()), s.Sel.Name)
				}
				return true
			})
		}
	}
	for path := range comparesPublic {
		if !found[path] {
			t.Errorf("%s compares no bytes any more: take it out of comparesPublic", path)
		}
	}
}
