# shellcheck shell=bash
# Sourced by the scripts beside it: where the code and the secrets are, and how a database is named.
#
#   AE_SECRETS                            folder with one file a secret (/run/secrets)
#   AE_DATABASE_HOST, AE_DATABASE_PORT    PostgreSQL (postgres, 5432)
#   AE_BIND                               address a server listens at (127.0.0.1; in a container 0.0.0.0)
set -euo pipefail

code=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
secrets=${AE_SECRETS:-/run/secrets}
# shellcheck disable=SC2034 # read by the scripts that source this
bind=${AE_BIND:-127.0.0.1}

# Telemetry off and bounded waits, as in every process of the project: one list, in aeops/machine/library_settings.py.
quiet=$(PYTHONPATH=$code python -c '
import shlex
from aeops.machine.library_settings import configure_libraries
print("\n".join(f"export {name}={shlex.quote(value)}" for name, value in configure_libraries().items()))')
eval "$quiet"

secret() { # NAME: the first line of that secret's file
  if [ ! -r "$secrets/$1" ]; then
    echo "no secret $secrets/$1: make it with deploy/bin/make-secrets, or let AE_SECRETS name the folder it is in" >&2
    return 5
  fi
  head -n 1 "$secrets/$1"
}

database_url() { # DRIVER NAME: of the database NAME, which the role NAME owns
  local password
  password=$(secret "$2-database-password")
  password=$(printf %s "$password" | python -c 'import sys, urllib.parse; print(urllib.parse.quote(sys.stdin.read(), safe=""))')
  echo "postgresql+$1://$2:$password@${AE_DATABASE_HOST:-postgres}:${AE_DATABASE_PORT:-5432}/$2"
}

prefect_access() { # lets this process and its children past the Prefect server's door
  local password
  password=$(secret prefect-password)
  export PREFECT_API_AUTH_STRING=ae:$password
}
