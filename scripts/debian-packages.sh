#!/bin/sh
# Installs the Debian packages whose programs the tests drive. Needs root; does nothing when all are there.
set -eu
missing=
for pair in openssl:openssl curl:curl gnutls-cli:gnutls-bin nginx:nginx-light systemd-analyze:systemd cfssl:golang-cfssl chromium:chromium; do
  PATH=$PATH:/usr/sbin command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
done
[ -n "$missing" ] || exit 0
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086
apt-get install -q -y --no-install-recommends $missing
