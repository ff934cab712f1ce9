// Package server puts the house together: it opens the database, the key store,
// the audit log and the services, wires them to each other, and serves. It is
// the one place that names concrete key stores, rotators and targets.
//
// It promises that nothing is served before everything is open, that a wrong
// or missing root key changes nothing, and that Serve ends only when running
// requests and the step under way have. It trusts its data folder to be its own.
// Whatever fails to open is closed again, and the error says what to do (Hint).
package server

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/keystore/software"
	"github.com/keyturn/keyturn/kms"
	"github.com/keyturn/keyturn/rotation"
	"github.com/keyturn/keyturn/rotators"
	"github.com/keyturn/keyturn/sqldb"
	"github.com/keyturn/keyturn/sts"
	"golang.org/x/sync/errgroup"
)

// Server is an open house. Close it when done.
type Server struct {
	config   Config
	db       *sqldb.DB
	log      *audit.Log
	store    *software.Store
	guard    *access.Guard
	kms      *kms.Service
	sts      *sts.Service
	rotation *rotation.Service
	handler  http.Handler
	metrics  *metrics
	first    *DevCredential // of the account's first administrator

	mu      sync.Mutex
	targets map[string]rotation.Target // name, or local account and Region → target
}

// Open opens everything and serves nothing yet. On a first start it makes the
// database, the root key and the first administrator.
func Open(ctx context.Context, c Config) (_ *Server, err error) {
	if c, err = c.withDefaults(); err != nil {
		return nil, &configError{err}
	}
	if err := makeData(c.Data); err != nil {
		return nil, err
	}
	s := &Server{config: c, metrics: newMetrics(), targets: map[string]rotation.Target{}}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	if s.db, err = sqldb.Open(ctx, c.Database); err != nil {
		return nil, err
	}
	root, err := c.rootKey()
	if err != nil {
		return nil, err
	}
	if s.store, err = software.Open(ctx, s.db, root); err != nil {
		return nil, err
	}
	if s.log, err = audit.Open(ctx, filepath.Join(c.Data, "audit"), s.db, node(), c.auditOptions()); err != nil {
		return nil, err
	}
	for _, finding := range s.log.Findings() {
		c.Logger.Warn("the audit log was repaired", "finding", finding)
	}
	s.guard, err = access.Open(ctx, access.Config{DB: s.db, Log: s.log, Sealer: s.store.Sealer("access-keys"), Now: c.Now})
	if err != nil {
		return nil, err
	}
	s.kms, err = kms.New(ctx, kms.Config{
		DB: s.db, Guard: s.guard, Backend: s.store, Sealer: s.store.Sealer("kms"), Now: c.Now, Logger: c.Logger, Regions: c.Regions,
		Quotas: c.Quotas, RateLimits: c.RateLimits,
		MinRotationDays: c.KMS.MinRotationDays,
	})
	if err != nil {
		return nil, err
	}
	if s.sts, err = c.openSTS(s.guard); err != nil {
		return nil, &configError{err}
	}
	if err := s.openRotation(ctx); err != nil {
		return nil, err
	}
	s.kms.SetLineages(s.rotation)
	s.kms.SetRotations(s.rotation)
	if err := s.openCredentials(ctx); err != nil {
		return nil, err
	}
	s.handler = s.routes()
	return s, nil
}

func (c *Config) openSTS(guard *access.Guard) (*sts.Service, error) {
	issuers := make([]sts.Issuer, len(c.OIDC))
	for n, i := range c.OIDC {
		issuers[n] = sts.Issuer(i)
	}
	return sts.New(sts.Config{Guard: guard, Issuers: issuers, Now: c.Now, Logger: c.Logger})
}

// openRotation makes the engine and its operations.
func (s *Server) openRotation(ctx context.Context) (err error) {
	s.rotation, err = rotation.NewService(rotation.ServiceConfig{
		DB: s.db, Guard: s.guard, Targets: s.Target, Now: s.config.Now, Node: node(), Logger: s.config.Logger, Lease: s.config.Rotation.Lease,
		MayTarget: s.mayTarget, Kin: s.kms.KinAliases,
		Rotators: map[string]rotation.Rotator{
			"key":                    rotators.NewKey(rotators.KeyOptions{Wanted: s.wanted, Tagged: s.tagged}),
			rotation.RotatorMaterial: rotators.NewMaterial(Materials(s.kms)),
		},
	})
	if err != nil {
		return err
	}
	s.metrics.registry.MustRegister(newRotationGauges(s.rotation.Gauges))
	if s.db.IsPostgres() {
		return nil
	}
	// Nobody else can have the SQLite file open, so whoever held a lease is gone.
	return s.rotation.ReleaseLeases(ctx)
}

// Config is what the server runs with, defaults filled in.
func (s *Server) Config() Config { return s.config }

// Handler serves the whole surface: the APIs, JWKS, health and metrics.
func (s *Server) Handler() http.Handler { return s.handler }

// Close stops what runs in the background and closes the files. It may be
// called on a Server that failed to open.
func (s *Server) Close() error {
	var errs []error
	if s.store != nil {
		s.store.Close()
	}
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	return errors.Join(errs...)
}

// node names this process among those that share the database.
func node() string {
	host, err := os.Hostname()
	if err != nil {
		host = "node"
	}
	return host
}

// rootKey is how the keysets are unsealed.
func (c *Config) rootKey() (software.RootKey, error) {
	if c.RootKey.Passphrase == "" {
		return software.RootKeyFile(c.RootKey.File), nil
	}
	return software.PassphraseFromFile(c.RootKey.Passphrase)
}

// openCredentials makes the first administrator, the fixed credentials of a
// development server, and the engine's own.
func (s *Server) openCredentials(ctx context.Context) error {
	for _, d := range s.config.DevCredentials {
		if d.Account == "" {
			d.Account = s.config.Account
		}
		if !accountPattern.MatchString(d.Account) {
			return &configError{fmt.Errorf("account %q of a development credential is not 12 digits", d.Account)}
		}
		if err := s.guard.AddEphemeral(access.EphemeralCredential{
			AccessKeyID: d.AccessKeyID, Secret: access.NewSecret(d.Secret), Account: d.Account,
		}); err != nil {
			return &configError{err}
		}
		if s.first == nil {
			s.first = &d
		}
	}
	if s.first != nil {
		return nil
	}
	id, secret, created, err := s.guard.Bootstrap(ctx, s.config.Account)
	if err != nil {
		return fmt.Errorf("making the first administrator: %w", err)
	}
	if created {
		s.first = &DevCredential{AccessKeyID: id, Secret: secret.Reveal(), Account: s.config.Account}
		return nil
	}
	if s.config.EnvFile != "" {
		s.first, err = s.environmentCredential(ctx)
	}
	return err
}

// environmentCredential is what the environment file of a later start holds:
// the credential that stands there, while it is good, or else one of the
// account's root user that lives as long as this process. Whoever may name the
// file has the data folder and so could read everything anyway.
func (s *Server) environmentCredential(ctx context.Context) (*DevCredential, error) {
	d := &DevCredential{Account: s.config.Account}
	if text, err := os.ReadFile(s.config.EnvFile); err == nil {
		for line := range strings.Lines(string(text)) {
			switch name, value, _ := strings.Cut(strings.TrimSpace(line), "="); name {
			case "AWS_ACCESS_KEY_ID":
				d.AccessKeyID = value
			case "AWS_SECRET_ACCESS_KEY":
				d.Secret = value
			}
		}
		known, err := s.guard.Credential(ctx, d.AccessKeyID, "")
		if err == nil && known.Caller.Account == d.Account && subtle.ConstantTimeCompare([]byte(known.Secret.Reveal()), []byte(d.Secret)) == 1 {
			return d, nil
		}
	}
	d.AccessKeyID, d.Secret = "ASIA"+rand.Text()[:16], rand.Text()+rand.Text()
	err := s.guard.AddEphemeral(access.EphemeralCredential{AccessKeyID: d.AccessKeyID, Secret: access.NewSecret(d.Secret), Account: d.Account})
	if err != nil {
		return nil, fmt.Errorf("making the credential of the environment file: %w", err)
	}
	return d, nil
}

// mayTarget says whether policies of the account may turn keys at the target.
func (s *Server) mayTarget(account, target string) bool {
	for _, t := range s.config.Targets {
		if t.Name == target {
			return slices.Contains(t.Accounts, account) || len(t.Accounts) == 0 && account == s.config.Account
		}
	}
	return false
}

// Target finds where a policy turns its keys.
func (s *Server) Target(ctx context.Context, p *rotation.Policy) (rotation.Target, error) {
	if p.Local() {
		return s.local(p.Account, p.Region)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t, ok := s.targets[p.Target]; ok {
		return t, nil
	}
	for _, t := range s.config.Targets {
		if t.Name != p.Target {
			continue
		}
		opened, err := rotators.AWSTarget{
			Name: t.Name, Profile: t.Profile, Region: t.Region, Endpoint: t.Endpoint,
			RoleARN: t.Role, ExternalID: t.ExternalID, Account: t.Account,
		}.Open(ctx)
		if err != nil {
			return opened, err
		}
		s.targets[p.Target] = opened
		return opened, nil
	}
	return rotation.Target{}, rotation.Permanent(fmt.Errorf("target %q is not configured", p.Target),
		"name it under targets in the server's configuration file")
}

// local is this server as a target: the ordinary SDK client over a transport
// that calls the handler, with the engine's own credential for the account. So
// every step passes the same door and the same audit log as any caller.
func (s *Server) local(account, region string) (rotation.Target, error) {
	if !s.config.serves(region) {
		return rotation.Target{}, rotation.Permanent(fmt.Errorf("the Region %s is not served any more", region),
			"name it under regions in the server's configuration file again, then resume")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key := account + "/" + region
	if t, ok := s.targets[key]; ok {
		return t, nil
	}
	provider, err := engineCredential(s.guard, account)
	if err != nil {
		return rotation.Target{}, err
	}
	t := rotation.Target{
		Name: rotation.TargetLocal, Account: account, Region: region, Local: true,
		Config: s.InProcess(provider, region),
	}
	s.targets[key] = t
	return t, nil
}

// InProcess is an SDK configuration that reaches this server without a socket.
func (s *Server) InProcess(provider aws.CredentialsProvider, region string) aws.Config {
	return aws.Config{
		Region: region, Credentials: provider, BaseEndpoint: aws.String("http://keyturn.local"),
		HTTPClient:       &http.Client{Transport: &inProcess{server: s, credentials: provider, region: region}},
		RetryMaxAttempts: 1, // the engine tries again by itself, and says so in the history
	}
}

// engineCredential lives in memory only: who can read it there can read
// everything. Its policy is what turning keys needs, and key policies can deny it.
func engineCredential(guard *access.Guard, account string) (aws.CredentialsProvider, error) {
	id, secret := "ASIA"+rand.Text()[:16], rand.Text()+rand.Text()
	err := guard.AddEphemeral(access.EphemeralCredential{
		AccessKeyID: id, Secret: access.NewSecret(secret), Account: account, Type: access.AssumedRole,
		PrincipalARN: "arn:aws:sts::" + account + ":assumed-role/" + access.EngineRole + "/engine", Policy: []byte(enginePolicy),
	})
	if err != nil {
		return nil, fmt.Errorf("making the engine's credential: %w", err)
	}
	return credentials.NewStaticCredentialsProvider(id, secret, ""), nil
}

// enginePolicy lets the engine do what its steps do and no more: among others,
// it cannot decrypt with arguments of its own choice except to test a key that it made.
const enginePolicy = `{"Version":"2012-10-17","Statement":[{"Sid":"TurnKeys","Effect":"Allow","Resource":"*","Action":[
"kms:CreateKey","kms:ReplicateKey","kms:DescribeKey","kms:ListKeys","kms:EnableKey","kms:DisableKey","kms:ScheduleKeyDeletion","kms:CancelKeyDeletion",
"kms:CreateAlias","kms:UpdateAlias","kms:DeleteAlias","kms:ListAliases","kms:GetKeyPolicy","kms:PutKeyPolicy","kms:TagResource",
"kms:UntagResource","kms:ListResourceTags","kms:GetPublicKey","kms:GetKeyRotationStatus","kms:EnableKeyRotation","kms:ListGrants",
"kms:CreateGrant","kms:GetKeyLastUsage","kms:Sign","kms:Verify","kms:Encrypt","kms:Decrypt","kms:GenerateMac","kms:VerifyMac",
"kms:DeriveSharedSecret","kms:Encapsulate","kms:Decapsulate","kms:GetParametersForImport","kms:ImportKeyMaterial"]}]}`

// Settle does all that is due now and returns when something is due next. It is
// Run for tests that move the clock themselves.
func (s *Server) Settle(ctx context.Context) (next time.Time, err error) {
	if next, err = s.rotation.Settle(ctx); err != nil {
		return next, err
	}
	_, err = s.kms.RunOnce(ctx)
	return next, err
}

// Run turns what is due and does the housekeeping, until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.kms.Run(ctx) })
	g.Go(func() error { return s.rotation.Run(ctx) })
	g.Go(func() error { return s.guard.Run(ctx) })
	return g.Wait()
}

// Ready is what whoever starts a server wants to know once it serves.
type Ready struct {
	Endpoint    string `json:"endpoint"`
	Region      string `json:"region"`
	Account     string `json:"account"`
	AccessKeyID string `json:"access_key_id,omitzero"`
	Secret      string `json:"-"`
	CABundle    string `json:"ca_bundle,omitzero"` // PEM file to trust, for a certificate made here
}

// Environment is what AWS SDKs and tools read, one NAME=value each.
func (r Ready) Environment() []string {
	// The AWS CLI 1 and boto3 read the Region from the second name only.
	env := []string{"AWS_ENDPOINT_URL=" + r.Endpoint, "AWS_REGION=" + r.Region, "AWS_DEFAULT_REGION=" + r.Region}
	if r.Secret != "" {
		env = append(env, "AWS_ACCESS_KEY_ID="+r.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+r.Secret)
	}
	if r.CABundle != "" {
		env = append(env, "AWS_CA_BUNDLE="+r.CABundle)
	}
	return env
}

// Serve serves on l and runs the background work until ctx ends, then lets
// running requests finish. ready is called once requests are answered.
func (s *Server) Serve(ctx context.Context, l net.Listener, ready func(Ready) error) error {
	secure, bundle, err := s.config.certificate()
	if err != nil {
		return err
	}
	scheme := "http://"
	if secure != nil {
		scheme = "https://"
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.Run(ctx) })
	g.Go(func() error {
		return awsapi.Serve(ctx, awsapi.ServeConfig{Listeners: []net.Listener{l}, Handler: s.handler, TLS: secure, Logger: s.config.Logger})
	})
	if ready != nil {
		r := Ready{Endpoint: scheme + l.Addr().String(), Region: s.config.Region, Account: s.config.Account, CABundle: bundle}
		if s.first != nil {
			r.AccessKeyID, r.Secret = s.first.AccessKeyID, s.first.Secret
		}
		if err := ready(r); err != nil {
			return err
		}
	}
	s.config.Logger.Info("serving", "address", l.Addr().String(), "tls", secure != nil)
	err = g.Wait()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	s.config.Logger.Info("stopped")
	return err
}
