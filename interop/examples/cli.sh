# Only for versions before 2.13 and 1.29, which do not read AWS_ENDPOINT_URL:
aws() { command aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }

aws kms create-alias --alias-name alias/orders --target-key-id "$(
  aws kms create-key --key-spec ECC_NIST_P256 --key-usage SIGN_VERIFY --query KeyMetadata.KeyId --output text)"
echo 'order 1' >message
aws kms sign --key-id alias/orders --message fileb://message --signing-algorithm ECDSA_SHA_256 \
  --query Signature --output text | base64 --decode >signature
aws kms verify --key-id alias/orders --message fileb://message --signing-algorithm ECDSA_SHA_256 \
  --signature fileb://signature --query SignatureValid
