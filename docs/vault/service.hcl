# What Cloakroom's service may do at Vault.

# See settings and versions of the two keys.
path "transit/keys/cloakroom-<instance>-root" { capabilities = ["read"] }
path "transit/keys/cloakroom-<instance>-dek" { capabilities = ["read"] }

# Wrap and unwrap. Without "create": a deleted key must not come back empty.
path "transit/encrypt/cloakroom-<instance>-root" { capabilities = ["update"] }
path "transit/encrypt/cloakroom-<instance>-dek" { capabilities = ["update"] }
path "transit/decrypt/cloakroom-<instance>-root" { capabilities = ["update"] }
path "transit/decrypt/cloakroom-<instance>-dek" { capabilities = ["update"] }
path "transit/rewrap/cloakroom-<instance>-dek" { capabilities = ["update"] }

# Look after its own token.
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "sys/capabilities-self" { capabilities = ["update"] }
