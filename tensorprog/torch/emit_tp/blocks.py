"""Modules that compute the same become one block."""

from __future__ import annotations

import re
from collections import Counter
from textwrap import indent, wrap

from tensorprog.torch.emit_tp.bodies import Body, Callee, write_body
from tensorprog.torch.emit_tp.plan import Plan
from tensorprog.torch.emit_tp.regions import Region, whole
from tensorprog.torch.emit_tp.scope import is_reserved
from tensorprog.torch.emit_tp.standard import Standard

Place = tuple[str, int]  # path and first line of a region


class Blocks:
    """The definitions. Two modules are the same block if their text, written out, is the same."""

    def __init__(self, plan: Plan, standard: Standard) -> None:
        self.standard = standard
        self.flat: dict[Place, Body] = {}
        self.names: dict[str, str] = {}  # written out -> name of the block
        self.definitions: dict[str, str] = {}  # name of the block -> its text
        self.paths: dict[str, list[str]] = {}  # name of the block -> where it is used
        regions = [r for r in whole(plan).regions() if r is r.core and r.output is not None]
        for region in regions:
            self.flat[_place(region)] = write_body(region, lambda _: None, ())
        count = Counter(body.text for body in self.flat.values())
        for region in regions:
            text = self.flat[_place(region)].text
            if count[text] > 1 and len(region.lines) > 1 and text not in self.names:
                self.names[text] = self._fresh(region.module)

    def find(self, region: Region) -> Callee | None:
        """What stands for a region in the text, None if it is written out where it is."""
        core = region.core
        flat = self.flat.get(_place(core))
        if flat is None:
            return None
        arguments = tuple(key for key, _ in flat.scope.arguments)
        if (known := self.standard.call(core, flat)) is not None:
            return Callee(known[0], arguments, tuple(flat.parameters[k] for k in known[1]))
        name = self.names.get(flat.text)
        if name is None:
            return None
        body = self.body(core)
        self.definitions.setdefault(name, f"block {name}{body.text}")
        path = re.sub(r"(?<=\.)\d+(?=\.|$)", "*", core.path)
        self.paths.setdefault(name, [])
        if path not in self.paths[name]:
            self.paths[name].append(path)
        arguments = tuple(key for key, _ in body.scope.arguments)
        return Callee(f"{name}({', '.join('{}' for _ in arguments)})", arguments, body.parameters, body.multipliers)

    def body(self, region: Region) -> Body:
        """A region with the blocks inside it."""
        return write_body(region, self.find, self.names.values())

    def texts(self) -> list[str]:
        """All definitions, those used by others first."""
        comments = {name: "\n".join(wrap(", ".join(paths), 110)) for name, paths in self.paths.items()}
        return [f"{indent(comments[name], '# ')}\n{text}" for name, text in self.definitions.items()]

    def _fresh(self, wish: str) -> str:
        base = name = re.sub(r"\W+", "_", wish, flags=re.ASCII) or "Block"
        count = 1
        while name in self.names.values() or is_reserved(name):
            count += 1
            name = f"{base}_{count}"
        return name


def _place(region: Region) -> Place:
    return region.path, region.lines[0]
