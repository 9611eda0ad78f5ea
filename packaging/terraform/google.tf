# A wrapping key in Google Cloud KMS, and the least rights on it: the server's service account may decrypt,
# the operator's may do what `keyward init`, `rewrap`, `migrate` and `doctor` need besides.

variable "location" {
  type    = string
  default = "europe-west3"
}

variable "server" {
  description = "the server's service account, as serviceAccount:NAME@PROJECT.iam.gserviceaccount.com"
  type        = string
}

variable "operator" {
  description = "who runs keyward's command"
  type        = string
}

resource "google_kms_key_ring" "keyward" {
  name     = "keyward"
  location = var.location
}

resource "google_kms_crypto_key" "keyward" {
  name                       = "keyward"
  key_ring                   = google_kms_key_ring.keyward.id
  purpose                    = "ENCRYPT_DECRYPT"
  rotation_period            = "7776000s"
  destroy_scheduled_duration = "2592000s"

  version_template {
    algorithm        = "GOOGLE_SYMMETRIC_ENCRYPTION"
    protection_level = "HSM"
  }

  lifecycle {
    prevent_destroy = true
  }
}

resource "google_kms_crypto_key_iam_member" "server" {
  crypto_key_id = google_kms_crypto_key.keyward.id
  role          = "roles/cloudkms.cryptoKeyDecrypter"
  member        = var.server
}

resource "google_kms_crypto_key_iam_member" "operator" {
  for_each      = toset(["roles/cloudkms.cryptoKeyEncrypterDecrypter", "roles/cloudkms.viewer"])
  crypto_key_id = google_kms_crypto_key.keyward.id
  role          = each.value
  member        = var.operator
}

output "keyward_key" {
  value = google_kms_crypto_key.keyward.id
}
