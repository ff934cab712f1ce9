package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
)

// startOpenBao starts an OpenBao development server with the transit engine and
// its file audit device, so that it does the same kind of work: authenticate,
// decide, log, compute. It keeps everything in memory, which favours it.
func startOpenBao(ctx context.Context, binary, dir string) (*peer, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	token := rand.Text()
	cmd := exec.Command(binary, "server", "-dev", "-dev-listen-address="+addr, "-dev-no-store-token", "-log-level=error")
	// The token goes by environment: argument lists are public on the machine.
	cmd.Env = append(cmd.Environ(), "BAO_DEV_ROOT_TOKEN_ID="+token, "VAULT_DEV_ROOT_TOKEN_ID="+token)
	cmd.Stdout = io.Discard
	stop, err := process(cmd)
	if err != nil {
		return nil, fmt.Errorf("starting OpenBao: %w", err)
	}
	p := &peer{name: "openbao", pid: cmd.Process.Pid, stop: stop}
	if err := answers(ctx, addr); err != nil {
		stop()
		return nil, fmt.Errorf("starting OpenBao: %w", err)
	}
	bao := func(path, body string) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/v1/"+path, strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("X-Vault-Token", token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode >= http.StatusMultipleChoices {
			text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
			return fmt.Errorf("%s: %s %s", path, resp.Status, text)
		}
		return nil
	}
	for path, body := range map[string]string{
		"sys/mounts/transit": `{"type":"transit"}`,
		"sys/audit/file":     fmt.Sprintf(`{"type":"file","options":{"file_path":%q}}`, filepath.Join(dir, "openbao-audit.log")),
	} {
		if err := bao(path, body); err != nil {
			stop()
			return nil, fmt.Errorf("preparing OpenBao: %w", err)
		}
	}
	text := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), 64))
	ops := map[string]struct{ kind, path, body string }{
		"sign-p256":    {"ecdsa-p256", "sign", fmt.Sprintf(`{"input":%q}`, text)},
		"sign-rsa2048": {"rsa-2048", "sign", fmt.Sprintf(`{"input":%q,"signature_algorithm":"pkcs1v15"}`, text)},
		"mac-256":      {"aes256-gcm96", "hmac", fmt.Sprintf(`{"input":%q}`, text)},
		"encrypt-64":   {"aes256-gcm96", "encrypt", fmt.Sprintf(`{"plaintext":%q}`, text)},
	}
	p.load = func(_ context.Context, op string) (*load, error) {
		do, ok := ops[op]
		if !ok {
			return nil, errNotOffered
		}
		if err := bao("transit/keys/"+op, fmt.Sprintf(`{"type":%q}`, do.kind)); err != nil {
			return nil, err
		}
		return &load{addr: addr, requests: [][]byte{plainRequest(addr, "/v1/transit/"+do.path+"/"+op,
			map[string]string{"X-Vault-Token": token, "Content-Type": "application/json"}, []byte(do.body))}}, nil
	}
	return p, nil
}
