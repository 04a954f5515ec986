#!/bin/sh
# At the desk of whoever holds the offline key, after begin.sh:
#
#   sh demand.sh [--passphrase-file KEY=FILE …]
#
# KEY is offline.key, ci.key, build.key, test.key or package.key; each has a passphrase
# of its own. Without the options each command asks.
#
# Makes a key for each step of the pipeline, writes down which steps a release must have
# gone through (layout.toml: read it, and change it to fit), signs that with the offline
# key, and demands it of every release of every application below apps/. The three keys
# are for the CI: then take offline.key off this machine again.
# If it breaks off, run it again: what is there already is kept.
set -eu
for step in build test package; do
    [ -f "$step.key" ] || margo-supplychain key generate "$step.key" "$@"
done
if [ ! -f layout.toml ]; then
    margo-supplychain layout build --template build-test-package \
        --by build=build.pub --by test=test.pub --by package=package.pub
    echo "read layout.toml, change it to fit, and run this again"
    exit
fi
[ -f layout.json ] || margo-supplychain layout build layout.toml
# A desk remembers: whatever the registry shows, nothing is signed on top of an old state.
[ ! -d .margo-supplychain/state ] || set -- --state .margo-supplychain/state "$@"
margo-supplychain layout sign layout.json --key offline.key --yes "$@" # read above
for application in apps/*/; do
    margo-supplychain app policy "acme/$(basename "$application")" \
        --provenance required --layout layout.json --serves '>=0.0.0' --yes "$@"
done
