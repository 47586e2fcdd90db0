"""Colours of a chart of 24 patches: published values, conversions, differences, and the matrix between two sets.

Published values: ColorChecker Classic, manufactured after November 2014 (X-Rite), CIE L*a*b* for D50, 2 degrees.
Differences are CIEDE2000 (Sharma, Wu and Dalal 2005, https://doi.org/10.1002/col.20070).
Pure; arrays are (n, 3) floats.
"""

from typing import Any, Final

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

CHECKER_LAB: Final = np.array(
    [
        (37.54, 14.37, 14.92), (64.66, 19.27, 17.50), (49.32, -3.82, -22.54), (43.46, -12.74, 22.72),
        (54.94, 9.61, -24.79), (70.48, -32.26, -0.37), (62.73, 35.83, 56.50), (39.43, 10.75, -45.17),
        (50.57, 48.64, 16.67), (30.10, 22.54, -20.87), (71.77, -24.13, 58.19), (71.51, 18.24, 67.37),
        (28.37, 15.42, -49.80), (54.38, -39.72, 32.27), (42.43, 51.05, 28.62), (81.80, 2.67, 80.41),
        (50.63, 51.28, -14.12), (49.57, -29.71, -28.32), (95.19, -1.03, 2.93), (81.29, -0.57, 0.44),
        (66.89, -0.75, -0.06), (50.76, -0.13, 0.14), (35.63, -0.46, -0.48), (20.64, 0.07, -0.46),
    ]
)  # fmt: skip
"""Row by row from dark skin to black."""
D50: Final = np.array((0.96422, 1.0, 0.82521))
_XYZ_D65_TO_RGB: Final = np.array(
    ((3.2404542, -1.5371385, -0.4985314), (-0.9692660, 1.8760108, 0.0415560), (0.0556434, -0.2040259, 1.0572252))
)
_BRADFORD_D50_TO_D65: Final = np.array(
    ((0.9555766, -0.0230393, 0.0631636), (-0.0282895, 1.0099416, 0.0210077), (0.0122982, -0.0204830, 1.3299098))
)
_TO_RGB: Final = _XYZ_D65_TO_RGB @ _BRADFORD_D50_TO_D65
_FROM_RGB: Final = np.linalg.inv(_TO_RGB)


def lab_to_linear(lab: Array) -> Array:
    """L*a*b* (D50) to linear sRGB, 1 is white; colours outside sRGB are negative or above 1."""
    fy = (lab[:, 0] + 16) / 116
    f = np.stack([fy + lab[:, 1] / 500, fy, fy - lab[:, 2] / 200], axis=1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * D50
    return np.asarray(xyz @ _TO_RGB.T, dtype=np.float64)


def linear_to_lab(rgb: Array) -> Array:
    """Linear sRGB to L*a*b* (D50)."""
    t = np.clip(rgb @ _FROM_RGB.T / D50, 0, None)
    f = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def srgb_to_linear(values: Array) -> Array:
    """From sRGB, 0 to 255, to linear 0 to 1 (IEC 61966-2-1)."""
    v = values / 255
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def difference(one: Array, other: Array) -> Array:
    """CIEDE2000 between rows of L*a*b*."""
    l1, a1, b1 = one.T
    l2, a2, b2 = other.T
    mean_c = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    g = 0.5 * (1 - np.sqrt(mean_c**7 / (mean_c**7 + 25.0**7)))
    a1, a2 = a1 * (1 + g), a2 * (1 + g)
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = np.degrees(np.arctan2(b1, a1)) % 360, np.degrees(np.arctan2(b2, a2)) % 360
    grey = c1 * c2 == 0
    turn = (h2 - h1 + 180) % 360 - 180
    dh = np.where(grey, 0, 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn) / 2))
    mean_h = np.where(grey, h1 + h2, (h1 + turn / 2) % 360)
    mean_l, mean_c = (l1 + l2) / 2, (c1 + c2) / 2
    t = (
        1
        - 0.17 * np.cos(np.radians(mean_h - 30))
        + 0.24 * np.cos(np.radians(2 * mean_h))
        + 0.32 * np.cos(np.radians(3 * mean_h + 6))
        - 0.20 * np.cos(np.radians(4 * mean_h - 63))
    )
    sl = 1 + 0.015 * (mean_l - 50) ** 2 / np.sqrt(20 + (mean_l - 50) ** 2)
    sc, sh = 1 + 0.045 * mean_c, 1 + 0.015 * mean_c * t
    rotation = -2 * np.sqrt(mean_c**7 / (mean_c**7 + 25.0**7)) * np.sin(
        np.radians(60 * np.exp(-(((mean_h - 275) / 25) ** 2)))
    )  # fmt: skip
    dl, dc, dh = (l2 - l1) / sl, (c2 - c1) / sc, dh / sh
    return np.asarray(np.sqrt(dl**2 + dc**2 + dh**2 + rotation * dc * dh), dtype=np.float64)


def matrix_between(measured: Array, wanted: Array) -> Array:
    """The 3 x 3 matrix M with ``measured @ M.T`` close to ``wanted``, both linear; dark patches weigh as light ones."""
    weights = (1 / (wanted.mean(axis=1).clip(0) + 0.05))[:, None]
    solved = np.linalg.lstsq(measured * weights, wanted * weights, rcond=None)[0]
    return np.asarray(solved.T, dtype=np.float64)
