#!/bin/sh
# Lay out the virtual environment of the image: python.sh WHAT PLATFORM DIRECTORY, called by scripts/image.sh.
#
# WHAT is hyperpod-ebs, or hyperpod-ebs-demo with what the embedded cloud takes; PLATFORM is uv's word for the machines.
# Where this lies leaves no trace in it.
set -eu
cd "$(dirname "$0")/../.."
what=$1 platform=$2
environment=$3/opt/hyperpod-ebs
site=$environment/lib/python3.11/site-packages

# cut_models DIRECTORY: of botocore's data what the driver reads beside its own models (hatch_build.py); for the demo
# whole models too, which the embedded cloud answers by.
cut_models() {
    for service in "$1"/*/; do
        case $(basename "$service") in
        ec2 | sagemaker | sts) [ "$what" = hyperpod-ebs-demo ] || find "$service" -name 'service-2*' -delete ;;
        eks) [ "$what" = hyperpod-ebs-demo ] || rm -rf "$service" ;;
        *) rm -rf "$service" ;;
        esac
    done
    find "$1" \( -name 'examples-*' -o -name 'paginators-*' -o -name 'waiters-*' \) -delete
}

mkdir -p "$environment/bin"
cp image/pyvenv.cfg "$environment/"
ln -s /usr/bin/python3.11 "$environment/bin/python"
.venv/bin/uv pip install --quiet --python .venv/bin/python --python-version 3.11 --python-platform "$platform" \
    --only-binary :all: --link-mode copy --require-hashes --target "$site" -r requirements/run.txt >&2
rm -rf "$site/bin" "$site/.lock" # the commands of packages begin with the path of this machine's Python
cut_models "$site/botocore/data"
python3 scripts/image/records.py "$site"
