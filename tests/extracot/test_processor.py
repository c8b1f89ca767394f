"""What a processor says it computes in."""

from __future__ import annotations

from pathlib import Path

import pytest

from extracot.processor import computes_bfloat16


@pytest.mark.parametrize(
    ("told", "known"),
    [
        ("processor : 0\nflags\t\t: fpu avx512f avx512_bf16\n\nflags\t\t: avx512_bf16 fpu\n", True),
        ("flags\t\t: fpu amx_bf16\n", True),
        ("Features\t: fp asimd bf16\n", True),
        ("flags\t\t: fpu avx2 f16c\n", False),
        ("flags\t\t: avx512_bf16\nflags\t\t: avx2\n", False),  # cores that differ
        ("flags\t\t: fpu avx512_bf16x\nvmx flags\t: bf16\n", False),
        ("", False),
    ],
)
def test_the_processor_says_whether_it_computes_bfloat16(
    told: str, known: bool, tmp_path: Path
) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(told)
    assert computes_bfloat16(file) is known
    assert computes_bfloat16(tmp_path / "none") is False
