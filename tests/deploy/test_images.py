"""The Dockerfile and the compose file. Nothing here runs a container: no Docker is at hand."""

import os
import re
import subprocess
import sys
from fnmatch import fnmatch

import pytest

from ingest_service.settings import PREFIX, Settings
from tests.deploy.tools import ROOT, read_yaml, require_site, require_tool

COMPOSE = ROOT / "deploy" / "compose.yaml"


@pytest.fixture(scope="module")
def dockerfile():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    return re.sub(r"\\\n", " ", text).splitlines()


@pytest.fixture(scope="module")
def final(dockerfile):
    """The lines of the stage that becomes the image."""
    last = max(number for number, line in enumerate(dockerfile) if line.startswith("FROM "))
    return dockerfile[last:]


@pytest.fixture(scope="module")
def compose():
    (found,) = read_yaml(COMPOSE.read_text(encoding="utf-8"))
    return found


def test_hadolint_finds_nothing_to_complain_of():
    linted = subprocess.run(
        [require_tool("hadolint"), str(ROOT / "Dockerfile")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert linted.returncode == 0, linted.stdout


def test_the_image_runs_as_a_number_that_is_not_root_and_looks_after_itself(final):
    text = "\n".join(final)

    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", text, re.MULTILINE)
    assert "\nHEALTHCHECK " in text
    assert "\nSTOPSIGNAL SIGTERM" in text
    assert re.search(r'^ENTRYPOINT \["', text, re.MULTILINE), "a shell would keep the signals"


def test_the_image_brings_no_tools_that_build(final):
    text = "\n".join(final)

    assert not re.search(r"apt-get|pip install|gcc|build-essential|curl|wget", text)


def test_every_package_of_the_image_is_locked(dockerfile):
    (installs,) = [line for line in dockerfile if "pip install" in line]

    assert "--require-hashes" in installs
    assert all(re.search(r"^FROM \S+:\d+\.\d+\S*", x) for x in dockerfile if x[:5] == "FROM ")


def test_what_is_copied_is_there_and_is_sent_to_the_builder(dockerfile):
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        line.split()[1] for line in dockerfile if re.match(r"COPY (?!--from)", line) is not None
    }

    assert "*" in ignored
    assert copied == let_in
    assert all((ROOT / each).exists() for each in copied)
    assert not any(fnmatch(each, ".git*") or "test" in each for each in let_in)


def test_compose_knows_every_field():
    checked = subprocess.run(
        [
            sys.executable,
            "-m",
            "check_jsonschema",
            "--builtin-schema=vendor.compose-spec",
            str(COMPOSE),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(require_site())},
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_compose_runs_two_processes_of_the_api_and_gives_them_time_to_drain(compose):
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for role in ("serve", "work"):
        service = compose["services"][role]
        drain_s = int(service["environment"]["INGEST_DRAIN_TIMEOUT_S"])
        assert int(service["stop_grace_period"].removesuffix("s")) > drain_s
        assert set(service["environment"]) <= known
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["tmpfs"] == ["/tmp"]  # noqa: S108 - of the container
    assert compose["services"]["serve"]["deploy"]["replicas"] == 2


def test_compose_builds_the_dockerfile_of_this_tree(compose):
    context = COMPOSE.parent / compose["services"]["serve"]["build"]["context"]

    assert (context / "Dockerfile").resolve() == ROOT / "Dockerfile"
