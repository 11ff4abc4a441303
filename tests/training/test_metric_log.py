"""Running means of training scalars, by hand."""

import torch

from adasid_exp.training.metric_log import ScalarMeans


def test_means_are_over_the_steps_that_named_a_scalar():
    means = ScalarMeans()
    means.add({"a": torch.tensor(1.0)})
    means.add({"a": torch.tensor(2.0), "b": torch.tensor(10.0)})
    means.add({"a": torch.tensor(6.0), "b": torch.tensor(20.0)})
    assert means.means() == {"a": 3.0, "b": 15.0}
    means.reset()
    assert means.means() == {}


def test_no_graph_is_kept():
    means, weight = ScalarMeans(), torch.tensor(2.0, requires_grad=True)
    means.add({"a": weight * 3})
    means.add({"a": weight * 5})
    assert not any(value.requires_grad for value in means.sums.values())
    assert means.means() == {"a": 8.0}
