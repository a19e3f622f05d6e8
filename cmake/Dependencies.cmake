# Every third-party dependency and its oldest accepted version, in one place.
# All of them are Debian packages (see tools/setup.sh); the Rust crates are pinned in octet/text/rust/Cargo.lock.
find_package(Threads REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(CLI11 2.1 REQUIRED)
if(OCTET_TESTS)
  find_package(GTest 1.12 REQUIRED)
endif()
# MPI is optional: without it a model runs in one process. Its C++ bindings, long withdrawn, are not used.
set(OCTET_MPI_FOUND FALSE)
if(NOT OCTET_MPI STREQUAL "OFF")
  set(MPI_CXX_SKIP_MPICXX TRUE)
  if(OCTET_MPI STREQUAL "ON")
    find_package(MPI 3.1 REQUIRED COMPONENTS CXX)
  else()
    find_package(MPI 3.1 QUIET COMPONENTS CXX)
  endif()
  set(OCTET_MPI_FOUND ${MPI_CXX_FOUND})
endif()
