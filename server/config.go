package server

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/audit"
	"github.com/keyturn/keyturn/kms"
	"go.yaml.in/yaml/v3"
)

// Config is everything a server needs to know. The zero value of each field
// means its default. Field names are those of the configuration file, the
// flags of `keyturn server` and the environment variables (KEYTURN_LISTEN …).
type Config struct {
	Listen   string `yaml:"listen"`   // address to serve on; default 127.0.0.1:7400
	Data     string `yaml:"data"`     // folder of the database file, the root key and the audit log; default ./keyturn-data
	Database string `yaml:"database"` // postgres://…; default: the SQLite file in Data
	Account  string `yaml:"account"`  // 12 digits; default 000000000000
	Region   string `yaml:"region"`   // where names without a Region live; default us-east-1

	// Regions are those that the server serves: requests signed for another one are refused, and keys are not
	// replicated there. Default: every Region that a request is signed for.
	Regions []string `yaml:"regions"`

	RootKey struct {
		File       string `yaml:"file"`           // default: root.key in Data
		Passphrase string `yaml:"passphraseFile"` // file that holds a passphrase, instead of File
	} `yaml:"rootKey"`

	Audit struct {
		Sync     string        `yaml:"sync"`     // interval (default) or every; see docs/audit.md
		Interval time.Duration `yaml:"interval"` // with sync: interval; default 100ms
		MaxSize  int64         `yaml:"maxSize"`  // bytes a file; default 64 MiB
	} `yaml:"audit"`

	Rotation struct {
		// Lease is how long a step that a node has begun is left to it: one that died with a step under way
		// delays the rotation by that much on PostgreSQL; a step that takes longer is cut off and done again.
		Lease time.Duration `yaml:"lease"` // at least 1s; default 1m
	} `yaml:"rotation"`

	KMS struct {
		// MinRotationDays is the shortest period of automatic rotation that EnableKeyRotation takes.
		MinRotationDays int `yaml:"minRotationDays"` // 1 to 2560; default 90, as AWS has it
	} `yaml:"kms"`

	TLS struct {
		Certificate string `yaml:"certificate"` // PEM file
		Key         string `yaml:"key"`         // PEM file
		SelfSigned  bool   `yaml:"selfSigned"`  // make one in Data and use it
	} `yaml:"tls"`

	// OIDC lists the issuers whose tokens AssumeRoleWithWebIdentity believes.
	OIDC []Issuer `yaml:"oidc"`

	// Quotas are what accounts may keep, and RateLimits how often they may ask.
	Quotas     kms.Quotas     `yaml:"quotas"`
	RateLimits kms.RateLimits `yaml:"rateLimits"`

	// Targets are the places beside the server itself where keys turn.
	Targets []Target `yaml:"targets"`

	Dev            bool             `yaml:"-"` // nothing is kept, credentials are printed
	EnvFile        string           `yaml:"-"` // where the caller will write Ready.Environment
	DevCredentials []DevCredential  `yaml:"-"`
	Now            func() time.Time `yaml:"-"`
	Logger         *slog.Logger     `yaml:"-"`
}

// Target is an AWS account and Region, or anything else that speaks the AWS
// KMS API. Credentials come from the standard chain of the AWS SDK.
type Target struct {
	Name       string `yaml:"name"`
	Account    string `yaml:"account"`
	Region     string `yaml:"region"`
	Endpoint   string `yaml:"endpoint"`   // default: AWS's for the Region
	Profile    string `yaml:"profile"`    // of the AWS configuration files
	Role       string `yaml:"role"`       // ARN to assume
	ExternalID string `yaml:"externalId"` // for Role

	// Accounts of this server whose policies may name the target; default: the
	// server's own account alone.
	Accounts []string `yaml:"accounts"`
}

// Issuer is an OpenID Connect provider. Which roles its users may assume is for
// the roles' trust policies to say.
type Issuer struct {
	URL       string   `yaml:"issuer"`    // as it stands in its tokens
	Audiences []string `yaml:"audiences"` // for whom tokens must be made
	JWKS      string   `yaml:"jwks"`      // file of its keys; default: fetched from the issuer
	CA        string   `yaml:"ca"`        // PEM file of certificates to trust when fetching; default: the system's
}

// DevCredential is a fixed credential of an account's root user.
type DevCredential struct{ AccessKeyID, Secret, Account string }

var (
	accountPattern = regexp.MustCompile(`^[0-9]{12}$`)
	regionPattern  = regexp.MustCompile(`^([a-z]+-){2,3}[0-9]+$`) // as ReplicateKey has it
)

// ReadConfig reads the configuration file. Unknown names are refused.
func ReadConfig(name string) (Config, error) {
	var c Config
	text, err := os.ReadFile(name)
	if err != nil {
		return c, fmt.Errorf("reading the configuration: %w", err)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

// withDefaults fills what is not set and says all that is wrong at once.
func (c Config) withDefaults() (Config, error) {
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&c.Listen, "127.0.0.1:7400")
	set(&c.Data, "keyturn-data")
	set(&c.Account, "000000000000")
	if len(c.Regions) > 0 {
		set(&c.Region, c.Regions[0])
	}
	set(&c.Region, "us-east-1")
	set(&c.Audit.Sync, "interval")
	set(&c.RootKey.File, filepath.Join(c.Data, "root.key"))
	if c.Database == "" {
		c.Database = "sqlite:" + filepath.Join(c.Data, "keyturn.db")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	var wrong []error
	if !accountPattern.MatchString(c.Account) {
		wrong = append(wrong, fmt.Errorf("account %q is not 12 digits", c.Account))
	}
	for _, r := range c.Regions {
		if !regionPattern.MatchString(r) {
			wrong = append(wrong, fmt.Errorf("regions: %q is not the name of a Region, like us-east-1", r))
		}
	}
	if len(c.Regions) > 0 && !slices.Contains(c.Regions, c.Region) {
		wrong = append(wrong, fmt.Errorf("region %s is not among the regions %s", c.Region, strings.Join(c.Regions, ", ")))
	}
	if c.Audit.Sync != "every" && c.Audit.Sync != "interval" {
		wrong = append(wrong, fmt.Errorf("audit.sync %q: it is every or interval", c.Audit.Sync))
	}
	if c.Rotation.Lease != 0 && c.Rotation.Lease < time.Second {
		wrong = append(wrong, fmt.Errorf("rotation.lease %s: at least 1s, or steps cannot end within it", c.Rotation.Lease))
	}
	for _, err := range []error{c.Quotas.Check(), c.RateLimits.Check()} {
		if err != nil {
			wrong = append(wrong, err)
		}
	}
	if days := c.KMS.MinRotationDays; days < 0 || days > 2560 {
		wrong = append(wrong, fmt.Errorf("kms.minRotationDays %d: 1 to 2560", days))
	}
	if (c.TLS.Certificate == "") != (c.TLS.Key == "") {
		wrong = append(wrong, errors.New("tls.certificate and tls.key go together"))
	}
	if _, err := c.openSTS(nil); err != nil {
		wrong = append(wrong, err)
	}
	seen := map[string]bool{"local": true}
	for _, t := range c.Targets {
		if t.Name == "" || t.Region == "" {
			wrong = append(wrong, errors.New("a target needs a name and a region"))
		} else if seen[t.Name] {
			wrong = append(wrong, fmt.Errorf("target %q: the name is taken (local is the server itself)", t.Name))
		}
		seen[t.Name] = true
	}
	return c, errors.Join(wrong...)
}

func (c Config) auditOptions() audit.Options {
	o := audit.Options{Sync: audit.Every, MaxSize: c.Audit.MaxSize, Interval: c.Audit.Interval, Now: c.Now}
	if c.Audit.Sync == "interval" {
		o.Sync = audit.Interval
	}
	return o
}

// serves reports whether the server answers for a Region.
func (c *Config) serves(region string) bool {
	return len(c.Regions) == 0 || slices.Contains(c.Regions, region)
}

// makeData makes the data folder for its owner alone.
func makeData(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the data folder: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("looking at the data folder: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("the data folder %s is a file: %w", dir, fs.ErrExist)
	}
	return nil
}
