package kms

import "github.com/keyturn/keyturn/awsapi"

// API returns the operations for awsapi.NewHandler. What the model knows and
// this table does not answers UnknownOperationException.
func (s *Service) API() awsapi.Service {
	api := awsapi.Service{
		Name:         "kms",
		SigningName:  apiSigningName,
		TargetPrefix: apiTargetPrefix,
		EventSource:  "kms.amazonaws.com",
		InternalCode: "KMSInternalException",
		Known:        apiOperations,
		Notes:        compatibilityNotes,
		Operations: []awsapi.Operation{
			awsapi.Op("CreateKey", s.CreateKey),
			awsapi.Op("DescribeKey", s.DescribeKey).ReadOnly(),
			awsapi.Op("ListKeys", s.ListKeys).ReadOnly(),
			awsapi.Op("UpdateKeyDescription", s.UpdateKeyDescription),
			awsapi.Op("EnableKey", s.EnableKey),
			awsapi.Op("DisableKey", s.DisableKey),
			awsapi.Op("ScheduleKeyDeletion", s.ScheduleKeyDeletion),
			awsapi.Op("CancelKeyDeletion", s.CancelKeyDeletion),
			awsapi.Op("GetKeyLastUsage", s.GetKeyLastUsage).ReadOnly(),

			awsapi.Op("EnableKeyRotation", s.EnableKeyRotation),
			awsapi.Op("DisableKeyRotation", s.DisableKeyRotation),
			awsapi.Op("GetKeyRotationStatus", s.GetKeyRotationStatus).ReadOnly(),
			awsapi.Op("RotateKeyOnDemand", s.RotateKeyOnDemand),
			awsapi.Op("ListKeyRotations", s.ListKeyRotations).ReadOnly(),

			awsapi.Op("ReplicateKey", s.ReplicateKey),
			awsapi.Op("UpdatePrimaryRegion", s.UpdatePrimaryRegion),

			awsapi.Op("CreateAlias", s.CreateAlias),
			awsapi.Op("UpdateAlias", s.UpdateAlias),
			awsapi.Op("DeleteAlias", s.DeleteAlias),
			awsapi.Op("ListAliases", s.ListAliases).ReadOnly(),

			awsapi.Op("GetKeyPolicy", s.GetKeyPolicy).ReadOnly(),
			awsapi.Op("PutKeyPolicy", s.PutKeyPolicy),
			awsapi.Op("ListKeyPolicies", s.ListKeyPolicies).ReadOnly(),

			awsapi.Op("CreateGrant", s.CreateGrant),
			awsapi.Op("ListGrants", s.ListGrants).ReadOnly(),
			awsapi.Op("ListRetirableGrants", s.ListRetirableGrants).ReadOnly(),
			awsapi.Op("RetireGrant", s.RetireGrant),
			awsapi.Op("RevokeGrant", s.RevokeGrant),

			awsapi.Op("TagResource", s.TagResource),
			awsapi.Op("UntagResource", s.UntagResource),
			awsapi.Op("ListResourceTags", s.ListResourceTags).ReadOnly(),

			awsapi.Op("GetParametersForImport", s.GetParametersForImport).ReadOnly(),
			awsapi.Op("ImportKeyMaterial", s.ImportKeyMaterial),
			awsapi.Op("DeleteImportedKeyMaterial", s.DeleteImportedKeyMaterial),

			awsapi.Op("CreateCustomKeyStore", s.CreateCustomKeyStore),
			awsapi.Op("DescribeCustomKeyStores", s.DescribeCustomKeyStores).ReadOnly(),
			awsapi.Op("UpdateCustomKeyStore", s.UpdateCustomKeyStore),
			awsapi.Op("ConnectCustomKeyStore", s.ConnectCustomKeyStore),
			awsapi.Op("DisconnectCustomKeyStore", s.DisconnectCustomKeyStore),
			awsapi.Op("DeleteCustomKeyStore", s.DeleteCustomKeyStore),

			awsapi.Op("Sign", s.Sign).ReadOnly(),
			awsapi.Op("Verify", s.Verify).ReadOnly(),
			awsapi.Op("GetPublicKey", s.GetPublicKey).ReadOnly(),
			awsapi.Op("Encrypt", s.Encrypt).ReadOnly(),
			awsapi.Op("Decrypt", s.Decrypt).ReadOnly(),
			awsapi.Op("ReEncrypt", s.ReEncrypt).ReadOnly(),
			awsapi.Op("GenerateDataKey", s.GenerateDataKey).ReadOnly(),
			awsapi.Op("GenerateDataKeyWithoutPlaintext", s.GenerateDataKeyWithoutPlaintext).ReadOnly(),
			awsapi.Op("GenerateDataKeyPair", s.GenerateDataKeyPair).ReadOnly(),
			awsapi.Op("GenerateDataKeyPairWithoutPlaintext", s.GenerateDataKeyPairWithoutPlaintext).ReadOnly(),
			awsapi.Op("GenerateMac", s.GenerateMac).ReadOnly(),
			awsapi.Op("VerifyMac", s.VerifyMac).ReadOnly(),
			awsapi.Op("DeriveSharedSecret", s.DeriveSharedSecret).ReadOnly(),
			awsapi.Op("Encapsulate", s.Encapsulate).ReadOnly(),
			awsapi.Op("Decapsulate", s.Decapsulate).ReadOnly(),
			awsapi.Op("GenerateRandom", s.GenerateRandom).ReadOnly(),
		},
	}
	if s != nil && s.rates != nil { // of a nil Service the table is only counted
		for i, op := range api.Operations {
			api.Operations[i] = op.Before(s.admit)
		}
	}
	return api
}
