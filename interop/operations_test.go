//go:build unix

package interop_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// clients are those that can do every operation of KMS, or as many as their
// version knows.
var clients = map[string]func(*testing.T, account) client{
	"go":      newGoSDK,
	"boto3":   newBoto3,
	"cli":     newCLI,
	"node-v3": newNode("client-v3.mjs"),
	"node-v2": newNode("client-v2.mjs"),
}

// newer are the operations that came after 2022: a client that has no other
// left out is no older than what Debian 12 packages.
var newer = []string{"Decapsulate", "DeriveSharedSecret", "Encapsulate", "GetKeyLastUsage", "ListKeyRotations", "RotateKeyOnDemand"}

// coming are the operations that the server does not have yet.
var coming = []string{
	"ConnectCustomKeyStore", "CreateCustomKeyStore", "CreateGrant", "DeleteCustomKeyStore", "DeleteImportedKeyMaterial", "DescribeCustomKeyStores",
	"DisableKeyRotation", "DisconnectCustomKeyStore", "EnableKeyRotation", "GetParametersForImport", "ImportKeyMaterial", "ListGrants",
	"ListKeyRotations", "ListRetirableGrants", "RetireGrant", "RevokeGrant", "RotateKeyOnDemand", "UpdateCustomKeyStore",
}

// Every client does every operation that it knows, and reads each answer and
// each error as it does those of AWS.
func TestOperations(t *testing.T) {
	for name, start := range clients {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &conversation{t: t, client: start(t, accounts[name]), account: accounts[name].number, done: map[string]bool{}}
			for _, operation := range operations() {
				if !slices.Contains(newer, operation) || c.client.knows(operation) {
					c.known = append(c.known, operation)
				}
			}
			c.run("keys", c.keys)
			c.run("aliases", c.aliases)
			c.run("policies", c.policies)
			c.run("tags", c.tags)
			c.run("pages", c.pages)
			c.run("signatures", c.signatures)
			c.run("encryption", c.encryption)
			c.run("data keys", c.dataKeys)
			c.run("macs", c.macs)
			c.run("agreement", c.agreement)
			c.run("encapsulation", c.encapsulation)
			c.run("Regions", c.regions)
			c.run("errors", c.errors)
			c.run("deletion", c.deletion)
			if c, ok := c.client.(*cli); ok {
				t.Run("words", c.words)
			}
			for _, operation := range operations() {
				switch known := slices.Contains(c.known, operation); {
				case !known:
					t.Logf("this version does not know %s", operation)
				case slices.Contains(coming, operation):
					if c.done[operation] {
						t.Errorf("%s is not coming any more: it is there", operation)
					}
				case !c.done[operation]:
					t.Errorf("%s was not done", operation)
				}
			}
		})
	}
}

// conversation is what one client says to the server, alone in its account.
type conversation struct {
	t       *testing.T // of the group that is being run
	client  client
	account string
	known   []string // operations
	done    map[string]bool
	made    int // keys
}

// run runs a group of operations as a subtest.
func (c *conversation) run(name string, group func()) {
	whole := c.t
	defer func() { c.t = whole }()
	whole.Run(name, func(t *testing.T) {
		c.t = t
		group()
	})
}

func (c *conversation) knows(operation string) bool { return slices.Contains(c.known, operation) }

// do does an operation, which must succeed.
func (c *conversation) do(operation string, in members) members {
	c.t.Helper()
	return c.in(region, operation, in)
}

func (c *conversation) in(region, operation string, in members) members {
	c.t.Helper()
	out, refused := c.client.do(region, operation, in)
	if refused != nil {
		c.t.Fatalf("%s: %+v", operation, *refused)
	}
	c.done[operation] = true
	// Some clients tell how it went: nothing had to be said twice.
	for path, want := range map[string]float64{"ResponseMetadata.RetryAttempts": 0, "$metadata.attempts": 1} {
		if n, told := find(out, path).(float64); told && n != want {
			c.t.Errorf("%s: %s is %v", operation, path, n)
		}
	}
	return out
}

// unmodelled are the errors that AWS's model of KMS does not have, and for
// which no client has a class.
var unmodelled = []string{"ValidationException", "AccessDeniedException", "ThrottlingException"}

// refused does an operation, which must be refused with code, and with the
// client's class for it.
func (c *conversation) refused(code, operation string, in members) string {
	c.t.Helper()
	out, refused := c.client.do(region, operation, in)
	switch {
	case refused == nil:
		c.t.Fatalf("%s: %v, want %s", operation, out, code)
	case refused.Code != code:
		c.t.Errorf("%s: %+v, want %s", operation, *refused, code)
	case refused.Class != code && !slices.Contains(unmodelled, code):
		c.t.Errorf("%s: a %s for %s", operation, refused.Class, code)
	}
	c.done[operation] = true
	return refused.Message
}

// key makes a key and returns its id.
func (c *conversation) key(in members) string {
	c.t.Helper()
	out := c.do("CreateKey", in)
	c.made++
	id := text(c.t, out, "KeyMetadata.KeyId")
	if arn := text(c.t, out, "KeyMetadata.Arn"); arn != c.arn("key/"+id) {
		c.t.Errorf("the ARN of a key is %s", arn)
	}
	return id
}

func (c *conversation) arn(resource string) string {
	return fmt.Sprintf("arn:aws:kms:%s:%s:%s", region, c.account, resource)
}

func (c *conversation) equal(what string, got, want any) {
	c.t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		c.t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func (c *conversation) keys() {
	id := c.key(members{"Description": "first"})
	c.do("UpdateKeyDescription", members{"KeyId": id, "Description": "Schlüssel für 東京 🔑"})
	c.do("DisableKey", members{"KeyId": id})
	out := c.do("DescribeKey", members{"KeyId": c.arn("key/" + id)})
	c.equal("description", find(out, "KeyMetadata.Description"), "Schlüssel für 東京 🔑")
	c.equal("state", find(out, "KeyMetadata.KeyState"), "Disabled")
	c.equal("enabled", find(out, "KeyMetadata.Enabled"), false)
	c.equal("algorithms", find(out, "KeyMetadata.EncryptionAlgorithms"), "[SYMMETRIC_DEFAULT]")
	if created := find(out, "KeyMetadata.CreationDate"); created == nil {
		c.t.Error("no CreationDate")
	}
	c.refused("DisabledException", "Encrypt", members{"KeyId": id, "Plaintext": []byte("p")})
	c.do("EnableKey", members{"KeyId": id})
	c.equal("rotation", c.do("GetKeyRotationStatus", members{"KeyId": id})["KeyRotationEnabled"], false)
	if random := blob(c.t, c.do("GenerateRandom", members{"NumberOfBytes": 33}), "Plaintext"); len(random) != 33 {
		c.t.Errorf("%d random bytes, want 33", len(random))
	}
}

func (c *conversation) aliases() {
	first, second := c.key(nil), c.key(nil)
	c.do("CreateAlias", members{"AliasName": "alias/orders/a_b-1", "TargetKeyId": first})
	c.do("UpdateAlias", members{"AliasName": "alias/orders/a_b-1", "TargetKeyId": c.arn("key/" + second)})
	listed := c.do("ListAliases", members{"KeyId": second})
	c.equal("aliases", every([]members{listed}, "Aliases", "AliasName"), "[alias/orders/a_b-1]")
	for _, name := range []string{"alias/orders/a_b-1", c.arn("alias/orders/a_b-1")} {
		c.equal(name, find(c.do("DescribeKey", members{"KeyId": name}), "KeyMetadata.KeyId"), second)
	}
	c.refused("AlreadyExistsException", "CreateAlias", members{"AliasName": "alias/orders/a_b-1", "TargetKeyId": first})
	c.refused("ValidationException", "CreateAlias", members{"AliasName": "orders", "TargetKeyId": first})
	c.do("DeleteAlias", members{"AliasName": "alias/orders/a_b-1"})
	c.refused("NotFoundException", "DescribeKey", members{"KeyId": "alias/orders/a_b-1"})
}

func (c *conversation) policies() {
	id := c.key(nil)
	listed := c.client.pages("ListKeyPolicies", members{"KeyId": id}, 10)
	c.do("ListKeyPolicies", members{"KeyId": id})
	c.equal("policies", every(listed, "PolicyNames", ""), "[default]")
	policy := text(c.t, c.do("GetKeyPolicy", members{"KeyId": id, "PolicyName": "default"}), "Policy")
	if !strings.Contains(policy, "arn:aws:iam::"+c.account+":root") {
		c.t.Errorf("the default policy is %s", policy)
	}
	changed := strings.Replace(policy, "Enable IAM User Permissions", "geändert & <tags>", 1)
	c.do("PutKeyPolicy", members{"KeyId": id, "PolicyName": "default", "Policy": changed})
	policy = text(c.t, c.do("GetKeyPolicy", members{"KeyId": id, "PolicyName": "default"}), "Policy")
	if !strings.Contains(policy, "geändert & <tags>") {
		c.t.Errorf("the policy put is %s", policy)
	}
	c.refused("MalformedPolicyDocumentException", "PutKeyPolicy", members{"KeyId": id, "PolicyName": "default", "Policy": "{"})
}

func (c *conversation) tags() {
	id := c.key(members{"Tags": []members{{"TagKey": "team", "TagValue": "payments"}}})
	c.do("TagResource", members{"KeyId": id, "Tags": []members{{"TagKey": "Straße", "TagValue": "Müller & Söhne"}, {"TagKey": "stage", "TagValue": ""}}})
	c.do("UntagResource", members{"KeyId": id, "TagKeys": []string{"team"}})
	tags := map[string]string{}
	pages := c.client.pages("ListResourceTags", members{"KeyId": id}, 1)
	values := every(pages, "Tags", "TagValue")
	for i, name := range every(pages, "Tags", "TagKey") {
		tags[name] = values[i]
	}
	if !maps.Equal(tags, map[string]string{"Straße": "Müller & Söhne", "stage": ""}) {
		c.t.Errorf("the tags are %q", tags)
	}
	c.do("ListResourceTags", members{"KeyId": id})
	c.refused("TagException", "TagResource", members{"KeyId": id, "Tags": []members{{"TagKey": "aws:mine", "TagValue": "1"}}})
}

// pages are followed by the client itself, whatever their size.
func (c *conversation) pages() {
	id := c.key(nil)
	for i := range 5 {
		c.do("CreateAlias", members{"AliasName": fmt.Sprintf("alias/page-%d", i), "TargetKeyId": id})
	}
	for operation, list := range map[string]struct {
		in           members
		name, member string
		items        int
	}{
		"ListKeys":    {nil, "Keys", "KeyId", c.made},
		"ListAliases": {members{"KeyId": id}, "Aliases", "AliasName", 5},
	} {
		var first []string
		for _, size := range []int{1, 2, 100} {
			pages := c.client.pages(operation, list.in, size)
			if want := (list.items + size - 1) / size; len(pages) != want && len(pages) != 1 { // the AWS CLI joins them
				c.t.Errorf("%s by %d: %d pages of %d items", operation, size, len(pages), list.items)
			}
			items := every(pages, list.name, list.member)
			slices.Sort(items)
			if len(slices.Compact(items)) != list.items {
				c.t.Errorf("%s by %d: %d different items, want %d", operation, size, len(slices.Compact(items)), list.items)
			}
			if first == nil {
				first = items
			}
			c.equal(operation, items, first)
		}
		c.do(operation, list.in)
	}
}

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

// One key in two Regions, and the primary moves.
func (c *conversation) regions() {
	const other = "eu-west-1"
	id := c.key(members{"MultiRegion": true})
	out := c.do("ReplicateKey", members{"KeyId": id, "ReplicaRegion": other})
	replica := text(c.t, out, "ReplicaKeyMetadata.Arn")
	c.equal("replica", replica, strings.Replace(c.arn("key/"+id), region, other, 1))
	c.settled(region, id)
	c.settled(other, id)
	ciphertext := blob(c.t, c.do("Encrypt", members{"KeyId": id, "Plaintext": []byte("p")}), "CiphertextBlob")
	out = c.in(other, "Decrypt", members{"CiphertextBlob": ciphertext, "KeyId": replica})
	c.equal("plaintext", string(blob(c.t, out, "Plaintext")), "p")
	c.do("UpdatePrimaryRegion", members{"KeyId": id, "PrimaryRegion": other})
	c.equal("type", c.settled(region, id), "REPLICA")
	c.equal("type", c.settled(other, id), "PRIMARY")
	c.refused("NotFoundException", "Encrypt", members{"KeyId": replica, "Plaintext": []byte("p")})
}

// settled waits until a Multi-Region key is done with what was asked of it, and
// returns what it is. AWS and its SDKs have no waiter for that.
func (c *conversation) settled(region, id string) any {
	c.t.Helper()
	for {
		out := c.in(region, "DescribeKey", members{"KeyId": id})
		switch state := text(c.t, out, "KeyMetadata.KeyState"); state {
		case "Enabled":
			return find(out, "KeyMetadata.MultiRegionConfiguration.MultiRegionKeyType")
		case "Creating", "Updating":
		default:
			c.t.Fatalf("the key in %s is %s", region, state)
		}
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

// errors that are no operation's own.
func (c *conversation) errors() {
	missing := "11111111-2222-3333-4444-555555555555"
	message := c.refused("NotFoundException", "DescribeKey", members{"KeyId": missing})
	c.equal("message", message, "Key '"+c.arn("key/"+missing)+"' does not exist")
}

func (c *conversation) deletion() {
	id := c.key(nil)
	out := c.do("ScheduleKeyDeletion", members{"KeyId": id, "PendingWindowInDays": 7})
	c.equal("state", out["KeyState"], "PendingDeletion")
	c.refused("KMSInvalidStateException", "Encrypt", members{"KeyId": id, "Plaintext": []byte("p")})
	c.do("CancelKeyDeletion", members{"KeyId": id})
	c.equal("state", find(c.do("DescribeKey", members{"KeyId": id}), "KeyMetadata.KeyState"), "Disabled")
}
