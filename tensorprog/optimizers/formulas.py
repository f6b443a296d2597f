"""Optimizers that are defined by their formulas, in the language itself, with sources."""

from __future__ import annotations

FORMULAS: dict[str, tuple[str, str]] = {
    "adopt": ("Taniguchi et al. 2024, algorithm 2 with the clipping of the authors' code, arXiv:2411.02853", """
        optimizer adopt(lr = 0.001, beta1 = 0.9, beta2 = 0.9999, eps = 1e-6, weight_decay = 0) {
          b = beta2 * min(1, t - 1)
          m = beta1 * m + (1 - beta1) * clip(g / max(sqrt(v), eps), (t - 1)^(1/4))
          v = b * v + (1 - b) * g^2
          step = m
        }"""),
    "adam_atan2": ("Everett et al. 2024, Adam-atan2, arXiv:2407.05872 (scale 4 / pi: constant g, step 1)", """
        optimizer adam_atan2(lr = 0.001, beta1 = 0.9, beta2 = 0.999, scale = 1.27, weight_decay = 0) {
          m = beta1 * m + (1 - beta1) * g
          v = beta2 * v + (1 - beta2) * g^2
          step = scale * atan2(m / (1 - beta1^t), sqrt(v / (1 - beta2^t)))
        }"""),
    "sophia": ("Liu et al. 2023, algorithms 2 and 3 (Gauss-Newton-Bartlett, k = 1), arXiv:2305.14342", """
        optimizer sophia(lr = 0.0001, beta1 = 0.96, beta2 = 0.99, gamma = 0.01, eps = 1e-12, weight_decay = 0) {
          m = beta1 * m + (1 - beta1) * g
          h = beta2 * h + (1 - beta2) * sampled^2
          step = clip(m / max(gamma * h, eps), 1)
        }"""),
    "clipped_sgd": ("Pascanu, Mikolov & Bengio 2013, algorithm 1, arXiv:1211.5063", """
        optimizer clipped_sgd(lr = 0.1, momentum = 0, threshold = 1, weight_decay = 0) {
          decay = coupled
          m = momentum * m + g * min(1, threshold / global_norm)
          step = m
        }"""),
    "normalised_sgd": ("Cutkosky & Mehta 2020, algorithm 1 over all parameters, arXiv:2002.03305", """
        optimizer normalised_sgd(lr = 0.1, weight_decay = 0) {
          step = g / global_norm
        }"""),
    "sgdw": ("Loshchilov & Hutter 2019, algorithm 1 (decoupled decay), arXiv:1711.05101", """
        optimizer sgdw(lr = 0.1, momentum = 0, weight_decay = 0) {
          m = momentum * m + g
          step = m
        }"""),
    "sam": ("Foret et al. 2021, algorithm 1, arXiv:2010.01412; radii per layer: Haas et al. 2024, arXiv:2411.00075", """
        optimizer sam(lr = 0.1, rho = 0.05, momentum = 0, weight_decay = 0) {
          decay = coupled
          perturb = rho * g / global_norm
          m = momentum * m + g
          step = m
        }"""),
}  # fmt: skip
