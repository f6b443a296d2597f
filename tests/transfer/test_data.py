"""Data fit what the architecture wants, or are refused with both named."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.hptransfer.data import slots
from tensorprog.hptransfer.sources import default_data, load_data
from tests.transfer.support import NETWORK, arrays

ROOT = Path(__file__).resolve().parents[2]
SMALL = tp.parse(NETWORK, "small.tp")
TOKENS = """
width n
dim vocab = 96
axis t: 5, v: vocab, j: n
input tokens[t] in vocab
param E[v,j], R[v,j]
x[t,j] = relu(E[tokens[t],j])
output f[t,v] = R[v,j] x[t,j]
loss cross_entropy(f)
"""


def wanted(text: str):
    return slots(tp.parse(text, "small.tp"), {"n": 8})


def load(name: str, text: str = NETWORK):
    return load_data(name, wanted(text), "small.tp")


def test_slots_are_the_inputs_and_targets_of_the_graph() -> None:
    assert [str(s) for s in wanted(TOKENS)] == [
        "the input `tokens`: integers below 96 of shape [5]", "the target `f_target`: integers below 96 of shape [5]",
    ]  # fmt: skip
    assert default_data(wanted(TOKENS)) == "text"
    assert default_data(wanted(NETWORK)) == "digits"


@pytest.mark.slow
@pytest.mark.parametrize(("file", "shape"), [("mlp.tp", (64,)), ("transfer/mlp.tp", (64,)),
                                             ("transfer/convnet.tp", (1, 8, 8))])  # fmt: skip
def test_digits_fit_the_examples(file: str, shape: tuple[int, ...]) -> None:
    pytest.importorskip("sklearn")
    architecture = tp.load(ROOT / "examples" / file)
    data = load_data("digits", slots(architecture, {"n": 8}), file)
    batch = data.batch(np.random.default_rng(0), 500)
    inputs, targets = (next(v for v in batch.values() if v.dtype.kind == kind) for kind in "fi")
    assert inputs.shape == (500, *shape) and inputs.dtype == np.float32
    assert abs(inputs.mean()) < 0.05 and abs(inputs.std() - 1) < 0.05
    assert set(targets) == set(range(10))


@pytest.mark.parametrize("file", ["gpt.tp", "gpt_tied.tp", "transfer/gpt.tp"])
def test_text_fits_the_examples_and_its_target_is_the_next_character(file: str) -> None:
    architecture = tp.load(ROOT / "examples" / file)
    data = load_data("text", slots(architecture, {"n": 16}), file)
    assert len(data.codes) >= 500_000
    batch = data.batch(np.random.default_rng(0), 50)
    tokens, target = batch["tokens"], batch["logits_target"]
    np.testing.assert_array_equal(tokens[:, 1:], target[:, :-1])
    assert tokens.min() >= 0 and tokens.max() < 96


def test_text_of_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ab\n" * 20 + "é\t")
    data = load(f"text:{tmp_path / 'a.txt'}", TOKENS)
    assert set(data.codes) == {0, ord("a") - 31, ord("b") - 31}


def test_arrays_are_known_by_the_names_of_the_file_or_as_inputs_and_targets(tmp_path: Path) -> None:
    given = arrays()
    np.savez(tmp_path / "a.npz", **given)
    np.savez(tmp_path / "b.npz", x=given["inputs"], f_target=given["targets"])
    a, b = (load(str(tmp_path / name)) for name in ("a.npz", "b.npz"))
    assert a.id == b.id
    batches = [data.batch(np.random.default_rng(3), 9) for data in (a, b)]
    np.testing.assert_array_equal(batches[0]["x"], batches[1]["x"])


def test_a_function_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_own_data.py").write_text(
        "import numpy as np\nprint('hello')\ndef pair():\n    print('reading')\n"
        "    return np.ones((9, 6)), np.zeros(9, int)\n"
        "def names():\n    return {'x': np.ones((9, 6)), 'f_target': np.zeros(9, int)}\n"
        "def wrong():\n    return 3\ndef broken():\n    raise KeyError('nothing')\n"
    )
    monkeypatch.chdir(tmp_path)
    try:
        assert load("my_own_data:pair").id == load("my_own_data:names").id
        assert capsys.readouterr() == ("", "hello\nreading\n")  # so that `--format json` stays JSON
        with pytest.raises(tp.TensorProgError, match="of type int"):
            load("my_own_data:wrong")
        with pytest.raises(tp.TensorProgError, match="KeyError: 'nothing'"):
            load("my_own_data:broken")
        with pytest.raises(tp.TensorProgError, match="cannot be had: AttributeError"):
            load("my_own_data:absent")
    finally:
        sys.modules.pop("my_own_data", None)


@pytest.mark.parametrize(("change", "message"), [
    ({"inputs": np.ones((200, 5))}, r"the input `x`: numbers of shape \[6\]; one of its examples has shape \[5\]"),
    ({"targets": np.full(200, 3)}, r"wants the target `f_target`: integers below 3 .* run from 3 to 3"),
    ({"targets": np.zeros(200)}, r"integers below 3 of shape \[\]; its array is of type float64"),
    ({"targets": np.zeros(199, int)}, r"have 200 of `x`, 199 of `f_target`"),
    ({"inputs": np.full((200, 6), np.nan)}, "not finite"),
    ({"inputs": np.full((200, 6), "a")}, "of type <U1"),
    ({"inputs": None}, r"it has the arrays `targets`"),
])  # fmt: skip
def test_arrays_that_do_not_fit_are_refused_with_both_named(tmp_path: Path, change: dict, message: str) -> None:
    given = {k: v for k, v in {**arrays(), **change}.items() if v is not None}
    path = str(tmp_path / "a.npz")
    np.savez(path, **given)
    with pytest.raises(tp.TensorProgError, match=message) as caught:
        load(path)
    assert path in str(caught.value)


@pytest.mark.parametrize(("name", "text", "message"), [
    pytest.param("digits", TOKENS, r"`digits` do not fit small.tp\n  why: small.tp wants the input `tokens`: integers",
                 marks=pytest.mark.slow),  # scikit-learn takes a second to import
    pytest.param("digits", NETWORK, r"wants the input `x`: numbers of shape \[6\]; its images have shape \[64\]",
                 marks=pytest.mark.slow),
    ("text", NETWORK, r"`text` do not fit small.tp\n  why: small.tp wants the input `x`"),
    ("text", TOKENS.replace("96", "50"), r"wants the input `tokens`: integers below 50 .* 96 characters"),
    ("letters", NETWORK, "unknown data `letters`"),
    ("absent.npz", NETWORK, "cannot read absent.npz"),
    ("text:absent", TOKENS, "cannot read absent"),
])  # fmt: skip
def test_data_that_do_not_fit_are_refused_with_both_named(name: str, text: str, message: str) -> None:
    if name == "digits":
        pytest.importorskip("sklearn")
    with pytest.raises(tp.TensorProgError, match=message):
        load(name, text)


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_text("nothing")
    with pytest.raises(tp.TensorProgError, match="no archive of plain arrays"):
        load(str(tmp_path / "a.npz"))


def test_an_input_that_grows_with_the_width_is_refused() -> None:
    with pytest.raises(tp.TensorProgError, match="`x` has an axis of size n"):
        wanted("width n\naxis j: n, c: 3\ninput x[j]\nparam V[c,j]\noutput f[c] = V[c,j] x[j]\nloss cross_entropy(f)\n")
