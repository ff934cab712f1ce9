package access

import (
	"context"
	"fmt"
	"time"

	"github.com/keyturn/keyturn/audit"
)

// An Event is something that the server does to a resource by itself, on nobody's call: CloudTrail's AwsServiceEvent.
type Event struct {
	Source, Name string // "kms.amazonaws.com", "RotateKey"
	Region       string
	Time         time.Time
	Resource     Resource // its names only
	Details      []byte   // CloudTrail's serviceEventDetails, a JSON object
}

// Announce records that the event is about to happen, durably, as Check does for a call. When it fails, nothing may be done.
func (g *Guard) Announce(ctx context.Context, e *Event) error {
	r := e.record(`{"phase":"decision"}`)
	if err := g.log.Append(context.WithoutCancel(ctx), r); err != nil {
		return fmt.Errorf("recording what is about to be done: %w", err)
	}
	return nil
}

// Conclude records how an event ended that was announced: failure is nil when it was done. It does not give up when ctx is cancelled.
func (g *Guard) Conclude(ctx context.Context, e *Event, failure error) error {
	r := e.record(`{"phase":"outcome"}`)
	r.Decided = true
	if failure != nil {
		r.ErrorCode, r.ErrorMessage = "InternalFailure", cut(failure.Error(), maxErrorMessage)
	}
	if err := g.log.Append(context.WithoutCancel(ctx), r); err != nil {
		return fmt.Errorf("recording outcome: %w", err)
	}
	return nil
}

func (e *Event) record(additional string) *audit.Record {
	const self = "keyturn"
	return &audit.Record{
		UserIdentity: audit.Identity{Type: AWSService, AccountID: e.Resource.Account, InvokedBy: self},
		EventTime:    e.Time, EventSource: e.Source, EventName: e.Name, AWSRegion: e.Region,
		SourceIPAddress: self, UserAgent: self,
		AdditionalEventData: []byte(additional), ServiceEventDetails: e.Details,
		Resources:          []audit.Resource{{ARN: e.Resource.ARN, AccountID: e.Resource.Account, Type: e.Resource.Type}},
		EventType:          audit.ServiceEvent,
		RecipientAccountID: e.Resource.Account,
	}
}
