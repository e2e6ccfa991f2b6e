"""How CUDA multiplies float32, exactly or rounded to TF32: set for one call at a time.

torch lets cuDNN round the factors of float32 convolutions to ten bits (TF32) by default. Here fp32
means fp32, and TF32 is a precision of its own. The process's settings are restored after each call,
so that other code in it keeps its own.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

# The settings belong to the process: whoever changes them locks others out until they are restored.
# Calls only launch kernels, so nobody waits long.
_changing = threading.RLock()


@contextlib.contextmanager
def float32_rules(*, tf32: bool, device: torch.device) -> Iterator[None]:
    """Run the ``with`` block with float32 products exact or in TF32.

    cuDNN's benchmarking is off too: it may choose differently in another process, and a resumed run
    would then write different bits.

    Args:
        tf32: whether factors may be rounded to TF32.
        device: the device of the work; nothing happens unless it is CUDA.
    """
    if device.type != "cuda":
        yield
        return
    with _changing:
        before = _read()
        try:
            _write(tf32=tf32)
            torch.backends.cudnn.benchmark = False
            yield
        finally:
            _restore(before)


def _read() -> dict[str, object]:
    """All settings that :func:`_write` may change: torch has an older and a newer form of them."""
    backends = torch.backends
    values: dict[str, object] = {
        "conv": backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
        "rnn": backends.cudnn.rnn.fp32_precision,  # type: ignore[attr-defined]
        "matmul": backends.cuda.matmul.fp32_precision,
        "benchmark": backends.cudnn.benchmark,
    }
    # The older forms cannot be read if the newer ones have been set to different values.
    with contextlib.suppress(RuntimeError):
        values["cudnn"] = backends.cudnn.allow_tf32
    with contextlib.suppress(RuntimeError):
        values["float32"] = torch.get_float32_matmul_precision()
    return values


def _write(*, tf32: bool) -> None:
    # The older form first: it sets the newer one too, and torch's own code reads either.
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    value = "tf32" if tf32 else "ieee"
    torch.backends.cudnn.conv.fp32_precision = value  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = value


def _restore(values: dict[str, object]) -> None:
    backends = torch.backends
    if "cudnn" in values:
        backends.cudnn.allow_tf32 = bool(values["cudnn"])
    if "float32" in values:
        torch.set_float32_matmul_precision(values["float32"])  # type: ignore[arg-type]
    backends.cudnn.conv.fp32_precision = values["conv"]  # type: ignore[attr-defined]
    backends.cudnn.rnn.fp32_precision = values["rnn"]  # type: ignore[attr-defined]
    backends.cuda.matmul.fp32_precision = values["matmul"]
    backends.cudnn.benchmark = bool(values["benchmark"])
