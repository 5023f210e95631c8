"""Pictures of how good translations are."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure


def draw_by_length(systems: Mapping[str, Sequence[Mapping]]) -> Figure:
    """Draws the BLEU of short and of long sentences.

    Args:
        systems: by the name of each, what `scores.by_length` returned. A single one needs no name.
    """
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axis = figure.subplots()
    for name, groups in systems.items():
        middles = [sum(group["words"]) / 2 for group in groups]
        axis.plot(middles, [group["bleu"] for group in groups], marker="o", label=name)
    groups = next(iter(systems.values()))
    for group in groups if len(systems) == 1 else ():
        point = sum(group["words"]) / 2, group["bleu"]
        text = f"{group['sentences']} sentences"
        axis.annotate(text, point, (0, 8), textcoords="offset points", ha="center", fontsize=8)
    axis.set_xticks([sum(group["words"]) / 2 for group in groups], map(_range, groups))
    axis.set_xlabel("words of the source")
    axis.set_ylabel("BLEU")
    axis.set_ylim(bottom=0)
    axis.margins(x=0.1, y=0.15)
    axis.grid(alpha=0.3)
    if len(systems) > 1:
        axis.legend(frameon=False)
    return figure


def _range(group):
    fewest, most = group["words"]
    return f"{fewest}" if fewest == most else f"{fewest} to {most}"
