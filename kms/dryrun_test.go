package kms_test

import (
	"context"
	"reflect"
	"slices"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go/middleware"
)

// takesDryRun lists the operations with a member DryRun, by the API model.
func takesDryRun() (names []string) {
	for name, io := range apiOperations {
		if in := reflect.TypeOf(io[0]); in != nil {
			if _, ok := in.FieldByName("DryRun"); ok {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// dry is the node with clients that ask for a dry run wherever there is one.
func dry(n *node, c *sdk.Client) *node {
	d := *n
	o := c.Options()
	o.APIOptions = append(slices.Clone(o.APIOptions), func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("dry run",
			func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
				if f := reflect.ValueOf(in.Parameters).Elem().FieldByName("DryRun"); f.IsValid() {
					f.Set(reflect.ValueOf(ptr(true)))
				}
				return next.HandleInitialize(ctx, in)
			}), middleware.Before)
	})
	d.Client = sdk.New(o)
	return &d
}

// A dry run says what the request would come to and does nothing: what would have
// succeeded is DryRunOperationException, and can still be done afterwards; every
// refusal is what it would have been.
func TestDryRunOfEveryOperation(t *testing.T) {
	operations := takesDryRun()
	if len(operations) < 17 {
		t.Fatalf("only %d operations", len(operations))
	}
	each(t, func(t *testing.T, n *node) {
		nobody := n.as(account, "nobody", "")
		for _, op := range operations {
			a, ok := everyOperation[op]
			if !ok {
				t.Errorf("%s is not tried", op)
				continue
			}
			k := n.createWith(&sdk.CreateKeyInput{KeySpec: a.spec, KeyUsage: a.usage, MultiRegion: &a.multi})
			var made []byte
			if a.before != nil {
				made = a.before(n, k)
			}
			used, _ := n.lastUse(k)
			wantError(t, a.run(dry(n, n.Client), k, made), "DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
			if code := errorCode(a.run(dry(n, nobody), k, made)); code != "AccessDeniedException" && op != "RetireGrant" {
				t.Errorf("a dry run of %s by nobody: %q", op, code)
			}
			if now, _ := n.lastUse(k); now != used {
				t.Errorf("a dry run of %s counts as a use", op)
			}
			if err := a.run(n, k, made); err != nil {
				t.Errorf("%s after its dry run: %v", op, err)
			}
			k = n.createWith(&sdk.CreateKeyInput{KeySpec: a.spec, KeyUsage: a.usage, MultiRegion: &a.multi})
			if a.before != nil {
				made = a.before(n, k)
			}
			n.disable(k)
			real, asked := apiError(a.run(n, k, made)), ""
			if real != "no error" {
				asked = apiError(a.run(dry(n, n.Client), k, made))
			}
			if asked != "" && asked != real {
				t.Errorf("%s of a disabled key: %s, its dry run: %s", op, real, asked)
			}
		}
	})
}

// Every key that decrypts hands over to every key that encrypts, whatever the order
// of the encryption contexts, and the plaintext stays the same.
func TestReEncryptBetweenAllKinds(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		imported := n.createWith(&sdk.CreateKeyInput{Origin: types.OriginTypeExternal})
		n.mustImport(imported, secret(32), nil)
		turned := n.symmetricKey()
		rsaKey := n.create(types.KeySpecRsa2048, types.KeyUsageTypeEncryptDecrypt)
		type end struct {
			key     *types.KeyMetadata
			alg     types.EncryptionAlgorithmSpec
			context map[string]string // nil where the key takes none
			again   map[string]string // the same, written in another order
		}
		ends := map[string]end{
			"symmetric":    {n.symmetricKey(), types.EncryptionAlgorithmSpecSymmetricDefault, map[string]string{"a": "1", "b": "2", "c": "3"}, map[string]string{"c": "3", "b": "2", "a": "1"}},
			"imported":     {imported, types.EncryptionAlgorithmSpecSymmetricDefault, map[string]string{"b": "2", "a": "1"}, map[string]string{"a": "1", "b": "2"}},
			"turned":       {turned, types.EncryptionAlgorithmSpecSymmetricDefault, nil, nil},
			"RSA, SHA-1":   {rsaKey, types.EncryptionAlgorithmSpecRsaesOaepSha1, nil, nil},
			"RSA, SHA-256": {rsaKey, types.EncryptionAlgorithmSpecRsaesOaepSha256, nil, nil},
		}
		plaintext := []byte("from hand to hand")
		for fromName, from := range ends {
			blob := must[*sdk.EncryptOutput](t)(n.Encrypt(ctx, &sdk.EncryptInput{
				KeyId: from.key.KeyId, Plaintext: plaintext, EncryptionAlgorithm: from.alg, EncryptionContext: from.context,
			})).CiphertextBlob
			if fromName == "turned" {
				n.turn(turned)
			}
			for toName, to := range ends {
				in := &sdk.ReEncryptInput{
					CiphertextBlob: blob, SourceKeyId: from.key.KeyId, SourceEncryptionAlgorithm: from.alg, SourceEncryptionContext: from.again,
					DestinationKeyId: to.key.KeyId, DestinationEncryptionAlgorithm: to.alg, DestinationEncryptionContext: to.context,
				}
				out, err := n.ReEncrypt(ctx, in)
				if err != nil {
					t.Errorf("%s to %s: %v", fromName, toName, err)
					continue
				}
				symmetric := func(e end) bool { return e.alg == types.EncryptionAlgorithmSpecSymmetricDefault }
				if *out.SourceKeyId != *from.key.Arn || *out.KeyId != *to.key.Arn || out.SourceEncryptionAlgorithm != from.alg || out.DestinationEncryptionAlgorithm != to.alg ||
					(out.SourceKeyMaterialId != nil) != symmetric(from) || (out.DestinationKeyMaterialId != nil) != symmetric(to) {
					t.Errorf("%s to %s: %+v", fromName, toName, out)
				}
				opened, err := n.Decrypt(ctx, &sdk.DecryptInput{
					CiphertextBlob: out.CiphertextBlob, KeyId: to.key.KeyId, EncryptionAlgorithm: to.alg, EncryptionContext: to.again,
				})
				if err != nil || string(opened.Plaintext) != string(plaintext) {
					t.Errorf("%s to %s: %v", fromName, toName, err)
				}
				in.SourceEncryptionContext = map[string]string{"a": "1", "b": "3"}
				if _, err := n.ReEncrypt(ctx, in); err == nil {
					t.Errorf("%s to %s with another context of the source", fromName, toName)
				}
				if !symmetric(to) {
					in.SourceEncryptionContext, in.DestinationEncryptionContext = from.context, map[string]string{"a": "1"}
					_, err := n.ReEncrypt(ctx, in)
					wantError(t, err, "ValidationException", "*")
				}
			}
		}
	})
}
