"""Panels of curves, drawn so that the same curves give the same file."""

from collections.abc import Mapping, Sequence
from typing import IO, Any

Curves = Mapping[str, Mapping[int, float]]


def draw_panels(file: IO[Any], panels: Sequence[tuple[str, Curves]], x_label: str, *,
                legend_in_each: bool = False) -> None:
    """An SVG: a panel for each title and its curves, by name and x; one legend for all, in which a name has one colour
    in all panels, or one in each."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(name for _, curves in panels for name in curves))
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    # Fixed names of elements, no date, no version.
    with matplotlib.rc_context({"svg.hashsalt": "asr_kd", "svg.fonttype": "none"}):
        height = 4.4 * rows if legend_in_each else 3.6 * rows + 0.2 * len(names)
        figure, places = pyplot.subplots(rows, columns, figsize=(4.6 * columns, height),
                                         layout="constrained", squeeze=False)
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
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)
