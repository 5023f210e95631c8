"""The half of the page that shows a classifier: its classes as bars, and where it looked.

A map of attention is a picture of one pixel for each patch, from dark blue to yellow the more the
patch was read, that the browser lays over the image. All maps are in the page, and CSS shows the
chosen one.
"""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import tensorflow as tf
from PIL import Image

from pipelines.images import files
from pipelines.page.links import Pictures, State, alert, anchor

LONGEST_SIDE = 512  # pixels of a picture that is kept
COARSE = 128  # pixels; a smaller image is shown with its pixels as squares
OPACITY = 0.55
COLORS = {0.0: (8, 16, 64), 0.5: (190, 50, 90), 1.0: (255, 225, 80)}  # red, green, blue by share
FORMATS = "Pictures are BMP, GIF, JPEG, PNG or WebP files."
PICTURE, ROLLOUT = "picture", "rollout"


def tidy(contents: bytes, signatures: Mapping = MappingProxyType({})) -> bytes:
    """Turns a picture into what is kept: what the model sees of it, upright, without metadata.

    Args:
        contents: bytes of an image file.
        signatures: those of an exported classifier. Of an older one, which cannot be given the
            pixels, a PNG of at most `LONGEST_SIDE` pixels a side is kept and classified.

    Returns:
        PNG; of an animation the first frame.

    Raises:
        ValueError: for a file that is no image that can be used, one sentence.
    """
    reason = files.fault(contents)
    if reason and not reason.startswith("animated"):
        raise ValueError(f"This file cannot be used: {reason}. {FORMATS}")
    try:
        if _takes_pixels(signatures):
            pixels = signatures["decode"](image=tf.constant([contents]))["pixels"][0].numpy()
            return _png(Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))
        pixels = files.decode(contents).numpy()
    except tf.errors.InvalidArgumentError:
        raise ValueError(f"This file cannot be used: it is damaged. {FORMATS}") from None
    image = Image.fromarray(pixels)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return _png(image)


def _takes_pixels(signatures):
    """Tells whether all that the page asks for can be asked with decoded pixels too."""
    asked = [f"{name}_pixels" for name in ("classify", "attention") if name in signatures]
    return signatures.keys() >= {"decode", *asked}


def _reader(signatures: Mapping, contents: bytes):
    """Makes a function that calls a signature by its name with a picture that is kept.

    What this model has seen goes to it as it is. What another one has seen is a file like others.
    """
    if _takes_pixels(signatures):
        pixels = np.asarray(Image.open(io.BytesIO(contents)))
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        if pixels.shape == signatures["decode"](image=tf.constant([contents]))["pixels"].shape[1:]:
            return lambda name: signatures[f"{name}_pixels"](pixels=tf.constant(pixels[None]))
    return lambda name: signatures[name](image=tf.constant([contents]))


def answer(signatures: Mapping, state: State, pictures: Pictures) -> str:
    """Classifies the picture of a state and writes the answer as HTML.

    Args:
        signatures: those of an exported classifier. Without `attention` one sentence stands where
            the maps would be, and without its key `heads` (of an older export) the rollout alone.
        state: with `model` and `picture`, and perhaps `view`.
        pictures: where the picture is kept.

    Returns:
        HTML; one sentence where the picture is not kept any more.
    """
    contents = pictures.read(state.picture)
    if contents is None:
        return alert("The picture of this link is not kept here any more; please drop it in again.")
    call = _reader(signatures, contents)
    classified = call("classify")
    names = [name.decode("utf-8", "replace") for name in classified["class_names"][0].numpy()]
    parts = [bars(names, classified["probabilities"][0].numpy())]
    if "attention" in signatures:
        outputs = {key: value[0].numpy() for key, value in call("attention").items()}
        maps = views(outputs["attention"], outputs.get("heads"))
        parts.append(looks(outputs["pixels"], maps, state))
    else:
        parts.append('<p class="hint">This model has no attention to show.</p>')
        parts.append(f'<p class="hint">{anchor(state, "Link to this")}</p>')
    parts.append('<p class="hint">The links work as long as this server keeps the picture.</p>')
    return f'<div class="answer">{"".join(parts)}</div>'


def bars(names: Sequence[str], shares: Sequence[float]) -> str:
    """Writes classes and their probabilities as bars."""
    rows = [
        f'<li><span dir="auto">{html.escape(name)}</span> '
        f'<span class="number">{100 * share:.1f}&nbsp;%</span>'
        f'<span class="bar" style="--share:{share:.4f}"></span></li>'
        for name, share in zip(names, shares, strict=True)
    ]
    return f'<h3>Classes</h3><ol class="classes">{"".join(rows)}</ol>'


def views(rollout: np.ndarray, heads: np.ndarray | None) -> dict[str, tuple[str, np.ndarray]]:
    """Lists the maps to show, by the name that a link gives them, with their titles.

    Args:
        rollout: float array `(rows, columns)`.
        heads: float array `(layers, heads, rows, columns)`, or `None`.

    Returns:
        Dict of `"rollout"`, and for each layer `"1"` (the mean of its heads), `"1.1"`, `"1.2"`.
    """
    maps = {ROLLOUT: ("All layers (rollout)", rollout)}
    for layer, layer_maps in enumerate(() if heads is None else heads, start=1):
        maps[f"{layer}"] = (f"Layer {layer}, all heads", layer_maps.mean(axis=0))
        for head, weights in enumerate(layer_maps, start=1):
            maps[f"{layer}.{head}"] = (f"Layer {layer}, head {head}", weights)
    return maps


def looks(pixels: np.ndarray, maps: Mapping[str, tuple[str, np.ndarray]], state: State) -> str:
    """Writes an image with its maps: the chosen one large, all of them small, to choose from.

    Args:
        pixels: uint8 array `(height, width, 1, 3 or 4)`, what the model saw.
        maps: as `views` returns them.
        state: whose `view` is chosen: a name of `maps`, or `"picture"` for the image alone.

    Returns:
        HTML.
    """
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    chosen = state.view if state.view in (*maps, PICTURE) else ROLLOUT
    plain = {PICTURE: ("What the model saw", "", "What the model saw.")}
    views_by_name = plain | {name: _picture(*titled) for name, titled in maps.items()}
    large, small, rules = [], [], []
    for name, (title, overlay, caption) in views_by_name.items():
        key = name.replace(".", "-")
        link = anchor(state._replace(view=name), "Link to this")
        large.append(
            f'<figure class="look" id="look-{key}"><div class="seen">{overlay}</div>'
            f"<figcaption>{caption} {link}</figcaption></figure>"
        )
        small.append(
            f'<label class="choice" title="{title}"><input type="radio" name="look" '
            f'id="choose-{key}" aria-label="{title}"{" checked" if name == chosen else ""}>'
            f'<span class="seen">{overlay}</span></label>'
        )
        rules.append(f".looks:has(#choose-{key}:checked) #look-{key}{{display:block}}")
    style = f"--picture:url({_url(image)});--ratio:{image.width}/{image.height}"
    coarse = " coarse" if max(image.size) < COARSE else ""
    table = _table(small, layers=sum(name.isdecimal() for name in maps))
    return (
        f"<style>{''.join(rules)}</style><h3>Where it looked</h3>"
        f'<div class="looks{coarse}" style="{style}"><div>{"".join(large)}</div>{table}</div>'
    )


def _picture(title, weights):
    """Returns the title of a map, its picture and its caption, as HTML."""
    overlay = f'<img src="{_url(_heat(weights))}" alt="">'
    caption = f"{title}: the brightest patch got {100 * weights.max():.0f}&nbsp;%."
    return title, overlay, caption


def _table(choices, layers):
    """Lays the small pictures out: image and rollout, then each layer's row of heads."""
    first, rest = choices[:2], choices[2:]
    columns = len(rest) // layers if layers else len(first)
    rows = [("", ["picture", "rollout"]), ("All layers", first)]
    if layers:
        rows.append(("Head", ["all", *map(str, range(1, columns))]))
    for layer in range(layers):
        rows.append((f"Layer {layer + 1}", rest[layer * columns : (layer + 1) * columns]))
    cells = []
    for name, row in rows:
        cells.append(f'<span class="hint row">{name}</span>')
        cells += [cell if cell[0] == "<" else f'<span class="hint">{cell}</span>' for cell in row]
    return (
        '<div class="choices" role="radiogroup" aria-label="Layers and heads" '
        f'style="--columns:{columns}">{"".join(cells)}</div>'
    )


def _heat(weights):
    """Draws a map in transparent colours; the patch that was read most is the brightest."""
    shares = weights / max(weights.max(), 1e-9)
    channels = zip(*COLORS.values(), strict=True)
    colors = [np.interp(shares, list(COLORS), channel) for channel in channels]
    colors.append(np.full_like(shares, 255 * OPACITY))
    return Image.fromarray(np.stack(colors, axis=-1).astype(np.uint8))


def _png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _url(image):
    return f"data:image/png;base64,{base64.b64encode(_png(image)).decode()}"
