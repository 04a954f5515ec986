#!/bin/sh
# Step `package`: makes the release that will be published:
#   sh ci/step-package.sh NAME        package/NAME -> dist/NAME
set -eu
rm -rf "dist/$1"
mkdir -p dist
margo-supplychain release build "package/$1" --publisher acme \
    --output "dist/$1"
