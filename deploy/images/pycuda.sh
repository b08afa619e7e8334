#!/usr/bin/env bash
# pycuda.sh PYTHON FOLDER: a wheel of pycuda (which has none) for that Python, by headers from packages. Needs g++ and the Python's
# headers, but no GPU, no driver and no CUDA toolkit. A part of the recipe for executor-gpu; see README.md.
set -euo pipefail
python=$1
out=$(realpath -m "$2")
uv=$(dirname "$(realpath "$0")")/../../.venv/bin/uv
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Of one major version with cuda-bindings. The source's hash stands here as pycuda is in no lock.
$uv pip install -q --no-deps --only-binary :all: --python "$python" --target "$work/cuda" \
  "nvidia-cuda-runtime==13.*" "nvidia-cuda-crt==13.*" "nvidia-cuda-profiler-api==13.*"
$uv venv -q --python "$python" "$work/venv"
$uv pip install -q --python "$work/venv/bin/python" numpy setuptools wheel pip
"$work/venv/bin/pip" download -q --no-deps --no-build-isolation --no-binary :all: -d "$work" "pycuda==2026.1"
echo "759516160628ba06f32ce7e563e3f5b9214691dc9528a03ea99ea1073f4e14ba  $work/pycuda-2026.1.tar.gz" | sha256sum --check --quiet
tar -xf "$work/pycuda-2026.1.tar.gz" -C "$work"

# The driver's library comes with the driver of the machine that runs it. To link, its name and those of its functions are enough;
# without them the linker would leave its name out of the wheel.
sed -E 's#/\*.*\*/##' "$work"/cuda/nvidia/cu13/include/{cuda,cudaProfiler}.h | grep -oE '\bcu[A-Z][A-Za-z0-9_]*' | sort -u |
  sed 's/.*/void &(void) {}/' >"$work/stub.c"
gcc -shared -fPIC -w -Wl,-soname,libcuda.so.1 -o "$work/libcuda.so" "$work/stub.c"
cd "$work/pycuda-2026.1"
# Without curand and GL, which the executor does not use.
cat >siteconf.py <<END
BOOST_INC_DIR = BOOST_LIB_DIR = []
BOOST_COMPILER = "gcc43"
USE_SHIPPED_BOOST = True
BOOST_PYTHON_LIBNAME, BOOST_THREAD_LIBNAME = ["boost_python"], ["boost_thread"]
CUDA_TRACE = CUDA_ENABLE_GL = CUDA_ENABLE_CURAND = False
CUDA_ROOT = "$work/cuda/nvidia/cu13"
CUDADRV_LIB_DIR, CUDADRV_LIBNAME = ["$work"], ["cuda"]
CUDART_LIB_DIR, CUDART_LIBNAME, CURAND_LIB_DIR, CURAND_LIBNAME = [], [], [], []
CXXFLAGS, LDFLAGS = ["-O2", "-w"], []
END
"$work/venv/bin/pip" wheel -q --no-deps --no-build-isolation -w "$out" .
