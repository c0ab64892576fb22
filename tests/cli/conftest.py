"""What the browser tests of the pages share."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

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


@pytest.fixture(scope="module")
def browser(page_tests: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser that must have had nothing to complain of when the module's tests are done."""
    if page_tests.CHROMIUM is None:
        pytest.skip("needs chromium")
    opened = page_tests.Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    assert opened.complaints() == []
    opened.close()
