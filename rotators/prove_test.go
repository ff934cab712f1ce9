package rotators_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// everyKind is every spec with every usage that a key can be turned in, and how many proofs its test step makes.
var everyKind = []struct {
	spec   types.KeySpec
	usage  types.KeyUsageType
	proofs int
}{
	{types.KeySpecSymmetricDefault, types.KeyUsageTypeEncryptDecrypt, 1},
	{types.KeySpecRsa2048, types.KeyUsageTypeSignVerify, 6},
	{types.KeySpecRsa2048, types.KeyUsageTypeEncryptDecrypt, 2},
	{types.KeySpecRsa3072, types.KeyUsageTypeSignVerify, 6},
	{types.KeySpecRsa4096, types.KeyUsageTypeEncryptDecrypt, 2},
	{types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify, 1},
	{types.KeySpecEccNistP256, types.KeyUsageTypeKeyAgreement, 1},
	{types.KeySpecEccNistP384, types.KeyUsageTypeSignVerify, 1},
	{types.KeySpecEccNistP384, types.KeyUsageTypeKeyAgreement, 1},
	{types.KeySpecEccNistP521, types.KeyUsageTypeSignVerify, 1},
	{types.KeySpecEccNistP521, types.KeyUsageTypeKeyAgreement, 1},
	{types.KeySpecEccSecgP256k1, types.KeyUsageTypeSignVerify, 1},
	{types.KeySpecEccNistEdwards25519, types.KeyUsageTypeSignVerify, 2},
	{types.KeySpecMlDsa44, types.KeyUsageTypeSignVerify, 2},
	{types.KeySpecMlDsa65, types.KeyUsageTypeSignVerify, 2},
	{types.KeySpecMlDsa87, types.KeyUsageTypeSignVerify, 2},
	{types.KeySpecMlKem512, types.KeyUsageTypeEncapsulateDecapsulate, 1},
	{types.KeySpecMlKem768, types.KeyUsageTypeEncapsulateDecapsulate, 1},
	{types.KeySpecMlKem1024, types.KeyUsageTypeEncapsulateDecapsulate, 1},
	{types.KeySpecHmac224, types.KeyUsageTypeGenerateVerifyMac, 1},
	{types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac, 1},
	{types.KeySpecHmac384, types.KeyUsageTypeGenerateVerifyMac, 1},
	{types.KeySpecHmac512, types.KeyUsageTypeGenerateVerifyMac, 1},
}

// testJob is the test step of a rotation that has made key.
func (h *house) testJob(key string) *rotation.Job {
	p := rotation.Policy{Name: "p", Target: "local", Account: account, Region: region, Alias: alias}.WithDefaults()
	return &rotation.Job{
		Row: rotation.Row{
			ID: "r", Kind: rotation.KindRotate, Step: rotation.StepTest, Token: "token",
			Data: rotation.Data{NewKey: key},
		},
		Policy: &p, Target: h.target(), Now: h.clock.Now(),
	}
}

// A KMS that answers wrongly must not get a key through the test, whatever kind it is.
func TestAKeyThatAnswersWronglyIsUnfit(t *testing.T) {
	h := newHouse(t, sqldbtest.SQLite(t))
	good := h.wire.next
	for _, tt := range []struct {
		spec   types.KeySpec
		usage  types.KeyUsageType
		member string // of an answer, which one bit is changed in
	}{
		{types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify, "Signature"},
		{types.KeySpecEccSecgP256k1, types.KeyUsageTypeSignVerify, "Signature"},
		{types.KeySpecEccNistEdwards25519, types.KeyUsageTypeSignVerify, "Signature"},
		{types.KeySpecMlDsa44, types.KeyUsageTypeSignVerify, "Signature"},
		{types.KeySpecRsa2048, types.KeyUsageTypeSignVerify, "Signature"},
		{types.KeySpecRsa2048, types.KeyUsageTypeEncryptDecrypt, "Plaintext"},
		{types.KeySpecSymmetricDefault, types.KeyUsageTypeEncryptDecrypt, "Plaintext"},
		{types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac, "Mac"},
		{types.KeySpecEccNistP384, types.KeyUsageTypeKeyAgreement, "SharedSecret"},
		{types.KeySpecMlKem768, types.KeyUsageTypeEncapsulateDecapsulate, "SharedSecret"},
		{types.KeySpecMlKem512, types.KeyUsageTypeEncapsulateDecapsulate, "SharedSecret"},
		{types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify, "PublicKey"},
	} {
		t.Run(string(tt.spec)+"/"+tt.member, func(t *testing.T) {
			key := h.key(tt.spec, tt.usage)
			h.wire.next = liar{good, tt.member}
			defer func() { h.wire.next = good }()
			_, err := h.rotator.Do(t.Context(), h.testJob(key))
			if !isPermanent(err) {
				t.Errorf("got %v, want an error that is not tried again", err)
			}
		})
	}
}

// liar changes one bit of one member of every answer that has it.
type liar struct {
	next   http.RoundTripper
	member string
}

func (l liar) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := l.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	if before, rest, ok := bytes.Cut(body, []byte(`"`+l.member+`":"`)); ok {
		value, after, _ := bytes.Cut(rest, []byte(`"`))
		raw, err := base64.StdEncoding.DecodeString(string(value))
		if err != nil {
			return nil, err
		}
		raw[len(raw)-1] ^= 1
		body = bytes.Join([][]byte{before, []byte(`"` + l.member + `":"`), []byte(base64.StdEncoding.EncodeToString(raw)), []byte(`"`), after}, nil)
	}
	answer.Body, answer.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return answer, nil
}
