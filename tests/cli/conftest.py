"""What the browser tests of the pages share."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def page_tests() -> ModuleType:
    """``test_report_page.py``: its browser and its run."""
    name = "report_page_tests"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("test_report_page.py"))
    assert spec and spec.loader
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]
