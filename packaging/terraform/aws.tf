# A wrapping key in AWS KMS, and the least rights on it. Hand `aws_iam_policy.keyward_server.arn` to the
# role of the server's machine, the other one to whoever runs `keyward init`, `rewrap` and `migrate`.
#   keyward init --provider aws-kms --set key=ARN

resource "aws_kms_key" "keyward" {
  description             = "wraps the keystore of keyward"
  enable_key_rotation     = true
  deletion_window_in_days = 30

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_kms_alias" "keyward" {
  name          = "alias/keyward"
  target_key_id = aws_kms_key.keyward.key_id
}

data "aws_iam_policy_document" "keyward_server" {
  statement {
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.keyward.arn]

    # Only what keyward has encrypted. For one keystore alone: StringEquals, and the id in `keyward status`.
    condition {
      test     = "Null"
      variable = "kms:EncryptionContext:keyward:keystore"
      values   = ["false"]
    }
  }
}

data "aws_iam_policy_document" "keyward_operator" {
  source_policy_documents = [data.aws_iam_policy_document.keyward_server.json]

  statement {
    actions   = ["kms:Encrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo"]
    resources = [aws_kms_key.keyward.arn]

    condition {
      test     = "Null"
      variable = "kms:EncryptionContext:keyward:keystore"
      values   = ["false"]
    }
  }

  # For `keyward doctor`; these have no encryption context.
  statement {
    actions   = ["kms:DescribeKey", "kms:GetKeyRotationStatus"]
    resources = [aws_kms_key.keyward.arn]
  }
}

resource "aws_iam_policy" "keyward_server" {
  name   = "keyward-server"
  policy = data.aws_iam_policy_document.keyward_server.json
}

resource "aws_iam_policy" "keyward_operator" {
  name   = "keyward-operator"
  policy = data.aws_iam_policy_document.keyward_operator.json
}

output "keyward_key" {
  value = aws_kms_key.keyward.arn
}
