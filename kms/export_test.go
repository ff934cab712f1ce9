package kms

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyturn/keyturn/access"
)

// For tests that hold the tables and parsers against their promises.

func StateRules() []string {
	var operations []string
	for op := range stateRules {
		operations = append(operations, op)
	}
	return operations
}

func ParseBlob(blob []byte) (account, keyID, materialID string, body []byte, ok bool) {
	h, body, ok := parseBlob(blob)
	return h.account, h.keyID, h.materialID, body, ok
}

func AppendBlobHeader(account, keyID, materialID string) ([]byte, error) {
	return blobHeader{account: account, keyID: keyID, materialID: materialID}.append(nil)
}

func AssociatedData(header []byte, context map[string]string) []byte {
	return associatedData(header, context)
}

func FormatMarker(operation, scope, last string) string { return formatMarker(operation, scope, last) }

func ParseMarker(operation, scope, marker string) (string, error) {
	return parseMarker(operation, scope, marker)
}

const KeysTagged = keysTagged

const BlobHeaderLen = blobHeaderLen

// Snapshots returns how many keys and aliases are kept in memory.
func (s *Service) Snapshots() (keys, aliases int) {
	return s.snapshots.keys.size(), s.snapshots.aliases.size()
}

func (c *cache[N, T]) size() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.entries)
}

// NewTally returns a tally of one scope with a limit.
func NewTally(limit int) func(now time.Time, count func() int) error {
	t := new(tally)
	return func(now time.Time, count func() int) error {
		return t.admit("x", limit, now, func(int) (int, error) { return count(), nil })
	}
}

// FillRateBuckets makes requests for n Regions and returns how many buckets there
// are.
func (s *Service) FillRateBuckets(n int) int {
	for i := range n {
		call := &access.Call{Account: "1", Region: strconv.Itoa(i), Operation: "DescribeKey", Caller: &access.Caller{}, Time: s.now()}
		if err := s.admit(context.Background(), call); err != nil {
			panic(err)
		}
	}
	return len(s.rates.buckets)
}

// UnknownRates returns the rates that are neither of an operation nor of a class.
func UnknownRates() (unknown []string) {
	for name := range awsRates {
		ok := slices.Contains(apiOperations, name)
		class := name == rateSymmetric || name == rateRSA || name == rateECC || strings.HasPrefix(name, ratePair)
		if ok == class || ok && usageFor[name] != "" {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

// TurnQueries are reads of every turn, whose cost must not grow with the history:
// query → the index that it searches.
var TurnQueries = map[string]string{
	aliasesOfKeyQuery + " ORDER BY name LIMIT $3": "kms_aliases_key",
	expiredQuery: "kms_materials_expiry",
}
