# Every third-party dependency and its oldest accepted version, in one place.
# All of them are Debian packages (see tools/setup.sh); the Rust crates are pinned in octet/text/rust/Cargo.lock.
find_package(Threads REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(CLI11 2.1 REQUIRED)
if(OCTET_TESTS)
  find_package(GTest 1.12 REQUIRED)
endif()
