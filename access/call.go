package access

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/policy"
)

// A Call is one request on its way through the house. awsapi makes it, Guard.Check remembers its decisions in it, and
// Guard.Finish turns it into the audit record. It belongs to one request and one goroutine at a time.
type Call struct {
	ID          string // request id, as answered in x-amzn-RequestId
	Service     string // "kms"
	EventSource string // "kms.amazonaws.com"
	Operation   string // "Sign"; what was asked for, even where no such operation exists
	Region      string
	Account     string // the caller's account; resources named without an ARN live here
	Caller      *Caller
	AccessKeyID string // as presented, set before it is proved; recorded where Caller is nil
	Time        time.Time
	SourceIP    string
	UserAgent   string
	TLS         bool
	ReadOnly    bool // changes nothing, in CloudTrail's sense: crypto operations are read-only

	// Via lists the services through which the caller's request came here, the first first: "secretsmanager.amazonaws.com".
	// Empty for a caller who asks himself.
	Via []string

	// SourceARN is the resource for which a service asks, as aws:SourceArn. Only a service can give it.
	SourceARN string

	// Params are the request's parameters as a JSON object without anything sensitive. Where they are nil, ParamsFunc,
	// if set, is asked to append them when the record is written.
	Params     []byte
	ParamsFunc func(b []byte) []byte

	// Response is what of the answer belongs into the record, as a JSON object without anything sensitive: what a change
	// made and no other member tells. Nil for most.
	Response []byte

	decisions []decision
	first     [1]decision // backs decisions, so that the common call allocates nothing
	reasons   [5]policy.Reason
	touched   []touched
	one       [1]touched // backs touched
	asked     conditions // backs the context of decisions
	finished  bool
}

// decision is one answer of Check, kept for the audit record.
type decision struct {
	action, resource string
	policy.Decision
}

// touched is one resource the call dealt with.
type touched struct{ arn, account, typ string }

// Touched names a resource for the audit record, typ as CloudTrail writes it: "AWS::KMS::Key". Check does so for what it
// decides about; naming one twice does no harm.
func (c *Call) Touched(arn, account, typ string) {
	if arn == "" || arn == "*" {
		return
	}
	for i := range c.touched {
		if c.touched[i].arn == arn {
			return
		}
	}
	if c.touched == nil {
		c.touched = c.one[:0]
	}
	c.touched = append(c.touched, touched{arn, account, typ})
}

// remember keeps a decision. The first one's reasons live in the call itself.
func (c *Call) remember(action, resource string, d policy.Decision) {
	if c.decisions == nil {
		c.decisions = c.first[:0]
	}
	c.decisions = append(c.decisions, decision{action, resource, d})
}

// reasonBuffer gives the space for the next decision's reasons; nil once the first has taken it.
func (c *Call) reasonBuffer() []policy.Reason {
	if len(c.decisions) == 0 {
		return c.reasons[:0]
	}
	return nil
}

// A Resource is what an action is to be done to.
type Resource struct {
	ARN     string // empty where the operation has none (CreateKey, ListKeys)
	Account string // its owner; empty: the caller's account
	Type    string // as CloudTrail writes it: "AWS::KMS::Key"

	// Policy is the resource's own policy. Nil where none applies: identity policies decide alone, inside the caller's own
	// account. A resource of another account that does not exist is checked with a nil Policy too, and is refused with the
	// words that one which exists would be.
	Policy *policy.Policy

	// Context answers for the condition keys that only the resource's service knows, like kms:KeySpec and aws:ResourceTag.
	// The keys that are known from call and caller never reach it. Nil: none.
	Context policy.Context

	// Grants is asked when the policies do not allow, and none denies. Nil: there are none.
	Grants Grants
}

// Grants knows the grants on one resource.
type Grants interface {
	// Grant returns the id of a grant that lets the caller do action now, or "" where there is none. An error means that
	// it could not be found out: then the answer to the caller is that error.
	Grant(ctx context.Context, call *Call, action string) (id string, err error)
}
