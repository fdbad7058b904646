# Compile through ccache where it is there. The launcher sets what a precompiled header needs to be cached; paths
# below the source folder are hashed relative to it, so that a second clone finds what the first has compiled.
# INODECACHE: the precompiled header (half a gigabyte) is hashed once, not for each file that includes it (1.2 s).
# DEPEND: a miss is compiled at once, from the compiler's own list of headers, without preprocessing it first.
find_program(COSUB_CCACHE ccache)
if(COSUB_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      CCACHE_BASEDIR=${CMAKE_SOURCE_DIR}
      CCACHE_NOHASHDIR=1
      CCACHE_INODECACHE=1
      CCACHE_DEPEND=1
      ${COSUB_CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${COSUB_CCACHE})
endif()
