# SPDX-License-Identifier: Apache-2.0
"""Parts of tools/make_text_golden.py."""
