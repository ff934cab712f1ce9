// Package rotators holds the code that turns things: one kind a rotator. A rotator gets a target from the engine
// and speaks to it with aws-sdk-go-v2 and nothing else, so that the same code turns keys of an AWS account and
// keys of this server, through the same door and the same audit log as any caller.
//
// What every rotator here promises: a step may be repeated after any failure, reported or not, and ends in the same
// state; nothing is created that cannot be found again by its tag; nothing is disabled or deleted that
// Keyturn did not make, unless the policy says "adopt: full" or a person named that very key as compromised; what
// another hand has changed is reported as drift and left as it is.
//
// What it trusts: the KMS at the target to apply each call whole or not at all, and its tags to be changed
// by nobody who is not trusted to delete keys: who can put Keyturn's tags on a key can make Keyturn delete it.
// The KMS has no compare-and-swap, so between looking and writing another hand can still slip in; each step looks
// immediately before it writes, and the next step looks again.
//
// How it fails: an error is either permanent or drift (rotation.StepError, with a hint for a person), or it is tried
// again. The SDK's own retries are off: they would repeat CreateKey after a lost answer and leave an orphan.
package rotators
