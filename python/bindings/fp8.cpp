// SPDX-License-Identifier: Apache-2.0
/// octet._octet.Fp8Runtime: the FP8 multiply over memory that Python's tensors own, given as addresses.
#include "octet/layers/fp8_gemm.h"

#include <nanobind/stl/string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <mutex>

#include "octet/backend/cpu/ceilings.h"
#include "octet/backend/factory.h"
#include "python/bindings/bindings.h"
#include "python/bindings/tensor_exchange.h"

namespace octet::python {

namespace nb = nanobind;

namespace {

/// The element type of a dense operand as octet.torch numbers it.
constexpr DType kDTypes[] = {DType::kF32, DType::kF16, DType::kBF16};

DType dtype_of(int number) {
  check(number >= 0 && number < 3, "an operand is float32, float16 or bfloat16");
  return kDTypes[number];
}

/// Rows of a tensor in Python's memory: an address may be 0 where there are no elements.
struct Rows {
  uintptr_t address = 0;
  int dtype = 0;
  int64_t rows = 0;
  int64_t stride = 0;  ///< elements from one row to the next

  [[nodiscard]] TensorView view(int64_t cols) const {
    return {reinterpret_cast<std::byte*>(address), dtype_of(dtype), Shape{rows, cols}, stride};
  }
};

/// The codes of a weight in Python's memory. None is NaN: `quantize` makes none, and octet.torch looks for
/// them in what it loads.
struct Codes {
  uintptr_t address = 0;
  uintptr_t scales = 0;
  int64_t rows = 0;  // N
  int64_t cols = 0;  // K

  [[nodiscard]] QuantMatrixView view(MatrixLayout layout) const {
    return {.data = reinterpret_cast<std::byte*>(address),
            .dtype = DType::kF8E4M3,
            .rows = rows,
            .cols = cols,
            .layout = layout,
            .scale_kind = ScaleKind::kRow,
            .scales = reinterpret_cast<float*>(scales),
            .codes_finite = true};
  }
};

/// As kDTypes counts them, or -1.
int dtype_number(DlTensor::Type type) {
  if (type.code == DlTensor::kBfloat) return type.bits == 16 ? 2 : -1;
  if (type.code != DlTensor::kFloat) return -1;
  return type.bits == 32 ? 0 : type.bits == 16 ? 1 : -1;
}

/// Tensors of a call; `bias` may be None.
struct Operands {
  nb::handle x;
  nb::handle codes;
  nb::handle scales;
  nb::handle bias;
};

/// Zeros, in huge pages where the kernel has them: a multiply of one token else waits for the tables of small
/// ones. The pages at both ends may be others' as well, to whom the advice does no harm.
void clear(uintptr_t address, size_t bytes) {
  const nb::gil_scoped_release released;
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const uintptr_t first = address / page * page;
  const uintptr_t last = (address + bytes + page - 1) / page * page;
  ::madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
  std::memset(reinterpret_cast<void*>(address), 0, bytes);
}

/// How many E4M3 codes are NaN.
int64_t count_nan(uintptr_t address, int64_t count) {
  const nb::gil_scoped_release released;
  const auto* codes = reinterpret_cast<const uint8_t*>(address);
  return std::count_if(codes, codes + count, [](uint8_t code) { return (code & 0x7f) == 0x7f; });
}

/// One set of threads and one scratch for a process; calls from several threads wait for each other, without
/// the GIL.
class Fp8Runtime {
 public:
  /// `parallel`: the address of a ParallelCall on whose threads the loops run, or 0 for threads of its own;
  /// `exchange`: see TensorExchange.
  Fp8Runtime(int threads, uintptr_t parallel, nb::handle exchange)
      : exchange_(exchange),
        backend_(make_backend(
            {
                .device = "cpu",
                .threads = threads,
                .borrowed_threads = reinterpret_cast<ParallelCall>(parallel),
                .isa = std::nullopt,
            },
            ledger_)) {}

  [[nodiscard]] int threads() { return backend_->threads().threads(); }
  [[nodiscard]] std::string describe() { return backend_->describe(); }
  [[nodiscard]] int64_t packed_bytes(int64_t rows, int64_t cols) const {
    return matrix_bytes(backend_->weight_layout(), DType::kF8E4M3, rows, cols);
  }

  /// Operations a second that the vector units reach here and now in a loop of multiplications alone,
  /// bfloat16 ones where the processor has them: what a benchmark measures against. Of one thread's own time
  /// on request.
  [[nodiscard]] double multiply_ceiling(bool thread_time) {
    const nb::gil_scoped_release released;
    const std::lock_guard lock(mutex_);
    Ceilings ceilings(supported_isas().back(), backend_->threads(),
                      thread_time ? Stopwatch::kThread : Stopwatch::kWall);
    return ceilings.bf16_flops();
  }

  /// source [N, K] -> codes (zero-filled before) and scales [N].
  void quantize(const Rows& source, Fp8WeightScale granularity, const Codes& codes) {
    const nb::gil_scoped_release released;
    const std::lock_guard lock(mutex_);
    quantize_fp8_weight(*backend_, source.view(codes.cols), granularity,
                        codes.view(backend_->weight_layout()));
  }

  /// x [T, K], codes, scales [N] or one for all, bias [N] or address 0 -> y [T, N].
  void linear(const Rows& x, const Codes& codes, bool one_scale, const Rows& bias, const Rows& y) {
    const nb::gil_scoped_release released;
    const std::lock_guard lock(mutex_);
    QuantMatrixView w = codes.view(backend_->weight_layout());
    const ScalePart whole = {.row_end = codes.rows,
                             .block_rows = std::max<int64_t>(1, codes.rows),
                             .block_cols = std::max<int64_t>(1, codes.cols)};
    if (one_scale) {
      w.scale_kind = ScaleKind::kGrid;
      w.parts = std::span(&whole, 1);
    }
    ConstTensorView bias_view;
    if (bias.address != 0) {
      bias_view = ConstTensorView(reinterpret_cast<const std::byte*>(bias.address), dtype_of(bias.dtype),
                                  Shape{codes.rows});
    }
    fp8_gemm(*backend_, x.view(codes.cols), w, bias_view, y.view(codes.rows));
  }

  /// The same for tensors of the library whose table it has: y, or None where any of them is none of the
  /// common kind and has to be brought into another form first.
  nb::object linear_of(const Operands& given, const Codes& shape, bool keeps_float32) {
    DlTensor x;
    DlTensor codes;
    DlTensor scales;
    DlTensor bias{};
    if (!exchange_.usable() || !exchange_.look(given.x, x) || !exchange_.look(given.codes, codes) ||
        !exchange_.look(given.scales, scales) || !(given.bias.is_none() || exchange_.look(given.bias, bias)))
      return nb::none();
    const int x_dtype = dtype_number(x.type);
    const int bias_dtype = given.bias.is_none() ? 0 : dtype_number(bias.type);
    const bool common = x_dtype >= 0 && x.dimensions >= 1 && x.dimensions <= DlTensor::kMostDimensions &&
                        x.dense() && x.shape[x.dimensions - 1] == shape.cols && codes.dense() &&
                        scales.dense() && bias_dtype >= 0 &&
                        (given.bias.is_none() || (bias.dense() && bias.elements() == shape.rows));
    const int64_t elements = common ? x.elements() : 0;
    if (elements == 0) return nb::none();
    std::array<int64_t, DlTensor::kMostDimensions> sizes;
    std::ranges::copy(x.sizes(), sizes.begin());
    sizes[static_cast<size_t>(x.dimensions - 1)] = shape.rows;
    DlTensor y = x;
    y.shape = sizes.data();
    if (x_dtype == 0 && !keeps_float32) y.type = {DlTensor::kBfloat, 16, 1};
    nb::object made = exchange_.make(y);
    const int64_t tokens = elements / shape.cols;
    linear({x.address(), x_dtype, tokens, shape.cols},
           {codes.address(), scales.address(), shape.rows, shape.cols}, scales.elements() == 1,
           {bias.address(), bias_dtype, 1, shape.rows},
           {y.address(), dtype_number(y.type), tokens, shape.rows});
    return made;
  }

  /// Codes in the layout of the kernels <-> row-major codes [N, K] at `plain`.
  void unpack(const Codes& codes, uintptr_t plain) {
    const nb::gil_scoped_release released;
    const std::lock_guard lock(mutex_);
    const TensorView rows(reinterpret_cast<std::byte*>(plain), DType::kF8E4M3, Shape{codes.rows, codes.cols});
    backend_->read_rows(without_scales(codes), 0, rows);
  }
  void pack(uintptr_t plain, const Codes& codes) {
    const nb::gil_scoped_release released;
    const std::lock_guard lock(mutex_);
    const TensorView rows(reinterpret_cast<std::byte*>(plain), DType::kF8E4M3, Shape{codes.rows, codes.cols});
    backend_->store(rows, without_scales(codes), {});
  }

 private:
  [[nodiscard]] QuantMatrixView without_scales(const Codes& codes) const {
    QuantMatrixView view = codes.view(backend_->weight_layout());
    view.scale_kind = ScaleKind::kNone;
    return view;
  }

  TensorExchange exchange_;
  std::mutex mutex_;
  MemoryLedger ledger_;
  std::unique_ptr<Backend> backend_;
};

}  // namespace

void register_fp8(nb::module_& module) {
  module.def("clear", &clear);
  module.def("count_nan", &count_nan);
  nb::class_<Fp8Runtime>(module, "Fp8Runtime")
      .def(nb::init<int, uintptr_t, nb::handle>(), nb::arg("threads"), nb::arg("parallel") = 0,
           nb::arg("exchange") = nb::none())
      .def_prop_ro("threads", &Fp8Runtime::threads)
      .def("describe", &Fp8Runtime::describe)
      .def("packed_bytes", &Fp8Runtime::packed_bytes)
      .def("multiply_ceiling", &Fp8Runtime::multiply_ceiling, nb::arg("thread_time") = false)
      .def("quantize",
           [](Fp8Runtime& self, uintptr_t source, int dtype, int64_t stride, int64_t n, int64_t k,
              Fp8WeightScale granularity, uintptr_t codes, uintptr_t scales) {
             self.quantize({source, dtype, n, stride}, granularity, {codes, scales, n, k});
           })
      .def("linear",
           [](Fp8Runtime& self, uintptr_t x, int x_dtype, int64_t tokens, int64_t x_stride, uintptr_t codes,
              uintptr_t scales, bool one_scale, int64_t n, int64_t k, uintptr_t bias, int bias_dtype,
              uintptr_t y, int y_dtype) {
             self.linear({x, x_dtype, tokens, x_stride}, {codes, scales, n, k}, one_scale,
                         {bias, bias_dtype, 1, n}, {y, y_dtype, tokens, n});
           })
      .def(
          "linear_of",
          [](Fp8Runtime& self, nb::handle x, nb::handle codes, nb::handle scales, nb::handle bias, int64_t n,
             int64_t k, bool keeps_float32) {
            return self.linear_of({x, codes, scales, bias}, {0, 0, n, k}, keeps_float32);
          },
          nb::arg("x"), nb::arg("codes"), nb::arg("scales"), nb::arg("bias").none(), nb::arg("n"),
          nb::arg("k"), nb::arg("keeps_float32"))
      .def("unpack", [](Fp8Runtime& self, uintptr_t codes, int64_t n, int64_t k,
                        uintptr_t plain) { self.unpack({codes, 0, n, k}, plain); })
      .def("pack", [](Fp8Runtime& self, uintptr_t plain, int64_t n, int64_t k, uintptr_t codes) {
        self.pack(plain, {codes, 0, n, k});
      });
}

}  // namespace octet::python
