# What Cloakroom may do at Vault to close an epoch, beside the service's policy.

# Close epochs of the root key: add a version, refuse the old ones, destroy them.
path "transit/keys/cloakroom-<instance>-root" { capabilities = ["read"] }
path "transit/keys/cloakroom-<instance>-root/rotate" { capabilities = ["update"] }
path "transit/keys/cloakroom-<instance>-root/config" {
  capabilities       = ["update"]
  allowed_parameters = {
    "min_decryption_version" = []
    "min_encryption_version" = []
  }
}
path "transit/keys/cloakroom-<instance>-root/trim" {
  capabilities       = ["update"]
  allowed_parameters = {
    "min_available_version" = []
  }
}

# Close epochs of the dek key: add a version, refuse the old ones, destroy them.
path "transit/keys/cloakroom-<instance>-dek" { capabilities = ["read"] }
path "transit/keys/cloakroom-<instance>-dek/rotate" { capabilities = ["update"] }
path "transit/keys/cloakroom-<instance>-dek/config" {
  capabilities       = ["update"]
  allowed_parameters = {
    "min_decryption_version" = []
    "min_encryption_version" = []
  }
}
path "transit/keys/cloakroom-<instance>-dek/trim" {
  capabilities       = ["update"]
  allowed_parameters = {
    "min_available_version" = []
  }
}

# Look after its own token.
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "sys/capabilities-self" { capabilities = ["update"] }
