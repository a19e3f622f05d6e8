// SPDX-License-Identifier: Apache-2.0
/// The extension module octet._octet.
#include "python/bindings/bindings.h"

NB_MODULE(_octet, module) {
  // Objects that Python still holds when it ends are no fault of the library's user.
  nanobind::set_leak_warnings(false);
  module.attr("__version__") = OCTET_VERSION;
  octet::python::register_errors(module);
  octet::python::register_options(module);
  octet::python::register_llm(module);
  octet::python::register_fp8(module);
}
