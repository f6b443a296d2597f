"""One `nn.Module` class per distinct block: constructor, forward, and what it contributes to the tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tensorprog.dims import Dim
from tensorprog.emission.format import Code, call, fold, number
from tensorprog.emission.forward import Method
from tensorprog.emission.frame import Frame
from tensorprog.emission.functions import called, definition, template
from tensorprog.emission.names import OWN_GLOBALS, Namespace, attribute_names, camel_case, check_identifier, singular
from tensorprog.emission.sizes import Sizes
from tensorprog.emission.tables import MultiplierRow, ParameterRow, Tables
from tensorprog.emission.variables import Statement, variable_name
from tensorprog.errors import InternalError
from tensorprog.exponents import Power
from tensorprog.model import Loop, Model, Module, Use
from tensorprog.parameters import Parameter, Unknown
from tensorprog.parametrization import Parametrization

CLASS = "§class§"
Paths = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Emission:
    """What all classes of one file share."""

    model: Model
    parametrization: Parametrization
    base: Mapping[str, int]
    main: str = "Model"  # name of the main class
    tables: Tables = field(default_factory=Tables)
    classes: dict[str, str] = field(default_factory=dict)  # text with CLASS for its name -> name, in order
    names: Namespace = field(default_factory=lambda: Namespace(OWN_GLOBALS | {"Tensor"}, separator=""))
    helpers: set[str] = field(default_factory=set)
    functions: dict[str, str] = field(default_factory=dict)  # user's name -> template
    definitions: list[str] = field(default_factory=list)
    loss: list[str] = field(default_factory=list)

    def function(self, name: str) -> str:
        """The template of a nonlinearity; a user's own is defined once at the top of the file."""
        if name not in self.functions:
            found = next((f for f in self.model.functions if f[0] == name), None)
            if found is None:
                return template(name)
            for earlier, _, _ in self.model.functions[: self.model.functions.index(found)]:
                if earlier in called(found[2]):
                    self.function(earlier)
            chosen = self.names.add(check_identifier(name))
            self.definitions.append(definition(chosen, found[1], found[2], self.functions))
            self.functions[name] = f"{chosen}({{x}})"
        return self.functions[name]

    def unknown(self, unknown: Unknown, prefix: str) -> Power:
        """The exponent of a multiplier, of the instance whose path is `prefix`."""
        table = self.parametrization.unknowns
        names = (
            [prefix + unknown.name, unknown.name] if unknown.kind == "use" else [unknown.name, prefix + unknown.name]
        )
        for name in names:
            if name in table:
                return table[name]
        if unknown.kind == "use":
            row = self.parametrization.params.get(prefix + unknown.param)
            return row.multiplier if row else Power()
        raise InternalError(f"the parametrization has no exponent for the multiplier {names[0]}", unknown.span)


@dataclass(slots=True)
class ClassText:
    """A printed class: its name and the sizes its constructor wants."""

    name: str
    arguments: dict[str, Dim]
    depths: dict[str, str]


class ClassPrinter:
    """Prints the class of one module instance (or of all instances of a loop body: `paths`)."""

    def __init__(
        self, emission: Emission, module: Module, paths: Paths, tokens: frozenset[int], formals: Sequence[str]
    ) -> None:
        self.emission, self.module, self.paths, self.tokens, self.formals = emission, module, paths, tokens, formals
        self.constructor = Namespace(frozenset({"self"}))
        self.sizes = Sizes(module.dims, emission.model.widths, self.constructor, _axis_names(module))
        self.attributes = attribute_names()
        self.lines: list[str] = []
        self.tail: list[str] = []
        self.depths: dict[str, str] = {}
        self._parameters: dict[str, str] = {}
        self._multipliers: dict[tuple[str, str], str | None] = {}
        self._stored: dict[str, str] = {}
        self._submodules: dict[int, str] = {}
        for parameter in module.parameters:
            self._declare(parameter)

    # --- parts ------------------------------------------------------------------------------------------

    def _declare(self, parameter: Parameter) -> None:
        local = parameter.name.rpartition(".")[2]
        attribute = self._parameters[parameter.name] = self.attributes.add(local)
        shape = [self.sizes.of(axis).text for axis in parameter.axes] or ["()"]
        frozen = {"requires_grad": "False"} if parameter.frozen else {}
        self.lines.append(f"self.{attribute} = " + call("nn.Parameter", call("torch.empty", *shape), **frozen).text)
        rows = [ParameterRow(f"{mine}{attribute}", f"{graph}{local}", parameter) for graph, mine in self.paths]
        self.emission.tables.parameters.append(rows)

    def parameter(self, name: str) -> str:
        return self._parameters[name]

    def any_parameter(self) -> str | None:
        return next(iter(self._parameters.values()), None)

    def helper(self, name: str) -> str:
        self.emission.helpers.add(name)
        return name

    def function(self, name: str) -> str:
        return self.emission.function(name)

    def multiplier(self, frame: Frame, name: str) -> str | None:
        """The attribute that holds a multiplier; None if it is one at all widths."""
        key = (frame.paths[0][0], name)
        if key not in self._multipliers:
            unknown = next((u for u in frame.module.unknowns if u.name == name), None)
            if unknown is None:
                raise InternalError(f"the multiplier {name} is not declared")
            exponents = [self.emission.unknown(unknown, graph) for graph, _ in frame.paths]
            self._multipliers[key] = None
            if unknown.kind != "use" or any(e.exponents for e in exponents):
                local = name.rpartition(".")[2]
                if unknown.kind == "use":
                    weight, _, number_of_use = local.partition("@")
                    local = f"{weight}_multiplier" + (f"_{number_of_use}" if number_of_use not in ("", "1") else "")
                else:
                    local = re.sub(r"[^A-Za-z0-9_]", "_", local.lstrip("?")) or "multiplier"
                    local = local if not local[0].isdigit() else f"multiplier_{local}"
                attribute = self._multipliers[key] = self.attributes.add(local)
                self.tail.append(f"self.{attribute} = 1.0  # set by set_multipliers")
                rows = [
                    MultiplierRow(f"{mine}{attribute}", unknown.base, exponent)
                    for (_, mine), exponent in zip(frame.paths, exponents, strict=True)
                ]
                self.emission.tables.multipliers.append(rows)
        return self._multipliers[key]

    def size_attribute(self, code: Code) -> Code:
        """A size as attributes of self."""
        if '"' in code.text:
            if code.text not in self._stored:
                attribute = self.attributes.add("size")
                self._stored[code.text] = attribute
                self.tail.append(f"self.{attribute} = {code.text}")
            return Code(f"self.{self._stored[code.text]}")

        def stored(found: re.Match[str]) -> str:
            name = found[0]
            if name not in self._stored:
                attribute = self._stored[name] = self.attributes.add(name)
                self.tail.append(f"self.{attribute} = {name}")
            return f"self.{self._stored[name]}"

        return Code(re.sub(r"[A-Za-z_][A-Za-z0-9_]*", stored, code.text), code.level)

    def count(self, loop: Loop) -> Code:
        """How many times a loop runs, inside a method."""
        name = self._depth(loop)
        return self.size_attribute(Code(name)) if name else number(loop.count)

    def _depth(self, loop: Loop) -> str | None:
        if loop.symbol is None or dict(self.emission.model.depths).get(loop.symbol) != loop.count:
            return None
        if loop.symbol not in self.depths:
            self.depths[loop.symbol] = self.constructor.add(loop.symbol)
        return self.depths[loop.symbol]

    def submodule(self, frame: Frame, instance: str, step: Use | Loop, tokens: frozenset[int]) -> str:
        """The attribute that holds a block or loop body; its class is printed first."""
        key = id(step)
        if key in self._submodules:
            return self._submodules[key]
        attribute = self._submodules[key] = self.attributes.add(instance)
        module = step.module if isinstance(step, Use) else step.body
        many = isinstance(step, Loop) and step.kind == "repeat"
        assert isinstance(step, Use) or step.kind in ("repeat", "shared", "scan")
        middles = [f".{k}." for k in range(step.count)] if isinstance(step, Loop) and many else ["."]
        paths = tuple(
            (f"{graph}{instance}{middle}", f"{mine}{attribute}{middle}")
            for graph, mine in frame.paths
            for middle in middles
        )
        formals = self._formal_names(frame, step, module)
        hint = module.block if isinstance(step, Use) else singular(instance)
        printed = ClassPrinter(self.emission, module, paths, tokens, formals).text(hint)
        given = {name: self.sizes.code(dim, name).text for name, dim in printed.arguments.items()}
        for symbol, name in printed.depths.items():
            loop_depth = self.depths.setdefault(symbol, "") or self.constructor.add(symbol)
            self.depths[symbol] = given[name] = loop_depth
        made = call(printed.name, **given).text
        if isinstance(step, Loop) and many:
            made = f"nn.ModuleList({made} for _ in range({self._depth(step) or step.count}))"
        self.lines.append(f"self.{attribute} = {made}")
        return attribute

    def _formal_names(self, frame: Frame, step: Use | Loop, module: Module) -> list[str]:
        values = {value.id: value.name for value in module.values}
        if isinstance(step, Use):
            return [variable_name(values[f] or "x") for f in module.formals]
        outer = [*step.carried, *step.captured]
        names = [values[f] or frame.name(o) for f, o in zip(module.formals, outer, strict=False)]
        names += [(frame.name(o) or "x") + "_t" for o, _ in step.sliced]
        return [variable_name(n or "x") for n in names]

    # --- text -------------------------------------------------------------------------------------------

    def text(self, hint: str) -> ClassText:
        """Prints the class, or finds the one with the same text."""
        module = self.module
        method = self.method("forward", module, module.formals, self.formals, module.results, self.tokens)
        head, arguments = self.head(f"Block {hint}." if re.fullmatch(r"\w+", hint) else "", {})
        lines = "\n".join([*head, "", *("    " + line if line else "" for line in method)])
        if lines not in self.emission.classes:
            wanted = camel_case(hint)
            wanted += "Block" if wanted == self.emission.main else ""
            self.emission.classes[lines] = self.emission.names.add(wanted)
        return ClassText(self.emission.classes[lines], arguments, self.depths)

    def method(
        self,
        name: str,
        module: Module,
        formals: Sequence[int],
        names: Sequence[str],
        roots: Sequence[int],
        tokens: frozenset[int],
        doc: str = "",
    ) -> list[str]:
        """`def name(self, ..)` that computes `roots` from `formals`; `tokens`: which formals hold integers."""
        frame = Frame(module, self, self.paths, frozenset(formals[k] for k in tokens), roots)
        method = Method(self, self)
        given = {f: method.formal(variable_name(n or "x")) for f, n in zip(formals, names, strict=True)}
        statements: list[Statement] = []
        results = method.body(frame, given, statements)
        result = ", ".join(code.text for code in results)
        arguments, lines, result = method.lines(statements, result)
        kind = "Tensor" if len(roots) == 1 else f"tuple[{', '.join(['Tensor'] * len(roots))}]"
        signature = ", ".join(["self", *(f"{a}: Tensor" for a in arguments)])
        body = [f'"""{doc}"""'] if doc else []
        for line in [*lines, f"return {result}"]:
            body += fold(line, 92)
        return [*fold(f"def {name}({signature}) -> {kind}:", 96), *("    " + line for line in body)]

    def head(
        self, doc: str, defaults: Mapping[str, int], extra: Sequence[str] = ()
    ) -> tuple[list[str], dict[str, Dim]]:
        """`class ..` up to the end of `__init__`; the sizes that the constructor wants."""
        computed = self.sizes.lines
        arguments = self.sizes.arguments
        wanted = [(name, str(arguments[name])) for name in arguments]
        wanted += [(name, symbol) for symbol, name in self.depths.items()]
        parts = [f"{name}: int = {defaults[size]}" if size in defaults else f"{name}: int" for name, size in wanted]
        body = ["super().__init__()"]
        for line in [*computed, *self.lines, *self.tail, *extra]:
            body += fold(line, 92)
        lines = [f"class {CLASS}(nn.Module):"]
        if doc:
            lines += [f'    """{doc}"""', ""]
        lines += ["    " + line for line in fold(f"def __init__({', '.join(['self', *parts])}) -> None:", 96)]
        lines += ["        " + line for line in body]
        return lines, arguments


def _axis_names(module: Module) -> frozenset[str]:
    """The local dims that are axes of formal tensors: the first ones declared, in the order of the axes."""
    found: list[str] = []
    axes = {value.id: value.axes for value in module.values}
    for formal in module.formals:
        for axis in axes[formal]:
            if len(found) < len(module.dims):
                dim = module.dims[len(found)]
                if dim.formula is None and dim.dim == axis.dim:
                    found.append(dim.name)
    return frozenset(found)
