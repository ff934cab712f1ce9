variable "keyturn" {
  default = "http://127.0.0.1:7400"
}

provider "aws" {
  region = "us-east-1"

  endpoints {
    kms = var.keyturn
    sts = var.keyturn
  }
}

resource "aws_kms_key" "orders" {
  description              = "signs orders"
  customer_master_key_spec = "ECC_NIST_P256"
  key_usage                = "SIGN_VERIFY"
}

resource "aws_kms_alias" "orders" {
  name          = "alias/orders"
  target_key_id = aws_kms_key.orders.key_id
}
