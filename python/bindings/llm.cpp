// SPDX-License-Identifier: Apache-2.0
/// octet._octet.Llm: the C++ LLM with its callbacks led to Python. Long calls run without the GIL; Ctrl-C is
/// looked for whenever the library reports.
#include "octet/llm/llm.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include "octet/base/process_memory.h"
#include "octet/checkpoint/model_folder.h"
#include "octet/llm/inspect.h"
#include "python/bindings/bindings.h"

namespace octet::python {

namespace nb = nanobind;

namespace {

using Prompts = std::vector<std::vector<int32_t>>;
using Logits = nb::ndarray<nb::numpy, float, nb::ndim<2>>;

/// Runs what handlers Python has for signals that came; throws when one raised (KeyboardInterrupt).
void check_signals() {
  if (PyErr_CheckSignals() != 0) throw nb::python_error();
}

/// Whether a callback's answer means to go on: anything but False.
bool goes_on(const nb::object& answer) {
  return !answer.is(nb::handle(Py_False));
}

LoadProgressCallback progress_callback(nb::object callback) {
  return [callback = std::move(callback)](const LoadProgress& progress) {
    const nb::gil_scoped_acquire gil;
    check_signals();
    if (callback.is_none()) return true;
    return goes_on(callback(progress));
  };
}

WarningSink warning_sink(nb::object callback) {
  return [callback = std::move(callback)](const std::string& text) {
    const nb::gil_scoped_acquire gil;
    callback(text);
  };
}

std::unique_ptr<LLM> open_llm(const std::filesystem::path& folder, LlmOptions options, nb::object progress,
                              nb::object warn) {
  options.model.progress = progress_callback(std::move(progress));
  if (!warn.is_none()) options.model.warn = warning_sink(std::move(warn));
  const nb::gil_scoped_release released;
  return std::make_unique<LLM>(folder, options);
}

std::vector<Generation> generate(LLM& llm, const Prompts& prompts, const GenerateOptions& options,
                                 const nb::object& on_text) {
  const TextCallback callback = [&on_text](size_t prompt, std::string_view text) {
    const nb::gil_scoped_acquire gil;
    check_signals();
    if (on_text.is_none()) return true;
    return goes_on(on_text(prompt, nb::str(text.data(), text.size())));
  };
  const nb::gil_scoped_release released;
  return llm.generate(prompts, options, callback);
}

/// All logits of a prompt, [T, V] float32.
Logits prompt_logits(LLM& llm, const std::vector<int32_t>& ids) {
  const auto cols = static_cast<size_t>(llm.model().spec().vocab_size);
  auto values = std::make_unique<std::vector<float>>();
  {
    const nb::gil_scoped_release released;
    llm.engine().prompt_logits(ids, [&](int64_t, ConstTensorView rows) {
      const nb::gil_scoped_acquire gil;
      check_signals();
      for (int64_t row = 0; row < rows.rows(); ++row) {
        const float* logits = rows.row<float>(row);
        values->insert(values->end(), logits, logits + cols);
      }
    });
  }
  float* data = values->data();
  const size_t rows = values->size() / cols;
  const nb::capsule owner(values.release(),
                          [](void* held) noexcept { delete static_cast<std::vector<float>*>(held); });
  return Logits(data, {rows, cols}, owner);
}

nb::dict memory(LLM& llm) {
  const LoadReport& report = llm.model().load_report();
  nb::dict result;
  result["weights_bytes"] = report.final_bytes;
  result["kv_cache_bytes"] = llm.engine().cache().bytes();
  result["peak_bytes"] = llm.model().ledger().peak();
  result["load_peak_bytes"] = report.peak_bytes;
  result["planned_load_peak_bytes"] = report.predicted_peak_bytes;
  result["process_peak_rss_bytes"] = process_memory().peak_resident_bytes;
  return result;
}

nb::str decode(const LLM& llm, const std::vector<int32_t>& ids, bool skip_special_tokens) {
  if (llm.tokenizer() == nullptr) throw ConfigError("the model's folder has no tokenizer");
  const std::string text = llm.tokenizer()->decode(ids, skip_special_tokens);
  return nb::str(text.data(), text.size());
}

void register_structs(nb::module_& module) {
  nb::class_<LoadProgress>(module, "LoadProgress")
      .def_ro("bytes_read", &LoadProgress::bytes_read)
      .def_ro("bytes_total", &LoadProgress::bytes_total)
      .def_ro("memory_bytes", &LoadProgress::memory_bytes)
      .def_ro("planned_peak_bytes", &LoadProgress::planned_peak_bytes);
  nb::class_<SamplingParams>(module, "SamplingParams")
      .def(nb::init<>())
      .def_rw("temperature", &SamplingParams::temperature)
      .def_rw("top_k", &SamplingParams::top_k)
      .def_rw("top_p", &SamplingParams::top_p)
      .def_rw("min_p", &SamplingParams::min_p)
      .def_rw("seed", &SamplingParams::seed)
      .def_rw("max_tokens", &SamplingParams::max_tokens)
      .def_rw("ignore_eos", &SamplingParams::ignore_eos)
      .def_rw("stop_token_ids", &SamplingParams::stop_token_ids);
  nb::class_<GenerateOptions>(module, "GenerateOptions")
      .def(nb::init<>())
      .def_rw("sampling", &GenerateOptions::sampling)
      .def_rw("stop", &GenerateOptions::stop);
  nb::class_<Generation>(module, "Generation")
      .def_ro("prompt_ids", &Generation::prompt_ids)
      .def_ro("ids", &Generation::ids)
      .def_ro("text", &Generation::text)
      .def_prop_ro(
          "finish_reason",
          [](const Generation& g) { return g.finish_reason == FinishReason::kStop ? "stop" : "length"; })
      .def_ro("prefill_seconds", &Generation::prefill_seconds)
      .def_ro("decode_seconds", &Generation::decode_seconds);
}

}  // namespace

void register_llm(nb::module_& module) {
  register_structs(module);
  nb::class_<LLM>(module, "Llm")
      .def("recommended_sampling", [](LLM& llm) { return llm.model().generation_config().sampling; })
      .def("encode", [](const LLM& llm, std::string_view text) { return llm.encode(text); })
      .def("encode_chat", [](const LLM& llm, std::string_view json) { return llm.encode_chat(json); })
      .def("decode", &decode)
      .def("generate", &generate, nb::arg("prompts"), nb::arg("options"), nb::arg("on_text").none())
      .def("logits", &prompt_logits)
      .def("memory", &memory)
      .def("load_report_json", [](LLM& llm) { return llm.model().load_report().to_json().dump(); })
      .def_prop_ro("has_tokenizer", [](const LLM& llm) { return llm.tokenizer() != nullptr; })
      .def_prop_ro("has_chat_template", [](const LLM& llm) { return llm.chat_template() != nullptr; })
      .def_prop_ro("vocab_size", [](LLM& llm) { return llm.model().spec().vocab_size; })
      .def_prop_ro("max_model_len", [](LLM& llm) { return llm.engine().options().max_model_len; })
      .def_prop_ro("device", [](LLM& llm) { return llm.model().backend().describe(); });
  module.def("open_llm", &open_llm, nb::arg("folder"), nb::arg("options"), nb::arg("progress").none(),
             nb::arg("warn").none());
  module.def("resolve_model_folder", [](std::string_view model, const std::filesystem::path& cache) {
    return resolve_model_folder(model, cache);
  });
}

}  // namespace octet::python
