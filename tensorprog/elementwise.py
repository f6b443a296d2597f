"""NumPy bodies of the nonlinearities of functions.py: `name` and `name_slope`, dtype preserving, stable in the tails.

Constants are Python floats throughout, so that float32 arrays stay float32.
"""

from __future__ import annotations

import math

import numpy as np

from tensorprog.arrays import Array

_SQRT_HALF = math.sqrt(0.5)
_INV_SQRT_2PI = 1 / math.sqrt(2 * math.pi)
_TWO_OVER_SQRT_PI = 2 / math.sqrt(math.pi)
_GELU_A, _GELU_B = math.sqrt(2 / math.pi), 0.044715
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


def _as(mask: Array, like: Array) -> Array:
    return mask.astype(like.dtype)


def identity(x: Array) -> Array:
    return x


def identity_slope(x: Array) -> Array:
    return np.ones_like(x)


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def relu_slope(x: Array) -> Array:
    return _as(x > 0, x)


def leaky_relu(x: Array) -> Array:
    return np.maximum(x, 0.01 * x)


def leaky_relu_slope(x: Array) -> Array:
    slope = np.full_like(x, 0.01)
    slope[x > 0] = 1
    return slope


def abs(x: Array) -> Array:  # noqa: A001 - the function's name in the language
    return np.abs(x)


def abs_slope(x: Array) -> Array:
    return np.sign(x)


def square(x: Array) -> Array:
    return x * x


def square_slope(x: Array) -> Array:
    return 2.0 * x


def cube(x: Array) -> Array:
    return x * x * x


def cube_slope(x: Array) -> Array:
    return 3.0 * (x * x)


def relu_squared(x: Array) -> Array:
    return square(relu(x))


def relu_squared_slope(x: Array) -> Array:
    return 2.0 * relu(x)


def hardtanh(x: Array) -> Array:
    return np.clip(x, -1, 1)


def hardtanh_slope(x: Array) -> Array:
    return _as(np.abs(x) < 1, x)


def tanh(x: Array) -> Array:
    return np.tanh(x)


def tanh_slope(x: Array) -> Array:
    return 1.0 - np.square(np.tanh(x))


def sin(x: Array) -> Array:
    return np.sin(x)


def sin_slope(x: Array) -> Array:
    return np.cos(x)


def cos(x: Array) -> Array:
    return np.cos(x)


def cos_slope(x: Array) -> Array:
    return -np.sin(x)


def exp(x: Array) -> Array:
    return np.exp(x)


def exp_slope(x: Array) -> Array:
    return np.exp(x)


def sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))  # never overflows
    return np.where(x < 0, small, 1.0) / (1.0 + small)


def sigmoid_slope(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return small / np.square(1.0 + small)


def softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def softplus_slope(x: Array) -> Array:
    return sigmoid(x)


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def silu_slope(x: Array) -> Array:
    s = sigmoid(x)
    return s * (1.0 + x * (1.0 - s))


def mish(x: Array) -> Array:
    return x * np.tanh(softplus(x))


def mish_slope(x: Array) -> Array:
    t = np.tanh(softplus(x))
    return t + x * (1.0 - t * t) * sigmoid(x)


def elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def elu_slope(x: Array) -> Array:
    return np.exp(np.minimum(x, 0))


def selu(x: Array) -> Array:
    return _SELU_SCALE * np.where(x > 0, x, _SELU_ALPHA * np.expm1(np.minimum(x, 0)))


def selu_slope(x: Array) -> Array:
    return _SELU_SCALE * np.where(x > 0, 1.0, _SELU_ALPHA * np.exp(np.minimum(x, 0))).astype(x.dtype)


def gelu(x: Array) -> Array:
    return 0.5 * x * (1.0 + erf(_SQRT_HALF * x))


def gelu_slope(x: Array) -> Array:
    return 0.5 * (1.0 + erf(_SQRT_HALF * x)) + _INV_SQRT_2PI * x * np.exp(-0.5 * (x * x))


def gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1.0 + np.tanh(_GELU_A * (x + _GELU_B * (x * x * x))))


def gelu_tanh_slope(x: Array) -> Array:
    square = x * x
    t = np.tanh(_GELU_A * (x + _GELU_B * (square * x)))
    return 0.5 * (1.0 + t) + 0.5 * _GELU_A * x * (1.0 - t * t) * (1.0 + 3 * _GELU_B * square)


# --- erf, after fdlibm s_erf.c (Sun Microsystems 1993): a rational function on each of four ranges of |x| ------------

_ERX = 8.45062911510467529297e-01
_P0 = (-2.37630166566501626084e-05, -5.77027029648944159157e-03, -2.84817495755985104766e-02,
       -3.25042107247001499370e-01, 1.28379167095512558561e-01)  # fmt: skip
_Q0 = (-3.96022827877536812320e-06, 1.32494738004321644526e-04, 5.08130628187576562776e-03,
       6.50222499887672944485e-02, 3.97917223959155352819e-01, 1.0)  # fmt: skip
_P1 = (-2.16637559486879084300e-03, 3.54783043256182359371e-02, -1.10894694282396677476e-01,
       3.18346619901161753674e-01, -3.72207876035701323847e-01, 4.14856118683748331666e-01,
       -2.36211856075265944077e-03)  # fmt: skip
_Q1 = (1.19844998467991074170e-02, 1.36370839120290507362e-02, 1.26171219808761642112e-01,
       7.18286544141962662868e-02, 5.40397917702171048937e-01, 1.06420880400844228286e-01, 1.0)  # fmt: skip
_P2 = (-9.81432934416914548592e+00, -8.12874355063065934246e+01, -1.84605092906711035994e+02,
       -1.62396669462573470355e+02, -6.23753324503260060396e+01, -1.05586262253232909814e+01,
       -6.93858572707181764372e-01, -9.86494403484714822705e-03)  # fmt: skip
_Q2 = (-6.04244152148580987438e-02, 6.57024977031928170135e+00, 1.08635005541779435134e+02,
       4.29008140027567833386e+02, 6.45387271733267880336e+02, 4.34565877475229228821e+02,
       1.37657754143519042600e+02, 1.96512716674392571292e+01, 1.0)  # fmt: skip
_P3 = (-4.83519191608651397019e+02, -1.02509513161107724954e+03, -6.37566443368389627722e+02,
       -1.60636384855821916062e+02, -1.77579549177547519889e+01, -7.99283237680523006574e-01,
       -9.86494292470009928597e-03)  # fmt: skip
_Q3 = (-2.24409524465858183362e+01, 4.74528541206955367215e+02, 2.55305040643316442583e+03,
       3.19985821950859553908e+03, 1.53672958608443695994e+03, 3.25792512996573918826e+02,
       3.03380607434824582924e+01, 1.0)  # fmt: skip


def _ratio(top: tuple[float, ...], bottom: tuple[float, ...], z: Array) -> Array:
    """top(z) / bottom(z), coefficients from the highest power down."""
    parts = []
    for coefficients in (top, bottom):
        total = coefficients[0] * z
        for coefficient in coefficients[1:-1]:
            total += coefficient
            total *= z
        total += coefficients[-1]
        parts.append(total)
    return np.divide(parts[0], parts[1], out=parts[0])


def erf(x: Array) -> Array:
    flat = np.ravel(x)
    size = np.abs(flat)
    result = np.ones_like(flat)
    inner = size < 0.84375
    z = flat[inner]
    result[inner] = z + z * _ratio(_P0, _Q0, z * z)
    middle = ~inner & (size < 1.25)
    result[middle] = _ERX + _ratio(_P1, _Q1, size[middle] - 1.0)
    for low, high, top, bottom in ((1.25, 1 / 0.35, _P2, _Q2), (1 / 0.35, 6.0, _P3, _Q3)):
        part = (size >= low) & (size < high)
        z = size[part]
        inverse = 1.0 / (z * z)
        result[part] = 1.0 - np.exp(_ratio(top, bottom, inverse) - z * z - 0.5625) / z
    result[np.isnan(flat)] = np.nan
    outer = ~inner
    result[outer] = np.copysign(result[outer], flat[outer])
    return result.reshape(np.shape(x))


def erf_slope(x: Array) -> Array:
    result: Array = _TWO_OVER_SQRT_PI * np.exp(-(x * x))
    return result
