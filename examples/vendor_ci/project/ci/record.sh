#!/bin/sh
# Runs a step of the pipeline for every application, and signs what it took and made:
#   sh ci/record.sh build|test|package KEY PASSPHRASE
# KEY is the private key of whoever does this step and no other; PASSPHRASE a file with
# what opens it. The links are written to attestations/NAME.
set -eu
step=$1
key=$2
passphrase=$3
for application in apps/*/; do
    name=$(basename "$application")
    case $step in
    build) set -- --products "package/$name" ;;
    test) set -- --materials "package/$name" ;;
    package) set -- --materials "package/$name" --release "dist/$name" ;;
    esac
    margo-supplychain attest run --step "$step" --git . "$@" --key "$key" \
        --passphrase-file "$passphrase" --output "attestations/$name" \
        -- sh "ci/step-$step.sh" "$name"
done
