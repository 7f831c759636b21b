"""The Kubernetes manifests against the fields that KubeRay's CRDs know and require (version 1.7.0).

The CRDs themselves are 1.4 MB, most of it Kubernetes' pod template; this is what is KubeRay's own, and of
the pod template what a Ray pod cannot do without.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from sam2vt.distributed.cluster.capacity import known_autoscaler

KUBERAY = Path(__file__).resolve().parents[3] / "deploy" / "kuberay"
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
TEXT, NUMBER, BOOL = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}


def fields(known: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": known, "required": list(required), "additionalProperties": False}


def unused(*names: str) -> dict[str, Any]:
    """Fields that KubeRay knows and no manifest here uses: what they hold is not looked at."""
    return dict.fromkeys(names, True)


CONTAINER = {
    "type": "object",
    "required": ["name", "image", "resources", "volumeMounts"],
    "properties": {
        "image": {"type": "string", "pattern": r"^[^:]+:[0-9]"},
        "resources": fields({"requests": TEXTS, "limits": TEXTS}, "requests", "limits"),
    },
}
POD = {
    "type": "object",
    "required": ["containers", "volumes", "securityContext"],
    "properties": {"containers": {"type": "array", "items": CONTAINER, "minItems": 1}},
    "not": {"required": ["restartPolicy"]},  # the autoscaler's second version wants it Never or not at all
}
GROUP = {
    "rayStartParams": TEXTS,
    "labels": TEXTS,
    "template": fields({"spec": POD, "metadata": {"type": "object"}}, "spec"),
    **unused("resources"),
}
HEAD = fields(
    {**GROUP, **unused("enableIngress", "headService", "ingressOptions", "serviceType")},
    *("template", "rayStartParams"),
)
WORKERS = fields(
    {
        "groupName": {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
        **dict.fromkeys(("replicas", "minReplicas", "maxReplicas", "idleTimeoutSeconds", "priority"), NUMBER),
        **GROUP,
        **unused("numOfHosts", "scaleStrategy", "suspend"),
    },
    *("groupName", "minReplicas", "maxReplicas", "template", "rayStartParams"),
)
AUTOSCALER = fields(
    {
        "version": {"enum": ["v2"]},
        "upscalingMode": {"enum": ["Default", "Aggressive", "Conservative"]},
        "idleTimeoutSeconds": NUMBER,
        "resources": CONTAINER["properties"]["resources"],
        **unused("args", "command", "env", "envFrom", "image", "imagePullPolicy", "securityContext"),
        **unused("volumeMounts"),
    },
    *("version", "idleTimeoutSeconds"),
)
CLUSTER = fields(
    {
        "rayVersion": TEXT,  # required with token authentication
        "enableInTreeAutoscaling": {"const": True},
        "autoscalerOptions": AUTOSCALER,
        "authOptions": fields({"mode": {"const": "token"}, "secretName": TEXT}, "mode"),
        "headGroupSpec": HEAD,
        "workerGroupSpecs": {"type": "array", "items": WORKERS, "minItems": 1},
        **unused("gcsFaultToleranceOptions", "headServiceAnnotations", "historyServerOptions", "managedBy"),
        **unused("networkPolicy", "suspend", "tlsOptions", "upgradeStrategy"),
    },
    *("rayVersion", "enableInTreeAutoscaling", "autoscalerOptions", "authOptions", "headGroupSpec"),
    "workerGroupSpecs",
)
JOB = fields(
    {
        "entrypoint": TEXT,
        "submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        "backoffLimit": NUMBER,
        "shutdownAfterJobFinishes": BOOL,
        "ttlSecondsAfterFinished": NUMBER,
        "runtimeEnvYAML": TEXT,
        "rayClusterSpec": CLUSTER,
        **unused("activeDeadlineSeconds", "clusterSelector", "deletionStrategy", "entrypointNumCpus"),
        **unused("entrypointNumGpus", "entrypointResources", "jobId", "managedBy", "metadata"),
        **unused("preRunningDeadlineSeconds", "submitterConfig", "submitterPodTemplate", "suspend"),
    },
    *("entrypoint", "rayClusterSpec"),
)
NAMED = {"type": "object", "required": ["name"]}


def resource(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    known = {"apiVersion": {"const": "ray.io/v1"}, "kind": {"const": kind}, "metadata": NAMED, "spec": spec}
    return fields(known, *known)


SCHEMAS = {
    "raycluster.yaml": resource("RayCluster", CLUSTER),
    "rayjob.yaml": resource("RayJob", JOB),
}


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((KUBERAY / name).read_text())


def cluster_spec(name: str) -> dict[str, Any]:
    spec = load(name)["spec"]
    return spec.get("rayClusterSpec", spec)


def test_there_is_a_schema_for_every_manifest() -> None:
    assert {path.name for path in KUBERAY.iterdir()} == {*SCHEMAS, "kustomization.yaml"}


@pytest.mark.parametrize("name", SCHEMAS)
def test_fields_are_known_and_complete(name: str) -> None:
    jsonschema.validate(load(name), SCHEMAS[name])


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_misspelled_field_is_found(name: str) -> None:
    manifest = load(name)
    spec = manifest["spec"].get("rayClusterSpec", manifest["spec"])
    spec["workerGroupSpecs"][0]["maxReplica"] = spec["workerGroupSpecs"][0].pop("maxReplicas")
    with pytest.raises(jsonschema.ValidationError, match="maxReplica"):
        jsonschema.validate(manifest, SCHEMAS[name])


def test_a_job_runs_on_the_cluster_of_its_own_manifest() -> None:
    assert cluster_spec("rayjob.yaml") == cluster_spec("raycluster.yaml")


def test_the_head_runs_no_work_and_the_rest_scales_from_nothing() -> None:
    spec = cluster_spec("raycluster.yaml")
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    assert set(groups) == {"gpu-train", "cpu-data"}
    for group in groups.values():
        assert group["minReplicas"] == group["replicas"] == 0 < group["maxReplicas"]
    limits = {
        name: group["template"]["spec"]["containers"][0]["resources"]["limits"]
        for name, group in groups.items()
    }
    assert limits["gpu-train"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in limits["cpu-data"]


def test_what_is_mounted_exists_and_nothing_runs_as_root() -> None:
    spec = cluster_spec("raycluster.yaml")
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == volumes


def test_a_stopped_job_may_save_before_its_pod_ends() -> None:
    spec = cluster_spec("raycluster.yaml")
    head = spec["headGroupSpec"]["template"]["spec"]
    environment = {entry["name"]: entry["value"] for entry in head["containers"][0]["env"]}
    assert int(environment["RAY_JOB_STOP_WAIT_TIME_S"]) < head["terminationGracePeriodSeconds"]


def test_the_head_is_told_how_far_its_groups_may_grow() -> None:
    spec = cluster_spec("raycluster.yaml")
    environment = spec["headGroupSpec"]["template"]["spec"]["containers"][0]["env"]
    told = known_autoscaler({entry["name"]: entry["value"] for entry in environment})
    assert told is not None
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    assert {kind.name for kind in told.node_types} == set(groups)
    for kind in told.node_types:
        group = groups[kind.name]
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        gpus = {"GPU": int(limits["nvidia.com/gpu"])} if "nvidia.com/gpu" in limits else {}
        assert kind.resources == {"CPU": int(limits["cpu"]), **gpus}
        assert (kind.labels, kind.max_nodes) == (group["labels"], group["maxReplicas"])


def test_the_kustomization_reaches_every_pod() -> None:
    content = yaml.safe_load((KUBERAY / "kustomization.yaml").read_text())
    (resource,), (image,), (patch,) = content["resources"], content["images"], content["patches"]
    text = (KUBERAY / resource).read_text()
    cluster, places = yaml.safe_load(text), set()
    assert patch["target"]["kind"] == cluster["kind"]
    for each in yaml.safe_load(patch["patch"]):
        *path, added = each["path"].strip("/").split("/")
        node = cluster
        for part in path:
            node = node[int(part) if part.isdecimal() else part]
        assert added == "imagePullSecrets"
        places.add(id(node))
        assert all(one["image"].startswith(f"{image['name']}:") for one in node["containers"])
    assert len(places) == text.count("image:") == 3
