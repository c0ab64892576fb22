"""Imported by the fork server alone (`harness.workers.preloading`): it imports what the variable names, as far as that can be done."""

from __future__ import annotations

import os
from importlib import import_module

from harness.workers.preloading import VARIABLE

for _name in filter(None, os.environ.pop(VARIABLE, "").split(",")):
    try:
        import_module(_name)
    except Exception:
        continue
