# cosub_precompiled_header(NAME headers... LINK libraries...): the target cosub_NAME_pch, which others reuse. Each takes 5 to 40 s,
# once. It must not link what reuses it.
function(cosub_precompiled_header name)
  cmake_parse_arguments(arg "" "" "LINK" ${ARGN})
  add_library(cosub_${name}_pch STATIC ${CMAKE_SOURCE_DIR}/cmake/precompiled.cpp)
  target_precompile_headers(cosub_${name}_pch PRIVATE ${arg_UNPARSED_ARGUMENTS})
  target_link_libraries(cosub_${name}_pch PUBLIC ${arg_LINK})
endfunction()
