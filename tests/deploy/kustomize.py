"""Builds a kustomization as `kubectl kustomize` does, as far as deploy/kubernetes needs it.

A field that is not known here is an ``AssertionError``: what is not understood is not skipped.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

KINDS = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
FIELDS = {*KINDS, "resources", "images", "replicas", "patches"}
# Lists whose entries are merged by a field of theirs, as Kubernetes' own schema has it.
MERGED_BY = {"containers": "name", "env": "name", "volumes": "name", "volumeMounts": "mountPath"}


def build(folder: Path) -> list[dict[str, Any]]:
    """The objects that ``kubectl apply -k folder`` would send."""
    content = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert content.items() >= KINDS.items() and set(content) <= FIELDS, set(content) - FIELDS
    objects: list[dict[str, Any]] = []
    for name in content["resources"]:
        path = (folder / name).resolve()
        objects += build(path) if path.is_dir() else [yaml.safe_load(path.read_text())]
    named = [(found["kind"], found["metadata"]["name"]) for found in objects]
    assert len(set(named)) == len(named), "an object twice"
    for patch in content.get("patches", ()):
        _patch(objects, patch, folder)
    for image in content.get("images", ()):
        _image(objects, **image)
    for entry in content.get("replicas", ()):
        assert set(entry) == {"name", "count"}
        for found in _named(objects, "Deployment", entry["name"]):
            found["spec"]["replicas"] = entry["count"]
    return objects


def _named(objects: list[dict[str, Any]], kind: str, name: str) -> list[dict[str, Any]]:
    found = [o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, f"{kind} {name}: {len(found)}"
    return found


def _patch(objects: list[dict[str, Any]], patch: dict[str, Any], folder: Path) -> None:
    if set(patch) == {"path"}:
        change = yaml.safe_load((folder / patch["path"]).read_text())
        (found,) = _named(objects, change["kind"], change["metadata"]["name"])
        assert found["apiVersion"] == change["apiVersion"]
        found.update(_merged(found, change))
        return
    assert set(patch) == {"target", "patch"} and set(patch["target"]) == {"kind", "name"}
    (found,) = _named(objects, **patch["target"])
    for step in yaml.safe_load(patch["patch"]):
        assert set(step) == {"op", "path", "value"} and step["op"] == "add"
        *way, last = step["path"].strip("/").split("/")
        place: Any = found
        for word in way:
            place = place[word]
        assert last == "-" and isinstance(place, list), "only additions to a list"
        place.append(step["value"])


def _merged(old: Any, new: Any, name: str = "") -> Any:
    """A strategic merge: maps field by field, some lists by a name, all else replaced."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {key: _merged(old.get(key), value, key) for key, value in new.items()}
    if isinstance(old, list) and isinstance(new, list) and (key := MERGED_BY.get(name)):
        known = {entry[key]: entry for entry in old}
        first = [_merged(known.get(entry[key]), entry) for entry in new]
        named = {entry[key] for entry in new}
        return first + [entry for entry in old if entry[key] not in named]
    return deepcopy(new)


def _image(objects: list[dict[str, Any]], name: str, **new: str) -> None:
    assert new and set(new) <= {"newName", "newTag"}
    hits = 0
    for found in objects:
        pod = found.get("spec", {}).get("template", {}).get("spec", {})
        for container in pod.get("containers", ()):
            image, _, tag = container["image"].rpartition(":")
            if image == name:
                hits += 1
                container["image"] = f"{new.get('newName', name)}:{new.get('newTag', tag)}"
    assert hits, f"no container has the image {name}"
