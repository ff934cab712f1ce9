//go:build unix

package interop_test

import (
	"bytes"
	"context"
	"embed"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	tinkkms "github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
	"github.com/tink-crypto/tink-go/v2/aead"
	"gocloud.dev/secrets"
	_ "gocloud.dev/secrets/awskms"
)

// The examples are those of docs/clients.md. They find the server through the
// environment, as a program that was started with the environment file does.

// keyARN is of the key behind alias/example.
var keyARN string

// prepareExamples makes this process one that was started with the environment
// file of the account of the documents, and makes alias/example there.
func prepareExamples() error {
	for _, variable := range callers["documents"].environment() {
		name, value, _ := strings.Cut(variable, "=")
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	ctx := context.Background()
	client := kms.NewFromConfig(config(callers["documents"]))
	key, err := client.CreateKey(ctx, &kms.CreateKeyInput{})
	if err != nil {
		return err
	}
	keyARN = *key.KeyMetadata.Arn
	_, err = client.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/example"), TargetKeyId: &keyARN})
	return err
}

//go:embed examples
var exampleFiles embed.FS

// The examples that are no Go print what they should.
func TestExamples(t *testing.T) {
	second, err := kms.NewFromConfig(config(callers["documents"])).CreateKey(context.Background(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		program string
		args    []string
		want    string
	}{
		"cli.sh":             {"bash", nil, "true"},
		"boto3_example.py":   {python(t), nil, "secret\nrefused"},
		"sdk.mjs":            {"node", nil, "true"},
		"encryption-sdk.mjs": {"node", []string{keyARN, *second.KeyMetadata.Arn}, "secret 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			script, err := exampleFiles.ReadFile("examples/" + name)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if test.program == "node" {
				dir = nodeFolder(t)
			}
			if err := os.WriteFile(filepath.Join(dir, name), script, 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(test.program, append([]string{name}, test.args...)...)
			cmd.Dir, cmd.Env = dir, callers["documents"].environment()
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if got := strings.TrimSpace(string(out)); err != nil || got != test.want {
				t.Errorf("%v: %q, want %q\n%s", err, got, test.want, &stderr)
			}
		})
	}
}

func Example_sdk() {
	ctx := context.Background()
	cfg, err := awsconfig.LoadDefaultConfig(ctx)
	if err != nil {
		log.Fatal(err)
	}
	client := kms.NewFromConfig(cfg)
	key, err := client.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify})
	if err != nil {
		log.Fatal(err)
	}
	signed, err := client.Sign(ctx, &kms.SignInput{
		KeyId: key.KeyMetadata.KeyId, Message: []byte("order 1"), SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(signed.Signature) > 64)
	// Output: true
}

func Example_tink() {
	ctx := context.Background()
	client, err := tinkkms.NewClientWithOptions(ctx, "aws-kms://"+keyARN)
	if err != nil {
		log.Fatal(err)
	}
	remote, err := client.GetAEAD("aws-kms://" + keyARN)
	if err != nil {
		log.Fatal(err)
	}
	// Each message has a data key of its own, which the server's key seals.
	envelope := aead.NewKMSEnvelopeAEAD2(aead.AES256GCMKeyTemplate(), remote)
	sealed, err := envelope.Encrypt([]byte("secret"), []byte("order 1"))
	if err != nil {
		log.Fatal(err)
	}
	opened, err := envelope.Decrypt(sealed, []byte("order 1"))
	fmt.Println(string(opened), err)
	// Output: secret <nil>
}

func Example_gocloud() {
	ctx := context.Background()
	keeper, err := secrets.OpenKeeper(ctx, "awskms:///alias/example?context_order=1")
	if err != nil {
		log.Fatal(err)
	}
	defer keeper.Close()
	sealed, err := keeper.Encrypt(ctx, []byte("secret"))
	if err != nil {
		log.Fatal(err)
	}
	opened, err := keeper.Decrypt(ctx, sealed)
	fmt.Println(string(opened), err)
	// Output: secret <nil>
}
