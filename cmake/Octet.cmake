# octet_library(NAME SOURCES ... DEPS ...): one static library per folder, with the project's flags.
# octet_test(NAME SOURCES ... DEPS ... [LABELS ...]): one test program; every TEST in it is a ctest case. The programs
# labelled "threads" are what ThreadSanitizer runs; the target threads_tests builds them and no other.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

find_program(OCTET_CCACHE ccache)
if(OCTET_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${OCTET_CCACHE}")
endif()

add_library(octet_flags INTERFACE)
target_include_directories(octet_flags INTERFACE "${CMAKE_SOURCE_DIR}")
target_compile_options(octet_flags INTERFACE -Wall -Wextra -Wconversion -Wshadow)
# The numbers are a promise: no contraction of a*b+c into one rounding unless a kernel asks for it by name.
target_compile_options(octet_flags INTERFACE -ffp-contract=off)
# From CMake 4 on: batches of sources name them by relative paths, so that a compiler cache serves every checkout.
set(CMAKE_UNITY_BUILD_RELOCATABLE ON)
# In a batch of sources (CMAKE_UNITY_BUILD) GCC takes the batch's own for a header.
if(CMAKE_UNITY_BUILD AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(octet_flags INTERFACE -Wno-subobject-linkage)
endif()
if(OCTET_WERROR)
  target_compile_options(octet_flags INTERFACE -Werror)
endif()
if(OCTET_SANITIZE)
  # Reads and writes by a null pointer or past an allocation are AddressSanitizer's findings. What this leaves out
  # (a reference bound to null that nobody reads) costs up to a fifth of the time in which a source compiles.
  target_compile_options(octet_flags INTERFACE -fsanitize=${OCTET_SANITIZE} -fno-sanitize=null,object-size
    -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(octet_flags INTERFACE -fsanitize=${OCTET_SANITIZE})
  # For kernels: checks as calls and not in line, and they compile in a fourth of the time or less.
  set(OCTET_SANITIZE_KERNELS -fno-sanitize-address-use-after-scope)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    list(APPEND OCTET_SANITIZE_KERNELS --param=asan-instrumentation-with-call-threshold=0)
  endif()
endif()

# For the library, and for the tests whose own loops take time: sanitized builds are not optimized elsewhere, as they
# are compiled more than they run.
macro(octet_optimize_sanitized)
  if(OCTET_SANITIZE)
    add_compile_options(-O1)
  endif()
endmacro()

# For programs that are compiled more often than they run long, in the builds that run tests: what takes time in them
# is in the libraries.
function(octet_compile_quickly name)
  if(CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo" AND NOT OCTET_SANITIZE)
    target_compile_options(${name} PRIVATE -O1)
  endif()
endfunction()

function(octet_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC octet_flags ${ARG_DEPS})
endfunction()

# Builds every test program of the chosen folders, and nothing else.
add_custom_target(octet_tests)

function(octet_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE octet_flags ${ARG_DEPS} octet_test_support GTest::gtest GTest::gmock GTest::gtest_main)
  octet_compile_quickly(${name})
  add_dependencies(octet_tests ${name})
  if("threads" IN_LIST ARG_LABELS)
    add_dependencies(threads_tests ${name})
  endif()
  include(GoogleTest)
  gtest_discover_tests(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT 600 DISCOVERY_TIMEOUT 60)
endfunction()
