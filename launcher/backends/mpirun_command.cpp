#include "launcher/backends/mpirun_command.h"

#include <algorithm>
#include <string_view>

namespace cosub::launcher {
namespace {

using Words = std::vector<std::string>;

void append(Words& to, const Words& more) {
  to.insert(to.end(), more.begin(), more.end());
}

std::string joined(const Words& words, const std::string& separator) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : separator) + word;
  return text;
}

bool has_prefix(const std::string& name, std::initializer_list<std::string_view> prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(), [&](auto prefix) { return name.starts_with(prefix); });
}

}  // namespace

std::vector<std::string> mpirun_command(const LaunchSpec& spec) {
  Words argv{"mpirun", "-n", std::to_string(spec.ranks)};
  // Ranks set their own thread counts: a binding would put all threads of a rank on one core.
  append(argv, {"--bind-to", "none", "--oversubscribe", "--stdin", "none", "--tag-output"});
  // With the defaults (300 s + 9 x 20 s) a host that is cut off goes unseen for minutes; so it is 10 s.
  append(argv, {"--mca", "oob_tcp_keepalive_time", "5", "--mca", "oob_tcp_keepalive_intvl", "2"});
  append(argv, {"--mca", "oob_tcp_keepalive_probes", "3"});
  if (spec.hosts.empty()) {
    const std::string scratch = scratch_folder(spec.uuid).string();
    append(argv, {"--mca", "btl", "self,vader", "--mca", "orte_tmpdir_base", scratch});
    append(argv, {"--mca", "btl_vader_backing_directory", scratch});
  } else {
    append(argv, {"--host", joined(spec.hosts, ",")});
  }
  for (const auto& [name, value] : rank_environment(spec)) append(argv, {"-x", name + "=" + value});
  append(argv, spec.launcher_flags);
  append(argv, spec.worker_argv);
  return argv;
}

std::map<std::string, std::string> rank_environment(const LaunchSpec& spec) {
  std::map<std::string, std::string> environment = spec.environment;
  environment.try_emplace("OMP_WAIT_POLICY", "passive");
  environment["COSUB_ATTEMPT"] = spec.uuid;
  return environment;
}

std::map<std::string, std::string> mpirun_environment(const LaunchSpec& spec, bool as_root) {
  std::map<std::string, std::string> environment{{"COSUB_ATTEMPT", spec.uuid}};
  if (as_root) {
    environment["OMPI_ALLOW_RUN_AS_ROOT"] = "1";
    environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1";
  }
  return environment;
}

std::vector<std::string> names_to_unset(const std::vector<std::string>& environment) {
  const auto inside_mpi_job = [](const std::string& name) {
    return name == "PMIX_RANK" || name == "OMPI_COMM_WORLD_RANK";
  };
  const bool nested = std::any_of(environment.begin(), environment.end(), inside_mpi_job);
  std::vector<std::string> names;
  for (const std::string& name : environment) {
    if (has_prefix(name, {"OMPI_ALLOW_RUN_AS_ROOT"})) continue;
    if (has_prefix(name, {"SLURM_", "PMIX_", "PMI_", "PBS_", "LSB_"}) ||
        (nested && has_prefix(name, {"OMPI_", "ORTE_", "OPAL_"}))) {
      names.push_back(name);
    }
  }
  return names;
}

std::filesystem::path scratch_folder(const std::string& uuid) {
  return "/dev/shm/cosub-" + uuid;
}

std::string shell_quoted(const std::vector<std::string>& argv) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./,:@%";
  Words quoted;
  for (const std::string& word : argv) {
    if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) {
      quoted.push_back(word);
      continue;
    }
    std::string text = "'";
    for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
    quoted.push_back(text + "'");
  }
  return joined(quoted, " ");
}

}  // namespace cosub::launcher
