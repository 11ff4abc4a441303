"""Every option of ADA-SID's config groups builds a model that can take a step."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException
from hydra.utils import instantiate
from omegaconf import OmegaConf

from adasid_exp.stages.building import NOT_ARGUMENTS
from adasid_exp.types import ItemBatch

CONF = Path(__file__).parents[2] / "conf"
WHERE = {
    "align": "tokenizer.align",
    "align/pairing": "tokenizer.align.pairing",
    "align/anchor": "tokenizer.align.pairing.anchor",
    "codebook": "tokenizer.codebook",
    "reconstruction": "tokenizer.reconstruction",
    "richness": "tokenizer.richness",
    "richness/normalizer": "tokenizer.richness.normalizer",
    "router": "tokenizer.router",
    "router/bound": "tokenizer.router.bound",
    "router/scaler": "tokenizer.router.scaler",
    "sparsity": "tokenizer.sparsity",
    "sparsity/target": "tokenizer.sparsity.target",
    "straight_through": "tokenizer.straight_through",
}
OPTIONS = [
    f"{group}@{place}={path.stem}" for group, place in WHERE.items() for path in sorted((CONF / group).glob("*.yaml"))
]
ABLATIONS = [f"ablation={path.stem}" for path in sorted((CONF / "ablation").glob("no_*.yaml"))]


def node(*overrides):
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        return compose("config", overrides=["tokenizer=ada_sid", "data=toy", *overrides]).tokenizer


def items():
    g = torch.Generator().manual_seed(0)
    count = torch.arange(1, 65)
    features = {name: torch.randn(64, 6, generator=g) for name in ("text", "vision")}
    features["behavior"] = torch.randn(64, 5, generator=g) + count[:, None] / 20
    return ItemBatch(index=torch.arange(64), features=features, count=count)


def built(*overrides):
    arguments = {
        k: v for k, v in OmegaConf.to_container(node(*overrides), resolve=True).items() if k not in NOT_ARGUMENTS
    }
    arguments["size"] = 8
    torch.manual_seed(0)
    model = instantiate(OmegaConf.create(arguments), dims={"text": 6, "vision": 6, "behavior": 5})
    model.fit_statistics(items())
    model.start(items())
    return model


@pytest.mark.parametrize("override", OPTIONS + ABLATIONS)
def test_every_option_takes_a_step(override):
    terms = built(override).losses(items())
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(term) for term in terms.values())


@pytest.mark.parametrize(
    ("ablation", "absent"), [("no_alignment", "align_behavior"), ("no_sparsity", "sparsity"), ("no_router", "sparsity")]
)
def test_an_ablation_takes_its_term_away(ablation, absent):
    assert absent in built("ablation=none").losses(items())
    assert absent not in built(f"ablation={ablation}").losses(items())


def test_the_controller_s_knobs_reach_the_weight():
    """Eq. 14 at richness 1/2 with (20, 7): 0.952576."""
    model = built("tokenizer.align.alpha=20", "tokenizer.align.beta=7")
    assert model.align.strength(torch.tensor([0.5])).item() == pytest.approx(0.952576, abs=1e-5)
    assert built("ablation=no_controller").align.strength(torch.tensor([0.5])).item() == 1


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_an_ablation_of_a_method_without_the_part_fails(ablation):
    with pytest.raises(ConfigCompositionException, match="No match in the defaults list"):
        node("tokenizer=rq_vae", ablation)


def test_slots_of_one_modality_can_be_set_apart():
    model = built("+tokenizer.slots.vision=2", "tokenizer.slots.behavior=3")
    assert model.layout.modalities == ("shared", "text", "vision", "vision", "behavior", "behavior", "behavior")
