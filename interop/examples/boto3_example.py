import os

import boto3

kms = boto3.client("kms", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
key = kms.create_key(Description="orders")["KeyMetadata"]["KeyId"]
context = {"order": "1"}
sealed = kms.encrypt(KeyId=key, Plaintext=b"secret", EncryptionContext=context)["CiphertextBlob"]
print(kms.decrypt(CiphertextBlob=sealed, EncryptionContext=context)["Plaintext"].decode())
try:
    kms.decrypt(CiphertextBlob=sealed, EncryptionContext={"order": "2"})
except kms.exceptions.InvalidCiphertextException:
    print("refused")
