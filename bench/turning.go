package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/go-json-experiment/json"
	"github.com/keyturn/keyturn/rotation"
)

// turning is what signing costs while lineages turn beside it.
type turning struct {
	Lineages  int     `json:"lineages"`
	Every     string  `json:"every"`
	AloneP99  float64 `json:"alone_p99_ms"`
	BesideP99 float64 `json:"beside_p99_ms"`
	Ratio     float64 `json:"ratio"`
}

const turningLineages = 10

// measureTurning signs with P-256 alone, and again while RSA-2048 lineages turn,
// one a second.
func measureTurning(ctx context.Context, o options, dir string) error {
	k, err := startKeyturn(ctx, o.keyturn, filepath.Join(dir, "turning"))
	if err != nil {
		return err
	}
	defer k.stop()
	p := k.peer()
	l, err := p.load(ctx, "sign-p256")
	if err != nil {
		return err
	}
	l.run(ctx, o.connections, time.Second)
	alone, err := l.measure(ctx, p, o)
	if err != nil {
		return err
	}
	for i := range turningLineages {
		key, err := k.sdk.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: types.KeySpecRsa2048, KeyUsage: types.KeyUsageTypeSignVerify})
		if err != nil {
			return err
		}
		alias := fmt.Sprintf("alias/turning-%d", i)
		if _, err := k.sdk.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String(alias), TargetKeyId: key.KeyMetadata.KeyId}); err != nil {
			return err
		}
		policy := rotation.Policy{
			Name: fmt.Sprintf("turning-%d", i), Alias: alias, Schedule: "rate(10 seconds)", MaxKeysPerDay: 100_000,
			Lead: rotation.Duration(2 * time.Second), Overlap: rotation.Duration(3 * time.Second),
		}
		if err := k.native(ctx, http.DefaultClient, "PutPolicy", &rotation.PutPolicyInput{Policy: policy}, nil); err != nil {
			return err
		}
	}
	if l, err = p.load(ctx, "sign-p256"); err != nil {
		return err
	}
	long := o
	long.duration = max(o.duration, 15*time.Second) // every lineage turns at least once
	beside, err := l.measure(ctx, p, long)
	if err != nil {
		return err
	}
	if n := alone.Errors + beside.Errors; n > 0 {
		return fmt.Errorf("%d signatures failed, the first with: %s%s", n, alone.FirstError, beside.FirstError)
	}
	t := turning{Lineages: turningLineages, Every: "10s", AloneP99: alone.P99, BesideP99: beside.P99, Ratio: beside.P99 / alone.P99}
	if o.json {
		return printLine(t)
	}
	fmt.Printf("\nsigning while %d RSA-2048 lineages turn every %s: p99 %.2f ms, alone %.2f ms, ratio %.2f\n", t.Lineages, t.Every, t.BesideP99, t.AloneP99, t.Ratio)
	return nil
}

// native does one of Keyturn's own operations. out may be nil.
func (k *keyturn) native(ctx context.Context, client aws.HTTPClient, operation string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+k.addr+"/", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "Keyturn."+operation)
	creds, err := k.aws.Credentials.Retrieve(ctx)
	if err != nil {
		return err
	}
	hash := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(ctx, creds, req, hex.EncodeToString(hash[:]), "keyturn", k.aws.Region, time.Now()); err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<12))
		return fmt.Errorf("%s: %s: %s", operation, resp.Status, text)
	}
	if out == nil {
		return nil
	}
	return json.UnmarshalRead(resp.Body, out)
}
