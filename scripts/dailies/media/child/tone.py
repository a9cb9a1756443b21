"""High dynamic range made visible on ordinary screens, for the pictures that are not made by ffmpeg itself."""

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Transfer = Literal["pq", "hlg"]
# SMPTE ST 2084
_M1: Final = 2610 / 16384
_M2: Final = 2523 / 4096 * 128
_C1: Final = 3424 / 4096
_C2: Final = 2413 / 4096 * 32
_C3: Final = 2392 / 4096 * 32
# ITU-R BT.2100, HLG
_A: Final = 0.17883277
_B: Final = 0.28466892
_C: Final = 0.55991073
_WHITE_NITS: Final = 100.0  # as `npl=100` of the preview's filters
_PEAK: Final = 10.0  # times white that still keeps a shade of its own
# ITU-R BT.2087: BT.2020 primaries to BT.709
_TO_709: Final = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)


def transfer_of(code: int | None) -> Transfer | None:
    """H.273 transfer characteristics: 16 is PQ, 18 is HLG; the others are not HDR."""
    return {16: "pq", 18: "hlg"}.get(code or 0)  # type: ignore[return-value]


def _linear(transfer: Transfer) -> NDArray[np.float32]:
    """Light, in times of white, of each 12-bit code."""
    code = np.linspace(0, 1, 4096)
    if transfer == "pq":
        power = code ** (1 / _M2)
        nits = 10000 * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)
    else:
        scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - _C) / _A) + _B) / 12)
        nits = 1000 * scene**1.2
    return np.asarray(nits / _WHITE_NITS, np.float32)


def to_sdr(pixels: NDArray[np.uint16], transfer: Transfer) -> NDArray[np.uint8]:
    """[height, width, 3] of BT.2020 RGB, 16 bits, as BT.709 RGB, 8 bits (extended Reinhard on brightness)."""
    light = _linear(transfer)[pixels >> 4] @ _TO_709.T
    light = np.maximum(light, 0)
    bright = light @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    mapped = bright * (1 + bright / _PEAK**2) / (1 + bright)
    light *= (mapped / np.maximum(bright, 1e-6))[..., None]
    shown = np.where(light <= 0.018, light * 4.5, 1.099 * np.power(np.maximum(light, 1e-6), 0.45) - 0.099)
    return np.asarray(np.clip(shown * 255 + 0.5, 0, 255), np.uint8)
