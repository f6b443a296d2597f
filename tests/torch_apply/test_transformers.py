"""Models of the transformers package, unmodified and tiny: applied, undone, folded, compiled, checked."""

from __future__ import annotations

import copy
import os
import warnings

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
torch = pytest.importorskip("torch")

import tensorprog.torch as tpt  # noqa: E402
from tests.packages import needs  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow]
VOCAB, BASE, WIDE = 61, 2, 6


def gpt2(n):
    """Two heads, which grow; embedding and readout are one."""
    needs("transformers")
    import transformers

    config = transformers.GPT2Config(n_embd=16 * n, n_head=2, n_layer=1, vocab_size=VOCAB, n_positions=32,
                                     attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0, bos_token_id=0,
                                     eos_token_id=0)  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def llama(n):
    """Four heads, which grow; two of keys and values."""
    needs("transformers")
    import transformers

    config = transformers.LlamaConfig(hidden_size=16 * n, intermediate_size=24 * n, num_attention_heads=4,
                                      num_key_value_heads=2, num_hidden_layers=1, vocab_size=VOCAB, bos_token_id=0,
                                      eos_token_id=0)  # fmt: skip
    return transformers.LlamaForCausalLM(config)


@pytest.fixture(scope="module", params=[gpt2, llama], ids=["gpt2", "llama"])
def case(request):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokens = torch.randint(VOCAB, (3, 11), generator=torch.Generator().manual_seed(0))
        inputs = {"input_ids": tokens, "labels": tokens, "use_cache": False}
        yield request.param, tpt.derive(request.param, inputs=inputs, optimizer="adamw"), inputs


def made(build, n):
    torch.manual_seed(1)
    return build(n)


def losses(model, inputs, optimizer, steps=3):
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(**inputs).loss
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def test_nothing_changes_at_the_base(case):
    build, p, inputs = case
    plain, model = made(build, BASE), made(build, BASE)
    ours = losses(model, inputs, torch.optim.AdamW(p.apply(model, BASE, lr=1e-3, weight_decay=0.1)))
    theirs = losses(plain, inputs, torch.optim.AdamW(plain.parameters(), lr=1e-3, weight_decay=0.1))
    assert ours == theirs
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), model.parameters(), strict=True))


def test_what_is_applied_is_undone_folded_and_copied(case):
    build, p, inputs = case
    plain, model = made(build, WIDE), made(build, WIDE)
    p.apply(model, BASE, lr=1e-3)
    assert list(model.state_dict()) == list(plain.state_dict())
    expected = model(**inputs).logits
    assert not torch.allclose(plain(**inputs).logits, expected)
    assert torch.equal(copy.deepcopy(model)(**inputs).logits, expected)
    folded = copy.deepcopy(model)
    p.fold(folded)
    torch.testing.assert_close(folded(**inputs).logits, expected, rtol=1e-4, atol=1e-6)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in folded.modules())
    p.remove(model)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), model.parameters(), strict=True))
    assert torch.equal(plain(**inputs).logits, model(**inputs).logits)


def test_the_applied_model_compiles_as_one_graph(case):
    build, p, inputs = case
    torch.compiler.reset()
    model = made(build, WIDE)
    p.apply(model, BASE, lr=1e-3)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    tokens = inputs["input_ids"]
    expected = model(tokens, use_cache=False).logits
    torch.testing.assert_close(compiled(tokens, use_cache=False).logits, expected, rtol=1e-4, atol=1e-6)


def test_every_operation_behaves_as_derived_after_applying_and_many_do_not_before(case):
    _, p, _ = case
    right = p.check(widths=(4, 8, 16, 32), seeds=3, max_seeds=6, steps=1)
    wrong = p.check(widths=(4, 8, 16), seeds=3, max_seeds=3, steps=1, unmodified=True)
    assert not [row for row in right.rows if row.verdict == "disagrees"], str(right)
    assert right.count("agrees") > 0.9 * len(right.rows)
    assert wrong.count("disagrees") > 0.3 * len(wrong.rows)


def test_the_published_way_to_save_a_folded_model(case, tmp_path):
    build, p, inputs = case
    model = made(build, WIDE)
    p.apply(model, BASE)
    expected = model(**inputs).logits
    p.fold(model)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(**inputs).logits, expected, rtol=1e-4, atol=1e-6)
