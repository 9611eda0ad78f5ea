# A wrapping key in Azure Key Vault, and the least rights on it: the server's identity may unwrap, the operator's
# may do what `keyward init`, `rewrap`, `migrate` and `doctor` need besides.

variable "resource_group" {
  type = string
}

variable "azure_location" {
  type    = string
  default = "westeurope"
}

variable "vault_name" {
  description = "of the vault, which is a part of its address"
  type        = string
}

variable "azure_server" {
  description = "the object id of the server's managed identity"
  type        = string
}

variable "azure_operator" {
  description = "the object id of who runs keyward's command"
  type        = string
}

data "azurerm_client_config" "current" {}

resource "azurerm_key_vault" "keyward" {
  name                       = var.vault_name
  resource_group_name        = var.resource_group
  location                   = var.azure_location
  tenant_id                  = data.azurerm_client_config.current.tenant_id
  sku_name                   = "premium"
  rbac_authorization_enabled = true
  purge_protection_enabled   = true
  soft_delete_retention_days = 90

  lifecycle {
    prevent_destroy = true
  }
}

resource "azurerm_key_vault_key" "keyward" {
  name         = "keyward"
  key_vault_id = azurerm_key_vault.keyward.id
  key_type     = "RSA-HSM"
  key_size     = 3072
  key_opts     = ["wrapKey", "unwrapKey"]

  lifecycle {
    prevent_destroy = true
  }
}

resource "azurerm_role_definition" "server" {
  name  = "keyward server"
  scope = azurerm_key_vault.keyward.id

  permissions {
    data_actions = ["Microsoft.KeyVault/vaults/keys/unwrap/action"]
  }

  assignable_scopes = [azurerm_key_vault.keyward.id]
}

resource "azurerm_role_assignment" "server" {
  scope              = azurerm_key_vault_key.keyward.resource_versionless_id
  role_definition_id = azurerm_role_definition.server.role_definition_resource_id
  principal_id       = var.azure_server
}

resource "azurerm_role_assignment" "operator" {
  scope                = azurerm_key_vault_key.keyward.resource_versionless_id
  role_definition_name = "Key Vault Crypto Service Encryption User"
  principal_id         = var.azure_operator
}

output "keyward_azure_key" {
  value = azurerm_key_vault_key.keyward.versionless_id
}
