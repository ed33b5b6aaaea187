"""Of one weight: the directions of old tasks, and steps in those that its gradient takes now."""

from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from trainables.methods.coso.sketch import FrequentDirections

OnExhaustion: TypeAlias = Literal["clip", "freeze", "relax", "released"]

# Of Adam, as in the released code.
BETAS, EPSILON = (0.9, 0.999), 1e-6


class GradientSpace:
    """What CoSO keeps of a weight (out, in): M, columns (out, k) of old tasks' gradients.

    All is on the output side, as in the code: a gradient G becomes G' = G − M Mᵀ G, its `rank`
    leading left singular vectors P (anew every `every` steps) the space in which Adam moves the
    weight, and a sketch of `size` columns holds what the task's G' were. The moments stay as they
    are when P changes, or are `rotated` into the new one: m by R = P_newᵀ P_old, v by R's squares.
    Gradient descent with momentum, which the released code has not, adds up P Pᵀ G'.

    Where fewer than `rank` directions are free, "clip" takes only those in which G' is more than
    rounding, "freeze" lets the weight rest, "relax" lets M take in less, so that `rank` stay free.
    "released" scales rounding up to whole steps, and M may get more columns than there are
    dimensions; only that policy leaves new columns as they are without `orthonormal`.
    """

    def __init__(
        self,
        dim: int,
        rank: int,
        size: int,
        decay: float,
        every: int,
        rotated: bool,
        orthonormal: bool,
        on_exhaustion: OnExhaustion,
        device: torch.device | None = None,
    ) -> None:
        self.dim = dim
        self.rank = rank
        self._size, self._decay, self._every = size, decay, every
        self._rotated, self._orthonormal, self._policy = rotated, orthonormal, on_exhaustion
        self.memory = torch.zeros(dim, 0, device=device)
        self.relaxed = False
        self.start()

    @property
    def free_dim(self) -> int:
        """Number of directions that no old task holds."""
        return max(0, self.dim - self.memory.shape[1])

    @property
    def exhausted(self) -> bool:
        """Whether fewer than `rank` directions are free, or would be if M had taken in all."""
        return self.relaxed or self.free_dim < self.rank

    @property
    def rests(self) -> bool:
        """Whether the weight is not trained."""
        return self._policy == "freeze" and self.exhausted

    def start(self) -> None:
        """Begins a task: a new sketch, new moments."""
        # M Mᵀ, so that a step costs the same after any number of tasks.
        self._old = self.memory @ self.memory.T if self.memory.shape[1] else None
        self._sketch = FrequentDirections(self._size, self._decay)
        self._onto: Tensor | None = None
        self._mean: Tensor | None = None
        self._square: Tensor | None = None
        self._velocity: Tensor | None = None
        self._steps = 0
        # Sums over steps of ‖G'‖ / ‖G‖, and how many they are of.
        self._shares: Tensor | None = None

    def project(self, gradient: Tensor) -> Tensor:
        """G' = G − M Mᵀ G of a gradient (out, in)."""
        return gradient if self._old is None else gradient - self._old @ gradient

    def step(self, gradient: Tensor, momentum: float | None = None) -> Tensor:
        """The change (out, in) of the weight by a gradient (out, in), at a learning rate of 1.

        By gradient descent with a `momentum`, or by Adam (None). FloatingPointError if the
        gradient is not finite.
        """
        whole = torch.linalg.matrix_norm(gradient)
        if not bool(torch.isfinite(whole)):
            raise FloatingPointError(
                f"a gradient must be finite, but its norm is {float(whole)}; "
                f"a smaller optim.lr may help."
            )
        inside = self.project(gradient)
        share = torch.linalg.matrix_norm(inside) / whole.clamp_min(torch.finfo(whole.dtype).tiny)
        counted = torch.stack([share, (whole > 0).to(share)])
        self._shares = counted if self._shares is None else self._shares + counted
        if self._onto is None or self._steps % self._every == 0:
            self._follow(inside, whole)
        assert self._onto is not None
        self._steps += 1
        small = self._onto.T @ inside
        if momentum is None:
            return -self._onto @ self._adam(small)
        descent = self._onto @ small
        carried = descent if self._velocity is None else momentum * self._velocity + descent
        self._velocity = carried
        return -carried

    def absorb(self, share: float, reach: bool) -> None:
        """Ends a task: M takes in what leads the sketch, see `FrequentDirections.leading`."""
        fresh = self._sketch.leading(share, reach)
        self.relaxed = False
        if not fresh.numel():
            return
        if self._policy != "released":
            kept = max(0, self.free_dim - (self.rank if self._policy == "relax" else 0))
            self.relaxed = self._policy == "relax" and fresh.shape[1] > kept
            fresh = fresh[:, :kept]
        memory = self.memory.to(fresh)
        if self._orthonormal and fresh.shape[1]:
            # In float64: weak directions lean towards M by rounding.
            held, exact = memory.double(), fresh.double()
            exact, _ = torch.linalg.qr(exact - held @ (held.T @ exact))
            fresh = exact.to(fresh)
        self.memory = torch.cat([memory, fresh], dim=1)

    def gradient_free(self) -> float | None:
        """Mean of ‖G'‖ / ‖G‖ over a task's steps; None where all gradients were 0."""
        if self._shares is None or not self._shares[1]:
            return None
        return float(self._shares[0] / self._shares[1])

    def state_dict(self) -> dict[str, Any]:
        """M and what is known of it; at a task boundary there is no more."""
        return {"memory": self.memory, "relaxed": self.relaxed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.memory = state["memory"].to(self.memory.device)
        self.relaxed = state["relaxed"]

    def _follow(self, inside: Tensor, whole: Tensor) -> None:
        """Turns to the leading directions of G', and sketches it."""
        left, values, _ = torch.linalg.svd(inside, full_matrices=False)
        if self._policy != "released":
            noise = max(inside.shape) * torch.finfo(inside.dtype).eps * whole
            values = torch.where(values > noise, values, 0.0)
        self._sketch.add(left, values)
        onto = left[:, : self.rank]
        if self._policy != "released":
            onto = onto * (values[: self.rank] > 0)
        mean, square = self._mean, self._square
        if self._rotated and self._onto is not None and mean is not None and square is not None:
            turn = onto.T @ self._onto
            self._mean, self._square = turn @ mean, turn.square() @ square
        self._onto = onto

    def _adam(self, gradient: Tensor) -> Tensor:
        """Adam's step of a gradient (rank, in) at a rate of 1."""
        first, second = BETAS
        if self._mean is None or self._square is None:
            self._mean, self._square = torch.zeros_like(gradient), torch.zeros_like(gradient)
        self._mean = first * self._mean + (1 - first) * gradient
        self._square = second * self._square + (1 - second) * gradient.square()
        size = (1 - second**self._steps) ** 0.5 / (1 - first**self._steps)
        moved: Tensor = size * self._mean / (self._square.sqrt() + EPSILON)
        return moved
