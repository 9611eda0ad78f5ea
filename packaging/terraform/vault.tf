# A wrapping key in Vault or OpenBao, the least rights on it, and an AppRole that the server logs in with:
# what `keyward init --admin-token-file` makes, by Terraform. Put the secret id into a file of its own,
# root:mysql 0640, then:
#   keyward init --provider vault-transit --set address=https://vault:8200 --set auth=approle \
#       --set role_id=ROLE_ID --set secret_id_file=/etc/keyward/vault-secret-id

resource "vault_mount" "transit" {
  path = "transit"
  type = "transit"
}

resource "vault_transit_secret_backend_key" "keyward" {
  backend          = vault_mount.transit.path
  name             = "keyward"
  type             = "aes256-gcm96"
  deletion_allowed = false
  exportable       = false

  lifecycle {
    prevent_destroy = true
  }
}

resource "vault_policy" "keyward" {
  name   = "keyward"
  policy = <<-EOT
    path "transit/encrypt/keyward" { capabilities = ["update"] }
    path "transit/decrypt/keyward" { capabilities = ["update"] }
    path "transit/keys/keyward" { capabilities = ["read"] }
  EOT
}

resource "vault_auth_backend" "approle" {
  type = "approle"
}

resource "vault_approle_auth_backend_role" "keyward" {
  backend        = vault_auth_backend.approle.path
  role_name      = "keyward"
  token_policies = [vault_policy.keyward.name]
  token_ttl      = 3600
  token_max_ttl  = 86400
}

output "keyward_role_id" {
  value = vault_approle_auth_backend_role.keyward.role_id
}
