#!/bin/sh
# Makes the checkout in /opt/staplegate a systemd service. See --help.
set -eu
umask 022

DESTDIR=${DESTDIR:+$(readlink -f "$DESTDIR")}
program=/opt/staplegate
etc=/etc/staplegate
root=$(readlink -f "$(dirname "$0")/..")

fail() {
  echo "install-service.sh: $*" >&2
  exit 1
}

case ${1:-} in
  '') ;;
  --help)
    cat <<TEXT
Usage: sudo $program/scripts/install-service.sh

Makes the checkout in $program a systemd service: installs its npm packages, the unit, the user staplegate,
$etc with a sample configuration, and the command /usr/local/bin/staplegate.
It can be run again, after an upgrade for example; an existing $etc/config.yaml is never changed.

With DESTDIR=FOLDER in the environment everything goes below FOLDER, for packages and tests, and root is not needed;
the checkout must be in FOLDER$program.
TEXT
    exit 0
    ;;
  *) fail "unknown argument $1; see --help" ;;
esac

[ -n "$DESTDIR" ] || [ "$(id -u)" = 0 ] || fail 'run it as root (sudo), or set DESTDIR; see --help'
[ "$root" = "$(readlink -f "$DESTDIR$program")" ] ||
  fail "this is the checkout $root, but the service runs from $DESTDIR$program. Put one there and run its script:
  git clone $root $DESTDIR$program
  $DESTDIR$program/scripts/install-service.sh"
# The unit hides home folders from the service (ProtectHome=).
[ -n "$DESTDIR" ] || case $root in /home/* | /root/*) fail "$program leads to $root, which the service cannot see; move it out of there" ;; esac

cd "$root"
node=$root/node_modules/.bin/node
[ -x "$node" ] || node=$(command -v node) || fail 'npm is not installed; install it (with any Node from version 18 on), for example: apt install npm'
"$node" scripts/install.mjs --omit=dev || exit 1
# The checkout may have been made under a stricter umask; the service user has to read it.
chmod a+rx .
chmod -R a+rX package.json scripts src node_modules
version=$(scripts/staplegate --version) || fail 'Staplegate does not start here (see above). It needs Node 24.21 or newer; the one that npm installs needs Linux on x64 or arm64, with glibc 2.28 or newer.'
echo "program: $program, version $version"

install -d "$DESTDIR/usr/lib/systemd/system" "$DESTDIR/usr/lib/sysusers.d" "$DESTDIR/usr/local/bin" "$DESTDIR$etc"
install -m 0644 systemd/staplegate.service "$DESTDIR/usr/lib/systemd/system/staplegate.service"
echo 'unit: /usr/lib/systemd/system/staplegate.service'
install -m 0644 systemd/staplegate.sysusers.conf "$DESTDIR/usr/lib/sysusers.d/staplegate.conf"
systemd-sysusers ${DESTDIR:+"--root=$DESTDIR"} staplegate.conf
echo 'user and group: staplegate'
# Node keeps compiled code by user, and trusts what it finds: made by the user of the service, it belongs to root from then on.
if [ -z "$DESTDIR" ]; then
  compiled=$root/node_modules/.compiled
  rm -rf "$compiled"
  install -d -m 0700 -o staplegate -g staplegate "$compiled"
  [ ! -x node_modules/.bin/node ] || node=$root/node_modules/.bin/node
  as_service() { setpriv --reuid=staplegate --regid=staplegate --clear-groups env NODE_COMPILE_CACHE="$compiled" "$@"; }
  as_service scripts/staplegate --version >/dev/null
  as_service "$node" -e "Promise.all(['commands/run.ts', 'worker/process.ts'].map((file) => import('$root/src/' + file))).then(() => process.exit())"
  chown -R root:root "$compiled"
  chmod -R u=rwX,go=rX "$compiled"
  echo "compiled code: $compiled"
fi
ln -sfn "$program/scripts/staplegate" "$DESTDIR/usr/local/bin/staplegate"
echo 'command: /usr/local/bin/staplegate'

group=staplegate
# Below DESTDIR the group has the number that the tree's own files give it.
[ -z "$DESTDIR" ] || group=$(sed -n 's/^staplegate:[^:]*:\([0-9]*\):.*/\1/p' "$DESTDIR/etc/group")
# Only root can give files to a group that it is not in.
own() { [ "$(id -u)" != 0 ] || chgrp "$group" "$1"; }

if [ ! -d "$DESTDIR$etc/certs" ]; then
  install -d -m 0750 "$DESTDIR$etc/certs"
  own "$DESTDIR$etc/certs"
fi
if [ -e "$DESTDIR$etc/config.yaml" ] || [ -L "$DESTDIR$etc/config.yaml" ]; then
  echo "configuration: $etc/config.yaml, which was there, is kept"
else
  install -m 0640 config.yaml "$DESTDIR$etc/config.yaml"
  own "$DESTDIR$etc/config.yaml"
  echo "configuration: $etc/config.yaml, the annotated sample"
fi

if [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi

cat <<TEXT

Next:
  put certificates and keys below $etc/certs, readable by the group staplegate:
    install -m 0640 -g staplegate fullchain.pem privkey.pem $etc/certs/
  edit $etc/config.yaml
  check, as the user of the service:  sudo -u staplegate /usr/local/bin/staplegate check
  start, now and at every boot:       systemctl enable --now staplegate
  after an upgrade:                   systemctl restart staplegate
TEXT
