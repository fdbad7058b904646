# The C++ compiler's: nvcc knows none of these.
foreach(option IN ITEMS -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Winvalid-pch -Werror=invalid-pch -fpch-preprocess)
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:${option}>)
endforeach()
if(COSUB_WERROR)
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
