"""The interpreter computes what PyTorch computes: every node kind forward, every gradient, and whole training steps."""

from __future__ import annotations

import gc
import weakref
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest

from tensorprog import graph as g
from tensorprog.autodiff import differentiate
from tensorprog.contraction import one_hot, one_hot_plan, product_plan, reduce_plan
from tensorprog.dims import BATCH, Dim
from tensorprog.errors import TensorProgError
from tensorprog.exponents import Power
from tensorprog.functions import BUILTIN
from tensorprog.initial import _normals, init_parameter
from tensorprog.interpret import Interpreter, make_data
from tensorprog.optimizers import OPTIMIZERS
from tensorprog.parameters import Init, Parameter, Unknown
from tensorprog.parametrization import Parametrization, ParamExponents

N = Dim.of("n")
ONE = ParamExponents(Power(), Power(), Power(), Power(), Power())


class Builder:
    """Writes graphs by hand: every method adds one node and returns its number."""

    def __init__(self) -> None:
        self.nodes: list[g.Node] = []
        self.parameters: dict[str, Parameter] = {}
        self.unknowns: dict[str, Unknown] = {}

    def add(self, op: g.Op, args: tuple[int, ...], dims: tuple[Dim | int, ...]) -> int:
        axes = tuple(g.Axis(d if isinstance(d, Dim) else Dim.of(d)) for d in dims)
        self.nodes.append(g.Node(len(self.nodes), op, args, axes))
        return len(self.nodes) - 1

    def dims(self, node: int) -> tuple[Dim, ...]:
        return tuple(a.dim for a in self.nodes[node].axes)

    def input(self, name: str, *dims: Dim | int, kind: str = "real") -> int:
        return self.add(g.Input(name, kind), (), dims)

    def param(self, name: str, *dims: Dim | int, **fields: object) -> int:
        node = self.add(g.Param(name), (), dims)
        self.parameters[name] = Parameter(name, self.nodes[node].axes, **fields)  # type: ignore[arg-type]
        return node

    def contract(self, formula: str, *args: int) -> int:
        """In einsum notation."""
        before, out = formula.split("->")
        operands = before.split(",")
        size = {c: d for o, a in zip(operands, args, strict=True) for c, d in zip(o, self.dims(a), strict=True)}
        left, *right = (tuple(map(ord, o)) for o in operands)
        op = g.Contract(left, right[0] if right else None, tuple(map(ord, out)))
        return self.add(op, args, tuple(size[c] for c in out))

    def map(self, fn: str, x: int) -> int:
        return self.add(g.Map(fn), (x,), self.dims(x))

    def graph(self, loss: int, **fields: object) -> g.Graph:
        outputs = (("out", loss),)
        return g.Graph(tuple(self.nodes), self.parameters, self.unknowns, outputs, loss, ("n",), **fields)  # type: ignore[arg-type]


def parametrization(graph: g.Graph, optimizer: str = "sgd", **params: ParamExponents) -> Parametrization:
    exponents = {name: params.get(name, ONE) for name in graph.parameters}
    return Parametrization("test", optimizer, exponents, {u: Power() for u in graph.unknowns})


# --- PyTorch, written as plainly as possible ----------------------------------------------------------


def torch_forward(graph: g.Graph, run: Interpreter, parameters):
    """Every node of the forward graph, by definition-like PyTorch code."""
    import torch
    from torch.nn import functional

    compare = {"<=": torch.le, "<": torch.lt, ">=": torch.ge, ">": torch.gt}
    values = []
    for node in graph.nodes:
        xs = [values[a] for a in node.args]
        shape = tuple(int(a.dim.evaluate(run.widths)) for a in node.axes)
        match node.op:
            case g.Input(name, kind):
                value = torch.tensor(run.data[name])
                value = functional.one_hot(value, shape[-1]).double() if kind == "tokens" else value
            case g.Param(name):
                value = parameters[name]
            case g.Const(number):
                value = torch.full(shape, number, dtype=torch.float64)
            case g.Contract(left, right, out):
                letters = [
                    "".join(chr(97 + sorted({*left, *(right or ())}).index(i)) for i in t)
                    for t in (left, right or (), out)
                ]
                both = letters[0] + ("" if right is None else "," + letters[1])
                value = torch.einsum(f"{both}->{letters[2]}", *xs)
            case g.Add(places):
                value = torch.zeros(shape, dtype=torch.float64)
                for x, p in zip(xs, places, strict=True):
                    order = sorted(range(len(p)), key=lambda k: p[k])
                    x = x.permute(order)
                    for axis in range(len(shape)):
                        x = x if axis in p else x.unsqueeze(axis)
                    value = value + x
            case g.Scale(scalar):
                value = run._scalar(scalar) * xs[0]
            case g.Map(fn, 0):
                value = eval(BUILTIN[fn].torch.format(x="x"), {"torch": torch, "F": functional, "x": xs[0]})
            case g.InvRms(axes, eps):
                value = (xs[0].square().mean(axes) + eps).rsqrt()
            case g.Softmax(axis, mask):
                x = xs[0]
                if mask:
                    key, query = (
                        torch.arange(shape[a]).reshape([-1 if k == a else 1 for k in range(x.ndim)])
                        for a in (mask[0], mask[2])
                    )
                    x = x.masked_fill(~compare[mask[1]](key, query), -torch.inf)
                value = torch.softmax(x, axis)
            case g.TopK(axis, k):
                value = torch.zeros_like(xs[0]).scatter(axis, xs[0].topk(k, axis).indices, 1.0)
            case g.Split() | g.Merge():
                value = xs[0].reshape(shape)
            case g.Window(axis, stride, dilation, offset, taps):
                start, size = int(offset.evaluate(run.widths)), xs[0].shape[axis]
                where = torch.tensor(
                    [
                        [stride * u + dilation * a + start for a in range(shape[axis + 1] if taps else 1)]
                        for u in range(shape[axis])
                    ]
                )
                inside = ((where >= 0) & (where < size)).double()
                value = xs[0].movedim(axis, -1)[..., where.clamp(0, size - 1)] * inside
                value = value.movedim((-2, -1), (axis, axis + 1)) if taps else value[..., 0].movedim(-1, axis)
            case g.Fold(axis, stride, dilation, offset, taps):
                start = int(offset.evaluate(run.widths))
                x = xs[0] if taps else xs[0].unsqueeze(axis + 1)
                pieces = torch.zeros(shape, dtype=torch.float64).movedim(axis, 0)
                rows = [pieces[p] * 0 for p in range(shape[axis])]
                for u in range(x.shape[axis]):
                    for a in range(x.shape[axis + 1]):
                        p = stride * u + dilation * a + start
                        if 0 <= p < shape[axis]:
                            rows[p] = rows[p] + x.select(axis + 1, a).select(axis, u)
                value = torch.stack(rows, axis)
            case g.StopGrad():
                value = xs[0].detach()
            case g.Loss("mean"):
                value = xs[0].mean()
            case g.Loss("mse"):
                value = (xs[0] - xs[1]).square().mean() / 2
            case g.Loss("cross_entropy"):
                value = functional.cross_entropy(xs[0].flatten(0, -2), xs[1].flatten())
            case _:
                raise AssertionError(node.op)
        values.append(value)
    return values


def assert_same_as_torch(graph: g.Graph, n: int = 6, batch: int = 3) -> None:
    import torch

    run = Interpreter(differentiate(graph), {"n": n}, {"n": n}, parametrization(graph), batch=batch)
    parameters = {k: torch.tensor(v, requires_grad=True) for k, v in run.params.items()}
    expected = torch_forward(graph, run, parameters)
    values = run.run()
    for node, (ours, theirs) in enumerate(zip(values, expected, strict=False)):
        if not run.compact(node):
            np.testing.assert_allclose(
                ours, theirs.detach().numpy(), rtol=1e-11, atol=1e-12, err_msg=str(graph.nodes[node])
            )
    expected[graph.loss].backward()
    assert run.program.grads
    for name, node in run.program.grads.items():
        theirs = parameters[name].grad
        np.testing.assert_allclose(values[node], theirs.numpy(), rtol=1e-10, atol=1e-12, err_msg=name)


# --- networks that between them use every node kind ---------------------------------------------------


def mlp() -> g.Graph:
    b = Builder()
    x = b.input("x", BATCH, 5)
    h = b.contract("bi,ji->bj", x, b.param("U", N, 5, fan_in=Dim.of(5)))
    h = b.map("tanh", b.add(g.Add(((0, 1), (1,))), (h, b.param("c", N, init=Init("normal", 0.3))), (BATCH, N)))
    b.unknowns["m"] = Unknown("m", g.Scalar(Fraction(1, 2), ((N, Fraction(-1, 2)),)))
    h = b.add(g.Scale(g.Scalar(Fraction(3), ((N, Fraction(1, 2)),), ("m",))), (h,), (BATCH, N))
    h = b.map("gelu", b.contract("bi,ji->bj", h, b.param("W", N, N, fan_in=N)))
    f = b.contract("bi,ki->bk", h, b.param("V", 4, N, fan_in=N))
    return b.graph(b.add(g.Loss("cross_entropy"), (f, b.input("y", BATCH, kind="target")), ()))


def layer_norm() -> g.Graph:
    b = Builder()
    h = b.contract("bi,ji->bj", b.input("x", BATCH, 5), b.param("U", N, 5))
    mean = b.add(g.Scale(g.Scalar(powers=((N, Fraction(-1)),))), (b.contract("bj->b", h),), (BATCH,))
    minus = b.add(g.Scale(g.Scalar(Fraction(-1))), (mean,), (BATCH,))
    centred = b.add(g.Add(((0, 1), (0,))), (h, minus), (BATCH, N))
    y = b.contract("bj,b->bj", centred, b.add(g.InvRms((1,)), (centred,), (BATCH,)))
    y = b.contract("bj,j->jb", y, b.param("gain", N, init=Init("ones")))
    y = b.add(g.StopGrad(), (y,), (N, BATCH))
    y = b.add(g.Add(((1, 0), (0, 1))), (y, h), (BATCH, N))
    return b.graph(b.add(g.Loss("mse"), (y, b.input("y", BATCH, N, kind="target")), ()))


def batch_norm() -> g.Graph:
    """Statistics over the batch and two axes of the same size."""
    b = Builder()
    h = b.contract("bpqi,ji->bpqj", b.input("x", BATCH, 4, 4, 3), b.param("U", N, 3))
    y = b.contract("bpqj,j->bpqj", h, b.add(g.InvRms((0, 1, 2)), (h,), (N,)))
    return b.graph(b.add(g.Loss("mse"), (y, b.input("y", BATCH, 4, 4, N, kind="target")), ()))


def attention(vocabulary: int = 7, op: str = "<=") -> g.Graph:
    b, T, H = Builder(), 4, 2
    e = N / Dim.of(H)
    tokens = b.input("tokens", BATCH, T, vocabulary, kind="tokens")
    E = b.param("E", vocabulary, N)
    x = b.contract("btv,vi->bti", tokens, E)
    x = b.add(g.Add(((0, 1, 2), (1, 2))), (x, b.param("P", T, N)), (BATCH, T, N))
    q, k, v = (b.contract("bti,ij->btj", x, b.param(name, N, N)) for name in "QKV")
    q, k, v = (b.add(g.Split(2, 2), (z,), (BATCH, T, H, e)) for z in (q, k, v))
    scores = b.contract("bthe,bshe->bhts", q, k)
    weights = b.add(g.Softmax(3, (3, op, 2)), (scores,), (BATCH, H, T, T))
    y = b.add(g.Merge(2, 2), (b.contract("bhts,bshe->bthe", weights, v),), (BATCH, T, N))
    logits = b.contract("bti,vi->btv", y, E)  # tied embedding
    return b.graph(b.add(g.Loss("cross_entropy"), (logits, b.input("y", BATCH, T, kind="target")), ()))


def convolution(stride: int, dilation: int, offset: int, depthwise: bool) -> g.Graph:
    b, size, taps = Builder(), 9, 3
    x = b.contract("bpi,ij->bpj", b.input("x", BATCH, size, 2), b.param("U", 2, N))
    steps = (size + stride - 1) // stride
    w = b.add(g.Window(1, stride, dilation, Dim.of(offset), True), (x,), (BATCH, steps, taps, N))
    kernel = b.param("K", taps, N) if depthwise else b.param("K", taps, N, N)
    h = b.contract("buai,ai->bui" if depthwise else "buai,aij->buj", w, kernel)
    back = b.add(g.Fold(1, stride, dilation, Dim.of(offset), True), (w,), (BATCH, size, N))
    shift = b.add(g.Window(1, 1, 1, Dim.of(-1)), (back,), (BATCH, size, N))
    every = b.add(g.Window(1, -2, 1, Dim.of(size - 1)), (shift,), (BATCH, 4, N))  # backwards, every other
    wide = b.add(g.Fold(2, 1, 1, N), (h,), (BATCH, steps, N * Dim.of(2)))  # the second half of a concatenation
    first = b.add(g.Loss("mean"), (b.map("square", wide),), ())
    second = b.add(g.Loss("mean"), (b.map("sin", every),), ())
    return b.graph(b.add(g.Add(((), ())), (first, second), ()))


def routing() -> g.Graph:
    b, experts = Builder(), 5
    x = b.contract("bi,ij->bj", b.input("x", BATCH, 3), b.param("U", 3, N))
    gate = b.add(g.Softmax(1), (b.contract("bj,je->be", x, b.param("G", N, experts)),), (BATCH, experts))
    mask = b.add(g.TopK(1, 2), (gate,), (BATCH, experts))
    weight = b.contract("be,be->be", gate, mask)
    h = b.map("silu", b.contract("bj,ejk->bek", x, b.param("W", experts, N, N)))
    y = b.contract("be,bek->bk", weight, h)
    total = b.contract("bk->", b.contract("bk,bk->kb", y, b.add(g.Const(0.5), (), (BATCH, N))))
    alone = b.add(g.Add(((),)), (total,), (BATCH,))
    both = b.add(g.Add(((0,), (0,))), (alone, b.contract("bk,k->b", y, b.param("r", N))), (BATCH,))
    return b.graph(b.add(g.Loss("mean"), (b.map("sigmoid", both),), ()))


def positions() -> g.Graph:
    """Fixed steps of a sequence: `h[0, i]`, by a Window of one place, also of one-hot tokens."""
    b = Builder()
    tokens = b.input("tokens", BATCH, 4, 70, kind="tokens")
    second = b.contract("btv->bv", b.add(g.Window(1, 0, 1, Dim.of(1)), (tokens,), (BATCH, 1, 70)))
    E = b.param("E", N, 70)
    one = b.contract("bv,iv->ib", second, E)
    bag = b.contract("btv,iv->bi", tokens, E)
    sliced = b.add(g.Window(1, 2, 1, Dim.of(1)), (b.contract("btv,iv->bti", tokens, E),), (BATCH, 2, N))
    every = b.add(g.Add(((1, 0), (0, 1))), (one, bag), (BATCH, N))
    every = b.add(g.Add(((0, 2), (0, 1, 2))), (every, sliced), (BATCH, 2, N))
    return b.graph(b.add(g.Loss("mse"), (b.map("tanh", every), b.input("y", BATCH, 2, N, kind="target")), ()))


GRAPHS = {
    "mlp": mlp(),
    "layer_norm": layer_norm(),
    "batch_norm": batch_norm(),
    "attention": attention(),
    "attention with a large vocabulary": attention(90, ">="),
    "convolution": convolution(1, 1, -1, False),
    "strided dilated convolution": convolution(2, 2, -2, False),
    "depthwise convolution": convolution(3, 1, 0, True),
    "routing": routing(),
    "positions": positions(),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", GRAPHS)
def test_values_and_gradients_equal_those_of_torch(name):
    assert_same_as_torch(GRAPHS[name])


@pytest.mark.parametrize("name", GRAPHS)
def test_float32_stays_float32(name):
    graph = GRAPHS[name]
    run = Interpreter(differentiate(graph), {"n": 6}, {"n": 6}, parametrization(graph, "adam"), dtype="float32")
    twin = Interpreter(differentiate(graph), {"n": 6}, {"n": 6}, parametrization(graph, "adam"))
    for node, value, other in zip(run.program.nodes, run.run(), twin.run(), strict=True):
        if value is not None and not isinstance(node.op, g.Input):
            assert value.dtype == np.float32, node
            np.testing.assert_allclose(value, other, rtol=1e-3, atol=1e-4)
    run.step()
    assert all(w.dtype == np.float32 for w in run.params.values())


@pytest.mark.torch
@pytest.mark.parametrize("optimizer", sorted(name for name, row in OPTIMIZERS.items() if row.torch))
def test_training_equals_torch_autograd_with_torch_optim(optimizer):
    import torch

    graph = attention()
    run = Interpreter(differentiate(graph), {"n": 6}, {"n": 6}, parametrization(graph, optimizer), lr=0.01)
    parameters = {k: torch.tensor(v, requires_grad=True) for k, v in run.params.items()}
    momentum = {"momentum": {"momentum": 0.9}, "nesterov": {"momentum": 0.9, "nesterov": True}}.get(optimizer, {})
    twin = getattr(torch.optim, OPTIMIZERS[optimizer].torch)(parameters.values(), lr=0.01, **momentum)
    for _ in range(4):
        twin.zero_grad()
        loss = torch_forward(graph, run, parameters)[graph.loss]
        loss.backward()
        twin.step()
        assert run.loss(run.step()) == pytest.approx(loss.item(), rel=1e-6)
    tolerance = 1e-6 if optimizer == "nadam" else 1e-9  # torch keeps NAdam's products in float32
    for name, w in run.params.items():
        np.testing.assert_allclose(w, parameters[name].detach().numpy(), rtol=tolerance, atol=tolerance)


# --- contractions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(300))
def test_any_contraction_equals_einsum(seed):
    rng = np.random.default_rng(seed)
    sizes = {i: int(rng.integers(1, 5)) for i in range(6)}
    left = tuple(map(int, rng.permutation(6)[: rng.integers(0, 5)]))
    right = tuple(map(int, rng.permutation(6)[: rng.integers(0, 5)]))
    known = sorted({*left, *right})
    out = tuple(map(int, rng.permutation(known)[: rng.integers(0, len(known) + 1)]))
    a, b = (rng.standard_normal([sizes[i] for i in t]) for t in (left, right))
    np.testing.assert_allclose(
        product_plan(left, right, out, sizes)(a, b), np.einsum(a, left, b, right, out), atol=1e-12
    )
    kept = tuple(i for i in out if i in left)
    np.testing.assert_allclose(reduce_plan(left, kept)(a), np.einsum(a, left, kept), atol=1e-12)
    if left:
        vocabulary = {**sizes, left[-1]: 70}
        tokens = rng.integers(0, 70, [sizes[i] for i in left[:-1]])
        b = rng.standard_normal([vocabulary[i] for i in right])
        plan = one_hot_plan(left, right, out, vocabulary)
        if plan is not None:
            expected = np.einsum(one_hot(tokens, 70, "float64"), left, b, right, out)
            np.testing.assert_allclose(plan(tokens, b), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("formula", "shapes"),
    [
        ("bti,ji->btj", [(8, 32, 256), (256, 256)]),
        ("btj,bti->ji", [(8, 32, 256), (8, 32, 256)]),
        ("bthe,bshe->bhts", [(8, 32, 4, 64), (8, 32, 4, 64)]),
        ("bhts,bshe->bthe", [(8, 4, 32, 32), (8, 32, 4, 64)]),
        ("buai,aij->buj", [(8, 32, 3, 128), (3, 128, 128)]),
        ("bj,ejk->bek", [(64, 128), (4, 128, 128)]),
    ],
)
def test_matrix_products_do_not_fall_back_to_einsum(formula, shapes, monkeypatch):
    left, right, out = (tuple(map(ord, t)) for t in formula.replace("->", ",").split(","))
    sizes = dict(zip(left + right, shapes[0] + shapes[1], strict=True))
    a, b = (np.ones(s) for s in shapes)
    expected = np.einsum(formula, a, b, optimize=True)

    def refuse(*args):
        raise AssertionError("einsum was used")

    monkeypatch.setattr(np, "einsum", refuse)
    np.testing.assert_allclose(product_plan(left, right, out, sizes)(a, b), expected)


# --- parametrization, initialisation, bookkeeping -------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 8), (8, 4), (6, 6)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["normal", "orthogonal", "ones", "zeros"])
def test_parameters_lie_in_one_piece_whatever_their_shape(kind, dtype, shape):
    """Optimizers step through them entry by entry, in place."""
    parameter = Parameter("W", tuple(g.Axis(Dim.of(size)) for size in shape), init=Init(kind))
    w = init_parameter(parameter, ONE, {}, {}, 0, dtype)
    assert w.flags.c_contiguous
    assert w.shape == shape


def test_quantities_scale_with_the_widths_and_are_the_users_at_the_base():
    b = Builder()
    x = b.input("x", BATCH, 5)
    b.unknowns["m"] = Unknown("m", g.Scalar(Fraction(1, 3), ((N, Fraction(-1)),)))
    h = b.contract("bi,ji->bj", x, b.param("U", N, 5, init=Init("normal", 0.5)))
    h = b.contract("bi,ji->bj", h, b.param("W", N, N, fan_in=N, optimizer="sgd"))
    h = b.contract("bj,j->bj", h, b.param("gain", N, init=Init("constant", 2.0)))
    h = b.contract("bi,ji->bj", h, b.param("Q", N, N, init=Init("orthogonal", 1.5)))
    h = b.add(g.Scale(g.Scalar(unknowns=("m",))), (h,), (BATCH, N))
    f = b.contract("bi,ki->bk", h, b.param("V", 3, N, fan_in=N))
    graph = b.graph(b.add(g.Loss("mean"), (f,), ()), optimizer="adamw", optimizer_options=(("lr", Fraction(1, 8)),))
    half = Power.of({"n": Fraction(1, 2)})
    exponents = {
        "U": ParamExponents(Power(), half, half, half**-1, half**-2),
        "W": ParamExponents(Power(), half**-1, half, None, None),
        "gain": ParamExponents(Power(), half, half, None, None),
        "Q": ParamExponents(Power(), half**-1, half, None, None),
        "V": ParamExponents(Power(), None, half, None, None),
    }
    chosen = Parametrization("test", "adamw", exponents, {"m": half**-3})

    def at(n: int) -> Interpreter:
        return Interpreter(differentiate(graph), {"n": n}, {"n": 100}, chosen, seed=1)

    base, wide = at(100), at(400)
    assert base.params["U"].std() == pytest.approx(0.5, rel=0.1)
    assert base.params["W"].std() == pytest.approx(0.1, rel=0.05)
    assert wide.params["U"].std() == pytest.approx(1.0, rel=0.1)
    assert wide.params["W"].std() == pytest.approx(0.05, rel=0.05)
    assert np.all(base.params["gain"] == 2.0)
    assert np.all(wide.params["gain"] == 4.0)
    assert not wide.params["V"].any()
    for run, n in ((base, 100), (wide, 400)):
        q = run.params["Q"]
        np.testing.assert_allclose(q @ q.T, 1.5**2 * np.eye(n), atol=1e-10)  # exponent -1/2: as orthogonal as ever
    assert base.unknown("m") == pytest.approx(1 / 300)
    assert wide.unknown("m") == pytest.approx(1 / 300 / 8)
    hyper = {name: wide._steppers[name].hyper for name in graph.parameters}
    assert (hyper["U"]["lr"], hyper["U"]["weight_decay"], hyper["U"]["eps"]) == (0.25, 0.005, 2.5e-9)
    assert hyper["W"]["lr"] == pytest.approx(0.2)  # sgd: its own default, doubled
    assert "eps" not in hyper["W"]
    assert {name: base._steppers[name].hyper["lr"] for name in "UQ"} == {"U": 0.125, "Q": 0.125}


def test_parameters_have_streams_of_their_own():
    program = differentiate(mlp())
    chosen = parametrization(program.forward)
    run, again, other = (Interpreter(program, {"n": 6}, {"n": 6}, chosen, seed=s) for s in (0, 0, 1))
    for name in ("U", "W", "V", "c"):
        np.testing.assert_array_equal(run.params[name], again.params[name])
        assert not np.array_equal(run.params[name], other.params[name])
    alone = Builder()
    W = alone.param("W", N, N, fan_in=N)
    graph = alone.graph(alone.add(g.Loss("mean"), (W,), ()))
    single = Interpreter(differentiate(graph), {"n": 6}, {"n": 6}, parametrization(graph))
    np.testing.assert_array_equal(single.params["W"], run.params["W"])


def test_data_suit_the_inputs_and_do_not_depend_on_the_width():
    data = make_data(attention(), {"n": 6}, batch=50)
    assert data["tokens"].shape == data["y"].shape == (50, 4)
    assert set(np.unique(data["tokens"])) == set(np.unique(data["y"])) == set(range(7))
    np.testing.assert_array_equal(data["tokens"], make_data(attention(), {"n": 12}, batch=50)["tokens"])
    assert make_data(layer_norm(), {"n": 6}, dtype="float32")["y"].dtype == np.float32


def test_step_reports_changes_and_values_before_the_update():
    program = differentiate(mlp())
    run = Interpreter(program, {"n": 6}, {"n": 6}, parametrization(program.forward, "adam"))
    before = {name: w.copy() for name, w in run.params.items()}
    every = run.run()
    nodes = {n.op.name: n.id for n in program.nodes if isinstance(n.op, g.Param)}
    values = run.step(keep=[*nodes.values(), program.forward.loss], changes=True)
    for name, update in program.updates.items():
        np.testing.assert_array_equal(values[nodes[name]], before[name])
        np.testing.assert_allclose(values[update], run.params[name] - before[name])
        assert values[update].any()
    assert run.loss(values) == run.loss(every)
    assert sum(v is not None for v in values) == 2 * len(nodes) + 1
    assert sum(v is not None for v in run.step()) == 1
    assert run.loss(run.step()) < run.loss(every)


def test_only_what_is_kept_is_computed():
    program = differentiate(mlp())
    run = Interpreter(program, {"n": 6}, {"n": 6}, parametrization(program.forward))
    assert len(run._schedule(frozenset({2}))) == 3
    values = run.run(keep={2})
    assert [k for k, v in enumerate(values) if v is not None] == [2]
    full = run.run(backward=False)
    assert all(v is None for v in full[len(program.forward.nodes) :])
    np.testing.assert_array_equal(full[2], values[2])


def test_a_network_is_gone_as_soon_as_nobody_holds_it():
    program = differentiate(mlp())
    run = Interpreter(program, {"n": 6}, {"n": 6}, parametrization(program.forward))
    run.step()
    gone = weakref.ref(run)
    gc.disable()  # else a cycle of references would be found, later
    try:
        del run
        assert gone() is None
    finally:
        gc.enable()


def test_initial_weights_are_normal():
    """The distribution from which weights are drawn: its moments and quantiles are those of a normal."""
    values = _normals().astype(float)
    moments = [np.mean(values**k) for k in range(1, 7)]
    np.testing.assert_allclose(moments, [0, 1, 0, 3, 0, 15], rtol=0.002, atol=1e-6)
    ranks = (np.searchsorted(np.sort(values), [-3, -1, 0, 1, 3])) / len(values)
    np.testing.assert_allclose(ranks, [NormalDist().cdf(z) for z in (-3, -1, 0, 1, 3)], atol=2e-5)
    W = init_parameter(Parameter("W", (g.Axis(Dim.of(400)),) * 2), ONE, {}, {}, 0, "float64")
    assert np.mean(np.square(W)) == pytest.approx(1, abs=0.02) and len(np.unique(W)) > 50_000


def test_set_params_and_sizes_are_checked():
    program = differentiate(attention())
    run = Interpreter(program, {"n": 6}, {"n": 6}, parametrization(program.forward))
    run.set_params({"Q": np.eye(6)})
    assert run.run(keep={run.graph.loss})[run.graph.loss] is not None
    with pytest.raises(ValueError, match="shape"):
        run.set_params({"Q": np.eye(5)})
    with pytest.raises(TensorProgError, match="whole"):
        Interpreter(program, {"n": 7}, {"n": 6}, parametrization(program.forward))


def test_a_scale_of_exactly_one_is_the_array_itself():
    b = Builder()
    W = b.param("W", N)
    same = b.add(g.Scale(g.Scalar()), (W,), (N,))
    graph = b.graph(b.add(g.Loss("mean"), (same,), ()))
    run = Interpreter(differentiate(graph), {"n": 6}, {"n": 6}, parametrization(graph))
    assert run.run()[same] is run.params["W"]


def test_fully_masked_softmax_rows_are_zero():
    b = Builder()
    x = b.param("x", 3, 3)
    y = b.add(g.Softmax(1, (1, "<", 0)), (x,), (3, 3))
    graph = b.graph(b.add(g.Loss("mean"), (y,), ()))
    value = Interpreter(differentiate(graph), {"n": 6}, {"n": 6}, parametrization(graph)).run()[y]
    np.testing.assert_allclose(value.sum(1), [0, 1, 1])
