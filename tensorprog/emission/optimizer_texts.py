"""The text of the optimizers that PyTorch does not have, step by step what steps.py does in NumPy."""

from __future__ import annotations

MUON_FACTOR = "                <factor>\n"
MUON_KEY = ", factor=factor"
MUON_HEAD = """\
    def __init__(
        self, params, lr=2e-2, momentum=0.95, nesterov=True, ns_steps=5, weight_decay=0.0, factor=None
    ):
"""
MUON_PLAIN = """\
    def __init__(self, params, lr=2e-2, momentum=0.95, nesterov=True, ns_steps=5, weight_decay=0.0):
"""

_STEP = """
    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lr, decay = group["lr"], group["weight_decay"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                grad, state = p.grad, self.state[p]
"""

_LION = (
    '''
class Lion(torch.optim.Optimizer):
    """Sign of an interpolated momentum, decoupled decay (Chen 2023, arXiv:2302.06675)."""

    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))
'''
    + _STEP
    + """\
                if not state:
                    state["first"] = torch.zeros_like(p)
                beta1, beta2 = group["betas"]
                p.mul_(1 - lr * decay)
                p.sub_(state["first"].lerp(grad, 1 - beta1).sign(), alpha=lr)
                state["first"].lerp_(grad, 1 - beta2)
        return loss
"""
)

_SIGN = (
    '''
class SignSGD(torch.optim.Optimizer):
    """Sign of the gradient or of its mean, decoupled decay (Bernstein 2018, arXiv:1802.04434)."""

    def __init__(self, params, lr=1e-3, momentum=0.0, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))
'''
    + _STEP
    + """\
                if group["momentum"]:
                    if not state:
                        state["first"] = torch.zeros_like(p)
                    grad = state["first"].lerp_(grad, 1 - group["momentum"])
                p.mul_(1 - lr * decay)
                p.sub_(grad.sign(), alpha=lr)
        return loss
"""
)

_LAMB = (
    '''
class LAMB(torch.optim.Optimizer):
    """Adam's update at the parameter's own rms, decoupled decay (You 2020, arXiv:1904.00962)."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))
'''
    + _STEP
    + """\
                if not state:
                    state["step"] = 0
                    state["first"], state["second"] = torch.zeros_like(p), torch.zeros_like(p)
                beta1, beta2 = group["betas"]
                state["step"] += 1
                state["first"].lerp_(grad, 1 - beta1)
                state["second"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
                root = state["second"].sqrt() / (1 - beta2 ** state["step"]) ** 0.5
                update = state["first"] / (root + group["eps"])
                size = update.square().mean().sqrt()
                scale = p.square().mean().sqrt().clamp(min=1e-3)  # zeros can start to move
                p.mul_(1 - lr * decay)
                p.sub_(update * torch.where(size > 0, lr * scale / size, 0.0))
        return loss
"""
)

_LARS = (
    '''
class LARS(torch.optim.Optimizer):
    """Momentum with a trust ratio per tensor, coupled decay (You 2017, arXiv:1708.03888)."""

    def __init__(self, params, lr=1.0, momentum=0.9, trust=1e-3, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, trust=trust, weight_decay=weight_decay))
'''
    + _STEP
    + """\
                if not state:
                    state["velocity"] = torch.zeros_like(p)
                scale = p.square().mean().sqrt().clamp(min=1e-3)  # zeros can start to move
                size = grad.square().mean().sqrt() + decay * scale
                factor = torch.where(size > 0, lr * group["trust"] * scale / size, 0.0)
                state["velocity"].mul_(group["momentum"]).add_(factor * (grad + decay * p))
                p.sub_(state["velocity"])
        return loss
"""
)

_MUON = (
    '''
class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum in full precision, decoupled decay (Jordan et al. 2024).

    A tensor with more than two axes is a matrix [first axis, all others].
    """

    def __init__(
        self, params, lr=2e-2, momentum=0.95, nesterov=True, ns_steps=5, weight_decay=0.0, factor=None
    ):
        defaults = dict(lr=lr, momentum=momentum, nesterov=nesterov, ns_steps=ns_steps)
        super().__init__(params, dict(defaults, weight_decay=weight_decay, factor=factor))

    @staticmethod
    def orthogonalise(grad, steps):
        """About U V^T for grad = U S V^T, by a quintic Newton-Schulz iteration."""
        tall = grad.shape[0] > grad.shape[1]
        x = grad.T if tall else grad
        x = x / grad.norm().clamp(min=1e-7)
        for _ in range(steps):
            gram = x @ x.T
            x = 3.4445 * x + (2.0315 * (gram @ gram) - 4.7750 * gram) @ x
        return x.T if tall else x
'''
    + _STEP
    + """\
                if not state:
                    state["first"] = torch.zeros_like(p)
                first = state["first"].lerp_(grad, 1 - group["momentum"])
                if group["nesterov"]:
                    first = grad.lerp(first, group["momentum"])
                update = self.orthogonalise(first.flatten(1), group["ns_steps"])
"""
    + "                rows, columns = update.shape\n"
    + MUON_FACTOR
    + """\
                p.mul_(1 - lr * decay)
                p.sub_(update.view_as(p), alpha=lr * factor)
        return loss
"""
)

_SHAMPOO = (
    '''
class Shampoo(torch.optim.Optimizer):
    """A preconditioner for each side of a matrix, decoupled decay (Gupta 2018, arXiv:1802.09568).

    A tensor with more than two axes is a matrix [first axis, all others].
    """

    def __init__(self, params, lr=1e-2, eps=1e-8, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, eps=eps, weight_decay=weight_decay))

    @staticmethod
    def inverse_fourth_root(matrix, eps):
        finite = matrix.isfinite().all()  # a run that diverges goes on, as with other optimizers
        values, vectors = torch.linalg.eigh(matrix.where(finite, torch.zeros_like(matrix)))
        root = (vectors * (values.clamp(min=0) + eps) ** -0.25) @ vectors.T
        return root.where(finite, torch.full_like(matrix, torch.nan))
'''
    + _STEP
    + """\
                matrix = grad.flatten(1)
                if not state:
                    rows, columns = matrix.shape
                    state["left"] = matrix.new_zeros(rows, rows)
                    state["right"] = matrix.new_zeros(columns, columns)
                state["left"] += matrix @ matrix.T
                state["right"] += matrix.T @ matrix
                left = self.inverse_fourth_root(state["left"], group["eps"])
                right = self.inverse_fourth_root(state["right"], group["eps"])
                p.mul_(1 - lr * decay)
                p.sub_((left @ matrix @ right).view_as(p), alpha=lr)
        return loss
"""
)

_SOAP = (
    '''
class SOAP(torch.optim.Optimizer):
    """AdamW in an eigenbasis of earlier gradients (Vyas 2024, arXiv:2409.11321).

    The first step only finds a basis for each axis, by power iterations from cosines. Every
    `precondition_frequency` of the others is followed by one more.
    """

    def __init__(
        self,
        params,
        lr=3e-3,
        betas=(0.95, 0.95),
        eps=1e-8,
        weight_decay=1e-2,
        precondition_frequency=10,
        max_precond_dim=10000,
    ):
        defaults = dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        defaults["precondition_frequency"] = precondition_frequency
        super().__init__(params, dict(defaults, max_precond_dim=max_precond_dim))

    @staticmethod
    def turned(x, bases, back=False):
        for axis, basis in bases.items():
            x = torch.tensordot(x, basis, dims=([axis], [int(back)])).movedim(-1, axis)
        return x

    @staticmethod
    def cosines(size):
        halves = torch.arange(size, dtype=torch.float64) + 0.5
        return (torch.pi / size * torch.outer(halves, halves)).cos() * (2 / size) ** 0.5

    @staticmethod
    def power_iterated(matrix, basis):
        if not matrix.isfinite().all():  # a run that diverges goes on, as with other optimizers
            return torch.full_like(basis, torch.nan)
        # directions that the matrix lacks stay as they are: rounding errors would choose others
        moved = matrix @ basis + 1e-4 * matrix.trace() * basis
        wide = torch.promote_types(moved.dtype, torch.float32)  # there is no QR of half precision
        return torch.linalg.qr(moved.to(wide))[0].to(moved)
'''
    + _STEP
    + """\
                if not state:
                    most = group["max_precond_dim"]
                    sizes = {k: n for k, n in enumerate(p.shape) if 1 < n <= most}
                    state["step"] = -1  # the first step only finds the bases
                    state["first"], state["second"] = torch.zeros_like(p), torch.zeros_like(p)
                    state["matrices"] = {k: grad.new_zeros(n, n) for k, n in sizes.items()}
                    state["bases"] = {k: self.cosines(n).to(grad) for k, n in sizes.items()}
                beta1, beta2 = group["betas"]
                state["step"] += 1
                count, bases = state["step"], state["bases"]
                p.mul_(1 - lr * decay)
                if count:
                    state["first"].lerp_(grad, 1 - beta1)
                    inside = self.turned(grad, bases)
                    state["second"].lerp_(inside.square(), 1 - beta2)
                    unit = (1 - beta2**count) ** 0.5 / (1 - beta1**count)
                    root = state["second"].sqrt() + group["eps"]
                    update = self.turned(state["first"], bases) / root
                    p.sub_(self.turned(update, bases, back=True), alpha=lr * unit)
                for k, matrix in state["matrices"].items():
                    side = grad.movedim(k, 0).flatten(1)
                    matrix.lerp_(side @ side.T, 1 - beta2)
                    if count % group["precondition_frequency"] == 0:
                        for _ in range(1 if count else 8):
                            bases[k] = self.power_iterated(matrix, bases[k])
        return loss
"""
)

TEXTS = {
    "Lion": _LION,
    "SignSGD": _SIGN,
    "LAMB": _LAMB,
    "LARS": _LARS,
    "Shampoo": _SHAMPOO,
    "SOAP": _SOAP,
    "Muon": _MUON,
}
