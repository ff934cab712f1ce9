package keystoretest

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"sync/atomic"

	"github.com/c2sp/wycheproof"

	"github.com/keyturn/keyturn/keystore"
)

// KnownRSA is a backend that makes no RSA keys: Generate imports Project
// Wycheproof's instead, one after the other. A new one takes up to seconds, which
// tests that only need some RSA key do not have. The private keys are public, so
// nothing but a test may hold them.
func KnownRSA(b keystore.Backend) keystore.Backend { return knownRSA{b} }

type knownRSA struct{ keystore.Backend }

func (b knownRSA) Generate(ctx context.Context, ref keystore.Ref, spec keystore.Spec) ([]byte, error) {
	if len(rsaFiles[spec]) == 0 {
		return b.Backend.Generate(ctx, ref, spec)
	}
	material, err := RSA(spec)
	if err != nil {
		return nil, err
	}
	return b.Import(ctx, ref, spec, material)
}

// rsaFiles are files of vectors, each of which has a private key of its own.
var rsaFiles = map[keystore.Spec][]string{
	keystore.RSA2048: {
		"rsa_oaep_2048_sha1_mgf1sha1", "rsa_oaep_2048_sha224_mgf1sha1", "rsa_oaep_2048_sha256_mgf1sha1",
		"rsa_oaep_2048_sha384_mgf1sha1", "rsa_oaep_2048_sha512_mgf1sha1",
	},
	keystore.RSA3072: {"rsa_oaep_3072_sha256_mgf1sha1", "rsa_oaep_3072_sha512_256_mgf1sha1", "rsa_oaep_3072_sha512_mgf1sha1"},
	keystore.RSA4096: {"rsa_oaep_4096_sha256_mgf1sha1", "rsa_oaep_4096_sha512_mgf1sha1"},
}

var rsaTurn atomic.Int64

// RSA returns the material of a known RSA key; two in a row differ.
func RSA(spec keystore.Spec) (material []byte, err error) {
	files := rsaFiles[spec]
	if len(files) == 0 {
		return nil, fmt.Errorf("there is no known key of spec %q", spec)
	}
	content, err := fs.ReadFile(wycheproof.TestVectors, files[int(rsaTurn.Add(1))%len(files)]+"_test.json")
	if err != nil {
		return nil, err
	}
	var file struct {
		Groups []struct {
			PKCS8 string `json:"privateKeyPkcs8"`
		} `json:"testGroups"`
	}
	if err := json.Unmarshal(content, &file); err != nil {
		return nil, err
	}
	return hex.DecodeString(file.Groups[0].PKCS8)
}
