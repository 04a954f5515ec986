#!/bin/sh
# At the desk of whoever holds the offline key, in the project's directory:
#
#   sh begin.sh [--passphrase-file offline.key=FILE --passphrase-file ci.key=OTHER]
#
# Each key has a passphrase of its own: the CI is given the one of ci.key. Without the
# options each command asks.
#
# Makes two keys and a trust repository in which ci.key may release everything below
# apps/, and copies it to the registry. What the CI needs to begin from is in keys/ and
# margo-supplychain.toml, to be committed. Then take offline.key off this machine.
# If it breaks off, run it again: what is there already is kept.
set -eu
trust=oci://registry.example/acme/trust

if grep -q '^repo = "oci:' margo-supplychain.toml 2>/dev/null; then
    echo "begun before: $trust is edited from here on with margo-supplychain itself"
    exit 0
fi
for key in offline ci; do
    [ -f "$key.key" ] || margo-supplychain key generate "$key.key" "$@"
done
[ -f trust/metadata/timestamp.json ] ||
    margo-supplychain repo init trust --profile small --publisher acme \
        --offline-key offline.key --online-key ci.key "$@"
# Tries the registry and the login; without one: docker login, or ci/login.sh.
margo-supplychain repo push "$trust" > /dev/null
for application in apps/*/; do
    margo-supplychain app add "acme/$(basename "$application")" --release-key ci.pub "$@"
done
margo-supplychain repo push "$trust"

mkdir -p keys
cp trust/metadata/1.root.json offline.pub ci.pub keys/
cat > margo-supplychain.toml <<END
# Defaults of every command in this project. The repository is edited in the registry;
# the first root is ours, because none is ever taken from there.
repo = "$trust"
root = "keys/1.root.json"
publisher = "acme"
offline-key = "offline.key"
online-key = "ci.key"
release-key = "ci.key"
END
rm offline.pub ci.pub # keys/ has them
