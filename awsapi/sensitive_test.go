package awsapi_test

import (
	"bytes"
	stdjson "encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/keyturn/keyturn/awsapi"
)

const treasure = "geheim-treasure"

// leaks are the ways in which the treasure could show.
var leaks = []string{
	"geheim", "Z2VoZWlt", // itself, base64
	fmt.Sprintf("%x", "geheim"), fmt.Sprintf("%X", "geheim"), // hex
	"103 101 104", "103, 101, 104", // decimal bytes
	"0x67, 0x65",
}

func assertRedacted(t *testing.T, how, text string) {
	t.Helper()
	for _, l := range leaks {
		if strings.Contains(text, l) {
			t.Errorf("%s shows %s", how, text)
		}
	}
}

func TestNothingSensitiveIsPrinted(t *testing.T) {
	sign := SignRequest{KeyId: "k", Message: awsapi.Sensitive(treasure)}
	login := Login{Name: "n", Password: treasure}
	out := ShapeResponse{Login: &login, Plaintext: awsapi.Sensitive(treasure)}
	for _, v := range []any{
		sign, &sign, login, &login, out,
		[]SignRequest{sign},
		map[string]any{"in": sign, "p": login.Password},
		sign.Message, &sign.Message, login.Password, &login.Password,
		[]awsapi.Sensitive{sign.Message},
		struct{ Login Login }{login},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%o", "%b", "%U", "%t", "%20.10v", "%T"} {
			assertRedacted(t, fmt.Sprintf("%s of %T", verb, v), fmt.Sprintf(verb, v))
		}
		assertRedacted(t, fmt.Sprintf("Sprint of %T", v), fmt.Sprint(v))
		assertRedacted(t, fmt.Sprintf("an error with %T", v), fmt.Errorf("signing %v: %w", v, awsapi.Errorf("X", "%v", v)).Error())
		for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
			"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
			"json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
		} {
			var b bytes.Buffer
			slog.New(handler(&b)).Info("x", "v", v, slog.Group("g", "v", v))
			assertRedacted(t, "slog "+name, b.String())
		}
		if b, err := stdjson.Marshal(v); err == nil {
			assertRedacted(t, "encoding/json", string(b))
		}
		if b, err := json.Marshal(v); err == nil {
			assertRedacted(t, "go-json-experiment", string(b))
		}
		if b, err := xml.Marshal(v); err == nil {
			assertRedacted(t, "encoding/xml", string(b))
		}
	}
	assertRedacted(t, "AppendAudit", string(sign.AppendAudit(nil))+string(login.AppendAudit(nil))+string(out.AppendAudit(nil)))
	if string(sign.Message.Reveal()) != treasure || login.Password.Reveal() != treasure {
		t.Error("Reveal does not")
	}
}

func TestSensitiveReads(t *testing.T) {
	for name, unmarshal := range map[string]func([]byte, any) error{
		"encoding/json":      stdjson.Unmarshal,
		"go-json-experiment": func(b []byte, v any) error { return json.Unmarshal(b, v) },
	} {
		var v struct {
			B awsapi.Sensitive
			S awsapi.SensitiveString
		}
		if err := unmarshal([]byte(`{"B":"Z2VoZWltLXRyZWFzdXJl","S":"geheim-treasure"}`), &v); err != nil || string(v.B.Reveal()) != treasure || v.S.Reveal() != treasure {
			t.Errorf("%s: %q %q %v", name, v.B.Reveal(), v.S.Reveal(), err)
		}
		for _, bad := range []string{`{"B":"geheim!"}`, `{"B":["geheim"]}`, `{"S":{"geheim":1}}`} {
			err := unmarshal([]byte(bad), &v)
			if err == nil {
				t.Errorf("%s reads %s", name, bad)
				continue
			}
			assertRedacted(t, name+"'s error", err.Error())
		}
	}
}

// The handler's refusals of inputs must not quote what was sensitive in them.
func TestRefusalsDoNotQuoteSensitiveValues(t *testing.T) {
	for _, body := range []string{
		`{"Login":{"Name":"n","Password":"geheim` + strings.Repeat("x", 40) + `"}}`,
		`{"Blob":"geheim!"}`,
		`{"Login":{"Name":"n","Password":["geheim"]}}`,
		`{"Login":{"Name":"n","Password":"geheim\x"}}`,
	} {
		err := awsapi.DecodeJSON([]byte(body), new(ShapeRequest))
		if err == nil {
			t.Errorf("%s is accepted", body)
			continue
		}
		assertRedacted(t, "the refusal", err.Error())
	}
}
