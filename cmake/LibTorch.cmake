# LibTorch as hand-written imported targets (TorchConfig.cmake of a CUDA build fails where there is no toolkit).
# Any LibTorch works: point CMAKE_PREFIX_PATH at the folder that holds include/ and lib/ (inside a Python wheel: .../torch).
#   cosub::torch_cpu   what every worker target links
#   cosub::torch_cuda  what the CUDA modules add; only where COSUB_WITH_CUDA is on
#   cosub::nvjpeg      its decoder; only where COSUB_WITH_NVJPEG is on
find_path(TORCH_INCLUDE ATen/ATen.h PATH_SUFFIXES include torch/include)
if(NOT TORCH_INCLUDE)
  message(FATAL_ERROR "LibTorch not found. Run scripts/setup, or pass -DCMAKE_PREFIX_PATH=FOLDER where FOLDER "
                      "holds include/ATen/ATen.h and lib/libtorch_cpu.so, or -DCOSUB_BUILD_WORKER=OFF.")
endif()
get_filename_component(TORCH_ROOT ${TORCH_INCLUDE} DIRECTORY)
find_library(TORCH_CPU_LIBRARY torch_cpu PATHS ${TORCH_ROOT}/lib NO_DEFAULT_PATH REQUIRED)
find_library(C10_LIBRARY c10 PATHS ${TORCH_ROOT}/lib NO_DEFAULT_PATH REQUIRED)

add_library(cosub_torch_cpu INTERFACE)
add_library(cosub::torch_cpu ALIAS cosub_torch_cpu)
# LibTorch ships its own fmt headers, newer than the system's library that spdlog and we link: ours must come first.
get_target_property(fmt_include fmt::fmt INTERFACE_INCLUDE_DIRECTORIES)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/headers_before_torch)
file(CREATE_LINK ${fmt_include}/fmt ${CMAKE_BINARY_DIR}/headers_before_torch/fmt SYMBOLIC)
target_include_directories(cosub_torch_cpu SYSTEM INTERFACE ${CMAKE_BINARY_DIR}/headers_before_torch
                           ${TORCH_INCLUDE} ${TORCH_INCLUDE}/torch/csrc/api/include)
target_compile_definitions(cosub_torch_cpu INTERFACE _GLIBCXX_USE_CXX11_ABI=1)
target_link_libraries(cosub_torch_cpu INTERFACE ${TORCH_CPU_LIBRARY} ${C10_LIBRARY})
list(APPEND CMAKE_BUILD_RPATH ${TORCH_ROOT}/lib)
list(APPEND CMAKE_INSTALL_RPATH ${TORCH_ROOT}/lib)

# CUDA: the toolkit's headers (or PyPI's nvidia packages), NCCL's header and the CUDA half of LibTorch.
find_path(CUDA_INCLUDE cuda_runtime_api.h
          HINTS $ENV{CUDA_HOME}/include /usr/local/cuda/include ${TORCH_ROOT}/../nvidia/cu13/include)
find_path(NCCL_INCLUDE nccl.h
          HINTS $ENV{CUDA_HOME}/include /usr/local/cuda/include ${TORCH_ROOT}/../nvidia/nccl/include)
find_library(TORCH_CUDA_LIBRARY torch_cuda PATHS ${TORCH_ROOT}/lib NO_DEFAULT_PATH)
find_library(NCCL_LIBRARY NAMES nccl libnccl.so.2
             HINTS ${TORCH_ROOT}/../nvidia/nccl/lib $ENV{CUDA_HOME}/lib64 /usr/local/cuda/lib64)
find_library(CUDART_LIBRARY NAMES cudart libcudart.so.13
             HINTS ${TORCH_ROOT}/../nvidia/cu13/lib $ENV{CUDA_HOME}/lib64 /usr/local/cuda/lib64)
set(cosub_cuda_found OFF)
if(CUDA_INCLUDE AND NCCL_INCLUDE AND TORCH_CUDA_LIBRARY AND NCCL_LIBRARY AND CUDART_LIBRARY)
  set(cosub_cuda_found ON)
endif()
option(COSUB_WITH_CUDA "Build the NCCL communicator" ${cosub_cuda_found})
if(COSUB_WITH_CUDA)
  find_library(C10_CUDA_LIBRARY c10_cuda PATHS ${TORCH_ROOT}/lib NO_DEFAULT_PATH REQUIRED)
  add_library(cosub_torch_cuda INTERFACE)
  add_library(cosub::torch_cuda ALIAS cosub_torch_cuda)
  target_include_directories(cosub_torch_cuda SYSTEM INTERFACE ${CUDA_INCLUDE} ${NCCL_INCLUDE})
  target_link_libraries(cosub_torch_cuda INTERFACE cosub::torch_cpu
    -Wl,--no-as-needed ${TORCH_CUDA_LIBRARY} ${C10_CUDA_LIBRARY} ${NCCL_LIBRARY} ${CUDART_LIBRARY} -Wl,--as-needed)
endif()

# nvJPEG: part of a full toolkit, or PyPI's nvidia-nvjpeg.
find_path(NVJPEG_INCLUDE nvjpeg.h
          HINTS ${TORCH_ROOT}/../nvidia/cu13/include $ENV{CUDA_HOME}/include /usr/local/cuda/include)
find_library(NVJPEG_LIBRARY NAMES nvjpeg libnvjpeg.so.13
             HINTS ${TORCH_ROOT}/../nvidia/cu13/lib $ENV{CUDA_HOME}/lib64 /usr/local/cuda/lib64)
set(cosub_nvjpeg_found OFF)
if(COSUB_WITH_CUDA AND NVJPEG_INCLUDE AND NVJPEG_LIBRARY)
  set(cosub_nvjpeg_found ON)
endif()
option(COSUB_WITH_NVJPEG "Build the nvJPEG decoder" ${cosub_nvjpeg_found})
if(COSUB_WITH_NVJPEG)
  if(NOT cosub_nvjpeg_found)
    message(FATAL_ERROR "COSUB_WITH_NVJPEG needs COSUB_WITH_CUDA, nvjpeg.h and libnvjpeg (pip install nvidia-nvjpeg)")
  endif()
  add_library(cosub_nvjpeg_library INTERFACE)
  add_library(cosub::nvjpeg ALIAS cosub_nvjpeg_library)
  target_include_directories(cosub_nvjpeg_library SYSTEM INTERFACE ${NVJPEG_INCLUDE})
  target_link_libraries(cosub_nvjpeg_library INTERFACE ${NVJPEG_LIBRARY})
endif()
message(STATUS "LibTorch: ${TORCH_ROOT} (NCCL communicator: ${COSUB_WITH_CUDA}, nvJPEG: ${COSUB_WITH_NVJPEG})")
