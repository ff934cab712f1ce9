package kms

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"golang.org/x/time/rate"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/keystore"
)

// RateLimits bound how many requests an account may make a second in a Region, as
// AWS's request quotas. They are off unless Enabled. Each node counts for itself.
type RateLimits struct {
	Enabled bool `yaml:"enabled"`

	// PerSecond are rates in the place of AWS's: the name of an operation, or
	// Symmetric, RSA or ECC for all cryptographic operations with such keys, or
	// GenerateDataKeyPair/RSA_2048 → requests a second. 0 is no limit.
	PerSecond map[string]float64 `yaml:"perSecond"`
}

// Check says what is wrong with the settings.
func (l RateLimits) Check() error {
	for name, n := range l.PerSecond {
		if _, ok := awsRates[name]; !ok {
			known := make([]string, 0, len(awsRates))
			for name := range awsRates {
				known = append(known, name)
			}
			slices.Sort(known)
			return fmt.Errorf("rateLimits.perSecond.%s: there is no such rate; there are %s", name, strings.Join(known, ", "))
		}
		if n < 0 || math.IsNaN(n) || math.IsInf(n, 0) {
			return fmt.Errorf("rateLimits.perSecond.%s %v is no rate", name, n)
		}
	}
	return nil
}

// The classes that cryptographic operations share.
const (
	rateSymmetric = "Symmetric" // and HMAC, and GenerateRandom
	rateRSA       = "RSA"
	rateECC       = "ECC" // and all other key pairs
	ratePair      = "GenerateDataKeyPair/"
)

// awsRates: operation or class → AWS's default, from "Request quotas" in the KMS
// developer guide.
var awsRates = map[string]float64{
	rateSymmetric: 10_000, rateRSA: 1000, rateECC: 1000,

	ratePair + "ECC_NIST_P256": 100, ratePair + "ECC_NIST_P384": 100, ratePair + "ECC_NIST_P521": 100, ratePair + "ECC_SECG_P256K1": 100,
	ratePair + "ECC_NIST_EDWARDS25519": 100, ratePair + "RSA_2048": 1, ratePair + "RSA_3072": 0.5, ratePair + "RSA_4096": 0.1, ratePair + "SM2": 25,

	"CancelKeyDeletion": 5, "ConnectCustomKeyStore": 5, "CreateAlias": 5, "CreateCustomKeyStore": 5, "CreateGrant": 50, "CreateKey": 5,
	"DeleteAlias": 15, "DeleteCustomKeyStore": 5, "DeleteImportedKeyMaterial": 15, "DescribeCustomKeyStores": 5, "DescribeKey": 2000,
	"DisableKey": 5, "DisableKeyRotation": 5, "DisconnectCustomKeyStore": 5, "EnableKey": 5, "EnableKeyRotation": 15,
	"GetKeyLastUsage": 5, "GetKeyPolicy": 1000, "GetKeyRotationStatus": 1000, "GetParametersForImport": 0.25, "GetPublicKey": 2000,
	"ImportKeyMaterial": 15, "ListAliases": 500, "ListGrants": 100, "ListKeyPolicies": 100, "ListKeyRotations": 100, "ListKeys": 500,
	"ListResourceTags": 2000, "ListRetirableGrants": 100, "PutKeyPolicy": 15, "ReplicateKey": 5, "RetireGrant": 30, "RevokeGrant": 30,
	"RotateKeyOnDemand": 5, "ScheduleKeyDeletion": 15, "TagResource": 10, "UntagResource": 5, "UpdateAlias": 5,
	"UpdateCustomKeyStore": 5, "UpdateKeyDescription": 5, "UpdatePrimaryRegion": 5,
}

// rates are the buckets that requests take from.
type rates struct {
	perSecond map[string]float64

	mu      sync.Mutex
	buckets map[bucket]*rate.Limiter
}

type bucket struct{ account, region, name string }

// maxBuckets bounds the memory. A bucket that is full again says nothing and is
// dropped; if all are in use some are dropped all the same, which lets through
// too much and never too little.
const maxBuckets = 4096

// newRates returns nil where there are no limits.
func newRates(l RateLimits) *rates {
	if !l.Enabled {
		return nil
	}
	r := &rates{perSecond: map[string]float64{}, buckets: map[bucket]*rate.Limiter{}}
	for name, n := range awsRates {
		r.perSecond[name] = n
	}
	for name, n := range l.PerSecond {
		r.perSecond[name] = n
	}
	return r
}

// take counts a request of an account in a Region.
func (r *rates) take(call *access.Call, name string) error {
	perSecond := r.perSecond[name]
	if perSecond == 0 || call.Caller == nil {
		return nil
	}
	b := bucket{call.Account, call.Region, name}
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.buckets[b]
	if l == nil {
		r.makeRoom(call)
		l = rate.NewLimiter(rate.Limit(perSecond), int(math.Ceil(perSecond)))
		r.buckets[b] = l
	}
	if !l.AllowN(call.Time, 1) {
		return awsapi.Errorf("ThrottlingException", "Rate exceeded")
	}
	return nil
}

func (r *rates) makeRoom(call *access.Call) {
	if len(r.buckets) < maxBuckets {
		return
	}
	for b, l := range r.buckets {
		if l.TokensAt(call.Time) >= float64(l.Burst()) {
			delete(r.buckets, b)
		}
	}
	for b := range r.buckets {
		if len(r.buckets) < maxBuckets {
			return
		}
		delete(r.buckets, b)
	}
}

// admit counts the request of an operation that has a rate of its own.
func (s *Service) admit(_ context.Context, call *access.Call) error {
	name := call.Operation
	if name == "GenerateRandom" {
		name = rateSymmetric
	}
	return s.rates.take(call, name)
}

// admitUse counts a cryptographic operation, whose rate hangs on the key.
func (s *Service) admitUse(call *access.Call, r *request, k *keyFacts) error {
	if s.rates == nil || usageFor[r.operation] == "" {
		return nil
	}
	switch {
	case r.dataKeyPairSpec != "":
		return s.rates.take(call, ratePair+r.dataKeyPairSpec)
	case k.spec.Kind() != keystore.KindAsymmetric:
		return s.rates.take(call, rateSymmetric)
	case strings.HasPrefix(string(k.spec), "RSA_"):
		return s.rates.take(call, rateRSA)
	}
	return s.rates.take(call, rateECC)
}
