"""How many images a training has seen, reported while it runs, also within a batch, since a batch may take a minute."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from fmiqa_utils.loda.model import LoDa
from fmiqa_utils.progress import silent

Progress = Callable[[str, int, int], object]  # text, done, total


class Count:
    """Counts images that went through a model, of `total`, and calls `progress` after every ViT block, forward and backward.

    These calls also let signals be handled: a backward pass without Python code in it would first run to its end.
    """

    def __init__(self, total: int, progress: Progress = silent) -> None:
        self.done, self.total, self.progress = 0, total, progress
        self.text, self._images, self._work, self._worked = "", 0, 1.0, 0.0

    @contextmanager
    def attached(self, model: LoDa) -> Iterator[None]:
        """Listen to the model's blocks."""
        depth = len(model.vit.blocks)

        def forward(_block: Any, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            self._hear(len(output) / depth)
            if output.requires_grad:  # a gradient costs two forward passes
                output.register_hook(lambda gradient: self._hear(2 * len(gradient) / depth))

        hooks = [block.register_forward_hook(forward) for block in model.vit.blocks]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def step(self, text: str, images: int, passes: float = 1) -> Iterator[None]:
        """Context for one batch of `images`; each image costs `passes` forward passes of the model."""
        self.text, self._images, self._work, self._worked = text, images, images * passes, 0.0
        self.tell()
        yield
        self.done, self._images = self.done + images, 0
        self.tell()

    def tell(self) -> None:
        """Call `progress` with the number of images done, including the finished share of the current batch."""
        share = min(1.0, self._worked / self._work)
        self.progress(self.text, self.done + int(self._images * share), self.total)

    def _hear(self, passes: float) -> None:
        self._worked += passes
        self.tell()
