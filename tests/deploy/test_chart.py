"""The Helm chart as helm itself renders it, against Kubernetes' own schemas and our promises."""

import json
import os
import re
import subprocess
import sys

import pytest

from ingest_service import VERSION
from ingest_service.settings import PREFIX, Settings
from tests.deploy.tools import CHART, ROOT, read_yaml, render, require_site, run_helm

EVERYTHING = (
    "--set=autoscaling.activeBodies.enabled=true",
    "--set=secrets.ledgerDirectDsn.name=direct",
    "--set=tracing.endpoint=http://collector:4318/v1/traces",
    "--set=secrets.tracingHeaders.name=collector",
    "--set=image.digest=sha256:" + "0" * 64,
    "--set=imagePullSecrets[0].name=registry",
    "--set=serve.nodeSelector.disk=fast",
    '--set-json=networkPolicy.ingressFrom=[{"namespaceSelector":{}}]',
)
NOTHING = (
    "--set=autoscaling.enabled=false",
    "--set=networkPolicy.enabled=false",
    "--set=migrate.enabled=false",
)
VALUES = {"default": (), "everything": EVERYTHING, "nothing": NOTHING}
# The oldest that the chart allows, and the newest whose schemas are here.
KUBERNETES = ("1.28.0", "1.37.0")


@pytest.fixture(scope="module")
def rendered():
    return render()


def pods_of(documents):
    return {
        each["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"]["template"]["spec"]
        for each in documents
        if each["kind"] in {"Deployment", "Job"}
    }


def containers_of(pod):
    return [*pod.get("initContainers", ()), *pod["containers"]]


def find(documents, kind, name=""):
    (found,) = [
        each
        for each in documents
        if each["kind"] == kind and each["metadata"]["name"].endswith(name)
    ]
    return found


def test_helm_finds_nothing_to_complain_of():
    linted = run_helm("lint", "--strict", str(CHART))

    assert linted.returncode == 0, linted.stdout + linted.stderr


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("values", VALUES)
def test_kubernetes_knows_every_field(version, values, tmp_path):
    file = tmp_path / "rendered.json"
    documents = render(*VALUES[values])
    file.write_text("\n---\n".join(map(json.dumps, documents)))
    checked = subprocess.run(
        [sys.executable, "-m", "kubernetes_validate", "--strict", "-k", version, str(file)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(require_site())},
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.count("passed") == len(documents), checked.stdout


def test_a_field_that_kubernetes_does_not_know_is_seen(tmp_path, rendered):
    pod = find(rendered, "Deployment", "-serve")
    pod = json.loads(json.dumps(pod))
    pod["spec"]["template"]["spec"]["terminationGracePeriod"] = 1
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps(pod))
    checked = subprocess.run(
        [sys.executable, "-m", "kubernetes_validate", "--strict", "-k", KUBERNETES[1], str(file)],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(require_site())},
    )

    assert checked.returncode != 0


@pytest.mark.parametrize(
    "wrong",
    [
        "replicas=3",
        "drain.timeoutSeconds=0",
        "settings.INGEST_LEDGER_DSN=postgresql://u:secret@h/d",
        "settings.ingest_lower=1",
        "secrets.ledgerDsn.name=",
        "image.digest=latest",
        "baseUrl=https://ingest.example.org/",
        "autoscaling.minReplicas=1",
        "tracing.endpoint=http://user:secret@collector:4318/v1/traces",
        "tracing.sampleRatio=2",
    ],
)
def test_values_that_make_no_sense_are_refused(wrong):
    made = run_helm("template", "test", str(CHART), f"--set={wrong}")

    assert made.returncode != 0
    assert "values don't meet the specifications" in made.stderr


def test_every_setting_of_a_pod_is_one_of_the_service():
    known = {PREFIX + name.upper() for name in Settings.model_fields}

    for pod in pods_of(render(*EVERYTHING)).values():
        for container in pod["containers"]:
            names = [each["name"] for each in container["env"]]
            assert len(names) == len(set(names))
            assert {name for name in names if name.startswith(PREFIX)} <= known


def test_a_collector_of_traces_is_named_and_may_be_reached_where_there_is_one(rendered):
    traced = render("--set=tracing.endpoint=http://collector:4318/v1/traces")

    for role in ("serve", "work"):
        for documents, is_traced in ((rendered, False), (traced, True)):
            (container,) = pods_of(documents)[role]["containers"]
            names = {each["name"] for each in container["env"]}
            egress = find(documents, "NetworkPolicy", f"-{role}")["spec"]["egress"]
            ports = {port["port"] for rule in egress for port in rule["ports"]}
            assert ("INGEST_TRACING_ENDPOINT" in names, 4318 in ports) == (is_traced, is_traced)


def test_no_secret_stands_in_a_manifest(rendered):
    for pod in pods_of(rendered).values():
        for container in pod["containers"]:
            for each in container["env"]:
                if re.search("DSN|ACCESS_KEY|SECRET", each["name"]):
                    assert list(each["valueFrom"]) == ["secretKeyRef"]


@pytest.mark.parametrize("role", ["serve", "work", "migrate"])
def test_pods_keep_to_the_restricted_standard(rendered, role):
    """Pod Security Standards, 'restricted', and a root file system that nobody writes to."""
    pod = pods_of(rendered)[role]

    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert f"USER {context['runAsUser']}:{context['runAsGroup']}" in (
        ROOT / "Dockerfile"
    ).read_text(encoding="utf-8")
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    for container in containers_of(pod):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
    for volume in pod["volumes"]:
        assert set(volume) - {"name"} <= {"emptyDir", "secret"}


@pytest.mark.parametrize("role", ["serve", "work"])
def test_kubernetes_waits_for_the_whole_drain(rendered, role):
    pod = pods_of(rendered)[role]
    (container,) = pod["containers"]
    env = {each["name"]: each.get("value") for each in container["env"]}
    pre_stop_s = 0
    if role == "serve":
        pre_stop_s = int(container["lifecycle"]["preStop"]["exec"]["command"][1])

    total_s = pre_stop_s + int(env["INGEST_DRAIN_TIMEOUT_S"])
    assert pod["terminationGracePeriodSeconds"] > total_s


def test_the_probes_ask_what_the_service_answers(rendered):
    (container,) = pods_of(rendered)["serve"]["containers"]

    paths = {
        name: container[name]["httpGet"]["path"]
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert paths == {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }


def test_the_schema_is_migrated_before_the_pods_of_an_upgrade(rendered):
    job = find(rendered, "Job")

    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert [each["name"] for each in job["spec"]["template"]["spec"]["containers"][0]["env"]] == [
        "LEDGER_OWNER_DSN"
    ]


def test_without_a_metrics_adapter_it_scales_by_cpu(rendered):
    metrics = find(rendered, "HorizontalPodAutoscaler")["spec"]["metrics"]

    assert [each["type"] for each in metrics] == ["Resource"]
    assert "replicas" not in find(rendered, "Deployment", "-serve")["spec"]


def test_with_one_it_scales_by_active_bodies_too():
    metrics = find(render(*EVERYTHING), "HorizontalPodAutoscaler")["spec"]["metrics"]

    assert [each["type"] for each in metrics] == ["Resource", "Pods"]
    name = metrics[1]["pods"]["metric"]["name"]
    assert f'"{name}"' in (ROOT / "ingest_service" / "telemetry.py").read_text(encoding="utf-8")


def test_without_autoscaling_the_replicas_are_those_of_the_values():
    assert find(render(*NOTHING), "Deployment", "-serve")["spec"]["replicas"] == 8


def test_a_pod_has_the_memory_that_was_computed(rendered):
    """docs/capacity.md: the limit of an API pod, whatever the size of the fleet."""
    row = re.search(
        r"^\| memory limit of an API pod, MiB \|(.*)\|$",
        (ROOT / "docs" / "capacity.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert row is not None
    needed = max(int(cell.replace(",", "")) for cell in row[1].split("|"))
    (container,) = pods_of(rendered)["serve"]["containers"]

    assert int(container["resources"]["limits"]["memory"].removesuffix("Mi")) >= needed


def test_services_and_budgets_choose_the_pods_of_their_role(rendered):
    labels = {
        each["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"]["template"][
            "metadata"
        ]["labels"]
        for each in rendered
        if each["kind"] == "Deployment"
    }
    for each in rendered:
        if each["kind"] == "Service":
            assert each["spec"]["selector"].items() <= labels["serve"].items()
        if each["kind"] in {"PodDisruptionBudget", "Deployment"}:
            role = each["metadata"]["labels"]["app.kubernetes.io/component"]
            assert each["spec"]["selector"]["matchLabels"].items() <= labels[role].items()


def test_the_chart_is_of_this_version():
    (chart,) = read_yaml((CHART / "Chart.yaml").read_text(encoding="utf-8"))

    assert chart["appVersion"] == VERSION
