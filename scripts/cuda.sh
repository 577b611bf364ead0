#!/usr/bin/env bash
# A CUDA 13.0 toolkit from the Python package index, in one folder, without root and without a GPU.
# Usage: eval "$(scripts/cuda.sh)"              all that candle's CUDA backend is built with (650 MB to fetch)
#        eval "$(scripts/cuda.sh compiler)"     nvcc and its headers, enough for the kernels (100 MB)
# Prints the variables that build scripts look for; says what it does on stderr. Needs Linux x86-64 and pip.
set -euo pipefail

what=${1:-all}
home=${HEADWISE_CUDA:-${XDG_CACHE_HOME:-$HOME/.cache}/headwise/cuda-13.0}

compiler='
nvidia-cuda-nvcc==13.0.88 --hash=sha256:56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03
nvidia-nvvm==13.0.88 --hash=sha256:c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0
nvidia-cuda-crt==13.0.88 --hash=sha256:2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4
nvidia-cuda-runtime==13.0.96 --hash=sha256:7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548
nvidia-cuda-cccl==13.0.85 --hash=sha256:e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649'
libraries='
nvidia-cuda-nvrtc==13.0.88 --hash=sha256:ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575
nvidia-curand==10.4.0.35 --hash=sha256:1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc
nvidia-cublas==13.0.2.14 --hash=sha256:0cf238ffdbe46c00cb9aa98e7bca745c223a5ca5a53e686ac8b3e5a08fe80d6c'

case $what in
  compiler) packages=$compiler ;;
  all) packages=$compiler$libraries ;;
  *) echo "$what: neither compiler nor all" >&2; exit 2 ;;
esac

toolkit=$home/nvidia/cu13
if [ ! -e "$home/has-all" ] && [ ! -e "$home/has-$what" ]; then
  echo "Fetching CUDA 13.0 ($what) into $home …" >&2
  # Beside its place, and moved there whole, so that a run that was cut off leaves nothing half done.
  rm -rf "$home.partial"
  mkdir -p "$home.partial"
  printf '%s\n' "$packages" >"$home.partial/requirements.txt"
  python3 -m pip install --quiet --no-deps --only-binary=:all: --require-hashes --disable-pip-version-check --root-user-action=ignore \
    --platform manylinux2010_x86_64 --platform manylinux2014_x86_64 --platform manylinux_2_27_x86_64 \
    --target "$home.partial" -r "$home.partial/requirements.txt" >&2
  (
    cd "$home.partial/nvidia/cu13"
    # Where build scripts look, and the names that linkers look for.
    ln -sfn lib lib64
    for library in lib/lib*.so.*; do
      ln -sf "$(basename "$library")" "${library%%.so.*}.so"
    done
    # The driver is only on machines that have a GPU. Programs are linked with this, which has its name and its functions without what they do.
    mkdir -p lib/stubs
    grep -oE '\bcu[A-Z][A-Za-z0-9_]*' include/cuda.h | sort -u | sed 's/.*/void &(void) {}/' |
      ${CC:-cc} -shared -x c - -o lib/stubs/libcuda.so -Wl,-soname,libcuda.so.1
  )
  touch "$home.partial/has-$what"
  rm -rf "$home"
  mv "$home.partial" "$home"
fi

for variable in CUDA_HOME CUDA_PATH CUDA_ROOT CUDA_TOOLKIT_ROOT_DIR; do
  printf 'export %s=%q\n' "$variable" "$toolkit"
done
# Without a GPU nobody can be asked for what to compile candle's kernels: 8.0 runs on all since Ampere.
printf 'export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80}\n'
printf 'export LIBRARY_PATH=%q${LIBRARY_PATH:+:$LIBRARY_PATH}\n' "$toolkit/lib:$toolkit/lib/stubs"
printf 'export PATH=%q:$PATH\n' "$toolkit/bin"
