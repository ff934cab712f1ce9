package policy

// A Key is the name of a condition key, as a statement uses it. Names are compared without regard to case; Suffix is what
// follows in keys that take a name of the request's own, like aws:ResourceTag/Department, as the policy spells it; in those
// about a web identity it is the issuer, which stands before the name.
type Key struct {
	Name   KeyName
	Suffix string
}

// KeyName is one entry of the table of condition keys.
type KeyName uint8

// A Context answers for the condition keys of one request. It is asked only for keys in the table, possibly more than once,
// by one goroutine at a time.
//
// Values are text: booleans are "true" or "false", numbers decimal, dates like 2026-11-23T12:00:00Z or in seconds since 1970.
type Context interface {
	// Values appends the values that the request has for the key to dst and returns it. ok is false where the request
	// does not have the key; an empty list counts as that too. A Suffix that names a tag, or a key of an encryption
	// context, counts without regard to case: where several fit, the key has all their values.
	Values(k Key, dst []string) (values []string, ok bool)
}

// The condition keys that are known: the global ones of
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html that can have a value here, and those of
// https://docs.aws.amazon.com/kms/latest/developerguide/policy-conditions.html.
const (
	unknownKey KeyName = iota

	AWSCalledVia
	AWSCalledViaFirst
	AWSCalledViaLast
	AWSCurrentTime
	AWSEpochTime
	AWSFederatedProvider
	AWSMultiFactorAuthAge
	AWSMultiFactorAuthPresent
	AWSPrincipalAccount
	AWSPrincipalARN
	AWSPrincipalIsAWSService
	AWSPrincipalServiceName
	AWSPrincipalTag // /tag-key
	AWSPrincipalType
	AWSReferer
	AWSRequestTag // /tag-key
	AWSRequestedRegion
	AWSResourceAccount
	AWSResourceTag // /tag-key
	AWSSecureTransport
	AWSSourceAccount
	AWSSourceARN
	AWSSourceIdentity
	AWSSourceIP
	AWSTagKeys
	AWSTokenIssueTime
	AWSUserAgent
	AWSUserID
	AWSUsername
	AWSViaAWSService

	KMSBypassPolicyLockoutSafetyCheck
	KMSCallerAccount
	KMSCustomerMasterKeySpec
	KMSCustomerMasterKeyUsage
	KMSDataKeyPairSpec
	KMSEncryptionAlgorithm
	KMSEncryptionContext // :context-key
	KMSEncryptionContextKeys
	KMSExpirationModel
	KMSGrantConstraintSourceARN
	KMSGrantConstraintType
	KMSGrantIsForAWSResource
	KMSGrantOperations
	KMSGranteePrincipal
	KMSGranteeServicePrincipal
	KMSKeyAgreementAlgorithm
	KMSKeyOrigin
	KMSKeySpec
	KMSKeyUsage
	KMSMacAlgorithm
	KMSMessageType
	KMSMultiRegion
	KMSMultiRegionKeyType
	KMSPrimaryRegion
	KMSReEncryptOnSameKey
	KMSRecipientAttestation // :ImageSha384, :PCR0, …; there is none, so they never have a value
	KMSReplicaRegion
	KMSRequestAlias
	KMSResourceAliases
	KMSRetiringPrincipal
	KMSRetiringServicePrincipal
	KMSRotationPeriodInDays
	KMSScheduleKeyDeletionPendingWindowInDays
	KMSSigningAlgorithm
	KMSValidTo
	KMSViaService
	KMSWrappingAlgorithm
	KMSWrappingKeySpec

	STSExternalID
	STSRoleSessionName
	STSTransitiveTagKeys
	STSSourceIdentity

	OIDCAudience // issuer:aud
	OIDCMethods  // issuer:amr
	OIDCSubject  // issuer:sub

	keyNames // how many there are
)

// valueType is what the values of a key are, which decides the operators that make sense for it.
type valueType uint8

const (
	textValue valueType = iota
	anyValue            // text that users choose, which may mean anything: tags, encryption contexts
	arnValue
	boolValue
	dateValue
	ipValue
	numberValue
)

// String is for messages: "is a date, which …".
func (t valueType) String() string {
	return [...]string{"text", "text", "an ARN", "a boolean", "a date", "an IP address", "a number"}[t]
}

// A conditionKey is a row of the table.
type conditionKey struct {
	name   string // as AWS spells it; with "/" or ":" at the end where a suffix follows
	typ    valueType
	multi  bool // has any number of values: ForAllValues and ForAnyValue are for these
	suffix bool
}

var conditionKeys = [keyNames]conditionKey{
	AWSCalledVia:              {name: "aws:CalledVia", multi: true},
	AWSCalledViaFirst:         {name: "aws:CalledViaFirst"},
	AWSCalledViaLast:          {name: "aws:CalledViaLast"},
	AWSCurrentTime:            {name: "aws:CurrentTime", typ: dateValue},
	AWSEpochTime:              {name: "aws:EpochTime", typ: dateValue},
	AWSFederatedProvider:      {name: "aws:FederatedProvider"},
	AWSMultiFactorAuthAge:     {name: "aws:MultiFactorAuthAge", typ: numberValue},
	AWSMultiFactorAuthPresent: {name: "aws:MultiFactorAuthPresent", typ: boolValue},
	AWSPrincipalAccount:       {name: "aws:PrincipalAccount"},
	AWSPrincipalARN:           {name: "aws:PrincipalArn", typ: arnValue},
	AWSPrincipalIsAWSService:  {name: "aws:PrincipalIsAWSService", typ: boolValue},
	AWSPrincipalServiceName:   {name: "aws:PrincipalServiceName"},
	AWSPrincipalTag:           {name: "aws:PrincipalTag/", typ: anyValue, suffix: true},
	AWSPrincipalType:          {name: "aws:PrincipalType"},
	AWSReferer:                {name: "aws:referer"},
	AWSRequestTag:             {name: "aws:RequestTag/", typ: anyValue, suffix: true},
	AWSRequestedRegion:        {name: "aws:RequestedRegion"},
	AWSResourceAccount:        {name: "aws:ResourceAccount"},
	AWSResourceTag:            {name: "aws:ResourceTag/", typ: anyValue, suffix: true},
	AWSSecureTransport:        {name: "aws:SecureTransport", typ: boolValue},
	AWSSourceAccount:          {name: "aws:SourceAccount"},
	AWSSourceARN:              {name: "aws:SourceArn", typ: arnValue},
	AWSSourceIdentity:         {name: "aws:SourceIdentity"},
	AWSSourceIP:               {name: "aws:SourceIp", typ: ipValue},
	AWSTagKeys:                {name: "aws:TagKeys", multi: true},
	AWSTokenIssueTime:         {name: "aws:TokenIssueTime", typ: dateValue},
	AWSUserAgent:              {name: "aws:UserAgent"},
	AWSUserID:                 {name: "aws:userid"},
	AWSUsername:               {name: "aws:username"},
	AWSViaAWSService:          {name: "aws:ViaAWSService", typ: boolValue},

	KMSBypassPolicyLockoutSafetyCheck:         {name: "kms:BypassPolicyLockoutSafetyCheck", typ: boolValue},
	KMSCallerAccount:                          {name: "kms:CallerAccount"},
	KMSCustomerMasterKeySpec:                  {name: "kms:CustomerMasterKeySpec"},
	KMSCustomerMasterKeyUsage:                 {name: "kms:CustomerMasterKeyUsage"},
	KMSDataKeyPairSpec:                        {name: "kms:DataKeyPairSpec"},
	KMSEncryptionAlgorithm:                    {name: "kms:EncryptionAlgorithm"},
	KMSEncryptionContext:                      {name: "kms:EncryptionContext:", typ: anyValue, suffix: true},
	KMSEncryptionContextKeys:                  {name: "kms:EncryptionContextKeys", multi: true},
	KMSExpirationModel:                        {name: "kms:ExpirationModel"},
	KMSGrantConstraintSourceARN:               {name: "kms:GrantConstraintSourceArn", typ: arnValue},
	KMSGrantConstraintType:                    {name: "kms:GrantConstraintType"},
	KMSGrantIsForAWSResource:                  {name: "kms:GrantIsForAWSResource", typ: boolValue},
	KMSGrantOperations:                        {name: "kms:GrantOperations", multi: true},
	KMSGranteePrincipal:                       {name: "kms:GranteePrincipal", typ: arnValue},
	KMSGranteeServicePrincipal:                {name: "kms:GranteeServicePrincipal"},
	KMSKeyAgreementAlgorithm:                  {name: "kms:KeyAgreementAlgorithm"},
	KMSKeyOrigin:                              {name: "kms:KeyOrigin"},
	KMSKeySpec:                                {name: "kms:KeySpec"},
	KMSKeyUsage:                               {name: "kms:KeyUsage"},
	KMSMacAlgorithm:                           {name: "kms:MacAlgorithm"},
	KMSMessageType:                            {name: "kms:MessageType"},
	KMSMultiRegion:                            {name: "kms:MultiRegion", typ: boolValue},
	KMSMultiRegionKeyType:                     {name: "kms:MultiRegionKeyType"},
	KMSPrimaryRegion:                          {name: "kms:PrimaryRegion"},
	KMSRecipientAttestation:                   {name: "kms:RecipientAttestation:", suffix: true},
	KMSReEncryptOnSameKey:                     {name: "kms:ReEncryptOnSameKey", typ: boolValue},
	KMSReplicaRegion:                          {name: "kms:ReplicaRegion"},
	KMSRequestAlias:                           {name: "kms:RequestAlias"},
	KMSResourceAliases:                        {name: "kms:ResourceAliases", multi: true},
	KMSRetiringPrincipal:                      {name: "kms:RetiringPrincipal", typ: arnValue},
	KMSRetiringServicePrincipal:               {name: "kms:RetiringServicePrincipal"},
	KMSRotationPeriodInDays:                   {name: "kms:RotationPeriodInDays", typ: numberValue},
	KMSScheduleKeyDeletionPendingWindowInDays: {name: "kms:ScheduleKeyDeletionPendingWindowInDays", typ: numberValue},
	KMSSigningAlgorithm:                       {name: "kms:SigningAlgorithm"},
	KMSValidTo:                                {name: "kms:ValidTo", typ: dateValue},
	KMSViaService:                             {name: "kms:ViaService"},
	KMSWrappingAlgorithm:                      {name: "kms:WrappingAlgorithm"},
	KMSWrappingKeySpec:                        {name: "kms:WrappingKeySpec"},

	STSExternalID:        {name: "sts:ExternalId"},
	STSRoleSessionName:   {name: "sts:RoleSessionName"},
	STSTransitiveTagKeys: {name: "sts:TransitiveTagKeys", multi: true},
	STSSourceIdentity:    {name: "sts:SourceIdentity"},

	OIDCAudience: {name: ":aud", suffix: true},
	OIDCMethods:  {name: ":amr", multi: true, suffix: true},
	OIDCSubject:  {name: ":sub", suffix: true},
}

// keysByName: lower-case name → entry. Names that take a suffix end in their separator.
var keysByName = func() map[string]KeyName {
	all := make(map[string]KeyName, keyNames)
	for n := unknownKey + 1; n < keyNames; n++ {
		all[lower(conditionKeys[n].name)] = n
	}
	return all
}()

// parseKey finds the key that a policy names.
func parseKey(text string) (Key, bool) {
	if n, ok := keysByName[lower(text)]; ok && !conditionKeys[n].suffix {
		return Key{Name: n}, true
	}
	for _, n := range [...]KeyName{AWSPrincipalTag, AWSRequestTag, AWSResourceTag, KMSEncryptionContext, KMSRecipientAttestation} {
		name := lower(conditionKeys[n].name)
		if len(text) > len(name) && equal(name, text[:len(name)], true) {
			return Key{Name: n, Suffix: text[len(name):]}, true
		}
	}
	return federatedKey(text)
}

// String is the key as AWS spells it.
func (k Key) String() string {
	if k.Name >= OIDCAudience {
		return k.Suffix + conditionKeys[k.Name].name
	}
	return conditionKeys[k.Name].name + k.Suffix
}
