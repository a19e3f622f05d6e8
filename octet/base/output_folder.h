// SPDX-License-Identifier: Apache-2.0
/// A folder that is written whole or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace octet {

/// Files are put into `staging()`, a folder beside the target, which takes the target's name on commit();
/// without that it is removed with all it holds. A process that is killed leaves its folder behind; the next
/// one with the same target removes it. Those of living processes are locked and stay. Neither copied nor
/// moved. One thread at a time.
class OutputFolder {
 public:
  enum class Existing {
    kRefuse,   ///< the target must not be there, or be an empty folder
    kReplace,  ///< a model's folder (with config.json or params.json) may be there, and stays until commit()
  };
  /// Throws ArgumentError when the target is in the way, DeviceError when nothing can be made beside it.
  OutputFolder(const std::filesystem::path& target, Existing existing);
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  [[nodiscard]] const std::filesystem::path& target() const { return target_; }
  [[nodiscard]] const std::filesystem::path& staging() const { return staging_; }
  /// What killed processes had left behind and the constructor removed.
  [[nodiscard]] const std::vector<std::filesystem::path>& removed() const { return removed_; }
  /// Throws DeviceError saying what is needed and what is free, when `bytes` do not fit on the disk.
  void require_space(int64_t bytes) const;
  /// Puts the folder in place; one that was there is replaced in one step. Throws DeviceError, and then what
  /// was there is there still.
  void commit();

 private:
  void check_target(Existing existing) const;
  void remove_leftovers();
  void make_staging();
  void replace_existing();

  std::filesystem::path target_;
  std::filesystem::path staging_;  // empty after commit
  int lock_ = -1;                  // of the folder that is written, as long as this process lives
  std::vector<std::filesystem::path> removed_;
};

}  // namespace octet
