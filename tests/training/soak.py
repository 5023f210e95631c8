"""Runs that are killed again and again, and must end as if they were not.

`python -m tests.training.soak --kills=100` kills that many times in all, shared among the cases,
and prints one JSON object a case: kills, where they struck, and whether the ends were equal bit
for bit.
"""

import itertools
import json
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import app, flags

from pipelines.runs.checkpoints import Checkpoints
from tests import programs

# Dropout, moving averages, shuffling, and for images all kinds of augmentation.
CONFIGS = {
    "translation": """
from pipelines.tasks import translation

def get_config():
    config = translation.default_config()
    config.data.update(format="tsv", folder=FOLDER, columns=(0, 1))
    config.data.update({split: "pairs.tsv" for split in ("train", "validation", "test")})
    config.tokenizer.update(vocabulary_size=23, byte_fallback=False)
    config.model.update(num_layers=1, hidden_dim=8, num_heads=2, intermediate_dim=11, dropout=0.3)
    config.train.update(steps=STEPS, batch_tokens=101, max_length=53, warmup_steps=11, ema=0.9)
    config.train.update(steps_per_call=2, log_every=5, validate_every=20, checkpoint_every=1)
    config.train.update(best_metric="accuracy", accumulate=2)
    return config
""",
    "classification": """
from pipelines.tasks import classification

def get_config():
    config = classification.default_config()
    config.data.update(format="npz", folder=FOLDER)
    config.data.update({split: "images.npz" for split in ("train", "validation", "test")})
    config.model.update(variant="ViT-Lite-6/4", image_size=8, dropout=0.2, stochastic_depth=0.2)
    config.model.update(num_layers=1, hidden_dim=8, num_heads=2, intermediate_dim=11)
    config.augment.update(padding=1, flip=0.5, layers=1, magnitude=5.0, erase=0.3)
    config.augment.update(mixup=0.8, cutmix=1.0)
    config.train.update(steps=STEPS, batch_size=24, warmup_steps=11, ema=0.9)
    config.train.update(steps_per_call=2, log_every=5, validate_every=20, checkpoint_every=1)
    config.train.precision = "mixed_float16"
    return config
""",
}
STRATEGIES = {
    "one": ["--strategy=one"],
    "mirrored": ["--strategy=mirrored:2"],
    "a worker": ["--local_workers=2"],
    "both workers": ["--local_workers=2"],
}
AFTER = "after its end"
ANY_SHARE, WRITE_SHARE = 0.25, 0.35  # of the kills: at any moment from the start, in a write


def write_config(task: str, folder: Path, steps: int) -> Path:
    """Writes a config of a task and its data to a folder."""
    words = [("eins", "one"), ("zwei", "two"), ("drei", "three"), ("vier", "four")]
    triples = itertools.product(words, repeat=3)
    lines = ["\t".join(map(" ".join, zip(*triple, strict=True))) for triple in triples]
    (folder / "pairs.tsv").write_text("\n".join(lines))
    images = np.random.default_rng(0).integers(0, 256, (101, 8, 8, 3), np.uint8)
    names = np.array(["a", "b", "c"])
    np.savez(folder / "images.npz", images=images, labels=np.arange(101) % 3, class_names=names)
    path = folder / f"{task}.py"
    text = CONFIGS[task].replace("FOLDER", repr(str(folder))).replace("STEPS", str(steps))
    path.write_text(text)
    return path


def start(config: Path, workdir: Path, strategy: str) -> programs.Program:
    """Starts the training program; its log is in the file `log` beside the run's folder."""
    command = ["train", f"--config={config}", f"--workdir={workdir}", *STRATEGIES[strategy]]
    with open(workdir.with_suffix(".log"), "a") as log:
        return programs.Program(command, log, log, TF_CPP_MIN_LOG_LEVEL="3")


def finish(config: Path, workdir: Path, strategy: str) -> None:
    """Runs the training program to its end."""
    program = start(config, workdir, strategy)
    if program.wait():
        raise RuntimeError(workdir.with_suffix(".log").read_text()[-3000:])


def kill_once(config: Path, workdir: Path, strategy: str, moments: random.Random) -> str:
    """Starts the program and kills it, or a process of it; returns when that was."""
    program = start(config, workdir, strategy)
    before, kind = _newest(workdir), moments.random()
    if kind < ANY_SHARE:
        _sleep(program, moments.uniform(0, 8))
    else:
        wait(program, lambda: _newest(workdir) != before)
        _sleep(program, moments.uniform(0, 0.5))
    if ANY_SHARE <= kind < ANY_SHARE + WRITE_SHARE:
        wait(program, lambda: list(workdir.glob("checkpoints/**/.tmp*")))
    if program.poll() is not None:
        return AFTER
    children = _children(program.pid)
    if strategy == "a worker" and children:
        _kill(moments.choice(children))
    else:
        for pid in (program.pid, *children):
            _kill(pid)
    if program.wait(timeout=60) == 0:
        raise RuntimeError("A run of which a process was killed ended as if nothing had been.")
    while any(Path(f"/proc/{pid}/cmdline").exists() for pid in children):
        time.sleep(0.02)
    if list(workdir.rglob(".tmp*")):
        return "in a write"
    return "before its first checkpoint" if _newest(workdir) == before else "between writes"


def wait(program: programs.Program, condition: Callable[[], object]) -> None:
    """Waits until a condition holds or the program has ended."""
    while program.poll() is None and not condition():
        time.sleep(0.0005)


def differences(workdir: Path, whole: Path) -> list[str]:
    """Compares all that a run leaves: weights, all other state, log, best and averaged weights."""
    found = []
    for name in ("checkpoints", "checkpoints/best"):
        one, other = Checkpoints(workdir / name), Checkpoints(whole / name)
        if [p.name for p in one.paths()] != [p.name for p in other.paths()]:
            found.append(f"the steps in {name}")
        (arrays, state), (expected, right) = one.load_newest(), other.load_newest()
        found += [key for key in expected if not np.array_equal(arrays[key], expected[key])]
        ignored = ("seconds", "clock", "period")  # Times are never the same.
        found += [key for key in right if key not in ignored and state[key] != right[key]]
        if arrays.keys() != expected.keys():
            found.append(f"the names in {name}")
    averages = [Checkpoints(path / "checkpoints").average(5)[0] for path in (workdir, whole)]
    found += [key for key in averages[1] if not np.array_equal(averages[0][key], averages[1][key])]
    logs = [_numbers(path) for path in (workdir, whole)]
    found += ["the log"] * (logs[0] != logs[1])
    return found + [str(path) for path in workdir.rglob(".tmp*")]


def soak(
    task: str, strategy: str, kills: int, folder: Path, moments: random.Random, steps: int = 240
) -> tuple[list[str], list[str]]:
    """Kills a run so many times; returns where, and how its end differs from an untouched run."""
    config = write_config(task, folder, steps)
    whole, killed = folder / "whole", folder / "killed"
    finish(config, whole, strategy)
    struck = [kill_once(config, killed, strategy, moments) for _ in range(kills)]
    if AFTER in struck:
        raise RuntimeError(f"The run of {steps} steps was too short for {kills} kills.")
    finish(config, killed, strategy)
    return struck, differences(killed, whole)


def _numbers(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [{k: v for k, v in r.items() if "second" not in k} for r in records]


def _newest(workdir):
    return max((p.name for p in workdir.glob("checkpoints/step-*")), default=None)


def _sleep(program, seconds):
    end = time.monotonic() + seconds
    wait(program, lambda: time.monotonic() > end)


def _children(pid):
    try:
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def main(_):
    cases = list(itertools.product(CONFIGS, STRATEGIES))
    moments = random.Random(SEED.value)
    for number, (task, strategy) in enumerate(cases):
        kills = KILLS.value // len(cases) + (number < KILLS.value % len(cases))
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            struck, different = soak(task, strategy, kills, Path(folder), moments)
        counts = {moment: struck.count(moment) for moment in sorted(set(struck))}
        seconds = round(time.monotonic() - began)
        record = {"task": task, "killed": strategy, "kills": kills, "struck": counts}
        print(json.dumps(record | {"different": different, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    KILLS = flags.DEFINE_integer("kills", 100, "Number of kills, shared among the cases.")
    SEED = flags.DEFINE_integer("seed", 0, "Seed of the moments.")
    app.run(main)
