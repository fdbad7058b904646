// What the subcommands of `cosub` share: how one is registered and how it hands back its exit code.
// Each subcommand is one file with one add_NAME function; main.cpp calls them all and runs the one that was
// named.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

namespace cosub::commands {

/// Set by the chosen subcommand's callback; run after parsing, returns the program's exit code.
struct Chosen {
  std::function<int()> run;
};

void add_run(CLI::App& app, Chosen& chosen);
void add_submit(CLI::App& app, Chosen& chosen);
void add_status(CLI::App& app, Chosen& chosen);
void add_watch(CLI::App& app, Chosen& chosen);
void add_cancel(CLI::App& app, Chosen& chosen);
void add_doctor(CLI::App& app, Chosen& chosen);

/// bench, data, eval, export, model: replaces this process by `cosub-worker NAME arguments...`, where tensors
/// and samples live. Returns only by throwing IoError.
[[noreturn]] void exec_worker(const std::vector<std::string>& arguments);
bool is_worker_command(const std::string& name);

}  // namespace cosub::commands
