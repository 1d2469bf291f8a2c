#!/bin/sh
# Remake the bundle of Uppy that /upload loads; `make page` runs this. Needs Node 20 or newer and npm
# with a registry within reach; the service, its tests and its image need neither.
set -eu
cd "$(dirname "$0")/../.."

pages=ingest_service/api/pages
mkdir -p build/uppy
cp web/uppy/package.json web/uppy/package-lock.json build/uppy/
(cd build/uppy && npm ci --no-audit --no-fund --ignore-scripts)
node web/uppy/build.mjs build/uppy "$pages"
# What was built from what: a test compares.
sha256sum web/uppy/package-lock.json web/uppy/entry.mjs web/uppy/build.mjs \
    "$pages/uppy.js" "$pages/uppy.LICENSES.txt" >web/uppy/built.sha256
