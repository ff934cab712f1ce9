package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// The generated files in the tree are what the generator makes of the models
// in the tree.
func TestGeneratedFilesAreCurrent(t *testing.T) {
	for _, c := range []struct {
		model, pkg, file string
		generate         func(source []byte, name, pkg string) ([]byte, error)
	}{
		{"../testdata/api.json", "awsapi_test", "../api_gen_test.go", Generate},
		{"../../kms/api.json", "kms", "../../kms/api_gen.go", Generate},
		{"../../kms/api.json", "kms", "../../kms/api_gen_test.go", GenerateTest},
	} {
		source, err := os.ReadFile(c.model)
		if err != nil {
			t.Fatal(err)
		}
		want, err := c.generate(source, "api.json", c.pkg)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(c.file)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s is not current: run go generate ./...", c.file)
		}
	}
}

// small wraps shapes into a model with one operation, whose input is In.
func small(shapes string) string {
	return `{"service":"s","protocol":"awsJson1_1","targetPrefix":"S","signingName":"s",
		"operations":{"Do":{"input":"In","output":null,"errors":[]}},"shapes":{` + shapes + `}}`
}

// A model that says what the generator cannot express must not become code
// that silently lacks it.
func TestModelsThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ model, says string }{
		"unknown trait":    {small(`"In":{"type":"structure","members":{"A":{"shape":"S"}}},"S":{"type":"string","unique":true}`), `unknown field "unique"`},
		"other protocol":   {strings.Replace(small(""), "awsJson1_1", "rest", 1), "protocol"},
		"missing shape":    {small(`"In":{"type":"structure","members":{"A":{"shape":"S"}}}`), "there is no shape S"},
		"missing input":    {small(``), "there is no shape In"},
		"missing required": {small(`"In":{"type":"structure","required":["B"],"members":{"A":{"shape":"S"}}},"S":{"type":"string"}`), "requires B"},
		"constrained map":  {small(`"In":{"type":"structure","members":{"A":{"shape":"M"}}},"M":{"type":"map","key":{"shape":"S"},"value":{"shape":"S"}},"S":{"type":"string","max":3}`), "map M"},
		"list of lists":    {small(`"In":{"type":"structure","members":{"A":{"shape":"L"}}},"L":{"type":"list","member":{"shape":"K"}},"K":{"type":"list","member":{"shape":"S"}},"S":{"type":"string"}`), "list L"},
		"sensitive list":   {small(`"In":{"type":"structure","members":{"A":{"shape":"L"}}},"L":{"type":"list","member":{"shape":"S"}},"S":{"type":"string","sensitive":true}`), "list L"},
		"other type":       {small(`"In":{"type":"structure","members":{"A":{"shape":"D"}}},"D":{"type":"document"}`), "document"},
		"limited boolean":  {small(`"In":{"type":"structure","members":{"A":{"shape":"B"}}},"B":{"type":"boolean","max":1}`), "constraint"},
		"not JSON":         {"{", "reading"},
	} {
		if _, err := Generate([]byte(c.model), "api.json", "p"); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := small(`"In":{"type":"structure","members":{"A":{"shape":"S"}}},"S":{"type":"string"}`)
	code, err := Generate([]byte(good), "api.json", "p")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(code), `"fmt"`) {
		t.Error("fmt is imported for nothing")
	}
}

func TestEnumNames(t *testing.T) {
	for value, want := range map[string]string{
		"RSA_2048": "Rsa2048", "ECC_SECG_P256K1": "EccSecgP256k1", "RSAES_PKCS1_V1_5": "RsaesPkcs1V15", "SM2PKE": "Sm2pke",
		"GenerateDataKeyPairWithoutPlaintext": "GenerateDataKeyPairWithoutPlaintext", "PendingDeletion": "PendingDeletion", "tag-key": "TagKey",
	} {
		if got := camel(value); got != want {
			t.Errorf("%s is %s, want %s", value, got, want)
		}
	}
}

func TestJavaEscapesAreRewritten(t *testing.T) {
	got := re2(`[\u0009\u000A\u000D\u0020-\u00FF]+\d`)
	if want := `[\x{0009}\x{000A}\x{000D}\x{0020}-\x{00FF}]+\d`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if !regexp.MustCompile(`^` + got + `$`).MatchString("aé\n5") {
		t.Error("it does not match")
	}
}
