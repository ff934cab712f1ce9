package keystore_test

import (
	"testing"

	"github.com/keyturn/keyturn/keystore"
)

// The checks that no vector reaches alone: FIPS 204 table 1 gives γ₁ and β, a
// packed coefficient is γ₁ minus what it stands for.
func TestMLDSABoundOfZ(t *testing.T) {
	for spec, c := range map[keystore.Spec]struct{ gamma1, beta uint32 }{
		keystore.MLDSA44: {131072, 78},
		keystore.MLDSA65: {524288, 196},
		keystore.MLDSA87: {524288, 120},
	} {
		for v, ok := range map[uint32]bool{
			0:                       false,
			c.beta:                  false, // z = γ₁ − β
			c.beta + 1:              true,
			c.gamma1:                true, // z = 0
			2*c.gamma1 - c.beta - 1: true,
			2*c.gamma1 - c.beta:     false, // z = β − γ₁
			2*c.gamma1 - 1:          false,
		} {
			if keystore.ZAccepted(spec, v) != ok {
				t.Errorf("%s: coefficient γ₁ − %d: accepted %v", spec, v, !ok)
			}
		}
	}
}

// Each h has one encoding: signatures would be malleable otherwise.
func TestMLDSAEncodingOfHints(t *testing.T) {
	const omega, k = 80, 4 // of ML-DSA-44
	encode := func(ends [k]byte, positions ...byte) []byte {
		b := make([]byte, omega+k)
		copy(b, positions)
		copy(b[omega:], ends[:])
		return b
	}
	full := make([]byte, omega)
	for i := range full {
		full[i] = byte(i)
	}
	for name, c := range map[string]struct {
		packed []byte
		ok     bool
	}{
		"none":                        {encode([k]byte{}), true},
		"two polynomials":             {encode([k]byte{2, 2, 3, 3}, 5, 9, 1), true},
		"as many as there can be":     {encode([k]byte{omega, omega, omega, omega}, full...), true},
		"positions fall":              {encode([k]byte{2, 2, 2, 2}, 9, 5), false},
		"a position twice":            {encode([k]byte{2, 2, 2, 2}, 5, 5), false},
		"ends fall":                   {encode([k]byte{2, 1, 2, 2}, 5, 9), false},
		"more than there can be":      {encode([k]byte{omega + 1, omega + 1, omega + 1, omega + 1}, full...), false},
		"far more than there can be":  {encode([k]byte{0, 0, 0, 255}, full...), false},
		"something after the last":    {encode([k]byte{1, 1, 1, 1}, 5, 9), false},
		"something where none belong": {encode([k]byte{}, 1), false},
	} {
		if keystore.HintsAccepted(keystore.MLDSA44, c.packed) != c.ok {
			t.Errorf("%s: accepted %v", name, !c.ok)
		}
	}
}

// UseHint against FIPS 204 algorithms 36 and 40 as they are written, for every r
// there is.
func TestMLDSAUseHint(t *testing.T) {
	const q = 8380417
	for spec, gamma2 := range map[keystore.Spec]int{keystore.MLDSA44: (q - 1) / 88, keystore.MLDSA65: (q - 1) / 32} {
		m := (q - 1) / (2 * gamma2)
		for r := range q {
			r0 := r % (2 * gamma2) // mod±: into (−γ₂, γ₂]
			if r0 > gamma2 {
				r0 -= 2 * gamma2
			}
			r1 := (r - r0) / (2 * gamma2)
			if r-r0 == q-1 {
				r1, r0 = 0, r0-1
			}
			hinted := (r1 - 1 + m) % m
			if r0 > 0 {
				hinted = (r1 + 1) % m
			}
			if got := keystore.UseHint(spec, uint32(r), false); got != uint32(r1) {
				t.Fatalf("%s: high part of %d: %d, want %d", spec, r, got, r1)
			}
			if got := keystore.UseHint(spec, uint32(r), true); got != uint32(hinted) {
				t.Fatalf("%s: high part of %d with a hint: %d, want %d", spec, r, got, hinted)
			}
		}
	}
}
