package sts

import "github.com/keyturn/keyturn/awsapi"

// compatibilityNotes are the places where AWS's documents are silent, or are
// departed from on purpose, and what is done instead.
var compatibilityNotes = []awsapi.Note{
	{Operation: "AssumeRole", Text: "PolicyArns is refused with ValidationError: there are no managed policies. So is every parameter that is not known, such as ProvidedContexts, since it may be a restriction."},
	{Operation: "AssumeRole", Text: "A session that inherits transitive tags needs `sts:TagSession` as if it were given them. One that inherits a source identity needs `sts:SetSourceIdentity`, as AWS documents; another one than the inherited is answered with AccessDenied."},
	{Operation: "AssumeRole", Text: "SerialNumber and TokenCode are answered as a wrong code: there are no MFA devices, and no session has `aws:MultiFactorAuthPresent` true."},
	{Operation: "AssumeRole", Text: "Policies and tags of a session have room for 4,096 bytes together, unpacked; PackedPolicySize is their share of it."},
	{Operation: "AssumeRoleWithWebIdentity", Text: "Issuers are configured for the server, not made with IAM; every account may name them in trust policies. A star there stands for signed callers only, never for web identities."},
	{Operation: "AssumeRoleWithWebIdentity", Text: "A token for several audiences is taken only if `azp` names one that is allowed, and one of `aud` is allowed as well. `sub` may have up to 1,024 bytes, for names of Kubernetes service accounts exceed 255. Tags and source identities in tokens are not read."},
	{Operation: "AssumeRoleWithWebIdentity", Text: "It must be posted: a token in a URL ends in logs. AWS takes GET as well."},
	{Operation: "GetSessionToken", Text: "Only for users that are stored. Root users have no sessions here: theirs would outlive the credentials of a development server."},
	{Operation: "GetCallerIdentity", Text: "Signatures for any Region are taken, also for those that the server does not serve; so for all operations of STS."},
}
