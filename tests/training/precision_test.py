"""Which precisions processors and GPUs multiply in hardware."""

import pytest

from pipelines.training.precision import in_hardware, of_gpu, of_processor


@pytest.mark.parametrize(
    ("cpuinfo", "has_bfloat16"),
    [
        ("processor : 0\nflags\t\t: fpu avx2 avx512f avx512_bf16\n", True),
        ("flags\t\t: avx512f amx_bf16 amx_tile\n\nflags\t\t: avx512f amx_bf16\n", True),
        ("Features\t: fp asimd bf16 i8mm\n", True),
        ("flags\t\t: fpu avx2 fma\n", False),
        ("flags\t\t: amx_bf16\n\nflags\t\t: avx2\n", False),  # Of two kinds of cores.
        ("flags\t\t: avx512f avx512_bf16_of_another_name\n", False),
        ("", False),
    ],
)
def test_a_processor_is_known_by_its_flags(cpuinfo, has_bfloat16):
    assert of_processor(cpuinfo) == ("mixed_bfloat16",) * has_bfloat16 + ("float32",)


def test_a_gpu_is_known_by_its_compute_capability():
    assert [of_gpu(capability)[0] for capability in ((9, 0), (8, 0), (7, 5), (6, 1))] == [
        "mixed_bfloat16",
        "mixed_bfloat16",
        "mixed_float16",
        "float32",
    ]


def test_xla_on_a_processor_takes_float32():
    assert in_hardware(jit_compile=True) == ("float32",)
    assert in_hardware()[-1] == "float32"
