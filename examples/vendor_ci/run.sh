#!/bin/sh
# A pipeline of three steps with three keys: build, test, package. Its release goes to a
# registry. Somebody leaves a step out: nothing is published. Then everything is copied
# into a directory and the registry is stopped: a device that demands provenance takes
# the release from the directory, and refuses one from before there was any.
#
#   sh examples/vendor_ci/run.sh [--keep] [--registry HOST:PORT]
#
#   --keep      leave the directory with everything that was made
#   --registry  that registry, which is not stopped then; it speaks http without a login,
#               and what is pushed stays there. Without this option Debian's
#               docker-registry (`apt install docker-registry`) is started on this
#               machine, on a port that is free, and stopped again.
#
# Needs git and Python 3.11 or newer: a virtual environment is made in .venv-vendor-ci/
# (or in a temporary directory where that can't be written) and the project installed
# into it. With MARGO_SUPPLYCHAIN_PYTHON=/path/to/python that Python is used as it is.
# Nothing outside of these two directories is touched.
set -eu

keep=no
registry=
while [ $# -gt 0 ]; do
    case "$1" in
    --keep) keep=yes ;;
    --registry=?*) registry=${1#--registry=} ;;
    --registry)
        registry=${2:-}
        [ -n "$registry" ] || break
        shift
        ;;
    *) break ;;
    esac
    shift
done
if [ $# -gt 0 ]; then
    echo "usage: sh examples/vendor_ci/run.sh [--keep] [--registry HOST:PORT]" >&2
    exit 2
fi

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
examples=$(dirname -- "$here")
root=$(dirname -- "$examples")
place=$(mktemp -d "${TMPDIR:-/tmp}/margo-vendor-ci.XXXXXX")
server= # the registry's process, while it runs

stop_registry() {
    [ -n "$server" ] || return 0
    kill "$server" 2>/dev/null || :
    wait "$server" 2>/dev/null || :
    server=
}

finish() {
    status=$?
    trap - EXIT
    cd /
    stop_registry
    if [ "$keep" = yes ]; then
        echo "kept: $place"
    else
        rm -rf "$place"
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

stop() {
    echo "vendor_ci: $1" >&2
    exit 1
}

# --- git, Python and a registry --------------------------------------------------------

command -v git >/dev/null 2>&1 || stop "no git on PATH; on Debian: apt install git"

find_python() {
    for one in python3 python3.14 python3.13 python3.12 python3.11 python; do
        if "$one" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$one"
            return 0
        fi
    done
    return 1
}

# Debian's Python lacks what puts pip into a virtual environment; its own pip will do.
make_environment() {
    rm -rf "$environment"
    if "$found" -m venv "$environment" >"$place/log" 2>&1; then
        "$environment/bin/python" -m pip "$@" >>"$place/log" 2>&1
    elif "$found" -m pip --version >>"$place/log" 2>&1; then
        rm -rf "$environment"
        "$found" -m venv --without-pip "$environment" >>"$place/log" 2>&1 &&
            "$found" -m pip --python "$environment/bin/python" "$@" >>"$place/log" 2>&1
    else
        return 1
    fi
}

set_up() {
    found=$(find_python) || stop "no Python 3.11 or newer on PATH"
    unset PYTHONPATH PYTHONHOME
    environment=$root/.venv-vendor-ci
    [ -w "$root" ] || environment=$place/environment
    # What was installed must be what lies here: the project itself is not copied.
    wanted="$(cksum <"$root/pyproject.toml") $("$found" -VV) $root"
    if [ "$(cat "$environment/installed" 2>/dev/null || :)" != "$wanted" ]; then
        echo "installing margo-supplychain for $("$found" -V) into $environment"
        if ! PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 \
            make_environment install --quiet --editable "$root"; then
            sed 's/^/  | /' "$place/log" >&2
            stop "installation failed; on Debian, does \`apt install python3-venv\` help?"
        fi
        echo "$wanted" >"$environment/installed"
    fi
    python=$environment/bin/python
}

python=${MARGO_SUPPLYCHAIN_PYTHON:-}
for name in $(env | sed -n 's/^\(MARGO_SUPPLYCHAIN_[A-Z0-9_]*\)=.*/\1/p'); do
    unset "$name" # the defaults of another place
done
[ -n "$python" ] || set_up
"$python" -c 'import margo_supplychain' || stop "$python has no margo_supplychain"
case "$python" in
/*) ;;
*) python=$(command -v "$python") ;;
esac

# Steps of the pipeline call the command by its name.
mkdir "$place/bin"
printf '#!/bin/sh\nexec "%s" -m margo_supplychain "$@"\n' "$python" \
    >"$place/bin/margo-supplychain"
chmod 755 "$place/bin/margo-supplychain"
PATH=$place/bin:$PATH
export PATH

# What was pushed lies below the temporary directory, and goes with it.
start_registry() {
    for one in docker-registry registry; do
        program=$(command -v "$one") && break
    done
    [ -n "${program:-}" ] ||
        stop "no docker-registry on PATH (Debian: apt install docker-registry); name a
registry that runs on this machine with --registry"
    mkdir "$place/registry"
    cat >"$place/registry/config.yml" <<END
version: 0.1
log: {level: info}
storage:
  filesystem: {rootdirectory: "$place/registry/data"}
http: {addr: "127.0.0.1:0", secret: of-one-minute}
END
    # Nothing of the caller's settings may reach it (REGISTRY_…).
    env -i HOME="$place/registry" PATH=/usr/bin:/bin "$program" serve \
        "$place/registry/config.yml" >"$place/registry/log" 2>&1 &
    server=$!
    waited=0
    while [ -z "$registry" ]; do
        registry=$(sed -n 's/.*listening on \(127\.0\.0\.1:[0-9]*\).*/\1/p' \
            "$place/registry/log" | head -n 1)
        waited=$((waited + 1))
        if [ "$waited" -gt 200 ] || ! kill -0 "$server" 2>/dev/null; then
            sed 's/^/  | /' "$place/registry/log" >&2
            stop "$program does not start"
        fi
        [ -n "$registry" ] || sleep 0.1
    done
}

# Nothing is left that listens there.
nobody_answers() {
    "$python" - "$registry" <<'END'
import socket
import sys

host, _, port = sys.argv[1].rpartition(":")
try:
    socket.create_connection((host, int(port)), timeout=5).close()
except OSError as why:
    print(f"{sys.argv[1]}: {why.strerror or why}".lower())
else:
    sys.exit(1)
END
}

# --- telling and doing -----------------------------------------------------------------

part() {
    printf '\n# %s\n' "$1"
}

# at WHO [DIRECTORY]: everybody has a machine, which is a directory here, and a key that
# nobody else has.
at() {
    who=$1
    cd "$place/$who${2:+/$2}"
}

# A command as a person would type it, with who does.
type_out() {
    printf '%s$' "$who"
    for word in "$@"; do
        case "$word" in
        *[!A-Za-z0-9_./:=@,+-]*) printf " '%s'" "$word" ;;
        *) printf ' %s' "$word" ;;
        esac
    done
    echo
}

run() {
    type_out margo-supplychain "$@"
    margo-supplychain "$@" 2>&1
}

do_it() {
    type_out "$@"
    "$@"
}

# ends STATUS ARGUMENTS…: a command that is to end so.
ends() {
    expected=$1
    shift
    status=0
    run "$@" || status=$?
    echo "(exit status $status)"
    [ "$status" = "$expected" ] || stop "expected exit status $expected"
}

# secret FILE: a passphrase for one key, which opens no other.
secret() {
    "$python" -c "import secrets; print(secrets.token_urlsafe(24))" >"$1"
}

# --- the story -------------------------------------------------------------------------

umask 077
for one in vendor builder tester packager plant device; do
    mkdir "$place/$one"
done
: >"$place/margo-supplychain.toml" # nobody's defaults from above apply here
GIT_CONFIG_GLOBAL=/dev/null
GIT_CONFIG_SYSTEM=/dev/null
export GIT_CONFIG_GLOBAL GIT_CONFIG_SYSTEM

given=$registry
[ -n "$registry" ] || start_registry
ours=$registry/vendor-ci-$(date +%s)-$$
trust=oci://$ours/trust

# The sources, as they lie in the vendor's git repository.
cp -R "$here/project" "$place/sources"
cp -R "$examples/pump-monitor" "$place/sources/apps/pump-monitor"
cd "$place/sources"
sed "s|oci://registry.example/acme/|oci://$ours/|" apps/pump-monitor/margo.yaml \
    >margo.yaml
mv margo.yaml apps/pump-monitor/margo.yaml
commit() {
    git -C "$place/sources" add --all
    git -C "$place/sources" -c user.name=acme -c user.email=ci@acme.example \
        commit --quiet --message "$1"
}
git init --quiet
commit "Pump Monitor 1.2.0"

part "Who builds, who tests and who packages makes a key, and gives the .pub away."
for one in builder tester packager; do
    at "$one"
    secret passphrase
    run key generate "$one.key" --passphrase-file passphrase
    do_it cp "$one.pub" ../vendor
done

part "The vendor has an offline key and one for CI, and a trust repository."
at vendor
mkdir ../safe
secret ../safe/passphrase
secret ci-passphrase
run key generate offline.key --passphrase-file ../safe/passphrase
run key generate ci.key --passphrase-file ci-passphrase
run repo init trust --profile small --publisher acme --offline-key offline.key \
    --online-key ci.key --passphrase-file offline.key=../safe/passphrase \
    --passphrase-file ci.key=ci-passphrase
run app add acme/pump-monitor --release-key ci.pub \
    --passphrase-file offline.key=../safe/passphrase \
    --passphrase-file ci.key=ci-passphrase

part "It publishes as ever: signed, and nobody asks how it was made."
cp -R "$place/sources/apps/pump-monitor" package
sed 's/^  version: "1\.2\.0"$/  version: "1.1.0"/' package/margo.yaml >margo.yaml
mv margo.yaml package/margo.yaml
run release build package --output dist-1.1.0
run release publish dist-1.1.0 --passphrase-file ci-passphrase

part "It writes down what a release must have gone through, reviews and signs it."
run layout build --template build-test-package --by build=builder.pub \
    --by test=tester.pub --by package=packager.pub
do_it sed -n '/^\[\[steps/,$p' layout.toml
run layout build layout.toml
run layout sign layout.json --key offline.key --passphrase-file ../safe/passphrase \
    --yes

part "From here on devices demand it, whatever the CI's key says."
run app policy acme/pump-monitor --provenance required --layout layout.json \
    --serves '>=1.2.0' --passphrase-file offline.key=../safe/passphrase \
    --passphrase-file ci.key=ci-passphrase --yes
run repo push "$trust"
sed "s|^repo = .*|repo = \"$trust\"|" margo-supplychain.toml >settings
mv settings margo-supplychain.toml
do_it mv offline.key ../safe/offline.key

# pipeline COMMIT: three machines, each with a checkout of the same commit.
pipeline() {
    for one in builder tester packager; do
        rm -rf "$place/$one/checkout"
        git clone --quiet "$place/sources" "$place/$one/checkout"
        rm -rf "$place/$one/links"
    done
    at builder checkout
    run attest run --step build --git . --products package/pump-monitor \
        --key ../builder.key --passphrase-file ../passphrase --output ../links \
        -- sh ci/step-build.sh pump-monitor
    do_it cp -R package ../../tester/checkout
    do_it cp -R package ../../packager/checkout
    at tester checkout
    run attest run --step test --git . --materials package/pump-monitor \
        --key ../tester.key --passphrase-file ../passphrase --output ../links \
        -- sh ci/step-test.sh pump-monitor
    at packager checkout
    run attest run --step package --git . --materials package/pump-monitor \
        --release dist/pump-monitor --key ../packager.key \
        --passphrase-file ../passphrase --output ../links \
        -- sh ci/step-package.sh pump-monitor
}

part "The pipeline: each step runs on a machine of its own, and signs what it saw."
pipeline

part "The CI publishes the release with the three links: they are judged first."
at vendor
do_it cp -R ../packager/checkout/dist/pump-monitor dist-1.2.0
run release publish dist-1.2.0 --attestation ../builder/links \
    --attestation ../tester/links --attestation ../packager/links \
    --passphrase-file ci-passphrase

part "Somebody in a hurry leaves out the test: nothing is published."
sed 's/^  version: "1\.2\.0"$/  version: "1.3.0"/' \
    "$place/sources/apps/pump-monitor/margo.yaml" >"$place/margo.yaml"
mv "$place/margo.yaml" "$place/sources/apps/pump-monitor/margo.yaml"
commit "Pump Monitor 1.3.0"
pipeline >/dev/null
at vendor
do_it cp -R ../packager/checkout/dist/pump-monitor dist-1.3.0
ends 3 release publish dist-1.3.0 --attestation ../builder/links \
    --attestation ../packager/links --passphrase-file ci-passphrase

part "The plant copies the repository into a directory."
at plant
cp ../vendor/trust/metadata/1.root.json root.json
run repo mirror "$trust" copy --root root.json --state state
if [ -z "$given" ]; then
    part "The registry is stopped: nobody answers there any more."
    stop_registry
    nobody_answers || stop "the registry still answers"
fi

part "A device gets the root by hand, demands provenance, and has only the directory."
at device
cp ../vendor/trust/metadata/1.root.json root.json
run device init --root root.json --source ../plant/copy --publisher acme --state .
sed 's/^require = .*/require = ["signed", "provenance"]/' device.toml >settings
mv settings device.toml
do_it grep -A 1 policy device.toml

part "1.1.0 is signed, and nobody has said how it was made: the device refuses it."
ends 3 device verify acme/pump-monitor --pin 1.1.0

part "1.2.0 is proven: the device takes it."
run device fetch acme/pump-monitor --pin '^1.0' --to staging
run device confirm acme/pump-monitor

part "What this release went through, from the directory alone:"
run device verify acme/pump-monitor --pin '^1.0' --explain-to chain.svg

part "In short:"
cat <<END
1.2.0 is installed: three machines made it, each signed what it took and made
1.3.0 was never published: its test left no link
1.1.0 is refused by the device: nobody has said how it was made
END
[ -z "$given" ] || printf 'left in the registry: %s/…\n' "$ours"
if [ "$keep" = yes ]; then
    echo "a picture of how 1.2.0 was made: $place/device/chain.svg"
else
    echo "a picture of how 1.2.0 was made: run this with --keep"
fi
