#!/bin/sh
# Make the image's virtual environment: python.sh WHAT PLATFORM DIRECTORY, called by scripts/image.sh.
#
# WHAT is hyperpod-ebs, or hyperpod-ebs-demo, which includes what the embedded cloud needs; PLATFORM is uv's name for the
# image's platform. The files do not depend on DIRECTORY.
set -eu
cd "$(dirname "$0")/../.."
what=$1 platform=$2
environment=$3/opt/hyperpod-ebs
site=$environment/lib/python3.11/site-packages

# cut_models DIRECTORY: remove from botocore's data the files that this package does not read: it has service models of its
# own (hatch_build.py), and reads botocore's endpoint rules and paginators. The embedded cloud needs the whole models, so
# the demo keeps them. The SDK itself calls signin, sso and sso-oidc for the credentials of a person.
cut_models() {
    for service in "$1"/*/; do
        case $(basename "$service") in
        ec2 | eks | iam | kms | sagemaker | service-quotas | sts) [ "$what" = hyperpod-ebs-demo ] || find "$service" -name 'service-2*' -delete ;;
        signin | sso | sso-oidc) ;;
        cloudtrail | eks-auth) [ "$what" = hyperpod-ebs-demo ] || rm -rf "$service" ;;
        *) rm -rf "$service" ;;
        esac
    done
    find "$1" \( -name 'examples-*' -o -name 'waiters-*' \) -delete
}

mkdir -p "$environment/bin"
cp image/pyvenv.cfg "$environment/"
ln -s /usr/bin/python3.11 "$environment/bin/python"
.venv/bin/uv pip install --quiet --python .venv/bin/python --python-version 3.11 --python-platform "$platform" \
    --only-binary :all: --link-mode copy --require-hashes --target "$site" -r requirements/run.txt >&2
rm -rf "${site:?}/bin" "$site/.lock" # the first line of the packages' commands is the path of the builder's Python
cut_models "$site/botocore/data"
python3 scripts/image/records.py "$site"
