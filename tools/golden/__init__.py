# SPDX-License-Identifier: Apache-2.0
"""The parts of tools/make_golden.py, one module per family of golden files."""
