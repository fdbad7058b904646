# The C++ compiler's: nvcc knows none of these.
foreach(option IN ITEMS -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Winvalid-pch -Werror=invalid-pch -fpch-preprocess)
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:${option}>)
endforeach()
if(CMAKE_UNITY_BUILD)  # it takes a .cpp file for a header
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-Wno-subobject-linkage>)
endif()
if(COSUB_WERROR)
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
