"""deploy/docker-compose.yml and .env.example: valid, closed by default, and true to the server."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from extracot_server.app import openapi_document
from extracot_server.config.settings import (
    FOREIGN_VARIABLES,
    Settings,
    SettingsError,
    load_settings,
)
from extracot_server.runtime.vllm_command import default_arguments, read_arguments
from tests.deploy import compose

VLLM = tuple(f"vllm-{number}" for number in range(1, 9))
OURS = ("server", "server-cpu", "front", *VLLM)
PROFILES = ("gpu", "cpu", "scale", "observe")
# Names of settings that were renamed and still count.
FORMER = {"DOOR": "PROXY_LISTEN", "DOOR_CPUS": "PROXY_CPUS"}


def test_the_file_meets_the_compose_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, compose.COMPOSE], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_service_has_its_profile() -> None:
    names = {profile: set(compose.services(profile)) for profile in PROFILES}
    assert names == {
        "gpu": {"server"},
        "cpu": {"server-cpu"},
        "scale": {"proxy", "front", "vllm-1", "vllm-2"},
        "observe": {"prometheus", "alertmanager", "grafana"},
    }
    assert set.union(*names.values()) == set(compose.services()) - set(VLLM[2:])
    assert compose.example()["COMPOSE_PROFILES"] == ("gpu", True)


def test_nothing_listens_beyond_loopback_unless_asked() -> None:
    for name, service in compose.services().items():
        assert service.get("network_mode") is None, name
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), (name, port)
    # What is set in the example file is what newcomers have.
    assert not compose.example()["BIND_ADDRESS"][1]
    assert not compose.example()["BIND_ADDRESS_OBSERVE"][1]
    (port,) = compose.services("gpu", BIND_ADDRESS="0.0.0.0")["server"]["ports"]
    assert port == "0.0.0.0:8000:8000"
    # Services behind the reverse proxy publish no port of their own.
    assert {n for n, s in compose.services("scale").items() if "ports" in s} == {"proxy"}


@pytest.mark.parametrize("profile", PROFILES)
def test_every_service_is_bounded_and_has_no_rights_to_spare(profile: str) -> None:
    for name, service in compose.services(profile).items():
        limits = service["deploy"]["resources"]["limits"]
        assert set(limits) == {"cpus", "memory", "pids"}, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"] is True, name
        assert service["restart"] == "unless-stopped", name
        assert not service.get("privileged"), name
        assert service["logging"]["options"]["max-size"], name


def test_files_and_workers_of_the_proxy_are_those_of_its_container() -> None:
    nginx = (compose.ROOT / "deploy/nginx/nginx.conf").read_text()
    said = {name: int(n) for name, n in re.findall(r"^ *(worker_\w+) (\d+);$", nginx, re.M)}
    proxy = compose.services("scale")["proxy"]
    assert str(said["worker_processes"]) == proxy["deploy"]["resources"]["limits"]["cpus"]
    assert said["worker_rlimit_nofile"] > 2 * said["worker_connections"]
    for name in ("proxy", *OURS):
        files = compose.services()[name]["ulimits"]["nofile"]
        assert files == dict.fromkeys(("soft", "hard"), said["worker_rlimit_nofile"]), name


def test_images_are_pinned() -> None:
    for name, service in compose.services().items():
        image = service["image"]
        if name in OURS:
            assert image in ("extracot:cuda", "extracot:cpu"), "built from this checkout"
            assert service["build"]["args"]["DEVICE"] == image.partition(":")[2]
            assert (compose.COMPOSE.parent / service["build"]["context"] / "Dockerfile").is_file()
        else:
            assert re.search(r":v?\d+\.\d+\.\d+(-alpine)?$", image), image


def test_who_waits_for_whom_waits_for_health() -> None:
    for profile in PROFILES:
        found = compose.services(profile)
        for name, service in found.items():
            assert service["healthcheck"]["test"][0] == "CMD", name
            for other, how in service.get("depends_on", {}).items():
                there = other in found or not how.get("required", True)
                assert there, f"{name} waits for {other}, which {profile} does not start"
                assert how["condition"] == "service_healthy"
    scale = compose.services("scale")
    assert set(scale["proxy"]["depends_on"]) == {"front"}
    assert set(scale["front"]["depends_on"]) == set(VLLM)


def test_health_is_asked_where_there_is_an_answer() -> None:
    paths = openapi_document()["paths"]
    assert "/ready" in paths
    for name in ("server", "server-cpu", "front"):
        check = compose.services()[name]["healthcheck"]["test"]
        assert check == ["CMD", "python", "-m", "extracot_server.runtime.probe"]
    assert importlib.util.find_spec("extracot_server.runtime.probe") is not None
    assert compose.services()["proxy"]["healthcheck"]["test"][-1].endswith(":8081/ready")


def test_no_secret_is_in_the_files_or_in_a_variable() -> None:
    secret = re.compile(r"(KEY|TOKEN|PASSWORD|SECRET)")
    for name, service in compose.services(KEYS_FILE="keys.yaml").items():
        for variable, value in service.get("environment", {}).items():
            if secret.search(variable) and variable != "EXTRACOT_ASSUMED_REASONING_TOKENS":
                assert value == "" or value.startswith("/run/secrets/"), (name, variable)
    for variable, (shown, _) in compose.example().items():
        if variable.endswith("_FILE"):
            assert shown.startswith("./secrets/")
        elif variable.startswith("EXTRACOT_"):
            assert "API_KEY" not in variable
    ignored = (compose.ROOT / ".gitignore").read_text().splitlines()
    assert {"/deploy/.env", "/deploy/secrets/"} <= set(ignored)


@pytest.mark.parametrize("name", VLLM)
def test_vllm_has_nothing_of_the_front_ends(name: str) -> None:
    """Neither their settings and secrets nor what they keep; by the merged YAML."""
    given = {"KEYS_FOLDER": "./secrets/server", "UPSTREAMS_FOLDER": "./secrets/upstreams"}
    project = compose.project(**given)
    service, front = project["services"][name], project["services"]["front"]
    assert service["env_file"] == [{"path": "vllm.env", "required": False}]
    assert not [one for one in service["environment"] if one.startswith("EXTRACOT_")]
    assert service["secrets"] == ["hf_token"]

    def writable(mounts: list[str]) -> set[str]:
        return {mount.split(":")[0] for mount in mounts if not mount.endswith(":ro")}

    assert writable(service["volumes"]) == {"vllm-cache"}
    assert writable(front["volumes"]) == {"cache"}
    shared = {mount.split(":")[0] for mount in service["volumes"] if mount in front["volumes"]}
    assert shared == {"./models"}
    assert "/deploy/vllm.env" in (compose.ROOT / ".gitignore").read_text().splitlines()


def test_a_keys_file_reaches_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    given = compose.project(KEYS_FILE="./secrets/keys.yaml")
    assert given["secrets"]["keys"] == {"file": "./secrets/keys.yaml"}
    for name in ("server", "server-cpu", "front"):
        service = given["services"][name]
        assert "keys" in service["secrets"]
        assert service["environment"]["EXTRACOT_KEYS"] == "/run/secrets/keys"
    assert compose.project()["secrets"]["keys"] == {"file": "/dev/null"}
    for name in ("server", "server-cpu", "front"):
        service = compose.services(KEYS_FOLDER="./secrets/server")[name]
        assert "./secrets/server:/run/keys:ro" in service["volumes"]
        assert service["environment"]["EXTRACOT_KEYS"] == "/run/keys/keys.yaml"
        assert "keys:/run/keys:ro" in compose.services()[name]["volumes"], "an empty volume"
    monkeypatch.setenv(
        "EXTRACOT_KEYS", compose.services()["server"]["environment"]["EXTRACOT_KEYS"]
    )
    assert load_settings([]).keys is None, "without a file there are no keys"


@pytest.mark.parametrize("name", ["server", "server-cpu", "front"])
def test_the_server_starts_on_these_settings(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of .env.example below those of the service, as compose has it."""
    service = compose.services()[name]
    example = {key: shown for key, (shown, is_set) in compose.example().items() if is_set}
    for variable, value in {**example, **service["environment"]}.items():
        monkeypatch.setenv(variable, value)
    settings = load_settings([])
    assert (settings.host, settings.port) == ("0.0.0.0", 8000)
    assert settings.engine == ("remote" if name == "front" else "vllm")
    assert service["env_file"] == [{"path": ".env", "required": False}]


def test_every_setting_that_is_explained_exists_with_the_default_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable, (shown, _) in compose.example().items():
        if variable.startswith("EXTRACOT_"):
            assert variable not in FOREIGN_VARIABLES
            monkeypatch.setenv(variable, shown)
    assert load_settings([]).model_dump() == Settings().model_dump()


def test_every_variable_is_explained_with_its_default() -> None:
    asked, example = compose.defaults(), compose.example()
    for former in FORMER:
        assert asked.pop(former) == asked[FORMER[former]]
        assert former not in example and former in compose.EXAMPLE.read_text()
    assert not set(asked) - set(example), "used in the compose file, not in .env.example"
    others = {name for name in example if not name.startswith(("EXTRACOT_", "COMPOSE_"))}
    assert not others - set(asked), "in .env.example, not used"
    for name, given in asked.items():
        shown = example[name][0]
        if name.endswith(("_FILE", "_FOLDER")):  # no default: an example
            assert given <= {"/dev/null", "keys", "upstreams"}, name
        else:
            assert given == {shown}, name


def test_docker_waits_longer_than_the_server() -> None:
    longest = Settings().grace_seconds + 15
    for name in ("server", "server-cpu", "front", *VLLM, "proxy"):
        assert compose.seconds(compose.services()[name]["stop_grace_period"]) >= longest, name
    nginx = (compose.ROOT / "deploy/nginx/nginx.conf").read_text()
    waits = re.search(r"worker_shutdown_timeout (\d+)s;", nginx)
    assert waits is not None and int(waits[1]) >= Settings().grace_seconds + 10


def test_what_is_mounted_is_there() -> None:
    volumes = set(compose.project()["volumes"])
    for name, service in compose.services().items():
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            here = compose.COMPOSE.parent / source
            assert here.exists() if source.startswith("./") else source in volumes, (name, mount)
    assert (compose.COMPOSE.parent / "prometheus/prometheus.yml").is_file()


def test_the_names_that_prometheus_asks_for_are_somebodys() -> None:
    path = compose.ROOT / "deploy/prometheus/prometheus.yml"
    jobs = yaml.safe_load(path.read_text())["scrape_configs"]
    asked = {
        (name, entry["port"])
        for job in jobs
        for entry in job.get("dns_sd_configs", ())
        for name in entry["names"]
    }
    assert asked == {("server", 8000), ("vllm", 8000)}
    for profile, names in (("gpu", {"server"}), ("cpu", {"server"}), ("scale", {"server", "vllm"})):
        known: set[str] = set()
        for name, service in compose.services(profile).items():
            networks = service.get("networks", {"default": {}})
            known |= {name, *networks["default"].get("aliases", ())}
        assert names <= known, profile


@pytest.mark.parametrize("count", range(2, 9))
def test_there_are_as_many_vllm_servers_as_the_profiles_say(count: int) -> None:
    profiles = ("scale",) if count == 2 else ("scale", f"vllm-{count}")
    found = compose.services(*profiles)
    servers = [name for name in found if name in VLLM]
    assert servers == list(VLLM[:count])
    devices = [
        device["device_ids"]
        for name in servers
        for device in found[name]["deploy"]["resources"]["reservations"]["devices"]
    ]
    assert devices == [[str(number)] for number in range(count)], "each has a GPU of its own"


def test_the_vllm_servers_are_what_the_front_ends_ask_for() -> None:
    given = {"SCALE_MODEL": "Qwen/Qwen3-8B", "UPSTREAMS": "http://vllm-1:8000"}
    scale = compose.services("scale")
    upstreams = scale["front"]["environment"]["EXTRACOT_UPSTREAM"].split(",")
    assert upstreams == ["http://vllm-1:8000", "http://vllm-2:8000"]
    scale = compose.services("scale", **given)
    assert scale["front"]["environment"]["EXTRACOT_UPSTREAM"] == "http://vllm-1:8000"
    assert scale["front"]["environment"]["EXTRACOT_MODEL"] == "Qwen/Qwen3-8B"
    for name in ("vllm-1", "vllm-2"):
        assert "entrypoint" not in scale[name], "the image's: extracot-serve"
        verb, served, *flags = scale[name]["command"]
        assert (verb, served) == ("vllm", "Qwen/Qwen3-8B")
        assert {"--port=8000", "--host=0.0.0.0"} <= set(flags)


def test_a_file_of_upstreams_takes_the_place_of_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"UPSTREAMS": "", "UPSTREAMS_FOLDER": "./secrets/upstreams"}
    front = compose.services("scale", **given)["front"]
    assert "./secrets/upstreams:/run/upstreams:ro" in front["volumes"]
    for variable, value in front["environment"].items():
        monkeypatch.setenv(variable, value)
    settings = load_settings([])
    assert (settings.upstream, str(settings.upstreams)) == ([], "/run/upstreams/upstreams.yaml")
    both = compose.services("scale", UPSTREAMS_FOLDER="./secrets/upstreams")["front"]
    monkeypatch.setenv("EXTRACOT_UPSTREAM", both["environment"]["EXTRACOT_UPSTREAM"])
    with pytest.raises(SettingsError, match="give upstream or upstreams"):
        load_settings([])
    plain = compose.services("scale")["front"]
    assert plain["environment"]["EXTRACOT_UPSTREAMS"] == ""
    assert "upstreams:/run/upstreams:ro" in plain["volumes"], "an empty volume"
    for name in ("server", "server-cpu"):
        environment = compose.services(**given)[name]["environment"]
        assert environment["EXTRACOT_UPSTREAMS"] == "/run/upstreams/upstreams.yaml"


@pytest.mark.parametrize(
    "text", ["", "--max-model-len 16384 --quantization fp8", """--override '{"a": "b c"}' -tp 2"""]
)
def test_an_operator_s_own_arguments_reach_vllm(text: str) -> None:
    """As ``extracot-serve vllm`` reads them: the whole command line, and then the text."""
    (_, *words) = compose.services("scale", SCALE_VLLM_ARGS=text)["vllm-1"]["command"]
    _, given = read_arguments(words)
    own = shlex.split(text)
    assert given[len(given) - len(own) :] == own and len(given) == len(words) - 2 + len(own)


def test_the_former_names_of_the_proxy_s_settings_count() -> None:
    def mounted(**variables: str) -> str:
        volumes: list[str] = compose.services("scale", **variables)["proxy"]["volumes"]
        return volumes[-1].partition(":")[0]

    assert mounted() == "./nginx/plain.conf"
    assert mounted(DOOR="tls") == mounted(PROXY_LISTEN="tls") == "./nginx/tls.conf"
    assert mounted(DOOR="plain", PROXY_LISTEN="tls") == "./nginx/tls.conf"


@pytest.mark.vllm
def test_vllm_has_these_flags() -> None:
    """By the names in its source: its own help takes half a minute of imports."""
    spec = importlib.util.find_spec("vllm")
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent
    sources = [folder / "engine/arg_utils.py", *(folder / "entrypoints").rglob("*cli_args.py")]
    text = "\n".join(path.read_text() for path in sources)
    _, _, *flags, own = compose.services()["vllm-1"]["command"]
    assert own == "--args="
    for flag in [*flags, *default_arguments("m", (), cpu=True)]:
        name = flag.removeprefix("--").removeprefix("no-").partition("=")[0]
        assert f'"--{name}"' in text or re.search(rf"^    {name.replace('-', '_')}:", text, re.M)
