// SPDX-License-Identifier: Apache-2.0
/// One function for each group of classes; module.cpp calls them. They translate types and hold no logic:
/// that is in the library, or in python/octet.
#pragma once

#include <nanobind/nanobind.h>

namespace octet::python {

void register_errors(nanobind::module_& module);
void register_options(nanobind::module_& module);
void register_llm(nanobind::module_& module);
void register_fp8(nanobind::module_& module);

}  // namespace octet::python
