# Compile through ccache where it is there. The launcher sets what a precompiled header needs to be cached.
find_program(COSUB_CCACHE ccache)
if(COSUB_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      ${COSUB_CCACHE})
endif()
