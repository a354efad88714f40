#!/usr/bin/env bash
# All that needs a GPU, in one go of at most 8 minutes: tests, timings, chapters; see gpu.py for what it leaves.
#
#   benchmarks/gpu.sh OUT_FOLDER [options of gpu.py, such as --quick]
#
# Folders are meant from where it is called. Without any argument OUT_FOLDER is _build/gpu here in the project.
#
# With everything of requirements.txt installed nothing else is needed. On a machine that has PyTorch, torchvision,
# Triton, scikit-learn, SciPy, pandas, seaborn, pillow, tqdm and pytest, and no network, name in WHEELS a folder of
# wheels that is brought along: safetensors, ipykernel, ipywidgets, nbclient, nbformat, platformdirs, weightwatcher,
# powerlaw, tensorly, and what these need (`pip download`). PEEK_DATA is a folder with MNIST/raw, its files as they are
# or as .gz; without it the embedded digits stand in, and gpu.json says so.
#
# COMMIT names the commit that runs; gpu.json and the tables of evidence give it. Set it wherever the tree is a copy without
# this repository's history, where git would say nothing or name another one:
#
#   COMMIT=$(git rev-parse --short HEAD)    # here; then there: COMMIT=… WHEELS=… PEEK_DATA=… benchmarks/gpu.sh OUT_FOLDER
set -u
root=$(cd "$(dirname "$0")/.." && pwd) || exit
case ${1:-} in
-*)
    echo "the folder to write to comes first: benchmarks/gpu.sh OUT_FOLDER $*" >&2
    exit 2
    ;;
esac
out=${1:-$root/_build/gpu}
[ $# -gt 0 ] && shift
export PYTHONPATH=$root
if [ -n "${WHEELS:-}" ]; then
    site=$(mktemp -d)
    quiet=(-q --no-index --no-deps --no-compile --no-cache-dir --upgrade --disable-pip-version-check)
    "${PYTHON:-python3}" -m pip install "${quiet[@]}" --target "$site" "$WHEELS"/*.whl || echo "the wheels could not be installed"
    export PYTHONPATH=$root:$site
fi
exec "${PYTHON:-python3}" "$root/benchmarks/gpu.py" --out "$out" "$@"
