#!/bin/sh
# Fetches the newest release of each application as a new device would, that is, from
# the root alone and without any key: sh ci/verify.sh DIRECTORY
# From the environment: TRUST (oci://…).
set -eu
margo-supplychain device init --root keys/1.root.json --source "$TRUST" \
    --publisher acme --state "$1/device"
for application in apps/*/; do
    name=$(basename "$application")
    margo-supplychain device fetch "acme/$name" --pin '*' \
        --to "$1/staging/$name" --state "$1/device"
done
