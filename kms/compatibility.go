package kms

import "github.com/keyturn/keyturn/awsapi"

// compatibilityNotes are the places where AWS's documents are silent or
// contradict each other, or where this server differs on purpose, and what it
// does there: the reading that allows less. docs/compatibility.md prints them.
var compatibilityNotes = []awsapi.Note{
	{Operation: "CancelKeyDeletion", Text: "A key that lacks imported material becomes PendingImport, any other Disabled."},
	{Operation: "CreateCustomKeyStore", Text: "Valid requests are UnsupportedOperationException: there are no custom key stores, DescribeCustomKeyStores lists none, and every other operation that names one answers CustomKeyStoreNotFoundException."},
	{Operation: "CreateGrant", Text: "Takes one of EncryptionContextEquals and EncryptionContextSubset, with 1 to 8 pairs: AWS's tools treat the two as alternatives, and an empty constraint would be read either way."},
	{Operation: "CreateGrant", Text: "A constraint compares the keys of the encryption context case-sensitively, as the developer guide says; the API reference says that it does not."},
	{Operation: "CreateGrant", Text: "A grant to an account (its root ARN) lets the account's other principals use the key only where their identity policies allow it too, as a key policy that names the account does."},
	{Operation: "CreateGrant", Text: "Holds from the answer on, and on other nodes within a second or at once with the grant token; AWS may take minutes without it. A token for a grant on another key is refused, except by alias and in ReEncrypt."},
	{Operation: "CreateGrant", Text: "A grant whose principal is deleted stays, shows the principal's unique id, and gives nothing to one made under the same name."},
	{Operation: "CreateKey", Text: "Origin EXTERNAL is for symmetric, HMAC, RSA and elliptic-curve keys. AWS documents no imports into ML-KEM keys, so there are none."},
	{Operation: "CreateKey", Text: "kms:KeySpec and the like are those of the key that will be made. kms:BypassPolicyLockoutSafetyCheck has a value only when the member is true: over the wire false and absent are one."},
	{Operation: "CreateKey", Text: "Key policies may name any account of twelve digits, also one that this server does not have; users and roles must exist."},
	{Operation: "DescribeKey", Text: "The first use of alias/aws/secretsmanager makes the AWS managed key; other services have none here. No other alias may begin with alias/aws/."},
	{Operation: "EnableKeyRotation", Text: "With the period that a key has already nothing changes, so that calling it again and again does not put rotation off; another period is counted from now."},
	{Operation: "EnableKeyRotation", Text: "Periods shorter than 90 days are taken where the server's kms.minRotationDays allows them."},
	{Operation: "GetKeyPolicy", Text: "Prints principals sorted and each once, and a policy without Version as 2008-10-17."},
	{Operation: "GetParametersForImport", Text: "RSAES_PKCS1_V1_5, which AWS no longer takes, and SM2PKE are UnsupportedOperationException. A token is good for its own key for 24 hours and as often as it is used: AWS does not say otherwise."},
	{Operation: "ImportKeyMaterial", Text: "Takes keys in DER only. An RSA key has two primes that fit each other and FIPS 186-5, and an exponent of 65537 or more; an elliptic-curve key has a named curve, and its public point, where it is given, is the private key's. Else IncorrectKeyMaterialException; whatever does not unwrap is InvalidCiphertextException and does not say why."},
	{Operation: "ImportKeyMaterial", Text: "ImportType, KeyMaterialId and KeyMaterialDescription are for symmetric keys; with any other, UnsupportedOperationException. NEW_KEY_MATERIAL while other material is pending rotation is KMSInvalidStateException: delete that first."},
	{Operation: "ImportKeyMaterial", Text: "A key that was PendingImport becomes Enabled once it has all the material that it needs, whatever it was before; one that is Disabled stays so. Material is gone for every caller from ValidTo on. Material that expires while it is pending rotation is forgotten, since no ciphertext needs it."},
	{Operation: "ListGrants", Text: "A GrantId that no grant on the key has gives an empty list."},
	{Operation: "ListKeyRotations", Text: "Oldest first, with every member it has, with ROTATIONS_ONLY too. A material that a rotation under way is making is not shown."},
	{Operation: "ListRetirableGrants", Text: "A principal of another account is AccessDeniedException."},
	{Operation: "PutKeyPolicy", Text: "The lockout check asks the new policy with the conditions of the present request, for the caller and for the account's root user; one of the two must be allowed kms:PutKeyPolicy."},
	{Operation: "ReEncrypt", Text: "Both keys are found before the permission on either is asked for, since kms:ReEncryptOnSameKey is about both."},
	{Operation: "ReplicateKey", Text: "The replica is there and usable with the answer, without the state Creating. A Region that has a key of the same id, the primary key's own included, is AlreadyExistsException; one that this server does not serve UnsupportedOperationException."},
	{Operation: "ReplicateKey", Text: "kms:CreateKey and kms:TagResource are asked for with the replica's Region as aws:RequestedRegion."},
	{Operation: "RetireGrant", Text: "Allowed to the retiring principal, to the grantee where RetireGrant is among the operations, to the root user of the account that made the grant, and to whom the key's policies allow kms:RetireGrant. The token of a grant that has ended is InvalidGrantTokenException."},
	{Operation: "RotateKeyOnDemand", Text: "Is done within moments, not within minutes. ConflictException also while a rotation on demand is under way; of imported material without any that is pending rotation, KMSInvalidStateException."},
	{Operation: "UpdatePrimaryRegion", Text: "Done with the answer, without the state Updating. The Region where the primary key is already is UnsupportedOperationException, one that has no replica NotFoundException."},
	{Operation: "UpdatePrimaryRegion", Text: "KMSInvalidStateException while the key's material turns. Automatic rotation goes on with the new primary key, on the date that it had."},
}
