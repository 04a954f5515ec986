#!/bin/sh
# Writes what `docker login` would write, without Docker: sh ci/login.sh DIRECTORY
# From the environment: REGISTRY (host[:port]), REGISTRY_USER, REGISTRY_PASSWORD.
set -eu
umask 077
mkdir -p "$1"
login=$(printf '%s:%s' "$REGISTRY_USER" "$REGISTRY_PASSWORD" | base64 -w 0)
printf '{"auths": {"%s": {"auth": "%s"}}}\n' "$REGISTRY" "$login" > "$1/config.json"
