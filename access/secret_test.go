package access_test

import (
	"bytes"
	stdjson "encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/keyturn/keyturn/access"
)

// However a secret is printed, logged or marshalled, and wherever it hides, it does not show.
func TestSecretsDoNotShow(t *testing.T) {
	const text = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
	s := access.NewSecret(text)
	issued := access.CreateAccessKeyOutput{AccessKey: access.NewAccessKey{AccessKeyId: "AKIA", SecretAccessKey: access.IssuedSecret{Secret: s}}}
	type hidden struct {
		secret access.Secret
		issued access.IssuedSecret
	}
	values := []any{
		s, &s,
		[]access.Secret{s},
		map[string]access.Secret{"a": s},
		access.IssuedSecret{Secret: s},
		issued, &issued,
		access.Credential{Secret: s},
		&access.Credential{Secret: s},
		access.EphemeralCredential{Secret: s},
		hidden{s, access.IssuedSecret{Secret: s}},
		&hidden{secret: s},
	}
	for _, v := range values {
		var out strings.Builder
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&out, verb, v)
		}
		fmt.Fprintln(&out, v)
		b, err := stdjson.Marshal(v)
		fmt.Fprintln(&out, string(b), err)
		for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(handler).Info("x", "value", v)
		}
		shown := out.String()
		if strings.Contains(shown, text) || strings.Contains(strings.ToLower(shown), fmt.Sprintf("%x", text)[:16]) {
			t.Errorf("%T shows the secret: %s", v, shown)
		}
	}
	if b, err := json.Marshal(access.Credential{Secret: s}); err != nil || bytes.Contains(b, []byte(text)) {
		t.Errorf("the wire's encoder shows the secret of a credential: %s, %v", b, err)
	}
	if s.Reveal() != text || (access.Secret{}).Reveal() != "" {
		t.Error("Reveal gives another text")
	}
}

// The one way out: the answer to CreateAccessKey in the encoding of the wire.
func TestIssuedSecretOnTheWire(t *testing.T) {
	const text = "a/b+c\"<>"
	out := access.CreateAccessKeyOutput{AccessKey: access.NewAccessKey{AccessKeyId: "AKIA", SecretAccessKey: access.IssuedSecret{Secret: access.NewSecret(text)}}}
	b, err := json.Marshal(&out)
	if err != nil || !bytes.Contains(b, []byte(`"SecretAccessKey":"a/b+c\"<>"`)) {
		t.Fatalf("%s, %v", b, err)
	}
	var back access.CreateAccessKeyOutput
	if err := json.Unmarshal(b, &back); err != nil || back.AccessKey.SecretAccessKey.Reveal() != text {
		t.Errorf("read back: %v", err)
	}
	if err := json.Unmarshal([]byte(`{"AccessKey":{"SecretAccessKey":17}}`), &back); err == nil {
		t.Error("a number is read as a secret")
	}
}
