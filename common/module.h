// Parts of a program that are loaded only where they are needed, because they bring in libraries that not
// every host has (CUDA's): lib/libNAME.so of the same build, with one C function that is found by its name.
#pragma once

#include <filesystem>
#include <string>

namespace cosub {

/// Where module `name` is, or would be.
std::filesystem::path module_path(const std::string& name);

/// The address of `function` in a module, which stays loaded for the life of the process. IoError.
void* load_function(const std::filesystem::path& module, const char* function);

}  // namespace cosub
