import inspect
from pathlib import Path

import pytest
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from adasid_exp.encoders.base import Encoder

CONF = Path(__file__).parents[2] / "conf" / "encoder"


def composed(path):
    node = OmegaConf.load(path)
    for base in node.pop("defaults", []):
        if base != "_self_":
            node = OmegaConf.merge(composed(path.with_name(f"{base}.yaml")), node)
    return node


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_encoder_config_builds_an_encoder_and_spells_out_its_arguments(path):
    config = OmegaConf.create({"data": {"root": "somewhere", "on_bad_row": "skip"}, "encoder": composed(path)})
    node = config.encoder
    assert isinstance(instantiate(node), Encoder)
    arguments = set(inspect.signature(get_class(node._target_)).parameters)
    assert {key for key in node if not key.startswith("_")} == arguments
