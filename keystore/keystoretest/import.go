package keystoretest

import (
	"bytes"
	"errors"
	"regexp"
	"testing"

	"github.com/keyturn/keyturn/keystore"
)

// imported is a material of the suite that came from outside, and its id.
type imported struct {
	spec     keystore.Spec
	ref      keystore.Ref
	material []byte
	id       string
}

var materialID = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (s *suite) testImport(t *testing.T, k *held) {
	ctx := t.Context()
	ref := keystore.Ref{Account: "111122223333", KeyID: "imported-" + string(k.spec), MaterialID: "material-1"}
	if !k.spec.Importable() {
		_, err := s.backend.Import(ctx, ref, k.spec, []byte("material"))
		wantErr(t, err, keystore.ErrUnsupported)
		_, err = s.backend.Identify(ctx, ref, k.spec, []byte("material"))
		wantErr(t, err, keystore.ErrUnsupported)
		return
	}
	if k.spec == keystore.RSA3072 || k.spec == keystore.RSA4096 {
		return // as in testOtherKey
	}
	material, err := keystore.GenerateMaterial(k.spec)
	if err != nil {
		t.Fatal(err)
	}
	mine := bytes.Clone(material)
	handle, err := s.backend.Import(ctx, ref, k.spec, mine)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(mine, material) {
		t.Error("Import changed its argument")
	}
	clear(mine) // as the caller does
	if bytes.Contains(handle, material[len(material)-16:]) {
		t.Error("the handle holds the material")
	}
	inside, err := s.backend.Open(ctx, ref, k.spec, handle)
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	outside, err := keystore.NewKey(k.spec, material)
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	if err := roundTrip(ctx, inside, outside, k.spec, []byte("made inside, used outside")); err != nil {
		t.Error(err)
	}
	if err := roundTrip(ctx, outside, inside, k.spec, []byte("made outside, used inside")); err != nil {
		t.Error(err)
	}
	moved := ref
	moved.KeyID += "x"
	if _, err := s.backend.Open(ctx, moved, k.spec, handle); !errors.Is(err, keystore.ErrInvalidHandle) {
		t.Errorf("opened in another row: %v", err)
	}
	s.testIdentity(t, imported{spec: k.spec, ref: ref, material: material})
	s.testBadMaterial(t, ref, k.spec, material)
}

// testIdentity: the id is the material's and the key's, and nobody else's.
func (s *suite) testIdentity(t *testing.T, m imported) {
	identify := func(ref keystore.Ref, material []byte) string {
		t.Helper()
		id, err := s.backend.Identify(t.Context(), ref, m.spec, material)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	m.id = identify(m.ref, m.material)
	if !materialID.MatchString(m.id) {
		t.Errorf("the id is %q", m.id)
	}
	again := m.ref
	again.MaterialID = ""
	if identify(again, m.material) != m.id {
		t.Error("the same material has two ids")
	}
	seen := map[string]bool{m.id: true}
	for what, change := range map[string]func(*keystore.Ref){
		"account":  func(r *keystore.Ref) { r.Account = "444455556666" },
		"key":      func(r *keystore.Ref) { r.KeyID += "x" },
		"boundary": func(r *keystore.Ref) { r.Account, r.KeyID = r.Account+r.KeyID[:1], r.KeyID[1:] },
	} {
		ref := m.ref
		change(&ref)
		id := identify(ref, m.material)
		if seen[id] {
			t.Errorf("another %s has the same id", what)
		}
		seen[id] = true
	}
	if m.spec != keystore.RSA2048 { // a second one takes long, and nothing differs
		other, err := keystore.GenerateMaterial(m.spec)
		if err != nil {
			t.Fatal(err)
		}
		if seen[identify(m.ref, other)] {
			t.Error("another material has the same id")
		}
	}
	s.imported = append(s.imported, m)
}

func (s *suite) testBadMaterial(t *testing.T, ref keystore.Ref, spec keystore.Spec, material []byte) {
	bad := map[string][]byte{"empty": {}, "cut": material[:len(material)-1], "too long": append(bytes.Clone(material), make([]byte, 128)...)}
	for other, k := range s.held {
		if other.Kind() == spec.Kind() || k.key.Public() == nil {
			continue
		}
		// A short one might as well be an HMAC key.
		if public := k.key.Public().SPKI(); len(public) > 128 {
			bad["a public key"] = public
		}
	}
	for what, b := range bad {
		if _, err := s.backend.Import(t.Context(), ref, spec, b); !errors.Is(err, keystore.ErrInvalidMaterial) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := s.backend.Identify(t.Context(), ref, spec, b); !errors.Is(err, keystore.ErrInvalidMaterial) {
			t.Errorf("identifying, %s: %v", what, err)
		}
	}
}

// testIdentities asks a backend that has forgotten everything.
func (s *suite) testIdentities(t *testing.T, backend keystore.Backend) {
	for _, m := range s.imported {
		id, err := backend.Identify(t.Context(), m.ref, m.spec, m.material)
		if err != nil || id != m.id {
			t.Errorf("%s: another id: %v", m.spec, err)
		}
	}
}
