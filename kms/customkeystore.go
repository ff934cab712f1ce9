package kms

import (
	"context"
	"slices"

	"github.com/keyturn/keyturn/access"
	"github.com/keyturn/keyturn/awsapi"
	"github.com/keyturn/keyturn/keystore"
)

// There are no custom key stores yet. Their operations answer what AWS answers
// where an account has none, and none can be made.

// originOf says where the material of the key that is asked for comes from. A
// combination that AWS does not allow is refused and not mended: a key of another
// origin than asked for would be a key in the wrong hands.
func originOf(in *CreateKeyRequest, spec keystore.Spec) (string, error) {
	origin := in.Origin
	if origin == "" {
		origin = OriginTypeAwsKms
	}
	inStore := origin == OriginTypeAwsCloudhsm || origin == OriginTypeExternalKeyStore
	refuse := func(format string, a ...any) (string, error) {
		return "", awsapi.Errorf("ValidationException", format, a...)
	}
	switch {
	case inStore && in.CustomKeyStoreId == "":
		return refuse("You must specify a CustomKeyStoreId for a KMS key with Origin %s.", origin)
	case !inStore && in.CustomKeyStoreId != "":
		return refuse("CustomKeyStoreId is not valid with Origin %s: it must be AWS_CLOUDHSM or EXTERNAL_KEY_STORE.", origin)
	case origin == OriginTypeExternalKeyStore && in.XksKeyId == "":
		return refuse("You must specify an XksKeyId for a KMS key with Origin %s.", origin)
	case origin != OriginTypeExternalKeyStore && in.XksKeyId != "":
		return refuse("XksKeyId is not valid with Origin %s: it must be EXTERNAL_KEY_STORE.", origin)
	case inStore && (spec != keystore.SymmetricDefault || isTrue(in.MultiRegion)):
		return "", awsapi.Errorf("UnsupportedOperationException", "A custom key store holds symmetric encryption keys of a single Region only.")
	case inStore:
		return "", noSuchStore(in.CustomKeyStoreId)
	case origin == OriginTypeExternal && !spec.Importable():
		return "", awsapi.Errorf("UnsupportedOperationException", "Key material of KeySpec %s cannot be imported.", spec)
	}
	return origin, nil
}

// noSuchStore is the answer for any id or name of a custom key store.
func noSuchStore(name string) error {
	return awsapi.Errorf("CustomKeyStoreNotFoundException", "Custom key store %s is not found.", name)
}

// CreateCustomKeyStore says that there are none to be had, to a caller who may
// make one and asks as AWS would have it.
func (s *Service) CreateCustomKeyStore(ctx context.Context, call *access.Call, in *CreateCustomKeyStoreRequest) (*CreateCustomKeyStoreResponse, error) {
	if err := s.guard.Check(ctx, call, "kms:CreateCustomKeyStore", everything(call)); err != nil {
		return nil, err
	}
	hsm := members{
		"CloudHsmClusterId": in.CloudHsmClusterId != "", "KeyStorePassword": in.KeyStorePassword != "", "TrustAnchorCertificate": in.TrustAnchorCertificate != "",
	}
	proxy := members{
		"XksProxyUriEndpoint": in.XksProxyUriEndpoint != "", "XksProxyUriPath": in.XksProxyUriPath != "",
		"XksProxyAuthenticationCredential": in.XksProxyAuthenticationCredential != nil, "XksProxyConnectivity": in.XksProxyConnectivity != "",
	}
	endpoint := members{"XksProxyVpcEndpointServiceName": in.XksProxyVpcEndpointServiceName != ""}
	owner := members{"XksProxyVpcEndpointServiceOwner": in.XksProxyVpcEndpointServiceOwner != ""}

	what := "CustomKeyStoreType " + CustomKeyStoreTypeAwsCloudhsm
	needed, refused := []members{hsm}, []members{proxy, endpoint, owner}
	if in.CustomKeyStoreType == CustomKeyStoreTypeExternalKeyStore {
		what = "CustomKeyStoreType " + in.CustomKeyStoreType
		needed, refused = []members{proxy}, []members{hsm}
		if in.XksProxyConnectivity == XksProxyConnectivityTypeVpcEndpointService {
			needed = append(needed, endpoint)
		} else {
			refused = append(refused, endpoint, owner)
		}
	}
	for _, m := range needed {
		if err := m.all(true, "You must specify %s with %s.", what); err != nil {
			return nil, err
		}
	}
	for _, m := range refused {
		if err := m.all(false, "%s is not valid with %s.", what); err != nil {
			return nil, err
		}
	}
	return nil, awsapi.Errorf("UnsupportedOperationException", "Custom key stores are not supported.")
}

// members of a request: name → whether it is there.
type members map[string]bool

// all answers nil when all members are there, or none is; else it names the first
// that is not as it should be.
func (m members) all(there bool, format, what string) error {
	var wrong []string
	for name, is := range m {
		if is != there {
			wrong = append(wrong, name)
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return awsapi.Errorf("ValidationException", format, slices.Min(wrong), what)
}

// DescribeCustomKeyStores lists none.
func (s *Service) DescribeCustomKeyStores(ctx context.Context, call *access.Call, in *DescribeCustomKeyStoresRequest) (*DescribeCustomKeyStoresResponse, error) {
	if err := s.guard.Check(ctx, call, "kms:DescribeCustomKeyStores", everything(call)); err != nil {
		return nil, err
	}
	switch {
	case in.CustomKeyStoreId != "" && in.CustomKeyStoreName != "":
		return nil, awsapi.Errorf("ValidationException", "You can specify CustomKeyStoreId or CustomKeyStoreName, but not both.")
	case in.CustomKeyStoreId != "" || in.CustomKeyStoreName != "":
		return nil, noSuchStore(in.CustomKeyStoreId + in.CustomKeyStoreName)
	}
	if _, err := parseMarker("DescribeCustomKeyStores", call.Account+"/"+call.Region, in.Marker); err != nil {
		return nil, err
	}
	return &DescribeCustomKeyStoresResponse{CustomKeyStores: []CustomKeyStoresListEntry{}}, nil
}

// missingStore is what every operation on a custom key store comes to.
func (s *Service) missingStore(ctx context.Context, call *access.Call, operation, id string) error {
	if err := s.guard.Check(ctx, call, "kms:"+operation, everything(call)); err != nil {
		return err
	}
	return noSuchStore(id)
}

// ConnectCustomKeyStore finds no such store.
func (s *Service) ConnectCustomKeyStore(ctx context.Context, call *access.Call, in *ConnectCustomKeyStoreRequest) (*awsapi.Empty, error) {
	return nil, s.missingStore(ctx, call, "ConnectCustomKeyStore", in.CustomKeyStoreId)
}

// DisconnectCustomKeyStore finds no such store.
func (s *Service) DisconnectCustomKeyStore(ctx context.Context, call *access.Call, in *DisconnectCustomKeyStoreRequest) (*awsapi.Empty, error) {
	return nil, s.missingStore(ctx, call, "DisconnectCustomKeyStore", in.CustomKeyStoreId)
}

// UpdateCustomKeyStore finds no such store.
func (s *Service) UpdateCustomKeyStore(ctx context.Context, call *access.Call, in *UpdateCustomKeyStoreRequest) (*awsapi.Empty, error) {
	return nil, s.missingStore(ctx, call, "UpdateCustomKeyStore", in.CustomKeyStoreId)
}

// DeleteCustomKeyStore finds no such store.
func (s *Service) DeleteCustomKeyStore(ctx context.Context, call *access.Call, in *DeleteCustomKeyStoreRequest) (*awsapi.Empty, error) {
	return nil, s.missingStore(ctx, call, "DeleteCustomKeyStore", in.CustomKeyStoreId)
}
