"""The optimizers with a NumPy step of their own in steps.py, a row of data each."""

from __future__ import annotations

from tensorprog.optimizers.data import Optimizer, Size, hyper, scales

EPS = scales(eps=Size(gradient=1))  # added to a number of the size of the gradient's entries
_SGD = "Robbins & Monro 1951; Sutskever et al. 2013, momentum as in torch.optim.SGD"
_ADAM = hyper(lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0)
_MUON = hyper(lr=2e-2, momentum=0.95, nesterov=1, weight_decay=0.0, ns_steps=5)
_JORDAN = "Jordan et al. 2024, Muon: an optimizer for hidden layers in neural networks"

ROWS = (
    Optimizer(
        "sgd", "none", _SGD, decay="coupled", torch="SGD",
        defaults=hyper(lr=1e-1, momentum=0.0, dampening=0.0, nesterov=0, weight_decay=0.0),
    ),
    Optimizer(
        "momentum", "none", _SGD, decay="coupled", torch="SGD",
        defaults=hyper(lr=1e-1, momentum=0.9, dampening=0.0, nesterov=0, weight_decay=0.0),
    ),
    Optimizer(
        "nesterov", "none", _SGD, decay="coupled", torch="SGD",
        defaults=hyper(lr=1e-1, momentum=0.9, dampening=0.0, nesterov=1, weight_decay=0.0),
    ),
    Optimizer(
        "adam", "entry", "Kingma & Ba 2015, arXiv:1412.6980", scales=EPS, decay="coupled", torch="Adam",
        defaults=_ADAM,
    ),
    Optimizer(
        "adamw", "entry", "Loshchilov & Hutter 2019, arXiv:1711.05101", scales=EPS, decay="decoupled", torch="AdamW",
        defaults=hyper(lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=1e-2),
    ),
    Optimizer(
        "nadam", "entry", "Dozat 2016, Incorporating Nesterov momentum into Adam", scales=EPS, decay="coupled",
        torch="NAdam",
        defaults=hyper(lr=2e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, momentum_decay=4e-3),
    ),
    Optimizer(
        "adamax", "entry", "Kingma & Ba 2015, section 7.1, arXiv:1412.6980", scales=EPS, decay="coupled",
        torch="Adamax", defaults=hyper(lr=2e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0),
    ),
    Optimizer(
        "rmsprop", "entry", "Hinton 2012, Neural networks for machine learning, lecture 6e", scales=EPS,
        decay="coupled", torch="RMSprop",
        defaults=hyper(lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0),
    ),
    Optimizer(
        "adagrad", "entry", "Duchi, Hazan & Singer 2011", scales=EPS, decay="coupled", torch="Adagrad",
        defaults=hyper(lr=1e-2, lr_decay=0.0, weight_decay=0.0, initial_accumulator_value=0.0, eps=1e-10),
    ),
    Optimizer(
        "lion", "entry", "Chen et al. 2023, algorithm 2, arXiv:2302.06675", decay="decoupled",
        defaults=hyper(lr=1e-4, beta1=0.9, beta2=0.99, weight_decay=0.0),
    ),
    Optimizer(
        "signsgd", "entry", "Bernstein et al. 2018, arXiv:1802.04434 (with momentum: Signum)", decay="decoupled",
        defaults=hyper(lr=1e-3, momentum=0.0, weight_decay=0.0),
    ),
    Optimizer(
        "adafactor", "entry", "Shazeer & Stern 2018, arXiv:1804.04235, as in torch.optim.Adafactor", relative=True,
        decay="decoupled", torch="Adafactor",
        defaults=hyper(lr=1e-2, beta2_decay=-0.8, eps2=1e-3, d=1.0, weight_decay=0.0),
    ),
    Optimizer(
        "lamb", "entry", "You et al. 2020, algorithm 2, arXiv:1904.00962", relative=True, scales=EPS,
        decay="decoupled", defaults=hyper(lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-6, weight_decay=0.0),
    ),
    Optimizer(
        "lars", "tensor", "You, Gitman & Ginsburg 2017, algorithm 1, arXiv:1708.03888", relative=True,
        decay="coupled", defaults=hyper(lr=1.0, momentum=0.9, trust=1e-3, weight_decay=0.0),
    ),
    Optimizer("muon", "spectral", _JORDAN, decay="decoupled", vectors="adam", defaults=_MUON),
    Optimizer(
        "muon_original", "spectral", _JORDAN + " (factor sqrt(max(1, rows/cols)))", factor="original",
        decay="decoupled", vectors="adam", defaults=_MUON,
    ),
    Optimizer(
        "muon_match_rms", "spectral", "Liu et al. 2025, Muon is scalable for LLM training, arXiv:2502.16982",
        factor="match_rms", decay="decoupled", vectors="adamw", defaults=(("lr", 1e-3), *_MUON[1:]),
    ),
    Optimizer(
        "muon_spectral", "spectral", "Bernstein & Newhouse 2024, arXiv:2409.20325; Yang, Simon & Bernstein 2023, "
        "arXiv:2310.17813", factor="spectral", decay="decoupled", vectors="adam", defaults=_MUON,
    ),
    Optimizer(
        "shampoo", "spectral", "Gupta, Koren & Singer 2018, algorithm 1, arXiv:1802.09568",
        scales=scales(eps=Size(gradient=2, count=1)), decay="decoupled", vectors="adamw",
        defaults=hyper(lr=1e-2, eps=1e-8, weight_decay=0.0),
    ),
    Optimizer(
        "soap", "eigenbasis", "Vyas et al. 2024, algorithm 3, arXiv:2409.11321", scales=EPS, decay="decoupled",
        vectors="adamw", delay=1,
        defaults=hyper(lr=3e-3, beta1=0.95, beta2=0.95, eps=1e-8, weight_decay=1e-2, precondition_frequency=10,
                       max_precond_dim=10000),
    ),
)  # fmt: skip
