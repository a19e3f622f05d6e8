// SPDX-License-Identifier: Apache-2.0
/// Which error of the library is which exception in Python: the one table. All are octet.Error as well. Out
/// of memory is MemoryError in every form: std::bad_alloc by nanobind's own, OutOfMemoryError as a kind of
/// it.
#include "octet/base/out_of_memory.h"

#include "python/bindings/bindings.h"

namespace octet::python {

namespace nb = nanobind;

namespace {

template <class Kind>
nb::object add(nb::module_& module, const char* name, const nb::object& error, PyObject* base) {
  return nb::exception<Kind>(module, name, nb::make_tuple(error, nb::borrow(base)));
}

}  // namespace

void register_errors(nb::module_& module) {
  // Later registrations are asked first: the base class comes first.
  const nb::exception<Error> error(module, "Error", PyExc_Exception);
  add<FormatError>(module, "FormatError", error, PyExc_ValueError);
  add<ConfigError>(module, "ConfigError", error, PyExc_ValueError);
  add<ArgumentError>(module, "ArgumentError", error, PyExc_ValueError);
  const nb::object device = add<DeviceError>(module, "DeviceError", error, PyExc_RuntimeError);
  add<OutOfMemoryError>(module, "OutOfMemoryError", device, PyExc_MemoryError);
  add<Interrupted>(module, "Interrupted", error, PyExc_RuntimeError);
}

}  // namespace octet::python
