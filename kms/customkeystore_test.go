package kms_test

import (
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

const storeID = "cks-1234567890abcdef0"

func TestCreateKeyInACustomKeyStore(t *testing.T) {
	each(t, func(t *testing.T, n *node) {
		for _, c := range []struct {
			in            sdk.CreateKeyInput
			code, message string
		}{
			{sdk.CreateKeyInput{Origin: types.OriginTypeAwsCloudhsm}, "ValidationException", "You must specify a CustomKeyStoreId for a KMS key with Origin AWS_CLOUDHSM."},
			{sdk.CreateKeyInput{Origin: types.OriginTypeExternalKeyStore}, "ValidationException", "You must specify a CustomKeyStoreId for a KMS key with Origin EXTERNAL_KEY_STORE."},
			{sdk.CreateKeyInput{CustomKeyStoreId: ptr(storeID)}, "ValidationException", "CustomKeyStoreId is not valid with Origin AWS_KMS…"},
			{sdk.CreateKeyInput{CustomKeyStoreId: ptr(storeID), Origin: types.OriginTypeExternal}, "ValidationException", "CustomKeyStoreId is not valid with Origin EXTERNAL…"},
			{sdk.CreateKeyInput{CustomKeyStoreId: ptr(storeID), Origin: types.OriginTypeExternalKeyStore}, "ValidationException", "You must specify an XksKeyId…"},
			{sdk.CreateKeyInput{XksKeyId: ptr("k")}, "ValidationException", "XksKeyId is not valid with Origin AWS_KMS…"},
			{sdk.CreateKeyInput{CustomKeyStoreId: ptr(storeID), Origin: types.OriginTypeAwsCloudhsm, XksKeyId: ptr("k")}, "ValidationException", "XksKeyId is not valid with Origin AWS_CLOUDHSM…"},
			{
				sdk.CreateKeyInput{
					CustomKeyStoreId: ptr(storeID), Origin: types.OriginTypeAwsCloudhsm, KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify,
				}, "UnsupportedOperationException", "A custom key store holds symmetric…",
			},
			{sdk.CreateKeyInput{CustomKeyStoreId: ptr(storeID), Origin: types.OriginTypeAwsCloudhsm, MultiRegion: ptr(true)}, "UnsupportedOperationException", "A custom key store holds symmetric…"},
			{sdk.CreateKeyInput{CustomKeyStoreId: ptr(storeID), Origin: types.OriginTypeAwsCloudhsm}, "CustomKeyStoreNotFoundException", "Custom key store " + storeID + " is not found."},
			{sdk.CreateKeyInput{CustomKeyStoreId: ptr(storeID), Origin: types.OriginTypeExternalKeyStore, XksKeyId: ptr("k")}, "CustomKeyStoreNotFoundException", "*"},
		} {
			_, err := n.CreateKey(ctx, &c.in)
			wantError(t, err, c.code, c.message)
		}
		if out := must[*sdk.ListKeysOutput](t)(n.ListKeys(ctx, &sdk.ListKeysInput{})); len(out.Keys) != 0 {
			t.Errorf("refused keys exist: %v", out.Keys)
		}
	})
}

func TestCustomKeyStores(t *testing.T) {
	hsm := func() *sdk.CreateCustomKeyStoreInput {
		return &sdk.CreateCustomKeyStoreInput{
			CustomKeyStoreName: ptr("store"), CloudHsmClusterId: ptr("cluster-2a23b4cdefg"), KeyStorePassword: ptr("kmsPswd7"), TrustAnchorCertificate: ptr("certificate"),
		}
	}
	external := func() *sdk.CreateCustomKeyStoreInput {
		return &sdk.CreateCustomKeyStoreInput{
			CustomKeyStoreName: ptr("store"), CustomKeyStoreType: types.CustomKeyStoreTypeExternalKeyStore,
			XksProxyUriEndpoint: ptr("https://xks.example"), XksProxyUriPath: ptr("/kms/xks/v1"), XksProxyConnectivity: types.XksProxyConnectivityTypePublicEndpoint,
			XksProxyAuthenticationCredential: &types.XksProxyAuthenticationCredentialType{
				AccessKeyId: ptr("ABCDE234567EXAMPLEAA"), RawSecretAccessKey: ptr("DXjSUawnel2fr6SKC7G25CNxTyWKE5PF9XX6H/u9pSo="),
			},
		}
	}
	each(t, func(t *testing.T, n *node) {
		create := func(in *sdk.CreateCustomKeyStoreInput, change func(*sdk.CreateCustomKeyStoreInput)) error {
			if change != nil {
				change(in)
			}
			_, err := n.CreateCustomKeyStore(ctx, in)
			return err
		}
		const code = "ValidationException"
		wantError(t, create(hsm(), func(i *sdk.CreateCustomKeyStoreInput) { i.CloudHsmClusterId = nil }), code, "You must specify CloudHsmClusterId with CustomKeyStoreType AWS_CLOUDHSM.")
		wantError(t, create(hsm(), func(i *sdk.CreateCustomKeyStoreInput) { i.KeyStorePassword = nil }), code, "You must specify KeyStorePassword with CustomKeyStoreType AWS_CLOUDHSM.")
		wantError(t, create(hsm(), func(i *sdk.CreateCustomKeyStoreInput) { i.XksProxyUriPath = ptr("/kms/xks/v1") }), code, "XksProxyUriPath is not valid with CustomKeyStoreType AWS_CLOUDHSM.")
		wantError(t, create(external(), func(i *sdk.CreateCustomKeyStoreInput) { i.XksProxyAuthenticationCredential = nil }), code, "You must specify XksProxyAuthenticationCredential with CustomKeyStoreType EXTERNAL_KEY_STORE.")
		wantError(t, create(external(), func(i *sdk.CreateCustomKeyStoreInput) { i.CloudHsmClusterId = ptr("cluster-2a23b4cdefg") }), code, "CloudHsmClusterId is not valid with CustomKeyStoreType EXTERNAL_KEY_STORE.")
		wantError(t, create(external(), func(i *sdk.CreateCustomKeyStoreInput) {
			i.XksProxyConnectivity = types.XksProxyConnectivityTypeVpcEndpointService
		}), code, "You must specify XksProxyVpcEndpointServiceName with CustomKeyStoreType EXTERNAL_KEY_STORE.")
		wantError(t, create(external(), func(i *sdk.CreateCustomKeyStoreInput) {
			i.XksProxyVpcEndpointServiceName = ptr("com.amazonaws.vpce.us-east-1.vpce-svc-example")
		}), code, "XksProxyVpcEndpointServiceName is not valid with…")
		err := create(hsm(), func(i *sdk.CreateCustomKeyStoreInput) { i.KeyStorePassword = ptr("short") })
		wantError(t, err, code, "1 validation error detected: Value…")
		if strings.Contains(err.Error(), "short") {
			t.Errorf("the answer shows the password: %v", err)
		}
		wantError(t, create(hsm(), nil), "UnsupportedOperationException", "Custom key stores are not supported.")
		wantError(t, create(external(), nil), "UnsupportedOperationException", "Custom key stores are not supported.")

		all := must[*sdk.DescribeCustomKeyStoresOutput](t)(n.DescribeCustomKeyStores(ctx, &sdk.DescribeCustomKeyStoresInput{}))
		if all.CustomKeyStores == nil || len(all.CustomKeyStores) != 0 || all.Truncated {
			t.Errorf("%+v", all)
		}
		_, err = n.DescribeCustomKeyStores(ctx, &sdk.DescribeCustomKeyStoresInput{CustomKeyStoreId: ptr(storeID)})
		wantError(t, err, "CustomKeyStoreNotFoundException", "Custom key store "+storeID+" is not found.")
		_, err = n.DescribeCustomKeyStores(ctx, &sdk.DescribeCustomKeyStoresInput{CustomKeyStoreName: ptr("store")})
		wantError(t, err, "CustomKeyStoreNotFoundException", "Custom key store store is not found.")
		_, err = n.DescribeCustomKeyStores(ctx, &sdk.DescribeCustomKeyStoresInput{CustomKeyStoreId: ptr(storeID), CustomKeyStoreName: ptr("store")})
		wantError(t, err, "ValidationException", "*")
		_, err = n.DescribeCustomKeyStores(ctx, &sdk.DescribeCustomKeyStoresInput{Marker: ptr("x")})
		wantError(t, err, "InvalidMarkerException", "*")

		nobody := n.as(account, "nobody", "")
		for name, call := range map[string]func(c *sdk.Client) error{
			"Connect": func(c *sdk.Client) error {
				_, err := c.ConnectCustomKeyStore(ctx, &sdk.ConnectCustomKeyStoreInput{CustomKeyStoreId: ptr(storeID)})
				return err
			},
			"Disconnect": func(c *sdk.Client) error {
				_, err := c.DisconnectCustomKeyStore(ctx, &sdk.DisconnectCustomKeyStoreInput{CustomKeyStoreId: ptr(storeID)})
				return err
			},
			"Update": func(c *sdk.Client) error {
				_, err := c.UpdateCustomKeyStore(ctx, &sdk.UpdateCustomKeyStoreInput{CustomKeyStoreId: ptr(storeID), NewCustomKeyStoreName: ptr("other")})
				return err
			},
			"Delete": func(c *sdk.Client) error {
				_, err := c.DeleteCustomKeyStore(ctx, &sdk.DeleteCustomKeyStoreInput{CustomKeyStoreId: ptr(storeID)})
				return err
			},
			"Create": func(c *sdk.Client) error {
				_, err := c.CreateCustomKeyStore(ctx, hsm())
				return err
			},
			"Describe": func(c *sdk.Client) error {
				_, err := c.DescribeCustomKeyStores(ctx, &sdk.DescribeCustomKeyStoresInput{})
				return err
			},
		} {
			wantError(t, call(nobody), "AccessDeniedException", "*")
			if name != "Create" && name != "Describe" {
				wantError(t, call(n.Client), "CustomKeyStoreNotFoundException", "Custom key store "+storeID+" is not found.")
			}
		}
	})
}
