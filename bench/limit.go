package main

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// serveLimit is the fastest server that one would write by hand in an
// afternoon: net/http, JSON into a struct, the cryptography, JSON out. It
// checks no signature, asks no policy, writes no log and has one key of each
// kind.
func serveLimit(ctx context.Context, addr string) error {
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	block, err := aes.NewCipher(secret)
	if err != nil {
		return err
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return err
	}

	type request struct {
		KeyId            string
		Message          []byte
		Plaintext        []byte
		MessageType      string
		SigningAlgorithm string
		MacAlgorithm     string
	}
	type answer struct {
		KeyId               string `json:",omitzero"`
		Signature           []byte `json:",omitzero"`
		SigningAlgorithm    string `json:",omitzero"`
		Mac                 []byte `json:",omitzero"`
		MacAlgorithm        string `json:",omitzero"`
		CiphertextBlob      []byte `json:",omitzero"`
		Plaintext           []byte `json:",omitzero"`
		EncryptionAlgorithm string `json:",omitzero"`
	}
	handler := func(w http.ResponseWriter, r *http.Request) {
		var in request
		if err := json.UnmarshalRead(r.Body, &in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		out := answer{KeyId: in.KeyId}
		var err error
		switch op := r.Header.Get("X-Amz-Target"); {
		case strings.HasSuffix(op, ".Sign") && in.SigningAlgorithm == "ECDSA_SHA_256":
			digest := sha256.Sum256(in.Message)
			out.Signature, err = ecdsa.SignASN1(rand.Reader, p256, digest[:])
			out.SigningAlgorithm = in.SigningAlgorithm
		case strings.HasSuffix(op, ".Sign"):
			digest := sha256.Sum256(in.Message)
			out.Signature, err = rsa.SignPKCS1v15(nil, rsa2048, crypto.SHA256, digest[:])
			out.SigningAlgorithm = in.SigningAlgorithm
		case strings.HasSuffix(op, ".GenerateMac"):
			h := hmac.New(sha256.New, secret)
			h.Write(in.Message)
			out.Mac = h.Sum(nil)
			out.MacAlgorithm = in.MacAlgorithm
		case strings.HasSuffix(op, ".GenerateDataKey"):
			out.Plaintext = make([]byte, 32)
			rand.Read(out.Plaintext)
			out.CiphertextBlob = gcm.Seal(nil, nil, out.Plaintext, nil)
		case strings.HasSuffix(op, ".Encrypt"):
			out.CiphertextBlob = gcm.Seal(nil, nil, in.Plaintext, nil)
			out.EncryptionAlgorithm = "SYMMETRIC_DEFAULT"
		default:
			err = errors.New("unknown operation")
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body, err := json.Marshal(out)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body) // the client has gone; there is nobody to tell
	}
	server := &http.Server{Addr: addr, Handler: http.HandlerFunc(handler), ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
