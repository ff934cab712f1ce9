package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/keyturn/keyturn/awsapi"
)

// inProcess carries requests to the server's own handler. It signs them anew at
// the server's time, which in a test is not the machine's: the SDK signs at the
// latter, and the server would refuse it, as it must.
type inProcess struct {
	server      *Server
	credentials aws.CredentialsProvider
	region      string
}

// RoundTrip implements http.RoundTripper.
func (t *inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	creds, err := t.credentials.Retrieve(r.Context())
	if err != nil {
		return nil, fmt.Errorf("signing a request of the server to itself: %w", err)
	}
	var body []byte
	if r.Body != nil {
		body, err = io.ReadAll(r.Body)
		_ = r.Body.Close()
		if err != nil {
			return nil, fmt.Errorf("signing a request of the server to itself: %w", err)
		}
	}
	region := signedRegion(r, t.region)
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	signed := r.Header.Get("Authorization") != "" || r.Header.Get("X-Amz-Target") != ""
	if !signed { // of STS, for who has no credentials yet
		return awsapi.InProcess(t.server.handler).RoundTrip(r)
	}
	r.Header.Del("Authorization")
	service := "kms"
	switch {
	case strings.HasPrefix(r.Header.Get("X-Amz-Target"), "Keyturn."):
		service = "keyturn"
	case r.Header.Get("X-Amz-Target") == "":
		service = "sts"
	}
	hash := sha256.Sum256(body)
	err = v4.NewSigner().SignHTTP(r.Context(), creds, r, hex.EncodeToString(hash[:]), service, region, t.server.config.Now())
	if err != nil {
		return nil, fmt.Errorf("signing a request of the server to itself: %w", err)
	}
	return awsapi.InProcess(t.server.handler).RoundTrip(r)
}

// signedRegion is the Region that the SDK signed a request for: clients for other
// Regions are made from a copy of the same configuration.
func signedRegion(r *http.Request, otherwise string) string {
	_, scope, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	if parts := strings.SplitN(scope, "/", 4); len(parts) == 4 {
		return parts[2]
	}
	return otherwise
}
