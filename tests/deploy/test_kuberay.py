"""The manifests for KubeRay are what its operator and the API server take, and say what the pages say."""

import copy
import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from cluster import cli
from cluster.config.reading import load_config
from cluster.placement.metadata import FOLDER, NAME, RUN
from tests.deploy.kustomize import LOCAL, built

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "deploy/kuberay"
SCHEMAS = json.loads((ROOT / "tests/data/schemas/kuberay.json").read_text(encoding="utf-8"))
FOLDERS = sorted(path.parent.name for path in PLACE.glob("*/kustomization.yaml"))
HARDENED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "Unconfined"},
    "appArmorProfile": {"type": "Unconfined"},
}
every_folder = pytest.mark.parametrize("folder", FOLDERS)


def of_kind(folder: str, kind: str) -> dict[str, Any]:
    """The one resource of a kind that a folder makes."""
    (found,) = [one for one in built(PLACE / folder) if one["kind"] == kind]
    return found


def cluster_of(folder: str) -> dict[str, Any]:
    """The spec of the cluster that a folder makes, by itself or for its job."""
    kinds = [one["kind"] for one in built(PLACE / folder)]
    if "RayCluster" in kinds:
        return dict(of_kind(folder, "RayCluster")["spec"])
    return dict(of_kind(folder, "RayJob")["spec"]["rayClusterSpec"])


def pods_of(cluster: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The spec of the pods of each group, the head's among them."""
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]} | {"head": cluster["headGroupSpec"]}
    return {name: group["template"]["spec"] for name, group in groups.items()}


def problems(spec: Any, kind: str) -> list[str]:
    """What KubeRay's definition of a kind refuses."""
    schema = jsonschema.Draft202012Validator({"$ref": f"#/$defs/{kind}"} | SCHEMAS)
    return [f"{error.json_path}: {error.message}" for error in schema.iter_errors(spec)]


@every_folder
def test_the_definitions_of_kuberay_take_every_resource(folder: str) -> None:
    for one in built(PLACE / folder):
        if one["apiVersion"] == "ray.io/v1":
            assert problems(one["spec"], one["kind"]) == []


def test_the_definitions_refuse_a_field_that_is_misspelt() -> None:
    spec = copy.deepcopy(cluster_of("base"))
    spec["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    spec["enableInTreeAutoscaling"] = "yes"
    assert len(problems(spec, "RayCluster")) == 2


@every_folder
@pytest.mark.skipif(not shutil.which("kubectl"), reason="there is no kubectl here")
def test_kubectl_makes_the_same(folder: str) -> None:
    command = ["kubectl", "kustomize", str(PLACE / folder)]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    ours = {one["kind"]: one for one in built(PLACE / folder)}
    for one in ours.values():
        one["metadata"].get("annotations", {}).pop(LOCAL, None)
    assert {one["kind"]: one for one in yaml.safe_load_all(made)} == ours


@every_folder
def test_the_models_of_the_kubernetes_client_lose_nothing_of_a_pod(folder: str) -> None:
    from kubernetes.client import ApiClient

    client = ApiClient()
    for one in [*pods_of(cluster_of(folder)).values(), of_kind(folder, "PersistentVolumeClaim")["spec"]]:
        kind = "V1PodSpec" if "containers" in one else "V1PersistentVolumeClaimSpec"
        read = client._ApiClient__deserialize(one, kind)
        assert client.sanitize_for_serialization(read) == one


@every_folder
def test_every_pod_runs_as_the_user_of_the_image_and_lets_the_sandbox_work(folder: str) -> None:
    dockerfile = (ROOT / "deploy/docker/Dockerfile").read_text(encoding="utf-8")
    (user,) = re.findall(r"^USER (\d+)$", dockerfile, re.M)
    for pod in pods_of(cluster_of(folder)).values():
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == int(user)
        (container,) = pod["containers"]
        assert container["securityContext"] == HARDENED
        assert {"name": "shared", "mountPath": "/shared"} in container["volumeMounts"]
        assert container["image"] == "registry.example.com/winnow:gpu"


@every_folder
def test_the_token_comes_from_a_secret_and_stands_in_no_file(folder: str) -> None:
    assert cluster_of(folder)["authOptions"] == {"mode": "token", "secretName": "winnow-token"}
    assert [one["kind"] for one in built(PLACE / folder) if one["kind"] == "Secret"] == []


@every_folder
def test_the_autoscaler_is_on_and_its_bounds_make_sense(folder: str) -> None:
    cluster = cluster_of(folder)
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for name, pod in pods_of(cluster).items():
        resources = pod["containers"][0]["resources"]
        assert resources["requests"] == resources["limits"]
        assert ("nvidia.com/gpu" in resources["limits"]) is (name in ("gpu", "spot"))


@pytest.mark.parametrize(("folder", "gpus"), [("base", 8), ("64-gpus", 64)])
def test_the_nodes_that_stay_have_as_many_gpus_as_the_sizes_say(folder: str, gpus: int) -> None:
    cluster = cluster_of(folder)
    (group,) = [one for one in cluster["workerGroupSpecs"] if one["groupName"] == "gpu"]
    each = int(pods_of(cluster)["gpu"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"])
    assert group["minReplicas"] * each == gpus


def test_ray_has_the_version_of_the_lock_files() -> None:
    for name in ("cpu", "gpu"):
        lock = (ROOT / f"deploy/requirements/{name}.txt").read_text(encoding="utf-8")
        assert re.findall(r"^ray==(\S+)", lock, re.M) == [cluster_of("base")["rayVersion"]]


def test_the_job_is_the_cluster_of_the_other_folder_with_the_persons_files_on_every_node() -> None:
    cluster, files = cluster_of("job"), {"name": "job", "configMap": {"name": "winnow-job"}}
    for pod in pods_of(cluster).values():
        pod["volumes"].remove(files)
        pod["containers"][0]["volumeMounts"].remove({"name": "job", "mountPath": "/job"})
    assert cluster == cluster_of("base")
    assert of_kind("job", "ConfigMap")["metadata"]["name"] == "winnow-job"
    assert "RayCluster" not in [one["kind"] for one in built(PLACE / "job")]


def test_each_try_of_the_job_goes_on_where_the_last_one_was() -> None:
    job = of_kind("job", "RayJob")["spec"]
    wrapped = shlex.split(job["entrypoint"])
    read, rest = cli._parser().parse_known_args(wrapped[wrapped.index("winnow") + 1 :])
    assert (str(read.resume), rest) == ("auto", [])
    assert job["backoffLimit"] > 0
    assert int(yaml.safe_load(job["runtimeEnvYAML"])["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"]) >= 600


def test_the_command_of_the_job_means_the_same_to_the_shell_that_submits_it_and_to_that_of_the_head() -> None:
    assert re.fullmatch(r"[A-Za-z0-9 /._=-]+", of_kind("job", "RayJob")["spec"]["entrypoint"])


@pytest.mark.parametrize(("status", "told"), [(0, 0), (1, 1), (137, 137), (143, 143), (2, 0), (3, 0)])
def test_a_mistake_or_a_run_that_starves_makes_no_other_cluster(tmp_path: Path, status: int, told: int) -> None:
    for name, text in of_kind("job", "ConfigMap")["data"].items():
        (tmp_path / name).write_text(text)
    (tmp_path / "winnow").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\nexit {status}\n')
    (tmp_path / "winnow").chmod(0o755)
    command = of_kind("job", "RayJob")["spec"]["entrypoint"].replace("/job/", f"{tmp_path}/")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == told
    assert (f"FAILED with status {status}" in done.stderr) is (status != told)
    assert (tmp_path / "asked").read_text().startswith(f"train {tmp_path}/run.toml run.name=first")


def test_winnow_finds_the_run_of_the_job_as_one_that_it_has_sent() -> None:
    job = of_kind("job", "RayJob")["spec"]
    said = dict(word.split("=", 1) for word in shlex.split(job["entrypoint"]) if "=" in word)
    run, folder = said["run.name"], said["run.folder"]
    assert job["metadata"] == {NAME: run, RUN: run, FOLDER: f"{folder}/{run}"}


@every_folder
def test_keys_come_from_a_secret_that_need_not_be_there(folder: str) -> None:
    for pod in pods_of(cluster_of(folder)).values():
        assert pod["containers"][0]["envFrom"] == [{"secretRef": {"name": "winnow-keys", "optional": True}}]


def test_the_run_file_of_the_job_fits_onto_the_cluster() -> None:
    config = load_config(PLACE / "job/run.toml", [])
    assert config.cluster.learner_ranks + int(config.cluster.generators) * config.cluster.tensor_parallel == 8
    assert config.model.path.startswith("/shared/")
    assert config.data.path.startswith("/shared/")
