//go:build unix

package interop_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	tinkkms "github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"gocloud.dev/gcerrors"
	"gocloud.dev/secrets/awskms"
)

// newKeys makes symmetric keys and returns their ARNs.
func newKeys(t *testing.T, client *kms.Client, n int) (arns []string) {
	t.Helper()
	for range n {
		out, err := client.CreateKey(context.Background(), &kms.CreateKeyInput{})
		if err != nil {
			t.Fatal(err)
		}
		arns = append(arns, *out.KeyMetadata.Arn)
	}
	return arns
}

// Tink: envelopes, keysets sealed by the server, associated data, key URIs.
func TestTink(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	sdk := kms.NewFromConfig(config(callers["tink"]))
	arns := newKeys(t, sdk, 2)
	for _, name := range []tinkkms.EncryptionContextName{tinkkms.AssociatedData, tinkkms.LegacyAdditionalData} {
		client, err := tinkkms.NewClientWithOptions(ctx, "aws-kms://arn:aws:kms:"+region+":", tinkkms.WithKMS(sdk), tinkkms.WithEncryptionContextName(name))
		if err != nil {
			t.Fatal(err)
		}
		remote, err := client.GetAEAD("aws-kms://" + arns[0])
		if err != nil {
			t.Fatal(err)
		}
		other, err := client.GetAEAD("aws-kms://" + arns[1])
		if err != nil {
			t.Fatal(err)
		}
		for kind, a := range map[string]interface {
			Encrypt(plaintext, associatedData []byte) ([]byte, error)
			Decrypt(ciphertext, associatedData []byte) ([]byte, error)
		}{
			"direct": remote, "envelope": aead.NewKMSEnvelopeAEAD2(aead.AES256GCMKeyTemplate(), remote),
		} {
			for _, associated := range [][]byte{[]byte("order 1"), {0xff, 0x00}, nil} {
				sealed, err := a.Encrypt([]byte("secret"), associated)
				if err != nil {
					t.Fatal(err)
				}
				if opened, err := a.Decrypt(sealed, associated); err != nil || string(opened) != "secret" {
					t.Errorf("%s with %q: %q, %v", kind, associated, opened, err)
				}
				if _, err := a.Decrypt(sealed, []byte("order 2")); err == nil {
					t.Errorf("%s with %q opens with other associated data", kind, associated)
				}
				if _, err := other.Decrypt(sealed, associated); err == nil {
					t.Errorf("%s with %q opens with another key", kind, associated)
				}
				sealed[len(sealed)-1] ^= 1
				if _, err := a.Decrypt(sealed, associated); err == nil {
					t.Errorf("%s with %q opens when changed", kind, associated)
				}
			}
		}
		handle, err := keyset.NewHandle(aead.AES128GCMKeyTemplate())
		if err != nil {
			t.Fatal(err)
		}
		var stored bytes.Buffer
		if err := handle.Write(keyset.NewJSONWriter(&stored), remote); err != nil {
			t.Fatal(err)
		}
		read, err := keyset.Read(keyset.NewJSONReader(bytes.NewReader(stored.Bytes())), remote)
		if err != nil || read.KeysetInfo().GetPrimaryKeyId() != handle.KeysetInfo().GetPrimaryKeyId() {
			t.Errorf("a keyset sealed by the server: %v, %v", read, err)
		}
		if _, err := keyset.Read(keyset.NewJSONReader(&stored), other); err == nil {
			t.Error("a keyset opens with another key")
		}
		missing, err := client.GetAEAD("aws-kms://" + arns[0][:len(arns[0])-1] + "x")
		if err != nil {
			t.Fatal(err)
		}
		var notFound *types.NotFoundException
		if _, err := missing.Encrypt([]byte("secret"), nil); !errors.As(err, &notFound) {
			t.Errorf("a key that does not exist: %v", err)
		}
		if _, err := client.GetAEAD("aws-kms://arn:aws:kms:eu-west-1:1:key/x"); err == nil {
			t.Error("a client takes the key URI of another Region")
		}
	}
}

// gocloud.dev: Keepers by every form of key id, and its error codes.
func TestGoCloud(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	client, err := awskms.Dial(config(callers["gocloud"]))
	if err != nil {
		t.Fatal(err)
	}
	arn := newKeys(t, client, 1)[0]
	if _, err := client.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/keeper"), TargetKeyId: &arn}); err != nil {
		t.Fatal(err)
	}
	of := &awskms.KeeperOptions{EncryptionContext: map[string]string{"order": "1", "shop": "berlin"}}
	opener := awskms.OpenKeeper(client, arn, of)
	defer opener.Close()
	ids := []string{arn, arn[strings.LastIndex(arn, "/")+1:], "alias/keeper", arn[:strings.LastIndex(arn, ":")] + ":alias/keeper"}
	var sealed []byte
	for _, id := range ids {
		keeper := awskms.OpenKeeper(client, id, of)
		if sealed, err = keeper.Encrypt(ctx, []byte("secret")); err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		if opened, err := opener.Decrypt(ctx, sealed); err != nil || string(opened) != "secret" {
			t.Errorf("%s: %q, %v", id, opened, err)
		}
		keeper.Close()
	}
	code := func(what string, err error, want gcerrors.ErrorCode, api string) {
		t.Helper()
		var answered smithy.APIError
		if gcerrors.Code(err) != want || !opener.ErrorAs(err, &answered) || answered.ErrorCode() != api {
			t.Errorf("%s: code %v, want %v with %s: %v", what, gcerrors.Code(err), want, api, err)
		}
	}
	other := awskms.OpenKeeper(client, arn, &awskms.KeeperOptions{EncryptionContext: map[string]string{"order": "2", "shop": "berlin"}})
	defer other.Close()
	_, err = other.Decrypt(ctx, sealed)
	code("another context", err, gcerrors.InvalidArgument, "InvalidCiphertextException")
	_, err = opener.Decrypt(ctx, []byte("no ciphertext"))
	code("no ciphertext", err, gcerrors.InvalidArgument, "InvalidCiphertextException")
	missing := awskms.OpenKeeper(client, "alias/missing", nil)
	defer missing.Close()
	_, err = missing.Encrypt(ctx, []byte("secret"))
	code("no such alias", err, gcerrors.NotFound, "NotFoundException")
	if _, err := client.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &arn}); err != nil {
		t.Fatal(err)
	}
	_, err = opener.Decrypt(ctx, sealed)
	code("a disabled key", err, gcerrors.PermissionDenied, "DisabledException")
	if _, err := client.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &arn}); err != nil {
		t.Fatal(err)
	}
	_, err = opener.Decrypt(ctx, sealed)
	code("a key pending deletion", err, gcerrors.FailedPrecondition, "KMSInvalidStateException")
}

// The AWS Encryption SDK: messages under two keys, opened by either and by no
// other, and refused when anything in them was changed.
func TestEncryptionSDK(t *testing.T) {
	t.Parallel()
	arns := newKeys(t, kms.NewFromConfig(config(callers["encryption-sdk"])), 3)
	cmd := node(t, callers["encryption-sdk"], "encryption-sdk.mjs", arns...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, &stderr)
	}
	var found struct {
		Opened                                    []string
		Context, Header, DataKey, Body, Signature string
	}
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if !slices.Equal(found.Opened, []string{"first", "second", "discovery"}) {
		t.Errorf("the message opens with %v", found.Opened)
	}
	for _, part := range []struct{ name, message, want string }{
		{"context", found.Context, "InvalidCiphertextException"},
		{"header", found.Header, "Commitment does not match"},
		{"data keys", found.DataKey, "InvalidCiphertextException"},
		{"body", found.Body, "unable to authenticate data"},
		{"signature", found.Signature, "Invalid Signature"},
	} {
		if !strings.Contains(part.message, part.want) {
			t.Errorf("with another %s: %s, want %s", part.name, part.message, part.want)
		}
	}
}
