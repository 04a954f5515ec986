#!/bin/sh
# Step `test`: looks at what was built, and makes nothing: sh ci/step-test.sh NAME
# Your own tests go here. If one fails, nobody signs that they passed.
set -eu
name=$1
grep -q "^id: $name\$" "package/$name/margo.yaml"
if grep -rEn 'image:.*:latest' "package/$name"; then
    echo "a tag that moves is no version" >&2
    exit 1
fi
echo "looked at $name: its id is right, and no image is called latest"
