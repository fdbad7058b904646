add_compile_options(-Wall -Wextra -Wshadow -Wnon-virtual-dtor -Winvalid-pch -Werror=invalid-pch -fpch-preprocess)
if(COSUB_WERROR)
  add_compile_options(-Werror)
endif()
