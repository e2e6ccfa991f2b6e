import pickle
import resource
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.hostile_fixtures import hostile
from vidfeat.errors import WeightsError
from vidfeat.weights import safe_pickle
from vidfeat.weights.caffe2 import read_blobs
from vidfeat.weights.load import load_weights

NAMES = sorted(hostile(""))


@pytest.mark.parametrize("name", NAMES)
def test_refused(tmp_path, name):
    """Each is refused with what it asked for, nothing ran, and next to no memory was taken."""
    mark = tmp_path / "mark"
    content, named = hostile(str(mark))[name]
    path = tmp_path / "weights.pkl"
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError) as caught:
        read_blobs(path)
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not mark.exists()
    assert taken < 300_000, f"{taken} KiB"


@pytest.mark.parametrize("name", ["os.system", "array of objects", "bytes of 2^40 bytes"])
def test_load_weights_refuses_them_too(tmp_path, name):
    path = tmp_path / "weights.pkl"
    path.write_bytes(hostile(str(tmp_path / "mark"))[name][0])
    with pytest.raises(WeightsError):
        load_weights(path, "r3d_10")
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_file(tmp_path):
    (tmp_path / "a.pkl").touch()
    with pytest.raises(WeightsError, match="not a complete pickle"):
        read_blobs(tmp_path / "a.pkl")


ARRAYS = [
    np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
    np.arange(5, dtype=">f4"),
    np.array(7, np.int64),
    np.zeros((0, 3), np.float16),
    np.array([True, False]),
    np.arange(10, dtype=np.uint8)[::2],
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("index", range(len(ARRAYS)))
def test_arrays_come_back(tmp_path, protocol, index):
    array = ARRAYS[index]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"x": array}, protocol))
    found = safe_pickle.array_of(safe_pickle.load(tmp_path / "a.pkl")["x"])
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_scalars_come_back(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps([np.float32(1.5), np.int64(-2)], 2))
    assert safe_pickle.load(tmp_path / "a.pkl") == [1.5, -2]


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda children: (
        st.lists(children)
        | st.lists(children).map(tuple)
        | st.dictionaries(st.text() | st.integers(), children)
    ),
    max_leaves=20,
)


@settings(max_examples=80, deadline=None)
@given(value=plain, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_containers_come_back(tmp_path_factory, value, protocol):
    path = tmp_path_factory.getbasetemp() / "plain.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    assert safe_pickle.load(path) == value


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damage_is_an_error_or_harmless(tmp_path_factory, data):
    """Bytes changed anywhere: either still arrays and containers, or one line of refusal."""
    content = bytearray(pickle.dumps({"blobs": {"conv1_w": np.ones(3, np.float32)}}, 2))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    path.write_bytes(content)
    try:
        safe_pickle.load(path)
    except WeightsError as error:
        assert "\n" not in str(error)


def test_pickle_is_never_imported_for_reading():
    """The reader has no way to run code: it does not even load Python's own machine by itself."""
    code = (
        "import ast, pathlib, vidfeat\n"
        "folder = pathlib.Path(vidfeat.__file__).parent\n"
        "text = (folder / 'weights' / 'safe_pickle.py').read_text()\n"
        "names = {a.name for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Import)"
        " for a in n.names}\n"
        "assert 'pickle' not in names and '_pickle' not in names, names\n"
        "assert 'find_class' not in text and 'eval(' not in text\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
