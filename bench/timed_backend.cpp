// SPDX-License-Identifier: Apache-2.0
#include "bench/timed_backend.h"

namespace octet::bench {

const char* step_part_name(StepPart part) {
  switch (part) {
    case StepPart::kMatrices:
      return "matrices";
    case StepPart::kAttention:
      return "attention";
    case StepPart::kCacheStore:
      return "keys and values";
    case StepPart::kNorms:
      return "norms";
    case StepPart::kRotary:
      return "rotary positions";
    case StepPart::kGates:
      return "activation functions";
    case StepPart::kSums:
      return "sums";
    case StepPart::kEmbedding:
      return "embedding";
    case StepPart::kQuantize:
      return "quantizing activations";
  }
  return "";
}

}  // namespace octet::bench
