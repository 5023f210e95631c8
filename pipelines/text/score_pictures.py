"""Pictures of how good translations are."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

GROUP_SIZE = 0.8  # inches


def draw_by_length(systems: Mapping[str, Sequence[Mapping]]) -> Figure:
    """Draws the BLEU of short and of long sentences.

    Args:
        systems: by the name of each, what `scores.by_length` returned of the same sources. A single
            one needs no name.
    """
    groups = next(iter(systems.values()))
    figure = Figure(figsize=(max(6.4, GROUP_SIZE * len(groups)), 4.0), layout="constrained")
    axis = figure.subplots()
    for name, of_system in systems.items():
        axis.plot([group["bleu"] for group in of_system], marker="o", label=name)
    # Side by side, because the group of the longest sentences may be many times as wide.
    axis.set_xticks(range(len(groups)), map(_label, groups))
    axis.set_xlabel("words of the source (sentences)")
    axis.set_ylabel("BLEU")
    highest = max(group["bleu"] for of_system in systems.values() for group in of_system)
    axis.set_ylim(0, max(1.15 * highest, 1.0))
    axis.margins(x=0.1)
    axis.grid(alpha=0.3)
    if len(systems) > 1:
        axis.legend(frameon=False)
    return figure


def _label(group):
    fewest, most = group["words"]
    words = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    return f"{words}\n({group['sentences']:,})"
