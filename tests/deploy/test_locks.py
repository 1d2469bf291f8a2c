"""What is installed is exactly what is locked, from wherever it comes; and the audit of it."""

import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.tools import ROOT

FOLDER = ROOT / "requirements"
LOCKS = sorted(path.name for path in FOLDER.glob("*.txt") if path.name != "accepted.txt")
NODE_LOCKS = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("web", "loadtest")
    for path in (ROOT / folder).glob("*/package-lock.json")
)
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def read_lock(name: str) -> dict[str, list[tuple[Requirement, list[str]]]]:
    """What a lock file says of each package: for each marker a requirement and its hashes."""
    found: dict[str, list[tuple[Requirement, list[str]]]] = {}
    for line in re.sub(r"\\\n", " ", (FOLDER / name).read_text()).splitlines():
        stated, *options = re.split(r"\s+(?=--)", line.strip())
        requirement = Requirement(stated)
        found.setdefault(canonicalize_name(requirement.name), []).append((requirement, options))
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_is_one_version_with_hashes_and_no_address(name):
    for package, stated in read_lock(name).items():
        for requirement, options in stated:
            assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), package
            assert requirement.url is None, package
            assert options, package
            assert all(HASH.fullmatch(option) for option in options), package


@pytest.mark.parametrize("name", NODE_LOCKS)
def test_every_locked_package_of_node_has_its_hash_and_no_address(name):
    packages = json.loads((ROOT / name).read_text())["packages"]
    locked = {path: each for path, each in packages.items() if path}

    assert locked
    for path, each in locked.items():
        assert each["integrity"].startswith("sha512-"), path
        assert "resolved" not in each, path


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("service.txt", []),
        ("tracing.txt", ["tracing"]),
        ("develop.txt", ["embedded", "develop", "load", "tracing"]),
    ],
)
def test_a_lock_holds_what_the_project_asks_for(lock, extras):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + [
        each for extra in extras for each in project["optional-dependencies"][extra]
    ]
    locked = read_lock(lock)

    for requirement in map(Requirement, asked):
        stated = locked.get(canonicalize_name(requirement.name), [])
        versions = [str(each.specifier).removeprefix("==") for each, _ in stated]
        assert versions, f"{requirement} is not in {lock}"
        assert all(requirement.specifier.contains(version) for version in versions), requirement


@pytest.mark.parametrize("name", ["service.txt", "tracing.txt", "uv.txt"])
def test_what_runs_is_what_was_tested(name):
    tested = {str(each) for stated in read_lock("develop.txt").values() for each, _ in stated}
    versions = {each.partition(";")[0].strip() for each in tested}

    for stated in read_lock(name).values():
        for requirement, _ in stated:
            assert f"{requirement.name}{requirement.specifier}" in {
                re.sub(r"\[.*\]", "", each) for each in versions
            }


# --- the audit --------------------------------------------------------------------------------


class Osv(BaseHTTPRequestHandler):
    """Knows of one vulnerability, in every version of uvicorn."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked = body["queries"]
        results = [
            {"vulns": [{"id": "GHSA-test-1"}]} if each["package"]["name"] == "uvicorn" else {}
            for each in body["queries"]
        ]
        answer = json.dumps({"results": results}).encode() if self.server.is_sane else b"<html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_args):
        pass


@pytest.fixture
def osv():
    with HTTPServer(("127.0.0.1", 0), Osv) as server:
        server.is_sane = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def audit(tmp_path):
    """Runs the audit on a copy of the lock of the service."""
    for name in ("audit.py", "service.txt"):
        (tmp_path / name).write_text((FOLDER / name).read_text())

    def run(port, accepted=None):
        if accepted is not None:
            (tmp_path / "accepted.txt").write_text(accepted)
        # No proxy between two programs of one machine.
        environment = {**os.environ, "OSV_URL": f"http://127.0.0.1:{port}", "no_proxy": "127.0.0.1"}
        return subprocess.run(
            [sys.executable, tmp_path / "audit.py"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_known_vulnerability_fails_the_check(osv, audit):
    ended = audit(osv.server_port)

    [line] = ended.stdout.splitlines()
    assert ended.returncode == 1
    assert re.fullmatch(r"error: uvicorn \S+ has GHSA-test-1", line)
    assert {each["package"]["name"] for each in osv.asked} == set(read_lock("service.txt"))


@pytest.mark.parametrize(("until", "code"), [("2999-01-01", 0), ("2020-01-01", 1)])
def test_a_vulnerability_may_be_taken_on_until_a_date(osv, audit, until, code):
    assert audit(osv.server_port, f"GHSA-test-1 {until} no way in\n").returncode == code


def test_a_service_that_is_not_reached_is_told_and_fails_nothing(osv, audit):
    osv.is_sane = False
    nonsense = audit(osv.server_port)
    nobody = audit(1)

    for ended in (nonsense, nobody):
        [line] = ended.stdout.splitlines()
        assert ended.returncode == 0
        assert line.startswith("note: vulnerabilities were not looked for: ")
        assert ended.stderr == ""


def test_the_check_runs_the_audit():
    recipe = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]

    assert "requirements/audit.py" in recipe
