"""Names in emitted code: nothing reaches the file that is not a plain identifier, free in its scope."""

from __future__ import annotations

import builtins
import keyword
import re

from tensorprog.errors import TensorProgError

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)

# Attributes of every nn.Module (a test compares this list with the installed PyTorch).
MODULE_ATTRIBUTES = frozenset(
    """T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches
    eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu load_state_dict
    modules mtia named_buffers named_children named_modules named_parameters parameters register_backward_hook
    register_buffer register_forward_hook register_forward_pre_hook register_full_backward_hook
    register_full_backward_pre_hook register_load_state_dict_post_hook register_load_state_dict_pre_hook
    register_module register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_
    set_extra_state set_submodule share_memory state_dict to to_empty train training type xpu zero_grad""".split()
)
# What the emitted file itself defines on its classes and at its top level.
OWN_ATTRIBUTES = frozenset(
    "configure_optimizer loss param_groups reset_parameters set_multipliers training_loss widths".split()
)
OWN_GLOBALS = frozenset(
    """BASE HYPERPARAMETERS MULTIPLIERS PARAMETERS F annotations divide find fold math nn orthogonal_ ratio self super
    top_k_mask torch windows Optimizers LAMB LARS Lion Muon SOAP Shampoo SignSGD""".split()
)


def check_identifier(name: str) -> str:
    """The name itself if it is a plain ASCII identifier. Raises TensorProgError otherwise."""
    if not _IDENTIFIER.match(name) or len(name) > 200:
        raise TensorProgError(
            f"{name[:80]!r} cannot be a name in the emitted code",
            why="names become Python identifiers: letters, digits and underscores, not starting with a digit",
            fix="`W1`",
        )
    return name


def camel_case(name: str) -> str:
    """`gated_mlp` -> `GatedMlp`; anything that is not a letter or digit separates words."""
    words = [w for w in re.split(r"[^A-Za-z0-9]+", name) if w]
    joined = "".join(w[0].upper() + w[1:] for w in words) or "Model"
    return joined if joined[0].isalpha() else "Model" + joined


class Namespace:
    """Hands out names that are legal and not taken: `x`, then `x_2`, `x_3`, .."""

    def __init__(self, taken: frozenset[str] = frozenset(), separator: str = "_") -> None:
        self._taken = set(taken)
        self._separator = separator

    def add(self, wanted: str) -> str:
        """A free name as close as possible to `wanted`, which must be an identifier."""
        check_identifier(wanted)
        if wanted.startswith("_"):  # nn.Module keeps its own things there
            wanted = "x" + wanted
        name, number = wanted, 1
        while is_reserved(name) or name in self._taken:
            number += 1
            name = f"{wanted}{self._separator}{number}"
        self._taken.add(name)
        return name


def attribute_names() -> Namespace:
    """The names free for attributes of a module class."""
    return Namespace(MODULE_ATTRIBUTES | OWN_ATTRIBUTES)


def is_reserved(name: str) -> bool:
    """Words of Python, its builtins, and the names that the emitted file uses for itself."""
    return keyword.iskeyword(name) or keyword.issoftkeyword(name) or hasattr(builtins, name) or name in OWN_GLOBALS


def singular(name: str) -> str:
    """`layers` -> `layer`."""
    return name[:-1] if name.endswith("s") and len(name) > 2 else f"{name}_step" if name == "x" else name
