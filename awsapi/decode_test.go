package awsapi_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/awsapi"
)

//go:generate go run ./generate -model testdata/api.json -package awsapi_test -out api_gen_test.go

const goodSign = `{"KeyId":"alias/payments","Message":"aGVsbG8=","SigningAlgorithm":"ECDSA_SHA_256"}`

func TestDecodeEveryType(t *testing.T) {
	var got ShapeRequest
	err := awsapi.DecodeJSON([]byte(` {
		"Name": "al\u0069as/x", "Marker": "\u00e9\/\"\\", "Region": "eu-central-1", "Limit": 7, "Bytes": 8000000000,
		"Bypass": true, "Date": 1.6094592001235E9, "Context": {"k": "v", "": "empty \ud83d\ude00"},
		"Operations": ["Encrypt", "Decrypt"], "Tags": [{"TagKey": "a", "TagValue": ""}, {"TagValue": "2", "TagKey": "b"}],
		"Login": {"Name": "n", "Password": "geheim-123", "Extra": {"TagKey": "c", "TagValue": "3"}},
		"Blob": "AAECAw==", "Unknown": [1, -2.5e+3, null, true, false, {"x": "y"}, []], "AlsoUnknown": {}
	} `), &got)
	if err != nil {
		t.Fatal(err)
	}
	limit, bytes := int32(7), int64(8000000000)
	want := ShapeRequest{
		Name: "alias/x", Marker: "é/\"\\", Region: "eu-central-1", Limit: &limit, Bytes: &bytes, Bypass: true,
		Date:       awsapi.NewTimestamp(time.UnixMicro(1609459200123500)),
		Context:    map[string]string{"k": "v", "": "empty 😀"},
		Operations: []string{GrantOperationEncrypt, GrantOperationDecrypt},
		Tags:       []Tag{{TagKey: "a"}, {TagKey: "b", TagValue: "2"}},
		Login:      &Login{Name: "n", Password: "geheim-123", Extra: &Tag{TagKey: "c", TagValue: "3"}},
		Blob:       []byte{0, 1, 2, 3},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestNullIsAbsent(t *testing.T) {
	var got ShapeRequest
	body := `{"Name":null,"Limit":null,"Bypass":null,"Date":null,"Context":null,"Operations":null,"Tags":null,"Login":null,"Blob":null}`
	if err := awsapi.DecodeJSON([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(ShapeRequest{}, got); d != "" {
		t.Error(d)
	}
}

func TestEmptyIsNotAbsent(t *testing.T) {
	var got ShapeRequest
	if err := awsapi.DecodeJSON([]byte(`{"Context":{},"Operations":[],"Tags":[]}`), &got); err != nil {
		t.Fatal(err)
	}
	if got.Context == nil || got.Operations == nil || got.Tags == nil {
		t.Errorf("empty values read as absent: %#v", got)
	}
}

func TestEmptyBodyIsEmptyObject(t *testing.T) {
	for _, body := range []string{"", " \r\n"} {
		if err := awsapi.DecodeJSON([]byte(body), new(ShapeRequest)); err != nil {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func TestSerializationException(t *testing.T) {
	const malformed = "The request body is not well-formed JSON."
	for _, c := range []struct{ body, message string }{
		{`{`, malformed},
		{`{}x`, malformed},
		{`{} {}`, malformed},
		{`{"Name":"a",}`, malformed},
		{`{,}`, malformed},
		{`{"Name" "a"}`, malformed},
		{`{"Name":"a" "Marker":"b"}`, malformed},
		{`{Name:"a"}`, malformed},
		{`{"Name":'a'}`, malformed},
		{`{"Name":"a`, malformed},
		{`{"Name":"a\`, malformed},
		{`{"Name":"\x"}`, malformed},
		{`{"Name":"\u12"}`, malformed},
		{`{"Name":"\ud800"}`, malformed},
		{`{"Name":"\ud800\u0041"}`, malformed},
		{"{\"Name\":\"a\nb\"}", malformed},
		{"{\"Name\":\"\xff\"}", malformed},
		{"{\"Name\":\"\\n\xff\"}", malformed},
		{"\ufeff{}", malformed},
		{`{"Name":nul}`, malformed},
		{`{"Other":01}`, malformed},
		{`{"Other":1.}`, malformed},
		{`{"Other":1e}`, malformed},
		{`{"Other":.5}`, malformed},
		{`{"Other":-}`, malformed},
		{`{"Other":tru}`, malformed},
		{`{"Tags":[{}`, malformed},
		{`{"Tags":[,]}`, malformed},
		{`null`, malformed},
		{`[]`, "Start of list found where not expected"},
		{`"x"`, "Unexpected field type"},
		{`{"Name":1}`, "NUMBER_VALUE can not be converted to a String"},
		{`{"Name":true}`, "TRUE_VALUE can not be converted to a String"},
		{`{"Name":false}`, "FALSE_VALUE can not be converted to a String"},
		{`{"Name":{}}`, "Start of structure or map found where not expected."},
		{`{"Name":["a"]}`, "Start of list found where not expected"},
		{`{"Limit":"1"}`, "STRING_VALUE can not be converted to an Integer"},
		{`{"Limit":1.5}`, "NUMBER_VALUE can not be converted to an Integer"},
		{`{"Limit":2147483648}`, "NUMBER_VALUE can not be converted to an Integer"},
		{`{"Bytes":9223372036854775808}`, "NUMBER_VALUE can not be converted to a Long"},
		{`{"Bypass":"true"}`, "STRING_VALUE can not be converted to a Boolean"},
		{`{"Date":"2026-01-01"}`, "STRING_VALUE can not be converted to a Timestamp"},
		{`{"Date":1e300}`, "NUMBER_VALUE can not be converted to a Timestamp"},
		{`{"Blob":"AA"}`, "STRING_VALUE can not be converted to a Blob"},
		{`{"Blob":"AA=="`, malformed},
		{`{"Blob":"QUJD\n"}`, "STRING_VALUE can not be converted to a Blob"},
		{`{"Blob":"QU\nJD"}`, "STRING_VALUE can not be converted to a Blob"},
		{`{"Blob":"Q\n\n\nUJD"}`, "STRING_VALUE can not be converted to a Blob"},
		{`{"Blob":"-_-_"}`, "STRING_VALUE can not be converted to a Blob"},
		{`{"Context":{"a":1}}`, "NUMBER_VALUE can not be converted to a String"},
		{`{"Context":{"a":null}}`, malformed},
		{`{"Tags":{}}`, "Start of structure or map found where not expected."},
		{`{"Tags":"x"}`, "Unexpected field type"},
		{`{"Login":[]}`, "Start of list found where not expected"},
		{`{"Name":"a","Name":"a"}`, "The request body has a duplicate member name."},
		{`{"Name":null,"Name":"a"}`, "The request body has a duplicate member name."},
		{`{"Name":"a","N\u0061me":"b"}`, "The request body has a duplicate member name."},
		{`{"Foo":1,"Foo":2}`, "The request body has a duplicate member name."},
		{`{"Foo":{"a":1,"a":2}}`, "The request body has a duplicate member name."},
		{`{"Context":{"a":"1","\u0061":"2"}}`, "The request body has a duplicate member name."},
		{`{"Other":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, "The request body is nested too deeply."},
	} {
		err := awsapi.DecodeJSON([]byte(c.body), new(ShapeRequest))
		var e *awsapi.Error
		if !errors.As(err, &e) || e.Code != "SerializationException" || e.Message != c.message || e.Status != 400 {
			t.Errorf("%s:\ngot  %v\nwant %s", c.body, err, c.message)
		}
	}
}

func TestNamesAreCaseSensitive(t *testing.T) {
	var got ShapeRequest
	if err := awsapi.DecodeJSON([]byte(`{"name":"a","NAME":"b"}`), &got); err != nil {
		t.Fatal(err)
	}
	if got.Name != "" {
		t.Errorf("Name is %q", got.Name)
	}
}

func TestValidationMessages(t *testing.T) {
	long := strings.Repeat("a", 17)
	for _, c := range []struct{ body, message string }{
		{`{"Name":""}`, `2 validation errors detected: Value '' at 'name' failed to satisfy constraint: Member must have length greater than or equal to 1; Value '' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$`},
		{`{"Name":"` + long + `"}`, `1 validation error detected: Value '` + long + `' at 'name' failed to satisfy constraint: Member must have length less than or equal to 16`},
		{`{"Name":"a b"}`, `1 validation error detected: Value 'a b' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$`},
		{`{"Name":"a\n"}`, "1 validation error detected: Value 'a\n' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$"},
		{`{"Marker":"\u0100"}`, `1 validation error detected: Value 'Ā' at 'marker' failed to satisfy constraint: Member must satisfy regular expression pattern: [\u0020-\u00FF]*`},
		{`{"Region":"eu-central"}`, `1 validation error detected: Value 'eu-central' at 'region' failed to satisfy constraint: Member must satisfy regular expression pattern: ^([a-z]+-){2,3}\d+$`},
		{`{"Region":"x eu-central-1"}`, `1 validation error detected: Value 'x eu-central-1' at 'region' failed to satisfy constraint: Member must satisfy regular expression pattern: ^([a-z]+-){2,3}\d+$`},
		{`{"Limit":0}`, `1 validation error detected: Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1`},
		{`{"Limit":1001}`, `1 validation error detected: Value '1001' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 1000`},
		{`{"Bytes":9000000001}`, `1 validation error detected: Value '9000000001' at 'bytes' failed to satisfy constraint: Member must have value less than or equal to 9000000000`},
		{`{"Operations":["Encrypt","Fly"]}`, `1 validation error detected: Value '[Encrypt, Fly]' at 'operations' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [Decrypt, Encrypt, GenerateDataKey]]`},
		{`{"Operations":[null]}`, `1 validation error detected: Value null at 'operations.1.member' failed to satisfy constraint: Member must not be null`},
		{`{"Tags":[{"TagKey":"a","TagValue":"1"},{"TagKey":"","TagValue":"1"}]}`, `1 validation error detected: Value '' at 'tags.2.member.tagKey' failed to satisfy constraint: Member must have length greater than or equal to 1`},
		{`{"Tags":[{"TagKey":"a"},null]}`, `2 validation errors detected: Value null at 'tags.1.member.tagValue' failed to satisfy constraint: Member must not be null; Value null at 'tags.2.member' failed to satisfy constraint: Member must not be null`},
		{`{"Login":{"Password":"short","Extra":{"TagKey":"a"}},"Limit":0}`, `4 validation errors detected: Value null at 'login.extra.tagValue' failed to satisfy constraint: Member must not be null; Value null at 'login.name' failed to satisfy constraint: Member must not be null; Value at 'login.password' failed to satisfy constraint: Member must have length greater than or equal to 7; Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1`},
		{`{"Blob":""}`, `1 validation error detected: Value at 'blob' failed to satisfy constraint: Member must have length greater than or equal to 1`},
	} {
		err := awsapi.DecodeJSON([]byte(c.body), new(ShapeRequest))
		var e *awsapi.Error
		if !errors.As(err, &e) || e.Code != "ValidationException" || e.Message != c.message || e.Status != 400 {
			t.Errorf("%s:\ngot  %v\nwant %s", c.body, err, c.message)
		}
	}
}

func TestValidationOfSign(t *testing.T) {
	for _, c := range []struct{ body, message string }{
		{`{}`, `3 validation errors detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null; Value null at 'message' failed to satisfy constraint: Member must not be null; Value null at 'signingAlgorithm' failed to satisfy constraint: Member must not be null`},
		{`{"KeyId":"k","Message":"","SigningAlgorithm":"BAD"}`, `2 validation errors detected: Value at 'message' failed to satisfy constraint: Member must have length greater than or equal to 1; Value 'BAD' at 'signingAlgorithm' failed to satisfy constraint: Member must satisfy enum value set: [RSASSA_PSS_SHA_256, RSASSA_PKCS1_V1_5_SHA_256, ECDSA_SHA_256, ECDSA_SHA_384]`},
		{`{"KeyId":"k","Message":"` + base64.StdEncoding.EncodeToString(make([]byte, 4097)) + `","SigningAlgorithm":"ECDSA_SHA_256"}`, `1 validation error detected: Value at 'message' failed to satisfy constraint: Member must have length less than or equal to 4096`},
		{`{"KeyId":"k","Message":"AA==","SigningAlgorithm":"ECDSA_SHA_256","GrantTokens":["a","b","c","d","e","f","g","h","i","j","k"]}`, `1 validation error detected: Value at 'grantTokens' failed to satisfy constraint: Member must have length less than or equal to 10`},
		{`{"KeyId":"k","Message":"AA==","SigningAlgorithm":"ECDSA_SHA_256","GrantTokens":[""]}`, `1 validation error detected: Value '[]' at 'grantTokens' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 8192, Member must have length greater than or equal to 1]`},
		{`{"KeyId":"` + strings.Repeat("ü", 2049) + `","Message":"AA==","SigningAlgorithm":"ECDSA_SHA_256"}`, `1 validation error detected: Value '` + strings.Repeat("ü", 512) + `...' at 'keyId' failed to satisfy constraint: Member must have length less than or equal to 2048`},
	} {
		err := awsapi.DecodeJSON([]byte(c.body), new(SignRequest))
		var e *awsapi.Error
		if !errors.As(err, &e) || e.Code != "ValidationException" || e.Message != c.message {
			t.Errorf("%.100s:\ngot  %v\nwant %s", c.body, err, c.message)
		}
	}
	// 2048 characters are allowed, however many bytes they take.
	body := `{"KeyId":"` + strings.Repeat("ü", 2048) + `","Message":"AA==","SigningAlgorithm":"ECDSA_SHA_256"}`
	if err := awsapi.DecodeJSON([]byte(body), new(SignRequest)); err != nil {
		t.Error(err)
	}
}

// An attacker with a credential could ask for a megabyte of empty structures
// to be complained about one by one.
func TestViolationsAreBounded(t *testing.T) {
	body := `{"Tags":[` + strings.Repeat(`{},`, 100000) + `{}]}`
	err := awsapi.DecodeJSON([]byte(body), new(ShapeRequest))
	if err == nil || len(err.Error()) > 20000 {
		t.Errorf("an answer of %d bytes", len(err.Error()))
	}
}

func TestInputDoesNotAliasBody(t *testing.T) {
	body := []byte(`{"KeyId":"alias/payments","Message":"aGVsbG8=","SigningAlgorithm":"ECDSA_SHA_256","GrantTokens":["\u0061b"]}`)
	var in SignRequest
	if err := awsapi.DecodeJSON(body, &in); err != nil {
		t.Fatal(err)
	}
	clear(body)
	if in.KeyId != "alias/payments" || string(in.Message.Reveal()) != "hello" || in.GrantTokens[0] != "ab" {
		t.Errorf("the input changed with the body: %q %q %q", in.KeyId, in.Message.Reveal(), in.GrantTokens)
	}
}

func TestEncodeEveryType(t *testing.T) {
	limit, bytes, no := int32(0), int64(5), false
	out := ShapeResponse{
		Name: "a<b>\"\\\n\x01\u2028é\xff", Limit: &limit, Bytes: &bytes, Maybe: &no,
		Date:    awsapi.NewTimestamp(time.UnixMicro(1609459200120999)),
		Context: map[string]string{"b": "2", "a": "1"}, Operations: []string{}, Tags: []Tag{{TagKey: "k"}},
		Login: &Login{Name: "n", Password: "geheim-123"}, Plaintext: awsapi.Sensitive("secret"),
	}
	want := `{"Title":"","Name":"a<b>\"\\\n\u0001` + "\u2028" + `é` + "\ufffd" + `","Truncated":false,"Limit":0,"Bytes":5,"Maybe":false,` +
		`"Date":1609459200.12,"Context":{"a":"1","b":"2"},"Operations":[],"Tags":[{"TagKey":"k","TagValue":""}],` +
		`"Login":{"Name":"n","Password":"geheim-123"},"Plaintext":"c2VjcmV0"}`
	if d := cmp.Diff(want, string(out.AppendJSON(nil))); d != "" {
		t.Error(d)
	}
	want = `{"title":"","name":"a<b>\"\\\n\u0001` + "\u2028" + `é` + "\ufffd" + `","truncated":false,"limit":0,"bytes":5,"maybe":false,` +
		`"date":1609459200.12,"context":{"a":"1","b":"2"},"operations":[],"tags":[{"tagKey":"k","tagValue":""}],"login":{"name":"n"}}`
	if d := cmp.Diff(want, string(out.AppendAudit(nil))); d != "" {
		t.Error(d)
	}
	if got := string(new(SignResponse).AppendJSON([]byte("x,"))); got != "x,{}" {
		t.Errorf("nothing set: %s", got)
	}
}

func TestTimestamps(t *testing.T) {
	for _, c := range []struct {
		t    time.Time
		want string
	}{
		{time.Unix(0, 0), "0"},
		{time.Unix(1, 1e6), "1.001"},
		{time.Unix(1, 1e7), "1.01"},
		{time.Unix(1, 1e8), "1.1"},
		{time.Unix(1766000000, 999e6), "1766000000.999"},
		{time.Unix(-1, -5e8), "-1.5"},
	} {
		ts := awsapi.Timestamp{Time: c.t}
		got := string(awsapi.AppendTimestamp(nil, ts))
		if got != c.want {
			t.Errorf("%v: %s, want %s", c.t, got, c.want)
		}
		var back awsapi.Timestamp
		if err := back.UnmarshalJSON([]byte(got)); err != nil || !back.Equal(c.t) {
			t.Errorf("%s read as %v, %v", got, back, err)
		}
	}
	if awsapi.NewTimestamp(time.Time{}) != nil {
		t.Error("no time is a timestamp")
	}
}

// FuzzDecodeJSON holds the decoder against jsontext: it accepts nothing that
// is not strict JSON, reads strings alike, and what is encoded reads back.
func FuzzDecodeJSON(f *testing.F) {
	f.Add([]byte(goodSign))
	f.Add([]byte(`{"Name":"\ud83d\ude00","Tags":[{"TagKey":"a","TagValue":""}],"Context":{"a":"b"},"Login":{"Name":"x"},"Date":1.5e9,"Blob":"AA=="}`))
	f.Add([]byte(`{"a":{"b":[1,2,{"c":null}]},"Name":"é\u00e9\/"}`))
	f.Add([]byte(`{"Context":{"a":"b","a":"c"}}`))
	f.Add([]byte(`{"x":-0.0e-12,"y":[true,false]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var in ShapeRequest
		err := awsapi.DecodeJSON(body, &in)
		var e *awsapi.Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("an error of type %T", err)
		}
		if trimmed := bytes.Trim(body, " \t\r\n"); len(trimmed) == 0 {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		strict := jsontext.Value(body).IsValid()
		switch {
		case !strict && (err == nil || e.Code == "ValidationException"):
			t.Fatalf("accepted what jsontext refuses: %q", body)
		case strict && e != nil && (e.Message == "The request body is not well-formed JSON." || strings.Contains(e.Message, "duplicate")):
			// The only strict JSON that may be called malformed is a null where
			// a value must stand.
			if !bytes.Contains(body, []byte("null")) {
				t.Fatalf("refused what jsontext accepts: %q", body)
			}
		}
		if err != nil {
			return
		}
		var want struct {
			Name, Marker, Region string
			Context              map[string]string
			Blob                 []byte
		}
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatalf("jsontext cannot read %q: %v", body, err)
		}
		if in.Name != want.Name || in.Marker != want.Marker || in.Region != want.Region || !bytes.Equal(in.Blob, want.Blob) {
			t.Fatalf("read %+v, want %+v", in, want)
		}
		if !cmp.Equal(in.Context, want.Context) {
			t.Fatalf("read %v, want %v", in.Context, want.Context)
		}
		out := ShapeResponse{Name: in.Name, Context: in.Context, Tags: in.Tags, Date: in.Date}
		encoded := jsontext.Value(out.AppendJSON(nil))
		if !encoded.IsValid() || !jsontext.Value(out.AppendAudit(nil)).IsValid() {
			t.Fatalf("encoded as %s", encoded)
		}
		var again ShapeResponse
		if err := json.Unmarshal(encoded, &again); err != nil || again.Name != in.Name || !cmp.Equal(again.Context, in.Context) {
			t.Fatalf("%s read back as %+v, %v", encoded, again, err)
		}
	})
}

func BenchmarkDecodeSign(b *testing.B) {
	message := base64.StdEncoding.EncodeToString(make([]byte, 32))
	body := []byte(`{"KeyId":"arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab","Message":"` + message +
		`","MessageType":"DIGEST","SigningAlgorithm":"ECDSA_SHA_256"}`)
	var d awsapi.DecodeBench
	b.ReportAllocs()
	for b.Loop() {
		in := new(SignRequest)
		if err := d.Decode(body, in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeSign(b *testing.B) {
	out := &SignResponse{
		KeyId: "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", Signature: make([]byte, 71),
		SigningAlgorithm: SigningAlgorithmSpecEcdsaSha256,
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = out.AppendJSON(buf[:0])
	}
}
