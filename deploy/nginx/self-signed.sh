#!/usr/bin/env bash
# A self-signed pair for trials: deploy/nginx/self-signed.sh [NAME…] writes deploy/secrets/tls.crt and
# tls.key for localhost, 127.0.0.1 and the names given. FOLDER=… writes elsewhere. Clients must be told
# to trust tls.crt (curl --cacert, SSL_CERT_FILE); for others use a pair of a real authority.
set -euo pipefail
folder=${FOLDER:-$(cd "$(dirname "$0")/.." && pwd)/secrets}
for file in "$folder/tls.crt" "$folder/tls.key"; do
    [ ! -e "$file" ] || { echo "$file exists: remove it first" >&2; exit 1; }
done
names=DNS:localhost,IP:127.0.0.1
for name in "$@"; do
    case $name in
        *:* | *[!0-9A-Za-z.*-]* | "") echo "not a host name or an IPv4 address: '$name'" >&2; exit 2 ;;
        *[!0-9.]*) names+=,DNS:$name ;;
        *) names+=,IP:$name ;;
    esac
done
umask 077
mkdir -p "$folder"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -sha256 \
    -subj "/CN=${1:-localhost}" -addext "subjectAltName=$names" \
    -keyout "$folder/tls.key" -out "$folder/tls.crt" 2>/dev/null
chmod 444 "$folder/tls.crt"
# nginx reads them as user 101.
if [ "$(id -u)" = 0 ]; then chown 101 "$folder/tls.key"; else echo "as root: chown 101 $folder/tls.key" >&2; fi
echo "$folder/tls.crt and $folder/tls.key, for 90 days: $names"
