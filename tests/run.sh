#!/bin/sh
# Everything that must hold, in one command: lint, types, import contracts, tests against
# the built wheel, coverage gates, a reproducible build.
#
#   sh tests/run.sh [--peers] [--long]
#
#   --peers   a peer in another language that can't be built is a failure
#   --long    many random examples instead of a few that never change
#
# It makes its own virtual environments in .venv-tests/ and .venv-services/ and, as root
# on Debian, installs what the tests need. With CI=true a missing Debian component is a
# failure. What could not be had or did not run is named in the closing summary.
set -u
cd "$(dirname "$0")/.." || exit 1

DEBIAN_COMPONENTS="faketime docker-registry skopeo apache2-utils softhsm2 p11-kit-modules"
VENV=.venv-tests
SERVICES=.venv-services
PEERS=tests/peers
# What reaches every line and branch of the packages with a gate; the other tests run
# without the cost of measuring.
MEASURED="tests/attacks tests/conformance tests/differential tests/formats
    tests/provenance tests/storage tests/threshold tests/transport tests/verify
    tests/authoring/test_content_rules.py"

need_peers=no
long=
for argument in "$@"; do
    case "$argument" in
    --peers) need_peers=yes ;;
    --long) long=--hypothesis-long ;;
    *)
        echo "usage: sh tests/run.sh [--peers] [--long]" >&2
        exit 2
        ;;
    esac
done

# Nothing of the caller's Python, and no pip, npm or Go that asks or updates itself.
unset PYTHONPATH PYTHONHOME PYTHONWARNINGS VIRTUAL_ENV
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 DEBIAN_FRONTEND=noninteractive
export GOFLAGS=-mod=readonly GOTOOLCHAIN=local NO_COLOR=1

scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
failed=
notes=

note() { notes="$notes
  note    $1"; }

fail() { failed="$failed
  failed  $1"; }

# quiet WHAT COMMAND…: one line when it works, everything it said when it does not.
quiet() {
    what=$1
    shift
    begun=$(date +%s)
    if "$@" >"$scratch/log" 2>&1; then
        echo "ok      $what ($(($(date +%s) - begun)) s)"
        return 0
    fi
    echo "FAILED  $what: $*"
    sed 's/^/  | /' "$scratch/log" | tail -n 400
    return 1
}

check() {
    quiet "$@" || fail "$1"
}

# within SECONDS COMMAND…: something that waits for a network has an end.
within() {
    seconds=$1
    shift
    if command -v timeout >/dev/null 2>&1; then
        timeout "$seconds" "$@"
    else
        "$@"
    fi
}

# --- what the machine must have --------------------------------------------------------

on_debian() { [ -f /etc/debian_version ] && command -v apt-get >/dev/null 2>&1; }

installed() { dpkg -s "$1" 2>/dev/null | grep -q '^Status: install ok installed'; }

apt_install() {
    within 300 apt-get -qq update &&
        within 300 apt-get -qq -y --no-install-recommends install "$@"
}

debian_components() {
    wanted=
    if on_debian; then
        for one in $DEBIAN_COMPONENTS; do
            installed "$one" || wanted="$wanted $one"
        done
        if [ -n "$wanted" ] && [ "$(id -u)" = 0 ]; then
            # shellcheck disable=SC2086  # a list of words
            quiet "Debian components:$wanted" apt_install $wanted
        fi
    fi
    for one in $DEBIAN_COMPONENTS; do
        if ! on_debian; then
            note "$one: not a Debian machine; tests that need it are skipped"
        elif ! installed "$one"; then
            note "$one: not installed; tests that need it are skipped"
            if [ "${CI:-}" = true ]; then fail "Debian component $one is missing"; fi
        fi
    done
}

find_python() {
    for one in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$one" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$one"
            return 0
        fi
    done
    return 1
}

# make_venv DIRECTORY LOCK
make_venv() {
    rm -rf "$1"
    "$python" -m venv "$1" || return 1
    within 600 "$1/bin/python" -m pip install --quiet --require-hashes \
        --requirement "$2" || return 1
    stamp_of "$2" >"$1/lock"
}

stamp_of() { echo "$(cksum <"$1") $("$python" -VV) $(pwd)"; }

# up_to_date DIRECTORY LOCK
up_to_date() {
    [ "$(cat "$1/lock" 2>/dev/null)" = "$(stamp_of "$2")" ] &&
        "$1/bin/python" -c 'import pytest' 2>/dev/null
}

python_environment() {
    if ! python=$(find_python); then
        echo "FAILED  no Python 3.11 or newer on PATH"
        exit 1
    fi
    if on_debian && [ "$(id -u)" = 0 ] && ! "$python" -c 'import ensurepip' 2>/dev/null
    then
        quiet "Debian component: python3-venv" apt_install python3-venv
    fi
    up_to_date "$VENV" tests/requirements.lock ||
        quiet "virtual environment $VENV with tests/requirements.lock" \
            make_venv "$VENV" tests/requirements.lock || exit 1
}

# --- peers in other languages ----------------------------------------------------------

peer() {
    name=$1
    tool=$2
    shift 2
    if ! command -v "$tool" >/dev/null 2>&1; then
        missing_peer "$name: no $tool on this machine"
    elif ! quiet "peer $name" "$@"; then
        missing_peer "$name: could not be built"
    fi
}

missing_peer() {
    note "peer $1; its tests are skipped"
    if [ "$need_peers" = yes ]; then fail "peer $1"; fi
}

# build_go PROGRAM DIRECTORY PACKAGE: at the versions of its go.mod and go.sum alone.
build_go() {
    rm -f "$PEERS/.build/go/$1" # an old one must not speak for a new source
    (cd "$PEERS/$2" && within 300 go build -trimpath -o "../.build/go/$1" "$3")
}

build_node() {
    stamp=$(cksum <"$PEERS/node/package-lock.json")
    if [ -d "$PEERS/node/node_modules" ] &&
        [ "$(cat "$PEERS/.build/node-lock" 2>/dev/null)" = "$stamp" ]; then
        return 0
    fi
    (cd "$PEERS/node" && within 300 npm ci --ignore-scripts --no-audit --no-fund \
        --no-update-notifier) || return 1
    mkdir -p "$PEERS/.build" && echo "$stamp" >"$PEERS/.build/node-lock"
}

# --- the package -----------------------------------------------------------------------

build_wheel() { "$VENV/bin/python" -m hatchling build -t wheel -d "$scratch/first"; }

# From a copy elsewhere: no path, date or order of the file system may get in.
build_again() {
    mkdir "$scratch/copy" &&
        cp -R margo_supplychain pyproject.toml README.md LICENSE .gitignore \
            "$scratch/copy" &&
        (cd "$scratch/copy" && umask 077 &&
            "$root/$VENV/bin/python" -m hatchling build -t wheel -d "$scratch/second") &&
        cmp "$scratch"/first/*.whl "$scratch"/second/*.whl
}

install_wheel() {
    "$VENV/bin/python" -m pip install --quiet --no-deps --force-reinstall \
        "$scratch"/first/*.whl
}

# --- tests -----------------------------------------------------------------------------

run_tests() {
    peers_option=
    if [ "$need_peers" = yes ]; then peers_option=--peers; fi
    others=
    for one in $MEASURED; do others="$others --ignore=$one"; done
    # shellcheck disable=SC2086  # lists of words, or nothing
    COVERAGE_FILE="$scratch/coverage" "$VENV/bin/pytest" -q -p no:cacheprovider \
        -n 2 --dist worksteal --cov --cov-report= $long $peers_option $MEASURED
    measured=$?
    # shellcheck disable=SC2086  # lists of words, or nothing
    "$VENV/bin/pytest" -q -p no:cacheprovider \
        -n 2 --dist worksteal $long $peers_option $others || fail "tests"
    if [ "$measured" != 0 ]; then
        fail "measured tests"
        return
    fi
    COVERAGE_FILE="$scratch/coverage" "$VENV/bin/coverage" json -q \
        -o "$scratch/coverage.json" || fail "coverage report"
    check "coverage gates" "$VENV/bin/python" tests/coverage_gates.py \
        "$scratch/coverage.json"
}

# Their libraries are many, and no other test may lean on them.
key_services() {
    if up_to_date "$SERVICES" tests/services.lock ||
        quiet "virtual environment $SERVICES with tests/services.lock" \
            make_venv "$SERVICES" tests/services.lock; then
        "$SERVICES/bin/python" -m pip install --quiet --no-deps --force-reinstall \
            "$scratch"/first/*.whl
        check "keys in cloud services" "$SERVICES/bin/pytest" -q -p no:cacheprovider \
            tests/signing/test_kms.py
    else
        note "libraries of cloud services can't be had; their tests are skipped"
        if [ "${CI:-}" = true ]; then fail "libraries of cloud services"; fi
    fi
}

root=$(pwd)
debian_components
python_environment
peer go-tuf go build_go tuf-client go .
peer in-toto-golang go build_go in-toto-peer intoto .
peer olareg go build_go olareg olareg github.com/olareg/olareg/cmd/olareg
peer oras go build_go oras oras oras.land/oras/cmd/oras
peer crane go build_go crane crane \
    github.com/google/go-containerregistry/cmd/crane
peer "tuf-js and semver" npm build_node
check "ruff check" "$VENV/bin/ruff" check --quiet --output-format concise .
check "ruff format" "$VENV/bin/ruff" format --check .
check "mypy" "$VENV/bin/mypy"
check "import contracts" "$VENV/bin/lint-imports" --no-cache
if quiet "wheel" build_wheel && quiet "installation" install_wheel; then
    check "wheel is reproducible" build_again
    key_services
    run_tests
else
    fail "wheel or installation; no test ran"
fi

echo
echo "summary: $("$VENV/bin/python" -V), $(uname -sm)$notes$failed"
if [ -n "$failed" ]; then
    echo "FAILED"
    exit 1
fi
echo "everything passed"
