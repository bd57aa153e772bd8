"""Reading pickles: the same objects as torch gives, and nothing that stands in a file is run."""

import functools
import io
import os
import pickle
import subprocess
import sys
import textwrap
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphpose.errors import GraphposeError
from graphpose.openpifpaf.pickled_objects import Instance, Name
from graphpose.openpifpaf.unpickle import load_pickle

LEAVES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text() | st.binary()
PLAIN = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.tuples(inner, inner, inner, inner)
        | st.dictionaries(st.text(), inner)
        | st.builds(OrderedDict, st.dictionaries(st.text(), inner))
        | st.sets(st.integers())
    ),
    max_leaves=12,
)
CONTAINERS = pytest.mark.parametrize("zipped", [False, True], ids=["legacy", "zip"])


def save(content, path: Path, zipped: bool, protocol: int = 2) -> Path:
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    return path


@CONTAINERS
@pytest.mark.parametrize("protocol", [2, 4])
@settings(max_examples=40, deadline=None)
@given(content=PLAIN)
def test_plain_containers_come_back_as_they_were(tmp_path_factory, zipped, protocol, content):
    path = save(content, tmp_path_factory.mktemp("pickle") / "file", zipped, protocol)
    found = load_pickle(path)
    assert found == content
    assert type(found) is type(content)


@CONTAINERS
def test_tensors_of_every_kind_and_view_equal_torchs_own(tmp_path, zipped):
    base = torch.arange(24).reshape(2, 3, 4)
    kinds = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16]
    content = {str(kind): base.to(kind) for kind in (*kinds, torch.int8, torch.uint8, torch.bool)}
    content |= {
        "view": base.float().permute(2, 0, 1)[1:, :, ::2],
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(5),
    }
    content |= {"parameter": torch.nn.Parameter(torch.randn(3)), "shared": [base, base[1]]}
    path = save(content, tmp_path / "file", zipped)
    found, expected = load_pickle(path), torch.load(path, weights_only=True)
    for key, tensor in expected.items():
        if key != "shared":
            assert found[key].dtype == tensor.dtype
            assert torch.equal(found[key], tensor)
    assert found["shared"][0].untyped_storage().data_ptr() == found["shared"][1].untyped_storage().data_ptr()


@CONTAINERS
def test_arrays_of_numbers_are_read(tmp_path, zipped):
    arrays = [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        np.array([True]),
    ]
    content = {"arrays": arrays, "scalar": np.float64(0.25), "size": torch.Size([2, 3]), "path": Path("a/b")}
    found = load_pickle(save(content, tmp_path / "file", zipped))
    for array, expected in zip(found["arrays"], arrays, strict=True):
        assert array.values.dtype == expected.dtype
        np.testing.assert_array_equal(array.values, expected)
    assert (found["scalar"], found["size"], found["path"]) == (0.25, (2, 3), "a/b")


@CONTAINERS
def test_a_module_becomes_its_names_and_tensors_only(tmp_path, zipped):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, stride=2), torch.nn.BatchNorm2d(4))
    found = load_pickle(save({"model": module}, tmp_path / "file", zipped))["model"]
    assert type(found) is Instance
    assert found.kind == Name("torch.nn.modules.container", "Sequential")
    assert found.module("0").state["stride"] == (2, 2)
    assert torch.equal(found.module("0").tensors["weight"], module[0].weight)
    assert found.module("1").tensors.keys() == dict(module[1].state_dict()).keys()


class Payload:
    """Asks for a call when it is unpickled."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def payloads(trace: Path) -> dict[str, Payload]:
    """Each would leave ``trace`` behind, by the name that must be refused."""
    code = f"open({str(trace)!r}, 'w').close()"
    return {
        f"{os.system.__module__}.system": Payload(os.system, f"touch '{trace}'"),
        "builtins.eval": Payload(eval, f"open({str(trace)!r}, 'w')"),
        "builtins.exec": Payload(exec, code),
        "builtins.getattr": Payload(getattr, Payload(io.open, str(trace), "w"), "name"),
        "subprocess.Popen": Payload(subprocess.Popen, ["touch", str(trace)]),
        "functools.partial": Payload(functools.partial, os.system, f"touch '{trace}'"),
        "torch.serialization.save": Payload(torch.save, 1, str(trace)),
        "numpy.savetxt": Payload(np.savetxt, str(trace), [1.0]),
    }


@pytest.mark.parametrize("container", ["legacy", "zip", "plain"])
@pytest.mark.parametrize("name", payloads(Path("x")))
def test_calls_are_refused_by_name_and_leave_nothing_behind(tmp_path, container, name):
    trace = tmp_path / "trace"
    content = {"model": payloads(trace)[name], "epoch": 1}
    path = tmp_path / "file"
    if container == "plain":
        path.write_bytes(pickle.dumps(content, 2))
    else:
        save(content, path, container == "zip")
    # numpy names some of its functions by the module that they are written in
    with pytest.raises(GraphposeError, match=rf"it asks for .*({name.split('.')[-1]}|io\.open)'.*nothing"):
        load_pickle(path)
    assert not trace.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"{os.system.__module__}.system", "builtins.exec", "subprocess.Popen"])
def test_the_payloads_are_real_ones(tmp_path, name):
    trace = tmp_path / "trace"
    called = pickle.loads(pickle.dumps(payloads(trace)[name]))
    if isinstance(called, subprocess.Popen):
        called.wait()
    assert trace.exists()


def test_calls_of_the_oldest_protocol_are_refused_by_name(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"(S'touch x'\nios\nsystem\n.")
    with pytest.raises(GraphposeError, match=r"asks for 'os\.system'"):
        load_pickle(path)


@CONTAINERS
def test_object_arrays_are_refused(tmp_path, zipped):
    path = save({"model": np.array([{}, print], dtype=object)}, tmp_path / "file", zipped)
    with pytest.raises(GraphposeError, match="numpy object array"):
        load_pickle(path)


def test_torch_functions_are_refused(tmp_path):
    path = save({"model": Payload(torch.hub.load, "owner/repository", "model")}, tmp_path / "file", True)
    with pytest.raises(GraphposeError, match=r"'torch\.hub\.load'"):
        load_pickle(path)
    path = save({"model": torch.nn.functional.relu}, tmp_path / "file", True)
    with pytest.raises(GraphposeError, match=r"'torch\.nn\.functional\.relu'"):
        load_pickle(path)


@CONTAINERS
def test_a_class_with_a_setstate_of_its_own_is_not_asked(tmp_path, zipped):
    class Sneaky(torch.nn.Module):
        def __setstate__(self, state):
            raise AssertionError("run")

    Sneaky.__module__, Sneaky.__qualname__ = __name__, "Sneaky"
    globals()["Sneaky"] = Sneaky
    found = load_pickle(save({"model": Sneaky()}, tmp_path / "file", zipped))["model"]
    assert found.kind.name == "Sneaky"
    del globals()["Sneaky"]


@CONTAINERS
def test_truncated_files_are_refused_wherever_they_end(tmp_path, zipped):
    whole = save({"model": torch.nn.Conv2d(8, 8, 3)}, tmp_path / "whole", zipped).read_bytes()
    path = tmp_path / "file"
    for share in (0.0, 0.01, 0.1, 0.3, 0.6, 0.9, 0.999):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(GraphposeError, match=r"file'") as caught:
            load_pickle(path)
        assert "\n" not in str(caught.value)


def test_a_damaged_storage_is_found(tmp_path):
    path = save({"weight": torch.ones(1000)}, tmp_path / "file", True)
    content = bytearray(path.read_bytes())
    content[content.index(torch.ones(100).numpy().tobytes()) + 17] ^= 1
    path.write_bytes(content)
    with pytest.raises(GraphposeError, match="damaged"):
        load_pickle(path)


@pytest.mark.parametrize("content", [b"", b"no pickle", b"\x89PNG\r\n\x1a\n" + bytes(100), pickle.dumps({"a": 1})])
def test_other_files_are_no_checkpoint(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(GraphposeError, match=r"no file of torch\.save"):
        load_pickle(path)


def test_a_missing_file_and_another_archive_are_named(tmp_path):
    with pytest.raises(GraphposeError, match="missing' cannot be read: No such file"):
        load_pickle(tmp_path / "missing")
    with zipfile.ZipFile(tmp_path / "archive", "w") as archive:
        archive.writestr("readme.txt", "x")
    with pytest.raises(GraphposeError, match=r"one 'data\.pkl' is expected"):
        load_pickle(tmp_path / "archive")


def test_a_storage_larger_than_the_file_takes_no_memory(tmp_path):
    path = save({"weight": torch.ones(3)}, tmp_path / "file", False)
    content = path.read_bytes()
    # numel of the persistent id: K\x03 before the None of the view
    claimed = content.replace(b"K\x03Ntq", b"J\xff\xff\xff\x7fNtq")
    assert claimed != content
    path.write_bytes(claimed)
    with pytest.raises(GraphposeError, match="is not in it"):
        load_pickle(path)


@pytest.mark.slow
@CONTAINERS
def test_a_file_of_100_mb_is_read_within_two_and_a_half_times_its_size(tmp_path, zipped):
    path = save({"w": [torch.zeros(2_500_000) for _ in range(10)]}, tmp_path / "file", zipped)
    code = f"""
        from pathlib import Path
        from graphpose.openpifpaf.unpickle import load_pickle
        def memory(key):
            return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(key))
        before = memory("VmRSS")
        content = load_pickle(Path({str(path)!r}))
        print(memory("VmHWM") - before)
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc to read a process's memory from")
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert path.stat().st_size >= 100e6
    assert 0.9 * path.stat().st_size < int(done.stdout) < 2.5 * path.stat().st_size
