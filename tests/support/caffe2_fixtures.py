"""Files as the paper's authors' Caffe2 code wrote them, made from our own networks.

Written module by module after the published table of blob names, independently of the converter:
blocks are counted over all groups, and nothing is looked up by tensor name.
"""

import pickle
from pathlib import Path

import torch
from torch import nn


def blobs_of(network: nn.Module) -> dict:
    """Blob name to array, for any of the paper's networks."""
    blobs: dict = {}

    def put_conv(name: str, conv: nn.Conv3d) -> None:
        blobs[f"{name}_w"] = conv.weight.detach().numpy().copy()

    def put_norm(name: str, norm: nn.BatchNorm3d) -> None:
        for suffix, tensor in (
            ("s", norm.weight),
            ("b", norm.bias),
            ("rm", norm.running_mean),
            ("riv", norm.running_var),
        ):
            blobs[f"{name}_{suffix}"] = tensor.detach().numpy().copy()

    stem = [module for module in network.stem if isinstance(module, nn.Conv3d | nn.BatchNorm3d)]
    if len(stem) == 4:
        put_conv("conv1_middle", stem[0])
        put_norm("conv1_middle_spatbn_relu", stem[1])
    put_conv("conv1", stem[-2])
    put_norm("conv1_spatbn_relu", stem[-1])
    # The authors' builder counts the middle convolution of ir-CSN twice: the last is the 4th.
    numbers = {1: 1, 2: 2, 3: 3}
    if network.design.kinds[1] == "ir":
        numbers = {1: 1, 2: 3, 3: 4}
    blocks = [*network.layer1, *network.layer2, *network.layer3, *network.layer4]
    for i, block in enumerate(blocks):
        for place, j in numbers.items():
            part = getattr(block, f"conv{place}", None)
            if part is None:
                continue
            if isinstance(part[0], nn.Sequential) and len(part[0]) == 3:  # ip-CSN
                put_conv(f"comp_{i}_conv_{j}_middle", part[0][0])
                put_norm(f"comp_{i}_spatbn_{j}_middle", part[0][1])
                put_conv(f"comp_{i}_conv_{j}", part[0][2])
            elif isinstance(part[0], nn.Sequential):
                put_conv(f"comp_{i}_conv_{j}_middle", part[0][0])
                put_norm(f"comp_{i}_spatbn_{j}_middle", part[0][1])
                put_conv(f"comp_{i}_conv_{j}", part[0][3])
            else:
                put_conv(f"comp_{i}_conv_{j}", part[0])
            put_norm(f"comp_{i}_spatbn_{j}", part[1])
        if block.downsample is not None:
            put_conv(f"shortcut_projection_{i}", block.downsample[0])
            put_norm(f"shortcut_projection_{i}_spatbn", block.downsample[1])
    n = network.fc.out_features
    blobs[f"last_out_L{n}_w"] = network.fc.weight.detach().numpy().copy()
    blobs[f"last_out_L{n}_b"] = network.fc.bias.detach().numpy().copy()
    return blobs


def c3d_blobs(network: nn.Module) -> dict:
    """The same of C3D, whose convolutions have biases."""
    blobs: dict = {}

    def put(name: str, tensor: torch.Tensor) -> None:
        blobs[name] = tensor.detach().numpy().copy()

    names = iter(("1a", "2a", "3a", "3b", "4a", "4b", "5a", "5b"))
    for group in (network.stem, network.conv2, network.conv3, network.conv4, network.conv5):
        for part in group:
            if isinstance(part, nn.Conv3d):
                name = f"conv{next(names)}"
                put(f"{name}_w", part.weight)
                put(f"{name}_b", part.bias)
            elif isinstance(part, nn.BatchNorm3d):
                put(f"{name}_bn_s", part.weight)
                put(f"{name}_bn_b", part.bias)
                put(f"{name}_bn_rm", part.running_mean)
                put(f"{name}_bn_riv", part.running_var)
    classes = network.fc.out_features
    for name, layer in (
        ("fc6", network.fc6[1]),
        ("fc7", network.fc7),
        (f"last_out_L{classes}", network.fc),
    ):
        put(f"{name}_w", layer.weight)
        put(f"{name}_b", layer.bias)
    return blobs


def python2_bytes(value, memo: dict) -> bytes:
    """Pickle dicts of text and float32 arrays as Python 2 with numpy 1 did, in protocol 2.

    Python 3 cannot be made to: it writes bytes by another instruction than Python 2's str.
    """

    def text(s: bytes) -> bytes:
        return (
            b"U" + bytes([len(s)]) + s if len(s) < 256 else b"T" + len(s).to_bytes(4, "little") + s
        )

    if isinstance(value, dict):
        items = b"".join(text(k.encode()) + python2_bytes(v, memo) for k, v in value.items())
        return b"}(" + items + b"u"
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    shape = b"(" + b"".join(b"J" + n.to_bytes(4, "little") for n in value.shape) + b"t"
    dtype = (
        b"cnumpy\ndtype\n" + text(b"f4") + b"K\x00K\x01\x87R"
        b"(K\x03" + text(b"<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
        + text(b"b")
        + b"\x87R(K\x01"
        + shape
        + dtype
        + b"\x89"
        + text(value.tobytes())
        + b"tb"
    )


def write_caffe2(path: Path, network: nn.Module, *, form: str = "python2", extra=()) -> Path:
    """Write a network; ``form`` is python2 or a pickle protocol of Python 3."""
    content = {"blobs": {**blobs_of(network), **dict(extra)}}
    if form == "python2":
        path.write_bytes(b"\x80\x02" + python2_bytes(content, {}) + b".")
    else:
        path.write_bytes(pickle.dumps(content, protocol=int(form)))
    return path
