"""The machine that the figures were measured on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess

from checks import Context, Result


def machine(context: Context) -> Result:
    import torch

    found: Result = {
        "torch": torch.__version__,
        "processors": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "mps_control": shutil.which("nvidia-cuda-mps-control"),
    }
    if context.gpu:
        found["card"] = torch.cuda.get_device_name()
        found["memory_bytes"] = torch.cuda.mem_get_info()[1]
        found["libraries"] = [
            line.split("=>")[-1].strip()
            for line in subprocess.run(
                ["ldconfig", "-p"], capture_output=True, text=True, check=False
            ).stdout.splitlines()
            if "nvcuvid" in line or "libcuda.so" in line
        ]
    figure = found.get("card") or f"{found['processors']} processors"
    return found | {"figure": f"{figure}, torch {torch.__version__}", "ok": True}
