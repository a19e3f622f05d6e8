// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/ranks.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/cli/args.h"
#include "apps/cli/signals.h"
#include "octet/base/cpu_features.h"
#include "octet/comm/factory.h"
#include "octet/llm/follow.h"

namespace octet::cli {
namespace {

/// What a launcher says of this process before it is connected: nothing, for those that are not listed.
struct Launch {
  int64_t rank = 0;
  int64_t processes = 1;
  bool known = false;
};

int64_t number(const char* text, int64_t otherwise) {
  const std::string_view digits = text == nullptr ? "" : text;
  int64_t value = otherwise;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return error == std::errc() && end == digits.data() + digits.size() ? value : otherwise;
}

Launch launch() {
  struct Names {
    const char* processes;
    const char* rank;
  };
  constexpr std::array<Names, 3> kLaunchers = {{{"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"},
                                                {"PMI_SIZE", "PMI_RANK"},
                                                {"MPI_LOCALNRANKS", "MPI_LOCALRANKID"}}};
  for (const Names& names : kLaunchers) {
    const char* processes = std::getenv(names.processes);
    if (processes == nullptr) continue;
    return {.rank = number(std::getenv(names.rank), 0), .processes = number(processes, 1), .known = true};
  }
  return {};
}

std::string how_to_start(int64_t ranks) {
  return "mpirun -n " + std::to_string(ranks) + " octet ... --tensor-parallel-size " + std::to_string(ranks);
}

void check_launch(int64_t ranks) {
  const Launch found = launch();
  if (ranks > 1 && !has_mpi()) return;  // which the factory says
  const bool alone = ranks > 1 && !found.known && std::getenv("PMIX_RANK") == nullptr;
  if (!alone && (!found.known || found.processes == ranks)) return;
  throw UsageError("--tensor-parallel-size " + std::to_string(ranks) + ": expected " + std::to_string(ranks) +
                   (ranks == 1 ? " process" : " processes") + ", found " + std::to_string(found.processes) +
                   "; start it with " + how_to_start(std::max(ranks, found.processes)));
}

/// This machine and the cores that this process may use, as one number.
uint64_t place_of_process() {
  std::array<char, 256> host{};
  (void)::gethostname(host.data(), host.size() - 1);
  std::string text = host.data();
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("Cpus_allowed:")) text += line;
  }
  return std::hash<std::string>()(text);
}

/// The cores that this process may use, shared with the ranks that may use the same ones: launchers bind
/// ranks to cores of their own, or leave all to all.
int threads_of(Communicator& communicator) {
  const uint64_t own = place_of_process();
  std::vector<uint64_t> places(static_cast<size_t>(communicator.world_size()));
  communicator.all_gather(std::as_bytes(std::span(&own, 1)), std::as_writable_bytes(std::span(places)));
  const auto sharers = static_cast<int>(std::ranges::count(places, own));
  return std::max(1, usable_cores() / sharers);
}

/// mpirun binds each of two ranks to one core unless told otherwise.
void warn_of_binding(const Communicator& communicator, int threads, const Console& console) {
  const auto cores = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN)) / communicator.local_ranks();
  if (threads >= cores || usable_cores() >= cores) return;
  console.warn("each rank is bound to " + std::to_string(usable_cores()) + " cores where " +
               std::to_string(cores) + " could be had; mpirun --bind-to none lets it use them");
}

}  // namespace

void Ranks::connect(ModelArgs& args) {
  check_launch(args.tensor_parallel_size);
  if (args.tensor_parallel_size == 1) return;
  communicator_ =
      make_communicator({.world_size = args.tensor_parallel_size, .stop_requested = stop_requested});
  args.options.model.communicator = communicator_.get();
  int& threads = args.options.model.device.threads;
  if (threads == 0) threads = threads_of(*communicator_);
  if (communicator_->rank() == 0) warn_of_binding(*communicator_, threads, Console(args.console));
}

void Ranks::run(Command& command) {
  ModelArgs* args = command.model_args();
  if (args == nullptr) return command.run();
  connect(*args);
  if (!communicator_) return command.run();
  if (communicator_->rank() != 0) return command.follow();
  try {
    command.run();
  } catch (const ClosedPipe&) {  // whoever read has gone, between two steps
    end_followers(*communicator_);
    throw;
  }
  end_followers(*communicator_);
}

bool Ranks::speaks() const {
  return communicator_ ? communicator_->rank() == 0 : launch().rank == 0;
}

void Ranks::end(int exit_code) const {
  if (!communicator_) return;
  const RankFailure failure = RankFailure::of(std::current_exception());
  (void)communicator_->report_failure(failure);
  const bool stopped = failure.kind == RankFailure::Kind::kInterrupted;
  if (communicator_->rank() != 0) {  // rank 0 has not answered: it waits for a person, or is lost
    print_error(stopped ? "stopped"
                        : "rank " + std::to_string(communicator_->rank()) + ": " + failure.message);
  }
  communicator_->end_all_ranks(exit_code);
}

}  // namespace octet::cli
