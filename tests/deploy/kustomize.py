"""What `kubectl apply -k` makes of a folder: as much of kustomize as the folders in deploy/kuberay use.

Kustomize is one program that is no Python package; where `kubectl` is installed a test compares the two.
"""

import copy
from pathlib import Path
from typing import Any

import yaml

LOCAL = "config.kubernetes.io/local-config"  # the annotation of a resource that is read and not made


def built(folder: Path) -> list[dict[str, Any]]:
    """The resources that are made, each a tree."""
    return [one for one in _resources(folder) if not one["metadata"].get("annotations", {}).get(LOCAL)]


def _resources(folder: Path) -> list[dict[str, Any]]:
    said = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = []
    for name in said["resources"]:
        place = folder / name
        found += _resources(place) if place.is_dir() else list(yaml.safe_load_all(place.read_text(encoding="utf-8")))
    for made in said.get("configMapGenerator", []):
        data = {name: (folder / name).read_text(encoding="utf-8") for name in made["files"]}
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": made["name"]}, "data": data})
    for patch in said.get("patches", []):
        text = patch.get("patch") or (folder / patch["path"]).read_text(encoding="utf-8")
        for tree in _of_kind(found, patch["target"]["kind"]):
            for change in yaml.safe_load(text):
                _change(tree, change)
    for copied in said.get("replacements", []):
        (source,) = _of_kind(found, copied["source"]["kind"])
        for target in copied["targets"]:
            (tree,) = _of_kind(found, target["select"]["kind"])
            for path in target["fieldPaths"]:
                *above, last = path.split(".")
                _at(tree, above)[last] = copy.deepcopy(_at(source, copied["source"]["fieldPath"].split(".")))
    for tree in found:
        tree["metadata"]["namespace"] = said.get("namespace", tree["metadata"].get("namespace"))
        for image in said.get("images", []):
            _rename_images(tree, image["name"], f"{image['newName']}:{image['newTag']}")
    return found


def _of_kind(trees: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [tree for tree in trees if tree["kind"] == kind]


def _at(tree: Any, path: list[str]) -> Any:
    for step in path:
        tree = tree[int(step) if isinstance(tree, list) else step]
    return tree


def _change(tree: dict[str, Any], change: dict[str, Any]) -> None:
    """One operation of a JSON patch, "add" or "replace"."""
    *above, last = change["path"].strip("/").split("/")
    place = _at(tree, above)
    if isinstance(place, list):
        assert (change["op"], last) == ("add", "-"), change
        place.append(change["value"])
        return
    assert change["op"] == "add" or last in place, f"nothing to replace at {change['path']}"
    place[last] = change["value"]


def _rename_images(tree: Any, name: str, new: str) -> None:
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if key == "image" and value == name:
            tree[key] = new
        elif isinstance(value, dict | list):
            _rename_images(value, name, new)
