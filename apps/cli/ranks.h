// SPDX-License-Identifier: Apache-2.0
/// A command over several processes (`mpirun -n N octet ... --tensor-parallel-size N`): rank 0 runs the
/// command and speaks, the others follow it.
#pragma once

#include <memory>

#include "apps/cli/command.h"
#include "octet/comm/communicator.h"

namespace octet::cli {

class Ranks {
 public:
  /// Runs the command, in the part that this process has. Throws UsageError when the number of processes is
  /// not what the options say.
  void run(Command& command);

  /// Whether this process prints errors: rank 0, or one that no launcher has made one of several.
  [[nodiscard]] bool speaks() const;
  /// After an error, said by rank 0 or not yet: hands it to rank 0 where this is another, and ends all ranks.
  /// Returns where there are no others. Call in a catch block.
  void end(int exit_code) const;

 private:
  void connect(ModelArgs& args);

  std::unique_ptr<Communicator> communicator_;  // of several ranks
};

}  // namespace octet::cli
