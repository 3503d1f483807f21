"""What lies in ``cluster/``, and its pages: files parse, commands exist, nothing is public, nothing holds a secret."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner
from distributed.cli import dask_scheduler, dask_worker

from actstore.cli.commands import main
from actstore.errors import SpecError
from actstore.spec.spec import Spec, load_spec
from texts import in_shell

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
KUBERNETES = CLUSTER / "kubernetes"
PAGES = [ROOT / "docs" / f"{name}.md" for name in ("containers", "kubernetes", "s3", "slurm")]
SPEC = ROOT / "jobs" / "acdc.toml"
SBATCH = CLUSTER / "slurm" / "capture.sbatch"
#: Where the operator's definition of a DaskCluster lies in its wheel.
DEFINITION = "operator/deployment/helm/dask-kubernetes-operator/crds/daskcluster.yaml"

#: What a program says against the words of a command line; empty where nothing.
Parse = Callable[[Sequence[str]], str]

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`(actstore [^`\n]+)`(?!`)")


def load(name: str) -> Any:
    """The documents of a YAML file below ``cluster/``; of a single one, that one."""
    documents = list(yaml.safe_load_all((CLUSTER / name).read_text(encoding="utf-8")))
    return documents[0] if len(documents) == 1 else documents


def blocks(page: Path, language: str) -> list[str]:
    return [body for found, body in FENCE.findall(page.read_text(encoding="utf-8")) if found == language]


def pod_specs() -> dict[str, dict[str, Any]]:
    cluster = load("kubernetes/daskcluster.yaml")["spec"]
    job = load("kubernetes/capture-job.yaml")["spec"]["template"]
    return {
        "scheduler": cluster["scheduler"]["spec"],
        "worker": cluster["worker"]["spec"],
        "capture": job["spec"],
    }


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = load("compose.yaml")["services"]
    return found


# Commands


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command line of actstore and Dask in the folder and its pages, with the file that it is from."""
    yield from ((SBATCH.name, words) for words in in_shell(SBATCH.read_text(encoding="utf-8")))
    for page in PAGES:
        yield from ((page.name, words) for script in blocks(page, "sh") for words in in_shell(script))
    for name in ("compose.yaml", "compose.cuda.yaml"):
        for service in load(name)["services"].values():
            if service.get("command", [""])[0] in ("actstore", "dask"):
                yield name, [re.sub(r"\$\{\w+:-(.*?)\}", r"\1", word) for word in service["command"]]
    for name, pod in pod_specs().items():
        yield f"kubernetes {name}", pod["containers"][0]["args"]


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Parse:
    """Parses a command line as its program does, without running anything."""
    for command in main.commands.values():
        monkeypatch.setattr(command, "callback", lambda **_: None)
    monkeypatch.chdir(tmp_path)
    for name in ("me.pem", "me.key"):
        (tmp_path / name).touch()

    def parsed(words: Sequence[str]) -> str:
        program, *arguments = words
        if program == "actstore":
            kind = arguments[arguments.index("--cluster") + 1] if "--cluster" in arguments else None
            try:
                load_spec(SPEC).with_cluster(kind)
            except SpecError as error:
                return str(error)
            return CliRunner().invoke(main, arguments).stderr
        command = {"scheduler": dask_scheduler.main, "worker": dask_worker.main}[arguments[0]]
        try:
            # Dask passes what it does not know on to preload modules.
            unknown = command.make_context(arguments[0], arguments[1:]).params["preload_argv"]
        except click.UsageError as error:
            return error.format_message()
        return f"No such option: {unknown}" if unknown else ""

    return parsed


@pytest.mark.parametrize(
    ("file", "words"), [pytest.param(*found, id=f"{found[0]}: {' '.join(found[1])}") for found in commands()]
)
def test_commands_exist(parse: Parse, file: str, words: list[str]) -> None:
    assert parse(words) == ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_sentences_exist(parse: Parse, page: Path) -> None:
    """A sentence may leave out what a command is given."""
    for mentioned in INLINE.findall(page.read_text(encoding="utf-8")):
        said = parse(shlex.split(mentioned))
        assert said == "" or "Missing argument" in said, mentioned


def test_commands_are_found() -> None:
    found = {(file, words[1]) for file, words in commands()}
    assert {(page.name, "capture") for page in PAGES if page.name != "kubernetes.md"} <= found
    assert {("capture.sbatch", "capture"), ("compose.yaml", "capture"), ("kubernetes capture", "capture")} <= found
    assert {("compose.yaml", "worker"), ("kubernetes worker", "worker"), ("slurm.md", "worker")} <= found


def test_what_does_not_exist_is_noticed(parse: Parse) -> None:
    for line, said in (
        ("actstore capture SPEC --nothing", "No such option"),
        ("exec actstore nothing SPEC", "No such command"),
        ("sbatch --time=1:00:00 cluster/slurm/capture.sbatch SPEC --nothing", "No such option"),
        ("X=1 actstore plan", "Missing argument"),
        ("actstore capture SPEC --cluster nothing", "cluster 'nothing'"),
        ("dask worker tcp://127.0.0.1:8786 --nothing", "No such option"),
    ):
        (words,) = in_shell(line)
        assert said in parse(words)


# Specs


def merged(block: str) -> dict[str, Any]:
    """The example spec with the tables of ``block``."""
    content = tomllib.loads(SPEC.read_text(encoding="utf-8"))
    for name, table in tomllib.loads(block).items():
        content[name] = {**content.get(name, {}), **table}
    return content


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_of_pages_are_valid(page: Path) -> None:
    found = blocks(page, "toml")
    assert found or page.name == "containers.md"
    for block in found:
        Spec.from_mapping(merged(block), folder=SPEC.parent)


def test_slurm_tables_complete_a_spec() -> None:
    """Added to the example as the page says, and shown there without change."""
    added = (CLUSTER / "slurm" / "cluster.toml").read_text(encoding="utf-8")
    spec = Spec.from_mapping(tomllib.loads(SPEC.read_text(encoding="utf-8") + added), folder=SPEC.parent)
    assert spec.cluster.kind == "slurm"
    assert spec.cluster.interface
    shown = [tomllib.loads(block) for block in blocks(ROOT / "docs" / "slurm.md", "toml")]
    assert tomllib.loads(added) in shown


def test_manifest_that_the_page_names_is_there() -> None:
    named = [
        spec.cluster.kubernetes.manifest
        for block in blocks(ROOT / "docs" / "kubernetes.md", "toml")
        for spec in [Spec.from_mapping(merged(block), folder=SPEC.parent)]
    ]
    assert named == [KUBERNETES / "daskcluster.yaml"]


# SLURM


def test_sbatch_is_valid_shell() -> None:
    subprocess.run(["bash", "-n", str(SBATCH)], check=True)


def test_sbatch_options_come_first() -> None:
    """SLURM reads none behind the first command."""
    lines = SBATCH.read_text(encoding="utf-8").splitlines()
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    options = [i for i, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert options
    assert max(options) < first
    assert "#SBATCH --signal=B:TERM@300" in lines


def test_sigterm_reaches_actstore(tmp_path: Path) -> None:
    """The script becomes actstore, which is all that SLURM signals."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "activate").write_text(f"PATH={shlex.quote(str(tmp_path / 'bin'))}:$PATH\n", encoding="utf-8")
    program = tmp_path / "bin" / "actstore"
    program.write_text(
        "#!/bin/bash\ntrap 'echo stopped; exit 1' TERM\necho \"$@\"\nwhile :; do sleep 0.05; done\n", encoding="utf-8"
    )
    program.chmod(0o755)
    environment = {**os.environ, "ACTSTORE_VENV": str(tmp_path)}
    with subprocess.Popen(
        ["bash", str(SBATCH), "spec.toml", "--workers", "2"], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "capture spec.toml --workers 2 --cluster slurm\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "stopped\n"
        assert process.wait(180) == 1


def test_sbatch_without_spec_says_how() -> None:
    done = subprocess.run(["bash", str(SBATCH)], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: sbatch ")


# Containers


def test_image_is_pinned_and_not_root() -> None:
    text = (CLUSTER / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    instructions = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    assert re.fullmatch(r"PYTHON_IMAGE=\S+:3\.\d+-\S+", instructions[0][1])
    (user,) = [value for name, value in instructions if name == "USER"]
    assert min(map(int, user.split(":"))) > 0
    installs = [value for name, value in instructions if "pip install" in value]
    assert len(installs) == 2
    assert all("--constraint constraints.txt" in value for value in installs)
    for name, value in instructions:
        if name == "COPY" and not value.startswith("--from"):
            assert all((ROOT / source).exists() for source in value.split()[:-1])


def test_build_context_has_what_is_copied() -> None:
    text = (CLUSTER / "Containerfile").read_text(encoding="utf-8")
    copied = {name for line in re.findall(r"^COPY (?!--)(.*) \S+$", text, re.MULTILINE) for name in line.split()}
    ignore = (CLUSTER / "Containerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignore[0] == "*"
    assert {line[1:] for line in ignore if line.startswith("!")} == copied


def test_compose_publishes_on_loopback_alone() -> None:
    published = [port for service in services().values() for port in service.get("ports", ())]
    assert published == ["127.0.0.1:8786:8786", "127.0.0.1:8787:8787"]
    assert not any("network_mode" in service for service in services().values())


def test_compose_gives_no_rights() -> None:
    for name, service in services().items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged", False), name


def test_compose_cuda_changes_known_services() -> None:
    assert set(load("compose.cuda.yaml")["services"]) <= set(services())


def test_images_are_named_once_and_pinned() -> None:
    images = {pod["containers"][0]["image"] for pod in pod_specs().values()}
    assert images == {"registry.example.org/actstore:1"}
    ours = {service["image"] for name, service in services().items() if name != "s3"}
    assert ours == {"${ACTSTORE_IMAGE:-localhost/actstore:1}"}
    assert re.fullmatch(r"\S+:v\d+\.\d+\.\d+", services()["s3"]["image"])


# Kubernetes


def test_pods_are_restricted() -> None:
    """As the Pod Security Standard of that name asks."""
    for name, pod in pod_specs().items():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] > 0, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), name
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False, name
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
            assert set(container["resources"]) == {"requests", "limits"}, name
            assert not any("hostPort" in port for port in container.get("ports", ())), name
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in pod["volumes"]}, name


def test_scheduler_is_not_public() -> None:
    cluster = load("kubernetes/daskcluster.yaml")
    service = cluster["spec"]["scheduler"]["service"]
    assert service["type"] == "ClusterIP"
    assert not {"externalIPs", "loadBalancerIP"} & set(service)
    assert service["selector"]["dask.org/cluster-name"] == cluster["metadata"]["name"]


def test_job_reaches_the_scheduler() -> None:
    """By its service's name, and past the network policy."""
    cluster, job = load("kubernetes/daskcluster.yaml"), load("kubernetes/capture-job.yaml")
    assert f"tcp://{cluster['metadata']['name']}-scheduler:8786" in pod_specs()["capture"]["containers"][0]["args"]
    policy = load("kubernetes/network.yaml")["spec"]
    label = policy["podSelector"]["matchLabels"]
    assert policy["ingress"][0]["from"] == [{"podSelector": {"matchLabels": label}}]
    for labels in (cluster["metadata"]["labels"], job["spec"]["template"]["metadata"]["labels"]):
        assert label.items() <= labels.items()


def test_pods_share_one_volume() -> None:
    claim = load("kubernetes/volume.yaml")["metadata"]["name"]
    for name in ("worker", "capture"):
        volumes = {volume["name"]: volume for volume in pod_specs()[name]["volumes"]}
        assert volumes["study"]["persistentVolumeClaim"] == {"claimName": claim}


def test_nothing_holds_a_secret() -> None:
    for file in [path for path in CLUSTER.rglob("*") if path.suffix in (".yaml", ".toml", ".sbatch", ".env")]:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"^kind: Secret$", text, re.MULTILINE), file
        for value in re.findall(r"(?:KEY|SECRET|PASSWORD|TOKEN)\w*:[ \t]*(.*)$", text, re.MULTILINE):
            assert value == "" or re.fullmatch(r"\$\{AWS_\w+:-\}", value), f"{file}: {value}"


def strict(schema: Any) -> Any:
    """A definition's schema that refuses unknown keys, as ``kubectl apply`` does, and knows its own types."""
    if not isinstance(schema, dict):
        return schema
    made = {
        key: value for key, value in schema.items() if not key.startswith("x-") and key not in ("format", "default")
    }
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("anyOf", None)
        made["type"] = ["integer", "string"]
    if "properties" in made:
        made["properties"] = {name: strict(value) for name, value in made["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if key in made:
            made[key] = strict(made[key])
    return made


@pytest.mark.cluster
def test_manifests_fit_the_operator() -> None:
    """The cluster as a whole, and the Job's pod by what the operator says of pods."""
    jsonschema = pytest.importorskip("jsonschema", reason="the operator's schema needs jsonschema to be checked")
    package = find_spec("dask_kubernetes")
    if package is None or package.origin is None:
        pytest.skip("the operator's schema is in dask-kubernetes, which is not installed: pip install dask-kubernetes")
    definition = yaml.safe_load((Path(package.origin).parent / DEFINITION).read_text(encoding="utf-8"))
    manifest = load("kubernetes/daskcluster.yaml")
    group, version = manifest["apiVersion"].split("/")
    assert (group, manifest["kind"]) == (definition["spec"]["group"], definition["spec"]["names"]["kind"])
    (schema,) = [v["schema"]["openAPIV3Schema"] for v in definition["spec"]["versions"] if v["name"] == version]
    checked = strict(schema["properties"]["spec"])
    jsonschema.Draft202012Validator.check_schema(checked)
    jsonschema.validate(manifest["spec"], checked)
    jsonschema.validate(pod_specs()["capture"], checked["properties"]["worker"]["properties"]["spec"])

    pods = {"spec": {**manifest["spec"], "worker": {"replicas": 1, "spec": {"containers": [{"imagge": "x"}]}}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(pods["spec"], checked)


# Pages


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_files_that_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    linked = [page.parent / target for target in re.findall(r"\]\((?!http)([^)#]+)", text)]
    # Data, weights, results and logs are the reader's own.
    named = [ROOT / name for name in re.findall(r"(?<![\w/.])((?:cluster|jobs)/[\w./-]+\.\w+)", text)]
    made = {ROOT / "jobs" / "acdc-slurm.toml", CLUSTER / ".env"}
    assert linked
    assert [str(path) for path in (*linked, *named) if not path.exists() and path not in made] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_shell_of_pages_is_valid(page: Path) -> None:
    for script in blocks(page, "sh"):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
