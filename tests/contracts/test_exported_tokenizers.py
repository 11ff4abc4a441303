"""Every tokenizer as a file: read by torch alone and by onnxruntime alone, it gives the SIDs that training gave."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_tokenizers import NAMES, TRAINABLE, catalogue, started, train

from adasid_exp.nn.quantizers.residual_clusters import ResidualClusters
from adasid_exp.tokenizers.export_formats import Onnx, TorchProgram
from adasid_exp.tokenizers.exported import COUNT, bisect, exported
from adasid_exp.types import PAD

MEAN = 1.7
BATCHES = (1, 7, 300)

READ = {
    "pt2": """
import torch
def reader(path):
    program = torch.export.load(path).module()
    return lambda inputs: [value.numpy() for value in program(*map(torch.from_numpy, inputs))]
""",
    "onnx": """
sys.modules["torch"] = None
import onnxruntime
def reader(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda inputs: session.run(None, dict(zip(names, inputs)))
""",
}
"""What a consumer writes."""

COMPARE = """
folder, found = pathlib.Path(sys.argv[1]), {}
for path in sorted(folder.glob(sys.argv[2])):
    run, known = reader(str(path)), np.load(path.with_suffix(".npz"))
    inputs = [known[name] for name in sorted(known) if name.startswith("input")]
    found[path.stem] = []
    for items in map(int, sys.argv[3:]):
        codes, weights = run([value[:items] for value in inputs])
        assert codes.dtype == np.int64 and weights.dtype == np.float32
        equal = np.array_equal(codes, known["codes"][:items])
        found[path.stem].append([equal, float(np.abs(weights - known["weights"][:items]).max())])
print(json.dumps(found))
"""


def reference(model, items):
    """Codes and weights by `encode`; in clusters of equal size the nearest, by hand."""
    encoded = model.encode(items)
    codes = encoded.codes
    for part in model.modules():
        if isinstance(part, ResidualClusters) and part.clustering.balanced:
            residual, columns = model.vectors(items).detach().numpy(), []
            for words in part.words.numpy():
                columns.append(((residual[:, None] - words) ** 2).sum(2).argmin(1))
                residual = residual - words[columns[-1]]
            codes = torch.from_numpy(np.stack(columns, 1))
    behavior = np.array([name == "behavior" for name in model.layout.modalities])
    weights = np.where(behavior, np.clip(encoded.weights.numpy() / MEAN, 0, 4), 1.0) * (codes.numpy() != PAD)
    return codes.numpy(), weights.astype(np.float32)


@pytest.fixture(scope="session")
def shipped(tmp_path_factory):
    """Files of every tokenizer, briefly trained, with what each must say of the catalogue."""
    folder, inputs = tmp_path_factory.mktemp("shipped"), {}
    for name in NAMES:
        model, items = started(name)
        if name in TRAINABLE:
            train(model, items, 8)
            model.finalize(items)
        model.eval()
        module = exported(tokenizer=model, mean=MEAN)
        inputs[name] = module.inputs
        for shape in (TorchProgram(), Onnx()):
            (folder / shape.file.replace("model", name)).write_bytes(shape.write(module))
        codes, weights = reference(model, items)
        given = {f"input{place}": value.numpy() for place, value in enumerate(module.given(items))}
        np.savez(folder / f"{name}.npz", codes=codes, weights=weights, **given)
    return folder, inputs


@pytest.fixture(scope="session", params=sorted(READ))
def answers(request, shipped):
    """What another process, which cannot import this package, finds."""
    script = "import sys, json, pathlib\nimport numpy as np\nsys.modules['adasid_exp'] = None\n"
    command = [sys.executable, "-W", "ignore", "-c", script + READ[request.param] + COMPARE, str(shipped[0])]
    done = subprocess.run(
        [*command, f"*.{request.param}", *map(str, BATCHES)], capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_file_gives_the_same_codes_without_the_package(answers, name):
    assert [equal for equal, _ in answers[name]] == [True] * len(BATCHES)
    assert max(off for _, off in answers[name]) < 1e-5


def test_a_file_asks_only_for_what_codes_depend_on(shipped):
    inputs = shipped[1]
    assert inputs["rq_vae"] == ("text",)
    assert inputs["das"] == inputs["letter"] == ("text",)  # behavior taught them, new items need none
    assert inputs["ada_sid"] == ("text", "vision", "behavior", COUNT)
    for name in NAMES:
        assert (COUNT in inputs[name]) == ("behavior" in inputs[name])


def test_a_file_holds_no_tensor_of_the_catalogue(shipped):
    for name in NAMES:
        tensors = torch.export.load(shipped[0] / f"{name}.pt2").state_dict
        assert not [key for key in tensors if "decoder" in key or "positives" in key or "histories" in key]
        # ADA-SID ranks an item's count among those of the catalogue: sorted numbers, no items.
        rows = {key for key, value in tensors.items() if len(catalogue().count) in value.shape}
        assert not rows, name


def test_an_item_without_interactions_needs_no_behavior():
    # Law (spec 1.1): where the count is 0, the behavior vector does not matter.
    model, items = started("ada_sid")
    module = exported(tokenizer=model.eval(), mean=MEAN)
    features = {**items.features, "behavior": torch.zeros_like(items.features["behavior"])}
    bare = replace(items, features=features, count=torch.zeros_like(items.count))
    codes, _ = module(*module.given(bare))
    assert torch.equal(codes, module(*module.given(replace(items, count=bare.count)))[0])
    assert torch.equal(codes, model.encode(bare).codes)
    assert not torch.equal(codes, model.encode(items).codes)


def test_exporting_leaves_the_tokenizer_alone():
    model, items = started("rq_kmeans_balanced")
    before = model.eval().encode(items).codes
    exported(tokenizer=model, mean=1.0)
    assert torch.equal(model.encode(items).codes, before)


@pytest.mark.parametrize("size", [1, 2, 3, 64, 100])
def test_the_search_spelt_out_is_torchs(size):
    generator = torch.Generator().manual_seed(size)
    row = torch.randint(0, 20, (size,), generator=generator).float().sort().values
    values = torch.randint(-1, 22, (200,), generator=generator).float()
    for right in (False, True):
        assert torch.equal(bisect(row, values, right=right), torch.searchsorted(row, values, right=right))
    with pytest.raises(ValueError, match="plain search"):
        bisect(row, values, side="left")
    assert catalogue().count.min() == 0  # the catalogue above has items without interactions
