"""The graph for other tools: a networkx graph, Graphviz dot, JSON, Mermaid."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from tensorprog.derivation import SCHEMA
from tensorprog.dims import Dim
from tensorprog.graph import Graph, Input, Node, Op, Param, Scalar, Scale

if TYPE_CHECKING:
    import networkx as nx

FORMATS = ("dot", "json", "mermaid")


def to_networkx(graph: Graph) -> nx.MultiDiGraph:
    """One networkx node per tensor (attributes op, detail, name, axes), one edge per argument (attribute position)."""
    import networkx as nx

    result = nx.MultiDiGraph(name=graph.name, loss=graph.loss, outputs=dict(graph.outputs))
    for node in graph.nodes:
        axes = [{"label": axis.label, "size": str(axis.dim)} for axis in node.axes]
        kind = type(node.op).__name__
        result.add_node(node.id, op=kind, detail=_detail(node.op), name=node.name, axes=axes, line=node.span.line)
        for position, argument in enumerate(node.args):
            result.add_edge(argument, node.id, position=position)
    return result


def export(graph: Graph, form: str) -> str:
    """The graph as text in one of `FORMATS`. Raises ValueError for another format."""
    match form:
        case "dot":
            return _dot(graph)
        case "json":
            return _json(graph)
        case "mermaid":
            return _mermaid(graph)
        case _:
            raise ValueError(f"unknown format {form!r}: choose one of {', '.join(FORMATS)}")


def caption(node: Node) -> str:
    """`h1 = Contract [batch, n]` : one line that describes a node to people."""
    sizes = ", ".join(str(axis.dim) for axis in node.axes)
    match node.op:
        case Param(name=name):
            what = f"param {name}"
        case Input(name=name, kind=kind):
            what = f"{'input' if kind != 'target' else 'target'} {name}"
        case Scale(scalar=scalar):
            what = f"{node.name + ' = ' if node.name else ''}times {scalar_text(scalar)}"
        case op:
            what = f"{node.name + ' = ' if node.name else ''}{type(op).__name__}"
    return f"{what} [{sizes}]"


def scalar_text(scalar: Scalar) -> str:
    """`2 n^-1/2 ?branch`."""
    parts = [f"?{name}" for name in scalar.unknowns]
    parts = [f"({dim})^{power}" if len(str(dim)) > 1 else f"{dim}^{power}" for dim, power in scalar.powers] + parts
    if scalar.coefficient != 1 or not parts:
        parts.insert(0, str(scalar.coefficient))
    return " ".join(parts)


def _detail(op: Op) -> dict[str, Any]:
    """The fields of a node kind as plain data."""
    return {entry.name: _plain(getattr(op, entry.name)) for entry in fields(op)}


def _plain(value: object) -> Any:
    match value:
        case Dim():
            return str(value)
        case Scalar():
            return scalar_text(value)
        case tuple():
            return [_plain(item) for item in value]
        case _:
            return value


def _json(graph: Graph) -> str:
    import networkx as nx

    data = {"schema": SCHEMA, **nx.node_link_data(to_networkx(graph), edges="edges")}
    return json.dumps(data, indent=1, sort_keys=True)


_SHAPES = {"Param": "box", "Input": "ellipse", "Const": "ellipse", "Loss": "doubleoctagon"}


def _dot(graph: Graph) -> str:
    view = to_networkx(graph)
    lines = [f"digraph {_quoted(graph.name)} {{", "  rankdir=TB; node [fontname=Helvetica, shape=plaintext];"]
    for number, data in view.nodes(data=True):
        shape = _SHAPES.get(data["op"], "plaintext")
        bold = ", penwidth=2" if number in dict(graph.outputs).values() else ""
        lines.append(f"  n{number} [label={_quoted(caption(graph.nodes[number]))}, shape={shape}{bold}];")
    lines += [f"  n{source} -> n{target};" for source, target in view.edges()]
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _mermaid(graph: Graph) -> str:
    view = to_networkx(graph)
    lines = ["flowchart TD"]
    for number, data in view.nodes(data=True):
        text = caption(graph.nodes[number]).replace('"', "#quot;")
        left, right = (
            ("[/", "/]") if data["op"] in ("Input", "Const") else ("[[", "]]") if data["op"] == "Param" else ("[", "]")
        )
        lines.append(f'  n{number}{left}"{text}"{right}')
    lines += [f"  n{source} --> n{target}" for source, target in view.edges()]
    return "\n".join(lines) + "\n"
