# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests of the Python package."""
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEMO = ROOT / "models" / "demo"


@pytest.fixture(scope="session")
def demo():
    """The folder of the bundled model."""
    return DEMO


@pytest.fixture(scope="session")
def llm(demo):
    import octet

    return octet.LLM(demo, max_model_len=256, threads=2)
