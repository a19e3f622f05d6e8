// SPDX-License-Identifier: Apache-2.0
/// Run by mpirun: the checks of a communicator over MPI, and what becomes of a rank that fails.
///   mpi_ranks N             N ranks agree in all collective calls
///   mpi_ranks N fail RANK   RANK throws while the others wait: rank 0 says so and ends all with exit code 3
#include <cstdlib>
#include <iostream>
#include <string>

#include "octet/base/error.h"
#include "octet/comm/factory.h"
#include "tests/comm/communicator_checks.h"

namespace {

int run(octet::Communicator& communicator, int failing_rank) {
  try {
    if (failing_rank == communicator.rank()) throw octet::DeviceError("this rank fails");
    octet::test::check_communicator(communicator);
    if (failing_rank >= 0) communicator.barrier();
    return 0;
  } catch (...) {
    const octet::RankFailure failure = octet::RankFailure::of(std::current_exception());
    (void)communicator.report_failure(failure);
    std::cerr << "failed: " << failure.message << '\n' << std::flush;
    communicator.end_all_ranks(3);
    return 3;
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int size = argc > 1 ? std::atoi(argv[1]) : 1;
  const int failing_rank = argc > 3 ? std::atoi(argv[3]) : -1;
  const auto communicator = octet::make_communicator({.world_size = size});
  const int code = run(*communicator, failing_rank);
  if (code == 0 && communicator->rank() == 0) std::cout << size << " ranks agree\n";
  return code;
}
