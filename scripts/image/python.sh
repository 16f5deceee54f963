# Python's part of the image, for scripts/image.sh to read in.
# shellcheck shell=sh disable=SC2154 # what is set there

# python: where the virtual environment lies, laid out now or before
python() {
    dir=$cache/python-$arch-$what-$(digest requirements/run.txt image/pyvenv.cfg scripts/image/python.sh)
    if [ ! -d "$dir" ]; then
        say "Python's packages for $arch"
        environment=$work/python/opt/hyperpod-ebs
        mkdir -p "$environment/bin"
        cp image/pyvenv.cfg "$environment/"
        ln -s /usr/bin/python3.11 "$environment/bin/python"
        site=$environment/lib/python3.11/site-packages
        .venv/bin/uv pip install --quiet --python .venv/bin/python --python-version 3.11 --python-platform "$platform" \
            --only-binary :all: --link-mode copy --require-hashes --target "$site" -r requirements/run.txt >&2
        rm -rf "$site/bin" "$site/.lock"
        cut_models "$site/botocore/data"
        compile "$(debian "$native")" "$work/python" opt/hyperpod-ebs
        mv "$work/python" "$dir"
    fi
    touch "$dir"
    echo "$dir"
}

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
