// SPDX-License-Identifier: Apache-2.0
#include "tests/support/source_dir.h"

namespace octet {

// The one file that is compiled with the place: the others are the same in every checkout, to a compiler
// cache too.
std::filesystem::path source_dir() {
  return OCTET_SOURCE_DIR;
}

}  // namespace octet
