#!/bin/sh
# A root ceremony: three people, three tokens, two of them must sign. They make the
# first root apart, a vendor releases, one token is lost and its key replaced, and a
# device that holds the first root verifies a release of after that.
#
#   sh examples/hsm/ceremony.sh [--keep]
#
#   --keep  leave the directory with everything that was made
#
# The tokens are SoftHSM's, one directory for each person, so nobody can reach the token
# of somebody else. Needs SoftHSM (Debian: `apt install softhsm2`) and Python 3.11 or
# newer: a virtual environment is made in .venv-ceremony/ (or in a temporary directory
# where that can't be written) and the project installed into it, with its extra `hsm`.
# With MARGO_SUPPLYCHAIN_PYTHON=/path/to/python that Python is used as it is; with
# SOFTHSM2_MODULE=/path/to/libsofthsm2.so that module.
set -eu

keep=no
case "${1:-}" in
--keep)
    keep=yes
    shift
    ;;
esac
if [ $# -gt 0 ]; then
    echo "usage: sh examples/hsm/ceremony.sh [--keep]" >&2
    exit 2
fi

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
examples=$(dirname -- "$here")
root=$(dirname -- "$examples")
place=$(mktemp -d "${TMPDIR:-/tmp}/margo-ceremony.XXXXXX")

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
    echo "ceremony: $1" >&2
    exit 1
}

# --- SoftHSM and Python ----------------------------------------------------------------

command -v softhsm2-util >/dev/null 2>&1 ||
    stop "no softhsm2-util on PATH; on Debian: apt install softhsm2"
module=${SOFTHSM2_MODULE:-}
for one in /usr/lib/softhsm /usr/lib64/softhsm /usr/lib64/pkcs11 /usr/local/lib/softhsm
do
    if [ -z "$module" ] && [ -f "$one/libsofthsm2.so" ]; then
        module=$one/libsofthsm2.so
    fi
done
[ -f "$module" ] ||
    stop "no module ${module:-libsofthsm2.so}; say where it is with SOFTHSM2_MODULE"

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
    environment=$root/.venv-ceremony
    [ -w "$root" ] || environment=$place/environment
    # What was installed must be what lies here: the project itself is not copied.
    wanted="$(cksum <"$root/pyproject.toml") $("$found" -VV) $root"
    if [ "$(cat "$environment/installed" 2>/dev/null || :)" != "$wanted" ]; then
        echo "installing margo-supplychain for $("$found" -V) into $environment"
        if ! PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 \
            make_environment install --quiet --editable "${root}[hsm]"; then
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
"$python" -c 'import pkcs11' || stop "$python has no python-pkcs11 (the extra hsm)"

# --- telling and doing -----------------------------------------------------------------

part() {
    printf '\n# %s\n' "$1"
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
    "$python" -m margo_supplychain "$@" 2>&1
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

id_of() {
    "$python" -m margo_supplychain --format json key show "$1" | "$python" -c '
import json, sys
print(json.load(sys.stdin)["result"]["keyId"][:12])'
}

# at WHO: everybody has a machine, which is a directory here, and nobody else's token.
at() {
    who=$1
    cd "$place/$who"
    SOFTHSM2_CONF=$place/$who/.softhsm/softhsm2.conf
    export SOFTHSM2_CONF
}

secret() {
    "$python" -c "import secrets; print(secrets.token_hex($1))"
}

# new_token LABEL: somebody unpacks a token. Its PIN stands in `pin`, which only its
# holder can read; whoever prefers to type it leaves --pin-file out.
new_token() {
    mkdir -p .softhsm/tokens
    printf 'directories.tokendir = %s\nobjectstore.backend = file\n' \
        "$PWD/.softhsm/tokens" >.softhsm/softhsm2.conf
    printf 'pkcs11-module = "%s"\n' "$module" >margo-supplychain.toml
    secret 4 >pin
    softhsm2-util --init-token --free --label "$1" --pin "$(cat pin)" \
        --so-pin "$(secret 8)" >/dev/null
}

# --- the story -------------------------------------------------------------------------

umask 077
for one in ada ben cyd office device stick; do
    mkdir "$place/$one" # a machine each, and a stick that goes between them
done
: >"$place/margo-supplychain.toml" # nobody's defaults from above apply here
stick=../stick

part "Ada, Ben and Cyd each make a root key, inside a token of their own."
for one in ada:root-a ben:root-b cyd:root-c; do
    at "${one%:*}"
    token=${one#*:}
    new_token "$token"
    run key generate --uri "pkcs11:token=$token;object=root" --out "$token.pub" \
        --pin-file pin
    do_it cp "$token.pub" $stick
done

part "The office has the other keys, and writes down what the root shall say."
at office
secret 24 >passphrase
for one in targets acme online; do
    run key generate $one.key --passphrase-file passphrase
done
cat >plan.toml <<'END'
profile = "standard"

[root]
keys = ["../stick/root-a.pub", "../stick/root-b.pub", "../stick/root-c.pub"]
threshold = 2

[targets]
keys = ["targets.pub"]

[snapshot]
keys = ["online.pub"]

[timestamp]
keys = ["online.pub"]

[signing]
root = "60d"

[custody]
root = "never-extractable"

[owners]
"../stick/root-a.pub" = "Ada"
"../stick/root-b.pub" = "Ben"
"../stick/root-c.pub" = "Cyd"
END
do_it cat plan.toml
run root propose --plan plan.toml --out $stick/root-1.json

part "Ada and Cyd sign a copy each, in two places, at the same time."
at ada
do_it cp $stick/root-1.json .
ends 5 root sign root-1.json --key root-a.pub --pin-file pin --yes
do_it cp root-1.json $stick/from-ada.json
at cyd
do_it cp $stick/root-1.json .
ends 5 root sign root-1.json --key root-c.pub --pin-file pin --yes
do_it cp root-1.json $stick/from-cyd.json

part "The office brings the two together, and makes the repository."
at office
run root merge $stick/from-ada.json $stick/from-cyd.json --out root-1.json
run repo init trust --profile standard --publisher acme --signed-root root-1.json \
    --targets-key targets.key --publisher-key acme.key --online-key online.key \
    --passphrase-file passphrase
for one in ada ben cyd; do
    do_it cp trust/metadata/1.root.json ../$one # compared by telephone, and kept
done
run app add acme/pump-monitor --release-key online.pub --passphrase-file passphrase
cp -R "$examples/pump-monitor" pump-monitor
run release build pump-monitor --output dist-1.2.0
run release publish dist-1.2.0 --passphrase-file passphrase

part "A device gets the first root by hand; it verifies, installs, and is switched off."
at device
cp ../office/trust/metadata/1.root.json root.json
run device init --root root.json --source ../office/trust --publisher acme --state .
run device verify acme/pump-monitor --pin '^1.0'
run device fetch acme/pump-monitor --pin '^1.0' --to staging
run device confirm acme/pump-monitor

part "Cyd loses the token, gets a new one, and makes a key in that."
at cyd
do_it rm -r .softhsm
new_token root-c2
run key generate --uri 'pkcs11:token=root-c2;object=root' --out root-c2.pub \
    --pin-file pin
do_it cp root-c2.pub $stick

part "The office proposes to replace the key, and plays it through beforehand."
at office
lost=$(id_of $stick/root-c.pub)
run root propose --replace-key "$lost=$stick/root-c2.pub" \
    --owner "$stick/root-c2.pub=Cyd" --out $stick/root-2.json
run root rehearse $stick/root-2.json

part "Ada signs. She has no repository: she kept the root that she compared."
at ada
ends 5 root sign $stick/root-2.json --root 1.root.json --key root-a.pub \
    --pin-file pin --yes

part "One signature is not enough, whoever asks."
at office
ends 5 root finalize $stick/root-2.json --passphrase-file passphrase

part "Ben signs, too, what Ada signed, and the office puts it into force."
at ben
run root sign $stick/root-2.json --root 1.root.json --key root-b.pub \
    --pin-file pin --yes
at office
run root status $stick/root-2.json
run root finalize $stick/root-2.json --passphrase-file passphrase
run repo check
run root show

part "The next release."
sed 's/^  version: "1\.2\.0"$/  version: "1.3.0"/' pump-monitor/margo.yaml >margo.yaml
mv margo.yaml pump-monitor/margo.yaml
run release build pump-monitor --output dist-1.3.0
run release publish dist-1.3.0 --passphrase-file passphrase

part "The device comes back. It holds the first root, and follows to the second."
at device
run device status
run device verify acme/pump-monitor --pin '^1.0'
run device fetch acme/pump-monitor --pin '^1.0' --to staging
run device confirm acme/pump-monitor
run device status
