#!/usr/bin/env bash
# From an empty, unsealed HashiCorp Vault to a Cloakroom that is ready to serve: what docs/vault.md tells step by step.
#
#   VAULT_ADDR=https://vault.example:8200 VAULT_TOKEN=... docs/vault/setup.sh DATA LOGIN
#
# DATA is Cloakroom's data folder, LOGIN a folder that gets what its server logs in with: files role-id and secret-id,
# 0600. The token is an administrator's; the server never sees it. Running the script again changes nothing that is there
# already, and makes one more secret id.
#
# Optional: VAULT_CACERT, VAULT_NAMESPACE, VAULT_CLIENT_CERT and VAULT_CLIENT_KEY as for the vault command;
# VAULT_AUDIT_FILE, a path on Vault's machine for its audit log; CLOAKROOM, the program (default: cloakroom);
# TRANSIT_MOUNT and APPROLE_MOUNT (default: transit, approle).
set -euo pipefail
umask 077

data=${1:?usage: setup.sh DATA LOGIN}
login=${2:?usage: setup.sh DATA LOGIN}
: "${VAULT_ADDR:?set VAULT_ADDR to the URL of Vault}"
: "${VAULT_TOKEN:?set VAULT_TOKEN to an administrator token}"
export VAULT_ADDR VAULT_TOKEN
cloakroom=${CLOAKROOM:-cloakroom}
transit=${TRANSIT_MOUNT:-transit}
approle=${APPROLE_MOUNT:-approle}

# vault METHOD PATH [JSON] calls the API and prints the answer. Token and body go over standard input: arguments show in ps.
vault() {
  local options=(--silent --show-error --fail-with-body --request "$1" --config -)
  [ -z "${VAULT_CACERT:-}" ] || options+=(--cacert "$VAULT_CACERT")
  [ -z "${VAULT_CLIENT_CERT:-}" ] || options+=(--cert "$VAULT_CLIENT_CERT" --key "$VAULT_CLIENT_KEY")
  {
    printf 'header = "X-Vault-Token: %s"\n' "$VAULT_TOKEN"
    [ -z "${VAULT_NAMESPACE:-}" ] || printf 'header = "X-Vault-Namespace: %s"\n' "$VAULT_NAMESPACE"
    [ -z "${3:-}" ] || printf 'data = "%s"\n' "$(sed 's/[\\"]/\\&/g' <<<"$3")"
  } | curl "${options[@]}" "$VAULT_ADDR/v1/$2"
}

# text NAME takes the first string of that name out of JSON on standard input.
text() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" | head -n 1; }

# listed PATH NAME reports whether the list of mounts at PATH has NAME/.
listed() { [ "$(vault GET "$1" | grep -c "\"$2/\":")" != 0 ]; }

# keep FILE takes one line from standard input; FILE stays as it is when there is none.
keep() {
  cat >"$1.new"
  [ -s "$1.new" ] || { rm -f "$1.new"; echo "Vault gave nothing for $1"; exit 1; }
  mv "$1.new" "$1"
}

echo "1. the Transit engine at $transit/, AppRole at $approle/, an audit device"
listed sys/mounts "$transit" || vault POST "sys/mounts/$transit" '{"type":"transit"}'
listed sys/auth "$approle" || vault POST "sys/auth/$approle" '{"type":"approle"}'
# Five logins with an expired secret id would lock the role out for a quarter of an hour, right secret ids included, and
# whoever knows the role id could do that on purpose. Guessing, which this is against, is hopeless here.
vault POST "sys/auth/$approle/tune" '{"user_lockout_config":{"lockout_disable":true}}'
if [ -n "${VAULT_AUDIT_FILE:-}" ]; then
  listed sys/audit cloakroom-file ||
    vault PUT sys/audit/cloakroom-file "{\"type\":\"file\",\"options\":{\"file_path\":\"$VAULT_AUDIT_FILE\"}}"
fi

echo "2. Cloakroom's data folder, its two keys and two policies in Vault"
made=$("$cloakroom" init --kms transit --vault-mount "$transit" --data "$data" --apply --json)
policy=$(text service_policy <<<"$made")
[ -n "$policy" ] || { echo "cloakroom init named no policy:"; echo "$made"; exit 1; }

echo "3. a role that has the policy $policy and nothing else"
role="auth/$approle/role/${policy%-service}"
vault POST "$role" "{\"token_policies\":\"$policy\",\"token_no_default_policy\":true,\"token_ttl\":\"1h\",\"token_max_ttl\":\"24h\"}"
mkdir -p "$login"
vault GET "$role/role-id" | text role_id | keep "$login/role-id"
vault POST "$role/secret-id" '{}' | text secret_id | keep "$login/secret-id"

cat <<END
4. Ready. Start the server, without the administrator's token in its environment:

  $cloakroom serve --data $data --kms transit --vault-addr $VAULT_ADDR --vault-mount $transit \\
    --vault-auth-mount $approle --vault-role-id-file $login/role-id --vault-secret-id-file $login/secret-id
END
