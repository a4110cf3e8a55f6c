"""Makes the extracts in tests/data/schemas from what KubeRay and SkyPilot publish.

python -m tests.deploy.extract kuberay FOLDER    # a checkout of github.com/ray-project/kuberay
python -m tests.deploy.extract skypilot          # in an environment with the package skypilot
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import yaml

SCHEMAS = Path(__file__).parents[1] / "data/schemas"
CRDS = "ray-operator/config/crd/bases/ray.io_{}.yaml"
SHARED = ("template", "submitterPodTemplate")  # of a pod, whose schema a CRD repeats for every group


def of_crd(schema: Any, shared: dict[str, Any], name: str = "") -> Any:
    """A schema of a CRD as JSON Schema that refuses fields which it does not know, as the API server does.

    Args:
        schema: of OpenAPI, or a part of it.
        shared: where the schemas of pods go, once each.
        name: of the field whose schema it is.
    """
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    kept = {key: schema[key] for key in ("type", "enum", "required", "minimum", "maximum", "pattern") if key in schema}
    if "properties" in schema:
        kept["properties"] = {key: of_crd(one, shared, key) for key, one in schema["properties"].items()}
        kept["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    elif "additionalProperties" in schema:
        kept["additionalProperties"] = of_crd(schema["additionalProperties"], shared)
    if "items" in schema:
        kept["items"] = of_crd(schema["items"], shared)
    if name not in SHARED:
        return kept
    known = next((key for key, one in shared.items() if one == kept), f"pod{len(shared)}")
    shared[known] = kept
    return {"$ref": f"#/$defs/{known}"}


def kuberay(checkout: Path) -> dict[str, Any]:
    """The schemas of RayCluster and RayJob, version v1."""
    shared: dict[str, Any] = {}
    kinds = {}
    for kind, plural in (("RayCluster", "rayclusters"), ("RayJob", "rayjobs")):
        crd = yaml.safe_load((checkout / CRDS.format(plural)).read_text(encoding="utf-8"))
        (version,) = [one for one in crd["spec"]["versions"] if one["name"] == "v1"]
        kinds[kind] = of_crd(version["schema"]["openAPIV3Schema"]["properties"]["spec"], shared)
    return {"$defs": shared | kinds}


def skypilot() -> dict[str, Any]:
    """The schemas of a task and of its resources."""
    schemas = importlib.import_module("sky.utils.schemas")
    return {"$defs": {"task": schemas.get_task_schema(), "resources": schemas.get_resources_schema()}}


def main(name: str, *folders: str) -> None:
    """Writes one extract."""
    made = kuberay(Path(folders[0])) if name == "kuberay" else skypilot()
    text = json.dumps(made, sort_keys=True, separators=(",", ":"))
    (SCHEMAS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
