if(COSUB_SANITIZER)
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${COSUB_SANITIZER}>
                      $<$<COMPILE_LANGUAGE:CXX>:-fno-omit-frame-pointer> $<$<COMPILE_LANGUAGE:CXX>:-g1>)
  add_link_options(-fsanitize=${COSUB_SANITIZER})
  if(COSUB_SANITIZER STREQUAL "address")
    add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fsanitize=undefined>
                        $<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize-recover=undefined>)
    add_link_options(-fsanitize=undefined)
  endif()
  # GCC 12 reports false positives in inlined library code under a sanitizer.
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-Wno-error=maybe-uninitialized>
                      $<$<COMPILE_LANGUAGE:CXX>:-Wno-error=tsan>)
endif()
