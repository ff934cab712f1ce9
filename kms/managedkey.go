package kms

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/keystore"
	"github.com/keyturn/keyturn/sqldb"
)

// An AWS managed key belongs to a service that uses it on behalf of the account's
// callers, under the alias alias/aws/ and the service's name. Its policy lets
// everybody in the account use it through that service and look at it, and nobody
// do anything else with it: nobody can change the policy, so no other rule is
// needed to keep the key as it is. Its alias is kept by its name (parseAliasName).

// A managedService is a service that has such a key, in each account and Region.
type managedService struct {
	description string
	actions     string // through the service, as the list in a policy
}

// managedServices: service → its key, as AWS has them.
var managedServices = map[string]managedService{
	"secretsmanager": {
		description: "Default key that protects my Secrets Manager data when no other key is defined",
		actions:     `"kms:Encrypt","kms:Decrypt","kms:ReEncrypt*","kms:CreateGrant","kms:DescribeKey","kms:GenerateDataKey*"`,
	},
}

// managedPrefix begins the aliases of AWS managed keys.
const managedPrefix = aliasPrefix + "aws/"

// managedRotationDays: AWS managed keys turn every year, and nobody can change it.
const managedRotationDays = 365

// policy is the key policy for an account and a Region.
func (m managedService) policy(service, account, region string) string {
	return strings.NewReplacer("SERVICE", service, "ACCOUNT", account, "REGION", region, "ACTIONS", m.actions).Replace(
		`{"Version":"2012-10-17","Id":"auto-SERVICE-2","Statement":[` +
			`{"Sid":"Allow access through SERVICE for all principals in the account that are authorized to use it","Effect":"Allow",` +
			`"Principal":{"AWS":"*"},"Action":[ACTIONS],"Resource":"*",` +
			`"Condition":{"StringEquals":{"kms:CallerAccount":"ACCOUNT","kms:ViaService":"SERVICE.REGION.amazonaws.com"}}},` +
			`{"Sid":"Allow direct access to key metadata to the account","Effect":"Allow",` +
			`"Principal":{"AWS":"arn:aws:iam::ACCOUNT:root"},"Action":["kms:Describe*","kms:Get*","kms:List*","kms:RevokeGrant"],"Resource":"*"}]}`)
}

// ManagedKey returns the ARN of the AWS managed key of a service, "secretsmanager",
// in an account and a Region, and makes the key when it is asked for the first
// time; any number of nodes may ask at once. It is for the services themselves,
// which pass their calls' Via on; nobody can call it over the wire.
func (s *Service) ManagedKey(ctx context.Context, account, region, service string) (keyARN string, err error) {
	m, ok := managedServices[service]
	if !ok {
		return "", fmt.Errorf("service %q has no AWS managed key", service)
	}
	n := resourceName{account: account, region: region, name: managedPrefix + service}
	a, err := s.readAlias(ctx, n.arn())
	if err == nil {
		return a.keyARN, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return "", err
	}
	k := &keyRow{
		keyFacts: keyFacts{
			account: account, region: region, id: newUUID(), spec: keystore.SymmetricDefault, usage: KeyUsageTypeEncryptDecrypt,
			origin: OriginTypeAwsKms, manager: KeyManagerTypeAws,
		},
		state: stateEnabled, description: m.description, document: m.policy(service, account, region),
		created: micros(s.now()), rotationDays: managedRotationDays, gen: 1,
	}
	k.arn = resourceName{account: account, region: region, name: k.id}.arn()
	e := &access.Event{
		Source: "kms.amazonaws.com", Name: "CreateKey", Region: region, Time: s.now(),
		Resource: access.Resource{ARN: k.arn, Account: account, Type: typeKey},
		Details:  fmt.Appendf(nil, `{"keyId":"%s","aliasName":"%s"}`, k.id, n.name),
	}
	if err := s.guard.Announce(ctx, e); err != nil {
		return "", err
	}
	err = s.storeManaged(ctx, k, n)
	if sqldb.IsUniqueViolation(err) {
		// Another one was faster, and the key behind the alias is his.
		if a, err := s.readAlias(ctx, n.arn()); err == nil {
			return a.keyARN, s.guard.Conclude(ctx, e, errors.New("another node has made it"))
		}
	}
	if err := errors.Join(err, s.guard.Conclude(ctx, e, err)); err != nil {
		return "", fmt.Errorf("making the AWS managed key of %s: %w", service, err)
	}
	return k.arn, nil
}

// storeManaged stores key, alias and schedule together.
func (s *Service) storeManaged(ctx context.Context, k *keyRow, alias resourceName) error {
	return s.storeKey(ctx, k, func(tx *sqldb.Tx) error {
		if err := insertKey(tx, k, nil); err != nil {
			return err
		}
		if err := insertAlias(tx, alias, k.arn, k.created); err != nil {
			return err
		}
		turner := s.rotations.Load()
		if turner == nil {
			return nil
		}
		first := fromMicros(k.created).Add(managedRotationDays * 24 * time.Hour)
		return (*turner).ScheduleKey(tx, k.arn, k.materialID, managedRotationDays, first, "kms.amazonaws.com")
	})
}

// predefine makes the key behind n if that is the alias of an AWS managed key of
// the caller's own account: AWS does so when somebody describes it.
func (s *Service) predefine(ctx context.Context, call *access.Call, n resourceName) error {
	service, ok := strings.CutPrefix(n.name, managedPrefix)
	if _, known := managedServices[service]; !ok || !known || n.account != call.Account {
		return nil
	}
	_, err := s.ManagedKey(ctx, n.account, n.region, service)
	return err
}
