// SPDX-License-Identifier: Apache-2.0
/// Enumerations and plain option structs. The names that users write are in python/octet/_options.py.
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "octet/layers/fp8_gemm.h"
#include "octet/llm/llm.h"
#include "python/bindings/bindings.h"

namespace octet::python {

namespace nb = nanobind;

namespace {

void register_enums(nb::module_& module) {
  nb::enum_<DType>(module, "DType")
      .value("F32", DType::kF32)
      .value("F16", DType::kF16)
      .value("BF16", DType::kBF16)
      .value("F8_E4M3", DType::kF8E4M3)
      .value("F8_E5M2", DType::kF8E5M2);
  nb::enum_<Granularity>(module, "Granularity")
      .value("TENSOR", Granularity::kTensor)
      .value("CHANNEL", Granularity::kChannel)
      .value("BLOCK", Granularity::kBlock);
  nb::enum_<NumericsProfile>(module, "NumericsProfile")
      .value("VLLM", NumericsProfile::kVllm)
      .value("COMPRESSED_TENSORS", NumericsProfile::kCompressedTensors);
  nb::enum_<ActivationScheme>(module, "ActivationScheme")
      .value("AUTO", ActivationScheme::kAuto)
      .value("NONE", ActivationScheme::kNone)
      .value("DYNAMIC", ActivationScheme::kDynamic)
      .value("STATIC", ActivationScheme::kStatic);
  nb::enum_<LoadFormat>(module, "LoadFormat")
      .value("AUTO", LoadFormat::kAuto)
      .value("DUMMY", LoadFormat::kDummy);
  nb::enum_<CpuIsa>(module, "CpuIsa")
      .value("PORTABLE", CpuIsa::kPortable)
      .value("AVX2", CpuIsa::kAvx2)
      .value("AVX512", CpuIsa::kAvx512)
      .value("AVX512_BF16", CpuIsa::kAvx512Bf16)
      .value("AMX_BF16", CpuIsa::kAmxBf16);
  nb::enum_<Fp8WeightScale>(module, "Fp8WeightScale")
      .value("TENSOR", Fp8WeightScale::kTensor)
      .value("CHANNEL", Fp8WeightScale::kChannel);
}

/// A member of a nested struct as a property of the outer one.
template <class T, class Get>
void add_field(nb::class_<T>& bound, const char* name, Get get) {
  using Field = std::remove_reference_t<decltype(get(std::declval<T&>()))>;
  bound.def_prop_rw(
      name, [get](T& self) -> Field { return get(self); },
      [get](T& self, Field value) { get(self) = std::move(value); }, nb::for_setter(nb::arg("value").none()));
}

}  // namespace

void register_options(nb::module_& module) {
  register_enums(module);
  nb::class_<LlmOptions> options(module, "LlmOptions");
  options.def(nb::init<>());
  add_field(options, "quantization", [](LlmOptions& o) -> auto& { return o.model.quant.quantization; });
  add_field(options, "fp8_format", [](LlmOptions& o) -> auto& { return o.model.quant.fp8_format; });
  add_field(options, "raw_cast", [](LlmOptions& o) -> auto& { return o.model.quant.raw_cast; });
  add_field(options, "fp8_lm_head", [](LlmOptions& o) -> auto& { return o.model.quant.fp8_lm_head; });
  add_field(options, "fp8_embedding", [](LlmOptions& o) -> auto& { return o.model.quant.fp8_embedding; });
  add_field(options, "ignore", [](LlmOptions& o) -> auto& { return o.model.quant.ignore; });
  add_field(options, "numerics", [](LlmOptions& o) -> auto& { return o.model.quant.numerics; });
  add_field(options, "activation_scheme",
            [](LlmOptions& o) -> auto& { return o.model.quant.activation_scheme; });
  add_field(options, "dtype", [](LlmOptions& o) -> auto& { return o.model.dtype; });
  add_field(options, "load_format", [](LlmOptions& o) -> auto& { return o.model.load_format; });
  add_field(options, "page_cache", [](LlmOptions& o) -> auto& { return o.model.drop_page_cache; });
  add_field(options, "allow_nonfinite", [](LlmOptions& o) -> auto& { return o.model.allow_nonfinite; });
  add_field(options, "device", [](LlmOptions& o) -> auto& { return o.model.device.device; });
  add_field(options, "threads", [](LlmOptions& o) -> auto& { return o.model.device.threads; });
  add_field(options, "isa", [](LlmOptions& o) -> auto& { return o.model.device.isa; });
  add_field(options, "kv_cache_dtype", [](LlmOptions& o) -> auto& { return o.kv_cache_dtype; });
  add_field(options, "kv_cache_memory", [](LlmOptions& o) -> auto& { return o.kv_cache_memory; });
  add_field(options, "max_model_len", [](LlmOptions& o) -> auto& { return o.max_model_len; });
  add_field(options, "max_num_seqs", [](LlmOptions& o) -> auto& { return o.max_num_seqs; });
}

}  // namespace octet::python
