"""Drawings of results, made so that the same figures give the same file."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any

Curves = Mapping[str, Mapping[int, float]]


@contextmanager
def svg_figure(file: IO[Any], width: float, height: float) -> Iterator[Any]:
    """Yield a matplotlib figure, sizes in inches, that is written to `file` as SVG when the block ends.

    Names of elements are fixed, and there is no date and no version in the file.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": "asr_kd", "svg.fonttype": "none"}):
        figure = pyplot.figure(figsize=(width, height), layout="constrained")
        try:
            yield figure
            figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        finally:
            pyplot.close(figure)


def draw_panels(file: IO[Any], panels: Sequence[tuple[str, Curves]], x_label: str, *,
                legend_in_each: bool = False) -> None:
    """Draw a panel for each title and its curves, by name and x, as SVG.

    There is one legend for all, in which a name has one colour in all panels, or one in each.
    """
    names = list(dict.fromkeys(name for _, curves in panels for name in curves))
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    height = 4.4 * rows if legend_in_each else 3.6 * rows + 0.2 * len(names)
    with svg_figure(file, 4.6 * columns, height) as figure:
        places = figure.subplots(rows, columns, squeeze=False)
        handles: dict[str, Any] = {}
        for place, (title, curves) in zip(places.flat, panels, strict=False):
            for name, points in curves.items():
                index = list(curves).index(name) if legend_in_each else names.index(name)
                (handles[name],) = place.plot(
                    list(points), list(points.values()), marker="o", markersize=4, color=f"C{index % 10}",
                    linestyle=("-", "--", ":", "-.")[index // 10 % 4], label=name)
            place.set_title(title, fontsize=10)
            place.set_xlabel(x_label)
            place.xaxis.get_major_locator().set_params(integer=True)
            place.grid(alpha=0.3)
            if legend_in_each:
                place.legend(fontsize=6)
        for place in list(places.flat)[len(panels):]:
            place.set_axis_off()
        if not legend_in_each:
            figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=2, fontsize=8)
