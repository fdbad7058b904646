// Files that are there whole or not at all, and the few durable file operations everything else is built
// from. Errors are IoError naming path and errno text. Everything here blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace cosub {

/// Writes `path` through a temporary beside it: write, fsync, rename, fsync of the folder. `mode` as for
/// open(2).
void write_file_atomically(const std::filesystem::path& path, std::string_view content, int mode = 0644);

/// The two halves of that, for content that is written piece by piece: a name beside `path` that tells who
/// writes (remove_stale_temporaries asks whether that one lives), and rename(2) over `path` with the fsync of
/// its folder; the file itself is fsynced before.
std::filesystem::path temporary_beside(const std::filesystem::path& path);
void replace_file(const std::filesystem::path& from, const std::filesystem::path& path);

/// Writes and fsyncs `path` and its folder; refuses to replace an existing file.
void write_new_file(const std::filesystem::path& path, std::span<const std::byte> content, int mode = 0644);

void fsync_path(const std::filesystem::path& path);  // file or folder

/// The whole file as bytes; IoError when it cannot be read.
std::string read_file(const std::filesystem::path& path);
std::optional<std::string> read_file_if_there(const std::filesystem::path& path);  // nullopt: no such file

/// rename(2) that never replaces (RENAME_NOREPLACE, or link+unlink where a file system lacks it); false when
/// `to` exists. Then fsyncs the parent of `to`.
bool rename_new(const std::filesystem::path& from, const std::filesystem::path& to);

/// link(2): exactly one `from` on a shared file system wins. False when `to` exists and is another file than
/// `from` (a network file system that repeats a request reports its own success as "exists").
bool link_new(const std::filesystem::path& from, const std::filesystem::path& to);

/// Lower-case hex SHA-256 of a file (streamed) and XXH3-64 of bytes (16 hex digits).
std::string sha256_file(const std::filesystem::path& path);
std::string xxh3_hex(std::span<const std::byte> bytes);
std::string xxh3_file(const std::filesystem::path& path);

/// Bytes free for this user on the file system that holds `path` (which need not exist yet).
std::uint64_t free_bytes(const std::filesystem::path& path);

/// Removes what processes of this host that died left behind: NAME.tmp.HOST.PID.* beside files written
/// atomically.
void remove_stale_temporaries(const std::filesystem::path& folder);

}  // namespace cosub
