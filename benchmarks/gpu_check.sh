#!/usr/bin/env bash
# Builds the package and runs all its GPU checks on this machine: gpu_check.sh OUT, or measures: gpu_check.sh OUT
# --benchmarks; --help says more. PYTHON names the Python.
set -euo pipefail
python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null; then
  echo "gpu_check: $python was not found; set PYTHON to a Python >= 3.10 that has torch" >&2
  exit 1
fi
exec "$python" "$(dirname -- "${BASH_SOURCE[0]}")/gpu_check.py" "$@"
