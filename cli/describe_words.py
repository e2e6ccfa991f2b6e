"""The first lines of ``vidfeat info`` for a head, an index, a training run or weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vidfeat.store.licence import with_remark
from vidfeat.system.wording import counted, size_text

_CLASSES_SHOWN = 8


def first_lines(described: Mapping[str, Any]) -> list[str]:
    """A title line and the facts that people ask for first; empty for other kinds."""
    kinds = {"head": _head, "index": _index, "training run": _run, "weights": _weights}
    if described["kind"] not in kinds:
        return []
    title, facts = kinds[described["kind"]](described)
    shown = {name: fact for name, fact in facts.items() if fact}
    width = max(map(len, shown), default=0)
    return [
        f"{described['path']}: {title}",
        *(f"  {name:<{width}}  {fact}" for name, fact in shown.items()),
    ]


def _head(head: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    training = head.get("training", {})
    tested = training.get("test") or {}
    classes = head["classes"]
    title = f"{_article(head['head'])} head for {counted(len(classes), 'class', 'classes')}"
    return title, {
        "classes": _names(classes),
        "network": _network(head),
        "trained on": _counts(training, "sample", "clip", "group"),
        "chosen": ", ".join(f"{k} = {v}" for k, v in (training.get("params") or {}).items()),
        "accuracy": _interval(tested.get("accuracy"), tested),
        "mAP": _interval(tested.get("mean_average_precision"), tested),
    }


def _index(index: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    kind = index.get("faiss_kind") or _database(index)
    size = f", {size_text(index['bytes'])}" if "bytes" in index else ""
    title = (
        f"an index of {counted(index['videos'], 'video')}, {counted(index['clips'], 'clip')} of "
        f"{index['dimension']} dimensions ({kind}){size}"
    )
    recall = index.get("recall") or {}
    changes = [
        f"{counted(index[key], 'clip')} {what}"
        for key, what in (("added_since_built", "added"), ("removed_since_built", "removed"))
        if index.get(key)
    ]
    return title, {
        "recall@10": f"{recall['at_10']:.3f}" if "at_10" in recall else "",
        "network": _network(index),
        "since built": ", ".join(changes),
        "root": index["source_root"] or "not recorded",
        "written": f"{index['created']} by vidfeat {index['vidfeat_version']}",
    }


def _database(index: Mapping[str, Any]) -> str:
    engine = str(index.get("vector_index", ""))
    no_index = engine.startswith("none")
    return f"{index.get('database', '?')}, {'no vector index' if no_index else engine}"


def _run(run: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    recipe, last, data = run["recipe"], run.get("last", {}), run.get("data", {})
    step = f" after {counted(last['step'], 'step')}" if "step" in last else ""
    state = f"finished{step}" if run["finished"] else f"not finished{step}"
    best = last.get("best") or {}
    parts = [
        f"{counted(data[key], 'video')} to {what}"
        for key, what in (("train", "train on"), ("evaluate", "evaluate"))
        if key in data
    ]
    return f"a training run of the recipe {recipe.get('name', '?')}, {state}", {
        "network": f"{recipe['model']['name']}, from {recipe['model']['init'] or 'random'} weights",
        "classes": _names(data.get("classes", ())),
        "data": ", ".join(parts),
        "root": data.get("root") or "",
        "best": f"video@1 {best['video@1']:.1%} at step {best['step']:,}" if best else "",
    }


def _weights(weights: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    model = weights.get("model")
    title = (
        f"weights{f' of {model}' if model else ''}, {weights['parameters']:,} parameters in "
        f"{counted(weights['tensors'], 'tensor')}, {size_text(weights['size_bytes'])}"
    )
    return title, {"classes": _names(weights.get("class_names") or ())}


def _article(noun: str) -> str:
    return f"{'an' if noun[:1] in 'aeiou' or noun in ('svm', 'mlp') else 'a'} {noun}"


def _names(classes: Sequence[str]) -> str:
    shown = ", ".join(classes[:_CLASSES_SHOWN])
    more = len(classes) - _CLASSES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _network(described: Mapping[str, Any]) -> str:
    encoder = described.get("encoder") or {}
    if encoder.get("joined"):
        return " and ".join(str(part.get("model", "?")) for part in encoder["joined"])
    licence = f"; licence {with_remark(str(encoder['licence']))}" if encoder.get("licence") else ""
    return f"{encoder.get('model', '?')}, weights {encoder.get('weights', '?')}{licence}"


def _counts(training: Mapping[str, Any], *nouns: str) -> str:
    return ", ".join(
        counted(training[f"{noun}s"], noun) for noun in nouns if training.get(f"{noun}s")
    )


def _interval(value: Mapping[str, Any] | None, tested: Mapping[str, Any]) -> str:
    if value is None:
        return ""
    method = f", {value['method']}" if value.get("method") else ""
    return (
        f"{value['value']:.1%} of {counted(tested['samples'], 'test sample')} "
        f"(95 % interval {value['low']:.1%} to {value['high']:.1%}{method})"
    )
