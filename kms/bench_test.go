package kms_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/keystore"
	"github.com/keyturn/keyturn/kms"
	"github.com/keyturn/keyturn/sqldb/sqldbtest"
)

// What an operation costs on a warm key beyond the wire: names, snapshot,
// decision, state, cryptography and the note of use. Compare with the cost of
// the bare cryptography in package keystore.
func BenchmarkWarm(b *testing.B) {
	n := newNode(b, sqldbtest.SQLite(b), options{})
	n.as(account, "u", allow("kms:*"))
	credential, err := n.guard.Credential(ctx, "AKIA"+account+"U", "")
	if err != nil {
		b.Fatal(err)
	}
	call := func() *access.Call {
		return &access.Call{
			ID: "id", Service: "kms", Region: region, Account: account, Caller: credential.Caller, Time: time.Now(), ReadOnly: true,
		}
	}
	signing, mac, symmetric := n.signingKey(), n.create(types.KeySpecHmac256, types.KeyUsageTypeGenerateVerifyMac), n.symmetricKey()
	n.alias("alias/x", signing)
	message := make([]byte, 64)
	n.as(account, "g", "")
	granted, err := n.guard.Credential(ctx, "AKIA"+account+"G", "")
	if err != nil {
		b.Fatal(err)
	}
	for i := range 50 {
		n.grantIf(&types.GrantConstraints{EncryptionContextSubset: map[string]string{"n": strconv.Itoa(i)}}, symmetric, userARN("g"), "Encrypt")
	}
	last := map[string]string{"n": "49"}
	for name, op := range map[string]func() error{
		"Sign P-256": func() error {
			_, err := n.service.Sign(ctx, call(), &kms.SignRequest{KeyId: *signing.KeyId, Message: message, SigningAlgorithm: keystore.ECDSASHA256})
			return err
		},
		"Sign P-256 by alias": func() error {
			_, err := n.service.Sign(ctx, call(), &kms.SignRequest{KeyId: "alias/x", Message: message, SigningAlgorithm: keystore.ECDSASHA256})
			return err
		},
		"GenerateMac": func() error {
			_, err := n.service.GenerateMac(ctx, call(), &kms.GenerateMacRequest{KeyId: *mac.KeyId, Message: message, MacAlgorithm: keystore.HMACSHA256})
			return err
		},
		"Encrypt": func() error {
			_, err := n.service.Encrypt(ctx, call(), &kms.EncryptRequest{KeyId: *symmetric.KeyId, Plaintext: message})
			return err
		},
		"Encrypt by the last of 50 grants": func() error {
			c := call()
			c.Caller = granted.Caller
			_, err := n.service.Encrypt(ctx, c, &kms.EncryptRequest{KeyId: *symmetric.KeyId, Plaintext: message, EncryptionContext: last})
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := op(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
