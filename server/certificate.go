package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/keyturn/keyturn/awsapi"
)

// A certificate made here lasts a year and is made anew when less than a month
// of it is left.
const (
	certificateLife  = 365 * 24 * time.Hour
	certificateRenew = 30 * 24 * time.Hour
)

// certificate is the TLS configuration, or nil for plain HTTP, and the file to
// trust when the certificate was made here.
func (c *Config) certificate() (*tls.Config, string, error) {
	cert, key, bundle := c.TLS.Certificate, c.TLS.Key, ""
	if c.TLS.SelfSigned && cert == "" {
		cert, key = filepath.Join(c.Data, "tls.crt"), filepath.Join(c.Data, "tls.key")
		var err error
		if bundle, err = filepath.Abs(cert); err != nil { // whoever reads the environment file may be elsewhere
			return nil, "", fmt.Errorf("making a certificate: %w", err)
		}
		if err := makeCertificate(cert, key, c.Listen, c.Now()); err != nil {
			return nil, "", fmt.Errorf("making a certificate: %w", err)
		}
	}
	if cert == "" {
		return nil, "", nil
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, "", fmt.Errorf("reading the certificate: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, bundle, nil
}

// makeCertificate keeps the certificate that is there while it lasts: clients
// have been told to trust it.
func makeCertificate(cert, key, listen string, now time.Time) error {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err == nil {
		leaf, err := x509.ParseCertificate(pair.Certificate[0])
		if err == nil && leaf.NotAfter.Sub(now) > certificateRenew {
			return nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	if host, _, err := net.SplitHostPort(listen); err == nil && host != "" && host != "localhost" && host != "127.0.0.1" {
		hosts = append(hosts, host)
	}
	certPEM, keyPEM, err := awsapi.SelfSigned(hosts, now.Add(-time.Hour), now.Add(certificateLife))
	if err != nil {
		return err
	}
	// The key first: a certificate without its key would be an error next time.
	if err := os.WriteFile(key, keyPEM, 0o600); err != nil {
		return err
	}
	return os.WriteFile(cert, certPEM, 0o644) //nolint:gosec // clients read it to trust it
}
