"""The causal transformer: causality, padding, and attention against a plain formula."""

import pytest
import torch

from adasid_exp.nn.transformer import CausalBlock, CausalTransformer


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    settings = {"dim": 8, "blocks": 2, "heads": 2, "hidden": 16, "steps": 6, "dropout": 0.0, "init_std": 0.5}
    return CausalTransformer(**settings).eval()


def test_later_steps_change_nothing_before_them(encoder):
    inputs = torch.randn(3, 6, 8)
    changed = inputs.clone()
    changed[:, 4:] = torch.randn(3, 2, 8)
    before, after = encoder(inputs), encoder(changed)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


def test_a_shorter_batch_gives_the_same_states(encoder):
    """Right padding: states of valid steps do not depend on how far the batch is padded."""
    inputs = torch.randn(3, 6, 8)
    torch.testing.assert_close(encoder(inputs)[:, :3], encoder(inputs[:, :3]))


def test_attention_equals_the_formula():
    """softmax(q k / sqrt(d) + causal mask) v, written out for one head."""
    torch.manual_seed(0)
    block = CausalBlock(dim=4, heads=1, hidden=4, dropout=0.0).eval()
    inputs = torch.randn(2, 5, 4)
    query, key, value = block.qkv(block.attention_norm(inputs)).chunk(3, dim=-1)
    logits = query @ key.transpose(1, 2) / 2 + torch.full((5, 5), -torch.inf).triu(1)
    mixed = inputs + block.attention_out(logits.softmax(-1) @ value)
    wanted = mixed + block.feed(block.feed_norm(mixed))
    torch.testing.assert_close(block(inputs), wanted)


def test_too_long_a_history_is_refused(encoder):
    with pytest.raises(ValueError, match="7 steps are more than the 6"):
        encoder(torch.zeros(1, 7, 8))


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="3 heads do not divide"):
        CausalBlock(dim=8, heads=3, hidden=8, dropout=0.0)
