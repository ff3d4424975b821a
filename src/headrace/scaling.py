"""How genes are scaled."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Scaling:
    """How genes are scaled: (x - mean) / std, within -most and most.

    Parameters
    ----------
    mean, std
        Shape (n_vars,), float64.
    most
        The largest value; infinity does not clip.
    zero_center
        Whether the mean is subtracted. If not, values are clipped from above only.
    stored
        Whether `X` is scaled, or is to be scaled by steps that take scaled values.
    holds
        What `X` held when the scaling was found: later changes make it void.
    """

    mean: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]
    most: float
    zero_center: bool
    stored: bool
    holds: str

    @property
    def zero(self) -> npt.NDArray[np.float64]:
        """What a zero becomes, shape (n_vars,)."""
        return np.clip(-self.mean / self.std, -self.most, self.most) if self.zero_center else np.zeros(len(self.mean))

    def of(self, genes: npt.NDArray[np.bool_]) -> Scaling:
        """Return that of some genes, shape (n_vars,)."""
        return replace(self, mean=self.mean[genes], std=self.std[genes])
