"""Tools of ``POST /v1/responses``: functions, alone or in namespaces, and kinds that are not there.

A namespace's functions are functions to the model, by a name that says both. Tools of other kinds
(web search, shells, free text) cannot be given to it: they are left out where it has functions and
was free not to call them, and refused where a reply without them would be another reply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from extracot_server.api.body import validated
from extracot_server.api.conversation import FunctionDefinition
from extracot_server.budget.values import shown
from extracot_server.errors import InvalidRequestError

Named = tuple[str, FunctionDefinition]
"""A function and the field that it stands in."""
_ECHOED = ("name", "strict", "description", "parameters")
_UNSUPPORTED = "unsupported_parameter"


@dataclass(frozen=True, slots=True)
class OfferedTools:
    """What the model is given of a request's ``tools``.

    The names in ``functions`` are the model's; ``namespaces`` has those of them that the client
    calls otherwise, as namespace and name. ``left_out`` are the fields of tools that the model is
    not given, and their types; ``shown`` is what a reply repeats of the others.
    """

    functions: list[Named] = field(default_factory=list)
    namespaces: dict[str, tuple[str, str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    shown: list[Mapping[str, Any]] = field(default_factory=list)

    def name_of(self, namespace: Any, name: str) -> str:
        """What the model calls a function that the client calls so."""
        return joined(namespace, name) if isinstance(namespace, str) and namespace else name

    def check(self, *, forced: bool) -> None:
        """Raise :class:`InvalidRequestError` where a tool that was left out would be missed.

        ``forced``: the model has to call some tool, and could have called that one.
        """
        for where, kind in self.left_out.items():
            if forced or not self.functions:
                what = f"is of type {shown(kind)}, which is not supported by this server; "
                hint = "only beside functions, and with `tool_choice` auto, it is left out."
                raise InvalidRequestError.of(where, what + hint, _UNSUPPORTED)

    def among(self, allowed: Sequence[Any], where: str, *, forced: bool) -> list[Named]:
        """The functions that ``tool_choice`` allows; the field of their list is ``where``."""
        names: set[str] = set()
        known, missing = {one.name for _, one in self.functions}, set(self.left_out.values())
        for index, tool in enumerate(allowed):
            at = f"{where}[{index}]"
            if not isinstance(tool, dict) or not isinstance(tool.get("type"), str):
                raise InvalidRequestError.of(at, "must be a tool with its `type`.")
            if tool["type"] in missing and not forced:
                continue
            name = self.name_of(tool.get("namespace"), str(tool.get("name")))
            if tool["type"] != "function" or name not in known:
                raise InvalidRequestError.of(at, "is no function of `tools`.")
            names.add(name)
        if not names:
            raise InvalidRequestError.of(where, "must name a function of `tools`.")
        return [(at, one) for at, one in self.functions if one.name in names]


def joined(namespace: str, name: str) -> str:
    """A function's name with its namespace's, as servers of tools (MCP) are told apart."""
    return f"{namespace}{'' if namespace.endswith('__') else '__'}{name}"


def read_offered(tools: Sequence[Mapping[str, Any]]) -> OfferedTools:
    """Reads ``tools``; raises :class:`InvalidRequestError` for what is not a tool at all."""
    offered = OfferedTools()
    for index, tool in enumerate(tools):
        where, kind = f"tools[{index}]", tool.get("type")
        if kind == "function":
            offered.functions.append((where, _function(tool, where)))
            echoed = {name: tool.get(name) for name in _ECHOED}
            offered.shown.append({"type": "function", **echoed})
        elif kind == "namespace":
            _add_namespace(offered, tool, where)
            offered.shown.append(tool)
        elif isinstance(kind, str) and kind:
            offered.left_out[where] = kind
        else:
            raise InvalidRequestError.of(where, "must have a `type`, such as function.")
    return offered


def _add_namespace(offered: OfferedTools, tool: Mapping[str, Any], where: str) -> None:
    namespace, members = tool.get("name"), tool.get("tools")
    if not isinstance(namespace, str) or not namespace:
        raise InvalidRequestError.of(f"{where}.name", "must be a string that is not empty.")
    if not isinstance(members, list):
        raise InvalidRequestError.of(f"{where}.tools", "must be a list of functions.")
    about = tool.get("description")
    for index, member in enumerate(members):
        at = f"{where}.tools[{index}]"
        if not isinstance(member, dict) or not isinstance(member.get("type"), str):
            raise InvalidRequestError.of(at, "must be a tool with its `type`.")
        if member["type"] != "function":
            offered.left_out[at] = member["type"]
            continue
        function = _function(member, at)
        changed = {"name": joined(namespace, function.name)}
        if isinstance(about, str) and about:  # templates have no place for it: said once
            changed["description"] = "\n\n".join(filter(None, (about, function.description)))
            about = None
        offered.namespaces[changed["name"]] = (namespace, function.name)
        offered.functions.append((at, function.model_copy(update=changed)))


def _function(tool: Mapping[str, Any], where: str) -> FunctionDefinition:
    if not isinstance(tool.get("name"), str):
        what = "must be a function with a `name` beside its `type`."
        raise InvalidRequestError.of(where, what, _UNSUPPORTED)
    return validated(FunctionDefinition, tool, where)
