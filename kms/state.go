package kms

import (
	"slices"

	"github.com/keyturn/keyturn/awsapi"
)

// The states of a key, and the ways between them:
//
//	          DisableKey
//	Enabled ─────────────▶ Disabled ◀──────────────┐
//	   │    ◀─────────────    │                    │ CancelKeyDeletion
//	   │       EnableKey      │                    │
//	   └───────────┬──────────┘                    │
//	               │ ScheduleKeyDeletion           │
//	               ├───────────────────────▶ PendingDeletion
//	               │                           ▲   │ its date has come
//	               │        no replica is left │   ▼
//	               │                           │ Destroyed (the row goes next)
//	               │                           │
//	               └───────────────▶ PendingReplicaDeletion ─▶ Disabled
//	        of a primary key that has replicas        CancelKeyDeletion
//
// Keys whose material is imported begin in PendingImport, and come back to it
// whenever material goes that they cannot do without; it is as if they were
// Disabled, and nobody can enable them:
//
//	               ImportKeyMaterial: all is there
//	PendingImport ─────────────────────────────────▶ Enabled
//	   │    ▲  ▲    material deleted or expired         │
//	   │    │  └────────────────────────────────────────┴─ Disabled
//	   │    │ CancelKeyDeletion, material missing
//	   └────┴─▶ PendingDeletion, PendingReplicaDeletion
//	      ScheduleKeyDeletion
//
// AWS's Creating and Updating, through which Multi-Region keys pass on their way
// from Region to Region, do not occur: one transaction changes all Regions.
//
// stateDestroyed is ours alone: nobody ever reads it over the wire.
const (
	stateEnabled                = KeyStateEnabled
	stateDisabled               = KeyStateDisabled
	statePendingImport          = KeyStatePendingImport
	statePendingDeletion        = KeyStatePendingDeletion
	statePendingReplicaDeletion = KeyStatePendingReplicaDeletion
	stateDestroyed              = "Destroyed"
)

// transitions lists the legal changes of state: operation → state before →
// state after. A change that is not here does not happen.
var transitions = map[string]map[string]string{
	"EnableKey":           {stateEnabled: stateEnabled, stateDisabled: stateEnabled},
	"DisableKey":          {stateEnabled: stateDisabled, stateDisabled: stateDisabled},
	"ScheduleKeyDeletion": {stateEnabled: statePendingDeletion, stateDisabled: statePendingDeletion, statePendingImport: statePendingDeletion},
	"CancelKeyDeletion":   {statePendingDeletion: stateDisabled, statePendingReplicaDeletion: stateDisabled},
	"wait for replicas": {
		stateEnabled: statePendingReplicaDeletion, stateDisabled: statePendingReplicaDeletion, statePendingImport: statePendingReplicaDeletion,
	},
	"last replica gone": {statePendingReplicaDeletion: statePendingDeletion},
	"destroy":           {statePendingDeletion: stateDestroyed},

	// When the last material is there that the key cannot do without, and when one
	// goes. Material that comes again does not enable a key that somebody disabled.
	"ImportKeyMaterial": {statePendingImport: stateEnabled, stateEnabled: stateEnabled, stateDisabled: stateDisabled},
	"lose material": {
		stateEnabled: statePendingImport, stateDisabled: statePendingImport, statePendingImport: statePendingImport,
		statePendingDeletion: statePendingDeletion, statePendingReplicaDeletion: statePendingReplicaDeletion,
	},
	"CancelKeyDeletion, material missing": {statePendingDeletion: statePendingImport, statePendingReplicaDeletion: statePendingImport},
}

// A rule says in which states an operation works on a key. From "Key states
// of AWS KMS keys" in the KMS developer guide.
type rule uint8

const (
	inAnyState rule = iota
	whenEnabled
	whenEnabledOrPendingImport // the operation itself refuses imported keys, in its own words
	whenImported               // with its material: Enabled or Disabled
	whenNotPendingDeletion
	whenPendingDeletion
)

// stateRules: operation → rule, for every operation that uses a key that
// exists. UpdateAlias asks it of the key that the alias moves to; the one it
// leaves may be in any state, and so may the key whose alias is deleted.
var stateRules = map[string]rule{
	"DescribeKey":          inAnyState,
	"GetKeyPolicy":         inAnyState,
	"PutKeyPolicy":         inAnyState,
	"ListKeyPolicies":      inAnyState,
	"ListResourceTags":     inAnyState,
	"ListAliases":          inAnyState,
	"DeleteAlias":          inAnyState,
	"GetKeyRotationStatus": inAnyState,
	"ListKeyRotations":     inAnyState,
	"GetKeyLastUsage":      inAnyState,
	"ListGrants":           inAnyState,
	"RetireGrant":          inAnyState,
	"RevokeGrant":          inAnyState,

	"EnableKey":            whenImported,
	"DisableKey":           whenImported,
	"ScheduleKeyDeletion":  whenNotPendingDeletion,
	"UpdateKeyDescription": whenNotPendingDeletion,
	"CreateAlias":          whenNotPendingDeletion,
	"UpdateAlias":          whenNotPendingDeletion,
	"TagResource":          whenNotPendingDeletion,
	"UntagResource":        whenNotPendingDeletion,

	"GetParametersForImport":    whenNotPendingDeletion,
	"ImportKeyMaterial":         whenNotPendingDeletion,
	"DeleteImportedKeyMaterial": inAnyState,

	"CancelKeyDeletion": whenPendingDeletion,

	"EnableKeyRotation":  whenEnabledOrPendingImport,
	"DisableKeyRotation": whenEnabledOrPendingImport,
	"RotateKeyOnDemand":  whenEnabled,

	"ReplicateKey":        whenEnabled,
	"UpdatePrimaryRegion": whenEnabled,

	"CreateGrant":        whenEnabled,
	"Sign":               whenEnabled,
	"Verify":             whenEnabled,
	"GetPublicKey":       whenEnabled,
	"Encrypt":            whenEnabled,
	"Decrypt":            whenEnabled,
	"ReEncrypt":          whenEnabled,
	"GenerateMac":        whenEnabled,
	"VerifyMac":          whenEnabled,
	"DeriveSharedSecret": whenEnabled,
	"Encapsulate":        whenEnabled,
	"Decapsulate":        whenEnabled,

	"GenerateDataKey":                     whenEnabled,
	"GenerateDataKeyWithoutPlaintext":     whenEnabled,
	"GenerateDataKeyPair":                 whenEnabled,
	"GenerateDataKeyPairWithoutPlaintext": whenEnabled,
}

// checkState says whether operation may use the key arn while it is in state:
// nil, or AWS's exception for it. An operation without a rule is refused, so
// that a new one cannot be forgotten here.
func checkState(operation, arn, state string) error {
	r, ok := stateRules[operation]
	switch {
	case !ok:
		return awsapi.Errorf("KMSInternalException", "no state rule for %s", operation)
	case r == inAnyState:
		return nil
	case r == whenPendingDeletion:
		if state != statePendingDeletion && state != statePendingReplicaDeletion {
			return awsapi.Errorf("KMSInvalidStateException", "%s is not pending deletion.", arn)
		}
		return nil
	case state == statePendingDeletion:
		return awsapi.Errorf("KMSInvalidStateException", "%s is pending deletion.", arn)
	case state == statePendingReplicaDeletion:
		return awsapi.Errorf("KMSInvalidStateException", "%s is pending replica deletion.", arn)
	case r == whenNotPendingDeletion, state == stateEnabled:
		return nil
	case state == statePendingImport && r == whenEnabledOrPendingImport:
		return nil
	case state == statePendingImport:
		return errPendingImport(arn)
	case r == whenImported:
		return nil
	case state == stateDisabled:
		return awsapi.Errorf("DisabledException", "%s is disabled.", arn)
	}
	return awsapi.Errorf("KMSInvalidStateException", "%s is in state %s, which is not valid for %s.", arn, state, operation)
}

// moves says to which state operation takes a key, given one in which
// checkState let it pass.
func moves(operation, from string) string { return transitions[operation][from] }

// usageFor: cryptographic operation → the KeyUsage it needs. GetPublicKey
// works for every asymmetric key and is not here.
var usageFor = map[string]string{
	"Sign":               KeyUsageTypeSignVerify,
	"Verify":             KeyUsageTypeSignVerify,
	"Encrypt":            KeyUsageTypeEncryptDecrypt,
	"Decrypt":            KeyUsageTypeEncryptDecrypt,
	"ReEncrypt":          KeyUsageTypeEncryptDecrypt,
	"GenerateMac":        KeyUsageTypeGenerateVerifyMac,
	"VerifyMac":          KeyUsageTypeGenerateVerifyMac,
	"DeriveSharedSecret": KeyUsageTypeKeyAgreement,
	"Encapsulate":        KeyUsageTypeEncapsulateDecapsulate,
	"Decapsulate":        KeyUsageTypeEncapsulateDecapsulate,

	"GenerateDataKey":                     KeyUsageTypeEncryptDecrypt,
	"GenerateDataKeyWithoutPlaintext":     KeyUsageTypeEncryptDecrypt,
	"GenerateDataKeyPair":                 KeyUsageTypeEncryptDecrypt,
	"GenerateDataKeyPairWithoutPlaintext": KeyUsageTypeEncryptDecrypt,
}

// checkUsage says whether a key made for usage, with these algorithms, does
// operation with algorithm.
func checkUsage(operation, arn, usage, spec, algorithm string, algorithms []string) error {
	if usageFor[operation] != usage {
		return awsapi.Errorf("InvalidKeyUsageException", "%s key usage is %s which is not valid for %s.", arn, usage, operation)
	}
	if !slices.Contains(algorithms, algorithm) {
		return awsapi.Errorf("InvalidKeyUsageException", "Algorithm %s is incompatible with key spec %s.", algorithm, spec)
	}
	return nil
}
