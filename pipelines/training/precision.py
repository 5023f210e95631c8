"""Which precision the processor or the GPU multiplies in hardware."""

import re
from pathlib import Path

import tensorflow as tf

# Flags of /proc/cpuinfo: Intel's and AMD's processors, then Arm's.
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
# Compute capabilities of NVIDIA's GPUs from which on the type is multiplied by tensor cores.
BFLOAT16_GPU, FLOAT16_GPU = (8, 0), (7, 0)


def in_hardware(jit_compile: bool = False) -> tuple[str, ...]:
    """Lists the precisions that this machine multiplies in hardware, the fastest first.

    Args:
        jit_compile: bool. Whether XLA compiles the step. On processors XLA multiplies bfloat16 no
            faster than float32.

    Returns:
        Tuple of values of `train.precision`; the last is `"float32"`.
    """
    if tf.config.list_logical_devices("TPU"):
        return "mixed_bfloat16", "float32"
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = map(tf.config.experimental.get_device_details, gpus)
        return of_gpu(min(found.get("compute_capability", (0, 0)) for found in details))
    cpu = Path("/proc/cpuinfo")
    text = cpu.read_text(errors="replace") if cpu.exists() else ""
    return ("float32",) if jit_compile else of_processor(text)


def of_gpu(compute_capability: tuple[int, int]) -> tuple[str, ...]:
    """Lists the precisions that a GPU of a compute capability multiplies in hardware.

    Example:

    >>> of_gpu((7, 5))
    ('mixed_float16', 'float32')
    """
    if compute_capability >= BFLOAT16_GPU:
        return "mixed_bfloat16", "mixed_float16", "float32"
    return ("mixed_float16", "float32") if compute_capability >= FLOAT16_GPU else ("float32",)


def of_processor(cpuinfo: str) -> tuple[str, ...]:
    """Lists the precisions that a processor, described by `/proc/cpuinfo`, multiplies in hardware.

    Example:

    >>> of_processor("flags : fpu avx2 avx512f avx512_bf16")
    ('mixed_bfloat16', 'float32')
    """
    lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    has_bfloat16 = bool(lines) and all(BFLOAT16_FLAGS & set(line.split()) for line in lines)
    return ("mixed_bfloat16", "float32") if has_bfloat16 else ("float32",)
