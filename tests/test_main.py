"""The command line: files of every kind, what it writes, and that nothing of a stranger's runs."""

import importlib
import io
import json
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import peeklib as pk
from peeklib.__main__ import _images as images_of
from peeklib.__main__ import _parser as parser
from peeklib.__main__ import _settings as settings_of
from peeklib.__main__ import main
from peeklib.study.programs import checked_copy, read_program


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.act = nn.ReLU()
        self.norm = nn.BatchNorm1d(108)
        self.drop = nn.Dropout()
        self.fc = nn.Linear(108, 4)

    def forward(self, x):
        return self.fc(self.drop(self.norm(self.act(self.conv(x)).flatten(1))))


def exported(path, model, batches=True):
    """A program of the model in a file, for batches of any size or of two."""
    shapes = ({0: torch.export.Dim("batch")},) if batches else None
    program = torch.export.export(model, (torch.rand(2, 1, 8, 8),), dynamic_shapes=shapes)
    torch.export.save(program, path)
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a program, images of one size, grey and some in colour, and a module."""
    place = tmp_path_factory.mktemp("place")
    torch.manual_seed(0)
    exported(place / "model.pt2", Net().eval())
    draw = np.random.default_rng(0)
    for k in range(12):
        folder = place / "images" / f"class {k % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(256, size=(8, 8), dtype=np.uint8)).save(folder / f"{k}.png")
    np.save(place / "images.npy", draw.integers(256, size=(60, 8, 8), dtype=np.uint8))
    (place / "strangers_code.py").write_text(
        "import torch\n"
        "def load():\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5), torch.nn.ReLU())\n"
        "made = load()\n"
        "halved = lambda x: x / 2\n"
        "def halving():\n"
        "    return halved\n"
        "nothing = 3\n"
    )
    return place


@pytest.fixture(autouse=True)
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("TQDM_DISABLE", "1")


@pytest.fixture
def asked(monkeypatch):
    """What `peek` is asked for, instead of the work."""
    calls = []

    class Report:
        notes = ()

        def save(self, path):
            Path(path).write_text("report")
            return path

    def peek(model, images, **settings):
        calls.append({"model": model, "images": images, **settings})
        return Report()

    monkeypatch.setattr(pk, "peek", peek)
    return calls


def failure(arguments, capsys):
    """The one line that says why it failed."""
    assert main([str(one) for one in arguments]) == 1
    told = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(told) == 1
    return told[0]


def test_a_report_on_an_exported_program(tmp_path, capsys):
    out = tmp_path / "report.html"
    out.write_text("an older one")
    assert main(["model.pt2", "images", "-o", str(out), "--ranks", "2,3", "--device", "cpu"]) == 0
    page = out.read_text()
    assert "A peek into model.pt2" in page and "act.relu()" in page and "rank 3" in page
    captured = capsys.readouterr()
    assert f"wrote {out}" in captured.err and not captured.out


def test_an_exported_program_answers_as_the_network_did(place):
    torch.manual_seed(0)
    model = Net().eval()
    images = torch.rand(5, 1, 8, 8)
    twin = read_program(place / "model.pt2")
    torch.testing.assert_close(twin(images), model(images))
    assert {"conv", "act", "fc"} <= {name for name, _ in twin.named_modules()}


def test_scores_are_printed_and_no_report_is_written(place, capsys):
    assert main(["strangers_code:load", "images.npy", "--scores"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(pk.scores.SCORES)
    [entropy] = [line for line in lines if line.startswith("prediction_entropy")]
    assert entropy.endswith("smaller is better")
    assert not (place / "report.html").exists()


def test_everything_asked_for_reaches_peek(asked, tmp_path):
    out = tmp_path / "a.html"
    options = "--preprocess strangers_code:halving() --layers 2,1 --ranks 3 --memory 0.1 --seed 4"
    command = ["strangers_code:made", "images", "-o", str(out), "--title", "T", *options.split()]
    assert main(command) == 0 and out.read_text() == "report"
    [call] = asked
    assert call["layers"] == ["2", "1"] and call["ranks"] == [3] and call["memory"] == 0.1
    assert call["seed"] == 4 and call["title"] == "T" and isinstance(call["model"], nn.Sequential)
    assert call["preprocess"](torch.ones(1)) == 0.5
    assert call["images"].shape == (12, 1, 8, 8) and call["images"].dtype == torch.uint8
    assert "device" not in call


def test_images_of_several_sizes_need_one(asked, tmp_path, capsys):
    Image.new("RGB", (20, 10), "white").save(tmp_path / "a.png")
    Image.new("L", (9, 30)).save(tmp_path / "b.png")
    told = failure(["strangers_code:load", tmp_path], capsys)
    assert "10 × 20" in told and "30 × 9" in told and "--size" in told
    out = str(tmp_path / "report.html")
    command = ["strangers_code:load", str(tmp_path), "-o", out, "--size", "8"]
    assert main(command) == 0 and asked[-1]["images"].shape == (2, 3, 8, 8)
    assert main([*command, "--channels", "1"]) == 0
    assert asked[-1]["images"].flatten(1).unique().tolist() == [0, 255]


def test_a_sample_is_drawn_by_the_seed(asked, tmp_path, capsys):
    for seed in ("0", "0", "1"):
        out = str(tmp_path / "report.html")
        options = ["-o", out, "--sample", "5", "--seed", seed]
        assert main(["strangers_code:load", "images.npy", *options]) == 0
    first, again, other = (call["images"] for call in asked)
    assert first.shape == (5, 1, 8, 8)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert "5 of 60 images, drawn with seed 0" in capsys.readouterr().err


def test_arrays_with_channels_last_are_turned(asked, tmp_path):
    np.save(tmp_path / "a.npy", np.arange(5 * 8 * 8 * 3, dtype=np.uint8).reshape(5, 8, 8, 3))
    command = ["strangers_code:load", str(tmp_path / "a.npy"), "-o", str(tmp_path / "r.html")]
    assert main(command) == 0
    assert asked[0]["images"].shape == (5, 3, 8, 8) and asked[0]["images"][0, 1, 0, 0] == 1


def pixel(place, colour, channels, dtype="uint8"):
    """What twelve images of one colour become."""
    array = np.empty((12, 8, 8, len(colour)), dtype=dtype)
    array[:] = colour
    np.save(place / "colour.npy", array)
    options = parser().parse_args(["m", str(place / "colour.npy"), "--channels", str(channels)])
    images = images_of(options)
    assert images.shape == (12, channels, 8, 8) and images.dtype == getattr(torch, dtype)
    return images[0, :, 0, 0].tolist()


@pytest.mark.parametrize("colour", [(255, 0, 0), (254, 254, 252), (3, 200, 77), (255, 255, 255)])
def test_arrays_in_colour_become_grey_as_pictures_do(colour, tmp_path):
    [grey] = pixel(tmp_path, colour, 1)
    assert abs(grey - Image.new("RGB", (1, 1), colour).convert("L").getpixel((0, 0))) <= 1
    assert pixel(tmp_path, [c / 255 for c in colour], 1, "float32") == pytest.approx(
        [(0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]) / 255]
    )
    assert pixel(tmp_path, (7,), 3) == [7, 7, 7]


def test_a_fourth_channel_is_opacity(tmp_path, capsys):
    assert pixel(tmp_path, (255, 0, 0, 255), 3) == [255, 0, 0]
    assert pixel(tmp_path, (255, 0, 0, 255), 1) == [76]
    assert not capsys.readouterr().err
    assert pixel(tmp_path, (255, 0, 0, 0), 3) == [255, 255, 255]
    assert "transparent: laid on white" in capsys.readouterr().err
    with pytest.raises(ValueError, match="four channels of floats"):
        pixel(tmp_path, (1.0, 0.0, 0.0, 1.0), 3, "float32")


def test_of_a_large_array_only_the_drawn_images_are_read(asked, monkeypatch, tmp_path):
    modes = []
    load = np.load
    monkeypatch.setattr(np, "load", lambda *a, **k: modes.append(k["mmap_mode"]) or load(*a, **k))
    command = ["strangers_code:load", "images.npy", "-o", str(tmp_path / "r.html"), "--sample", "5"]
    assert main(command) == 0 and modes == ["r"] and len(asked[0]["images"]) == 5


@pytest.mark.parametrize(
    "shape", [(12, 8, 3), (12, 3, 8, 3), (12,), (2, 2, 2, 2, 2), (12, 1, 9, 4)]
)
def test_arrays_of_doubtful_shape_are_refused_in_words_of_the_command(shape, tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.zeros(shape, dtype="uint8"))
    told = failure(["strangers_code:load", tmp_path / "a.npy"], capsys)
    assert str(shape) in told and "channels × height × width" in told and "torch" not in told


# What goes wrong


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.pt2", "images"], "there is no file nothing.pt2"),
        (["strangers_code.py", "images"], "give strangers_code:function"),
        (["no_such_code:load", "images"], "no module 'no_such_code'"),
        (["strangers_code:lead", "images"], "has no 'lead'"),
        (["strangers_code:nothing", "images"], "gives a int, not a network"),
        (["strangers_code:", "images"], "MODULE:NAME"),
        (["model.pt2", "nowhere"], "there is no folder or array nowhere"),
        (["model.pt2", "model.pt2"], "is a file"),
        (["images", "images"], "there is no file images"),
        (["model.pt2", "images", "-o", "nowhere/report.html"], "no folder 'nowhere'"),
        (["model.pt2", "images", "-o", "report.pdf"], "call it report.html"),
        (["model.pt2", "images", "-o", "images"], "images is a folder; name a file"),
        (["model.pt2", "images", "--store", "nowhere/acts"], "no folder 'nowhere'"),
        (["model.pt2", "images", "--store", "acts", "--scores"], "add -o FILE"),
        (["model.pt2", "images.npy", "--size", "9"], "--size is for folders"),
        (["model.pt2", "images", "--channels", "3", "--device", "cpu"], "size, channels, preproc"),
    ],
)
def test_failures_are_one_line_with_a_remedy(arguments, words, capsys):
    assert words in failure(arguments, capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing.pt2", "images"],
        ["strangers_code:load", "nowhere"],
        ["strangers_code:load", "images", "-o", "nowhere/report.html"],
    ],
)
def test_paths_that_lead_nowhere_are_told_before_anything_is_imported(
    arguments, capsys, monkeypatch
):
    monkeypatch.setattr(importlib, "import_module", None)
    monkeypatch.setitem(sys.modules, "peeklib.study.programs", None)
    monkeypatch.setitem(sys.modules, "peeklib.storage", None)
    assert "there is no " in failure(arguments, capsys)


def test_a_store_is_asked_of_the_report():
    options = parser().parse_args(["model.pt2", "images", "--store", "acts"])
    assert settings_of(options)["store"] == Path("acts")
    assert "store" not in settings_of(parser().parse_args(["model.pt2", "images"]))


@pytest.mark.parametrize(
    "arguments", [[], ["model.pt2"], ["model.pt2", "images", "--ranks", "0"], ["a", "b", "--size"]]
)
def test_wrong_use_is_status_two(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2 and "usage: python -m peeklib" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--ranks", "3,a", "'a' is no whole number from 1 on"),
        ("--sample", "1.5", "'1.5' is no whole number"),
        ("--size", "-2", "'-2' is no whole number"),
        ("--seed", "x", "'x' is no whole number"),
        ("--memory", "lots", "'lots' is no number of gigabytes"),
        ("--memory", "nan", "'nan' is no number of gigabytes"),
        ("--layers", "a,,b", "'a,,b' has an empty name"),
    ],
)
def test_a_value_that_makes_no_sense_is_told_in_words(option, value, words, capsys):
    with pytest.raises(SystemExit):
        main(["model.pt2", "images", f"{option}={value}"])
    assert words in capsys.readouterr().err


def test_an_error_can_be_followed():
    with pytest.raises(FileNotFoundError, match=r"nothing\.pt2"):
        main(["nothing.pt2", "images", "--debug"])


def test_an_interrupt_leaves_the_older_report(monkeypatch, tmp_path, capsys):
    out = tmp_path / "report.html"
    out.write_text("an older one")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pk, "peek", interrupted)
    assert main(["strangers_code:load", "images", "-o", str(out)]) == 130
    assert out.read_text() == "an older one" and "interrupted" in capsys.readouterr().err


def test_help_comes_without_pytorch():
    code = (
        "import sys\nfrom peeklib.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--unsafe-unpickle" in done.stdout and done.stdout.endswith("False\n")


# Programs that cannot be used


def test_a_program_for_one_size_of_batch_says_how_to_export_it(tmp_path, capsys):
    path = exported(tmp_path / "two.pt2", Net().eval(), batches=False)
    told = failure([path, "images"], capsys)
    assert "for batches of 2" in told and "dynamic_shapes" in told


def test_a_program_exported_in_training_mode_is_told(tmp_path):
    path = exported(tmp_path / "training.pt2", Net().train())
    with pytest.warns(UserWarning, match=r"training mode.*model\.eval\(\)"):
        read_program(path)


# Files of strangers


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_is_read_only_where_that_is_wanted(tmp_path, asked, capsys):
    torch.save(Bomb(tmp_path / "it ran"), tmp_path / "model.pt")
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(Bomb(tmp_path / "it ran")))
    (tmp_path / "model.pt2").write_bytes((tmp_path / "model.pt").read_bytes())
    for name in ("model.pt", "model.pkl", "model.pt2"):
        assert "--unsafe-unpickle" in failure([tmp_path / name, "images"], capsys)
    assert not (tmp_path / "it ran").exists()
    torch.save(nn.ReLU(), tmp_path / "relu.pth")
    command = [str(tmp_path / "relu.pth"), "images", "-o", str(tmp_path / "r.html")]
    assert main([*command, "--unsafe-unpickle"]) == 0 and isinstance(asked[0]["model"], nn.ReLU)


@pytest.mark.parametrize("flag", [[], ["--unsafe-unpickle"]])
def test_weights_alone_are_told_from_a_network(flag, tmp_path, capsys):
    torch.save(Net().state_dict(), tmp_path / "weights.pt")
    told = failure([tmp_path / "weights.pt", "images", *flag], capsys)
    assert "state_dict" in told and "module:function" in told


def test_other_files_are_named(tmp_path, capsys):
    torch.jit.save(torch.jit.trace(nn.ReLU(), torch.rand(2)), tmp_path / "scripted.pt")
    assert "TorchScript" in failure([tmp_path / "scripted.pt", "images"], capsys)
    (tmp_path / "a.safetensors").write_bytes(b"")
    assert "without the network" in failure([tmp_path / "a.safetensors", "images"], capsys)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "")
    assert "no exported program" in failure([tmp_path / "a.zip", "images"], capsys)


def altered(source, target, changes):
    """A copy of an archive, in which files are replaced, changed or added, by the end of their names."""
    changes = dict(changes)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            for end in [end for end in changes if name.endswith(end)]:
                change = changes.pop(end)
                content = change(content) if callable(change) else change
            assert isinstance(content, bytes)
            new.writestr(name, content)
        root = old.namelist()[0].split("/")[0]
        for name, content in changes.items():
            new.writestr(f"{root}/{name}", content)
    return target


def saved(thing):
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


def in_graph(change):
    """A change of the graph in a program's JSON."""

    def changed(content):
        program = json.loads(content)
        change(program["graph_module"]["graph"])
        return json.dumps(program).encode()

    return {"models/model.json": changed}


def target(text):
    return in_graph(lambda graph: graph["nodes"][0].update(target=text))


def named(text):
    return in_graph(lambda graph: graph["nodes"][0].update(name=text))


ENUM = {"__enum__": True, "fqn": "strangers_code:made", "name": "a"}
DEFAULT = {"default_factory_module": "strangers_code", "default_factory_name": "made"}


def within_inputs(write=json.dumps, **change):
    """A change of the structure of a program's inputs, which is JSON within the JSON."""

    def changed(content):
        program = json.loads(content)
        signature = program["graph_module"]["module_call_graph"][0]["signature"]
        version, tree = json.loads(signature["in_spec"])
        tree["children_spec"][1].update(change)
        signature["in_spec"] = write([version, tree])
        return json.dumps(program).encode()

    return {"models/model.json": changed}


def disguised(structure):
    return json.dumps(structure).replace("__enum__", r"\u005f_enum__")


ATTACKS = {
    "pickled inputs": {"sample_inputs/model.pt": saved(Bomb(Path("it ran")))},
    "pickled weights": {
        "weights_config.json": lambda old: old.replace(
            b'"use_pickle": false', b'"use_pickle": true'
        )
    },
    "older weights": {"data/weights/model.pt": saved(Bomb(Path("it ran")))},
    "opaque object": {"data/constants/opaque_obj_0": pickle.dumps(Bomb(Path("it ran")))},
    "script object": {"data/constants/custom_obj_0": b""},
    "compiled code": {"data/aotinductor/model/model.so": b""},
    "program elsewhere": {"models/data/weights/weight_0": b"{}"},
    "function of the system": target("torch.os.system"),
    "method of an operator": target("torch.ops.aten.relu.__class__"),
    "operator that writes files": target("torch.ops.image.write_file.default"),
    "operator that opens files": target("torch.ops.aten.from_file.default"),
    "call by name": target("_operator.methodcaller"),
    "kernel": target("torch.ops.higher_order.triton_kernel_wrapper_functional"),
    "code in a name": named("x=print(1)"),
    "code in a key": in_graph(lambda graph: graph["tensor_values"].update({'a"b': {}})),
    "code in an expression": {
        "models/model.json": lambda old: old.replace(b"Symbol('", b"eval('print(1)') or Symbol('")
    },
    "attribute in an expression": {
        "models/model.json": lambda old: old.replace(b"Symbol('", b"Symbol.mro('")
    },
    "import by a structure": {
        "models/model.json": lambda old: old.replace(b"builtins.tuple", b"__enum__", 1)
    },
    "import by a key": within_inputs(context=json.dumps(ENUM)),
    "import by a nested key": within_inputs(context=json.dumps(["a", [ENUM]])),
    "import by a key in disguise": within_inputs(disguised, context=json.dumps(ENUM)),
    "import by a default": within_inputs(type="collections.defaultdict", context=DEFAULT),
    "structure of strangers": within_inputs(type="collections.namedtuple", context='"a.B"'),
    "no structure": {"models/model.json": lambda old: old.replace(b"[1, {", b"[1, 1, {")},
}


@pytest.mark.parametrize("changes", ATTACKS.values(), ids=ATTACKS.keys())
def test_a_program_in_which_anything_else_could_run_is_refused(changes, place, tmp_path):
    checked_copy(altered(place / "model.pt2", tmp_path / "same.pt2", {}))
    path = altered(place / "model.pt2", tmp_path / "model.pt2", changes)
    with pytest.raises(ValueError, match="not read, as it could run code"):
        read_program(path)
    assert not (place / "it ran").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_program_with_two_files_of_one_name_is_refused(place, tmp_path):
    path = altered(place / "model.pt2", tmp_path / "model.pt2", {})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(archive.namelist()[0], b"")
    with pytest.raises(ValueError, match="two files of one name"):
        checked_copy(path)


@pytest.mark.parametrize("nested", [False, True])
def test_a_program_that_unpacks_without_end_is_refused(nested, place, tmp_path):
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", bytes(2**28 + 1))
    path = tmp_path / "model.pt2"
    path.write_bytes(bomb.getvalue())
    if nested:
        altered(place / "model.pt2", path, {"data/sample_inputs/model.pt": bomb.getvalue()})
    with pytest.raises(ValueError, match=r"model\.pt2 .*bytes unpack to .*bomb"):
        checked_copy(path)


@pytest.mark.parametrize("content", [b"", b"PK\3\4" * 9, b"PK\5\6" * 9, b"\x80" * 9])
def test_a_file_that_is_no_network_is_named(content, tmp_path, capsys):
    (tmp_path / "a.pt").write_bytes(content)
    assert str(tmp_path / "a.pt") in failure([tmp_path / "a.pt", "images"], capsys)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\1\0v\0{'shape': ((("])
def test_an_array_that_cannot_be_read_is_named(content, tmp_path, capsys):
    (tmp_path / "a.npy").write_bytes(content)
    assert f"{tmp_path / 'a.npy'} cannot be read" in failure(
        ["torch.nn:ReLU", tmp_path / "a.npy"], capsys
    )


def parts(path):
    """Files of an archive, its directory, where that starts, and how many files there are."""
    archive = path.read_bytes()
    end = archive.rfind(b"PK\5\6")
    count, size, start = struct.unpack("<HII", archive[end + 10 : end + 20])
    return archive[:start], archive[start : start + size], count


def shifted(directory, by):
    """A directory of files that lie further back."""
    moved, at = bytearray(directory), 0
    while at < len(moved):
        lengths = struct.unpack("<HHH", moved[at + 28 : at + 34])
        (place,) = struct.unpack("<I", moved[at + 42 : at + 46])
        struct.pack_into("<I", moved, at + 42, place + by)
        at += 46 + sum(lengths)
    return bytes(moved)


def with_prefix(bad, good):
    """Python finds a directory from the end, PyTorch by where it says that it is."""
    files, directory, count = bad
    others, other, _ = good
    files = files.ljust(len(others), b"\0")
    by = len(files) - len(others)  # what comes before the second is a prefix to Python
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(directory), len(files), 0)
    return files + directory + others + shifted(other, by) + end


def with_two_ends(bad, good):
    """Python takes the record of 64 bits before the end, PyTorch the one that is pointed at."""
    files, directory, count = bad
    others, other, _ = good

    def record(start):
        head = struct.pack("<4sQHHII", b"PK\6\6", 44, 45, 45, 0, 0)
        return head + struct.pack("<QQQQ", count, count, len(directory), start)

    first = files + directory + record(len(files))
    both = first + others + shifted(other, len(first))
    pointer = struct.pack("<4sIQI", b"PK\6\7", 0, len(files) + len(directory), 1)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, *[2**16 - 1] * 2, *[2**32 - 1] * 2, 0)
    return both + record(len(first) + len(others)) + pointer + end


@pytest.mark.parametrize("join", [with_prefix, with_two_ends])
def test_pytorch_reads_what_was_looked_through(join, place, tmp_path):
    """Two archives in one file: readers differ in which they find."""
    bad = altered(place / "model.pt2", tmp_path / "bad.pt2", ATTACKS["pickled inputs"])
    good = altered(place / "model.pt2", tmp_path / "good.pt2", {})
    both = tmp_path / "both.pt2"
    both.write_bytes(join(parts(bad), parts(good)))
    with zipfile.ZipFile(both) as archive:
        told = archive.read("model/data/sample_inputs/model.pt")
    assert Path.touch.__name__.encode() not in told  # Python sees the good one
    found = torch._C.PyTorchFileReader(str(both)).get_record("data/sample_inputs/model.pt")
    assert Path.touch.__name__.encode() in found
    read_program(both)(torch.rand(2, 1, 8, 8))
    assert not (place / "it ran").exists()


class Odd(nn.Module):
    """Names that are no identifiers, a switch of gradients, symbols for sizes, a dict of outputs."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict({"conv-1": nn.Conv2d(1, 2, 3), "a/b": nn.GELU("tanh")})

    def forward(self, x):
        x = self.parts["a/b"](self.parts["conv-1"](x))
        halves = x.reshape(2 * x.shape[0], -1).reshape(x.shape[0], -1)
        with torch.no_grad():
            shifted = halves + torch.tensor(1.0)
        return {"logits": torch.einsum("bi,bi->b", halves, shifted) * x.shape[0]}


def test_unusual_programs_of_honest_people_are_read(tmp_path):
    model, images = Odd().eval(), torch.rand(5, 1, 8, 8)
    twin = read_program(exported(tmp_path / "odd.pt2", model))
    torch.testing.assert_close(twin(images)["logits"], model(images)["logits"])
