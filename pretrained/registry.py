"""Published weights of the R(2+1)D paper's networks and torchvision's: an entry or a row per file.

The weights of other networks are in ``other_networks.py``.

The first entry of a network is its default.

Three publishers:

- torchvision: the file names contain hash prefixes; the class names are in its metadata.
- ig65m-pytorch and VMZ's PyTorch part: conversions of the authors' files, batch-norm eps 1e-3.
  (Their code sets a batch-norm momentum of 0.9, which is Caffe2's notation for 0.1.)
- VMZ: the authors' own Caffe2 pickles; no hashes were published, and their order of the 400
  classes is taken to be torchvision's alphabetical one.

Frame rates of VMZ's files: the networks of its ``models.md`` were trained on videos of 15 frames
per second (its issue 55), those of its ``model_zoo.md`` on videos of 30 (its tutorial on Kinetics).
IG-65M itself has many rates (issue 95), so entries for networks trained on it alone name none.

The 152-layer files: VMZ's PyTorch code puts a max-pool after the stem, its converter does not. The
329.1 GFLOPs published for them are those of the network without it on 128 x 128 pixels (252.0 on
112 x 112; likewise 199.0 and 152.4 with 34 layers), so they are listed under that network;
``--model r2plus1d_152_pool`` takes the same files.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from vidfeat.pretrained.entry import Accuracy, WeightsEntry
from vidfeat.pretrained.other_networks import OTHER_NETWORKS
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.flow import FLOW_MEAN, FLOW_STD
from vidfeat.video.preprocess import Preprocess

TORCHVISION = "https://download.pytorch.org/models/"
IG65M = "https://github.com/moabitcoin/ig65m-pytorch/releases/download/v1.0.0/"
VMZ_PYTORCH = "https://github.com/bjuncek/VMZ/releases/download/test_models/"
DROPBOX = "https://www.dropbox.com/s/"

TORCHVISION_LICENCE = "BSD-3-Clause (code); the training videos have terms of their own"
IG65M_LICENCE = "MIT (conversion); VMZ's originals Apache-2.0"
VMZ_LICENCE = "Apache-2.0"

VMZ_TABLE = "https://github.com/facebookresearch/VMZ/blob/main/tutorials/models.md"
VMZ_ZOO = "https://github.com/facebookresearch/VMZ/blob/main/c2/tutorials/model_zoo.md"

VMZ_TABLE_FPS, VMZ_ZOO_FPS = Fraction(15), Fraction(30)

FIVE_CLIPS = "5 clips per video, 16 frames at 15 fps"
TEN_CLIPS = "10 clips per video"
DENSE = "dense clips, centre crop"

AT_15_FPS = ClipPlan(frames=16, fps=Fraction(15))
AT_7_5_FPS = ClipPlan(frames=16, fps=Fraction(15, 2))
SWIN_PLAN = ClipPlan(frames=32, fps=Fraction(15))

FLOW = Preprocess(mean=FLOW_MEAN, std=FLOW_STD)  # of fields of flow; frames are scaled as SMALL
SMALL = Preprocess()  # 128 x 171, centre 112 x 112, Kinetics' mean and deviation
S3D_PRESET = Preprocess(resize=(256, 256), crop=(224, 224))
MVIT_PRESET = Preprocess(
    resize=256, crop=(224, 224), mean=(0.45, 0.45, 0.45), std=(0.225, 0.225, 0.225)
)
SWIN_PRESET = Preprocess(
    resize=256, crop=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)


def _torchvision(model: str, file: str, **facts: Any) -> WeightsEntry:
    values: dict[str, Any] = {
        "model": model,
        "name": "kinetics400",
        "url": TORCHVISION + file,
        "sha256": file.removesuffix(".pth").rsplit("-", 1)[1],
        "trained_on": "Kinetics-400",
        "licence": TORCHVISION_LICENCE,
        "source": f"https://docs.pytorch.org/vision/stable/models.html ({model})",
    }
    return WeightsEntry(**values | facts)


def _converted(model: str, name: str, url: str, **facts: Any) -> WeightsEntry:
    values: dict[str, Any] = {
        "model": model,
        "name": name,
        "url": url,
        "midplanes": "conv",
        "bn_eps": 1e-3,
        "preprocess": SMALL,
    }
    if url.startswith(IG65M):
        values |= {
            "sha256": url.removesuffix(".pth").rsplit("-", 1)[1],
            "licence": IG65M_LICENCE,
            "source": "https://github.com/moabitcoin/ig65m-pytorch",
        }
    else:
        values |= {"licence": VMZ_LICENCE, "source": "https://github.com/bjuncek/VMZ/releases"}
    return WeightsEntry(**values | facts)


def _caffe2(
    model: str,
    name: str,
    path: str,
    frames: int,
    megabytes: int,
    accuracy: Accuracy | None,
    **facts: Any,
) -> WeightsEntry:
    values: dict[str, Any] = {
        "model": model,
        "name": f"caffe2_{name}_{frames}f",
        "url": f"{DROPBOX}{path}?dl=1",
        "file_format": "caffe2",
        "megabytes": megabytes,
        "trained_on": "Kinetics-400",
        "midplanes": "conv" if model.startswith("r2plus1d") else None,
        "bn_eps": 1e-3,
        "preprocess": SMALL,
        "plan": ClipPlan(frames=frames, fps=VMZ_TABLE_FPS),
        "accuracy": accuracy,
        "licence": VMZ_LICENCE,
        "source": VMZ_TABLE,
    }
    values |= facts
    if values["source"] == VMZ_ZOO:
        values["plan"] = ClipPlan(frames=frames, fps=_zoo_fps(values["trained_on"]))
    return WeightsEntry(**values)


def _zoo_fps(trained_on: str) -> Fraction | None:
    return None if trained_on == "IG-65M" else VMZ_ZOO_FPS


_TORCH_FILES = (
    _torchvision(
        "r2plus1d_18",
        "r2plus1d_18-91a641e6.pth",
        megabytes=126,
        midplanes="block",
        bn_eps=1e-5,
        preprocess=SMALL,
        plan=AT_15_FPS,
        accuracy=Accuracy(67.463, 86.175, FIVE_CLIPS),
    ),
    _torchvision(
        "r3d_18",
        "r3d_18-b3b3357e.pth",
        megabytes=134,
        bn_eps=1e-5,
        preprocess=SMALL,
        plan=AT_15_FPS,
        accuracy=Accuracy(63.200, 83.479, FIVE_CLIPS),
    ),
    _torchvision(
        "mc3_18",
        "mc3_18-a90a0ba3.pth",
        megabytes=47,
        bn_eps=1e-5,
        preprocess=SMALL,
        plan=AT_15_FPS,
        accuracy=Accuracy(63.960, 84.130, FIVE_CLIPS),
    ),
    _torchvision(
        "s3d",
        "s3d-d76dad2f.pth",
        megabytes=34,
        preprocess=S3D_PRESET,
        plan=ClipPlan(frames=128, fps=Fraction(15)),
        accuracy=Accuracy(68.368, 88.050, "one clip a video, 128 frames at 15 fps"),
    ),
    _torchvision(
        "mvit_v1_b",
        "mvit_v1_b-dbeb1030.pth",
        megabytes=147,
        preprocess=MVIT_PRESET,
        plan=AT_7_5_FPS,
        accuracy=Accuracy(78.477, 93.582, "5 clips per video, 16 frames at 7.5 fps"),
    ),
    _torchvision(
        "mvit_v2_s",
        "mvit_v2_s-ae3be167.pth",
        megabytes=138,
        preprocess=MVIT_PRESET,
        plan=AT_7_5_FPS,
        accuracy=Accuracy(80.757, 94.665, "5 clips per video, 16 frames at 7.5 fps"),
    ),
    _torchvision(
        "swin3d_t",
        "swin3d_t-7615ae03.pth",
        megabytes=127,
        preprocess=SWIN_PRESET,
        plan=SWIN_PLAN,
        accuracy=Accuracy(77.715, 93.519, "12 clips per video, 32 frames at 15 fps"),
    ),
    _torchvision(
        "swin3d_s",
        "swin3d_s-da41c237.pth",
        megabytes=229,
        preprocess=SWIN_PRESET,
        plan=SWIN_PLAN,
        accuracy=Accuracy(79.521, 94.158, "12 clips per video, 32 frames at 15 fps"),
    ),
    _torchvision(
        "swin3d_b",
        "swin3d_b_1k-24f7c7c6.pth",
        megabytes=382,
        preprocess=SWIN_PRESET,
        plan=SWIN_PLAN,
        accuracy=Accuracy(79.427, 94.386, "12 clips per video, 32 frames at 15 fps"),
    ),
    _torchvision(
        "swin3d_b",
        "swin3d_b_22k-7c6ae6fa.pth",
        name="imagenet22k_kinetics400",
        trained_on="ImageNet-22k, Kinetics-400",
        megabytes=382,
        preprocess=SWIN_PRESET,
        plan=SWIN_PLAN,
        accuracy=Accuracy(81.643, 95.574, "12 clips per video, 32 frames at 15 fps"),
    ),
    _converted(
        "r2plus1d_34",
        "ig65m_kinetics_32f",
        IG65M + "r2plus1d_34_clip32_ft_kinetics_from_ig65m-ade133f1.pth",
        megabytes=255,
        trained_on="IG-65M, Kinetics-400",
        plan=ClipPlan(frames=32, fps=VMZ_ZOO_FPS),
        accuracy=Accuracy(80.0, 94.2, TEN_CLIPS),
    ),
    _converted(
        "r2plus1d_34",
        "ig65m_kinetics_8f",
        IG65M + "r2plus1d_34_clip8_ft_kinetics_from_ig65m-0aa0550b.pth",
        megabytes=255,
        trained_on="IG-65M, Kinetics-400",
        plan=ClipPlan(frames=8, fps=VMZ_ZOO_FPS),
        accuracy=Accuracy(74.9, 91.8, TEN_CLIPS),
    ),
    _converted(
        "r2plus1d_34",
        "ig65m_32f",
        IG65M + "r2plus1d_34_clip32_ig65m_from_scratch-449a7af9.pth",
        megabytes=255,
        trained_on="IG-65M",
        num_classes=359,
        class_list="",
        plan=ClipPlan(frames=32),
    ),
    _converted(
        "r2plus1d_34",
        "ig65m_8f",
        IG65M + "r2plus1d_34_clip8_ig65m_from_scratch-9bae36ae.pth",
        megabytes=255,
        trained_on="IG-65M",
        num_classes=487,
        class_list="",
        plan=ClipPlan(frames=8),
    ),
    _converted(
        "r2plus1d_152",
        "ig65m_kinetics_32f",
        VMZ_PYTORCH + "r2plus1d_152_ft_kinetics_from_ig65m_f107107466.pth",
        megabytes=474,
        trained_on="IG-65M, Kinetics-400",
        plan=ClipPlan(frames=32, fps=VMZ_ZOO_FPS),
        accuracy=Accuracy(81.6, 95.3, TEN_CLIPS),
    ),
    _converted(
        "r2plus1d_152",
        "sports1m_kinetics_32f",
        VMZ_PYTORCH + "r2plus1d_152_ft_kinetics_from_sports1m_f128957437.pth",
        megabytes=474,
        trained_on="Sports-1M, Kinetics-400",
        plan=ClipPlan(frames=32, fps=VMZ_ZOO_FPS),
        accuracy=Accuracy(79.5, 94.0, TEN_CLIPS),
    ),
    _converted(
        "r2plus1d_152",
        "ig65m_32f",
        VMZ_PYTORCH + "r2plus1d_152_ig65m_from_scratch_f106380637.pth",
        megabytes=474,
        trained_on="IG-65M",
        num_classes=None,
        class_list="",
        plan=ClipPlan(frames=32),
    ),
)

# model, dropbox id and file, megabytes, top-1, top-5; 18 layers, trained on Kinetics-400
_CAFFE2_16_FRAMES = (
    ("r2plus1d_18_paper", "94d2ruqn6tp7xno/r2.5d_d18_l16.pkl", 134, 68.5, 87.5),
    ("r3d_18", "8tqp8uhjmedflu1/r3d_d18_l16.pkl", 134, 64.7, 85.0),
    ("r2d_18", "hyw8ltzvhadxgia/r2d_d18_l16.pkl", 46, 59.4, 81.3),
    ("fr2d_18", "4yy0tdfebdy0ptr/r2df_d18_l16.pkl", 46, 60.9, 81.9),
    ("mc2_18", "xmtqk2w3p60yly0/mc2_d18_l16.pkl", 46, 64.8, 85.1),
    ("mc3_18", "rpgbzjewagjeu2f/mc3_d18_l16.pkl", 47, 65.2, 85.8),
    ("mc4_18", "lrjwye0ldsgi2p2/mc4_d18_l16.pkl", 51, 65.6, 85.6),
    ("mc5_18", "3qp62d3159rzwsj/mc5_d18_l16.pkl", 67, 65.6, 85.5),
    ("rmc2_18", "70k3p0xz6rjcdtb/rmc2_d18_l16.pkl", 133, 65.4, 85.5),
    ("rmc3_18", "n8eulubwh6l3o0b/rmc3_d18_l16.pkl", 132, 65.5, 85.7),
    ("rmc4_18", "di3wwadbapc61rn/rmc4_d18_l16.pkl", 128, 65.6, 85.3),
    ("rmc5_18", "lb5jaji177hid7p/rmc5_d18_l16.pkl", 112, 63.5, 84.2),
)
_CAFFE2_8_FRAMES = (
    ("r2plus1d_18_paper", "wzgx4d80mrh7pnf/r2.5d_d18_l8.pkl", 134, 65.3, 85.2),
    ("r3d_18", "n3ax2591imcy9ly/r3d_d18_l8.pkl", 134, 62.3, 83.4),
    ("r2d_18", "ju4fah9dksn08s1/r2d_d18_l8.pkl", 46, 60.0, 81.2),
    ("fr2d_18", "4jexszps3564za3/r2df_d18_l8.pkl", 46, 60.0, 81.8),
    ("mc2_18", "lkmhyjok8odtv8e/mc2_d18_l8.pkl", 46, 63.0, 83.8),
    ("mc3_18", "3jxzhc3kduyrpik/mc3_d18_l8.pkl", 47, 63.3, 84.2),
    ("mc4_18", "vx2xee36et823gs/mc4_d18_l8.pkl", 51, 63.0, 84.2),
    ("mc5_18", "z6fxv6jr30i2lwz/mc5_d18_l8.pkl", 67, 62.9, 84.2),
    ("rmc2_18", "vnjpzq7li2b7tk2/rmc2_d18_l8.pkl", 133, 62.7, 83.9),
    ("rmc3_18", "1vwjomlc45ox6u1/rmc3_d18_l8.pkl", 132, 62.8, 83.7),
    ("rmc4_18", "zots41ng2xs2ezu/rmc4_d18_l8.pkl", 128, 62.8, 83.3),
    ("rmc5_18", "3e56jjx6x1qot4x/rmc5_d18_l8.pkl", 112, 61.6, 83.1),
)

_IG65M_ZOO: dict[str, Any] = {"trained_on": "IG-65M, Kinetics-400", "source": VMZ_ZOO}
_SPORTS1M: dict[str, Any] = {"trained_on": "Sports-1M, Kinetics-400"}
_UNNAMED: dict[str, Any] = {"class_list": "", "source": VMZ_ZOO}

_CAFFE2_FILES = (
    *(
        _caffe2(model, "kinetics", path, frames, size, Accuracy(top1, top5, TEN_CLIPS))
        for frames, rows in ((16, _CAFFE2_16_FRAMES), (8, _CAFFE2_8_FRAMES))
        for model, path, size, top1, top5 in rows
    ),
    _caffe2(
        "r2plus1d_34",
        "kinetics",
        "y6c6jf7myv2w6iq/r2.5d_d34_l32.pkl",
        32,
        255,
        Accuracy(72.4, 90.6, DENSE),
    ),
    _caffe2(
        "r2plus1d_34",
        "sports1m_kinetics",
        "odd9smqn2t54run/r2.5d_d34_l32_ft_sports1m.pkl",
        32,
        255,
        Accuracy(74.2, 92.1, DENSE),
        **_SPORTS1M,
    ),
    _caffe2(
        "r2plus1d_34",
        "sports1m_kinetics_flow",
        "30zj1t9xte5vy64/r2.5d_d34_l32_ft_sports1m_optical_flow.pkl",
        32,
        255,
        Accuracy(68.2, 88.0, DENSE),
        in_channels=2,
        preprocess=FLOW,
        trained_on="Sports-1M, Kinetics-400 (optical flow)",
    ),
    _caffe2(
        "r2plus1d_34",
        "ig65m_kinetics",
        "z41ff7vs0bzf6b8/r2plus1d_34_clip32_ft_kinetics_from_ig65m_%20f106169681.pkl",
        32,
        255,
        Accuracy(80.0, 94.2, TEN_CLIPS),
        **_IG65M_ZOO,
    ),
    _caffe2(
        "r2plus1d_34",
        "ig65m_kinetics",
        "p81twy88kwrrcop/r2plus1d_34_clip8_ft_kinetics_from_ig65m_%20f128022400.pkl",
        8,
        255,
        Accuracy(74.9, 91.8, TEN_CLIPS),
        **_IG65M_ZOO,
    ),
    _caffe2(
        "r2plus1d_34",
        "ig65m",
        "eimo232tqw8mwi9/r2plus1d_34_clip32_ig65m_from_scratch_f102649996.pkl",
        32,
        255,
        None,
        trained_on="IG-65M",
        num_classes=359,
        **_UNNAMED,
    ),
    _caffe2(
        "r2plus1d_34",
        "ig65m",
        "6xwyu1az6oy4ts7/r2plus1d_34_clip8_ig65m_from_scratch_f79708462.pkl",
        8,
        255,
        None,
        trained_on="IG-65M",
        num_classes=487,
        **_UNNAMED,
    ),
    _caffe2(
        "r2plus1d_152",
        "ig65m_kinetics",
        "tmxuae8ubo5gipy/r2plus1d_152_ft_kinetics_from_ig65m_f107107466.pkl",
        32,
        474,
        Accuracy(81.6, 95.3, TEN_CLIPS),
        **_IG65M_ZOO,
    ),
    _caffe2(
        "r2plus1d_152",
        "sports1m_kinetics",
        "twvcpe30rxuaf45/r2plus1d_152_ft_kinetics_from_sports1m_f128957437.pkl",
        32,
        474,
        Accuracy(79.5, 94.0, TEN_CLIPS),
        source=VMZ_ZOO,
        **_SPORTS1M,
    ),
    _caffe2(
        "r2plus1d_152",
        "kinetics",
        "9770y063u3z5bmb/r2plus1d_152_kinetics_from_scratch_f127858918.pkl",
        32,
        474,
        Accuracy(77.3, 92.5, TEN_CLIPS),
        source=VMZ_ZOO,
    ),
    _caffe2(
        "r2plus1d_152",
        "sports1m",
        "w5cdqeyqukuaqt7/r2plus1d_152_sports1m_from_scratch_f127111290.pkl",
        32,
        474,
        None,
        trained_on="Sports-1M",
        num_classes=487,
        **_UNNAMED,
    ),
    _caffe2(
        "r2plus1d_152",
        "ig65m",
        "oqdg176p7nqc84v/r2plus1d_152_ig65m_from_scratch_f106380637.pkl",
        32,
        474,
        None,
        trained_on="IG-65M",
        num_classes=None,
        **_UNNAMED,
    ),
)

ENTRIES: tuple[WeightsEntry, ...] = (*_TORCH_FILES, *_CAFFE2_FILES, *OTHER_NETWORKS)
