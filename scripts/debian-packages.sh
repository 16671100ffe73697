#!/bin/sh
# Installs the Debian packages whose programs and files the tests use; with the argument "bench" also the peers and the client of
# `npm run bench`. Needs root; does nothing when all are there.
set -eu
pairs='openssl:openssl curl:curl gnutls-cli:gnutls-bin nginx:nginx-light haproxy:haproxy h2load:nghttp2-client systemd-analyze:systemd cfssl:golang-cfssl chromium:chromium firefox-esr:firefox-esr certutil:libnss3-tools keytool:default-jre-headless testssl:testssl.sh wget:wget python3:python3 /usr/lib/python3/dist-packages/websockets:python3-websockets /usr/share/nodejs/ws:node-ws /usr/lib/python3/dist-packages/grpc:python3-grpcio apache2:apache2'
[ "${1-}" != bench ] || pairs="$pairs hitch:hitch caddy:caddy"
missing=
for pair in $pairs; do
  PATH=$PATH:/usr/sbin command -v "${pair%%:*}" >/dev/null || [ -e "${pair%%:*}" ] || missing="$missing ${pair#*:}"
done
[ -n "$missing" ] || exit 0
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086
apt-get install -q -y --no-install-recommends $missing
