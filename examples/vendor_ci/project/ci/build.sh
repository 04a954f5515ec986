#!/bin/sh
# Builds every application below apps/ into dist/, which is made anew.
set -eu
rm -rf dist
# A chart packed like this has the same bytes each time; `helm package` writes the hour.
mkdir -p apps/line-counter/components/counter
tar --sort=name --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --mtime=@0 \
    -C charts -cf - line-counter | gzip -n \
    > apps/line-counter/components/counter/line-counter.tgz
for application in apps/*/; do
    margo-supplychain release build "$application" \
        --output "dist/$(basename "$application")"
done
