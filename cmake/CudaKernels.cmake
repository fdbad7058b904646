# nvcc for our own kernels (worker/kernels): part of a toolkit, or PyPI's nvidia-cuda-nvcc. After LibTorch.cmake.
find_program(COSUB_NVCC nvcc
             HINTS $ENV{CUDA_HOME}/bin /usr/local/cuda/bin ${TORCH_ROOT}/../nvidia/cu13/bin)
set(cosub_kernels_possible OFF)
if(COSUB_WITH_CUDA AND COSUB_NVCC)
  set(cosub_kernels_possible ON)
endif()
option(COSUB_WITH_KERNELS "Build our CUDA kernels" ${cosub_kernels_possible})
if(COSUB_WITH_KERNELS)
  if(NOT cosub_kernels_possible)
    message(FATAL_ERROR "COSUB_WITH_KERNELS needs COSUB_WITH_CUDA and nvcc (PyPI has it as nvidia-cuda-nvcc)")
  endif()
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    set(CMAKE_CUDA_COMPILER ${COSUB_NVCC})
  endif()
  # PyPI's packages have lib, where nvcc looks in lib64.
  get_filename_component(cudart_folder ${CUDART_LIBRARY} DIRECTORY)
  set(CMAKE_CUDA_FLAGS_INIT "-L${cudart_folder}")
  set(CMAKE_CUDA_ARCHITECTURES "80-real;86-real;89-real;90" CACHE STRING "GPUs that the kernels are compiled for")
  set(CMAKE_CUDA_STANDARD 17)  # CMake 3.25 knows no CUDA20 of nvcc 13
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  enable_language(CUDA)
endif()

# Headers alone: PyPI's nvidia-cutlass, or a checkout of CUTLASS 3.8 or later.
find_path(CUTLASS_INCLUDE cutlass/epilogue/fusion/sm90_callbacks_tma_warpspecialized.hpp
          HINTS $ENV{CUTLASS_HOME}/include ${TORCH_ROOT}/../cutlass_library/source/include)
set(cosub_cutlass_possible OFF)
if(COSUB_WITH_KERNELS AND CUTLASS_INCLUDE)
  set(cosub_cutlass_possible ON)
endif()
option(COSUB_WITH_CUTLASS "Build the products with GELU in their last pass, for Hopper" ${cosub_cutlass_possible})
if(COSUB_WITH_CUTLASS AND NOT cosub_cutlass_possible)
  message(FATAL_ERROR "COSUB_WITH_CUTLASS needs COSUB_WITH_KERNELS and CUTLASS's headers (PyPI has them as "
                      "nvidia-cutlass; otherwise set CUTLASS_HOME)")
endif()
message(STATUS "CUDA kernels: ${COSUB_WITH_KERNELS}, with CUTLASS: ${COSUB_WITH_CUTLASS}")
