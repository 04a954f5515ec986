#!/bin/sh
# Step `build`: puts the package of an application together from its sources:
#   sh ci/step-build.sh NAME          apps/NAME, charts/NAME -> package/NAME
set -eu
name=$1
rm -rf "package/$name"
mkdir -p package
cp -R "apps/$name" "package/$name"
if [ -d "charts/$name" ]; then
    # A chart packed like this has the same bytes each time.
    mkdir -p "package/$name/components/counter"
    tar --sort=name --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --mtime=@0 \
        -C charts -cf - "$name" | gzip -n > "package/$name/components/counter/$name.tgz"
fi
