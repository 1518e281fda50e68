"""What can be measured of a drawn figure: which texts stand where, whether any is cut or lies on another."""

from collections.abc import Iterator
from contextlib import contextmanager

from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox

TOUCH = 1.0  # px: what rounding may let two boxes share


@contextmanager
def _recorded(drawn: list[Text]) -> Iterator[None]:
    """Note every text that is really drawn: tick labels beyond an axis's limits exist but are not."""
    original = Text.draw

    def draw(self, renderer, *args, **kwargs):  # type: ignore[no-untyped-def]
        if self.get_visible() and self.get_text().strip() and all(self is not t for t in drawn):
            drawn.append(self)
        return original(self, renderer, *args, **kwargs)

    Text.draw = draw  # type: ignore[method-assign]
    try:
        yield
    finally:
        Text.draw = original  # type: ignore[method-assign]


def drawn_texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """(text, its box in px) of everything written on the canvas."""
    texts: list[Text] = []
    figure.canvas.draw()  # the layout settles
    with _recorded(texts):
        figure.canvas.draw()
    return [(t.get_text(), Text.get_window_extent(t)) for t in texts]


def clipped(figure: Figure, boxes: list[tuple[str, Bbox]]) -> list[str]:
    """The texts and legends that leave the canvas."""
    legends = [("legend", legend.get_window_extent()) for legend in figure.findobj(Legend)]
    width, height = figure.bbox.width + TOUCH, figure.bbox.height + TOUCH
    return [
        name
        for name, box in [*boxes, *legends]
        if box.x0 < -TOUCH or box.y0 < -TOUCH or box.x1 > width or box.y1 > height
    ]


def overlapping(boxes: list[tuple[str, Bbox]]) -> list[tuple[str, str]]:
    """The pairs of texts whose boxes share more than `TOUCH`."""
    return [
        (a, b)
        for i, (a, left) in enumerate(boxes)
        for b, right in boxes[i + 1 :]
        if min(left.x1, right.x1) - max(left.x0, right.x0) > TOUCH
        and min(left.y1, right.y1) - max(left.y0, right.y0) > TOUCH
    ]


def legend_covers_data(figure: Figure) -> bool:
    """Whether a legend's box reaches into a panel."""
    legends = [legend.get_window_extent() for legend in figure.findobj(Legend)]
    panels = [ax.get_window_extent() for ax in figure.axes]
    return any(box.overlaps(panel) for box in legends for panel in panels)


def assert_readable(figure: Figure) -> None:
    """No text or legend is cut by the canvas, no two texts overlap, no legend lies on data."""
    boxes = drawn_texts(figure)
    assert boxes, "nothing is written"
    cut, over = clipped(figure, boxes), overlapping(boxes)
    assert not cut, f"cut by the canvas: {cut}"
    assert not over, f"one on the other: {over}"
    assert not legend_covers_data(figure), "the legend lies on a panel"


def legend_entries(figure: Figure) -> list[str]:
    """The texts of the figure's legend."""
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]
