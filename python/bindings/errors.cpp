// SPDX-License-Identifier: Apache-2.0
/// Which error of the library is which exception in Python: the one table. Out of memory (std::bad_alloc) is
/// MemoryError by nanobind's own.
#include "octet/base/error.h"

#include "python/bindings/bindings.h"

namespace octet::python {

namespace nb = nanobind;

void register_errors(nb::module_& module) {
  // Later registrations are asked first: the base class comes first.
  nb::exception<Error>(module, "Error", PyExc_RuntimeError);
  nb::exception<FormatError>(module, "FormatError", PyExc_ValueError);
  nb::exception<ConfigError>(module, "ConfigError", PyExc_ValueError);
  nb::exception<ArgumentError>(module, "ArgumentError", PyExc_ValueError);
  nb::exception<DeviceError>(module, "DeviceError", PyExc_RuntimeError);
  nb::exception<Interrupted>(module, "Interrupted", PyExc_RuntimeError);
}

}  // namespace octet::python
