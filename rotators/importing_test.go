package rotators_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/keystore"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// imported is a key store that remembers the material it is given.
type imported struct {
	keystore.Backend

	mu  sync.Mutex
	all [][]byte
}

func (i *imported) Import(ctx context.Context, ref keystore.Ref, spec keystore.Spec, material []byte) ([]byte, error) {
	i.mu.Lock()
	i.all = append(i.all, bytes.Clone(material))
	i.mu.Unlock()
	return i.Backend.Import(ctx, ref, spec, material)
}

// external makes a key whose material the user has made.
func (h *house) external(spec types.KeySpec, usage types.KeyUsageType, multiRegion bool) string {
	h.t.Helper()
	out, err := h.admin.CreateKey(h.t.Context(), &sdk.CreateKeyInput{KeySpec: spec, KeyUsage: usage, Origin: types.OriginTypeExternal, MultiRegion: &multiRegion})
	check(h.t, err)
	material, err := keystore.GenerateMaterial(keystore.Spec(spec))
	check(h.t, err)
	h.importMaterial(*out.KeyMetadata.Arn, material)
	return *out.KeyMetadata.Arn
}

func (h *house) importMaterial(key string, material []byte) {
	h.t.Helper()
	parameters, err := h.admin.GetParametersForImport(h.t.Context(), &sdk.GetParametersForImportInput{
		KeyId: &key, WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa4096,
	})
	check(h.t, err)
	public, err := x509.ParsePKIXPublicKey(parameters.PublicKey)
	check(h.t, err)
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), material, nil)
	check(h.t, err)
	_, err = h.admin.ImportKeyMaterial(h.t.Context(), &sdk.ImportKeyMaterialInput{
		KeyId: &key, ImportToken: parameters.ImportToken, EncryptedKeyMaterial: wrapped, ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire,
	})
	check(h.t, err)
}

// Every kind of key that can have imported material turns to another of its kind, whose material the rotator has made. The
// test step proves it as it proves every key.
func TestKeysWithImportedMaterialTurn(t *testing.T) {
	h := newHouse(t, sqldbtest.SQLite(t))
	for _, kind := range everyKind {
		from := kind.spec
		switch {
		case strings.HasPrefix(string(kind.spec), "ML_"), kind.spec == types.KeySpecRsa3072, kind.spec == types.KeySpecRsa4096:
			continue // not importable; as RSA_2048, and takes seconds to make
		case kind.spec == types.KeySpecRsa2048 && kind.usage == types.KeyUsageTypeSignVerify:
			from = types.KeySpecEccNistP256
		case kind.spec == types.KeySpecRsa2048:
			continue // the same material, and too long for the wrapping of this test
		}
		name := strings.ToLower(string(kind.spec) + "-" + string(kind.usage))
		t.Run(name, func(t *testing.T) {
			old := h.external(from, kind.usage, false)
			h.alias("alias/"+name, old)
			h.put(rotation.Policy{Name: name, Alias: "alias/" + name, Lead: hour, Overlap: 4 * hour, Spec: string(kind.spec)})
			known := len(h.imported.all)
			r := h.turn(name, rotation.StepDeactivate)
			is := h.describe(r.NewKey)
			if is.KeySpec != kind.spec || is.Origin != types.OriginTypeExternal || is.KeyState != types.KeyStateEnabled ||
				is.ExpirationModel != types.ExpirationModelTypeKeyMaterialDoesNotExpire || r.OldKey != old {
				t.Errorf("the successor is %+v", is)
			}
			h.proofs(r, kind.proofs)
			if len(h.imported.all) != known+1 || slices.ContainsFunc(h.imported.all[:known], func(m []byte) bool { return bytes.Equal(m, h.imported.all[known]) }) {
				t.Errorf("%d materials were imported", len(h.imported.all)-known)
			}
			h.unseen(h.imported.all[known])
			h.forget()
		})
	}
}

// unseen finds that the rotation tables hold nothing of a material.
func (h *house) unseen(material []byte) {
	h.t.Helper()
	for _, from := range []string{"SELECT data FROM rotations", "SELECT note FROM rotation_events", "SELECT error FROM rotations"} {
		rows, err := h.db.Query(h.t.Context(), from)
		check(h.t, err)
		for rows.Next() {
			var text string
			check(h.t, rows.Scan(&text))
			for at := range 3 { // wherever in three bytes of Base64 it begins
				window := material[len(material)-24+at : len(material)-3+at]
				for _, form := range []string{string(window), base64.StdEncoding.EncodeToString(window), hex.EncodeToString(window)} {
					if strings.Contains(text, form) {
						h.t.Errorf("%s holds the material", from)
					}
				}
			}
		}
		check(h.t, rows.Err())
		rows.Close()
	}
}

// Each call of a rotation breaks in each way. A key that was made and got no material gets it later; one key is
// made, one material becomes its own.
func TestNoFaultBreaksARotationOfImportedMaterial(t *testing.T) {
	u := &undertaking{
		lineage: func(h *house, name string) rotation.Policy {
			p := fullLife(name, "alias/"+name)
			h.alias(p.Alias, h.external(types.KeySpecEccNistP256, types.KeyUsageTypeSignVerify, false))
			h.put(p)
			return p
		},
		begin: (*house).rotate,
		settled: func(w *watch, end rotation.Rotation) {
			w.expect(map[string]string{"": end.NewKey, "/v2": end.NewKey, "/next": "", "/previous": "", "/v1": ""})
			if m := w.h.describe(end.NewKey); m.Origin != types.OriginTypeExternal || m.KeyState != types.KeyStateEnabled {
				w.break_("the new key is %s, of origin %s", m.KeyState, m.Origin)
			}
		},
	}
	u.onEach(t, 9)
}
