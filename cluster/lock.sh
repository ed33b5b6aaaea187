#!/usr/bin/env bash
# Makes both locks anew from pyproject.toml, with uv: bash cluster/lock.sh [--upgrade] [further options of uv].
# What a lock pins already stays as it is, unless --upgrade. For Linux on x86-64, CPython 3.11.
# LOCK_CPU holds the options of uv that find a torch without CUDA.
set -euo pipefail
cd "$(dirname "$0")/.."
make() {
  local name=$1 kept what=$2; shift 2
  kept=$(mktemp); trap 'rm -f "$kept"' RETURN
  cp "cluster/constraints-$name.txt" "$kept" 2>/dev/null || true
  # The lock leaves the build of torch open; here it must not turn into that of CUDA.
  if [ "$name" = cpu ]; then sed -i 's/^torch==[^+]*$/&+cpu/' "$kept"; fi
  uv pip compile pyproject.toml --quiet --no-header --no-annotate \
    --python-version 3.11 --python-platform x86_64-manylinux_2_34 --output-file "$kept" "$@" > /dev/null
  { echo "# The exact versions $what."
    echo "# Made from pyproject.toml by: bash cluster/lock.sh"
    sed -e '/^#/d' -e 's/+cpu$//' "$kept"; } > "cluster/constraints-$name.txt"
}
make cpu "that were tested together, for machines without a GPU" \
  --extra study --extra dev --extra icons --extra aws --extra postgres ${LOCK_CPU---torch-backend cpu} "$@"
make cuda "for the nodes of a cluster with GPUs (torch brings CUDA 13)" \
  --extra study --extra aws --extra gcp --extra azure --extra postgres "$@"
