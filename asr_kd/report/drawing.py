"""Panels of curves, drawn so that the same curves give the same file."""

from collections.abc import Mapping, Sequence
from typing import IO, Any

Curves = Mapping[str, Mapping[int, float]]


def draw_panels(file: IO[Any], panels: Sequence[tuple[str, Curves]], x_label: str) -> None:
    """An SVG: a panel for each title and its curves, by name and x; a name has one colour in all of them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(name for _, curves in panels for name in curves))
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    # Fixed names of elements and no date.
    with matplotlib.rc_context({"svg.hashsalt": "asr_kd", "svg.fonttype": "none"}):
        figure, places = pyplot.subplots(rows, columns, figsize=(4.6 * columns, 3.6 * rows + 0.2 * len(names)),
                                         layout="constrained", squeeze=False)
        handles: dict[str, Any] = {}
        for place, (title, curves) in zip(places.flat, panels, strict=False):
            for name, points in curves.items():
                index = names.index(name)
                (handles[name],) = place.plot(
                    list(points), list(points.values()), marker="o", markersize=4, color=f"C{index % 10}",
                    linestyle=("-", "--", ":")[index // 10 % 3])
            place.set_title(title, fontsize=10)
            place.set_xlabel(x_label)
            place.xaxis.get_major_locator().set_params(integer=True)
            place.grid(alpha=0.3)
        for place in list(places.flat)[len(panels):]:
            place.set_axis_off()
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=2, fontsize=8)
        figure.savefig(file, format="svg", metadata={"Date": None})
        pyplot.close(figure)
