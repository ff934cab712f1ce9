//go:build unix

package interop_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"maps"
	"strings"
	"time"
)

func (c *conversation) signatures() {
	message := []byte("order 1")
	id := c.key(members{"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"})
	in := members{"KeyId": id, "Message": message, "SigningAlgorithm": "ECDSA_SHA_256"}
	signature := blob(c.t, c.do("Sign", in), "Signature")
	in["Signature"] = signature
	c.equal("valid", c.do("Verify", in)["SignatureValid"], true)
	in["Message"] = []byte("order 2")
	c.refused("KMSInvalidSignatureException", "Verify", in)
	// And outside the server.
	parsed, err := x509.ParsePKIXPublicKey(blob(c.t, c.do("GetPublicKey", members{"KeyId": id}), "PublicKey"))
	if err != nil {
		c.t.Fatal(err)
	}
	digest := sha256.Sum256(message)
	if public, ok := parsed.(*ecdsa.PublicKey); !ok || !ecdsa.VerifyASN1(public, digest[:], signature) {
		c.t.Errorf("the signature does not verify with the %T", parsed)
	}
	in = members{"KeyId": id, "Message": digest[:], "MessageType": "DIGEST", "SigningAlgorithm": "ECDSA_SHA_256"}
	in["Signature"] = blob(c.t, c.do("Sign", in), "Signature")
	in["MessageType"], in["Message"] = "RAW", message
	c.do("Verify", in)
	if c.knows("GetKeyLastUsage") {
		c.equal("last usage", find(c.do("GetKeyLastUsage", members{"KeyId": id}), "KeyLastUsage.Operation"), "Verify")
	}
	c.refused("InvalidKeyUsageException", "Encrypt", members{"KeyId": id, "Plaintext": message})
	if !c.knows("GetKeyLastUsage") { // it is newer than these kinds of keys, which clients check themselves
		return
	}
	for spec, algorithm := range map[string]string{"ML_DSA_44": "ML_DSA_SHAKE_256", "ECC_NIST_EDWARDS25519": "ED25519_SHA_512"} {
		in := members{"KeyId": c.key(members{"KeySpec": spec, "KeyUsage": "SIGN_VERIFY"}), "Message": message, "SigningAlgorithm": algorithm}
		in["Signature"] = blob(c.t, c.do("Sign", in), "Signature")
		c.equal(spec, c.do("Verify", in)["SignatureValid"], true)
	}
}

func (c *conversation) encryption() {
	plaintext := make([]byte, 200) // every byte from 56 to 255: no text in any encoding
	for i := range plaintext {
		plaintext[i] = byte(255 - i)
	}
	first, second := c.key(nil), c.key(members{"KeySpec": "RSA_2048", "KeyUsage": "ENCRYPT_DECRYPT"})
	of := members{"order": "1", "Straße": "Müller & Söhne", "ключ": "значение", "🔑": "\"\\/\t<>&'"}
	other := maps.Clone(of)
	other["order"] = "2"
	ciphertext := blob(c.t, c.do("Encrypt", members{"KeyId": first, "Plaintext": plaintext, "EncryptionContext": of}), "CiphertextBlob")
	out := c.do("Decrypt", members{"CiphertextBlob": ciphertext, "EncryptionContext": of})
	c.equal("plaintext", blob(c.t, out, "Plaintext"), plaintext)
	c.equal("key", out["KeyId"], c.arn("key/"+first))
	for name, wrong := range map[string]members{
		"another context": {"CiphertextBlob": ciphertext, "EncryptionContext": other},
		"no context":      {"CiphertextBlob": ciphertext},
		"another blob":    {"CiphertextBlob": append(bytes.Clone(ciphertext[:len(ciphertext)-1]), ciphertext[len(ciphertext)-1]^1), "EncryptionContext": of},
	} {
		if message := c.refused("InvalidCiphertextException", "Decrypt", wrong); strings.Contains(message, "order") {
			c.t.Errorf("%s: the message tells of the context: %s", name, message)
		}
	}
	c.refused("IncorrectKeyException", "Decrypt", members{"CiphertextBlob": ciphertext, "EncryptionContext": of, "KeyId": c.key(nil)})
	// To another kind of key, and back.
	out = c.do("ReEncrypt", members{
		"CiphertextBlob": ciphertext, "SourceEncryptionContext": of, "DestinationKeyId": second, "DestinationEncryptionAlgorithm": "RSAES_OAEP_SHA_1",
		"SourceKeyId": first,
	})
	c.equal("source", out["SourceKeyId"], c.arn("key/"+first))
	c.refused("InvalidCiphertextException", "ReEncrypt", members{"CiphertextBlob": ciphertext, "SourceEncryptionContext": other, "DestinationKeyId": first})
}

func (c *conversation) dataKeys() {
	id, of := c.key(nil), members{"file": "1"}
	opened := func(made members, ciphertext string) []byte {
		c.t.Helper()
		out := c.do("Decrypt", members{"CiphertextBlob": blob(c.t, made, ciphertext), "EncryptionContext": of})
		return blob(c.t, out, "Plaintext")
	}
	out := c.do("GenerateDataKey", members{"KeyId": id, "KeySpec": "AES_256", "EncryptionContext": of})
	if key := blob(c.t, out, "Plaintext"); len(key) != 32 || !bytes.Equal(opened(out, "CiphertextBlob"), key) {
		c.t.Errorf("the data key of %d bytes is another one when decrypted", len(key))
	}
	out = c.do("GenerateDataKeyWithoutPlaintext", members{"KeyId": id, "NumberOfBytes": 17, "EncryptionContext": of})
	if _, there := out["Plaintext"]; there || len(opened(out, "CiphertextBlob")) != 17 {
		c.t.Errorf("a data key without plaintext: %v", out)
	}
	out = c.do("GenerateDataKeyPair", members{"KeyId": id, "KeyPairSpec": "ECC_NIST_P384", "EncryptionContext": of})
	private := blob(c.t, out, "PrivateKeyPlaintext")
	if !bytes.Equal(opened(out, "PrivateKeyCiphertextBlob"), private) {
		c.t.Error("the private key is another one when decrypted")
	}
	c.pair(private, blob(c.t, out, "PublicKey"))
	out = c.do("GenerateDataKeyPairWithoutPlaintext", members{"KeyId": id, "KeyPairSpec": "ECC_NIST_P256", "EncryptionContext": of})
	if _, there := out["PrivateKeyPlaintext"]; there {
		c.t.Errorf("a data key pair without plaintext: %v", out)
	}
	c.pair(opened(out, "PrivateKeyCiphertextBlob"), blob(c.t, out, "PublicKey"))
}

// pair checks that two halves of an elliptic curve key belong together.
func (c *conversation) pair(private, public []byte) {
	c.t.Helper()
	key, err := x509.ParsePKCS8PrivateKey(private)
	if err != nil {
		c.t.Fatal(err)
	}
	half, err := x509.ParsePKIXPublicKey(public)
	if err != nil {
		c.t.Fatal(err)
	}
	if key, ok := key.(*ecdsa.PrivateKey); !ok || !key.PublicKey.Equal(half) {
		c.t.Errorf("a %T does not belong to the %T", key, half)
	}
}

func (c *conversation) macs() {
	message := []byte("order 1")
	id := c.key(members{"KeySpec": "HMAC_384", "KeyUsage": "GENERATE_VERIFY_MAC"})
	in := members{"KeyId": id, "Message": message, "MacAlgorithm": "HMAC_SHA_384"}
	in["Mac"] = blob(c.t, c.do("GenerateMac", in), "Mac")
	c.equal("valid", c.do("VerifyMac", in)["MacValid"], true)
	in["Message"] = []byte("order 2")
	c.refused("KMSInvalidMacException", "VerifyMac", in)
}

// Two keys agree on the same secret.
func (c *conversation) agreement() {
	if !c.knows("DeriveSharedSecret") {
		return
	}
	var ids, public []string
	for range 2 {
		id := c.key(members{"KeySpec": "ECC_NIST_P256", "KeyUsage": "KEY_AGREEMENT"})
		ids = append(ids, id)
		public = append(public, text(c.t, c.do("GetPublicKey", members{"KeyId": id}), "PublicKey"))
	}
	var secrets []string
	for i, id := range ids {
		theirs, _ := base64.StdEncoding.DecodeString(public[1-i])
		out := c.do("DeriveSharedSecret", members{"KeyId": id, "KeyAgreementAlgorithm": "ECDH", "PublicKey": theirs})
		secrets = append(secrets, text(c.t, out, "SharedSecret"))
	}
	c.equal("secrets", secrets[0], secrets[1])
}

func (c *conversation) encapsulation() {
	if !c.knows("Encapsulate") {
		return
	}
	id := c.key(members{"KeySpec": "ML_KEM_768", "KeyUsage": "ENCAPSULATE_DECAPSULATE"})
	out := c.do("Encapsulate", members{"KeyId": id, "EncapsulationAlgorithm": "ML_KEM"})
	secret := text(c.t, out, "SharedSecret")
	in := members{"KeyId": id, "EncapsulationAlgorithm": "ML_KEM", "SharedSecretCiphertextBlob": blob(c.t, out, "SharedSecretCiphertextBlob")}
	c.equal("secret", c.do("Decapsulate", in)["SharedSecret"], secret)
}

// Key material that was made elsewhere comes, goes, and comes back.
func (c *conversation) imports() {
	id := c.key(members{"Origin": "EXTERNAL"})
	c.equal("state", find(c.do("DescribeKey", members{"KeyId": id}), "KeyMetadata.KeyState"), "PendingImport")
	material := []byte("an AES key of thirty-two bytes..")
	// One token and wrapping key serve all imports.
	out := c.do("GetParametersForImport", members{"KeyId": id, "WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"})
	public, err := x509.ParsePKIXPublicKey(blob(c.t, out, "PublicKey"))
	if err != nil {
		c.t.Fatal(err)
	}
	wrapped := func(material []byte) members {
		c.t.Helper()
		sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), material, nil)
		if err != nil {
			c.t.Fatal(err)
		}
		return members{"KeyId": id, "ImportToken": blob(c.t, out, "ImportToken"), "EncryptedKeyMaterial": sealed}
	}
	in := wrapped(material)
	in["ExpirationModel"], in["ValidTo"] = "KEY_MATERIAL_EXPIRES", time.Now().Add(24*time.Hour).UTC().Truncate(time.Second)
	c.do("ImportKeyMaterial", in)
	described := c.do("DescribeKey", members{"KeyId": id})
	c.equal("state", find(described, "KeyMetadata.KeyState"), "Enabled")
	if find(described, "KeyMetadata.ValidTo") == nil {
		c.t.Error("no ValidTo")
	}
	ciphertext := blob(c.t, c.do("Encrypt", members{"KeyId": id, "Plaintext": []byte("p")}), "CiphertextBlob")
	c.do("DeleteImportedKeyMaterial", members{"KeyId": id})
	c.refused("KMSInvalidStateException", "Decrypt", members{"CiphertextBlob": ciphertext})
	in = wrapped([]byte("another than the one before ....")[:32])
	in["ExpirationModel"] = "KEY_MATERIAL_DOES_NOT_EXPIRE"
	c.refused("IncorrectKeyMaterialException", "ImportKeyMaterial", in)
	in["EncryptedKeyMaterial"] = []byte("not wrapped for this key")
	c.refused("InvalidCiphertextException", "ImportKeyMaterial", in)
	in = wrapped(material)
	in["ExpirationModel"] = "KEY_MATERIAL_DOES_NOT_EXPIRE"
	c.do("ImportKeyMaterial", in)
	c.equal("plaintext", string(blob(c.t, c.do("Decrypt", members{"CiphertextBlob": ciphertext}), "Plaintext")), "p")
}
