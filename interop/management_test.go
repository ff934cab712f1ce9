//go:build unix

package interop_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

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
// returns what it is.
func (c *conversation) settled(region, id string) any {
	c.t.Helper()
	var out members
	c.until("the key in "+region+" is enabled", func() bool {
		out = c.in(region, "DescribeKey", members{"KeyId": id})
		return find(out, "KeyMetadata.KeyState") == "Enabled"
	})
	return find(out, "KeyMetadata.MultiRegionConfiguration.MultiRegionKeyType")
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

// A grant lets its token's bearer in at once, and ends in two ways.
func (c *conversation) grants() {
	root := "arn:aws:iam::" + c.account + ":root"
	id := c.key(nil)
	in := members{
		"KeyId": id, "GranteePrincipal": root, "RetiringPrincipal": root, "Operations": []string{"Encrypt", "Decrypt"},
		"Constraints": members{"EncryptionContextSubset": members{"order": "1"}},
	}
	var ids []string
	var token string
	for i := range 3 {
		in["Name"] = fmt.Sprintf("grant_%d", i)
		out := c.do("CreateGrant", in)
		ids, token = append(ids, text(c.t, out, "GrantId")), text(c.t, out, "GrantToken")
	}
	c.equal("the grant made again", c.do("CreateGrant", in)["GrantId"], ids[2])
	of := members{"order": "1", "shop": "berlin"}
	encrypt := members{"KeyId": id, "Plaintext": []byte("p"), "EncryptionContext": of, "GrantTokens": []string{token}}
	decrypt := members{"CiphertextBlob": blob(c.t, c.do("Encrypt", encrypt), "CiphertextBlob"), "EncryptionContext": of, "GrantTokens": []string{token}}
	c.equal("plaintext", string(blob(c.t, c.do("Decrypt", decrypt), "Plaintext")), "p")
	decrypt["GrantTokens"] = []string{"forged"}
	c.refused("InvalidGrantTokenException", "Decrypt", decrypt)

	retired, revoked := ids[2], ids[0]
	slices.Sort(ids)
	for operation, of := range map[string]members{"ListGrants": {"KeyId": id}, "ListRetirableGrants": {"RetiringPrincipal": root}} {
		pages := c.client.pages(operation, of, 2)
		listed := every(pages, "Grants", "GrantId")
		slices.Sort(listed)
		c.equal(operation, listed, ids)
		first := pages[0]["Grants"].([]any)[0].(members)
		c.equal("constraints", find(first, "Constraints.EncryptionContextSubset.order"), "1")
		c.equal("operations", len(first["Operations"].([]any)), 2)
		c.do(operation, of)
	}
	c.do("RetireGrant", members{"GrantToken": token})
	c.do("RevokeGrant", members{"KeyId": id, "GrantId": revoked})
	c.refused("NotFoundException", "RevokeGrant", members{"KeyId": id, "GrantId": revoked})
	left := every([]members{c.do("ListGrants", members{"KeyId": id})}, "Grants", "GrantId")
	c.equal("grants left", left, slices.DeleteFunc(ids, func(id string) bool { return id == retired || id == revoked }))
}

// A symmetric key turns: what its old material encrypted is still decrypted.
func (c *conversation) rotation() {
	id := c.key(nil)
	in := members{"KeyId": id}
	chosen := c.knows("RotateKeyOnDemand") // which is as old as the choice of a period
	if chosen {
		in["RotationPeriodInDays"] = 90
	}
	c.do("EnableKeyRotation", in)
	status := c.do("GetKeyRotationStatus", members{"KeyId": id})
	c.equal("rotation", status["KeyRotationEnabled"], true)
	if chosen {
		c.equal("period", status["RotationPeriodInDays"], 90)
		if status["NextRotationDate"] == nil {
			c.t.Error("no NextRotationDate")
		}
		c.turns(id)
	}
	c.do("DisableKeyRotation", members{"KeyId": id})
	c.equal("rotation", c.do("GetKeyRotationStatus", members{"KeyId": id})["KeyRotationEnabled"], false)
	signing := c.key(members{"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"})
	c.refused("UnsupportedOperationException", "EnableKeyRotation", members{"KeyId": signing})
}

func (c *conversation) turns(id string) {
	ciphertext := blob(c.t, c.do("Encrypt", members{"KeyId": id, "Plaintext": []byte("p")}), "CiphertextBlob")
	for turns := range 2 {
		c.do("RotateKeyOnDemand", members{"KeyId": id})
		c.until("the key has turned", func() bool {
			return c.do("GetKeyRotationStatus", members{"KeyId": id})["OnDemandRotationStartDate"] == nil
		})
		listed := every(c.client.pages("ListKeyRotations", members{"KeyId": id}, 1), "Rotations", "RotationType")
		c.equal("rotations", listed, []string{"ON_DEMAND", "ON_DEMAND"}[:turns+1])
	}
	c.do("ListKeyRotations", members{"KeyId": id})
	c.equal("plaintext", string(blob(c.t, c.do("Decrypt", members{"CiphertextBlob": ciphertext}), "Plaintext")), "p")
}

// There are no custom key stores, and the answers are those of an account that
// has none.
func (c *conversation) stores() {
	none := c.client.pages("DescribeCustomKeyStores", nil, 10)
	c.do("DescribeCustomKeyStores", nil)
	c.equal("stores", every(none, "CustomKeyStores", "CustomKeyStoreId"), "[]")
	store := members{"CustomKeyStoreId": "cks-1234567890abcdef0"}
	for _, operation := range []string{"ConnectCustomKeyStore", "DisconnectCustomKeyStore", "UpdateCustomKeyStore", "DeleteCustomKeyStore", "DescribeCustomKeyStores"} {
		c.refused("CustomKeyStoreNotFoundException", operation, store)
	}
	c.refused("UnsupportedOperationException", "CreateCustomKeyStore", members{
		"CustomKeyStoreName": "hsm", "CloudHsmClusterId": "cluster-2a23b4cdefg", "KeyStorePassword": "kmsPswd1", "TrustAnchorCertificate": "certificate",
	})
}
