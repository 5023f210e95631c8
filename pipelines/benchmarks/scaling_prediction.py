"""A model of how training scales over many GPUs, which sum their gradients before each step.

Nothing overlaps in the loop of this project: a step computes, then it sums, then it applies.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from kerasformer.models import Seq2SeqTransformer, VisionTransformer

BACKWARD = 2 / 3  # Share of computing that is the backward pass, twice as long as the forward one.
IMAGES_PER_SECOND = 2119  # ViT-B/16 on one H100
FLOPS = 0.4 * 989e12  # two fifths of the peak of an H100 in bfloat16


class Link(NamedTuple):
    """The connection between the members of a ring.

    Attributes:
        bandwidth: float. Bytes a second that a member sends while it receives as many.
        latency: float. Seconds that a message takes in addition.
    """

    bandwidth: float
    latency: float


# Four fifths of the nominal 450 GB/s and 400 Gbit/s (50 GB/s).
NVLINK = Link(370e9, 2e-6)
NETWORKS = {"400 Gbit/s a GPU": Link(8 * 40e9, 5e-6), "400 Gbit/s a node": Link(40e9, 5e-6)}


def ring_seconds(count: int, size: float, link: Link) -> float:
    """Computes how long a ring of `count` members takes to sum `size` bytes of each."""
    return 2 * (count - 1) * (size / count / link.bandwidth + link.latency)


def predict(
    compute: float,
    size: float,
    gpus: int,
    network: Link,
    *,
    inside: Link = NVLINK,
    per_node: int = 8,
    overlap: float = 0.0,
) -> float:
    """Predicts the efficiency of training: its throughput over that of `gpus` lone GPUs.

    A ring inside each node, and one of the nodes, sum the gradients.

    Args:
        compute: seconds that a GPU computes in a step.
        size: bytes of the gradients.
        gpus: number of GPUs: at most `per_node`, or a multiple of it.
        network: `Link` of a node with the next one.
        inside: `Link` of a GPU with the next one of its node.
        per_node: number of GPUs in a node.
        overlap: share of the backward pass during which gradients are summed.

    Raises:
        ValueError: when the last node would not be full.
    """
    if gpus < 1 or gpus % min(gpus, per_node):
        raise ValueError(
            f"Expected gpus to be at most per_node={per_node} or a multiple of it, "
            f"received gpus={gpus}."
        )
    members = min(gpus, per_node)
    seconds = ring_seconds(members, size, inside) + ring_seconds(gpus // members, size, network)
    return compute / (compute + max(0.0, seconds - overlap * BACKWARD * compute))


class Plan(NamedTuple):
    """Training on many GPUs.

    Attributes:
        title: str. Model and batch.
        size: float. Bytes of the gradients.
        compute: function of the number of GPUs that returns the seconds that each computes a step.
        overlap: float. As in `predict`.
    """

    title: str
    size: float
    compute: Callable[[int], float]
    overlap: float = 0.0


def plans() -> list[Plan]:
    """Lists the plans to predict; docs/distributed.md explains where the speeds come from."""
    vit, big = (
        4.0 * _count_parameters(model)
        for model in (
            VisionTransformer.from_variant("B/16", 224, 1000),
            Seq2SeqTransformer.from_variant("big", 37_000),
        )
    )
    image = 1 / IMAGES_PER_SECOND
    batch = 3584 * 6 * big / 4 / FLOPS  # 2 operations forward and 4 backward a parameter and token
    return [
        Plan("ViT-B/16, 256 images a GPU", vit, lambda _: 256 * image),
        Plan("ViT-B/16, 4096 images in all", vit, lambda gpus: 4096 * image / gpus),
        Plan("Transformer big, 3584 tokens a GPU", big, lambda _: batch),
        Plan("Transformer big, the same half overlapped", big, lambda _: batch, 0.5),
        Plan("Transformer big, 16 x 3584 tokens a GPU", big, lambda _: 16 * batch),
        Plan("Transformer big, 128 x 3584 tokens in all", big, lambda gpus: 128 * batch / gpus),
    ]


def _count_parameters(model):
    model.build()
    return model.count_params()


def predicted() -> Iterator[dict]:
    """Yields records of each plan: the size of its gradients, and its efficiency on many GPUs."""
    for plan in plans():
        work = f"scaling {plan.title}"
        yield record(work, "gradients", plan.size / 1e6, "MB/step")
        for name, network in NETWORKS.items():
            for gpus in (8, 64, 512):
                share = predict(plan.compute(gpus), plan.size, gpus, network, overlap=plan.overlap)
                yield record(work, f"{gpus} GPUs, {name}", share, "share, predicted")


def record(work: str, peer: str, value: float, unit: str) -> dict:
    """Makes a record of four digits."""
    return {"work": work, "peer": peer, "value": float(f"{value:.4g}"), "unit": unit}
