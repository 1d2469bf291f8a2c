"""Programs of `make tools` (.tools): tests that need one are skipped without it, and say so."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".tools"
CHART = ROOT / "deploy" / "helm" / "ingest"


def require_tool(name: str) -> str:
    found = TOOLS / "bin" / name
    if found.exists():
        return str(found)
    there = shutil.which(name)
    if there is None:
        pytest.skip(f"{name} is not here: `make tools` gets it")
    return there


def run_helm(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [require_tool("helm"), *words], capture_output=True, text=True, check=False, timeout=120
    )


def render(*words: str) -> list[dict[str, Any]]:
    """Return what helm makes of the chart."""
    made = run_helm("template", "test", str(CHART), *words)
    assert made.returncode == 0, made.stderr
    return read_yaml(made.stdout)


def read_yaml(text: str) -> list[dict[str, Any]]:
    """Read documents of YAML with the parser beside the tools: the service needs none."""
    program = (
        "import json, sys, yaml;"
        "print(json.dumps([each for each in yaml.safe_load_all(sys.stdin) if each]))"
    )
    read = subprocess.run(
        [sys.executable, "-c", program],
        input=text,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(require_site())},
    )
    found: list[dict[str, Any]] = json.loads(read.stdout)
    return found


def require_site() -> Path:
    site = TOOLS / "site"
    if not site.exists():
        pytest.skip("the YAML parser and Kubernetes' schemas are not here: `make tools` gets them")
    return site
