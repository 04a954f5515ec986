#!/bin/sh
# The first hour in a minute: a vendor signs a package, a device verifies it, an attacker
# brings the older release back, and the device refuses.
#
#   sh examples/quickstart.sh [--keep] [--registry HOST:PORT]
#
#   --keep      leave the directory with everything that was made
#   --registry  the same in that registry, which is the attacker's: 127.0.0.1:5000, say.
#               It speaks http without a login; what is pushed stays there.
#
# Needs Python 3.11 or newer and nothing else: a virtual environment is made in
# .venv-quickstart/ (or in a temporary directory where that can't be written) and the
# project installed into it. With MARGO_SUPPLYCHAIN_PYTHON=/path/to/python that Python is
# used as it is. Nothing outside of these two directories is touched.
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
    echo "usage: sh examples/quickstart.sh [--keep] [--registry HOST:PORT]" >&2
    exit 2
fi

examples=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(dirname -- "$examples")
place=$(mktemp -d "${TMPDIR:-/tmp}/margo-quickstart.XXXXXX")

finish() {
    status=$?
    trap - EXIT
    cd /
    if [ "$keep" = yes ]; then
        echo "kept: $place"
    else
        rm -rf "$place"
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

stop() {
    echo "quickstart: $1" >&2
    exit 1
}

# --- Python ----------------------------------------------------------------------------

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
    environment=$root/.venv-quickstart
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
for name in $(env | sed -n 's/^\(MARGO_SUPPLYCHAIN_[A-Z_]*\)=.*/\1/p'); do
    unset "$name" # the defaults of another place
done
[ -n "$python" ] || set_up
"$python" -c 'import margo_supplychain' || stop "$python has no margo_supplychain"

# The attack here speaks to the registry itself, and has no login.
wants_login() {
    "$python" - "http://$registry/v2/" <<'END'
import sys
import urllib.error
import urllib.request

try:
    urllib.request.urlopen(sys.argv[1], timeout=10).close()
except urllib.error.HTTPError as why:
    sys.exit(why.code not in (401, 403))
except (OSError, ValueError):
    pass  # the first command that needs it says what is wrong
sys.exit(1)
END
}
if [ -n "$registry" ] && wants_login; then
    stop "$registry wants a login; take a registry that is open, on this machine"
fi

# --- telling and doing -----------------------------------------------------------------

part() {
    printf '\n# %s\n' "$1"
}

# A command as a person would type it.
type_out() {
    printf '$'
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
    "$python" -m margo_supplychain "$@" 2>&1
}

do_it() {
    type_out "$@"
    "$@"
}

# What somebody does who runs the registry, in examples/repoint_tag.py.
attack() {
    type_out python3 "$examples/repoint_tag.py" "$@"
    "$python" "$examples/repoint_tag.py" "$@"
}

# --- the story -------------------------------------------------------------------------

mkdir "$place/vendor" "$place/device"
: >"$place/margo-supplychain.toml" # nobody's defaults from above apply here
cp -R "$examples/pump-monitor" "$place/vendor/pump-monitor"
cd "$place/vendor"
umask 077
"$python" -c 'import secrets; print(secrets.token_urlsafe(24))' >passphrase

where=trust
if [ -n "$registry" ]; then
    ours=$registry/quickstart-$(date +%s)-$$
    where=oci://$ours/trust
    sed "s|oci://registry.example/acme/|oci://$ours/|" pump-monitor/margo.yaml >margo.yaml
    mv margo.yaml pump-monitor/margo.yaml
fi

part "The vendor makes two keys: one for a safe, one for CI."
run key generate offline.key --passphrase-file passphrase
run key generate ci.key --passphrase-file passphrase

part "As the operator, it makes a trust repository, and says which key may release what."
run repo init trust --profile small --publisher acme \
    --offline-key offline.key --online-key ci.key --passphrase-file passphrase
run app add acme/pump-monitor --release-key ci.pub --passphrase-file passphrase
if [ -n "$registry" ]; then
    part "It goes to the registry; from here on that is where it is edited."
    run repo push "$where"
    sed "s|^repo = .*|repo = \"$where\"|" margo-supplychain.toml >settings
    mv settings margo-supplychain.toml
fi

part "The CI builds a Margo package and publishes it, with the online key alone."
do_it mv offline.key ../safe
sed 's/^  version: "1\.2\.0"$/  version: "1.1.0"/' pump-monitor/margo.yaml >margo.yaml
mv pump-monitor/margo.yaml ../margo.yaml
mv margo.yaml pump-monitor/margo.yaml
run release build pump-monitor --output dist-1.1.0
run release publish dist-1.1.0 --passphrase-file passphrase

if [ -n "$registry" ]; then
    part "The registry's own attacker notes what two tags name, for later."
    attack "$ours/trust" timestamp | tee "$place/old-timestamp"
    attack "$ours/pump-monitor" 1.1.0 | tee "$place/old-package"
else
    part "An attacker on the way to the devices keeps a copy, for later."
    do_it cp -R trust ../copy-of-1.1.0
fi

part "The next release mends a hole."
mv ../margo.yaml pump-monitor/margo.yaml
run release build pump-monitor --output dist-1.2.0
run release publish dist-1.2.0 --passphrase-file passphrase
run repo check

part "A device gets the root by hand, once; everything else comes over any channel."
cd "$place/device"
cp ../vendor/trust/metadata/1.root.json root.json
source=$where
[ -n "$registry" ] || source=../vendor/trust
run device init --root root.json --source "$source" --publisher acme --state .
run device verify acme/pump-monitor --pin '^1.0'
run device fetch acme/pump-monitor --pin '^1.0' --to staging
run device confirm acme/pump-monitor

if [ -n "$registry" ]; then
    part "The attacker points the package's tag 1.2.0 at 1.1.0: no device asks for tags."
    attack "$ours/pump-monitor" 1.2.0 "$(sed 1d "$place/old-package")"
    run device fetch acme/pump-monitor --pin '^1.0' --to staging-2
    part "So they bring back the old state of everything: 1.1.0, well signed."
    attack "$ours/trust" timestamp "$(sed 1d "$place/old-timestamp")"
else
    part "The attacker puts the old repository in the place of the new one: 1.1.0, well signed."
    do_it mv ../vendor/trust ../vendor/trust-of-today
    do_it mv ../copy-of-1.1.0 ../vendor/trust
fi
status=0
run device verify acme/pump-monitor --pin '^1.0' || status=$?
echo "(exit status $status)"
[ "$status" = 3 ] || stop "expected exit status 3: the device did not refuse"

part "The device refused it, and what runs keeps running."
run device status
[ -z "$registry" ] || printf '\nleft in the registry: %s/…\n' "$ours"
