// SPDX-License-Identifier: Apache-2.0
#include "octet/comm/mpi_communicator.h"

#include <mpi.h>

#include <chrono>
#include <string>
#include <thread>
#include <utility>

#include "octet/base/clock.h"
#include "octet/base/cpu_features.h"
#include "octet/base/error.h"

namespace octet {
namespace {

constexpr int kFailureTag = 1;
/// How long a failed rank waits for rank 0 to speak for it.
constexpr std::chrono::seconds kRankZeroPatience{5};

void mpi_check(int status, const char* action) {
  if (status == MPI_SUCCESS) return;
  std::string text(MPI_MAX_ERROR_STRING, '\0');
  int length = 0;
  MPI_Error_string(status, text.data(), &length);
  text.resize(static_cast<size_t>(length));
  throw DeviceError("MPI: cannot " + std::string(action) + ": " + text);
}

int count_of(size_t bytes) {
  return static_cast<int>(bytes);  // at most kMostBytes
}

/// Ranks wait for each other some tens of microseconds, a hundred times a token; or for minutes, while rank 0
/// waits for a person. So: first look again at once, then let others run, then sleep.
class Patience {
 public:
  /// True when it is time to look for bad news.
  bool pause() {
    const auto waited = Clock::now() - start_;
    if (waited < std::chrono::microseconds(50)) {
      cpu_relax();
      return false;
    }
    if (waited < std::chrono::milliseconds(5)) {
      std::this_thread::yield();
      return false;
    }
    const bool idle = waited > std::chrono::milliseconds(200);  // rank 0 waits for a person
    std::this_thread::sleep_for(std::chrono::microseconds(idle ? 2000 : 200));
    return true;
  }

  /// True when a rank that was asked to stop has given the others time to come.
  [[nodiscard]] bool over() const { return Clock::now() - start_ > std::chrono::milliseconds(500); }

 private:
  Clock::time_point start_ = Clock::now();
};

class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator(int rank, int world_size, std::function<bool()> stop_requested)
      : Communicator(rank, world_size),
        stop_requested_(std::move(stop_requested)),
        counts_(static_cast<size_t>(world_size)),
        places_(static_cast<size_t>(world_size)) {
    MPI_Comm node = MPI_COMM_NULL;
    mpi_check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node),
              "find the ranks of this machine");
    mpi_check(MPI_Comm_size(node, &local_ranks_), "count the ranks of this machine");
    MPI_Comm_free(&node);
  }

  ~MpiCommunicator() override {
    if (std::uncaught_exceptions() == 0) MPI_Finalize();
  }

  [[nodiscard]] int local_ranks() const override { return local_ranks_; }

  void barrier() override {
    MPI_Request request = MPI_REQUEST_NULL;
    mpi_check(MPI_Ibarrier(MPI_COMM_WORLD, &request), "wait for all ranks");
    wait(request);
  }

  void check() override {
    if (rank() != 0) {
      if (stop_requested()) throw Interrupted("stopped on request");
      return;
    }
    int there = 0;
    MPI_Status status;
    mpi_check(MPI_Iprobe(MPI_ANY_SOURCE, kFailureTag, MPI_COMM_WORLD, &there, &status), "look for failures");
    if (there != 0) take_failure(status);
  }

  bool report_failure(const RankFailure& failure) override {
    if (rank() == 0) return false;
    std::string bytes(1, static_cast<char>(failure.kind));
    bytes += failure.message;
    MPI_Request request = MPI_REQUEST_NULL;
    if (MPI_Isend(bytes.data(), count_of(bytes.size()), MPI_BYTE, 0, kFailureTag, MPI_COMM_WORLD, &request) !=
        MPI_SUCCESS)
      return false;
    const auto end = Clock::now() + kRankZeroPatience;
    while (Clock::now() < end) {  // rank 0 ends this process, too
      int done = 0;
      if (request != MPI_REQUEST_NULL) MPI_Test(&request, &done, MPI_STATUS_IGNORE);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }

  void end_all_ranks(int exit_code) override { MPI_Abort(MPI_COMM_WORLD, exit_code); }

 private:
  void gather_to_all(std::span<const std::byte> mine, std::span<std::byte> all) override {
    MPI_Request request = MPI_REQUEST_NULL;
    mpi_check(MPI_Iallgather(mine.data(), count_of(mine.size()), MPI_BYTE, all.data(), count_of(mine.size()),
                             MPI_BYTE, MPI_COMM_WORLD, &request),
              "gather from all ranks");
    wait(request);
  }

  void gather_to_first(std::span<const std::byte> mine, std::span<const int64_t> bytes,
                       std::span<std::byte> all) override {
    int place = 0;
    for (size_t r = 0; r < bytes.size(); ++r) {
      counts_[r] = static_cast<int>(bytes[r]);
      places_[r] = std::exchange(place, place + counts_[r]);
    }
    MPI_Request request = MPI_REQUEST_NULL;
    mpi_check(MPI_Igatherv(mine.data(), count_of(mine.size()), MPI_BYTE, all.data(), counts_.data(),
                           places_.data(), MPI_BYTE, 0, MPI_COMM_WORLD, &request),
              "gather to rank 0");
    wait(request);
  }

  void send_to_all(std::span<std::byte> bytes) override {
    MPI_Request request = MPI_REQUEST_NULL;
    mpi_check(MPI_Ibcast(bytes.data(), count_of(bytes.size()), MPI_BYTE, 0, MPI_COMM_WORLD, &request),
              "send to all ranks");
    wait(request);
  }

  [[nodiscard]] bool stop_requested() const { return stop_requested_ && stop_requested_(); }

  void wait(MPI_Request& request) {
    Patience patience;
    int done = 0;
    while (true) {
      mpi_check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "wait for another rank");
      if (done != 0) return;
      if (!patience.pause()) continue;
      check();
      if (patience.over() && stop_requested()) throw Interrupted("stopped while waiting for another rank");
    }
  }

  [[noreturn]] static void take_failure(const MPI_Status& status) {
    int size = 0;
    MPI_Get_count(&status, MPI_BYTE, &size);
    std::string bytes(static_cast<size_t>(size), '\0');
    mpi_check(MPI_Recv(bytes.data(), size, MPI_BYTE, status.MPI_SOURCE, kFailureTag, MPI_COMM_WORLD,
                       MPI_STATUS_IGNORE),
              "hear of a failure");
    octet::check(!bytes.empty(), "a failure has a kind");
    const RankFailure failure{static_cast<RankFailure::Kind>(bytes.front()), bytes.substr(1)};
    failure.raise(status.MPI_SOURCE);
  }

  std::function<bool()> stop_requested_;
  std::vector<int> counts_;
  std::vector<int> places_;
  int local_ranks_ = 1;
};

void start_mpi() {
  int started = 0;
  MPI_Initialized(&started);
  octet::check(started == 0, "MPI is started once in a process");
  int provided = 0;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) {
    throw DeviceError("MPI: cannot start; begin with mpirun -n N octet ...");
  }
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  if (provided < MPI_THREAD_FUNNELED)
    throw DeviceError("MPI: this installation cannot be used beside threads");
}

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(const CommunicatorOptions& options) {
  start_mpi();
  int rank = 0;
  int size = 0;
  mpi_check(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "learn this process's rank");
  mpi_check(MPI_Comm_size(MPI_COMM_WORLD, &size), "count the ranks");
  if (size != options.world_size) {
    MPI_Finalize();
    const std::string ranks = std::to_string(options.world_size);
    throw ConfigError("--tensor-parallel-size " + ranks + ": expected " + ranks + " processes, found " +
                      std::to_string(size) + "; start it with mpirun -n " + ranks + " octet ...");
  }
  return std::make_unique<MpiCommunicator>(rank, size, options.stop_requested);
}

bool has_mpi() {
  return true;
}

}  // namespace octet
