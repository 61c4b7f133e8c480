"""Image, compose file and Kubernetes manifest name what the tree has, and agree with each other and with the units."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.core import TyperGroup

from pipeline.model.config import ENV_ELSEWHERE, EngineConfig
from pipeline.model.config_load import load_config
from pipeline.model.enums import Mode
from tests.paths import REPO
from workers.cli.app import app
from workers.control_plane.close_before_stop import stop_bound_s
from workers.credentials import KEY_FORMAT
from workers.last_run.journal_mode import name_of_mode
from workers.setup.host_checks import SHM_FREE_WARN

DEPLOY = REPO / "deploy"
IMAGE = "arb-engine:local"
#: Docker's and Kubernetes' letters of sizes.
UNITS = {"gb": 1 << 30, "mb": 1 << 20, "Gi": 1 << 30, "Mi": 1 << 20}


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) of the Dockerfile, continued lines joined."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines)]


def of(name: str) -> list[str]:
    return [rest for found, rest in instructions() if found == name]


def copied() -> list[str]:
    return [source for rest in of("COPY") for source in rest.split()[:-1]]


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for rest in of("ENV") for pair in rest.split())


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def manifest(kind: str) -> dict[str, Any]:
    texts = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    found: list[dict[str, Any]] = [text for text in texts if text["kind"] == kind]
    assert len(found) == 1, kind
    return found[0]


def pod() -> dict[str, Any]:
    found: dict[str, Any] = manifest("StatefulSet")["spec"]["template"]["spec"]
    return found


def container(name: str) -> dict[str, Any]:
    every = [*pod()["initContainers"], *pod()["containers"]]
    return next(one for one in every if one["name"] == name)


def size(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([A-Za-z]+)", text).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]


def parse(arguments: list[str]) -> dict[str, Any]:
    """What the command line understands of ``arb ARGUMENTS``. Raises where it does not."""
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    command = root.commands[arguments[0]]
    return command.make_context(arguments[0], list(arguments[1:])).params


def engine_config() -> EngineConfig:
    return load_config(DEPLOY / "engine.yaml")


def test_the_image_has_what_the_engine_imports_and_nothing_is_left_out_of_what_is_copied(tmp_path: Path) -> None:
    """Every module of the copied packages is imported where nothing but what is copied lies."""
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    assert ignored[ignored.index("*") :][0] == "*", "nothing is sent but what is named"
    for source in copied():
        assert (REPO / source).exists() and f"!{source}" in ignored, source
    packages = [source for source in copied() if (REPO / source / "__init__.py").exists()]
    assert set(packages) == set(
        tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    )
    for source in copied():
        (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / source).symlink_to(REPO / source)
    code = (
        "import importlib, pkgutil, sys\n"
        f"sys.path = [{str(tmp_path)!r}] + [path for path in sys.path if path != {str(REPO)!r}]\n"
        "sys.meta_path = [f for f in sys.meta_path if 'editable' not in getattr(f, '__module__', '')]\n"
        "walk = lambda name: pkgutil.walk_packages([sys.path[0] + '/' + name], name + '.')\n"
        "names = [module.name for package in sys.argv[1:] for module in walk(package)]\n"
        "for name in names:\n"
        "    if not name.endswith('__main__'):\n"
        "        importlib.import_module(name)\n"
        "print(len(names), importlib.import_module('workers').__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *packages], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-800:]
    count, where = done.stdout.split()
    assert int(count) > 300 and where.startswith(str(tmp_path))


def test_the_image_runs_as_its_own_user_and_starts_the_engine() -> None:
    (version,) = re.findall(r"^python:(\d+\.\d+)", of("FROM")[0])
    wanted = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["requires-python"]
    low, high = re.findall(r"\d+\.(\d+)", wanted)
    assert int(low) <= int(version.split(".")[1]) < int(high)
    assert of("USER") == ["arb"] and instructions()[-1][0] == "CMD"
    assert "--uid 10001" in " ".join(of("RUN"))
    env = environment()
    made = " ".join(of("RUN"))
    for folder in (env["ARB_STATE_DIR"], env["ARB_CACHE_DIR"]):
        assert folder in made and folder in of("VOLUME")[0]
    assert of("ENTRYPOINT") == ['["tini", "--", "arb"]'] and "install -y --no-install-recommends tini" in made
    assert "arb" in tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["scripts"]
    assert env["PATH"].startswith(f"{of('WORKDIR')[0]}/.venv/bin:")
    parse(yaml.safe_load(of("CMD")[0]))
    assert env["ARB_AWAIT_ROOM"] and "ARB_AWAIT_ROOM" in ENV_ELSEWHERE, "without room it would be started for ever"


def test_the_configuration_that_comes_along_is_valid_and_trades_nothing(state_dir: Path) -> None:
    config = engine_config()
    assert config.mode is Mode.PAPER and config.instance == "main-paper" and config.monitoring is not None
    assert {venue.name for venue in config.venues} == {"mexc_spot", "gateio_spot", "gateio_futures"}


def test_what_compose_mounts_is_there_and_what_it_starts_is_understood() -> None:
    services = compose()["services"]
    named = set(compose()["volumes"])
    used = set()
    for name, service in services.items():
        for volume in service.get("volumes", []):
            source, target = volume.split(":")[:2]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), volume
                assert volume.endswith(":ro"), "what comes from the checkout is only read"
            else:
                used.add(source)
            assert target.startswith("/"), volume
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), (name, port)
        assert not service.get("privileged") and service["restart"] == "unless-stopped"
        assert name == "network" or service["network_mode"] == "service:network"
    assert used == named
    assert {service["image"] for name, service in services.items() if name in ("engine", "network")} == {IMAGE}
    assert "network_mode" not in services["network"], "it holds the network"
    build = services["network"]["build"]
    assert (DEPLOY / build["context"]).resolve() == REPO and (REPO / build["dockerfile"]).exists()
    engine, env = services["engine"], environment()
    targets = {volume.split(":")[1] for volume in engine["volumes"]}
    assert targets == {env["ARB_CONFIG"], env["ARB_STATE_DIR"], env["ARB_CACHE_DIR"]}
    parse(engine["command"])
    assert size(engine["shm_size"]) >= SHM_FREE_WARN, "`arb doctor` would warn"


def test_prometheus_and_grafana_of_compose_read_what_is_provisioned() -> None:
    services, monitoring = compose()["services"], engine_config().monitoring
    assert monitoring is not None
    scrape = yaml.safe_load((REPO / "systemd/prometheus/scrape.yaml").read_text())
    assert scrape["scrape_configs"][0]["static_configs"][0]["targets"] == [f"127.0.0.1:{monitoring.port}"]
    assert f"http://127.0.0.1:{monitoring.port}/healthz" in services["engine"]["healthcheck"]["test"][-1]
    options = dict(option.split("=", 1) for option in services["prometheus"]["command"])
    mounts = {volume.split(":")[1]: volume.split(":")[0] for volume in services["prometheus"]["volumes"]}
    folder, _, file = options["--config.file"].rpartition("/")
    assert (DEPLOY / mounts[folder] / file).exists()
    assert all((DEPLOY / mounts[folder] / rules).exists() for rules in scrape["rule_files"])
    assert options["--storage.tsdb.path"] in mounts
    boards = {volume.split(":")[1]: volume.split(":")[0] for volume in services["grafana"]["volumes"]}
    provisioned = yaml.safe_load((DEPLOY / boards["/etc/grafana/provisioning/dashboards/arb.yaml"]).read_text())
    assert list((DEPLOY / boards[provisioned["providers"][0]["options"]["path"]]).glob("*.json"))
    source = yaml.safe_load((DEPLOY / boards["/etc/grafana/provisioning/datasources/arb.yaml"]).read_text())
    port = source["datasources"][0]["url"].rpartition(":")[2]
    assert f"127.0.0.1:{port}:{port}" in services["network"]["ports"]


def test_a_stop_has_as_long_as_it_may_take() -> None:
    """Nobody extends it here, as systemd does when the supervisor asks: what is open would be left by a SIGKILL."""
    bound_s = stop_bound_s(engine_config())
    assert int(compose()["services"]["engine"]["stop_grace_period"].removesuffix("s")) > bound_s
    assert pod()["terminationGracePeriodSeconds"] > bound_s


def test_the_manifest_is_one_engine_that_is_never_twice() -> None:
    spec = manifest("StatefulSet")["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["replicas"] == 1 and spec["selector"]["matchLabels"].items() <= labels.items()
    assert spec["volumeClaimTemplates"][0]["spec"]["accessModes"] == ["ReadWriteOncePod"]
    service = manifest("Service")
    assert service["metadata"]["name"] == spec["serviceName"] and service["spec"]["selector"].items() <= labels.items()
    named_ports = {port["name"] for one in pod()["containers"] for port in one.get("ports", [])}
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= named_ports
    namespaces = {manifest(kind)["metadata"]["namespace"] for kind in ("StatefulSet", "Service")}
    assert namespaces == {manifest("Namespace")["metadata"]["name"]}


def test_the_pods_containers_have_their_volumes_user_and_commands() -> None:
    security = pod()["securityContext"]
    user = int(re.findall(r"--uid (\d+)", " ".join(of("RUN")))[0])
    assert security["runAsUser"] == security["fsGroup"] == user and security["runAsNonRoot"]
    claims = {claim["metadata"]["name"] for claim in manifest("StatefulSet")["spec"]["volumeClaimTemplates"]}
    there = claims | {volume["name"] for volume in pod()["volumes"]}
    used = set()
    for one in [*pod()["initContainers"], *pod()["containers"]]:
        used |= {mount["name"] for mount in one["volumeMounts"]}
        hardened = one["securityContext"]
        assert hardened["readOnlyRootFilesystem"] and not hardened["allowPrivilegeEscalation"], one["name"]
        assert one["resources"]["requests"] == one["resources"]["limits"], "else the pod has no CPUs of its own"
        assert not {"livenessProbe"} & set(one)
    assert used == there
    engine, env = container("engine"), environment()
    assert engine["image"] == container("keys")["image"] == IMAGE
    mounts = {mount["mountPath"] for mount in engine["volumeMounts"]}
    assert {env["ARB_STATE_DIR"], env["ARB_CACHE_DIR"], "/dev/shm", str(Path(env["ARB_CONFIG"]).parent)} <= mounts
    given = {variable["name"]: variable["value"] for variable in engine["env"]}
    assert given["CREDENTIALS_DIRECTORY"] in mounts
    parse(engine["args"])
    shm = next(volume for volume in pod()["volumes"] if volume["name"] == "shm")["emptyDir"]
    assert shm["medium"] == "Memory" and size(shm["sizeLimit"]) >= SHM_FREE_WARN
    memory = size(engine["resources"]["limits"]["memory"])
    assert 2 << 30 <= memory <= 4 << 30 and memory > 2 * size(shm["sizeLimit"]), "shared memory counts as its own"
    assert 1 <= int(engine["resources"]["limits"]["cpu"]) <= 2
    monitoring = engine_config().monitoring
    assert monitoring is not None
    assert f"http://127.0.0.1:{monitoring.port}/healthz" in engine["readinessProbe"]["exec"]["command"][-1]


def test_live_as_both_files_say_it_is_understood() -> None:
    comment = re.findall(r"live: (\[.*?\])", (DEPLOY / "kubernetes.yaml").read_text())[0]
    readme = re.findall(r"`command: (\[.*?\])`", (DEPLOY / "README.md").read_text())[0]
    assert yaml.safe_load(comment) == yaml.safe_load(readme)
    live_name = parse(yaml.safe_load(comment))["live_name"]
    assert live_name != engine_config().instance, "a live start on paper's journal is refused"
    assert name_of_mode(live_name, Mode.PAPER) == engine_config().instance
    assert f"`engine_name: {live_name}`" in (DEPLOY / "README.md").read_text()


@pytest.mark.parametrize("names", [[], ["mexc.json", "gateio.json"]])
def test_keys_of_a_secret_become_the_engines_own(names: list[str], tmp_path: Path) -> None:
    """The init container's script, run by a shell: a secret may be absent, or readable by its group."""
    secrets, keys = tmp_path / "secrets", tmp_path / "keys"
    for folder in (secrets, keys):
        folder.mkdir()
    for name in names:
        (secrets / name).write_text(KEY_FORMAT)
        (secrets / name).chmod(0o440)
    command = container("keys")["command"]
    script = command[2].replace("/secrets", str(secrets)).replace("/run/keys", str(keys))
    subprocess.run([*command[:2], script], check=True)
    assert {path.name: path.stat().st_mode & 0o777 for path in keys.iterdir()} == dict.fromkeys(names, 0o600)


def test_the_readmes_commands_name_files_services_and_objects_that_are_there() -> None:
    text = (DEPLOY / "README.md").read_text()
    lines = [line.split(" #")[0].strip() for line in text.splitlines() if line.startswith("    ")]
    created = {"configmap": set(), "secret": set()}  # type: dict[str, set[str]]
    for line in lines:
        words = shlex.split(line)
        if words[:2] == ["docker", "compose"]:
            assert (REPO / words[words.index("-f") + 1]).exists(), line
            after = words[words.index("-f") + 2 :]
            if after[0] in ("exec", "run"):
                rest = [word for word in after[1:] if word not in ("--rm", "--no-deps")]
                assert rest[0] in compose()["services"], line
                arguments = rest[2:] if after[0] == "exec" else rest[1:]
                root = typer.main.get_command(app)
                assert isinstance(root, TyperGroup) and arguments[0] in root.commands, line
        for found in re.findall(r"--from-file=(?:[\w.]+=)?([\w./]+/[\w./]*)", line):
            assert (REPO / found).exists(), line
        kind = next((kind for kind in created if kind in words), "")
        if "create" in words and kind:
            created[kind].add(words[words.index(kind) + (2 if kind == "secret" else 1)])
    volumes = pod()["volumes"]
    assert created["configmap"] == {volume["configMap"]["name"] for volume in volumes if "configMap" in volume}
    assert created["secret"] == {volume["secret"]["secretName"] for volume in volumes if "secret" in volume}


def complaints(*command: str) -> str:
    """What a linter prints of what it refuses; "" where it refuses nothing. Skips where it is not installed."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr + f"exit code {done.returncode}" if done.returncode else ""


def test_hadolint_has_nothing_against_the_dockerfile() -> None:
    # DL3008: versions of Debian's packages move
    assert complaints("hadolint", "--ignore", "DL3008", "deploy/Dockerfile") == ""


def test_compose_reads_its_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed")
    assert complaints("docker", "compose", "-f", "deploy/compose.yaml", "config", "--quiet") == ""


def test_kubeconform_knows_every_field() -> None:
    assert complaints("kubeconform", "-strict", "-summary", "deploy/kubernetes.yaml") == ""
