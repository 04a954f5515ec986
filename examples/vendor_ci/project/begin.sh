#!/bin/sh
# Once, at the desk of whoever holds the offline key, in the project's directory:
#
#   sh begin.sh [--passphrase-file FILE]
#
# Makes two keys and a trust repository in which ci.key may release everything below
# apps/, and copies it to the registry. What the CI needs to begin from is in keys/ and
# margo-supplychain.toml, to be committed. Then take offline.key off this machine.
set -eu
trust=oci://registry.example/acme/trust

margo-supplychain key generate offline.key "$@"
margo-supplychain key generate ci.key "$@"
margo-supplychain repo init trust --profile small --publisher acme \
    --offline-key offline.key --online-key ci.key "$@"
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
