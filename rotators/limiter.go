package rotators

import (
	"context"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	smithy "github.com/aws/smithy-go/middleware"
	"golang.org/x/time/rate"
)

// limiter holds a rotator well below the request quotas of an AWS account. KMS counts them for the whole
// account and Region, so what Keyturn spends on management calls is taken from everyone else's share: it takes about a
// fifth. AWS's own numbers stand beside each class; they are per second.
type limiter struct {
	classes map[class]*rate.Limiter
}

type class int

const (
	classRead    class = iota // DescribeKey, GetKeyPolicy, ListResourceTags …: 100 at the least
	classList                 // ListKeys, ListAliases: 500
	classCreate               // CreateKey, CreateAlias, UpdateAlias, EnableKey, DisableKey, GetKeyLastUsage: 5
	classTag                  // TagResource, UntagResource: 10
	classWrite                // PutKeyPolicy, ScheduleKeyDeletion, DeleteAlias, ImportKeyMaterial: 15
	classImport               // GetParametersForImport: 0.25
	classCrypto               // thousands, but they are the account's traffic, not ours
	classUnknown              // anything else: as slow as the slowest
)

var classOf = map[string]class{
	"CreateKey": classCreate, "ReplicateKey": classCreate, "CreateAlias": classCreate, "UpdateAlias": classCreate, "EnableKey": classCreate,
	"DisableKey": classCreate, "GetKeyLastUsage": classCreate, "EnableKeyRotation": classCreate, "UpdateKeyDescription": classCreate,
	"TagResource": classTag, "UntagResource": classTag,
	"PutKeyPolicy": classWrite, "ScheduleKeyDeletion": classWrite, "DeleteAlias": classWrite, "CancelKeyDeletion": classCreate,
	"CreateGrant": classWrite, "ImportKeyMaterial": classWrite, "GetParametersForImport": classImport,
	"ListKeys": classList, "ListAliases": classList,
	"DescribeKey": classRead, "GetKeyPolicy": classRead, "ListResourceTags": classRead, "GetPublicKey": classRead,
	"ListGrants": classRead, "GetKeyRotationStatus": classRead,
	"Sign": classCrypto, "Verify": classCrypto, "Encrypt": classCrypto, "Decrypt": classCrypto,
	"GenerateMac": classCrypto, "VerifyMac": classCrypto, "DeriveSharedSecret": classCrypto,
	"Encapsulate": classCrypto, "Decapsulate": classCrypto,
}

func newLimiter() *limiter {
	return &limiter{classes: map[class]*rate.Limiter{
		classRead:    rate.NewLimiter(20, 20),
		classList:    rate.NewLimiter(20, 20),
		classCreate:  rate.NewLimiter(1, 4),
		classTag:     rate.NewLimiter(2, 4),
		classWrite:   rate.NewLimiter(3, 6),
		classImport:  rate.NewLimiter(0.1, 1),
		classCrypto:  rate.NewLimiter(20, 40),
		classUnknown: rate.NewLimiter(1, 1),
	}}
}

// wait returns when operation may be called, or ctx's error.
func (l *limiter) wait(ctx context.Context, operation string) error {
	c, known := classOf[operation]
	if !known {
		c = classUnknown
	}
	return l.classes[c].Wait(ctx)
}

// add puts the limiter in front of every call of a client. It waits before the request is signed, so
// that a long wait cannot make the signature too old.
func (l *limiter) add(stack *smithy.Stack) error {
	return stack.Initialize.Add(smithy.InitializeMiddlewareFunc("KeyturnLimiter",
		func(ctx context.Context, in smithy.InitializeInput, next smithy.InitializeHandler) (smithy.InitializeOutput, smithy.Metadata, error) {
			if err := l.wait(ctx, middleware.GetOperationName(ctx)); err != nil {
				return smithy.InitializeOutput{}, smithy.Metadata{}, &notSentError{err}
			}
			return next.HandleInitialize(ctx, in)
		}), smithy.After)
}

// limiters shares one limiter among all rotations of a target; the quotas belong to the account and Region, not to a rotation.
type limiters struct {
	mu sync.Mutex
	of map[string]*limiter // account and Region → its limiter; bounded by the number of targets
}

func (s *limiters) get(key string) *limiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = make(map[string]*limiter)
	}
	l := s.of[key]
	if l == nil {
		l = newLimiter()
		s.of[key] = l
	}
	return l
}
