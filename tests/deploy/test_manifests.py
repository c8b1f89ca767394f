"""deploy/kubernetes: valid, consistent with each other, and true to the server."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from prometheus_client import CollectorRegistry

from extracot_server.app import openapi_document
from extracot_server.config.settings import Settings, SettingsError, load_settings
from extracot_server.observability.metrics import ServerMetrics
from tests.deploy import kustomize
from tests.server.key_files import read_keys

FOLDER = Path(__file__).resolve().parents[2] / "deploy/kubernetes"
KUBERNETES = "1.34"
LABELS = {"app.kubernetes.io/name": "extracot"}


OVERLAY = FOLDER / "overlays/qwen3-8b-4gpu"
FILES = {path.stem: path for path in FOLDER.rglob("*.yaml") if OVERLAY not in path.parents}
KUSTOMIZATIONS = sorted(path.parent for path in FOLDER.rglob("kustomization.yaml"))
OPERATORS = ("ServiceMonitor", "PrometheusRule")  # kinds that have no schema here


def manifest(name: str) -> dict[str, Any]:
    """One file, which holds one object."""
    found: dict[str, Any] = yaml.safe_load(FILES[name].read_text())
    return found


@pytest.fixture(scope="module")
def pod() -> dict[str, Any]:
    """The pods' specification."""
    spec: dict[str, Any] = manifest("deployment")["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
def container(pod: dict[str, Any]) -> dict[str, Any]:
    """The one container of a pod."""
    (only,) = pod["containers"]
    found: dict[str, Any] = only
    return found


def test_every_manifest_meets_its_schema() -> None:
    kinds = set()
    for name in FILES.keys() - {"kustomization"}:
        found = manifest(name)
        kinds.add(found["kind"])
        assert found["metadata"]["labels"] == LABELS, name
        if found["kind"] not in OPERATORS:
            kubernetes_validate.validate(found, KUBERNETES, strict=True)
    assert kinds == {
        "Deployment",
        "Service",
        "ServiceMonitor",
        "PrometheusRule",
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
        "NetworkPolicy",
        "Secret",
    }


def test_the_validator_would_notice() -> None:
    wrong = manifest("deployment")
    wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_they_mean_the_same_pods(container: dict[str, Any]) -> None:
    deployment, service = manifest("deployment"), manifest("service")
    assert deployment["spec"]["selector"]["matchLabels"] == LABELS
    assert deployment["spec"]["template"]["metadata"]["labels"] == LABELS
    assert service["spec"]["selector"] == LABELS
    assert manifest("poddisruptionbudget")["spec"]["selector"]["matchLabels"] == LABELS
    assert manifest("networkpolicy")["spec"]["podSelector"]["matchLabels"] == LABELS
    assert manifest("servicemonitor")["spec"]["selector"]["matchLabels"] == LABELS
    target = manifest("hpa")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    (port,) = container["ports"]
    assert port == {"name": "http", "containerPort": Settings().port}
    (offered,) = service["spec"]["ports"]
    assert offered["targetPort"] == "http"
    (scraped,) = manifest("servicemonitor")["spec"]["endpoints"]
    assert (scraped["port"], scraped["path"]) == (offered["name"], "/metrics")


def test_probes_ask_what_the_server_answers(container: dict[str, Any]) -> None:
    paths = openapi_document()["paths"]
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness")}
    assert {probe["path"] for probe in probes.values()} == {"/ready"} <= set(paths)
    alive = container["livenessProbe"]["httpGet"]
    assert alive["path"] == "/health" and "/health" in paths, "a busy engine is no reason to die"
    assert {probe["port"] for probe in [*probes.values(), alive]} == {"http"}


def test_the_server_starts_on_these_settings(
    container: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for entry in container["env"]:
        monkeypatch.setenv(entry["name"], entry["value"])
    settings = load_settings([])
    folder = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}["keys"]
    assert settings.keys == Path(folder) / "keys.yaml"
    assert set(manifest("keys.example")["stringData"]) == {"keys.yaml"}


def test_the_example_keys_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(manifest("keys.example")["stringData"]["keys.yaml"])
    ((_, principal),) = read_keys(path)
    assert principal.name == "example"


def test_kubernetes_own_variables_stay_out(
    pod: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a service named extracot it would set these, and the server refuses what it knows not."""
    assert pod["enableServiceLinks"] is False
    assert manifest("service")["metadata"]["name"] == "extracot"
    monkeypatch.setenv("EXTRACOT_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(SettingsError, match="EXTRACOT_SERVICE_HOST"):
        load_settings([])


def test_a_pod_may_finish_what_it_has_begun(pod: dict[str, Any], container: dict[str, Any]) -> None:
    given = {entry["name"]: entry["value"] for entry in container["env"]}
    _, pause = container["lifecycle"]["preStop"]["exec"]["command"]
    needed = int(pause) + float(given["EXTRACOT_GRACE_SECONDS"]) + 15
    assert pod["terminationGracePeriodSeconds"] >= needed
    strategy = manifest("deployment")["spec"]["strategy"]["rollingUpdate"]
    assert strategy["maxUnavailable"] == 0


def test_it_has_no_rights_to_spare(pod: dict[str, Any], container: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["automountServiceAccountToken"] is False
    context = container["securityContext"]
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert {"memory", "nvidia.com/gpu"} <= set(container["resources"]["limits"])
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {"/cache", "/tmp", "/dev/shm"} <= mounted, "all that it writes to"
    assert container["image"].rpartition(":")[2] not in ("", "latest")
    assert not [entry for entry in container["env"] if "API_KEY" in entry["name"]]


def test_the_autoscaler_goes_by_metrics_there_are() -> None:
    registry = CollectorRegistry()
    ServerMetrics(registry)
    known = {family.name for family in registry.collect()}
    asked = {metric["pods"]["metric"]["name"] for metric in manifest("hpa")["spec"]["metrics"]}
    assert asked == {"extracot_requests_in_flight", "extracot_requests_queued"} <= known
    scaling = (FOLDER.parents[1] / "docs/scaling.md").read_text()
    for name in asked:
        assert name in scaling, "the adapter's rule for it is explained"


def test_the_rules_are_those_of_prometheus() -> None:
    """As ``python deploy/kubernetes/monitoring/rules.py`` writes them."""
    files = sorted((FOLDER.parent / "prometheus/rules").glob("*.yml"))
    groups = [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]
    assert manifest("prometheusrule")["spec"]["groups"] == groups and len(groups) > 5


# ----------------------------------------------------------------------------------- kustomizations


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda path: path.name)
def test_every_kustomization_builds_what_kubernetes_takes(folder: Path) -> None:
    objects = kustomize.build(folder)
    assert objects
    for found in objects:
        assert found["metadata"]["labels"] == LABELS
        if found["kind"] not in OPERATORS:
            kubernetes_validate.validate(found, KUBERNETES, strict=True)


def test_every_manifest_is_in_a_kustomization() -> None:
    built = {found["kind"] for folder in KUSTOMIZATIONS for found in kustomize.build(folder)}
    kinds = {manifest(name)["kind"] for name in FILES.keys() - {"kustomization"}}
    assert kinds - built == {"Secret"}, "the example of a secret is not applied"


@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl on this machine")
@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda path: path.name)
def test_kubectl_builds_the_same(folder: Path) -> None:
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    theirs = {found["kind"]: found for found in yaml.safe_load_all(done.stdout)}
    assert theirs == {found["kind"]: found for found in kustomize.build(folder)}


@pytest.fixture(scope="module")
def overlay() -> dict[str, dict[str, Any]]:
    """What the overlay for four GPUs applies, by kind."""
    return {found["kind"]: found for found in kustomize.build(OVERLAY)}


def test_the_overlay_takes_four_gpus_and_no_fifth(overlay: dict[str, dict[str, Any]]) -> None:
    spec = overlay["Deployment"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert spec["replicas"] * container["resources"]["limits"]["nvidia.com/gpu"] == 4
    assert spec["strategy"]["rollingUpdate"]["maxSurge"] == 0
    assert "HorizontalPodAutoscaler" not in overlay, "it would fight over `replicas`"


def test_the_server_starts_on_the_overlay_s_settings(
    overlay: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (container,) = overlay["Deployment"]["spec"]["template"]["spec"]["containers"]
    values = {"usage-store": "postgresql://u:p@db/usage", "reasoning-key": "f" * 64}
    for entry in container["env"]:
        if "valueFrom" in entry:
            wanted = entry["valueFrom"]["secretKeyRef"]
            assert wanted["name"] == "extracot-shared"
            entry = {"name": entry["name"], "value": values.pop(wanted["key"])}
        monkeypatch.setenv(entry["name"], entry["value"])
    assert not values
    settings = load_settings([])
    assert settings.model == "Qwen/Qwen3-8B" and settings.max_running == 200
    assert settings.vllm == {"max_model_len": 16384} and settings.max_queued == 256
    header = (OVERLAY / "kustomization.yaml").read_text().partition("apiVersion")[0]
    for name in ("extracot-shared", "extracot-keys", "usage-store", "reasoning-key"):
        assert name in header, "the secrets it needs are named"


def test_the_overlay_s_pods_reach_their_store(overlay: dict[str, dict[str, Any]]) -> None:
    def ports(policy: dict[str, Any]) -> set[int]:
        return {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}

    assert ports(overlay["NetworkPolicy"]) == ports(manifest("networkpolicy")) | {5432}


@pytest.mark.parametrize(
    "change",
    [
        {"namePrefix": "x-"},
        {"resources": ["service.yaml", "service.yaml"]},
        {"images": [{"name": "another.example/image", "newTag": "1"}]},
        {"replicas": [{"name": "another", "count": 2}]},
        {"patches": [{"target": {"kind": "Service", "name": "another"}, "patch": "[]"}]},
    ],
    ids=["unknown field", "twice", "no such image", "no such deployment", "no such object"],
)
def test_the_reader_of_kustomizations_would_notice(change: dict[str, Any], tmp_path: Path) -> None:
    for name in ("service", "deployment"):
        shutil.copy(FILES[name], tmp_path)
    content = {**kustomize.KINDS, "resources": ["service.yaml", "deployment.yaml"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(content))
    assert len(kustomize.build(tmp_path)) == 2
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({**content, **change}))
    with pytest.raises(AssertionError):
        kustomize.build(tmp_path)
