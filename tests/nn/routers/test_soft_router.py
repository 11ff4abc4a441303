"""The soft router against its formula, and ADC-SID's SIDs of one length."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from adasid_exp.nn.losses.alignment import ContentAnchor, Pairwise
from adasid_exp.nn.routers.behavioral import SigmoidScaler
from adasid_exp.nn.routers.soft import SoftRouter
from adasid_exp.stages.building import build
from adasid_exp.types import PAD, ItemBatch

CONF = Path(__file__).parents[3] / "conf"


def router():
    torch.manual_seed(0)
    return SoftRouter(dim=6, slots=4, hidden=16, bias=0.3, scaler=SigmoidScaler())


def test_weights_by_hand():
    # With zero weights the gates are the bias: R = sigmoid(N) * sigmoid(0.3) = .5 * .574443 and .731059 * .574443.
    model = router()
    torch.nn.init.zeros_(model.gates[-1].weight)
    routed = model(torch.zeros(2, 6), torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(routed, torch.tensor([[0.287221] * 4, [0.419951] * 4]), atol=1e-6, rtol=0)


def test_every_slot_is_emitted_with_a_weight_between_0_and_1():
    behavior = 5 * torch.randn(200, 6, generator=torch.Generator().manual_seed(1))
    routed = router()(behavior, torch.rand(200, generator=torch.Generator().manual_seed(2)))
    assert bool(((routed > 0) & (routed < 1)).all())
    assert bool(router().emitted(routed).all())
    assert routed.std() > 0.01  # weights tell items apart


@pytest.fixture(scope="module")
def adc():
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose(overrides=["+tokenizer=adc_v3", "+scale=beauty", "+modalities=text_vision", "+seed=0"])
    OmegaConf.resolve(config)
    dims = {"text": 8, "vision": 8, "behavior": 6}
    torch.manual_seed(0)
    return build(config.tokenizer, always={"dims": dims})


def test_adc_has_the_third_version_s_slots_and_no_pad(adc):
    # Spec section 15: s1 t1 v1 b1 b2 b3, every one of them in use; a sum of weights by slot, none 0.
    generator = torch.Generator().manual_seed(0)
    count = torch.arange(64)
    features = {name: torch.randn(64, dim, generator=generator) for name, dim in (("text", 8), ("vision", 8))}
    features["behavior"] = torch.randn(64, 6, generator=generator)
    items = ItemBatch(index=torch.arange(64), features=features, count=count)
    adc.fit_statistics(items)
    encoded = adc.eval().encode(items)
    assert adc.layout.modalities == ("shared", "text", "vision", "behavior", "behavior", "behavior")
    assert not bool((encoded.codes == PAD).any())
    assert bool((encoded.weights[:, :3] == 1).all())
    assert bool((encoded.weights[:, 3:] < 1).all())
    assert encoded.weights[:, 3:].std() > 0
    assert "sparsity" not in adc.losses(items)


def test_adc_anchors_each_content_on_behavior(adc):
    # Spec 1.4: the third version has no h_c; content looks for its own behavior.
    assert isinstance(adc.align.pairing, Pairwise)
    assert isinstance(adc.align.pairing.anchor, ContentAnchor)
