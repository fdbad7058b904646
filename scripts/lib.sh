# What quickstart and test share: packages, LibTorch, the build. Sourced, not run.
# Everything that is already done is skipped, so that calling a script again costs seconds.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

torch_version=2.11.0
nvjpeg_version=13.3.2.43
# nvcc, for our kernels: these three must have one version, or ptxas refuses a newer PTX.
nvcc_packages=(nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 'nvidia-cuda-cccl==13.0.*')
# For kernels of GPUs of compute capability 9.0.
cutlass_package=nvidia-cutlass==4.2.0.0
python_folder=build/python
site_packages=$python_folder/lib/python3.11/site-packages

build_packages=(
  ca-certificates ccache cmake g++ make ninja-build pkg-config
  libarchive-dev libboost1.81-dev libcli11-dev libcurl4-openssl-dev libfmt-dev libgmock-dev libgtest-dev libjemalloc-dev
  libjpeg62-turbo-dev libopenmpi-dev libpng-dev libspdlog-dev libsqlite3-dev libssl-dev libxxhash-dev libyaml-cpp-dev
  nlohmann-json3-dev openmpi-bin prometheus-cpp-dev zlib1g-dev
  python3 python3-venv dataset-fashion-mnist
)

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# quietly LOG command...: runs it, shows its output only when it fails.
quietly() {
  local log=$1
  shift
  mkdir -p "$(dirname "$log")"
  if ! "$@" >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    fail "'$*' failed; the whole output is in $log"
  fi
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# install_packages NAME...: the Debian packages that are missing.
install_packages() {
  local missing=() package
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return
  command -v apt-get >/dev/null ||
    fail "these packages are missing and there is no apt-get here (Debian 12 is what this script knows): ${missing[*]}"
  if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
    fail "these packages are missing, and installing them takes root or sudo. Ask your administrator for:
  apt-get install ${missing[*]}"
  fi
  if [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null && [ ! -t 0 ]; then
    fail "these packages are missing, and sudo wants a password but there is no terminal to ask. Run this first:
  sudo apt-get install ${missing[*]}"
  fi
  say "installing ${#missing[@]} Debian packages"
  quietly build/log/apt-update.log as_root apt-get update
  quietly build/log/apt-install.log as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends "${missing[@]}"
}

# install_python NAME...: PyPI packages into build/python, once per list.
install_python() {
  local stamp
  stamp=$python_folder/installed-$(printf '%s\n' "$@" | cksum | cut -d' ' -f1)
  [ -e "$stamp" ] && return
  say "installing from PyPI into $python_folder: $*"
  [ -x "$python_folder/bin/pip" ] || quietly build/log/venv.log /usr/bin/python3 -m venv "$python_folder"
  quietly build/log/pip.log "$python_folder/bin/pip" install --disable-pip-version-check --no-input "$@"
  touch "$stamp"
}

# LibTorch: PyPI's wheel. On a machine without a GPU the two CUDA libraries that libtorch_cpu itself names are enough.
install_libtorch() {
  if command -v nvidia-smi >/dev/null; then
    install_python "torch==$torch_version" "nvidia-nvjpeg==$nvjpeg_version" "${nvcc_packages[@]}"
  elif [ ! -e "$site_packages/torch/lib/libtorch_cpu.so" ]; then
    install_python --no-deps "torch==$torch_version" nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85
  fi
  install_cutlass
}

# CUTLASS's headers, where our CUDA kernels are built. They do without.
install_cutlass() {
  if command -v nvidia-smi >/dev/null || command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; then
    (install_python --no-deps "$cutlass_package") || say "going on without $cutlass_package: an MLP is slower on Hopper then"
  fi
}

# build PRESET [TARGET...]: configures and builds into build/PRESET.
build() {
  local preset=$1
  shift
  say "building into build/$preset"
  quietly "build/log/configure-$preset.log" cmake --preset "$preset" \
    -DCMAKE_PREFIX_PATH="$root/$site_packages/torch"
  local jobs memory_gib
  jobs=$(nproc)
  memory_gib=$(awk '/MemAvailable/ {print int($2 / 1048576)}' /proc/meminfo)
  # A LibTorch unit takes up to 1.5 GiB.
  [ "$jobs" -gt $((memory_gib / 2)) ] && jobs=$((memory_gib / 2 > 0 ? memory_gib / 2 : 1))
  local targets=()
  [ $# -gt 0 ] && targets=(--target "$@")
  if [ -t 1 ]; then
    cmake --build "build/$preset" -j "$jobs" "${targets[@]}" || fail "the build failed (see above)"
  else
    quietly "build/log/build-$preset.log" cmake --build "build/$preset" -j "$jobs" "${targets[@]}"
  fi
}
