package policy_test

import (
	"testing"

	"github.com/keyturn/keyturn/policy"
)

// Policies of the kinds that AWS's documentation shows for KMS and for IAM, and what they mean.

// A key that only one service may use, on behalf of the users of one account.
// https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html#conditions-kms-via-service
func TestViaServiceOfOneAccount(t *testing.T) {
	p := parse(t, policy.Resource, `{"Version": "2012-10-17", "Statement": [{
		"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": ["kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey*"], "Resource": "*",
		"Condition": {"StringEquals": {"kms:CallerAccount": "111122223333", "kms:ViaService": "secretsmanager.eu-central-1.amazonaws.com"}}}]}`)
	p.given("kms:CallerAccount=111122223333 kms:ViaService=secretsmanager.eu-central-1.amazonaws.com").may("alice", "Decrypt", "GenerateDataKeyPair")
	p.given("kms:CallerAccount=444455556666 kms:ViaService=secretsmanager.eu-central-1.amazonaws.com").mayNot("444455556666/bob", "Decrypt")
	p.given("kms:CallerAccount=111122223333 kms:ViaService=secretsmanager.us-east-1.amazonaws.com").mayNot("alice", "Decrypt")
	p.given("kms:CallerAccount=111122223333").mayNot("alice", "Decrypt") // who asks directly has no ViaService
}

// https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html#conditions-kms-encryption-context
func TestEncryptionContext(t *testing.T) {
	p := parse(t, policy.Resource, `{"Version": "2012-10-17", "Statement": [{
		"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:user/alice"}, "Action": "kms:GenerateDataKey*", "Resource": "*",
		"Condition": {"StringEquals": {"kms:EncryptionContext:AppName": ["Billing", "Payroll"]}, "Null": {"kms:EncryptionContextKeys": "false"},
			"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["AppName", "FilePath"]}}}]}`)
	p.given("kms:EncryptionContext:AppName=Billing kms:EncryptionContextKeys=AppName,FilePath").may("alice", "GenerateDataKey")
	p.given("kms:EncryptionContext:AppName=billing kms:EncryptionContextKeys=AppName").mayNot("alice", "GenerateDataKey")
	p.given("kms:EncryptionContext:AppName=Billing kms:EncryptionContextKeys=AppName,Other").mayNot("alice", "GenerateDataKey")
	// The name of the key in kms:EncryptionContext ignores case; that is what kms:EncryptionContextKeys is for.
	p.given("kms:EncryptionContext:appname=Billing kms:EncryptionContextKeys=appname").mayNot("alice", "GenerateDataKey")
	p.mayNot("alice", "GenerateDataKey")
}

// https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html#conditions-kms-grant-operations
func TestGrantsForResourcesOfAWS(t *testing.T) {
	p := parse(t, policy.Resource, `{"Version": "2012-10-17", "Statement": [{
		"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:role/Admin"}, "Action": "kms:CreateGrant", "Resource": "*",
		"Condition": {"Bool": {"kms:GrantIsForAWSResource": true}, "StringEquals": {"kms:GrantConstraintType": "EncryptionContextSubset"},
			"ForAllValues:StringEquals": {"kms:GrantOperations": ["Encrypt", "Decrypt", "CreateGrant"]},
			"ArnLike": {"kms:GranteePrincipal": "arn:aws:iam::111122223333:role/App*"}}}]}`)
	const grant = "kms:GrantConstraintType=EncryptionContextSubset kms:GranteePrincipal=arn:aws:iam::111122223333:role/AppServer "
	p.given(grant+"kms:GrantIsForAWSResource=true kms:GrantOperations=Decrypt,Encrypt").may("role/Admin/joe", "CreateGrant")
	p.given(grant+"kms:GrantIsForAWSResource=true kms:GrantOperations=Decrypt,Sign").mayNot("role/Admin/joe", "CreateGrant")
	p.given(grant+"kms:GrantIsForAWSResource=false kms:GrantOperations=Decrypt").mayNot("role/Admin/joe", "CreateGrant")
}

// Attribute-based access: a principal may use the keys of its own project.
// https://docs.aws.amazon.com/kms/latest/developerguide/abac.html
func TestKeysOfTheOwnProject(t *testing.T) {
	p := parse(t, policy.Identity, `{"Version": "2012-10-17", "Statement": [{
		"Effect": "Allow", "Action": ["kms:Sign", "kms:Verify"], "Resource": "arn:aws:kms:*:111122223333:key/*",
		"Condition": {"StringEquals": {"aws:ResourceTag/Project": "${aws:PrincipalTag/Project}"}}}, {
		"Effect": "Deny", "Action": ["kms:TagResource", "kms:UntagResource"], "Resource": "*",
		"Condition": {"ForAnyValue:StringLike": {"aws:TagKeys": "Project*"}}}, {
		"Effect": "Allow", "Action": "kms:TagResource", "Resource": "*"}]}`)
	p.given("aws:ResourceTag/Project=Alpha aws:PrincipalTag/Project=Alpha").may("alice", "Sign")
	p.given("aws:ResourceTag/Project=Alpha aws:PrincipalTag/Project=Beta").mayNot("alice", "Sign")
	p.given("aws:PrincipalTag/Project=Beta").mayNot("alice", "Sign")
	p.mayNot("alice", "Sign") // neither has one: that is not equal
	p.given("aws:TagKeys=Owner").may("alice", "TagResource")
	p.given("aws:TagKeys=Owner,Project").denied("alice", "TagResource")
}

// https://docs.aws.amazon.com/kms/latest/developerguide/alias-authorization.html
func TestKeysByTheirAliases(t *testing.T) {
	p := parse(t, policy.Identity, `{"Version": "2012-10-17", "Statement": [{
		"Sid": "ByAnyAlias", "Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*",
		"Condition": {"ForAnyValue:StringLike": {"kms:ResourceAliases": "alias/test*"}}}, {
		"Sid": "ByTheAliasInTheRequest", "Effect": "Allow", "Action": "kms:Encrypt", "Resource": "*",
		"Condition": {"StringLike": {"kms:RequestAlias": "alias/test*"}}}]}`)
	p.given("kms:ResourceAliases=alias/prod,alias/test1").may("alice", "Decrypt")
	p.given("kms:ResourceAliases=alias/prod").mayNot("alice", "Decrypt")
	p.given("kms:ResourceAliases=alias/test1").mayNot("alice", "Encrypt")
	p.given("kms:ResourceAliases=alias/test1 kms:RequestAlias=alias/test1").may("alice", "Encrypt")
}

// What must not be done lightly to keys.
func TestGuardRailsOfKeys(t *testing.T) {
	p := parse(t, policy.Resource, `{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": "kms:*", "Resource": "*"},
		{"Effect": "Deny", "Principal": "*", "Action": "kms:ScheduleKeyDeletion", "Resource": "*",
			"Condition": {"NumericLessThan": {"kms:ScheduleKeyDeletionPendingWindowInDays": 21}}},
		{"Effect": "Deny", "Principal": "*", "Action": ["kms:CreateKey", "kms:PutKeyPolicy"], "Resource": "*",
			"Condition": {"Bool": {"kms:BypassPolicyLockoutSafetyCheck": "true"}}},
		{"Effect": "Deny", "Principal": "*", "Action": "kms:ReEncrypt*", "Resource": "*",
			"Condition": {"Bool": {"kms:ReEncryptOnSameKey": false}}},
		{"Effect": "Deny", "Principal": "*", "Action": "kms:ImportKeyMaterial", "Resource": "*",
			"Condition": {"NumericGreaterThan": {"kms:ValidTo": "1798675200.0"}}},
		{"Effect": "Deny", "Principal": "*", "Action": "kms:ImportKeyMaterial", "Resource": "*",
			"Condition": {"StringNotEqualsIfExists": {"kms:ExpirationModel": "KEY_MATERIAL_EXPIRES"}}}]}`)
	p.given("kms:ScheduleKeyDeletionPendingWindowInDays=7").denied("root", "ScheduleKeyDeletion")
	p.given("kms:ScheduleKeyDeletionPendingWindowInDays=30").may("root", "ScheduleKeyDeletion")
	p.given("kms:BypassPolicyLockoutSafetyCheck=true").denied("root", "PutKeyPolicy")
	p.may("root", "PutKeyPolicy") // a request that does not say so has no such key
	p.given("kms:ReEncryptOnSameKey=false").denied("alice", "ReEncryptFrom")
	p.given("kms:ReEncryptOnSameKey=true").mayByAccount("alice", "ReEncryptTo")
	p.given("kms:ValidTo=1798675201 kms:ExpirationModel=KEY_MATERIAL_EXPIRES").denied("root", "ImportKeyMaterial")
	p.given("kms:ValidTo=1798675200 kms:ExpirationModel=KEY_MATERIAL_EXPIRES").may("root", "ImportKeyMaterial")
	p.given("kms:ExpirationModel=KEY_MATERIAL_DOES_NOT_EXPIRE").denied("root", "ImportKeyMaterial")
}

// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_examples_aws_deny-ip.html
func TestOnlyFromTheOfficeUnlessAServiceAsks(t *testing.T) {
	p := parse(t, policy.Identity, `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}, {
		"Effect": "Deny", "Action": "*", "Resource": "*",
		"Condition": {"NotIpAddress": {"aws:SourceIp": ["192.0.2.0/24", "2001:db8::/32"]}, "Bool": {"aws:ViaAWSService": "false"}}}]}`)
	p.given("aws:SourceIp=192.0.2.99 aws:ViaAWSService=false").may("alice", "Sign")
	p.given("aws:SourceIp=2001:db8::7 aws:ViaAWSService=false").may("alice", "Sign")
	p.given("aws:SourceIp=203.0.113.9 aws:ViaAWSService=false").denied("alice", "Sign")
	p.given("aws:ViaAWSService=false").denied("alice", "Sign")
	p.given("aws:ViaAWSService=true").may("alice", "Sign")
}

// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_examples_aws_my-sec-creds-self-manage-mfa-only.html
func TestSecondFactor(t *testing.T) {
	p := parse(t, policy.Identity, `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "kms:*", "Resource": "*"}, {
		"Sid": "NoFactor", "Effect": "Deny", "Action": "kms:*Key*", "Resource": "*", "Condition": {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}}, {
		"Sid": "TooLongAgo", "Effect": "Deny", "Action": "kms:Sign", "Resource": "*", "Condition": {"NumericGreaterThanIfExists": {"aws:MultiFactorAuthAge": "3600"}}}]}`)
	p.denied("alice", "DisableKey") // access keys without an end have no such key; IfExists counts that as no factor
	p.given("aws:MultiFactorAuthPresent=false").denied("alice", "DisableKey")
	p.given("aws:MultiFactorAuthPresent=true aws:MultiFactorAuthAge=60").may("alice", "DisableKey", "Verify")
	p.given("aws:MultiFactorAuthPresent=true aws:MultiFactorAuthAge=3601").denied("alice", "Sign")
}

// Sessions that were begun before a point in time are no longer good.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_revoke-sessions.html
func TestRevokedSessions(t *testing.T) {
	p := parse(t, policy.Identity, `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}, {
		"Effect": "Deny", "Action": ["*"], "Resource": ["*"], "Condition": {"DateLessThan": {"aws:TokenIssueTime": "2026-11-23T12:00:00Z"}}}]}`)
	p.given("aws:TokenIssueTime=2026-11-23T11:59:59Z").denied("role/Signer/joe", "Sign")
	p.given("aws:TokenIssueTime=2026-11-23T12:00:01Z").may("role/Signer/joe", "Sign")
	p.may("alice", "Sign")
}

// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_examples_aws-dates.html and …_aws_deny-requested-region.html
func TestDatesAndRegions(t *testing.T) {
	p := parse(t, policy.Identity, `{"Version": "2012-10-17", "Statement": [{
		"Effect": "Allow", "Action": "kms:*", "Resource": "*",
		"Condition": {"DateGreaterThan": {"aws:CurrentTime": "2026-11-01T00:00:00Z"}, "DateLessThan": {"aws:CurrentTime": "2026-11-30T23:59:59Z"}}}, {
		"Effect": "Deny", "NotAction": ["iam:*", "sts:*"], "Resource": "*",
		"Condition": {"StringNotEquals": {"aws:RequestedRegion": ["eu-central-1", "eu-west-1"]}}}]}`)
	p.given("aws:CurrentTime=2026-11-23T12:00:00Z aws:RequestedRegion=eu-west-1").may("alice", "Sign")
	p.given("aws:CurrentTime=2026-12-01T00:00:00Z aws:RequestedRegion=eu-west-1").mayNot("alice", "Sign")
	p.given("aws:CurrentTime=2026-11-23T12:00:00Z aws:RequestedRegion=us-east-1").denied("alice", "Sign")
	p.given("aws:CurrentTime=2026-11-23T12:00:00Z").denied("alice", "Sign")
}

// An allow for enclaves only: here no request carries an attestation, so it lets nobody in.
// https://docs.aws.amazon.com/kms/latest/developerguide/conditions-nitro-enclaves.html
func TestAttestation(t *testing.T) {
	p := parse(t, policy.Resource, `{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:role/data"}, "Action": "kms:Decrypt", "Resource": "*",
			"Condition": {"StringEqualsIgnoreCase": {"kms:RecipientAttestation:ImageSha384": "00", "kms:RecipientAttestation:PCR0": "00"}}},
		{"Effect": "Deny", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*",
			"Condition": {"StringNotEqualsIgnoreCase": {"kms:RecipientAttestation:PCR1": "00"}}}]}`)
	p.denied("role/data/x", "Decrypt")
}
