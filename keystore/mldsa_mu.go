package keystore

import (
	"bytes"
	"crypto/sha3"
)

// ML-DSA verification of an external μ: FIPS 204 algorithm 8 from line 8 on, for
// which no library at hand has an exported function (they verify whole messages
// only). Everything here is public: key, μ and signature, so nothing needs to
// run in constant time. It is held against every Wycheproof vector, and against
// the library on messages.

const (
	mldsaQ = 8380417 // q
	mldsaN = 256     // n, coefficients of a polynomial
	mldsaD = 13      // d, bits dropped from t
)

// mldsaSet is a parameter set of FIPS 204 table 1.
type mldsaSet struct {
	k, l      int    // rows and columns of the matrix A
	tau       int    // nonzero coefficients of the challenge
	gamma1    uint32 // a power of two: the range of z
	zBits     int    // bits of a packed coefficient of z
	gamma2    uint32 // the low-order rounding range
	beta      uint32
	omega     int // hints at most
	challenge int // bytes of c̃
}

var mldsaSets = map[Spec]*mldsaSet{
	MLDSA44: {k: 4, l: 4, tau: 39, gamma1: 1 << 17, zBits: 18, gamma2: (mldsaQ - 1) / 88, beta: 78, omega: 80, challenge: 32},
	MLDSA65: {k: 6, l: 5, tau: 49, gamma1: 1 << 19, zBits: 20, gamma2: (mldsaQ - 1) / 32, beta: 196, omega: 55, challenge: 48},
	MLDSA87: {k: 8, l: 7, tau: 60, gamma1: 1 << 19, zBits: 20, gamma2: (mldsaQ - 1) / 32, beta: 120, omega: 75, challenge: 64},
}

// polynomial has coefficients in [0, q).
type polynomial [mldsaN]uint32

// verifyMu reports whether sig is a signature of μ by the encoded public key,
// whose length has been checked.
func verifyMu(s *mldsaSet, public, mu, sig []byte) bool {
	zSize := 32 * s.zBits
	if len(sig) != s.challenge+s.l*zSize+s.omega+s.k {
		return false
	}
	challenge, packedZ, packedH := sig[:s.challenge], sig[s.challenge:s.challenge+s.l*zSize], sig[s.challenge+s.l*zSize:]
	hints, ok := s.unpackHints(packedH)
	if !ok {
		return false
	}
	z := make([]polynomial, s.l)
	for i := range z {
		if !s.unpackZ(&z[i], packedZ[i*zSize:(i+1)*zSize]) {
			return false
		}
		z[i].ntt()
	}
	c := s.sampleInBall(challenge)
	c.ntt()

	rho, packedT := public[:32], public[32:]
	h := sha3.NewSHAKE256()
	h.Write(mu)
	for i := range s.k {
		// w' = A·z − c·t₁·2^d, one row at a time.
		var w polynomial
		for j := range s.l {
			a := expandA(rho, byte(j), byte(i))
			for x := range w {
				w[x] = mod(uint64(w[x]) + uint64(a[x])*uint64(z[j][x]))
			}
		}
		t := unpackT1(packedT[i*320 : (i+1)*320])
		t.ntt()
		for x := range w {
			w[x] = mod(uint64(w[x]) + mldsaQ - uint64(mod(uint64(c[x])*uint64(t[x]))))
		}
		w.inverseNTT()
		h.Write(s.packHighBits(&w, &hints[i]))
	}
	want := make([]byte, s.challenge)
	h.Read(want)
	return bytes.Equal(want, challenge)
}

func mod(x uint64) uint32 { return uint32(x % mldsaQ) }

// unpackZ reads a polynomial of z (FIPS 204 algorithm 19) and reports whether
// all its coefficients are within ±(γ₁ − β − 1).
func (s *mldsaSet) unpackZ(p *polynomial, packed []byte) bool {
	bits := bitReader{data: packed}
	for i := range p {
		v := bits.read(s.zBits)
		// The coefficient is γ₁ − v; its absolute value must be below γ₁ − β.
		if v <= s.beta || v >= 2*s.gamma1-s.beta {
			return false
		}
		p[i] = mod(uint64(mldsaQ) + uint64(s.gamma1) - uint64(v))
	}
	return true
}

// unpackT1 reads a polynomial of t₁ and returns it times 2^d.
func unpackT1(packed []byte) (p polynomial) {
	bits := bitReader{data: packed}
	for i := range p {
		p[i] = mod(uint64(bits.read(10)) << mldsaD)
	}
	return p
}

// unpackHints reads h (FIPS 204 algorithm 21). Every h has one encoding only:
// positions rise within a polynomial and what is left over is zero.
func (s *mldsaSet) unpackHints(packed []byte) ([][mldsaN]bool, bool) {
	hints := make([][mldsaN]bool, s.k)
	index := 0
	for i := range hints {
		end := int(packed[s.omega+i])
		if end < index || end > s.omega {
			return nil, false
		}
		for first := index; index < end; index++ {
			if index > first && packed[index-1] >= packed[index] {
				return nil, false
			}
			hints[i][packed[index]] = true
		}
	}
	for _, rest := range packed[index:s.omega] {
		if rest != 0 {
			return nil, false
		}
	}
	return hints, true
}

// sampleInBall makes the challenge polynomial of c̃ (FIPS 204 algorithm 29).
func (s *mldsaSet) sampleInBall(seed []byte) (c polynomial) {
	h := sha3.NewSHAKE256()
	h.Write(seed)
	var signs [8]byte
	h.Read(signs[:])
	var j [1]byte
	for i := mldsaN - s.tau; i < mldsaN; i++ {
		for h.Read(j[:]); int(j[0]) > i; {
			h.Read(j[:])
		}
		c[i] = c[j[0]]
		c[j[0]] = 1
		if n := i + s.tau - mldsaN; signs[n/8]>>(n%8)&1 == 1 {
			c[j[0]] = mldsaQ - 1
		}
	}
	return c
}

// expandA makes an entry of the matrix A, in the NTT domain
// (FIPS 204 algorithm 30).
func expandA(rho []byte, column, row byte) (a polynomial) {
	h := sha3.NewSHAKE128()
	h.Write(rho)
	h.Write([]byte{column, row})
	var buf [168]byte
	for i := 0; i < mldsaN; {
		h.Read(buf[:])
		for b := buf[:]; len(b) > 0 && i < mldsaN; b = b[3:] {
			v := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2]&0x7f)<<16
			if v < mldsaQ {
				a[i] = v
				i++
			}
		}
	}
	return a
}

// packHighBits applies the hints to w' and packs the result
// (FIPS 204 algorithms 40, 36 and 28).
func (s *mldsaSet) packHighBits(w *polynomial, hint *[mldsaN]bool) []byte {
	m := (mldsaQ - 1) / (2 * s.gamma2)
	width := 4
	if m == 44 {
		width = 6
	}
	out := make([]byte, 0, 32*width)
	var acc uint32
	var have int
	for i, r := range w {
		acc |= s.useHint(r, hint[i], m) << have
		for have += width; have >= 8; have -= 8 {
			out = append(out, byte(acc))
			acc >>= 8
		}
	}
	return out
}

// useHint returns the high part of r, moved by one towards where the hint
// points. m is how many high parts there are.
func (s *mldsaSet) useHint(r uint32, hint bool, m uint32) uint32 {
	high, low := r/(2*s.gamma2), r%(2*s.gamma2)
	positive := low > 0 && low <= s.gamma2 // of low, centred around zero
	if low > s.gamma2 {
		high++
	}
	if high == m { // r is just below q: the high part wraps, the low part is −1 or less
		high, positive = 0, false
	}
	switch {
	case !hint:
		return high
	case positive:
		return (high + 1) % m
	default:
		return (high + m - 1) % m
	}
}

// zetas are the powers of 1753, a 512th root of unity, in bit-reversed order
// (FIPS 204 appendix B).
var zetas = func() (z [mldsaN]uint64) {
	power := uint64(1)
	for i := range mldsaN {
		reversed := 0
		for bit := range 8 {
			reversed |= i >> bit & 1 << (7 - bit)
		}
		z[reversed] = power
		power = power * 1753 % mldsaQ
	}
	return z
}()

func (p *polynomial) ntt() {
	m := 0
	for length := mldsaN / 2; length >= 1; length /= 2 {
		for start := 0; start < mldsaN; start += 2 * length {
			m++
			for j := start; j < start+length; j++ {
				t := mod(zetas[m] * uint64(p[j+length]))
				p[j+length] = mod(uint64(p[j]) + mldsaQ - uint64(t))
				p[j] = mod(uint64(p[j]) + uint64(t))
			}
		}
	}
}

func (p *polynomial) inverseNTT() {
	const inverse256 = 8347681
	m := mldsaN
	for length := 1; length < mldsaN; length *= 2 {
		for start := 0; start < mldsaN; start += 2 * length {
			m--
			for j := start; j < start+length; j++ {
				t := p[j]
				p[j] = mod(uint64(t) + uint64(p[j+length]))
				p[j+length] = mod((mldsaQ - zetas[m]) * (uint64(t) + mldsaQ - uint64(p[j+length])))
			}
		}
	}
	for i := range p {
		p[i] = mod(inverse256 * uint64(p[i]))
	}
}

// bitReader reads little-endian bit fields.
type bitReader struct {
	data []byte
	acc  uint64
	have int
}

func (b *bitReader) read(n int) uint32 {
	for b.have < n {
		b.acc |= uint64(b.data[0]) << b.have
		b.data = b.data[1:]
		b.have += 8
	}
	v := uint32(b.acc & (1<<n - 1))
	b.acc >>= n
	b.have -= n
	return v
}
